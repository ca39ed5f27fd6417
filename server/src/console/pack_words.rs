//! An evidence pack in words: what was seen, what it was compared with, what that excludes, and how much was checked.
//!
//! It names no culprit. Another merchant is "not the bound one", a fee is a fee, what was not looked at is "not checked".
//! The same blocks become a page and a PDF.

use tillward_protocol::condition::Condition;

use super::i18n::{Language, grouped};
use super::moments::Moments;
use crate::failures::classify::{Cause, EvidenceLevel, Judgement, Symptom, Tables, Verdict};
use crate::failures::pack::{
    Content, Judged, Known, Moment, MomentSource, Outcome, Pack, Part, PartFinding, Proof, Settled, Transaction,
};
use crate::pdf::Block;

/// Fields of reasons that have words; others are shown as the rules call them.
#[cfg(test)]
pub(super) const FIELDS: [&str; 19] = [
    "merchant_no_settled",
    "merchant_no_sent",
    "merchant_name",
    "mcc_cleared",
    "aliases",
    "evidence_level",
    "segment_inst",
    "segment_region",
    "segment_mcc",
    "segment_serial",
    "fee_class",
    "response_code",
    "stage",
    "rsrp_dbm",
    "sinr_db",
    "rssi_dbm",
    "loss_percent",
    "config_hash",
    "firmware",
];

/// Codes of why a part is excluded or not.
#[cfg(test)]
pub(super) const WHYS: [&str; 14] = [
    "succeeded",
    "nothing_sent",
    "on_the_way",
    "answered",
    "at_the_terminal",
    "at_the_counter",
    "message_made",
    "update_under_way",
    "no_update",
    "sent_bound_number",
    "sent_other_number",
    "config_as_told",
    "config_differs",
    "not_available",
];

/// Writes in one language and zone.
pub(super) struct Words {
    pub(super) language: Language,
    pub(super) moments: Moments,
}

impl Words {
    fn say(&self, key: &str) -> String {
        self.language.say(key)
    }

    fn word(&self, family: &str, name: &str) -> String {
        self.language.word(family, name)
    }

    fn yuan(&self, fen: i64) -> String {
        let sign = if fen < 0 { "-" } else { "" };
        let (yuan, rest) = (fen.unsigned_abs() / 100, fen.unsigned_abs() % 100);
        self.language.with("failure-yuan", "yuan", format!("{sign}{yuan}.{rest:02}"))
    }

    /// What the tables call a cause.
    fn cause(&self, tables: &Tables, cause: Cause) -> String {
        let row = tables.causes.get(&cause);
        let name = row.map(|row| match self.language {
            Language::Chinese => row.name_zh.as_str(),
            Language::English => row.name_en.as_str(),
        });
        name.filter(|name| !name.is_empty()).unwrap_or(cause.as_str()).to_owned()
    }

    fn field(&self, name: &str) -> String {
        let own = self.word("pack-field", name);
        // What only a rule that could not run asks for has the name that the console gives it.
        if own == name { self.word("fact", name) } else { own }
    }
}

/// Names and values; what is not known is left out.
struct Facts<'a> {
    words: &'a Words,
    facts: Vec<(String, String)>,
}

impl<'a> Facts<'a> {
    fn new(words: &'a Words) -> Self {
        Self { words, facts: Vec::new() }
    }

    fn add(mut self, key: &str, value: Option<String>) -> Self {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.facts.push((self.words.say(key), value));
        }
        self
    }

    fn done(self) -> Block {
        Block::Facts(self.facts)
    }
}

/// The whole of it, from top to bottom; `tables` name the causes, `made` is absent while it is only looked at.
pub(super) fn blocks(words: &Words, tables: &Tables, content: &Content, made: Option<(&Pack, &Proof)>) -> Vec<Block> {
    let mut blocks = vec![Block::Title(words.say("pack-title")), Block::Lead(lead(words, content))];
    happened(words, content, &mut blocks);
    judged(words, tables, content, &mut blocks);
    for settled in &content.settled {
        money(words, settled, &mut blocks);
    }
    seen(words, content, &mut blocks);
    moment(words, content, &mut blocks);
    parts(words, &content.parts, &mut blocks);
    coverage(words, content, &mut blocks);
    blocks.push(Block::Heading(words.say("pack-notes")));
    blocks.push(Block::Text(words.say("pack-notes-text")));
    if let Some((pack, proof)) = made {
        proven(words, pack, proof, &mut blocks);
    }
    blocks
}

