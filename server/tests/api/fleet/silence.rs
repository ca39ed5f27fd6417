//! Terminals that fall silent together: a cell, a place, a pool of cards, and when silence says nothing.

use diesel::prelude::*;
use serde_json::{Value, json};
use tillward_server::clock::Now;
use tillward_server::db;
use tillward_server::db::schema::{terminal_states, terminals};
use tillward_server::failures::fleet;
use tillward_server::failures::fleet::boost::BOOST_MS;

use super::{Planted, alert_kinds, detail, fail, half_past, in_transaction, incidents_of, pass, plant, pool, rule};
use crate::check_in;
use crate::harness::on_each_database;
use crate::seed::Tree;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

#[test]
fn a_cell_that_is_down_is_named_and_its_wifi_terminals_call_in_more_often_for_an_hour() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let now = half_past(server);
        let fleet: Vec<Planted> = (1..=120).map(|id| Planted::new(id, now.0 - MINUTE_MS)).collect();
        plant(server, fleet.clone());
        let inside = |one: &&Planted| one.plmn == "46001" && one.cell == 3;
        // Two failing terminals are none; a failure of an earlier check-in is not of now.
        for one in fleet.iter().filter(inside).take(2) {
            fail(server, one, "a", one.last_seen_ms, "tls", None);
        }
        for one in fleet.iter().filter(inside).skip(2) {
            fail(server, one, "old", one.last_seen_ms - 20 * MINUTE_MS, "tls", None);
        }
        pass(server, now);
        assert_eq!(incidents_of(server, &tree.east_ops, "area_outage"), Vec::<Value>::new());
        for one in fleet.iter().filter(inside).skip(2) {
            fail(server, one, "a", one.last_seen_ms, "tls", None);
        }
        pass(server, now);
        let found = incidents_of(server, &tree.east_ops, "area_outage");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0]["subject"], "cell 46001-3");
        let shown = detail(server, &tree.east_ops, &found[0]["id"]);
        let count = fleet.iter().filter(inside).count();
        assert_eq!((&shown["evidence"]["place"], &shown["incident"]["affected"]), (&json!("cell"), &json!(count)));
        assert_eq!(shown["terminals"].as_array().unwrap().len(), count);
        let boosted: Vec<(i64, String, Option<i64>)> = server
            .block_on(server.state.db.read(|conn| {
                let rows = terminal_states::table
                    .filter(terminal_states::poll_until_ms.is_not_null())
                    .order(terminal_states::terminal_id)
                    .select((terminal_states::terminal_id, terminal_states::access, terminal_states::poll_until_ms));
                rows.load(conn).map_err(db::Error::from)
            }))
            .unwrap();
        let expected: Vec<(i64, String, Option<i64>)> = fleet
            .iter()
            .filter(inside)
            .filter(|one| one.access == "wifi")
            .map(|one| (one.id, "wifi".to_owned(), Some(now.0 + BOOST_MS)))
            .collect();
        assert!(!expected.is_empty());
        assert_eq!(boosted, expected, "none on a SIM card");
        // Seen again, it is not drawn out.
        pass(server, Now(now.0 + 5 * MINUTE_MS));
        let longest: Option<i64> = server
            .block_on(server.state.db.read(|conn| {
                let row = terminal_states::table.select(diesel::dsl::max(terminal_states::poll_until_ms));
                row.first(conn).map_err(db::Error::from)
            }))
            .unwrap();
        assert_eq!(longest, Some(now.0 + BOOST_MS));
    });
}

#[test]
fn few_terminals_are_not_judged_for_places() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let now = half_past(server);
        let fleet: Vec<Planted> = (1..=19).map(|id| Planted::new(id, now.0 - MINUTE_MS)).collect();
        plant(server, fleet.clone());
        for one in &fleet[..6] {
            fail(server, one, "a", one.last_seen_ms, "tcp", None);
        }
        pass(server, now);
        assert_eq!(rule(server, &tree.east_ops, "B2"), ("insufficient".to_owned(), Some("terminals".to_owned())));
    });
}

#[test]
fn a_pool_of_cards_that_dies_is_named_by_its_name_on_record_or_by_its_numbers() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let now = half_past(server);
        plant(server, pool(now, 60, now.0 - MINUTE_MS));
        pass(server, now);
        let found = incidents_of(server, &tree.east_ops, "sim_pool");
        assert_eq!(found.len(), 1);
        assert_eq!((&found[0]["subject"], &found[0]["affected"]), (&json!("8986001234…"), &json!(16)));
        assert_eq!(found[0]["level"], "P1", "it is more than a twentieth of the fleet");
        // The whole fleet's rule sees the same terminals, and says nothing of its own.
        let offline = incidents_of(server, &tree.east_ops, "terminals_offline");
        assert_eq!(offline.len(), 1);
        assert_eq!(offline[0]["parent_id"], found[0]["id"]);
        assert_eq!(alert_kinds(&detail(server, &tree.east_ops, &offline[0]["id"])), Vec::<&str>::new());
        // Its provider's list gives the pool a name.
        let list: String = (101..=116).map(|id| format!("898600123456789{id:05},A1,30,2030-01-31\n")).collect();
        let csv = format!("iccid,pool,plan_mb,expires\n{list}");
        let sent = server.send(
            "POST",
            "/api/v1/sim-cards/import",
            &tree.east_ops,
            &[("content-type", "text/csv")],
            csv.as_bytes(),
        );
        assert_eq!(sent.expect(200).json()["written"], 16);
        let again = server.send(
            "POST",
            "/api/v1/sim-cards/import",
            &tree.west_ops,
            &[("content-type", "text/csv")],
            csv.as_bytes(),
        );
        let again = again.expect(200).json();
        assert_eq!((&again["written"], &again["refused"]), (&json!(0), &json!(16)), "cards of somebody else");
        let cards = server.get("/api/v1/sim-cards?pool=A1&size=3", &tree.east_ops).expect(200).json();
        assert_eq!((cards["items"].as_array().unwrap().len(), &cards["items"][0]["carrier"]), (3, &json!("CMCC")));
        assert!(cards["next"].is_string());
        pass(server, Now(now.0 + MINUTE_MS));
        let found = incidents_of(server, &tree.east_ops, "sim_pool");
        assert_eq!(found[0]["subject"], "A1");
    });
}

