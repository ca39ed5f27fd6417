//! Terminals that do not call: pools of cards (B3) and many at once; and terminals that call although they must not.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::json;

use super::rules::silence::{Silent, Span};
use super::rules::{Missing, Rule, Verdict, common_path, offline, pool};
use super::statistics::{Baseline, as_f64};
use super::store::silence::{Barred, Part};
use super::{DAY_MS, Found, HOUR_MS, RULES, note, reasons, report, store};
use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::failures::incidents::{Kind, Level};
use crate::terminals::Connection;

/// Name of the share of offline terminals in the baselines.
const OFFLINE: &str = "offline";
/// Pools judged in one pass, those with the most silent cards first.
const POOLS_MAX: usize = 20;
/// A terminal is overdue when it is later than announced by this, ms.
const GRACE_MS: i64 = 2 * 60_000;
/// After a time without a server, terminals may take this long to come back, ms: those on SIM cards call hourly.
const SETTLING_MS: i64 = 65 * 60_000;
/// Terminals heard within it are counted together, ms.
const MINUTE_MS: i64 = 60_000;
/// Calls within this time are told in this pass, ms: some passes, so that none is missed.
const BARRED_MS: i64 = 10 * 60_000;

/// A terminal that is later than it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Late {
    pub terminal_id: i64,
    pub heard_ms: i64,
    pub due_ms: i64,
    pub interval_s: i64,
    pub access: String,
    pub region: String,
    pub org_path: String,
    pub iccid: Option<String>,
    pub pool: Option<String>,
}

impl Late {
    fn silent(&self) -> Silent {
        let due_ms = self.due_ms.max(self.heard_ms).saturating_add(GRACE_MS);
        Silent { terminal_id: self.terminal_id, heard_ms: self.heard_ms, due_ms }
    }

    /// The pool of its card, and whether somebody said so; `None` where the card is not in use.
    fn card(&self) -> Option<(String, bool)> {
        if !is_cellular(&self.access) {
            return None;
        }
        match (&self.pool, self.iccid.as_deref()) {
            (Some(pool), _) => Some((pool.clone(), true)),
            (None, Some(iccid)) => pool::derived(iccid).map(|pool| (pool, false)),
            (None, None) => None,
        }
    }
}

fn is_offline(heard_ms: i64, interval_s: i64, now: Now) -> bool {
    match Connection::of(heard_ms, interval_s, now) {
        Connection::Offline | Connection::Missing => true,
        Connection::Never | Connection::Online | Connection::Late | Connection::Dormant => false,
    }
}

/// Offline terminals that were heard in the same minute and call equally often.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Gone {
    terminals: u64,
    /// The lowest organization that contains all of them.
    org_path: String,
}

/// Offline terminals by the minute in which they were heard last and their interval, s.
type Minutes = BTreeMap<(i64, i64), Gone>;

/// The span in which terminals of such a minute and interval fell silent.
fn span((minute, interval_s): (i64, i64), terminals: u64) -> Span {
    let heard_ms = minute.saturating_mul(MINUTE_MS);
    let due_ms = heard_ms.saturating_add(interval_s.saturating_mul(1_000)).saturating_add(GRACE_MS);
    Span { heard_ms, due_ms, terminals }
}

/// A terminal on a pool's card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub terminal_id: i64,
    pub heard_ms: i64,
    pub interval_s: i64,
    pub access: String,
    pub region: String,
}

fn is_cellular(access: &str) -> bool {
    matches!(access, "5g" | "4g" | "3g" | "2g")
}

/// B3, then the fleet as a whole: both look at the same late terminals.
pub(super) async fn pools_and_offline(db: &Db, now: Now) -> Result<(), db::Error> {
    let (_, resumed_ms) = db.read(|conn| store::progress(conn, RULES)).await?;
    if now.0.saturating_sub(resumed_ms) < SETTLING_MS {
        let verdict: Verdict<()> = Verdict::Insufficient(Missing::History);
        note(db, Rule::SimPool, &verdict, now).await?;
        return note(db, Rule::Offline, &verdict, now).await;
    }
    let since_ms = now.0 - DAY_MS;
    let (parts, late, fleet) = db
        .read(move |conn| {
            let parts = store::silence::parts(conn, since_ms)?;
            let late = store::silence::late(conn, &parts, now)?;
            let fleet = store::silence::count_fleet(conn, &parts)?;
            Ok::<_, db::Error>((parts, late, fleet))
        })
        .await?;
    pools(db, &late, fleet, &parts, now).await?;
    offline(db, &late, fleet, now).await
}

