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

/// The largest set that can have fallen silent within `span_ms`, by number. Ties: the latest, which is what goes on now.
pub fn together(silent: &[Silent], span_ms: i64) -> Vec<i64> {
    let mut ends: Vec<i64> = silent.iter().map(|one| one.due_ms).collect();
    ends.sort_unstable();
    ends.dedup();
    // A best span ends with some terminal's `due_ms`: later ends lose it, and gain nobody.
    let mut starts: Vec<i64> = silent.iter().map(|one| one.heard_ms.saturating_sub(span_ms)).collect();
    starts.sort_unstable();
    let mut dues: Vec<i64> = silent.iter().map(|one| one.due_ms).collect();
    dues.sort_unstable();
    let count = |from_ms: i64| {
        // Began by then, less those that had been missed before.
        let began = starts.partition_point(|start| *start <= from_ms);
        began - dues.partition_point(|due| *due < from_ms)
    };
    let Some(best) = ends.into_iter().max_by_key(|from_ms| (count(*from_ms), *from_ms)) else { return Vec::new() };
    let is_in = |one: &&Silent| one.heard_ms.saturating_sub(span_ms) <= best && best <= one.due_ms;
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
}
