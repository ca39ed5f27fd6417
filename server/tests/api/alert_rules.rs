//! Who is told of what and when: rules, quiet hours, escalation, digests; the log and sending again.

use serde_json::{Value, json};
use tillward_server::alerts::{self, KEEP_TRYING_MS};
use tillward_server::clock::Now;
use tillward_server::failures::incidents::{Kind, Level, NewIncident};

use crate::harness::{Answer, TestServer, on_each_database, wait_until};
use crate::incidents::{halted, open};
use crate::receiver::{Address, Receiver, Reply};
use crate::seed::{MODEL, Tree};

const MINUTE_MS: i64 = 60_000;

fn channel(server: &TestServer, token: &str, name: &str, at: Address) -> i64 {
    let new = json!({ "name": name, "transport": at.transport() });
    let made = server.post("/api/v1/alert-channels", token, &new).expect(201).json();
    made["channel"]["id"].as_i64().unwrap()
}

fn rule(server: &TestServer, token: &str, more: Value) -> Answer {
    let mut new = json!({ "name": "规则", "delivery": "now" });
    new.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.post("/api/v1/alert-rules", token, &new)
}

fn put(server: &TestServer, path: &str, token: &str, body: &Value) -> Answer {
    server.send("PUT", path, token, &[("content-type", "application/json")], body.to_string().as_bytes())
}

/// Hours around now on clocks that show UTC: quiet from an hour ago for two hours, digest in half an hour.
fn quiet_now(server: &TestServer, token: &str) {
    let at = |minutes: i64| {
        let minute = (server.clock.now().0.div_euclid(MINUTE_MS) + minutes).rem_euclid(24 * 60);
        format!("{:02}:{:02}", minute / 60, minute % 60)
    };
    let hours = json!({
        "version": 0, "time_zone": "UTC", "quiet": { "from": at(-60), "until": at(60), "breaks": ["P1"] },
        "digest_at": at(30),
    });
    let set = put(server, "/api/v1/alert-hours", token, &hours).expect(200).json();
    assert_eq!((&set["version"], &set["digest_at"]), (&json!(1), &hours["digest_at"]));
}

/// The deliveries of an incident's alerts: kind, channel, state and route.
fn told(server: &TestServer, token: &str, incident_id: i64) -> Vec<(String, String, String, String)> {
    let path = format!("/api/v1/alert-deliveries?size=100&incident_id={incident_id}");
    let lines = server.get(&path, token).expect(200).json()["items"].as_array().unwrap().clone();
    let text = |line: &Value, field: &str| line[field].as_str().unwrap().to_owned();
    let told = |line: &Value| (text(line, "kind"), text(line, "channel"), text(line, "state"), text(line, "route"));
    let mut told: Vec<_> = lines.iter().map(told).collect();
    told.sort();
    told
}

fn line(kind: &str, channel: &str, state: &str, route: &str) -> (String, String, String, String) {
    (kind.to_owned(), channel.to_owned(), state.to_owned(), route.to_owned())
}

#[test]
fn a_rule_sends_what_it_names_to_its_channels_and_nothing_else_is_sent() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let (ops, boss) = (Receiver::willing(), Receiver::willing());
        let first = channel(server, &tree.east_admin, "ops", ops.address);
        let second = channel(server, &tree.east_admin, "boss", boss.address);
        let made = rule(
            server,
            &tree.east_admin,
            json!({ "kinds": ["tamper", "rollout_halted"], "levels": ["P1"], "models": [MODEL], "steps": [[second]] }),
        );
        let made = made.expect(201).json();
        let terminal = tree.terminal(server, "NW1")["id"].as_i64().unwrap();
        let hit = open(server, NewIncident { terminal_ids: vec![terminal], ..halted(1) });
        let of_no_model = open(server, halted(2));
        let other_level = open(server, NewIncident { level: Level::P2, ..halted(3) });
        let other_kind = open(server, NewIncident { kind: Kind::Expiry, ..halted(4) });
        wait_until("what is named arrives", || boss.received().len() == 2);
        for (id, expected) in [(hit, 1), (of_no_model, 1), (other_level, 0), (other_kind, 0)] {
            assert_eq!(told(server, &tree.east_ops, id).len(), expected, "{id}");
        }
        assert_eq!(ops.received().len(), 0);
        // Switched off, the organization has no rule in force: everybody is told again.
        let path = format!("/api/v1/alert-rules/{}", made["id"]);
        let off = json!({ "version": 1, "name": "off", "enabled": false, "delivery": "now", "steps": [[first]] });
        assert_eq!(put(server, &path, &tree.east_admin, &off).expect(200).json()["version"], 2);
        put(server, &path, &tree.east_admin, &off).expect(409);
        open(server, NewIncident { level: Level::P3, ..halted(5) });
        wait_until("both are told", || boss.received().len() == 3 && ops.received().len() == 1);
        server.send("DELETE", &path, &tree.east_admin, &[], b"").expect(204);
        server.get(&path, &tree.east_admin).expect(404);
    });
}

