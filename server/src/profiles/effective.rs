//! What a terminal should apply: the profiles of all its layers merged, kept by hash, and told to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;
use tillward_protocol::ids::Sha256Hex;

use super::layers::{self, InForce, LayerKey};
use super::parameters::{self, EFFECTIVE_BYTES_MAX};
use super::store::layers::{Own, Placed, Standing};
use super::{Error, Parameter, Profile, store};
use crate::clock::Now;
use crate::db::{self, Conn};
use crate::operators::Scope;

/// Terminals that are worked on at once: some ten statements and a few milliseconds.
pub(super) const CHUNK: usize = 500;

/// Which profile gave a value, and on which layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = ConfigOrigin)]
pub struct Origin {
    /// The layer.
    pub layer: LayerKey,
    /// The profile.
    pub profile_id: i64,
    /// Its name.
    pub profile_name: String,
    /// Its version.
    pub profile_version: i64,
}

/// A parameter as a terminal should have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct EffectiveValue {
    /// Name.
    pub name: String,
    /// Value.
    pub value: Parameter,
    /// Where it comes from.
    pub origin: Origin,
}

/// All parameters that a terminal should have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Effective {
    /// By name.
    pub values: Vec<EffectiveValue>,
    /// Config hash of all of them; `None` while nothing is in force for the terminal.
    pub hash: Option<String>,
}

/// Whether terminals are read only, or will be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Read,
    Write,
}

/// All that decides what some terminals should apply.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) terminals: Vec<Placed>,
    tags: HashMap<i64, Vec<String>>,
    own: HashMap<i64, Vec<Own>>,
    standing: Vec<Standing>,
}

impl Facts {
    /// Four statements. With [`Purpose::Write`] nobody else changes these terminals until the transaction ends.
    pub(super) fn load(conn: &mut Conn, ids: &[i64], purpose: Purpose) -> Result<Self, db::Error> {
        let terminals = match purpose {
            Purpose::Read => store::layers::placed(conn, ids)?,
            Purpose::Write => store::layers::lock(conn, ids)?,
        };
        let ids: Vec<i64> = terminals.iter().map(|terminal| terminal.id).collect();
        let tags = store::layers::tags(conn, &ids)?;
        let own = store::layers::own(conn, &ids)?;
        let organizations: BTreeSet<i64> =
            terminals.iter().flat_map(|terminal| layers::chain(&terminal.org_path)).collect();
        let organizations: Vec<i64> = organizations.into_iter().collect();
        let some_tags: BTreeSet<&str> = tags.values().flatten().map(String::as_str).collect();
        let some_tags: Vec<&str> = some_tags.into_iter().collect();
        let standing = store::layers::standing_for(conn, &organizations, &some_tags)?;
        Ok(Self { terminals, tags, own, standing })
    }

    /// Whether the terminal is on the layer.
    pub(super) fn is_on(&self, terminal: &Placed, layer: &LayerKey) -> bool {
        layer.holds(&terminal.org_path, self.tags.get(&terminal.id).map_or(&[], Vec::as_slice))
    }

    /// What is in force on a layer under a name.
    pub(super) fn standing(&self, layer: &LayerKey, profile_name: &str) -> Option<&Standing> {
        self.standing.iter().find(|each| each.layer == *layer && each.profile_name == profile_name)
    }

    /// What a terminal takes instead.
    pub(super) fn own(&self, terminal_id: i64, layer: &LayerKey, profile_name: &str) -> Option<&Own> {
        let own = self.own.get(&terminal_id)?;
        own.iter().find(|each| each.layer == *layer && each.profile_name == profile_name)
    }

    /// Replaces what a terminal takes instead, here only.
    pub(super) fn set_own(&mut self, terminal_id: i64, layer: &LayerKey, profile_name: &str, own: Option<Own>) {
        let all = self.own.entry(terminal_id).or_default();
        all.retain(|each| each.layer != *layer || each.profile_name != profile_name);
        all.extend(own);
    }

    /// What is in force for one terminal, the weakest first.
    fn in_force(&self, terminal: &Placed) -> Vec<InForce> {
        let mut taken: BTreeMap<(&LayerKey, &str), Option<i64>> = BTreeMap::new();
        for each in self.standing.iter().filter(|each| self.is_on(terminal, &each.layer)) {
            taken.insert((&each.layer, &each.profile_name), Some(each.profile_id));
        }
        for each in self.own.get(&terminal.id).into_iter().flatten().filter(|each| self.is_on(terminal, &each.layer)) {
            taken.insert((&each.layer, &each.profile_name), each.profile_id);
        }
        let in_force = taken.into_iter().filter_map(|((layer, name), profile_id)| {
            Some(InForce { layer: layer.clone(), profile_name: name.to_owned(), profile_id: profile_id? })
        });
        let mut in_force: Vec<InForce> = in_force.collect();
        layers::sort(&mut in_force, &terminal.org_path);
        in_force
    }

    /// Layers that terminals left while something of their own was still kept there.
    fn left(&self) -> BTreeMap<&LayerKey, Vec<i64>> {
        let mut left: BTreeMap<&LayerKey, Vec<i64>> = BTreeMap::new();
        for terminal in &self.terminals {
            for own in self.own.get(&terminal.id).into_iter().flatten() {
                if !self.is_on(terminal, &own.layer) {
                    left.entry(&own.layer).or_default().push(terminal.id);
                }
            }
        }
        left
    }
}

