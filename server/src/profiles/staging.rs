//! How a profile comes into force on a layer: staged for some terminals at a time, then settled for all.
//!
//! A rollout stages its profile for the terminals of each stage. When it ends well it settles the profile: then it is
//! the layer's, for whoever is on the layer or comes to it. A profile is taken back from a layer by rolling out a
//! version of it without parameters.

use std::collections::HashMap;

use serde_json::json;
use tillward_protocol::FieldError;

use super::effective::{self, CHUNK, Facts, Purpose, recompute, tell};
use super::layers::LayerKey;
use super::store::layers::{Own, Placed, Standing};
use super::{Error, Profile, store};
use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::operators::Scope;
use crate::organizations::{self, Organization};

/// Most profiles in force on one layer.
const LAYER_PROFILES_MAX: usize = 16;

/// What a terminal takes after it was taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unstaged {
    /// What it took before; where that is the layer's own, whatever the layer has from now on.
    Follow,
    /// What it took before, also when the profile is settled, until something else is staged for it.
    Hold,
}

/// Whether this caller may put this profile in force on this layer; the profile.
///
/// # Errors
/// [`Error::NotFound`] for a profile outside the scope, [`Error::Invalid`] for a layer outside of it.
pub fn check_layer(conn: &mut Conn, scope: &Scope, layer: &LayerKey, profile_id: i64) -> Result<Profile, Error> {
    let profile = store::find(conn, scope, profile_id)?.ok_or(Error::NotFound)?;
    if *layer != LayerKey::Terminal {
        let refused = || FieldError::new("layer", "is not of an organization of yours");
        let owner = owner(conn, layer)?.filter(|owner| scope.contains(&owner.path)).ok_or_else(refused)?;
        if owner.parent_id.is_none() && matches!(layer, LayerKey::Organization { .. }) {
            return Err(FieldError::new("layer", "headquarters' own layer is `global`").into());
        }
    }
    Ok(profile)
}

/// The organization on which a layer hangs.
fn owner(conn: &mut Conn, layer: &LayerKey) -> Result<Option<Organization>, db::Error> {
    match layer.organization_id() {
        Some(id) => organizations::get(conn, &Scope::everything(), id),
        None => organizations::headquarters(conn),
    }
}

/// From now on these terminals take the profile on the layer. Returns what each is told now; a terminal that is not on
/// the layer is left alone and missing from the answer. Doing it again changes nothing. About ten statements for each
/// 500 terminals, within the caller's transaction.
///
/// # Errors
/// [`Error::NotFound`] for the profile, [`Error::Invalid`] when a terminal's parameters would be too many together.
pub fn stage(
    conn: &mut Conn,
    terminal_ids: &[i64],
    layer: &LayerKey,
    profile_id: i64,
    now: Now,
) -> Result<HashMap<i64, String>, Error> {
    let profile = store::find(conn, &Scope::everything(), profile_id)?.ok_or(Error::NotFound)?;
    let staged = |facts: &Facts, terminal: &Placed| {
        let own = facts.own(terminal.id, layer, &profile.name);
        let standing = facts.standing(layer, &profile.name).map(|standing| standing.profile_id);
        let before = own.map_or(standing, |own| own.profile_id);
        let takes = |previous| Own {
            layer: layer.clone(),
            profile_name: profile.name.clone(),
            profile_id: Some(profile.id),
            previous,
        };
        (before != Some(profile.id)).then(|| Some(takes(before)))
    };
    let mut expected = HashMap::with_capacity(terminal_ids.len());
    for ids in terminal_ids.chunks(CHUNK) {
        let (facts, told) = change(conn, ids, layer, &profile.name, staged, now)?;
        if let Some(id) = told.too_large.first() {
            let problem = format!("together with what is in force on other layers it is too large for terminal {id}");
            return Err(FieldError::new("profile_id", problem).into());
        }
        let on_layer = facts.terminals.iter().filter(|terminal| facts.is_on(terminal, layer));
        expected.extend(on_layer.filter_map(|each| Some((each.id, told.expected.get(&each.id)?.clone()?))));
    }
    Ok(expected)
}

/// Takes the profile back from these terminals, before or after it was settled: each takes what it took before. A
/// terminal that does not take it is left alone. Returns what each terminal is told now, `None` for nothing at all.
/// About ten statements for each 500 terminals, within the caller's transaction.
///
/// What a terminal took before is remembered for one step; further back it is what the layer has.
///
/// # Errors
/// [`Error::NotFound`] for the profile.
pub fn unstage(
    conn: &mut Conn,
    terminal_ids: &[i64],
    layer: &LayerKey,
    profile_id: i64,
    how: Unstaged,
    now: Now,
) -> Result<HashMap<i64, Option<String>>, Error> {
    let profile = store::find(conn, &Scope::everything(), profile_id)?.ok_or(Error::NotFound)?;
    let unstaged = |facts: &Facts, terminal: &Placed| {
        let standing = facts.standing(layer, &profile.name);
        let back = match (facts.own(terminal.id, layer, &profile.name), standing) {
            (Some(own), _) if own.profile_id == Some(profile.id) => own.previous,
            (None, Some(standing)) if standing.profile_id == profile.id => standing.previous,
            (Some(_) | None, _) => return None,
        };
        let standing = standing.map(|standing| standing.profile_id);
        if back == standing && how == Unstaged::Follow {
            return Some(None);
        }
        let (layer, profile_name) = (layer.clone(), profile.name.clone());
        Some(Some(Own { layer, profile_name, profile_id: back, previous: standing }))
    };
    let mut expected = HashMap::with_capacity(terminal_ids.len());
    for ids in terminal_ids.chunks(CHUNK) {
        let (_, told) = change(conn, ids, layer, &profile.name, unstaged, now)?;
        expected.extend(told.expected);
    }
    Ok(expected)
}

