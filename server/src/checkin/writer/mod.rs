//! One batch of check-ins, in one transaction: drop what was counted, keep the terminal's state, add to cohort cells,
//! insert failures and payments, read what is desired.
//!
//! The statements are made once and cached by their type, because building and preparing them again for each row costs
//! more than running them. Rows that several batches may touch are written in the order of their keys, table by table and
//! each table once, so that batches of different servers cannot wait for each other in a circle.

mod cohort;
mod evidence;
pub(super) mod imported;
mod postgres;
mod rows;
pub(super) mod slots;
mod sqlite;
mod statements;
mod told;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use diesel::prelude::*;
use tillward_protocol::checkin::{Acknowledged, CheckInAnswer, Desired, DesiredConfig};
use tillward_protocol::failure::Failure;
use tillward_protocol::ids::{Seq, Stream, TerminalId};
use tillward_protocol::manifest::Manifest;

use super::{Cells, Pending, Refused};
use crate::clock::Now;
use crate::db::schema::{terminal_manifests, terminal_states, terminals};
use crate::db::{self, Conn, Db};
use crate::failures::{fleet, imported as told_of};
use crate::profiles::{self, DriftChange, DriftNoted, Watch};
use crate::rollouts::{self, TerminalFailure};
use cohort::{Cell, Cohort};
use rows::{Additions, CellRow, CohortRow, FailureRow, OutcomeRow, PaymentRow, SampleRow, StateRow};

/// At most one sample of a terminal's conditions in this time, ms: fine enough to see what went on around a failure,
/// coarse enough that fast polling does not fill the disk.
pub(super) const SAMPLE_INTERVAL_MS: i64 = 300_000;
/// Cohorts remembered as already stored. Beyond, the memory starts anew; storing one twice does nothing.
const KNOWN_COHORTS_MAX: usize = 200_000;

/// Writes batches; remembers only what can be lost.
pub(super) struct Writer {
    interval_s: u32,
    cells: Cells,
    /// Cohorts that are in the database.
    known: HashSet<i64>,
    /// Cohorts that the running transaction added.
    added: Vec<i64>,
}

/// What the batch needs to know of one terminal.
#[derive(Debug, Clone, Queryable)]
struct Registry {
    id: i64,
    lifecycle: String,
    session_epoch: i64,
    org_path: String,
    model: String,
    hardware: Option<String>,
    region: String,
    utc_offset_min: Option<i64>,
    check_in_interval_s: Option<i64>,
    assignment_version: i64,
    desired_config_hash: Option<String>,
    config_told: Option<String>,
    config_misses: Option<i64>,
    config_reported: Option<String>,
    poll_until_ms: Option<i64>,
    counted: Option<(i64, i64, i64)>,
}

impl Registry {
    /// Highest pair that was counted; `(0, 0)` before the first check-in.
    fn acknowledged(&self) -> (i64, i64) {
        self.counted.map_or((0, 0), |(stream, seq, _)| (stream, seq))
    }

    /// Whether this check-in is the first that reports the parameters that the terminal is told.
    fn is_configured_by(&self, pending: &Pending) -> bool {
        let reported = pending.check_in.software.config_hash.as_ref().map(|hash| hash.as_str());
        reported.is_some()
            && reported == self.desired_config_hash.as_deref()
            && reported != self.config_reported.as_deref()
    }

    /// What is remembered of how it takes its parameters.
    fn watch(&self) -> Watch<'_> {
        Watch { told: self.config_told.as_deref(), misses: self.config_misses.unwrap_or(0) }
    }

    /// The same after this check-in, if it was not counted before.
    fn watch_after(&self, pending: &Pending, is_new: bool) -> Watch<'_> {
        let reported = pending.check_in.software.config_hash.as_ref().map(|hash| hash.as_str());
        let expected = self.desired_config_hash.as_deref();
        if is_new { self.watch().step(expected, reported) } else { self.watch().told_still(expected) }
    }

    fn is_barred(&self) -> bool {
        matches!(self.lifecycle.as_str(), "retired" | "blocked")
    }
}

