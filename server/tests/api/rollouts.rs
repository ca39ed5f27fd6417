//! Rollouts through REST, the planner, and what the check-in writer and the director call.

use std::collections::BTreeMap;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use serde_json::{Value, json};
use tillward_protocol::checkin::Slot;
use tillward_protocol::ids::{Sha256Hex, TerminalId};
use tillward_protocol::manifest::{Component, Manifest};
use tillward_protocol::phase::{Phase, Reason, UpdateReport};
use tillward_server::audit;
use tillward_server::clock::Now;
use tillward_server::db::schema::{assignments, rollout_counts};
use tillward_server::db::{Conn, Error};
use tillward_server::operators::{Scope, hash_of_secret};
use tillward_server::rollouts::{self, DirectorRow, Report, planner};

use crate::harness::{TestServer, on_each_database, wait_until};

/// Keys of the head office, of its reseller, of the reseller's neighbour and of the head office's auditor.
const HEAD: &str = "twk_head";
const RESELLER: &str = "twk_reseller";
const NEIGHBOUR: &str = "twk_neighbour";
const AUDITOR: &str = "twk_auditor";

const SHA256: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const DAY_MS: i64 = 24 * 3600 * 1000;

fn write(server: &TestServer, work: impl FnOnce(&mut Conn) -> Result<(), Error> + Send + 'static) {
    server.block_on(server.state.db.write(work)).unwrap();
}

fn sql(server: &TestServer, statements: String) {
    write(server, move |conn| Ok(conn.batch_execute(&statements)?));
}

/// Head office 1 with resellers 2 and 3, one model that has releases and one that has not, releases 1 (4.2.0,
/// published), 2 (a draft) and 3 (4.3.0, the neighbour's).
fn prepare(server: &TestServer) {
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
    sql(server, statements);
}

/// One enrolled terminal of model demo-p1 that runs 4.1.0; `change` alters the columns.
fn terminal(server: &TestServer, id: i64, org_path: &str, change: &[(&str, &str)]) {
    sql(server, terminal_sql(id, org_path, change));
}

