//! How good a store's network is, what to change about it, and what that would have saved. Pure.
//!
//! The score is a weighted minimum: the worst of its parts, each drawn towards 100 by its weight, so that it always has one
//! reason. What to change is not guessed from the signal: it is what terminals of the same region do better that are
//! connected otherwise, where both sides have enough payments and their 95 % intervals do not meet.

use serde::{Deserialize, Serialize};

use super::measure::{Link, Tally};
use crate::failures::fleet::statistics::{Z_95, as_f64, wilson};

/// The thresholds, as data. The radio bands are those of [`super::measure`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Fewest check-ins with a value that a part of the score rests on.
    pub samples_min: u64,
    /// Fewest payments of a store, or of one of its links.
    pub attempts_min: u64,
    /// Fewest payments that it is compared with …
    pub peer_attempts_min: u64,
    /// … of at least so many terminals.
    pub peer_terminals_min: u64,
    /// Fewest failures that a change must have saved.
    pub saved_min: f64,
    /// Share of weak signal from which on place and antenna are looked at.
    pub weak_share_min: f64,
    /// Mean loss at which that part is 0, percent.
    pub loss_percent_zero: f64,
    /// Share of failed payments at which that part is 0.
    pub failure_rate_zero: f64,
    /// Points of good, fair, poor and bad signal.
    pub signal_points: [f64; 4],
    /// Points of good, fair and poor signal to noise.
    pub noise_points: [f64; 3],
    /// Points of 2G and 3G; all else is not judged by its name.
    pub legacy_points: [f64; 2],
    /// Weights of failures, loss, signal, noise and access, 0 to 1.
    pub weights: [f64; 5],
}

impl Default for Thresholds {
    /// Our own rules, not measured: radio people's rules of thumb, and a month of one small shop as the least to go by.
    fn default() -> Self {
        Self {
            samples_min: 20,
            attempts_min: 50,
            peer_attempts_min: 200,
            peer_terminals_min: 10,
            saved_min: 3.0,
            weak_share_min: 0.3,
            loss_percent_zero: 10.0,
            failure_rate_zero: 0.05,
            signal_points: [100.0, 75.0, 35.0, 0.0],
            noise_points: [100.0, 70.0, 20.0],
            legacy_points: [20.0, 60.0],
            weights: [1.0, 0.9, 0.8, 0.7, 0.8],
        }
    }
}

/// A part of the score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = NetworkScorePart)]
pub struct Part {
    /// `failures`, `loss`, `signal`, `noise` or `access`.
    pub name: String,
    /// Access type of the link that it is of.
    pub access: String,
    /// Its carrier.
    pub carrier: String,
    /// 0 to 100, weighted.
    pub score: i64,
    /// What was measured: share of failed payments, mean loss in percent, share of weak signal or noise; 0 for access.
    pub observed: f64,
    /// How many check-ins or payments that is of.
    pub of: u64,
}

/// Terminals of the same region that are connected in one way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// Access type.
    pub access: String,
    /// Carrier, or `unknown`.
    pub carrier: String,
    /// How many terminals.
    pub terminals: u64,
    /// Their payments in good or fair signal.
    pub strong: Tally,
    /// All their payments.
    pub all: Tally,
}

/// What to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = NetworkChange)]
pub enum Change {
    /// To a fixed line: cable, or WiFi on one.
    FixedLine,
    /// To another carrier's card.
    Carrier,
    /// The place of the terminal or of the WiFi access point.
    WifiPlace,
    /// An outside antenna, or a place at the window.
    Antenna,
}

impl Change {
    /// Every change.
    pub const ALL: [Self; 4] = [Self::FixedLine, Self::Carrier, Self::WifiPlace, Self::Antenna];

    /// Name in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FixedLine => "fixed_line",
            Self::Carrier => "carrier",
            Self::WifiPlace => "wifi_place",
            Self::Antenna => "antenna",
        }
    }
}

/// One change and what it would have saved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = NetworkAdvice)]
pub struct Advice {
    /// What to change.
    pub change: Change,
    /// Over which access it is now.
    pub access: String,
    /// On which carrier.
    pub carrier: String,
    /// The access to change to; the same for place and antenna.
    pub to_access: String,
    /// The carrier to change to.
    pub to_carrier: String,
    /// Payments that the change is about, and those of them that failed.
    pub now: Tally,
    /// Payments that it is compared with.
    pub then: Tally,
    /// Terminals that it is compared with; the store's own for the place.
    pub terminals: u64,
    /// Failures that it would have saved, about …
    pub saved: u64,
    /// … at least …
    pub saved_low: u64,
    /// … and at most.
    pub saved_high: u64,
}