fn lead(words: &Words, content: &Content) -> String {
    let at = words.moments.absolute(content.transaction.occurred_at_ms);
    words.language.with_two("pack-lead", ("tail", &content.transaction.sn_tail), ("at", &at))
}

fn happened(words: &Words, content: &Content, blocks: &mut Vec<Block>) {
    let transaction = &content.transaction;
    blocks.push(Block::Heading(words.say("pack-happened")));
    blocks.push(Block::Strong(outcome(words, transaction)));
    for judged in &content.judgements {
        if let Some(verdict) = &judged.judgement.verdict {
            blocks.push(Block::Strong(symptom(words, verdict)));
        }
    }
    let bound = &content.bound;
    let facts = Facts::new(words)
        .add("pack-amount", transaction.amount_fen.map(|fen| words.yuan(fen)))
        .add("pack-kind", Some(words.word("transaction", &transaction.transaction_type)))
        .add("pack-when", Some(words.moments.absolute(transaction.occurred_at_ms)))
        .add("pack-batch-no", transaction.batch_no.clone())
        .add("pack-trace-no", transaction.trace_no.clone())
        .add("pack-ref-no", transaction.ref_no.clone())
        .add("pack-reported-by", Some(words.word("pack-reporter", &transaction.reported_by)))
        .add("pack-bound-merchant", merchant(bound.merchant_no.as_deref(), bound.merchant_name.as_deref()))
        .add("pack-store", bound.store_name.clone())
        .add("pack-sent", transaction.merchant_no_sent.clone())
        .add(
            "pack-answered",
            merchant(transaction.merchant_no_resp.as_deref(), transaction.merchant_name_resp.as_deref()),
        );
    blocks.push(facts.done());
}

fn merchant(number: Option<&str>, name: Option<&str>) -> Option<String> {
    let parts: Vec<&str> = [number, name].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(" · "))
}

fn outcome(words: &Words, transaction: &Transaction) -> String {
    match transaction.outcome {
        Outcome::Succeeded => words.say("pack-succeeded"),
        Outcome::Failed => {
            let stage = words.word("stage", transaction.stage.as_deref().unwrap_or_default());
            match &transaction.response_code {
                Some(code) => words.language.with_two("pack-failed-code", ("stage", &stage), ("code", code)),
                None => words.language.with("pack-failed", "stage", stage),
            }
        }
    }
}

/// What is seen, without saying who did it.
fn symptom(words: &Words, verdict: &Verdict) -> String {
    words.word("pack-symptom", verdict.symptom.as_str())
}

fn judged(words: &Words, tables: &Tables, content: &Content, blocks: &mut Vec<Block>) {
    blocks.push(Block::Heading(words.say("pack-rules")));
    if content.judgements.is_empty() {
        blocks.push(Block::Text(words.say("pack-nothing-judged")));
    }
    for Judged { level, judgement, tables_hash } in &content.judgements {
        judgement_blocks(words, tables, *level, judgement, blocks);
        let version = tables_hash.chars().take(12).collect::<String>();
        blocks.push(Block::Lead(words.language.with("pack-tables", "version", version)));
    }
}

fn judgement_blocks(
    words: &Words,
    tables: &Tables,
    level: Option<EvidenceLevel>,
    judgement: &Judgement,
    blocks: &mut Vec<Block>,
) {
    let source = words.word("pack-level", level.map_or("terminal", EvidenceLevel::as_str));
    let Some(verdict) = &judgement.verdict else {
        blocks.push(Block::Text(words.language.with("pack-no-rule", "source", source)));
        not_checked(words, judgement, blocks);
        return;
    };
    let percent = format!("{:.0}", verdict.confidence * 100.0);
    let family = words.word("pack-family", verdict.cause.family().as_str());
    let cause = words.cause(tables, verdict.cause);
    let values = [
        ("source", source.as_str()),
        ("rule", verdict.rule.as_str()),
        ("family", &family),
        ("cause", &cause),
        ("code", verdict.cause.as_str()),
    ];
    blocks.push(Block::Strong(words.language.with_values("pack-verdict", &values)));
    let standing = words.word("pack-standing", verdict.standing.as_str());
    let key = if verdict.symptom == Symptom::Switch { "pack-confidence-numbers" } else { "pack-confidence" };
    blocks.push(Block::Text(words.language.with_two(key, ("percent", &percent), ("standing", &standing))));
    let rows = verdict.reasons.iter().map(|reason| {
        vec![
            reason.rule.as_str().to_owned(),
            words.field(&reason.field),
            reason.observed.clone(),
            reason.threshold.clone(),
        ]
    });
    blocks.push(Block::Table {
        headings: vec![
            words.say("pack-rule"),
            words.say("pack-field"),
            words.say("pack-observed"),
            words.say("pack-threshold"),
        ],
        shares: vec![2, 6, 7, 7],
        rows: rows.collect(),
    });
    not_checked(words, judgement, blocks);
}

