//! Serving both signed repositories over HTTP: what a request asks for, decided without a framework.

pub(super) mod http;

/// Which bytes of a payload a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// All of them: there is no range, or one that a server may ignore (malformed, or several).
    Whole,
    /// `first..=last`.
    Part {
        /// First byte.
        first: u64,
        /// Last byte, inclusive.
        last: u64,
    },
    /// None that exists.
    Unsatisfiable,
}

/// Reads a `Range` header for a payload of `length` bytes (RFC 9110 §14). One range only: terminals resume with one.
fn wanted(range: Option<&str>, length: u64) -> Wanted {
    let Some(spec) = range.and_then(|range| range.strip_prefix("bytes=")) else { return Wanted::Whole };
    let Some((first, last)) = spec.split_once('-') else { return Wanted::Whole };
    let number = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
        true => text.parse::<u64>().ok(),
        false => None,
    };
    match (number(first), last, number(last)) {
        (Some(first), "", _) if first < length => Wanted::Part { first, last: length - 1 },
        (Some(first), _, Some(last)) if first <= last && first < length => {
            Wanted::Part { first, last: last.min(length - 1) }
        }
        (Some(first), "", _) if first >= length => Wanted::Unsatisfiable,
        (Some(first), _, Some(last)) if first <= last => Wanted::Unsatisfiable,
        (None, _, Some(0)) if first.is_empty() => Wanted::Unsatisfiable,
        (None, _, Some(suffix)) if first.is_empty() && length > 0 => {
            Wanted::Part { first: length.saturating_sub(suffix), last: length - 1 }
        }
        _ => Wanted::Whole,
    }
}

/// Whether one of the entity tags in a header (`If-None-Match`, `If-Range`) is `etag`.
fn names_tag(header: Option<&str>, etag: &str) -> bool {
    header.is_some_and(|tags| tags.split(',').map(str::trim).any(|tag| tag == etag || tag == "*"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_as_the_standard_says_and_nonsense_gets_the_whole() {
        let part = |first, last| Wanted::Part { first, last };
        for (range, expected) in [
            ("bytes=0-0", part(0, 0)),
            ("bytes=4-", part(4, 9)),
            ("bytes=4-7", part(4, 7)),
            ("bytes=4-99", part(4, 9)),
            ("bytes=-3", part(7, 9)),
            ("bytes=-99", part(0, 9)),
            ("bytes=10-", Wanted::Unsatisfiable),
            ("bytes=10-20", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=7-4", Wanted::Whole),
            ("bytes=0-1,4-5", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=x-y", Wanted::Whole),
            ("items=0-1", Wanted::Whole),
            ("bytes=18446744073709551616-", Wanted::Whole),
            ("", Wanted::Whole),
        ] {
            assert_eq!(wanted(Some(range), 10), expected, "{range}");
        }
        assert_eq!(wanted(None, 10), Wanted::Whole);
        assert_eq!(wanted(Some("bytes=-3"), 0), Wanted::Whole);
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Unsatisfiable);
    }

    #[test]
    fn a_tag_is_found_in_a_list() {
        assert!(names_tag(Some("\"a\", \"b\""), "\"b\""));
        assert!(names_tag(Some("*"), "\"b\""));
        assert!(!names_tag(Some("\"a\""), "\"b\""));
        assert!(!names_tag(None, "\"b\""));
    }
}
