//! Who is told of an alert, and when: the rules of one organization, as values. Pure.
//!
//! Without an enabled rule each channel gets every alert of its level and above. With rules a channel gets what a rule
//! sends it. A rule has steps: the first is told at once, each further one when nobody took the matter on in time. What
//! comes in quiet hours and does not break through waits for the digest; nothing is dropped.

use super::level::Level;

/// Minutes of a day.
pub const DAY_MIN: u16 = 24 * 60;

/// Whether a rule tells at once or once a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Urgency {
    /// As soon as the channel can take it.
    Now,
    /// With the next daily digest.
    Digest,
}

impl Urgency {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Now, Self::Digest];

    /// Name in tables, forms and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Now => "now",
            Self::Digest => "digest",
        }
    }

    /// The one of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|urgency| urgency.as_str() == name)
    }
}

/// The way by which a delivery came to be; the most direct is the smallest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Route {
    /// At once.
    Direct,
    /// At once, because those before did not take it on.
    Escalation,
    /// Held back because of quiet hours.
    Quiet,
    /// Meant for the digest.
    Digest,
}

impl Route {
    /// Every way.
    pub const ALL: [Self; 4] = [Self::Direct, Self::Escalation, Self::Quiet, Self::Digest];

    /// Name in tables and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Escalation => "escalation",
            Self::Quiet => "quiet",
            Self::Digest => "digest",
        }
    }

    /// Whether it waits for the digest.
    pub fn is_held(self) -> bool {
        match self {
            Self::Direct | Self::Escalation => false,
            Self::Quiet | Self::Digest => true,
        }
    }
}

/// What is told, as far as rules ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matter<'a> {
    /// Kind of the incident; none when it is about something else.
    pub kind: Option<&'a str>,
    /// How urgent.
    pub level: Level,
    /// Models of the terminals concerned; none when it is about no particular ones.
    pub models: &'a [String],
    /// How often the time limit passed without anybody taking it on.
    pub unanswered: u32,
}

/// One rule. Empty lists mean all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// A rule that is switched off does nothing.
    pub is_enabled: bool,
    /// Kinds of incidents.
    pub kinds: Vec<String>,
    /// Levels.
    pub levels: Vec<Level>,
    /// Models.
    pub models: Vec<String>,
    /// At once or once a day.
    pub urgency: Urgency,
    /// Channels of each step.
    pub steps: Vec<Vec<i64>>,
}

impl Rule {
    fn matches(&self, matter: &Matter<'_>) -> bool {
        let is_of_kind = self.kinds.is_empty() || matter.kind.is_some_and(|kind| self.kinds.iter().any(|k| k == kind));
        let is_of_level = self.levels.is_empty() || self.levels.contains(&matter.level);
        // What is about no particular model concerns all of them.
        let is_of_model = self.models.is_empty()
            || matter.models.is_empty()
            || matter.models.iter().any(|model| self.models.contains(model));
        self.is_enabled && is_of_kind && is_of_level && is_of_model
    }
}

/// When people want to be left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quiet {
    /// Minute of the day at which it begins.
    pub from_min: u16,
    /// Minute of the day at which it ends; before `from_min` it is on the next day.
    pub until_min: u16,
    /// Levels that break through.
    pub breaks: Vec<Level>,
}

impl Quiet {
    fn holds_back(&self, level: Level, minute: u16) -> bool {
        let is_within = if self.from_min <= self.until_min {
            (self.from_min..self.until_min).contains(&minute)
        } else {
            minute >= self.from_min || minute < self.until_min
        };
        is_within && !self.breaks.contains(&level)
    }
}

/// A channel, as far as rules ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipient {
    /// Its number.
    pub id: i64,
    /// The least urgent level that it gets by any rule.
    pub level: Level,
}

/// One organization's part in telling people.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Party {
    /// Its rules.
    pub rules: Vec<Rule>,
    /// Its channels.
    pub recipients: Vec<Recipient>,
    /// Its quiet hours, if it has some.
    pub quiet: Option<Quiet>,
    /// What its clocks show now, minute of the day.
    pub minute: u16,
}