/// What is said about a store.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = NetworkJudgement)]
pub struct Judged {
    /// 0 (worst) to 100; absent where there is too little to judge by.
    pub score: Option<i64>,
    /// The parts of the score, the worst first: that is its reason.
    pub parts: Vec<Part>,
    /// What to change, what saves most first.
    pub advice: Vec<Advice>,
    /// Whether a comparison failed for want of terminals in the region that are connected otherwise.
    pub lacks_peers: bool,
}

/// Judges a store by its links and its region.
pub fn judge(links: &[Link], peers: &[Peer], with: &Thresholds) -> Judged {
    let mut parts: Vec<Part> = links.iter().flat_map(|link| parts(link, with)).collect();
    parts.sort_by(|one, other| one.score.cmp(&other.score).then_with(|| one.name.cmp(&other.name)));
    let mut advice: Vec<Advice> = Vec::new();
    let mut lacks_peers = false;
    for link in links.iter().filter(|link| link.all().attempts >= with.attempts_min) {
        let (found, lacks) = changes(link, peers, with);
        advice.extend(found);
        lacks_peers |= lacks;
    }
    advice.sort_by(|one, other| other.saved.cmp(&one.saved).then(one.change.cmp(&other.change)));
    lacks_peers &= advice.is_empty();
    Judged { score: parts.first().map(|part| part.score), parts, advice, lacks_peers }
}

fn parts(link: &Link, with: &Thresholds) -> Vec<Part> {
    let [failures, loss, signal, noise, access] = with.weights;
    let part = |name: &str, points: f64, weight: f64, observed: f64, of: u64| Part {
        name: name.to_owned(),
        access: link.access.clone(),
        carrier: link.carrier.clone(),
        score: rounded(100.0 - weight * (100.0 - points.clamp(0.0, 100.0))),
        observed,
        of,
    };
    let mut parts = Vec::new();
    let all = link.all();
    if all.attempts >= with.attempts_min {
        let rate = as_f64(all.failed) / as_f64(all.attempts);
        parts.push(part("failures", 100.0 * (1.0 - rate / with.failure_rate_zero), failures, rate, all.attempts));
    }
    if link.loss_samples >= with.samples_min {
        let mean = as_f64(link.loss_sum) / as_f64(link.loss_samples);
        parts.push(part("loss", 100.0 * (1.0 - mean / with.loss_percent_zero), loss, mean, link.loss_samples));
    }
    let known: u64 = link.signal.iter().sum();
    if known >= with.samples_min {
        let points = mean(&link.signal, &with.signal_points);
        let [.., poor, bad] = link.signal;
        parts.push(part("signal", points, signal, as_f64(poor + bad) / as_f64(known), known));
    }
    let known: u64 = link.noise.iter().sum();
    if known >= with.samples_min {
        let [.., noisy] = link.noise;
        let points = mean(&link.noise, &with.noise_points);
        parts.push(part("noise", points, noise, as_f64(noisy) / as_f64(known), known));
    }
    let [second, third] = with.legacy_points;
    let legacy = match link.access.as_str() {
        "2g" => Some(second),
        "3g" => Some(third),
        _ => None,
    };
    if let Some(points) = legacy.filter(|_| link.samples >= with.samples_min) {
        parts.push(part("access", points, access, 0.0, link.samples));
    }
    parts
}

/// Mean of points over counts; 0 of nothing.
fn mean(counts: &[u64], points: &[f64]) -> f64 {
    let total: u64 = counts.iter().sum();
    let sum: f64 = counts.iter().zip(points).map(|(n, points)| as_f64(*n) * points).sum();
    if total == 0 { 0.0 } else { sum / as_f64(total) }
}

fn rounded(value: f64) -> i64 {
    #[allow(clippy::cast_possible_truncation)] // Clamped to what any count can be.
    let rounded = value.round().clamp(0.0, 9e15) as i64;
    rounded
}

