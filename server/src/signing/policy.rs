//! What production mode refuses to start with. Pure: looks at documents and at whether key files exist.

use std::path::PathBuf;

use serde_json::Value;
use tillward_protocol::trust::{MODE_FIELD, MODE_QUICKSTART};

/// What production mode looks at before it starts. Documents are whole files (`{"signed": …}`), parsed.
#[derive(Debug, Default)]
pub struct ProductionFacts {
    /// The quick-start key folder, if it holds a key.
    pub quickstart_keys: Option<PathBuf>,
    /// Newest published root of the image repository.
    pub image_root: Option<Value>,
    /// Newest published root of the director.
    pub director_root: Option<Value>,
    /// Newest published top-level targets document of the image repository (its delegations are checked).
    pub image_targets: Option<Value>,
}

/// Reasons not to start in production mode, one line each; none means go.
pub fn production_refusals(facts: &ProductionFacts) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(dir) = &facts.quickstart_keys {
        lines.push(format!(
            "config error update.quickstart_keys: production mode refuses keys stored on this server ({}); remove the \
             folder, and sign with keys that are kept elsewhere",
            dir.display()
        ));
    }
    for (repository, root) in [("image", &facts.image_root), ("director", &facts.director_root)] {
        let Some(signed) = root.as_ref().map(|root| &root["signed"]) else { continue };
        if signed[MODE_FIELD] == MODE_QUICKSTART {
            lines.push(format!(
                "config error update.quickstart_root: root version {} of {repository} is a quick-start root; \
                 production needs a new trust root",
                signed["version"]
            ));
        }
    }
    lines.extend(policy_faults(facts));
    lines
}

/// Role of a published document with its distinct keys (by bytes) and its threshold.
struct Declared {
    role: String,
    keys: Vec<String>,
    threshold: u64,
    /// Least threshold in production: two people for everything that authorises code.
    least: u64,
}

fn policy_faults(facts: &ProductionFacts) -> Vec<String> {
    let mut declared = Vec::new();
    for (repository, root) in [("image", &facts.image_root), ("director", &facts.director_root)] {
        let Some(signed) = root.as_ref().map(|root| &root["signed"]) else { continue };
        for name in ["root", "targets", "snapshot", "timestamp"] {
            let offline = name == "root" || (repository == "image" && name == "targets");
            let role = format!("{repository}.{name}");
            declared.push(declare(role, &signed["roles"][name], &signed["keys"], if offline { 2 } else { 1 }));
        }
    }
    let delegations = facts.image_targets.as_ref().map(|targets| &targets["signed"]["delegations"]);
    for role in delegations.and_then(|block| block["roles"].as_array()).into_iter().flatten() {
        let name = format!("image.{}", role["name"].as_str().unwrap_or_default());
        let keys = delegations.map_or(&Value::Null, |block| &block["keys"]);
        declared.push(declare(name, role, keys, 2));
    }
    let mut lines: Vec<String> = declared.iter().filter_map(threshold_fault).collect();
    for (at, one) in declared.iter().enumerate() {
        let others = declared.iter().skip(at + 1);
        for other in
            others.filter(|other| !both_firmware(one, other) && one.keys.iter().any(|k| other.keys.contains(k)))
        {
            lines.push(format!(
                "config error update.role_policy: {} and {} share a key; production needs separate keys for each role",
                one.role, other.role
            ));
        }
    }
    lines
}

/// Firmware roles of several models may have the same officers; that is no mixing of duties.
fn both_firmware(one: &Declared, other: &Declared) -> bool {
    one.role.starts_with("image.fw-") && other.role.starts_with("image.fw-")
}

fn declare(role: String, block: &Value, keys: &Value, least: u64) -> Declared {
    let ids = block["keyids"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut bytes: Vec<String> =
        ids.filter_map(|id| keys[id]["keyval"]["public"].as_str()).map(str::to_ascii_lowercase).collect();
    bytes.sort_unstable();
    bytes.dedup();
    Declared { role, keys: bytes, threshold: block["threshold"].as_u64().unwrap_or(0), least }
}

fn threshold_fault(declared: &Declared) -> Option<String> {
    let available = u64::try_from(declared.keys.len()).unwrap_or(u64::MAX);
    if declared.threshold >= declared.least && declared.threshold <= available {
        return None;
    }
    Some(format!(
        "config error update.role_policy: {} has threshold {} of {available} keys; production needs at least {}",
        declared.role, declared.threshold, declared.least
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn root(threshold: u64, prefix: &str) -> Value {
        let mut keys = serde_json::Map::new();
        let mut roles = serde_json::Map::new();
        for name in ["root", "targets", "snapshot", "timestamp"] {
            let ids = [format!("{prefix}-{name}-1"), format!("{prefix}-{name}-2"), format!("{prefix}-{name}-3")];
            for id in &ids {
                keys.insert(id.clone(), json!({"keyval":{"public":id}}));
            }
            roles.insert(name.to_owned(), json!({"keyids":ids,"threshold":threshold}));
        }
        json!({"signed":{"version":3,"keys":keys,"roles":roles}})
    }

    #[test]
    fn production_starts_with_offline_keys_and_thresholds_of_two() {
        let facts = ProductionFacts {
            image_root: Some(root(2, "image")),
            director_root: Some(root(2, "director")),
            ..ProductionFacts::default()
        };
        assert_eq!(production_refusals(&facts), Vec::<String>::new());
    }

    #[test]
    fn production_refuses_quickstart_keys_quickstart_roots_and_weak_roles_by_one_line_each() {
        let mut marked = root(2, "image");
        marked["signed"][MODE_FIELD] = json!(MODE_QUICKSTART);
        let facts = ProductionFacts {
            quickstart_keys: Some(PathBuf::from("/srv/keys/quickstart")),
            image_root: Some(marked),
            director_root: Some(root(1, "director")),
            image_targets: None,
        };
        assert_eq!(
            production_refusals(&facts),
            vec![
                "config error update.quickstart_keys: production mode refuses keys stored on this server \
                 (/srv/keys/quickstart); remove the folder, and sign with keys that are kept elsewhere"
                    .to_owned(),
                "config error update.quickstart_root: root version 3 of image is a quick-start root; production needs \
                 a new trust root"
                    .to_owned(),
                "config error update.role_policy: director.root has threshold 1 of 3 keys; production needs at least 2"
                    .to_owned(),
            ]
        );
    }

    #[test]
    fn production_refuses_a_threshold_that_cannot_be_met_and_a_key_in_two_roles() {
        let mut impossible = root(2, "image");
        impossible["signed"]["roles"]["snapshot"]["threshold"] = json!(4);
        let facts = ProductionFacts {
            image_root: Some(impossible),
            director_root: Some(root(2, "image")),
            ..ProductionFacts::default()
        };
        let lines = production_refusals(&facts);
        assert!(lines.iter().any(|line| line.contains("image.snapshot has threshold 4 of 3 keys")));
        assert!(lines.iter().any(|line| line.contains("image.root and director.root share a key")));
    }
}
