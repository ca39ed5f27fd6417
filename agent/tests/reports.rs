//! The real agent and its reports: counted exactly once, whatever the network does.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;
use std::process::Stdio;

use serde_json::json;
use support::server::{Mishap, Server};
use support::signer::Signer;
use support::terminal::{Terminal, names};
use tillward_protocol::checkin::DesiredConfig;
use tillward_protocol::ids::{Seq, Sha256Hex, Stream};

fn terminal() -> (Server, Terminal) {
    let server = Server::start();
    let terminal = Terminal::new(&server, &Signer::new());
    (server, terminal)
}

/// Tries until a round is answered.
fn persist(terminal: &Terminal) {
    for _ in 0..10 {
        if terminal.try_round().status.success() {
            return;
        }
    }
    panic!("no round was answered");
}

#[test]
fn a_failure_is_counted_once_with_the_conditions_it_happened_under() {
    let (server, terminal) = terminal();
    terminal.round();
    terminal.drop_failure("f1");
    terminal.drop_file("c1.json", r#"{"id":"c1","transactions":{"ok":12,"failed":2,"by_code":{"51":1}}}"#);
    terminal.round();
    terminal.round();
    let world = server.world();
    assert_eq!(world.failure_ids(), ["f1"]);
    let report = world.counted.iter().find(|check_in| !check_in.failures.is_empty()).unwrap();
    assert_eq!(report.failures[0].firmware.as_ref().unwrap().as_str(), "1.0.0");
    assert_eq!(world.counted.iter().map(|check_in| check_in.transactions.ok).sum::<u32>(), 12);
    assert!(report.failures[0].condition.tcp_ms.is_none(), "nothing was measured before the first connection of a run");
    assert!(
        world.counted.iter().all(|check_in| check_in.condition.dns_ms.is_some() && check_in.condition.tcp_ms.is_some())
    );
    assert!(names(&terminal.state().join("drop")).is_empty());
}

#[test]
fn lost_requests_lost_answers_and_a_busy_server_lose_and_double_nothing() {
    let (server, terminal) = terminal();
    terminal.round();
    let mishaps = [Mishap::LoseAnswer, Mishap::LoseRequest, Mishap::Busy, Mishap::ForgetSession];
    let mut expected = Vec::new();
    for turn in 0..12 {
        expected.push(format!("f{turn:02}"));
        terminal.drop_failure(&expected[turn]);
        server.world().mishaps.push_back(mishaps[turn % mishaps.len()]);
        terminal.try_round();
    }
    server.world().mishaps.clear();
    persist(&terminal);
    let world = server.world();
    let mut counted = world.failure_ids();
    counted.sort();
    assert_eq!(counted, expected);
    let numbers: Vec<_> = world.counted.iter().map(|check_in| (check_in.stream, check_in.seq)).collect();
    assert!(numbers.windows(2).all(|pair| pair[0].0 == pair[1].0 && pair[0].1.0 + 1 == pair[1].1.0), "{numbers:?}");
}

#[test]
fn a_report_is_sent_again_byte_for_byte() {
    let (server, terminal) = terminal();
    terminal.round();
    terminal.drop_failure("f1");
    server.world().mishaps.extend([Mishap::LoseAnswer, Mishap::LoseAnswer]);
    assert!(!terminal.try_round().status.success());
    terminal.drop_failure("f2");
    assert!(!terminal.try_round().status.success());
    terminal.round();
    let world = server.world();
    let sent: Vec<&String> = world.arrived.iter().filter(|body| body.contains("\"f1\"")).collect();
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|body| *body == sent[0] && !body.contains("\"f2\"")));
    assert_eq!(world.failure_ids(), ["f1", "f2"]);
}

#[test]
fn more_failures_than_fit_one_report_follow_at_once() {
    let (server, terminal) = terminal();
    for n in 0..150 {
        terminal.drop_failure(&format!("f{n:03}"));
    }
    terminal.round();
    let world = server.world();
    assert_eq!(world.failure_ids(), (0..150).map(|n| format!("f{n:03}")).collect::<Vec<_>>());
    assert!(world.counted.iter().all(|check_in| check_in.failures.len() <= 64));
}

#[test]
fn a_refused_report_is_put_aside_and_the_agent_goes_on() {
    let (server, terminal) = terminal();
    terminal.round();
    server.world().mishaps.push_back(Mishap::Refuse);
    terminal.round();
    terminal.round();
    assert_eq!(server.world().counted.len(), 3);
    let status = terminal.status();
    assert_eq!(status["spool"]["reports_refused"], 1);
    assert!(status["last_refused_report"].as_str().unwrap().contains("rsrp_dbm"), "{status}");
    assert_eq!(names(&terminal.state().join("refused")), ["report-1-2.json"]);
}

