//! What a gate keeps of its journal: the evidence of all lines up to one, as a text that a later judgement goes on from.
//!
//! A line says everything that its evidence depends on, so the fold is a function of the lines alone: in one go, in parts
//! or after a restart it makes the same bits. Numbers are written as their bits: no rounding. Scopes go by name here, in
//! the order in which lines first named them.

use std::collections::BTreeMap;

use super::health::{ClassWalks, Rest, ScopeWalks, Walk};
use super::{Arm, AtRisk, Class, Event, Evidence, Outside, ScopeAtRisk, Settings};

/// Grows with every change of what is folded or how it is written: what another version kept is folded anew.
pub const FOLD_VERSION: i64 = 1;

/// The evidence of a journal up to one of its lines.
#[derive(Debug, Clone, PartialEq)]
pub struct Fold {
    up_to: i64,
    evidence: Evidence,
    /// Names of the evidence's first scopes.
    scopes: Vec<String>,
    left_out: BTreeMap<String, u64>,
}

/// A counted failure as its line tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told<'a> {
    /// Its class.
    pub class: Class,
    /// The failing terminal's arm.
    pub arm: Arm,
    /// The failing terminal's stratum.
    pub stratum: u16,
    /// At risk in the stratum.
    pub at_risk: AtRisk,
    /// Scopes with terminals at risk in this stratum: name, whether the failing terminal is in it, at risk.
    pub scopes: Vec<(&'a str, bool, AtRisk)>,
    /// How many scopes were watched then; those that no line named yet included.
    pub watched: u16,
    /// The share outside what was stopped, where that was judged by itself.
    pub outside: Option<Outside>,
}

impl Fold {
    /// Nothing folded yet; it begins after the line `after`.
    pub fn new(after: i64, settings: &Settings) -> Self {
        let evidence = Evidence::new(0, settings);
        Self { up_to: after, evidence, scopes: Vec::new(), left_out: BTreeMap::new() }
    }

    /// Number of the last line.
    pub fn up_to(&self) -> i64 {
        self.up_to
    }

    /// The evidence.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// Names of the scopes that lines have named, by their numbers.
    pub fn scopes(&self) -> &[String] {
        &self.scopes
    }

    /// Whether what is outside the stopped parts is judged by itself; once it is, it stays so.
    pub fn is_aside(&self) -> bool {
        self.evidence.rest().is_some()
    }

    /// Lines that are no evidence, by reason.
    pub fn left_out(&self) -> &BTreeMap<String, u64> {
        &self.left_out
    }

    /// Takes in the next line, which is evidence.
    pub fn count(&mut self, number: i64, told: &Told<'_>) {
        self.up_to = number;
        let mut scopes = Vec::with_capacity(told.scopes.len());
        for (name, is_in, at_risk) in &told.scopes {
            let scope = self.scopes.iter().position(|known| known == name).unwrap_or_else(|| {
                self.scopes.push((*name).to_owned());
                self.scopes.len() - 1
            });
            if let Ok(scope) = u16::try_from(scope) {
                scopes.push(ScopeAtRisk { scope, is_in: *is_in, at_risk: *at_risk });
            }
        }
        self.evidence.widen(self.scopes.len().max(usize::from(told.watched)));
        self.evidence.add(&Event {
            class: told.class,
            arm: told.arm,
            stratum: told.stratum,
            at_risk: told.at_risk,
            scopes,
            outside: told.outside,
        });
    }

    /// Takes in the next line, which is no evidence.
    pub fn leave_out(&mut self, number: i64, reason: &str) {
        self.up_to = number;
        match self.left_out.get_mut(reason) {
            Some(n) => *n += 1,
            None => drop(self.left_out.insert(reason.to_owned(), 1)),
        }
    }

    /// The evidence with these scopes watched, and their names by number: those that lines named, then the others of
    /// `watched`. With `stops`, what is outside so many stopped parts is judged by itself.
    pub fn judged(&self, watched: &[String], stops: Option<u16>) -> (Evidence, Vec<String>) {
        let mut names = self.scopes.clone();
        names.extend(watched.iter().filter(|name| !self.scopes.contains(name)).cloned());
        let mut evidence = self.evidence.clone();
        evidence.widen(names.len());
        if let Some(stops) = stops {
            evidence.set_aside(stops);
        }
        (evidence, names)
    }

    /// As a text that [`Fold::decode`] reads.
    pub fn encode(&self) -> String {
        let mut out = Out(String::new());
        out.int(self.up_to);
        out.count(self.scopes.len() as u64);
        self.scopes.iter().for_each(|name| out.text(name));
        out.count(self.left_out.len() as u64);
        for (reason, n) in &self.left_out {
            out.text(reason);
            out.count(*n);
        }
        out.evidence(&self.evidence);
        out.0
    }

