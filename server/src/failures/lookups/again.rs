//! Look-ups of payments that failed at their terminals, when those can no longer be reversed.

use super::{Seen, judge, judging, proof, store};
use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::failures::{self, contracts, verdicts};
use crate::operators::Scope;

/// Look-ups of one transaction.
const BATCH: i64 = 50;

/// Judges look-ups again whose payments had failed so short a time before that they could still be reversed. What is said
/// anew opens its incident; `true` when there may be more. Two servers judge each once.
///
/// # Errors
/// [`db::Error`]; what was judged before stays judged.
pub async fn judge_due(db: &Db, now: Now) -> Result<bool, db::Error> {
    db.write(move |conn| step(conn, now)).await
}

fn step(conn: &mut Conn, now: Now) -> Result<bool, db::Error> {
    let due = store::due(conn, now, BATCH)?;
    let mut proofs = Vec::new();
    for lookup in &due {
        let (terminal_id, scope) = (lookup.terminal_id, Scope::subtree(&lookup.org_path));
        let event_id = lookup.event_id.as_deref().unwrap_or_default();
        let failure = failures::find(conn, &scope, terminal_id, event_id)?;
        let terminal = judging::Terminal {
            failed_ms: failure.is_some().then_some(now.0 - lookup.at_ms),
            sent: failure.and_then(|failure| Seen::of_failure(failure).merchant_no_sent),
        };
        let bound = contracts::bound_at(conn, &scope, terminal_id, lookup.at_ms)?;
        let in_force = verdicts::in_force(conn, &lookup.org_path)?;
        let missing_ms = lookup.at_ms + in_force.tables.thresholds.missing_after_ms();
        let shown = judging::Shown {
            merchant_no: lookup.merchant_no.as_deref(),
            merchant_name: lookup.merchant_name.as_deref(),
            mcc: lookup.mcc.as_deref(),
            level: &lookup.level,
            at_ms: lookup.at_ms,
        };
        let judgement = judge(conn, shown, &lookup.org_path, bound.as_ref(), terminal, &in_force)?;
        // Later still, where the organization has made the time longer meanwhile.
        let due_ms = (now.0 < missing_ms).then_some(missing_ms);
        if !store::judged(conn, lookup, &judgement, &in_force.tables.version, due_ms, now)? {
            continue;
        }
        let mut news = judgement;
        news.findings.retain(|finding| lookup.judgement.findings.iter().all(|before| before.kind != finding.kind));
        proofs.push(proof(lookup, bound, news, in_force));
    }
    verdicts::open_incidents(conn, &proofs, now)?;
    Ok(i64::try_from(due.len()).unwrap_or(0) == BATCH)
}
