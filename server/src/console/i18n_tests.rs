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
use crate::alerts::{AlertKind, AlertState};
use crate::failures::classify::{Family, Rule, Standing, Symptom, TableName};
use crate::failures::feed;
use crate::failures::incidents::{self, State as IncidentState};
use crate::failures::{classify, lookups};
use crate::imports;
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
const FIELDS: [&str; 73] = [
    "event_id",
    "at_ms",
    "amount_fen",
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
];

/// What rules looked at in a settlement.
const REASON_FIELDS: [&str; 28] = [
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
/// What the audit log has, its dots written as hyphens.
const DEEDS: [&str; 50] = [
    "failures-import",
    "lookups-add",
    "lookups-withdraw",
    "evidence-pack",
    "api_keys-create",
    "api_keys-revoke",
    "models-create",
    "operators-create",
    "operators-update",
    "operators-change_password",
    "operators-reset_password",
    "organizations-create",
    "organizations-update",
    "profiles-create",
    "profiles-assign",
    "releases-create",
    "releases-approve",
    "releases-publish",
    "releases-withdraw",
    "rules-edit",
    "rules-reevaluate",
    "rollouts-create",
    "rollouts-start",
    "rollouts-pause",
    "rollouts-resume",
    "rollouts-cancel",
    "sessions-open",
    "sessions-close",
    "sessions-token_reused",
    "terminals-create",
    "terminals-enrol",
    "terminals-import",
    "terminals-issue_codes",
    "terminals-lifecycle",
    "terminals-update",
    "imports-upload",
    "imports-start",
    "imports-cancel",
    "imports-done",
    "imports-fail",
    "feed-channel-create",
    "feed-channel-secret",
    "feed-channel-delete",
    "merchants-create",
    "merchants-update",
    "merchants-number-request",
    "merchants-number-approve",
    "merchants-number-foreign",
    "merchants-number-reopen",
    "terminals-binding",
];

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
        ("missing", names(&["started", "health", "outcome", "controls", "soak", "watched", "scope"])),
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
        ("rule", names(&Rule::ALL.iter().map(|rule| rule.as_str()).collect::<Vec<_>>())),
        ("fact", names(&super::super::verdict::FACTS)),
        ("table", names(&TableName::ALL.map(TableName::as_str))),
        ("incident-kind", names(&incidents::Kind::ALL.map(incidents::Kind::as_str))),
        ("incident-title", names(&incidents::Kind::ALL.map(incidents::Kind::as_str))),
        (
            "incident-event",
            names(&["open", "reopen", "raise", "acknowledge", "mitigate", "resolve", "assign", "note", "remind"]),
        ),
        ("level", names(&incidents::Level::ALL.map(incidents::Level::as_str))),
        ("alert", names(&AlertKind::ALL.map(AlertKind::as_str))),
        ("alert-state", names(&AlertState::ALL.map(AlertState::as_str))),
        ("evidence", names(&[&evidence::WORDS[..], &evidence::VERDICTS].concat())),
        ("actor", names(&["operator", "api_key", "terminal", "system"])),
        (
            "object",
            names(&[
                "terminal",
                "rollout",
                "release",
                "organization",
                "operator",
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
            ]),
        ),
        ("pack-field", names(&super::super::pack_words::FIELDS)),
        ("pack-why", names(&super::super::pack_words::WHYS)),
        ("pack-part", names(&["network", "device", "update", "config"])),
        ("pack-known", names(&["excluded", "possible", "not_checked"])),
        ("pack-reporter", names(&["terminal", "rest", "file"])),
        ("pack-level", names(&["terminal", "L1", "L2", "L3"])),
        ("pack-quality", names(&["ref", "trace", "weak", "none"])),
        ("pack-symptom", names(&classify::Symptom::ALL.iter().map(|each| each.as_str()).collect::<Vec<_>>())),
        ("pack-family", names(&classify::Family::ALL.iter().map(|each| each.as_str()).collect::<Vec<_>>())),
        ("pack-standing", names(&classify::Standing::ALL.iter().map(|each| each.as_str()).collect::<Vec<_>>())),
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
                "acknowledged",
                "taken",
                "mitigated",
                "resolved",
                "noted",
                "mapping_saved",
                "channel_deleted",
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
        ("merchant-class", names(&crate::merchants::RISK_CLASSES)),
        ("reason-field", names(&REASON_FIELDS)),
        ("moment-ago", names(&["seconds", "minutes", "hours", "days"])),
        ("moment-in", names(&["seconds", "minutes", "hours", "days"])),
        ("permission", names(&Permission::ALL.map(Permission::as_str))),
        ("event", names(&EVENTS)),
        ("field", names(&FIELDS)),
        ("deed", names(&DEEDS)),
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

#[test]
fn the_sources_have_no_errors() {
    for language in Language::ALL {
        assert!(FluentResource::try_new(language.source().to_owned()).is_ok(), "{}", language.tag());
    }
}

/// The name of the program, and units that are the same in every language.
const SAME_EVERYWHERE: [&str; 5] = ["Tillward", "dBm", "ms", "SN", "ID"];

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
