//! The rules by their table of cases, and what holds for all of them.

use std::collections::{BTreeMap, BTreeSet};

use tillward_protocol::checkin::{BootReason, Tamper};
use tillward_protocol::condition::{Access, Registration};
use tillward_protocol::failure::{OperatorAction, ResponseSource, Stage};

use super::*;

const CASES: &str = include_str!("cases.txt");
const BOUND: &str = "850331053110612";

fn tables() -> Tables {
    RawTables::seed().unwrap().parse().unwrap()
}

struct Case {
    line: usize,
    rule: String,
    kind: String,
    facts: BTreeMap<String, String>,
    expected: String,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (number, line) in CASES.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let parts: Vec<&str> = line.split('|').map(str::trim).collect();
        let [name, facts, expected] = parts[..] else { panic!("line {}: three columns", number + 1) };
        let (rule, kind) = name.split_once(char::is_whitespace).unwrap();
        let facts = facts.split_whitespace().map(|fact| {
            let (key, value) = fact.split_once('=').unwrap();
            (key.to_owned(), value.to_owned())
        });
        cases.push(Case {
            line: number + 1,
            rule: rule.to_owned(),
            kind: kind.trim().to_owned(),
            facts: facts.collect(),
            expected: expected.split_whitespace().collect::<Vec<_>>().join(" "),
        });
    }
    cases
}

fn ms(text: &str) -> i64 {
    let (number, unit) = text.split_at(text.len() - 1);
    number.parse::<i64>().unwrap() * if unit == "h" { 3_600_000 } else { 1000 }
}

fn yes(text: &str) -> bool {
    ["yes", "fine", "ok"].contains(&text)
}

fn event(facts: &BTreeMap<String, String>) -> EventFacts {
    let mut f = EventFacts::default();
    for (key, value) in facts {
        let number = || value.parse().unwrap();
        let before = || Some(Happened::BeforeMs(ms(value)));
        match key.as_str() {
            "stage" => f.stage = Stage::ALL.into_iter().find(|stage| stage.as_str() == value),
            "code" => f.response_code = Some(value.clone()),
            "source" => f.response_source = (value == "issuer").then_some(ResponseSource::Issuer),
            "amount" => f.amount_fen = Some(value.parse().unwrap()),
            "approved" => f.approved_fen = Some(value.parse().unwrap()),
            "operator" => {
                f.operator_action = Some(match value.as_str() {
                    "cancel" => OperatorAction::Cancel,
                    "timeout" => OperatorAction::Timeout,
                    _ => OperatorAction::Reenter,
                });
            }
            "access" => f.condition.access = Access::ALL.into_iter().find(|access| access.as_str() == value),
            "rsrp" => f.condition.rsrp_dbm = Some(number()),
            "sinr" => f.condition.sinr_db = Some(number()),
            "rssi" => f.condition.rssi_dbm = Some(number()),
            "registration" => {
                f.condition.registration = Some(if yes(value) { Registration::Ok } else { Registration::Searching });
            }
            "apn" => f.condition.apn_ok = Some(yes(value)),
            "rtt" => f.condition.rtt_ms = Some(value.parse().unwrap()),
            "clock" => f.condition.clock_offset_ms = Some(ms(value)),
            "cert" => f.certificate_expired_ms = Some(ms(value)),
            "reconnects" => f.reconnects_10min = Some(value.parse().unwrap()),
            "unreachable" => f.all_hosts_unreachable = Some(yes(value)),
            "month" => f.month_bytes = Some(value.parse().unwrap()),
            "quota" => f.quota_bytes = Some(value.parse().unwrap()),
            "iccid" => f.iccid_changed = before(),
            "imei" => f.imei_changed = before(),
            "config" => f.config_changed = before(),
            "version" => f.version_changed = before(),
            "update" => {
                f.own_update = Some(match value.as_str() {
                    "not" => OwnUpdate::Not,
                    "under_way" => OwnUpdate::UnderWay,
                    _ => OwnUpdate::EndedBeforeMs(ms(value)),
                });
            }
            "boot" => {
                let (reason, at) = value.split_once(':').unwrap();
                let reason = match reason {
                    "watchdog" => BootReason::Watchdog,
                    "panic" => BootReason::Panic,
                    "low_battery" => BootReason::LowBattery,
                    _ => BootReason::PowerOn,
                };
                f.boot = Some(Boot { reason, before_ms: ms(at) });
            }
            "tamper" => {
                f.tamper = Some(match value.as_str() {
                    "ok" => Tamper::Ok,
                    "mask" => Tamper::Mask,
                    _ => Tamper::Triggered,
                });
            }
            "ped" => f.ped_ok = Some(yes(value)),
            "reader" => {
                let (errors, tries) = value.split_once('/').unwrap();
                f.reader = Some(ReaderCounts { errors: errors.parse().unwrap(), tries: tries.parse().unwrap() });
            }
            "run" => {
                let (failures, entries) = value.split_once(':').unwrap();
                f.card_read_run =
                    Some(CardReadRun { failures: failures.parse().unwrap(), entries: entries.parse().unwrap() });
            }
            "signed_in" => f.signed_in = Some(yes(value)),
            "peers" => f.peers_fine = Some(yes(value)),
            "outage" => f.bank_outage = Some(yes(value)),
            "same_code" => f.same_code_day = Some(value.parse().unwrap()),
            "merchant_code" => f.merchant_code_day = Some(value.parse().unwrap()),
            other => panic!("{other} is no fact of an event"),
        }
    }
    f
}

