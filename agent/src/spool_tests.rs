use super::*;
use tillward_protocol::checkin::{CHECK_IN_VERSION, DeviceHealth, NetworkCounters, Slot, Software, TerminalReport};
use tillward_protocol::condition::Condition;

fn failure(id: &str) -> Event {
    let json = format!(r#"{{"id":"{id}","occurred_at_ms":1,"transaction":"sale","stage":"wait","condition":{{}}}}"#);
    Event::Failure(Box::new(serde_json::from_str(&json).unwrap()))
}

fn counters(id: &str, ok: u32) -> Event {
    Event::Counters(id.to_owned(), TransactionCounters { ok, ..Default::default() })
}

fn payment(id: &str) -> Event {
    let json = format!(r#"{{"id":"{id}","occurred_at_ms":1,"transaction":"sale","amount_fen":1200}}"#);
    Event::Payment(Box::new(serde_json::from_str(&json).unwrap()))
}

fn payment_ids(report: &CheckIn) -> Vec<&str> {
    report.payments.iter().map(|payment| payment.id.as_str()).collect()
}

fn check_in(stream: Stream, seq: Seq, load: Load) -> CheckIn {
    let Load { transactions, failures, payments } = load;
    CheckIn {
        v: CHECK_IN_VERSION,
        stream,
        seq,
        at_ms: 1,
        boot_id: "b".to_owned(),
        software: Software {
            firmware: "1".parse().unwrap(),
            slot: Slot::A,
            agent: "1".parse().unwrap(),
            app: None,
            boot: None,
            hardware: None,
            config_hash: None,
        },
        terminal: TerminalReport::default(),
        condition: Condition::default(),
        network: NetworkCounters::default(),
        device: DeviceHealth::default(),
        transactions,
        failures,
        payments,
        update: None,
        manifest: None,
    }
}

fn sealed(spool: &Spool) -> CheckIn {
    serde_json::from_str(&spool.sealed().unwrap().body).unwrap()
}

fn open(folder: &Path) -> Spool {
    Spool::load(folder, Stream(3)).unwrap().0
}

fn acknowledged(stream: u32, seq: u32) -> Acknowledged {
    Acknowledged { stream: Stream(stream), seq: Seq(seq) }
}

#[test]
fn an_event_is_counted_once_however_often_it_is_found_and_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(open(folder.path()).add(vec![failure("f1"), counters("c1", 4)]).unwrap(), 2);
    assert_eq!(open(folder.path()).add(vec![failure("f1"), counters("c1", 4), failure("f2")]).unwrap(), 1);
    let mut spool = open(folder.path());
    spool.seal(None, check_in).unwrap();
    assert_eq!(open(folder.path()).add(vec![failure("f1")]).unwrap(), 0);
    let report = sealed(&open(folder.path()));
    assert_eq!((report.stream, report.seq, report.transactions.ok), (Stream(3), Seq(1), 4));
    assert_eq!(report.failures.iter().map(|f| f.id.as_str()).collect::<Vec<_>>(), ["f1", "f2"]);
}

#[test]
fn what_comes_after_sealing_goes_into_the_next_report_and_the_bytes_stay() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    spool.add(vec![failure("f1")]).unwrap();
    spool.seal(None, check_in).unwrap();
    let bytes = spool.sealed().unwrap().body.clone();
    spool.add(vec![failure("f2")]).unwrap();
    assert_eq!(open(folder.path()).sealed().unwrap().body, bytes);
    assert_eq!(spool.acknowledge(acknowledged(3, 0)).unwrap(), Taken::NotYet);
    assert!(matches!(spool.acknowledge(acknowledged(3, 1)).unwrap(), Taken::Counted(_)));
    spool.seal(None, check_in).unwrap();
    let next = sealed(&spool);
    assert_eq!((next.seq, next.failures.len(), next.failures[0].id.as_str()), (Seq(2), 1, "f2"));
}

