//! Charts as SVG, drawn from plain values. Pure and deterministic: the same values give the same bytes.
//!
//! Only classes and presentation attributes are used: a `style` attribute dies under the pages' security policy.

use std::fmt::{Display, Formatter, Write};

use askama::filters::{Html, HtmlSafe, escape};

/// Most points of one line: more are not seen, and a page must stay small.
pub(super) const POINTS_MAX: usize = 300;

/// A finished drawing. Texts inside are escaped by whoever makes one, here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Svg(String);

impl Svg {
    /// A drawing that another file has made; its texts are escaped.
    pub(super) fn of(drawn: String) -> Self {
        Self(drawn)
    }
}

impl Display for Svg {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl HtmlSafe for Svg {}

/// Conditions of a terminal at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) at_ms: i64,
    pub(super) signal_dbm: Option<i64>,
    pub(super) rtt_ms: Option<i64>,
}

/// A failure at a moment, with what a pointer over it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) at_ms: i64,
    pub(super) text: String,
}

/// Conditions and failures over a span of time.
pub(super) struct ConditionChart<'a> {
    pub(super) from_ms: i64,
    pub(super) to_ms: i64,
    /// Ascending by time.
    pub(super) samples: &'a [Sample],
    pub(super) failures: &'a [Mark],
    /// Moments with a line and a label on the axis.
    pub(super) ticks: &'a [(i64, String)],
    pub(super) title: &'a str,
    pub(super) description: &'a str,
    /// Names of the two panels and the row of failures.
    pub(super) signal_name: &'a str,
    pub(super) rtt_name: &'a str,
    pub(super) failures_name: &'a str,
}

const WIDTH: f64 = 960.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 12.0;
const SIGNAL: Panel = Panel { top: 22.0, height: 96.0 };
const RTT: Panel = Panel { top: 150.0, height: 80.0 };
const FAILURES_TOP: f64 = 262.0;
const AXIS_Y: f64 = 290.0;
const HEIGHT: f64 = 312.0;
/// Signal axis, dBm: from no service to WiFi beside its access point.
const SIGNAL_FROM_DBM: f64 = -130.0;
const SIGNAL_TO_DBM: f64 = -30.0;
/// Below this a link is poor (LTE rule of thumb), dBm.
const SIGNAL_POOR_DBM: f64 = -110.0;

#[derive(Clone, Copy)]
struct Panel {
    top: f64,
    height: f64,
}

impl Panel {
    /// Height on the page of `value` on an axis from `from` (below) to `to` (above); clamped to the panel.
    fn y(self, value: f64, from: f64, to: f64) -> f64 {
        let share = ((value - from) / (to - from)).clamp(0.0, 1.0);
        self.top + self.height * (1.0 - share)
    }
}

