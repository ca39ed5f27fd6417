//! Rates side by side as SVG: what was expected, what was seen, and how sure that is. Pure and deterministic; the axis
//! starts at zero.

use std::fmt::Write;

use askama::filters::{Html, escape};

use super::chart::Svg;

/// One pair of bars.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pair {
    pub(super) name: String,
    /// Share of exposures that failed, 0 to 1.
    pub(super) seen: f64,
    /// Share that was expected to.
    pub(super) expected: f64,
    /// Ends of the interval of what was seen, where it is known.
    pub(super) interval: Option<(f64, f64)>,
}

const WIDTH: f64 = 600.0;
const ROW: f64 = 34.0;
const BAR: f64 = 10.0;

/// The pairs below each other, all on one scale.
pub(super) fn pairs(title: &str, pairs: &[Pair]) -> Svg {
    let top = |pair: &Pair| pair.interval.map_or(pair.seen, |(_, high)| high.max(pair.seen)).max(pair.expected);
    let full = pairs.iter().map(top).fold(1e-9, f64::max);
    let x = |rate: f64| (rate / full).clamp(0.0, 1.0) * WIDTH;
    let height = ROW * f64::from(u32::try_from(pairs.len()).unwrap_or(0));
    let mut out =
        format!(r#"<svg class="lifts" viewBox="0 0 {WIDTH} {height}" role="img"><title>{}</title>"#, text(title));
    let mut y = 4.0;
    for pair in pairs {
        let (seen, expected) = (x(pair.seen), x(pair.expected));
        let name = text(&pair.name);
        let _ = write!(
            out,
            r#"<g><title>{name}</title><rect class="part-bad" x="0" y="{y}" width="{seen:.1}" height="{BAR}"/><rect class="part-quiet" x="0" y="{}" width="{expected:.1}" height="{BAR}"/>"#,
            y + BAR + 2.0
        );
        if let Some((low, high)) = pair.interval {
            let middle = y + BAR / 2.0;
            let _ = write!(
                out,
                r#"<line class="axis" x1="{:.1}" y1="{middle}" x2="{:.1}" y2="{middle}" stroke="currentColor"/>"#,
                x(low),
                x(high)
            );
        }
        out.push_str("</g>");
        y += ROW;
    }
    out.push_str("</svg>");
    Svg::of(out)
}

fn text(text: &str) -> String {
    escape(text, Html).map(|safe| safe.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_is_the_upper_end_and_texts_are_escaped() {
        let pair = |name: &str, seen, expected, interval| Pair { name: name.to_owned(), seen, expected, interval };
        let drawn =
            pairs("a & b", &[pair("<x>", 0.1, 0.02, Some((0.05, 0.2))), pair("y", 0.0, 0.05, None)]).to_string();
        assert!(drawn.contains("a &#38; b") && drawn.contains("&#60;x&#62;") && !drawn.contains("<x>"), "{drawn}");
        assert!(drawn.contains(r#"width="300.0""#) && drawn.contains(r#"x2="600.0""#), "{drawn}");
        assert!(drawn.contains(r#"width="150.0""#), "{drawn}");
        assert!(!pairs("", &[]).to_string().contains("NaN"));
    }
}
