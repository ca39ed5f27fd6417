//! The evidence dial: how far the evidence of harm is on its way from none to a stop, on a log scale. Pure; the same
//! values draw the same bytes.

use std::f64::consts::PI;
use std::fmt::Write;

use super::chart::{Svg, escaped};

/// One small mark on the rim.
pub(super) struct Mark {
    /// A class of the sheet that gives colour and meaning.
    pub(super) class: &'static str,
    pub(super) e: f64,
    /// What a pointer over it says.
    pub(super) text: String,
}

/// Evidence from 1, which is none, to the threshold, which stops.
pub(super) struct Dial<'a> {
    pub(super) e: f64,
    pub(super) threshold: f64,
    /// Class of the verdict.
    pub(super) tone: &'static str,
    pub(super) title: &'a str,
    pub(super) description: &'a str,
    /// The evidence in digits, and the line below it.
    pub(super) reading: &'a str,
    pub(super) below: &'a str,
    pub(super) marks: &'a [Mark],
}

const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 190.0;
const X: f64 = WIDTH / 2.0;
const Y: f64 = 160.0;
const RADIUS: f64 = 112.0;
/// Radius on which the marks stand, outside of the rim; those of parts stand inside.
const MARKS: f64 = RADIUS + 15.0;
const INSIDE: f64 = RADIUS - 15.0;
const TICKS: f64 = RADIUS + 31.0;

/// Share of the way from 1 to `most` on a log scale, 0 to 1.
fn share(e: f64, most: f64) -> f64 {
    if e.is_nan() || e <= 1.0 || most <= 1.0 { 0.0 } else { (e.ln() / most.ln()).min(1.0) }
}

/// The point at this share of the half circle, from left over the top to the right.
fn point(share: f64, radius: f64) -> (f64, f64) {
    let angle = PI * (1.0 - share);
    (X + radius * angle.cos(), Y - radius * angle.sin())
}

impl Dial<'_> {
    pub(super) fn draw(&self) -> Svg {
        let mut out = String::with_capacity(4 * 1024);
        // Writing to a string cannot fail.
        let _ = self.write(&mut out);
        Svg::of(out)
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        write!(
            out,
            r#"<svg class="dial {}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"><title>{} {} {}</title><desc>{}</desc>"#,
            self.tone,
            escaped(self.title),
            escaped(self.reading),
            escaped(self.below),
            escaped(self.description)
        )?;
        let now = share(self.e, self.threshold);
        // A tenth of the threshold is where it begins to be worth a look.
        let watch = share(self.threshold / 10.0, self.threshold);
        self.arc(out, "dial-calm", 0.0, watch)?;
        self.arc(out, "dial-watch", watch, 1.0)?;
        if now > 0.0 {
            self.arc(out, "dial-value", 0.0, now)?;
        }
        self.ticks(out)?;
        self.marks(out)?;
        let ((x1, y1), (x2, y2)) = (point(now, RADIUS - 40.0), point(now, RADIUS - 13.0));
        write!(out, r#"<line class="dial-needle" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#)?;
        write!(
            out,
            r#"<text class="dial-reading" x="{X}" y="{:.1}" text-anchor="middle">{}</text><text class="dial-below" x="{X}" y="{:.1}" text-anchor="middle">{}</text></svg>"#,
            Y - 18.0,
            escaped(self.reading),
            Y + 4.0,
            escaped(self.below)
        )
    }

    fn arc(&self, out: &mut String, class: &str, from: f64, to: f64) -> std::fmt::Result {
        let ((x1, y1), (x2, y2)) = (point(from, RADIUS), point(to, RADIUS));
        write!(out, r#"<path class="{class}" d="M{x1:.1} {y1:.1}A{RADIUS} {RADIUS} 0 0 1 {x2:.1} {y2:.1}"/>"#)
    }

    /// A figure at each power of ten, and at the threshold.
    fn ticks(&self, out: &mut String) -> std::fmt::Result {
        let mut values = vec![1.0];
        let mut next = 10.0;
        while next < self.threshold * 0.9 {
            values.push(next);
            next *= 10.0;
        }
        values.push(self.threshold);
        for value in values {
            let at = share(value, self.threshold);
            let ((x1, y1), (x2, y2)) = (point(at, RADIUS - 9.0), point(at, RADIUS + 9.0));
            let (x, y) = point(at, TICKS);
            write!(
                out,
                r#"<line class="dial-tick" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/><text class="chart-tick" x="{x:.1}" y="{:.1}" text-anchor="middle">{value:.0}</text>"#,
                y + 4.0
            )?;
        }
        Ok(())
    }

    fn marks(&self, out: &mut String) -> std::fmt::Result {
        for mark in self.marks {
            let is_part = mark.class == "mark-scope";
            let (x, y) = point(share(mark.e, self.threshold), if is_part { INSIDE } else { MARKS });
            let radius = if is_part { 3.0 } else { 4.5 };
            write!(
                out,
                r#"<circle class="{}" cx="{x:.1}" cy="{y:.1}" r="{radius}"><title>{}</title></circle>"#,
                mark.class,
                escaped(&mark.text)
            )?;
        }
        Ok(())
    }
}

/// A flat log scale from 1 to `most`: how far evidence that clears has come.
pub(super) fn scale(title: &str, value: f64, most: f64) -> Svg {
    let width = share(value, most) * 1000.0;
    Svg::of(format!(
        r#"<svg class="bar thin" viewBox="0 0 1000 8" preserveAspectRatio="none" role="img"><title>{}</title><rect class="bar-empty" x="0" y="0" width="1000" height="8"/><rect class="part-good" x="0" y="0" width="{width:.1}" height="8"/></svg>"#,
        escaped(title)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(e: f64, marks: &[Mark]) -> String {
        Dial {
            e,
            threshold: 100.0,
            tone: "quiet",
            title: "Evidence",
            description: "From 1 to 100",
            reading: "12",
            below: "/ 100",
            marks,
        }
        .draw()
        .to_string()
    }

    #[test]
    fn the_scale_is_logarithmic_and_ends_at_the_threshold() {
        for (e, expected) in [(0.2, 0.0), (1.0, 0.0), (10.0, 0.5), (100.0, 1.0), (1e12, 1.0), (f64::NAN, 0.0)] {
            assert!((share(e, 100.0) - expected).abs() < 1e-9, "{e}");
        }
        let (x, y) = point(0.5, RADIUS);
        assert!((x - X).abs() < 1e-9 && (y - (Y - RADIUS)).abs() < 1e-9);
    }

    #[test]
    fn a_dial_is_drawn_the_same_every_time_and_nothing_leaves_its_text() {
        let marks = [Mark { class: "mark-scope", e: 40.0, text: "</title><script>".to_owned() }];
        let dial = drawn(12.0, &marks);
        assert_eq!(dial, drawn(12.0, &marks));
        assert!(!dial.contains("<script") && dial.contains("mark-scope") && dial.contains(">10</text>"));
        assert!(!drawn(1.0, &[]).contains("dial-value"), "no evidence is no arc");
    }

    #[test]
    fn what_clears_fills_its_scale_at_the_threshold() {
        assert!(scale("P", 20.0, 20.0).to_string().contains(r#"width="1000.0""#));
        assert!(scale("P", 0.0, 20.0).to_string().contains(r#"width="0.0""#));
    }
}
