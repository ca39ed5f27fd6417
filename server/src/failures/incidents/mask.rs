//! Which incident explains another one away. Pure.
//!
//! When the bank is down, terminals and areas that fail are no news of their own: their incidents are folded under the
//! bank's, and nobody is told of them. Only what is under way explains anything: an incident that is mitigated or over
//! masks nothing, and what goes on then is told after all. Nor does it explain away what is more urgent than itself.

use serde_json::Value;

use super::{Kind, Level, State};

/// Kinds of incidents that can explain one of `kind`, the most general first.
pub fn parents(kind: Kind) -> &'static [Kind] {
    match kind {
        Kind::TerminalSuspect => &[Kind::BankOutage, Kind::AreaOutage],
        Kind::AreaOutage | Kind::FailureRise => &[Kind::BankOutage],
        Kind::TerminalsOffline => &[Kind::SimPool],
        Kind::RolloutHalted
        | Kind::RolloutScopeStopped
        | Kind::ConfigDrift
        | Kind::BankOutage
        | Kind::SimPool
        | Kind::FirmwareRegression
        | Kind::MerchantSwitch
        | Kind::AmountShort
        | Kind::SettlementMissing
        | Kind::CardData
        | Kind::Tamper
        | Kind::BlockedCalling
        | Kind::Expiry => &[],
    }
}

/// Whether an incident in this state masks others.
pub fn is_masking(state: State) -> bool {
    match state {
        State::Open | State::Acknowledged => true,
        State::Mitigated | State::Resolved => false,
    }
}

/// Whether an incident of level `parent` may hide one of level `child`: who was told of the one by its level would not
/// come in time for what is more urgent.
pub fn is_as_urgent(parent: Level, child: Level) -> bool {
    parent <= child
}

/// What must hold beside the kinds and the organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Nothing more.
    Always,
    /// The failures are the bank's.
    BankCodes,
    /// At least half of the child's terminals are in the parent's place or pool, which the parent's key names.
    Place(String, String),
    /// The parent does not explain it.
    Never,
}

/// What an incident of kind `parent` with this key must share with a `child` to explain it.
pub fn condition(parent: Kind, parent_key: &str, child: Kind) -> Condition {
    if !parents(child).contains(&parent) {
        return Condition::Never;
    }
    match (parent, child) {
        (Kind::BankOutage, Kind::FailureRise) => Condition::BankCodes,
        (Kind::AreaOutage | Kind::SimPool, _) => match place(parent_key) {
            Some((field, value)) => Condition::Place(field.to_owned(), value.to_owned()),
            None => Condition::Never,
        },
        (_, _) => Condition::Always,
    }
}

/// The place in a key such as `area:tac:46000-17` or `pool:A1`.
fn place(key: &str) -> Option<(&str, &str)> {
    let place = key.strip_prefix("area:").unwrap_or(key);
    place.split_once(':').filter(|(_, value)| !value.is_empty())
}

/// Codes by which a bank or the switch says that it is down, or did not answer in time.
const BANK_CODES: [&str; 6] = ["68", "90", "91", "92", "96", "98"];

/// Whether what failed most, by an incident's evidence, is the bank's: the first of its `outcomes` (`code:91`, also as a
/// pair with its count or as a member `outcome`, `code` or `value`), or its `class`.
pub fn is_the_banks(evidence: &Value) -> bool {
    let names_bank = |text: &str| {
        let code = text.strip_prefix("code:").unwrap_or(text);
        BANK_CODES.contains(&code) || text.starts_with("BNK.") || text == "stage:wait"
    };
    let first = evidence.get("outcomes").and_then(|outcomes| match outcomes {
        Value::Array(rows) => rows.first().cloned(),
        Value::Object(_) | Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null => None,
    });
    let named = first.as_ref().and_then(|row| match row {
        Value::String(text) => Some(text.as_str()),
        Value::Array(pair) => pair.first().and_then(Value::as_str),
        Value::Object(members) => {
            ["outcome", "code", "value"].iter().find_map(|name| members.get(*name).and_then(Value::as_str))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    });
    let class = evidence.get("class").and_then(Value::as_str);
    [named, class].into_iter().flatten().any(names_bank)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_whole_table_is_as_agreed() {
        let mut table = String::new();
        for child in Kind::ALL {
            for parent in Kind::ALL {
                let key = match parent {
                    Kind::SimPool => "pool:A1",
                    _ => "area:tac:46000-17",
                };
                let condition = condition(parent, key, child);
                if condition != Condition::Never {
                    table.push_str(&format!("{:<17} under {:<12} {condition:?}\n", child.as_str(), parent.as_str()));
                }
            }
        }
        for state in State::ALL {
            let masks = if is_masking(state) { "masks" } else { "masks nothing" };
            table.push_str(&format!("{} {masks}\n", state.as_str()));
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn no_incident_can_be_under_one_that_is_under_it() {
        for child in Kind::ALL {
            for parent in parents(child) {
                assert!(!parents(*parent).contains(&child), "{child:?} and {parent:?}");
            }
        }
    }

    #[test]
    fn a_rise_is_the_banks_by_what_failed_most() {
        for evidence in [
            json!({"outcomes": ["code:91", "stage:tls"]}),
            json!({"outcomes": [["code:96", 12]]}),
            json!({"outcomes": [{"outcome": "code:68", "failures": 3}]}),
            json!({"class": "BNK.SWITCH"}),
        ] {
            assert!(is_the_banks(&evidence), "{evidence}");
        }
        for evidence in [
            json!({"outcomes": ["stage:tls", "code:91"]}),
            json!({"outcomes": [{"outcome": "code:51"}]}),
            json!({"class": "NET.SIGNAL"}),
            json!({"outcomes": []}),
            json!({}),
        ] {
            assert!(!is_the_banks(&evidence), "{evidence}");
        }
    }

    #[test]
    fn only_what_is_as_urgent_hides_anything() {
        for (parent, child, expected) in [
            (Level::P1, Level::P1, true),
            (Level::P1, Level::P3, true),
            (Level::P2, Level::P3, true),
            (Level::P2, Level::P1, false),
            (Level::P3, Level::P2, false),
        ] {
            assert_eq!(is_as_urgent(parent, child), expected, "{parent:?} {child:?}");
        }
    }

    #[test]
    fn a_key_without_a_place_explains_nothing() {
        assert_eq!(condition(Kind::AreaOutage, "area", Kind::TerminalSuspect), Condition::Never);
        assert_eq!(condition(Kind::SimPool, "pool:", Kind::TerminalsOffline), Condition::Never);
        let place = Condition::Place("region".to_owned(), "3101".to_owned());
        assert_eq!(condition(Kind::AreaOutage, "area:region:3101", Kind::TerminalSuspect), place);
    }
}
