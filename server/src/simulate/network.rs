//! How one simulated terminal's link changes over time: a semi-Markov model, and the condition that it reports.
//!
//! Real links fail in *spells*; independent losses would never cut a download in half or delay a heartbeat. So: draw a
//! dwell `max(1, round(exp(Normal(μ, σ))))` seconds, stay, then jump by the row of the state. Dwells and jumps are fits
//! to public packet-delivery traces of driving links (LTE, UMTS, EVDO). Three things adapt them to a terminal on a shop
//! counter (our rules): good spells last 5–20 times as long, longer where the signal is good; each terminal has a constant
//! frailty; and a rare outage of 30–120 s replaces the tail that a log-normal understates. On top lie **shared** outages,
//! of a carrier in a region and of one site, in which every terminal there is dead at once.
//!
//! What a terminal reports is made from the very state that drives its link. Time is the run's own, in seconds, and only
//! moves forward.

use tillward_protocol::condition::{Access, Condition, Registration, SignalBand, SimState};

use super::population::{Carrier, Place};
use super::random::Draws;

/// What a link can do at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkState {
    /// Nothing gets through.
    Dead,
    /// Below 0.1 Mbit/s.
    Poor,
    /// 0.1 to 0.5 Mbit/s.
    Weak,
    /// More.
    Good,
}

impl LinkState {
    /// Every state, worst first.
    pub const ALL: [Self; 4] = [Self::Dead, Self::Poor, Self::Weak, Self::Good];

    fn index(self) -> usize {
        self as usize
    }
}

/// Dwell (μ, σ of the logarithm of seconds) and jumps, in the order dead, poor, weak, good.
struct Model {
    dwell: [(f64, f64); 4],
    jumps: [[f64; 4]; 4],
}

const LTE: Model = Model {
    dwell: [(0.63, 1.30), (0.26, 0.51), (0.28, 0.45), (1.95, 1.38)],
    jumps: [[0.0, 0.27, 0.46, 0.27], [0.35, 0.0, 0.30, 0.35], [0.07, 0.25, 0.0, 0.68], [0.0, 0.02, 0.98, 0.0]],
};
const UMTS: Model = Model {
    dwell: [(0.49, 0.52), (0.40, 0.61), (0.65, 0.59), (1.97, 1.41)],
    jumps: [[0.0, 0.42, 0.29, 0.29], [0.39, 0.0, 0.35, 0.26], [0.13, 0.25, 0.0, 0.62], [0.05, 0.13, 0.82, 0.0]],
};
const EVDO: Model = Model {
    dwell: [(0.95, 0.85), (0.58, 0.76), (0.86, 0.88), (1.03, 0.96)],
    jumps: [[0.0, 0.42, 0.33, 0.25], [0.24, 0.0, 0.69, 0.07], [0.01, 0.30, 0.0, 0.69], [0.0, 0.03, 0.97, 0.0]],
};

/// How often a dead spell is a real outage, and how long it then lasts, s.
const OUTAGE_SHARE: f64 = 0.04;
const OUTAGE_S: (f64, f64) = (30.0, 120.0);
/// Mean time between shared outages of a carrier in a region, and how long they last, s.
const CARRIER_OUTAGES: (f64, f64, f64) = (8.0 * 3_600.0, 60.0, 600.0);
/// The same for one site (a market, a mall).
const SITE_OUTAGES: (f64, f64, f64) = (24.0 * 3_600.0, 120.0, 1_200.0);
/// Terminals that stand at one site: numbers in a row share it.
pub const TERMINALS_PER_SITE: u64 = 8;

/// Median round trip in a good spell, ms. 5G, LTE and HSPA+ are medians of public 1 Hz logs (72, 84, 123 ms); 2G and
/// WiFi are our rules.
fn rtt_ms(access: Access) -> f64 {
    match access {
        Access::FiveG => 72.0,
        Access::FourG => 84.0,
        Access::ThreeG => 123.0,
        Access::TwoG => 600.0,
        Access::Wifi => 28.0,
        Access::Ethernet => 12.0,
        Access::BluetoothPhone => 110.0,
    }
}

/// Mean probe loss in a good spell, percent; the first three from the same logs.
fn loss_percent(access: Access) -> f64 {
    match access {
        Access::FiveG => 0.7,
        Access::FourG => 1.2,
        Access::ThreeG => 4.4,
        Access::TwoG => 6.0,
        Access::Wifi => 0.8,
        Access::Ethernet => 0.1,
        Access::BluetoothPhone => 1.5,
    }
}

