//! The whole table of the state machine against its checked-in form, and its properties.

use proptest::prelude::*;

use super::*;

fn release(name: &str) -> Sha256Hex {
    Sha256Hex::of(name.as_bytes())
}

fn trial(boots_left: u8, taken_back: Option<Reason>) -> State {
    State::Trial { release: release("one"), slot: Slot::B, previous: Slot::A, boots_left, deadline_s: 900, taken_back }
}

fn not_started(boots: u8) -> State {
    let (release, slot, previous) = (release("one"), Slot::B, Slot::A);
    State::Trial { release, slot, previous, boots_left: boots, deadline_s: 0, taken_back: None }
}

fn states() -> Vec<(&'static str, State)> {
    vec![
        ("idle", State::Idle),
        ("downloading", State::Downloading { release: release("one"), offset: 5 }),
        ("verified", State::Verified { release: release("one") }),
        ("written", State::Written { release: release("one"), slot: Slot::B }),
        ("trial, not started", not_started(2)),
        ("trial, not started, no boots left", not_started(0)),
        ("trial", trial(2, None)),
        ("trial, no boots left", trial(0, None)),
        ("trial, going back", trial(1, Some(Reason::HealthCheckFailed))),
        ("trial, going back, no tries left", trial(0, Some(Reason::HealthCheckFailed))),
    ]
}

fn events() -> Vec<(&'static str, Event)> {
    vec![
        ("ordered, same release", Event::Ordered { release: release("one") }),
        ("ordered, other release", Event::Ordered { release: release("two") }),
        ("received", Event::Received { offset: 9 }),
        ("digest holds", Event::DigestHolds),
        ("slot holds", Event::SlotHolds { slot: Slot::B }),
        ("approved", Event::Approved { previous: Slot::A }),
        ("booted, old slot", Event::Booted { slot: Slot::A, deadline_s: 1000 }),
        ("booted, new slot", Event::Booted { slot: Slot::B, deadline_s: 1000 }),
        ("healthy", Event::Healthy),
        ("unhealthy", Event::Unhealthy),
        ("late", Event::Late),
        ("refused", Event::Refused(Reason::WrongKey)),
        ("postponed", Event::Postponed(Reason::NetworkError)),
        ("withdrawn", Event::Withdrawn),
    ]
}

fn name(state: &State) -> String {
    let of = |release_: &Sha256Hex| if *release_ == release("one") { "one" } else { "two" };
    match state {
        State::Idle => "idle".to_owned(),
        State::Downloading { release, offset } => format!("downloading({}, {offset})", of(release)),
        State::Verified { release } => format!("verified({})", of(release)),
        State::Written { release, slot } => format!("written({}, {})", of(release), slot.as_str()),
        State::Trial { release, slot, previous, boots_left, deadline_s, taken_back } => format!(
            "trial({}, {} after {}, boots {boots_left}, until {deadline_s}{})",
            of(release),
            slot.as_str(),
            previous.as_str(),
            taken_back.map_or(String::new(), |reason| format!(", back: {}", reason.as_str())),
        ),
    }
}

fn line(event: &str, step: &Step) -> String {
    let report = match step.report {
        Some((phase, Some(reason))) => format!("{}: {}", phase.as_str(), reason.as_str()),
        Some((phase, None)) => phase.as_str().to_owned(),
        None => "-".to_owned(),
    };
    format!("  {event:<24} -> {:<70} {:<14} {report}\n", name(&step.state), format!("{:?}", step.action))
}

#[test]
fn the_whole_table_is_the_checked_in_one() {
    let mut table = String::new();
    for (title, state) in states() {
        table.push_str(&format!("{title}\n"));
        for (event_name, event) in events() {
            table.push_str(&line(event_name, &step(&state, &event)));
        }
    }
    let checked_in = include_str!("update_table.txt");
    if table != checked_in {
        let fresh = std::env::temp_dir().join(format!("update_table.{}.txt", std::process::id()));
        std::fs::write(&fresh, &table).unwrap();
        panic!(
            "the table changed; compare {} with src/update_table.txt and copy it if the change is meant",
            fresh.display()
        );
    }
}

