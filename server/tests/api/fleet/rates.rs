//! Failures that are more than usual: a bank's outage, and how the usual is learnt.

use diesel::prelude::*;
use serde_json::json;
use tillward_server::clock::Now;
use tillward_server::db;
use tillward_server::db::schema::fleet_baselines;
use tillward_server::failures::incidents::{self, Kind, Level, NewIncident};

use super::{
    Planted, alert_kinds, attempts, detail, events, fail, half_past, in_transaction, incidents_of, pass, plant, rule,
    usual,
};
use crate::harness::on_each_database;
use crate::seed::Tree;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

#[test]
fn a_bank_that_is_down_is_one_incident_and_ends_by_not_being_seen() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let now = half_past(server);
        let fleet: Vec<Planted> = (1..=60).map(|id| Planted::new(id, now.0 - MINUTE_MS)).collect();
        plant(server, fleet.clone());
        attempts(server, now.hour_ms(), 500);
        for one in &fleet[..4] {
            fail(server, one, "a", now.0 - 2 * MINUTE_MS, "host_resp", Some("91"));
        }
        pass(server, now);
        assert_eq!(rule(server, &tree.east_ops, "B1"), ("insufficient".to_owned(), Some("history".to_owned())));
        usual(server, 4);
        pass(server, now);
        assert_eq!(rule(server, &tree.east_ops, "B1"), ("clear".to_owned(), None), "four are too few");
        for one in &fleet[4..12] {
            // Retries within one slot count once.
            for event in ["a", "b", "c"] {
                fail(server, one, event, now.0 - 2 * MINUTE_MS, "host_resp", Some("96"));
            }
        }
        pass(server, now);
        pass(server, Now(now.0 + MINUTE_MS));
        let found = incidents_of(server, &tree.east_ops, "bank_outage");
        assert_eq!(found.len(), 1);
        assert_eq!((&found[0]["affected"], &found[0]["occurrences"]), (&json!(12), &json!(2)));
        assert_eq!((&found[0]["level"], &found[0]["org_path"]), (&json!("P2"), &json!("/101/102/")));
        let shown = detail(server, &tree.east_ops, &found[0]["id"]);
        assert_eq!(shown["evidence"]["failures"], 12, "one for each terminal and slot");
        let reason = &shown["evidence"]["reasons"][0];
        assert_eq!((&reason["rule"], &reason["observed"]), (&json!("B1"), &json!(12.0)));
        assert_eq!(alert_kinds(&shown), ["incident_opened"]);
        let findings = server.get("/api/v1/fleet/findings?rule=B1", &tree.east_ops).expect(200).json();
        assert_eq!(findings["items"][0]["incident_id"], found[0]["id"]);
        assert_eq!(server.get("/api/v1/fleet/findings", &tree.west_ops).expect(200).json()["items"], json!([]));
        server.get("/api/v1/fleet/findings?rule=B9", &tree.east_ops).expect(422);
        // Two hours later nothing of it is left: the rules say so, and people resolve it.
        pass(server, Now(now.0 + 2 * HOUR_MS));
        let shown = detail(server, &tree.east_ops, &found[0]["id"]);
        assert_eq!(shown["incident"]["state"], "mitigated");
        assert_eq!(events(&shown), ["open", "subside"]);
    });
}

#[test]
fn in_the_first_weeks_the_worst_hour_so_far_stands_for_all() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let now = half_past(server);
        let fleet: Vec<Planted> = (1..=60).map(|id| Planted::new(id, now.0 - MINUTE_MS)).collect();
        plant(server, fleet.clone());
        attempts(server, now.hour_ms(), 500);
        usual(server, 1);
        for one in &fleet[..12] {
            fail(server, one, "a", now.0 - 2 * MINUTE_MS, "wait", None);
        }
        pass(server, now);
        let found = incidents_of(server, &tree.east_ops, "bank_outage");
        assert_eq!(detail(server, &tree.east_ops, &found[0]["id"])["evidence"]["baseline"], "highest");
    });
}

#[test]
fn what_is_usual_is_learnt_once_from_each_hour_and_not_from_an_outage() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let now = half_past(server);
        plant(server, vec![Planted::new(1, now.0), Planted::new(2, now.0)]);
        let hour = |back: i64| now.hour_ms() - back * HOUR_MS;
        for back in [1, 2, 3] {
            attempts(server, hour(back), 1_000);
        }
        attempts(server, hour(4), 29);
        for (event, back) in [("a", 1), ("b", 2), ("c", 3)] {
            fail(server, &Planted::new(1, 0), event, hour(back) + MINUTE_MS, "host_resp", Some("68"));
        }
        fail(server, &Planted::new(2, 0), "d", hour(1) + MINUTE_MS, "host_resp", Some("51"));
        let outage = NewIncident {
            kind: Kind::BankOutage,
            level: Level::P2,
            org_path: "/101/".to_owned(),
            key: "bank".to_owned(),
            subject: "91".to_owned(),
            evidence: json!({}),
            rollout_id: None,
            release_id: None,
            terminal_ids: vec![],
            affected: 0,
        };
        let during = Now(hour(3) + MINUTE_MS);
        in_transaction(server, move |conn| incidents::open(conn, outage, during));
        pass(server, now);
        pass(server, now);
        let learnt: Vec<(i64, i64, i64)> = server
            .block_on(server.state.db.read(|conn| {
                let rows = fleet_baselines::table.filter(fleet_baselines::code_group.eq("bank"));
                let rows = rows.order(fleet_baselines::hour_of_week).select((
                    fleet_baselines::hour_of_week,
                    fleet_baselines::rate_ppb,
                    fleet_baselines::weeks,
                ));
                rows.load(conn).map_err(db::Error::from)
            }))
            .unwrap();
        let mut expected: Vec<(i64, i64, i64)> =
            [1, 2].map(|back| ((hour(back) / HOUR_MS) % 168, 1_000_000, 1)).to_vec();
        expected.sort_unstable();
        assert_eq!(learnt, expected, "one bank failure in a thousand; hours with few attempts say nothing");
        drop(tree);
    });
}
