//! A month of a terminal's network, from the conditions it measured and the payments that did not get through. Pure.
//!
//! A failure is counted with the check-in that reported it: access, carrier and signal of numerator and denominator are
//! of the same report, or weak signal would look guilty of everything.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

/// Conditions at one check-in, with the payments since the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// When, Unix ms.
    pub at_ms: i64,
    /// Access type.
    pub access: String,
    /// Carrier.
    pub carrier: String,
    /// Signal power of LTE and 5G, dBm.
    pub rsrp_dbm: Option<i64>,
    /// Signal to noise, dB.
    pub sinr_db: Option<i64>,
    /// Signal strength of WiFi, 2G and 3G, dBm.
    pub rssi_dbm: Option<i64>,
    /// Probes lost, percent.
    pub loss_percent: Option<i64>,
    /// Payments since the check-in before.
    pub attempts: u64,
}

/// A payment that did not get through to the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreached {
    /// When its check-in came, Unix ms: the same as the sample's.
    pub received_at_ms: i64,
    /// How far it got.
    pub stage: String,
}

/// Payments, and those of them that did not get through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = NetworkTally)]
pub struct Tally {
    /// Payments.
    pub attempts: u64,
    /// Those that did not get through.
    pub failed: u64,
}

impl Tally {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self { attempts: self.attempts + other.attempts, failed: self.failed + other.failed }
    }
}

/// A month over one access and carrier.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = NetworkLink)]
pub struct Link {
    /// Access type.
    pub access: String,
    /// Carrier, or `unknown`.
    pub carrier: String,
    /// Check-ins with conditions.
    pub samples: u64,
    /// Of those whose signal is known: good, fair, poor, bad.
    pub signal: [u64; 4],
    /// Of those whose noise is known: good, fair, poor.
    pub noise: [u64; 3],
    /// Check-ins that measured losses …
    pub loss_samples: u64,
    /// … and the sum of those, percent.
    pub loss_sum: u64,
    /// Payments in good or fair signal.
    pub strong: Tally,
    /// Payments in poor or bad signal.
    pub weak: Tally,
    /// Payments in unknown signal.
    pub other: Tally,
    /// Payments that did not get through, by how far they got.
    pub stages: BTreeMap<String, u64>,
}

/// How good a signal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Band {
    Good,
    Fair,
    Poor,
    Bad,
}

/// Bands of signal power and strength, dBm: above the first it is good, down to the second fair, down to the third poor.
/// LTE and WiFi rules of thumb, as for the bands that check-ins are counted by.
const RSRP_DBM: [i64; 3] = [-95, -110, -118];
const WIFI_RSSI_DBM: [i64; 3] = [-65, -75, -85];
const CELL_RSSI_DBM: [i64; 3] = [-75, -90, -100];
/// Above the first it is good, from the second on fair, dB.
const SINR_DB: [i64; 2] = [10, 0];

fn band(sample: &Sample) -> Option<Band> {
    let of = |value: i64, [good, fair, poor]: [i64; 3]| match value {
        value if value > good => Band::Good,
        value if value >= fair => Band::Fair,
        value if value >= poor => Band::Poor,
        _ => Band::Bad,
    };
    match (sample.access.as_str(), sample.rsrp_dbm, sample.rssi_dbm) {
        ("eth" | "bt_phone", _, _) => None,
        ("wifi", _, rssi) => rssi.map(|rssi| of(rssi, WIFI_RSSI_DBM)),
        (_, Some(rsrp), _) => Some(of(rsrp, RSRP_DBM)),
        ("2g" | "3g", None, Some(rssi)) => Some(of(rssi, CELL_RSSI_DBM)),
        (_, None, _) => None,
    }
}

/// The carrier behind a connection; the card in a terminal has no part in one over WiFi or cable.
fn carrier(sample: &Sample) -> &str {
    match sample.access.as_str() {
        "wifi" | "eth" | "bt_phone" => "unknown",
        _ => &sample.carrier,
    }
}

/// Folds samples and failures of one terminal into its links, by access and carrier.
pub fn fold(samples: &[Sample], unreached: &[Unreached]) -> Vec<Link> {
    let mut of_check_in: HashMap<i64, Vec<&Unreached>> = HashMap::new();
    for one in unreached {
        of_check_in.entry(one.received_at_ms).or_default().push(one);
    }
    let mut links: BTreeMap<(&str, &str), Link> = BTreeMap::new();
    for sample in samples {
        let carrier = carrier(sample);
        let link = links.entry((&sample.access, carrier)).or_insert_with(|| Link {
            access: sample.access.clone(),
            carrier: carrier.to_owned(),
            ..Link::default()
        });
        let failed = of_check_in.get(&sample.at_ms).map_or(&[][..], Vec::as_slice);
        link.add(sample, failed);
    }
    links.into_values().collect()
}

