//! Rollouts that bring what an explanation names: the way from a cause to the page on which it is stopped.

use super::rollout_words;
use super::rollouts::status;
use super::shell::Shell;
use super::status::Status;
use crate::failures::Explanation;
use crate::http::State;
use crate::http::problem::Problem;
use crate::operators::{Permission, Scope};
use crate::organizations::Organization;
use crate::rollouts::{self, ListFilter, Rollout, Software, SoftwarePart};

/// What still may bring it, or has brought it and may go on: in the order in which somebody has to act.
const STATES: [&str; 3] = ["running", "paused", "halted"];
/// Rollouts of one version and state that are read: some for each of many resellers.
const READ_MAX: u32 = 100;
/// Rollouts shown with one explanation.
const SHOWN_MAX: usize = 5;

/// A rollout that brings what an explanation names.
pub(super) struct Mover {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) release: String,
    pub(super) status: Status,
}

/// The versions that an explanation names, in other words that fit as well, too: which of them it is, the counts do not
/// say.
fn named(found: &Explanation) -> Vec<Software> {
    let mut named: Vec<Software> = Vec::new();
    for set in [&found.all_of].into_iter().chain(found.also_fits.iter().map(|(set, _)| set)) {
        let model = set.iter().find(|part| part.attribute == "model").map(|part| part.value.clone());
        for condition in set {
            let part = match condition.attribute.as_str() {
                "firmware" => SoftwarePart::Firmware,
                "app" => SoftwarePart::App,
                _ => continue,
            };
            let software = Software { part, version: condition.value.clone(), model: model.clone() };
            if !named.contains(&software) {
                named.push(software);
            }
        }
    }
    named
}

/// Whether a rollout may have to do with terminals of `part`: it is for them, for those around them, or for some of them.
fn concerns(rollout: &Rollout, tree: &[Organization], part: &Scope) -> bool {
    let target = rollout.filter.organization_id.unwrap_or(rollout.organization_id);
    let known = tree.iter().find(|organization| organization.id == target);
    known.is_none_or(|found| part.contains(&found.path) || part.from().starts_with(&found.path))
}

/// The rollouts of each explanation, in its place; none for those who may not see rollouts. `scope` is the caller's own,
/// `part` what was asked about.
///
/// # Errors
/// 503 or 500 when the database fails.
pub(super) async fn movers(
    shell: &Shell,
    state: &State,
    scope: Scope,
    part: &Scope,
    tree: &[Organization],
    explanations: &[Explanation],
) -> Result<Vec<Vec<Mover>>, Problem> {
    let may_see = shell.may(Permission::RolloutsRead);
    let wanted: Vec<Vec<Software>> =
        explanations.iter().map(|found| if may_see { named(found) } else { Vec::new() }).collect();
    let found = state
        .db
        .read(move |conn| {
            let mut found: Vec<Vec<Rollout>> = Vec::new();
            for versions in wanted {
                let mut moving: Vec<Rollout> = Vec::new();
                for (software, state) in versions.iter().flat_map(|software| STATES.map(|state| (software, state))) {
                    let filter = ListFilter { states: vec![state], software: Some(software.clone()) };
                    for rollout in rollouts::list(conn, &scope, &filter, None, READ_MAX)? {
                        if moving.iter().all(|known| known.id != rollout.id) {
                            moving.push(rollout);
                        }
                    }
                }
                found.push(moving);
            }
            Ok::<_, Problem>(found)
        })
        .await?;
    let shown = |mut moving: Vec<Rollout>| {
        moving.retain(|rollout| concerns(rollout, tree, part));
        moving.sort_by_key(|rollout| STATES.iter().position(|state| *state == rollout.state));
        moving.into_iter().take(SHOWN_MAX).map(|rollout| mover(shell, rollout)).collect()
    };
    Ok(found.into_iter().map(shown).collect())
}

fn mover(shell: &Shell, rollout: Rollout) -> Mover {
    Mover {
        id: rollout.id,
        release: rollout_words::subject(shell, &rollout),
        status: status(shell, &rollout.state),
        name: rollout.name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failures::Condition;

    fn set(parts: &[(&str, &str)]) -> Vec<Condition> {
        let condition =
            |(attribute, value): &(&str, &str)| Condition { attribute: (*attribute).into(), value: (*value).into() };
        parts.iter().map(condition).collect()
    }

    fn explanation(all_of: Vec<Condition>, also_fits: Vec<(Vec<Condition>, f64)>) -> Explanation {
        Explanation {
            all_of,
            exposures: 100.0,
            failures: 50.0,
            expected: 5.0,
            lift: 10.0,
            lift_low: 8.0,
            lift_high: 12.0,
            coverage: None,
            p_adjusted: 0.0,
            without_one: Vec::new(),
            also_fits,
            began_at_ms: None,
            terminals: 0,
            failing: Vec::new(),
        }
    }

    fn software(part: SoftwarePart, version: &str, model: Option<&str>) -> Software {
        Software { part, version: version.to_owned(), model: model.map(str::to_owned) }
    }

    #[test]
    fn versions_are_found_in_an_explanation_and_in_what_fits_as_well() {
        let none = explanation(set(&[("carrier", "CMCC"), ("access", "2g")]), Vec::new());
        assert_eq!(named(&none), []);
        let both = explanation(
            set(&[("firmware", "4.2.0"), ("model", "P1")]),
            vec![(set(&[("app", "2.0.1")]), 0.9), (set(&[("firmware", "4.2.0"), ("model", "P1")]), 0.8)],
        );
        assert_eq!(
            named(&both),
            [software(SoftwarePart::Firmware, "4.2.0", Some("P1")), software(SoftwarePart::App, "2.0.1", None)]
        );
    }
}
