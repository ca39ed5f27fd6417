//! The texts are whole: the same keys and values in both languages, none unused, none undefined, and no literal text
//! in a template.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use fluent_bundle::FluentResource;
use tillward_protocol::condition::Access;
use tillward_protocol::failure::Stage;
use tillward_protocol::phase::Reason;

use super::super::evidence;
use super::*;
use crate::alerts::{self, AlertKind, AlertState, DeliveryState, Route, TransportKind, Urgency};
use crate::failures::classify::{Family, RawTables, Rule, Severity, Standing, Symptom, TableName};
use crate::failures::feed;
use crate::failures::incidents::{self, State as IncidentState};
use crate::failures::lookups;
use crate::imports;
use crate::maintenance::checklist::Found;
use crate::maintenance::guidance::{Missing, OperatorError, Verdict as GuidanceVerdict};
use crate::maintenance::orders::{Kind as WorkKind, LIVE, Signal, State as OrderState};
use crate::maintenance::{Reason as DueReason, Urgency as CareUrgency};
use crate::merchants::numbers;
use crate::operators::{Permission, Role};
use crate::profiles::DriftState;
use crate::releases::ReleaseState;
use crate::rollouts::assignment::{Phase as AssignmentPhase, Withdrawal};
use crate::rollouts::filter::Exclusion;
use crate::rollouts::gate::Verdict;
use crate::rollouts::state::State as RolloutState;
use crate::rollouts::strategy::Wait;
use crate::terminals::list::Connection;
use crate::terminals::{Action, Lifecycle};

/// Calls whose first argument is a key.
const CALLS: [&str; 8] =
    ["say(\"", ".with(\"", "with_two(\"", "with_values(\"", "count(\"", ".add(\"", ".named(\"", "key(\""];

/// What may happen to a rollout, as refusals name it.
const EVENTS: [&str; 14] = [
    "start",
    "pause",
    "resume",
    "cancel",
    "submit",
    "approve",
    "reject",
    "open_stage",
    "halt",
    "override",
    "finish",
    "expire",
    "revise",
    "stop_scope",
];

const VERDICTS: [Verdict; 3] = [Verdict::Pass, Verdict::Fail, Verdict::Insufficient];

/// Fields that a person fills in, by the names under which they are refused and stand in the audit log.
const FIELDS: &[&str] = &[
    "hardware",
    "app",
    "config",
    "carrier",
    "access",
    "signal",
    "in_update",
    "event_id",
    "at_ms",
    "amount_fen",
    "approved_fen",
    "asked",
    "ref_no",
    "source",
    "mcc",
    "note",
    "login",
    "name",
    "password",
    "role",
    "language",
    "status",
    "version",
    "organization_id",
    "organization",
    "parent_id",
    "short_code",
    "region",
    "bootstrap_token",
    "organization_name",
    "sn",
    "tusn",
    "model",
    "models",
    "merchant_no",
    "merchant_name",
    "store_name",
    "terminal_no",
    "tags",
    "iccid",
    "imei",
    "notes",
    "lifecycle",
    "connection",
    "q",
    "confirm",
    "action",
    "count",
    "why",
    "file",
    "body",
    "after",
    "size",
    "query",
    "component",
    "firmware_version",
    "release_counter",
    "min_from_counter",
    "release_id",
    "payload",
    "sns",
    "firmware",
    "tag",
    "state",
    "phase",
    "filter",
    "session",
    "sha256",
    "more",
    "from",
    "to",
    "update",
    "kind",
    "mapping",
    "words",
    "utc_offset_min",
    "number_form",
    "rows_path",
    "rate_ppm",
    "risk_class",
    "reason",
    "result",
    "urgency",
    "incident_id",
    "proof",
    "reminders",
    "answers",
    "items",
    "verdict",
    "operator_id",
    "terminal_id",
    "replacement_sn",
    "expected_firmware",
    "due_in_days",
    "inspection_days",
    "inspection_days_by_model",
    "inspection_days_by_tag",
    "dormant_days",
    "dormant_now_days",
    "error_percent",
    "error_tries_min",
    "battery_percent_min",
    "coin_mv_min",
    "coin_mv_now",
    "expiry_days",
    "expiry_planned",
    "expiry_soon",
    "expiry_now",
    "moved_m",
    "open_orders_for",
    "by_model",
    "by_tag",
    "org_path",
    "hours",
    "channel_id",
    "from_ms",
    "to_ms",
];

