//! What was seen, as JSON of bounded size. Pure.

use serde_json::{Map, Value};

/// Largest evidence of one incident, bytes of JSON: some hundred cells, and little enough to be read with each page.
pub const EVIDENCE_BYTES_MAX: usize = 32 * 1024;
/// Where the names of members stand that were too large to be kept.
pub const OMITTED: &str = "omitted";
/// Room for those names, bytes …
const OMITTED_BYTES: usize = 4 * 1024;
/// … for at most so many of them …
const OMITTED_MAX: usize = 20;
/// … of at most this length each, as JSON. A longer name says nothing.
const NAME_BYTES_MAX: usize = 100;

/// The evidence, without its largest members if it is too large; their names are kept. An incident is never refused for
/// the size of its evidence: the brake that opens it is worth more.
pub(super) fn bounded(evidence: Value) -> Value {
    let mut members = match evidence {
        Value::Object(members) => members,
        Value::Null => Map::new(),
        other => Map::from_iter([("value".to_owned(), other)]),
    };
    // With its colon and comma.
    let mut sizes: Vec<(usize, String)> =
        members.iter().map(|(name, value)| (name_size(name) + value.to_string().len() + 2, name.clone())).collect();
    sizes.sort_unstable();
    let mut total: usize = sizes.iter().map(|(bytes, _)| bytes).sum();
    let mut omitted: Vec<Value> = Vec::new();
    while total > EVIDENCE_BYTES_MAX - OMITTED_BYTES {
        let Some((bytes, name)) = sizes.pop() else { break };
        members.remove(&name);
        total -= bytes;
        if name_size(&name) <= NAME_BYTES_MAX && omitted.len() < OMITTED_MAX {
            omitted.push(Value::String(name));
        }
    }
    if !omitted.is_empty() {
        members.insert(OMITTED.to_owned(), Value::Array(omitted));
    }
    Value::Object(members)
}

fn name_size(name: &str) -> usize {
    Value::from(name).to_string().len()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn evidence_that_fits_is_kept_as_it_is() {
        let evidence = json!({"failed": 42, "expected": 8.5, "cells": [{"model": "me31", "n": 400}]});
        assert_eq!(bounded(evidence.clone()), evidence);
        assert_eq!(bounded(Value::Null), json!({}));
        assert_eq!(bounded(json!([1, 2])), json!({"value": [1, 2]}));
    }

    #[test]
    fn the_largest_members_go_first_and_are_named() {
        let evidence = json!({"failed": 42, "cells": "x".repeat(EVIDENCE_BYTES_MAX), "also": "y".repeat(20_000)});
        let kept = bounded(evidence);
        assert_eq!(kept["failed"], 42);
        assert_eq!(kept["also"].as_str().map(str::len), Some(20_000));
        assert_eq!(kept[OMITTED], json!(["cells"]));
        assert!(kept.to_string().len() <= EVIDENCE_BYTES_MAX);
    }

    #[test]
    fn nothing_makes_it_larger_than_its_bound() {
        let many: Map<String, Value> = (0..5_000).map(|n| (format!("member {n}"), json!("z".repeat(n)))).collect();
        let long = Map::from_iter([("n".repeat(100_000), json!(1)), ("short".to_owned(), json!(2))]);
        for evidence in [Value::Object(many), Value::Object(long.clone()), json!("w".repeat(100_000))] {
            assert!(bounded(evidence).to_string().len() <= EVIDENCE_BYTES_MAX);
        }
        assert_eq!(bounded(Value::Object(long)), json!({"short": 2}));
    }
}
