//! The fleet's rules over what is stored: each finds what it is for, leaves what is nearly so, and says when it has too
//! little to judge by. What it finds is folded under what explains it, and terminals on WiFi call in more often for a
//! while.

use diesel::prelude::*;
use serde_json::{Value, json};
use tillward_server::clock::Now;
use tillward_server::db::schema::{
    cohort_cells, cohorts, condition_samples, failures, fleet_baselines, store_networks, terminal_states, terminals,
};
use tillward_server::db::{self, Conn};
use tillward_server::failures::fleet::boost::BOOST_MS;
use tillward_server::failures::incidents::{self, Kind, Level, NewIncident};
use tillward_server::failures::{advice, fleet};

use crate::check_in;
use crate::console::Browser;
use crate::fixtures::{ADMIN, admin, headquarters};
use crate::harness::{TestServer, on_each_database};
use crate::seed::{MODEL, Tree};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// A terminal of the eastern reseller as the tables have it.
#[derive(Clone)]
pub struct Planted {
    pub id: i64,
    pub region: &'static str,
    pub access: &'static str,
    pub carrier: &'static str,
    pub plmn: &'static str,
    pub cell: i64,
    pub iccid: Option<String>,
    pub store: Option<&'static str>,
    pub last_seen_ms: i64,
    pub attempts: i64,
}

impl Planted {
    pub fn new(id: i64, last_seen_ms: i64) -> Self {
        Self {
            id,
            region: if id % 2 == 0 { "3101" } else { "3301" },
            access: if id % 3 == 0 { "wifi" } else { "4g" },
            carrier: if id % 3 == 1 { "CMCC" } else { "CUCC" },
            plmn: if id % 3 == 1 { "46000" } else { "46001" },
            cell: id % 10,
            iccid: None,
            store: None,
            last_seen_ms,
            attempts: 0,
        }
    }
}

pub fn in_transaction<T: Send + 'static>(
    server: &TestServer,
    write: impl FnOnce(&mut Conn) -> Result<T, db::Error> + Send + 'static,
) -> T {
    server.block_on(server.state.db.write(write)).unwrap()
}

pub fn plant(server: &TestServer, planted: Vec<Planted>) {
    in_transaction(server, move |conn| {
        for one in planted {
            insert(conn, &one)?;
        }
        Ok(())
    });
}

fn insert(conn: &mut Conn, one: &Planted) -> Result<(), db::Error> {
    let sn = format!("FL{:06}", one.id);
    diesel::insert_into(terminals::table)
        .values((
            terminals::id.eq(one.id),
            terminals::sn_reversed.eq(sn.chars().rev().collect::<String>()),
            terminals::sn.eq(sn),
            terminals::model.eq(MODEL),
            terminals::organization_id.eq(102),
            terminals::org_path.eq("/101/102/"),
            terminals::region.eq(one.region),
            terminals::iccid.eq(&one.iccid),
            terminals::store_name.eq(one.store),
            terminals::lifecycle.eq("active"),
            terminals::session_epoch.eq(1),
            terminals::stream.eq(1),
            terminals::assignment_version.eq(0),
            terminals::created_at_ms.eq(0),
            terminals::version.eq(1),
        ))
        .execute(conn)?;
    let report = json!({
        "condition": {"access": one.access, "plmn": one.plmn, "cell_id": one.cell, "tac": one.cell % 4},
        "transactions": {"ok": 3, "failed": 0},
    });
    diesel::insert_into(terminal_states::table)
        .values((
            terminal_states::terminal_id.eq(one.id),
            terminal_states::stream.eq(1),
            terminal_states::seq.eq(1),
            terminal_states::first_seen_ms.eq(1),
            terminal_states::last_seen_ms.eq(one.last_seen_ms),
            terminal_states::next_check_in_ms.eq(one.last_seen_ms + 15 * MINUTE_MS),
            terminal_states::interval_s.eq(900),
            terminal_states::sampled_at_ms.eq(one.last_seen_ms),
            (
                terminal_states::check_ins.eq(1),
                terminal_states::failures.eq(0),
                terminal_states::transactions_ok.eq(one.attempts),
                terminal_states::transactions_failed.eq(0),
                terminal_states::firmware.eq("4.1.0"),
                terminal_states::slot.eq("a"),
                terminal_states::agent.eq("0.1.0"),
                terminal_states::access.eq(one.access),
                terminal_states::carrier.eq(one.carrier),
                terminal_states::signal.eq("good"),
            ),
            terminal_states::org_path.eq("/101/102/"),
            terminal_states::model.eq(MODEL),
            terminal_states::lifecycle.eq("active"),
            terminal_states::region.eq(one.region),
            terminal_states::report.eq(report.to_string()),
        ))
        .execute(conn)?;
    Ok(())
}