/// A check-in that was counted, with what else is written of it.
struct Counted<'a> {
    pending: &'a Pending,
    registry: Registry,
    /// Whether it also becomes a sample of the conditions over time.
    is_sampled: bool,
    /// What is remembered from now on of how the terminal takes its parameters.
    config_told: Option<String>,
    config_misses: i64,
}

type Answers = Vec<Result<CheckInAnswer, Refused>>;

impl Writer {
    pub(super) fn new(interval_s: u32, cells: Cells) -> Self {
        Self { interval_s, cells, known: HashSet::new(), added: Vec::new() }
    }

    pub(super) fn interval_s(&self) -> u32 {
        self.interval_s
    }

    pub(super) fn cells(&self) -> Cells {
        self.cells
    }

    /// The transaction of the last [`Writer::write`] is durable.
    pub(super) fn committed(&mut self) {
        if self.known.len() > KNOWN_COHORTS_MAX {
            self.known.clear();
        }
        self.known.extend(self.added.drain(..));
    }

    /// Writes `batch`; one answer for each, in order. A terminal that is in the batch twice is written in two rounds.
    pub(super) fn write(&mut self, conn: &mut Conn, batch: &[Pending], now: Now) -> Result<Answers, db::Error> {
        if batch.iter().flat_map(|pending| &pending.check_in.failures).any(told_of::may_be_told) {
            told_of::report_beside(conn)?;
        }
        let mut answers: Vec<Option<Result<CheckInAnswer, Refused>>> = batch.iter().map(|_| None).collect();
        let mut left: Vec<usize> = (0..batch.len()).collect();
        // Oldest first, also when a terminal's two reports arrived out of order.
        left.sort_by_key(|&index| batch.get(index).map(|p| (p.session.terminal_id, p.check_in.stream, p.check_in.seq)));
        let mut counted = Vec::with_capacity(batch.len());
        while !left.is_empty() {
            let mut seen = HashSet::with_capacity(left.len());
            let (round, later): (Vec<usize>, Vec<usize>) = left
                .into_iter()
                .partition(|&index| batch.get(index).is_some_and(|p| seen.insert(p.session.terminal_id)));
            counted.extend(self.round(conn, batch, &round, &mut answers, now)?);
            left = later;
        }
        // All rounds together: a second one that wrote cells would hold those of the first while it waits for others.
        counted.sort_by_key(|counted| {
            let check_in = &counted.pending.check_in;
            (counted.registry.id, check_in.stream, check_in.seq)
        });
        let refused = answers.iter().zip(batch).filter(|(answer, _)| matches!(answer, Some(Err(Refused::Blocked))));
        let barred: BTreeSet<i64> = refused.map(|(_, pending)| pending.session.terminal_id.0).collect();
        if !barred.is_empty() {
            fleet::note_barred(conn, &barred.into_iter().collect::<Vec<_>>(), now)?;
        }
        self.fold(conn, &counted, now)?;
        Ok(answers.into_iter().map(|answer| answer.unwrap_or(Err(Refused::Unavailable))).collect())
    }

