//! Maker and checker.

use super::*;
use crate::harness::on_each_database_with;

/// Another person of the head office.
const SECOND: &str = "twk_second";
/// Another key of the person who asks.
const HELPER: &str = "twk_helper";

fn with_second_person(server: &TestServer) {
    let mut statements =
        "INSERT INTO operators (id, organization_id, org_path, login, name, password_hash, role, status,
             language, created_at_ms, version)
         VALUES (9, 1, '/1/', 'second', 'second', '', 'approver', 'active', 'en', 0, 1);"
            .to_owned();
    for (id, created_by, secret) in [(9, 9, SECOND), (10, 1, HELPER)] {
        let hash = hash_of_secret(secret);
        statements.push_str(&format!(
            "INSERT INTO api_keys (id, organization_id, org_path, created_by, name, role, key_hash, key_prefix,
                 created_at_ms, expires_at_ms)
             VALUES ({id}, 1, '/1/', {created_by}, '{secret}', 'approver', '{hash}', '', 0, {});",
            i64::MAX
        ));
    }
    sql(server, statements);
}

#[test]
fn a_wide_rollout_needs_a_second_person_who_sees_the_same_terminals() {
    let strict = |config: &mut tillward_server::config::Config| config.approval_from_terminals = 5;
    on_each_database_with(strict, |server| {
        with_terminals(server, 5);
        with_second_person(server);
        let id = staged(server, &json!({"stages": [{"count": 1}], "soak_s": 60}), &json!({}));
        let path = |verb: &str| format!("/api/v1/rollouts/{id}/{verb}");
        let refused = server.post(&path("start"), HEAD, &json!({"confirm_count": 5})).expect(409).text();
        assert!(refused.contains("submit it"), "{refused}");
        post(server, &path("submit"), &json!({"confirm_count": 5, "why": "for spring"}), 200);
        assert_eq!(rollout(server, id)["state"], "awaiting_approval");
        assert_eq!(rollout(server, id)["request"]["kind"], "start");
        for key in [HEAD, HELPER] {
            let own = server.post(&path("approve"), key, &json!({})).expect(409).text();
            assert!(own.contains("their own request"), "{key}: {own}");
        }
        server.post(&path("approve"), AUDITOR, &json!({})).expect(403);
        // Another terminal comes: it is not what was asked for any more.
        terminal(server, 6, "/1/", &[]);
        let changed = server.post(&path("approve"), SECOND, &json!({})).expect(409).text();
        assert!(changed.contains("submit it again"), "{changed}");
        assert_eq!(rollout(server, id)["state"], "draft");
        post(server, &path("submit"), &json!({"confirm_count": 6, "why": "for spring"}), 200);
        server.post(&path("reject"), SECOND, &json!({"why": "not on a Friday"})).expect(200);
        assert_eq!(rollout(server, id)["state"], "draft");
        post(server, &path("submit"), &json!({"confirm_count": 6, "why": "on Monday"}), 200);
        server.post(&path("approve"), SECOND, &json!({})).expect(200);
        wait_for_count(server, id, "offered", 1);
        // Widening asks, too.
        wait_until("the stage is open", || rollout(server, id)["opened"] == 1);
        let asked = post(server, &path("advance"), &json!({"why": "it looks well"}), 200);
        assert_eq!((&asked["stage"], &asked["request"]["kind"]), (&json!(0), &json!("widen")));
        server.post(&path("approve"), SECOND, &json!({})).expect(200);
        wait_for_count(server, id, "offered", 6);
        server.post(&path("approve"), SECOND, &json!({})).expect(409);
        server.post(&path("advance"), HEAD, &json!({"why": "more"})).expect(409);
        let verdict = server.block_on(audit::verify(&server.state.db, None)).unwrap();
        assert_eq!(verdict.problem, None);
    });
}