fn settlement(facts: &BTreeMap<String, String>) -> SettlementFacts {
    let get = |key: &str| facts.get(key).map(String::as_str);
    let fen = |key: &str| get(key).map(|text| text.parse::<i64>().unwrap());
    let row = FeedRow {
        status: match get("status") {
            Some("processing") => FeedStatus::Processing,
            Some("failure") => FeedStatus::Failure,
            _ => FeedStatus::Success,
        },
        merchant_no: get("settled").map(str::to_owned),
        merchant_name: get("name").map(str::to_owned),
        mcc_cleared: get("mcc").map(str::to_owned),
        amount_fen: fen("amount"),
        settle_amount_fen: fen("settle"),
        fee_fen: fen("fee"),
        withdraw_fee_fen: fen("withdraw"),
        rate_ppm: None,
        capped: get("capped").map(yes),
        second_orders: get("seconds").map(|text| {
            let amounts = text.split(',').filter(|text| !text.is_empty());
            amounts.map(|text| SecondOrder { kind: "sim".to_owned(), amount_fen: text.parse().unwrap() }).collect()
        }),
        success_at_ms: None,
    };
    let binding = Binding {
        merchant_no: get("bound").unwrap_or(BOUND).to_owned(),
        merchant_name: get("bound_name").map(str::to_owned),
        mcc: get("merchant_mcc").map(str::to_owned),
        risk_class: None,
        aliases: get("aliases").into_iter().flat_map(|text| text.split(',')).map(str::to_owned).collect(),
        contracted_rate_ppm: fen("rate"),
    };
    SettlementFacts {
        row: (get("row") != Some("none")).then_some(row),
        level: get("level").and_then(EvidenceLevel::parse),
        binding: (get("bound") != Some("none")).then_some(binding),
        number_known: get("known").map(|text| match text {
            "foreign" => NumberKnown::Foreign,
            "other_merchant" => NumberKnown::OtherMerchant,
            _ => NumberKnown::Unjudged,
        }),
        merchant_no_sent: get("sent").map(str::to_owned),
        config_drift: get("drift").map(yes),
        terminal: get("terminal").map(|text| match text.split_once(':') {
            Some((_, cause)) => TerminalSide::Failed(Cause::parse(cause)),
            None if text == "succeeded" => TerminalSide::Succeeded,
            None if text == "not_seen" => TerminalSide::NotSeen,
            None => panic!("{text} is no side"),
        }),
        age_ms: get("age").map(ms),
        reversal_pending_ms: get("reversal").map(ms),
    }
}

fn is_settlement(rule: &str) -> bool {
    ["R1", "R1a", "R1b", "R1c", "R2", "R2a", "R2b", "R11"].contains(&rule)
}

