//! The way back.

use super::*;
use crate::harness::on_each_database;

#[test]
fn what_was_updated_is_brought_back_by_a_release_that_goes_forward() {
    on_each_database(|server| {
        with_terminals(server, 5);
        let id = running(server, &json!({}));
        wait_for_count(server, id, "offered", 5);
        let orders = ordered(server, id);
        orders[..3].iter().for_each(|order| succeed(server, *order));
        sql(
            server,
            format!(
                "UPDATE terminal_states SET firmware = '4.2.0' WHERE terminal_id IN ({}, {}, {})",
                orders[0].0, orders[1].0, orders[2].0
            ),
        );
        act(server, id, "cancel");
        wait_for_count(server, id, "cancelled", 2);
        let path = format!("/api/v1/rollouts/{id}/undo");
        let refused = server.post(&path, HEAD, &json!({"release_id": 1})).expect(422).json();
        assert_eq!(refused["field"], "release_id");
        sql(
            server,
            format!(
                "INSERT INTO releases (id, organization_id, org_path, name, component, firmware_version,
                     release_counter, models, requires, sha256, length_bytes, notes, state, created_by, created_by_name,
                     created_at_ms, version)
                 VALUES (20, 1, '/1/', 'back', 'os', '4.1.0', 20, '[\"demo-p1\"]', '[]', '{SHA256}', 1000, '',
                     'published', 1, 'root', 0, 1);
                 INSERT INTO release_models (model, component, release_counter, release_id, target_name)
                 VALUES ('demo-p1', 'os', 20, 20, 'demo-p1.os.4.1.0-20.bin')"
            ),
        );
        let back = post(server, &path, &json!({"release_id": 20}), 201);
        assert_eq!((&back["parent_id"], &back["release_id"]), (&json!(id), &json!(20)));
        let undo = back["id"].as_i64().unwrap();
        start(server, undo);
        wait_for_count(server, undo, "offered", 3);
        let mut brought: Vec<i64> = ordered(server, undo).into_iter().map(|(terminal, _)| terminal).collect();
        brought.sort_unstable();
        let mut updated: Vec<i64> = orders[..3].iter().map(|(terminal, _)| *terminal).collect();
        updated.sort_unstable();
        assert_eq!(brought, updated);
    });
}