#[test]
fn rules_that_cannot_be_kept_are_refused_by_field() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let own = channel(server, &tree.east_admin, "own", Address(9));
        let above = channel(server, &tree.admin, "above", Address(9));
        for (more, field) in [
            (json!({ "steps": [] }), "steps"),
            (json!({ "steps": [[]] }), "steps"),
            (json!({ "steps": [[above]] }), "steps"),
            (json!({ "steps": [[own], [own], [own], [own], [own], [own]] }), "steps"),
            (json!({ "steps": [[own], [own]], "delivery": "digest" }), "steps"),
            (json!({ "steps": [[own]], "delivery": "soon" }), "delivery"),
            (json!({ "steps": [[own]], "kinds": ["surprise"] }), "kinds"),
            (json!({ "steps": [[own]], "models": ["unknown"] }), "models"),
            (json!({ "steps": [[own]], "name": "" }), "name"),
            (json!({ "steps": [[own]], "organization_id": tree.west }), "organization_id"),
        ] {
            let refused = rule(server, &tree.east_admin, more.clone()).expect(422);
            assert_eq!(refused.json()["field"], field, "{more}");
        }
        rule(server, &tree.east_ops, json!({ "steps": [[own]] })).expect(403);
        let made = rule(server, &tree.east_admin, json!({ "steps": [[own]] })).expect(201).json();
        let path = format!("/api/v1/alert-rules/{}", made["id"]);
        server.get(&path, &tree.west_ops).expect(404);
        assert_eq!(server.get("/api/v1/alert-rules", &tree.west_ops).expect(200).json()["items"], json!([]));
        for (hours, field) in [
            (json!({ "version": 0, "time_zone": "No/Where" }), "time_zone"),
            (json!({ "version": 0, "digest_at": "25:00" }), "digest_at"),
            (json!({ "version": 0, "quiet": { "from": "22:00", "until": "22:00" } }), "quiet.until"),
            (json!({ "version": 0, "organization_id": tree.west }), "organization_id"),
        ] {
            let refused = put(server, "/api/v1/alert-hours", &tree.east_admin, &hours).expect(422);
            assert_eq!(refused.json()["field"], field, "{hours}");
        }
        let usual = server.get("/api/v1/alert-hours", &tree.east_ops).expect(200).json();
        assert_eq!(
            (&usual["time_zone"], &usual["digest_at"], &usual["version"]),
            (&json!("Asia/Shanghai"), &json!("08:30"), &json!(0))
        );
        put(server, "/api/v1/alert-hours", &tree.east_admin, &json!({ "version": 3 })).expect(409);
    });
}

#[test]
fn when_nobody_takes_it_on_in_time_the_next_step_is_told() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let (ops, boss) = (Receiver::willing(), Receiver::willing());
        let first = channel(server, &tree.east_admin, "ops", ops.address);
        let second = channel(server, &tree.east_admin, "boss", boss.address);
        rule(server, &tree.east_admin, json!({ "steps": [[first], [second]] })).expect(201);
        let ignored = open(server, halted(1));
        let taken = open(server, halted(2));
        wait_until("the first step is told", || ops.received().len() == 2);
        assert_eq!(told(server, &tree.east_ops, ignored).len(), 1);
        let path = format!("/api/v1/incidents/{taken}/acknowledge");
        server.post(&path, &tree.east_ops, &json!({ "note": "" })).expect(200);
        server.clock.advance_ms(Level::P1.acknowledge_ms() + MINUTE_MS);
        wait_until("the second step is told", || boss.received().len() == 1);
        wait_until("and so it is noted", || {
            let all = told(server, &tree.east_ops, ignored);
            all.iter().all(|(_, _, state, _)| state == "sent") && all.len() == 3
        });
        assert_eq!(
            told(server, &tree.east_ops, ignored),
            [
                line("incident_opened", "ops", "sent", "direct"),
                line("incident_overdue", "boss", "sent", "escalation"),
                line("incident_overdue", "ops", "sent", "direct"),
            ]
        );
        assert_eq!(boss.received()[0].json()["incident_id"], ignored);
        // What somebody has taken on reminds those who were told, and nobody else.
        server.clock.advance_ms(4 * 60 * MINUTE_MS);
        wait_until("the owner is reminded", || told(server, &tree.east_ops, taken).len() >= 2);
        assert!(told(server, &tree.east_ops, taken).iter().all(|(_, channel, ..)| channel == "ops"));
    });
}

