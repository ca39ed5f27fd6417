//! SQL of layers: what is in force where, and what terminals take instead.

use std::collections::HashMap;

use diesel::prelude::*;

use crate::clock::Now;
use crate::db::schema::{config_layers, profiles, terminal_layers, terminal_states, terminal_tags, terminals};
use crate::db::{self, Conn};
use crate::on_backend;
use crate::operators::Scope;
use crate::organizations::Organization;
use crate::profiles::layers::LayerKey;
use crate::profiles::{LayerInForce, Profile};

/// Terminals that one statement changes at most: PostgreSQL writes an entry to each index of theirs.
const CHANGED: usize = 100;

/// A terminal and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
pub(in crate::profiles) struct Placed {
    pub(in crate::profiles) id: i64,
    pub(in crate::profiles) org_path: String,
    /// The config hash that it is told.
    pub(in crate::profiles) desired: Option<String>,
}

/// What a terminal takes on a layer instead of the layer's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::profiles) struct Own {
    pub(in crate::profiles) layer: LayerKey,
    pub(in crate::profiles) profile_name: String,
    pub(in crate::profiles) profile_id: Option<i64>,
    pub(in crate::profiles) previous: Option<i64>,
}

/// What is in force on a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::profiles) struct Standing {
    pub(in crate::profiles) layer: LayerKey,
    pub(in crate::profiles) profile_name: String,
    pub(in crate::profiles) org_path: String,
    pub(in crate::profiles) profile_id: i64,
    pub(in crate::profiles) previous: Option<i64>,
    /// How far its terminals were told.
    pub(in crate::profiles) spread: Cursor,
}

/// A place in the order of organization and terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::profiles) struct Cursor {
    pub(in crate::profiles) org_path: String,
    pub(in crate::profiles) terminal_id: i64,
}

macro_rules! placed {
    ($ids:expr) => {
        terminals::table.filter(terminals::id.eq_any($ids)).order(terminals::id).select((
            terminals::id,
            terminals::org_path,
            terminals::desired_config_hash,
        ))
    };
}

/// By primary key.
pub(in crate::profiles) fn placed(conn: &mut Conn, ids: &[i64]) -> Result<Vec<Placed>, db::Error> {
    Ok(placed!(ids).load(conn)?)
}

/// As [`placed`]; nobody else changes these terminals, or what they take, until the transaction ends. In the order of
/// their numbers, so that two cannot wait for each other; whoever writes their assignments, too, locks those first, as
/// check-ins do. On SQLite there is one writer anyway.
pub(in crate::profiles) fn lock(conn: &mut Conn, ids: &[i64]) -> Result<Vec<Placed>, db::Error> {
    Ok(match conn {
        Conn::Sqlite(c) => placed!(ids).load(c)?,
        Conn::Postgres(c) => placed!(ids).for_no_key_update().load(c)?,
    })
}

/// A terminal's config hashes.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
pub(in crate::profiles) struct Hashes {
    /// The one that it is told.
    pub(in crate::profiles) expected: Option<String>,
    /// The one that it reported last.
    pub(in crate::profiles) reported: Option<String>,
}

/// Of a terminal within `scope`. By primary keys.
pub(in crate::profiles) fn hashes(
    conn: &mut Conn,
    scope: &Scope,
    terminal_id: i64,
) -> Result<Option<Hashes>, db::Error> {
    Ok(terminals::table
        .left_join(terminal_states::table.on(terminal_states::terminal_id.eq(terminals::id)))
        .filter(terminals::id.eq(terminal_id))
        .filter(terminals::org_path.ge(scope.from()))
        .filter(terminals::org_path.lt(scope.below()))
        .select((terminals::desired_config_hash, terminal_states::config_hash.nullable()))
        .first(conn)
        .optional()?)
}

/// Tags by terminal. By `terminal_tags_by_terminal`.
pub(in crate::profiles) fn tags(conn: &mut Conn, ids: &[i64]) -> Result<HashMap<i64, Vec<String>>, db::Error> {
    let rows: Vec<(i64, String)> = terminal_tags::table
        .filter(terminal_tags::terminal_id.eq_any(ids))
        .select((terminal_tags::terminal_id, terminal_tags::tag))
        .load(conn)?;
    let mut tags: HashMap<i64, Vec<String>> = HashMap::new();
    for (id, tag) in rows {
        tags.entry(id).or_default().push(tag);
    }
    Ok(tags)
}