    /// Reads what [`Fold::encode`] wrote under the same settings; `None` for anything else.
    pub fn decode(text: &str, settings: &Settings) -> Option<Self> {
        let mut from = From(text.split('\n'));
        let up_to = from.next()?.parse().ok()?;
        let scopes = (0..from.count()?).map(|_| from.text()).collect::<Option<_>>()?;
        let left_out = (0..from.count()?).map(|_| Some((from.text()?, from.count()?))).collect::<Option<_>>()?;
        let evidence = from.evidence(settings)?;
        from.0.next().is_none().then_some(Self { up_to, evidence, scopes, left_out })
    }
}

/// One value a line.
struct Out(String);

impl Out {
    fn line(&mut self, line: &str) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.0.push_str(line);
    }

    fn int(&mut self, n: i64) {
        self.line(&n.to_string());
    }

    fn count(&mut self, n: u64) {
        self.line(&n.to_string());
    }

    fn text(&mut self, text: &str) {
        self.line(&text.replace('\\', "\\\\").replace('\n', "\\n"));
    }

    fn bits(&mut self, x: f64) {
        self.line(&format!("{:x}", x.to_bits()));
    }

    fn evidence(&mut self, evidence: &Evidence) {
        self.bits(evidence.e_health_max);
        self.count(evidence.classes.len() as u64);
        for (class, walks) in &evidence.classes {
            self.text(class.as_str());
            self.walk(&walks.all);
            self.count(walks.scopes.len() as u64);
            for scope in &walks.scopes {
                self.bits(scope.share);
                self.walk(&scope.inside);
                self.walk(&scope.rest);
            }
        }
        self.count(evidence.rest.as_ref().map_or(0, |rest| u64::from(rest.stops)));
        if let Some(rest) = &evidence.rest {
            self.bits(rest.e_max);
            rest.walks.iter().for_each(|walk| self.walk(walk));
        }
    }

    fn walk(&mut self, walk: &Walk) {
        let numbers = walk.ln_e.iter().chain(&walk.ln_p).chain([&walk.treated_expected]);
        let bits: Vec<String> = numbers.map(|x| format!("{:x}", x.to_bits())).collect();
        let (treated, control) = walk.at_risk;
        let counts = [walk.treated, walk.control, walk.unweighed, treated, control];
        self.line(&format!("{} {}", bits.join(" "), counts.map(|n| n.to_string()).join(" ")));
    }
}

struct From<'a>(std::str::Split<'a, char>);

impl<'a> From<'a> {
    fn next(&mut self) -> Option<&'a str> {
        self.0.next()
    }

    fn count(&mut self) -> Option<u64> {
        self.next()?.parse().ok()
    }

    fn text(&mut self) -> Option<String> {
        let (mut text, mut letters) = (String::new(), self.next()?.chars());
        while let Some(letter) = letters.next() {
            text.push(match letter {
                '\\' if letters.next()? == 'n' => '\n',
                letter => letter,
            });
        }
        Some(text)
    }

    fn bits(&mut self) -> Option<f64> {
        self.next().and_then(float)
    }

    fn evidence(&mut self, settings: &Settings) -> Option<Evidence> {
        let e_health_max = self.bits()?;
        let mut evidence = Evidence { e_health_max, ..Evidence::new(0, settings) };
        if self.count()? != evidence.classes.len() as u64 {
            return None;
        }
        for (class, walks) in &mut evidence.classes {
            if self.next()? != class.as_str() {
                return None;
            }
            let all = self.walk(settings)?;
            let scope = |from: &mut Self| {
                let share = from.bits()?;
                Some(ScopeWalks { share, inside: from.walk(settings)?, rest: from.walk(settings)? })
            };
            *walks = ClassWalks { all, scopes: (0..self.count()?).map(|_| scope(self)).collect::<Option<_>>()? };
        }
        let stops = u16::try_from(self.count()?).ok()?;
        if stops > 0 {
            let e_max = self.bits()?;
            let walks = evidence.classes.iter().map(|_| self.walk(settings)).collect::<Option<_>>()?;
            evidence.rest = Some(Rest { stops, walks, e_max });
        }
        Some(evidence)
    }

    fn walk(&mut self, settings: &Settings) -> Option<Walk> {
        let mut walk = Walk::new(settings);
        let mut words = self.next()?.split(' ');
        for number in walk.ln_e.iter_mut().chain(&mut walk.ln_p).chain([&mut walk.treated_expected]) {
            *number = words.next().and_then(float)?;
        }
        let (treated, control) = (&mut walk.at_risk.0, &mut walk.at_risk.1);
        for count in [&mut walk.treated, &mut walk.control, &mut walk.unweighed, treated, control] {
            *count = words.next()?.parse().ok()?;
        }
        words.next().is_none().then_some(walk)
    }
}