/// One failure of a planted terminal, as a check-in writes it.
pub fn fail(
    server: &TestServer,
    one: &Planted,
    event: &str,
    at_ms: i64,
    stage: &'static str,
    code: Option<&'static str>,
) {
    let (one, event) = (one.clone(), event.to_owned());
    in_transaction(server, move |conn| {
        diesel::insert_into(failures::table)
            .values((
                failures::terminal_id.eq(one.id),
                failures::event_id.eq(event),
                failures::occurred_at_ms.eq(at_ms),
                failures::received_at_ms.eq(at_ms),
                failures::org_path.eq("/101/102/"),
                failures::cohort_id.eq(1),
                failures::stage.eq(stage),
                failures::response_code.eq(code),
                failures::transaction_type.eq("sale"),
                failures::firmware.eq("4.1.0"),
                failures::access.eq(one.access),
                failures::carrier.eq(one.carrier),
                failures::signal.eq("good"),
                failures::event.eq("{}"),
            ))
            .execute(conn)?;
        Ok(())
    });
}

/// Attempts of the whole fleet in one hour.
pub fn attempts(server: &TestServer, hour_ms: i64, n: i64) {
    in_transaction(server, move |conn| {
        let known: Option<i64> = cohorts::table.find(1).select(cohorts::id).first(conn).optional()?;
        if known.is_none() {
            diesel::insert_into(cohorts::table)
                .values((
                    cohorts::id.eq(1),
                    cohorts::org_path.eq("/101/102/"),
                    cohorts::model.eq(MODEL),
                    cohorts::hardware.eq("v1"),
                    cohorts::firmware.eq("4.1.0"),
                    cohorts::app.eq("1"),
                    cohorts::config_hash.eq("x"),
                    cohorts::region.eq("3101"),
                    cohorts::carrier.eq("CMCC"),
                    cohorts::access.eq("4g"),
                    cohorts::signal.eq("good"),
                    cohorts::in_update.eq("no"),
                ))
                .execute(conn)?;
        }
        diesel::insert_into(cohort_cells::table)
            .values((
                cohort_cells::hour_ms.eq(hour_ms),
                cohort_cells::cohort_id.eq(1),
                cohort_cells::check_ins.eq(n),
                cohort_cells::transactions_ok.eq(n),
                cohort_cells::transactions_failed.eq(0),
                cohort_cells::exposures.eq(n),
                cohort_cells::failed_exposures.eq(0),
                cohort_cells::failures.eq(0),
            ))
            .execute(conn)?;
        Ok(())
    });
}

/// Every hour of the week is known: one failed slot in a thousand attempts.
fn usual(server: &TestServer, weeks: i64) {
    in_transaction(server, move |conn| {
        for hour in 0..168 {
            diesel::insert_into(fleet_baselines::table)
                .values((
                    fleet_baselines::code_group.eq("bank"),
                    fleet_baselines::hour_of_week.eq(hour),
                    fleet_baselines::rate_ppb.eq(1_000_000),
                    fleet_baselines::weeks.eq(weeks),
                ))
                .execute(conn)?;
        }
        Ok(())
    });
}

/// Half past the hour: the window is the running hour.
pub fn half_past(server: &TestServer) -> Now {
    Now(server.clock.now().hour_ms() + 30 * MINUTE_MS)
}

pub fn pass(server: &TestServer, now: Now) {
    server.block_on(fleet::pass(&server.state.db, now, "UTC")).unwrap();
}

pub fn incidents_of(server: &TestServer, token: &str, kind: &str) -> Vec<Value> {
    let page = server.get(&format!("/api/v1/incidents?kind={kind}"), token).expect(200).json();
    page["items"].as_array().unwrap().clone()
}