#[test]
fn an_event_that_cannot_be_taken_is_put_aside_without_its_content() {
    let (server, terminal) = terminal();
    terminal.drop_file(
        "bad.json",
        r#"{"id":"b","occurred_at_ms":1,"transaction":"sale","stage":"wait","note":"4111111111111111"}"#,
    );
    terminal.drop_failure("good");
    terminal.round();
    assert_eq!(server.world().failure_ids(), ["good"]);
    assert!(names(&terminal.state().join("drop")).is_empty());
    let kept = std::fs::read_to_string(terminal.state().join("refused/event-bad.json")).unwrap();
    assert!(kept.contains("note") && !kept.contains("4111"), "{kept}");
}

#[test]
fn a_lost_spool_starts_a_new_stream() {
    let (server, terminal) = terminal();
    terminal.round();
    terminal.round();
    std::fs::write(terminal.state().join("spool.json"), b"damaged").unwrap();
    terminal.drop_failure("f1");
    terminal.round();
    std::fs::remove_file(terminal.state().join("spool.json")).unwrap();
    terminal.drop_failure("f2");
    terminal.round();
    let world = server.world();
    assert_eq!(world.failure_ids(), ["f1", "f2"]);
    assert_eq!(world.known, Some((Stream(3), Seq(1))));
}

#[test]
fn a_server_that_knows_a_newer_stream_is_followed() {
    let (server, terminal) = terminal();
    terminal.round();
    server.world().known = Some((Stream(9), Seq(4)));
    terminal.drop_failure("f1");
    terminal.round();
    let world = server.world();
    assert_eq!((world.failure_ids(), world.known), (vec!["f1".to_owned()], Some((Stream(10), Seq(2)))));
}

#[test]
fn a_profile_comes_into_force_only_with_the_right_digest_and_its_hash_is_reported() {
    let (server, terminal) = terminal();
    let (good, bad) = (Sha256Hex::of(b"{\"apn\":\"cmnet\"}"), Sha256Hex::of(b"other"));
    for hash in [&bad, &good] {
        let path = format!("/device/v1/configs/{hash}");
        server.world().files.insert(path, b"{\"apn\":\"cmnet\"}".to_vec().into());
        server.world().desired.config = Some(DesiredConfig { hash: hash.clone(), attempt: 0 });
        terminal.round();
        terminal.round();
        let reported = server.world().counted.last().unwrap().software.config_hash.clone();
        assert_eq!(reported.as_ref(), (*hash == good).then_some(&good));
    }
    assert_eq!(std::fs::read(terminal.state().join("profile.json")).unwrap(), b"{\"apn\":\"cmnet\"}");
}

#[test]
fn a_profile_in_force_is_fetched_and_applied_again_when_the_server_asks_for_it() {
    let (server, terminal) = terminal();
    let hash = Sha256Hex::of(b"{}");
    let path = format!("/device/v1/configs/{hash}");
    server.world().files.insert(path.clone(), b"{}".to_vec().into());
    for (attempt, fetched) in [(0, 1), (0, 1), (1, 2), (0, 2)] {
        server.world().desired.config = Some(DesiredConfig { hash: hash.clone(), attempt });
        terminal.round();
        let world = server.world();
        assert_eq!(world.requests.iter().filter(|(_, asked, _)| *asked == path).count(), fetched, "{attempt}");
    }
    assert_eq!(std::fs::read(terminal.state().join("profile.json")).unwrap(), b"{}");
}

#[test]
fn a_lost_terminal_locks_itself_and_unlocks_when_found() {
    let (server, terminal) = terminal();
    for locked in [true, false] {
        server.world().desired.locked = locked;
        terminal.round();
        assert_eq!(terminal.state().join("locked").exists(), locked);
    }
}

#[test]
fn a_blocked_terminal_keeps_its_enrolment_and_comes_back() {
    let (server, terminal) = terminal();
    terminal.round();
    server.world().blocked = true;
    terminal.drop_failure("f1");
    assert!(!terminal.try_round().status.success());
    server.world().blocked = false;
    terminal.round();
    let world = server.world();
    assert_eq!(world.failure_ids(), ["f1"]);
    assert_eq!(world.requests.iter().filter(|(_, path, _)| path.ends_with("/enrol")).count(), 1);
}

#[test]
fn a_wrong_activation_code_is_explained() {
    let (server, terminal) = terminal();
    server.world().activation_code = "another".to_owned();
    let output = terminal.try_round();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("activation code is not known"), "{said}");
}

#[test]
fn the_manifest_is_sent_when_it_changed_or_was_asked_for() {
    let (server, terminal) = terminal();
    terminal.round();
    terminal.round();
    server.world().manifest_wanted = true;
    terminal.round();
    terminal.round();
    terminal.round();
    let world = server.world();
    let sent: Vec<bool> = world.counted.iter().map(|check_in| check_in.manifest.is_some()).collect();
    assert_eq!(sent.iter().filter(|sent| **sent).count(), 2, "{sent:?}");
    assert_eq!(world.manifests()[1]["counter"], json!(2));
}

