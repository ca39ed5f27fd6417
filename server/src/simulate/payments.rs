//! Transactions on a simulated terminal: how often they fail on which link, and the one fault that a demo injects.
//!
//! Failure odds follow the very link state and signal that the terminal reports with each failure, so an explanation
//! found in the reports is an explanation of what the model did.

use tillward_protocol::condition::{Access, SignalBand};
use tillward_protocol::failure::{Entry, ResponseSource, ReversalState, Stage, TransactionType};
use tillward_protocol::ids::Version;

use super::network::{LinkState, Moment};
use super::random::Draws;

/// Odds that a transaction fails for want of network, by link state (our rule; a customer tries while the link is dead).
const NETWORK_ODDS: [(LinkState, f64); 4] =
    [(LinkState::Dead, 0.93), (LinkState::Poor, 0.15), (LinkState::Weak, 0.03), (LinkState::Good, 0.003)];
/// Odds that the host declines: card and bank, not the terminal.
const DECLINE_ODDS: f64 = 0.008;
/// Usual response codes of declines: funds, PIN, limit, issuer away, switch, issuer late.
const DECLINES: [(&str, ResponseSource, f64); 6] = [
    ("51", ResponseSource::Issuer, 0.40),
    ("55", ResponseSource::Issuer, 0.20),
    ("61", ResponseSource::Issuer, 0.12),
    ("91", ResponseSource::Switch, 0.10),
    ("96", ResponseSource::Switch, 0.08),
    ("68", ResponseSource::Acquirer, 0.10),
];
/// Odds that reading the card fails.
const READ_ODDS: f64 = 0.002;

/// A fault of one firmware that shows on some links only.
#[derive(Debug, Clone)]
pub struct Fault {
    /// The firmware that has it.
    pub firmware: Version,
    /// Links on which it shows.
    pub access: Vec<Access>,
    /// Signal under which it shows.
    pub signal: Vec<SignalBand>,
    /// Odds that a transaction fails of it.
    pub odds: f64,
}

impl Fault {
    /// The demo's: firmware 4.2.0 gives up or garbles the message where 2G or 4G signal is weak. Five times the failures
    /// that such a place has anyhow.
    pub fn demo(firmware: Version) -> Self {
        Self {
            firmware,
            access: vec![Access::TwoG, Access::FourG],
            signal: vec![SignalBand::Poor, SignalBand::Bad],
            odds: 0.25,
        }
    }

    fn shows(&self, firmware: &Version, moment: &Moment) -> bool {
        *firmware == self.firmware
            && moment.condition.access.is_some_and(|access| self.access.contains(&access))
            && self.signal.contains(&moment.condition.signal_band())
    }
}

/// Why a transaction failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// How far it got.
    pub stage: Stage,
    /// What the host answered, and who.
    pub answer: Option<(String, ResponseSource)>,
    /// How long it took, ms.
    pub duration_ms: u32,
    /// What became of the reversal.
    pub reversal: ReversalState,
}

/// What becomes of a transaction at this moment; `None` when it succeeds.
pub fn attempt(moment: &Moment, firmware: &Version, fault: Option<&Fault>, draws: &mut Draws) -> Option<Outcome> {
    // Every attempt makes the same draws, so that a fault changes its own transactions and no others.
    let (fault_at, network_at, decline_at, read_at) = (draws.unit(), draws.unit(), draws.unit(), draws.unit());
    let (kind_at, length_at) = (draws.unit(), draws.unit());
    let round_trip_ms = moment.condition.rtt_ms.unwrap_or(0);
    if let Some(fault) = fault.filter(|fault| fault.shows(firmware, moment))
        && fault_at < fault.odds
    {
        return Some(if kind_at < 0.6 {
            declined("30", ResponseSource::Switch, round_trip_ms)
        } else {
            lost(Stage::Wait, 20_000 + (length_at * 10_000.0) as u32)
        });
    }
    let odds = NETWORK_ODDS.iter().find(|(state, _)| *state == moment.state).map_or(0.0, |(_, odds)| *odds);
    if network_at < odds {
        return Some(broken(moment.state, kind_at, length_at));
    }
    if decline_at < DECLINE_ODDS {
        let mut rest = kind_at;
        for (code, source, share) in DECLINES {
            rest -= share;
            if rest < 0.0 {
                return Some(declined(code, source, round_trip_ms));
            }
        }
    }
    (read_at < READ_ODDS).then(|| Outcome {
        stage: Stage::CardRead,
        answer: None,
        duration_ms: 1_500 + (length_at * 6_000.0) as u32,
        reversal: ReversalState::None,
    })
}

