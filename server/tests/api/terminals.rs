//! Terminals: models, registration, changes, their life, transfers.

use serde_json::{Value, json};

use crate::harness::{TestServer, on_each_database};
use crate::seed::{self, Tree};

#[test]
fn a_model_is_created_once_and_by_release_managers_only() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let new = json!({"code": "pax-a920", "name": "PAX A920", "capabilities": {"ab_slots": true}});
        server.post("/api/v1/models", &tree.east_ops, &new).expect(403);
        let made = server.post("/api/v1/models", &tree.admin, &new).expect(201).json();
        assert_eq!(made["capabilities"]["ab_slots"], true);
        server.post("/api/v1/models", &tree.admin, &new).expect(409);
        for code in ["a920", "Pax-A920", "-a920", "pax-"] {
            let wrong = json!({"code": code, "name": "x"});
            let problem = server.post("/api/v1/models", &tree.admin, &wrong).expect(422).json();
            assert_eq!(problem["field"], "code", "{code}");
        }
        let codes: Vec<Value> =
            server.get("/api/v1/models", &tree.east_ops).expect(200).json().as_array().unwrap().clone();
        assert!(codes.iter().any(|model| model["code"] == "pax-a920"), "{codes:?}");
    });
}

#[test]
fn a_terminal_is_registered_once_and_seen_only_from_above() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let new = json!({"sn": "'００７A", "model": seed::MODEL, "tags": ["VIP"], "notes": "二楼"});
        let made = server.post("/api/v1/terminals", &tree.east_ops, &new).expect(201).json();
        assert_eq!((&made["sn"], &made["lifecycle"], &made["version"]), (&json!("007A"), &json!("stocked"), &json!(1)));
        assert_eq!(made["organization_id"], tree.east);
        assert_eq!(made["region"], "3101", "taken from the organization");
        let path = format!("/api/v1/terminals/{}", made["id"]);
        assert_eq!(server.get(&path, &tree.east_ops).expect(200).json(), made);
        server.get(&path, &tree.admin).expect(200);
        server.get(&path, &tree.west_ops).expect(404);
        let again = json!({"sn": "007A", "model": seed::MODEL});
        server.post("/api/v1/terminals", &tree.east_ops, &again).expect(409);
        server.post("/api/v1/terminals", &tree.west_ops, &again).expect(409);
    });
}

#[test]
fn a_terminal_with_an_unknown_model_organization_or_field_is_refused_by_name() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        for (field, new) in [
            ("model", json!({"sn": "A1", "model": "no-such"})),
            ("organization_id", json!({"sn": "A1", "model": seed::MODEL, "organization_id": tree.west})),
            ("imei", json!({"sn": "A1", "model": seed::MODEL, "imei": "123"})),
            ("notes", json!({"sn": "A1", "model": seed::MODEL, "notes": "4111111111111111"})),
            ("colour", json!({"sn": "A1", "model": seed::MODEL, "colour": "red"})),
        ] {
            let problem = server.post("/api/v1/terminals", &tree.east_ops, &new).expect(422);
            assert_eq!(problem.json()["field"], field);
            assert!(!problem.text().contains("4111"), "a card number is never repeated");
        }
    });
}

#[test]
fn of_two_people_who_change_a_terminal_the_second_is_told() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let made = tree.terminal(server, "A1");
        let path = format!("/api/v1/terminals/{}", made["id"]);
        let change = json!({"version": 1, "merchant_no": "850331053110612", "tags": ["b", "a"], "notes": null});
        let changed = patch(server, &path, &tree.east_ops, &change).expect(200).json();
        assert_eq!(changed["merchant_no"], "850331053110612");
        assert_eq!((&changed["tags"], &changed["version"]), (&json!(["a", "b"]), &json!(2)));
        patch(server, &path, &tree.east_ops, &change).expect(409);
        patch(server, &path, &tree.west_ops, &json!({"version": 2})).expect(404);
        let cleared = json!({"version": 2, "merchant_no": null});
        assert_eq!(patch(server, &path, &tree.east_ops, &cleared).expect(200).json()["merchant_no"], Value::Null);
    });
}