#[test]
fn a_server_that_knows_more_makes_a_new_stream_and_nothing_is_lost() {
    for theirs in [acknowledged(7, 0), acknowledged(3, 9)] {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = open(folder.path());
        spool.add(vec![failure("f1")]).unwrap();
        spool.seal(None, check_in).unwrap();
        assert_eq!(spool.acknowledge(theirs).unwrap(), Taken::Renumbered);
        let report = sealed(&open(folder.path()));
        assert_eq!((report.stream.0, report.seq, report.failures.len()), (theirs.stream.0 + 1, Seq(1), 1));
        assert!(matches!(spool.acknowledge(acknowledged(theirs.stream.0 + 1, 1)).unwrap(), Taken::Counted(_)));
        spool.seal(None, check_in).unwrap();
        assert_eq!(sealed(&spool).seq, Seq(2));
    }
}

#[test]
fn a_report_carries_only_as_many_failures_and_counts_as_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    let failures = (0..FAILURES_MAX + 5).map(|n| failure(&format!("f{n}"))).collect();
    spool.add(failures).unwrap();
    spool.add(vec![counters("c1", COUNT_MAX), counters("c2", 7)]).unwrap();
    spool.seal(None, check_in).unwrap();
    assert_eq!((sealed(&spool).failures.len(), sealed(&spool).transactions.ok), (FAILURES_MAX, COUNT_MAX));
    assert_eq!(spool.waiting(), 5);
    spool.acknowledge(acknowledged(3, 1)).unwrap();
    spool.seal(None, check_in).unwrap();
    assert_eq!((sealed(&spool).failures.len(), sealed(&spool).transactions.ok), (5, 7));
}

#[test]
fn the_spool_is_bounded_and_says_what_it_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    let mut next = 0;
    while spool.losses().0 == 0 {
        let failures = (next..next + 500).map(|n| failure(&format!("f{n}"))).collect();
        spool.add(failures).unwrap();
        next += 500;
        assert!(next < 100_000);
    }
    assert!(spool.bytes() <= SPOOL_BYTES_MAX);
    assert_eq!(spool.waiting() as u64 + spool.losses().0, next);
}

#[test]
fn a_refused_report_is_put_aside_and_the_next_one_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    for n in 1..=30 {
        spool.seal(None, check_in).unwrap();
        assert_eq!(sealed(&spool).seq, Seq(n));
        spool.refuse().unwrap();
    }
    assert_eq!(spool.losses(), (0, 30));
    assert_eq!(std::fs::read_dir(folder.path().join("refused")).unwrap().count(), REFUSED_FILES_MAX);
}

#[test]
fn any_damage_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    spool.add(vec![failure("f1")]).unwrap();
    let path = folder.path().join("spool.json");
    let good = std::fs::read(&path).unwrap();
    for index in 0..good.len() {
        let mut bad = good.clone();
        bad[index] ^= 1;
        std::fs::write(&path, bad).unwrap();
        assert_eq!(Spool::load(folder.path(), Stream(4)).unwrap().1, Found::Damaged, "byte {index}");
    }
}

#[test]
fn a_server_that_is_ahead_by_more_than_any_past_explains_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    spool.add(vec![failure("f1")]).unwrap();
    spool.seal(None, check_in).unwrap();
    assert_eq!(spool.acknowledge(acknowledged(u32::MAX, u32::MAX)).unwrap(), Taken::NotYet);
    assert!(matches!(spool.acknowledge(acknowledged(3, 1)).unwrap(), Taken::Counted(_)));
}

#[test]
fn what_a_newer_agent_left_is_kept_as_far_as_it_is_understood() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    spool.add(vec![failure("f1")]).unwrap();
    spool.seal(None, check_in).unwrap();
    spool.add(vec![failure("f2"), failure("f3")]).unwrap();
    let mut newer = crate::json::value(&spool.content);
    newer["surprise"] = 1.into();
    newer["sealed"]["update"] = serde_json::json!({"assignment": 1, "phase": "new_word"});
    newer["failures"][0]["surprise"] = 1.into();
    let json = newer.to_string();
    let bytes = format!("{HEADER}{}\n{json}", Sha256Hex::of(json.as_bytes()));
    std::fs::write(folder.path().join("spool.json"), bytes).unwrap();
    let (spool, found) = Spool::load(folder.path(), Stream(9)).unwrap();
    assert_eq!((found, spool.stream(), spool.waiting(), spool.losses().0), (Found::Valid, Stream(3), 1, 1));
    assert!(spool.sealed().unwrap().body.contains("\"f1\""));
}

