//! One consistent state of the image repository, and the next one that a change makes of it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tillward_protocol::ids::TargetName;

use super::ImageError;
use crate::signing::document::{self, Document, TargetEntry};
use crate::signing::gate::Staged;
use crate::signing::keys::{KeyRing, KeyRole};

/// Name of the role that lists one model's firmware.
pub fn firmware_role(model: &str) -> String {
    format!("fw-{model}")
}

/// Model that a target name begins with.
fn model_of(name: &TargetName) -> &str {
    name.as_str().split('.').next().unwrap_or_default()
}

/// What shall be different in the next edition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// List these files.
    Publish(Vec<TargetEntry>),
    /// List these files no longer.
    Withdraw(Vec<TargetName>),
    /// Sign again what has less than half of its life left.
    Renew,
}

/// Version that a document shall have next, and how many abandoned files it jumps over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextVersion {
    /// The version.
    pub version: u64,
    /// Files of lower version that a publisher left behind when it died; nobody ever saw them pinned.
    pub orphans: u64,
}

/// Every signed file of the repository but the roots. `None` before the first publication.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Edition {
    /// By unversioned file name without `.json`: `targets`, `snapshot`, `timestamp`, `fw-….`
    documents: BTreeMap<String, Document>,
}

const TOP: [&str; 3] = ["targets", "snapshot", "timestamp"];

impl Edition {
    /// An edition of these documents by name.
    pub fn new(documents: BTreeMap<String, Document>) -> Self {
        Self { documents }
    }

    /// Version of a document; 0 if there is none yet.
    pub fn version(&self, name: &str) -> u64 {
        self.documents.get(name).map_or(0, |document| document.version)
    }

    /// Documents by name.
    pub fn documents(&self) -> &BTreeMap<String, Document> {
        &self.documents
    }

    /// Firmware roles.
    fn roles(&self) -> impl Iterator<Item = (&String, &Document)> {
        self.documents.iter().filter(|(name, _)| !TOP.contains(&name.as_str()))
    }

    /// The entry of a target, as listed.
    pub fn listed(&self, name: &TargetName) -> Option<&Value> {
        let role = self.documents.get(&firmware_role(model_of(name)))?;
        role.signed["targets"].get(name.as_str())
    }

    /// Names of the documents that `change` writes anew, with those that are worn. Empty: nothing to do.
    ///
    /// # Errors
    /// [`ImageError::Taken`] for a name that lists something else.
    pub fn touched(&self, change: &Change, now_s: i64) -> Result<BTreeSet<String>, ImageError> {
        let mut touched = BTreeSet::new();
        for (name, document) in self.roles() {
            if document.is_worn(KeyRole::ImageFirmware, now_s) {
                touched.insert(name.clone());
            }
        }
        match change {
            Change::Publish(entries) => {
                for entry in entries {
                    match self.listed(&entry.name) {
                        Some(listed) if *listed == entry.image_json() => {}
                        Some(_) => return Err(ImageError::Taken(entry.name.clone())),
                        None => {
                            touched.insert(firmware_role(model_of(&entry.name)));
                        }
                    }
                }
            }
            Change::Withdraw(names) => {
                let listed = names.iter().filter(|name| self.listed(name).is_some());
                touched.extend(listed.map(|name| firmware_role(model_of(name))));
            }
            Change::Renew => {}
        }
        let worn = |name: &str, role| self.documents.get(name).is_none_or(|d| d.is_worn(role, now_s));
        if touched.iter().any(|role| !self.documents.contains_key(role)) || worn("targets", KeyRole::ImageTargets) {
            touched.insert("targets".to_owned());
        }
        if !touched.is_empty() || worn("snapshot", KeyRole::ImageSnapshot) {
            touched.insert("snapshot".to_owned());
        }
        if !touched.is_empty() || worn("timestamp", KeyRole::ImageTimestamp) {
            touched.insert("timestamp".to_owned());
        }
        Ok(touched)
    }

