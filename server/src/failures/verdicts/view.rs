//! Verdicts as REST and the console show them.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::Source;
use super::store::{self, Stored};
use super::tables::{InForce, in_force};
use crate::clock::Now;
use crate::db::{self, Conn};
use crate::failures::classify::{Cause, Judgement, NotChecked, Reason, Rule, Symptom, Verdict};
use crate::operators::Scope;

/// What is called how, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = VerdictAdvice)]
pub struct AdviceView {
    /// The cause, in Chinese.
    pub name_zh: String,
    /// The cause, in English.
    pub name_en: String,
    /// What the response code means, in Chinese; absent for codes of no table (未收录).
    pub meaning_zh: Option<String>,
    /// What the response code means, in English.
    pub meaning_en: Option<String>,
    /// What to do, in Chinese.
    pub advice_zh: String,
    /// What to do, in English.
    pub advice_en: String,
}

/// What was said before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EarlierVerdict {
    /// The rule.
    pub rule: Option<String>,
    /// The cause.
    pub cause: String,
    /// The symptom.
    pub symptom: String,
    /// The tables it was judged by.
    pub tables_version: String,
    /// When, Unix ms.
    pub judged_at_ms: i64,
}

/// One verdict with everything it rests on (为什么这样判断).
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = FailureVerdict)]
pub struct VerdictView {
    /// The cause; `UNK` when nothing known fits.
    pub cause: Cause,
    /// `NET`, `DEV`, `UPG`, `OPR`, `BNK`, `CHN` or `UNK`.
    pub family: &'static str,
    /// What is seen.
    pub symptom: String,
    /// `info`, `low`, `medium`, `high` or `critical`.
    pub severity: String,
    /// `proven`, `suspected` or `review`.
    pub standing: String,
    /// The rule; none when no rule matched.
    pub rule: Option<Rule>,
    /// How sure, 0 to 1: for a merchant number, how sure it is that the numbers differ.
    pub confidence: Option<f64>,
    /// What lies behind the cause.
    pub root: Option<Cause>,
    /// The conditions that held.
    pub reasons: Vec<Reason>,
    /// Later rules that matched too.
    pub alternatives: Vec<Verdict>,
    /// What could not be checked.
    pub not_checked: Vec<NotChecked>,
    /// Names and what to do, as the organization's tables have them now.
    pub advice: Option<AdviceView>,
    /// Hash of the tables it was judged by.
    pub tables_version: String,
    /// Whether these tables are still in force; if not, it may be judged again.
    pub is_current: bool,
    /// When it was judged, Unix ms.
    pub judged_at_ms: i64,
    /// How often it was judged.
    pub revision: i64,
    /// What was said before, newest first.
    pub earlier: Vec<EarlierVerdict>,
}

/// A failure to attach its verdict to: terminal, event, organization now, response code.
pub type Of<'a> = (i64, &'a str, &'a str, Option<&'a str>);

