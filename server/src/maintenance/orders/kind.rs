//! What is done under a work order. Pure.

use serde::{Deserialize, Serialize};

use crate::maintenance::reason::Reason;

/// Kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = WorkOrderKind)]
pub enum Kind {
    /// Look at the terminal and its place.
    Inspection,
    /// Mend it.
    Repair,
    /// Put another SIM card in.
    ReplaceSim,
    /// Put another terminal in its place.
    ReplaceTerminal,
    /// Sign in at the acquirer again.
    SignIn,
    /// Show the people of the store how it is done.
    TeachOperator,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Inspection, Self::Repair, Self::ReplaceSim, Self::ReplaceTerminal, Self::SignIn, Self::TeachOperator];

    /// Name in tables, URLs and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inspection => "inspection",
            Self::Repair => "repair",
            Self::ReplaceSim => "replace_sim",
            Self::ReplaceTerminal => "replace_terminal",
            Self::SignIn => "sign_in",
            Self::TeachOperator => "teach_operator",
        }
    }

    /// The kind of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// What a reason usually asks for.
    pub fn of_reason(reason: Reason) -> Self {
        match reason {
            Reason::Tamper | Reason::Moved | Reason::Dormant | Reason::Age => Self::Inspection,
            Reason::Reader | Reason::Printer | Reason::Battery | Reason::CoinCell | Reason::Certificate => Self::Repair,
            Reason::Sim => Self::ReplaceSim,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_own_name() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(Kind::parse("surprise"), None);
    }
}
