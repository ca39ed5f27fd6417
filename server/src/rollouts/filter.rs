//! Which terminals a rollout is for, and why one of them is left out. Pure.

use serde::{Deserialize, Serialize};
use tillward_protocol::FieldError;
use tillward_protocol::ids::{ModelCode, Version};

/// Terminals that may be named one by one; beyond that a tag is the better tool, and the request stays below its limit.
pub const TERMINALS_MAX: usize = 10_000;
/// Models, versions or tags that may be named: more than any fleet has in use.
pub const NAMES_MAX: usize = 100;
/// Longest tag, bytes: what no tag of a terminal exceeds.
pub const TAG_BYTES_MAX: usize = 256;

/// Which terminals. What is absent does not narrow; all that is present must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// This organization and everything below; the caller's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<i64>,
    /// One of these models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Runs one of these versions now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firmware: Vec<String>,
    /// Has one of these tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// One of these terminals, at most 10,000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub terminal_ids: Vec<i64>,
}

impl Filter {
    /// The same filter with its lists sorted and without repetitions, once every value is possible.
    ///
    /// # Errors
    /// The first field that is not, by its path.
    pub fn checked(mut self) -> Result<Self, FieldError> {
        for (field, list, is_good) in [
            ("models", &mut self.models, is_model as fn(&str) -> bool),
            ("firmware", &mut self.firmware, is_version),
            ("tags", &mut self.tags, is_tag),
        ] {
            if list.len() > NAMES_MAX {
                return Err(FieldError::new(format!("filter.{field}"), format!("at most {NAMES_MAX}")));
            }
            if let Some(at) = list.iter().position(|name| !is_good(name)) {
                return Err(FieldError::new(format!("filter.{field}[{at}]"), "is not a possible value"));
            }
            list.sort_unstable();
            list.dedup();
        }
        if self.terminal_ids.len() > TERMINALS_MAX {
            return Err(FieldError::new("filter.terminal_ids", format!("at most {TERMINALS_MAX}")));
        }
        self.terminal_ids.sort_unstable();
        self.terminal_ids.dedup();
        Ok(self)
    }

    /// Whether `candidate` is meant; `is_tagged` says whether it has one of the filter's tags.
    pub fn matches(&self, candidate: &Candidate, is_tagged: bool) -> bool {
        let one_of = |list: &[String], value: Option<&str>| {
            list.is_empty() || value.is_some_and(|value| list.iter().any(|name| name == value))
        };
        one_of(&self.models, Some(&candidate.model))
            && one_of(&self.firmware, candidate.firmware.as_deref())
            && (self.tags.is_empty() || is_tagged)
            && (self.terminal_ids.is_empty() || self.terminal_ids.binary_search(&candidate.id).is_ok())
    }
}

fn is_model(name: &str) -> bool {
    name.parse::<ModelCode>().is_ok()
}

fn is_version(name: &str) -> bool {
    name.parse::<Version>().is_ok()
}

fn is_tag(name: &str) -> bool {
    !name.is_empty() && name.len() <= TAG_BYTES_MAX && !name.chars().any(char::is_control)
}

/// A terminal that may be meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its number.
    pub id: i64,
    /// Serial number.
    pub sn: String,
    /// Model.
    pub model: String,
    /// Organization.
    pub org_path: String,
    /// Lifecycle state.
    pub lifecycle: String,
    /// Whether it ever enrolled.
    pub is_enrolled: bool,
    /// Firmware it runs; `None` before its first check-in.
    pub firmware: Option<String>,
    /// Payment application it runs.
    pub app: Option<String>,
}

/// What else stands in the way of one terminal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Obstacles {
    /// It has a live assignment.
    pub is_busy: bool,
    /// This release was rolled back on it before.
    pub was_rolled_back: bool,
}

/// Why a terminal that the filter means gets no assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Exclusion {
    /// It runs the release's version already.
    AtTarget,
    /// The release is not for its model.
    ModelMismatch,
    /// Its lifecycle state allows no updates.
    LifecycleNotAllowed,
    /// It takes part in another rollout now.
    BusyElsewhere,
    /// It never enrolled.
    NeverEnrolled,
    /// This release was rolled back on it before.
    RolledBackBefore,
}

/// What exclusions read of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseFacts {
    /// Models it is for.
    pub models: Vec<String>,
    /// Component.
    pub component: String,
    /// Version.
    pub firmware_version: String,
}

/// Lifecycle states that allow updates. A suspended terminal gets security updates only, which a rollout cannot yet say.
pub const LIFECYCLES_UPDATED: [&str; 6] = ["stocked", "allocated", "bound", "active", "repair", "unbound"];