fn judged(case: &Case, tables: &Tables) -> Judgement {
    if is_settlement(&case.rule) {
        judge_settlement(&settlement(&case.facts), tables)
    } else {
        judge_event(&event(&case.facts), tables)
    }
}

/// What is wrong with a judgement; nothing when it is as expected.
fn differs(judgement: &Judgement, expected: &str) -> Option<String> {
    let (first, others) = expected.split_once(" ; ").unwrap_or((expected, ""));
    let words: Vec<&str> = first.split(' ').collect();
    let verdict = judgement.verdict.as_ref();
    if words == ["-"] {
        return verdict.map(|verdict| format!("{} {}", verdict.rule.as_str(), verdict.cause.as_str()));
    }
    let Some(verdict) = verdict else { return Some("no verdict".to_owned()) };
    let mut findings = String::new();
    for (index, word) in words.iter().enumerate() {
        let is_so = match (index, *word) {
            (0, rule) => verdict.rule.as_str() == rule,
            (1, cause) => verdict.cause.as_str() == cause,
            (2, symptom) => verdict.symptom.as_str() == symptom,
            (_, word) if word.starts_with("root=") => verdict.root.map(Cause::as_str) == word.strip_prefix("root="),
            (_, word) if word.starts_with("finding=") => {
                findings = word.trim_start_matches("finding=").to_owned();
                true
            }
            (_, word) => {
                let segments: Vec<&str> = verdict.segments.iter().map(|segment| segment.as_str()).collect();
                Severity::parse(word) == Some(verdict.severity)
                    || Standing::parse(word) == Some(verdict.standing)
                    || word.parse() == Ok(verdict.confidence)
                    || segments.join("+") == word
            }
        };
        if !is_so {
            return Some(format!("{word}: {verdict:?}"));
        }
    }
    if !words.iter().any(|word| word.starts_with("root=")) && verdict.root.is_some() {
        return Some(format!("root: {verdict:?}"));
    }
    let found: Vec<&str> = judgement.findings.iter().map(|finding| finding.kind.as_str()).collect();
    if found.join("+") != findings {
        return Some(format!("findings: {found:?}"));
    }
    let alternatives: Vec<String> =
        judgement.alternatives.iter().map(|v| format!("{} {}", v.rule.as_str(), v.cause.as_str())).collect();
    (alternatives.join(", ") != others).then(|| format!("alternatives: {alternatives:?}"))
}