/// What rules looked at in a settlement.
const REASON_FIELDS: &[&str] = &[
    "merchant_no_settled",
    "merchant_no_sent",
    "merchant_name_settled",
    "merchant_name",
    "binding",
    "aliases",
    "evidence_level",
    "fee_class",
    "mcc_cleared",
    "merchant_mcc",
    "segment_inst",
    "segment_region",
    "segment_mcc",
    "segment_serial",
    "config_hash",
    "contracted_rate",
    "amount_less_settled_fen",
    "fee_fen",
    "withdraw_fee_fen",
    "second_orders_fen",
    "second_orders",
    "residual_fen",
    "flat_fee_fen",
    "settle_amount_fen",
    "terminal_successes",
    "terminal",
    "age",
    "capped",
];
/// What the audit log has under a name of its own.
const DEEDS: &[&str] = &[
    "alert_channels.create",
    "alert_channels.delete",
    "alert_channels.test",
    "api_keys.create",
    "api_keys.revoke",
    "models.create",
    "operators.create",
    "operators.update",
    "operators.change_password",
    "operators.reset_password",
    "organizations.create",
    "organizations.update",
    "profiles.create",
    "profiles.assign",
    "profiles.settle",
    "releases.create",
    "releases.approve",
    "releases.publish",
    "releases.withdraw",
    "rollouts.create",
    "rollouts.ask_widen",
    "rollouts.ask_override",
    "rollouts.refuse_request",
    "rollouts.stop_scope",
    "sessions.open",
    "sessions.close",
    "sessions.token_reused",
    "terminals.create",
    "terminals.enrol",
    "terminals.import",
    "terminals.issue_codes",
    "terminals.lifecycle",
    "terminals.update",
    "incidents.open",
    "incidents.reopen",
    "incidents.raise",
    "incidents.remind",
    "failures.import",
    "lookups.add",
    "lookups.withdraw",
    "evidence.pack",
    "evidence.download",
    "failures.export",
    "settlements.export",
    "inspections.export",
    "terminals.export",
    "terminals.export_refused",
    "guidance.export",
    "imports.export_refused",
    "rules.edit",
    "rules.reevaluate",
    "imports.upload",
    "imports.start",
    "imports.cancel",
    "imports.done",
    "imports.fail",
    "feed.channel.create",
    "feed.channel.secret",
    "feed.channel.delete",
    "merchants.create",
    "merchants.update",
    "merchants.number.request",
    "merchants.number.approve",
    "merchants.number.foreign",
    "merchants.number.reopen",
    "terminals.binding",
    "alert_channels.update",
    "alert_channels.replay",
    "alert_rules.create",
    "alert_rules.update",
    "alert_rules.delete",
    "alert_hours.update",
    "maintenance.rules",
    "maintenance.checklist",
    "work_orders.open",
    "work_orders.assign",
    "work_orders.start",
    "work_orders.answer",
    "work_orders.done",
    "work_orders.prove",
    "work_orders.fault",
    "work_orders.close_unproven",
    "work_orders.cancel",
    "work_orders.vanish",
    "work_orders.note",
    "work_orders.remind",
    "sim_cards.import",
];
/// What a person does with an incident, as the audit log has it.
const INCIDENT_DEEDS: &[&str] = &["acknowledge", "mitigate", "resolve", "assign", "note"];
/// Names in the audit log that are put together, by how they begin.
const MADE_DEEDS: &[&str] = &["rollouts.", "rollouts.ask_", "incidents.", "merchants.number."];