/// Whether `candidate` gets an assignment.
///
/// # Errors
/// The first reason why not.
pub fn judge(candidate: &Candidate, release: &ReleaseFacts, obstacles: Obstacles) -> Result<(), Exclusion> {
    let runs = match release.component.as_str() {
        "app" => candidate.app.as_deref(),
        _ => candidate.firmware.as_deref(),
    };
    if !release.models.contains(&candidate.model) {
        Err(Exclusion::ModelMismatch)
    } else if !LIFECYCLES_UPDATED.contains(&candidate.lifecycle.as_str()) {
        Err(Exclusion::LifecycleNotAllowed)
    } else if !candidate.is_enrolled {
        Err(Exclusion::NeverEnrolled)
    } else if runs == Some(release.firmware_version.as_str()) {
        Err(Exclusion::AtTarget)
    } else if obstacles.was_rolled_back {
        Err(Exclusion::RolledBackBefore)
    } else if obstacles.is_busy {
        Err(Exclusion::BusyElsewhere)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate() -> Candidate {
        Candidate {
            id: 7,
            sn: "SN0007".to_owned(),
            model: "pax-a920".to_owned(),
            org_path: "/1/".to_owned(),
            lifecycle: "active".to_owned(),
            is_enrolled: true,
            firmware: Some("4.1.0".to_owned()),
            app: Some("2.0".to_owned()),
        }
    }

    fn release() -> ReleaseFacts {
        ReleaseFacts {
            models: vec!["pax-a920".to_owned()],
            component: "os".to_owned(),
            firmware_version: "4.2.0".to_owned(),
        }
    }

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn all_that_is_present_must_hold() {
        let all = Filter {
            organization_id: None,
            models: list(&["newland-n910", "pax-a920"]),
            firmware: list(&["4.1.0"]),
            tags: list(&["canary"]),
            terminal_ids: vec![5, 7],
        };
        assert!(Filter::default().matches(&candidate(), false));
        assert!(all.matches(&candidate(), true));
        assert!(!all.matches(&candidate(), false));
        assert!(!all.matches(&Candidate { model: "x".to_owned(), ..candidate() }, true));
        assert!(!all.matches(&Candidate { firmware: Some("4.0.0".to_owned()), ..candidate() }, true));
        assert!(!all.matches(&Candidate { firmware: None, ..candidate() }, true));
        assert!(!all.matches(&Candidate { id: 6, ..candidate() }, true));
    }

    #[test]
    fn impossible_filters_are_refused_by_the_fields_path() {
        let field = |filter: Filter| filter.checked().unwrap_err().field;
        assert_eq!(
            field(Filter { models: list(&["pax-a920", "Not A Model"]), ..Filter::default() }),
            "filter.models[1]"
        );
        assert_eq!(field(Filter { firmware: list(&[""]), ..Filter::default() }), "filter.firmware[0]");
        assert_eq!(field(Filter { tags: list(&["a\nb"]), ..Filter::default() }), "filter.tags[0]");
        let many = (0..=10_000).collect();
        assert_eq!(field(Filter { terminal_ids: many, ..Filter::default() }), "filter.terminal_ids");
        let twice = Filter { terminal_ids: vec![9, 2, 9], ..Filter::default() }.checked().unwrap();
        assert_eq!(twice.terminal_ids, [2, 9]);
    }

    #[test]
    fn every_exclusion_has_its_reason() {
        let with = |change: fn(&mut Candidate)| {
            let mut changed = candidate();
            change(&mut changed);
            judge(&changed, &release(), Obstacles::default())
        };
        assert_eq!(with(|_| {}), Ok(()));
        assert_eq!(with(|c| c.firmware = None), Ok(()));
        assert_eq!(with(|c| c.firmware = Some("4.2.0".to_owned())), Err(Exclusion::AtTarget));
        assert_eq!(with(|c| c.model = "newland-n910".to_owned()), Err(Exclusion::ModelMismatch));
        assert_eq!(with(|c| c.is_enrolled = false), Err(Exclusion::NeverEnrolled));
        for lifecycle in ["suspended", "lost", "retired", "blocked", "surprise"] {
            let changed = Candidate { lifecycle: lifecycle.to_owned(), ..candidate() };
            let judged = judge(&changed, &release(), Obstacles::default());
            assert_eq!(judged, Err(Exclusion::LifecycleNotAllowed), "{lifecycle}");
        }
        let judged = |is_busy, was_rolled_back| judge(&candidate(), &release(), Obstacles { is_busy, was_rolled_back });
        assert_eq!(judged(true, false), Err(Exclusion::BusyElsewhere));
        assert_eq!(judged(true, true), Err(Exclusion::RolledBackBefore));
        let app = ReleaseFacts { component: "app".to_owned(), firmware_version: "2.0".to_owned(), ..release() };
        assert_eq!(judge(&candidate(), &app, Obstacles::default()), Err(Exclusion::AtTarget));
    }
}
