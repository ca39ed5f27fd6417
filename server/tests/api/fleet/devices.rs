//! The device alone: a suspect, one that calls though it is blocked, what runs out.

use diesel::prelude::*;
use serde_json::{Value, json};
use tillward_server::db;
use tillward_server::db::schema::terminals;
use tillward_server::failures::fleet;

use super::{Planted, days, detail, in_transaction, incidents_of, pass, plant, rule};
use crate::check_in;
use crate::harness::on_each_database;
use crate::seed::Tree;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

#[test]
fn a_terminal_that_fails_far_more_than_its_like_on_two_days_is_a_suspect() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let fleet: Vec<Planted> =
            (1..=30).map(|id| Planted { carrier: "CMCC", ..Planted::new(id, server.clock.now().0) }).collect();
        plant(server, fleet.clone());
        let now = days(server, &fleet, &[1, 2], 8);
        pass(server, now);
        let found = incidents_of(server, &tree.east_ops, "terminal_suspect");
        assert_eq!(found.len(), 1);
        assert_eq!((&found[0]["subject"], &found[0]["level"]), (&json!("FL000007"), &json!("P3")));
        let shown = detail(server, &tree.east_ops, &found[0]["id"]);
        assert_eq!((&shown["evidence"]["failed"], &shown["evidence"]["attempts"]), (&json!(8), &json!(20)));
        assert_eq!(shown["evidence"]["days"], 2);
        let orders = server.get("/api/v1/work-orders", &tree.east_ops).expect(200).json()["items"].clone();
        assert_eq!(orders.as_array().unwrap().len(), 1, "somebody looks at it: {orders}");
        assert_eq!((&orders[0]["sn"], &orders[0]["incident_id"]), (&json!("FL000007"), &found[0]["id"]));
    });
}

#[test]
fn one_bad_day_or_few_failures_make_no_suspect_and_nine_of_a_kind_are_not_judged() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let fleet: Vec<Planted> =
            (1..=30).map(|id| Planted { carrier: "CMCC", ..Planted::new(id, server.clock.now().0) }).collect();
        plant(server, fleet.clone());
        let now = days(server, &fleet, &[2], 8);
        pass(server, now);
        assert_eq!(incidents_of(server, &tree.east_ops, "terminal_suspect"), Vec::<Value>::new());
    });
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let fleet: Vec<Planted> =
            (1..=9).map(|id| Planted { carrier: "CMCC", ..Planted::new(id, server.clock.now().0) }).collect();
        plant(server, fleet.clone());
        let now = days(server, &fleet, &[1, 2], 8);
        pass(server, now);
        assert_eq!(incidents_of(server, &tree.east_ops, "terminal_suspect"), Vec::<Value>::new());
        assert_eq!(rule(server, &tree.east_ops, "B5"), ("insufficient".to_owned(), Some("peers".to_owned())));
    });
}

#[test]
fn a_blocked_terminal_that_calls_is_told() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let terminal = check_in::terminal(server, 7);
        terminal.send(server, &check_in::check_in(1, 1)).expect(200);
        pass(server, server.clock.now());
        assert_eq!(incidents_of(server, &tree.admin, "blocked_calling"), Vec::<Value>::new());
        in_transaction(server, |conn| {
            diesel::update(terminals::table.find(7)).set(terminals::lifecycle.eq("blocked")).execute(conn)?;
            Ok(())
        });
        for _ in 0..3 {
            terminal.send(server, &check_in::check_in(1, 2)).expect(403);
        }
        pass(server, server.clock.now());
        let found: Vec<(String, String, i64)> = server
            .block_on(server.state.db.read(|conn| {
                use tillward_server::db::schema::{barred_calls, incidents};
                let rows = incidents::table
                    .inner_join(barred_calls::table.on(barred_calls::terminal_id.eq(7)))
                    .select((incidents::kind, incidents::subject, barred_calls::calls));
                rows.load(conn).map_err(db::Error::from)
            }))
            .unwrap();
        assert_eq!(found, [("blocked_calling".to_owned(), "SN000007".to_owned(), 3)]);
    });
}

#[test]
fn what_runs_out_is_told_at_ninety_thirty_and_seven_days() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let now = server.clock.now();
        let fleet: Vec<Planted> = (1..=3)
            .map(|id| Planted { iccid: Some(format!("8986001234567890000{id}")), ..Planted::new(id, now.0) })
            .collect();
        plant(server, fleet);
        let ends = [(1, now.0 + 5 * DAY_MS), (2, now.0 + 29 * DAY_MS), (3, now.0 + 200 * DAY_MS)];
        in_transaction(server, move |conn| fleet::note_certificates(conn, &ends));
        let day = jiff::Timestamp::from_millisecond(now.0 + 80 * DAY_MS).unwrap().strftime("%Y-%m-%d").to_string();
        let csv = format!("卡号,流量池,到期日\n89860012345678900003,A1,{day}\n");
        server
            .send("POST", "/api/v1/sim-cards/import", &tree.east_ops, &[("content-type", "text/csv")], csv.as_bytes())
            .expect(200);
        pass(server, now);
        let mut found: Vec<(String, String)> = incidents_of(server, &tree.east_ops, "expiry")
            .iter()
            .map(|one| (one["subject"].as_str().unwrap().to_owned(), one["level"].as_str().unwrap().to_owned()))
            .collect();
        found.sort();
        let expected = [("SIM ≤ 90 d", "P3"), ("TLS ≤ 30 d", "P3"), ("TLS ≤ 7 d", "P2")];
        assert_eq!(found, expected.map(|(subject, level)| (subject.to_owned(), level.to_owned())));
    });
}
