//! What both repositories must agree on before anything is installed, and the rule that nothing goes back.
//!
//! Pure: takes values that a TUF client has already verified against their roles, gives an order or a refusal. The
//! offline-signed *image* repository says what may run, the online *director* says what this terminal shall run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::{ModelCode, Sha256Hex, TargetName, TerminalId, Version};
use crate::phase::Reason;

/// Largest payload, bytes (2 GiB − 1: the length that every client can hold).
pub const TARGET_BYTES_MAX: u64 = (1 << 31) - 1;

/// Marker inside `signed` of every root made in quick-start mode.
pub const MODE_FIELD: &str = "x-tillward-mode";
/// Value of [`MODE_FIELD`].
pub const MODE_QUICKSTART: &str = "quickstart";

/// The signed conditions of one target. Identical, byte for byte in canonical form, in both repositories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// Hardware the payload fits, for example `["pax-a920"]`.
    pub hardware_ids: Vec<ModelCode>,
    /// `os`, `app`, …
    pub component: String,
    /// Version that runs after the installation.
    pub version: Version,
    /// Only grows from release to release of one component and model; the anti-rollback floor.
    pub release_counter: u64,
    /// Smallest release counter that may be updated from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_from_counter: Option<u64>,
    /// Components that must be at least this far first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<Requirement>,
}

/// A component and the release counter it must have reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// Component name.
    pub component: String,
    /// Smallest release counter.
    pub release_counter: u64,
}

/// One verified target entry, from either repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedTarget {
    /// Flat name.
    pub name: TargetName,
    /// Exact length, bytes.
    pub length: u64,
    /// Known digests by algorithm; `sha256` is required.
    pub hashes: BTreeMap<String, String>,
    /// The entry's `custom.match`, as JSON.
    pub matches: Value,
    /// The rest of `custom`.
    pub custom: BTreeMap<String, Value>,
}

/// Top-level `custom` of a director's targets document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectorCustom {
    /// The one terminal this document is for; present even when nothing is to be done.
    pub terminal_id: TerminalId,
    /// Grows with every change of the terminal's order.
    pub assignment_version: i64,
    /// Start of the signing window, Unix s.
    pub issued_at: i64,
}

/// A verified director document, reduced to what the agreement check reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectorDocument {
    /// Metadata version.
    pub version: u64,
    /// Top-level custom block.
    pub custom: DirectorCustom,
    /// Whether it has a `delegations` block (never allowed).
    pub has_delegations: bool,
    /// Its entries.
    pub targets: Vec<SignedTarget>,
}

/// One agreed order: install this file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectorOrder {
    /// The server's number of this order.
    pub assignment: i64,
    /// Name of the file.
    pub name: TargetName,
    /// Exact length, bytes.
    pub length: u64,
    /// Digest.
    pub sha256: Sha256Hex,
    /// Signed conditions.
    pub matches: Match,
    /// Whether the director wants it fetched over WiFi or cable only. A matter of cost, not of trust.
    pub wifi_only: bool,
}

/// Field of a director entry's `custom`, beside `match`: anything but `false` makes the terminal wait for WiFi or cable.
pub const WIFI_ONLY_FIELD: &str = "wifi_only";

/// What the terminal knows of itself when it decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TerminalFacts {
    /// Its number.
    pub terminal_id: TerminalId,
    /// Its hardware.
    pub model: ModelCode,
    /// Highest committed release counter by component; absent = 0.
    pub committed: BTreeMap<String, u64>,
    /// Version of the last director document it accepted.
    pub director_floor: u64,
}

/// Why an order was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", reason.as_str())]
pub struct Refused {
    /// Machine-readable name.
    pub reason: Reason,
    /// Sentence for a person.
    pub detail: String,
    /// The file it is about, if one is.
    pub target: Option<TargetName>,
}

impl Refused {
    /// A refusal without a file.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), target: None }
    }

    /// The same refusal, about `target`.
    pub fn about(mut self, target: &TargetName) -> Self {
        self.target = Some(target.clone());
        self
    }
}

