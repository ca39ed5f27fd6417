//! What a question about failures is about: hours, a part of the exposures, and a class of failures. Pure.

use super::ATTRIBUTES;

/// Which failures are to be explained.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Question {
    /// Hours back from now, the running one included; at least one.
    pub hours: u32,
    /// Only where these conditions hold.
    pub only: Only,
    /// Only this class of failures. All when absent.
    pub class: Option<Class>,
}

/// What stands before a value that is to be left out.
const NOT: char = '!';
/// How what nobody said is asked for; some attributes are empty then.
const UNKNOWN: &str = "unknown";

/// Conditions that narrow a question: for each attribute a value that it must have, or must not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Only([Option<String>; ATTRIBUTES.len()]);

impl Only {
    /// Conditions by the attributes' names: a value, or `!value` for all others. Empty values do not narrow, and what is
    /// no attribute is left out.
    pub fn new<'a>(asked: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut only = Self::default();
        for (name, value) in asked {
            let slot = ATTRIBUTES.iter().zip(&mut only.0).find(|(attribute, _)| **attribute == name);
            if let Some((_, slot)) = slot.filter(|_| !value.trim().is_empty()) {
                *slot = Some(value.trim().to_owned());
            }
        }
        only
    }

    /// Attribute and value, or `!value`, of each condition.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, &str)> {
        ATTRIBUTES.into_iter().zip(&self.0).filter_map(|(name, wanted)| Some((name, wanted.as_deref()?)))
    }

    /// Whether exposures with these values, in the order of [`ATTRIBUTES`], are meant.
    pub(super) fn holds(&self, values: &[String; ATTRIBUTES.len()]) -> bool {
        self.0.iter().zip(values).all(|(wanted, value)| match wanted {
            None => true,
            Some(wanted) => match unwanted(wanted) {
                Some(unwanted) => exactly(value) != unwanted,
                None => exactly(value) == wanted,
            },
        })
    }
}

/// This value, as a condition says it.
pub fn exactly(value: &str) -> &str {
    if value.is_empty() { UNKNOWN } else { value }
}

/// All values but this one, as a condition says it.
pub fn all_but(value: &str) -> String {
    format!("{NOT}{}", exactly(value))
}

/// The value that a condition leaves out, if it is one that does.
pub fn unwanted(condition: &str) -> Option<&str> {
    condition.strip_prefix(NOT)
}

/// Outcomes that are counted together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Class {
    /// One response code.
    Code(String),
    /// One stage, where no code came back.
    Stage(String),
    /// Several outcomes.
    Group(Group),
}

impl Class {
    /// The class of this name: `code:91`, `stage:tls`, or a [`Group`]'s.
    pub fn parse(name: &str) -> Option<Self> {
        match name.split_once(':') {
            Some(("code", code)) if !code.is_empty() => Some(Self::Code(code.to_owned())),
            Some(("stage", stage)) if !stage.is_empty() => Some(Self::Stage(stage.to_owned())),
            Some(_) => None,
            None => Group::parse(name).map(Self::Group),
        }
    }

    /// Its name.
    pub fn name(&self) -> String {
        match self {
            Self::Code(code) => format!("code:{code}"),
            Self::Stage(stage) => format!("stage:{stage}"),
            Self::Group(group) => group.as_str().to_owned(),
        }
    }

    /// Response codes in it.
    pub fn codes(&self) -> Vec<&str> {
        match self {
            Self::Code(code) => vec![code],
            Self::Stage(_) => Vec::new(),
            Self::Group(group) => group.codes(),
        }
    }

    /// Stages in it, where no code came back.
    pub fn stages(&self) -> Vec<&str> {
        match self {
            Self::Code(_) => Vec::new(),
            Self::Stage(stage) => vec![stage],
            Self::Group(group) => group.stages(),
        }
    }

    /// The outcomes in it, by the names under which they are counted.
    pub fn outcomes(&self) -> Vec<String> {
        let codes = self.codes().into_iter().map(|code| format!("code:{code}"));
        codes.chain(self.stages().into_iter().map(|stage| format!("stage:{stage}"))).collect()
    }
}

