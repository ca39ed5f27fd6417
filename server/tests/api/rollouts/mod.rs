//! Rollouts through REST, the planner, and what the check-in writer and the director call.

use std::collections::BTreeMap;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use serde_json::{Value, json};
use tillward_protocol::checkin::Slot;
use tillward_protocol::ids::{Sha256Hex, TerminalId};
use tillward_protocol::manifest::{Component, Manifest};
use tillward_protocol::phase::{Phase, Reason, UpdateReport};
use tillward_server::clock::Now;
use tillward_server::db::schema::{assignments, rollout_counts};
use tillward_server::db::{Conn, Error};
use tillward_server::http::tokens::TerminalSession;
use tillward_server::operators::{Scope, hash_of_secret};
use tillward_server::rollouts::{self, Report, planner};
use tillward_server::signing::director::Desired;
use tillward_server::{audit, releases};

use crate::harness::{TestServer, wait_until};

mod approval;
mod bare;
mod clocks;
mod faults;
mod gate;
mod invariants;
mod journal;
mod kills;
mod order;
mod plain;
mod plans;
mod profile;
mod races;
mod undo;
mod walks;

/// Keys of the head office, of its reseller, of the reseller's neighbour and of the head office's auditor.
pub(super) const HEAD: &str = "twk_head";
pub(super) const RESELLER: &str = "twk_reseller";
pub(super) const NEIGHBOUR: &str = "twk_neighbour";
pub(super) const AUDITOR: &str = "twk_auditor";

pub(super) const SHA256: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
pub(super) const DAY_MS: i64 = 24 * 3600 * 1000;
pub(super) const HOUR_MS: i64 = 3_600_000;
pub(super) const MINUTE_MS: i64 = 60_000;

pub(super) fn write(server: &TestServer, work: impl FnOnce(&mut Conn) -> Result<(), Error> + Send + 'static) {
    server.block_on(server.state.db.write(work)).unwrap();
}

pub(super) fn sql(server: &TestServer, statements: String) {
    write(server, move |conn| Ok(conn.batch_execute(&statements)?));
}

/// Head office 1 with resellers 2 and 3, one model that has releases and one that has not, releases 1 (4.2.0,
/// published), 2 (a draft) and 3 (4.3.0, the neighbour's).
pub(super) fn prepare(server: &TestServer) {
    sql(server, prepared());
}

/// The statements of [`prepare`].
pub(super) fn prepared() -> String {
    let mut statements = String::new();
    for (id, parent, path) in [(1, "NULL", "/1/"), (2, "1", "/1/2/"), (3, "1", "/1/3/")] {
        statements.push_str(&format!(
            "INSERT INTO organizations (id, parent_id, path, level, name, short_code, status, created_at_ms, version)
             VALUES ({id}, {parent}, '{path}', 0, 'o{id}', 'o{id}', 'active', 0, 1);"
        ));
    }
    statements.push_str(
        "INSERT INTO operators (id, organization_id, org_path, login, name, password_hash, role, status, language,
             created_at_ms, version)
         VALUES (1, 1, '/1/', 'root', 'root', '', 'platform_admin', 'active', 'en', 0, 1);
         INSERT INTO models (code, name, capabilities, created_at_ms)
         VALUES ('demo-p1', 'P1', '{}', 0), ('demo-p9', 'P9', '{}', 0);",
    );
    for (id, organization, path, role, secret) in [
        (1, 1, "/1/", "platform_admin", HEAD),
        (2, 2, "/1/2/", "org_admin", RESELLER),
        (3, 3, "/1/3/", "org_admin", NEIGHBOUR),
        (4, 1, "/1/", "auditor", AUDITOR),
    ] {
        let hash = hash_of_secret(secret);
        statements.push_str(&format!(
            "INSERT INTO api_keys (id, organization_id, org_path, created_by, name, role, key_hash, key_prefix,
                 created_at_ms, expires_at_ms)
             VALUES ({id}, {organization}, '{path}', 1, '{secret}', '{role}', '{hash}', '', 0, {});",
            i64::MAX
        ));
    }
    for (id, organization, path, version, state) in
        [(1, 1, "/1/", "4.2.0", "published"), (2, 1, "/1/", "4.4.0", "draft"), (3, 3, "/1/3/", "4.3.0", "published")]
    {
        statements.push_str(&format!(
            "INSERT INTO releases (id, organization_id, org_path, name, component, firmware_version, release_counter,
                 models, requires, sha256, length_bytes, notes, state, created_by, created_by_name, created_at_ms, version)
             VALUES ({id}, {organization}, '{path}', 'r{id}', 'os', '{version}', {id}, '[\"demo-p1\"]', '[]', '{SHA256}',
                 1000, '', '{state}', 1, 'root', 0, 1);
             INSERT INTO release_models (model, component, release_counter, release_id, target_name)
             VALUES ('demo-p1', 'os', {id}, {id}, 'demo-p1.os.{version}-{id}.bin');"
        ));
    }
    statements
}

