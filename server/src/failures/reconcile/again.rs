//! What is compared again because somebody entered later what it is compared with: a binding, a contract, a word on a number.
//!
//! Whoever enters it asks for that in the same transaction, and asking costs one row however many payments there are. The
//! pass makes them due, some thousand in a transaction. What is asked for while it is under way begins anew.

use super::store::again as store;
use crate::clock::Now;
use crate::db::{self, Conn};
use crate::terminals::bindings;

/// Settings that hold what was asked for begin so.
const PREFIX: &str = "reconcile.again:";
/// Payments made due in one transaction: some 50 ms of writing.
const MARKED_MAX: i64 = 2_000;
/// Askings that one transaction looks at.
const ASKED_MAX: i64 = 50;
/// Terminals of one merchant that one transaction asks for.
const TERMINALS_MAX: i64 = 500;

/// Which payments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Which {
    /// Those of a terminal.
    Terminal(i64),
    /// Those settled under this number, within an organization.
    Number { number: String, org_path: String },
    /// Those of all terminals that are or were bound to this number.
    Merchant(String),
}

impl Which {
    fn key(&self) -> String {
        match self {
            Self::Terminal(id) => format!("{PREFIX}terminal:{id}"),
            Self::Number { number, org_path } => format!("{PREFIX}number:{number}:{org_path}"),
            Self::Merchant(number) => format!("{PREFIX}merchant:{number}"),
        }
    }

    fn parse(key: &str) -> Option<Self> {
        let (kind, rest) = key.strip_prefix(PREFIX)?.split_once(':')?;
        match kind {
            "terminal" => rest.parse().ok().map(Self::Terminal),
            "number" => {
                let (number, org_path) = rest.split_once(':')?;
                Some(Self::Number { number: number.to_owned(), org_path: org_path.to_owned() })
            }
            "merchant" => Some(Self::Merchant(rest.to_owned())),
            _ => None,
        }
    }
}

/// Which asking it is, and the payment, or the terminal, after which it goes on: time and number.
type Place = (String, i64, i64);

fn ask(conn: &mut Conn, which: &Which) -> Result<(), db::Error> {
    let place: Place = (hex::encode(rand::random::<[u8; 8]>()), 0, 0);
    store::ask(conn, &which.key(), &serde_json::to_string(&place).unwrap_or_default())
}

/// Asks that the payments of these terminals be compared again, within the caller's transaction: whose they were is known
/// otherwise now. Nothing for terminals without payments. Call it before the caller's own entry in the audit log.
///
/// # Errors
/// [`db::Error`].
pub fn compare_terminals_again(conn: &mut Conn, ids: &[i64]) -> Result<(), db::Error> {
    if ids.is_empty() {
        return Ok(());
    }
    for id in store::with_payments(conn, ids)? {
        ask(conn, &Which::Terminal(id))?;
    }
    Ok(())
}

/// Asks that payments be compared again, within the caller's transaction, after what is contracted with a merchant was
/// entered or changed: those of its terminals, and those settled under its number in this organization and below. Call it
/// before the caller's own entry in the audit log.
///
/// # Errors
/// [`db::Error`].
pub fn compare_merchant_again(conn: &mut Conn, merchant_no: &str, org_path: &str) -> Result<(), db::Error> {
    ask(conn, &Which::Merchant(merchant_no.to_owned()))?;
    compare_number_again(conn, merchant_no, org_path)
}

/// Asks the same of payments settled under a number, in this organization and below.
pub(super) fn compare_number_again(conn: &mut Conn, number: &str, org_path: &str) -> Result<(), db::Error> {
    ask(conn, &Which::Number { number: number.to_owned(), org_path: org_path.to_owned() })
}

/// Makes due what was asked for, at most [`MARKED_MAX`] payments; `false` when nothing was. Only for who leads.
pub(super) fn step(conn: &mut Conn, now: Now) -> Result<bool, db::Error> {
    let asked = store::asked(conn, PREFIX, ASKED_MAX)?;
    let mut left = MARKED_MAX;
    for (key, value) in &asked {
        if left == 0 {
            break;
        }
        let (asking, at_ms, id): Place = serde_json::from_str(value).unwrap_or_default();
        let next = match Which::parse(key) {
            None => None,
            Some(Which::Merchant(number)) => ask_of_terminals(conn, &number, id)?,
            Some(which) => {
                let limit = left;
                let marked = store::mark(conn, &which, (at_ms, id), limit, now)?;
                left -= i64::try_from(marked.len()).unwrap_or(limit);
                marked.last().copied().filter(|_| left == 0)
            }
        };
        let next = next.map(|(at_ms, id)| serde_json::to_string(&(asking, at_ms, id)).unwrap_or_default());
        store::go_on(conn, key, value, next.as_deref())?;
    }
    Ok(!asked.is_empty())
}

/// Asks for the terminals of a merchant after `after`; returns where to go on.
fn ask_of_terminals(conn: &mut Conn, merchant_no: &str, after: i64) -> Result<Option<(i64, i64)>, db::Error> {
    let terminals = bindings::terminals_of(conn, merchant_no, after, TERMINALS_MAX)?;
    compare_terminals_again(conn, &terminals)?;
    let is_full = i64::try_from(terminals.len()).is_ok_and(|n| n == TERMINALS_MAX);
    Ok(terminals.last().filter(|_| is_full).map(|id| (0, *id)))
}
