//! A stage that opens because the gate lets it: a profile goes to a fifth of the fleet, whose check-ins report it; terminals
//! not yet configured report payments that failed, those configured none; once the watch time is over the next stage opens
//! by itself. Real check-ins over HTTP all of them; only the watch time is passed over, by the server's clock.

use std::time::{Duration, Instant};

use serde::Serialize;
use tillward_protocol::ids::TerminalId;

use super::super::super::load::{CheckIns, Plan, canonical_with, drive};
use super::super::store;
use super::{LIMIT, POLL, Run, part};
use crate::audit::Actor;
use crate::profiles::{self, LayerKey, NewProfile, Parameter};
use crate::rollouts::strategy::Strategy;
use crate::rollouts::{self, NewRollout, RolloutDetail};

/// Share of the fleet in the first stage, per cent: enough on both sides to tell them apart.
const FIRST_PERCENT: i64 = 20;
/// Fewest terminals of a fleet of which a fifth can clear the outcome: 320 at a budget of 1 %.
pub(super) const TERMINALS_MIN: i64 = 2_000;
/// Terminals not yet configured whose payments fail; those of one store count once.
const FAILING: i64 = 150;
/// What is passed over of the watch time and the soak, ms: both are a minute, and commits are kept by minute.
const PASSED_OVER_MS: i64 = 180_000;
/// Sequence numbers that no other part of the run reaches begin here.
const SEQ_FROM: u32 = 1_000_000_000;

/// A stage that the gate opened.
#[derive(Debug, Clone, Serialize)]
pub struct GateTimes {
    /// Terminals of the first stage, each of which reported the profile.
    pub updated: i64,
    /// From the first of these reports to the last step, s.
    pub reported_s: f64,
    /// Failures of terminals not yet configured that were weighed.
    pub weighed: u64,
    /// From the first of these failures until all were judged, s.
    pub judged_s: f64,
    /// Evidence that health is no worse than tolerated.
    pub p_health: f64,
    /// From the end of the watch time to the first offer of the next stage, s.
    pub first_offer_s: f64,
    /// … until every one of its terminals has its offer, s.
    pub full_s: f64,
}

impl Run {
    /// Carries a rollout through its gate, and notes that as a part. Its own check-ins are all there are: the others would
    /// report that they have lost the profile.
    pub(super) fn gate(&mut self) -> anyhow::Result<GateTimes> {
        let began = Instant::now();
        let times = self.through_the_gate()?;
        let part = part("the gate", began, None);
        part.say();
        self.parts.push(part);
        Ok(times)
    }

    fn through_the_gate(&mut self) -> anyhow::Result<GateTimes> {
        let hash = self.start_profile()?;
        let admitted = self.wait_detail("admission", |detail| detail.rollout.is_admitted)?.rollout.admitted;
        let updated = admitted * FIRST_PERCENT / 100;
        self.wait("the first stage", |reached| reached.offered >= updated)?;
        let began = Instant::now();
        let id = self.rollout;
        let offered = self.server.read(move |conn| Ok(store::in_phase(conn, id, "offered", i64::MAX)?))?;
        self.say_once(&offered, &configured_with(&hash))?;
        self.wait("the first stage's end", |reached| reached.offered == 0)?;
        let reported_s = began.elapsed().as_secs_f64();
        self.wait_detail("the count of controls", |detail| {
            detail.evidence.as_ref().is_some_and(|evidence| evidence.controls > 0)
        })?;
        let began = Instant::now();
        let failing = self.server.read(move |conn| Ok(store::in_phase(conn, id, "waiting", FAILING)?))?;
        self.say_once(&failing, &failed_at(self.server.state()?.clock.now().0))?;
        let is_clear = |detail: &RolloutDetail| {
            let evidence = detail.evidence.as_ref();
            evidence.is_some_and(|evidence| evidence.p_health >= 20.0 && evidence.p_outcome >= 20.0)
        };
        let evidence = self.wait_detail("evidence that clears", is_clear)?.evidence.unwrap_or_default();
        let judged_s = began.elapsed().as_secs_f64();
        let state = self.server.state()?;
        state.clock.advance_ms(PASSED_OVER_MS);
        state.planner.wake();
        let began = Instant::now();
        self.wait("the first offer after the pass", |reached| reached.offered > 0)?;
        let first_offer_s = began.elapsed().as_secs_f64();
        self.wait_detail("the second stage", |detail| {
            detail.rollout.stage == 1 && detail.rollout.counts.get("waiting") == Some(&0)
        })?;
        Ok(GateTimes {
            updated,
            reported_s,
            weighed: evidence.classes.iter().map(|class| class.control).sum(),
            judged_s,
            p_health: evidence.p_health,
            first_offer_s,
            full_s: began.elapsed().as_secs_f64(),
        })
    }