/// A rule that lacked something is named: nobody shall read it as a pass.
fn not_checked(words: &Words, judgement: &Judgement, blocks: &mut Vec<Block>) {
    if judgement.not_checked.is_empty() {
        return;
    }
    let lacks: Vec<String> = judgement
        .not_checked
        .iter()
        .map(|lack| format!("{} ({})", lack.rule.as_str(), words.field(&lack.missing)))
        .collect();
    blocks.push(Block::Text(words.language.with("pack-not-checked", "rules", lacks.join(", "))));
}

fn money(words: &Words, settled: &Settled, blocks: &mut Vec<Block>) {
    blocks.push(Block::Heading(words.say("pack-money")));
    let yuan = |fen: Option<i64>| fen.map(|fen| words.yuan(fen));
    let mut facts = Facts::new(words)
        .add("pack-match", Some(words.word("pack-quality", &settled.match_quality)))
        .add("pack-amount", Some(words.yuan(settled.amount_fen)))
        .add("pack-settled", yuan(settled.settle_fen))
        .add("pack-fee", yuan(settled.fee_fen))
        .add("pack-withdraw-fee", yuan(settled.withdraw_fen));
    for (kind, fen) in &settled.second_orders {
        facts.facts.push((format!("{} · {kind}", words.say("pack-second-order")), words.yuan(*fen)));
    }
    facts = facts
        .add("pack-residual", yuan(settled.residual_fen))
        .add("pack-settled-merchant", merchant(settled.merchant_no.as_deref(), settled.merchant_name.as_deref()))
        .add("pack-mcc", settled.mcc.clone());
    blocks.push(facts.done());
    let fees =
        settled.settle_fen.map(|settle_fen| settled.amount_fen - settle_fen).filter(|difference| *difference != 0);
    if let (Some(difference), Some(0)) = (fees, settled.residual_fen) {
        blocks.push(Block::Text(words.language.with("pack-fee-explains", "yuan", words.yuan(difference))));
    }
}

fn seen(words: &Words, content: &Content, blocks: &mut Vec<Block>) {
    if content.lookups.is_empty() {
        return;
    }
    blocks.push(Block::Heading(words.say("pack-lookups")));
    let rows = content.lookups.iter().map(|seen| {
        let shown = |text: &Option<String>| text.clone().unwrap_or_else(|| "–".to_owned());
        vec![
            seen.level.clone(),
            words.word("lookup-source", &seen.source),
            words.moments.absolute(seen.looked_up_at_ms),
            shown(&seen.merchant_name),
            shown(&seen.merchant_no),
            shown(&seen.mcc),
        ]
    });
    blocks.push(Block::Table {
        headings: vec![
            words.say("pack-level-heading"),
            words.say("pack-source"),
            words.say("pack-looked-up"),
            words.say("pack-merchant-name"),
            words.say("pack-merchant-no"),
            words.say("pack-mcc"),
        ],
        shares: vec![3, 6, 8, 9, 9, 4],
        rows: rows.collect(),
    });
}