    /// Writes the states of different terminals, and returns which check-ins are counted by that.
    fn round<'a>(
        &self,
        conn: &mut Conn,
        batch: &'a [Pending],
        round: &[usize],
        answers: &mut [Option<Result<CheckInAnswer, Refused>>],
        now: Now,
    ) -> Result<Vec<Counted<'a>>, db::Error> {
        let items: Vec<(usize, &Pending)> =
            round.iter().filter_map(|&index| batch.get(index).map(|pending| (index, pending))).collect();
        let mut registry = read_registry(conn, &items)?;
        let mut states = Vec::with_capacity(items.len());
        let mut candidates: HashMap<i64, &Pending> = HashMap::with_capacity(items.len());
        for &(index, pending) in &items {
            let id = pending.session.terminal_id.0;
            let answer = match registry.get(&id) {
                None => Err(Refused::SessionEnded),
                Some(row) if row.is_barred() => Err(Refused::Blocked),
                Some(row) if row.session_epoch != pending.session.epoch => Err(Refused::SessionEnded),
                Some(row) => {
                    let interval_s = self.interval_of(row, pending, now);
                    let next_s = next_check_in_s(pending.session.terminal_id, interval_s, now);
                    let pair = (i64::from(pending.check_in.stream.0), i64::from(pending.check_in.seq.0));
                    let is_new = pair > row.acknowledged();
                    let watch = row.watch_after(pending, is_new);
                    if is_new {
                        let sampled_at_ms = row.counted.map(|(_, _, at)| at);
                        states.push(StateRow::new(pending, sampled_at_ms, watch, interval_s, next_s, now));
                        candidates.insert(id, pending);
                    }
                    Ok(answer(row, pending, watch, next_s, now))
                }
            };
            if let Some(slot) = answers.get_mut(index) {
                *slot = Some(answer);
            }
        }
        let applied = match conn {
            Conn::Sqlite(sqlite) => sqlite::upsert_states(sqlite, &states)?,
            Conn::Postgres(postgres) => postgres::upsert_states(postgres, &states)?,
        };
        type Kept = (i64, bool, Option<String>, i64);
        let kept: Vec<Kept> = states
            .iter()
            .filter(|state| applied.contains(&state.terminal_id))
            .map(|state| {
                let told = state.config_told.map(str::to_owned);
                (state.terminal_id, state.is_sampled, told, state.config_misses)
            })
            .collect();
        let counted = kept.into_iter().filter_map(|(id, is_sampled, config_told, config_misses)| {
            let pending = candidates.get(&id).copied()?;
            Some(Counted { pending, registry: registry.remove(&id)?, is_sampled, config_told, config_misses })
        });
        Ok(counted.collect())
    }

    /// Adds what was counted to samples, cells and failures, and tells the rollouts.
    fn fold(&mut self, conn: &mut Conn, counted: &[Counted<'_>], now: Now) -> Result<(), db::Error> {
        let told = told::before(conn, counted)?;
        let (cells, mut additions) = self.sum(counted, &told, now);
        let hour_ms = now.hour_ms();
        for (&id, (cohort, cell)) in &cells {
            if !self.known.contains(&id) {
                additions.cohorts.push(CohortRow::new(id, cohort));
                self.added.push(id);
            }
            additions.cells.push(CellRow::new(hour_ms, id, cell));
            additions.outcomes.extend(cell.outcomes.iter().map(|(outcome, &failures)| OutcomeRow {
                hour_ms,
                cohort_id: id,
                outcome,
                failures,
            }));
        }
        match conn {
            Conn::Sqlite(sqlite) => sqlite::add(sqlite, &additions)?,
            Conn::Postgres(postgres) => postgres::add(postgres, &additions)?,
        }
        told::complete(conn, counted, &told, now)?;
        metrics::counter!("tillward_check_ins_counted_total").increment(u64::try_from(counted.len()).unwrap_or(0));
        let mut manifests = Vec::new();
        for &Counted { pending, ref registry, .. } in counted {
            let is_configured = registry.is_configured_by(pending);
            if pending.check_in.update.is_some() || pending.manifest.is_some() {
                manifests.push((pending, newest_manifest(conn, pending, now)?, is_configured));
            } else if is_configured {
                manifests.push((pending, None, true));
            }
        }
        let reports: Vec<rollouts::Report<'_>> = manifests
            .iter()
            .map(|(pending, manifest, is_configured)| rollouts::Report {
                terminal_id: pending.session.terminal_id.0,
                update: pending.check_in.update.as_ref(),
                manifest: manifest.as_ref(),
                firmware: pending.check_in.software.firmware.as_str(),
                is_configured: *is_configured,
            })
            .collect();
        if !reports.is_empty() {
            rollouts::apply_reports(conn, &reports, now)?;
        }
        let failures: Vec<TerminalFailure> = counted
            .iter()
            .flat_map(|counted| evidence::of(&counted.pending.check_in, counted.pending.session.terminal_id, now))
            .collect();
        rollouts::note_failures(conn, &failures, now)?;
        // Last, because an alarm goes to the audit log, and nobody may wait for a row while others wait for the log.
        note_drifts(conn, counted, now)
    }

    /// Cells by cohort, and the rows of samples, failures and payments; without the failures that were told before.
    fn sum<'a>(
        &self,
        counted: &'a [Counted<'_>],
        told: &told::Told,
        now: Now,
    ) -> (BTreeMap<i64, (Cohort, Cell)>, Additions<'a>) {
        let mut cells: BTreeMap<i64, (Cohort, Cell)> = BTreeMap::new();
        let mut additions = Additions::default();
        let is_new = |id: i64, failure: &Failure| told.is_empty() || !told.contains_key(&(id, failure.id.clone()));
        for Counted { pending, registry, is_sampled, .. } in counted {
            let id = match self.cells {
                Cells::Kept => {
                    let cohort = Cohort::of_check_in(&pending.check_in, registry);
                    let id = cohort.id();
                    let (_, cell) = cells.entry(id).or_insert_with(|| (cohort, Cell::default()));
                    cell.add_check_in(&pending.check_in);
                    let failures = pending.check_in.failures.iter();
                    let new = failures.filter(|failure| is_new(registry.id, failure));
                    new.for_each(|failure| cell.add_failure(failure));
                    id
                }
                Cells::LeftOut => 0,
            };
            if *is_sampled {
                additions.samples.push(SampleRow::new(pending, now));
            }
            let failures = pending.check_in.failures.iter().zip(&pending.events);
            for (failure, event) in failures.filter(|(failure, _)| is_new(registry.id, failure)) {
                additions.failures.push(FailureRow::new(pending, registry, failure, event, id, now));
            }
            additions.payments.extend(
                pending.check_in.payments.iter().map(|payment| PaymentRow::new(pending, registry, payment, now)),
            );
        }
        (cells, additions)
    }

    fn interval_of(&self, row: &Registry, pending: &Pending, now: Now) -> u32 {
        let own_s = row.check_in_interval_s.and_then(|seconds| u32::try_from(seconds).ok());
        let normal_s = own_s.unwrap_or(self.interval_s).max(1);
        fleet::boost::interval_s(normal_s, row.poll_until_ms, pending.check_in.condition.access, now)
    }
}

