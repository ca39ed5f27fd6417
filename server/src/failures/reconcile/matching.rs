//! Which of a terminal's own events a channel's row is about. Pure.
//!
//! By reference number and day; else by trace, batch and amount within ten minutes; else weakly by amount and time. A
//! failure is never matched weakly with a success: a retry a minute later has the same amount.

/// How far the clocks of a terminal and its channel may be apart, ms.
pub const WINDOW_MS: i64 = 600_000;
/// How far two moments of one reference number may be apart, ms: the number repeats, the day does not.
pub const DAY_MS: i64 = 86_400_000;

/// How surely an event was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quality {
    /// None was found.
    None,
    /// By amount and time alone.
    Weak,
    /// By trace, batch and amount.
    Trace,
    /// By reference number and day.
    Ref,
}

impl Quality {
    /// Name in tables and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Weak => "weak",
            Self::Trace => "trace",
            Self::Ref => "ref",
        }
    }
}

/// What a terminal reported of one payment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// Terminal.
    pub terminal_id: i64,
    /// Its own number of the event.
    pub event_id: String,
    /// When, Unix ms.
    pub at_ms: i64,
    /// Amount, fen.
    pub amount_fen: Option<i64>,
    /// Reference number.
    pub ref_no: Option<String>,
    /// Trace number.
    pub trace_no: Option<String>,
    /// Batch number.
    pub batch_no: Option<String>,
    /// Merchant number sent.
    pub merchant_no_sent: Option<String>,
    /// Whether it succeeded there.
    pub succeeded: bool,
}

/// What a row says of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sought<'a> {
    /// Terminal.
    pub terminal_id: i64,
    /// When, Unix ms.
    pub at_ms: i64,
    /// Amount, fen.
    pub amount_fen: i64,
    /// Reference number.
    pub ref_no: Option<&'a str>,
    /// Trace number.
    pub trace_no: Option<&'a str>,
    /// Batch number.
    pub batch_no: Option<&'a str>,
    /// Whether the channel says that it succeeded.
    pub succeeded: bool,
}

/// The event that a row is about, the surest and then the nearest.
pub fn find<'e>(sought: &Sought<'_>, events: &'e [Event]) -> (Quality, Option<&'e Event>) {
    let judged = events.iter().filter(|event| event.terminal_id == sought.terminal_id).map(|event| {
        let distance_ms = (event.at_ms - sought.at_ms).abs();
        (quality(sought, event, distance_ms), std::cmp::Reverse(distance_ms), event)
    });
    let best = judged
        .filter(|(quality, _, _)| *quality > Quality::None)
        .max_by_key(|(quality, distance, _)| (*quality, *distance));
    best.map_or((Quality::None, None), |(quality, _, event)| (quality, Some(event)))
}

/// A number without the zeros that depend on who wrote it; none for what is all zeros.
pub fn plain(number: Option<&str>) -> Option<&str> {
    number.map(|number| number.trim_start_matches('0')).filter(|number| !number.is_empty())
}

fn same(one: Option<&str>, other: &Option<String>) -> bool {
    let one = plain(one);
    one.is_some() && one == plain(other.as_deref())
}

fn differs(one: Option<&str>, other: &Option<String>) -> bool {
    plain(one).zip(plain(other.as_deref())).is_some_and(|(one, other)| one != other)
}

fn quality(sought: &Sought<'_>, event: &Event, distance_ms: i64) -> Quality {
    if same(sought.ref_no, &event.ref_no) && distance_ms < DAY_MS {
        return Quality::Ref;
    }
    let is_near = distance_ms <= WINDOW_MS && event.amount_fen == Some(sought.amount_fen);
    if !is_near || differs(sought.ref_no, &event.ref_no) {
        return Quality::None;
    }
    if same(sought.trace_no, &event.trace_no) && same(sought.batch_no, &event.batch_no) {
        return Quality::Trace;
    }
    if differs(sought.trace_no, &event.trace_no) || event.succeeded != sought.succeeded {
        return Quality::None;
    }
    Quality::Weak
}