async fn pools(db: &Db, late: &[Late], fleet: u64, parts: &[Part], now: Now) -> Result<(), db::Error> {
    let mut by_pool: BTreeMap<(String, bool), Vec<&Late>> = BTreeMap::new();
    for one in late {
        if let Some(card) = one.card() {
            by_pool.entry(card).or_default().push(one);
        }
    }
    let mut pools: Vec<((String, bool), Vec<&Late>)> =
        by_pool.into_iter().filter(|(_, silent)| silent.len() >= pool::SILENT_MIN).collect();
    pools.sort_by_key(|(_, silent)| std::cmp::Reverse(silent.len()));
    let mut said: Verdict<()> = Verdict::Clear;
    for ((name, is_on_record), silent) in pools.into_iter().take(POOLS_MAX) {
        match judge_pool(db, (&name, is_on_record), &silent, parts, now).await? {
            Verdict::Hit(dead) => {
                said = Verdict::Hit(());
                report(db, found_pool(&name, is_on_record, dead, &silent, fleet), now).await?;
            }
            Verdict::Insufficient(missing) if said == Verdict::Clear => said = Verdict::Insufficient(missing),
            Verdict::Insufficient(_) | Verdict::Info(_) | Verdict::Clear => {}
        }
    }
    note(db, Rule::SimPool, &said, now).await
}

async fn judge_pool(
    db: &Db,
    (name, is_on_record): (&str, bool),
    silent: &[&Late],
    parts: &[Part],
    now: Now,
) -> Result<Verdict<pool::Dead>, db::Error> {
    let regions: BTreeSet<String> = silent.iter().map(|one| one.region.clone()).collect();
    let regions: Vec<String> = regions.into_iter().collect();
    let silent: Vec<Silent> = silent.iter().map(|one| one.silent()).collect();
    let (name, in_regions, parts) = (name.to_owned(), regions.clone(), parts.to_vec());
    let (members, (all, online)) = db
        .read(move |conn| {
            let members = store::silence::members(conn, &name, is_on_record, now.0 - DAY_MS)?;
            Ok::<_, db::Error>((members, store::silence::count_online(conn, &in_regions, &parts, now)?))
        })
        .await?;
    let count = |of: &dyn Fn(&&Member) -> bool| u64::try_from(members.iter().filter(of).count()).unwrap_or(u64::MAX);
    let is_online = |one: &Member| Connection::of(one.heard_ms, one.interval_s, now) == Connection::Online;
    let own = count(&|one| regions.contains(&one.region));
    let own_online = count(&|one| regions.contains(&one.region) && is_online(one));
    Ok(pool::judge(pool::Input {
        silent: &silent,
        cards: count(&|one| is_cellular(&one.access)),
        peers: all.saturating_sub(own),
        peers_online: online.saturating_sub(own_online),
    }))
}

fn found_pool(name: &str, is_on_record: bool, dead: pool::Dead, silent: &[&Late], fleet: u64) -> Found {
    let affected = u64::try_from(dead.terminal_ids.len()).unwrap_or(u64::MAX);
    let is_emergency = as_f64(affected) >= offline::SHARE_MIN * as_f64(fleet) && fleet >= offline::FLEET_MIN;
    let regions: BTreeSet<&str> = silent.iter().map(|one| one.region.as_str()).collect();
    let carriers: BTreeSet<&str> =
        silent.iter().filter_map(|one| one.iccid.as_deref().and_then(pool::carrier)).collect();
    let ids: HashSet<i64> = dead.terminal_ids.iter().copied().collect();
    let hit = silent.iter().filter(|one| ids.contains(&one.terminal_id));
    Found {
        rule: Rule::SimPool,
        verdict: "hit",
        kind: Kind::SimPool,
        level: if is_emergency { Level::P1 } else { Level::P2 },
        key: format!("pool:{name}"),
        subject: if is_on_record { name.to_owned() } else { format!("{name}…") },
        org_path: common_path(hit.map(|one| one.org_path.as_str())),
        evidence: json!({
            "reasons": reasons(Rule::SimPool, &dead.reasons),
            "pool": name,
            "carriers": carriers,
            "regions": regions,
            "silent": affected,
        }),
        terminal_ids: dead.terminal_ids,
        affected,
    }
}