/// Names in the audit log; the steps of a rollout are named by its events.
fn deeds() -> BTreeSet<String> {
    let steps = EVENTS.iter().filter(|event| !["revise", "stop_scope"].contains(event));
    let steps = steps.map(|event| format!("rollouts.{event}"));
    let incidents = INCIDENT_DEEDS.iter().map(|event| format!("incidents.{event}"));
    DEEDS.iter().map(|deed| (*deed).to_owned()).chain(steps).chain(incidents).collect()
}

/// Columns of the tables that rules compare with.
fn columns() -> Vec<String> {
    let tables = RawTables::seed().unwrap();
    let columns = TableName::ALL.into_iter().flat_map(|name| tables.table(name).unwrap().columns.clone());
    columns.collect::<BTreeSet<_>>().into_iter().collect()
}

/// What stands as source or note in those tables, part by part; addresses, and what is Chinese already, stay as they are.
fn phrases() -> Vec<String> {
    let tables = RawTables::seed().unwrap();
    let rows = TableName::ALL.into_iter().flat_map(|name| tables.table(name).unwrap().rows.values());
    let texts = rows.flat_map(|row| ["source", "note"].map(|column| row[column].as_str()));
    let parts = texts.flat_map(|text| text.split("; "));
    let said = parts.filter(|part| !part.is_empty() && part.is_ascii() && !part.contains("http"));
    said.map(super::super::rules::phrase_name).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Keys that are made from names the server keeps.
fn families() -> BTreeMap<&'static str, Vec<String>> {
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut phases: Vec<&str> = AssignmentPhase::ALL.iter().map(|phase| phase.as_str()).collect();
    // How an offer with a reason is shown.
    phases.push("deferred");
    let mut accesses: Vec<&str> = Access::ALL.iter().map(|access| access.as_str()).collect();
    accesses.push("unknown");
    BTreeMap::from([
        ("language", names(&Language::ALL.map(Language::tag))),
        ("theme", names(&["auto", "light", "dark"])),
        ("role", names(&Role::ALL.map(Role::as_str))),
        ("stage", names(&Stage::ALL.map(Stage::as_str))),
        ("reason", names(&Reason::ALL.map(Reason::as_str))),
        ("access", names(&accesses)),
        ("carrier", names(&["CMCC", "CUCC", "CTCC", "CBN", "unknown"])),
        ("signal", names(&["good", "fair", "poor", "bad", "unknown"])),
        ("transaction", names(&["sale", "void", "refund", "preauth", "sign_in", "settle", "other"])),
        ("connection", names(&Connection::ALL.map(Connection::as_str))),
        ("layer", names(&["global", "organization", "group", "terminal"])),
        ("drift", names(&DriftState::ALL.map(DriftState::as_str))),
        ("lifecycle", names(&Lifecycle::ALL.map(Lifecycle::as_str))),
        ("action", names(&Action::ALL.map(Action::as_str))),
        ("phase", names(&phases)),
        ("rollout", names(&RolloutState::NAMES)),
        ("release-state", names(&ReleaseState::ALL.map(ReleaseState::as_str))),
        ("release-verb", names(&["approve", "publish", "withdraw"])),
        ("status", names(&["active", "suspended", "disabled"])),
        ("attribute", names(&crate::failures::ATTRIBUTES)),
        ("outcomes", names(&crate::failures::Group::ALL.map(crate::failures::Group::as_str))),
        (
            "exclusion",
            Exclusion::ALL
                .iter()
                .map(|reason| serde_json::to_value(reason).unwrap().as_str().unwrap().to_owned())
                .collect(),
        ),
        ("wait", names(&Wait::ALL.map(Wait::as_str))),
        ("withdrawn", names(&Withdrawal::ALL.map(Withdrawal::as_str))),
        ("verdict", names(&VERDICTS.map(Verdict::as_str))),
        ("verdict-meaning", names(&VERDICTS.map(Verdict::as_str))),
        ("missing", names(&["started", "health", "outcome", "controls", "soak", "watched", "scope", "journal"])),
        ("left-out", names(&["suppressed_by_site", "out_of_window", "repeated"])),
        ("failure-class", names(&["hard", "payment"])),
        ("request", names(&["start", "widen", "override"])),
        ("stage-state", names(&["closed", "passed", "open", "stopped"])),
        ("stage-kind", names(&["percent", "count", "tag"])),
        ("span-unit", names(&["s", "m", "h", "d"])),
        ("weekday", names(&["1", "2", "3", "4", "5", "6", "7"])),
        ("rollout-field", names(&[&super::super::rollout_words::field_names()[..], &["count"]].concat())),
        ("incident", {
            let mut states = names(&IncidentState::ALL.map(IncidentState::as_str));
            states.push(incidents::UNRESOLVED.to_owned());
            states
        }),
        ("symptom", names(&Symptom::ALL.iter().map(|symptom| symptom.as_str()).collect::<Vec<_>>())),
        ("family", names(&Family::ALL.iter().map(|family| family.as_str()).collect::<Vec<_>>())),
        ("standing", names(&Standing::ALL.iter().map(|standing| standing.as_str()).collect::<Vec<_>>())),
        ("rule", {
            let mut rules = names(&Rule::ALL.iter().map(|rule| rule.as_str()).collect::<Vec<_>>());
            rules.extend(names(&[
                "inspection_days",
                "dormant_days",
                "dormant_now_days",
                "error_percent",
                "error_tries_min",
                "battery_percent_min",
                "coin_mv_min",
                "coin_mv_now",
                "expiry_planned",
                "expiry_soon",
                "expiry_now",
                "moved_m",
            ]));
            rules
        }),
        ("fact", names(&super::super::verdict::FACTS)),
        ("table", names(&TableName::ALL.map(TableName::as_str))),
        ("column", columns()),
        ("phrase", phrases()),
        ("severity", names(&Severity::ALL.iter().map(|severity| severity.as_str()).collect::<Vec<_>>())),
        ("certainty", names(&super::super::rules::CERTAINTIES)),
        ("code-condition", names(&super::super::rules::CONDITIONS)),
        ("path-proven", names(&super::super::rules::PROVEN)),
        ("incident-kind", names(&incidents::Kind::ALL.map(incidents::Kind::as_str))),
        ("incident-title", names(&incidents::Kind::ALL.map(incidents::Kind::as_str))),
        (
            "incident-event",
            names(&[
                "open",
                "reopen",
                "raise",
                "acknowledge",
                "mitigate",
                "resolve",
                "assign",
                "note",
                "remind",
                "fold",
                "unfold",
                "subside",
                "evidence",
            ]),
        ),
        ("fleet-rule", names(&crate::failures::fleet::rules::Rule::ALL.map(|rule| rule.as_str()))),
        ("fleet-verdict", names(&["hit", "info", "clear", "insufficient", "never", "ended"])),
        ("fleet-missing", names(&crate::failures::fleet::rules::Missing::ALL.map(|missing| missing.as_str()))),
        ("advice-change", names(&crate::failures::advice::judge::Change::ALL.map(|change| change.as_str()))),
        ("advice-part", names(&["failures", "loss", "signal", "noise", "access"])),
        ("level", names(&incidents::Level::ALL.map(incidents::Level::as_str))),
        ("alert", names(&[&AlertKind::ALL.map(AlertKind::as_str)[..], &["incident_unresolved"]].concat())),
        (
            "alert-state",
            names(
                &[&AlertState::ALL.map(AlertState::as_str)[..], &DeliveryState::ALL.map(DeliveryState::as_str)]
                    .concat(),
            ),
        ),
        ("message", names(&alerts::MESSAGES)),
        ("route", names(&Route::ALL.map(Route::as_str))),
        ("channel-kind", names(&[&TransportKind::ALL.map(TransportKind::as_str)[..], &["unknown"]].concat())),
        ("channel-hint", names(&TransportKind::ALL.map(TransportKind::as_str))),
        ("channel-level", names(&incidents::Level::ALL.map(incidents::Level::as_str))),
        ("channel-state", names(&["good", "retrying", "failing", "paused", "unreadable"])),
        ("rule-state", names(&["on", "off"])),
        ("rule-delivery", names(&Urgency::ALL.map(Urgency::as_str))),
        ("rule-step", names(&["1", "2", "3"])),
        ("evidence", names(&[evidence::WORDS, &evidence::VERDICTS, &evidence::BASELINES].concat())),
        ("actor", names(&["operator", "api_key", "terminal", "system"])),
        (
            "object",
            names(&[
                "terminal",
                "rollout",
                "release",
                "organization",
                "operator",
                "export",
                "api_key",
                "profile",
                "import",
                "incident",
                "alert_channel",
                "feed_channel",
                "merchant",
                "merchant_number",
                "evidence_pack",
                "lookup",
                "failures",
                "alert_rule",
                "alert_hours",
                "work_order",
            ]),
        ),
        ("feed-word-status", names(&["success", "failure", "processing"])),
        ("feed-word-response_source", names(&["issuer", "switch", "acquirer", "local"])),
        ("feed-word-entry", names(&["icc", "mag", "nfc", "qr"])),
        ("pack-field", names(&super::super::pack_words::FIELDS)),
        ("pack-why", names(&super::super::pack_words::WHYS)),
        ("pack-part", names(&["network", "device", "update", "config"])),
        ("pack-known", names(&["excluded", "possible", "not_checked"])),
        ("pack-reporter", names(&["terminal", "rest", "file"])),
        ("pack-level", names(&["terminal", "L1", "L2", "L3"])),
        ("pack-quality", names(&["ref", "trace", "weak", "none"])),
        ("pack-symptom", names(&Symptom::ALL.iter().map(|each| each.as_str()).collect::<Vec<_>>())),
        ("pack-family", names(&Family::ALL.iter().map(|each| each.as_str()).collect::<Vec<_>>())),
        ("pack-standing", names(&Standing::ALL.iter().map(|each| each.as_str()).collect::<Vec<_>>())),
        ("lookup-source", names(&lookups::Source::ALL.map(lookups::Source::as_str))),
        ("lookup-shows", names(&["differs", "suspected", "same", "not_comparable"])),
        ("span", names(&["24h", "3d", "7d"])),
        (
            "done",
            names(&[
                "organization",
                "operator",
                "lifecycle",
                "uploaded",
                "approved",
                "published",
                "withdrawn",
                "draft",
                "started",
                "paused",
                "resumed",
                "cancelled",
                "submitted",
                "agreed",
                "rejected",
                "advanced",
                "overridden",
                "part_stopped",
                "again",
                "acknowledged",
                "taken",
                "mitigated",
                "resolved",
                "noted",
                "mapping_saved",
                "feed_channel_deleted",
                "merchant",
                "number_requested",
                "number_foreign",
                "number_approved",
                "number_reopened",
                "rules",
                "reevaluated",
                "reevaluated_in_part",
                "packed",
                "lookup",
                "lookup_withdrawn",
                "channel",
                "channel_paused",
                "channel_resumed",
                "channel_deleted",
                "rule",
                "rule_deleted",
                "saved",
                "replayed",
                "order_opened",
                "order_assigned",
                "order_started",
                "order_answered",
                "order_done",
                "order_closed",
                "order_cancelled",
                "care_rules",
                "care_checklist",
            ]),
        ),
        ("import-kind", names(&imports::Kind::ALL.map(imports::Kind::as_str))),
        ("import-state", names(&imports::State::ALL.map(imports::State::as_str))),
        ("feed-field", {
            let fields = imports::Kind::ALL.into_iter().flat_map(|kind| kind.intake().fields());
            fields.map(|field| field.name.to_owned()).collect::<BTreeSet<_>>().into_iter().collect()
        }),
        ("feed-unit", names(&["yuan", "fen"])),
        ("feed-rate", names(&["percent", "fraction"])),
        ("shows", names(&feed::Result::ALL.map(feed::Result::as_str))),
        ("lacking", names(&["terminal", "binding", "merchant_no"])),
        ("match", names(&["none", "weak", "trace", "ref"])),
        ("number-state", names(&numbers::State::ALL.map(numbers::State::as_str))),
        ("evidence-level", names(&["L1", "L2", "L3"])),
        ("split", names(&["hour", "amount", "entry", "channel"])),
        ("switches-verdict", names(&["hit", "clear", "insufficient"])),
        ("alert-title", names(&["work_order_overdue"])),
        ("merchant-class", names(&crate::merchants::RISK_CLASSES)),
        ("reason-field", names(REASON_FIELDS)),
        ("moment-ago", names(&["seconds", "minutes", "hours", "days"])),
        ("moment-in", names(&["seconds", "minutes", "hours", "days"])),
        ("permission", names(&Permission::ALL.map(Permission::as_str))),
        ("event", names(&EVENTS)),
        ("field", names(FIELDS)),
        ("deed", deeds().iter().map(|deed| deed.replace('.', "-")).collect()),
        ("due", names(&DueReason::ALL.map(DueReason::as_str))),
        ("try", names(&DueReason::ALL.map(DueReason::as_str))),
        ("urgency", names(&CareUrgency::ALL.map(CareUrgency::as_str))),
        ("work", names(&WorkKind::ALL.map(WorkKind::as_str))),
        ("order", {
            let mut states = names(&OrderState::ALL.map(OrderState::as_str));
            states.push(LIVE.to_owned());
            states
        }),
        (
            "order-event",
            names(&[
                "open",
                "assign",
                "start",
                "answer",
                "done",
                "prove",
                "fault",
                "close_unproven",
                "cancel",
                "vanish",
                "note",
                "remind",
                "no_proof",
            ]),
        ),
        ("found", names(&Found::ALL.map(Found::as_str))),
        ("proof", names(&Signal::ALL.map(Signal::as_str))),
        ("tamper", names(&["ok", "triggered", "mask"])),
        ("printer", names(&["ok", "paper_low", "out", "hot", "na"])),
        ("operator-error", names(&OperatorError::ALL.map(OperatorError::as_str))),
        ("guidance", names(&GuidanceVerdict::NAMES)),
        ("guidance-missing", names(&Missing::ALL.map(Missing::as_str))),
        ("problem-title", super::super::problems::names()),
        ("problem-advice", super::super::problems::names()),
    ])
}

