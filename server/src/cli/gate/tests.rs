use std::fmt::Write as _;

use clap::Parser;
use serde_json::Value;

use super::*;
use crate::rollouts::gate::tie_order;

/// The command as it is called.
#[derive(Parser)]
struct Program {
    #[command(flatten)]
    gate: GateArgs,
}

fn call(args: &[&str]) -> anyhow::Result<String> {
    let program = Program::try_parse_from([&["gate"], args].concat())?;
    let mut out = Vec::new();
    run(&program.gate, &mut out)?;
    Ok(String::from_utf8(out)?)
}

fn judged_bytes(file: &[u8], args: &[&str]) -> anyhow::Result<Value> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("events.csv");
    std::fs::write(&path, file)?;
    let path = path.to_string_lossy().into_owned();
    Ok(serde_json::from_str(&call(&[&["--events", &path, "--json"], args].concat())?)?)
}

fn judged(file: &str, args: &[&str]) -> Value {
    judged_bytes(file.as_bytes(), args).unwrap()
}

fn refused(file: &str, args: &[&str]) -> String {
    let error = judged_bytes(file.as_bytes(), args).unwrap_err();
    assert!(error.is::<Unreadable>(), "{error:#}");
    error.to_string()
}

/// A draw between 0 and 1 that depends on nothing but its name.
fn unit(name: &str) -> f64 {
    (tie_order(name) >> 11) as f64 / (1_u64 << 53) as f64
}

/// One row an outcome: half of them treated, failing `share` and `share * ratio`.
fn outcomes_file(name: &str, rows: u32, share: f64, ratio: f64) -> String {
    let mut file = "t_ms,terminal,arm,site,model,outcome\n".to_owned();
    for row in 0..rows {
        let draw = |what: &str| unit(&format!("{name}/{what}/{row}"));
        let is_treated = draw("arm") < 0.5;
        let (arm, factor) = if is_treated { ("treated", ratio) } else { ("control", 1.0) };
        let outcome = if draw("outcome") < share * factor { "fail" } else { "ok" };
        let model = if draw("model") < 0.7 { "A" } else { "B" };
        writeln!(file, "{},T{row},{arm},S{},{model},{outcome}", row * 1_000, row / 3).unwrap();
    }
    file
}

#[test]
fn outcomes_of_a_harmless_rollout_do_not_fail_and_those_of_a_harmful_one_fail_early() {
    for number in 0..20 {
        let null = judged(&outcomes_file(&format!("null {number}"), 2_000, 0.02, 1.0), &[]);
        assert_eq!(null["stopped_at_ms"], Value::Null, "file {number}");
        assert_eq!(null["reading"], "trials");
        let harm = judged(&outcomes_file(&format!("harm {number}"), 2_000, 0.02, 5.0), &[]);
        assert_eq!(harm["final"]["verdict"], "fail", "file {number}");
        let (before, all) = (harm["failing_before_stop"].as_u64().unwrap(), harm["failing"].as_u64().unwrap());
        assert!(before * 2 < all, "file {number}: {before} of {all}");
    }
}

#[test]
fn a_simulated_rollout_is_judged_from_its_events() {
    let folder = tempfile::tempdir().unwrap();
    let judge = |scenario: &str| {
        let path = folder.path().join(scenario).to_string_lossy().into_owned();
        call(&["simulate", "--scenario", scenario, "--seed", "3", "--write-events", &path]).unwrap();
        serde_json::from_str::<Value>(&call(&["--events", &path, "--json"]).unwrap()).unwrap()
    };
    let sites = judge("N5");
    assert_eq!(sites["stopped_at_ms"], Value::Null);
    assert!(sites["suppressed"]["suppressed_by_site"].as_u64() > Some(100));
    assert_eq!((&sites["reading"], &sites["strata"]["count"]), (&Value::from("starts"), &Value::from(6)));
    let model = judge("H3");
    assert_eq!(model["stopped"]["worst_scope"], "model=C");
    assert_eq!(model["started"], 9_500);
    assert!(model["failing_before_stop"].as_u64() < Some(60));
    assert_eq!(model["verdicts"][0]["verdict"], "insufficient");
}