#[test]
fn a_person_can_drop_a_failure_and_read_the_status() {
    let (server, terminal) = terminal();
    let mut child = terminal.command(&["report-failure"]).stdin(Stdio::piped()).spawn().unwrap();
    let event = br#"{"id":"by-hand","occurred_at_ms":1700000000000,"transaction":"sale","stage":"tls"}"#;
    child.stdin.take().unwrap().write_all(event).unwrap();
    assert!(child.wait().unwrap().success());
    terminal.round();
    assert_eq!(server.world().failure_ids(), ["by-hand"]);
    let output = terminal.command(&["status"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    for part in ["terminal 1", "SN0001", "1.0.0", "nothing to do", "spool"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn a_server_with_an_impossible_clock_costs_nothing_but_the_clock_offset() {
    let (server, terminal) = terminal();
    for time_ms in [i64::MIN, i64::MAX] {
        server.world().server_time_ms = Some(time_ms);
        // More than one report in one round: the second knows what the answer to the first said.
        for n in 0..70 {
            terminal.drop_failure(&format!("f{time_ms}-{n}"));
        }
        terminal.round();
    }
    let world = server.world();
    assert_eq!(world.counted.len(), 4);
    assert!(world.counted.iter().all(|check_in| check_in.condition.tcp_ms.is_some()));
}

/// Tells the terminal to apply these parameters, and waits until it did.
fn configure(server: &Server, terminal: &Terminal, parameters: &[u8]) {
    let hash = Sha256Hex::of(parameters);
    server.world().files.insert(format!("/device/v1/configs/{hash}"), parameters.to_vec().into());
    server.world().desired.config = Some(DesiredConfig { hash, attempt: 0 });
    terminal.round();
}

const PAYMENTS_ON: &[u8] = br#"{"tillward.report_payments":true}"#;

#[test]
fn payments_are_reported_only_while_the_profile_asks_for_them() {
    let (server, terminal) = terminal();
    terminal.drop_payment("before");
    terminal.round();
    configure(&server, &terminal, PAYMENTS_ON);
    terminal.drop_payment("p1");
    terminal.drop_failure("f1");
    terminal.round();
    server.world().mishaps.push_back(Mishap::LoseRequest);
    terminal.drop_payment("p2");
    assert!(!terminal.try_round().status.success());
    terminal.round();
    configure(&server, &terminal, b"{}");
    terminal.drop_payment("after");
    terminal.round();
    let world = server.world();
    assert_eq!(
        (world.payment_ids(), world.failure_ids()),
        (vec!["p1".to_owned(), "p2".to_owned()], vec!["f1".to_owned()])
    );
    assert!(names(&terminal.state().join("drop")).is_empty());
    assert!(!terminal.state().join("refused").exists(), "an unwanted payment is kept nowhere");
    let with_payments = world.arrived.iter().filter(|body| body.contains("\"payments\"")).count();
    assert_eq!(with_payments, 2, "where nobody asks, the field is absent");
}

#[test]
fn payments_survive_lost_answers_and_are_counted_once() {
    let (server, terminal) = terminal();
    configure(&server, &terminal, PAYMENTS_ON);
    let mishaps = [Mishap::LoseAnswer, Mishap::LoseRequest, Mishap::Busy, Mishap::ForgetSession];
    let mut expected = Vec::new();
    for turn in 0..8 {
        expected.push(format!("p{turn:02}"));
        terminal.drop_payment(&expected[turn]);
        server.world().mishaps.push_back(mishaps[turn % mishaps.len()]);
        terminal.try_round();
    }
    server.world().mishaps.clear();
    persist(&terminal);
    let mut counted = server.world().payment_ids();
    counted.sort();
    assert_eq!(counted, expected);
}

#[test]
fn a_server_that_knows_no_payments_gets_the_same_report_without_them() {
    let (server, terminal) = terminal();
    configure(&server, &terminal, PAYMENTS_ON);
    server.world().knows_no_payments = true;
    terminal.drop_payment("p1");
    terminal.drop_failure("f1");
    terminal.round();
    terminal.round();
    let world = server.world();
    assert_eq!((world.payment_ids(), world.failure_ids()), (Vec::new(), vec!["f1".to_owned()]));
    let numbers: Vec<u32> = world.counted.iter().map(|check_in| check_in.seq.0).collect();
    assert_eq!(numbers, (1..=u32::try_from(numbers.len()).unwrap()).collect::<Vec<_>>());
    let status = terminal.status();
    assert_eq!((&status["spool"]["payments_dropped"], &status["spool"]["reports_refused"]), (&json!(1), &json!(0)));
}