/// Whether a row and an event that nothing brings together may be one payment all the same: both went well with the same
/// amount within a day, and no number speaks against it. Days alone stand for moments in some files, and clocks are wrong.
pub fn may_be_one(sought: &Sought<'_>, event: &Event) -> bool {
    sought.terminal_id == event.terminal_id
        && sought.succeeded == event.succeeded
        && event.amount_fen == Some(sought.amount_fen)
        && (event.at_ms - sought.at_ms).abs() < DAY_MS
        && !differs(sought.ref_no, &event.ref_no)
        && !differs(sought.trace_no, &event.trace_no)
        && !differs(sought.batch_no, &event.batch_no)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: i64 = 1_795_341_900_000;

    fn event(id: &str, at_ms: i64, succeeded: bool) -> Event {
        Event {
            terminal_id: 7,
            event_id: id.to_owned(),
            at_ms,
            amount_fen: Some(9_900),
            ref_no: Some(format!("R{id}")),
            trace_no: Some(format!("T{id}")),
            batch_no: Some("1".to_owned()),
            merchant_no_sent: None,
            succeeded,
        }
    }

    fn sought() -> Sought<'static> {
        Sought {
            terminal_id: 7,
            at_ms: AT,
            amount_fen: 9_900,
            ref_no: None,
            trace_no: None,
            batch_no: None,
            succeeded: true,
        }
    }

    #[test]
    fn the_surest_match_wins_over_the_nearest() {
        let events = [event("1", AT, true), event("2", AT + 500_000, true), event("3", AT + 80_000_000, true)];
        let found = |sought: Sought<'_>| {
            let (quality, event) = find(&sought, &events);
            (quality, event.map(|event| event.event_id.clone()))
        };
        assert_eq!(found(sought()), (Quality::Weak, Some("1".to_owned())));
        let by_trace = Sought { trace_no: Some("T2"), batch_no: Some("1"), ..sought() };
        assert_eq!(found(by_trace), (Quality::Trace, Some("2".to_owned())));
        assert_eq!(found(Sought { ref_no: Some("R3"), ..sought() }), (Quality::Ref, Some("3".to_owned())));
    }

    #[test]
    fn what_only_looks_alike_is_no_match() {
        let near = event("1", AT, true);
        for (sought, event) in [
            (Sought { terminal_id: 8, ..sought() }, near.clone()),
            (Sought { amount_fen: 9_901, ..sought() }, near.clone()),
            (Sought { at_ms: AT + WINDOW_MS + 1, ..sought() }, near.clone()),
            (Sought { ref_no: Some("R9"), ..sought() }, near.clone()),
            (Sought { trace_no: Some("T9"), batch_no: Some("1"), ..sought() }, near.clone()),
            (Sought { ref_no: Some("R1"), at_ms: AT + DAY_MS, ..sought() }, near.clone()),
            // The first try failed, the retry went through.
            (sought(), event("1", AT - 60_000, false)),
        ] {
            assert_eq!(find(&sought, std::slice::from_ref(&event)).0, Quality::None, "{sought:?}");
        }
    }

    #[test]
    fn zeros_that_a_spreadsheet_took_off_are_no_difference() {
        let event = Event {
            ref_no: Some("032616123456".to_owned()),
            trace_no: Some("000345".to_owned()),
            batch_no: Some("000012".to_owned()),
            ..event("1", AT, true)
        };
        let events = std::slice::from_ref(&event);
        let by_ref = Sought { ref_no: Some("32616123456"), trace_no: None, batch_no: None, ..sought() };
        assert_eq!(find(&by_ref, events).0, Quality::Ref);
        let by_trace = Sought { ref_no: None, trace_no: Some("345"), batch_no: Some("12"), ..sought() };
        assert_eq!(find(&by_trace, events).0, Quality::Trace);
        let other = Sought { trace_no: Some("346"), ..by_trace };
        assert_eq!(find(&other, events).0, Quality::None);
        let unknown = Sought { ref_no: Some("000000000000"), trace_no: None, batch_no: None, ..sought() };
        assert_eq!(find(&unknown, events).0, Quality::Weak, "zeros alone are no number");
    }

    #[test]
    fn one_that_is_far_off_may_still_be_the_same_payment_unless_something_speaks_against_it() {
        let event = event("1", AT, true);
        let far = Sought { at_ms: AT + DAY_MS - 1, ..sought() };
        assert_eq!(find(&far, std::slice::from_ref(&event)).0, Quality::None);
        assert!(may_be_one(&far, &event));
        for other in [
            Sought { terminal_id: 8, ..far.clone() },
            Sought { amount_fen: 9_901, ..far.clone() },
            Sought { at_ms: AT + DAY_MS, ..far.clone() },
            Sought { ref_no: Some("R9"), ..far.clone() },
            Sought { trace_no: Some("T9"), ..far.clone() },
            Sought { batch_no: Some("2"), ..far.clone() },
            Sought { succeeded: false, ..far.clone() },
        ] {
            assert!(!may_be_one(&other, &event), "{other:?}");
        }
    }

    #[test]
    fn a_failure_that_the_channel_settled_is_found_by_its_numbers() {
        let failed = event("1", AT, false);
        let sought = Sought { trace_no: Some("T1"), batch_no: Some("1"), ..sought() };
        assert_eq!(find(&sought, std::slice::from_ref(&failed)), (Quality::Trace, Some(&failed)));
    }
}