pub fn detail(server: &TestServer, token: &str, id: &Value) -> Value {
    server.get(&format!("/api/v1/incidents/{id}"), token).expect(200).json()
}

pub fn rule(server: &TestServer, token: &str, name: &str) -> (String, Option<String>) {
    let rules = server.get("/api/v1/fleet/rules", token).expect(200).json();
    let rule = rules.as_array().unwrap().iter().find(|rule| rule["rule"] == name).unwrap().clone();
    (rule["verdict"].as_str().unwrap().to_owned(), rule["missing"].as_str().map(str::to_owned))
}

pub fn alert_kinds(detail: &Value) -> Vec<&str> {
    detail["alerts"].as_array().unwrap().iter().rev().map(|alert| alert["kind"].as_str().unwrap()).collect()
}

pub fn events(detail: &Value) -> Vec<&str> {
    detail["timeline"].as_array().unwrap().iter().rev().map(|entry| entry["event"].as_str().unwrap()).collect()
}

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

/// 16 terminals on one pool that died some minutes ago, and 40 others that were heard at another moment.
pub fn pool(now: Now, died_min: i64, others_heard_ms: i64) -> Vec<Planted> {
    let died_ms = now.0 - died_min * MINUTE_MS;
    let mut fleet: Vec<Planted> = (1..=40).map(|id| Planted::new(id, others_heard_ms)).collect();
    fleet.extend((101..=116).map(|id| Planted {
        access: "4g",
        iccid: Some(format!("898600123456789{id:05}")),
        ..Planted::new(id, died_ms - (id - 100) * 50_000)
    }));
    fleet
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

/// Days of planted terminals: each morning the counters have grown by twenty, and terminal 7 failed on these days.
pub fn days(server: &TestServer, fleet: &[Planted], bad: &[i64], slots: i64) -> Now {
    let morning = server.clock.now().0 / DAY_MS * DAY_MS + HOUR_MS;
    for day in 0..=3 {
        let now = Now(morning + day * DAY_MS);
        pass(server, now);
        in_transaction(server, move |conn| {
            diesel::update(terminal_states::table)
                .set((
                    terminal_states::transactions_ok.eq(terminal_states::transactions_ok + 20),
                    terminal_states::last_seen_ms.eq(now.0 + HOUR_MS),
                ))
                .execute(conn)?;
            Ok(())
        });
        if bad.contains(&day) {
            for slot in 0..slots {
                fail(server, &fleet[6], &format!("{day}-{slot}"), now.0 + slot * 10 * MINUTE_MS, "card_read", None);
            }
        }
    }
    Now(morning + 4 * DAY_MS)
}

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

pub fn new(kind: Kind, key: &str, terminal_ids: Vec<i64>) -> NewIncident {
    NewIncident {
        kind,
        level: Level::P2,
        org_path: "/101/102/".to_owned(),
        key: key.to_owned(),
        subject: key.to_owned(),
        evidence: json!({"outcomes": ["code:91"]}),
        rollout_id: None,
        release_id: None,
        affected: u64::try_from(terminal_ids.len()).unwrap(),
        terminal_ids,
    }
}

pub fn open_at(server: &TestServer, new: NewIncident, now: Now) -> i64 {
    in_transaction(server, move |conn| incidents::open(conn, new, now))
}

pub fn act(server: &TestServer, token: &str, id: i64, verb: &str) {
    server.post(&format!("/api/v1/incidents/{id}/{verb}"), token, &json!({"note": "x"})).expect(200);
}

#[test]
fn what_an_outage_explains_is_folded_and_told_when_it_outlasts_it() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        let now = server.clock.now();
        plant(server, vec![Planted::new(7, now.0), Planted::new(8, now.0)]);
        let before = open_at(server, new(Kind::TerminalSuspect, "terminal:8", vec![8]), now);
        let bank =
            open_at(server, NewIncident { org_path: "/101/".to_owned(), ..new(Kind::BankOutage, "bank", vec![]) }, now);
        let suspect = open_at(server, new(Kind::TerminalSuspect, "terminal:7", vec![7]), now);
        let area = open_at(server, new(Kind::AreaOutage, "area:region:3101", vec![8]), now);
        let rise = open_at(server, new(Kind::FailureRise, "rise", vec![]), now);
        let own = NewIncident { evidence: json!({"outcomes": ["stage:tls"]}), ..new(Kind::FailureRise, "own", vec![]) };
        let own = open_at(server, own, now);
        let tamper = open_at(server, new(Kind::Tamper, "terminal:7", vec![7]), now);
        let elsewhere =
            NewIncident { org_path: "/101/104/".to_owned(), ..new(Kind::AreaOutage, "area:region:5101", vec![]) };
        let under = |id: i64| {
            let shown = detail(server, &tree.admin, &json!(id));
            (shown["incident"]["parent_id"].clone(), alert_kinds(&shown).len())
        };
        for id in [suspect, area, rise] {
            assert_eq!(under(id), (json!(bank), 0), "{id}");
        }
        assert_eq!(under(open_at(server, elsewhere, now)), (json!(bank), 0), "the whole tree's bank");
        for id in [own, tamper] {
            assert_eq!(under(id), (json!(null), 1), "{id}");
        }
        // What was told before is folded when it is seen again.
        assert_eq!(under(before), (json!(null), 1));
        open_at(server, new(Kind::TerminalSuspect, "terminal:8", vec![8]), now);
        let shown = detail(server, ops, &json!(before));
        assert_eq!((events(&shown), &shown["incident"]["parent_id"]), (vec!["open", "fold"], &json!(bank)));
        assert_eq!(shown["incident"]["due_ms"], json!(null), "nobody is reminded of it");
        let list = |query: &str| -> Vec<Value> {
            server.get(&format!("/api/v1/incidents?{query}"), &tree.admin).expect(200).json()["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|row| row["id"].clone())
                .collect()
        };
        assert_eq!(list(&format!("parent_id={bank}")).len(), 5);
        assert_eq!(detail(server, &tree.admin, &json!(bank))["incident"]["folded"], 5);
        // What goes on is told when the outage is over, and what does not is over with it.
        let later = Now(now.0 + 30 * MINUTE_MS);
        server.clock.advance_ms(30 * MINUTE_MS);
        open_at(server, new(Kind::AreaOutage, "area:region:3101", vec![8]), later);
        act(server, &tree.admin, bank, "resolve");
        let shown = detail(server, ops, &json!(area));
        assert_eq!((events(&shown), alert_kinds(&shown)), (vec!["open", "unfold"], vec!["incident_opened"]));
        assert_eq!(shown["incident"]["masked_since_ms"], json!(null));
        assert!(shown["incident"]["due_ms"].is_i64());
        let shown = detail(server, ops, &json!(suspect));
        assert_eq!((events(&shown), &shown["incident"]["state"]), (vec!["open", "subside"], &json!("mitigated")));
        assert_eq!(alert_kinds(&shown), Vec::<&str>::new());
        // Seen once more after that, it is told as what came back.
        open_at(server, new(Kind::TerminalSuspect, "terminal:7", vec![7]), later);
        let shown = detail(server, ops, &json!(suspect));
        // Terminal 7 is not in the region of the area that goes on.
        assert_eq!(alert_kinds(&shown), ["incident_reopened"]);
        assert_eq!(shown["incident"]["folded"], 0);
    });
}

