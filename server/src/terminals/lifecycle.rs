//! The life of a terminal: ten states, the actions that lead from one to the next, and what each state allows. Pure.

use serde::{Deserialize, Serialize};

/// Where a terminal is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lifecycle {
    /// 在库: in stock where it was registered.
    Stocked,
    /// 已划拨: in the stock of an organization further down.
    Allocated,
    /// 已绑定: with a merchant, not yet in use.
    Bound,
    /// 已激活: in use.
    Active,
    /// 停用: switched off for now.
    Suspended,
    /// 维修: in a workshop.
    Repair,
    /// 丢失: reported lost; locks itself when it calls.
    Lost,
    /// 已解绑: taken from its merchant.
    Unbound,
    /// 报废: gone for good.
    Retired,
    /// 黑名单: must not call.
    Blocked,
}

impl Lifecycle {
    /// Every state.
    pub const ALL: [Self; 10] = [
        Self::Stocked,
        Self::Allocated,
        Self::Bound,
        Self::Active,
        Self::Suspended,
        Self::Repair,
        Self::Lost,
        Self::Unbound,
        Self::Retired,
        Self::Blocked,
    ];

    /// Name in tables and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stocked => "stocked",
            Self::Allocated => "allocated",
            Self::Bound => "bound",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Repair => "repair",
            Self::Lost => "lost",
            Self::Unbound => "unbound",
            Self::Retired => "retired",
            Self::Blocked => "blocked",
        }
    }

    /// The state of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether entering this state ends the terminal's sessions at once.
    pub fn ends_sessions(self) -> bool {
        match self {
            Self::Lost | Self::Retired | Self::Blocked => true,
            Self::Stocked
            | Self::Allocated
            | Self::Bound
            | Self::Active
            | Self::Suspended
            | Self::Repair
            | Self::Unbound => false,
        }
    }

    /// What a terminal in this state may do and what may be done with it.
    pub fn allowances(self) -> Allowances {
        let new = Allowances {
            check_in: CheckIn::Accepted,
            telemetry: Telemetry::Minimal,
            updates: Updates::All,
            config: Config::Base,
            alerts: Alerts::None,
        };
        match self {
            Self::Stocked | Self::Allocated | Self::Unbound => new,
            Self::Bound => Allowances { telemetry: Telemetry::Full, config: Config::Own, alerts: Alerts::Soft, ..new },
            Self::Active => {
                Allowances { telemetry: Telemetry::Full, config: Config::Own, alerts: Alerts::Normal, ..new }
            }
            Self::Suspended => Allowances {
                telemetry: Telemetry::Full,
                updates: Updates::SecurityOnly,
                config: Config::Disabled,
                ..new
            },
            Self::Repair => {
                Allowances { telemetry: Telemetry::Full, updates: Updates::Lab, config: Config::Lab, ..new }
            }
            Self::Lost => Allowances {
                check_in: CheckIn::Alarmed,
                telemetry: Telemetry::Place,
                updates: Updates::None,
                config: Config::Lock,
                alerts: Alerts::High,
            },
            Self::Retired | Self::Blocked => Allowances {
                check_in: CheckIn::Refused,
                telemetry: Telemetry::None,
                updates: Updates::None,
                config: Config::None,
                alerts: Alerts::High,
            },
        }
    }
}

/// One row of the table of what each state allows. Allocation and binding are in the graph of [`step`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowances {
    /// Its check-ins.
    pub check_in: CheckIn,
    /// What is kept of them.
    pub telemetry: Telemetry,
    /// Which updates it is offered.
    pub updates: Updates,
    /// Which profile it gets.
    pub config: Config,
    /// How loud its troubles are.
    pub alerts: Alerts,
}

/// What becomes of a check-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckIn {
    /// Counted.
    Accepted,
    /// Counted, and somebody is told.
    Alarmed,
    /// Answered with 403, and somebody is told.
    Refused,
}

/// What is kept of a check-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telemetry {
    /// All of it.
    Full,
    /// That it lives and what it runs.
    Minimal,
    /// Where it is.
    Place,
    /// Nothing.
    None,
}