#[test]
fn quiet_hours_hold_back_until_the_digest_and_the_digest_comes_once() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let receiver = Receiver::willing();
        let id = channel(server, &tree.east_admin, "ops", receiver.address);
        quiet_now(server, &tree.east_admin);
        let held = open(server, NewIncident { level: Level::P2, ..halted(1) });
        let digested = open(server, NewIncident { level: Level::P3, subject: "NW881207301".to_owned(), ..halted(2) });
        let urgent = open(server, halted(3));
        wait_until("what is urgent breaks through", || receiver.received().len() == 1);
        assert_eq!(receiver.received()[0].json()["incident_id"], urgent);
        for id in [held, digested] {
            assert_eq!(told(server, &tree.east_ops, id), [line("incident_opened", "ops", "held", "quiet")]);
        }
        let acknowledged = format!("/api/v1/incidents/{urgent}/acknowledge");
        server.post(&acknowledged, &tree.east_ops, &json!({ "note": "" })).expect(200);
        server.clock.advance_ms(31 * MINUTE_MS);
        wait_until("the digest arrives", || receiver.received().len() == 2);
        let digest = receiver.received()[1].json();
        assert_eq!(digest["kind"], "digest");
        let summary: Value = serde_json::from_str(digest["title"]["parameters"]["summary"].as_str().unwrap()).unwrap();
        assert_eq!((&summary["held_count"], &summary["opened"]), (&json!(2), &json!([1, 1, 1])));
        assert_eq!((&summary["waiting"], &summary["held"][0]["level"]), (&json!(2), &json!("P2")));
        assert_eq!(summary["held"][1]["parameters"]["subject"], "…7301");
        wait_until("what it told of has ended", || {
            let ended = |id| told(server, &tree.east_ops, id)[0].2 == "sent";
            ended(held) && ended(digested)
        });
        // Asked again and again, also by another server, it is written once.
        let again = alerts::digests(&server.state.db, &server.state.alerts, server.clock.now());
        assert_eq!(server.block_on(again).unwrap(), 0);
        // Nothing was held back since, and the channel wants no digest of its own.
        let tomorrow = Now(server.clock.now().0 + 24 * 60 * MINUTE_MS);
        let next = alerts::digests(&server.state.db, &server.state.alerts, tomorrow);
        assert_eq!(server.block_on(next).unwrap(), 0);
        let change = json!({ "version": 1, "digest": true });
        let path = format!("/api/v1/alert-channels/{id}");
        let headers = [("content-type", "application/json")];
        server.send("PATCH", &path, &tree.east_admin, &headers, change.to_string().as_bytes()).expect(200);
        let now = alerts::digests(&server.state.db, &server.state.alerts, server.clock.now());
        assert_eq!(server.block_on(now).unwrap(), 0, "not for a morning that is over");
        let next = alerts::digests(&server.state.db, &server.state.alerts, tomorrow);
        assert_eq!(server.block_on(next).unwrap(), 1, "each day, also when nothing was held back");
    });
}

#[test]
fn what_another_incident_explains_is_taken_back() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let receiver = Receiver::willing();
        channel(server, &tree.east_admin, "ops", receiver.address);
        quiet_now(server, &tree.east_admin);
        let child = open(server, NewIncident { level: Level::P2, ..halted(1) });
        let now = server.clock.now();
        let masked = server.state.db.write(move |conn| alerts::mask(conn, child, now));
        server.block_on(masked).unwrap();
        assert_eq!(told(server, &tree.east_ops, child), [line("incident_opened", "ops", "withdrawn", "quiet")]);
        server.clock.advance_ms(31 * MINUTE_MS);
        let digests = alerts::digests(&server.state.db, &server.state.alerts, server.clock.now());
        assert_eq!(server.block_on(digests).unwrap(), 0);
        assert_eq!(receiver.received().len(), 0);
    });
}