/// Checks the director's document itself: right terminal, no delegations, nothing twice, not older than the last.
///
/// # Errors
/// `WrongDirectorDocument` or `Downgrade`.
pub fn check_director(document: &DirectorDocument, facts: &TerminalFacts) -> Result<(), Refused> {
    if document.custom.terminal_id != facts.terminal_id {
        return Err(Refused::new(
            Reason::WrongDirectorDocument,
            format!("the document is for terminal {}, this is {}", document.custom.terminal_id, facts.terminal_id),
        ));
    }
    if document.has_delegations {
        return Err(Refused::new(Reason::WrongDirectorDocument, "a director document must not delegate"));
    }
    if document.version < facts.director_floor {
        return Err(Refused::new(
            Reason::Downgrade,
            format!("director version {} is below {}, seen before", document.version, facts.director_floor),
        ));
    }
    let mut components: Vec<&str> = Vec::new();
    for target in &document.targets {
        let Some(component) = target.matches.get("component").and_then(Value::as_str) else {
            return Err(Refused::new(Reason::WrongDirectorDocument, "an entry names no component").about(&target.name));
        };
        if components.contains(&component) {
            return Err(Refused::new(Reason::WrongDirectorDocument, format!("two entries for component {component}"))
                .about(&target.name));
        }
        components.push(component);
    }
    Ok(())
}

/// Agrees one entry of the director with the image repository's entry of the same name.
///
/// `image` is `None` when the image repository does not list the name. `canonical` turns JSON into the canonical bytes
/// that both sides compare.
///
/// # Errors
/// The first rule that does not hold, as a refusal about this target.
pub fn agree(
    director: &SignedTarget,
    image: Option<&SignedTarget>,
    facts: &TerminalFacts,
    canonical: impl Fn(&Value) -> Option<Vec<u8>>,
) -> Result<DirectorOrder, Refused> {
    let refuse = |reason, detail: String| Err(Refused::new(reason, detail).about(&director.name));
    let Some(image) = image else {
        return refuse(Reason::DirectorImageDisagree, "the image repository does not list this file".to_owned());
    };
    if image.length != director.length || image.length > TARGET_BYTES_MAX {
        return refuse(
            Reason::DirectorImageDisagree,
            format!("length {} at the director, {} in the image repository", director.length, image.length),
        );
    }
    if image.hashes != director.hashes {
        return refuse(Reason::DirectorImageDisagree, "the digests differ between director and image".to_owned());
    }
    match (canonical(&director.matches), canonical(&image.matches)) {
        (Some(one), Some(other)) if one == other => {}
        _ => return refuse(Reason::DirectorImageDisagree, "the signed conditions differ".to_owned()),
    }
    let Some(sha256) = image.hashes.get("sha256").and_then(|digest| digest.parse::<Sha256Hex>().ok()) else {
        return refuse(Reason::MalformedMetadata, "the entry has no sha256 digest".to_owned());
    };
    let matches: Match = match serde_json::from_value(image.matches.clone()) {
        Ok(matches) => matches,
        Err(error) => return refuse(Reason::MalformedMetadata, format!("custom.match: {error}")),
    };
    fits(&matches, facts).map_err(|refused| refused.about(&director.name))?;
    let assignment = director.custom.get("assignment").and_then(Value::as_i64).unwrap_or(0);
    if assignment < 1 {
        return refuse(Reason::WrongDirectorDocument, "the entry names no assignment".to_owned());
    }
    let wifi_only = director.custom.get(WIFI_ONLY_FIELD).is_some_and(|value| *value != Value::Bool(false));
    Ok(DirectorOrder { assignment, name: director.name.clone(), length: image.length, sha256, matches, wifi_only })
}