/// Changes what terminals take of one name on one layer, and tells them. `decide` gives what a terminal on the layer
/// takes instead of the layer's own: nothing to leave it as it is, `Some(None)` for the layer's own.
fn change(
    conn: &mut Conn,
    ids: &[i64],
    layer: &LayerKey,
    profile_name: &str,
    decide: impl Fn(&Facts, &Placed) -> Option<Option<Own>>,
    now: Now,
) -> Result<(Facts, effective::Told), db::Error> {
    let mut facts = Facts::load(conn, ids, Purpose::Write)?;
    let on_layer = facts.terminals.iter().filter(|terminal| facts.is_on(terminal, layer));
    let rows: Vec<(i64, Option<Own>)> =
        on_layer.filter_map(|terminal| Some((terminal.id, decide(&facts, terminal)?))).collect();
    store::layers::replace_own(conn, layer, profile_name, &rows, now)?;
    for (id, own) in rows {
        facts.set_own(id, layer, profile_name, own);
    }
    let told = tell(conn, &facts, now)?;
    Ok((facts, told))
}

/// A rollout ended well: the profile is the layer's from now on, for all that are on it or come to it, except
/// terminals for which something else is staged or held. Terminals that are on it and were not staged are told by
/// [`spread`]. Doing it again changes nothing, and a terminal's own layer has nothing to settle.
///
/// # Errors
/// [`Error::NotFound`] for the profile or the layer, [`Error::Invalid`] when too many profiles are in force on it.
pub fn settle(conn: &mut Conn, actor: &Actor, layer: &LayerKey, profile_id: i64, now: Now) -> Result<(), Error> {
    let profile = store::find(conn, &Scope::everything(), profile_id)?.ok_or(Error::NotFound)?;
    if *layer == LayerKey::Terminal {
        return Ok(());
    }
    let owner = owner(conn, layer)?.ok_or(Error::NotFound)?;
    let standing = store::layers::on_layer(conn, layer)?;
    let before = standing.iter().find(|each| each.profile_name == profile.name);
    if before.is_some_and(|before| before.profile_id == profile.id) {
        return Ok(());
    }
    if before.is_none() && standing.len() >= LAYER_PROFILES_MAX {
        let problem = format!("at most {LAYER_PROFILES_MAX} profiles of different names may be in force on one layer");
        return Err(FieldError::new("profile_id", problem).into());
    }
    store::layers::put(conn, layer, &owner, &profile, before, now)?;
    let deed = Deed {
        action: "profiles.settle",
        object_kind: "profile",
        object_id: profile.id.to_string(),
        org_path: &owner.path,
        detail: json!({"layer": layer.text(), "name": profile.name, "version": profile.version, "hash": profile.hash}),
    };
    Ok(audit::append(conn, actor, &deed, now)?)
}

/// Tells the next terminals of a layer that was settled; whether there may be more to do. For a pass: each step is a
/// short transaction, and what a step did is not done again, also by another server.
///
/// # Errors
/// [`db::Error`].
pub async fn spread(db: &Db, now: Now) -> Result<bool, db::Error> {
    let is_due = db.read(|conn| Ok::<_, db::Error>(store::layers::spreading(conn)?.is_some())).await?;
    if is_due {
        db.write(move |conn| spread_step(conn, now)).await?;
    }
    Ok(is_due)
}

fn spread_step(conn: &mut Conn, now: Now) -> Result<(), db::Error> {
    let Some(standing) = store::layers::spreading(conn)? else { return Ok(()) };
    let Standing { layer, org_path, spread, .. } = &standing;
    let next = match layer {
        LayerKey::Group { tag, .. } => store::layers::tagged_after(conn, tag, spread.terminal_id, CHUNK)?,
        LayerKey::Global | LayerKey::Organization { .. } | LayerKey::Terminal => {
            store::layers::placed_after(conn, &Scope::subtree(org_path.as_str()), spread, CHUNK)?
        }
    };
    let to = if next.len() < CHUNK { None } else { next.last() };
    // Another server was faster, or another profile was settled: the next step looks again.
    if !store::layers::advance(conn, &standing, to)? {
        return Ok(());
    }
    let ids: Vec<i64> = next.iter().map(|each| each.terminal_id).collect();
    store::layers::follow(conn, &standing, &ids)?;
    recompute(conn, &ids, now)
}
