//! Signs both repositories, well or badly, as a test wants it.

use std::collections::BTreeMap;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use serde_json::{Value, json};
use sigstore_tuf::canonical_json::to_canonical_bytes;
use tillward_protocol::crypto;
use tillward_protocol::ids::Sha256Hex;

use super::server::World;

pub const FAR: &str = "2999-01-01T00:00:00Z";
pub const PAST: &str = "2020-01-01T00:00:00Z";

/// One payload with what is signed about it.
#[derive(Clone)]
pub struct Release {
    pub name: String,
    pub version: String,
    pub counter: u64,
    pub model: String,
    pub payload: Arc<Vec<u8>>,
}

impl Release {
    pub fn new(version: &str, counter: u64, payload: Vec<u8>) -> Self {
        Self {
            name: format!("demo-p1.os.{version}.bin"),
            version: version.to_owned(),
            counter,
            model: "demo-p1".to_owned(),
            payload: Arc::new(payload),
        }
    }

    pub fn sha256(&self) -> Sha256Hex {
        Sha256Hex::of(&self.payload)
    }

    pub fn path(&self) -> String {
        format!("/tuf/image/targets/{}.{}", self.sha256(), self.name)
    }

    fn target(&self, more: &Value) -> Value {
        let mut custom = json!({"match": {
            "hardware_ids": [self.model], "component": "os", "version": self.version, "release_counter": self.counter,
        }});
        for (name, value) in more.as_object().unwrap() {
            custom[name] = value.clone();
        }
        json!({"length": self.payload.len(), "hashes": {"sha256": self.sha256()}, "custom": custom})
    }
}

/// What a test changes about a publication.
pub struct Tweaks {
    /// Indices of the firmware keys that sign the firmware role; 2 and more are keys the role does not have.
    pub firmware_signers: Vec<usize>,
    /// The second firmware key is the first one under another name.
    pub twin_keys: bool,
    pub firmware_expires: &'static str,
    pub director_expires: &'static str,
    /// Changes the director's entry.
    pub director_entry: fn(&mut Value),
    pub terminal_id: i64,
    /// Fixed metadata version, instead of the next one.
    pub version: Option<u64>,
    /// Replaces the bytes served as the payload.
    pub payload: Option<Vec<u8>>,
    /// When the director says that it issued its document, Unix s.
    pub issued_at: i64,
    /// Sign the director's targets with a key it does not have.
    pub wrong_director_key: bool,
}

impl Default for Tweaks {
    fn default() -> Self {
        Self {
            firmware_signers: vec![0, 1],
            twin_keys: false,
            firmware_expires: FAR,
            director_expires: FAR,
            director_entry: |_| {},
            terminal_id: 1,
            version: None,
            payload: None,
            issued_at: 1_700_000_000,
            wrong_director_key: false,
        }
    }
}

pub struct Signer {
    keys: BTreeMap<&'static str, SigningKey>,
    firmware: Vec<SigningKey>,
    version: u64,
    /// More fields inside the roots' signed part.
    pub mark: Option<(&'static str, &'static str)>,
}

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

fn public(key: &SigningKey) -> Value {
    json!({"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": crypto::public_hex(key)}})
}

fn id(key: &SigningKey) -> String {
    Sha256Hex::of(&to_canonical_bytes(&public(key)).unwrap()).to_string()
}

fn sign(signed: Value, keys: &[(String, &SigningKey)]) -> Vec<u8> {
    let bytes = to_canonical_bytes(&signed).unwrap();
    let signatures: Vec<Value> =
        keys.iter().map(|(id, key)| json!({"keyid": id, "sig": crypto::sign_hex(key, &bytes)})).collect();
    serde_json::to_vec(&json!({"signed": signed, "signatures": signatures})).unwrap()
}

fn named(key: &SigningKey) -> (String, &SigningKey) {
    (id(key), key)
}

impl Signer {
    pub fn new() -> Self {
        let names = [
            "image.root",
            "image.targets",
            "image.snapshot",
            "image.timestamp",
            "director.root",
            "director.targets",
            "director.snapshot",
            "director.timestamp",
        ];
        let keys = names.iter().zip(1_u8..).map(|(name, number)| (*name, key(number))).collect();
        Self { keys, firmware: (100..104).map(key).collect(), version: 0, mark: None }
    }

    pub fn root(&self, repository: &str) -> Vec<u8> {
        self.root_version(repository, 1, FAR)
    }

    /// Publishes a second root of `repository` that has new online keys; from now on they sign.
    pub fn replace_online_keys(&mut self, world: &mut World, repository: &str, expires: &str) {
        for (name, number) in self.keys.iter_mut().filter(|(name, _)| name.starts_with(repository)).zip(50_u8..) {
            if !name.0.ends_with("root") {
                *name.1 = key(number);
            }
        }
        let root = self.root_version(repository, 2, expires);
        put(world, &format!("/tuf/{repository}/metadata/2.root.json"), root.clone());
        put(world, &format!("/tuf/{repository}/t/1/metadata/2.root.json"), root);
    }

