//! From activation code to committed firmware: server and agent as they are delivered, nothing in between.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use serde_json::{Value, json};
use tillward_tests::admin::{Admin, text};
use tillward_tests::agent::{Agent, Provision};
use tillward_tests::database::Database;
use tillward_tests::proxy::Proxy;
use tillward_tests::server::Server;
use tillward_tests::{programs, wait_until};

const MODEL: &str = "demo-p1";

fn payload(version: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware-samples/payload");
    std::fs::read(folder.join(format!("{version}.bin"))).unwrap()
}

fn failure(id: &str) -> Value {
    json!({
        "id": id, "occurred_at_ms": 1_790_000_000_000_i64, "transaction": "sale", "stage": "wait", "entry": "nfc",
        "amount_fen": 1_200, "condition": {"access": "2g", "plmn": "46000", "rssi_dbm": -101, "rtt_ms": 2_400},
    })
}

#[test]
fn an_agent_takes_a_signed_update_and_takes_an_unhealthy_one_back_on_sqlite() {
    update_and_take_back(Database::Sqlite);
}

#[test]
fn an_agent_takes_a_signed_update_and_takes_an_unhealthy_one_back_on_postgresql() {
    if let Some(database) = Database::postgres("the whole path") {
        update_and_take_back(database);
    }
}

fn update_and_take_back(database: Database) {
    let server = Server::start_with(programs::tillward(), database, 900);
    let admin = Admin::set_up(&server);
    admin.add_model(MODEL);
    let registered = admin.add_terminal("WHOLE0001", MODEL);
    let mut agent = Agent::prepare(&Provision::of(&admin, &server.url), &registered);
    agent.leave_failure(&failure("before-update"));
    agent.start();
    wait_until("the failure arrives", || admin.totals().state_failures == 1);
    let failures = admin.get(&format!("/api/v1/failures?terminal_id={}", registered.id));
    let seen = &failures["items"][0];
    assert_eq!((&seen["event_id"], &seen["firmware"]), (&json!("before-update"), &json!("4.1.0")), "{seen}");
    assert_eq!(seen["event"]["condition"], failure("")["condition"], "{seen}");

    let good = admin.publish("4.2.0", 42, MODEL, &payload("4.2.0"));
    let first = admin.roll_out("4.2.0", good, &json!({"models": [MODEL]}));
    wait_until("the rollout of the good firmware ends", || admin.rollout(first)["state"] == "succeeded");
    assert_eq!((agent.firmware(), agent.payload()), ("4.2.0".to_owned(), payload("4.2.0")));
    assert_eq!(admin.only_assignment(first)["phase"], "succeeded");

    let bad = admin.publish("4.3.0", 43, MODEL, &payload("4.3.0"));
    let second = admin.roll_out("4.3.0", bad, &json!({"terminal_ids": [registered.id]}));
    wait_until("the rollout of the bad firmware ends", || admin.only_assignment(second)["finished_at_ms"].is_i64());
    let ending = admin.only_assignment(second);
    assert_eq!((text(&ending, "phase"), text(&ending, "reason")), ("rolled_back".into(), "health_check_failed".into()));
    assert_eq!((agent.firmware(), agent.payload()), ("4.2.0".to_owned(), payload("4.2.0")));

    let timeline = admin.get(&format!("/api/v1/terminals/{}/updates", registered.id));
    let phases: Vec<&str> = timeline.as_array().unwrap().iter().filter_map(|event| event["phase"].as_str()).collect();
    assert!(phases.contains(&"succeeded") && phases.contains(&"rolled_back"), "{timeline}");
    agent.stop();
    agent.round();
    let last_seq = agent.status()["spool"]["last_seq"].as_u64().unwrap();
    assert_eq!(admin.totals().state_check_ins, last_seq, "the agent's books and the server's differ");
}

#[test]
fn an_agent_behind_a_bad_network_still_installs_the_firmware_whole() {
    let server = Server::start();
    let admin = Admin::set_up(&server);
    admin.add_model(MODEL);
    let registered = admin.add_terminal("WHOLE0002", MODEL);
    let proxy = Proxy::start(&server.url, 21);
    let mut agent = Agent::prepare(&Provision::of(&admin, &proxy.url), &registered);
    let failures = 20;
    for number in 0..failures {
        agent.leave_failure(&failure(&format!("bad-network-{number}")));
    }
    agent.start();
    wait_until("the agent checks in", || admin.totals().state_check_ins > 0);
    let release = admin.publish("4.2.0", 42, MODEL, &payload("4.2.0"));
    let rollout = admin.roll_out("4.2.0", release, &json!({}));
    wait_until("the rollout ends", || admin.rollout(rollout)["state"] == "succeeded");
    assert_eq!((agent.firmware(), agent.payload()), ("4.2.0".to_owned(), payload("4.2.0")));
    wait_until("every fault was tried", || proxy.faults().is_complete());
    wait_until("the failures arrive", || admin.totals().state_failures >= failures);
    assert_eq!(admin.totals().state_failures, failures);
}