/// Only this program writes the names of layers; one that a newer program wrote is left alone, and said.
fn layer(text: &str) -> Option<LayerKey> {
    let layer = LayerKey::parse(text);
    if layer.is_none() {
        tracing::error!(layer = text, "a layer's name cannot be read");
    }
    layer
}

type OwnColumns = (i64, String, String, Option<i64>, Option<i64>);

/// What terminals take instead of their layers' own. By primary key.
pub(in crate::profiles) fn own(conn: &mut Conn, ids: &[i64]) -> Result<HashMap<i64, Vec<Own>>, db::Error> {
    let rows = terminal_layers::table
        .filter(terminal_layers::terminal_id.eq_any(ids))
        .select((
            terminal_layers::terminal_id,
            terminal_layers::layer,
            terminal_layers::profile_name,
            terminal_layers::profile_id,
            terminal_layers::previous_profile_id,
        ))
        .load::<OwnColumns>(conn)?;
    let mut own: HashMap<i64, Vec<Own>> = HashMap::new();
    for (id, text, profile_name, profile_id, previous) in rows {
        if let Some(layer) = layer(&text) {
            own.entry(id).or_default().push(Own { layer, profile_name, profile_id, previous });
        }
    }
    Ok(own)
}

type StandingColumns = (String, String, String, i64, Option<i64>, String, i64);

macro_rules! standing {
    () => {
        config_layers::table.select((
            config_layers::layer,
            config_layers::profile_name,
            config_layers::org_path,
            config_layers::profile_id,
            config_layers::previous_profile_id,
            config_layers::spread_path,
            config_layers::spread_id,
        ))
    };
}

fn standing(row: StandingColumns) -> Option<Standing> {
    let (text, profile_name, org_path, profile_id, previous, spread_path, terminal_id) = row;
    let spread = Cursor { org_path: spread_path, terminal_id };
    Some(Standing { layer: layer(&text)?, profile_name, org_path, profile_id, previous, spread })
}

/// What is in force on the layers of these organizations and of groups with one of these tags. By
/// `config_layers_by_organization`.
pub(in crate::profiles) fn standing_for(
    conn: &mut Conn,
    organizations: &[i64],
    tags: &[&str],
) -> Result<Vec<Standing>, db::Error> {
    let rows = standing!()
        .filter(config_layers::organization_id.eq_any(organizations))
        .filter(config_layers::tag.is_null().or(config_layers::tag.eq_any(tags)))
        .load::<StandingColumns>(conn)?;
    Ok(rows.into_iter().filter_map(standing).collect())
}

/// What is in force on one layer. By primary key.
pub(in crate::profiles) fn on_layer(conn: &mut Conn, layer: &LayerKey) -> Result<Vec<Standing>, db::Error> {
    let rows = standing!().filter(config_layers::layer.eq(layer.text())).load::<StandingColumns>(conn)?;
    Ok(rows.into_iter().filter_map(standing).collect())
}

/// Puts a profile in force on a layer, in the place of `before`; its terminals are still to be told.
pub(in crate::profiles) fn put(
    conn: &mut Conn,
    layer: &LayerKey,
    owner: &Organization,
    profile: &Profile,
    before: Option<&Standing>,
    now: Now,
) -> Result<(), db::Error> {
    let tag = match layer {
        LayerKey::Group { tag, .. } => Some(tag.as_str()),
        LayerKey::Global | LayerKey::Organization { .. } | LayerKey::Terminal => None,
    };
    let values = (
        config_layers::profile_id.eq(profile.id),
        config_layers::previous_profile_id.eq(before.map(|before| before.profile_id)),
        config_layers::since_ms.eq(now.0),
        config_layers::spreading.eq(1),
        config_layers::spread_path.eq(""),
        config_layers::spread_id.eq(0),
    );
    if before.is_some() {
        diesel::update(config_layers::table.find((layer.text(), &profile.name))).set(values).execute(conn)?;
    } else {
        let key = (
            config_layers::layer.eq(layer.text()),
            config_layers::profile_name.eq(&profile.name),
            config_layers::organization_id.eq(owner.id),
            config_layers::org_path.eq(&owner.path),
            config_layers::tag.eq(tag),
        );
        diesel::insert_into(config_layers::table).values((key, values)).execute(conn)?;
    }
    Ok(())
}