fn keys(language: Language) -> BTreeMap<String, BTreeSet<String>> {
    let resource = FluentResource::try_new(language.source().to_owned()).map_err(|(_, errors)| errors).unwrap();
    drop(resource);
    let mut keys: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut current = String::new();
    for line in language.source().lines() {
        if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| !key.starts_with([' ', '#', '[', '*'])) {
            current = key.to_owned();
            assert!(keys.insert(current.clone(), BTreeSet::new()).is_none(), "{current} is given twice");
        }
        for part in line.split("{ $").skip(1) {
            let name = part.split([' ', '}']).next().unwrap().to_owned();
            keys.get_mut(&current).unwrap().insert(name);
        }
    }
    keys
}

fn files(folder: &str, extension: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let wanted = paths.filter(|path| path.extension().is_some_and(|found| found == extension));
    wanted.map(|path| (path.clone(), std::fs::read_to_string(&path).unwrap())).collect()
}

/// Everything in which keys are named.
fn sources() -> Vec<String> {
    let files = files("templates", "html").into_iter().chain(files("src/console", "rs"));
    files.filter(|(path, _)| !path.ends_with("i18n_tests.rs")).map(|(_, text)| text).collect()
}

/// Keys of the families.
fn family_keys() -> BTreeSet<String> {
    let families = families();
    families.iter().flat_map(|(family, names)| names.iter().map(move |name| format!("{family}-{name}"))).collect()
}