/// Outcomes with one kind of origin. What a customer's card or PIN was refused for, and what the person at the counter
/// did, is in none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// All of the others: what the fleet, and not a customer, is the reason for.
    Technical,
    /// No connection, before anything was sent or while sending.
    Link,
    /// The bank or the switch did not answer.
    Host,
    /// The terminal itself: card reader, message format, keys, trace number, signature.
    Terminal,
    /// The channel does not know the merchant or the terminal.
    Binding,
}

impl Group {
    /// Every group.
    pub const ALL: [Self; 5] = [Self::Technical, Self::Link, Self::Host, Self::Terminal, Self::Binding];
    /// Those that are no sum of others.
    const PARTS: [Self; 4] = [Self::Link, Self::Host, Self::Terminal, Self::Binding];

    /// Name in URLs and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Technical => "technical",
            Self::Link => "link",
            Self::Host => "host",
            Self::Terminal => "terminal",
            Self::Binding => "binding",
        }
    }

    /// The group of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.as_str() == name)
    }

    /// Response codes (8583 field 39) in it.
    fn codes(self) -> Vec<&'static str> {
        match self {
            Self::Technical => Self::PARTS.into_iter().flat_map(Self::codes).collect(),
            Self::Link => Vec::new(),
            Self::Host => vec!["68", "90", "91", "92", "96", "98"],
            Self::Terminal => vec!["30", "94", "99", "A0", "A7", "A8", "A9"],
            Self::Binding => vec!["03", "97"],
        }
    }

    /// Stages in it, where no code came back.
    fn stages(self) -> Vec<&'static str> {
        match self {
            Self::Technical => Self::PARTS.into_iter().flat_map(Self::stages).collect(),
            Self::Link => vec!["dns", "tcp", "tls", "send"],
            Self::Host => vec!["wait"],
            Self::Terminal => vec!["card_read", "pack", "mac_verify", "esign", "upload"],
            Self::Binding => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(firmware: &str, access: &str) -> [String; ATTRIBUTES.len()] {
        ATTRIBUTES.map(|name| match name {
            "firmware" => firmware.to_owned(),
            "access" => access.to_owned(),
            _ => "x".to_owned(),
        })
    }

    #[test]
    fn every_attribute_narrows_by_a_value_or_by_all_but_one() {
        assert!(Only::default().holds(&values("4.2", "2g")));
        for name in ATTRIBUTES {
            let all = ATTRIBUTES.map(|_| "x".to_owned());
            assert!(Only::new([(name, "x")]).holds(&all) && !Only::new([(name, "y")]).holds(&all), "{name}");
            assert!(Only::new([(name, "!y")]).holds(&all) && !Only::new([(name, "!x")]).holds(&all), "{name}");
        }
        let only = Only::new([("firmware", " 4.2 "), ("access", "!2g"), ("region", " "), ("window", "3d")]);
        assert_eq!(only.given().collect::<Vec<_>>(), [("firmware", "4.2"), ("access", "!2g")]);
        assert!(only.holds(&values("4.2", "4g")));
        assert!(!only.holds(&values("4.2", "2g")) && !only.holds(&values("4.1", "4g")));
        assert_eq!((unwanted(&all_but("2g")), unwanted("2g")), (Some("2g"), None));
        for nobody_said in ["", "unknown"] {
            let (only, others) = (exactly(nobody_said), all_but(nobody_said));
            let holds = |wanted: &str, value: &str| Only::new([("access", wanted)]).holds(&values("4.2", value));
            assert!(holds(only, nobody_said) && holds(only, "") && !holds(only, "2g"));
            assert!(!holds(&others, nobody_said) && !holds(&others, "") && holds(&others, "2g"));
        }
    }

    #[test]
    fn names_of_classes_lead_back_and_no_outcome_is_in_two_parts() {
        for name in ["code:91", "stage:tls", "technical", "link", "host", "terminal", "binding"] {
            assert_eq!(Class::parse(name).map(|class| class.name()), Some(name.to_owned()));
        }
        for name in ["", "code:", "stage:", "all", "code", "terminal:1"] {
            assert_eq!(Class::parse(name), None, "{name}");
        }
        let technical = Class::Group(Group::Technical).outcomes();
        let distinct: std::collections::BTreeSet<&String> = technical.iter().collect();
        assert_eq!((technical.len(), distinct.len()), (25, 25));
        for customer in ["code:51", "code:55", "code:05", "stage:pin"] {
            assert!(!technical.contains(&customer.to_owned()), "{customer}");
        }
    }
}
