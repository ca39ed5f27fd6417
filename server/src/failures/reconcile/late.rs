//! Payments that came before their terminals were registered.

use super::pass::item;
use super::store;
use crate::checkin::{self, Slot};
use crate::db::{self, Conn};
use crate::failures::feed::{self, store::Transaction};
use crate::failures::once;
use crate::failures::verdicts::{self, Source};
use crate::operators::Scope;
use crate::terminals;

/// Finds their terminals. From then on they count for the statistics, too, and what was said while nobody knew whose they
/// were is taken back: the rules say it again of the terminal.
pub(super) fn resolve(conn: &mut Conn, batch: &mut [Transaction]) -> Result<(), db::Error> {
    let mut sns: Vec<&str> =
        batch.iter().filter(|payment| payment.terminal_id.is_none()).map(|payment| payment.sn.as_str()).collect();
    sns.sort_unstable();
    sns.dedup();
    if !sns.is_empty() {
        let registered = terminals::registered_by_sn(conn, &Scope::everything(), &sns)?;
        let mut found: Vec<(Transaction, Slot<'_>)> = Vec::new();
        for payment in batch.iter_mut().filter(|payment| payment.terminal_id.is_none()) {
            // Only what is below the channel's organization, which such a payment still has.
            let known = registered.get(&payment.sn).filter(|known| known.org_path.starts_with(&payment.org_path));
            let Some(terminal) = known else { continue };
            if !store::resolve(conn, payment, terminal.id, &terminal.org_path)? {
                continue;
            }
            payment.terminal_id = Some(terminal.id);
            payment.org_path.clone_from(&terminal.org_path);
            // Terminals that call count their own exposures.
            if !terminal.calls {
                let slot = Slot {
                    terminal_id: terminal.id,
                    org_path: &terminal.org_path,
                    model: &terminal.model,
                    hardware: terminal.hardware.as_deref(),
                    region: &terminal.region,
                    at_ms: payment.at_ms,
                    is_failed: payment.status == "failure",
                    outcome: payment.outcome(),
                };
                found.push((payment.clone(), slot));
            }
        }
        count(conn, found)?;
    }
    let known = batch.iter().filter(|payment| payment.terminal_id.is_some());
    let items: Vec<String> = known.map(|payment| item(payment.id)).collect();
    verdicts::take_back_unknown(conn, Source::Settlement, &items)
}

/// Counts each payment once, however often and by whomever it was told.
fn count(conn: &mut Conn, found: Vec<(Transaction, Slot<'_>)>) -> Result<(), db::Error> {
    let payments: Vec<&Transaction> = found.iter().map(|(payment, _)| payment).collect();
    let (twice, reported) = (feed::told_twice(conn, &payments)?, once::reported(conn, &payments)?);
    let slots = found.into_iter().map(|(_, slot)| slot).enumerate();
    let slots: Vec<Slot<'_>> =
        slots.filter(|(place, _)| !twice.contains(place) && !reported.contains(place)).map(|(_, slot)| slot).collect();
    checkin::note_slots(conn, &slots)
}
