//! The fleet's rules over time: what stays as people left it, what is not over only because it is not looked at any more,
//! and what they see in a fleet that is larger than their lists.

use diesel::prelude::*;
use serde_json::{Value, json};
use tillward_server::clock::Now;
use tillward_server::db;
use tillward_server::db::schema::{cohort_outcomes, fleet_passes, terminal_networks, terminal_states, terminals};
use tillward_server::failures::incidents::{Kind, Level, NewIncident};
use tillward_server::failures::{advice, fleet};

use super::{
    Planted, act, alert_kinds, attempts, detail, events, half_past, in_transaction, incidents_of, month, new, open_at,
    pass, plant, pool,
};
use crate::harness::{TestServer, on_each_database};
use crate::seed::{MODEL, Tree};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// The incident of this subject.
fn about(incidents: &[Value], subject: &str) -> Value {
    incidents.iter().find(|incident| incident["subject"] == subject).unwrap().clone()
}

#[test]
fn nothing_hides_what_is_more_urgent_than_itself() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let now = server.clock.now();
        let area = |key: &str, level| NewIncident { level, ..new(Kind::AreaOutage, key, vec![]) };
        let bank = open_at(server, new(Kind::BankOutage, "bank", vec![]), now);
        let urgent = open_at(server, area("area:region:3101", Level::P1), now);
        let shown = detail(server, &tree.east_ops, &json!(urgent));
        assert_eq!(shown["incident"]["parent_id"], json!(null));
        assert_eq!(alert_kinds(&shown), ["incident_opened"]);
        // What was folded comes out when it becomes more urgent than what explains it, and is not folded again.
        let folded = open_at(server, area("area:region:3301", Level::P2), now);
        let shown = detail(server, &tree.east_ops, &json!(folded));
        assert_eq!((&shown["incident"]["parent_id"], alert_kinds(&shown).len()), (&json!(bank), 0));
        for level in [Level::P1, Level::P2] {
            open_at(server, area("area:region:3301", level), now);
        }
        let shown = detail(server, &tree.east_ops, &json!(folded));
        assert_eq!((events(&shown), alert_kinds(&shown)), (vec!["open", "unfold"], vec!["incident_opened"]));
        assert_eq!((&shown["incident"]["masked_since_ms"], &shown["incident"]["level"]), (&json!(null), &json!("P1")));
    });
}

#[test]
fn what_runs_out_stays_resolved_until_more_of_it_comes() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let now = server.clock.now();
        plant(server, (1..=3).map(|id| Planted::new(id, now.0)).collect());
        let ends = [(1, now.0 + 5 * DAY_MS), (2, now.0 + 8 * DAY_MS)];
        in_transaction(server, move |conn| fleet::note_certificates(conn, &ends));
        pass(server, now);
        let week = || about(&incidents_of(server, &tree.east_ops, "expiry"), "TLS ≤ 7 d");
        act(server, &tree.east_ops, week()["id"].as_i64().unwrap(), "resolve");
        pass(server, Now(now.0 + 2 * HOUR_MS));
        assert_eq!((&week()["state"], &week()["occurrences"]), (&json!("resolved"), &json!(1)));
        // The second one comes into the week, and there are as many as before: the first got a new certificate.
        let renewed = [(1, now.0 + 900 * DAY_MS)];
        in_transaction(server, move |conn| fleet::note_certificates(conn, &renewed));
        pass(server, Now(now.0 + 25 * HOUR_MS));
        assert_eq!((&week()["state"], &week()["affected"]), (&json!("open"), &json!(1)));
        act(server, &tree.east_ops, week()["id"].as_i64().unwrap(), "resolve");
        pass(server, Now(now.0 + 27 * HOUR_MS));
        assert_eq!(week()["state"], "resolved");
        // The end of a third one becomes known late.
        let late = [(3, now.0 + 3 * DAY_MS)];
        in_transaction(server, move |conn| fleet::note_certificates(conn, &late));
        pass(server, Now(now.0 + 29 * HOUR_MS));
        assert_eq!((&week()["state"], &week()["affected"]), (&json!("open"), &json!(2)));
    });
}

#[test]
fn each_organization_is_told_of_its_own_that_runs_out() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let now = server.clock.now();
        plant(server, (1..=3).map(|id| Planted::new(id, now.0)).collect());
        let ends = [1, 2, 3].map(|id| (id, now.0 + 5 * DAY_MS));
        in_transaction(server, move |conn| {
            diesel::update(terminals::table.find(3)).set(terminals::org_path.eq("/101/102/900/")).execute(conn)?;
            fleet::note_certificates(conn, &ends)
        });
        pass(server, now);
        pass(server, Now(now.0 + 2 * HOUR_MS));
        let mut found: Vec<(String, i64)> = incidents_of(server, &tree.east_ops, "expiry")
            .iter()
            .map(|one| (one["org_path"].as_str().unwrap().to_owned(), one["affected"].as_i64().unwrap()))
            .collect();
        found.sort();
        assert_eq!(found, [("/101/102/".to_owned(), 2), ("/101/102/900/".to_owned(), 1)]);
    });
}