/// Keys that are asked for by a call.
fn called() -> BTreeSet<String> {
    let mut called = BTreeSet::new();
    for text in sources() {
        let text: String = text.split('\n').map(str::trim).collect();
        for call in CALLS {
            called.extend(text.split(call).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()));
        }
    }
    // What these calls are also used for.
    called.retain(|key| !key.contains(['/', ' ', '.']));
    called
}

#[test]
fn both_languages_have_the_same_keys_with_the_same_values() {
    let (chinese, english) = (keys(Language::Chinese), keys(Language::English));
    let missing = |from: &BTreeMap<String, _>, to: &BTreeMap<String, _>| -> Vec<String> {
        from.keys().filter(|key| !to.contains_key(*key)).cloned().collect()
    };
    assert_eq!(missing(&chinese, &english), Vec::<String>::new(), "not in en.ftl");
    assert_eq!(missing(&english, &chinese), Vec::<String>::new(), "not in zh-CN.ftl");
    // `n` only chooses a plural form and `count` shows it: either may stand alone; `rest` is what a refusal's form
    // passes over.
    let is_said = |name: &&String| !["n", "rest"].contains(&name.as_str());
    let values = |names: &BTreeSet<String>| names.iter().filter(is_said).cloned().collect::<Vec<_>>();
    for (key, names) in &chinese {
        assert_eq!(values(names), values(&english[key]), "{key}");
    }
}

