//! Search by a piece of text: which terminals it may mean, and which of them are on the page.

use std::collections::HashSet;

use tillward_protocol::FieldError;

use super::store::{self, Searched, Texts};
use super::{Error, Key, Sort, Wanted};
use crate::db::{self, Conn};
use crate::terminals::fields::clean_id;

/// Shortest search text, characters: two-character Chinese names are common.
const CHARS_MIN: usize = 2;
/// Longest search text, characters.
const CHARS_MAX: usize = 100;
/// Shortest end of a serial number that is searched for; people know the last six.
const TAIL_CHARS_MIN: usize = 4;
/// Up to this many matches, or terminals on the way, are looked up one by one.
const FEW: usize = 1_000;
/// Most matches of one field that a search takes into account: the cost of reading that many numbers from an index.
const MATCHES_MAX: usize = 100_000;
/// Keys read at a time on the way through the list.
const STRIDE: usize = 5_000;

/// Numbers of the terminals on the page.
///
/// Few matches are looked up one by one. Of many, the page is usually full after a few terminals of the list; only when
/// it is not are all the matches read.
pub(super) fn ids(
    conn: &mut Conn,
    wanted: &Wanted,
    text: &str,
    sort: Sort,
    after: Option<Key>,
    limit: usize,
) -> Result<Vec<i64>, Error> {
    let starts = starts(text)?;
    let mut keys = match matches(conn, &starts, FEW)? {
        Some(matches) => {
            let mut keys = store::among(conn, wanted, sort, &matches)?;
            keys.retain(|key| after.is_none_or(|after| is_after(key, &after)));
            keys.sort_by(order);
            keys
        }
        None => {
            let first = store::ids(conn, wanted, sort, after, FEW)?;
            let next = first.last().copied().filter(|_| first.len() == FEW);
            let ids: Vec<i64> = first.iter().map(|key| key.id).collect();
            let meant = meant(conn, &starts, &ids)?;
            let mut keys: Vec<Key> = first.into_iter().filter(|key| meant.contains(&key.id)).collect();
            if let Some(next) = next.filter(|_| keys.len() < limit) {
                let matches = matches(conn, &starts, MATCHES_MAX)?.ok_or_else(|| {
                    FieldError::new("q", format!("means more than {MATCHES_MAX} terminals; type more of it"))
                })?;
                keys.extend(on_the_way(conn, wanted, &matches, sort, next, limit - keys.len())?);
            }
            keys
        }
    };
    keys.truncate(limit);
    Ok(keys.into_iter().map(|key| key.id).collect())
}

/// Of the terminals `known`, the page's numbers; the text, when there is one, must mean them too.
pub(super) fn among(
    conn: &mut Conn,
    wanted: &Wanted,
    known: &[i64],
    sort: Sort,
    after: Option<Key>,
    limit: usize,
) -> Result<Vec<i64>, Error> {
    let mut keys = store::among(conn, wanted, sort, known)?;
    if let Some(text) = &wanted.filter.q {
        let ids: Vec<i64> = keys.iter().map(|key| key.id).collect();
        let meant = meant(conn, &starts(text)?, &ids)?;
        keys.retain(|key| meant.contains(&key.id));
    }
    keys.retain(|key| after.is_none_or(|after| is_after(key, &after)));
    keys.sort_by(order);
    keys.truncate(limit);
    Ok(keys.into_iter().map(|key| key.id).collect())
}

/// Of `ids`, those that the text may mean; by primary key.
fn meant(conn: &mut Conn, starts: &[(Searched, String)], ids: &[i64]) -> Result<HashSet<i64>, db::Error> {
    let texts = store::texts(conn, ids)?;
    let is_meant = |texts: &Texts| {
        starts.iter().any(|(field, start)| match field {
            Searched::Sn => texts.sn.starts_with(start),
            Searched::SnReversed => texts.sn_reversed.starts_with(start),
            Searched::MerchantNo => begins(&texts.merchant_no, start),
            Searched::TerminalNo => begins(&texts.terminal_no, start),
            Searched::MerchantName => begins(&texts.merchant_name, start),
            Searched::StoreName => begins(&texts.store_name, start),
        })
    };
    Ok(texts.into_iter().filter(is_meant).map(|texts| texts.id).collect())
}