/// The changes that would have helped a link, one of each kind; and whether one could not be judged.
fn changes(link: &Link, peers: &[Peer], with: &Thresholds) -> (Vec<Advice>, bool) {
    let is_cellular = matches!(link.access.as_str(), "5g" | "4g" | "3g" | "2g");
    let is_wifi = link.access == "wifi";
    let mut lacks = false;
    let mut best = |change: Change, candidates: Vec<&Peer>| -> Option<Advice> {
        let enough: Vec<&Peer> = candidates
            .into_iter()
            .filter(|peer| peer.terminals >= with.peer_terminals_min && peer.all.attempts >= with.peer_attempts_min)
            .collect();
        lacks |= enough.is_empty();
        let advice = enough.into_iter().filter_map(|peer| {
            let saved = saving(link.all(), peer.all, with)?;
            Some(advice(link, change, (&peer.access, &peer.carrier), (link.all(), peer.all), peer.terminals, saved))
        });
        advice.max_by_key(|advice| advice.saved)
    };
    let mut found = Vec::new();
    if is_cellular {
        let fixed = peers.iter().filter(|peer| matches!(peer.access.as_str(), "eth" | "wifi"));
        found.extend(best(Change::FixedLine, fixed.collect()));
        let others = peers
            .iter()
            .filter(|peer| peer.access == link.access && peer.carrier != link.carrier && peer.carrier != "unknown");
        found.extend(best(Change::Carrier, others.collect()));
    } else if is_wifi {
        found.extend(best(Change::FixedLine, peers.iter().filter(|peer| peer.access == "eth").collect()));
    }
    let known: u64 = link.signal.iter().sum();
    let [.., poor, bad] = link.signal;
    let is_weak = known >= with.samples_min && as_f64(poor + bad) >= with.weak_share_min * as_f64(known);
    if is_weak && (is_cellular || is_wifi) {
        let change = if is_wifi { Change::WifiPlace } else { Change::Antenna };
        found.extend(by_signal(link, change, peers, with));
    }
    (found, lacks)
}

/// What good signal would have saved: by the store's own payments in good signal, else by the region's.
fn by_signal(link: &Link, change: Change, peers: &[Peer], with: &Thresholds) -> Option<Advice> {
    let peer = peers.iter().find(|peer| peer.access == link.access && peer.carrier == link.carrier);
    let region =
        peer.filter(|peer| peer.terminals >= with.peer_terminals_min && peer.strong.attempts >= with.peer_attempts_min);
    let (then, terminals) = if link.strong.attempts >= with.attempts_min {
        (link.strong, 0)
    } else {
        region.map(|peer| (peer.strong, peer.terminals))?
    };
    if link.weak.attempts < with.attempts_min {
        return None;
    }
    let saved = saving(link.weak, then, with)?;
    Some(advice(link, change, (&link.access, &link.carrier), (link.weak, then), terminals, saved))
}

/// Failures that `now` would not have had at the rate of `then`: about, at least, at most. `None` where the 95 % intervals
/// of both rates meet, or where it is too few to speak of.
fn saving(now: Tally, then: Tally, with: &Thresholds) -> Option<(u64, u64, u64)> {
    let (now_low, now_high) = wilson(now.failed, now.attempts, Z_95)?;
    let (then_low, then_high) = wilson(then.failed.min(then.attempts), then.attempts, Z_95)?;
    if now_low <= then_high {
        return None;
    }
    let n = as_f64(now.attempts);
    let saved = as_f64(now.failed) - n * as_f64(then.failed) / as_f64(then.attempts);
    if saved < with.saved_min {
        return None;
    }
    let count = |value: f64| u64::try_from(rounded(value)).unwrap_or(0);
    let low = n * (now_low - then_high);
    let high = (n * (now_high - then_low)).min(as_f64(now.failed));
    Some((count(saved), count(low), count(high)))
}

