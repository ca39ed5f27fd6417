//! What came out, for people and for machines.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::plan::{Plan, Reading};
use super::record::Record;
use super::replay::{Moment, Replay};
use super::words::Outcome;
use crate::rollouts::gate::{Arm, Fate, Missing, ScopeEvidence, Settings, Windows};

/// Everything that is printed.
#[derive(Debug)]
pub struct Paper<'a> {
    /// The file.
    pub record: &'a Record,
    /// How it was read.
    pub plan: &'a Plan,
    /// What it was held against.
    pub settings: &'a Settings,
    /// Time limits.
    pub windows: &'a Windows,
    /// What came out.
    pub replay: &'a Replay,
}

impl Paper<'_> {
    /// One object.
    pub fn json(&self) -> Value {
        let replay = self.replay;
        let last = replay.verdicts.last();
        json!({
            "verdicts": replay.verdicts.iter().map(|moment| self.moment(moment)).collect::<Vec<_>>(),
            "final": last.map(|moment| self.moment(moment)),
            "stopped_at_ms": replay.stopped.as_ref().map(|moment| moment.t_ms),
            "stopped": replay.stopped.as_ref().map(|moment| self.moment(moment)),
            "failing_before_stop": replay.failing_before_stop,
            "failing": replay.failing,
            "started": replay.outcomes.started,
            "failed": replay.outcomes.failed,
            "pending": replay.outcomes.pending,
            "counted": replay.counted,
            "suppressed": replay.suppressed,
            "scopes": last.map_or_else(Vec::new, |moment| self.scopes(moment)),
            "rows": self.record.rows.len(),
            "terminals": self.record.terminals,
            "reading": self.plan.reading,
            "strata": {"columns": self.plan.strata_columns, "count": self.plan.strata},
            "settings": {
                "alpha": self.settings.alpha,
                "fail_evidence": self.settings.fail_evidence(),
                "pass_evidence": self.settings.pass_evidence,
                "outcome_budget": self.settings.outcome_budget,
                "tolerated_ratio": self.settings.tolerated_ratio,
                "classes": self.settings.classes.iter().map(|class| class.as_str()).collect::<Vec<_>>(),
                "window_min": self.windows.hard_ms / super::MINUTE_MS,
                "site_min": self.windows.site_ms / super::MINUTE_MS,
            },
            "notes": self.notes(),
        })
    }

    fn moment(&self, moment: &Moment) -> Value {
        let judgement = &moment.judgement;
        let classes: Vec<_> = judgement
            .classes
            .iter()
            .map(|class| {
                json!({
                    "class": class.class.as_str(), "e": class.e, "e_all": class.e_all, "p": class.p,
                    "treated_failures": class.treated, "control_failures": class.control,
                    "without_comparison": class.unweighed, "ratio": class.ratio,
                })
            })
            .collect();
        json!({
            "t_ms": moment.t_ms,
            "line": moment.line,
            "verdict": judgement.verdict.as_str(),
            "e": judgement.e,
            "e_max": judgement.e_max,
            "e_outcome": judgement.e_outcome,
            "e_health": judgement.e_health,
            "p": judgement.p_health,
            "p_outcome": judgement.p_outcome,
            "classes": classes,
            "worst_scope": judgement.worst_scope.map(|scope| self.scope(scope)),
            "can_narrow_to": judgement.can_narrow_to.map(|scope| self.scope(scope)),
            "why": judgement.why.iter().map(|missing| self.missing(missing)).collect::<Vec<_>>(),
        })
    }

    fn missing(&self, missing: &Missing) -> Value {
        let reason = missing.as_str();
        match missing {
            Missing::Started { started, needed } => json!({"reason": reason, "started": started, "needed": needed}),
            Missing::Health { p, needed } | Missing::Outcome { p, needed } => {
                json!({"reason": reason, "p": p, "needed": needed})
            }
            Missing::Controls { failures } => json!({"reason": reason, "failures": failures}),
            Missing::Soak => json!({"reason": reason}),
            Missing::Watched { terminals } => json!({"reason": reason, "terminals": terminals}),
            Missing::Scope { scope, e } => json!({"reason": reason, "scope": self.scope(*scope), "e": e}),
        }
    }

    fn scopes(&self, moment: &Moment) -> Vec<Value> {
        let one = |evidence: &ScopeEvidence| {
            let scope = &self.plan.scopes[usize::from(evidence.scope)];
            json!({
                "column": self.record.columns[scope.column], "value": scope.value,
                "e": evidence.e, "e_rest": evidence.e_rest, "p_rest": evidence.p_rest,
                "treated_failures": evidence.treated, "control_failures": evidence.control,
            })
        };
        moment.judgement.scopes.iter().map(one).collect()
    }

    /// `column=value`.
    fn scope(&self, number: u16) -> String {
        self.plan
            .scopes
            .get(usize::from(number))
            .map_or_else(String::new, |scope| format!("{}={}", self.record.columns[scope.column], scope.value))
    }

    /// What a person should know before trusting the verdict.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let has = |is: &dyn Fn(Outcome) -> bool| self.record.rows.iter().any(|row| is(row.outcome));
        if !self.record.rows.iter().any(|row| row.arm == Arm::Control) {
            notes.push("no controls: every failure is held against the budget for updates".to_owned());
        }
        if !self.record.rows.iter().any(|row| row.arm == Arm::Treated) {
            notes.push("no treated terminals: there is nothing to judge".to_owned());
        }
        if self.plan.reading != Reading::Starts && !has(&|outcome| matches!(outcome, Outcome::Good | Outcome::End)) {
            notes.push(
                "only failures: nothing says how many did not fail; add start or ok rows for the others".to_owned(),
            );
        }
        if !self.record.has_sites {
            notes.push("no column \"site\": every failure of a site is evidence".to_owned());
        }
        if let Some(late) = self.replay.suppressed.get(Fate::OutOfWindow.as_str()) {
            let minutes = self.windows.hard_ms / super::MINUTE_MS;
            notes.push(format!("{late} failures came more than {minutes} min after the update; see --window-min"));
        }
        let classes = self.replay.verdicts.last().map_or(&[][..], |moment| &moment.judgement.classes);
        let alone: u64 = classes.iter().map(|class| class.unweighed).sum();
        if alone > 0 {
            notes.push(format!("{alone} failures had nobody to be compared with in their stratum at that moment"));
        }
        notes
    }

    /// Lines for people.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn text(&self, out: &mut impl Write) -> io::Result<()> {
        let replay = self.replay;
        let strata = match &self.plan.strata_columns[..] {
            [] => "1 stratum".to_owned(),
            columns => format!("{} strata ({})", self.plan.strata, columns.join(" x ")),
        };
        writeln!(
            out,
            "{} rows, {} terminals, {} updated; read as {}; {strata}, {} scopes",
            self.record.rows.len(),
            self.record.terminals,
            replay.outcomes.started,
            self.plan.reading.as_str(),
            self.plan.scopes.len()
        )?;
        writeln!(out, "{:>15} {:>9}  {:<12} {:>10}  {:>10}", "t_ms", "line", "verdict", "evidence", "cleared")?;
        for moment in &replay.verdicts {
            let judgement = &moment.judgement;
            let cleared = judgement.p_outcome.map_or(judgement.p_health, |p| p.min(judgement.p_health));
            let (t_ms, line, verdict) = (moment.t_ms, moment.line, judgement.verdict.as_str());
            let (evidence, cleared) = (figure(judgement.e), figure(cleared));
            writeln!(out, "{t_ms:>15} {line:>9}  {verdict:<12} {evidence:>10}  {cleared:>10}")?;
        }
        let (fails, passes) = (figure(self.settings.fail_evidence()), figure(self.settings.pass_evidence));
        writeln!(out, "fails at evidence {fails}, passes at {passes} cleared")?;
        self.conclusion(out)?;
        let reasons: Vec<_> = replay.suppressed.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let reasons = if reasons.is_empty() { "none".to_owned() } else { reasons.join(", ") };
        writeln!(out, "{} failures counted; not counted: {reasons}", replay.counted)?;
        self.notes().iter().try_for_each(|note| writeln!(out, "note: {note}"))
    }

    fn conclusion(&self, out: &mut impl Write) -> io::Result<()> {
        let Some(stop) = &self.replay.stopped else {
            let why = self.replay.verdicts.last().map_or(&[][..], |moment| &moment.judgement.why);
            let why: Vec<_> = why.iter().map(|missing| self.sentence(missing)).collect();
            let why = if why.is_empty() { String::new() } else { format!("; for a pass: {}", why.join(", ")) };
            return writeln!(out, "not stopped; {} updated terminals failed{why}", self.replay.failing);
        };
        let failing = self.replay.failing_before_stop;
        write!(out, "stopped at {} ms after {failing} failing updated terminals", stop.t_ms)?;
        if let Some(scope) = stop.judgement.worst_scope {
            write!(out, "; most evidence in {}", self.scope(scope))?;
        }
        if let Some(scope) = stop.judgement.can_narrow_to {
            write!(out, ", which could have been stopped alone ({})", self.scope(scope))?;
        }
        writeln!(out)
    }

    fn sentence(&self, missing: &Missing) -> String {
        match missing {
            Missing::Started { started, needed } => format!("{started} of {needed} started"),
            Missing::Health { p, needed } => format!("health cleared {} of {}", figure(*p), figure(*needed)),
            Missing::Outcome { p, needed } => format!("outcome cleared {} of {}", figure(*p), figure(*needed)),
            Missing::Controls { failures } => format!("{failures} failures without controls"),
            Missing::Soak => "not yet soaked".to_owned(),
            Missing::Watched { terminals } => format!("{terminals} still watched"),
            Missing::Scope { scope, e } => format!("{} is suspect ({})", self.scope(*scope), figure(*e)),
        }
    }
}

/// A number in few digits, however large.
fn figure(number: f64) -> String {
    match number.abs() {
        large if large >= 1e6 => format!("{number:.2e}"),
        middle if middle >= 100.0 => format!("{number:.0}"),
        small if small >= 0.01 || small == 0.0 => format!("{number:.2}"),
        _ => format!("{number:.1e}"),
    }
}