/// One enrolled terminal of model demo-p1 that runs 4.1.0; `change` alters the columns.
pub(super) fn terminal(server: &TestServer, id: i64, org_path: &str, change: &[(&str, &str)]) {
    sql(server, terminal_sql(id, org_path, change));
}

pub(super) fn terminal_sql(id: i64, org_path: &str, change: &[(&str, &str)]) -> String {
    let with = |name: &str, usual: &str| {
        change.iter().find(|(changed, _)| *changed == name).map_or(usual, |(_, value)| value).to_owned()
    };
    let organization = org_path.trim_matches('/').rsplit('/').next().unwrap();
    let (model, lifecycle) = (with("model", "demo-p1"), with("lifecycle", "active"));
    let (enrolled, firmware) = (with("enrolled", "0"), with("firmware", "4.1.0"));
    let mut statement = format!(
        "INSERT INTO terminals (id, sn, sn_reversed, model, organization_id, org_path, region, lifecycle, session_epoch,
             enrolled_at_ms, stream, assignment_version, created_at_ms, version)
         VALUES ({id}, 'SN{id:06}', 'R{id:06}', '{model}', {organization}, '{org_path}', '', '{lifecycle}', 0, {enrolled},
             0, 0, 0, 1);"
    );
    if enrolled != "NULL" {
        statement.push_str(&format!(
            "INSERT INTO terminal_states (terminal_id, stream, seq, first_seen_ms, last_seen_ms, next_check_in_ms,
                 interval_s, sampled_at_ms, check_ins, failures, transactions_ok, transactions_failed, firmware, slot,
                 agent, access, carrier, signal, report)
             VALUES ({id}, 1, 1, 0, 0, 77, 900, 0, 1, 0, 0, 0, '{firmware}', 'a', '1', '4g', '', '', '{{}}');"
        ));
    }
    statement
}

/// A prepared server with terminals 1 to `count` of the head office.
pub(super) fn with_terminals(server: &TestServer, count: i64) {
    prepare(server);
    let statements: Vec<String> = (1..=count).map(|id| terminal_sql(id, "/1/", &[])).collect();
    sql(server, statements.concat());
}

pub(super) fn draft(server: &TestServer, token: &str, filter: &Value) -> i64 {
    let body = json!({"name": "spring", "release_id": 1, "filter": filter});
    server.post("/api/v1/rollouts", token, &body).expect(201).json()["id"].as_i64().unwrap()
}

pub(super) fn started(server: &TestServer, filter: &Value) -> i64 {
    let id = draft(server, HEAD, filter);
    start(server, id);
    id
}

/// Starts a draft with the count that its preview shows; the planner may admit terminals to another rollout in between.
pub(super) fn start(server: &TestServer, id: i64) {
    wait_until("the draft starts", || {
        let preview = server.get(&format!("/api/v1/rollouts/{id}/preview"), HEAD).expect(200).json();
        let body = json!({"confirm_count": preview["count"]});
        server.post(&format!("/api/v1/rollouts/{id}/start"), HEAD, &body).status == 200
    });
}

