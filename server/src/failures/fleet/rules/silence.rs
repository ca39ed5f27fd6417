//! Terminals that fell silent at once. Each fell silent at some moment between its last check-in and the one that did not
//! come; those that can have done so within one short span did so together.

/// One silent terminal: the span in which it fell silent, Unix ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silent {
    /// Terminal.
    pub terminal_id: i64,
    /// It was heard last.
    pub heard_ms: i64,
    /// It should have been heard again.
    pub due_ms: i64,
}

impl Silent {
    fn span(self) -> Span {
        Span { heard_ms: self.heard_ms, due_ms: self.due_ms, terminals: 1 }
    }
}

/// Terminals that fell silent in the same span of time, Unix ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// They were heard last.
    pub heard_ms: i64,
    /// They should have been heard again.
    pub due_ms: i64,
    /// How many.
    pub terminals: u64,
}

impl Span {
    /// Whether they can have fallen silent within the `span_ms` up to a moment.
    pub fn holds(self, at_ms: i64, span_ms: i64) -> bool {
        self.heard_ms.saturating_sub(span_ms) <= at_ms && at_ms <= self.due_ms
    }
}

/// The moment up to which most terminals can have fallen silent within `span_ms`, and how many. Ties: the latest, which is
/// what goes on now.
pub fn moment(spans: &[Span], span_ms: i64) -> Option<(i64, u64)> {
    let mut starts: Vec<(i64, u64)> =
        spans.iter().map(|span| (span.heard_ms.saturating_sub(span_ms), span.terminals)).collect();
    starts.sort_unstable();
    let mut ends: Vec<(i64, u64)> = spans.iter().map(|span| (span.due_ms, span.terminals)).collect();
    ends.sort_unstable();
    let mut starts = starts.into_iter().peekable();
    let mut within = 0_u64;
    let mut best: Option<(i64, u64)> = None;
    // The best moment is some terminals' `due_ms`: later ones lose them, and gain nobody.
    for (end_ms, terminals) in ends {
        while let Some((_, began)) = starts.next_if(|(start_ms, _)| *start_ms <= end_ms) {
            within += began;
        }
        if best.is_none_or(|(_, most)| within >= most) {
            best = Some((end_ms, within));
        }
        within = within.saturating_sub(terminals);
    }
    best
}

/// The largest set that can have fallen silent within `span_ms`, by number. Ties as in [`moment`].
pub fn together(silent: &[Silent], span_ms: i64) -> Vec<i64> {
    let spans: Vec<Span> = silent.iter().map(|one| one.span()).collect();
    let Some((at_ms, _)) = moment(&spans, span_ms) else { return Vec::new() };
    let is_in = |one: &&Silent| one.span().holds(at_ms, span_ms);
    let mut ids: Vec<i64> = silent.iter().filter(is_in).map(|one| one.terminal_id).collect();
    ids.sort_unstable();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_MS: i64 = 60_000;

    fn silent(terminal_id: i64, heard_min: i64, due_min: i64) -> Silent {
        Silent { terminal_id, heard_ms: heard_min * MINUTE_MS, due_ms: due_min * MINUTE_MS }
    }

    #[test]
    fn what_can_have_happened_at_once_is_found_whatever_the_intervals() {
        // All died at minute 100: those that call each 15 minutes and those that call each hour.
        let mut seen: Vec<Silent> = (0..15).map(|n| silent(n, 86 + n, 101 + n)).collect();
        seen.extend((0..6).map(|n| silent(100 + n, 45 + n * 10, 105 + n * 10)));
        assert_eq!(together(&seen, 0).len(), 21);
    }

    #[test]
    fn what_stopped_one_after_another_did_not_stop_at_once() {
        let seen: Vec<Silent> = (0..20).map(|n| silent(n, n * 60, n * 60 + 15)).collect();
        assert_eq!(together(&seen, 15 * MINUTE_MS), [19]);
        assert_eq!(together(&seen, 46 * MINUTE_MS), [18, 19]);
        assert_eq!(together(&[], MINUTE_MS), Vec::<i64>::new());
    }

    #[test]
    fn terminals_that_are_counted_together_weigh_as_many_as_they_are() {
        let span = |heard_min: i64, terminals| Span {
            heard_ms: heard_min * MINUTE_MS,
            due_ms: (heard_min + 15) * MINUTE_MS,
            terminals,
        };
        let spans = [span(0, 5), span(10, 400_000), span(20, 1), span(90, 300_000)];
        assert_eq!(moment(&spans, 0), Some((15 * MINUTE_MS, 400_005)));
        assert_eq!(moment(&spans, 65 * MINUTE_MS), Some((25 * MINUTE_MS, 700_001)));
        assert_eq!(moment(&[span(0, 7), span(60, 7)], 0), Some((75 * MINUTE_MS, 7)), "the latest of equals");
        assert_eq!(moment(&[], 0), None);
    }
}
