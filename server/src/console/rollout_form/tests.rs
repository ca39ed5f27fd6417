use super::*;
use crate::clock::Now;
use crate::console::i18n::Language;
use crate::console::moments::Moments;
use crate::rollouts::NewRollout;
use crate::rollouts::strategy::{Stage, Strategy};

const NOW: Now = Now(1_795_397_400_000);

fn moments() -> Moments {
    Moments::new("Asia/Shanghai", Language::Chinese, NOW)
}

fn typed(fields: &[(&str, &str)]) -> Typed {
    Typed::of(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()).unwrap()
}

fn read(typed: &Typed) -> (NewRollout, Vec<(String, &'static str)>) {
    let mut wrong = Vec::new();
    let new = typed.read_noting(&moments(), &mut wrong);
    (new, wrong)
}

#[test]
fn the_recommended_form_is_a_possible_strategy() {
    let (new, wrong) = read(&Typed::recommended());
    assert_eq!(wrong, []);
    assert_eq!((new.strategy.stages.len(), new.strategy.soak_s, new.retry_max), (5, 86_400, Some(2)));
    assert!(new.strategy.gate.opens_stages && new.strategy.checked().is_ok());
}

#[test]
fn one_press_means_everybody_at_once_and_keeps_what_is_no_strategy() {
    let mut form = Typed::recommended();
    form.set("name", "autumn");
    form.set("told_0", "7");
    form.set("plan", "at_once");
    form.arrange();
    let (new, wrong) = read(&form);
    assert_eq!(new.strategy, Strategy { announcements: new.strategy.announcements.clone(), ..Strategy::default() });
    assert_eq!((new.name.as_str(), form.value("told_0")), ("autumn", "7"));
    assert_eq!(wrong, [("announcements".to_owned(), "announcements")], "an organization without a date");
}

#[test]
fn empty_rows_do_not_count_and_more_can_be_had() {
    let mut form = typed(&[
        ("stage_kind_0", "tag"),
        ("stage_0", "canary"),
        ("stage_kind_3", "percent"),
        ("stage_3", "10%"),
        ("window_from_1", "22:00"),
        ("window_until_1", "06:00"),
        ("window_days_1", "6"),
        ("window_days_1", "7"),
        ("add", "stages"),
        ("budget", "0.5"),
    ]);
    let (new, wrong) = read(&form);
    assert_eq!(wrong, []);
    assert_eq!(new.strategy.stages, [Stage::Tag("canary".to_owned()), Stage::Percent(10)]);
    assert_eq!(new.strategy.windows[0].days, [6, 7]);
    assert_eq!((new.strategy.windows.len(), new.strategy.gate.outcome_budget_bp), (1, 50));
    assert_eq!(form.stage_rows().len(), STAGE_ROWS);
    form.arrange();
    assert_eq!(form.stage_rows().len(), STAGE_ROWS + ROWS_ADDED);
}

#[test]
fn what_cannot_be_read_is_noted_beside_its_field() {
    let (_, wrong) = read(&typed(&[
        ("subject", "profile"),
        ("layer", "group"),
        ("stage_kind_0", "count"),
        ("stage_0", "many"),
        ("soak", "1"),
        ("soak_unit", "w"),
        ("budget", "1.234"),
        ("starts", "soon"),
        ("priority", "-1"),
    ]));
    let fields: Vec<&str> = wrong.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(fields, ["layer", "priority", "starts", "stages", "soak", "budget"]);
}

#[test]
fn unknown_fields_are_refused_and_hostile_text_is_escaped() {
    for name in ["path", "stage_x", "stage_99", "window_days_"] {
        assert!(Typed::of(vec![(name.to_owned(), "1".to_owned())]).is_err(), "{name}");
    }
    let mut form = Typed::default();
    form.refuse_with("name", "\"><script>".to_owned());
    assert!(!form.wrong("name").to_string().contains("<script"));
}
