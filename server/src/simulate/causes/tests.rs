use super::*;

/// Few fleets, since these are not optimized; the seed is fixed, so the result is too.
const FLEETS: u32 = 40;

#[test]
fn causes_are_named_exactly_and_nothing_else_is() {
    let small = Form { small: true, ..Form::default() };
    let score = run(&small, FLEETS, 1);
    assert!(score.f1() >= 0.9 && score.top_one() >= 0.95, "{score:?}");
    let twelve = run(&Form { twelve: true, ..small }, 10, 1);
    assert!(twelve.f1() >= 0.8, "{twelve:?}");
    let without_base = run(&Form { no_base: true, ..small }, FLEETS, 1);
    assert!(without_base.f1() >= 0.7, "{without_base:?}");
}

#[test]
fn where_nothing_happened_nothing_is_named() {
    let null = Form { small: true, null: true, ..Form::default() };
    for form in [null, Form { heavy: true, ..null }, Form { broken: 5, ..null }, Form { rise: 60, ..null }] {
        let score = run(&form, FLEETS, 1);
        assert!(score.with_false <= 2, "{form:?}: {score:?}");
    }
}

#[test]
fn a_rise_of_everything_hides_no_cause() {
    let score = run(&Form { small: true, rise: 100, ..Form::default() }, FLEETS, 1);
    assert!(score.f1() >= 0.9, "{score:?}");
}

#[test]
fn the_same_seed_gives_the_same_score_and_another_does_not() {
    let form = Form { small: true, ..Form::default() };
    assert_eq!(run(&form, 3, 5), run(&form, 3, 5));
    assert_ne!(run(&form, 3, 5), run(&form, 3, 6));
}
