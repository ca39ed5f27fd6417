//! The tree of organizations and what each sees of it.

use serde_json::{Value, json};
use tillward_server::operators::Scope;
use tillward_server::organizations::{self, LEVEL_MAX};

use crate::fixtures::{PASSWORD, admin, headquarters, operator, organization};
use crate::harness::{Answer, TestServer, on_each_database};

fn patch(server: &TestServer, id: i64, token: &str, body: &Value) -> Answer {
    let path = format!("/api/v1/organizations/{id}");
    server.send("PATCH", &path, token, &[("content-type", "application/json")], body.to_string().as_bytes())
}

fn codes(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().unwrap();
    items.iter().map(|item| item["short_code"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_list_reads_in_the_order_of_the_tree_page_by_page() {
    on_each_database(|server| {
        let token = admin(server);
        let root = headquarters(server, &token);
        let east = organization(server, &token, root, "EAST");
        let west = organization(server, &token, root, "WEST");
        organization(server, &token, west, "WEST-1");
        organization(server, &token, east, "EAST-1");
        let mut seen = Vec::new();
        let mut path = "/api/v1/organizations?size=2".to_owned();
        loop {
            let page = server.get(&path, &token).expect(200).json();
            seen.extend(codes(&page));
            let Some(next) = page["next"].as_str() else { break };
            path = format!("/api/v1/organizations?size=2&after={next}");
        }
        assert_eq!(seen, ["HQ", "EAST", "EAST-1", "WEST", "WEST-1"]);
        assert_eq!(server.get("/api/v1/organizations?after=junk", &token).expect(422).json()["field"], "after");
        assert_eq!(server.get("/api/v1/organizations?size=101", &token).expect(422).json()["field"], "size");
    });
}

#[test]
fn a_reseller_sees_and_changes_only_its_own_subtree() {
    on_each_database(|server| {
        let token = admin(server);
        let root = headquarters(server, &token);
        let (east, west) = (organization(server, &token, root, "EAST"), organization(server, &token, root, "WEST"));
        let boss = operator(server, &token, east, "org_admin");
        let below = organization(server, &boss.token, east, "EAST-1");
        let seen = server.get("/api/v1/organizations", &boss.token).expect(200).json();
        assert_eq!(codes(&seen), ["EAST", "EAST-1"]);
        for hidden in [root, west, 999_999] {
            server.get(&format!("/api/v1/organizations/{hidden}"), &boss.token).expect(404);
            patch(server, hidden, &boss.token, &json!({ "version": 1, "name": "Mine" })).expect(404);
            let new = json!({ "parent_id": hidden, "name": "N", "short_code": "N" });
            let refused = server.post("/api/v1/organizations", &boss.token, &new).expect(422);
            assert_eq!(refused.json()["field"], "parent_id");
        }
        let renamed = patch(server, below, &boss.token, &json!({ "version": 1, "name": "杭州一部", "region": "浙江" }));
        let renamed = renamed.expect(200).json();
        assert_eq!(
            (&renamed["name"], &renamed["region"], &renamed["version"]),
            (&json!("杭州一部"), &json!("浙江"), &json!(2))
        );
        let by_code = |scope: Scope| {
            let found = server.state.db.read(move |conn| organizations::find_by_short_code(conn, &scope, "east-1"));
            server.block_on(found).unwrap().map(|organization| organization.id)
        };
        assert_eq!(by_code(Scope::everything()), Some(below));
        assert_eq!(by_code(Scope::subtree(format!("/{root}/{west}/"))), None);
    });
}

#[test]
fn codes_are_unique_changes_compare_and_the_tree_has_a_depth() {
    on_each_database(|server| {
        let token = admin(server);
        let root = headquarters(server, &token);
        let mut deepest = organization(server, &token, root, "EAST");
        let new = |parent: i64, code: &str| json!({ "parent_id": parent, "name": "N", "short_code": code });
        let taken = server.post("/api/v1/organizations", &token, &new(root, "east")).expect(409).json();
        assert_eq!((&taken["code"], &taken["field"]), (&json!("taken"), &json!("short_code")));
        let renamed = patch(server, deepest, &token, &json!({ "version": 1, "short_code": "ost" })).expect(200).json();
        assert_eq!(renamed["short_code"], "OST");
        patch(server, deepest, &token, &json!({ "version": 1, "short_code": "EST" })).expect(409);
        assert_eq!(
            patch(server, deepest, &token, &json!({ "version": 2, "short_code": "HQ" })).expect(409).json()["code"],
            "taken"
        );
        for level in 2..=LEVEL_MAX {
            deepest = organization(server, &token, deepest, &format!("L{level}"));
        }
        server.post("/api/v1/organizations", &token, &new(deepest, "TOO-DEEP")).expect(409);
        for (field, body) in [
            ("name", json!({ "parent_id": root, "name": "", "short_code": "A" })),
            ("short_code", json!({ "parent_id": root, "name": "A", "short_code": "a b" })),
            ("region", json!({ "parent_id": root, "name": "A", "short_code": "A", "region": "a\nb" })),
            ("parent_id", json!({ "parent_id": "1", "name": "A", "short_code": "A" })),
            ("path", json!({ "parent_id": root, "name": "A", "short_code": "A", "path": "/1/" })),
        ] {
            assert_eq!(server.post("/api/v1/organizations", &token, &body).expect(422).json()["field"], field);
        }
    });
}

#[test]
fn a_suspended_organization_shuts_out_its_people_and_those_below() {
    on_each_database(|server| {
        let token = admin(server);
        let root = headquarters(server, &token);
        let east = organization(server, &token, root, "EAST");
        let below = organization(server, &token, east, "EAST-1");
        let people = [operator(server, &token, east, "org_admin"), operator(server, &token, below, "org_admin")];
        let key = json!({ "name": "k", "role": "auditor", "expires_in_days": 9 });
        let key = server.post("/api/v1/api-keys", &people[1].token, &key).expect(201).json();
        let key = key["secret"].as_str().unwrap();
        // Nobody suspends themselves, or headquarters.
        patch(server, east, &people[0].token, &json!({ "version": 1, "status": "suspended" })).expect(403);
        patch(server, root, &token, &json!({ "version": 1, "status": "suspended" })).expect(403);
        let sign_in =
            |login: &str| server.post("/api/v1/session", "", &json!({ "login": login, "password": PASSWORD }));
        patch(server, east, &token, &json!({ "version": 1, "status": "suspended" })).expect(200);
        for person in &people {
            server.get("/api/v1/me", &person.token).expect(401);
            sign_in(&person.login).expect(403);
        }
        server.get("/api/v1/me", key).expect(401);
        let new = json!({ "parent_id": below, "name": "N", "short_code": "N" });
        server.post("/api/v1/organizations", &token, &new).expect(409);
        patch(server, east, &token, &json!({ "version": 2, "status": "active" })).expect(200);
        for person in &people {
            sign_in(&person.login).expect(200);
        }
        server.get("/api/v1/me", key).expect(200);
    });
}