impl Link {
    fn add(&mut self, sample: &Sample, unreached: &[&Unreached]) {
        self.samples += 1;
        let band = band(sample);
        let [good, fair, poor, bad] = &mut self.signal;
        let failed = u64::try_from(unreached.len()).unwrap_or(u64::MAX);
        let tally = Tally { attempts: sample.attempts.max(failed), failed };
        match band {
            Some(Band::Good) => *good += 1,
            Some(Band::Fair) => *fair += 1,
            Some(Band::Poor) => *poor += 1,
            Some(Band::Bad) => *bad += 1,
            None => {}
        }
        match band {
            Some(Band::Good | Band::Fair) => self.strong = self.strong.plus(tally),
            Some(Band::Poor | Band::Bad) => self.weak = self.weak.plus(tally),
            None => self.other = self.other.plus(tally),
        }
        if let Some(sinr) = sample.sinr_db {
            let [quiet, usable, noisy] = &mut self.noise;
            let [above, from] = SINR_DB;
            *(if sinr > above {
                quiet
            } else if sinr >= from {
                usable
            } else {
                noisy
            }) += 1;
        }
        if let Some(loss) = sample.loss_percent.and_then(|percent| u64::try_from(percent).ok()) {
            self.loss_samples += 1;
            self.loss_sum += loss;
        }
        for one in unreached {
            *self.stages.entry(one.stage.clone()).or_default() += 1;
        }
    }

    /// All payments.
    pub fn all(&self) -> Tally {
        self.strong.plus(self.weak).plus(self.other)
    }

    /// Adds another terminal's month over the same access and carrier.
    pub fn merge(&mut self, other: &Self) {
        self.samples += other.samples;
        for (sum, n) in self.signal.iter_mut().zip(other.signal) {
            *sum += n;
        }
        for (sum, n) in self.noise.iter_mut().zip(other.noise) {
            *sum += n;
        }
        self.loss_samples += other.loss_samples;
        self.loss_sum += other.loss_sum;
        self.strong = self.strong.plus(other.strong);
        self.weak = self.weak.plus(other.weak);
        self.other = self.other.plus(other.other);
        for (stage, n) in &other.stages {
            *self.stages.entry(stage.clone()).or_default() += n;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_ms: i64, access: &str, rsrp_dbm: i64, attempts: u64) -> Sample {
        Sample {
            at_ms,
            access: access.to_owned(),
            carrier: "CMCC".to_owned(),
            rsrp_dbm: Some(rsrp_dbm),
            sinr_db: Some(5),
            rssi_dbm: None,
            loss_percent: Some(2),
            attempts,
        }
    }

    #[test]
    fn a_failure_is_counted_with_the_check_in_that_reported_it_and_with_no_other() {
        let failed = |received_at_ms, stage: &str| Unreached { received_at_ms, stage: stage.to_owned() };
        let samples = [sample(1, "4g", -90, 10), sample(2, "4g", -115, 4), sample(3, "wifi", -90, 5)];
        let links = fold(&samples, &[failed(2, "tls"), failed(2, "tcp"), failed(99, "dns")]);
        assert_eq!(links.len(), 2);
        let cell = &links[0];
        assert_eq!((cell.strong, cell.weak), (Tally { attempts: 10, failed: 0 }, Tally { attempts: 4, failed: 2 }));
        assert_eq!((cell.signal, cell.noise, cell.loss_sum), ([1, 0, 1, 0], [0, 2, 0], 4));
        assert_eq!(cell.stages.values().sum::<u64>(), 2, "what no check-in here reported is not counted");
        assert_eq!(links[1].other, Tally { attempts: 5, failed: 0 }, "the power of a cell says nothing about WiFi");
        assert_eq!((cell.carrier.as_str(), links[1].carrier.as_str()), ("CMCC", "unknown"));
    }

    #[test]
    fn more_failures_than_payments_are_payments_too() {
        let failed = [Unreached { received_at_ms: 1, stage: "tls".to_owned() }];
        assert_eq!(fold(&[sample(1, "4g", -90, 0)], &failed)[0].all(), Tally { attempts: 1, failed: 1 });
        assert_eq!(fold(&[], &failed), []);
    }
}
