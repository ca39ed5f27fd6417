//! Seeded draws. One generator for each purpose, derived from the run's seed and a number: what one terminal draws never
//! depends on how many others there are or in which order they run.

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

/// A stream of draws.
#[derive(Debug)]
pub struct Draws(StdRng);

impl Draws {
    /// The stream named `purpose` of number `index` in the run with this `seed`.
    pub fn of(seed: u64, purpose: &str, index: u64) -> Self {
        let digest = tillward_protocol::crypto::sha256(format!("{seed}/{purpose}/{index}").as_bytes());
        Self(StdRng::from_seed(digest))
    }

    /// Evenly between 0 and 1.
    pub fn unit(&mut self) -> f64 {
        self.0.random::<f64>()
    }

    /// Whether something with probability `p` happens.
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Evenly between `low` and `high`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Evenly `low`, …, `high`.
    pub fn whole(&mut self, low: u32, high: u32) -> u32 {
        self.0.random_range(low..=high)
    }

    /// Normally distributed (Box and Muller; one of the two values is enough here).
    pub fn normal(&mut self, mean: f64, deviation: f64) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        mean + deviation * radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// The number of events with this mean (Knuth; for small means).
    pub fn poisson(&mut self, mean: f64) -> u32 {
        let limit = (-mean).exp();
        let mut product = self.unit();
        let mut count = 0;
        while product > limit {
            product *= self.unit();
            count += 1;
        }
        count
    }

    /// Index drawn by weight; 0 for an empty list.
    pub fn weighted(&mut self, weights: &[f64]) -> usize {
        let mut rest = self.unit() * weights.iter().sum::<f64>();
        for (index, weight) in weights.iter().enumerate() {
            rest -= weight;
            if rest < 0.0 {
                return index;
            }
        }
        weights.len().saturating_sub(1)
    }

    /// 32 bytes, for a key.
    pub fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_purpose_and_index_draw_the_same_and_others_do_not() {
        let first = |seed, purpose, index| Draws::of(seed, purpose, index).bytes();
        assert_eq!(first(7, "place", 3), first(7, "place", 3));
        for other in [first(8, "place", 3), first(7, "link", 3), first(7, "place", 4)] {
            assert_ne!(other, first(7, "place", 3));
        }
    }

    #[test]
    fn draws_have_the_stated_distributions() {
        let mut draws = Draws::of(1, "test", 0);
        let n = 20_000;
        let mean = (0..n).map(|_| draws.normal(3.0, 2.0)).sum::<f64>() / f64::from(n);
        assert!((mean - 3.0).abs() < 0.06, "{mean}");
        let events: u32 = (0..n).map(|_| draws.poisson(2.5)).sum();
        let mean = f64::from(events) / f64::from(n);
        assert!((mean - 2.5).abs() < 0.06, "{mean}");
        let ones = (0..n).filter(|_| draws.weighted(&[0.2, 0.5, 0.3]) == 1).count();
        assert!((9_600..10_400).contains(&ones), "{ones}");
    }
}
