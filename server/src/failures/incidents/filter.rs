//! Which incidents a list holds. Pure.

use tillward_protocol::FieldError;

use super::{Kind, Level, State};

/// In place of a state: every one but the last.
pub const UNRESOLVED: &str = "unresolved";

/// Which incidents; what is empty or absent does not narrow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// In one of these states.
    pub states: Vec<State>,
    /// Of this kind.
    pub kind: Option<Kind>,
    /// Of this level.
    pub level: Option<Level>,
    /// About this rollout.
    pub rollout_id: Option<i64>,
    /// Whose list of terminals has this one.
    pub terminal_id: Option<i64>,
    /// Folded under this one, now or before.
    pub parent_id: Option<i64>,
    /// Whether those are among them that are folded under another one.
    pub folded: Folded,
}

/// What becomes of incidents that are folded under another one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Folded {
    /// They stand in the list.
    #[default]
    Shown,
    /// They do not: their parent stands for them.
    Hidden,
}

impl Filter {
    /// The filter of these names, as an address has them; an empty name does not narrow.
    ///
    /// # Errors
    /// [`FieldError`] naming the name that is not known.
    pub fn of_names(state: &str, kind: &str, level: &str) -> Result<Self, FieldError> {
        let unknown = |field: &str| FieldError::new(field, "is not known");
        let states = match state {
            "" => Vec::new(),
            UNRESOLVED => State::ALL.into_iter().filter(|state| *state != State::Resolved).collect(),
            name => vec![State::parse(name).ok_or_else(|| unknown("state"))?],
        };
        let kind = match kind {
            "" => None,
            name => Some(Kind::parse(name).ok_or_else(|| unknown("kind"))?),
        };
        let level = match level {
            "" => None,
            name => Some(Level::parse(name).ok_or_else(|| unknown("level"))?),
        };
        Ok(Self { states, kind, level, ..Self::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_narrow_and_unknown_ones_are_refused() {
        assert_eq!(Filter::of_names("", "", "").unwrap(), Filter::default());
        let unresolved = Filter::of_names(UNRESOLVED, "tamper", "P1").unwrap();
        assert_eq!(unresolved.states, [State::Open, State::Acknowledged, State::Mitigated]);
        assert_eq!((unresolved.kind, unresolved.level), (Some(Kind::Tamper), Some(Level::P1)));
        for (names, field) in [(("x", "", ""), "state"), (("", "x", ""), "kind"), (("", "", "p1"), "level")] {
            assert_eq!(Filter::of_names(names.0, names.1, names.2).unwrap_err().field, field);
        }
    }
}