/// The verdicts of these failures, in their order; `None` for one that is not judged yet. One read, and those of each
/// organization's tables.
///
/// # Errors
/// [`db::Error`].
pub fn attach(conn: &mut Conn, failures: &[Of<'_>]) -> Result<Vec<Option<VerdictView>>, db::Error> {
    let keys: Vec<(i64, &str)> = failures.iter().map(|(terminal_id, event, _, _)| (*terminal_id, *event)).collect();
    let stored = store::of_failures(conn, &keys)?;
    let mut by_key: HashMap<(i64, String), Stored> =
        stored.into_iter().map(|row| ((row.terminal_id, row.item.clone()), row)).collect();
    let mut tables: HashMap<&str, std::sync::Arc<InForce>> = HashMap::new();
    let mut views = Vec::with_capacity(failures.len());
    for (terminal_id, event, org_path, code) in failures {
        let Some(row) = by_key.remove(&(*terminal_id, (*event).to_owned())) else {
            views.push(None);
            continue;
        };
        if !tables.contains_key(org_path) {
            tables.insert(org_path, in_force(conn, org_path)?);
        }
        views.push(tables.get(org_path).map(|tables| view(row, tables, *code)));
    }
    Ok(views)
}

fn view(row: Stored, in_force: &InForce, code: Option<&str>) -> VerdictView {
    let judgement: Judgement = serde_json::from_str(&row.judgement).unwrap_or_default();
    let cause = Cause::parse(&row.cause).unwrap_or(Cause::Unknown);
    let verdict = judgement.verdict;
    VerdictView {
        cause,
        family: cause.family().as_str(),
        symptom: row.symptom,
        severity: row.severity,
        standing: row.standing,
        rule: verdict.as_ref().map(|verdict| verdict.rule),
        confidence: verdict.as_ref().map(|verdict| verdict.confidence),
        root: verdict.as_ref().and_then(|verdict| verdict.root),
        advice: advice(in_force, cause, verdict.as_ref().map(|verdict| verdict.rule), code),
        reasons: verdict.map(|verdict| verdict.reasons).unwrap_or_default(),
        alternatives: judgement.alternatives,
        not_checked: judgement.not_checked,
        is_current: row.tables_hash == in_force.tables.version,
        tables_version: row.tables_hash,
        judged_at_ms: row.judged_at_ms,
        revision: row.revision,
        earlier: serde_json::from_str(&row.earlier).unwrap_or_default(),
    }
}

/// A code's own advice where its rule spoke, else that of the cause.
fn advice(in_force: &InForce, cause: Cause, rule: Option<Rule>, code: Option<&str>) -> Option<AdviceView> {
    let tables = &in_force.tables;
    let named = tables.causes.get(&cause)?;
    let row = code.and_then(|code| tables.codes.get(code));
    let of_code = row.filter(|row| rule == Some(Rule::R6) && !row.advice_zh.is_empty());
    Some(AdviceView {
        name_zh: named.name_zh.clone(),
        name_en: named.name_en.clone(),
        meaning_zh: row.map(|row| row.meaning_zh.clone()),
        meaning_en: row.map(|row| row.meaning_en.clone()),
        advice_zh: of_code.map_or(&named.advice_zh, |row| &row.advice_zh).clone(),
        advice_en: of_code.map_or(&named.advice_en, |row| &row.advice_en).clone(),
    })
}

/// Which failures, by what their verdicts say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerdictFilter {
    /// Of this cause.
    pub cause: Option<Cause>,
    /// With this symptom.
    pub symptom: Option<Symptom>,
    /// With this response code.
    pub response_code: Option<String>,
    /// Of this terminal.
    pub terminal_id: Option<i64>,
    /// Received at or after, Unix ms.
    pub from_ms: Option<i64>,
    /// At this stage.
    pub stage: Option<String>,
    /// Under this firmware.
    pub firmware: Option<String>,
}

/// Where a page ends: received at, terminal, event.
pub type VerdictKey = (i64, i64, String);

/// The failures that a filter by verdict finds, newest first, after `after`.
///
/// # Errors
/// [`db::Error`].
pub fn keys(
    conn: &mut Conn,
    scope: &Scope,
    filter: &VerdictFilter,
    after: Option<&VerdictKey>,
    size: u32,
) -> Result<Vec<VerdictKey>, db::Error> {
    store::keys(conn, scope, filter, after, i64::from(size))
}

/// How many verdicts name one cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct CauseCount {
    /// The cause.
    pub cause: String,
    /// `NET`, `DEV`, `UPG`, `OPR`, `BNK`, `CHN` or `UNK`.
    pub family: &'static str,
    /// The symptom.
    pub symptom: String,
    /// Verdicts.
    pub count: i64,
}

/// Verdicts of a window by cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = FailureCauses)]
pub struct Causes {
    /// Start of the window, Unix ms (a full hour).
    pub from_ms: i64,
    /// Its end, Unix ms.
    pub to_ms: i64,
    /// All verdicts.
    pub judged: i64,
    /// By cause and symptom, most first.
    pub causes: Vec<CauseCount>,
}

/// Failures of the last `hours` by cause. Reads hourly counts only.
///
/// # Errors
/// [`db::Error`].
pub fn causes(conn: &mut Conn, scope: &Scope, hours: u32, now: Now) -> Result<Causes, db::Error> {
    let from_ms = now.hour_ms() + 3_600_000 - i64::from(hours) * 3_600_000;
    let rows = store::causes(conn, scope, Source::Failure, from_ms)?;
    let causes: Vec<CauseCount> = rows
        .into_iter()
        .map(|(cause, symptom, count)| CauseCount {
            family: Cause::parse(&cause).unwrap_or(Cause::Unknown).family().as_str(),
            cause,
            symptom,
            count,
        })
        .collect();
    Ok(Causes { from_ms, to_ms: now.0, judged: causes.iter().map(|row| row.count).sum(), causes })
}