/// Shared outages of one group, the same for every terminal in it.
#[derive(Debug)]
struct Outages {
    draws: Draws,
    shape: (f64, f64, f64),
    from_s: f64,
    until_s: f64,
}

impl Outages {
    fn new(draws: Draws, shape: (f64, f64, f64)) -> Self {
        let mut outages = Self { draws, shape, from_s: 0.0, until_s: 0.0 };
        outages.plan_next();
        outages
    }

    fn plan_next(&mut self) {
        let (mean_gap, shortest, longest) = self.shape;
        self.from_s = self.until_s - (1.0 - self.draws.unit()).ln() * mean_gap;
        self.until_s = self.from_s + self.draws.between(shortest, longest);
    }

    fn is_out(&mut self, at_s: f64) -> bool {
        while at_s >= self.until_s {
            self.plan_next();
        }
        at_s >= self.from_s
    }
}

/// What one terminal's link does at a moment, and what the terminal measures of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Moment {
    /// The state that drives the link.
    pub state: LinkState,
    /// What the terminal reports.
    pub condition: Condition,
}

/// One terminal's link.
pub struct Link {
    place: Place,
    model: &'static Model,
    good_factor: f64,
    latency_factor: f64,
    draws: Draws,
    state: LinkState,
    until_s: f64,
    fading_db: f64,
    shared: [Outages; 2],
    cell: Cell,
}

/// Where the terminal is attached: the same for all terminals of one site and carrier.
struct Cell {
    tac: u32,
    id: u64,
    pci: u32,
    band: u32,
    bssid_hash: String,
    channel: u32,
}

impl Link {
    /// The link of terminal `index` at this place.
    pub fn new(place: Place, seed: u64, index: u64) -> Self {
        let mut draws = Draws::of(seed, "link", index);
        let model = match (place.access, place.carrier) {
            (Access::TwoG, _) | (Access::ThreeG, Carrier::Ctcc) => &EVDO,
            (Access::ThreeG, _) => &UMTS,
            (Access::FiveG | Access::FourG | Access::Wifi | Access::Ethernet | Access::BluetoothPhone, _) => &LTE,
        };
        let usual = match place.signal_band() {
            SignalBand::Good | SignalBand::Unknown => 18.0,
            SignalBand::Fair => 12.0,
            SignalBand::Poor => 7.0,
            SignalBand::Bad => 5.0,
        };
        let frailty = draws.normal(0.0, 0.25).exp();
        let site = index / TERMINALS_PER_SITE;
        let carrier_group = u64::from(place.carrier as u32);
        let in_region = format!("outage {}", place.region);
        let shared = [
            Outages::new(Draws::of(seed, &in_region, carrier_group), CARRIER_OUTAGES),
            Outages::new(Draws::of(seed, "outage site", site), SITE_OUTAGES),
        ];
        let cell = Cell::of(seed, site, &place);
        let latency_factor = draws.normal(0.0, 0.15).exp();
        let good_factor = f64::clamp(usual / frailty, 5.0, 20.0);
        let state = LinkState::Good;
        let mut link = Self {
            place,
            model,
            good_factor,
            latency_factor,
            draws,
            state,
            until_s: 0.0,
            fading_db: 0.0,
            shared,
            cell,
        };
        link.until_s = link.dwell();
        link
    }

    /// Where it stands.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Moves on to `at_s` (never back) and measures.
    pub fn at(&mut self, at_s: f64) -> Moment {
        while at_s >= self.until_s {
            self.state = LinkState::ALL[self.draws.weighted(&self.model.jumps[self.state.index()])];
            self.fading_db = self.draws.normal(0.0, 1.5);
            self.until_s += self.dwell();
        }
        let mut out = false;
        for outages in &mut self.shared {
            out |= outages.is_out(at_s);
        }
        let state = if out { LinkState::Dead } else { self.state };
        Moment { state, condition: self.measure(state) }
    }

    fn dwell(&mut self) -> f64 {
        if self.state == LinkState::Dead && self.draws.chance(OUTAGE_SHARE) {
            return self.draws.between(OUTAGE_S.0, OUTAGE_S.1).round();
        }
        let (mean, deviation) = self.model.dwell[self.state.index()];
        let factor = if self.state == LinkState::Good { self.good_factor } else { 1.0 };
        (factor * self.draws.normal(mean, deviation).exp()).round().max(1.0)
    }

