//! Offers: within windows, promises and limits.

use std::collections::{BTreeMap, HashMap};

use super::super::Error;
use super::super::assignment::{Event as Step, Phase, Withdrawal};
use super::super::store::assignments::{Assignment, Bulk, Circumstances};
use super::super::store::{self, CHUNK, Stored, Subject, assignments};
use super::super::strategy::Wait;
use super::stages::{Turn, turn};
use super::{is_begun, lock, step_all};
use crate::clock::Now;
use crate::db::{self, Conn};
use crate::profiles::{self, LayerKey};

/// A terminal whose store is at its limit is looked at again after this, ms.
const SITE_PAUSE_MS: i64 = 60_000;
/// A terminal that does not call is looked at again after this, ms; it would only hold a place that others wait for.
const OFFLINE_PAUSE_MS: i64 = 300_000;
/// A terminal is offline after this many of the intervals that it was told …
const OFFLINE_INTERVALS: i64 = 3;
/// … and this, ms.
const OFFLINE_GRACE_MS: i64 = 300_000;

/// When a terminal that called last at `last_seen_ms` is taken for silent, Unix ms.
pub(super) fn silent_at_ms(last_seen_ms: i64, interval_s: i64) -> i64 {
    let intervals_ms = interval_s.saturating_mul(1000 * OFFLINE_INTERVALS);
    last_seen_ms.saturating_add(intervals_ms).saturating_add(OFFLINE_GRACE_MS)
}

/// Offers the release to the next terminals whose turn it is, as many as the limits allow.
pub(super) fn offer(conn: &mut Conn, rollout: &Stored, now: Now) -> Result<bool, Error> {
    if !rollout.state.offers() || !is_begun(rollout, now) {
        return Ok(false);
    }
    let room = match rollout.strategy.in_flight_max {
        Some(most) => {
            let counts = store::counts(conn, &[rollout.id])?;
            let at_it: i64 = counts.iter().filter(|row| row.1.is_ordered()).map(|row| row.2).sum();
            if counts.len() != Phase::ALL.len() {
                return Ok(false);
            }
            usize::try_from(i64::from(most).saturating_sub(at_it)).unwrap_or(0)
        }
        None => CHUNK,
    };
    if room == 0 {
        return Ok(false);
    }
    let chunk = assignments::ready(conn, rollout.id, now, room.min(CHUNK))?;
    if chunk.is_empty() || !store::hold(conn, rollout, &rollout.progress)? {
        return Ok(false);
    }
    lock(conn, &chunk)?;
    let (offered, put_off) = sort(conn, rollout, chunk, now)?;
    for ((ready_ms, wait), ids) in put_off {
        assignments::put_off(conn, &ids, ready_ms, wait)?;
    }
    let ends: HashMap<i64, Option<i64>> = offered.iter().map(|(one, ends)| (one.id, *ends)).collect();
    let offered: Vec<Assignment> = offered.into_iter().map(|(one, _)| one).collect();
    let bulk = |one: &Assignment, after| Bulk::of(one, after, None, ends.get(&one.id).copied().flatten(), now);
    step_all(conn, &offered, Step::Offer, bulk, now)?;
    if let Subject::Profile { id, layer } = &rollout.subject {
        tell(conn, &offered, layer, *id, now)?;
    }
    Ok(true)
}

/// Tells terminals to apply a profile. Those that report the very parameters already are done; those that are not on the
/// layer any more have no part in it.
fn tell(conn: &mut Conn, offered: &[Assignment], layer: &LayerKey, profile_id: i64, now: Now) -> Result<(), Error> {
    let terminals: Vec<i64> = offered.iter().map(|one| one.terminal_id).collect();
    let expected = profiles::stage(conn, &terminals, layer, profile_id, now)?;
    let reported = assignments::reported_configs(conn, &terminals)?;
    let ids: Vec<i64> = offered.iter().map(|one| one.id).collect();
    let (mut done, mut elsewhere) = (Vec::new(), Vec::new());
    for one in assignments::by_ids(conn, &ids)? {
        match expected.get(&one.terminal_id) {
            None => elsewhere.push(one),
            Some(hash) if reported.get(&one.terminal_id) == Some(hash) => done.push(one),
            Some(_) => {}
        }
    }
    let bulk = |one: &Assignment, after| Bulk::of(one, after, None, None, now);
    step_all(conn, &done, Step::Proof, bulk, now)?;
    step_all(conn, &elsewhere, Step::Cancel(Withdrawal::NotOnLayer), bulk, now)?;
    Ok(())
}

type Sorted = (Vec<(Assignment, Option<i64>)>, BTreeMap<(i64, Wait), Vec<i64>>);

/// Who gets the offer now and until when, and who is put off until when and why.
fn sort(conn: &mut Conn, rollout: &Stored, chunk: Vec<Assignment>, now: Now) -> Result<Sorted, db::Error> {
    let terminals: Vec<i64> = chunk.iter().map(|one| one.terminal_id).collect();
    let known = assignments::circumstances(conn, &terminals)?;
    let promised = store::announced(conn, &rollout.strategy.announcements)?;
    let mut at_sites = match rollout.strategy.in_flight_per_site_max {
        Some(_) => {
            let sites: Vec<i64> = chunk.iter().map(|one| one.site).filter(|site| *site != 0).collect();
            assignments::at_sites(conn, &sites)?
        }
        None => HashMap::new(),
    };
    let (mut offered, mut put_off): Sorted = (Vec::new(), BTreeMap::new());
    for one in chunk {
        let turn = match known.get(&one.terminal_id) {
            Some(circumstances) if is_held_offline(rollout, circumstances, now) => {
                Turn::Later(now.0.saturating_add(OFFLINE_PAUSE_MS), Wait::Offline)
            }
            Some(circumstances) => turn(rollout, circumstances, &promised, now),
            None => Turn::Now(None),
        };
        let (until_ms, at_site) = match turn {
            Turn::Now(until_ms) => (until_ms, at_sites.entry(one.site).or_default()),
            Turn::Later(at_ms, wait) => {
                put_off.entry((at_ms, wait)).or_default().push(one.id);
                continue;
            }
        };
        let most = rollout.strategy.in_flight_per_site_max.map(i64::from);
        if one.site != 0 && most.is_some_and(|most| *at_site >= most) {
            put_off.entry((now.0.saturating_add(SITE_PAUSE_MS), Wait::Site)).or_default().push(one.id);
        } else {
            *at_site += 1;
            offered.push((one, until_ms));
        }
    }
    Ok((offered, put_off))
}

/// Whether a limit on how many are at it is better not spent on this terminal.
fn is_held_offline(rollout: &Stored, circumstances: &Circumstances, now: Now) -> bool {
    let is_limited = rollout.strategy.in_flight_max.is_some() || rollout.strategy.in_flight_per_site_max.is_some();
    let (Some(last_seen_ms), Some(interval_s)) = (circumstances.last_seen_ms, circumstances.interval_s) else {
        return is_limited;
    };
    is_limited && now.0 >= silent_at_ms(last_seen_ms, interval_s)
}
