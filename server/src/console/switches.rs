//! Merchants whose payments are settled under other numbers, in words: how much was compared always stands beside how much
//! differed, and a pattern is something to look at.

use serde_json::Value;

use super::shell::Shell;
use super::status::{Status, Tone};
use crate::failures::fleet::rules::Rule;
use crate::failures::fleet::{MerchantSwitches, SplitFound, WINDOW_MS};
use crate::operators::Permission;

const DAY_MS: i64 = 86_400_000;

/// One merchant.
pub(super) struct MerchantRow {
    pub(super) merchant_no: String,
    pub(super) name: String,
    pub(super) share: String,
    pub(super) interval: String,
    pub(super) coverage: String,
    pub(super) review: String,
    pub(super) status: Status,
    pub(super) patterns: Vec<String>,
    pub(super) incident_id: Option<i64>,
}

/// What the part of the page says before its rows.
pub(super) fn lead(shell: &Shell) -> String {
    shell.with("switches-lead", "days", WINDOW_MS / DAY_MS)
}

pub(super) fn row(shell: &Shell, merchant: &MerchantSwitches) -> MerchantRow {
    let (low, high) = (merchant.share_low.map_or_else(dash, percent), merchant.share_high.map_or_else(dash, percent));
    let (total, checked) = (shell.number(&merchant.successful), shell.number(&merchant.compared));
    let covered = shell.language.with_two("reconciliation-covered", ("total", &total), ("checked", &checked));
    MerchantRow {
        merchant_no: merchant.merchant_no.clone(),
        name: merchant.merchant_name.clone().unwrap_or_default(),
        share: format!(
            "{} / {} · {}",
            shell.number(&merchant.switched),
            checked,
            merchant.share.map_or_else(dash, percent)
        ),
        interval: shell.language.with_two("switches-interval", ("low", &low), ("high", &high)),
        coverage: format!("{covered} · {}", percent(merchant.coverage)),
        review: if merchant.review == 0 { String::new() } else { shell.count("switches-review", &merchant.review) },
        status: Status {
            tone: match merchant.verdict.as_str() {
                "hit" => Tone::Warning,
                _ => Tone::Quiet,
            },
            word: shell.word("switches-verdict", &merchant.verdict),
        },
        patterns: merchant.splits.iter().map(|split| pattern(shell, split)).collect(),
        incident_id: merchant.incident_id.filter(|_| shell.may(Permission::IncidentsRead)),
    }
}

/// `Hour 23:00–23:59: 12 / 50, 8.4 times as often as elsewhere (q 0.0001)`.
fn pattern(shell: &Shell, split: &SplitFound) -> String {
    let count = |n: u64| shell.number(&i64::try_from(n).unwrap_or(i64::MAX));
    let name = shell.word("split", &split.split);
    let (switched, compared) = (count(split.switched), count(split.compared));
    let ratio = format!("{:.1}", split.ratio);
    let q = if split.p_adjusted < 0.0001 { "< 0.0001".to_owned() } else { format!("{:.4}", split.p_adjusted) };
    shell.language.with_values(
        "switches-pattern",
        &[
            ("split", &name),
            ("value", &split.value),
            ("switched", &switched),
            ("compared", &compared),
            ("ratio", &ratio),
            ("q", &q),
        ],
    )
}

/// What stands above the evidence of such an incident; nothing above that of others.
pub(super) fn above_evidence(shell: &Shell, evidence: &Value) -> Option<String> {
    let reasons = evidence.get("reasons")?.as_array()?;
    if reasons.first()?.get("rule")? != Rule::MerchantSwitch.as_str() {
        return None;
    }
    let whole = |name: &str| evidence.get(name).and_then(Value::as_i64).map(|n| shell.number(&n));
    let part = |name: &str| evidence.get(name).and_then(Value::as_f64).map(percent);
    Some(shell.language.with_values(
        "switches-above",
        &[
            ("switched", &whole("switched")?),
            ("compared", &whole("compared")?),
            ("successful", &whole("successful")?),
            ("share", &part("share")?),
            ("low", &part("share_low")?),
            ("high", &part("share_high")?),
            ("coverage", &part("coverage")?),
        ],
    ))
}

fn dash() -> String {
    "–".to_owned()
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}
