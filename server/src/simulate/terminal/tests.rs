use tillward_protocol::Check;
use tillward_protocol::checkin::{Acknowledged, Desired};
use tillward_protocol::crypto::{public_hex, verify_hex};
use tillward_protocol::ids::Sha256Hex;

use super::*;
use crate::simulate::population::Population;

fn terminal(starts_at_ms: i64, index: u64) -> Terminal {
    let scenario = Arc::new(Scenario {
        seed: 3,
        interval_s: 1_800.0,
        starts_at_ms,
        firmware: ("4.1.0".parse().unwrap(), 41),
        app: "3.8.14".parse().unwrap(),
        agent: "0.1.0".parse().unwrap(),
        fault: Some(Fault::demo("4.2.0".parse().unwrap())),
    });
    let place = Population::built_in().unwrap().sample(&mut Draws::of(3, "place", index));
    let mut terminal = Terminal::new(&scenario, index, "D1".parse().unwrap(), "demo-p1".parse().unwrap(), place);
    terminal.enrolled(TerminalId(7), Stream(1));
    terminal
}

fn answer(stream: u32, seq: u32) -> CheckInAnswer {
    CheckInAnswer {
        acknowledged: Acknowledged { stream: Stream(stream), seq: Seq(seq) },
        server_time_ms: 0,
        next_check_in_s: 900,
        desired: Desired::default(),
        manifest_wanted: false,
    }
}

fn parse(sealed: &Sealed) -> CheckIn {
    serde_json::from_slice(&sealed.body).unwrap()
}

#[test]
fn a_report_is_the_same_bytes_until_it_is_acknowledged() {
    let mut terminal = terminal(1_795_000_000_000, 0);
    let first = terminal.report().unwrap();
    assert!(!terminal.answered(&answer(1, 0)));
    assert_eq!(terminal.report().unwrap().body, first.body);
    assert_eq!(terminal.tally.check_ins, 0);
    assert!(terminal.answered(&answer(1, 1)));
    assert_eq!((terminal.tally.check_ins, parse(&terminal.report().unwrap()).seq), (1, Seq(2)));
}

#[test]
fn a_newer_stream_at_the_server_makes_it_number_anew() {
    let mut terminal = terminal(1_795_000_000_000, 0);
    let _ = terminal.report().unwrap();
    assert!(!terminal.answered(&answer(4, 9)));
    let next = parse(&terminal.report().unwrap());
    assert_eq!((next.stream, next.seq), (Stream(5), Seq(1)));
}

#[test]
fn every_report_is_possible_and_the_first_one_proves_what_runs() {
    for index in 0..6 {
        let mut terminal = terminal(1_795_000_000_000, index);
        let mut failures = 0;
        for seq in 1..=96 {
            let check_in = parse(&terminal.report().unwrap());
            assert_eq!(check_in.check(), Ok(()));
            assert_eq!(check_in.transactions.failed as usize, check_in.failures.len());
            assert_eq!(check_in.manifest.is_some(), seq == 1);
            if let Some(manifest) = &check_in.manifest {
                let key = public_hex(&terminal.key);
                assert!(verify_hex(&key, &manifest::signed_bytes(&manifest.body), &manifest.signature));
            }
            failures += check_in.failures.len() as u64;
            assert!(terminal.answered(&answer(1, seq)));
        }
        assert_eq!((terminal.tally.check_ins, terminal.tally.failures), (96, failures));
    }
}

#[test]
fn what_is_sent_does_not_depend_on_the_time_it_is_sent_at() {
    let run = |starts_at_ms| {
        let mut terminal = terminal(starts_at_ms, 2);
        let mut seen = Vec::new();
        for seq in 1..=48 {
            let check_in = parse(&terminal.report().unwrap());
            seen.push((check_in.transactions, check_in.condition, check_in.failures.len()));
            terminal.answered(&answer(1, seq));
        }
        seen
    };
    assert_eq!(run(1_795_000_000_000), run(1_795_031_234_567));
}

#[test]
fn an_update_ends_with_new_firmware_and_the_proof_of_it_in_one_report() {
    let mut terminal = terminal(1_795_000_000_000, 1);
    let order = Order {
        assignment: 9,
        name: "demo-p1.os.4.2.0-42.bin".to_owned(),
        length: 10,
        sha256: Sha256Hex::of(b"x"),
        version: "4.2.0".parse().unwrap(),
        release_counter: 42,
    };
    let mut seq = 0;
    let mut exchange = |terminal: &mut Terminal| {
        seq += 1;
        let check_in = parse(&terminal.report().unwrap());
        terminal.answered(&answer(1, seq));
        check_in
    };
    exchange(&mut terminal);
    terminal.directed(1, 2, Some(order));
    for _ in 0..crate::simulate::course::CHECK_INS_MAX {
        if terminal.course.wants_payload().is_some() {
            terminal.course.downloaded(0);
        }
        let check_in = exchange(&mut terminal);
        let phase = check_in.update.map(|update| update.phase);
        let is_final = phase == Some(tillward_protocol::phase::Phase::Succeeded);
        assert_eq!(check_in.software.firmware.as_str() == "4.2.0", is_final || phase.is_none());
        assert_eq!(check_in.manifest.is_some(), is_final);
    }
    assert_eq!(terminal.firmware().as_str(), "4.2.0");
}