    /// Starts the rollout of a new profile over the whole fleet; its config hash.
    fn start_profile(&mut self) -> anyhow::Result<String> {
        let now = self.server.state()?.clock.now();
        let (maker, actor) = (self.caller.clone(), Actor::system("bench"));
        let (id, hash) = self.server.write(move |conn| {
            let parameters = [("apn".to_owned(), Parameter::Text("cmnet".to_owned()))].into();
            let new = NewProfile { name: "bench".to_owned(), organization_id: None, parameters };
            let home = maker.organization_id;
            let profile = profiles::create(conn, &actor, "bench", &maker.scope, home, new, now)?;
            let strategy: Strategy = serde_json::from_value(serde_json::json!({
                "stages": [{"percent": FIRST_PERCENT}], "soak_s": 60, "gate": {"watch_s": 60},
            }))?;
            let new = NewRollout {
                name: "bench gate".to_owned(),
                profile_id: Some(profile.id),
                layer: Some(LayerKey::Global),
                strategy,
                ..NewRollout::default()
            };
            Ok((rollouts::create(conn, &maker, new, &actor, now)?, profile.hash))
        })?;
        self.rollout = id;
        let count = self.preview()?.1;
        let state = self.server.state()?;
        let scope = self.caller.scope.clone();
        let start = rollouts::start(&state.db, scope, id, count, u64::MAX, Actor::system("bench"), now);
        self.server.runtime.block_on(start)?;
        state.planner.wake();
        Ok(hash)
    }

    /// Lets each of these terminals say this at least once.
    fn say_once(&self, terminals: &[i64], body: &str) -> anyhow::Result<()> {
        let state = self.server.state()?;
        let now = state.clock.now();
        let tokens: Vec<String> =
            terminals.iter().filter_map(|id| state.tokens.issue_terminal(TerminalId(*id), 0, now)).collect();
        anyhow::ensure!(tokens.len() == terminals.len() && !tokens.is_empty(), "nobody is there to say it");
        let connections = self.connections.clamp(1, tokens.len());
        let host = self.server.address.to_string();
        let share = |at: usize| tokens.iter().skip(at).step_by(connections).map(|token| (token.clone(), SEQ_FROM));
        let mut shares: Vec<CheckIns> = (0..connections).map(|at| CheckIns::saying(&host, body, share(at))).collect();
        let plan = Plan { connections, threads: 1, duration: Duration::from_millis(200), rate: None };
        let began = Instant::now();
        while shares.iter().flat_map(CheckIns::counted).any(|counted| counted == SEQ_FROM) {
            anyhow::ensure!(began.elapsed() < LIMIT, "not all were heard within {LIMIT:?}");
            let mut given = shares.into_iter();
            let (measured, back) = drive(self.server.address, &plan, |_| {
                given.next().unwrap_or_else(|| CheckIns::saying(&host, body, []))
            })?;
            let refused = measured.statuses.keys().find(|status| (400..500).contains(*status) && **status != 429);
            anyhow::ensure!(refused.is_none(), "a check-in was answered by {refused:?}");
            shares = back;
        }
        Ok(())
    }

    /// Waits until the rollout looks as `is_there` says.
    fn wait_detail(&self, what: &str, is_there: impl Fn(&RolloutDetail) -> bool) -> anyhow::Result<RolloutDetail> {
        let began = Instant::now();
        loop {
            let (scope, id) = (self.caller.scope.clone(), self.rollout);
            let detail = self.server.read(move |conn| Ok(rollouts::get(conn, &scope, id)?))?;
            if is_there(&detail) {
                return Ok(detail);
            }
            anyhow::ensure!(began.elapsed() < LIMIT, "{what} takes longer than {LIMIT:?}: {:?}", detail.evidence);
            std::thread::sleep(POLL * 5);
        }
    }
}

/// The canonical check-in of a terminal that took the profile of this hash.
fn configured_with(hash: &str) -> String {
    canonical_with(r#""app":"3.8.1"}"#, &format!(r#""app":"3.8.1","config_hash":"{hash}"}}"#))
}

/// The canonical check-in of a terminal whose payment just failed, Unix ms.
fn failed_at(at_ms: i64) -> String {
    let failures = format!(
        r#""transactions":{{"ok":5,"failed":1}},"failures":[{{"id":"bench-{at_ms}","occurred_at_ms":{at_ms},"transaction":"sale","stage":"tcp","condition":{{"access":"4g"}}}}]}}"#
    );
    let body = canonical_with(r#""transactions":{"ok":6,"failed":0}}"#, &failures);
    body.replace("1795361000000", &at_ms.to_string())
}

#[cfg(test)]
mod tests {
    use tillward_protocol::Check;
    use tillward_protocol::checkin::CheckIn;

    use super::*;

    #[test]
    fn what_terminals_say_is_valid_and_says_what_it_is_for() {
        let parsed = |body: String| {
            let body = body.replace("##########", "         7");
            let check_in: CheckIn = serde_json::from_str(&body).unwrap();
            assert_eq!(check_in.check(), Ok(()));
            check_in
        };
        let hash = "ab".repeat(32);
        let configured = parsed(configured_with(&hash));
        assert_eq!(configured.software.config_hash.unwrap().as_str(), hash);
        let failed = parsed(failed_at(1_795_432_000_000));
        assert_eq!((failed.at_ms, failed.failures[0].occurred_at_ms), (1_795_432_000_000, 1_795_432_000_000));
        assert_eq!(failed.transactions.failed, 1);
    }
}