impl ConditionChart<'_> {
    pub(super) fn draw(&self) -> Svg {
        let mut out = String::with_capacity(16 * 1024);
        // Writing to a string cannot fail.
        let _ = self.write(&mut out);
        Svg(out)
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        write!(
            out,
            r#"<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="chart-title chart-desc"><title id="chart-title">{}</title><desc id="chart-desc">{}</desc>"#,
            text(self.title),
            text(self.description)
        )?;
        self.grid(out)?;
        let samples = thin(self.samples, self.from_ms, self.to_ms);
        let rtt_to = nice_ceiling(samples.iter().filter_map(|sample| sample.rtt_ms).max().unwrap_or(0));
        self.panel(out, SIGNAL, self.signal_name, SIGNAL_FROM_DBM, SIGNAL_TO_DBM, &[-130, -110, -90, -70, -50, -30])?;
        let poor = SIGNAL.y(SIGNAL_POOR_DBM, SIGNAL_FROM_DBM, SIGNAL_TO_DBM);
        write!(
            out,
            r#"<rect class="chart-poor" x="{LEFT}" y="{poor:.1}" width="{:.1}" height="{:.1}"/>"#,
            WIDTH - LEFT - RIGHT,
            SIGNAL.top + SIGNAL.height - poor
        )?;
        self.line(out, "chart-signal", &samples, |sample| {
            Some(SIGNAL.y(number(sample.signal_dbm?), SIGNAL_FROM_DBM, SIGNAL_TO_DBM))
        })?;
        self.panel(out, RTT, self.rtt_name, 0.0, number(rtt_to), &[0, rtt_to / 2, rtt_to])?;
        self.line(out, "chart-rtt", &samples, |sample| Some(RTT.y(number(sample.rtt_ms?), 0.0, number(rtt_to))))?;
        self.failures(out)?;
        out.push_str("</svg>");
        Ok(())
    }

    fn x(&self, at_ms: i64) -> f64 {
        let span = number((self.to_ms - self.from_ms).max(1));
        LEFT + number(at_ms - self.from_ms) / span * (WIDTH - LEFT - RIGHT)
    }

    fn grid(&self, out: &mut String) -> std::fmt::Result {
        for (at_ms, label) in self.ticks {
            let x = self.x(*at_ms);
            write!(
                out,
                r#"<line class="chart-grid" x1="{x:.1}" x2="{x:.1}" y1="{}" y2="{AXIS_Y}"/><text class="chart-tick" x="{x:.1}" y="{}" text-anchor="middle">{}</text>"#,
                SIGNAL.top,
                AXIS_Y + 16.0,
                text(label)
            )?;
        }
        write!(out, r#"<line class="chart-axis" x1="{LEFT}" x2="{}" y1="{AXIS_Y}" y2="{AXIS_Y}"/>"#, WIDTH - RIGHT)
    }

    fn panel(&self, out: &mut String, panel: Panel, name: &str, from: f64, to: f64, ticks: &[i64]) -> std::fmt::Result {
        write!(out, r#"<text class="chart-name" x="{LEFT}" y="{}">{}</text>"#, panel.top - 8.0, text(name))?;
        for &tick in ticks {
            let y = panel.y(number(tick), from, to);
            write!(
                out,
                r#"<line class="chart-grid" x1="{LEFT}" x2="{}" y1="{y:.1}" y2="{y:.1}"/><text class="chart-tick" x="{}" y="{:.1}" text-anchor="end">{tick}</text>"#,
                WIDTH - RIGHT,
                LEFT - 8.0,
                y + 4.0
            )?;
        }
        Ok(())
    }

    /// A line that breaks where nothing was measured; a lone point becomes a dot.
    fn line(
        &self,
        out: &mut String,
        class: &str,
        samples: &[Sample],
        y: impl Fn(&Sample) -> Option<f64>,
    ) -> std::fmt::Result {
        let gap_ms = gap_ms(samples);
        let mut runs: Vec<Vec<(f64, f64)>> = Vec::new();
        let mut last: Option<i64> = None;
        for sample in samples {
            let Some(y) = y(sample) else {
                last = None;
                continue;
            };
            let is_continued = last.is_some_and(|last| sample.at_ms - last <= gap_ms);
            match runs.last_mut() {
                Some(run) if is_continued => run.push((self.x(sample.at_ms), y)),
                Some(_) | None => runs.push(vec![(self.x(sample.at_ms), y)]),
            }
            last = Some(sample.at_ms);
        }
        for run in runs {
            match run.as_slice() {
                [(x, y)] => write!(out, r#"<circle class="{class}-dot" cx="{x:.1}" cy="{y:.1}" r="1.6"/>"#)?,
                points => {
                    write!(out, r#"<polyline class="{class}" points=""#)?;
                    for (index, (x, y)) in points.iter().enumerate() {
                        let space = if index == 0 { "" } else { " " };
                        write!(out, "{space}{x:.1},{y:.1}")?;
                    }
                    out.push_str(r#""/>"#);
                }
            }
        }
        Ok(())
    }

    fn failures(&self, out: &mut String) -> std::fmt::Result {
        write!(
            out,
            r#"<text class="chart-name" x="{LEFT}" y="{}">{}</text>"#,
            FAILURES_TOP - 6.0,
            text(self.failures_name)
        )?;
        let shown = self.failures.iter().filter(|mark| (self.from_ms..=self.to_ms).contains(&mark.at_ms));
        for mark in shown.take(POINTS_MAX) {
            let x = self.x(mark.at_ms);
            write!(
                out,
                r#"<g class="chart-failure"><line x1="{x:.1}" x2="{x:.1}" y1="{}" y2="{AXIS_Y}"/><path d="M{x:.1} {FAILURES_TOP}l5 10h-10z"/><title>{}</title></g>"#,
                SIGNAL.top,
                text(&mark.text)
            )?;
        }
        Ok(())
    }
}

/// At most [`POINTS_MAX`] samples within the span: of each slice of time the one with the worst round trip, since a
/// chart that hides the bad moments answers nothing.
fn thin(samples: &[Sample], from_ms: i64, to_ms: i64) -> Vec<Sample> {
    let slices = i64::try_from(POINTS_MAX).unwrap_or(i64::MAX);
    let slice_ms = ((to_ms - from_ms) / slices).max(1);
    let mut kept: Vec<(i64, Sample)> = Vec::new();
    for &sample in samples.iter().filter(|sample| (from_ms..to_ms).contains(&sample.at_ms)) {
        let slice = ((sample.at_ms - from_ms) / slice_ms).min(slices - 1);
        match kept.last_mut() {
            Some((last, worst)) if *last == slice => {
                if badness(&sample) > badness(worst) {
                    *worst = sample;
                }
            }
            Some(_) | None => kept.push((slice, sample)),
        }
    }
    kept.into_iter().map(|(_, sample)| sample).collect()
}

fn badness(sample: &Sample) -> (i64, i64) {
    (sample.rtt_ms.unwrap_or(0), -sample.signal_dbm.unwrap_or(0))
}

/// Longer than this between two samples means that some are missing: three times the usual distance.
fn gap_ms(samples: &[Sample]) -> i64 {
    let mut distances: Vec<i64> =
        samples.iter().zip(samples.iter().skip(1)).map(|(earlier, later)| later.at_ms - earlier.at_ms).collect();
    distances.sort_unstable();
    distances.get(distances.len() / 2).map_or(i64::MAX, |median| median.saturating_mul(3))
}

/// The smallest of 100, 200, 500, 1000, … that is not below `value`.
fn nice_ceiling(value: i64) -> i64 {
    let mut decade = 100_i64;
    loop {
        for factor in [1, 2, 5] {
            if decade * factor >= value {
                return decade * factor;
            }
        }
        match decade.checked_mul(10) {
            Some(next) if next < i64::MAX / 10 => decade = next,
            Some(_) | None => return value,
        }
    }
}

/// One part of a stacked bar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// A class of the sheet that gives the colour.
    pub(super) class: &'static str,
    pub(super) name: String,
    pub(super) n: i64,
}

/// A bar of the parts' shares; parts without anything are absent. The names and numbers stand in the table beside it.
pub(super) fn stacked_bar(title: &str, parts: &[Part]) -> Svg {
    let total: i64 = parts.iter().map(|part| part.n).sum();
    let mut out = format!(
        r#"<svg class="bar" viewBox="0 0 1000 12" preserveAspectRatio="none" role="img"><title>{}</title><rect class="bar-empty" x="0" y="0" width="1000" height="12"/>"#,
        text(title)
    );
    let mut done = 0;
    for part in parts.iter().filter(|part| part.n > 0) {
        let from = share_of(done, total);
        let to = share_of(done + part.n, total);
        // Something is always visible, however small its share.
        let width = (to - from).max(3.0);
        let _ = write!(
            out,
            r#"<rect class="{}" x="{from:.1}" y="0" width="{width:.1}" height="12"><title>{} {}</title></rect>"#,
            part.class,
            text(&part.name),
            part.n
        );
        done += part.n;
    }
    out.push_str("</svg>");
    Svg(out)
}

fn share_of(n: i64, total: i64) -> f64 {
    number(n) / number(total.max(1)) * 1000.0
}

/// `12.5%` of `total`, or a dash when there is nothing to be a share of.
pub(super) fn percent(n: i64, total: i64) -> String {
    if total <= 0 {
        return "–".to_owned();
    }
    let share = number(n) * 100.0 / number(total);
    if n > 0 && share < 0.1 { "<0.1%".to_owned() } else { format!("{share:.1}%") }
}

/// Exact for what is drawn: counts and times far below 2⁵³.
#[expect(clippy::cast_precision_loss, reason = "a pixel is coarser")]
fn number(value: i64) -> f64 {
    value as f64
}

/// Text as it may stand in a drawing.
pub(super) fn escaped(raw: &str) -> String {
    text(raw)
}

fn text(raw: &str) -> String {
    escape(raw, Html).map_or_else(|_| String::new(), |safe| safe.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(minute: i64, signal_dbm: Option<i64>, rtt_ms: Option<i64>) -> Sample {
        Sample { at_ms: minute * 60_000, signal_dbm, rtt_ms }
    }

    fn chart(samples: &[Sample], failures: &[Mark]) -> String {
        let ticks = [(0, "08:00".to_owned()), (30 * 60_000, "08:30".to_owned())];
        ConditionChart {
            from_ms: 0,
            to_ms: 60 * 60_000,
            samples,
            failures,
            ticks: &ticks,
            title: "Conditions",
            description: "One hour",
            signal_name: "Signal (dBm)",
            rtt_name: "Round trip (ms)",
            failures_name: "Failures",
        }
        .draw()
        .to_string()
    }

    #[test]
    fn a_chart_is_drawn_the_same_every_time() {
        let samples: Vec<_> = (0..12).map(|n| sample(n * 5, Some(-90 - n), Some(80 + n * n * 3))).collect();
        let failures = [Mark { at_ms: 40 * 60_000, text: "08:40 <tls>".to_owned() }];
        insta::assert_snapshot!(chart(&samples, &failures).replace("><", ">\n<"));
    }

    #[test]
    fn a_line_breaks_where_nothing_was_measured() {
        let mut samples: Vec<_> = (0..5).map(|n| sample(n, Some(-80), None)).collect();
        samples.extend((40..45).map(|n| sample(n, Some(-80), None)));
        let drawn = chart(&samples, &[]);
        assert_eq!(drawn.matches(r#"<polyline class="chart-signal""#).count(), 2);
        assert_eq!(drawn.matches("chart-rtt\"").count(), 0);
    }

    #[test]
    fn however_many_samples_there_are_few_points_are_drawn_and_the_worst_survive() {
        let mut samples: Vec<_> =
            (0..36_000).map(|n| Sample { at_ms: n * 100, signal_dbm: None, rtt_ms: Some(50) }).collect();
        samples[17_000].rtt_ms = Some(9_000);
        let thinned = thin(&samples, 0, 3_600_000);
        assert!(thinned.len() <= POINTS_MAX);
        assert!(thinned.iter().any(|sample| sample.rtt_ms == Some(9_000)));
    }

    #[test]
    fn what_a_terminal_wrote_cannot_leave_its_text() {
        let failures = [Mark { at_ms: 0, text: "</title><script>alert(1)</script>".to_owned() }];
        assert!(!chart(&[], &failures).contains("<script"));
        let parts = [Part { class: "part-ok", name: "\"><b>".to_owned(), n: 1 }];
        assert!(!stacked_bar("a<b", &parts).to_string().contains("<b>"));
    }

    #[test]
    fn every_part_of_a_bar_is_visible_and_none_without_a_number_exists() {
        let part = |class, n| Part { class, name: class.to_owned(), n };
        let bar = stacked_bar("x", &[part("a", 100_000), part("b", 1), part("c", 0)]).to_string();
        assert!(bar.contains(r#"class="b" x="1000.0" y="0" width="3.0""#) && !bar.contains("class=\"c\""), "{bar}");
    }

    #[test]
    fn the_axis_ends_at_a_round_number_and_shares_are_honest() {
        for (value, ceiling) in [(0, 100), (100, 100), (101, 200), (450, 500), (501, 1_000), (72_000, 100_000)] {
            assert_eq!(nice_ceiling(value), ceiling);
        }
        for (n, total, text) in [(0, 0, "–"), (0, 9, "0.0%"), (1, 8, "12.5%"), (1, 100_000, "<0.1%")] {
            assert_eq!(percent(n, total), text);
        }
    }
}