/// The first layer whose terminals are still to be told. By `config_layers_spreading`.
pub(in crate::profiles) fn spreading(conn: &mut Conn) -> Result<Option<Standing>, db::Error> {
    let row = standing!()
        .filter(config_layers::spreading.eq(1))
        .order((config_layers::layer, config_layers::profile_name))
        .first::<StandingColumns>(conn)
        .optional()?;
    Ok(row.and_then(standing))
}

/// Moves a layer's cursor on, to the end without `to`; whether nobody else did, and the profile is still the same.
pub(in crate::profiles) fn advance(conn: &mut Conn, from: &Standing, to: Option<&Cursor>) -> Result<bool, db::Error> {
    let row = config_layers::table
        .filter(config_layers::layer.eq(from.layer.text()))
        .filter(config_layers::profile_name.eq(&from.profile_name))
        .filter(config_layers::profile_id.eq(from.profile_id))
        .filter(config_layers::spreading.eq(1))
        .filter(config_layers::spread_path.eq(&from.spread.org_path))
        .filter(config_layers::spread_id.eq(from.spread.terminal_id));
    let (path, id) = to.map_or(("", 0), |to| (to.org_path.as_str(), to.terminal_id));
    let moved = diesel::update(row)
        .set((
            config_layers::spreading.eq(i64::from(to.is_some())),
            config_layers::spread_path.eq(path),
            config_layers::spread_id.eq(id),
        ))
        .execute(conn)?;
    Ok(moved == 1)
}

/// Terminals of a subtree after `after`, in the order of organization and number. Two ranges of `terminals_by_org`.
pub(in crate::profiles) fn placed_after(
    conn: &mut Conn,
    scope: &Scope,
    after: &Cursor,
    limit: usize,
) -> Result<Vec<Cursor>, db::Error> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows: Vec<(String, i64)> = terminals::table
        .filter(terminals::org_path.eq(&after.org_path))
        .filter(terminals::id.gt(after.terminal_id))
        .order(terminals::id)
        .limit(limit)
        .select((terminals::org_path, terminals::id))
        .load(conn)?;
    let left = limit - i64::try_from(rows.len()).unwrap_or(0);
    if left > 0 {
        let further: Vec<(String, i64)> = terminals::table
            .filter(terminals::org_path.gt(&after.org_path))
            .filter(terminals::org_path.ge(scope.from()))
            .filter(terminals::org_path.lt(scope.below()))
            .order((terminals::org_path, terminals::id))
            .limit(left)
            .select((terminals::org_path, terminals::id))
            .load(conn)?;
        rows.extend(further);
    }
    Ok(rows.into_iter().map(|(org_path, terminal_id)| Cursor { org_path, terminal_id }).collect())
}

/// Terminals with a tag after the terminal `after`, whoever they belong to. By primary key.
pub(in crate::profiles) fn tagged_after(
    conn: &mut Conn,
    tag: &str,
    after: i64,
    limit: usize,
) -> Result<Vec<Cursor>, db::Error> {
    let rows: Vec<i64> = terminal_tags::table
        .filter(terminal_tags::tag.eq(tag))
        .filter(terminal_tags::terminal_id.gt(after))
        .order(terminal_tags::terminal_id)
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .select(terminal_tags::terminal_id)
        .load(conn)?;
    Ok(rows.into_iter().map(|terminal_id| Cursor { org_path: String::new(), terminal_id }).collect())
}