#[test]
fn every_key_that_is_used_exists_and_every_key_that_exists_is_used() {
    let defined: BTreeSet<_> = keys(Language::Chinese).into_keys().collect();
    let wanted: BTreeSet<_> = called().union(&family_keys()).cloned().collect();
    assert_eq!(wanted.difference(&defined).collect::<Vec<_>>(), Vec::<&String>::new(), "used but not defined");
    let (sources, families) = (sources(), family_keys());
    let is_used = |key: &String| {
        families.contains(key)
            || key.starts_with("refusal-")
            || sources.iter().any(|text| text.contains(&format!("\"{key}\"")))
    };
    let unused: Vec<_> = defined.iter().filter(|key| !is_used(key)).collect();
    assert_eq!(unused, Vec::<&String>::new(), "defined but not used");
}

/// Every Rust file below a folder, tests aside.
fn programs(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            programs(&path, found);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push(text.split("#[cfg(test)]").next().unwrap_or_default().to_owned());
        }
    }
}

/// Deeds are put down where the audit log is spoken of, by these calls.
const WRITING: [&str; 5] = ["Deed {", "append(conn, ", "record(conn, ", "Export {", "Export::table("];

/// Names and beginnings of names that are written into the audit log somewhere in the sources.
fn written_deeds() -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut whole, mut made, mut found) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    programs(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    let is_part = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let is_writing = |text: &str| WRITING.iter().any(|call| text.contains(call));
    for text in found.iter().filter(|text| is_writing(text)) {
        let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        for literal in code.join("\n").split('"').skip(1).step_by(2) {
            let Some((domain, verb)) = literal.split_once('.') else { continue };
            match verb.split_once('{') {
                Some((start, _)) if is_part(domain) && start.chars().all(|c| c.is_ascii_lowercase() || c == '_') => {
                    made.insert(format!("{domain}.{start}"));
                }
                None if is_part(domain) && is_part(verb) => {
                    whole.insert(literal.to_owned());
                }
                _ => {}
            }
        }
    }
    (whole, made)
}