/// Whether offline-signed conditions allow an installation on this terminal.
///
/// # Errors
/// `WrongModel`, `Downgrade`, `StartingVersionTooOld` or `RequirementMissing`.
pub fn fits(matches: &Match, facts: &TerminalFacts) -> Result<(), Refused> {
    let committed = |component: &str| facts.committed.get(component).copied().unwrap_or(0);
    let have = committed(&matches.component);
    if !matches.hardware_ids.contains(&facts.model) {
        let listed: Vec<&str> = matches.hardware_ids.iter().map(ModelCode::as_str).collect();
        return Err(Refused::new(
            Reason::WrongModel,
            format!("the payload is for {}, this is {}", listed.join(", "), facts.model),
        ));
    }
    if matches.release_counter < have {
        return Err(Refused::new(
            Reason::Downgrade,
            format!("release counter {} is below the committed {have}", matches.release_counter),
        ));
    }
    if matches.min_from_counter.is_some_and(|least| have < least) {
        return Err(Refused::new(
            Reason::StartingVersionTooOld,
            format!("release counter {have} is below the smallest starting point of this release"),
        ));
    }
    match matches.requires.iter().find(|need| committed(&need.component) < need.release_counter) {
        Some(need) => Err(Refused::new(
            Reason::RequirementMissing,
            format!("component {} must reach release counter {} first", need.component, need.release_counter),
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn facts() -> TerminalFacts {
        TerminalFacts {
            terminal_id: TerminalId(7),
            model: "pax-a920".parse().unwrap(),
            committed: BTreeMap::from([("os".to_owned(), 4)]),
            director_floor: 10,
        }
    }

    fn target() -> SignedTarget {
        SignedTarget {
            name: "pax-a920.os.1.2.3-7.bin".parse().unwrap(),
            length: 10,
            hashes: BTreeMap::from([("sha256".to_owned(), Sha256Hex::of(b"0123456789").to_string())]),
            matches: json!({"hardware_ids":["pax-a920"],"component":"os","version":"1.2.3","release_counter":7}),
            custom: BTreeMap::from([("assignment".to_owned(), json!(3))]),
        }
    }

    fn document(targets: Vec<SignedTarget>) -> DirectorDocument {
        let custom = DirectorCustom { terminal_id: TerminalId(7), assignment_version: 1, issued_at: 0 };
        DirectorDocument { version: 11, custom, has_delegations: false, targets }
    }

    fn canonical(value: &Value) -> Option<Vec<u8>> {
        serde_json::to_vec(value).ok()
    }

    #[test]
    fn equal_entries_that_fit_become_an_order() {
        let order = agree(&target(), Some(&target()), &facts(), canonical).unwrap();
        assert_eq!((order.assignment, order.length, order.wifi_only), (3, 10, false));
        assert_eq!(check_director(&document(vec![target()]), &facts()), Ok(()));
    }

    #[test]
    fn the_director_alone_may_ask_to_wait_for_wifi() {
        for (value, expected) in [(json!(true), true), (json!("yes"), true), (json!(false), false)] {
            let mut director = target();
            director.custom.insert(WIFI_ONLY_FIELD.to_owned(), value);
            assert_eq!(agree(&director, Some(&target()), &facts(), canonical).unwrap().wifi_only, expected);
        }
    }

    #[test]
    fn every_difference_between_director_and_image_is_a_refusal() {
        let with = |change: fn(&mut SignedTarget)| {
            let mut image = target();
            change(&mut image);
            agree(&target(), Some(&image), &facts(), canonical).unwrap_err().reason
        };
        assert_eq!(agree(&target(), None, &facts(), canonical).unwrap_err().reason, Reason::DirectorImageDisagree);
        assert_eq!(with(|image| image.length += 1), Reason::DirectorImageDisagree);
        assert_eq!(with(|image| image.matches["release_counter"] = json!(8)), Reason::DirectorImageDisagree);
        assert_eq!(
            with(|image| {
                image.hashes.insert("sha512".to_owned(), "00".to_owned());
            }),
            Reason::DirectorImageDisagree
        );
    }

    #[test]
    fn conditions_that_do_not_hold_are_refused_by_name() {
        let with = |matches: Value| {
            let changed = SignedTarget { matches, ..target() };
            agree(&changed, Some(&changed), &facts(), canonical).unwrap_err().reason
        };
        let base = |field: &str, value: Value| {
            let mut matches = target().matches;
            matches[field] = value;
            matches
        };
        assert_eq!(with(base("hardware_ids", json!(["newland-n910"]))), Reason::WrongModel);
        assert_eq!(with(base("release_counter", json!(3))), Reason::Downgrade);
        assert_eq!(with(base("min_from_counter", json!(5))), Reason::StartingVersionTooOld);
        assert_eq!(with(base("requires", json!([{"component":"sp","release_counter":1}]))), Reason::RequirementMissing);
        assert_eq!(with(base("surprise", json!(1))), Reason::MalformedMetadata);
    }

    #[test]
    fn a_director_document_for_another_terminal_or_twice_or_older_is_refused() {
        let mut other = document(vec![]);
        other.custom.terminal_id = TerminalId(8);
        assert_eq!(check_director(&other, &facts()).unwrap_err().reason, Reason::WrongDirectorDocument);
        let twice = document(vec![target(), target()]);
        assert_eq!(check_director(&twice, &facts()).unwrap_err().reason, Reason::WrongDirectorDocument);
        let mut delegating = document(vec![]);
        delegating.has_delegations = true;
        assert_eq!(check_director(&delegating, &facts()).unwrap_err().reason, Reason::WrongDirectorDocument);
        let mut old = document(vec![]);
        old.version = 9;
        assert_eq!(check_director(&old, &facts()).unwrap_err().reason, Reason::Downgrade);
    }
}