    fn measure(&mut self, state: LinkState) -> Condition {
        // Weaker states come with weaker signal, longer round trips and more loss (our rule).
        let (down_db, slower, lossier) = match state {
            LinkState::Good => (0.0, 1.0, 1.0),
            LinkState::Weak => (4.0, 1.8, 3.0),
            LinkState::Poor => (9.0, 4.5, 9.0),
            LinkState::Dead => (16.0, 0.0, 0.0),
        };
        let access = self.place.access;
        let dead = state == LinkState::Dead;
        let change = self.fading_db - down_db;
        let moved = |value: Option<i32>, low, high, share: f64| {
            value.map(|value| (value + (change * share).round() as i32).clamp(low, high))
        };
        let mut condition = Condition {
            access: Some(access),
            plmn: self.place.carrier.plmn().map(str::to_owned),
            rsrp_dbm: moved(self.place.rsrp_dbm, -140, -44, 1.0),
            rsrq_db: moved(self.place.rsrq_db, -20, -3, 0.3),
            sinr_db: moved(self.place.sinr_db, -20, 40, 0.7),
            rssi_dbm: moved(self.place.rssi_dbm, -119, -10, 1.0),
            ip_version: Some(4),
            loss_percent: Some(100),
            ..Condition::default()
        };
        self.cell.describe(access, dead, &mut condition);
        if !dead {
            let round_trip = rtt_ms(access) * self.latency_factor * slower;
            let jitter = self.draws.normal(0.0, 0.12).exp();
            let ms = |value: f64| Some(value.round().clamp(1.0, 60_000.0) as u32);
            condition.rtt_ms = ms(round_trip * jitter);
            condition.rtt_p95_ms = ms(round_trip * jitter * 1.3);
            condition.dns_ms = ms(round_trip * self.draws.between(0.9, 1.4));
            condition.tcp_ms = ms(round_trip * self.draws.between(0.95, 1.2));
            condition.tls_ms = ms(round_trip * self.draws.between(2.0, 2.6) + 40.0);
            let lost = self.draws.poisson(loss_percent(access) * lossier).min(99);
            condition.loss_percent = u8::try_from(lost).ok();
        }
        condition
    }
}

impl Cell {
    fn of(seed: u64, site: u64, place: &Place) -> Self {
        let mut draws = Draws::of(seed, place.carrier.as_str(), site);
        let enb = u64::from(draws.whole(100_000, 900_000));
        let bands: &[u32] = match place.access {
            Access::TwoG => &[8],
            Access::ThreeG => &[1],
            Access::FiveG => &[41, 78],
            Access::FourG | Access::Wifi | Access::Ethernet | Access::BluetoothPhone => &[1, 3, 8, 39, 40],
        };
        let band = bands[draws.weighted(&vec![1.0; bands.len()])];
        Self {
            tac: draws.whole(4_000, 60_000),
            id: (enb << 8) | u64::from(draws.whole(1, 3)),
            pci: draws.whole(0, 503),
            band,
            bssid_hash: hex::encode(&draws.bytes()[..8]),
            channel: [1, 6, 11, 36, 149][draws.weighted(&[1.0; 5])],
        }
    }

