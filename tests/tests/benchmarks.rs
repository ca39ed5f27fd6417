//! The benchmarks run, and what they print makes sense; how fast anything is says nothing here.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use serde_json::Value;
use tillward_tests::programs;

const TERMINALS: i64 = 2_000;

/// `tillward bench planner` over a small fleet.
fn planner(more: &[&str]) -> Value {
    let mut command = programs::command(&programs::tillward());
    let terminals = TERMINALS.to_string();
    command.args(["bench", "planner", "--terminals", &terminals, "--seconds", "1", "--connections", "8", "--json"]);
    command.args(more);
    let output = programs::run(command, Duration::from_secs(240));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn check(result: &Value) {
    assert_eq!(result["admitted"], TERMINALS, "{result}");
    // One, ten, fifty and a hundred per cent of what is not held back.
    let stages: Vec<i64> =
        result["stages"].as_array().unwrap().iter().map(|stage| stage["terminals"].as_i64().unwrap()).collect();
    assert_eq!(stages, [19, 190, 950, 1_900]);
    // The gate let the next stage open, after the evidence of both sides.
    assert_eq!(result["gate"]["updated"], TERMINALS / 5);
    assert!(result["gate"]["weighed"].as_u64().unwrap() > 10 && result["gate"]["p_health"].as_f64().unwrap() >= 20.0);
    for part in result["parts"].as_array().unwrap() {
        let name = part["name"].as_str().unwrap();
        assert_eq!(part["failed"], 0, "{name}");
        let is_driven = !["preview", "the gate"].contains(&name);
        assert_eq!(part["check_ins_per_s"].as_f64().is_some_and(|rate| rate > 0.0), is_driven, "{name}");
        assert!(!is_driven || part["transactions"]["count"].as_i64().unwrap() > 0, "{name}");
        assert!(part["statements"]["count"].as_i64().unwrap() > 0, "{name}");
    }
    assert!(result["ratio"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_rollout_beside_check_ins_is_measured_on_sqlite() {
    let report = planner(&[]);
    assert_eq!(report["results"][0]["database"], "sqlite");
    check(&report["results"][0]);
}

#[test]
fn a_rollout_beside_check_ins_is_measured_on_postgresql() {
    let Ok(server) = std::env::var("TILLWARD_TEST_POSTGRES") else {
        tillward_tests::skip("the planner's benchmark on PostgreSQL", "set TILLWARD_TEST_POSTGRES=postgres://…");
        return;
    };
    let report = planner(&["--postgres", &server, "--postgres-only"]);
    assert_eq!(report["results"][0]["database"], "postgresql");
    check(&report["results"][0]);
}
