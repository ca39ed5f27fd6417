use proptest::prelude::*;

use super::*;

/// Strata X and Y, each also a scope: stratum, arm, at risk.
const EXAMPLE: [(u16, Arm, u64, u64); 11] = [
    (0, Arm::Treated, 40, 960),
    (0, Arm::Control, 120, 880),
    (1, Arm::Control, 80, 420),
    (0, Arm::Treated, 200, 800),
    (0, Arm::Treated, 240, 760),
    (1, Arm::Treated, 100, 400),
    (0, Arm::Control, 280, 720),
    (0, Arm::Treated, 279, 720),
    (0, Arm::Treated, 278, 720),
    (0, Arm::Treated, 277, 720),
    (0, Arm::Treated, 276, 720),
];

fn settings() -> Settings {
    Settings { classes: &[Class::Hard], ..Settings::default() }
}

/// A failure in a stratum that is a scope too.
fn event((stratum, arm, treated, control): (u16, Arm, u64, u64)) -> Event {
    let at_risk = AtRisk { treated, control };
    let scopes = vec![ScopeAtRisk { scope: stratum, is_in: true, at_risk }];
    Event { class: Class::Hard, arm, stratum, at_risk, scopes, outside: None }
}

fn example(events: usize) -> Evidence {
    fold(EXAMPLE[..events].iter().map(|row| event(*row)).collect::<Vec<_>>().iter(), 2, &settings())
}

#[track_caller]
fn assert_near(got: f64, expected: f64) {
    assert!((got - expected).abs() <= 1e-4 * expected.abs(), "{got} instead of {expected}");
}

fn judge_at(evidence: &Evidence, outcomes: Outcomes, e_max: f64) -> Judgement {
    let soak = Soak { is_over: true, watched: 0 };
    judge(evidence, &outcomes, &soak, &settings(), &Earlier { e_max, stopped_scopes: Vec::new() })
}

fn outcomes(started: u64, failed: u64, pending: u64) -> Outcomes {
    Outcomes { started, failed, pending }
}

#[test]
fn the_worked_example_comes_out_row_by_row() {
    let rows = [
        (7.4823, 7.4823, 1.0, 5.8617),
        (2.6766, 2.6766, 1.0, 2.2575),
        (1.2189, 2.6766, 0.5039, 1.4046),
        (3.3923, 8.9422, 0.5039, 4.0577),
        (9.4485, 28.5356, 0.5039, 11.9841),
        (31.7249, 28.5356, 1.2637, 23.3122),
        (9.3054, 6.8033, 1.2637, 6.6694),
        (23.5293, 17.8116, 1.2637, 16.5335),
        (62.1227, 48.8255, 1.2637, 43.5836),
        (169.8826, 138.7250, 1.2637, 119.9385),
        (478.0945, 405.4096, 1.2637, 340.7156),
    ];
    for (events, (all, x, y, mixed)) in (1..).zip(rows) {
        let evidence = example(events);
        let judgement = judge_at(&evidence, Outcomes::default(), 0.0);
        assert_near(judgement.classes[0].e_all, all);
        assert_near(judgement.scopes[0].e, x);
        assert_near(judgement.scopes[1].e, y);
        assert_near(judgement.classes[0].e, mixed);
        assert_near(evidence.e_health(), mixed);
        // Whole strata: what is outside one scope is the other.
        assert_near(judgement.scopes[0].e_rest, judgement.scopes[1].e);
    }
}

#[test]
fn the_logarithms_of_the_worked_example_come_out_by_ratio() {
    let evidence = example(10);
    let (_, walks) = evidence.classes().next().unwrap();
    let x = [1.6239, 2.6248, 3.7979, 4.4526, 5.1238, 5.5141, 5.6521, 5.5752, 5.1801, 4.5579];
    let y = [0.2332, 0.3624, 0.4845, 0.5242, 0.5108, 0.4175, 0.2332, 0.0309, -0.3613, -0.8007];
    for (walk, expected) in [(&walks.scopes[0].inside, x), (&walks.scopes[1].inside, y)] {
        assert_eq!(walk.ln_e.len(), expected.len());
        for (got, expected) in walk.ln_e.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-4, "{got} instead of {expected}");
        }
    }
}