    fn describe(&self, access: Access, dead: bool, condition: &mut Condition) {
        match access {
            Access::Wifi => {
                condition.bssid_hash = Some(self.bssid_hash.clone());
                condition.wifi_channel = Some(self.channel);
            }
            Access::Ethernet | Access::BluetoothPhone => {}
            Access::FiveG | Access::FourG | Access::ThreeG | Access::TwoG => {
                condition.tac = Some(self.tac);
                condition.cell_id = Some(self.id);
                condition.pci = Some(self.pci);
                condition.band = Some(self.band);
                condition.sim = Some(SimState::Ready);
                condition.registration = Some(if dead { Registration::Searching } else { Registration::Ok });
                condition.apn_ok = Some(!dead);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tillward_protocol::Check;

    use super::*;

    fn place(access: Access, signal_dbm: i32) -> Place {
        let cellular = access != Access::Wifi;
        Place {
            access,
            carrier: Carrier::Cmcc,
            region: "hubei".to_owned(),
            rsrp_dbm: cellular.then_some(signal_dbm),
            rsrq_db: cellular.then_some(-10),
            sinr_db: cellular.then_some(8),
            rssi_dbm: (!cellular).then_some(signal_dbm),
            bandwidth_mbps: 10.0,
        }
    }

    fn trace(place: Place, seed: u64, index: u64, seconds: u32) -> Vec<Moment> {
        let mut link = Link::new(place, seed, index);
        (0..seconds).map(|at| link.at(f64::from(at))).collect()
    }

    fn share(trace: &[Moment], state: LinkState) -> f64 {
        trace.iter().filter(|moment| moment.state == state).count() as f64 / trace.len() as f64
    }

    #[test]
    fn the_same_seed_gives_the_same_trace_and_every_condition_is_possible() {
        for access in [Access::FourG, Access::Wifi, Access::FiveG] {
            let one = trace(place(access, -90), 5, 3, 4_000);
            assert_eq!(one, trace(place(access, -90), 5, 3, 4_000));
            assert_ne!(one, trace(place(access, -90), 6, 3, 4_000));
            assert!(one.iter().all(|moment| moment.condition.check() == Ok(())));
        }
    }

    #[test]
    fn links_fail_in_spells_and_not_at_random() {
        let trace = trace(place(Access::FourG, -100), 1, 0, 200_000);
        let dead = share(&trace, LinkState::Dead);
        assert!((0.001..0.12).contains(&dead), "{dead}");
        let dead_after_dead = trace.windows(2).filter(|pair| pair.iter().all(|m| m.state == LinkState::Dead)).count();
        let stays = dead_after_dead as f64 / (dead * trace.len() as f64);
        // Independent losses would stay dead with probability `dead`; a mean spell of 2 s and more gives over 0.5.
        assert!(stays > 0.5 && stays > 5.0 * dead, "{stays} against {dead}");
        let good_ends = trace
            .windows(2)
            .filter(|pair| pair[0].state == LinkState::Good && pair[1].state != LinkState::Good)
            .count();
        let spell = share(&trace, LinkState::Good) * trace.len() as f64 / good_ends as f64;
        assert!(spell > 5.0 * 16.0, "good spells of a fixed terminal last at least 5 × the driving mean, was {spell}");
    }

    #[test]
    fn a_bad_corner_is_worse_than_a_good_one() {
        let good = |signal| {
            (0..8).map(move |index| share(&trace(place(Access::FourG, signal), 2, index, 20_000), LinkState::Good))
        };
        let strong = good(-80).sum::<f64>();
        let weak = good(-120).sum::<f64>();
        assert!(strong > weak + 0.1, "{strong} against {weak}");
    }

    #[test]
    fn what_is_reported_follows_the_state_that_drives_the_link() {
        let trace = trace(place(Access::FourG, -95), 3, 1, 100_000);
        let mean = |state, read: fn(&Condition) -> f64| {
            let of: Vec<f64> = trace.iter().filter(|m| m.state == state).map(|m| read(&m.condition)).collect();
            of.iter().sum::<f64>() / of.len() as f64
        };
        let rsrp = |state| mean(state, |condition| f64::from(condition.rsrp_dbm.unwrap_or(0)));
        let rtt = |state| mean(state, |condition| f64::from(condition.rtt_ms.unwrap_or(0)));
        assert!(rsrp(LinkState::Good) > rsrp(LinkState::Weak) && rsrp(LinkState::Weak) > rsrp(LinkState::Poor));
        assert!(rtt(LinkState::Good) < rtt(LinkState::Weak) && rtt(LinkState::Weak) < rtt(LinkState::Poor));
        for moment in trace.iter().filter(|moment| moment.state == LinkState::Dead) {
            assert_eq!((moment.condition.rtt_ms, moment.condition.loss_percent), (None, Some(100)));
            assert_eq!(moment.condition.registration, Some(Registration::Searching));
        }
    }

    #[test]
    fn a_shared_outage_takes_every_terminal_of_the_site_at_once() {
        let mut outages = Outages::new(Draws::of(4, "outage site", 0), SITE_OUTAGES);
        let (from, until) = (outages.from_s, outages.until_s);
        assert!(!outages.is_out(from - 1.0) && outages.is_out(from) && outages.is_out(until - 1.0));
        for index in 0..TERMINALS_PER_SITE {
            let mut link = Link::new(place(Access::FourG, -80), 4, index);
            assert_eq!(link.at((from + until) / 2.0).state, LinkState::Dead, "terminal {index}");
        }
    }
}