/// Counts all offline terminals that were heard within a day, part by part.
async fn gone(db: &Db, now: Now) -> Result<Minutes, db::Error> {
    let mut minutes = Minutes::new();
    for part in db.read(move |conn| store::silence::parts(conn, now.0 - DAY_MS)).await? {
        let late = db.read(move |conn| store::silence::late_of(conn, part, now)).await?;
        for (heard_ms, interval_s, org_path) in late {
            if is_offline(heard_ms, interval_s, now) {
                count_in(&mut minutes, (heard_ms.div_euclid(MINUTE_MS), interval_s), org_path.unwrap_or_default());
            }
        }
    }
    Ok(minutes)
}

fn count_in(minutes: &mut Minutes, key: (i64, i64), org_path: String) {
    match minutes.get_mut(&key) {
        Some(gone) => {
            gone.terminals += 1;
            if !org_path.starts_with(&gone.org_path) {
                gone.org_path = common_path([gone.org_path.as_str(), org_path.as_str()]);
            }
        }
        None => {
            minutes.insert(key, Gone { terminals: 1, org_path });
        }
    }
}

/// The fleet as a whole: all are counted, and of those that are listed as late some are named.
async fn offline(db: &Db, late: &[Late], fleet: u64, now: Now) -> Result<(), db::Error> {
    let gone = gone(db, now).await?;
    let count: u64 = gone.values().map(|gone| gone.terminals).sum();
    let usual = db.write(move |conn| usual_share(conn, count, fleet, now)).await?;
    let silent: Vec<Span> = gone.iter().map(|(key, gone)| span(*key, gone.terminals)).collect();
    let verdict = offline::judge(offline::Input { silent: &silent, fleet, usual });
    note(db, Rule::Offline, &verdict, now).await?;
    let Verdict::Hit(found) = verdict else { return Ok(()) };
    let is_hit = |key: (i64, i64)| span(key, 1).holds(found.at_ms, offline::SPAN_MS);
    let hit = gone.iter().filter(|(key, _)| is_hit(**key));
    let named = late.iter().filter(|one| {
        is_offline(one.heard_ms, one.interval_s, now) && is_hit((one.heard_ms.div_euclid(MINUTE_MS), one.interval_s))
    });
    let mut terminal_ids: Vec<i64> = named.map(|one| one.terminal_id).collect();
    terminal_ids.sort_unstable();
    let found = Found {
        rule: Rule::Offline,
        verdict: "hit",
        kind: Kind::TerminalsOffline,
        level: Level::P1,
        key: "fleet".to_owned(),
        subject: format!("{} / {fleet}", found.silent),
        org_path: common_path(hit.map(|(_, gone)| gone.org_path.as_str())),
        evidence: json!({
            "reasons": reasons(Rule::Offline, &found.reasons),
            "silent": found.silent,
            "silent_share": found.share,
            "usual": usual,
        }),
        affected: found.silent,
        terminal_ids,
    };
    report(db, found, now).await.map(drop)
}

/// The usual share of offline terminals in this hour of the week; what is so now is folded in, once in an hour.
fn usual_share(conn: &mut Conn, offline: u64, fleet: u64, now: Now) -> Result<Option<f64>, db::Error> {
    let hour = (now.hour_ms() / HOUR_MS).rem_euclid(168);
    let usual = store::baseline(conn, OFFLINE, hour)?;
    if fleet >= offline::FLEET_MIN && store::claim_hour(conn, now)? {
        store::set_baseline(conn, OFFLINE, hour, usual.folded(offline, fleet))?;
    }
    Ok(Baseline::expected(usual, 1))
}

/// Terminals that call although they must not: one incident each.
pub(super) async fn barred(db: &Db, now: Now) -> Result<(), db::Error> {
    let calls = db.read(move |conn| store::silence::barred(conn, now.0 - BARRED_MS)).await?;
    let verdict = if calls.is_empty() { Verdict::Clear } else { Verdict::Hit(()) };
    note(db, Rule::BlockedCalling, &verdict, now).await?;
    for call in calls {
        report(db, found_barred(call), now).await?;
    }
    Ok(())
}

fn found_barred(call: Barred) -> Found {
    Found {
        rule: Rule::BlockedCalling,
        verdict: "hit",
        kind: Kind::BlockedCalling,
        level: Level::P2,
        key: format!("terminal:{}", call.terminal_id),
        subject: call.sn,
        org_path: call.org_path,
        evidence: json!({
            "reasons": [{
                "rule": Rule::BlockedCalling.as_str(), "field": "lifecycle", "observed": call.lifecycle, "threshold": null,
            }],
            "calls": call.calls,
            "first_at_ms": call.first_ms,
        }),
        terminal_ids: vec![call.terminal_id],
        affected: 1,
    }
}