#[test]
fn payments_are_counted_once_survive_a_restart_and_go_in_batches() {
    let folder = tempfile::tempdir().unwrap();
    let many: Vec<Event> = (0..PAYMENTS_MAX + 3).map(|n| payment(&format!("p{n:03}"))).collect();
    assert_eq!(open(folder.path()).add(many).unwrap(), PAYMENTS_MAX + 3);
    assert_eq!(open(folder.path()).add(vec![payment("p258")]).unwrap(), 0);
    let mut spool = open(folder.path());
    spool.seal(None, check_in).unwrap();
    assert_eq!((payment_ids(&sealed(&spool)).len(), spool.payments_waiting()), (PAYMENTS_MAX, 3));
    let mut spool = open(folder.path());
    assert!(matches!(spool.acknowledge(acknowledged(3, 1)).unwrap(), Taken::Counted(_)));
    spool.seal(None, check_in).unwrap();
    assert_eq!(payment_ids(&sealed(&open(folder.path()))), ["p256", "p257", "p258"]);
    assert_eq!(spool.payments_dropped(), 0);
}

#[test]
fn payments_have_their_own_limit_and_make_room_before_any_failure() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    for turn in 0..3 {
        spool.add((0..500).map(|n| payment(&format!("p{turn}-{n:03}"))).collect()).unwrap();
    }
    assert_eq!((spool.payments_waiting(), spool.payments_dropped()), (PAYMENTS_WAITING_MAX, 500));
    let mut failures = 0;
    while spool.payments_waiting() > 0 {
        spool.add((0..500).map(|n| failure(&format!("f{failures}-{n}"))).collect()).unwrap();
        failures += 500;
        assert!(spool.bytes() <= SPOOL_BYTES_MAX && failures < 100_000);
        if spool.payments_waiting() > 0 {
            assert_eq!((spool.waiting(), spool.losses().0), (failures, 0));
        }
    }
    assert_eq!(spool.payments_dropped(), 1_500);
}

#[test]
fn a_report_without_its_payments_keeps_its_number_and_everything_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    assert!(!spool.strip_payments().unwrap(), "nothing is sealed");
    spool.add(vec![failure("f1"), payment("p1"), payment("p2"), counters("c", 3)]).unwrap();
    spool.seal(None, check_in).unwrap();
    assert!(spool.strip_payments().unwrap());
    assert!(!spool.strip_payments().unwrap(), "there are none any more");
    let spool = open(folder.path());
    let report = sealed(&spool);
    assert!(!spool.sealed().unwrap().body.contains("payments"));
    assert_eq!((report.seq, report.failures.len(), report.transactions.ok), (Seq(1), 1, 3));
    assert_eq!((spool.payments_dropped(), spool.losses()), (2, (0, 0)));
}

#[test]
fn payments_that_are_not_wanted_any_more_are_forgotten_and_failures_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    spool.add(vec![failure("f1"), payment("p1")]).unwrap();
    spool.forget_payments().unwrap();
    let spool = open(folder.path());
    assert_eq!((spool.waiting(), spool.payments_waiting()), (1, 0));
}

#[test]
fn the_spool_of_an_agent_from_before_there_were_payments_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    spool.add(vec![failure("f1"), payment("p1")]).unwrap();
    let mut older = crate::json::value(&spool.content);
    older.as_object_mut().unwrap().remove("payments").unwrap();
    older.as_object_mut().unwrap().remove("payments_dropped").unwrap();
    let json = older.to_string();
    let bytes = format!("{HEADER}{}\n{json}", Sha256Hex::of(json.as_bytes()));
    std::fs::write(folder.path().join("spool.json"), bytes).unwrap();
    let (spool, found) = Spool::load(folder.path(), Stream(9)).unwrap();
    assert_eq!((found, spool.waiting(), spool.payments_waiting()), (Found::Valid, 1, 0));
}
