//! Each rule: hit, near miss, and what is not known.

use super::super::window::Window;
use super::*;

const NOW: i64 = 1_800_000_000_000;

fn days_ago(days: i64) -> i64 {
    NOW - days * DAY_MS
}

/// A terminal of which nothing is due.
fn well() -> Facts<'static> {
    Facts {
        model: "pax-a920",
        since_ms: days_ago(10),
        last_seen_ms: NOW - 60_000,
        tamper: Some(Tamper::Ok),
        coin_mv: Some(3_000),
        certificate_expires_ms: Some(NOW + 400 * DAY_MS),
        sim_expires_ms: Some(NOW + 400 * DAY_MS),
        ..Facts::default()
    }
}

fn found(facts: &Facts<'_>) -> Vec<(Reason, Urgency, Observed, i64)> {
    let found = judge(facts, &Windows::default(), &Rules::default(), NOW).into_iter();
    found.map(|finding| (finding.reason, finding.urgency, finding.observed, finding.threshold)).collect()
}

fn number(reason: Reason, urgency: Urgency, observed: i64, threshold: i64) -> Vec<(Reason, Urgency, Observed, i64)> {
    vec![(reason, urgency, Observed::Number(observed), threshold)]
}

#[test]
fn a_healthy_terminal_is_not_due_and_one_that_says_nothing_neither() {
    assert_eq!(found(&well()), vec![]);
    assert_eq!(found(&Facts { since_ms: days_ago(10), ..Facts::default() }), vec![]);
}

#[test]
fn an_inspection_is_due_by_its_interval_and_soon_when_half_of_it_more_has_passed() {
    let inspected = |days| Facts { since_ms: days_ago(2_000), inspected_at_ms: Some(days_ago(days)), ..well() };
    assert_eq!(found(&inspected(179)), vec![]);
    assert_eq!(found(&inspected(180)), number(Reason::Age, Urgency::Planned, days_ago(180), 180));
    assert_eq!(found(&inspected(269)), number(Reason::Age, Urgency::Planned, days_ago(269), 180));
    assert_eq!(found(&inspected(270)), number(Reason::Age, Urgency::Soon, days_ago(270), 180));
    let never = Facts { since_ms: days_ago(181), ..well() };
    assert_eq!(found(&never), number(Reason::Age, Urgency::Planned, days_ago(181), 180));
}

#[test]
fn the_shortest_interval_of_model_and_tags_counts() {
    let rules = Rules {
        inspection_days_by_model: BTreeMap::from([("pax-a920".to_owned(), 400)]),
        inspection_days_by_tag: BTreeMap::from([("high-risk".to_owned(), 90), ("kiosk".to_owned(), 30)]),
        ..Rules::default()
    };
    assert_eq!(rules.interval_days("pax-a920", &[]), 400);
    assert_eq!(rules.interval_days("pax-a920", &["high-risk"]), 90);
    assert_eq!(rules.interval_days("pax-a920", &["high-risk", "kiosk", "other"]), 30);
    assert_eq!(rules.interval_days("other", &["other"]), 180);
}

#[test]
fn dormancy_is_counted_from_the_last_call_and_unknown_without_one() {
    let seen = |days| Facts { last_seen_ms: days_ago(days), ..well() };
    assert_eq!(found(&seen(59)), vec![]);
    assert_eq!(found(&seen(60)), number(Reason::Dormant, Urgency::Soon, days_ago(60), 60));
    assert_eq!(found(&seen(80)), number(Reason::Dormant, Urgency::Now, days_ago(80), 80));
    assert_eq!(found(&Facts { last_seen_ms: 0, ..well() }), vec![]);
}

#[test]
fn expiries_have_three_bands_and_what_has_expired_stays_in_the_last() {
    let expires = |days| Facts { certificate_expires_ms: Some(NOW + days * DAY_MS), ..well() };
    let band = |days, urgency, threshold| {
        assert_eq!(found(&expires(days)), number(Reason::Certificate, urgency, NOW + days * DAY_MS, threshold));
    };
    assert_eq!(found(&expires(91)), vec![]);
    band(90, Urgency::Planned, 90);
    band(31, Urgency::Planned, 90);
    band(30, Urgency::Soon, 30);
    band(7, Urgency::Now, 7);
    band(-40, Urgency::Now, 7);
    let sim = Facts { sim_expires_ms: Some(NOW), ..well() };
    assert_eq!(found(&sim), number(Reason::Sim, Urgency::Now, NOW, 7));
}

#[test]
fn a_coin_cell_is_low_below_its_thresholds_and_not_at_them() {
    for (mv, expected) in [(2_700, None), (2_699, Some((Urgency::Soon, 2_700))), (2_499, Some((Urgency::Now, 2_500)))] {
        let expected = expected.map_or(vec![], |(urgency, at)| number(Reason::CoinCell, urgency, i64::from(mv), at));
        assert_eq!(found(&Facts { coin_mv: Some(mv), ..well() }), expected, "{mv}");
    }
}