    /// The edition after `change`. `versions` has an entry for each name that [`Edition::touched`] gave.
    ///
    /// # Errors
    /// A document that cannot be built.
    pub fn next(
        &self,
        change: &Change,
        versions: &BTreeMap<String, NextVersion>,
        keys: &KeyRing,
        now_s: i64,
    ) -> Result<Self, ImageError> {
        let mut documents = self.documents.clone();
        let mut put = |name: &str, signed: Value, role: KeyRole| -> Result<(), ImageError> {
            let bytes = document::sign(&signed, &keys.role(role).keys)?;
            documents.insert(name.to_owned(), Document::parse(name, bytes.into())?);
            Ok(())
        };
        for (name, next) in versions.iter().filter(|(name, _)| !TOP.contains(&name.as_str())) {
            let expires_s = now_s + KeyRole::ImageFirmware.life_s();
            let signed = document::targets(next.version, expires_s, &self.entries_after(name, change))?;
            put(name, signed, KeyRole::ImageFirmware)?;
        }
        if let Some(next) = versions.get("targets") {
            let expires_s = now_s + KeyRole::ImageTargets.life_s();
            let mut signed = document::targets(next.version, expires_s, &BTreeMap::new())?;
            let roles: BTreeSet<&String> = self
                .roles()
                .map(|(name, _)| name)
                .chain(versions.keys().filter(|name| !TOP.contains(&name.as_str())))
                .collect();
            if !roles.is_empty() {
                let delegated = roles.iter().map(|role| (role.as_str(), role.trim_start_matches("fw-")));
                signed["delegations"] = document::delegations(delegated, keys.role(KeyRole::ImageFirmware))?;
            }
            put("targets", signed, KeyRole::ImageTargets)?;
        }
        if let Some(next) = versions.get("snapshot") {
            let pinned = documents.iter().filter(|(name, _)| !matches!(name.as_str(), "snapshot" | "timestamp"));
            let pins = pinned.map(|(name, d)| (format!("{name}.json"), document::pin(d.version, &d.bytes))).collect();
            let signed = document::snapshot(next.version, now_s + KeyRole::ImageSnapshot.life_s(), &pins)?;
            let bytes = document::sign(&signed, &keys.role(KeyRole::ImageSnapshot).keys)?;
            documents.insert("snapshot".to_owned(), Document::parse("snapshot", bytes.into())?);
        }
        if let (Some(next), Some(snapshot)) = (versions.get("timestamp"), documents.get("snapshot")) {
            let pin = document::pin(snapshot.version, &snapshot.bytes);
            let signed = document::timestamp(next.version, now_s + KeyRole::ImageTimestamp.life_s(), pin)?;
            let bytes = document::sign(&signed, &keys.role(KeyRole::ImageTimestamp).keys)?;
            documents.insert("timestamp".to_owned(), Document::parse("timestamp", bytes.into())?);
        }
        Ok(Self { documents })
    }

    /// What role `name` lists after `change`.
    fn entries_after(&self, name: &str, change: &Change) -> BTreeMap<String, Value> {
        let before = self.documents.get(name).and_then(|role| role.signed["targets"].as_object());
        let mut entries: BTreeMap<String, Value> =
            before.into_iter().flatten().map(|(name, entry)| (name.clone(), entry.clone())).collect();
        match change {
            Change::Publish(new) => {
                let of_role = new.iter().filter(|entry| firmware_role(model_of(&entry.name)) == name);
                entries.extend(of_role.map(|entry| (entry.name.to_string(), entry.image_json())));
            }
            Change::Withdraw(names) => entries.retain(|name, _| !names.iter().any(|gone| gone.as_str() == name)),
            Change::Renew => {}
        }
        entries
    }

    /// What the publish gate shall look at before `next` replaces `self`.
    pub fn staged(
        &self,
        next: &Self,
        root: &Document,
        change: &Change,
        versions: &BTreeMap<String, NextVersion>,
    ) -> Staged {
        let files = |edition: &Self| {
            edition.documents.iter().map(|(name, d)| (format!("{name}.json"), d.bytes.to_vec())).collect()
        };
        let (present, absent) = match change {
            Change::Publish(entries) => (entries.clone(), Vec::new()),
            Change::Withdraw(names) => (Vec::new(), names.clone()),
            Change::Renew => (Vec::new(), Vec::new()),
        };
        let orphans = versions.iter().map(|(name, next)| (format!("{name}.json"), next.orphans)).collect();
        Staged { root: root.bytes.to_vec(), before: files(self), after: files(next), orphans, present, absent }
    }
}
