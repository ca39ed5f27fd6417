//! Rollouts in stages: order, windows, limits, approval, the gate, and what people do when it stops.

use tillward_server::rollouts::gate::Class;
use tillward_server::rollouts::{TerminalFailure, note_failures};

use super::*;
use crate::harness::{on_each_database, on_each_database_with};

const HOUR_MS: i64 = 3_600_000;
const MINUTE_MS: i64 = 60_000;
/// Another person of the head office.
const SECOND: &str = "twk_second";

fn post(server: &TestServer, path: &str, body: &Value, status: u16) -> Value {
    server.post(path, HEAD, body).expect(status).json()
}

/// A draft with a strategy and other fields of a new rollout.
fn staged(server: &TestServer, strategy: &Value, more: &Value) -> i64 {
    let mut body = json!({"name": "spring", "release_id": 1, "strategy": strategy});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    post(server, "/api/v1/rollouts", &body, 201)["id"].as_i64().unwrap()
}

fn running(server: &TestServer, strategy: &Value) -> i64 {
    let id = staged(server, strategy, &json!({}));
    start(server, id);
    id
}

/// Live assignments that are ordered: terminal and number.
fn ordered(server: &TestServer, id: i64) -> Vec<(i64, i64)> {
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

fn succeed(server: &TestServer, (terminal, assignment): (i64, i64)) {
    let update = update(assignment, Phase::Succeeded, None);
    report(server, terminal, Some(update), Some(manifest(terminal, "4.2.0", SHA256)));
}

/// All of these say at once that they went back.
fn all_roll_back(server: &TestServer, orders: &[(i64, i64)]) {
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
fn everybody_calls(server: &TestServer) {
    everybody_called_at(server, server.clock.now().0);
}

fn everybody_called_at(server: &TestServer, at_ms: i64) {
    sql(server, format!("UPDATE terminal_states SET last_seen_ms = {at_ms}"));
}

fn waits(server: &TestServer, id: i64) -> BTreeMap<String, i64> {
    let path = format!("/api/v1/rollouts/{id}/assignments?phase=waiting&size=100");
    let page = server.get(&path, HEAD).expect(200).json();
    let mut waits = BTreeMap::new();
    for row in page["items"].as_array().unwrap() {
        *waits.entry(row["wait"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    waits
}

#[test]
fn a_stage_opens_when_the_one_before_has_ended_and_the_hold_back_comes_last() {
    on_each_database(|server| {
        with_terminals(server, 100);
        let id = running(server, &json!({"stages": [{"count": 3}, {"percent": 50}], "hold_back_percent": 5}));
        wait_for_count(server, id, "offered", 3);
        let first = ordered(server, id);
        assert_eq!(rollout(server, id)["stage"], 0);
        assert_eq!(waits(server, id), BTreeMap::from([("stage".to_owned(), 97)]));
        for order in &first {
            succeed(server, *order);
        }
        server.clock.advance_ms(10_000);
        // 20 terminals are held back; half of the other 80 less the first three.
        wait_for_count(server, id, "offered", 37);
        assert_eq!(rollout(server, id)["stage"], 1);
        for (stage, offered) in [(2, 40), (3, 20)] {
            for order in ordered(server, id) {
                succeed(server, order);
            }
            server.clock.advance_ms(10_000);
            wait_for_count(server, id, "offered", offered);
            assert_eq!(rollout(server, id)["stage"], stage);
        }
        let detail = rollout(server, id);
        assert_eq!(detail["stage_views"][3]["is_hold_back"], true);
        assert_eq!(detail["stage_views"][0]["finished"], 3);
        for order in ordered(server, id) {
            succeed(server, order);
        }
        wait_for_state(server, id, "succeeded");
        assert_counts_hold(server);
    });
}

#[test]
fn a_soak_time_is_waited_for_and_a_stage_never_is_one_neighbourhood() {
    on_each_database(|server| {
        with_terminals(server, 200);
        let id = running(server, &json!({"stages": [{"count": 40}], "soak_s": 3600}));
        wait_for_count(server, id, "offered", 40);
        let first = ordered(server, id);
        let low = first.iter().filter(|(terminal, _)| *terminal <= 100).count();
        assert!((8..=32).contains(&low), "{low} of 40 are among the first hundred");
        // Ten never answer: they do not keep the others waiting once the soak is over.
        for order in first.iter().skip(10) {
            succeed(server, *order);
        }
        server.clock.advance_ms(HOUR_MS - 60_000);
        server.block_on(planner::pass(&server.state.db, server.clock.now())).unwrap();
        assert_eq!(rollout(server, id)["stage"], 0);
        server.clock.advance_ms(2 * MINUTE_MS);
        wait_for_count(server, id, "offered", 170);
        assert_eq!(rollout(server, id)["stage"], 1);
    });
}

#[test]
fn a_stage_by_tag_takes_the_named_and_the_block_list_takes_nobody() {
    on_each_database(|server| {
        with_terminals(server, 30);
        sql(
            server,
            "INSERT INTO terminal_tags (tag, terminal_id) VALUES ('canary', 7), ('canary', 21), ('never', 8)"
                .to_owned(),
        );
        let strategy = json!({"stages": [{"tag": "canary"}, {"count": 5}]});
        let filter = json!({"exclude_tags": ["never"], "exclude_terminal_ids": [9, 10]});
        let id = staged(server, &strategy, &json!({"filter": filter}));
        let preview = server.get(&format!("/api/v1/rollouts/{id}/preview"), HEAD).expect(200).json();
        assert_eq!(preview["count"], 27);
        assert_eq!(preview["excluded"], json!([{"reason": "block_listed", "count": 3}]));
        start(server, id);
        wait_for_count(server, id, "offered", 2);
        let named = ordered(server, id);
        assert_eq!(named.iter().map(|(terminal, _)| *terminal).collect::<Vec<_>>(), [7, 21]);
        named.into_iter().for_each(|order| succeed(server, order));
        server.clock.advance_ms(10_000);
        wait_for_count(server, id, "offered", 3);
    });
}

#[test]
fn nothing_is_offered_outside_the_windows_and_a_closing_window_takes_the_offer_back() {
    on_each_database(|server| {
        with_terminals(server, 3);
        sql(server, "UPDATE terminals SET utc_offset_min = 0 WHERE id = 3".to_owned());
        // To the next 00:30 in China, which is 16:30 in London.
        let now = server.clock.now().0;
        let to = (24 * HOUR_MS + 16 * HOUR_MS + 30 * MINUTE_MS - now.rem_euclid(24 * HOUR_MS)).rem_euclid(24 * HOUR_MS);
        server.clock.advance_ms(to);
        let windows = json!([{"from": "02:00", "until": "05:00"}]);
        let id = running(server, &json!({"windows": windows}));
        wait_until("all wait for their window", || waits(server, id) == BTreeMap::from([("window".to_owned(), 3)]));
        server.clock.advance_ms(2 * HOUR_MS);
        wait_for_count(server, id, "offered", 2);
        let orders = ordered(server, id);
        assert_eq!(orders.iter().map(|(terminal, _)| *terminal).collect::<Vec<_>>(), [1, 2]);
        let (terminal, assignment) = orders[0];
        say(server, terminal, assignment, Phase::Installing, None);
        let version = director(server, 2).assignment_version;
        everybody_called_at(server, server.clock.now().0 + 24 * HOUR_MS);
        server.clock.advance_ms(3 * HOUR_MS);
        // The one that installs goes on; the other waits for the next night.
        wait_for_count(server, id, "waiting", 2);
        assert_eq!(phase_of(server, assignment).0, "installing");
        assert!(director(server, 2).orders.is_empty());
        assert!(director(server, 2).assignment_version > version);
        wait_until("both wait for their window", || waits(server, id).get("window") == Some(&2));
        server.clock.advance_ms(5 * HOUR_MS);
        wait_for_count(server, id, "offered", 1);
        assert_eq!(ordered(server, id).iter().filter(|(terminal, _)| *terminal == 3).count(), 1);
        assert_counts_hold(server);
    });
}

#[test]
fn limits_hold_in_all_and_in_one_store() {
    on_each_database(|server| {
        with_terminals(server, 12);
        sql(server, "UPDATE terminals SET merchant_no = '850331053110612', store_name = 'A' WHERE id <= 6".to_owned());
        everybody_calls(server);
        let id = running(server, &json!({"in_flight_max": 8, "in_flight_per_site_max": 2, "wifi_only": true}));
        wait_until("as many as may be", || {
            let orders = ordered(server, id);
            orders.len() == 8 && orders.iter().filter(|(terminal, _)| *terminal <= 6).count() == 2
        });
        let orders = ordered(server, id);
        assert!(director(server, orders[0].0).orders[0].wifi_only);
        let done = orders.iter().find(|(terminal, _)| *terminal <= 6).unwrap();
        succeed(server, *done);
        server.clock.advance_ms(2 * MINUTE_MS);
        everybody_calls(server);
        wait_until("the store's next", || {
            let orders = ordered(server, id);
            orders.len() == 8 && orders.iter().filter(|(terminal, _)| *terminal <= 6).count() == 2
        });
        assert_counts_hold(server);
    });
}

#[test]
fn a_silent_terminal_holds_no_place_that_others_wait_for() {
    on_each_database(|server| {
        with_terminals(server, 4);
        everybody_calls(server);
        sql(server, "UPDATE terminal_states SET last_seen_ms = 0 WHERE terminal_id IN (1, 2)".to_owned());
        let id = running(server, &json!({"in_flight_max": 3}));
        wait_for_count(server, id, "offered", 2);
        wait_until("the silent ones say why", || waits(server, id).get("offline") == Some(&2));
        assert_eq!(ordered(server, id).iter().map(|(terminal, _)| *terminal).collect::<Vec<_>>(), [3, 4]);
    });
}

#[test]
fn the_higher_priority_takes_over_what_waits_and_never_what_is_offered() {
    on_each_database(|server| {
        with_terminals(server, 4);
        let low = running(server, &json!({"stages": [{"count": 1}], "soak_s": 3600}));
        wait_for_count(server, low, "offered", 1);
        wait_for_count(server, low, "waiting", 3);
        let same = staged(server, &json!({}), &json!({}));
        let preview = server.get(&format!("/api/v1/rollouts/{same}/preview"), HEAD).expect(200).json();
        assert_eq!(preview["excluded"], json!([{"reason": "busy_elsewhere", "count": 4}]));
        let high = staged(server, &json!({}), &json!({"priority": 5}));
        start(server, high);
        wait_for_count(server, high, "offered", 3);
        wait_for_count(server, low, "cancelled", 3);
        assert_eq!(rollout(server, low)["counts"]["offered"], 1);
        assert_counts_hold(server);
    });
}

#[test]
fn a_dynamic_rollout_takes_in_later_matches_until_its_end() {
    on_each_database(|server| {
        with_terminals(server, 2);
        let now = server.clock.now().0;
        let dates = json!({"ends_at_ms": now + 24 * HOUR_MS});
        let id = staged(server, &json!({"is_dynamic": true}), &dates);
        start(server, id);
        wait_for_count(server, id, "offered", 2);
        terminal(server, 3, "/1/", &[]);
        server.clock.advance_ms(6 * MINUTE_MS);
        wait_for_count(server, id, "offered", 3);
        ordered(server, id).into_iter().for_each(|order| succeed(server, order));
        server.clock.advance_ms(HOUR_MS);
        server.block_on(planner::pass(&server.state.db, server.clock.now())).unwrap();
        assert_eq!(rollout(server, id)["state"], "running");
        server.clock.advance_ms(24 * HOUR_MS);
        wait_for_state(server, id, "succeeded");
        let refused = server.post(
            "/api/v1/rollouts",
            HEAD,
            &json!({"name": "x", "release_id": 1, "strategy": {"is_dynamic": true}}),
        );
        assert_eq!(refused.expect(422).json()["field"], "ends_at_ms");
    });
}

#[test]
fn a_planned_start_is_waited_for_and_promised_dates_are_kept() {
    on_each_database(|server| {
        prepare(server);
        terminal(server, 1, "/1/2/", &[]);
        terminal(server, 2, "/1/3/", &[]);
        let now = server.clock.now().0;
        let strategy = json!({"announcements": [{"organization_id": 2, "not_before_ms": now + 48 * HOUR_MS}]});
        let id = staged(server, &strategy, &json!({"starts_at_ms": now + 24 * HOUR_MS}));
        start(server, id);
        server.block_on(planner::pass(&server.state.db, server.clock.now())).unwrap();
        assert!(ordered(server, id).is_empty());
        let told = server.get("/api/v1/announcements", RESELLER).expect(200).json();
        assert_eq!(told[0]["not_before_ms"], now + 48 * HOUR_MS);
        assert_eq!(server.get("/api/v1/announcements", NEIGHBOUR).expect(200).json(), json!([]));
        server.clock.advance_ms(24 * HOUR_MS);
        wait_for_count(server, id, "offered", 1);
        assert_eq!(ordered(server, id)[0].0, 2);
        wait_until("the promise is shown", || waits(server, id).get("announced") == Some(&1));
        server.clock.advance_ms(24 * HOUR_MS);
        wait_for_count(server, id, "offered", 2);
    });
}

#[test]
fn a_failed_attempt_is_tried_again_later_and_not_for_ever() {
    on_each_database(|server| {
        with_terminals(server, 1);
        let id = staged(server, &json!({}), &json!({"retry_max": 1, "retry_wait_s": 600}));
        start(server, id);
        wait_for_count(server, id, "offered", 1);
        let (terminal, assignment) = ordered(server, id)[0];
        say(server, terminal, assignment, Phase::Failed, Some(Reason::InstallerFailed));
        assert_eq!(phase_of(server, assignment).0, "waiting");
        wait_until("it says so", || waits(server, id).get("retry") == Some(&1));
        assert!(director(server, terminal).orders.is_empty());
        server.clock.advance_ms(9 * MINUTE_MS);
        server.block_on(planner::pass(&server.state.db, server.clock.now())).unwrap();
        assert_eq!(phase_of(server, assignment).0, "waiting");
        server.clock.advance_ms(2 * MINUTE_MS);
        wait_for_count(server, id, "offered", 1);
        say(server, terminal, assignment, Phase::Failed, Some(Reason::InstallerFailed));
        assert_eq!(phase_of(server, assignment), ("failed".to_owned(), Some("installer_failed".to_owned())));
        wait_for_state(server, id, "succeeded");
        let detail = rollout(server, id);
        assert_eq!(detail["stage_views"][0]["failed"], 1);
        assert_eq!(detail["stage_views"][0]["started"], 1);
        // A person may try the failed ones again: a new rollout, with the same release, to just these.
        let again = post(server, &format!("/api/v1/rollouts/{id}/retry"), &json!({}), 201);
        assert_eq!(again["parent_id"], id);
        let preview = server.get(&format!("/api/v1/rollouts/{}/preview", again["id"]), HEAD).expect(200).json();
        assert_eq!((&preview["count"], &preview["sample"][0]["id"]), (&json!(1), &json!(terminal)));
    });
}

#[test]
fn what_may_not_start_from_here_waits_for_what_comes_first() {
    on_each_database(|server| {
        with_terminals(server, 3);
        sql(
            server,
            "UPDATE releases SET min_from_counter = 10, requires = '[{\"component\":\"app\",\"release_counter\":5}]'
                 WHERE id = 1;
             INSERT INTO releases (id, organization_id, org_path, name, component, firmware_version, release_counter,
                 models, requires, sha256, length_bytes, notes, state, created_by, created_by_name, created_at_ms, version)
             VALUES (8, 1, '/1/', 'old', 'os', '4.1.0', 9, '[]', '[]', '', 1, '', 'published', 1, 'root', 0, 1),
                    (9, 1, '/1/', 'step', 'os', '4.1.5', 10, '[]', '[]', '', 1, '', 'published', 1, 'root', 0, 1),
                    (10, 1, '/1/', 'app', 'app', '2.0', 4, '[]', '[]', '', 1, '', 'published', 1, 'root', 0, 1);
             UPDATE terminal_states SET firmware = '4.1.5' WHERE terminal_id IN (2, 3);
             UPDATE terminal_states SET app = '2.0' WHERE terminal_id = 3"
                .to_owned(),
        );
        let id = staged(server, &json!({}), &json!({}));
        let preview = server.get(&format!("/api/v1/rollouts/{id}/preview"), HEAD).expect(200).json();
        assert_eq!(preview["count"], 1);
        let excluded = json!([{"reason": "below_minimum", "count": 1}, {"reason": "requirement_missing", "count": 1}]);
        assert_eq!(preview["excluded"], excluded);
        assert_eq!(preview["sample"][0]["id"], 2);
    });
}

fn with_second_person(server: &TestServer) {
    let hash = hash_of_secret(SECOND);
    sql(
        server,
        format!(
            "INSERT INTO api_keys (id, organization_id, org_path, created_by, name, role, key_hash, key_prefix,
                 created_at_ms, expires_at_ms)
             VALUES (9, 1, '/1/', 1, 'second', 'approver', '{hash}', '', 0, {})",
            i64::MAX
        ),
    );
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
        let own = server.post(&path("approve"), HEAD, &json!({})).expect(409).text();
        assert!(own.contains("their own request"), "{own}");
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

#[test]
fn a_build_that_rolls_back_is_halted_with_an_incident_and_only_a_person_goes_on() {
    on_each_database(|server| {
        with_terminals(server, 60);
        let id = running(server, &json!({"stages": [{"count": 10}], "hold_back_percent": 5}));
        wait_for_count(server, id, "offered", 10);
        let orders = ordered(server, id);
        say(server, orders[9].0, orders[9].1, Phase::Installing, None);
        say(server, orders[8].0, orders[8].1, Phase::Downloading, None);
        all_roll_back(server, &orders[..4]);
        server.clock.advance_ms(10_000);
        wait_for_state(server, id, "halted");
        let detail = rollout(server, id);
        assert_eq!(detail["verdict"], "fail");
        assert_eq!((&detail["evidence"]["failed"], &detail["evidence"]["started"]), (&json!(4), &json!(6)));
        assert!(detail["why"].as_str().unwrap().contains("4 of 6"), "{}", detail["why"]);
        // What installs goes on; everything else waits, and nothing is offered any more.
        wait_for_count(server, id, "waiting", 55);
        assert_eq!(phase_of(server, orders[9].1).0, "installing");
        assert!(ordered(server, id).iter().all(|(terminal, _)| director(server, *terminal).orders.is_empty()));
        let incidents = server.get(&format!("/api/v1/incidents?rollout_id={id}"), HEAD).expect(200).json();
        assert_eq!(incidents["items"][0]["kind"], "rollout_halted");
        assert_eq!(incidents["items"][0]["level"], "P1");
        // Going on needs a reason.
        let path = format!("/api/v1/rollouts/{id}/override");
        server.post(&path, HEAD, &json!({"why": ""})).expect(422);
        server.post(&path, AUDITOR, &json!({"why": "I want to"})).expect(403);
        post(server, &path, &json!({"why": "the four stood in one flooded shop"}), 200);
        wait_for_count(server, id, "offered", 5);
        server.clock.advance_ms(10_000);
        server.block_on(planner::pass(&server.state.db, server.clock.now())).unwrap();
        assert_eq!(rollout(server, id)["state"], "running", "what a person answered for is no evidence any more");
        assert_eq!(rollout(server, id)["evidence"]["forgiven"]["failed"], 4);
        // More of the same is.
        let again: Vec<(i64, i64)> = ordered(server, id).into_iter().filter(|order| order.1 != orders[9].1).collect();
        all_roll_back(server, &again[..3]);
        server.clock.advance_ms(10_000);
        wait_for_state(server, id, "halted");
        assert_counts_hold(server);
    });
}

#[test]
fn one_failure_of_many_is_no_reason_to_stop() {
    on_each_database(|server| {
        with_terminals(server, 60);
        let id = running(server, &json!({}));
        wait_for_count(server, id, "offered", 60);
        let orders = ordered(server, id);
        all_roll_back(server, &orders[..1]);
        orders[1..].iter().for_each(|order| succeed(server, *order));
        wait_for_state(server, id, "succeeded");
    });
}

#[test]
fn updated_terminals_that_fail_more_than_those_not_yet_updated_stop_the_rollout() {
    on_each_database(|server| {
        with_terminals(server, 400);
        everybody_calls(server);
        let id = running(server, &json!({"stages": [{"count": 60}], "soak_s": 7200}));
        wait_for_count(server, id, "offered", 60);
        let orders = ordered(server, id);
        orders.iter().for_each(|order| succeed(server, *order));
        wait_until("the controls were counted", || {
            server.clock.advance_ms(10_000);
            everybody_calls(server);
            rollout(server, id)["evidence"]["controls"] == 340
        });
        let fail = |terminals: Vec<i64>| {
            let now = server.clock.now();
            write(server, move |conn| {
                let failures: Vec<TerminalFailure> = terminals
                    .iter()
                    .map(|&terminal_id| TerminalFailure {
                        terminal_id,
                        class: Class::Payment,
                        event: format!("failure:{terminal_id}:{}", now.0),
                        at_ms: now.0,
                    })
                    .collect();
                note_failures(conn, &failures, now)
            });
        };
        let treated: Vec<i64> = orders.iter().map(|(terminal, _)| *terminal).collect();
        let controls: Vec<i64> = (1..=400).filter(|id| !treated.contains(id)).collect();
        // As many as chance would have: six times as many controls fail.
        fail(treated[..2].iter().chain(&controls[..12]).copied().collect());
        server.clock.advance_ms(10_000);
        wait_until("they are judged", || rollout(server, id)["evidence"]["classes"][1]["control"] == 12);
        assert_eq!(rollout(server, id)["state"], "running");
        // The same failures again are no news.
        fail(treated[..2].to_vec());
        fail(treated[2..30].to_vec());
        server.clock.advance_ms(10_000);
        wait_for_state(server, id, "halted");
        let evidence = rollout(server, id)["evidence"].clone();
        assert_eq!(evidence["failed"], 0, "no update itself failed");
        assert_eq!(evidence["left_out"]["repeated"], 2);
        assert!(evidence["e_health"].as_f64().unwrap() > 200.0, "{evidence}");
    });
}

#[test]
fn a_whole_store_that_fails_at_once_counts_once() {
    on_each_database(|server| {
        with_terminals(server, 300);
        sql(server, "UPDATE terminals SET merchant_no = '850331053110612', store_name = 'A' WHERE id <= 40".to_owned());
        everybody_calls(server);
        let filter = json!({"filter": {"terminal_ids": (1..=300).collect::<Vec<i64>>()}});
        let id = staged(server, &json!({"stages": [{"count": 150}], "soak_s": 7200}), &filter);
        start(server, id);
        wait_for_count(server, id, "offered", 150);
        let orders = ordered(server, id);
        orders.iter().for_each(|order| succeed(server, *order));
        let now = server.clock.now();
        write(server, move |conn| {
            let failures: Vec<TerminalFailure> = (1..=40)
                .map(|terminal_id| TerminalFailure {
                    terminal_id,
                    class: Class::Hard,
                    event: "boot:1".to_owned(),
                    at_ms: now.0,
                })
                .collect();
            note_failures(conn, &failures, now)
        });
        server.clock.advance_ms(10_000);
        wait_until("all are judged", || rollout(server, id)["evidence"]["left_out"]["suppressed_by_site"] == 39);
        assert_eq!(rollout(server, id)["state"], "running");
    });
}

#[test]
fn a_part_of_a_rollout_is_stopped_alone() {
    on_each_database(|server| {
        with_terminals(server, 20);
        sql(server, "UPDATE terminal_states SET carrier = 'cmcc' WHERE terminal_id <= 8".to_owned());
        sql(server, "UPDATE terminal_states SET carrier = 'cucc' WHERE terminal_id > 8".to_owned());
        let id = running(server, &json!({"stages": [{"count": 10}], "soak_s": 3600}));
        wait_for_count(server, id, "offered", 10);
        let path = format!("/api/v1/rollouts/{id}/stop-scope");
        let body = |attribute: &str, value: &str| json!({"attribute": attribute, "value": value, "why": "it reboots"});
        server.post(&path, HEAD, &body("colour", "red")).expect(422);
        server.post(&path, HEAD, &body("carrier", "ctcc")).expect(422);
        server.post(&path, NEIGHBOUR, &body("carrier", "cmcc")).expect(404);
        post(server, &path, &body("carrier", "cmcc"), 200);
        wait_for_count(server, id, "cancelled", 8);
        let left = ordered(server, id);
        assert!(left.iter().all(|(terminal, _)| *terminal > 8));
        assert_eq!(rollout(server, id)["stops"][0]["value"], "cmcc");
        left.into_iter().for_each(|order| succeed(server, order));
        server.clock.advance_ms(2 * HOUR_MS);
        wait_until("the rest goes on", || {
            ordered(server, id).into_iter().for_each(|order| succeed(server, order));
            rollout(server, id)["counts"]["succeeded"] == 12
        });
        wait_for_state(server, id, "succeeded");
        assert_counts_hold(server);
    });
}

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

#[test]
fn a_terminal_that_falls_silent_while_it_boots_counts_against_the_update() {
    on_each_database(|server| {
        with_terminals(server, 30);
        everybody_calls(server);
        let id = running(server, &json!({"stages": [{"count": 3}], "soak_s": 86_400}));
        wait_for_count(server, id, "offered", 3);
        let orders = ordered(server, id);
        for (terminal, assignment) in &orders {
            say(server, *terminal, *assignment, Phase::Rebooting, None);
        }
        // Intervals of 900 s, five minutes, and ten for the restart.
        server.clock.advance_ms(59 * MINUTE_MS);
        server.block_on(planner::pass(&server.state.db, server.clock.now())).unwrap();
        assert_eq!(rollout(server, id)["counts"]["rebooting"], 3);
        server.clock.advance_ms(2 * MINUTE_MS);
        wait_for_count(server, id, "timed_out", 3);
        wait_for_state(server, id, "halted");
        let evidence = rollout(server, id)["evidence"].clone();
        assert_eq!((&evidence["started"], &evidence["failed"]), (&json!(3), &json!(3)));
    });
}

#[test]
fn a_profile_goes_out_in_stages_and_becomes_the_layers_own_in_the_end() {
    on_each_database(|server| {
        with_terminals(server, 4);
        let expected = |terminal: i64| {
            let path = format!("/api/v1/terminals/{terminal}/config");
            server.get(&path, HEAD).expect(200).json()["expected_hash"].as_str().map(str::to_owned)
        };
        let new = json!({"name": "base", "parameters": {"apn": "cmnet"}});
        let profile = post(server, "/api/v1/profiles", &new, 201)["id"].clone();
        let body = json!({
            "name": "apn", "profile_id": profile, "layer": {"kind": "global"},
            "strategy": {"stages": [{"count": 1}], "soak_s": 60},
        });
        let id = post(server, "/api/v1/rollouts", &body, 201)["id"].as_i64().unwrap();
        start(server, id);
        wait_for_count(server, id, "offered", 1);
        let (first, _) = ordered(server, id)[0];
        let hash = expected(first).expect("the first terminal is told");
        assert!((1..=4).filter(|terminal| *terminal != first).all(|terminal| expected(terminal).is_none()));
        assert_eq!(director(server, first).orders, [], "the director has no part in it");
        // A pause takes it back until the terminal applied it.
        act(server, id, "pause");
        wait_for_count(server, id, "waiting", 4);
        wait_until("it is taken back", || expected(first).is_none());
        server.post(&format!("/api/v1/rollouts/{id}/resume"), HEAD, &json!({})).expect(200);
        wait_for_count(server, id, "offered", 1);
        let apply = |terminal: i64| {
            let (now, hash) = (server.clock.now(), hash.clone());
            sql(server, format!("UPDATE terminal_states SET config_hash = '{hash}' WHERE terminal_id = {terminal}"));
            write(server, move |conn| {
                let report = Report {
                    terminal_id: terminal,
                    update: None,
                    manifest: None,
                    firmware: "4.1.0",
                    is_configured: true,
                };
                rollouts::apply_report(conn, &report, now)
            });
        };
        // The last one has just these parameters already.
        let last = (1..=4).rfind(|terminal| *terminal != first).unwrap();
        sql(server, format!("UPDATE terminal_states SET config_hash = '{hash}' WHERE terminal_id = {last}"));
        apply(first);
        wait_for_count(server, id, "succeeded", 1);
        server.clock.advance_ms(2 * MINUTE_MS);
        wait_for_count(server, id, "succeeded", 2);
        wait_for_count(server, id, "offered", 2);
        ordered(server, id).into_iter().for_each(|(terminal, _)| apply(terminal));
        wait_for_state(server, id, "succeeded");
        // Who comes later takes it, too.
        terminal(server, 9, "/1/2/", &[]);
        let layers = server.get("/api/v1/config/layers", HEAD).expect(200).text();
        assert!(layers.contains("global"), "{layers}");
        assert_counts_hold(server);
    });
}

#[test]
fn a_gate_whose_journal_is_full_stops_and_one_that_cannot_be_read_offers_nothing_new() {
    on_each_database(|server| {
        with_terminals(server, 30);
        let id = running(server, &json!({"stages": [{"count": 10}], "soak_s": 3600}));
        wait_for_count(server, id, "offered", 10);
        let line =
            |at: i64| format!("({id}, {at}, 'failure:1', 1, 0, 1, 'control', 'payment', {at}, 'suppressed_by_site')");
        let columns = "rollout_id, terminal_id, event, at_ms, site, cell, arm, class, judged, verdict";
        for from in (1..=20_000).step_by(1_000) {
            let lines: Vec<String> = (from..from + 1_000).map(line).collect();
            sql(server, format!("INSERT INTO gate_events ({columns}) VALUES {}", lines.join(", ")));
        }
        server.clock.advance_ms(10_000);
        wait_for_state(server, id, "halted");
        let why = rollout(server, id)["why"].as_str().unwrap().to_owned();
        assert!(why.contains("journal of failures is full"), "{why}");
        // A person goes on; the journal begins anew behind what they looked at.
        post(server, &format!("/api/v1/rollouts/{id}/override"), &json!({"why": "a weak network, not the build"}), 200);
        wait_for_count(server, id, "offered", 10);
        assert_eq!(rollout(server, id)["evidence"]["forgiven"]["lines"], 20_000);
        server.clock.advance_ms(10_000);
        server.block_on(planner::pass(&server.state.db, server.clock.now())).unwrap();
        assert_eq!(rollout(server, id)["state"], "running");
        // A judgement that cannot be read is no clean sheet: the next stage stays closed.
        sql(server, format!("UPDATE gate_judgements SET evidence = '{{' WHERE rollout_id = {id}"));
        ordered(server, id).into_iter().for_each(|order| succeed(server, order));
        server.clock.advance_ms(2 * HOUR_MS);
        server.block_on(planner::pass(&server.state.db, server.clock.now())).unwrap();
        assert_eq!(rollout_row(server, id), ("running".to_owned(), 0));
    });
}

/// State and stage as the table has them.
fn rollout_row(server: &TestServer, id: i64) -> (String, i64) {
    use tillward_server::db::schema::rollouts;
    let row = rollouts::table.find(id).select((rollouts::state, rollouts::stage));
    server.block_on(server.state.db.read(move |conn| Ok::<_, Error>(row.first(conn)?))).unwrap()
}