#[test]
fn an_area_explains_the_terminals_in_it_and_a_mitigated_outage_explains_nothing() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let now = server.clock.now();
        plant(server, vec![Planted::new(7, now.0), Planted::new(8, now.0)]);
        let area = open_at(server, new(Kind::AreaOutage, "area:region:3101", vec![8]), now);
        let inside = open_at(server, new(Kind::TerminalSuspect, "terminal:8", vec![8]), now);
        let outside = open_at(server, new(Kind::TerminalSuspect, "terminal:7", vec![7]), now);
        let parent = |id: i64| detail(server, &tree.east_ops, &json!(id))["incident"]["parent_id"].clone();
        assert_eq!((parent(inside), parent(outside)), (json!(area), json!(null)));
        let cell = open_at(server, new(Kind::AreaOutage, "area:cell:46000-7", vec![7]), now);
        open_at(server, new(Kind::TerminalSuspect, "terminal:7", vec![7]), now);
        assert_eq!(parent(outside), json!(cell), "by the report of its latest check-in");
        act(server, &tree.east_ops, cell, "mitigate");
        let shown = detail(server, &tree.east_ops, &json!(outside));
        assert_eq!(events(&shown), ["open", "fold", "unfold"]);
        let third = open_at(server, new(Kind::TerminalSuspect, "terminal:7b", vec![7]), now);
        assert_eq!(parent(third), json!(null));
        // The bell counts what stands for itself: the area is under way, its terminal is folded.
        let page = server.get(&format!("/api/v1/incidents/{inside}"), &tree.east_ops).expect(200).json();
        assert!(page["incident"]["masked_since_ms"].is_i64());
        act(server, &tree.east_ops, inside, "acknowledge");
        let shown = detail(server, &tree.east_ops, &json!(inside));
        assert_eq!(shown["incident"]["masked_since_ms"], json!(null), "somebody has it before them");
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