fn advice(
    link: &Link,
    change: Change,
    to: (&str, &str),
    (now, then): (Tally, Tally),
    terminals: u64,
    (saved, saved_low, saved_high): (u64, u64, u64),
) -> Advice {
    Advice {
        change,
        access: link.access.clone(),
        carrier: link.carrier.clone(),
        to_access: to.0.to_owned(),
        to_carrier: to.1.to_owned(),
        now,
        then,
        terminals,
        saved,
        saved_low,
        saved_high,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(attempts: u64, failed: u64) -> Tally {
        Tally { attempts, failed }
    }

    /// 400 payments of which 32 failed, half of the time in poor signal.
    fn cell() -> Link {
        Link {
            access: "4g".to_owned(),
            carrier: "CMCC".to_owned(),
            samples: 200,
            signal: [20, 80, 80, 20],
            noise: [100, 80, 20],
            loss_samples: 200,
            loss_sum: 400,
            strong: tally(200, 2),
            weak: tally(200, 30),
            ..Link::default()
        }
    }

    fn peer(access: &str, carrier: &str, all: Tally) -> Peer {
        Peer { access: access.to_owned(), carrier: carrier.to_owned(), terminals: 40, strong: all, all }
    }

    fn judged(link: Link, peers: &[Peer]) -> Judged {
        judge(&[link], peers, &Thresholds::default())
    }

    fn changes_of(judged: &Judged) -> Vec<(Change, u64)> {
        judged.advice.iter().map(|advice| (advice.change, advice.saved)).collect()
    }

    #[test]
    fn the_score_is_its_worst_part_and_names_it() {
        let judged = judged(cell(), &[]);
        let scores: Vec<(&str, i64)> = judged.parts.iter().map(|part| (part.name.as_str(), part.score)).collect();
        assert_eq!(scores, [("failures", 0), ("signal", 63), ("loss", 82), ("noise", 86)]);
        assert_eq!(judged.score, Some(0));
        let second = Link { access: "2g".to_owned(), samples: 30, ..Link::default() };
        assert_eq!(judge(&[second], &[], &Thresholds::default()).score, Some(36));
    }

    #[test]
    fn what_others_in_the_region_do_better_is_advised_with_what_it_saves() {
        let peers = [
            peer("4g", "CMCC", tally(9_000, 90)),
            peer("4g", "CUCC", tally(2_000, 20)),
            peer("eth", "unknown", tally(2_000, 2)),
        ];
        let judged = judged(cell(), &peers);
        assert_eq!(changes_of(&judged), [(Change::FixedLine, 32), (Change::Carrier, 28), (Change::Antenna, 28)]);
        let carrier = &judged.advice[1];
        assert_eq!((carrier.to_carrier.as_str(), carrier.terminals), ("CUCC", 40));
        assert!(carrier.saved_low < carrier.saved && carrier.saved < carrier.saved_high);
        assert!(!judged.lacks_peers);
    }

    #[test]
    fn others_that_fail_alike_or_nearly_so_are_no_advice() {
        let alike = [peer("4g", "CUCC", tally(2_000, 150)), peer("eth", "unknown", tally(2_000, 120))];
        let link = Link { strong: tally(200, 16), weak: tally(200, 16), ..cell() };
        assert_eq!(judged(link, &alike).advice, [], "8 % against 7.5 % and 6 %");
    }

    #[test]
    fn too_few_terminals_or_payments_give_no_advice_and_it_is_said() {
        let few = Peer { terminals: 9, ..peer("4g", "CUCC", tally(2_000, 0)) };
        let rare = peer("eth", "unknown", tally(199, 0));
        let link = Link { signal: [100, 100, 0, 0], ..cell() };
        let judged = judged(link, &[few, rare]);
        assert_eq!((judged.advice.len(), judged.lacks_peers), (0, true));
        let idle = Link { strong: tally(20, 2), weak: tally(20, 10), samples: 10, ..Link::default() };
        let judged = judge(&[idle], &[peer("eth", "unknown", tally(2_000, 2))], &Thresholds::default());
        assert_eq!(judged, Judged::default(), "forty payments and ten check-ins say nothing");
    }

    #[test]
    fn weak_wifi_is_a_matter_of_place_by_the_stores_own_good_hours() {
        let wifi = Link { access: "wifi".to_owned(), carrier: "unknown".to_owned(), ..cell() };
        let judged = judged(wifi, &[]);
        assert_eq!(changes_of(&judged), [(Change::WifiPlace, 28)]);
        assert_eq!(judged.advice[0].then, tally(200, 2));
        assert!(!judged.lacks_peers);
        let strong = Link { access: "wifi".to_owned(), signal: [150, 50, 0, 0], ..cell() };
        assert_eq!(changes_of(&judge(&[strong], &[], &Thresholds::default())), [], "its signal is good");
    }
}