#[test]
fn shares_need_enough_tries_and_more_than_the_threshold() {
    let judged = |n, errors| {
        let reader = Some(Window { since_ms: 0, n, errors });
        let windows = Windows { reader, ..Windows::default() };
        !judge(&well(), &windows, &Rules::default(), NOW).is_empty()
    };
    assert!(judged(15, 4));
    assert!(!judged(14, 14), "too few tries");
    assert!(!judged(20, 4), "exactly a fifth");
    let both = Some(Window { since_ms: 0, n: 20, errors: 5 });
    let windows = Windows { printer: both, battery: both, ..Windows::default() };
    let found = judge(&well(), &windows, &Rules::default(), NOW);
    let expected = Observed::Share { errors: 5, n: 20 };
    assert!(found.iter().all(|finding| finding.observed == expected && finding.threshold == 20));
    assert_eq!(found.iter().map(|finding| finding.reason).collect::<Vec<_>>(), [Reason::Printer, Reason::Battery]);
}

#[test]
fn tamper_and_a_move_come_first() {
    let facts = Facts {
        tamper: Some(Tamper::Triggered),
        place: Some("wtmkn3"),
        inspected_place: Some("wtw3sj"),
        inspected_at_ms: Some(days_ago(200)),
        ..well()
    };
    let reasons: Vec<Reason> = found(&facts).into_iter().map(|(reason, ..)| reason).collect();
    assert_eq!(reasons, [Reason::Tamper, Reason::Moved, Reason::Age]);
    let masked = found(&Facts { tamper: Some(Tamper::Mask), ..well() });
    assert_eq!(masked, vec![(Reason::Tamper, Urgency::Soon, Observed::Word("mask".to_owned()), 0)]);
    // One place known is no move, nor is the next cell.
    assert_eq!(found(&Facts { place: Some("wtmkn3"), ..well() }), vec![]);
    assert_eq!(found(&Facts { place: Some("wtw3sm"), inspected_place: Some("wtw3sj"), ..well() }), vec![]);
}

#[test]
fn what_was_found_stays_until_the_signal_is_seen_again() {
    let ill = Facts {
        tamper: Some(Tamper::Mask),
        coin_mv: Some(2_400),
        certificate_expires_ms: Some(NOW + 40 * DAY_MS),
        ..well()
    };
    let before = judge(&ill, &Windows::default(), &Rules::default(), NOW);
    let silent = Facts { tamper: None, coin_mv: None, certificate_expires_ms: None, ..well() };
    let still = judge(&remember(silent, &before), &Windows::default(), &Rules::default(), NOW);
    assert_eq!(still, before);
    let later = judge(&remember(silent, &before), &Windows::default(), &Rules::default(), NOW + 11 * DAY_MS);
    assert_eq!(later.iter().find(|one| one.reason == Reason::Certificate).unwrap().threshold, 30, "time goes on");
    assert_eq!(judge(&remember(well(), &before), &Windows::default(), &Rules::default(), NOW), vec![]);
}

#[test]
fn thresholds_that_make_no_sense_are_refused_by_name() {
    assert_eq!(Rules::default().check(), Ok(()));
    let refused = |rules: Rules| rules.check().unwrap_err().field;
    assert_eq!(refused(Rules { inspection_days: 0, ..Rules::default() }), "inspection_days");
    assert_eq!(refused(Rules { dormant_now_days: 59, ..Rules::default() }), "dormant_now_days");
    assert_eq!(refused(Rules { error_percent: 100, ..Rules::default() }), "error_percent");
    assert_eq!(refused(Rules { coin_mv_now: 2_701, ..Rules::default() }), "coin_mv_now");
    assert_eq!(refused(Rules { expiry_days: [30, 90, 7], ..Rules::default() }), "expiry_days");
    assert_eq!(refused(Rules { moved_m: 100, ..Rules::default() }), "moved_m");
    let by_tag = BTreeMap::from([(String::new(), 10)]);
    assert_eq!(refused(Rules { inspection_days_by_tag: by_tag, ..Rules::default() }), "inspection_days_by_tag");
}

#[test]
fn findings_survive_their_way_through_a_table() {
    let ill = Facts { tamper: Some(Tamper::Triggered), coin_mv: Some(1), ..well() };
    let windows = Windows { reader: Some(Window { since_ms: 0, n: 20, errors: 9 }), ..Windows::default() };
    let found = judge(&ill, &windows, &Rules::default(), NOW);
    let text = serde_json::to_string(&found).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Finding>>(&text).unwrap(), found);
}
