//! Reconciliation: what channels settled, held against the bindings and contracts of the time and the terminals' own
//! events.
//!
//! A pass ([`pass`]) takes what is due, finds the terminal's event ([`matching`]), lets the rules judge, and keeps the
//! verdict in the same transaction. A merchant number that is new opens a review and accuses nobody ([`decide`]); a
//! difference that is a fee is no fault. How much was compared always stands beside what was found.

mod again;
mod gather;
pub mod http;
mod late;
pub mod matching;
mod missing;
mod pass;
mod store;
mod view;

pub(super) use gather::sought;

pub use again::{compare_merchant_again, compare_terminals_again};
pub use missing::look_for_missing;
pub use pass::pass;
pub use view::{
    Coverage, DAYS_MAX, Filter, Settlement, SettlementDetail, SettlementKey, Summary, find, last_days, list, summary,
};

use crate::audit::Actor;
use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::merchants::Error;
use crate::merchants::numbers::{self, Act, MerchantNumber, NewMerchantNumber};
use crate::operators::Caller;

/// Does `act` to another number of a merchant; payments under it are looked at again.
///
/// # Errors
/// As [`numbers::act`].
pub fn decide(
    conn: &mut Conn,
    caller: &Caller,
    actor: &Actor,
    id: i64,
    act: Act,
    now: Now,
) -> Result<MerchantNumber, Error> {
    store::wait_to_lead(conn)?;
    let number = numbers::find(conn, &caller.scope, id)?;
    again::compare_number_again(conn, &number.number, &number.org_path)?;
    numbers::act(conn, caller, actor, id, act, now)
}

/// Enters another number of a merchant before it was seen, and asks to approve it.
///
/// # Errors
/// As [`numbers::create`].
pub fn enter(
    conn: &mut Conn,
    caller: &Caller,
    actor: &Actor,
    new: NewMerchantNumber,
    now: Now,
) -> Result<MerchantNumber, Error> {
    numbers::create(conn, caller, actor, new, now)
}

/// Deletes counted hours that the cells have forgotten, too; returns how many went. Idempotent.
///
/// # Errors
/// [`db::Error`]; what was deleted before stays deleted.
pub async fn sweep(db: &Db, now: Now) -> Result<usize, db::Error> {
    let before_ms = now.0 - crate::checkin::retention::CELLS_KEPT_MS;
    let mut deleted = 0;
    loop {
        let step = db.write(move |conn| store::delete_old_slots(conn, before_ms)).await?;
        if step == 0 {
            return Ok(deleted);
        }
        deleted += step;
    }
}