    fn root_version(&self, repository: &str, version: u64, expires: &str) -> Vec<u8> {
        let mut keys = json!({});
        let mut roles = json!({});
        for role in ["root", "targets", "snapshot", "timestamp"] {
            let key = self.key(repository, role);
            keys[id(key)] = public(key);
            roles[role] = json!({"keyids": [id(key)], "threshold": 1});
        }
        let mut signed = json!({
            "_type": "root", "spec_version": "1.0.34", "version": version, "expires": expires, "consistent_snapshot": true,
            "keys": keys, "roles": roles,
        });
        if let Some((name, value)) = self.mark {
            signed[name] = json!(value);
        }
        sign(signed, &[named(self.key(repository, "root"))])
    }

    fn key(&self, repository: &str, role: &str) -> &SigningKey {
        &self.keys[format!("{repository}.{role}").as_str()]
    }

    /// Publishes `release` (or nothing) for terminal 1 and makes the server desire it.
    pub fn publish(&mut self, world: &mut World, release: Option<&Release>, order: i64, tweaks: &Tweaks) {
        self.version += 1;
        let version = tweaks.version.unwrap_or(self.version);
        self.publish_image(world, release, version, tweaks);
        self.publish_director(world, release, order, tweaks);
        world.desired.director = order;
    }

    fn publish_image(&self, world: &mut World, release: Option<&Release>, version: u64, tweaks: &Tweaks) {
        let base = "/tuf/image/metadata";
        let mut targets = json!({});
        if let Some(release) = release {
            targets[release.name.as_str()] = release.target(&json!({}));
            let payload = tweaks.payload.clone().map_or(release.payload.clone(), Arc::new);
            world.files.insert(release.path(), payload);
        }
        let (first, second) = (&self.firmware[0], &self.firmware[1]);
        let (second_id, second_key) = if tweaks.twin_keys { ("f".repeat(64), first) } else { (id(second), second) };
        let delegations = json!({
            "keys": {id(first): public(first), second_id.as_str(): public(second_key)},
            "roles": [{"name": "fw-demo-p1", "keyids": [id(first), second_id], "threshold": 2, "terminating": true,
                       "paths": ["demo-p1.*"]}],
        });
        let signers: Vec<_> = tweaks.firmware_signers.iter().map(|index| named(&self.firmware[*index])).collect();
        let firmware = sign(role("targets", version, tweaks.firmware_expires, &[("targets", targets)]), &signers);
        let top = role("targets", version, FAR, &[("targets", json!({})), ("delegations", delegations)]);
        let top = sign(top, &[named(self.key("image", "targets"))]);
        put(world, &format!("{base}/{version}.fw-demo-p1.json"), firmware);
        put(world, &format!("{base}/{version}.targets.json"), top);
        let meta = json!({"targets.json": {"version": version}, "fw-demo-p1.json": {"version": version}});
        self.publish_top(world, base, "image", version, meta, FAR);
    }

    fn publish_director(&self, world: &mut World, release: Option<&Release>, order: i64, tweaks: &Tweaks) {
        let base = "/tuf/director/t/1/metadata";
        let version = tweaks.version.unwrap_or((order as u64) << 20 | self.version);
        let mut targets = json!({});
        if let Some(release) = release {
            let mut entry = release.target(&json!({"assignment": order * 10, "action": "install"}));
            (tweaks.director_entry)(&mut entry);
            targets[release.name.as_str()] = entry;
        }
        let custom =
            json!({"terminal_id": tweaks.terminal_id, "assignment_version": order, "issued_at": tweaks.issued_at});
        let signed = role("targets", version, tweaks.director_expires, &[("targets", targets), ("custom", custom)]);
        let key = if tweaks.wrong_director_key { &self.firmware[3] } else { self.key("director", "targets") };
        put(world, &format!("{base}/{version}.targets.json"), sign(signed, &[named(key)]));
        self.publish_top(world, base, "director", version, json!({"targets.json": {"version": version}}), FAR);
    }

    fn publish_top(&self, world: &mut World, base: &str, repository: &str, version: u64, meta: Value, expires: &str) {
        let snapshot = role("snapshot", version, expires, &[("meta", meta)]);
        let snapshot = sign(snapshot, &[named(self.key(repository, "snapshot"))]);
        put(world, &format!("{base}/{version}.snapshot.json"), snapshot);
        let meta = json!({"snapshot.json": {"version": version}});
        let timestamp = role("timestamp", version, expires, &[("meta", meta)]);
        let timestamp = sign(timestamp, &[named(self.key(repository, "timestamp"))]);
        put(world, &format!("{base}/timestamp.json"), timestamp);
    }
}

fn role(kind: &str, version: u64, expires: &str, more: &[(&str, Value)]) -> Value {
    let mut signed = json!({"_type": kind, "spec_version": "1.0.34", "version": version, "expires": expires});
    for (name, value) in more {
        signed[*name] = value.clone();
    }
    signed
}

fn put(world: &mut World, path: &str, bytes: Vec<u8>) {
    world.files.insert(path.to_owned(), Arc::new(bytes));
}
