//! The states of a release. Pure and total: every pair of state and event gives the next state or a refusal.

use serde::{Deserialize, Serialize};

/// Where a release is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseState {
    /// Uploaded and described.
    Draft,
    /// Somebody looked at it and agreed.
    Approved,
    /// Listed in the image repository: may be rolled out.
    Published,
    /// Listed no longer, for ever. Its counter stays used.
    Withdrawn,
}

impl ReleaseState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Draft, Self::Approved, Self::Published, Self::Withdrawn];

    /// Name in tables and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Approved => "approved",
            Self::Published => "published",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// The state of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// Whether the one who uploaded a release may approve it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnApproval {
    /// Quick-start mode: all keys are on one disk, and there may be one person only. The audit log says so.
    Allowed,
    /// Production: two people, always.
    Refused,
}

/// What somebody wants done with a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Agree, as somebody else than the author.
    Approve,
    /// Agree, as the author.
    ApproveOwn(OwnApproval),
    /// List it in the image repository.
    Publish,
    /// Take it back, at whatever state.
    Withdraw,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 5] = [
        Self::Approve,
        Self::ApproveOwn(OwnApproval::Allowed),
        Self::ApproveOwn(OwnApproval::Refused),
        Self::Publish,
        Self::Withdraw,
    ];
}

/// Why an event does not fit, with what to do instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Somebody else has to.
    #[error("nobody approves an own release: ask a second person with the approver role")]
    OwnRelease,
    /// Not yet.
    #[error("the release is a draft: it must be approved before it can be published")]
    NotApproved,
    /// Already.
    #[error("the release is already {}", .0.as_str())]
    Already(ReleaseState),
    /// Final.
    #[error("the release was withdrawn, which is final: upload it again with a higher counter")]
    Final,
}

/// The state after `event`.
///
/// # Errors
/// A [`Refusal`] when the event does not fit the state.
pub fn step(state: ReleaseState, event: Event) -> Result<ReleaseState, Refusal> {
    use ReleaseState as S;
    match (state, event) {
        (S::Draft, Event::ApproveOwn(OwnApproval::Refused)) => Err(Refusal::OwnRelease),
        (S::Draft, Event::Approve | Event::ApproveOwn(OwnApproval::Allowed)) => Ok(S::Approved),
        (S::Draft, Event::Publish) => Err(Refusal::NotApproved),
        (S::Approved, Event::Publish) => Ok(S::Published),
        (S::Approved | S::Published, Event::Approve | Event::ApproveOwn(_)) => Err(Refusal::Already(state)),
        (S::Published, Event::Publish) => Err(Refusal::Already(state)),
        (S::Draft | S::Approved | S::Published, Event::Withdraw) => Ok(S::Withdrawn),
        (S::Withdrawn, Event::Approve | Event::ApproveOwn(_) | Event::Publish | Event::Withdraw) => Err(Refusal::Final),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    #[test]
    fn the_whole_table_is_the_one_on_record() {
        let mut table = String::new();
        for state in ReleaseState::ALL {
            for event in Event::ALL {
                let next = match step(state, event) {
                    Ok(next) => next.as_str().to_owned(),
                    Err(refusal) => format!("refused: {refusal}"),
                };
                writeln!(table, "{:<9} + {:<19} -> {next}", state.as_str(), format!("{event:?}")).unwrap();
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn names_in_tables_are_read_back() {
        for state in ReleaseState::ALL {
            assert_eq!(ReleaseState::parse(state.as_str()), Some(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        assert_eq!(ReleaseState::parse("Draft"), None);
    }
}
