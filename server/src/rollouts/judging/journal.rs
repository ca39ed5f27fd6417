//! The journal of a rollout's gate: what is new in it is decided, folded and kept, from where the last judgement ended.
//!
//! What decides about a line — when its terminal failed before, when its site did, who was at risk — is looked up by key;
//! what was folded is read back. So a judgement costs as much as there is new, however long the journal is. The lines stay
//! for a while: from them the evidence is folded anew when another version of the program kept it.

use std::collections::BTreeMap;

use super::fleet::{Failing, Fleet, Moved, Risks, arm, class, loss};
use crate::clock::Now;
use crate::db::{self, Conn};
use crate::rollouts::gate::{
    self, AtRisk, Before, FOLD_VERSION, Fate, Fold, Outside, RawFailure, Settings, Told, Windows,
};
use crate::rollouts::store::gate as counters;
use crate::rollouts::store::journal::{self as store, Line, Memory, Noted, Saved};
use crate::rollouts::store::minutes::{self, Loss};
use crate::rollouts::store::raced;

/// New lines that one judgement decides about at most; the rest follows with the next.
const LINES_MAX: i64 = 500;
/// Decided lines that one judgement folds anew at most.
const REFOLD_MAX: i64 = 5_000;
/// Decided lines that are kept; older ones are cleared away, a chunk with each judgement. Their evidence stays.
const KEPT_LINES: i64 = 100_000;
/// Lines that are cleared away at once.
const CLEARED_MAX: i64 = 500;
/// How late a failure may be reported, ms (a day): what moved terminals is kept so much longer than the windows.
const LATE_MS: i64 = 24 * 3_600_000;

/// Before this nobody knows any more who was at risk.
pub(super) fn horizon_ms(windows: &Windows, now: Now) -> i64 {
    now.0.saturating_sub(windows.payment_ms.max(windows.hard_ms).saturating_mul(2)).saturating_sub(LATE_MS)
}

/// Whether a judgement took in everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// It did.
    Nothing,
    /// The next goes on.
    More,
}

/// A journal with what was folded of it.
pub(super) struct Journal {
    rollout_id: i64,
    /// The last line that a person answered for.
    since: i64,
    before: Option<Saved>,
    fold: Fold,
    cleared_up_to: i64,
}

impl Journal {
    /// As the last judgement left it, from the line `since` on; `None` when that cannot be read and the lines are not all
    /// there to be folded anew.
    pub(super) fn open(
        conn: &mut Conn,
        rollout_id: i64,
        since: i64,
        settings: &Settings,
    ) -> Result<Option<Self>, db::Error> {
        let before = store::saved(conn, rollout_id)?;
        let decided_up_to = store::judged_up_to(conn, rollout_id)?;
        let kept = before
            .as_ref()
            .filter(|saved| saved.version == FOLD_VERSION && saved.since == since && saved.up_to <= decided_up_to)
            .and_then(|saved| Fold::decode(&saved.state, settings).filter(|fold| fold.up_to() == saved.up_to));
        let cleared_up_to = before.as_ref().map_or(0, |saved| saved.cleared_up_to);
        let fold = match kept {
            Some(fold) => fold,
            None if cleared_up_to <= since => Fold::new(since, settings),
            None => return Ok(None),
        };
        Ok(Some(Self { rollout_id, since, before, fold, cleared_up_to }))
    }

    pub(super) fn fold(&self) -> &Fold {
        &self.fold
    }

    /// Folds decided lines that are not in it yet, then decides about new ones and folds them.
    pub(super) fn read_on(
        &mut self,
        conn: &mut Conn,
        fleet: &Fleet,
        windows: &Windows,
        now: Now,
    ) -> Result<Left, db::Error> {
        let decided = store::judged(conn, self.rollout_id, self.fold.up_to(), REFOLD_MAX)?;
        for line in &decided {
            self.fold_line(line)?;
        }
        if is_full(&decided, REFOLD_MAX) {
            return Ok(Left::More);
        }
        let mut fresh = store::unjudged(conn, self.rollout_id, LINES_MAX)?;
        if fresh.is_empty() {
            return Ok(Left::Nothing);
        }
        let left = if is_full(&fresh, LINES_MAX) { Left::More } else { Left::Nothing };
        fresh.sort_by_key(|line| (line.at_ms, gate::tie_order(&line.event)));
        let mut deciding = Deciding::begin(conn, self, &fresh, windows, now)?;
        for (number, mut line) in (self.fold.up_to().saturating_add(1)..).zip(fresh) {
            deciding.decide(conn, fleet, &mut line, number)?;
            self.fold_line(&line)?;
        }
        deciding.end(conn)?;
        Ok(left)
    }

    /// Keeps what was folded, and clears away a chunk of what is too old.
    ///
    /// # Errors
    /// Somebody else was faster: the transaction is given up.
    pub(super) fn keep(&mut self, conn: &mut Conn) -> Result<(), db::Error> {
        let clear_up_to =
            self.fold.up_to().saturating_sub(KEPT_LINES).min(self.cleared_up_to.saturating_add(CLEARED_MAX));
        if clear_up_to > self.cleared_up_to {
            store::clear_lines(conn, self.rollout_id, self.cleared_up_to, clear_up_to)?;
            self.cleared_up_to = clear_up_to;
        }
        let next = Saved {
            version: FOLD_VERSION,
            up_to: self.fold.up_to(),
            since: self.since,
            cleared_up_to: self.cleared_up_to,
            state: self.fold.encode(),
        };
        if self.before.as_ref() != Some(&next) && !store::keep(conn, self.rollout_id, self.before.as_ref(), &next)? {
            return Err(raced());
        }
        self.before = Some(next);
        Ok(())
    }

