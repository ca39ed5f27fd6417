//! Which terminals a rollout is for, and why one of them is left out. Pure.

use serde::{Deserialize, Serialize};
use tillward_protocol::FieldError;
use tillward_protocol::ids::{ModelCode, Version};

use super::assignment::Phase;

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
    /// None of these terminals, at most 10,000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_terminal_ids: Vec<i64>,
    /// Has none of these tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_tags: Vec<String>,
    /// Ended so in another rollout: to try the failed ones again, or to take back what was updated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_rollout: Option<OfRollout>,
}

/// Terminals of another rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OfRollout {
    /// Its number.
    pub rollout_id: i64,
    /// Final phases: `succeeded`, `failed`, `rolled_back`, `timed_out`, `cancelled`.
    pub phases: Vec<String>,
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
            ("exclude_tags", &mut self.exclude_tags, is_tag),
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
        for (field, ids) in
            [("terminal_ids", &mut self.terminal_ids), ("exclude_terminal_ids", &mut self.exclude_terminal_ids)]
        {
            if ids.len() > TERMINALS_MAX {
                return Err(FieldError::new(format!("filter.{field}"), format!("at most {TERMINALS_MAX}")));
            }
            ids.sort_unstable();
            ids.dedup();
        }
        if let Some(of) = &self.of_rollout {
            let is_final = |name: &String| Phase::parse(name).is_some_and(Phase::is_final);
            if of.phases.is_empty() || !of.phases.iter().all(is_final) {
                return Err(FieldError::new(
                    "filter.of_rollout.phases",
                    "must name at least one final phase, and no other",
                ));
            }
        }
        Ok(self)
    }

    /// Whether `candidate` is on the block list; `has_excluded_tag` says whether it has one of the excluded tags.
    pub fn blocks(&self, candidate: &Candidate, has_excluded_tag: bool) -> bool {
        has_excluded_tag || self.exclude_terminal_ids.binary_search(&candidate.id).is_ok()
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
    /// Hash of its store; 0 where none is known.
    pub site: i64,
    /// What the gate compares it by.
    pub attributes: Attributes,
}

/// What the gate compares terminals by: coarse, so that there are few combinations.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attributes {
    /// Model.
    pub model: String,
    /// How it reaches the server: `4g`, `wifi`, …; `unknown` before its first check-in.
    pub access: String,
    /// Carrier.
    pub carrier: String,
    /// Place.
    pub region: String,
    /// Hardware revision.
    pub hardware: String,
}

/// What else stands in the way of one terminal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Obstacles {
    /// It is on the rollout's block list.
    pub is_blocked: bool,
    /// It takes part in this rollout already.
    pub is_in: bool,
    /// It belongs to a part of the rollout that was stopped.
    pub is_stopped: bool,
    /// It has a live assignment that this rollout may not take over.
    pub is_busy: bool,
    /// This release was rolled back on it before.
    pub was_rolled_back: bool,
    /// Release counter of what it runs, where that is a known release.
    pub runs_counter: Option<i64>,
    /// Another component must be updated first.
    pub lacks_requirement: bool,
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
    /// It is on the block list.
    BlockListed,
    /// It runs something older than the release may start from: an intermediate version must come first.
    BelowMinimum,
    /// Another component must be updated first.
    RequirementMissing,
    /// It takes part in this rollout already.
    AlreadyIn,
    /// Its part of the rollout was stopped.
    ScopeStopped,
}

impl Exclusion {
    /// Every one.
    pub const ALL: [Self; 11] = [
        Self::AtTarget,
        Self::ModelMismatch,
        Self::LifecycleNotAllowed,
        Self::BusyElsewhere,
        Self::NeverEnrolled,
        Self::RolledBackBefore,
        Self::BlockListed,
        Self::BelowMinimum,
        Self::RequirementMissing,
        Self::AlreadyIn,
        Self::ScopeStopped,
    ];
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
    /// Smallest release counter that may be updated from.
    pub min_from_counter: Option<i64>,
    /// Release counters that other components must have.
    pub requires: Vec<Requirement>,
}

/// A component that must be there first, as a release names it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Requirement {
    /// Component.
    pub component: String,
    /// Its smallest release counter.
    pub release_counter: i64,
}

/// What is rolled out, as exclusions read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Facts {
    /// A release.
    Release(ReleaseFacts),
    /// A profile: any terminal can take it.
    Profile,
}

/// Lifecycle states that allow updates. A suspended terminal gets security updates only, which a rollout cannot yet say.
pub const LIFECYCLES_UPDATED: [&str; 6] = ["stocked", "allocated", "bound", "active", "repair", "unbound"];

/// Whether `candidate` gets an assignment.
///
/// # Errors
/// The first reason why not.
pub fn judge(candidate: &Candidate, facts: &Facts, obstacles: Obstacles) -> Result<(), Exclusion> {
    if obstacles.is_in {
        return Err(Exclusion::AlreadyIn);
    }
    if obstacles.is_blocked {
        return Err(Exclusion::BlockListed);
    }
    if let Facts::Release(release) = facts
        && !release.models.contains(&candidate.model)
    {
        return Err(Exclusion::ModelMismatch);
    }
    if !LIFECYCLES_UPDATED.contains(&candidate.lifecycle.as_str()) {
        return Err(Exclusion::LifecycleNotAllowed);
    }
    if !candidate.is_enrolled {
        return Err(Exclusion::NeverEnrolled);
    }
    if let Facts::Release(release) = facts {
        judge_version(candidate, release, obstacles)?;
    }
    if obstacles.is_stopped {
        Err(Exclusion::ScopeStopped)
    } else if obstacles.is_busy {
        Err(Exclusion::BusyElsewhere)
    } else {
        Ok(())
    }
}

