//! Incidents: one for one thing, carried on by people, seen by their own organizations alone.

use diesel::connection::SimpleConnection;
use serde_json::{Value, json};
use tillward_server::alerts::{self, ALERTS_KEPT_MS};
use tillward_server::clock::Now;
use tillward_server::db::{self, Conn};
use tillward_server::failures::incidents::state::REOPEN_MS_MAX;
use tillward_server::failures::incidents::{
    self, EVIDENCE_BYTES_MAX, INCIDENTS_KEPT_MS, Kind, Level, NewIncident, TERMINALS_MAX,
};

use crate::fixtures::{admin, headquarters, operator, organization};
use crate::harness::{TestServer, is_anybody_waiting, on_each_database, wait_until};
use crate::seed::Tree;

/// The eastern reseller of [`Tree`].
const EAST: &str = "/101/102/";

/// What a gate finds about a rollout.
pub fn halted(rollout_id: i64) -> NewIncident {
    NewIncident {
        kind: Kind::RolloutHalted,
        level: Level::P1,
        org_path: EAST.to_owned(),
        key: format!("rollout:{rollout_id}"),
        subject: format!("rollout {rollout_id}"),
        evidence: json!({"verdict": "fail", "treated": {"failed": 42, "started": 400}}),
        rollout_id: Some(rollout_id),
        release_id: Some(7),
        terminal_ids: vec![],
        affected: 42,
    }
}

/// Opens an incident as a rule does, in a transaction of its own.
pub fn open(server: &TestServer, new: NewIncident) -> i64 {
    let now = server.clock.now();
    let opened: Result<i64, db::Error> =
        server.block_on(server.state.db.write(move |conn| incidents::open(conn, new, now)));
    opened.unwrap()
}

fn get(server: &TestServer, token: &str, id: i64) -> Value {
    server.get(&format!("/api/v1/incidents/{id}"), token).expect(200).json()
}

fn act(server: &TestServer, token: &str, id: i64, verb: &str, note: &str) -> crate::harness::Answer {
    server.post(&format!("/api/v1/incidents/{id}/{verb}"), token, &json!({ "note": note }))
}

fn events(detail: &Value) -> Vec<String> {
    let timeline = detail["timeline"].as_array().unwrap();
    timeline.iter().rev().map(|entry| entry["event"].as_str().unwrap().to_owned()).collect()
}

fn alert_kinds(detail: &Value) -> Vec<String> {
    let alerts = detail["alerts"].as_array().unwrap();
    alerts.iter().rev().map(|alert| alert["kind"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_same_thing_seen_again_adds_to_its_incident() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let id = open(server, NewIncident { level: Level::P2, ..halted(1) });
        let again = NewIncident { level: Level::P2, evidence: json!({"verdict": "worse"}), affected: 60, ..halted(1) };
        assert_eq!(open(server, again), id);
        assert_ne!(open(server, halted(2)), id, "another rollout");
        assert_ne!(open(server, NewIncident { kind: Kind::RolloutScopeStopped, ..halted(1) }), id, "another kind");
        assert_ne!(open(server, NewIncident { org_path: "/101/104/".to_owned(), ..halted(1) }), id, "other people");
        let detail = get(server, &tree.east_ops, id);
        let incident = &detail["incident"];
        assert_eq!((&incident["occurrences"], &incident["affected"]), (&json!(2), &json!(60)));
        assert_eq!((&incident["state"], &incident["level"]), (&json!("open"), &json!("P2")));
        assert_eq!(detail["evidence"], json!({"verdict": "worse"}));
        assert_eq!(events(&detail), ["open"]);
        assert_eq!(detail["timeline"][0]["evidence"]["verdict"], "fail", "the first evidence is kept");
        assert_eq!(alert_kinds(&detail), ["incident_opened"], "a repetition is no news");
        // Its people hear of it again when it becomes more urgent, and never when it becomes less so.
        assert_eq!(open(server, halted(1)), id);
        assert_eq!(open(server, NewIncident { level: Level::P3, ..halted(1) }), id);
        let detail = get(server, &tree.east_ops, id);
        assert_eq!(detail["incident"]["level"], "P1");
        assert_eq!(events(&detail), ["open", "raise"]);
        assert_eq!(alert_kinds(&detail), ["incident_opened", "incident_raised"]);
        let due_ms = detail["incident"]["due_ms"].as_i64().unwrap();
        assert!(due_ms - server.clock.now().0 <= 15 * 60_000, "a P1 is due in a quarter of an hour");
        let log = server.get("/api/v1/audit?size=100", &tree.admin).expect(200).json();
        let number = id.to_string();
        let of_it = |entry: &&Value| entry["object_kind"] == "incident" && entry["object_id"] == number.as_str();
        let entries: Vec<&Value> = log["items"].as_array().unwrap().iter().filter(of_it).collect();
        let actions: Vec<&str> = entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
        assert_eq!(actions, ["incidents.raise", "incidents.open"]);
        assert!(entries.iter().all(|entry| entry["actor_kind"] == "system" && entry["org_path"] == EAST));
    });
}