/// 40 controls and 40 treated from the start, the failures given as time, terminal and outcome.
fn starts_file(rows: &[(i64, &str, &str)]) -> String {
    let mut file = "t_ms,terminal,arm,site,outcome\n".to_owned();
    for number in 0..40 {
        writeln!(file, "0,C{number},control,,start\n0,T{number},treated,,start").unwrap();
    }
    for (minute, terminal, outcome) in rows {
        let arm = if terminal.starts_with('T') { "treated" } else { "control" };
        writeln!(file, "{},{terminal},{arm},,{outcome}", minute * 60_000).unwrap();
    }
    file
}

#[test]
fn what_is_at_risk_is_counted_just_before_each_failure() {
    // The first: 40 of 80 at risk are treated, so a ratio r weighs r / ((r + 1) / 2); the mean over the ratios.
    let expected = |treated: f64, control: f64| {
        let ratios = crate::rollouts::gate::HARM_RATIOS;
        ratios.iter().map(|r| r * (treated + control) / (r * treated + control)).sum::<f64>() / ratios.len() as f64
    };
    let e = |rows: &[(i64, &str, &str)]| judged(&starts_file(rows), &[])["final"]["e"].as_f64().unwrap();
    assert!((e(&[(1, "T1", "crash")]) - expected(40.0, 40.0)).abs() < 1e-9);
    assert!((e(&[(1, "C1", "end"), (2, "T1", "ok"), (3, "T2", "crash")]) - expected(39.0, 39.0)).abs() < 1e-9);
    let all_left: Vec<_> = (0..40).map(|number| (59, format!("C{number}"))).collect();
    let mut rows: Vec<_> = all_left.iter().map(|(minute, name)| (*minute, name.as_str(), "end")).collect();
    rows.push((60, "T1", "crash"));
    let alone = judged(&starts_file(&rows), &[]);
    assert_eq!(alone["final"]["e"], 1.0);
    assert_eq!(alone["final"]["classes"][0]["without_comparison"], 1);
}

#[test]
fn failures_that_are_no_evidence_are_listed_with_their_reason() {
    let rows = [(1, "T1", "crash"), (2, "T1", "crash"), (3, "T2", "ok"), (4, "T2", "crash"), (61, "T3", "crash")];
    let judged = judged(&starts_file(&rows), &[]);
    assert_eq!(judged["suppressed"], serde_json::json!({"repeated": 1, "not_at_risk": 1, "out_of_window": 1}));
    assert_eq!((&judged["counted"], &judged["failing"]), (&Value::from(1), &Value::from(1)));
    assert!(judged["notes"].to_string().contains("--window-min"));
}

#[test]
fn a_longer_window_can_be_asked_for_and_is_read_off_the_file() {
    let late = [(61, "T3", "crash")];
    assert_eq!(judged(&starts_file(&late), &["--window-min", "90"])["counted"], 1);
    let watched = judged(&starts_file(&[(61, "T3", "crash"), (120, "T4", "ok")]), &[]);
    assert_eq!((&watched["counted"], &watched["settings"]["window_min"]), (&Value::from(1), &Value::from(120)));
}

#[test]
fn failures_of_one_site_count_once_unless_the_rule_is_shortened() {
    let file = "t_ms,terminal,arm,site,outcome\n0,C,control,S1,start\n0,A,treated,S1,start\n0,B,treated,S1,start\n\
                60000,A,treated,S1,fail\n120000,B,treated,S1,fail\n";
    assert_eq!(judged(file, &[])["suppressed"], serde_json::json!({"suppressed_by_site": 1}));
    assert_eq!(judged(file, &["--site-min", "0"])["counted"], 2);
    assert_eq!(judged(&file.replace(",S1,", ",,"), &[])["counted"], 2, "without a site there is no such rule");
}