#[test]
fn a_pool_is_not_dead_where_the_others_are_silent_too_or_where_there_are_none() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let now = half_past(server);
        plant(server, pool(now, 40, now.0 - 40 * MINUTE_MS));
        pass(server, now);
        assert_eq!(rule(server, &tree.east_ops, "B3").0, "clear");
        let offline = incidents_of(server, &tree.east_ops, "terminals_offline");
        assert_eq!(offline.len(), 0, "late, and not offline yet");
        pass(server, Now(now.0 + 20 * MINUTE_MS));
        let offline = incidents_of(server, &tree.east_ops, "terminals_offline");
        assert_eq!((&offline[0]["level"], &offline[0]["parent_id"]), (&json!("P1"), &json!(null)));
        let shown = detail(server, &tree.east_ops, &offline[0]["id"]);
        assert_eq!(alert_kinds(&shown), ["incident_opened"]);
        in_transaction(server, |conn| {
            diesel::update(terminals::table.filter(terminals::id.lt(100)))
                .set(terminals::region.eq("elsewhere"))
                .execute(conn)?;
            diesel::update(terminal_states::table.filter(terminal_states::terminal_id.lt(100)))
                .set(terminal_states::region.eq("elsewhere"))
                .execute(conn)?;
            Ok(())
        });
        pass(server, now);
        assert_eq!(rule(server, &tree.east_ops, "B3"), ("insufficient".to_owned(), Some("peers".to_owned())));
    });
}

#[test]
fn a_boost_shortens_the_interval_on_wifi_and_ends_by_itself() {
    on_each_database(|server| {
        let terminal = check_in::terminal(server, 7);
        let send = |seq: u32, access: &str| {
            let mut body = check_in::check_in(1, seq);
            body["condition"] = json!({"access": access});
            let answer = terminal.send(server, &body).expect(200).json();
            answer["next_check_in_s"].as_i64().unwrap()
        };
        assert!(send(1, "wifi") >= 450, "a normal interval is 900 s");
        // Shorter than the session, so that the same one sees its end.
        let until = server.clock.now().0 + 10 * MINUTE_MS;
        in_transaction(server, move |conn| {
            diesel::update(terminal_states::table.find(7))
                .set(terminal_states::poll_until_ms.eq(until))
                .execute(conn)?;
            Ok(())
        });
        assert!(send(2, "wifi") <= 450);
        let interval: i64 = server
            .block_on(server.state.db.read(|conn| {
                let row = terminal_states::table.find(7).select(terminal_states::interval_s);
                row.first(conn).map_err(db::Error::from)
            }))
            .unwrap();
        assert_eq!(interval, 300, "it is late after one and a half of these");
        assert!(send(3, "4g") >= 450, "on a SIM card it would use up its data");
        server.clock.advance_ms(10 * MINUTE_MS + 1_000);
        assert!(send(4, "wifi") >= 450);
    });
}

#[test]
fn after_a_time_without_a_server_silence_says_nothing_about_terminals() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let now = half_past(server);
        plant(server, (1..=40).map(|id| Planted::new(id, now.0 - 3 * HOUR_MS)).collect());
        assert!(server.block_on(fleet::claim(&server.state.db, now)).unwrap());
        pass(server, now);
        assert_eq!(rule(server, &tree.east_ops, "offline"), ("insufficient".to_owned(), Some("history".to_owned())));
        for minute in 1..=66 {
            assert!(server.block_on(fleet::claim(&server.state.db, Now(now.0 + minute * MINUTE_MS))).unwrap());
        }
        pass(server, Now(now.0 + 66 * MINUTE_MS));
        assert_eq!(rule(server, &tree.east_ops, "offline").0, "hit");
    });
}

#[test]
fn of_several_servers_one_runs_a_pass() {
    on_each_database(|server| {
        let now = server.clock.now();
        let claim = |now: Now| server.block_on(fleet::claim(&server.state.db, now)).unwrap();
        assert!(claim(now));
        assert!(!claim(now) && !claim(Now(now.0 + 10_000)));
        assert!(claim(Now(now.0 + fleet::INTERVAL_MS)));
        assert!(claim(Now(now.0 - DAY_MS)), "a clock that went back");
    });
}
