//! Who may import whom. The rules are those of the code map in the README; a new edge is a decision, not an accident.

#![allow(clippy::expect_used)] // A workspace without its folders is a broken checkout.

use std::fs;
use std::path::{Path, PathBuf};

/// A thing that only some files may name.
struct Rule {
    /// What is looked for in the code, outside comments and tests.
    names: &'static [&'static str],
    /// Below which folder the rule holds.
    within: &'static str,
    /// Where it is allowed: a path, a folder that ends with `/`, or `*/name`.
    allowed: &'static [&'static str],
}

const RULES: &[Rule] = &[
    // SQL has one kind of home.
    Rule {
        names: &["diesel::", "diesel_migrations::"],
        within: "server/src/",
        allowed: &["server/src/db/", "*/store.rs", "*/store/", "server/src/checkin/writer/"],
    },
    // So has the web framework. The programs start its runtime; the simulator starts whole servers.
    Rule {
        names: &["actix_web::"],
        within: "server/src/",
        allowed: &[
            "server/src/http/",
            "*/http.rs",
            "*/http/",
            "server/src/console/",
            "server/src/app.rs",
            "server/src/main.rs",
            "server/src/cli/",
            "server/src/simulate/",
        ],
    },
    // Whatever decides takes `now` as a value.
    Rule {
        names: &["SystemTime::now", "Timestamp::now", "Zoned::now"],
        within: "server/src/",
        allowed: &["server/src/clock.rs"],
    },
    Rule {
        names: &["std::env::", "env::var"],
        within: "server/src/",
        allowed: &["server/src/config.rs", "server/src/main.rs", "server/src/simulate/"],
    },
    Rule {
        names: &["tillward_agent::"],
        within: "server/src/",
        allowed: &["server/src/simulate/", "server/src/main.rs"],
    },
    Rule { names: &["crate::simulate", "super::simulate"], within: "server/src/", allowed: &["server/src/cli/"] },
    Rule { names: &["tillward_server::", "tillward_agent::"], within: "protocol/src/", allowed: &[] },
    Rule { names: &["tillward_server::", "actix_web::", "tokio::", "diesel::"], within: "agent/src/", allowed: &[] },
    Rule { names: &["tillward_server::", "tillward_agent::"], within: "tests/", allowed: &[] },
    Rule {
        names: &["std::fs", "std::net", "std::env", "SystemTime", "Instant::now"],
        within: "protocol/src/",
        allowed: &[],
    },
];

