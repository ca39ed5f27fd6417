//! Evidence packs: what is known about one transaction, put together so that a merchant can be shown it.
//!
//! A pack is frozen when it is made: its content is stored with its hash, and the hash is in the audit log's chain, so
//! that anybody can later prove that what was shown is what was known. It outlives the rows it was made from. It is of the
//! organization whose the transaction is: that keeps it when the terminal goes to another one, which never sees it.

mod content;
pub mod http;
mod settlements;
mod store;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tillward_protocol::FieldError;
use tillward_protocol::condition::Condition;
use tillward_protocol::failure::Failure;
use tillward_protocol::ids::Sha256Hex;

pub use content::{
    Bound, Checked, Content, Judged, Known, Moment, MomentSource, Outcome, Part, PartFinding, Seen, Settled,
    Transaction, Value, tail,
};

use super::classify::{
    EventFacts, EvidenceLevel, Judgement, Severity, Standing, Symptom, Tables, Verdict, judge_event,
};
use super::{FailureRow, lookups, verdicts};
use crate::audit::{self, Actor, Deed, Export};
use crate::checkin::{self, Sample};
use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::operators::{Caller, Scope};
use crate::payments::{self, Payment};
use crate::terminals::{self, Terminal};
use settlements::Compared;

/// Packs are kept this long, ms: three years, as the audit log is.
pub const KEPT_MS: i64 = 3 * 365 * 86_400_000;
/// Most packs of one transaction: beyond, nothing new can be in them.
pub const PACKS_MAX: i64 = 50;
/// How far a check-in may be from a transaction to say under which circumstances it was, ms.
const SAMPLE_AWAY_MS: i64 = 900_000;
/// Days around a transaction that its coverage is of.
const COVERAGE_DAYS: i64 = 30;
const DAY_MS: i64 = 86_400_000;
/// Look-ups of one transaction that are shown.
const LOOKUPS_MAX: u32 = 20;
/// Rows deleted in one transaction.
const SWEPT_ROWS: i64 = 200;

