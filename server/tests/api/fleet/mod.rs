//! The fleet's rules over what is stored: each finds what it is for, leaves what is nearly so, and says when it has too
//! little to judge by. What it finds is folded under what explains it, and terminals on WiFi call in more often for a
//! while.

mod devices;
mod folding;
mod networks;
mod over_time;
mod rates;
mod silence;

use diesel::prelude::*;
use serde_json::{Value, json};
use tillward_server::clock::Now;
use tillward_server::db::schema::{
    cohort_cells, cohorts, condition_samples, failures, fleet_baselines, terminal_states, terminals,
};
use tillward_server::db::{self, Conn};
use tillward_server::failures::fleet;
use tillward_server::failures::incidents::{self, Kind, Level, NewIncident};

use crate::harness::TestServer;
use crate::seed::MODEL;

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
pub fn usual(server: &TestServer, weeks: i64) {
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
