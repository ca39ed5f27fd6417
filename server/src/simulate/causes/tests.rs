use super::*;

#[test]
fn the_same_seed_gives_the_same_score_and_another_does_not() {
    let form = Form { small: true, ..Form::default() };
    assert_eq!(run(&form, 3, 5), run(&form, 3, 5));
    assert_ne!(run(&form, 3, 5), run(&form, 3, 6));
}