/// Replaces what these terminals take of one name on one layer; `None` in place of a row leaves them the layer's own.
pub(in crate::profiles) fn replace_own(
    conn: &mut Conn,
    layer: &LayerKey,
    profile_name: &str,
    rows: &[(i64, Option<Own>)],
    now: Now,
) -> Result<(), db::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let text = layer.text();
    let ids: Vec<i64> = rows.iter().map(|(id, _)| *id).collect();
    let old = terminal_layers::table
        .filter(terminal_layers::terminal_id.eq_any(&ids))
        .filter(terminal_layers::layer.eq(&text))
        .filter(terminal_layers::profile_name.eq(profile_name));
    diesel::delete(old).execute(conn)?;
    let new: Vec<_> = rows
        .iter()
        .filter_map(|(id, own)| {
            let own = own.as_ref()?;
            Some((
                terminal_layers::terminal_id.eq(*id),
                terminal_layers::layer.eq(&text),
                terminal_layers::profile_name.eq(profile_name),
                terminal_layers::profile_id.eq(own.profile_id),
                terminal_layers::previous_profile_id.eq(own.previous),
                terminal_layers::since_ms.eq(now.0),
            ))
        })
        .collect();
    if !new.is_empty() {
        on_backend!(conn, |c| diesel::insert_into(terminal_layers::table).values(new).execute(c))?;
    }
    Ok(())
}

/// Terminals that take `profile_id` by themselves take it from the layer from now on.
pub(in crate::profiles) fn follow(conn: &mut Conn, layer: &Standing, ids: &[i64]) -> Result<(), db::Error> {
    let rows = terminal_layers::table
        .filter(terminal_layers::terminal_id.eq_any(ids))
        .filter(terminal_layers::layer.eq(layer.layer.text()))
        .filter(terminal_layers::profile_name.eq(&layer.profile_name))
        .filter(terminal_layers::profile_id.eq(layer.profile_id));
    diesel::delete(rows).execute(conn)?;
    Ok(())
}

/// Forgets everything these terminals took on a layer that they left.
pub(in crate::profiles) fn leave(conn: &mut Conn, layer: &LayerKey, ids: &[i64]) -> Result<(), db::Error> {
    let rows = terminal_layers::table
        .filter(terminal_layers::terminal_id.eq_any(ids))
        .filter(terminal_layers::layer.eq(layer.text()));
    diesel::delete(rows).execute(conn)?;
    Ok(())
}

/// Sets what these terminals are told, a statement for each [`CHANGED`].
pub(in crate::profiles) fn set_desired(conn: &mut Conn, hash: Option<&str>, ids: &[i64]) -> Result<(), db::Error> {
    for ids in ids.chunks(CHANGED) {
        let rows = terminals::table.filter(terminals::id.eq_any(ids));
        diesel::update(rows).set(terminals::desired_config_hash.eq(hash)).execute(conn)?;
    }
    Ok(())
}

/// Where the list of layers goes on: organization's path, layer, profile's name.
pub(in crate::profiles) type LayerCursor = (String, String, String);

type LayerColumns = (String, String, i64, String, i64, String, i64, i64);

/// What is in force within `scope` above the terminals, from the top of the tree down. By `config_layers_by_path`.
pub(in crate::profiles) fn list(
    conn: &mut Conn,
    scope: &Scope,
    after: Option<&LayerCursor>,
    limit: i64,
) -> Result<Vec<LayerInForce>, db::Error> {
    let (path, name, profile) = after.map_or(("", "", ""), |(path, name, profile)| (path, name, profile));
    let further_here =
        config_layers::layer.gt(name).or(config_layers::layer.eq(name).and(config_layers::profile_name.gt(profile)));
    let rows = config_layers::table
        .inner_join(profiles::table.on(profiles::id.eq(config_layers::profile_id)))
        .filter(config_layers::org_path.ge(scope.from()))
        .filter(config_layers::org_path.lt(scope.below()))
        .filter(config_layers::org_path.gt(path).or(config_layers::org_path.eq(path).and(further_here)))
        .order((config_layers::org_path, config_layers::layer, config_layers::profile_name))
        .limit(limit)
        .select((
            config_layers::layer,
            config_layers::org_path,
            profiles::id,
            profiles::name,
            profiles::version,
            profiles::hash,
            config_layers::since_ms,
            config_layers::spreading,
        ))
        .load::<LayerColumns>(conn)?;
    Ok(rows.into_iter().filter_map(in_force).collect())
}

fn in_force(row: LayerColumns) -> Option<LayerInForce> {
    let (text, org_path, profile_id, profile_name, profile_version, hash, since_ms, spreading) = row;
    let spreading = spreading == 1;
    Some(LayerInForce {
        layer: layer(&text)?,
        org_path,
        profile_id,
        profile_name,
        profile_version,
        hash,
        since_ms,
        spreading,
    })
}
