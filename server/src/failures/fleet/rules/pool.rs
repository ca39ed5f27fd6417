//! B3: the cards of one pool die together: its quota is used up or it was switched off. Terminals of the same places on
//! other cards or on WiFi go on.

use super::super::statistics::as_f64;
use super::silence::{Silent, together};
use super::{Missing, Reason, Verdict};

/// Fewest cards that fell silent together …
pub const SILENT_MIN: usize = 5;
/// … and their share of the pool's cards that were in use.
pub const SHARE_MIN: f64 = 0.6;
/// Within this time, ms.
pub const SPAN_MS: i64 = 15 * 60_000;
/// Share of the others in the same regions that must go on.
pub const PEERS_ONLINE_MIN: f64 = 0.9;
/// Fewest others.
pub const PEERS_MIN: u64 = 10;

/// One pool.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Input<'a> {
    /// Its terminals that were heard within a day and are silent now.
    pub silent: &'a [Silent],
    /// Its terminals that were heard within a day, silent or not.
    pub cards: u64,
    /// Terminals of the same regions on other cards or without one …
    pub peers: u64,
    /// … and those of them that call as they should.
    pub peers_online: u64,
}

/// A pool that died.
#[derive(Debug, Clone, PartialEq)]
pub struct Dead {
    /// Terminals that fell silent together.
    pub terminal_ids: Vec<i64>,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// Judges one pool.
pub fn judge(input: Input<'_>) -> Verdict<Dead> {
    let terminal_ids = together(input.silent, SPAN_MS);
    let cards = input.cards.max(u64::try_from(input.silent.len()).unwrap_or(u64::MAX));
    if terminal_ids.len() < SILENT_MIN || cards == 0 {
        return Verdict::Clear;
    }
    let silent = u64::try_from(terminal_ids.len()).unwrap_or(u64::MAX);
    let share = as_f64(silent) / as_f64(cards);
    if share < SHARE_MIN {
        return Verdict::Clear;
    }
    if input.peers < PEERS_MIN {
        return Verdict::Insufficient(Missing::Peers);
    }
    let online = as_f64(input.peers_online) / as_f64(input.peers);
    if online < PEERS_ONLINE_MIN {
        return Verdict::Clear;
    }
    let reasons = vec![
        Reason::new("silent", as_f64(silent), as_f64(SILENT_MIN as u64)),
        Reason::new("silent_share", share, SHARE_MIN),
        Reason::new("peers_online", online, PEERS_ONLINE_MIN),
    ];
    Verdict::Hit(Dead { terminal_ids, reasons })
}

/// Digits of a card's number by which cards of one batch are known where nobody said which pool they are in: the issuer
/// (`8986` and two digits), and what most issuers use for province and year.
const DERIVED_DIGITS: usize = 10;

/// The pool that a card is taken to be in when none is on record; `None` for what is no card number of a known form.
pub fn derived(iccid: &str) -> Option<String> {
    let is_plausible = iccid.len() >= 18 && iccid.starts_with("89") && iccid.bytes().all(|b| b.is_ascii_alphanumeric());
    iccid
        .get(..DERIVED_DIGITS)
        .filter(|digits| is_plausible && digits.bytes().all(|b| b.is_ascii_digit()))
        .map(str::to_owned)
}

/// The carrier that issued a card, by its number: `8986` is China, then the issuer.
pub fn carrier(iccid: &str) -> Option<&'static str> {
    match iccid.strip_prefix("8986")?.get(..2)? {
        "00" | "02" | "04" | "07" | "08" | "13" => Some("CMCC"),
        "01" | "06" | "09" | "10" => Some("CUCC"),
        "03" | "05" | "11" | "12" => Some("CTCC"),
        "15" => Some("CBN"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_MS: i64 = 60_000;

    /// Cards that died at minute 100, one each minute of an interval.
    fn silent(n: i64) -> Vec<Silent> {
        (0..n)
            .map(|id| Silent {
                terminal_id: id,
                heard_ms: (86 + id % 14) * MINUTE_MS,
                due_ms: (101 + id % 14) * MINUTE_MS,
            })
            .collect()
    }

    #[test]
    fn a_pool_whose_cards_die_while_the_others_go_on_is_dead() {
        let seen = silent(12);
        let judged = judge(Input { silent: &seen, cards: 15, peers: 40, peers_online: 38 });
        assert!(matches!(judged, Verdict::Hit(dead) if dead.terminal_ids.len() == 12 && dead.reasons.len() == 3));
    }

    #[test]
    fn few_cards_a_small_part_or_others_that_are_silent_too_are_no_dead_pool() {
        let (few, many) = (silent(4), silent(12));
        assert_eq!(judge(Input { silent: &few, cards: 4, peers: 40, peers_online: 40 }), Verdict::Clear);
        assert_eq!(judge(Input { silent: &many, cards: 21, peers: 40, peers_online: 40 }), Verdict::Clear, "57 %");
        assert_eq!(judge(Input { silent: &many, cards: 15, peers: 40, peers_online: 35 }), Verdict::Clear, "88 %");
        let hours: Vec<Silent> = (0..12)
            .map(|id| Silent { terminal_id: id, heard_ms: id * 60 * MINUTE_MS, due_ms: (id * 60 + 15) * MINUTE_MS })
            .collect();
        assert_eq!(judge(Input { silent: &hours, cards: 12, peers: 40, peers_online: 40 }), Verdict::Clear);
    }

    #[test]
    fn without_others_in_the_place_it_does_not_judge() {
        let seen = silent(12);
        let judged = judge(Input { silent: &seen, cards: 12, peers: 9, peers_online: 9 });
        assert_eq!(judged, Verdict::Insufficient(Missing::Peers));
    }

    #[test]
    fn a_card_says_its_issuer_and_its_batch() {
        assert_eq!(derived("89860012345678901234").as_deref(), Some("8986001234"));
        assert_eq!((derived("8986001234"), derived("12860012345678901234")), (None, None));
        assert_eq!(carrier("89860012345678901234"), Some("CMCC"));
        assert_eq!(carrier("89860112345678901234"), Some("CUCC"));
        assert_eq!(carrier("89861112345678901234"), Some("CTCC"));
        assert_eq!((carrier("89868812345678901234"), carrier("893")), (None, None));
    }
}
