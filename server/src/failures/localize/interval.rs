//! The 95 % interval of a ratio of Poisson counts: Garwood's, exact.

/// Both ends of the 95 % interval of `k / expected`. Neither need be whole (over-dispersion divides both).
pub fn garwood(k: f64, expected: f64) -> (f64, f64) {
    if expected.is_nan() || expected <= 0.0 {
        return (0.0, f64::INFINITY);
    }
    // χ²_p(2a)/2 is the p-quantile of the gamma distribution with shape a.
    let low = if k > 0.0 { gamma_quantile(k, 0.025) } else { 0.0 };
    (low / expected, gamma_quantile(k + 1.0, 0.975) / expected)
}

/// The `p`-quantile of the gamma distribution with this shape and scale 1: Newton's steps from Wilson and Hilferty's
/// approximation, kept within what is known of the root.
fn gamma_quantile(shape: f64, p: f64) -> f64 {
    /// Steps; four or five are usual.
    const STEPS_MAX: usize = 60;
    let z = if p < 0.5 { -1.959_963_984_540_054 } else { 1.959_963_984_540_054 };
    let cube = 1.0 - 1.0 / (9.0 * shape) + z / (3.0 * shape.sqrt());
    let (mut low, mut high) = (0.0, f64::INFINITY);
    let mut x = if cube > 0.0 { shape * cube * cube * cube } else { 0.0 };
    if x <= 0.0 {
        // The leading term of the series for small arguments.
        x = ((p * shape).ln() / shape + ln_gamma(shape) / shape).exp().max(1e-300);
    }
    for _ in 0..STEPS_MAX {
        let miss = gamma_below(shape, x) - p;
        if miss > 0.0 {
            high = x;
        } else {
            low = x;
        }
        let slope = ((shape - 1.0) * x.ln() - x - ln_gamma(shape)).exp();
        let newton = x - miss / slope;
        let next = if newton > low && newton < high {
            newton
        } else if high.is_finite() {
            f64::midpoint(low, high)
        } else {
            x * 2.0
        };
        if (next - x).abs() <= 1e-12 * x {
            return next;
        }
        x = next;
    }
    x
}

/// Share of the gamma distribution below `x` (regularized incomplete gamma function: series below the mean, Lentz's
/// continued fraction above).
fn gamma_below(shape: f64, x: f64) -> f64 {
    /// The terms needed grow with the root of the shape.
    const TERMS_MAX: usize = 1_000_000;
    if x <= 0.0 {
        return 0.0;
    }
    let front = (shape * x.ln() - x - ln_gamma(shape)).exp();
    if x < shape + 1.0 {
        let (mut term, mut sum, mut a) = (1.0 / shape, 1.0 / shape, shape);
        for _ in 0..TERMS_MAX {
            a += 1.0;
            term *= x / a;
            sum += term;
            if term < sum * 1e-15 {
                break;
            }
        }
        return (front * sum).min(1.0);
    }
    let tiny = 1e-300;
    let mut b = x + 1.0 - shape;
    let mut c = 1.0 / tiny;
    let mut d = 1.0 / b;
    let mut fraction = d;
    let mut i = 0.0;
    for _ in 0..TERMS_MAX {
        i += 1.0;
        let a = -i * (i - shape);
        b += 2.0;
        d = 1.0 / nonzero(a * d + b, tiny);
        c = nonzero(b + a / c, tiny);
        fraction *= d * c;
        if (d * c - 1.0).abs() < 1e-15 {
            break;
        }
    }
    (1.0 - front * fraction).max(0.0)
}

fn nonzero(value: f64, tiny: f64) -> f64 {
    if value.abs() < tiny { tiny } else { value }
}

/// ln Γ (Stirling's series after shifting the argument up to 10, where its error is below 1e-13).
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut shift) = (x, 0.0);
    while x < 10.0 {
        shift += x.ln();
        x += 1.0;
    }
    let r = 1.0 / (x * x);
    let series = (1.0 / 12.0 - r * (1.0 / 360.0 - r * (1.0 / 1260.0 - r * (1.0 / 1680.0 - r / 1188.0)))) / x;
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        // χ² quantiles over two, as printed in tables of Poisson limits (Garwood 1936; Ulm 1990).
        for (k, low, high) in [
            (0.0, 0.0, 3.688_879),
            (1.0, 0.025_318, 5.571_643),
            (5.0, 1.623_486, 11.668_332),
            (10.0, 4.795_389, 18.390_356),
            (42.0, 30.270_054, 56.771_9),
            (100.0, 81.363_95, 121.627_0),
        ] {
            let (found_low, found_high) = garwood(k, 1.0);
            assert!((found_low - low).abs() < 2e-4 * low.max(1.0), "{k}: {found_low} is not {low}");
            assert!((found_high - high).abs() < 2e-4 * high, "{k}: {found_high} is not {high}");
        }
    }

    #[test]
    fn whatever_the_count_the_interval_has_the_ratio_in_it_and_ends() {
        for k in [0.0, 1e-6, 0.01, 0.5, 3.3, 1e3, 1e6, 1e9] {
            for expected in [1e-6, 1.0, 1e6] {
                let (low, high) = garwood(k, expected);
                assert!(low <= k / expected && k / expected <= high, "{k} of {expected}: {low} to {high}");
                assert!(low.is_finite() && high.is_finite());
            }
        }
    }
}