#[test]
fn the_outcome_is_held_against_its_budget_over_the_started() {
    let e = |n, x| e_outcome(&outcomes(n, x, 0), &settings());
    for (n, x, expected) in [(120, 3, 0.9074), (120, 6, 38.3773), (121, 7, 184.8327), (380, 12, 62.2712), (0, 0, 1.0)] {
        assert_near(e(n, x), expected);
    }
    // With 2 % the ratio 60 falls out: nine ratios are left, and each failure multiplies their mean of x by at most 35.
    let two_percent = Settings { outcome_budget: Some(0.02), ..settings() };
    assert_near(
        e_outcome(&outcomes(1, 1, 0), &two_percent),
        (1.5 + 2.0 + 3.0 + 4.0 + 6.0 + 9.0 + 14.0 + 20.0 + 35.0) / 9.0,
    );
    for unusable in [None, Some(0.0), Some(-1.0), Some(1.0), Some(0.7), Some(f64::NAN)] {
        let settings = Settings { outcome_budget: unusable, ..settings() };
        assert!((e_outcome(&outcomes(100, 100, 0), &settings) - 1.0).abs() < 1e-12, "{unusable:?}");
    }
}

#[test]
fn pending_counts_as_good_for_a_fail_and_as_bad_for_a_pass() {
    let p = |n, x, pending| p_outcome(&outcomes(n, x, pending), &settings());
    assert_near(p(380, 1, 0), 51.4028);
    assert_near(p(380, 0, 1), 51.4028);
    assert_near(p(600, 1, 3), 32.8591);
    assert_near(e_outcome(&outcomes(120, 6, 100), &settings()), 38.3773);
}

#[test]
fn the_combination_fails_at_the_eleventh_event_of_the_worked_example() {
    let counts = outcomes(380, 12, 0);
    let tenth = judge_at(&example(10), counts, 0.0);
    assert_near(tenth.e, 91.1049);
    assert_eq!(tenth.verdict, Verdict::Insufficient);
    let eleventh = judge_at(&example(11), counts, tenth.e_max);
    assert_near(eleventh.e, 201.4934);
    assert_eq!(eleventh.verdict, Verdict::Fail);
    assert_eq!(eleventh.worst_scope, Some(0));
    assert!(eleventh.scopes[0].e >= 100.0);
    assert_near(eleventh.scopes[0].p_rest, 0.5536);
    assert_eq!(eleventh.can_narrow_to, None, "the rest is not cleared");
    assert_eq!(eleventh.why, []);
}

/// `treated` of `all` failures are of updated terminals, spread evenly.
fn constant(treated: u64, all: u64) -> Vec<Event> {
    let at_risk = AtRisk { treated: 1_000, control: 2_000 };
    (0..all)
        .map(|number| {
            let arm = if number * treated / all != (number + 1) * treated / all { Arm::Treated } else { Arm::Control };
            Event { class: Class::Hard, arm, stratum: 0, at_risk, scopes: Vec::new(), outside: None }
        })
        .collect()
}

#[test]
fn a_release_is_cleared_from_twenty_on() {
    let unclear = fold(constant(12, 40).iter(), 0, &settings());
    let cleared = fold(constant(6, 30).iter(), 0, &settings());
    let counts = outcomes(600, 4, 0);
    let judgement = judge_at(&unclear, counts, 0.0);
    assert_near(judgement.p_health, 18.5738);
    assert_near(judgement.p_outcome.unwrap(), 32.8591);
    assert_eq!(judgement.verdict, Verdict::Insufficient);
    assert_eq!(judgement.why.iter().map(Missing::as_str).collect::<Vec<_>>(), ["health"]);
    let judgement = judge_at(&cleared, counts, 0.0);
    assert_near(judgement.p_health, 218.2798);
    assert_eq!(judgement.verdict, Verdict::Pass);
}