fn begins(text: &Option<String>, start: &str) -> bool {
    text.as_deref().is_some_and(|text| text.starts_with(start))
}

fn order(a: &Key, b: &Key) -> std::cmp::Ordering {
    match a.sort {
        Sort::Id => a.id.cmp(&b.id),
        Sort::LastSeen => (b.last_seen_ms, b.id).cmp(&(a.last_seen_ms, a.id)),
    }
}

fn is_after(key: &Key, after: &Key) -> bool {
    order(after, key).is_lt()
}

/// Goes through the list in order until the page is full.
fn on_the_way(
    conn: &mut Conn,
    wanted: &Wanted,
    matches: &[i64],
    sort: Sort,
    mut after: Key,
    limit: usize,
) -> Result<Vec<Key>, db::Error> {
    let mut found = Vec::new();
    loop {
        let keys = store::ids(conn, wanted, sort, Some(after), STRIDE)?;
        let is_last = keys.len() < STRIDE;
        after = keys.last().copied().unwrap_or(after);
        found.extend(keys.into_iter().filter(|key| matches.binary_search(&key.id).is_ok()));
        if is_last || found.len() >= limit {
            return Ok(found);
        }
    }
}

/// What each field may begin with.
fn starts(text: &str) -> Result<Vec<(Searched, String)>, FieldError> {
    let chars = text.chars().count();
    if !(CHARS_MIN..=CHARS_MAX).contains(&chars) {
        return Err(FieldError::new("q", format!("must be {CHARS_MIN} to {CHARS_MAX} characters")));
    }
    let mut starts = vec![(Searched::MerchantName, text.to_owned()), (Searched::StoreName, text.to_owned())];
    let id = clean_id(text);
    if id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        // Labels are printed in capitals; people type what is quick.
        let mut writings = vec![id.clone(), id.to_ascii_uppercase()];
        writings.dedup();
        for writing in writings {
            if writing.len() >= TAIL_CHARS_MIN {
                starts.push((Searched::SnReversed, writing.chars().rev().collect()));
            }
            starts.push((Searched::TerminalNo, writing.clone()));
            starts.push((Searched::Sn, writing));
        }
        if id.bytes().all(|b| b.is_ascii_digit()) {
            starts.push((Searched::MerchantNo, id));
        }
    }
    Ok(starts)
}

/// Every terminal that the text may mean, whoever it belongs to, sorted; nothing when a field has more than `max`.
fn matches(conn: &mut Conn, starts: &[(Searched, String)], max: usize) -> Result<Option<Vec<i64>>, db::Error> {
    let limit = i64::try_from(max).unwrap_or(i64::MAX).saturating_add(1);
    let mut matches = Vec::new();
    for (field, start) in starts {
        let ids = store::beginning_with(conn, *field, start, limit)?;
        if ids.len() > max {
            return Ok(None);
        }
        matches.extend(ids);
    }
    matches.sort_unstable();
    matches.dedup();
    Ok(Some(matches))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_searched_where_it_can_be_the_beginning() {
        let fields =
            |text: &str| -> Vec<Searched> { starts(text).unwrap().into_iter().map(|(field, _)| field).collect() };
        assert_eq!(fields("张记"), [Searched::MerchantName, Searched::StoreName]);
        assert!(fields("0173").contains(&Searched::SnReversed) && fields("0173").contains(&Searched::MerchantNo));
        assert!(!fields("173").contains(&Searched::SnReversed));
        assert!(starts("n7nl").unwrap().contains(&(Searched::Sn, "N7NL".to_owned())));
        assert!(starts("n7nl").unwrap().contains(&(Searched::SnReversed, "LN7N".to_owned())));
        assert_eq!(starts("x").unwrap_err().field, "q");
        assert_eq!(starts(&"x".repeat(101)).unwrap_err().field, "q");
    }
}
