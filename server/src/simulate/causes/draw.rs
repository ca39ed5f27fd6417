//! Distributions that only this simulation needs.

use super::super::random::Draws;

/// Gamma distributed (Marsaglia and Tsang; below shape 1 by a power of a uniform draw).
pub fn gamma(draws: &mut Draws, shape: f64, scale: f64) -> f64 {
    if shape < 1.0 {
        let lift = (1.0 - draws.unit()).powf(1.0 / shape);
        return gamma(draws, shape + 1.0, scale) * lift;
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = draws.normal(0.0, 1.0);
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && (1.0 - draws.unit()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v * scale;
        }
    }
}

/// Shares of `count` values, all with the same concentration.
pub fn dirichlet(draws: &mut Draws, count: usize, concentration: f64) -> Vec<f64> {
    let weights: Vec<f64> = (0..count).map(|_| gamma(draws, concentration, 1.0)).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// Successes of `n` attempts: the gaps between them are geometric, so that rare ones cost little.
pub fn binomial(draws: &mut Draws, n: u32, p: f64) -> u32 {
    if p <= 0.0 {
        return 0;
    }
    let (mut successes, mut passed) = (0, 0.0);
    loop {
        passed += 1.0 + ((1.0 - draws.unit()).ln() / (1.0 - p).ln()).floor();
        if passed > f64::from(n) {
            return successes;
        }
        successes += 1;
    }
}

/// How many of the `marked` among `all` are in a sample of `size`.
pub fn hypergeometric(draws: &mut Draws, all: u32, marked: u32, size: u32) -> u32 {
    let (mut left, mut open, mut found) = (f64::from(all), f64::from(size), 0);
    for _ in 0..marked {
        if draws.unit() * left < open {
            found += 1;
            open -= 1.0;
        }
        left -= 1.0;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_and_spreads_are_those_of_the_distributions() {
        let mut draws = Draws::of(1, "test", 0);
        let mut mean = |draw: &mut dyn FnMut(&mut Draws) -> f64| -> f64 {
            (0..20_000).map(|_| draw(&mut draws)).sum::<f64>() / 20_000.0
        };
        for (shape, scale) in [(1.0 / 0.3, 0.3), (1.0 / 1.5, 1.5)] {
            let one = mean(&mut |draws| gamma(draws, shape, scale));
            let variance = mean(&mut |draws| (gamma(draws, shape, scale) - 1.0).powi(2));
            assert!((one - 1.0).abs() < 0.05 && (variance - scale).abs() < 0.12, "{shape}: {one}, {variance}");
        }
        assert!((mean(&mut |draws| f64::from(binomial(draws, 200, 0.01))) - 2.0).abs() < 0.05);
        assert!((mean(&mut |draws| f64::from(binomial(draws, 10, 0.7))) - 7.0).abs() < 0.05);
        assert!((mean(&mut |draws| f64::from(hypergeometric(draws, 100, 6, 20))) - 1.2).abs() < 0.04);
        assert!((mean(&mut |draws| dirichlet(draws, 4, 2.0)[1]) - 0.25).abs() < 0.01);
    }
}