fn terminal_sql(id: i64, org_path: &str, change: &[(&str, &str)]) -> String {
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
fn with_terminals(server: &TestServer, count: i64) {
    prepare(server);
    let statements: Vec<String> = (1..=count).map(|id| terminal_sql(id, "/1/", &[])).collect();
    sql(server, statements.concat());
}

fn draft(server: &TestServer, token: &str, filter: &Value) -> i64 {
    let body = json!({"name": "spring", "release_id": 1, "filter": filter});
    server.post("/api/v1/rollouts", token, &body).expect(201).json()["id"].as_i64().unwrap()
}

fn started(server: &TestServer, filter: &Value) -> i64 {
    let id = draft(server, HEAD, filter);
    let preview = server.get(&format!("/api/v1/rollouts/{id}/preview"), HEAD).expect(200).json();
    let body = json!({"confirm_count": preview["count"]});
    server.post(&format!("/api/v1/rollouts/{id}/start"), HEAD, &body).expect(200);
    id
}

fn act(server: &TestServer, id: i64, verb: &str) {
    server.post(&format!("/api/v1/rollouts/{id}/{verb}"), HEAD, &json!({"why": "a bad hour"})).expect(200);
}

fn rollout(server: &TestServer, id: i64) -> Value {
    server.get(&format!("/api/v1/rollouts/{id}"), HEAD).expect(200).json()
}

fn wait_for_count(server: &TestServer, id: i64, phase: &str, n: i64) {
    wait_until(&format!("{n} {phase}"), || rollout(server, id)["counts"][phase] == n);
}

fn wait_for_state(server: &TestServer, id: i64, state: &str) {
    wait_until(state, || rollout(server, id)["state"] == state);
}

fn director(server: &TestServer, terminal_id: i64) -> DirectorRow {
    server.block_on(server.state.db.read(move |conn| rollouts::director_order(conn, terminal_id))).unwrap()
}

/// The number of the terminal's order.
fn order(server: &TestServer, terminal_id: i64) -> i64 {
    director(server, terminal_id).entries[0].assignment
}

fn update(assignment: i64, phase: Phase, reason: Option<Reason>) -> UpdateReport {
    UpdateReport { assignment, phase, reason, detail: None, bytes: None, bytes_total: None, resumed: None }
}

fn manifest(terminal_id: i64, version: &str, sha256: &str) -> Manifest {
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

fn report(server: &TestServer, terminal_id: i64, update: Option<UpdateReport>, manifest: Option<Manifest>) {
    let now = server.clock.now();
    write(server, move |conn| {
        let report = Report { terminal_id, update: update.as_ref(), manifest: manifest.as_ref(), firmware: "4.1.0" };
        rollouts::apply_report(conn, &report, now)
    });
}

fn say(server: &TestServer, terminal_id: i64, assignment: i64, phase: Phase, reason: Option<Reason>) {
    report(server, terminal_id, Some(update(assignment, phase, reason)), None);
}

fn phase_of(server: &TestServer, assignment: i64) -> (String, Option<String>) {
    server
        .block_on(server.state.db.read(move |conn| {
            let row = assignments::table.find(assignment).select((assignments::phase, assignments::reason));
            Ok::<_, Error>(row.first(conn)?)
        }))
        .unwrap()
}

/// Checks that no terminal has two live assignments, and that the counts equal a recount. The planner may commit between
/// the two reads; a count that has drifted never comes back.
fn assert_counts_hold(server: &TestServer) {
    wait_until("the counts equal a recount", || {
        let (counted, kept) =
            server.block_on(server.state.db.read(|conn| Ok::<_, Error>((recount(conn)?, kept(conn)?)))).unwrap();
        counted == kept
    });
}

type Counts = BTreeMap<(i64, String), i64>;

fn recount(conn: &mut Conn) -> Result<Counts, Error> {
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

fn kept(conn: &mut Conn) -> Result<Counts, Error> {
    let rows = rollout_counts::table.filter(rollout_counts::n.ne(0)).select((
        rollout_counts::rollout_id,
        rollout_counts::phase,
        rollout_counts::n,
    ));
    let rows = rows.load::<(i64, String, i64)>(conn)?;
    Ok(rows.into_iter().map(|(rollout, phase, n)| ((rollout, phase), n)).collect())
}

#[test]
fn a_preview_says_how_many_and_why_not_the_others() {
    on_each_database(|server| {
        prepare(server);
        for id in 1..=30 {
            terminal(server, id, "/1/2/", &[]);
        }
        terminal(server, 31, "/1/2/", &[("firmware", "4.2.0")]);
        terminal(server, 32, "/1/2/", &[("model", "demo-p9")]);
        terminal(server, 33, "/1/2/", &[("lifecycle", "suspended")]);
        terminal(server, 34, "/1/2/", &[("enrolled", "NULL")]);
        terminal(server, 35, "/1/3/", &[]);
        let busy = started(server, &json!({"terminal_ids": [30, 35]}));
        wait_for_count(server, busy, "offered", 2);

        let id = draft(server, HEAD, &json!({"organization_id": 2}));
        let preview = server.get(&format!("/api/v1/rollouts/{id}/preview"), HEAD).expect(200).json();
        assert_eq!(preview["count"], 29);
        assert_eq!(preview["sample"].as_array().unwrap().len(), 20);
        assert_eq!(preview["sample"][0], json!({"id": 1, "sn": "SN000001", "model": "demo-p1", "firmware": "4.1.0"}));
        assert_eq!(
            preview["excluded"],
            json!([
                {"reason": "at_target", "count": 1},
                {"reason": "model_mismatch", "count": 1},
                {"reason": "lifecycle_not_allowed", "count": 1},
                {"reason": "busy_elsewhere", "count": 1},
                {"reason": "never_enrolled", "count": 1},
            ])
        );
    });
}

#[test]
fn a_filter_narrows_by_model_version_tag_and_list() {
    on_each_database(|server| {
        with_terminals(server, 4);
        sql(
            server,
            "INSERT INTO terminal_tags (tag, terminal_id) VALUES ('canary', 2), ('canary', 3), ('x', 4);".into(),
        );
        sql(server, "UPDATE terminal_states SET firmware = '4.0.0' WHERE terminal_id = 3;".into());
        let count = |filter: Value| {
            let id = draft(server, HEAD, &filter);
            server.get(&format!("/api/v1/rollouts/{id}/preview"), HEAD).expect(200).json()["count"].as_i64().unwrap()
        };
        assert_eq!(count(json!({})), 4);
        assert_eq!(count(json!({"models": ["demo-p9"]})), 0);
        assert_eq!(count(json!({"firmware": ["4.1.0"]})), 3);
        assert_eq!(count(json!({"tags": ["canary"]})), 2);
        assert_eq!(count(json!({"tags": ["canary"], "firmware": ["4.1.0"]})), 1);
        assert_eq!(count(json!({"terminal_ids": [4, 1, 99]})), 2);
        assert_eq!(count(json!({"organization_id": 2})), 0);
    });
}

#[test]
fn a_start_needs_the_count_that_the_filter_means() {
    on_each_database(|server| {
        with_terminals(server, 8);
        let id = draft(server, HEAD, &json!({}));
        let path = format!("/api/v1/rollouts/{id}/start");
        for wrong in [0, 2, 14] {
            let problem = server.post(&path, HEAD, &json!({"confirm_count": wrong})).expect(409).json();
            assert!(problem["detail"].as_str().unwrap().contains("8 now"), "{problem}");
        }
        let nobody = draft(server, HEAD, &json!({"models": ["demo-p9"]}));
        server.post(&format!("/api/v1/rollouts/{nobody}/start"), HEAD, &json!({"confirm_count": 0})).expect(409);
        let running = server.post(&path, HEAD, &json!({"confirm_count": 10})).expect(200).json();
        assert_eq!(running["state"], "running");
        server.post(&path, HEAD, &json!({"confirm_count": 8})).expect(409);
        server.post(&path, HEAD, &json!({"confirm_count": "8"})).expect(422);
        server.post(&path, HEAD, &json!({"confirm_count": 8, "force": true})).expect(422);
    });
}

#[test]
fn an_offer_becomes_a_success_only_by_the_signed_manifest() {
    on_each_database(|server| {
        with_terminals(server, 1);
        let id = started(server, &json!({}));
        wait_for_count(server, id, "offered", 1);
        let row = director(server, 1);
        assert_eq!(row.assignment_version, 1);
        let entry = &row.entries[0];
        assert_eq!(
            (entry.target_name.as_str(), entry.length_bytes, entry.sha256.as_str(), entry.release_counter),
            ("demo-p1.os.4.2.0-1.bin", 1000, SHA256, 1)
        );
        let order = entry.assignment;

        let mut downloading = update(order, Phase::Downloading, None);
        (downloading.bytes, downloading.bytes_total) = (Some(400), Some(1000));
        report(server, 1, Some(downloading), None);
        for phase in [Phase::Installing, Phase::Rebooting, Phase::Trial, Phase::Downloading, Phase::Succeeded] {
            say(server, 1, order, phase, None);
        }
        assert_eq!(phase_of(server, order).0, "trial", "a claim is no proof");
        let claim = || Some(update(order, Phase::Succeeded, None));
        report(server, 1, claim(), Some(manifest(1, "4.2.0", &"b".repeat(64))));
        report(server, 1, claim(), Some(manifest(1, "4.1.0", SHA256)));
        report(server, 1, claim(), Some(manifest(2, "4.2.0", SHA256)));
        assert_eq!(phase_of(server, order).0, "trial", "another version, digest or terminal is no proof");
        assert_eq!(director(server, 1).assignment_version, 1, "the order did not change");

        report(server, 1, claim(), Some(manifest(1, "4.2.0", SHA256)));
        assert_eq!(phase_of(server, order).0, "succeeded");
        let done = director(server, 1);
        assert_eq!((done.assignment_version, done.entries.len()), (2, 0));
        wait_for_state(server, id, "succeeded");
        assert_counts_hold(server);

        let rows = server.get(&format!("/api/v1/rollouts/{id}/assignments"), HEAD).expect(200).json();
        assert_eq!((&rows["items"][0]["bytes_done"], &rows["items"][0]["next_check_in_ms"]), (&json!(400), &json!(77)));
        let timeline = server.get("/api/v1/terminals/1/updates", HEAD).expect(200).json();
        let phases: Vec<&str> = timeline.as_array().unwrap().iter().map(|e| e["phase"].as_str().unwrap()).collect();
        for phase in ["offered", "downloading", "installing", "rebooting", "trial", "succeeded"] {
            assert!(phases.contains(&phase), "{phase} in {phases:?}");
        }
        assert_eq!(timeline[0]["release_version"], "4.2.0");
    });
}

#[test]
fn a_manifest_alone_proves_what_was_installed() {
    on_each_database(|server| {
        with_terminals(server, 2);
        let id = started(server, &json!({}));
        wait_for_count(server, id, "offered", 2);
        report(server, 1, None, Some(manifest(1, "4.2.0", SHA256)));
        report(server, 2, None, Some(manifest(2, "4.1.0", SHA256)));
        let counts = &rollout(server, id)["counts"];
        assert_eq!((&counts["succeeded"], &counts["offered"]), (&json!(1), &json!(1)));
        assert_counts_hold(server);
    });
}

#[test]
fn nonsense_reports_change_nothing_and_fail_nothing() {
    on_each_database(|server| {
        with_terminals(server, 2);
        let id = started(server, &json!({}));
        wait_for_count(server, id, "offered", 2);
        let (mine, other) = (order(server, 1), order(server, 2));
        say(server, 1, other, Phase::Failed, Some(Reason::NoSpace));
        say(server, 1, 123_456, Phase::Failed, Some(Reason::NoSpace));
        say(server, 77, mine, Phase::Failed, Some(Reason::NoSpace));
        say(server, 1, mine, Phase::Failed, None);
        assert_eq!(rollout(server, id)["counts"]["offered"], 2);
        assert_counts_hold(server);
    });
}

#[test]
fn a_refusal_under_a_number_that_the_terminal_could_not_know_is_about_its_live_order() {
    on_each_database(|server| {
        with_terminals(server, 2);
        let id = started(server, &json!({}));
        wait_for_count(server, id, "offered", 2);
        say(server, 1, 123_456, Phase::Failed, Some(Reason::WrongKey));
        assert_eq!(phase_of(server, order(server, 2)).0, "offered");
        let counts = &rollout(server, id)["counts"];
        assert_eq!((&counts["failed"], &counts["offered"]), (&json!(1), &json!(1)));
        assert_counts_hold(server);
    });
}

#[test]
fn what_passes_by_itself_ends_no_assignment_and_burns_no_attempt() {
    on_each_database(|server| {
        with_terminals(server, 2);
        let id = started(server, &json!({}));
        wait_for_count(server, id, "offered", 2);
        let (busy, broken) = (order(server, 1), order(server, 2));
        for _ in 0..3 {
            say(server, 1, busy, Phase::Downloading, None);
            say(server, 1, busy, Phase::Failed, Some(Reason::ServerBusy));
            say(server, 1, busy, Phase::Deferred, Some(Reason::NotIdle));
        }
        say(server, 2, broken, Phase::Failed, Some(Reason::DigestMismatch));
        say(server, 2, broken, Phase::Downloading, None);
        assert_eq!(phase_of(server, busy), ("offered".to_owned(), Some("not_idle".to_owned())));
        assert_eq!(phase_of(server, broken), ("failed".to_owned(), Some("digest_mismatch".to_owned())));
        let rows = server.get(&format!("/api/v1/rollouts/{id}/assignments"), HEAD).expect(200).json();
        assert_eq!((&rows["items"][0]["attempts"], &rows["items"][1]["attempts"]), (&json!(0), &json!(1)));
        let reasons = &rollout(server, id)["reasons"];
        assert_eq!(
            *reasons,
            json!([
                {"phase": "failed", "reason": "digest_mismatch", "n": 1},
                {"phase": "offered", "reason": "not_idle", "n": 1},
            ])
        );
        assert_counts_hold(server);
    });
}

#[test]
fn a_pause_takes_back_what_is_not_yet_installing_and_a_resume_offers_it_again() {
    on_each_database(|server| {
        with_terminals(server, 3);
        let id = started(server, &json!({}));
        wait_for_count(server, id, "offered", 3);
        let (downloading, installing) = (order(server, 2), order(server, 3));
        say(server, 2, downloading, Phase::Downloading, None);
        say(server, 3, installing, Phase::Installing, None);
        act(server, id, "pause");
        for terminal in 1..=3 {
            assert_eq!(director(server, terminal).entries, [], "a paused rollout offers nothing");
        }
        wait_for_count(server, id, "waiting", 2);
        assert_eq!(rollout(server, id)["counts"]["installing"], 1);
        wait_until("versions grow", || (1..=3).all(|terminal| director(server, terminal).assignment_version == 2));
        // Late words of the terminal that was downloading revive nothing.
        say(server, 2, downloading, Phase::Downloading, None);
        assert_eq!(phase_of(server, downloading).0, "waiting");
        assert_eq!(rollout(server, id)["why"], "a bad hour");

        server.post(&format!("/api/v1/rollouts/{id}/resume"), HEAD, &json!({})).expect(200);
        wait_for_count(server, id, "offered", 2);
        wait_until("versions grow", || (1..=3).all(|terminal| director(server, terminal).assignment_version == 3));
        assert_eq!(order(server, 3), installing);
        assert_counts_hold(server);
    });
}

#[test]
fn a_cancelled_rollout_offers_nothing_and_lets_go_of_its_terminals() {
    on_each_database(|server| {
        with_terminals(server, 2);
        let id = started(server, &json!({}));
        wait_for_count(server, id, "offered", 2);
        let trial = order(server, 2);
        say(server, 2, trial, Phase::Trial, None);
        act(server, id, "cancel");
        wait_for_count(server, id, "cancelled", 1);
        assert_eq!((director(server, 1).entries.len(), director(server, 2).entries.len()), (0, 0));
        // What already ran its trial still counts.
        report(server, 2, Some(update(trial, Phase::Succeeded, None)), Some(manifest(2, "4.2.0", SHA256)));
        assert_eq!(phase_of(server, trial).0, "succeeded");
        for verb in ["pause", "resume", "cancel", "start"] {
            let body = if verb == "start" { json!({"confirm_count": 2}) } else { json!({"why": "x"}) };
            server.post(&format!("/api/v1/rollouts/{id}/{verb}"), HEAD, &body).expect(409);
        }
        sql(server, "UPDATE terminal_states SET firmware = '4.2.0' WHERE terminal_id = 2;".into());
        let again = started(server, &json!({}));
        wait_for_count(server, again, "offered", 1);
        assert_counts_hold(server);
    });
}

#[test]
fn a_release_that_is_withdrawn_halts_its_rollouts() {
    on_each_database(|server| {
        with_terminals(server, 2);
        let id = started(server, &json!({}));
        wait_for_count(server, id, "offered", 2);
        sql(server, "UPDATE releases SET state = 'withdrawn' WHERE id = 1;".into());
        assert_eq!(director(server, 1).entries, []);
        wait_for_state(server, id, "halted");
        wait_for_count(server, id, "cancelled", 2);
        assert_eq!(rollout(server, id)["why"], "the release is not published any more");
        assert_counts_hold(server);
    });
}

#[test]
fn time_limits_end_what_nobody_ends() {
    on_each_database(|server| {
        with_terminals(server, 3);
        let forgotten = draft(server, HEAD, &json!({}));
        let id = started(server, &json!({}));
        wait_for_count(server, id, "offered", 3);
        let (deferred, trial) = (order(server, 2), order(server, 3));
        say(server, 3, trial, Phase::Trial, None);
        server.clock.advance_ms(DAY_MS + 1);
        wait_for_count(server, id, "timed_out", 1);
        assert_eq!(phase_of(server, trial), ("timed_out".to_owned(), Some("trial".to_owned())));
        server.clock.advance_ms(4 * DAY_MS);
        say(server, 2, deferred, Phase::Deferred, Some(Reason::NotIdle));
        say(server, 2, deferred, Phase::Deferred, Some(Reason::NotIdle));
        server.clock.advance_ms(3 * DAY_MS);
        wait_for_count(server, id, "timed_out", 2);
        assert_eq!(phase_of(server, deferred).0, "offered", "a terminal that says why is not silent");
        server.clock.advance_ms(8 * DAY_MS);
        wait_for_state(server, id, "succeeded");
        assert_eq!(rollout(server, id)["counts"]["timed_out"], 3);
        server.clock.advance_ms(20 * DAY_MS);
        wait_for_state(server, forgotten, "cancelled");
        assert_eq!(rollout(server, forgotten)["why"], "time limit");
        assert_eq!(director(server, 1).entries, []);
        assert_counts_hold(server);
    });
}

#[test]
fn other_organizations_see_and_touch_nothing() {
    on_each_database(|server| {
        with_terminals(server, 1);
        terminal(server, 2, "/1/2/", &[]);
        let id = draft(server, RESELLER, &json!({}));
        for token in [HEAD, RESELLER] {
            server.get(&format!("/api/v1/rollouts/{id}"), token).expect(200);
            let preview = server.get(&format!("/api/v1/rollouts/{id}/preview"), token).expect(200).json();
            assert_eq!(preview["sample"][0]["id"], 2, "a reseller's rollout reaches its own terminals only");
        }
        for path in ["", "/preview", "/assignments"] {
            server.get(&format!("/api/v1/rollouts/{id}{path}"), NEIGHBOUR).expect(404);
        }
        for (verb, body) in [
            ("start", json!({"confirm_count": 1})),
            ("pause", json!({"why": "x"})),
            ("resume", json!({})),
            ("cancel", json!({"why": "x"})),
        ] {
            let path = format!("/api/v1/rollouts/{id}/{verb}");
            server.post(&path, NEIGHBOUR, &body).expect(404);
            server.post(&path, AUDITOR, &body).expect(403);
            server.post(&path, "", &body).expect(401);
        }
        assert_eq!(server.get("/api/v1/rollouts", NEIGHBOUR).expect(200).json()["items"], json!([]));
        assert_eq!(server.get("/api/v1/rollouts", AUDITOR).expect(200).json()["items"][0]["id"], id);
        server.get("/api/v1/terminals/2/updates", NEIGHBOUR).expect(404);
        server.get("/api/v1/terminals/2/updates", RESELLER).expect(200);

        let try_draft = |token: &str, release: i64, filter: Value| {
            server.post("/api/v1/rollouts", token, &json!({"name": "n", "release_id": release, "filter": filter}))
        };
        assert_eq!(try_draft(RESELLER, 3, json!({})).expect(422).json()["field"], "release_id");
        assert_eq!(try_draft(RESELLER, 99, json!({})).expect(422).json()["field"], "release_id");
        let problem = try_draft(RESELLER, 1, json!({"organization_id": 1})).expect(422).json();
        assert_eq!(problem["field"], "filter.organization_id");
        try_draft(HEAD, 3, json!({})).expect(201);
        try_draft(HEAD, 2, json!({})).expect(409);
    });
}

#[test]
fn impossible_input_is_refused_by_the_fields_name() {
    on_each_database(|server| {
        with_terminals(server, 1);
        let good = json!({"name": "n", "release_id": 1, "filter": {}});
        for (field, value, named) in [
            ("name", json!(""), "name"),
            ("name", json!("card 4111 1111 1111 1111"), "name"),
            ("name", json!("x".repeat(201)), "name"),
            ("assignment_timeout_s", json!(1), "assignment_timeout_s"),
            ("filter", json!({"models": ["A B"]}), "filter.models[0]"),
            ("filter", json!({"surprise": 1}), "filter.surprise"),
            ("filter", json!({"terminal_ids": (0..10_001).collect::<Vec<_>>()}), "filter.terminal_ids"),
            ("release_id", json!("1"), "release_id"),
        ] {
            let mut body = good.clone();
            body[field] = value;
            let problem = server.post("/api/v1/rollouts", HEAD, &body).expect(422).json();
            assert_eq!(problem["field"], named, "{problem}");
        }
        server.get("/api/v1/rollouts?state=surprise", HEAD).expect(422);
        server.get("/api/v1/rollouts?size=0", HEAD).expect(422);
        server.get("/api/v1/rollouts/surprise", HEAD).expect(404);
        let id = draft(server, HEAD, &json!({}));
        server.get(&format!("/api/v1/rollouts/{id}/assignments?phase=surprise"), HEAD).expect(422);
        server.post(&format!("/api/v1/rollouts/{id}/cancel"), HEAD, &json!({"why": "  "})).expect(422);
        server.post(&format!("/api/v1/rollouts/{id}/pause"), HEAD, &json!({"why": "draft"})).expect(409);
    });
}

#[test]
fn a_release_that_was_rolled_back_on_a_terminal_is_not_offered_there_again() {
    on_each_database(|server| {
        with_terminals(server, 2);
        let id = started(server, &json!({}));
        wait_for_count(server, id, "offered", 2);
        say(server, 1, order(server, 1), Phase::RolledBack, Some(Reason::HealthCheckFailed));
        say(server, 2, order(server, 2), Phase::Failed, Some(Reason::NoSpace));
        wait_for_state(server, id, "succeeded");
        let again = draft(server, HEAD, &json!({}));
        let preview = server.get(&format!("/api/v1/rollouts/{again}/preview"), HEAD).expect(200).json();
        assert_eq!(preview["excluded"], json!([{"reason": "rolled_back_before", "count": 1}]));
        assert_eq!(preview["sample"][0]["id"], 2);
        let unsuccessful = |path: &str| {
            let scope = Scope::subtree(path);
            let found = server.state.db.read(move |conn| rollouts::unsuccessful_terminals(conn, &scope));
            let mut found = server.block_on(found).unwrap();
            found.sort_unstable();
            found
        };
        assert_eq!(unsuccessful("/1/"), [1, 2]);
        assert_eq!(unsuccessful("/9/"), Vec::<i64>::new(), "those of another organization");
        let tasks = server.block_on(server.state.db.read(|conn| rollouts::tasks(conn, &[1, 2, 3]))).unwrap();
        let phases: Vec<_> = tasks.iter().map(|(id, task)| (*id, task.phase.as_str(), task.is_live)).collect();
        assert_eq!(phases, [(1, "rolled_back", false), (2, "failed", false)]);
    });
}

#[test]
fn a_fleet_of_several_windows_is_admitted_whole_and_once() {
    on_each_database(|server| {
        with_terminals(server, 1_234);
        let first = started(server, &json!({}));
        wait_for_count(server, first, "offered", 1_234);
        assert_eq!(rollout(server, first)["is_admitted"], true);
        assert_counts_hold(server);
        let mut seen = Vec::new();
        for phase in ["", "&phase=offered"] {
            let mut after = String::new();
            seen.clear();
            loop {
                let path = format!("/api/v1/rollouts/{first}/assignments?size=100&after={after}{phase}");
                let page = server.get(&path, HEAD).expect(200).json();
                seen.extend(page["items"].as_array().unwrap().iter().map(|row| row["terminal_id"].as_i64().unwrap()));
                match page["next"].as_str() {
                    Some(next) => after = next.to_owned(),
                    None => break,
                }
            }
            assert_eq!(seen, (1..=1_234).collect::<Vec<i64>>(), "pages{phase}");
        }
        let listed = json!({"terminal_ids": (1..=1_234).collect::<Vec<i64>>()});
        let second = draft(server, HEAD, &listed);
        let preview = server.get(&format!("/api/v1/rollouts/{second}/preview"), HEAD).expect(200).json();
        assert_eq!(preview["excluded"], json!([{"reason": "busy_elsewhere", "count": 1_234}]));
        act(server, first, "cancel");
        wait_for_count(server, first, "cancelled", 1_234);
        server.post(&format!("/api/v1/rollouts/{second}/start"), HEAD, &json!({"confirm_count": 1_234})).expect(200);
        wait_for_count(server, second, "offered", 1_234);
        assert_counts_hold(server);
    });
}

#[test]
fn planners_at_once_and_reports_in_between_let_no_count_drift() {
    on_each_database(|server| {
        with_terminals(server, 600);
        let one = started(server, &json!({"terminal_ids": (1..=400).collect::<Vec<i64>>()}));
        let two = started(server, &json!({"terminal_ids": (200..=600).collect::<Vec<i64>>()}));
        let mut orders = Vec::new();
        let mut seed = 7_u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for round in 0..40 {
            let now = server.clock.now();
            let passes = (0..3).map(|_| planner::pass(&server.state.db, now));
            for passed in server.block_on(futures_util::future::join_all(passes)) {
                passed.unwrap();
            }
            if orders.is_empty() {
                orders = live_orders(server);
            }
            let said: Vec<(i64, UpdateReport)> = (0..50)
                .filter_map(|_| {
                    let pick = usize::try_from(random(u64::try_from(orders.len().max(1)).unwrap())).unwrap();
                    let &(terminal, assignment) = orders.get(pick)?;
                    let phase = Phase::ALL[usize::try_from(random(8)).unwrap()];
                    let reason = Reason::ALL[usize::try_from(random(30)).unwrap()];
                    Some((terminal, update(assignment, phase, Some(reason))))
                })
                .collect();
            write(server, move |conn| {
                let reports: Vec<Report<'_>> = said
                    .iter()
                    .map(|(terminal_id, update)| Report {
                        terminal_id: *terminal_id,
                        update: Some(update),
                        manifest: None,
                        firmware: "4.1.0",
                    })
                    .collect();
                rollouts::apply_reports(conn, &reports, now)
            });
            match round {
                10 => act(server, one, "pause"),
                20 => drop(server.post(&format!("/api/v1/rollouts/{one}/resume"), HEAD, &json!({})).expect(200)),
                30 => act(server, two, "cancel"),
                _ => {}
            }
            assert_counts_hold(server);
        }
        let verdict = server.block_on(audit::verify(&server.state.db, None)).unwrap();
        assert_eq!(verdict.broken_at, None);
        // Two creations, two starts, pause, resume, cancel.
        assert!(verdict.entries >= 7, "{verdict:?}");
    });
}

fn live_orders(server: &TestServer) -> Vec<(i64, i64)> {
    server
        .block_on(server.state.db.read(|conn| {
            let rows =
                assignments::table.filter(assignments::live.eq(1)).select((assignments::terminal_id, assignments::id));
            Ok::<_, Error>(rows.load(conn)?)
        }))
        .unwrap()
}

#[test]
fn deadlines_are_read_from_the_clock_that_is_passed_in() {
    on_each_database(|server| {
        with_terminals(server, 1);
        let id = started(server, &json!({}));
        wait_for_count(server, id, "offered", 1);
        let later = Now(server.clock.now().0 + 8 * DAY_MS);
        server.block_on(planner::pass(&server.state.db, later)).unwrap();
        wait_for_count(server, id, "timed_out", 1);
    });
}