#[test]
fn people_carry_an_incident_on_and_its_story_says_who_did_what() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let id = open(server, halted(1));
        let ops = &tree.east_ops;
        assert_eq!(act(server, ops, id, "acknowledge", "").expect(200).json()["incident"]["state"], "acknowledged");
        assert_eq!(get(server, ops, id)["alerts"][0]["state"], "acknowledged");
        assert!(act(server, ops, id, "acknowledge", "").expect(409).text().contains("acknowledged cannot acknowledge"));
        assert_eq!(act(server, ops, id, "mitigate", " ").expect(422).json()["field"], "note");
        assert_eq!(act(server, ops, id, "note", "4111 1111 1111 1111").expect(422).json()["field"], "note");
        act(server, ops, id, "note", "已联系厂商\n等待回复").expect(200);
        act(server, ops, id, "mitigate", "暂停升级").expect(200);
        let done = act(server, ops, id, "resolve", "换回 4.1.0").expect(200).json();
        assert_eq!(done["incident"]["state"], "resolved");
        assert!(done["incident"]["resolved_at_ms"].is_i64() && done["incident"]["due_ms"].is_null());
        act(server, ops, id, "note", "复盘").expect(200);
        act(server, ops, id, "resolve", "again").expect(409);
        let detail = get(server, ops, id);
        assert_eq!(events(&detail), ["open", "acknowledge", "note", "mitigate", "resolve", "note"]);
        let said = &detail["timeline"][3];
        assert_eq!((&said["note"], &said["actor_kind"]), (&json!("已联系厂商\n等待回复"), &json!("api_key")));
        let log = server.get("/api/v1/audit?size=100", &tree.admin).expect(200).text();
        assert!(log.contains("incidents.mitigate") && log.contains("换回 4.1.0"));
        act(server, &tree.east_field, id, "note", "x").expect(403);
    });
}

#[test]
fn what_comes_back_opens_its_incident_again_and_after_a_week_another_one() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        let id = open(server, halted(1));
        act(server, ops, id, "mitigate", "paused").expect(200);
        let second = NewIncident { evidence: json!({"verdict": "second"}), ..halted(1) };
        assert_eq!(open(server, second), id);
        let detail = get(server, ops, id);
        assert_eq!(detail["incident"]["state"], "open", "the mitigation did not hold");
        assert_eq!(detail["timeline"][0]["evidence"], json!({"verdict": "second"}));
        act(server, ops, id, "resolve", "over").expect(200);
        server.clock.advance_ms(REOPEN_MS_MAX - 60_000);
        assert_eq!(open(server, halted(1)), id);
        let detail = get(server, ops, id);
        assert_eq!(
            (&detail["incident"]["state"], &detail["incident"]["resolved_at_ms"]),
            (&json!("open"), &json!(null))
        );
        assert_eq!(events(&detail), ["open", "mitigate", "reopen", "resolve", "reopen"]);
        assert_eq!(alert_kinds(&detail), ["incident_opened", "incident_reopened", "incident_reopened"]);
        act(server, ops, id, "resolve", "over").expect(200);
        server.clock.advance_ms(REOPEN_MS_MAX + 60_000);
        let other = open(server, halted(1));
        assert_ne!(other, id);
        assert_eq!(open(server, halted(1)), other);
        assert_eq!(get(server, ops, id)["incident"]["state"], "resolved");
    });
}