fn answer(row: &Registry, pending: &Pending, watch: Watch<'_>, next_check_in_s: u32, now: Now) -> CheckInAnswer {
    let pair = (i64::from(pending.check_in.stream.0), i64::from(pending.check_in.seq.0));
    let (stream, seq) = pair.max(row.acknowledged());
    let newer_stream = row.counted.is_none_or(|(stream, _, _)| stream < i64::from(pending.check_in.stream.0));
    let config = row.desired_config_hash.as_deref().and_then(|hash| hash.parse().ok());
    CheckInAnswer {
        acknowledged: Acknowledged {
            stream: Stream(u32::try_from(stream).unwrap_or(u32::MAX)),
            seq: Seq(u32::try_from(seq).unwrap_or(u32::MAX)),
        },
        server_time_ms: now.0,
        next_check_in_s,
        desired: Desired {
            director: row.assignment_version,
            config: config.map(|hash| DesiredConfig { hash, attempt: watch.attempt() }),
            locked: row.lifecycle == "lost",
        },
        manifest_wanted: newer_stream && pending.manifest.is_none(),
    }
}

/// Each terminal calls at its own fixed phase of the interval: the fleet stays spread, also after all came back at
/// once. The first call after a disturbance comes after half to one and a half intervals.
fn next_check_in_s(terminal: TerminalId, interval_s: u32, now: Now) -> u32 {
    let interval_ms = i64::from(interval_s) * 1_000;
    let hash = terminal.0.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed());
    let phase_ms = (hash >> 20).rem_euclid(interval_ms);
    let mut wait_ms = (phase_ms - now.0).rem_euclid(interval_ms);
    if wait_ms < interval_ms / 2 {
        wait_ms += interval_ms;
    }
    u32::try_from((wait_ms + 999) / 1_000).unwrap_or(interval_s).max(1)
}