#[test]
fn a_pass_needs_everything_and_says_what_is_missing() {
    let cleared = fold(constant(6, 30).iter(), 1, &settings());
    let words = |outcomes, soak, settings: &Settings| {
        let judgement = judge(&cleared, &outcomes, &soak, settings, &Earlier::default());
        (judgement.verdict, judgement.why.iter().map(Missing::as_str).collect::<Vec<_>>())
    };
    let over = Soak { is_over: true, watched: 0 };
    let (verdict, why) = words(outcomes(600, 4, 0), over, &settings());
    assert_eq!((verdict, why), (Verdict::Pass, vec![]));
    let (verdict, why) = words(outcomes(99, 0, 0), over, &settings());
    assert_eq!((verdict, why), (Verdict::Insufficient, vec!["started", "outcome"]));
    let (verdict, why) = words(outcomes(600, 4, 100), Soak { is_over: false, watched: 100 }, &settings());
    assert_eq!((verdict, why), (Verdict::Insufficient, vec!["outcome", "soak", "watched"]));
    let untold = Settings { outcome_budget: None, ..settings() };
    let (verdict, why) = words(outcomes(600, 600, 0), over, &untold);
    assert_eq!((verdict, why), (Verdict::Pass, vec![]));
}

#[test]
fn a_suspect_scope_keeps_a_good_average_from_passing() {
    let mut events = constant(6, 30);
    let at_risk = AtRisk { treated: 1_000, control: 2_000 };
    let inside = AtRisk { treated: 50, control: 950 };
    events.extend((0..2).map(|_| Event {
        class: Class::Hard,
        arm: Arm::Treated,
        stratum: 0,
        at_risk,
        scopes: vec![ScopeAtRisk { scope: 0, is_in: true, at_risk: inside }],
        outside: None,
    }));
    let judgement = judge_at(&fold(events.iter(), 1, &settings()), outcomes(600, 4, 0), 0.0);
    assert!(judgement.p_health >= 20.0);
    assert_eq!(judgement.verdict, Verdict::Insufficient);
    assert!(matches!(judgement.why[..], [Missing::Scope { scope: 0, e }] if e >= 10.0), "{:?}", judgement.why);
}

#[test]
fn without_controls_health_learns_nothing_and_says_so() {
    let alone = event((0, Arm::Treated, 500, 0));
    let evidence = fold(vec![alone; 50].iter(), 2, &settings());
    let judgement = judge_at(&evidence, outcomes(600, 4, 0), 0.0);
    assert!((judgement.e_health - 1.0).abs() < 1e-12);
    assert_eq!(judgement.verdict, Verdict::Insufficient);
    assert!(judgement.why.contains(&Missing::Controls { failures: 50 }), "{:?}", judgement.why);
    assert_eq!(judgement.classes[0].ratio, None);
}

#[test]
fn harm_in_one_scope_can_be_stopped_alone_and_the_rest_goes_on_being_judged() {
    let counts = (1_000, 2_000);
    let mut rows = vec![(1, Arm::Control, counts.0, counts.1); 8];
    rows.extend([(1, Arm::Treated, counts.0, counts.1); 2]);
    rows.extend([(0, Arm::Treated, 100, 900); 8]);
    let mut evidence = fold(rows.into_iter().map(event).collect::<Vec<_>>().iter(), 2, &settings());
    let halted = judge_at(&evidence, outcomes(600, 4, 0), 0.0);
    assert_eq!((halted.verdict, halted.worst_scope, halted.can_narrow_to), (Verdict::Fail, Some(0), Some(0)));
    // An outcome that fails by itself is not counted by scope: everything stops.
    assert_eq!(judge_at(&evidence, outcomes(600, 60, 0), 0.0).can_narrow_to, None);

    let narrowed = Earlier { e_max: 0.0, stopped_scopes: vec![0] };
    let rest = |evidence: &Evidence| {
        judge(evidence, &outcomes(500, 2, 0), &Soak { is_over: true, watched: 0 }, &settings(), &narrowed)
    };
    let before = rest(&evidence);
    assert_eq!(before.verdict, Verdict::Insufficient);
    assert!(before.e_health < 1.0 && before.worst_scope.is_none());
    // What goes on failing in the stopped scope is no evidence against the rest; harm in the rest is.
    evidence.add(&event((0, Arm::Treated, 92, 900)));
    assert_eq!(rest(&evidence).e_health.to_bits(), before.e_health.to_bits());
    (0..40).for_each(|_| evidence.add(&event((1, Arm::Treated, 100, 900))));
    let after = rest(&evidence);
    assert_eq!((after.verdict, after.can_narrow_to), (Verdict::Fail, None));
}