#[test]
fn an_incident_is_seen_in_its_organization_and_above_and_nowhere_else() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let id = open(server, halted(1));
        let path = format!("/api/v1/incidents/{id}");
        for token in [&tree.admin, &tree.east_ops, &tree.east_admin] {
            server.get(&path, token).expect(200);
        }
        server.get(&path, &tree.west_ops).expect(404);
        for verb in ["acknowledge", "mitigate", "resolve", "note", "assign"] {
            act(server, &tree.west_ops, id, verb, "x").expect(404);
        }
        let assign = json!({ "operator_id": 1 });
        server.post(&format!("{path}/assign"), &tree.west_ops, &assign).expect(404);
        assert_eq!(server.get("/api/v1/incidents", &tree.west_ops).expect(200).json()["items"], json!([]));
        assert_eq!(server.get("/api/v1/alerts", &tree.west_ops).expect(200).json()["items"], json!([]));
        assert_eq!(server.get("/api/v1/alerts", &tree.east_ops).expect(200).json()["items"][0]["incident_id"], id);
    });
}

#[test]
fn lists_are_narrowed_and_paged() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let terminal = tree.terminal(server, "A1")["id"].as_i64().unwrap();
        let ids: Vec<i64> = (1..=5).map(|rollout| open(server, halted(rollout))).collect();
        let drift = NewIncident {
            kind: Kind::ConfigDrift,
            level: Level::P3,
            terminal_ids: vec![terminal],
            rollout_id: None,
            ..halted(9)
        };
        let drift = open(server, drift);
        act(server, &tree.east_ops, ids[0], "resolve", "over").expect(200);
        act(server, &tree.east_ops, ids[1], "acknowledge", "").expect(200);
        let list = |query: &str| -> Vec<i64> {
            let page = server.get(&format!("/api/v1/incidents?{query}"), &tree.east_ops).expect(200).json();
            page["items"].as_array().unwrap().iter().map(|row| row["id"].as_i64().unwrap()).collect()
        };
        assert_eq!(list(""), [drift, ids[4], ids[3], ids[2], ids[1], ids[0]]);
        assert_eq!(list("state=resolved"), [ids[0]]);
        assert_eq!(list("state=unresolved&kind=rollout_halted"), [ids[4], ids[3], ids[2], ids[1]]);
        assert_eq!(list("level=P3"), [drift]);
        assert_eq!(list("rollout_id=3"), [ids[2]]);
        assert_eq!(list(&format!("terminal_id={terminal}")), [drift]);
        for unknown in ["state=x", "kind=x", "level=P4"] {
            server.get(&format!("/api/v1/incidents?{unknown}"), &tree.east_ops).expect(422);
        }
        let mut seen = Vec::new();
        let mut after = String::new();
        loop {
            let path = format!("/api/v1/incidents?size=4&after={after}");
            let page = server.get(&path, &tree.east_ops).expect(200).json();
            seen.extend(page["items"].as_array().unwrap().iter().map(|row| row["id"].as_i64().unwrap()));
            let Some(next) = page["next"].as_str() else { break };
            after = next.to_owned();
        }
        assert_eq!(seen, list(""));
        let detail = get(server, &tree.east_ops, drift);
        assert_eq!(detail["terminals"], json!([{ "id": terminal, "sn": "A1" }]));
    });
}