fn broken(state: LinkState, kind: f64, length: f64) -> Outcome {
    let stages: &[(Stage, f64)] = if state == LinkState::Dead {
        &[(Stage::Dns, 0.35), (Stage::Tcp, 0.35), (Stage::Send, 0.10), (Stage::Wait, 0.20)]
    } else {
        &[(Stage::Tls, 0.40), (Stage::Send, 0.20), (Stage::Wait, 0.40)]
    };
    let mut rest = kind;
    for (stage, share) in stages {
        rest -= share;
        if rest < 0.0 {
            return lost(*stage, 8_000 + (length * 22_000.0) as u32);
        }
    }
    lost(Stage::Wait, 30_000)
}

fn lost(stage: Stage, duration_ms: u32) -> Outcome {
    // Once something was sent, nobody knows what the host did: the terminal reverses.
    let reversal = if stage >= Stage::Send { ReversalState::Pending } else { ReversalState::None };
    Outcome { stage, answer: None, duration_ms, reversal }
}

fn declined(code: &str, source: ResponseSource, round_trip_ms: u32) -> Outcome {
    let answer = Some((code.to_owned(), source));
    Outcome { stage: Stage::HostResp, answer, duration_ms: 900 + 3 * round_trip_ms, reversal: ReversalState::None }
}

/// Kind of transaction and how it was entered.
pub fn kind(draws: &mut Draws) -> (TransactionType, Entry) {
    let kinds = [
        (TransactionType::Sale, 0.93),
        (TransactionType::Void, 0.02),
        (TransactionType::Refund, 0.02),
        (TransactionType::SignIn, 0.02),
        (TransactionType::Settle, 0.01),
    ];
    let entries = [(Entry::Icc, 0.25), (Entry::Nfc, 0.45), (Entry::Qr, 0.27), (Entry::Mag, 0.03)];
    let kind = kinds[draws.weighted(&kinds.map(|(_, share)| share))].0;
    let entry = entries[draws.weighted(&entries.map(|(_, share)| share))].0;
    (kind, entry)
}

#[cfg(test)]
mod tests {
    use tillward_protocol::condition::Condition;

    use super::*;

    fn moment(access: Access, rsrp_dbm: i32, state: LinkState) -> Moment {
        let condition =
            Condition { access: Some(access), rsrp_dbm: Some(rsrp_dbm), rtt_ms: Some(80), ..Condition::default() };
        Moment { state, condition }
    }

    fn failures(moment: &Moment, firmware: &str) -> Vec<Outcome> {
        let (firmware, fault) = (firmware.parse().unwrap(), Fault::demo("4.2.0".parse().unwrap()));
        let mut draws = Draws::of(1, "test", 0);
        (0..20_000).filter_map(|_| attempt(moment, &firmware, Some(&fault), &mut draws)).collect()
    }

    #[test]
    fn the_fault_shows_on_its_firmware_under_weak_cellular_signal_only() {
        let weak = moment(Access::FourG, -115, LinkState::Good);
        let with = failures(&weak, "4.2.0");
        let without = failures(&weak, "4.1.0");
        assert!(with.len() > 5 * without.len(), "{} against {}", with.len(), without.len());
        let is_30 = |outcome: &&Outcome| outcome.answer.as_ref().is_some_and(|(code, _)| code == "30");
        assert!(with.iter().filter(is_30).count() > 2_000 && without.iter().filter(is_30).count() == 0);
        for healthy in [moment(Access::FourG, -80, LinkState::Good), moment(Access::FiveG, -115, LinkState::Good)] {
            assert_eq!(failures(&healthy, "4.2.0"), failures(&healthy, "4.1.0"));
        }
    }

    #[test]
    fn weaker_links_fail_more_and_a_dead_link_never_reaches_the_host() {
        let at = |state| failures(&moment(Access::FourG, -90, state), "4.1.0");
        let counts: Vec<usize> = LinkState::ALL.into_iter().map(|state| at(state).len()).collect();
        assert!(counts.windows(2).all(|pair| pair[0] > 2 * pair[1]), "{counts:?}");
        let dead = at(LinkState::Dead);
        let by_network = dead.iter().filter(|outcome| outcome.answer.is_none()).count();
        assert!(by_network > 18_000);
    }
}
