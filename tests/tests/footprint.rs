//! How little the delivered programs need: the agent of the `dist` profile and the server of the release profile.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tillward_tests::admin::Admin;
use tillward_tests::agent::{Agent, Provision};
use tillward_tests::database::Database;
use tillward_tests::server::Server;
use tillward_tests::{programs, skip, wait_until, wait_within};

const MODEL: &str = "demo-p1";

/// What a terminal gives the agent's program, bytes.
const AGENT_BYTES_MAX: u64 = 2_500_000;
/// What a terminal gives the agent's memory, KiB.
const AGENT_PEAK_KIB_MAX: u64 = 6 * 1024;
/// What may come on top from the 100th to the 1,100th check-in, KiB.
const AGENT_GROWTH_KIB_MAX: u64 = 256;
/// Payload whose download is measured, bytes.
const PAYLOAD_BYTES: usize = 64 << 20;
/// Terminals that the server is given.
const TERMINALS: usize = 100_000;
/// What the server may need afterwards, KiB.
const SERVER_KIB_MAX: u64 = 150 * 1024;

fn from_environment(variable: &str, what: &str, remedy: &str) -> Option<PathBuf> {
    let found = std::env::var_os(variable).map(PathBuf::from);
    if found.is_none() {
        skip(what, &format!("{remedy} and set {variable} to it; ./tests/run does that"));
    }
    found
}

fn delivered_agent(what: &str) -> Option<PathBuf> {
    let remedy = "build with `cargo build --profile dist -p tillward-agent --features quickstart`";
    from_environment("TILLWARD_DIST_AGENT", what, remedy)
}

#[test]
fn the_delivered_agent_is_small() {
    let Some(program) = delivered_agent("the size of the agent") else { return };
    let bytes = std::fs::metadata(&program).unwrap().len();
    println!("tillward-agent: {bytes} bytes");
    assert!(bytes <= AGENT_BYTES_MAX, "{bytes} bytes are more than {AGENT_BYTES_MAX}");
}

#[test]
fn the_delivered_agent_needs_little_memory_over_a_thousand_check_ins_and_a_large_download() {
    let Some(program) = delivered_agent("the memory of the agent") else { return };
    let server = Server::start();
    let admin = Admin::set_up(&server);
    admin.add_model(MODEL);
    let registered = admin.add_terminal("SMALL0001", MODEL);
    let provision = Provision { poll_max_s: 0.001, ..Provision::of(&admin, &server.url) };
    let mut agent = Agent::prepare_with(program, &provision, &registered);
    agent.start();
    let process = agent.process().unwrap();
    let limit = Duration::from_secs(240);
    wait_within(limit, "100 check-ins", || admin.totals().state_check_ins >= 100);
    let early = process.memory_kib("VmRSS");
    wait_within(limit, "1,100 check-ins", || admin.totals().state_check_ins >= 1_100);
    let late = process.memory_kib("VmRSS");

    let payload = large_payload("4.4.0");
    let release = admin.publish("4.4.0", 44, MODEL, &payload);
    let rollout = admin.roll_out("64 MiB", release, &json!({}));
    let mut peak = 0;
    let mut asked = Instant::now();
    wait_within(limit, "the rollout ends", || {
        // An agent that starts over begins a new count: look often, keep the highest.
        peak = peak.max(process.memory_kib("VmHWM"));
        let is_time = asked.elapsed() > Duration::from_millis(300);
        if is_time {
            asked = Instant::now();
        }
        is_time && admin.rollout(rollout)["state"] == "succeeded"
    });
    println!("tillward-agent: {early} KiB after 100 check-ins, {late} KiB after 1,100, {peak} KiB at the peak");
    let ending = admin.only_assignment(rollout);
    assert_eq!(ending["phase"], "succeeded", "{ending}");
    assert!(agent.payload() == payload, "the slot does not hold the payload");
    assert!(late <= early + AGENT_GROWTH_KIB_MAX, "grew from {early} to {late} KiB");
    assert!(peak <= AGENT_PEAK_KIB_MAX, "{peak} KiB are more than {AGENT_PEAK_KIB_MAX}");
}

/// A firmware that is healthy and large, of bytes that do not repeat.
fn large_payload(version: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let mut state = 1_u64;
    let blob: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()
    })
    .take(PAYLOAD_BYTES / 8)
    .flatten()
    .collect();
    std::fs::write(folder.path().join("version"), version).unwrap();
    std::fs::write(folder.path().join("health.sh"), "#!/bin/sh\nexit 0\n").unwrap();
    std::fs::write(folder.path().join("blob"), blob).unwrap();
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(folder.path()).args(["-cf", "-", "version", "health.sh", "blob"]);
    let output = programs::run(tar, Duration::from_secs(60));
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

#[test]
fn a_server_with_a_hundred_thousand_terminals_needs_little_memory() {
    let remedy = "build with `cargo build --release -p tillward`";
    let Some(program) = from_environment("TILLWARD_RELEASE_BIN", "the memory of the server", remedy) else { return };
    let server = Server::start_with(program, Database::Sqlite, 900);
    let admin = Admin::set_up(&server);
    admin.add_model(MODEL);
    let mut file = String::from("sn,model,region,merchant_no,merchant_name,store_name,tags\n");
    for index in 0..TERMINALS {
        let (merchant, store) = (index / 4, index % 7);
        writeln!(
            file,
            "NEW{index:08},{MODEL},shanghai,85033105311{:04},商户 {merchant},门店 {store},batch-{}",
            merchant % 10_000,
            index % 50
        )
        .unwrap();
    }
    let started = Instant::now();
    let imported: Value = admin.upload("/api/v1/terminals/import", "text/csv", file.as_bytes());
    let took = started.elapsed();
    assert_eq!((&imported["created"], &imported["invalid"]), (&json!(TERMINALS), &json!(0)), "{imported}");
    drop(file);
    let list = admin.get("/api/v1/terminals?size=100");
    assert_eq!(list["items"].as_array().unwrap().len(), 100);
    let mut now = u64::MAX;
    // Idle: allocators give memory back some seconds after the work.
    let settled = Instant::now();
    wait_until("the server's memory is small again", || {
        now = server.process().memory_kib("VmRSS");
        now <= SERVER_KIB_MAX || settled.elapsed() > Duration::from_secs(30)
    });
    let peak = server.process().memory_kib("VmHWM");
    println!("tillward: {TERMINALS} terminals imported in {took:.1?}; {now} KiB idle, {peak} KiB at the peak");
    assert!(now <= SERVER_KIB_MAX, "{now} KiB are more than {SERVER_KIB_MAX}");
}