/// Which updates a terminal is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Updates {
    /// All.
    All,
    /// Those that close a hole.
    SecurityOnly,
    /// Those of the workshop.
    Lab,
    /// None.
    None,
}

/// Which profile a terminal gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Config {
    /// The one assigned to it.
    Own,
    /// The one for terminals without a merchant.
    Base,
    /// One that says "out of service".
    Disabled,
    /// The workshop's.
    Lab,
    /// One that locks it.
    Lock,
    /// None.
    None,
}

/// How loud a terminal's troubles are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alerts {
    /// Nobody is told.
    None,
    /// Shown, not sent.
    Soft,
    /// Sent.
    Normal,
    /// Sent at once: such a terminal should not call at all, or is being looked for.
    High,
}

/// What can be done to a terminal's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// 划拨: hand down to a direct child. Only through a transfer, which names the organization.
    Allocate,
    /// 回拨: take back from a direct child. Only through a transfer.
    Recall,
    /// 绑定: hand to the merchant in its record.
    Bind,
    /// 激活: into use.
    Activate,
    /// 反激活: back to merely bound.
    Deactivate,
    /// 解绑: take from its merchant.
    Unbind,
    /// 停用.
    Suspend,
    /// 恢复.
    Resume,
    /// 送修.
    SendToRepair,
    /// 修复: back to stock; it is bound anew.
    FinishRepair,
    /// 报失.
    ReportLost,
    /// 找回: to a workshop first, because nobody knows what was done to it.
    Found,
    /// 报废.
    Retire,
    /// 拉黑.
    Block,
    /// 解除拉黑: to a workshop first.
    Unblock,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 15] = [
        Self::Allocate,
        Self::Recall,
        Self::Bind,
        Self::Activate,
        Self::Deactivate,
        Self::Unbind,
        Self::Suspend,
        Self::Resume,
        Self::SendToRepair,
        Self::FinishRepair,
        Self::ReportLost,
        Self::Found,
        Self::Retire,
        Self::Block,
        Self::Unblock,
    ];

    /// Name in requests and audit entries.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allocate => "allocate",
            Self::Recall => "recall",
            Self::Bind => "bind",
            Self::Activate => "activate",
            Self::Deactivate => "deactivate",
            Self::Unbind => "unbind",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::SendToRepair => "send_to_repair",
            Self::FinishRepair => "finish_repair",
            Self::ReportLost => "report_lost",
            Self::Found => "found",
            Self::Retire => "retire",
            Self::Block => "block",
            Self::Unblock => "unblock",
        }
    }
}

/// Why an action is not possible in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} is not possible while the terminal is {}: {why}", .action.as_str(), .state.as_str())]
pub struct Refusal {
    /// The state it is in.
    pub state: Lifecycle,
    /// What was asked.
    pub action: Action,
    /// What to do instead.
    pub why: &'static str,
}