#[test]
fn a_terminals_life_follows_the_graph() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let made = tree.terminal(server, "A1");
        let path = format!("/api/v1/terminals/{}", made["id"]);
        let act = |action: &str, version: i64| {
            let step = json!({"action": action, "version": version});
            server.post(&format!("{path}/lifecycle"), &tree.east_ops, &step)
        };
        assert!(act("bind", 1).expect(409).text().contains("merchant_no"));
        patch(server, &path, &tree.east_ops, &json!({"version": 1, "merchant_no": "850331053110612"})).expect(200);
        assert_eq!(act("bind", 2).expect(200).json()["lifecycle"], "bound");
        act("activate", 2).expect(409);
        assert_eq!(act("activate", 3).expect(200).json()["lifecycle"], "active");
        assert!(act("retire", 4).expect(409).text().contains("unbind it first"));
        let unbound = act("unbind", 4).expect(200).json();
        assert_eq!((&unbound["lifecycle"], &unbound["merchant_no"]), (&json!("unbound"), &Value::Null));
        assert_eq!(act("retire", 5).expect(200).json()["lifecycle"], "retired");
        act("unblock", 6).expect(409);
        act("sell", 6).expect(422);
        let trail = server.get("/api/v1/audit?size=5", &tree.admin).expect(200).json();
        assert_eq!(trail["items"][0]["action"], "terminals.lifecycle");
    });
}

#[test]
fn unbound_terminals_move_one_step_and_the_others_say_why_not() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ids: Vec<Value> = ["A1", "A2"].iter().map(|sn| tree.terminal(server, sn)["id"].clone()).collect();
        let bound = tree.terminal(server, "A3");
        let path = format!("/api/v1/terminals/{}", bound["id"]);
        patch(server, &path, &tree.east_ops, &json!({"version": 1, "merchant_no": "850331053110612"})).expect(200);
        server.post(&format!("{path}/lifecycle"), &tree.east_ops, &json!({"action": "bind", "version": 2})).expect(200);
        let down = json!({"ids": [ids[0], ids[1], bound["id"], 999_999], "organization_id": tree.east_shop});
        let done = server.post("/api/v1/terminals/transfer", &tree.east_ops, &down).expect(200).json();
        assert_eq!(done["moved"], json!([ids[0], ids[1]]));
        let reasons = done["refused"].to_string();
        assert!(reasons.contains("only unbound terminals move") && reasons.contains("not found"), "{reasons}");
        let moved = server.get(&format!("/api/v1/terminals/{}", ids[0]), &tree.east_ops).expect(200).json();
        assert_eq!((&moved["lifecycle"], &moved["organization_id"]), (&json!("allocated"), &json!(tree.east_shop)));
        // From a grandchild to the top it is two steps.
        let up = json!({"ids": [ids[0]], "organization_id": tree.root});
        let refused = server.post("/api/v1/terminals/transfer", &tree.admin, &up).expect(200).json();
        assert!(refused["refused"][0]["reason"].as_str().unwrap().contains("direct child"), "{refused}");
        let up = json!({"ids": [ids[0]], "organization_id": tree.east});
        server.post("/api/v1/terminals/transfer", &tree.east_ops, &up).expect(200);
        let back = server.get(&format!("/api/v1/terminals/{}", ids[0]), &tree.east_ops).expect(200).json();
        assert_eq!(back["lifecycle"], "stocked");
        let foreign = json!({"ids": [ids[0]], "organization_id": tree.west});
        server.post("/api/v1/terminals/transfer", &tree.east_ops, &foreign).expect(422);
        server
            .post("/api/v1/terminals/transfer", &tree.east_ops, &json!({"ids": [], "organization_id": 1}))
            .expect(422);
    });
}

fn patch(server: &TestServer, path: &str, token: &str, change: &Value) -> crate::harness::Answer {
    server.send("PATCH", path, token, &[("content-type", "application/json")], change.to_string().as_bytes())
}