#[test]
fn what_was_told_and_is_folded_then_is_taken_back_and_not_counted_in_the_digest() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let receiver = Receiver::willing();
        channel(server, &tree.east_admin, "ops", receiver.address);
        quiet_now(server, &tree.east_admin);
        let suspect = || NewIncident { kind: Kind::TerminalSuspect, level: Level::P3, ..halted(1) };
        let child = open(server, suspect());
        assert_eq!(told(server, &tree.east_ops, child), [line("incident_opened", "ops", "held", "quiet")]);
        let bank = open(server, NewIncident { kind: Kind::BankOutage, level: Level::P2, ..halted(2) });
        assert_eq!(open(server, suspect()), child);
        assert_eq!(told(server, &tree.east_ops, child), [line("incident_opened", "ops", "withdrawn", "quiet")]);
        assert_eq!(told(server, &tree.east_ops, bank), [line("incident_opened", "ops", "held", "quiet")]);
        server.clock.advance_ms(31 * MINUTE_MS);
        wait_until("the digest arrives", || !receiver.received().is_empty());
        let digest = receiver.received()[0].json();
        let summary: Value = serde_json::from_str(digest["title"]["parameters"]["summary"].as_str().unwrap()).unwrap();
        assert_eq!((&summary["held_count"], &summary["waiting"]), (&json!(1), &json!(1)));
        assert_eq!((&summary["opened"], &summary["unresolved"]), (&json!([0, 1, 0]), &json!([0, 1, 0])));
        assert_eq!(summary["top"].as_array().unwrap().len(), 1);
        assert_eq!(summary["top"][0]["title_key"], "incident-title-bank_outage");
    });
}

#[test]
fn what_was_given_up_can_be_sent_again_one_by_one_and_all_together() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let at = Address::free();
        let id = channel(server, &tree.east_admin, "ops", at);
        let first = open(server, NewIncident { level: Level::P3, ..halted(1) });
        wait_until("a first attempt", || {
            let page = server.get("/api/v1/alert-deliveries", &tree.east_ops).expect(200).json();
            page["items"][0]["attempts"].as_i64() >= Some(1)
        });
        server.clock.advance_ms(KEEP_TRYING_MS + MINUTE_MS);
        wait_until("it is given up", || {
            told(server, &tree.east_ops, first).iter().any(|(_, _, state, _)| state == "failed")
        });
        let receiver = Receiver::start(at, |_, _| Reply::Status(204));
        let failed = || server.get("/api/v1/alert-deliveries?state=failed&size=100", &tree.east_ops).expect(200).json();
        let lost = failed()["items"].as_array().unwrap().clone();
        let oldest = lost.last().unwrap();
        let one = json!({ "alert_id": oldest["alert_id"], "channel_id": id });
        server.post("/api/v1/alert-deliveries/replay", &tree.east_ops, &one).expect(403);
        let again = server.post("/api/v1/alert-deliveries/replay", &tree.east_admin, &one).expect(200);
        assert_eq!(again.json(), json!({ "count": 1 }));
        wait_until("it arrives", || receiver.received().iter().any(|request| request.json()["incident_id"] == first));
        // What arrived can be sent again as well, and is no delivery that its receiver has seen.
        let names = || -> Vec<String> {
            let received = receiver.received();
            let of_it = received.iter().filter(|request| request.json()["id"] == oldest["alert_id"]);
            of_it.map(|request| request.delivery().to_owned()).collect()
        };
        wait_until("that is noted", || {
            let sent = server.get("/api/v1/alert-deliveries?state=sent&size=100", &tree.east_ops).expect(200).json();
            sent["items"].as_array().unwrap().iter().any(|line| line["alert_id"] == oldest["alert_id"])
        });
        server.post("/api/v1/alert-deliveries/replay", &tree.east_admin, &one).expect(200);
        wait_until("it arrives again", || names().len() == 2);
        assert_ne!(names()[0], names()[1]);
        let all = server.post("/api/v1/alert-deliveries/replay", &tree.east_admin, &json!({ "channel_id": id }));
        all.expect(200);
        wait_until("nothing is lost", || failed()["items"] == json!([]));
        server.post("/api/v1/alert-deliveries/replay", &tree.east_admin, &json!({ "alert_id": 1 })).expect(422);
        let nothing = json!({ "alert_id": 999_999, "channel_id": id });
        server.post("/api/v1/alert-deliveries/replay", &tree.east_admin, &nothing).expect(404);
        server.get("/api/v1/alert-deliveries?state=lost", &tree.east_ops).expect(422);
        assert_eq!(server.get("/api/v1/alert-deliveries", &tree.west_ops).expect(200).json()["items"], json!([]));
    });
}