/// The state after `action`, or why not.
///
/// # Errors
/// [`Refusal`]; the terminal stays as it is.
pub fn step(state: Lifecycle, action: Action) -> Result<Lifecycle, Refusal> {
    use Action as A;
    use Lifecycle as L;
    let refused = |why| Err(Refusal { state, action, why });
    match (action, state) {
        (A::Unblock, L::Blocked) | (A::Found, L::Lost) => Ok(L::Repair),
        (A::Block, L::Blocked) => refused("it is blocked already"),
        (_, L::Retired) => refused("a retired terminal stays retired"),
        (A::Retire, L::Blocked) => Ok(L::Retired),
        (_, L::Blocked) => refused("unblock it first"),
        (A::Block, _) => Ok(L::Blocked),
        (A::Unblock, _) => refused("it is not blocked"),
        (A::Retire, L::Bound | L::Active) => refused("unbind it first"),
        (A::Retire, _) => Ok(L::Retired),
        (_, L::Lost) => refused("report it found first"),
        (A::Found, _) => refused("it is not lost"),
        (A::ReportLost, _) => Ok(L::Lost),
        (A::Allocate, L::Stocked | L::Allocated | L::Unbound) => Ok(L::Allocated),
        (A::Recall, L::Stocked | L::Allocated | L::Unbound) => Ok(L::Stocked),
        // A defective terminal goes back up for repair and stays in repair.
        (A::Recall, L::Repair) => Ok(L::Repair),
        (A::Allocate, L::Repair) => refused("finish the repair first"),
        (A::Allocate | A::Recall, L::Bound | L::Active | L::Suspended) => refused("only unbound terminals move"),
        (A::Bind, L::Stocked | L::Allocated | L::Unbound) => Ok(L::Bound),
        (A::Bind, L::Bound | L::Active) => refused("it has a merchant; unbind it first"),
        (A::Bind, L::Suspended) => refused("resume or unbind it first"),
        (A::Bind, L::Repair) => refused("finish the repair first"),
        (A::Activate, L::Bound) => Ok(L::Active),
        (A::Activate, L::Active) => refused("it is active already"),
        (A::Activate, L::Suspended) => refused("resume it instead"),
        (A::Activate, L::Stocked | L::Allocated | L::Unbound | L::Repair) => refused("bind it first"),
        (A::Deactivate, L::Active) => Ok(L::Bound),
        (A::Deactivate, L::Stocked | L::Allocated | L::Bound | L::Suspended | L::Repair | L::Unbound) => {
            refused("it is not active")
        }
        (A::Unbind, L::Bound | L::Active | L::Suspended) => Ok(L::Unbound),
        (A::Unbind, L::Stocked | L::Allocated | L::Repair | L::Unbound) => refused("it has no merchant"),
        (A::Suspend, L::Active) => Ok(L::Suspended),
        (A::Suspend, L::Stocked | L::Allocated | L::Bound | L::Suspended | L::Repair | L::Unbound) => {
            refused("only an active terminal can be suspended")
        }
        (A::Resume, L::Suspended) => Ok(L::Active),
        (A::Resume, L::Stocked | L::Allocated | L::Bound | L::Active | L::Repair | L::Unbound) => {
            refused("it is not suspended")
        }
        (A::SendToRepair, L::Repair) => refused("it is in repair already"),
        (A::SendToRepair, L::Stocked | L::Allocated | L::Bound | L::Active | L::Suspended | L::Unbound) => {
            Ok(L::Repair)
        }
        (A::FinishRepair, L::Repair) => Ok(L::Allocated),
        (A::FinishRepair, L::Stocked | L::Allocated | L::Bound | L::Active | L::Suspended | L::Unbound) => {
            refused("it is not in repair")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    /// The whole graph is checked in beside this file: a change of it is a change that somebody reads.
    #[test]
    fn the_graph_is_the_one_that_was_reviewed() {
        let mut table = String::new();
        for state in Lifecycle::ALL {
            writeln!(table, "{}: {:?}", state.as_str(), state.allowances()).unwrap();
            for action in Action::ALL {
                match step(state, action) {
                    Ok(next) => writeln!(table, "  {} -> {}", action.as_str(), next.as_str()).unwrap(),
                    Err(refusal) => writeln!(table, "  {} refused: {}", action.as_str(), refusal.why).unwrap(),
                }
            }
        }
        insta::assert_snapshot!("lifecycle", table);
    }

    #[test]
    fn a_retired_terminal_stays_retired() {
        for action in Action::ALL {
            assert!(step(Lifecycle::Retired, action).is_err(), "{action:?}");
        }
    }

    #[test]
    fn only_terminals_without_a_merchant_move_between_organizations() {
        let may_move = |state| step(state, Action::Allocate).is_ok();
        let movable: Vec<_> = Lifecycle::ALL.into_iter().filter(|&state| may_move(state)).collect();
        assert_eq!(movable, [Lifecycle::Stocked, Lifecycle::Allocated, Lifecycle::Unbound]);
    }

    #[test]
    fn every_name_parses_back() {
        for state in Lifecycle::ALL {
            assert_eq!(Lifecycle::parse(state.as_str()), Some(state));
        }
        assert_eq!(Lifecycle::parse("sold"), None);
    }
}