#[test]
fn failed_updates_are_held_against_the_budget_and_averaged() {
    let rows: Vec<_> = (0..12).map(|number| (number + 1, format!("T{number}"))).collect();
    let rows: Vec<_> = rows.iter().map(|(minute, name)| (*minute, name.as_str(), "rolled_back")).collect();
    let bad = judged(&starts_file(&rows), &[]);
    assert_eq!((&bad["final"]["verdict"], &bad["failed"]), (&Value::from("fail"), &Value::from(12)));
    assert_eq!(bad["started"], 40);
    assert_eq!(judged(&starts_file(&rows), &["--health-only"])["stopped_at_ms"], Value::Null);
    assert_eq!(judged(&starts_file(&rows), &["--outcome-budget", "0.3"])["stopped_at_ms"], Value::Null);
    // A word that controls have too is no outcome of the update.
    let both: Vec<_> = rows.iter().copied().chain([(20, "C1", "rolled_back")]).collect();
    assert_eq!(judged(&starts_file(&both), &[])["final"]["e_outcome"], Value::Null);
}

#[test]
fn without_controls_every_failure_is_held_against_the_budget() {
    let mut file = "t_ms,terminal,arm,outcome\n".to_owned();
    for row in 0..200 {
        writeln!(file, "{row},T{row},treated,{}", if row % 5 == 4 { "fail" } else { "ok" }).unwrap();
    }
    let bad = judged(&file, &[]);
    assert_eq!(bad["final"]["verdict"], "fail");
    assert!(bad["notes"].to_string().contains("no controls"));
    assert_eq!(judged(&file.replace("fail", "ok"), &[])["final"]["verdict"], "insufficient");
}

#[test]
fn payment_failures_are_a_class_of_their_own() {
    let rows = [(1, "T1", "payment_failed"), (2, "T1", "crash"), (3, "C1", "Fail: payment timeout")];
    let classes = &judged(&starts_file(&rows), &[])["final"]["classes"];
    assert_eq!(classes[0]["class"], "hard");
    assert_eq!((&classes[0]["treated_failures"], &classes[0]["control_failures"]), (&Value::from(1), &Value::from(1)));
    assert_eq!((&classes[1]["class"], &classes[1]["treated_failures"]), (&Value::from("payment"), &Value::from(1)));
}

#[test]
fn spellings_line_ends_separators_and_encodings_do_not_matter() {
    let plain = outcomes_file("spelling", 600, 0.05, 4.0);
    let expected = judged(&plain, &[]);
    let header = plain.replacen("t_ms,terminal,arm,site,model,outcome", " T_MS ,Terminal,ARM,Site, Model,Outcome", 1);
    let spelled =
        header.replace(",treated,", ", Updated ,").replace(",control,", ",Hold-Back,").replace(",fail", ",FAILED");
    for file in [
        format!("\u{feff}{}", spelled.replace('\n', "\r\n")),
        plain.replace(',', ";"),
        plain.replace(',', "\t"),
        plain.replace('\n', "\n\n"),
    ] {
        let got = judged(&file, &[]);
        for field in ["stopped_at_ms", "failing_before_stop", "counted", "suppressed", "started"] {
            assert_eq!(got[field], expected[field], "{field}");
        }
    }
    let chinese = encoding_rs::GB18030.encode(&plain.replace(",A,", ",百富,")).0.into_owned();
    assert_eq!(judged_bytes(&chinese, &[]).unwrap()["counted"], expected["counted"]);
}

#[test]
fn scope_columns_may_be_none_or_many_and_the_strata_can_be_named() {
    let plain = outcomes_file("scopes", 1_200, 0.02, 1.0);
    assert_eq!(judged(&plain, &[])["scopes"].as_array().map(Vec::len), Some(2));
    let none: String = plain
        .lines()
        .map(|line| {
            line.split(',').enumerate().filter(|(at, _)| *at != 4).map(|(_, f)| f).collect::<Vec<_>>().join(",") + "\n"
        })
        .collect();
    let bare = judged(&none, &[]);
    assert_eq!((&bare["scopes"], &bare["strata"]["count"]), (&serde_json::json!([]), &Value::from(1)));
    // A column in which every terminal differs is neither a scope nor a stratum.
    let many: String = plain
        .lines()
        .enumerate()
        .map(|(row, line)| if row == 0 { format!("{line},serial\n") } else { format!("{line},X{row}\n") })
        .collect();
    let many = judged(&many, &[]);
    assert_eq!(many["scopes"].as_array().map(Vec::len), Some(2));
    assert_eq!(many["strata"]["columns"], serde_json::json!(["model"]));
    assert_eq!(judged(&plain, &["--strata", "Model"])["strata"]["count"], 2);
    assert!(refused(&plain, &["--strata", "color"]).contains("\"color\"; the file has: model"));
}