#[test]
fn a_scope_that_cuts_through_strata_is_compared_with_its_own_terminals() {
    let at_risk = AtRisk { treated: 200, control: 800 };
    let share = AtRisk { treated: 10, control: 90 };
    let cut = |is_in| Event {
        scopes: vec![ScopeAtRisk { scope: 0, is_in, at_risk: share }],
        at_risk,
        ..event((0, Arm::Treated, 0, 0))
    };
    let of = |arm_at_risk| {
        let alone = Event { at_risk: arm_at_risk, scopes: Vec::new(), ..cut(true) };
        judge_at(&fold([alone].iter(), 0, &settings()), Outcomes::default(), 0.0).e_health
    };
    let inside = judge_at(&fold([cut(true)].iter(), 1, &settings()), Outcomes::default(), 0.0);
    assert_near(inside.scopes[0].e, of(share));
    assert_near(inside.scopes[0].e_rest, 1.0);
    let outside = judge_at(&fold([cut(false)].iter(), 1, &settings()), Outcomes::default(), 0.0);
    assert_near(outside.scopes[0].e, 1.0);
    assert_near(outside.scopes[0].e_rest, of(AtRisk { treated: 190, control: 710 }));
    assert_near(outside.classes[0].e_all, of(at_risk));
}

#[test]
fn classes_are_averaged_for_a_fail_and_the_least_cleared_counts_for_a_pass() {
    let both = Settings::default();
    let events = constant(6, 30);
    let payment: Vec<_> = constant(30, 30).into_iter().map(|event| Event { class: Class::Payment, ..event }).collect();
    let soak = Soak { is_over: true, watched: 0 };
    let evidence = fold(events.iter().chain(&payment), 0, &both);
    let judgement = judge(&evidence, &outcomes(600, 4, 0), &soak, &both, &Earlier::default());
    let [hard, paying] = judgement.classes[..] else { panic!("two classes") };
    assert_near(judgement.e_health, 0.5 * (hard.e + paying.e));
    assert_near(hard.p, 218.2798);
    assert!(paying.p < hard.p && (judgement.p_health - paying.p).abs() < 1e-12);
    // A class that is not watched is no evidence.
    assert_eq!(fold(payment.iter(), 0, &settings()), Evidence::new(0, &settings()));
}

#[test]
fn a_class_in_which_nothing_failed_says_nothing_and_one_failure_makes_it_heard() {
    let both = Settings::default();
    let judged = |events: &[Event]| {
        let soak = Soak { is_over: true, watched: 0 };
        judge(&fold(events.iter(), 0, &both), &outcomes(600, 4, 0), &soak, &both, &Earlier::default())
    };
    let mut events = constant(6, 30);
    let passed = judged(&events);
    assert_near(passed.p_health, 218.2798);
    assert_eq!((passed.verdict, passed.why), (Verdict::Pass, vec![]), "no payment failed in either arm");
    // From its first failure on the class must be cleared like any other, also where nobody could be compared.
    let at_risk = AtRisk { treated: 1_000, control: 2_000 };
    for (arm, at_risk) in
        [(Arm::Control, at_risk), (Arm::Treated, at_risk), (Arm::Treated, AtRisk { control: 0, ..at_risk })]
    {
        events.push(Event { class: Class::Payment, arm, at_risk, ..event((0, arm, 0, 0)) });
        let heard = judged(&events);
        assert!(heard.p_health < 20.0 && heard.verdict == Verdict::Insufficient, "{heard:?}");
        events.pop();
    }
    // Without a failure in any class there is nothing to compare at all.
    let silent = judged(&[]);
    assert_eq!(silent.verdict, Verdict::Insufficient);
    assert_eq!(silent.why.iter().map(Missing::as_str).collect::<Vec<_>>(), ["health"]);
}