#[test]
fn an_owner_is_somebody_who_can_carry_the_incident_on() {
    on_each_database(|server| {
        let token = admin(server);
        let root = headquarters(server, &token);
        let (east, west) = (organization(server, &token, root, "EAST"), organization(server, &token, root, "WEST"));
        let ops = operator(server, &token, east, "org_ops");
        let auditor = operator(server, &token, east, "auditor");
        let stranger = operator(server, &token, west, "org_ops");
        let id = open(server, NewIncident { org_path: format!("/{root}/{east}/"), ..halted(1) });
        let path = format!("/api/v1/incidents/{id}/assign");
        let own = server.post(&path, &ops.token, &json!({})).expect(200).json();
        assert_eq!((&own["incident"]["owner_id"], &own["incident"]["owner_name"]), (&json!(ops.id), &json!(ops.login)));
        assert_eq!(own["incident"]["state"], "open", "an owner has not looked yet");
        for nobody in [auditor.id, stranger.id, 999_999] {
            let refused = server.post(&path, &token, &json!({ "operator_id": nobody })).expect(422).json();
            assert_eq!(refused["field"], "operator_id", "{nobody}");
        }
        server.post(&path, &auditor.token, &json!({})).expect(403);
        let other = operator(server, &token, east, "org_admin");
        let given = server.post(&path, &token, &json!({ "operator_id": other.id, "note": "值班" })).expect(200).json();
        assert_eq!(given["timeline"][0]["note"], format!("{}: 值班", other.login));
        // Whoever takes on what nobody owns owns it.
        let second = open(server, NewIncident { org_path: format!("/{root}/{east}/"), ..halted(2) });
        assert_eq!(
            act(server, &ops.token, second, "acknowledge", "").expect(200).json()["incident"]["owner_id"],
            ops.id
        );
        let kept = act(server, &other.token, id, "acknowledge", "").expect(200).json();
        assert_eq!(kept["incident"]["owner_id"], other.id);
    });
}

#[test]
fn evidence_and_terminals_stay_within_their_bounds() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let much = NewIncident {
            subject: "长".repeat(10_000),
            key: "k".repeat(10_000),
            evidence: json!({"failed": 42, "cells": vec!["x".repeat(100); 10_000]}),
            terminal_ids: (1..=5_000).chain(1..=10).collect(),
            affected: 0,
            ..halted(1)
        };
        let id = open(server, much.clone());
        assert_eq!(open(server, much), id);
        let detail = get(server, &tree.east_ops, id);
        assert!(detail["evidence"].to_string().len() <= EVIDENCE_BYTES_MAX);
        assert_eq!(detail["evidence"], json!({"failed": 42, "omitted": ["cells"]}));
        assert_eq!(detail["incident"]["affected"], 5_010);
        let listed = server.block_on(server.state.db.read(move |conn| {
            use diesel::prelude::*;
            use tillward_server::db::schema::incident_terminals;
            let of_it = incident_terminals::table.filter(incident_terminals::incident_id.eq(id));
            of_it.count().get_result::<i64>(conn).map_err(db::Error::from)
        }));
        assert_eq!(usize::try_from(listed.unwrap()), Ok(TERMINALS_MAX));
    });
}

#[test]
fn nobody_is_told_of_what_was_rolled_back() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let now = server.clock.now();
        let given_up: Result<(), db::Error> = server.block_on(server.state.db.write(move |conn| {
            incidents::open(conn, halted(1), now)?;
            Err(db::Error::Closed)
        }));
        assert!(given_up.is_err());
        for list in ["incidents", "alerts"] {
            let page = server.get(&format!("/api/v1/{list}"), &tree.admin).expect(200).json();
            assert_eq!(page["items"], json!([]), "{list}");
        }
        open(server, halted(1));
    });
}