/// The channels that are told, by number, and how. Where several rules name a channel the most direct way counts.
pub fn route(matter: &Matter<'_>, party: &Party) -> Vec<(i64, Route)> {
    let is_quiet = party.quiet.as_ref().is_some_and(|quiet| quiet.holds_back(matter.level, party.minute));
    let at_once = |route| if is_quiet { Route::Quiet } else { route };
    let mut found: Vec<(i64, Route)> = Vec::new();
    if party.rules.iter().any(|rule| rule.is_enabled) {
        for rule in party.rules.iter().filter(|rule| rule.matches(matter)) {
            let reached = usize::try_from(matter.unanswered).unwrap_or(usize::MAX).saturating_add(1);
            for (step, channels) in rule.steps.iter().take(reached).enumerate() {
                let way = match (rule.urgency, step) {
                    (Urgency::Digest, _) => Route::Digest,
                    (Urgency::Now, 0) => at_once(Route::Direct),
                    (Urgency::Now, _) => at_once(Route::Escalation),
                };
                found.extend(channels.iter().map(|channel| (*channel, way)));
            }
        }
    } else {
        found.extend(party.recipients.iter().map(|recipient| (recipient.id, at_once(Route::Direct))));
    }
    // A channel that is gone, or wants only what is more urgent, is left out whatever a rule says.
    let wants = |id: i64| party.recipients.iter().any(|known| known.id == id && matter.level <= known.level);
    found.retain(|(id, _)| wants(*id));
    found.sort_unstable();
    found.dedup_by_key(|(id, _)| *id);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIGHT: u16 = 23 * 60;
    const NOON: u16 = 12 * 60;

    fn rule(kinds: &[&str], levels: &[Level], models: &[&str], urgency: Urgency, steps: &[&[i64]]) -> Rule {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
        Rule {
            is_enabled: true,
            kinds: names(kinds),
            levels: levels.to_vec(),
            models: names(models),
            urgency,
            steps: steps.iter().map(|step| step.to_vec()).collect(),
        }
    }

    fn party(rules: Vec<Rule>) -> Party {
        let recipient = |id| Recipient { id, level: Level::P3 };
        Party { rules, recipients: (1..=4).map(recipient).collect(), quiet: None, minute: NOON }
    }

    fn quiet_party(rules: Vec<Rule>, minute: u16) -> Party {
        let quiet = Quiet { from_min: 22 * 60, until_min: 7 * 60, breaks: vec![Level::P1] };
        Party { quiet: Some(quiet), minute, ..party(rules) }
    }

    fn matter(kind: &'static str, level: Level) -> Matter<'static> {
        Matter { kind: Some(kind), level, models: &[], unanswered: 0 }
    }

    const TAMPER_P1: Matter<'static> = Matter { kind: Some("tamper"), level: Level::P1, models: &[], unanswered: 0 };

    #[test]
    fn without_a_rule_every_channel_gets_what_is_urgent_enough_for_it() {
        let mut all = party(vec![]);
        all.recipients[1].level = Level::P1;
        all.recipients[2].level = Level::P2;
        let told = |level| route(&matter("tamper", level), &all).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        assert_eq!(told(Level::P1), [1, 2, 3, 4]);
        assert_eq!(told(Level::P2), [1, 3, 4]);
        assert_eq!(told(Level::P3), [1, 4]);
        let off = Rule { is_enabled: false, ..rule(&[], &[], &[], Urgency::Digest, &[&[2]]) };
        assert_eq!(route(&TAMPER_P1, &party(vec![off])).len(), 4, "a rule that is off is none");
    }

    #[test]
    fn a_rule_is_met_by_kind_level_and_model_together() {
        let strict = || rule(&["tamper"], &[Level::P1, Level::P2], &["A920"], Urgency::Now, &[&[1]]);
        let told = |matter: &Matter<'_>| route(matter, &party(vec![strict()]));
        let models = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (fits, other, both) = (models(&["A920"]), models(&["ME31"]), models(&["ME31", "A920"]));
        let hit = vec![(1, Route::Direct)];
        assert_eq!(told(&Matter { models: &fits, ..TAMPER_P1 }), hit);
        assert_eq!(told(&Matter { models: &both, ..TAMPER_P1 }), hit);
        assert_eq!(told(&TAMPER_P1), hit, "what is about no model concerns all");
        assert_eq!(told(&Matter { level: Level::P2, ..TAMPER_P1 }), hit);
        assert_eq!(told(&Matter { models: &other, ..TAMPER_P1 }), []);
        assert_eq!(told(&Matter { level: Level::P3, ..TAMPER_P1 }), []);
        assert_eq!(told(&Matter { kind: Some("expiry"), ..TAMPER_P1 }), []);
        assert_eq!(told(&Matter { kind: None, ..TAMPER_P1 }), []);
    }

    #[test]
    fn each_time_limit_that_passes_unanswered_tells_one_step_more() {
        let steps = party(vec![rule(&[], &[], &[], Urgency::Now, &[&[1], &[2, 3], &[4]])]);
        let told = |unanswered| route(&Matter { unanswered, ..TAMPER_P1 }, &steps);
        let escalated = |id| (id, Route::Escalation);
        assert_eq!(told(0), [(1, Route::Direct)]);
        assert_eq!(told(1), [(1, Route::Direct), escalated(2), escalated(3)]);
        assert_eq!(told(2), [(1, Route::Direct), escalated(2), escalated(3), escalated(4)]);
        assert_eq!(told(u32::MAX), told(2));
    }

    #[test]
    fn quiet_hours_hold_back_what_does_not_break_through() {
        let all = || vec![rule(&[], &[], &[], Urgency::Now, &[&[1]])];
        for (minute, level, way) in [
            (22 * 60 - 1, Level::P2, Route::Direct),
            (22 * 60, Level::P2, Route::Quiet),
            (NIGHT, Level::P1, Route::Direct),
            (NIGHT, Level::P3, Route::Quiet),
            (0, Level::P2, Route::Quiet),
            (7 * 60 - 1, Level::P2, Route::Quiet),
            (7 * 60, Level::P2, Route::Direct),
            (DAY_MIN - 1, Level::P2, Route::Quiet),
        ] {
            let found = route(&matter("tamper", level), &quiet_party(all(), minute));
            assert_eq!(found, [(1, way)], "{minute} {level:?}");
        }
        // Also where no rule is.
        assert!(route(&matter("tamper", Level::P2), &quiet_party(vec![], NIGHT)).iter().all(|(_, way)| way.is_held()));
        // Within one day, and none at all.
        let lunch = |from_min, until_min| {
            let quiet = Quiet { from_min, until_min, breaks: vec![] };
            route(&TAMPER_P1, &Party { quiet: Some(quiet), ..party(all()) })
        };
        assert_eq!(lunch(NOON, NOON + 30), [(1, Route::Quiet)]);
        assert_eq!(lunch(NOON - 30, NOON), [(1, Route::Direct)]);
        assert_eq!(lunch(NOON, NOON), [(1, Route::Direct)], "no time at all");
    }

    #[test]
    fn a_channel_named_twice_is_told_once_the_most_direct_way() {
        let digest = rule(&[], &[], &[], Urgency::Digest, &[&[1, 2]]);
        let now = rule(&[], &[Level::P1], &[], Urgency::Now, &[&[2], &[3, 2]]);
        let both = [digest.clone(), now.clone()].to_vec();
        assert_eq!(route(&TAMPER_P1, &party(both.clone())), [(1, Route::Digest), (2, Route::Direct)]);
        let p2 = Matter { level: Level::P2, ..TAMPER_P1 };
        assert_eq!(route(&p2, &party(both)), [(1, Route::Digest), (2, Route::Digest)]);
        let late = Matter { unanswered: 1, ..TAMPER_P1 };
        assert_eq!(route(&late, &party(vec![now])), [(2, Route::Direct), (3, Route::Escalation)]);
    }

    #[test]
    fn a_channel_that_is_gone_or_wants_less_is_left_out() {
        let mut known = party(vec![rule(&[], &[], &[], Urgency::Now, &[&[1, 2, 99]])]);
        known.recipients[0].level = Level::P1;
        assert_eq!(route(&matter("tamper", Level::P2), &known), [(2, Route::Direct)]);
        assert_eq!(route(&TAMPER_P1, &known), [(1, Route::Direct), (2, Route::Direct)]);
    }

    #[test]
    fn the_smaller_route_is_the_more_direct_one() {
        assert!(Route::ALL.is_sorted());
        assert_eq!(Urgency::parse("digest"), Some(Urgency::Digest));
        assert_eq!(Urgency::parse("later"), None);
    }
}