/// A failure with its stratum's share outside what was stopped.
fn beside(stops: u16, is_in: bool, arm: Arm) -> Event {
    let outside = Some(Outside { stops, is_in, at_risk: AtRisk { treated: 100, control: 900 } });
    Event { outside, ..event((0, arm, 300, 1_700)) }
}

#[test]
fn beside_several_stopped_parts_only_what_is_outside_all_of_them_is_judged() {
    let stopped = |e_max| Earlier { e_max, stopped_scopes: vec![0, 1] };
    let judged = |evidence: &Evidence| {
        let soak = Soak { is_over: true, watched: 0 };
        judge(evidence, &outcomes(500, 2, 0), &soak, &settings(), &stopped(0.0))
    };
    let mut evidence = fold(vec![event((0, Arm::Treated, 100, 900)); 12].iter(), 2, &settings());
    evidence.set_aside(2);
    let before = judged(&evidence);
    assert!((before.e_health - 1.0).abs() < 1e-12 && before.worst_scope.is_none(), "it begins at the last stop");
    assert_eq!(before.verdict, Verdict::Insufficient);
    // What goes on failing in the stopped parts is no evidence against the rest; harm in the rest is, and is latched.
    (0..30).for_each(|_| evidence.add(&beside(2, false, Arm::Treated)));
    assert_eq!(judged(&evidence).e_health.to_bits(), before.e_health.to_bits());
    (0..30).for_each(|_| evidence.add(&beside(2, true, Arm::Control)));
    let cleared = judged(&evidence);
    assert!(cleared.p_health > 10.0, "{cleared:?}");
    (0..30).for_each(|_| evidence.add(&beside(2, true, Arm::Treated)));
    (0..30).for_each(|_| evidence.add(&beside(2, true, Arm::Control)));
    let failed = judged(&evidence);
    assert_eq!((failed.verdict, failed.can_narrow_to), (Verdict::Fail, None));
    // Another stop begins anew.
    evidence.add(&beside(3, true, Arm::Treated));
    assert!(judged(&evidence).e_health < 10.0);
}

#[test]
fn harm_that_is_accepted_is_no_evidence() {
    let tolerant = Settings { accepted_ratio: 2.0, ..settings() };
    // Twice as often, as accepted: 20 of 40 with half as many at risk.
    let e = |settings: &Settings, treated| fold(constant(treated, 40).iter(), 0, settings).e_health();
    assert!(e(&tolerant, 20) < 1.0);
    assert!(e(&settings(), 20) > e(&tolerant, 20));
    assert!(e(&tolerant, 36) > 100.0);
}

#[test]
fn a_peak_between_two_judgements_still_fails() {
    let rise: Vec<_> = vec![event((0, Arm::Treated, 100, 900)); 12];
    let fall: Vec<_> = vec![event((0, Arm::Control, 900, 100)); 12];
    let evidence = fold(rise.iter().chain(&fall), 2, &settings());
    assert!(evidence.e_health() < 1.0 && evidence.e_health_max() > 200.0);
    let judgement = judge_at(&evidence, Outcomes::default(), 0.0);
    assert!(judgement.e < 100.0);
    assert_eq!(judgement.verdict, Verdict::Fail);
}

#[test]
fn evidence_stays_a_number_however_much_there_is() {
    let evidence = fold(vec![event((0, Arm::Treated, 1, 1_000_000)); 5_000].iter(), 2, &settings());
    let judgement = judge_at(&evidence, outcomes(1_000_000, 900_000, 0), 0.0);
    assert!(judgement.e.is_finite() && judgement.e > 1e290);
    assert!(judgement.e_outcome.unwrap().is_finite() && judgement.p_outcome.unwrap() < 1e-290);
}