pub(super) fn act(server: &TestServer, id: i64, verb: &str) {
    server.post(&format!("/api/v1/rollouts/{id}/{verb}"), HEAD, &json!({"why": "a bad hour"})).expect(200);
}

pub(super) fn rollout(server: &TestServer, id: i64) -> Value {
    server.get(&format!("/api/v1/rollouts/{id}"), HEAD).expect(200).json()
}

pub(super) fn wait_for_count(server: &TestServer, id: i64, phase: &str, n: i64) {
    wait_until(&format!("{n} {phase}"), || rollout(server, id)["counts"][phase] == n);
}

pub(super) fn wait_for_state(server: &TestServer, id: i64, state: &str) {
    wait_until(state, || rollout(server, id)["state"] == state);
}

/// What the director says to a terminal now.
pub(super) fn director(server: &TestServer, terminal_id: i64) -> Desired {
    let session = TerminalSession { terminal_id: TerminalId(terminal_id), epoch: 0, expires_s: i64::MAX };
    server.block_on(releases::desired(&server.state.db, session)).unwrap().expect("the session is open")
}

/// The number of the terminal's order.
pub(super) fn order(server: &TestServer, terminal_id: i64) -> i64 {
    director(server, terminal_id).orders[0].assignment
}

pub(super) fn update(assignment: i64, phase: Phase, reason: Option<Reason>) -> UpdateReport {
    UpdateReport { assignment, phase, reason, detail: None, bytes: None, bytes_total: None, resumed: None }
}

pub(super) fn manifest(terminal_id: i64, version: &str, sha256: &str) -> Manifest {
    Manifest {
        terminal_id: TerminalId(terminal_id),
        counter: 1,
        components: vec![Component {
            name: "os".to_owned(),
            version: version.parse().unwrap(),
            sha256: Some(sha256.parse::<Sha256Hex>().unwrap()),
            release_counter: 1,
        }],
        slot: Slot::B,
        image_root: 1,
        director_root: 1,
        director_version: 1,
        refusal: None,
    }
}

pub(super) fn report(server: &TestServer, terminal_id: i64, update: Option<UpdateReport>, manifest: Option<Manifest>) {
    let now = server.clock.now();
    write(server, move |conn| {
        let report = Report {
            terminal_id,
            update: update.as_ref(),
            manifest: manifest.as_ref(),
            firmware: "4.1.0",
            is_configured: false,
        };
        rollouts::apply_report(conn, &report, now)
    });
}

pub(super) fn say(server: &TestServer, terminal_id: i64, assignment: i64, phase: Phase, reason: Option<Reason>) {
    report(server, terminal_id, Some(update(assignment, phase, reason)), None);
}

pub(super) fn phase_of(server: &TestServer, assignment: i64) -> (String, Option<String>) {
    server
        .block_on(server.state.db.read(move |conn| {
            let row = assignments::table.find(assignment).select((assignments::phase, assignments::reason));
            Ok::<_, Error>(row.first(conn)?)
        }))
        .unwrap()
}

/// Checks that no terminal has two live assignments, and that the counts equal a recount. The planner may commit between
/// the two reads; a count that has drifted never comes back.
pub(super) fn assert_counts_hold(server: &TestServer) {
    wait_until("the counts equal a recount", || {
        let (counted, kept) =
            server.block_on(server.state.db.read(|conn| Ok::<_, Error>((recount(conn)?, kept(conn)?)))).unwrap();
        counted == kept
    });
}

pub(super) type Counts = BTreeMap<(i64, String), i64>;