fn moment(words: &Words, content: &Content, blocks: &mut Vec<Block>) {
    let Moment { source, firmware, app, config_hash, in_update, battery_percent, condition, carrier } = &content.moment;
    blocks.push(Block::Heading(words.say("pack-moment")));
    let said = match source {
        MomentSource::Event => words.say("pack-moment-event"),
        MomentSource::Sample { away_ms } => words.language.count("pack-moment-sample", away_ms / 60_000),
        MomentSource::None => words.say("pack-moment-none"),
    };
    blocks.push(Block::Text(said));
    let update = in_update
        .map(|is_in_update| words.say(if is_in_update { "condition-in-update" } else { "condition-not-in-update" }));
    let unit = |value: Option<String>, unit: &str| value.map(|value| format!("{value} {unit}"));
    let text = |value: Option<i32>| value.map(|value| value.to_string());
    let carrier = Some(words.word("carrier", carrier)).filter(|_| *condition != Condition::default());
    let facts = Facts::new(words)
        .add("pack-model", Some(content.bound.model.clone()))
        .add("terminal-firmware", firmware.clone())
        .add("attribute-app", app.clone())
        .add("attribute-config", config_hash.as_ref().map(|hash| hash.chars().take(16).collect()))
        .add("attribute-in_update", update)
        .add("condition-battery", battery_percent.map(|percent| format!("{percent}%")))
        .add("terminal-network", condition.access.map(|access| words.word("access", access.as_str())))
        .add("condition-carrier", carrier)
        .add("condition-rsrp", unit(text(condition.rsrp_dbm), "dBm"))
        .add("condition-sinr", text(condition.sinr_db))
        .add("condition-rssi", unit(text(condition.rssi_dbm), "dBm"))
        .add("condition-rtt", condition.rtt_ms.map(|ms| format!("{ms} ms")))
        .add("condition-loss", condition.loss_percent.map(|percent| format!("{percent}%")));
    blocks.push(facts.done());
}

fn parts(words: &Words, parts: &[PartFinding], blocks: &mut Vec<Block>) {
    blocks.push(Block::Heading(words.say("pack-parts")));
    let rows = parts.iter().map(|finding| {
        let values: Vec<String> = finding
            .values
            .iter()
            .map(|value| match value.threshold.as_str() {
                "" => format!("{} {}", words.field(&value.field), value.observed),
                threshold => format!("{} {} ({threshold})", words.field(&value.field), value.observed),
            })
            .collect();
        vec![
            words.word("pack-part", part_name(finding.part)),
            words.word("pack-known", known_name(finding.known)),
            words.word("pack-why", &finding.why),
            values.join("\n"),
        ]
    });
    blocks.push(Block::Table {
        headings: vec![
            words.say("pack-part-heading"),
            words.say("pack-known-heading"),
            words.say("pack-why-heading"),
            words.say("pack-values"),
        ],
        shares: vec![3, 3, 9, 7],
        rows: rows.collect(),
    });
}

pub(super) fn part_name(part: Part) -> &'static str {
    match part {
        Part::Network => "network",
        Part::Device => "device",
        Part::Update => "update",
        Part::Config => "config",
    }
}

pub(super) fn known_name(known: Known) -> &'static str {
    match known {
        Known::Excluded => "excluded",
        Known::Possible => "possible",
        Known::NotChecked => "not_checked",
    }
}

fn coverage(words: &Words, content: &Content, blocks: &mut Vec<Block>) {
    blocks.push(Block::Heading(words.say("pack-coverage")));
    let days = content.coverage_days.to_string();
    blocks.push(Block::Text(words.language.with("pack-coverage-days", "days", days)));
    for checked in &content.coverage {
        blocks.push(Block::Text(covered(words, &checked.level, checked.checked, content.coverage_of)));
    }
}

/// "N of M checked"; never that nothing was found.
pub(super) fn covered(words: &Words, level: &str, checked: i64, of: Option<i64>) -> String {
    let name = words.word("pack-level", level);
    let checked = grouped(checked);
    match of {
        Some(of) => words
            .language
            .with_values("pack-covered", &[("level", name.as_str()), ("checked", &checked), ("of", &grouped(of))]),
        None => words.language.with_two("pack-covered-of-unknown", ("level", &name), ("checked", &checked)),
    }
}

fn proven(words: &Words, pack: &Pack, proof: &Proof, blocks: &mut Vec<Block>) {
    blocks.push(Block::Heading(words.say("pack-proof")));
    let key = if proof.is_intact { "pack-intact" } else { "pack-not-intact" };
    blocks.push(Block::Text(words.say(key)));
    let facts = Facts::new(words)
        .add("pack-id", Some(pack.id.clone()))
        .add("pack-made", Some(words.moments.absolute(pack.created_at_ms)))
        .add("pack-sha256", Some(pack.sha256.clone()))
        .add("pack-audit", proof.audit_seq.map(|seq| seq.to_string()));
    blocks.push(facts.done());
}