fn any_event() -> impl Strategy<Value = Event> {
    let counts = || (0..500_u64, 0..500_u64);
    let scope = (0..3_u16, any::<bool>(), counts());
    (any::<bool>(), any::<bool>(), counts(), proptest::collection::vec(scope, 0..3)).prop_map(
        |(is_treated, is_payment, (treated, control), scopes)| Event {
            class: if is_payment { Class::Payment } else { Class::Hard },
            arm: if is_treated { Arm::Treated } else { Arm::Control },
            stratum: 0,
            at_risk: AtRisk { treated, control },
            scopes: scopes
                .into_iter()
                .map(|(scope, is_in, (t, c))| {
                    let at_risk = AtRisk { treated: t.min(treated), control: c.min(control) };
                    ScopeAtRisk { scope, is_in, at_risk }
                })
                .collect(),
            outside: None,
        },
    )
}

fn any_journal() -> impl Strategy<Value = Vec<Event>> {
    proptest::collection::vec(any_event(), 0..40)
}

proptest! {
    #[test]
    fn a_failing_control_never_raises_the_evidence(journal in any_journal(), next in any_event()) {
        let mut evidence = fold(journal.iter(), 3, &Settings::default());
        let before = evidence.e_health();
        evidence.add(&Event { arm: Arm::Control, ..next });
        prop_assert!(evidence.e_health() <= before * (1.0 + 1e-12));
    }

    #[test]
    fn a_failing_updated_terminal_never_lowers_it(journal in any_journal(), next in any_event()) {
        let mut evidence = fold(journal.iter(), 3, &Settings::default());
        let before = evidence.e_health();
        evidence.add(&Event { arm: Arm::Treated, ..next });
        prop_assert!(evidence.e_health() >= before * (1.0 - 1e-12));
    }

    #[test]
    fn an_empty_arm_teaches_nothing(journal in any_journal(), next in any_event(), is_control_empty in any::<bool>()) {
        let mut evidence = fold(journal.iter(), 3, &Settings::default());
        let p = |evidence: &Evidence| evidence.classes().map(|(_, walks)| walks.all.p().to_bits()).collect::<Vec<_>>();
        let (e, before) = (evidence.e_health(), p(&evidence));
        let at_risk = match is_control_empty {
            true => AtRisk { control: 0, ..next.at_risk },
            false => AtRisk { treated: 0, ..next.at_risk },
        };
        evidence.add(&Event { at_risk, scopes: Vec::new(), ..next });
        prop_assert_eq!(evidence.e_health().to_bits(), e.to_bits());
        prop_assert_eq!(p(&evidence), before);
    }

    #[test]
    fn a_fold_in_parts_or_again_makes_the_same_bits(journal in any_journal(), cut in 0..40_usize) {
        let whole = fold(journal.iter(), 3, &Settings::default());
        let mut parts = fold(journal.iter().take(cut), 3, &Settings::default());
        journal.iter().skip(cut).for_each(|event| parts.add(event));
        let bits = |evidence: &Evidence| {
            let walks = evidence.classes().flat_map(|(_, walks)| {
                let scopes = walks.scopes.iter().flat_map(|scope| [&scope.inside, &scope.rest]);
                std::iter::once(&walks.all).chain(scopes).flat_map(|walk| walk.ln_e.iter().chain(&walk.ln_p))
            });
            walks.map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        prop_assert_eq!(bits(&whole), bits(&parts));
        prop_assert_eq!(whole.e_health_max().to_bits(), parts.e_health_max().to_bits());
    }

    #[test]
    fn a_fail_is_never_taken_back(journal in any_journal(), cut in 0..40_usize, started in 0..500_u64, failed in 0..20_u64) {
        let settings = Settings::default();
        let mut evidence = Evidence::new(3, &settings);
        let (mut earlier, mut has_failed) = (Earlier::default(), false);
        for (number, event) in journal.iter().enumerate() {
            evidence.add(event);
            // Bad outcomes at first, a mass of good ones later.
            let counts = if number < cut { outcomes(started, failed.min(started), 0) } else { outcomes(100_000, failed, 0) };
            let judgement = judge(&evidence, &counts, &Soak::default(), &settings, &earlier);
            prop_assert!(!has_failed || judgement.verdict == Verdict::Fail);
            prop_assert!(judgement.e_max >= judgement.e && judgement.e_max >= earlier.e_max);
            has_failed = judgement.verdict == Verdict::Fail;
            earlier.e_max = judgement.e_max;
        }
    }
}