    fn fold_line(&mut self, line: &Line) -> Result<(), db::Error> {
        let number = line.judged.unwrap_or_else(|| self.fold.up_to().saturating_add(1));
        let (Some(text), Some(arm), Some(class)) = (line.at_risk.as_deref(), arm(&line.arm), class(&line.class)) else {
            self.fold.leave_out(number, line.verdict.as_deref().unwrap_or_default());
            return Ok(());
        };
        let risks: Risks = counters::read(text)?;
        let told = Told {
            class,
            arm,
            stratum: risks.stratum,
            at_risk: AtRisk { treated: risks.all.0, control: risks.all.1 },
            scopes: risks
                .scopes
                .iter()
                .map(|(name, (treated, control, is_in))| {
                    (name.as_str(), *is_in, AtRisk { treated: *treated, control: *control })
                })
                .collect(),
            watched: risks.watched,
            outside: risks.outside.map(|(stops, is_in, treated, control)| Outside {
                stops,
                is_in,
                at_risk: AtRisk { treated, control },
            }),
        };
        self.fold.count(number, &told);
        Ok(())
    }
}

fn is_full(lines: &[Line], limit: i64) -> bool {
    i64::try_from(lines.len()).is_ok_and(|n| n >= limit)
}

/// By terminal or site, and class.
type News = BTreeMap<(i64, String), Noted>;

/// Decides about new lines; what it learns is written at the end.
struct Deciding {
    rollout_id: i64,
    windows: Windows,
    horizon_ms: i64,
    moved: Moved,
    terminals: Memory,
    sites: Memory,
    /// What is to be written, in the order of the keys.
    news: (News, News),
    losses: BTreeMap<(i64, i64, &'static str, &'static str), Loss>,
}

impl Deciding {
    fn begin(
        conn: &mut Conn,
        journal: &Journal,
        fresh: &[Line],
        windows: &Windows,
        now: Now,
    ) -> Result<Self, db::Error> {
        let rollout_id = journal.rollout_id;
        let horizon_ms = horizon_ms(windows, now);
        let earliest_ms = fresh.iter().map(|line| line.at_ms).min().unwrap_or(now.0);
        let moved = Moved::load(conn, rollout_id, *windows, earliest_ms.max(horizon_ms))?;
        let ids = |of: fn(&Line) -> i64| {
            let mut ids: Vec<i64> = fresh.iter().map(of).filter(|id| *id != 0).collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let mut terminals = store::failed(conn, rollout_id, &ids(|line| line.terminal_id))?;
        let mut sites = store::sites(conn, rollout_id, &ids(|line| line.site))?;
        // What a person answered for is forgotten.
        terminals.retain(|(_, class), noted| noted.judged > journal.since || class == store::SILENT);
        sites.retain(|_, noted| noted.judged > journal.since);
        Ok(Self {
            rollout_id,
            windows: *windows,
            horizon_ms,
            moved,
            terminals,
            sites,
            news: (BTreeMap::new(), BTreeMap::new()),
            losses: BTreeMap::new(),
        })
    }

    fn decide(&mut self, conn: &mut Conn, fleet: &Fleet, line: &mut Line, number: i64) -> Result<(), db::Error> {
        let (Some(arm), Some(class)) = (arm(&line.arm), class(&line.class)) else {
            // The table's own check rules this out.
            return Err(raced());
        };
        let terminal = (line.terminal_id, line.class.clone());
        let site = (line.site, line.class.clone());
        let known = Before {
            failed_at_ms: self.terminals.get(&terminal).map(|noted| noted.at_ms),
            site_counted_at_ms: self.sites.get(&site).map(|noted| noted.at_ms),
        };
        let failure = RawFailure {
            at_ms: line.at_ms,
            class,
            terminal_id: line.terminal_id,
            site_id: (line.site != 0).then_some(line.site),
            updated_at_ms: line.updated_at_ms,
        };
        let fate = gate::fate(&failure, &known, &self.windows);
        let failing = Failing { cell: line.cell, arm, class, at_ms: line.at_ms };
        let at_risk = (fate == Fate::Counted).then(|| {
            let risks = fleet.risks(&self.moved, failing);
            // Nobody knows any more who it is to be compared with: it teaches nothing.
            if line.at_ms < self.horizon_ms { risks.of_nobody() } else { risks }
        });
        line.at_risk = store::settle(conn, self.rollout_id, line, number, fate, at_risk.as_ref())?;
        line.judged = Some(number);
        line.verdict = Some(fate.as_str().to_owned());
        let noted = Noted { at_ms: line.at_ms, judged: number };
        if fate.leaves_risk_set() {
            self.moved.lose(line.cell, arm, class, line.at_ms, 1);
            let loss = loss(line.cell, arm, class, line.at_ms);
            let key = (loss.minute_ms, loss.cell, arm.as_str(), class.as_str());
            self.losses.entry(key).and_modify(|sum| sum.n += 1).or_insert(loss);
            self.terminals.insert(terminal.clone(), noted);
            self.news.0.insert(terminal, noted);
        }
        if fate == Fate::Counted && line.site != 0 {
            self.sites.insert(site.clone(), noted);
            self.news.1.insert(site, noted);
        }
        if line.event.starts_with(store::SILENT_EVENT) {
            self.news.0.insert((line.terminal_id, store::SILENT.to_owned()), noted);
        }
        Ok(())
    }

    fn end(self, conn: &mut Conn) -> Result<(), db::Error> {
        let (terminals, sites) = self.news;
        let (terminals, sites): (Vec<_>, Vec<_>) = (terminals.into_iter().collect(), sites.into_iter().collect());
        store::remember(conn, self.rollout_id, &terminals, &sites)?;
        let losses: Vec<Loss> = self.losses.into_values().collect();
        minutes::add_losses(conn, self.rollout_id, &losses)
    }
}