/// Writes what the check-ins changed about drifts; nothing for terminals that take what they are told.
fn note_drifts(conn: &mut Conn, counted: &[Counted<'_>], now: Now) -> Result<(), db::Error> {
    let noted = counted.iter().filter_map(|counted| {
        let row = &counted.registry;
        let after = Watch { told: counted.config_told.as_deref(), misses: counted.config_misses };
        let change = row.watch().change(after);
        (change != DriftChange::None).then(|| DriftNoted {
            terminal_id: row.id,
            org_path: &row.org_path,
            expected: row.desired_config_hash.as_deref(),
            reported: counted.pending.check_in.software.config_hash.as_ref().map(|hash| hash.as_str()),
            change,
        })
    });
    let noted: Vec<DriftNoted<'_>> = noted.collect();
    if noted.is_empty() { Ok(()) } else { profiles::note_drifts(conn, &noted, now) }
}

/// Stores the manifest that came, if it is newer than the stored one, and returns the newest.
fn newest_manifest(conn: &mut Conn, pending: &Pending, now: Now) -> Result<Option<Manifest>, db::Error> {
    let id = pending.session.terminal_id.0;
    let row = terminal_manifests::table.find(id);
    let stored: Option<(i64, String)> =
        row.select((terminal_manifests::counter, terminal_manifests::body)).first(conn).optional()?;
    let Some(verified) = &pending.manifest else {
        return Ok(stored.and_then(|(_, body)| serde_json::from_str(&body).ok()));
    };
    let counter = i64::try_from(verified.manifest.counter).unwrap_or(i64::MAX);
    let values = (
        terminal_manifests::counter.eq(counter),
        terminal_manifests::received_at_ms.eq(now.0),
        terminal_manifests::body.eq(&verified.signed.body),
        terminal_manifests::signature.eq(&verified.signed.signature),
    );
    match stored {
        // A replayed manifest changes nothing.
        Some((newest, body)) if newest >= counter => return Ok(serde_json::from_str(&body).ok()),
        Some(_) => {
            diesel::update(row).set(values).execute(conn)?;
        }
        None => {
            let key = terminal_manifests::terminal_id.eq(id);
            diesel::insert_into(terminal_manifests::table).values((key, values)).execute(conn)?;
        }
    }
    Ok(Some(verified.manifest.clone()))
}

/// One statement: the registry rows of the batch with what was counted of each.
fn read_registry(conn: &mut Conn, items: &[(usize, &Pending)]) -> Result<HashMap<i64, Registry>, db::Error> {
    let ids: Vec<i64> = items.iter().map(|(_, pending)| pending.session.terminal_id.0).collect();
    let rows: Vec<Registry> = terminals::table
        .left_join(terminal_states::table.on(terminal_states::terminal_id.eq(terminals::id)))
        .filter(terminals::id.eq_any(ids))
        .select((
            terminals::id,
            terminals::lifecycle,
            terminals::session_epoch,
            terminals::org_path,
            terminals::model,
            terminals::hardware,
            terminals::region,
            terminals::utc_offset_min,
            terminals::check_in_interval_s,
            terminals::assignment_version,
            terminals::desired_config_hash,
            terminal_states::config_told.nullable(),
            terminal_states::config_misses.nullable(),
            terminal_states::config_hash.nullable(),
            terminal_states::poll_until_ms.nullable(),
            (terminal_states::stream, terminal_states::seq, terminal_states::sampled_at_ms).nullable(),
        ))
        .load(conn)?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// The terminal's public key, hex; `None` before enrolment. One read by primary key.
pub(super) async fn public_key(db: &Db, terminal: TerminalId) -> Result<Option<String>, db::Error> {
    db.read(move |conn| {
        let key: Option<Option<String>> =
            terminals::table.find(terminal.0).select(terminals::public_key).first(conn).optional()?;
        Ok(key.flatten())
    })
    .await
}