#[test]
fn thousands_of_expired_certificates_hide_no_warning() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let now = server.clock.now();
        plant(server, vec![Planted::new(1, now.0)]);
        let (old_ms, soon) = (now.0 - 80 * DAY_MS, [(1, now.0 + 5 * DAY_MS)]);
        in_transaction(server, move |conn| {
            let numbers = "WITH RECURSIVE s (n) AS (SELECT 1001 UNION ALL SELECT n + 1 FROM s WHERE n < 11001)";
            diesel::sql_query(format!(
                "{numbers} INSERT INTO terminals (id, sn_reversed, sn, model, organization_id, org_path, region, \
                 lifecycle, session_epoch, stream, assignment_version, created_at_ms, version) \
                 SELECT n, 'XE' || n, 'EX' || n, '{MODEL}', 102, '/101/102/', '3101', 'active', 1, 1, 0, 0, 1 FROM s"
            ))
            .execute(conn)?;
            diesel::sql_query(format!(
                "{numbers} INSERT INTO terminal_certificates (terminal_id, expires_at_ms) SELECT n, {old_ms} FROM s"
            ))
            .execute(conn)?;
            fleet::note_certificates(conn, &soon)
        });
        pass(server, now);
        let found = incidents_of(server, &tree.east_ops, "expiry");
        assert_eq!(about(&found, "TLS ≤ 7 d")["affected"], 1);
        let over = about(&found, "TLS ≤ 0 d");
        assert_eq!(over["affected"], 10_001);
        let shown = detail(server, &tree.east_ops, &over["id"]);
        assert_eq!(shown["evidence"]["terminals"].as_array().unwrap().len(), 50);
    });
}

/// Terminals with numbers from `from` on and below `before` called at this moment.
fn call(server: &TestServer, from: i64, before: i64, at_ms: i64) {
    in_transaction(server, move |conn| {
        let those = terminal_states::terminal_id.ge(from).and(terminal_states::terminal_id.lt(before));
        diesel::update(terminal_states::table.filter(those))
            .set((
                terminal_states::last_seen_ms.eq(at_ms),
                terminal_states::next_check_in_ms.eq(at_ms + 15 * MINUTE_MS),
            ))
            .execute(conn)?;
        Ok(())
    });
}

#[test]
fn a_dead_pool_is_not_over_before_its_terminals_call_again() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let now = half_past(server);
        plant(server, pool(now, 60, now.0 - MINUTE_MS));
        pass(server, now);
        let state = |kind: &str| incidents_of(server, &tree.east_ops, kind)[0]["state"].clone();
        assert_eq!((state("sim_pool"), state("terminals_offline")), (json!("open"), json!("open")));
        // The rules look back one day: after that the silent ones are in no list, and silent as before.
        for hours in [25, 26, 27] {
            let later = Now(now.0 + hours * HOUR_MS);
            call(server, 1, 100, later.0 - MINUTE_MS);
            pass(server, later);
            assert_eq!((state("sim_pool"), state("terminals_offline")), (json!("open"), json!("open")), "{hours}");
        }
        // Seven of sixteen are not half of them; eight are.
        let later = Now(now.0 + 28 * HOUR_MS);
        call(server, 1, 108, later.0 - MINUTE_MS);
        pass(server, later);
        assert_eq!(state("sim_pool"), "open");
        let later = Now(now.0 + 29 * HOUR_MS);
        call(server, 1, 109, later.0 - MINUTE_MS);
        pass(server, later);
        assert_eq!((state("sim_pool"), state("terminals_offline")), (json!("mitigated"), json!("mitigated")));
    });
}