/// Why something about packs was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such pack or transaction in the caller's scope.
    #[error("not found")]
    NotFound,
    /// A field was refused.
    #[error(transparent)]
    Invalid(#[from] FieldError),
    /// There are [`PACKS_MAX`] of this transaction.
    #[error("there are {PACKS_MAX} packs of this transaction already; use the newest")]
    TooMany,
    /// The terminal could not be read.
    #[error(transparent)]
    Terminals(#[from] terminals::Error),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] db::Error),
}

/// A pack as it was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = EvidencePack)]
pub struct Pack {
    /// Its id.
    pub id: String,
    /// Terminal.
    pub terminal_id: i64,
    /// The terminal's id of the transaction.
    pub event_id: String,
    /// SHA-256 of the content as it is stored.
    pub sha256: String,
    /// Who made it.
    pub created_by: String,
    /// When, Unix ms.
    pub created_at_ms: i64,
    /// What it says.
    pub content: Content,
}

/// Whether a pack is what was made then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = EvidencePackProof)]
pub struct Proof {
    /// SHA-256 of the content as it is stored now.
    pub sha256: String,
    /// Whether that is the hash that the pack was made with and the audit log has.
    pub is_intact: bool,
    /// Entry of the audit log in which the hash is; absent when the log has none.
    pub audit_seq: Option<i64>,
}

/// What is known about a transaction of a terminal in the scope, now. A dozen statements by index.
///
/// # Errors
/// [`Error::NotFound`].
pub fn assemble(conn: &mut Conn, scope: &Scope, terminal_id: i64, event_id: &str, now: Now) -> Result<Content, Error> {
    Ok(put_together(conn, scope, terminal_id, event_id, now)?.0)
}

/// The content, and the path of the organization whose the transaction is.
fn put_together(
    conn: &mut Conn,
    scope: &Scope,
    terminal_id: i64,
    event_id: &str,
    now: Now,
) -> Result<(Content, String), Error> {
    let terminal = terminals::get(conn, scope, terminal_id).map_err(not_found)?;
    let reported = match payments::find(conn, scope, terminal_id, event_id)? {
        Some(payment) => Reported::Payment(Box::new(payment)),
        None => {
            let row = super::find(conn, scope, terminal_id, event_id)?.ok_or(Error::NotFound)?;
            Reported::Failure(Box::new(row))
        }
    };
    let transaction = reported.transaction();
    let failure = reported.failure();
    let org_path = reported.org_path().to_owned();
    let rows = store::settled(conn, scope, terminal_id, event_id, transaction.ref_no.as_deref(), reported.at_ms())?;
    let which = (terminal_id, org_path.as_str(), reported.at_ms());
    let compared = Compared::read(conn, scope, which, &rows)?;
    let bound = bound(&terminal, &org_path, &compared);
    let moment = moment(conn, scope, terminal_id, &reported, failure.as_ref())?;
    let seen = lookups_of(conn, scope, terminal_id, event_id)?;
    let mut judgements = Vec::new();
    let in_force = verdicts::in_force(conn, &org_path)?;
    if let (Some(failure), Reported::Failure(row)) = (&failure, &reported) {
        judgements.push(judged(row, failure, &in_force.tables));
    }
    judgements.extend(settlements::judged(conn, terminal_id, &rows, &compared, &transaction, &in_force.tables)?);
    judgements.extend(seen.iter().map(|lookup| Judged {
        level: EvidenceLevel::parse(&lookup.level),
        judgement: lookup.judgement.clone(),
        tables_hash: lookup.tables_hash.clone(),
    }));
    let around = COVERAGE_DAYS / 2 * DAY_MS;
    let at_ms = transaction.occurred_at_ms;
    let organization = Scope::subtree(org_path.clone());
    let coverage = lookups::coverage(conn, &organization, at_ms - around, at_ms + around)?;
    let content = Content {
        v: content::CONTENT_VERSION,
        made_at_ms: now.0,
        parts: content::parts(failure.as_ref(), &moment, &transaction, &bound),
        transaction,
        bound,
        moment,
        settled: rows.into_iter().map(|row| row.settled).collect(),
        lookups: seen.into_iter().map(shown).collect(),
        judgements,
        coverage: coverage
            .levels
            .into_iter()
            .map(|level| Checked { level: level.level, checked: level.checked })
            .collect(),
        coverage_of: coverage.transactions,
        coverage_days: COVERAGE_DAYS,
    };
    Ok((content, org_path))
}

fn not_found(error: terminals::Error) -> Error {
    match error {
        terminals::Error::NotFound => Error::NotFound,
        other => Error::Terminals(other),
    }
}

/// The transaction as it came.
enum Reported {
    Payment(Box<Payment>),
    Failure(Box<FailureRow>),
}

impl Reported {
    /// By the server's clock as well as it is known.
    fn at_ms(&self) -> i64 {
        match self {
            Self::Payment(payment) => payment.at_ms,
            Self::Failure(row) => row.occurred_at_ms,
        }
    }

    /// Organization that had the terminal then, as a path.
    fn org_path(&self) -> &str {
        match self {
            Self::Payment(payment) => &payment.org_path,
            Self::Failure(row) => &row.org_path,
        }
    }

    fn failure(&self) -> Option<Failure> {
        match self {
            Self::Payment(_) => None,
            Self::Failure(row) => serde_json::from_value(row.event.clone()).ok(),
        }
    }

    fn transaction(&self) -> Transaction {
        match self {
            Self::Payment(payment) => Transaction {
                outcome: Outcome::Succeeded,
                event_id: payment.event_id.clone(),
                sn_tail: tail(&payment.sn),
                occurred_at_ms: payment.occurred_at_ms,
                reported_by: "terminal".to_owned(),
                transaction_type: payment.transaction_type.clone(),
                stage: None,
                response_code: None,
                response_source: None,
                amount_fen: Some(payment.amount_fen),
                batch_no: payment.batch_no.clone(),
                trace_no: payment.trace_no.clone(),
                ref_no: payment.ref_no.clone(),
                merchant_no_sent: payment.merchant_no_sent.clone(),
                merchant_no_resp: payment.merchant_no_resp.clone(),
                merchant_name_resp: None,
            },
            Self::Failure(row) => failed(row),
        }
    }
}

fn failed(row: &FailureRow) -> Transaction {
    let text = |name: &str| row.event.get(name).and_then(|value| value.as_str()).map(str::to_owned);
    Transaction {
        outcome: Outcome::Failed,
        event_id: row.event_id.clone(),
        sn_tail: tail(&row.sn),
        occurred_at_ms: row.occurred_at_ms,
        reported_by: row.source.clone().unwrap_or_else(|| "terminal".to_owned()),
        transaction_type: row.transaction_type.clone(),
        stage: Some(row.stage.clone()),
        response_code: row.response_code.clone(),
        response_source: text("response_source"),
        amount_fen: row.amount_fen,
        batch_no: text("batch_no"),
        trace_no: text("trace_no"),
        ref_no: text("ref_no"),
        merchant_no_sent: text("merchant_no_sent"),
        merchant_no_resp: text("merchant_no_resp"),
        merchant_name_resp: text("merchant_name_resp"),
    }
}

/// The binding at that time, if one is known; else where the terminal is now, unless others have it by now.
fn bound(terminal: &Terminal, org_path: &str, compared: &Compared) -> Bound {
    let binding = compared.binding.as_ref();
    let (store_name, terminal_no) = match &compared.then {
        Some(then) => (then.store_name.clone(), then.terminal_no.clone()),
        None if terminal.org_path == org_path => (terminal.store_name.clone(), terminal.terminal_no.clone()),
        None => (None, None),
    };
    Bound {
        merchant_no: binding.map(|binding| binding.merchant_no.clone()),
        merchant_name: binding.and_then(|binding| binding.merchant_name.clone()),
        store_name,
        terminal_no,
        model: terminal.model.clone(),
        config_expected: terminal.desired_config_hash.clone(),
    }
}

/// What was said about a failure, or what the event alone says while nobody has judged it.
fn judged(row: &FailureRow, failure: &Failure, tables: &Tables) -> Judged {
    let Some(said) = &row.verdict else {
        let judgement = judge_event(&EventFacts::of(failure), tables);
        return Judged { level: None, judgement, tables_hash: tables.version.clone() };
    };
    let verdict = said.rule.map(|rule| Verdict {
        rule,
        symptom: Symptom::parse(&said.symptom).unwrap_or(Symptom::Fail),
        cause: said.cause,
        confidence: said.confidence.unwrap_or_default(),
        severity: Severity::parse(&said.severity).unwrap_or(Severity::Info),
        standing: Standing::parse(&said.standing).unwrap_or(Standing::Review),
        root: said.root,
        segments: Vec::new(),
        reasons: said.reasons.clone(),
    });
    let judgement = Judgement {
        verdict,
        alternatives: said.alternatives.clone(),
        not_checked: said.not_checked.clone(),
        findings: Vec::new(),
    };
    Judged { level: None, judgement, tables_hash: said.tables_version.clone() }
}

/// A failure carries its circumstances. A payment does not: the nearest check-in tells them, if one was near.
fn moment(
    conn: &mut Conn,
    scope: &Scope,
    terminal_id: i64,
    reported: &Reported,
    failure: Option<&Failure>,
) -> Result<Moment, db::Error> {
    if let Some(failure) = failure.filter(|failure| failure.condition != Condition::default()) {
        return Ok(Moment {
            source: MomentSource::Event,
            firmware: failure.firmware.as_ref().map(ToString::to_string),
            app: failure.app.as_ref().map(ToString::to_string),
            config_hash: failure.config_hash.as_ref().map(ToString::to_string),
            in_update: failure.in_update,
            battery_percent: failure.battery_percent.map(i64::from),
            carrier: failure.condition.carrier().to_owned(),
            condition: failure.condition.clone(),
        });
    }
    let at_ms = reported.at_ms();
    let near = checkin::samples(conn, scope, terminal_id, at_ms - SAMPLE_AWAY_MS, at_ms + SAMPLE_AWAY_MS)?;
    let nearest = near.into_iter().min_by_key(|sample| (sample.at_ms - at_ms).abs());
    Ok(match nearest {
        Some(sample) => of_sample(sample, at_ms),
        None => Moment {
            source: MomentSource::None,
            firmware: failure.and_then(|failure| failure.firmware.as_ref()).map(ToString::to_string),
            app: failure.and_then(|failure| failure.app.as_ref()).map(ToString::to_string),
            config_hash: failure.and_then(|failure| failure.config_hash.as_ref()).map(ToString::to_string),
            in_update: failure.and_then(|failure| failure.in_update),
            battery_percent: None,
            condition: Condition::default(),
            carrier: Condition::default().carrier().to_owned(),
        },
    })
}

fn of_sample(sample: Sample, at_ms: i64) -> Moment {
    let small = |value: Option<i64>| value.and_then(|value| i32::try_from(value).ok());
    let condition = Condition {
        access: serde_json::from_value(json!(sample.access)).ok(),
        rsrp_dbm: small(sample.rsrp_dbm),
        sinr_db: small(sample.sinr_db),
        rssi_dbm: small(sample.rssi_dbm),
        rtt_ms: sample.rtt_ms.and_then(|value| u32::try_from(value).ok()),
        loss_percent: sample.loss_percent.and_then(|value| u8::try_from(value).ok()),
        ..Condition::default()
    };
    Moment {
        source: MomentSource::Sample { away_ms: (sample.at_ms - at_ms).abs() },
        firmware: Some(sample.firmware),
        app: None,
        config_hash: None,
        in_update: None,
        battery_percent: sample.battery_percent,
        condition,
        carrier: sample.carrier,
    }
}

fn lookups_of(
    conn: &mut Conn,
    scope: &Scope,
    terminal_id: i64,
    event_id: &str,
) -> Result<Vec<lookups::Lookup>, db::Error> {
    let filter = lookups::Filter {
        terminal_id: Some(terminal_id),
        event_id: Some(event_id.to_owned()),
        ..lookups::Filter::default()
    };
    lookups::list(conn, scope, &filter, None, LOOKUPS_MAX)
}

fn shown(lookup: lookups::Lookup) -> Seen {
    Seen {
        level: lookup.level,
        source: lookup.source,
        looked_up_at_ms: lookup.looked_up_at_ms,
        merchant_name: lookup.merchant_name,
        merchant_no: lookup.merchant_no,
        mcc: lookup.mcc,
    }
}

/// Puts a pack together, stores it and writes its hash into the audit log.
///
/// # Errors
/// [`Error::NotFound`], [`Error::TooMany`].
pub fn make(
    conn: &mut Conn,
    caller: &Caller,
    actor: &Actor,
    terminal_id: i64,
    event_id: &str,
    now: Now,
) -> Result<Pack, Error> {
    let (content, org_path) = put_together(conn, &caller.scope, terminal_id, event_id, now)?;
    let terminal = terminals::get(conn, &caller.scope, terminal_id).map_err(not_found)?;
    if store::count(conn, terminal_id, event_id)? >= PACKS_MAX {
        return Err(Error::TooMany);
    }
    let text = serde_json::to_string(&content).unwrap_or_default();
    let pack = Pack {
        id: uuid::Uuid::now_v7().simple().to_string(),
        terminal_id,
        event_id: event_id.to_owned(),
        sha256: Sha256Hex::of(text.as_bytes()).into(),
        created_by: caller.name.clone(),
        created_at_ms: now.0,
        content,
    };
    store::insert(conn, &pack, &text, &org_path)?;
    let deed = Deed {
        action: AUDITED,
        object_kind: OBJECT,
        object_id: pack.id.clone(),
        org_path: &org_path,
        detail: json!({"sha256": pack.sha256, "sn": terminal.sn, "event_id": pack.event_id}),
    };
    audit::append(conn, actor, &deed, now)?;
    Ok(pack)
}

/// What the audit log says when somebody takes a pack along as a file in this language.
pub fn download(pack: &Pack, language: &str) -> Export {
    let detail = json!({"sha256": pack.sha256, "event_id": pack.event_id, "language": language});
    Export { action: "evidence.download", object_kind: OBJECT, object_id: pack.id.clone(), detail }
}

const AUDITED: &str = "evidence.pack";
const OBJECT: &str = "evidence_pack";

/// One pack, and whether it is what was made then.
///
/// # Errors
/// [`Error::NotFound`].
pub fn get(conn: &mut Conn, scope: &Scope, id: &str) -> Result<(Pack, Proof), Error> {
    let (pack, text) = store::find(conn, scope, id)?.ok_or(Error::NotFound)?;
    let sha256: String = Sha256Hex::of(text.as_bytes()).into();
    let entry = audit::of_object(conn, OBJECT, id)?.into_iter().find(|entry| entry.action == AUDITED);
    let logged = entry.as_ref().and_then(|entry| {
        let detail: serde_json::Value = serde_json::from_str(&entry.detail).ok()?;
        detail.get("sha256")?.as_str().map(str::to_owned)
    });
    let is_intact = sha256 == pack.sha256 && logged.as_deref() == Some(sha256.as_str());
    Ok((pack, Proof { sha256, is_intact, audit_seq: entry.map(|entry| entry.seq) }))
}

/// Which packs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only of this terminal.
    pub terminal_id: Option<i64>,
    /// Only of this transaction.
    pub event_id: Option<String>,
    /// Only with this hash.
    pub sha256: Option<String>,
}

/// Packs of transactions of the scope's organizations, newest first, before `before`.
///
/// # Errors
/// [`db::Error`].
pub fn list(
    conn: &mut Conn,
    scope: &Scope,
    filter: &Filter,
    before: Option<&str>,
    size: u32,
) -> Result<Vec<Pack>, db::Error> {
    store::list(conn, scope, filter, before, i64::from(size))
}

/// Deletes packs that are too old, in small transactions; returns how many rows went.
///
/// # Errors
/// [`db::Error`].
pub async fn sweep(db: &Db, now: Now) -> Result<usize, db::Error> {
    let mut deleted = 0;
    loop {
        let step = db.write(move |conn| store::delete_old(conn, now.0 - KEPT_MS, SWEPT_ROWS)).await?;
        if step == 0 {
            return Ok(deleted);
        }
        deleted += step;
    }
}