/// Whether the release fits what the terminal runs.
fn judge_version(candidate: &Candidate, release: &ReleaseFacts, obstacles: Obstacles) -> Result<(), Exclusion> {
    if candidate.runs(&release.component) == Some(release.firmware_version.as_str()) {
        Err(Exclusion::AtTarget)
    } else if obstacles.was_rolled_back {
        Err(Exclusion::RolledBackBefore)
    } else if release.min_from_counter.zip(obstacles.runs_counter).is_some_and(|(least, runs)| runs < least) {
        Err(Exclusion::BelowMinimum)
    } else if obstacles.lacks_requirement {
        Err(Exclusion::RequirementMissing)
    } else {
        Ok(())
    }
}

impl Candidate {
    /// The version of a component that it runs, where the server knows it.
    pub fn runs(&self, component: &str) -> Option<&str> {
        match component {
            "app" => self.app.as_deref(),
            _ => self.firmware.as_deref(),
        }
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
            site: 0,
            attributes: Attributes {
                model: "pax-a920".to_owned(),
                access: "4g".to_owned(),
                carrier: "cmcc".to_owned(),
                region: "440000".to_owned(),
                hardware: "unknown".to_owned(),
            },
        }
    }

    fn release() -> ReleaseFacts {
        ReleaseFacts {
            models: vec!["pax-a920".to_owned()],
            component: "os".to_owned(),
            firmware_version: "4.2.0".to_owned(),
            min_from_counter: Some(10),
            requires: Vec::new(),
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
            ..Filter::default()
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
    fn a_block_list_names_terminals_and_tags() {
        let blocking = Filter { exclude_terminal_ids: vec![7], ..Filter::default() };
        assert!(blocking.blocks(&candidate(), false));
        assert!(!blocking.blocks(&Candidate { id: 8, ..candidate() }, false));
        assert!(Filter::default().blocks(&candidate(), true));
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
        for phases in [list(&[]), list(&["waiting"]), list(&["surprise"])] {
            let of_rollout = Some(OfRollout { rollout_id: 1, phases });
            assert_eq!(field(Filter { of_rollout, ..Filter::default() }), "filter.of_rollout.phases");
        }
        let twice = Filter { terminal_ids: vec![9, 2, 9], ..Filter::default() }.checked().unwrap();
        assert_eq!(twice.terminal_ids, [2, 9]);
    }

    #[test]
    fn every_exclusion_has_its_reason() {
        let with = |change: fn(&mut Candidate)| {
            let mut changed = candidate();
            change(&mut changed);
            judge(&changed, &Facts::Release(release()), Obstacles::default())
        };
        assert_eq!(with(|_| {}), Ok(()));
        assert_eq!(with(|c| c.firmware = None), Ok(()));
        assert_eq!(with(|c| c.firmware = Some("4.2.0".to_owned())), Err(Exclusion::AtTarget));
        assert_eq!(with(|c| c.model = "newland-n910".to_owned()), Err(Exclusion::ModelMismatch));
        assert_eq!(with(|c| c.is_enrolled = false), Err(Exclusion::NeverEnrolled));
        for lifecycle in ["suspended", "lost", "retired", "blocked", "surprise"] {
            let changed = Candidate { lifecycle: lifecycle.to_owned(), ..candidate() };
            let judged = judge(&changed, &Facts::Release(release()), Obstacles::default());
            assert_eq!(judged, Err(Exclusion::LifecycleNotAllowed), "{lifecycle}");
        }
        let judged = |change: fn(&mut Obstacles)| {
            let mut obstacles = Obstacles::default();
            change(&mut obstacles);
            judge(&candidate(), &Facts::Release(release()), obstacles)
        };
        assert_eq!(judged(|o| o.is_busy = true), Err(Exclusion::BusyElsewhere));
        assert_eq!(judged(|o| o.was_rolled_back = true), Err(Exclusion::RolledBackBefore));
        assert_eq!(judged(|o| o.is_blocked = true), Err(Exclusion::BlockListed));
        assert_eq!(judged(|o| o.is_in = true), Err(Exclusion::AlreadyIn));
        assert_eq!(judged(|o| o.is_stopped = true), Err(Exclusion::ScopeStopped));
        assert_eq!(judged(|o| o.lacks_requirement = true), Err(Exclusion::RequirementMissing));
        assert_eq!(judged(|o| o.runs_counter = Some(9)), Err(Exclusion::BelowMinimum));
        assert_eq!(judged(|o| o.runs_counter = Some(10)), Ok(()));
        // A version that no release names says nothing: the terminal checks its own counter.
        assert_eq!(judged(|o| o.runs_counter = None), Ok(()));
        assert_eq!(
            judge(&candidate(), &Facts::Profile, Obstacles { was_rolled_back: true, ..Obstacles::default() }),
            Ok(())
        );
        let app = ReleaseFacts { component: "app".to_owned(), firmware_version: "2.0".to_owned(), ..release() };
        assert_eq!(judge(&candidate(), &Facts::Release(app), Obstacles::default()), Err(Exclusion::AtTarget));
    }
}