#[test]
fn every_case_of_the_table_is_judged_as_written() {
    let tables = tables();
    let wrong: Vec<String> = cases()
        .iter()
        .filter_map(|case| {
            let wrong = differs(&judged(case, &tables), &case.expected)?;
            Some(format!("line {}, {} {}: {wrong}", case.line, case.rule, case.kind))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rule_has_a_hit_a_near_miss_and_a_conflict() {
    let cases = cases();
    for rule in Rule::ALL {
        for kind in ["hit", "near", "conflict"] {
            let n = cases.iter().filter(|case| case.rule == rule.as_str() && case.kind == kind).count();
            assert!(n > 0, "{} has no {kind}", rule.as_str());
        }
        // A hit is a hit of this very rule, as verdict or root.
        for case in cases.iter().filter(|case| case.rule == rule.as_str() && case.kind == "hit") {
            let is_hit = case.expected.starts_with(&format!("{} ", rule.as_str()));
            assert!(is_hit || (*rule == Rule::R4b && case.expected.contains("root=")), "line {}", case.line);
        }
    }
}

/// All event cases mixed with each other: each pair's facts together.
fn mixed_events() -> Vec<EventFacts> {
    let cases = cases();
    let events: Vec<&Case> = cases.iter().filter(|case| !is_settlement(&case.rule)).collect();
    let mut mixed = Vec::new();
    for one in &events {
        for other in &events {
            let mut facts = one.facts.clone();
            facts.extend(other.facts.clone());
            mixed.push(event(&facts));
        }
    }
    mixed
}

#[test]
fn nothing_that_a_terminal_sees_ever_speaks_of_another_merchant_or_of_short_money() {
    let tables = tables();
    for facts in mixed_events() {
        for verdict in judge_event(&facts, &tables).matches() {
            assert_ne!(verdict.symptom, Symptom::Switch, "{facts:?}");
            assert_ne!(verdict.symptom, Symptom::Fee, "{facts:?}");
            assert!(verdict.symptom != Symptom::Amount || verdict.cause == Cause::BnkPartial, "{facts:?}");
            if verdict.cause.family() == Family::Chn {
                assert_eq!(verdict.cause, Cause::ChnBinding, "{facts:?}");
            }
        }
    }
}

#[test]
fn another_merchant_is_the_channels_or_the_parameters_and_never_the_networks() {
    let tables = tables();
    for case in cases().iter().filter(|case| is_settlement(&case.rule)) {
        for verdict in judged(case, &tables).matches() {
            if verdict.symptom == Symptom::Switch {
                let allowed = [Cause::ChnSwitch, Cause::ChnMcc, Cause::UpgConfigDrift];
                assert!(allowed.contains(&verdict.cause), "line {}", case.line);
            }
            if matches!(verdict.cause, Cause::ChnFee | Cause::ChnFeeSuspect) {
                assert_eq!(verdict.symptom, Symptom::Fee, "a fee is no fault: line {}", case.line);
                assert!(verdict.severity <= Severity::Low, "line {}", case.line);
            }
        }
    }
}

#[test]
fn a_tampered_terminal_raises_its_own_finding_whatever_else_matched() {
    let tables = tables();
    for mut facts in mixed_events() {
        facts.tamper = Some(Tamper::Triggered);
        let kinds: Vec<FindingKind> = judge_event(&facts, &tables).findings.iter().map(|f| f.kind).collect();
        assert_eq!(kinds, [FindingKind::Tamper], "{facts:?}");
    }
}

#[test]
fn the_first_match_in_the_order_of_the_rules_is_the_verdict() {
    let tables = tables();
    for facts in mixed_events() {
        let judgement = judge_event(&facts, &tables);
        let rules: Vec<Rule> = judgement.matches().map(|verdict| verdict.rule).collect();
        assert!(rules.is_sorted(), "{rules:?}");
        let causes: BTreeSet<Cause> = judgement.matches().map(|verdict| verdict.cause).collect();
        assert_eq!(causes.len(), rules.len(), "{facts:?}");
        assert!(judgement.matches().all(|verdict| !verdict.reasons.is_empty()), "{facts:?}");
    }
}

#[test]
fn what_is_not_available_is_named_and_never_matches() {
    let tables = tables();
    assert_eq!(judge_event(&EventFacts::default(), &tables).verdict, None);
    let lacks = |facts: EventFacts| {
        let judgement = judge_event(&facts, &tables);
        judgement.not_checked.into_iter().map(|lack| (lack.rule, lack.missing)).collect::<BTreeSet<_>>()
    };
    let at = |stage| EventFacts { stage: Some(stage), ..EventFacts::default() };
    let wait = lacks(at(Stage::Wait));
    for field in ["peers_fine", "rtt_ms", "bank_outage"] {
        assert!(wait.contains(&(Rule::R5, field.to_owned())), "{field}: {wait:?}");
    }
    assert!(lacks(at(Stage::CardRead)).contains(&(Rule::R7, "reader".to_owned())));
    assert!(lacks(at(Stage::Tls)).contains(&(Rule::R4, "access".to_owned())));
    assert!(lacks(at(Stage::Pack)).contains(&(Rule::R9, "tamper".to_owned())));
    assert!(lacks(at(Stage::Pack)).contains(&(Rule::R3, "own_update".to_owned())));
    let row = |facts: &[(&str, &str)]| {
        let facts = facts.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        judge_settlement(&settlement(&facts), &tables).not_checked
    };
    let all = row(&[("bound", "none")]);
    for rule in [Rule::R1b, Rule::R1, Rule::R1a, Rule::R1c] {
        assert!(all.contains(&NotChecked { rule, missing: "binding".to_owned() }), "{rule:?}");
    }
    assert!(
        row(&[("row", "none")]).contains(&NotChecked { rule: Rule::R11, missing: "terminal_successes".to_owned() })
    );
    let unseen = row(&[("settled", "850331053990612")]);
    assert!(unseen.contains(&NotChecked { rule: Rule::R1b, missing: "merchant_no_sent".to_owned() }));
}

#[test]
fn a_code_that_is_in_no_table_is_shown_as_it_is() {
    let facts =
        EventFacts { response_code: Some("Z9".to_owned()), stage: Some(Stage::HostResp), ..EventFacts::default() };
    let verdict = judge_event(&facts, &tables()).verdict.unwrap();
    assert_eq!((verdict.cause, verdict.reasons[0].observed.as_str()), (Cause::Unknown, "Z9"));
    assert_eq!(verdict.reasons[0].threshold, "unmapped");
}

#[test]
fn the_change_of_day_is_no_news_at_night() {
    let tables = tables();
    let severity = |minute| {
        let facts = EventFacts {
            response_code: Some("90".to_owned()),
            stage: Some(Stage::HostResp),
            local_minute: minute,
            ..EventFacts::default()
        };
        let verdict = judge_event(&facts, &tables).verdict.unwrap();
        assert_eq!(verdict.cause, Cause::BnkCutover);
        verdict.severity
    };
    for minute in [1380, 1439, 0, 30] {
        assert_eq!(severity(Some(minute)), Severity::Info, "{minute}");
    }
    for minute in [Some(1379), Some(31), Some(720), None] {
        assert_eq!(severity(minute), Severity::Low, "{minute:?}");
    }
}

#[test]
fn every_value_is_found_by_its_own_name() {
    for cause in Cause::ALL {
        assert_eq!(Cause::parse(cause.as_str()), Some(*cause));
        assert!(cause.as_str() == "UNK" || cause.family() != Family::Unk, "{}", cause.as_str());
    }
    for rule in Rule::ALL {
        assert_eq!(Rule::parse(rule.as_str()), Some(*rule));
    }
    assert_eq!(Cause::parse("CHN"), None);
}

#[test]
fn every_row_shipped_says_where_it_comes_from() {
    let raw = RawTables::seed().unwrap();
    for name in TableName::ALL {
        let table = raw.table(name).unwrap();
        assert!(table.rows.len() >= 5, "{}", name.as_str());
        for (key, row) in &table.rows {
            for column in ["source", "date", "source_confidence"] {
                assert!(row.get(column).is_some_and(|text| !text.is_empty()), "{} {key} {column}", name.as_str());
            }
        }
    }
    let tables = tables();
    for cause in Cause::ALL {
        let row = &tables.causes[cause];
        let texts = [&row.name_zh, &row.name_en, &row.advice_zh, &row.advice_en];
        assert!(texts.iter().all(|text| !text.is_empty()), "{}", cause.as_str());
    }
    let conflict = &raw.table(TableName::Institutions).unwrap().rows["822"];
    assert!(conflict["name"].contains("拉卡拉") && conflict["note"].contains("834"));
}

#[test]
fn every_code_of_the_reference_table_has_its_cause() {
    let tables = tables();
    for (codes, cause) in [
        ("A2 A4 A5 A6", Some(Cause::BnkDeferred)),
        ("01 05 06 20 21 23 31 39 42 44 52 53 56 59 60 62 63 66 67", Some(Cause::BnkIssuer)),
        ("14 15 34 41 43 51 54", Some(Cause::BnkCard)),
        ("38 55 75", Some(Cause::OprPin)),
        ("13 64", Some(Cause::OprAmount)),
        ("61 65", Some(Cause::BnkLimit)),
        ("22", Some(Cause::OprNotSignedIn)),
        ("03 97", Some(Cause::ChnBinding)),
        ("40 57 58", Some(Cause::BnkIssuer)),
        ("30", Some(Cause::DevFormat)),
        ("99 A0 A7 A8 A9", Some(Cause::DevKey)),
        ("94", Some(Cause::DevTraceReuse)),
        ("90", Some(Cause::BnkCutover)),
        ("68 98", Some(Cause::BnkTimeout)),
        ("91 92 96", Some(Cause::BnkSwitch)),
        ("00 10 11 16", None),
    ] {
        for code in codes.split(' ') {
            let row = &tables.codes[code];
            assert_eq!(row.cause, cause, "{code}");
            assert!((0.8..=0.95).contains(&row.confidence), "{code}");
            assert!(!row.meaning_zh.is_empty() && !row.advice_zh.is_empty() && !row.advice_en.is_empty(), "{code}");
        }
    }
}

fn change(table: TableName, key: &str, columns: Option<&[(&str, &str)]>) -> Override {
    let row = columns.map(|columns| columns.iter().map(|(c, v)| ((*c).to_owned(), (*v).to_owned())).collect());
    Override { table, key: key.to_owned(), row }
}

#[test]
fn an_override_changes_what_it_names_and_the_version() {
    let seed = RawTables::seed().unwrap();
    let version = seed.version();
    assert_eq!(RawTables::seed().unwrap().version(), version);
    let changed =
        seed.clone().with(&[change(TableName::Thresholds, "weak_rsrp_dbm", Some(&[("value", "-110")]))]).unwrap();
    assert_ne!(changed.version(), version);
    let tables = changed.parse().unwrap();
    assert_eq!((tables.thresholds.weak_rsrp_dbm, tables.thresholds.weak_sinr_db), (-110, -3));
    assert_eq!(tables.version, changed.version());
    let row: &[(&str, &str)] =
        &[("meaning_zh", "私有码"), ("cause", "BNK.SWITCH"), ("confidence", "0.8"), ("path_proven", "yes")];
    let added = seed.clone().with(&[change(TableName::ResponseCodes, "Z9", Some(row))]).unwrap().parse().unwrap();
    assert_eq!(added.codes["Z9"].cause, Some(Cause::BnkSwitch));
    let removed = seed.clone().with(&[change(TableName::FlatFees, "9900", None)]).unwrap().parse().unwrap();
    assert!(!removed.flat_fees_fen.contains(&9900) && removed.flat_fees_fen.contains(&19_900));
    let later =
        [change(TableName::FlatFees, "9900", None), change(TableName::FlatFees, "9900", Some(&[("name", "x")]))];
    assert!(seed.with(&later).unwrap().parse().unwrap().flat_fees_fen.contains(&9900));
}

#[test]
fn an_override_that_makes_no_sense_is_refused_with_its_place() {
    let seed = RawTables::seed().unwrap();
    let long = "长".repeat(CELL_CHARS_MAX + 1);
    for (table, key, columns, column) in [
        (TableName::Thresholds, "weak_rsrp_dbm", Some(&[("value", "loud")][..]), "value"),
        (TableName::Thresholds, "weak_rsrp_dbm", Some(&[("value", "12")][..]), "value"),
        (TableName::Thresholds, "weak_rsrp_dbm", None, "value"),
        (TableName::Thresholds, "surprise", Some(&[("value", "1")][..]), "name"),
        (TableName::Thresholds, "weak_rsrp_dbm", Some(&[("colour", "red")][..]), "colour"),
        (TableName::ResponseCodes, "51", Some(&[("cause", "NET.MOON")][..]), "cause"),
        (TableName::ResponseCodes, "51", Some(&[("confidence", "1.5")][..]), "confidence"),
        (TableName::ResponseCodes, "51", Some(&[("note", long.as_str())][..]), "note"),
        (TableName::ResponseCodes, "512", Some(&[("path_proven", "no"), ("confidence", "1")][..]), "code"),
        (TableName::ResponseCodes, "", Some(&[("note", "x")][..]), "code"),
        (TableName::MccClasses, "5311", Some(&[("class", "cheap")][..]), "class"),
        (TableName::MccClasses, "53", Some(&[("class", "standard")][..]), "mcc"),
        (TableName::FlatFees, "free", Some(&[("name", "x")][..]), "amount_fen"),
    ] {
        let error = seed.clone().with(&[change(table, key, columns)]).and_then(|raw| raw.parse()).unwrap_err();
        assert_eq!((error.table, error.key.as_str(), error.column.as_str()), (table, key, column), "{error}");
    }
}