/// A month of a terminal's check-ins, each with five payments; every `fails`-th did not get one of them through.
pub fn month(server: &TestServer, one: &Planted, samples: i64, rsrp_dbm: i64, fails: i64, now: Now) {
    let planted = one.clone();
    in_transaction(server, move |conn| {
        for n in 0..samples {
            let (at_ms, failed) = (now.0 - (n + 1) * HOUR_MS, i64::from(n % fails == 0));
            diesel::insert_into(condition_samples::table)
                .values((
                    condition_samples::terminal_id.eq(planted.id),
                    condition_samples::at_ms.eq(at_ms),
                    condition_samples::access.eq(planted.access),
                    condition_samples::carrier.eq(planted.carrier),
                    condition_samples::rsrp_dbm.eq(rsrp_dbm),
                    condition_samples::firmware.eq("4.1.0"),
                    condition_samples::transactions_ok.eq(5 - failed),
                    condition_samples::transactions_failed.eq(failed),
                ))
                .execute(conn)?;
        }
        Ok(())
    });
    for n in (0..samples).step_by(usize::try_from(fails).unwrap()) {
        fail(server, one, &format!("m{n}"), now.0 - (n + 1) * HOUR_MS, "tls", None);
    }
}

#[test]
fn a_store_is_told_what_to_change_and_what_it_would_have_saved() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let now = server.clock.now();
        let at = |id: i64, access: &'static str, carrier: &'static str, store: &'static str| Planted {
            region: "3101",
            access,
            carrier,
            store: Some(store),
            ..Planted::new(id, now.0)
        };
        let weak = [at(1, "4g", "CMCC", "河坊街店"), at(2, "4g", "CMCC", "河坊街店")];
        let others: Vec<Planted> = (3..=14).map(|id| at(id, "eth", "unknown", "其他店")).collect();
        let quiet = at(15, "4g", "CUCC", "新店");
        plant(server, weak.iter().chain(&others).chain([&quiet]).cloned().collect());
        for one in &weak {
            month(server, one, 100, -113, 5, now);
        }
        for one in &others {
            month(server, one, 50, -80, 50, now);
        }
        server.block_on(advice::pass(&server.state.db, now)).unwrap();
        // The first store was judged before the region was known; an hour later the next round goes round.
        let later = Now(now.0 + 2 * HOUR_MS);
        server.block_on(advice::pass(&server.state.db, later)).unwrap();
        server.block_on(advice::pass(&server.state.db, later)).unwrap();
        let page = server.get("/api/v1/network-advice", &tree.east_ops).expect(200).json();
        let stores = page["items"].as_array().unwrap();
        let names: Vec<&str> = stores.iter().map(|store| store["store_name"].as_str().unwrap()).collect();
        assert_eq!(names, ["河坊街店", "其他店"], "the worst first; what measured nothing is in no list");
        let worst = &stores[0];
        assert_eq!((&worst["terminals"], &worst["attempts"], &worst["failed"]), (&json!(2), &json!(1_000), &json!(40)));
        assert_eq!(worst["judged"]["parts"][0]["name"], "failures");
        let advice = &worst["judged"]["advice"][0];
        assert_eq!((&advice["change"], &advice["to_access"]), (&json!("fixed_line"), &json!("eth")));
        assert_eq!((&advice["saved"], &advice["terminals"]), (&json!(36), &json!(12)));
        assert!(advice["saved_low"].as_i64() < advice["saved"].as_i64());
        let own = server.get("/api/v1/terminals/1/network-advice", &tree.east_ops).expect(200).json();
        assert_eq!(own[0]["store_name"], "河坊街店");
        assert_eq!(server.get("/api/v1/terminals/15/network-advice", &tree.east_ops).expect(200).json(), json!([]));
        assert_eq!(server.get("/api/v1/network-advice", &tree.west_ops).expect(200).json()["items"], json!([]));
        server.get("/api/v1/terminals/1/network-advice", &tree.west_ops).expect(404);
        let first = server.get("/api/v1/network-advice?size=1", &tree.east_ops).expect(200).json();
        let next = first["next"].as_str().unwrap();
        let second =
            server.get(&format!("/api/v1/network-advice?size=1&after={next}"), &tree.east_ops).expect(200).json();
        assert_eq!((&second["items"][0]["store_name"], &second["next"]), (&json!("其他店"), &json!(null)));
    });
}