/// Files that compute and nothing else: they may use the protocol, the standard library and their own kind.
const PURE: &[&str] = &[
    "server/src/rollouts/state.rs",
    "server/src/rollouts/assignment.rs",
    "server/src/rollouts/gate/mod.rs",
    "server/src/rollouts/gate/estimate.rs",
    "server/src/rollouts/gate/fold.rs",
    "server/src/rollouts/gate/health.rs",
    "server/src/rollouts/gate/outcome.rs",
    "server/src/rollouts/gate/screen.rs",
    "server/src/rollouts/gate/strata.rs",
    "server/src/rollouts/gate/verdict.rs",
    "server/src/rollouts/strategy.rs",
    "server/src/failures/question.rs",
    "server/src/failures/classify/mod.rs",
    "server/src/failures/classify/answer.rs",
    "server/src/failures/classify/event.rs",
    "server/src/failures/classify/facts.rs",
    "server/src/failures/classify/link.rs",
    "server/src/failures/classify/money.rs",
    "server/src/failures/classify/names.rs",
    "server/src/failures/classify/rows.rs",
    "server/src/failures/classify/settlement.rs",
    "server/src/failures/classify/tables.rs",
    "server/src/failures/classify/thresholds.rs",
    "server/src/failures/classify/verdict.rs",
    "server/src/failures/localize/alias.rs",
    "server/src/failures/localize/baseline.rs",
    "server/src/failures/localize/contrast.rs",
    "server/src/failures/localize/fit.rs",
    "server/src/failures/localize/interval.rs",
    "server/src/failures/localize/mod.rs",
    "server/src/failures/localize/scan.rs",
    "server/src/failures/localize/search.rs",
    "server/src/failures/localize/table.rs",
    "server/src/profiles/layers.rs",
    "server/src/failures/onset.rs",
    "server/src/failures/incidents/state.rs",
    "server/src/failures/incidents/kind.rs",
    "server/src/failures/incidents/filter.rs",
    "server/src/failures/incidents/evidence.rs",
    "server/src/failures/incidents/mask.rs",
    "server/src/failures/fleet/statistics.rs",
    "server/src/failures/fleet/rules/mod.rs",
    "server/src/failures/fleet/rules/area.rs",
    "server/src/failures/fleet/rules/expiry.rs",
    "server/src/failures/fleet/rules/offline.rs",
    "server/src/failures/fleet/rules/outage.rs",
    "server/src/failures/fleet/rules/pool.rs",
    "server/src/failures/fleet/rules/silence.rs",
    "server/src/failures/fleet/rules/suspect.rs",
    "server/src/failures/fleet/rules/switch.rs",
    "server/src/failures/fleet/sims/parse.rs",
    "server/src/failures/advice/judge.rs",
    "server/src/failures/advice/measure.rs",
    "server/src/alerts/level.rs",
    "server/src/imports/values.rs",
    "server/src/imports/mapping.rs",
    "server/src/imports/sheet.rs",
    "server/src/imports/xlsx.rs",
    "server/src/failures/feed/fields.rs",
    "server/src/failures/reconcile/matching.rs",
    "server/src/failures/imported/item.rs",
    "server/src/failures/imported/fields.rs",
    "server/src/failures/lookups/entry.rs",
    "server/src/failures/lookups/judging.rs",
    "server/src/failures/pack/content.rs",
    "server/src/pdf/mod.rs",
    "server/src/pdf/face.rs",
    "server/src/pdf/layout.rs",
    "server/src/alerts/letter.rs",
    "server/src/alerts/outcome.rs",
    "server/src/alerts/rate.rs",
    "server/src/alerts/robots.rs",
    "server/src/alerts/rules.rs",
    "server/src/maintenance/checklist.rs",
    "server/src/maintenance/due.rs",
    "server/src/maintenance/place.rs",
    "server/src/maintenance/reason.rs",
    "server/src/maintenance/window.rs",
    "server/src/maintenance/guidance/rates.rs",
    "server/src/maintenance/orders/kind.rs",
    "server/src/maintenance/orders/proof.rs",
    "server/src/maintenance/orders/state.rs",
    "protocol/src/trust.rs",
    "agent/src/update.rs",
];
/// What pure files may not name.
const IMPURE: &[&str] = &[
    "crate::db",
    "crate::http",
    "crate::clock::Clock",
    "std::fs",
    "std::net",
    "std::env",
    "SystemTime",
    "Instant",
    "tokio",
    "ureq",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Every Rust file below the workspace's crates, by its path from the root.
fn files() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["server/src", "agent/src", "protocol/src", "tests"].iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the workspace") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                let name = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
                found.push((name, fs::read_to_string(&path).expect("a text")));
            }
        }
    }
    found
}

/// The lines that are compiled into the program: no comments, nothing from the tests at the end on.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(number, line)| (number + 1, line))
}

fn is_allowed(path: &str, allowed: &[&str]) -> bool {
    allowed.iter().any(|place| match place.strip_prefix('*') {
        Some(end) if end.ends_with('/') => path.contains(end),
        Some(end) => path.ends_with(end),
        None if place.ends_with('/') => path.starts_with(place),
        None => path == *place,
    })
}

#[test]
fn nothing_is_imported_where_it_may_not_be() {
    let mut broken = Vec::new();
    for (path, text) in files() {
        for rule in RULES.iter().filter(|rule| path.starts_with(rule.within) && !is_allowed(&path, rule.allowed)) {
            for (number, line) in code(&text) {
                broken.extend(
                    rule.names
                        .iter()
                        .filter(|name| line.contains(*name))
                        .map(|name| format!("{path}:{number} names {name}")),
                );
            }
        }
    }
    assert!(broken.is_empty(), "forbidden imports:\n{}", broken.join("\n"));
}

#[test]
fn pure_files_are_pure() {
    let files = files();
    for pure in PURE {
        let (_, text) = files.iter().find(|(path, _)| path == pure).unwrap_or_else(|| panic!("{pure} is missing"));
        let broken: Vec<_> = code(text)
            .filter(|(_, line)| IMPURE.iter().any(|name| line.contains(name)))
            .map(|(number, _)| number)
            .collect();
        assert!(broken.is_empty(), "{pure}: lines {broken:?}");
    }
}

#[test]
fn the_rules_would_notice() {
    assert!(is_allowed("server/src/terminals/store.rs", &["*/store.rs"]));
    assert!(!is_allowed("server/src/terminals/mod.rs", &["*/store.rs"]));
    assert!(is_allowed("server/src/checkin/writer/mod.rs", &["server/src/checkin/writer/"]));
    assert_eq!(code("use a;\n// use b;\n#[cfg(test)]\nuse c;").count(), 1);
    assert!(files().len() > 50);
}
