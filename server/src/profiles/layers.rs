//! Layers, and how the profiles in force on them become one set of parameters. Pure.
//!
//! A later layer overrides an earlier one, parameter by parameter: global, then the organizations from the top of the
//! tree down, then the groups, then the terminal itself. Groups come in the order of their tags, and the same tag of
//! several organizations from the top down. On one layer there may be one profile of each name; they come in the order
//! of their names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Parameter, Profile};

/// Where a profile is in force.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum LayerKey {
    /// Headquarters', for every terminal.
    Global,
    /// An organization's, for every terminal of its subtree.
    Organization {
        /// The organization.
        organization_id: i64,
    },
    /// Terminals of an organization's subtree that have a tag.
    Group {
        /// The organization.
        organization_id: i64,
        /// The tag.
        tag: String,
    },
    /// A terminal's own.
    Terminal,
}

impl LayerKey {
    /// Name in tables; each layer has one.
    pub fn text(&self) -> String {
        match self {
            Self::Global => "global".to_owned(),
            Self::Organization { organization_id } => format!("organization:{organization_id}"),
            Self::Group { organization_id, tag } => format!("group:{organization_id}:{tag}"),
            Self::Terminal => "terminal".to_owned(),
        }
    }

    /// The layer of this name.
    pub fn parse(text: &str) -> Option<Self> {
        // A tag may hold colons.
        let mut parts = text.splitn(3, ':');
        let (kind, id, tag) = (parts.next()?, parts.next().map(str::parse), parts.next());
        match (kind, id, tag) {
            ("global", None, None) => Some(Self::Global),
            ("terminal", None, None) => Some(Self::Terminal),
            ("organization", Some(Ok(organization_id)), None) => Some(Self::Organization { organization_id }),
            ("group", Some(Ok(organization_id)), Some(tag)) => {
                Some(Self::Group { organization_id, tag: tag.to_owned() })
            }
            _ => None,
        }
    }

    /// What kind of layer, by its name in answers.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Organization { .. } => "organization",
            Self::Group { .. } => "group",
            Self::Terminal => "terminal",
        }
    }

    /// The organization that the layer names.
    pub fn organization_id(&self) -> Option<i64> {
        match self {
            Self::Global | Self::Terminal => None,
            Self::Organization { organization_id } | Self::Group { organization_id, .. } => Some(*organization_id),
        }
    }

    /// Whether a terminal of the organization `org_path` with these tags is on this layer.
    pub fn holds(&self, org_path: &str, tags: &[String]) -> bool {
        match self {
            Self::Global | Self::Terminal => true,
            Self::Organization { organization_id } => depth(org_path, *organization_id).is_some(),
            Self::Group { organization_id, tag } => tags.contains(tag) && depth(org_path, *organization_id).is_some(),
        }
    }

    /// Sorts layers of one terminal, the weakest first.
    fn rank(&self, org_path: &str) -> (u8, &str, usize) {
        match self {
            Self::Global => (0, "", 0),
            Self::Organization { organization_id } => (1, "", depth(org_path, *organization_id).unwrap_or(0)),
            Self::Group { organization_id, tag } => (2, tag, depth(org_path, *organization_id).unwrap_or(0)),
            Self::Terminal => (3, "", 0),
        }
    }
}

/// The organizations of a path, from the top down.
pub(super) fn chain(org_path: &str) -> impl Iterator<Item = i64> {
    org_path.split('/').filter_map(|part| part.parse().ok())
}

/// How deep in a path an organization is.
fn depth(org_path: &str, organization_id: i64) -> Option<usize> {
    chain(org_path).position(|id| id == organization_id)
}

/// A profile that is in force for a terminal, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InForce {
    pub(super) layer: LayerKey,
    pub(super) profile_name: String,
    pub(super) profile_id: i64,
}

/// Brings what is in force for a terminal of the organization `org_path` into the order in which it is merged.
pub(super) fn sort(in_force: &mut [InForce], org_path: &str) {
    in_force.sort_by(|a, b| {
        let (of_a, of_b) = (a.layer.rank(org_path), b.layer.rank(org_path));
        of_a.cmp(&of_b).then_with(|| a.profile_name.cmp(&b.profile_name))
    });
}