/// Texts of the same form in the same files that are none: names of fields.
const NO_DEEDS: &[&str] = &["capabilities.", "filter.", "gate.", "strategy.", "parameters.", "quiet.", "reconcile."];

#[test]
fn everything_that_is_written_into_the_audit_log_has_a_word() {
    let (whole, made) = written_deeds();
    let known = deeds();
    assert!(whole.len() > 20, "the sources were read: {whole:?}");
    let is_deed = |name: &&String| !NO_DEEDS.iter().any(|start| name.starts_with(start));
    let unknown: Vec<&String> = whole.iter().filter(is_deed).filter(|name| !known.contains(*name)).collect();
    assert_eq!(unknown, Vec::<&String>::new(), "without a word: give it one in both languages, and name it in DEEDS");
    let unknown: Vec<&String> =
        made.iter().filter(is_deed).filter(|start| !MADE_DEEDS.contains(&start.as_str())).collect();
    assert_eq!(unknown, Vec::<&String>::new(), "put together: say here from what");
}

#[test]
fn the_sources_have_no_errors() {
    for language in Language::ALL {
        assert!(FluentResource::try_new(language.source().to_owned()).is_ok(), "{}", language.tag());
    }
}

/// The name of the program, and units that are the same in every language.
const SAME_EVERYWHERE: [&str; 6] = ["Tillward", "dBm", "ms", "SN", "ID", "MCC"];