/// A number from its bits. What is not finite was never written: logarithms of positive numbers are summed.
fn float(bits: &str) -> Option<f64> {
    u64::from_str_radix(bits, 16).ok().map(f64::from_bits).filter(|x| x.is_finite())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 4] = ["model=P1", "access=2g", "region=北京\\n", "carrier=a\nb"];

    /// A line: whether it is evidence, arm, class, at risk, scopes, how many are watched, how many parts are stopped.
    type Raw = (bool, (bool, bool), (u64, u64), Vec<(usize, bool, u64)>, u16, Option<(u16, bool)>);

    fn any_line() -> impl Strategy<Value = Raw> {
        let scopes = proptest::collection::vec((0..NAMES.len(), any::<bool>(), 0..50_u64), 0..4);
        let outside = proptest::option::weighted(0.3, (1..4_u16, any::<bool>()));
        (any::<bool>(), (any::<bool>(), any::<bool>()), (0..300_u64, 0..300_u64), scopes, 2..7_u16, outside)
    }

    fn take(fold: &mut Fold, number: i64, line: &Raw) {
        let (is_counted, (is_treated, is_payment), (treated, control), scopes, watched, outside) = line;
        if !is_counted {
            return fold.leave_out(number, if *is_treated { "repeated" } else { "suppressed_by_site" });
        }
        let at_risk = AtRisk { treated: *treated, control: *control };
        let share = |n: u64| AtRisk { treated: n.min(*treated), control: n.min(*control) };
        fold.count(
            number,
            &Told {
                class: if *is_payment { Class::Payment } else { Class::Hard },
                arm: if *is_treated { Arm::Treated } else { Arm::Control },
                stratum: 0,
                at_risk,
                scopes: scopes.iter().map(|(at, is_in, n)| (NAMES[*at], *is_in, share(*n))).collect(),
                watched: *watched,
                outside: outside.map(|(stops, is_in)| Outside { stops, is_in, at_risk: share(40) }),
            },
        );
    }

    fn folded(lines: &[Raw]) -> Fold {
        let mut fold = Fold::new(0, &Settings::default());
        (1..).zip(lines).for_each(|(number, line)| take(&mut fold, number, line));
        fold
    }

    proptest! {
        #[test]
        fn a_fold_that_is_written_and_read_again_anywhere_makes_the_same_bits(
            lines in proptest::collection::vec(any_line(), 0..40),
            every in 1..7_i64,
        ) {
            let settings = Settings::default();
            let whole = folded(&lines);
            let mut parts = Fold::new(0, &settings);
            for (number, line) in (1..).zip(&lines) {
                take(&mut parts, number, line);
                if number % every == 0 {
                    parts = Fold::decode(&parts.encode(), &settings).expect("what was written");
                }
            }
            prop_assert_eq!(whole.encode(), parts.encode());
            let judged = |fold: &Fold| fold.judged(&["model=P9".to_owned()], None);
            prop_assert_eq!(judged(&whole), judged(&parts));
        }

        #[test]
        fn watching_more_scopes_makes_no_evidence_out_of_nothing(
            lines in proptest::collection::vec(any_line(), 0..40),
            more in 0..10_usize,
        ) {
            let fold = folded(&lines);
            let mut wider = fold.evidence().clone();
            wider.widen(wider.scopes() + more);
            prop_assert!(wider.e_health() <= fold.evidence().e_health() * (1.0 + 1e-12));
        }

        #[test]
        fn a_damaged_text_is_never_taken_for_evidence(
            lines in proptest::collection::vec(any_line(), 1..20),
            at in 0..10_000_usize,
        ) {
            let settings = Settings::default();
            let text = folded(&lines).encode();
            let cut: String = text.chars().take(at % text.chars().count()).collect();
            prop_assert!(Fold::decode(&cut, &settings).is_none_or(|fold| fold.encode() == cut));
            prop_assert_eq!(Fold::decode(&format!("{text}\n"), &settings), None);
            let other = Settings { good_ratios: &[1.0], ..settings };
            prop_assert_eq!(Fold::decode(&text, &other), None);
        }
    }

    #[test]
    fn a_scope_that_comes_later_has_missed_nothing() {
        let at_risk = AtRisk { treated: 100, control: 900 };
        let told = |scopes| Told {
            class: Class::Hard,
            arm: Arm::Treated,
            stratum: 0,
            at_risk,
            scopes,
            watched: 1,
            outside: None,
        };
        let mut fold = Fold::new(7, &Settings::default());
        (8..12).for_each(|number| fold.count(number, &told(vec![("model=P1", true, at_risk)])));
        fold.count(12, &told(vec![("model=P1", true, at_risk), ("model=P2", false, AtRisk::default())]));
        assert_eq!((fold.up_to(), fold.scopes()), (12, &["model=P1".to_owned(), "model=P2".to_owned()][..]));
        let (_, walks) = fold.evidence().classes().next().unwrap();
        assert_eq!(walks.scopes[1].rest, walks.all, "everything failed outside of it");
        assert!((walks.scopes[1].inside.e() - 1.0).abs() < 1e-12);
    }
}
