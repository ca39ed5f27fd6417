//! Profiles: versions, assignment, and what a terminal may fetch.

use serde_json::json;
use tillward_protocol::ids::Sha256Hex;

use crate::harness::on_each_database;
use crate::seed::Tree;

#[test]
fn new_content_is_a_new_version_and_the_same_content_is_none() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let one = json!({"name": "标准", "parameters": {"b": true, "a": "x"}});
        let first = server.post("/api/v1/profiles", &tree.east_admin, &one).expect(201).json();
        assert_eq!(first["hash"], Sha256Hex::of(br#"{"a":"x","b":true}"#).as_str());
        let again = json!({"name": "标准", "parameters": {"a": "x", "b": true}});
        assert_eq!(server.post("/api/v1/profiles", &tree.east_admin, &again).expect(201).json(), first);
        let two = json!({"name": "标准", "parameters": {"a": "y"}});
        let second = server.post("/api/v1/profiles", &tree.east_admin, &two).expect(201).json();
        assert_eq!((&second["version"], &first["version"]), (&json!(2), &json!(1)));
        let page = server.get("/api/v1/profiles?size=1", &tree.admin).expect(200).json();
        assert_eq!(page["items"][0], second);
        assert!(page["next"].is_string());
        let path = format!("/api/v1/profiles/{}", first["id"]);
        assert_eq!(server.get(&path, &tree.east_ops).expect(200).json(), first);
        server.get(&path, &tree.west_ops).expect(404);
        server.post("/api/v1/profiles", &tree.east_ops, &one).expect(403);
        let nested = json!({"name": "x", "parameters": {"a": {"b": 1}}});
        server.post("/api/v1/profiles", &tree.east_admin, &nested).expect(422);
    });
}

#[test]
fn a_terminal_fetches_the_profile_it_should_apply_and_no_other() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let device = tree.device(server, "A1", 1);
        let token = device.token(server);
        let profile = |text: &str| {
            let new = json!({"name": text, "parameters": {"text": text}});
            server.post("/api/v1/profiles", &tree.east_admin, &new).expect(201).json()
        };
        let (mine, other) = (profile("mine"), profile("other"));
        let config = |hash: &serde_json::Value| format!("/device/v1/configs/{}", hash.as_str().unwrap());
        server.get(&config(&mine["hash"]), &token).expect(404);
        let assign = format!("/api/v1/profiles/{}/assign", mine["id"]);
        let asked = json!({"ids": [device.id, 999_999]});
        let done = server.post(&assign, &tree.east_admin, &asked).expect(200).json();
        assert_eq!(done, json!({"assigned": 1, "refused": 1}));
        let answer = server.get(&config(&mine["hash"]), &token).expect(200);
        assert_eq!(Sha256Hex::of(&answer.body).as_str(), mine["hash"]);
        let etag = answer.header("etag").unwrap().to_owned();
        let known = server.send("GET", &config(&mine["hash"]), &token, &[("if-none-match", &etag)], b"").expect(304);
        assert!(known.body.is_empty());
        server.get(&config(&other["hash"]), &token).expect(404);
        server.get(&config(&mine["hash"]), &tree.admin).expect(401);
        let block = format!("/api/v1/terminals/{}/lifecycle", device.id);
        server.post(&block, &tree.east_ops, &json!({"action": "block", "version": 2})).expect(200);
        server.get(&config(&mine["hash"]), &token).expect(401);
    });
}

#[test]
fn a_profile_is_assigned_to_all_terminals_of_a_filter_within_the_callers_organizations() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        for (sn, tags) in [("A1", json!(["lab"])), ("A2", json!(["lab"])), ("A3", json!([]))] {
            let new = json!({"sn": sn, "model": crate::seed::MODEL, "tags": tags});
            server.post("/api/v1/terminals", &tree.east_ops, &new).expect(201);
        }
        let new = json!({"sn": "W1", "model": crate::seed::MODEL, "tags": ["lab"]});
        server.post("/api/v1/terminals", &tree.west_ops, &new).expect(201);
        let new = json!({"name": "lab", "parameters": {"lab": true}});
        let profile = server.post("/api/v1/profiles", &tree.east_admin, &new).expect(201).json();
        let assign = format!("/api/v1/profiles/{}/assign", profile["id"]);
        let done = server.post(&assign, &tree.east_admin, &json!({"filter": {"tag": "lab"}})).expect(200).json();
        assert_eq!(done["assigned"], 2);
        let rows = server.get("/api/v1/terminals?tag=lab", &tree.admin).expect(200).json();
        let hashes: Vec<_> =
            rows["items"].as_array().unwrap().iter().map(|row| row["desired_config_hash"].clone()).collect();
        assert_eq!(hashes, [profile["hash"].clone(), profile["hash"].clone(), json!(null)]);
        server.post(&assign, &tree.east_admin, &json!({})).expect(422);
        let by_connection = json!({"filter": {"connection": "online"}});
        server.post(&assign, &tree.east_admin, &by_connection).expect(422);
        server.post(&assign, &tree.west_ops, &json!({"ids": [1]})).expect(403);
    });
}