#[test]
fn templates_hold_no_literal_text() {
    for (path, text) in files("templates", "html") {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        for word in literal_words(&text) {
            assert!(SAME_EVERYWHERE.contains(&word.as_str()), "{name} says {word:?} by itself");
        }
    }
}

/// Words outside tags and template code, and in attributes that people read.
fn literal_words(template: &str) -> Vec<String> {
    let mut plain = template.to_owned();
    for (open, close) in [("{#", "#}"), ("{%", "%}"), ("{{", "}}")] {
        while let Some(start) = plain.find(open) {
            let end = plain[start..].find(close).map_or(plain.len(), |end| start + end + close.len());
            plain.replace_range(start..end, " ");
        }
    }
    let mut readable = String::new();
    for attribute in ["placeholder=\"", "title=\"", "aria-label=\"", "alt=\""] {
        for rest in plain.split(attribute).skip(1) {
            readable.push_str(rest.split('"').next().unwrap());
            readable.push(' ');
        }
    }
    for part in plain.split('<') {
        readable.push_str(part.split_once('>').map_or(part, |(_, after)| after));
        readable.push(' ');
    }
    let readable = readable.replace("&nbsp;", " ");
    let words = readable.split(|c: char| !c.is_alphabetic());
    words.filter(|word| word.chars().count() > 1 || !word.is_ascii()).map(str::to_owned).collect()
}

#[test]
fn literal_text_is_found_where_people_would_read_it() {
    let template = r#"{% if x %}<p class="card" title="Hello">{{ y }} 终端</p>{% endif %}"#;
    assert_eq!(literal_words(template), ["Hello", "终端"]);
}

#[test]
fn templates_hold_nothing_that_the_security_policy_kills_silently() {
    for (path, text) in files("templates", "html") {
        for forbidden in
            [" style=", "hx-on", "|safe", "| safe", "javascript:", " onclick=", " onchange=", " onsubmit=", "js:"]
        {
            assert!(!text.contains(forbidden), "{} contains {forbidden:?}", path.display());
        }
        for script in text.split("<script").skip(1) {
            assert!(script.starts_with(" src="), "{} has an inline script", path.display());
        }
    }
}

#[test]
fn a_header_chooses_the_first_known_language() {
    for (header, language) in [
        ("zh-CN,zh;q=0.9,en;q=0.8", Language::Chinese),
        ("en-US,en;q=0.9", Language::English),
        ("fr, en;q=0.5", Language::English),
        ("fr", Language::Chinese),
        ("", Language::Chinese),
    ] {
        assert_eq!(Language::of_header(header), language, "{header}");
    }
}

#[test]
fn numbers_are_grouped_and_plurals_follow_the_language() {
    assert_eq!([0, 999, 1_000, -1_234_567].map(grouped), ["0", "999", "1,000", "-1,234,567"]);
    assert_eq!(Language::English.count("moment-ago-hours", 1), "1 hour ago");
    assert_eq!(Language::English.count("moment-ago-hours", 1_200), "1,200 hours ago");
    assert_eq!(Language::Chinese.word("role", "something_new"), "something_new");
}