/// What came of telling terminals.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// What each of them is told now.
    pub(super) expected: HashMap<i64, Option<String>>,
    /// Those whose parameters are too many together; they keep what they have.
    pub(super) too_large: Vec<i64>,
}

/// The merged parameters of one list of profiles: hash and canonical bytes, `None` if they are too many.
type Merged = Option<(String, String)>;

/// Tells the terminals what they should apply by `facts`, as far as it is new to them.
pub(super) fn tell(conn: &mut Conn, facts: &Facts, now: Now) -> Result<Told, db::Error> {
    let in_force: Vec<(&Placed, Vec<i64>)> = facts
        .terminals
        .iter()
        .map(|terminal| (terminal, facts.in_force(terminal).iter().map(|each| each.profile_id).collect()))
        .collect();
    let ids: BTreeSet<i64> = in_force.iter().flat_map(|(_, ids)| ids).copied().collect();
    let profiles = store::by_ids(conn, &ids.into_iter().collect::<Vec<_>>())?;
    // Most terminals of a chunk have the same profiles.
    let mut merged: HashMap<&[i64], Merged> = HashMap::new();
    for (_, ids) in in_force.iter().filter(|(_, ids)| !ids.is_empty()) {
        merged.entry(ids).or_insert_with(|| merge(ids, &profiles));
    }
    let mut told = Told::default();
    let mut bodies: BTreeMap<&str, &str> = BTreeMap::new();
    let mut changed: BTreeMap<Option<&str>, Vec<i64>> = BTreeMap::new();
    for (terminal, ids) in &in_force {
        let hash = match merged.get(ids.as_slice()) {
            None => None,
            Some(Some((hash, body))) => {
                if terminal.desired.as_ref() != Some(hash) {
                    bodies.insert(hash, body);
                }
                Some(hash.as_str())
            }
            Some(None) => {
                told.too_large.push(terminal.id);
                terminal.desired.as_deref()
            }
        };
        if terminal.desired.as_deref() != hash {
            changed.entry(hash).or_default().push(terminal.id);
        }
        told.expected.insert(terminal.id, hash.map(str::to_owned));
    }
    store::bodies::keep(conn, &bodies, now)?;
    for (hash, ids) in changed {
        store::layers::set_desired(conn, hash, &ids)?;
    }
    for (layer, ids) in facts.left() {
        store::layers::leave(conn, layer, &ids)?;
    }
    Ok(told)
}

fn merge(ids: &[i64], profiles: &HashMap<i64, Profile>) -> Merged {
    let in_force: Vec<&Profile> = ids.iter().filter_map(|id| profiles.get(id)).collect();
    let merged = layers::merge(&in_force);
    let parameters = merged.into_iter().map(|(name, (value, _))| (name.to_owned(), value.clone())).collect();
    let body = parameters::bytes(&parameters, EFFECTIVE_BYTES_MAX).ok()?;
    Some((Sha256Hex::of(body.as_bytes()).into(), body))
}

/// Tells terminals what they should apply where they now stand. To be called, in the same transaction, by whoever makes
/// a terminal, moves it or changes its tags. About eight statements for 500 of them.
///
/// # Errors
/// [`db::Error`].
pub fn recompute(conn: &mut Conn, terminal_ids: &[i64], now: Now) -> Result<(), db::Error> {
    for ids in terminal_ids.chunks(CHUNK) {
        let facts = Facts::load(conn, ids, Purpose::Write)?;
        let told = tell(conn, &facts, now)?;
        if !told.too_large.is_empty() {
            let (terminals, first) = (told.too_large.len(), told.too_large.first());
            tracing::warn!(
                terminals,
                first,
                "the parameters of all layers are too many; terminals keep what they have"
            );
            metrics::counter!("tillward_config_too_large_total").increment(u64::try_from(terminals).unwrap_or(0));
        }
    }
    Ok(())
}

/// What a terminal should apply, each value with its origin.
///
/// # Errors
/// [`Error::NotFound`] for a terminal outside the scope.
pub fn effective(conn: &mut Conn, scope: &Scope, terminal_id: i64) -> Result<Effective, Error> {
    store::layers::hashes(conn, scope, terminal_id)?.ok_or(Error::NotFound)?;
    let facts = Facts::load(conn, &[terminal_id], Purpose::Read)?;
    let terminal = facts.terminals.first().ok_or(Error::NotFound)?;
    let in_force = facts.in_force(terminal);
    let ids: Vec<i64> = in_force.iter().map(|each| each.profile_id).collect();
    let profiles = store::by_ids(conn, &ids)?;
    let known: Vec<(&InForce, &Profile)> =
        in_force.iter().filter_map(|each| Some((each, profiles.get(&each.profile_id)?))).collect();
    let in_order: Vec<&Profile> = known.iter().map(|(_, profile)| *profile).collect();
    let value = |(name, (value, place)): (&str, (&Parameter, usize))| {
        let (in_force, profile) = known.get(place)?;
        let origin = Origin {
            layer: in_force.layer.clone(),
            profile_id: profile.id,
            profile_name: profile.name.clone(),
            profile_version: profile.version,
        };
        Some(EffectiveValue { name: name.to_owned(), value: value.clone(), origin })
    };
    let values = layers::merge(&in_order).into_iter().filter_map(value).collect();
    let hash = if ids.is_empty() { None } else { merge(&ids, &profiles).map(|(hash, _)| hash) };
    Ok(Effective { values, hash })
}