#[test]
fn a_switch_that_takes_effect_a_restart_later_is_on_trial_and_not_asked_for_again() {
    let booted = |slot| Event::Booted { slot, deadline_s: 1_000 };
    let waits = step(&not_started(BOOTS_MAX), &booted(Slot::A));
    assert_eq!(waits.action, Action::Look, "the old firmware came up: the permit is asked for again");
    let runs = step(&waits.state, &booted(Slot::B));
    assert_eq!(runs.action, Action::CheckHealth, "the boot loader started the new one by itself");
    let fell_back = step(&runs.state, &booted(Slot::A));
    assert_eq!(fell_back.action, Action::Activate(Slot::B), "once it has run, only its health decides");
    assert!(matches!(fell_back.state, State::Trial { boots_left, .. } if boots_left == BOOTS_MAX - 2));
}

fn any_event() -> impl Strategy<Value = Event> {
    let all: Vec<Event> = events().into_iter().map(|(_, event)| event).collect();
    prop::sample::select(all)
}

proptest! {
    #[test]
    fn new_firmware_starts_only_after_digest_slot_and_server_said_yes(happened in prop::collection::vec(any_event(), 0..40)) {
        let mut state = State::Idle;
        let (mut digest, mut slot, mut server, mut started) = (false, false, false, false);
        for event in happened {
            let before = state.clone();
            let next = step(&state, &event);
            match (&before, &event) {
                (State::Downloading { .. }, Event::DigestHolds) => digest = true,
                (State::Verified { .. }, Event::SlotHolds { .. }) => slot = true,
                (State::Written { .. }, Event::Approved { .. }) => server = true,
                _ => {}
            }
            if next.state == State::Idle {
                prop_assert!(!matches!(next.action, Action::Activate(_)));
            }
            if let (State::Trial { deadline_s: 0, .. }, Event::Approved { .. }) = (&before, &event) {
                server = true;
            }
            if next.action == Action::Activate(Slot::B) {
                prop_assert!(digest && slot && (server || started));
            }
            if let (State::Trial { deadline_s: 0, .. }, Event::Booted { slot: Slot::A, .. }) = (&next.state, &event) {
                // The permit does not outlive a restart in which the old firmware came up again.
                server = false;
            }
            // The switch that was permitted may take effect a restart later, by the boot loader. From then on only health decides.
            started |= matches!(next.state, State::Trial { deadline_s, .. } if deadline_s > 0);
            if matches!(next.state, State::Idle | State::Downloading { .. }) && !matches!(before, State::Downloading { .. }) {
                (digest, slot, server, started) = (false, false, false, false);
            }
            state = next.state;
        }
    }

    #[test]
    fn starts_of_new_firmware_are_bounded_without_a_verdict(boots in prop::collection::vec(prop::bool::ANY, 10)) {
        let mut state = not_started(BOOTS_MAX);
        let mut starts = 0;
        for new_runs in boots {
            let slot = if new_runs { Slot::B } else { Slot::A };
            let mut next = step(&state, &Event::Booted { slot, deadline_s: 1 });
            if next.action == Action::Look {
                next = step(&next.state, &Event::Approved { previous: Slot::A });
            }
            if next.action == Action::CheckHealth || next.action == Action::Activate(Slot::B) {
                starts += 1;
            }
            state = next.state;
        }
        prop_assert!(starts <= u32::from(BOOTS_MAX));
        prop_assert!(state == State::Idle || matches!(state, State::Trial { taken_back: Some(_), .. }), "{state:?}");
    }

    #[test]
    fn a_terminal_whose_old_firmware_does_not_start_restarts_a_bounded_number_of_times(failed_after in 0..=BOOTS_MAX) {
        let mut state = trial(failed_after, None);
        let mut restarts = 0;
        for event in [Event::Unhealthy].into_iter().chain(std::iter::repeat_n(Event::Booted { slot: Slot::B, deadline_s: 1 }, 100)) {
            let next = step(&state, &event);
            restarts += u32::from(matches!(next.action, Action::Activate(_)));
            state = next.state;
        }
        prop_assert!(restarts <= u32::from(RETURNS_MAX) + 1);
        prop_assert_eq!(step(&state, &Event::Booted { slot: Slot::A, deadline_s: 1 }).state, State::Idle);
    }
}