pub(super) fn recount(conn: &mut Conn) -> Result<Counts, Error> {
    let mut counted = Counts::new();
    let mut live: BTreeMap<i64, i64> = BTreeMap::new();
    let rows = assignments::table.select((
        assignments::rollout_id,
        assignments::phase,
        assignments::terminal_id,
        assignments::live,
    ));
    for (rollout, phase, terminal, is_live) in rows.load::<(i64, String, i64, i64)>(conn)? {
        *counted.entry((rollout, phase)).or_default() += 1;
        *live.entry(terminal).or_default() += is_live;
    }
    assert!(live.values().all(|&n| n <= 1), "{live:?}");
    Ok(counted)
}

pub(super) fn kept(conn: &mut Conn) -> Result<Counts, Error> {
    let rows = rollout_counts::table.filter(rollout_counts::n.ne(0)).select((
        rollout_counts::rollout_id,
        rollout_counts::phase,
        rollout_counts::n,
    ));
    let rows = rows.load::<(i64, String, i64)>(conn)?;
    Ok(rows.into_iter().map(|(rollout, phase, n)| ((rollout, phase), n)).collect())
}

pub(super) fn post(server: &TestServer, path: &str, body: &Value, status: u16) -> Value {
    server.post(path, HEAD, body).expect(status).json()
}

/// A draft with a strategy and other fields of a new rollout.
pub(super) fn staged(server: &TestServer, strategy: &Value, more: &Value) -> i64 {
    let mut body = json!({"name": "spring", "release_id": 1, "strategy": strategy});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    post(server, "/api/v1/rollouts", &body, 201)["id"].as_i64().unwrap()
}

pub(super) fn running(server: &TestServer, strategy: &Value) -> i64 {
    let id = staged(server, strategy, &json!({}));
    start(server, id);
    id
}

/// Live assignments that are ordered: terminal and number.
pub(super) fn ordered(server: &TestServer, id: i64) -> Vec<(i64, i64)> {
    server
        .block_on(server.state.db.read(move |conn| {
            Ok::<_, Error>(
                assignments::table
                    .filter(assignments::rollout_id.eq(id))
                    .filter(assignments::live.eq(1))
                    .filter(assignments::phase.ne("waiting"))
                    .order(assignments::id)
                    .select((assignments::terminal_id, assignments::id))
                    .load(conn)?,
            )
        }))
        .unwrap()
}

pub(super) fn succeed(server: &TestServer, (terminal, assignment): (i64, i64)) {
    let update = update(assignment, Phase::Succeeded, None);
    report(server, terminal, Some(update), Some(manifest(terminal, "4.2.0", SHA256)));
}

/// All of these say at once that they went back.
pub(super) fn all_roll_back(server: &TestServer, orders: &[(i64, i64)]) {
    let (now, orders) = (server.clock.now(), orders.to_vec());
    write(server, move |conn| {
        let said: Vec<(i64, UpdateReport)> = orders
            .into_iter()
            .map(|(terminal, id)| (terminal, update(id, Phase::RolledBack, Some(Reason::HealthCheckFailed))))
            .collect();
        let reports: Vec<Report<'_>> = said
            .iter()
            .map(|(terminal_id, update)| Report {
                terminal_id: *terminal_id,
                update: Some(update),
                manifest: None,
                firmware: "4.1.0",
                is_configured: false,
            })
            .collect();
        rollouts::apply_reports(conn, &reports, now)
    });
}

/// All terminals called just now.
pub(super) fn everybody_calls(server: &TestServer) {
    everybody_called_at(server, server.clock.now().0);
}

pub(super) fn everybody_called_at(server: &TestServer, at_ms: i64) {
    sql(server, format!("UPDATE terminal_states SET last_seen_ms = {at_ms}"));
}

pub(super) fn waits(server: &TestServer, id: i64) -> BTreeMap<String, i64> {
    let path = format!("/api/v1/rollouts/{id}/assignments?phase=waiting&size=100");
    let page = server.get(&path, HEAD).expect(200).json();
    let mut waits = BTreeMap::new();
    for row in page["items"].as_array().unwrap() {
        *waits.entry(row["wait"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    waits
}