/// Merges profiles, the weakest first; each value comes with the place of the profile that gave it.
pub(super) fn merge<'a>(profiles: &[&'a Profile]) -> BTreeMap<&'a str, (&'a Parameter, usize)> {
    let mut merged = BTreeMap::new();
    for (place, profile) in profiles.iter().enumerate() {
        merged.extend(profile.parameters.iter().map(|(name, value)| (name.as_str(), (value, place))));
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(id: i64, name: &str, parameters: &str) -> Profile {
        Profile {
            id,
            organization_id: 1,
            name: name.to_owned(),
            version: 1,
            hash: String::new(),
            parameters: serde_json::from_str(parameters).unwrap(),
            created_by: String::new(),
            created_at_ms: 0,
        }
    }

    fn group(organization_id: i64, tag: &str) -> LayerKey {
        LayerKey::Group { organization_id, tag: tag.to_owned() }
    }

    fn organization(organization_id: i64) -> LayerKey {
        LayerKey::Organization { organization_id }
    }

    #[test]
    fn every_layer_is_read_back_from_its_name_and_nothing_else_is() {
        for layer in [LayerKey::Global, LayerKey::Terminal, organization(17), group(17, "vip"), group(3, "a:b:c")] {
            assert_eq!(LayerKey::parse(&layer.text()), Some(layer));
        }
        for bad in
            ["", "global:1", "organization", "organization:x", "organization:1:x", "group:1", "group:x:y", "org:1"]
        {
            assert_eq!(LayerKey::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_layer_holds_the_terminals_of_its_subtree_that_have_its_tag() {
        let tags = ["lab".to_owned(), "vip".to_owned()];
        for (layer, path, holds) in [
            (LayerKey::Global, "/1/4/", true),
            (LayerKey::Terminal, "/1/4/", true),
            (organization(1), "/1/4/", true),
            (organization(4), "/1/4/", true),
            (organization(4), "/1/40/", false),
            (organization(4), "/1/", false),
            (group(4, "vip"), "/1/4/17/", true),
            (group(4, "VIP"), "/1/4/17/", false),
            (group(4, "other"), "/1/4/17/", false),
            (group(5, "vip"), "/1/4/17/", false),
        ] {
            assert_eq!(layer.holds(path, &tags), holds, "{layer:?} {path}");
        }
    }

    /// Who wins over whom, the weakest first; each of them against each later one.
    #[test]
    fn the_order_is_global_then_down_the_tree_then_groups_by_tag_then_the_terminal() {
        let order = [
            (LayerKey::Global, "a"),
            (LayerKey::Global, "b"),
            (organization(1), "z"),
            (organization(40), "a"),
            (organization(7), "a"),
            (organization(7), "b"),
            (group(7, "lab"), "a"),
            (group(1, "vip"), "z"),
            (group(40, "vip"), "a"),
            (group(7, "vip"), "a"),
            (LayerKey::Terminal, "a"),
            (LayerKey::Terminal, "b"),
        ];
        let in_force = |(layer, name): &(LayerKey, &str)| InForce {
            layer: layer.clone(),
            profile_name: (*name).to_owned(),
            profile_id: 0,
        };
        let expected: Vec<InForce> = order.iter().map(in_force).collect();
        for turn in 0..expected.len() {
            let mut shuffled = expected.clone();
            shuffled.rotate_left(turn);
            shuffled.reverse();
            sort(&mut shuffled, "/1/40/7/");
            assert_eq!(shuffled, expected);
        }
    }

    #[test]
    fn each_parameter_comes_from_the_last_profile_that_has_it() {
        let (below, middle, above) = (
            profile(1, "base", r#"{"apn": "cmnet", "host": "a", "tip": false}"#),
            profile(2, "empty", "{}"),
            profile(3, "shop", r#"{"host": "b", "print": 2}"#),
        );
        let merged = |profiles: &[&Profile]| -> Vec<(String, String, usize)> {
            let merged = merge(profiles);
            merged
                .into_iter()
                .map(|(name, (value, place))| (name.to_owned(), serde_json::to_string(value).unwrap(), place))
                .collect()
        };
        let row = |name: &str, value: &str, place| (name.to_owned(), value.to_owned(), place);
        assert_eq!(
            merged(&[&below, &middle, &above]),
            [row("apn", "\"cmnet\"", 0), row("host", "\"b\"", 2), row("print", "2", 2), row("tip", "false", 0)]
        );
        assert_eq!(
            merged(&[&above, &below]),
            [row("apn", "\"cmnet\"", 1), row("host", "\"a\"", 1), row("print", "2", 0), row("tip", "false", 1)]
        );
        assert_eq!(merged(&[&middle]), []);
        assert_eq!(merged(&[]), []);
    }
}