#[test]
fn a_file_that_cannot_be_read_is_refused_with_its_line() {
    let head = "t_ms,terminal,arm,outcome\n";
    for (file, problem) in [
        (String::new(), "the file is empty"),
        (head.to_owned(), "no rows"),
        ("t_ms,terminal,outcome\n1,A,ok\n".to_owned(), "line 1: there is no column \"arm\""),
        ("t_ms,terminal,arm,outcome,Arm\n".to_owned(), "line 1: the column \"Arm\" stands there twice"),
        (format!("{head}1,A,treated,ok\n0,B,control,ok\n"), "line 3: is earlier than the row above it; sort"),
        (format!("{head}1,A,both,ok\n"), "line 2: the arm \"both\" is not known; use treated"),
        (format!("{head}1,A,treated,maybe\n"), "line 2: the outcome \"maybe\" is not known; use start"),
        (format!("{head}now,A,treated,ok\n"), "line 2: the time \"now\" is no number of milliseconds"),
        (format!("{head}1,,treated,ok\n"), "line 2: names no terminal"),
        (format!("{head}1,A,treated\n"), "line 2: has 3 fields, the header 4"),
        (format!("{head}1,A,treated,ok,more\n"), "line 2: has 5 fields, the header 4"),
    ] {
        let error = refused(&file, &[]);
        assert!(error.contains(problem), "{error} does not say {problem}");
    }
    assert!(refused(&format!("{head}1,A,treated,ok\n"), &["--reading", "starts"]).contains("no start rows"));
    let missing = call(&["--events", "/nowhere/events.csv"]).unwrap_err();
    assert!(missing.is::<Unreadable>() && missing.to_string().contains("/nowhere/events.csv"));
}

#[test]
fn impossible_arguments_are_refused() {
    for args in [
        &["--events", "x", "--alpha", "1"][..],
        &["--events", "x", "--alpha", "none"],
        &["--events", "x", "--outcome-budget", "0"],
        &["--events", "x", "--window-min", "0"],
        &["simulate", "--write-events", "x"],
        &["simulate", "--runs", "0"],
        &[],
    ] {
        assert!(call(args).is_err(), "{args:?}");
    }
    assert!(call(&["simulate", "--scenario", "H9"]).unwrap_err().to_string().contains("N1 to N6 or H1 to H4"));
}

#[test]
fn a_smaller_alpha_needs_more_evidence() {
    let file = outcomes_file("alpha", 2_000, 0.02, 5.0);
    let at = |alpha: &str| judged(&file, &["--alpha", alpha])["stopped_at_ms"].as_i64().unwrap();
    assert!(at("0.05") < at("0.0001"));
}

#[test]
fn people_get_the_sequence_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.csv");
    std::fs::write(&path, outcomes_file("words", 2_000, 0.02, 5.0)).unwrap();
    let text = call(&["--events", &path.to_string_lossy()]).unwrap();
    for part in
        ["read as trials", "insufficient", "fail ", "stopped at ", "failing updated terminals", "fails at evidence 100"]
    {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
}

#[test]
fn the_simulation_prints_a_table_or_one_object() {
    let args = ["simulate", "--runs", "2", "--scenario", "n6", "--scenario", "h4"];
    let table = call(&args).unwrap();
    assert!(table.contains("| rule | false stops %, N6 | failing terminals H4"), "{table}");
    let json: Value = serde_json::from_str(&call(&[&args[..], &["--json"]].concat()).unwrap()).unwrap();
    assert_eq!((&json["runs"], &json["scenarios"][1]["name"]), (&Value::from(2), &Value::from("H4")));
}