#[test]
fn many_rules_at_once_open_one_incident() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let (db, now) = (server.state.db.clone(), server.clock.now());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let db = db.clone();
                runtime.spawn(async move { db.write(move |conn| incidents::open(conn, halted(1), now)).await })
            })
            .collect();
        let opened: Vec<i64> = tasks.into_iter().map(|task| runtime.block_on(task).unwrap().unwrap()).collect();
        assert!(opened.iter().all(|id| *id == opened[0]), "{opened:?}");
        let detail = get(server, &tree.east_ops, opened[0]);
        assert_eq!(detail["incident"]["occurrences"], 8);
        assert_eq!(alert_kinds(&detail), ["incident_opened"]);
    });
}

#[test]
fn several_opened_at_once_are_as_if_opened_one_by_one() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let known = open(server, halted(1));
        let now = server.clock.now();
        let opened = server.block_on(server.state.db.write(move |conn| {
            let new = vec![halted(2), halted(1), halted(3), NewIncident { level: Level::P2, ..halted(2) }];
            incidents::open_all(conn, new, now)
        }));
        let opened = opened.unwrap();
        assert_eq!((opened[1], opened[3]), (known, opened[0]), "in the order in which they were given");
        assert!(opened[0] > known && opened[2] > opened[0], "{opened:?}");
        for (id, occurrences) in [(known, 2), (opened[0], 2), (opened[2], 1)] {
            let detail = get(server, &tree.east_ops, id);
            assert_eq!(detail["incident"]["occurrences"], occurrences);
            assert_eq!(events(&detail), ["open"]);
            assert_eq!(alert_kinds(&detail), ["incident_opened"]);
        }
        let none = server.block_on(server.state.db.write(move |conn| incidents::open_all(conn, Vec::new(), now)));
        assert_eq!(none.unwrap(), [] as [i64; 0]);
    });
}

#[test]
fn who_opens_several_waits_for_an_incident_before_anybody_waits_for_them() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let known = open(server, halted(1));
        let now = server.clock.now();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (db, handle) = (server.state.db.clone(), runtime.handle().clone());
        // Somebody is at the incident that is there, then others come who open two, then the first makes a new one.
        let first = runtime.block_on(server.state.db.write(move |conn| {
            conn.batch_execute(&format!("UPDATE incidents SET version = version WHERE id = {known}"))?;
            let others = db.clone();
            let several = handle.spawn(async move {
                others.write(move |conn| incidents::open_all(conn, vec![halted(2), halted(1)], now)).await
            });
            if matches!(conn, Conn::Postgres(_)) {
                wait_until("the others wait", || handle.block_on(db.read(is_anybody_waiting)).unwrap());
            }
            let new = incidents::open(conn, halted(3), now)?;
            Ok::<_, db::Error>((several, new))
        }));
        let (several, new) = first.unwrap();
        let several = runtime.block_on(several).unwrap().unwrap();
        assert_eq!(several[1], known);
        assert_ne!(several[0], new);
        assert_eq!(get(server, &tree.east_ops, known)["incident"]["occurrences"], 2);
    });
}

#[test]
fn people_are_reminded_of_what_nobody_carries_on() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let (urgent, calm) = (open(server, halted(1)), open(server, NewIncident { level: Level::P3, ..halted(2) }));
        let reminders = |id: i64| events(&get(server, &tree.east_ops, id)).iter().filter(|e| *e == "remind").count();
        server.clock.advance_ms(16 * 60_000);
        wait_until("a reminder of the P1", || reminders(urgent) == 1);
        assert_eq!(alert_kinds(&get(server, &tree.east_ops, urgent)), ["incident_opened", "incident_overdue"]);
        let due_ms = get(server, &tree.east_ops, urgent)["incident"]["due_ms"].as_i64().unwrap();
        assert!(due_ms > server.clock.now().0 + 25 * 60_000, "the next one comes later");
        server.clock.advance_ms(31 * 60_000);
        wait_until("another reminder", || reminders(urgent) == 2);
        assert_eq!(reminders(calm), 0);
        act(server, &tree.east_ops, urgent, "acknowledge", "").expect(200);
        server.clock.advance_ms(25 * 3_600_000);
        wait_until("a reminder of the P3", || reminders(calm) == 1);
        wait_until("a reminder of the acknowledged one", || reminders(urgent) == 3);
        act(server, &tree.east_ops, urgent, "resolve", "over").expect(200);
        server.clock.advance_ms(30 * 86_400_000);
        wait_until("the open one goes on", || reminders(calm) >= 2);
        assert_eq!(reminders(urgent), 3, "what is over stays quiet");
    });
}