/// Names of the stores that advice was given to, sorted.
fn advised(server: &TestServer, token: &str) -> Vec<String> {
    let page = server.get("/api/v1/network-advice", token).expect(200).json();
    let names = page["items"].as_array().unwrap().iter().map(|store| store["store_name"].as_str().unwrap().to_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn a_round_over_networks_keeps_what_it_came_by_however_long_it_takes_and_nothing_else() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let now = server.clock.now();
        let at = |id: i64, store: &'static str| Planted { store: Some(store), ..Planted::new(id, now.0) };
        let fleet = [at(1, "A"), at(2, "B"), at(3, "C"), at(4, "D")];
        plant(server, fleet.to_vec());
        for one in &fleet {
            month(server, one, 30, -80, 10, now);
        }
        server.block_on(advice::pass(&server.state.db, now)).unwrap();
        assert_eq!(advised(server, &tree.east_ops), ["A", "B", "C", "D"]);
        // The round stands at the second terminal, and goes on only after a week.
        in_transaction(server, |conn| {
            diesel::update(fleet_passes::table.find("networks")).set(fleet_passes::reached.eq(2)).execute(conn)?;
            Ok(())
        });
        server.block_on(advice::pass(&server.state.db, Now(now.0 + 8 * DAY_MS))).unwrap();
        assert_eq!(advised(server, &tree.east_ops), ["A", "B", "C", "D"]);
        // One among the others and the last one are taken out of use: the next round does not come by them.
        in_transaction(server, |conn| {
            diesel::update(terminals::table.filter(terminals::id.eq_any([2_i64, 4])))
                .set(terminals::lifecycle.eq("retired"))
                .execute(conn)?;
            Ok(())
        });
        server.block_on(advice::pass(&server.state.db, Now(now.0 + 9 * DAY_MS))).unwrap();
        assert_eq!(advised(server, &tree.east_ops), ["A", "C"]);
        let left: Vec<i64> = server
            .block_on(server.state.db.read(|conn| {
                let rows = terminal_networks::table.order(terminal_networks::terminal_id);
                rows.select(terminal_networks::terminal_id).load(conn).map_err(db::Error::from)
            }))
            .unwrap();
        assert_eq!(left, [1, 3]);
    });
}

#[test]
fn a_silence_of_more_terminals_than_are_listed_is_counted_whole() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let now = half_past(server);
        // Those of the other reseller were heard first: no list has them.
        let (newer_ms, older_ms) = (now.0 - 60 * MINUTE_MS, now.0 - 70 * MINUTE_MS);
        in_transaction(server, move |conn| {
            let numbers = "WITH RECURSIVE s (n) AS (SELECT 1001 UNION ALL SELECT n + 1 FROM s WHERE n < 53000)";
            let path = "CASE WHEN n > 52000 THEN '/101/104/' ELSE '/101/102/' END";
            diesel::sql_query(format!(
                "{numbers} INSERT INTO terminals (id, sn_reversed, sn, model, organization_id, org_path, region, \
                 lifecycle, session_epoch, stream, assignment_version, created_at_ms, version) \
                 SELECT n, 'XF' || n, 'FX' || n, '{MODEL}', 102, {path}, '3101', 'active', 1, 1, 0, 0, 1 FROM s"
            ))
            .execute(conn)?;
            diesel::sql_query(format!(
                "{numbers} INSERT INTO terminal_states (terminal_id, stream, seq, first_seen_ms, last_seen_ms, \
                 next_check_in_ms, interval_s, sampled_at_ms, check_ins, failures, transactions_ok, \
                 transactions_failed, firmware, slot, agent, access, carrier, signal, org_path, model, lifecycle, \
                 region, report) \
                 SELECT n, 1, 1, 1, CASE WHEN n > 52000 THEN {older_ms} ELSE {newer_ms} - n % 500 * 100 END, \
                 0, 900, 0, 1, 0, 0, 0, '4.1.0', 'a', '0.1.0', 'wifi', 'unknown', 'good', {path}, '{MODEL}', \
                 'active', '3101', '{{}}' FROM s"
            ))
            .execute(conn)?;
            Ok(())
        });
        pass(server, now);
        let found = incidents_of(server, &tree.admin, "terminals_offline");
        assert_eq!((&found[0]["affected"], &found[0]["subject"]), (&json!(52_000), &json!("52000 / 52000")));
        assert_eq!(found[0]["org_path"], "/101/", "of all that are silent");
        let shown = detail(server, &tree.admin, &found[0]["id"]);
        assert_eq!(shown["terminals"].as_array().unwrap().len(), 100);
    });
}

#[test]
fn the_numbers_of_a_day_are_summed_over_its_hours_and_no_others() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let hour_ms = server.clock.now().hour_ms();
        for (back, n) in [(0, 1), (5, 20), (22, 300), (30, 4_000)] {
            attempts(server, hour_ms - back * HOUR_MS, n);
        }
        in_transaction(server, move |conn| {
            for (back, outcome, n) in
                [(0, "code:96", 1_i64), (5, "stage:tls", 20), (5, "code:51", 300), (30, "code:96", 9)]
            {
                diesel::insert_into(cohort_outcomes::table)
                    .values((
                        cohort_outcomes::hour_ms.eq(hour_ms - back * HOUR_MS),
                        cohort_outcomes::cohort_id.eq(1),
                        cohort_outcomes::outcome.eq(outcome),
                        cohort_outcomes::failures.eq(n),
                    ))
                    .execute(conn)?;
            }
            Ok(())
        });
        let numbers = server.get("/api/v1/fleet/kpis", &tree.east_ops).expect(200).json();
        assert_eq!((&numbers["payments_ok"], &numbers["payments_failed"]), (&json!(321), &json!(21)));
        let elsewhere = server.get("/api/v1/fleet/kpis", &tree.west_ops).expect(200).json();
        assert_eq!((&elsewhere["payments_ok"], &elsewhere["payments_failed"]), (&json!(0), &json!(0)));
    });
}