#[test]
fn pages_show_what_is_folded_what_the_rules_said_and_what_to_change() {
    on_each_database(|server| {
        let token = admin(server);
        let path = format!("/{}/", headquarters(server, &token));
        let now = server.clock.now();
        let of_root = |kind, key: &str| NewIncident { org_path: path.clone(), ..new(kind, key, vec![]) };
        let bank = open_at(server, of_root(Kind::BankOutage, "91 · 96"), now);
        let area = open_at(server, of_root(Kind::AreaOutage, "area:region:3101"), now);
        pass(server, now);
        let store = path.clone();
        in_transaction(server, move |conn| {
            let body = json!({"links": [], "judged": {
                "score": 35, "lacks_peers": false,
                "parts": [
                    {"name": "failures", "access": "4g", "carrier": "CMCC", "score": 35, "observed": 0.04, "of": 1000},
                    {"name": "signal", "access": "4g", "carrier": "CMCC", "score": 60, "observed": 0.62, "of": 312},
                ],
                "advice": [{
                    "change": "fixed_line", "access": "4g", "carrier": "CMCC", "to_access": "eth", "to_carrier": "unknown",
                    "now": {"attempts": 1000, "failed": 31}, "then": {"attempts": 3000, "failed": 12}, "terminals": 14,
                    "saved": 12, "saved_low": 7, "saved_high": 18,
                }],
            }});
            diesel::insert_into(store_networks::table)
                .values((
                    store_networks::id.eq(1),
                    store_networks::org_path.eq(store),
                    store_networks::store_name.eq("河坊街店"),
                    store_networks::region.eq("3301"),
                    store_networks::terminals.eq(2),
                    store_networks::attempts.eq(1_000),
                    store_networks::failed.eq(31),
                    store_networks::score.eq(35),
                    store_networks::body.eq(body.to_string()),
                    store_networks::computed_at_ms.eq(0),
                ))
                .execute(conn)?;
            Ok(())
        });
        let browser = Browser::signed_in(server, ADMIN);
        let page = |path: &str| browser.get(path).expect(200).text();
        let list = page("/incidents");
        assert!(list.contains("1 folded under it"), "{list}");
        assert!(!list.contains(&format!("/incidents/{area}\"")), "it is found under the one that explains it");
        assert!(page(&format!("/incidents/{bank}")).contains("Explained by this"));
        assert!(page(&format!("/incidents/{area}")).contains("Another alert explains this one"));
        let fleet = page("/fleet");
        assert!(fleet.contains("not enough history") && fleet.contains("not judged yet"), "{fleet}");
        let advice = page("/network-advice");
        for text in ["河坊街店", "about 12 of 31 failures in 30 days (7–18)", "4.0% of payments", "at 14 terminals"]
        {
            assert!(advice.contains(text), "{text}: {advice}");
        }
        let numbers = server.get("/api/v1/fleet/kpis", &token).expect(200).json();
        assert_eq!((&numbers["in_use"], &numbers["repair_mean_ms"]), (&json!(0), &json!(null)));
    });
}