#[test]
fn what_was_over_long_ago_goes_and_what_is_open_stays() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let (over, left) = (open(server, halted(1)), open(server, NewIncident { terminal_ids: vec![1], ..halted(2) }));
        act(server, &tree.east_ops, over, "resolve", "over").expect(200);
        let sweep = |now: Now| {
            let incidents = server.block_on(incidents::sweep(&server.state.db, now)).unwrap();
            (incidents, server.block_on(alerts::sweep(&server.state.db, now)).unwrap())
        };
        let now = server.clock.now();
        assert_eq!(sweep(Now(now.0 + ALERTS_KEPT_MS - 60_000)), (0, 0));
        assert_eq!(sweep(Now(now.0 + INCIDENTS_KEPT_MS - 60_000)), (0, 2));
        assert_eq!(sweep(Now(now.0 + INCIDENTS_KEPT_MS + 60_000)), (1, 0));
        server.get(&format!("/api/v1/incidents/{over}"), &tree.east_ops).expect(404);
        assert_eq!(get(server, &tree.east_ops, left)["alerts"], json!([]));
    });
}

#[test]
fn the_console_shows_an_incident_and_takes_what_people_do() {
    on_each_database(|server| {
        let token = admin(server);
        let root = headquarters(server, &token);
        let evidence = json!({
            "verdict": "fail", "reasons": [{"rule": "G1", "field": "failed", "observed": 42, "threshold": 8.5}],
            "treated": {"started": 400}, "note": "<script>alert(1)</script>",
        });
        let id = open(server, NewIncident { org_path: format!("/{root}/"), evidence, ..halted(1) });
        let browser = crate::console::Browser::signed_in(server, crate::fixtures::ADMIN);
        let list = browser.get("/incidents").expect(200).text();
        assert!(list.contains(&format!("href=\"/incidents/{id}\"")) && list.contains("rollout 1"));
        assert!(list.contains("class=\"badge\""), "the bell counts it");
        let path = format!("/incidents/{id}");
        let page = browser.get(&path).expect(200).text();
        for shown in ["Why it was judged this way", "G1", "8.5", "400", "/rollouts/1"] {
            assert!(page.contains(shown), "{shown}");
        }
        assert!(!page.contains("<script>alert"));
        let csrf = browser.csrf();
        let act = |verb: &str, note: &str| browser.post(&format!("{path}/{verb}"), &[("csrf", &csrf), ("note", note)]);
        assert_eq!(act("mitigate", "").status, 422);
        for (verb, note, done) in [
            ("take", "", "taken"),
            ("acknowledge", "", "acknowledged"),
            ("note", "seen", "noted"),
            ("mitigate", "paused", "mitigated"),
            ("resolve", "over", "resolved"),
        ] {
            let to = format!("{path}?done={done}");
            assert_eq!(act(verb, note).expect(303).header("location"), Some(to.as_str()), "{verb}");
        }
        let page = browser.get(&path).expect(200).text();
        assert!(page.contains("paused") && !page.contains(&format!("{path}/resolve")), "nothing is left to do");
        assert!(!browser.get("/incidents").expect(200).text().contains("class=\"badge\""));
        assert!(browser.get("/incidents?state=resolved&kind=rollout_halted").expect(200).text().contains("rollout 1"));
        assert!(!browser.get("/incidents?state=all&level=P3").expect(200).text().contains("rollout 1"));
    });
}
