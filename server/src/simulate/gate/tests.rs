use super::*;

/// Few runs, since these are not optimized; the seed is fixed, so the result is too.
const RUNS: u32 = 30;

#[test]
fn good_releases_are_hardly_ever_stopped_and_bad_ones_soon_are() {
    let report = run(&SCENARIOS, RUNS, 1);
    for scenario in &report.scenarios {
        let rule = |name: &str| scenario.rules.iter().find(|rule| rule.rule.starts_with(name)).expect("a rule");
        let gate = rule("Tillward, watching hard");
        let failing_max = match scenario.name {
            "H1" => 20.0,
            "H2" => 35.0,
            "H3" => 28.0,
            "H4" => 9.0,
            _ => {
                assert!(gate.stopped_percent <= 2.0, "{}: {gate:?}", scenario.name);
                assert!(rule("no gate").stopped_percent == 0.0);
                continue;
            }
        };
        assert_eq!(gate.stopped_percent, 100.0, "{}", scenario.name);
        assert!(gate.failing_mean <= failing_max, "{}: {gate:?}", scenario.name);
        assert!(gate.failing_mean < 0.2 * rule("no gate").failing_mean);
    }
    // What the rules of others do to a good release: a share of the finished takes an outage or a bad mix for harm.
    let aws =
        |name: &str| report.scenarios.iter().find(|s| s.name == name).expect("a scenario").rules[3].stopped_percent;
    assert!(aws("N2") > 70.0 && aws("N3") > 70.0);
}

#[test]
fn the_same_seed_gives_the_same_report_and_another_does_not() {
    let harm = &SCENARIOS[6..7];
    assert_eq!(run(harm, 3, 5), run(harm, 3, 5));
    assert_ne!(run(harm, 3, 5).scenarios, run(harm, 3, 6).scenarios);
}
