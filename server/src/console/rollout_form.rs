//! The form of a rollout: what a person typed, field by field, and the rollout that it means.
//!
//! Whatever is wrong is said beside its field, and nothing that was typed is lost: the same values fill the form again.
//! Rows (stages, windows, announcements) have numbered fields; empty rows do not count.

use std::collections::BTreeMap;

use askama::filters::HtmlSafe;

use super::chart::escaped;
use super::moments::Moments;
use super::rollout_words::{budget, seconds_of_unit, split_span};
use super::rollouts::names;
use super::shell::Shell;
use crate::profiles::LayerKey;
use crate::rollouts::filter::OfRollout;
use crate::rollouts::strategy::{Announcement, GateSettings, STAGES_MAX, Stage, Strategy, WINDOWS_MAX, Window};
use crate::rollouts::{NewRollout, Rollout};

/// Rows that an empty form shows.
const STAGE_ROWS: usize = 5;
const WINDOW_ROWS: usize = 1;
const ANNOUNCEMENT_ROWS: usize = 1;
/// Announcements that the form takes; REST takes more.
const ANNOUNCEMENT_ROWS_MAX: usize = 20;
/// Rows that one press adds.
const ROWS_ADDED: usize = 2;
/// Units of a span, as the choice has them.
const UNITS: [&str; 4] = ["s", "m", "h", "d"];

/// Fields that stand once.
const FIELDS: [&str; 41] = [
    "name",
    "subject",
    "release_id",
    "profile_id",
    "layer",
    "layer_organization",
    "layer_tag",
    "organization_id",
    "models",
    "firmware",
    "tags",
    "sns",
    "without_tags",
    "without_sns",
    "method",
    "ends",
    "starts",
    "hold_back",
    "soak",
    "soak_unit",
    "in_flight",
    "in_flight_site",
    "wifi_only",
    "retry_max",
    "retry_wait",
    "retry_wait_unit",
    "timeout",
    "timeout_unit",
    "priority",
    "budget",
    "watch",
    "watch_unit",
    "opens_stages",
    "revises",
    "of_rollout",
    "of_phases",
    "stage_rows",
    "window_rows",
    "announcement_rows",
    "add",
    "plan",
];
/// Fields of rows; a number follows.
const ROW_FIELDS: [&str; 7] =
    ["stage_kind_", "stage_", "window_from_", "window_until_", "window_days_", "told_", "told_at_"];

/// A piece of a page that was escaped where it was made.
pub(super) struct Markup(pub(super) String);

impl std::fmt::Display for Markup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl HtmlSafe for Markup {}

/// What a person typed, by the names of the fields, and what is wrong with it.
#[derive(Debug, Clone, Default)]
pub(super) struct Typed {
    values: Vec<(String, String)>,
    wrong: BTreeMap<String, String>,
}

/// What a text is read as when it is not what the field takes.
struct Wrong(&'static str);

impl Typed {
    /// The fields of a form.
    ///
    /// # Errors
    /// The name of a field that the form does not have.
    pub(super) fn of(values: Vec<(String, String)>) -> Result<Self, String> {
        let is_known = |name: &str| {
            let is_row = |field: &str| {
                name.strip_prefix(field).is_some_and(|row| row.parse::<usize>().is_ok_and(|row| row < STAGES_MAX * 2))
            };
            FIELDS.contains(&name) || ROW_FIELDS.iter().any(|field| is_row(field))
        };
        match values.iter().find(|(name, _)| !is_known(name)) {
            Some((name, _)) => Err(name.clone()),
            None => Ok(Self { values, wrong: BTreeMap::new() }),
        }
    }

    /// An empty form with the strategy that is recommended.
    pub(super) fn recommended() -> Self {
        let mut typed = Self::default();
        typed.set("subject", "release");
        typed.recommend();
        typed
    }

    /// The value of a field; empty when it was left so.
    pub(super) fn value(&self, name: &str) -> &str {
        self.values.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
    }

    /// Whether a field has this value, also as one of several.
    pub(super) fn has(&self, name: &str, value: &str) -> bool {
        self.values.iter().any(|(known, each)| known == name && each == value)
    }

    /// As [`Self::value`], of a row.
    pub(super) fn row(&self, field: &str, row: &usize) -> &str {
        self.value(&format!("{field}{row}"))
    }

    /// As [`Self::has`], of a row.
    pub(super) fn row_has(&self, field: &str, row: &usize, value: &str) -> bool {
        self.has(&format!("{field}{row}"), value)
    }

    pub(super) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.values.retain(|(known, _)| known != name);
        self.add_value(name, value);
    }

    fn add_value(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            self.values.push((name.to_owned(), value));
        }
    }

    /// Notes what is wrong with a field.
    pub(super) fn refuse(&mut self, shell: &Shell, field: &str, words: &str) {
        let text = shell.word("rollout-field", words);
        self.wrong.entry(field.to_owned()).or_insert(text);
    }

    /// Notes a sentence about a field.
    pub(super) fn refuse_with(&mut self, field: &str, sentence: String) {
        self.wrong.entry(field.to_owned()).or_insert(sentence);
    }

    pub(super) fn is_good(&self) -> bool {
        self.wrong.is_empty()
    }

    /// Every field with something wrong, in the order of their names, for the list above the form.
    pub(super) fn problems(&self) -> impl Iterator<Item = (&str, &str)> {
        self.wrong.iter().map(|(field, text)| (field.as_str(), text.as_str()))
    }

    /// What ties a field to what is wrong with it.
    pub(super) fn aria(&self, field: &str) -> Markup {
        Markup(match self.wrong.contains_key(field) {
            true => format!(r#" aria-invalid="true" aria-describedby="{0}-wrong""#, escaped(field)),
            false => String::new(),
        })
    }

    /// What is wrong with a field, below it.
    pub(super) fn wrong(&self, field: &str) -> Markup {
        Markup(self.wrong.get(field).map_or_else(String::new, |text| {
            format!(r#"<small class="wrong" id="{}-wrong">{}</small>"#, escaped(field), escaped(text))
        }))
    }

    /// A span of time: a number and its unit.
    pub(super) fn span(&self, shell: &Shell, field: &str) -> Markup {
        let unit_field = format!("{field}_unit");
        let units: String = UNITS
            .into_iter()
            .map(|unit| {
                let chosen = if self.value(&unit_field) == unit { " selected" } else { "" };
                format!(r#"<option value="{unit}"{chosen}>{}</option>"#, escaped(&shell.word("span-unit", unit)))
            })
            .collect();
        Markup(format!(
            r#"<span class="pair"><input id="{field}" name="{field}" value="{}" inputmode="numeric" maxlength="6" autocomplete="off"{}><select name="{unit_field}" aria-label="{}">{units}</select></span>{}"#,
            escaped(self.value(field)),
            self.aria(field),
            escaped(&shell.say("form-unit")),
            self.wrong(field),
        ))
    }

    fn rows(&self, count_field: &str, fields: &[&str], usual: usize, most: usize) -> Vec<usize> {
        let is_used = |row: &usize| fields.iter().any(|field| !self.row(field, row).is_empty());
        let used = (0..most).rev().find(is_used).map_or(0, |row| row + 1);
        let asked = self.value(count_field).parse().unwrap_or(usual);
        (0..used.max(asked).max(1).min(most)).collect()
    }

    /// Rows of stages that the form shows.
    pub(super) fn stage_rows(&self) -> Vec<usize> {
        self.rows("stage_rows", &["stage_"], STAGE_ROWS, STAGES_MAX)
    }

    /// Rows of windows that the form shows.
    pub(super) fn window_rows(&self) -> Vec<usize> {
        self.rows("window_rows", &["window_from_", "window_until_"], WINDOW_ROWS, WINDOWS_MAX)
    }

    /// Rows of announcements that the form shows.
    pub(super) fn announcement_rows(&self) -> Vec<usize> {
        self.rows("announcement_rows", &["told_", "told_at_"], ANNOUNCEMENT_ROWS, ANNOUNCEMENT_ROWS_MAX)
    }

    /// Does what a button of the form asks for that saves nothing: more rows, or another plan.
    pub(super) fn arrange(&mut self) {
        let (count_field, shown) = match self.value("add") {
            "stages" => ("stage_rows", self.stage_rows().len()),
            "windows" => ("window_rows", self.window_rows().len()),
            "announcements" => ("announcement_rows", self.announcement_rows().len()),
            _ => ("", 0),
        };
        if !count_field.is_empty() {
            self.set(count_field, (shown + ROWS_ADDED).to_string());
        }
        match self.value("plan").to_owned().as_str() {
            "recommended" => self.recommend(),
            "at_once" => self.at_once(),
            _ => {}
        }
        self.set("add", "");
        self.set("plan", "");
    }

    fn clear_strategy(&mut self) {
        let kept = ["starts", "ends", "method", "priority"];
        let is_strategy = |name: &str| {
            ROW_FIELDS.iter().any(|field| name.starts_with(field) && !field.starts_with("told"))
                || [
                    "hold_back",
                    "soak",
                    "in_flight",
                    "wifi",
                    "retry",
                    "timeout",
                    "budget",
                    "watch",
                    "opens",
                    "stage_rows",
                ]
                .iter()
                .any(|start| name.starts_with(start))
        };
        self.values.retain(|(name, _)| kept.contains(&name.as_str()) || !is_strategy(name));
    }

    /// A few first, then more and more, at night, each stage watched for a day.
    fn recommend(&mut self) {
        self.clear_strategy();
        let stages = [Stage::Count(20), Stage::Percent(1), Stage::Percent(10), Stage::Percent(50), Stage::Percent(100)];
        self.set_strategy(&Strategy {
            stages: stages.into(),
            soak_s: 24 * 3600,
            windows: vec![Window { days: Vec::new(), from: "02:00".to_owned(), until: "05:00".to_owned() }],
            ..Strategy::default()
        });
        self.set("retry_max", "2");
        self.set_span("retry_wait", 600);
        self.set_span("timeout", i64::from(crate::rollouts::ASSIGNMENT_TIMEOUT_S));
    }

    fn at_once(&mut self) {
        self.clear_strategy();
        self.set_strategy(&Strategy::default());
        self.set("retry_max", "0");
        self.set_span("retry_wait", i64::from(crate::rollouts::RETRY_WAIT_S));
        self.set_span("timeout", i64::from(crate::rollouts::ASSIGNMENT_TIMEOUT_S));
    }

    fn set_span(&mut self, field: &str, seconds: i64) {
        let (value, unit) = if seconds == 0 { (0, "h") } else { split_span(seconds) };
        self.set(field, value.to_string());
        self.set(&format!("{field}_unit"), unit);
    }

    fn set_strategy(&mut self, strategy: &Strategy) {
        for (row, stage) in strategy.stages.iter().enumerate() {
            let (kind, value) = match stage {
                Stage::Tag(tag) => ("tag", tag.clone()),
                Stage::Count(n) => ("count", n.to_string()),
                Stage::Percent(n) => ("percent", n.to_string()),
            };
            self.set(&format!("stage_kind_{row}"), kind);
            self.set(&format!("stage_{row}"), value);
        }
        for (row, window) in strategy.windows.iter().enumerate() {
            self.set(&format!("window_from_{row}"), window.from.as_str());
            self.set(&format!("window_until_{row}"), window.until.as_str());
            for day in &window.days {
                self.add_value(&format!("window_days_{row}"), day.to_string());
            }
        }
        self.set("hold_back", strategy.hold_back_percent.to_string());
        self.set_span("soak", i64::from(strategy.soak_s));
        self.set_span("watch", i64::from(strategy.gate.watch_s));
        self.set("budget", budget(strategy.gate.outcome_budget_bp));
        self.set("opens_stages", if strategy.gate.opens_stages { "yes" } else { "" });
        self.set("wifi_only", if strategy.wifi_only { "yes" } else { "" });
        let limit = |limit: Option<u32>| limit.map(|limit| limit.to_string()).unwrap_or_default();
        self.set("in_flight", limit(strategy.in_flight_max));
        self.set("in_flight_site", limit(strategy.in_flight_per_site_max));
    }

    /// The form that makes the same rollout again; serial numbers and short codes by their numbers are for the caller.
    pub(super) fn like(rollout: &Rollout, moments: &Moments) -> Self {
        let mut typed = Self::default();
        typed.set("name", rollout.name.as_str());
        let number = |id: Option<i64>| id.map(|id| id.to_string()).unwrap_or_default();
        typed.set("subject", if rollout.profile_id.is_some() { "profile" } else { "release" });
        typed.set("release_id", number(rollout.release_id));
        typed.set("profile_id", number(rollout.profile_id));
        if let Some(layer) = &rollout.layer {
            typed.set("layer", layer.kind());
            if let LayerKey::Group { tag, .. } = layer {
                typed.set("layer_tag", tag.as_str());
            }
            typed.set("layer_organization", number(layer.organization_id()));
        }
        typed.set("organization_id", number(rollout.filter.organization_id));
        for model in &rollout.filter.models {
            typed.add_value("models", model.as_str());
        }
        typed.set("firmware", rollout.filter.firmware.join(" "));
        typed.set("tags", rollout.filter.tags.join("\n"));
        typed.set("without_tags", rollout.filter.exclude_tags.join("\n"));
        if let Some(of) = &rollout.filter.of_rollout {
            typed.set("of_rollout", of.rollout_id.to_string());
            typed.set("of_phases", of.phases.join(" "));
        }
        typed.set_strategy(&rollout.strategy);
        typed.set("method", if rollout.strategy.is_dynamic { "dynamic" } else { "static" });
        let moment = |at_ms: Option<i64>| at_ms.map(|at_ms| moments.field(at_ms)).unwrap_or_default();
        typed.set("starts", moment(rollout.starts_at_ms));
        typed.set("ends", moment(rollout.ends_at_ms));
        typed.set("retry_max", rollout.retry_max.to_string());
        typed.set_span("retry_wait", rollout.retry_wait_s);
        typed.set_span("timeout", rollout.assignment_timeout_s);
        typed.set("priority", rollout.priority.to_string());
        for (row, announcement) in rollout.strategy.announcements.iter().enumerate().take(ANNOUNCEMENT_ROWS_MAX) {
            typed.set(&format!("told_{row}"), announcement.organization_id.to_string());
            typed.set(&format!("told_at_{row}"), moments.field(announcement.not_before_ms));
        }
        typed
    }

    fn number<T: std::str::FromStr>(&self, field: &str, words: &'static str) -> Result<Option<T>, Wrong> {
        let text: String = self.value(field).chars().filter(|c| !matches!(c, ',' | '，' | ' ')).collect();
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| Wrong(words))
    }

    fn seconds(&self, field: &str, words: &'static str) -> Result<Option<u32>, Wrong> {
        let Some(n) = self.number::<u32>(field, words)? else { return Ok(None) };
        let unit = seconds_of_unit(self.value(&format!("{field}_unit"))).ok_or(Wrong(words))?;
        n.checked_mul(unit).map(Some).ok_or(Wrong(words))
    }

    fn moment(&self, moments: &Moments, field: &str, words: &'static str) -> Result<Option<i64>, Wrong> {
        match self.value(field) {
            "" => Ok(None),
            text => moments.of_field(text).map(Some).ok_or(Wrong(words)),
        }
    }

    fn layer(&self) -> Result<LayerKey, Wrong> {
        let organization_id = || self.number::<i64>("layer_organization", "layer")?.ok_or(Wrong("layer"));
        match self.value("layer") {
            "global" => Ok(LayerKey::Global),
            "terminal" => Ok(LayerKey::Terminal),
            "organization" => Ok(LayerKey::Organization { organization_id: organization_id()? }),
            "group" if !self.value("layer_tag").is_empty() => {
                Ok(LayerKey::Group { organization_id: organization_id()?, tag: self.value("layer_tag").to_owned() })
            }
            _ => Err(Wrong("layer")),
        }
    }

    fn stage(&self, row: usize) -> Result<Option<Stage>, Wrong> {
        let value = self.row("stage_", &row);
        if value.is_empty() {
            return Ok(None);
        }
        let digits = value.trim_end_matches(['%', '％']).trim();
        let number = || digits.parse().map_err(|_| Wrong("stages"));
        Ok(Some(match self.row("stage_kind_", &row) {
            "tag" => Stage::Tag(value.to_owned()),
            "count" => Stage::Count(number()?),
            _ => Stage::Percent(number()?),
        }))
    }

    fn window(&self, row: usize) -> Result<Option<Window>, Wrong> {
        let (from, until) = (self.row("window_from_", &row), self.row("window_until_", &row));
        if from.is_empty() && until.is_empty() {
            return Ok(None);
        }
        let days_field = format!("window_days_{row}");
        let days = self.values.iter().filter(|(name, _)| *name == days_field);
        let days: Result<Vec<u8>, _> = days.map(|(_, day)| day.parse().map_err(|_| Wrong("windows"))).collect();
        Ok(Some(Window { days: days?, from: from.to_owned(), until: until.to_owned() }))
    }

    fn announcement(&self, moments: &Moments, row: usize) -> Result<Option<Announcement>, Wrong> {
        let (id, at) = (self.row("told_", &row), self.row("told_at_", &row));
        if id.is_empty() && at.is_empty() {
            return Ok(None);
        }
        let organization_id = id.parse().map_err(|_| Wrong("announcements"))?;
        let not_before_ms = moments.of_field(at).ok_or(Wrong("announcements"))?;
        Ok(Some(Announcement { organization_id, not_before_ms }))
    }

    fn budget_bp(&self) -> Result<u32, Wrong> {
        let text = self.value("budget").trim_end_matches(['%', '％']).trim();
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        if part.len() > 2 {
            return Err(Wrong("budget"));
        }
        let number = |digits: &str| digits.parse::<u32>().map_err(|_| Wrong("budget"));
        let hundredths = number(&format!("{part:0<2}"))?;
        number(whole)?.checked_mul(100).and_then(|bp| bp.checked_add(hundredths)).ok_or(Wrong("budget"))
    }

    /// The rollout that was typed, without the terminals that are named by serial number. What cannot be read is noted
    /// beside its field, and left out of what is returned.
    pub(super) fn read(&mut self, shell: &Shell) -> NewRollout {
        let mut wrong: Vec<(String, &'static str)> = Vec::new();
        let new = self.read_noting(&shell.moments, &mut wrong);
        for (field, words) in wrong {
            self.refuse(shell, &field, words);
        }
        new
    }

    fn read_noting(&self, moments: &Moments, wrong: &mut Vec<(String, &'static str)>) -> NewRollout {
        let mut new = NewRollout { name: self.value("name").to_owned(), ..NewRollout::default() };
        if self.value("subject") == "profile" {
            new.profile_id = noted(wrong, "profile_id", self.number("profile_id", "subject")).flatten();
            new.layer = noted(wrong, "layer", self.layer());
        } else {
            new.release_id = noted(wrong, "release_id", self.number("release_id", "subject")).flatten();
        }
        let organization = self.number("organization_id", "organization");
        new.filter.organization_id = noted(wrong, "organization_id", organization).flatten();
        new.filter.models =
            self.values.iter().filter(|(name, _)| name == "models").flat_map(|(_, value)| names(value)).collect();
        new.filter.firmware = names(self.value("firmware"));
        new.filter.tags = names(self.value("tags"));
        new.filter.exclude_tags = names(self.value("without_tags"));
        if let Some(rollout_id) = noted(wrong, "of_rollout", self.number("of_rollout", "terminals")).flatten() {
            new.filter.of_rollout = Some(OfRollout { rollout_id, phases: names(self.value("of_phases")) });
        }
        let timeout = self.seconds("timeout", "timeout");
        new.assignment_timeout_s = noted(wrong, "timeout", timeout).flatten();
        new.retry_max = noted(wrong, "retry_max", self.number("retry_max", "retry-max")).flatten();
        new.retry_wait_s = noted(wrong, "retry_wait", self.seconds("retry_wait", "retry-wait")).flatten();
        new.priority = noted(wrong, "priority", self.number("priority", "priority")).flatten();
        new.starts_at_ms = noted(wrong, "starts", self.moment(moments, "starts", "starts")).flatten();
        if self.value("method") == "dynamic" {
            new.ends_at_ms = noted(wrong, "ends", self.moment(moments, "ends", "ends")).flatten();
        }
        new.strategy = self.strategy(moments, wrong);
        new
    }

    fn strategy(&self, moments: &Moments, wrong: &mut Vec<(String, &'static str)>) -> Strategy {
        let rows = |most: usize| 0..most;
        let stages = rows(STAGES_MAX).filter_map(|row| noted(wrong, "stages", self.stage(row)).flatten()).collect();
        let windows = rows(WINDOWS_MAX).filter_map(|row| noted(wrong, "windows", self.window(row)).flatten()).collect();
        let announcements = rows(ANNOUNCEMENT_ROWS_MAX)
            .filter_map(|row| noted(wrong, "announcements", self.announcement(moments, row)).flatten())
            .collect();
        Strategy {
            stages,
            windows,
            announcements,
            hold_back_percent: noted(wrong, "hold_back", self.number("hold_back", "hold-back"))
                .flatten()
                .unwrap_or_default(),
            soak_s: noted(wrong, "soak", self.seconds("soak", "soak")).flatten().unwrap_or_default(),
            in_flight_max: noted(wrong, "in_flight", self.number("in_flight", "in-flight")).flatten(),
            in_flight_per_site_max: noted(wrong, "in_flight_site", self.number("in_flight_site", "in-flight-site"))
                .flatten(),
            wifi_only: self.value("wifi_only") == "yes",
            is_dynamic: self.value("method") == "dynamic",
            gate: self.gate(wrong),
        }
    }

    fn gate(&self, wrong: &mut Vec<(String, &'static str)>) -> GateSettings {
        let usual = GateSettings::default();
        GateSettings {
            outcome_budget_bp: noted(wrong, "budget", self.budget_bp()).unwrap_or(usual.outcome_budget_bp),
            watch_s: noted(wrong, "watch", self.seconds("watch", "watch")).flatten().unwrap_or(usual.watch_s),
            opens_stages: self.value("opens_stages") == "yes",
        }
    }
}

/// The value; what is wrong is noted at its field.
fn noted<T>(wrong: &mut Vec<(String, &'static str)>, field: &str, read: Result<T, Wrong>) -> Option<T> {
    match read {
        Ok(value) => Some(value),
        Err(Wrong(words)) => {
            wrong.push((field.to_owned(), words));
            None
        }
    }
}

/// The form's field for the name of a field's words.
pub(super) fn field_of_words(words: &str) -> &str {
    match words {
        "subject" => "release_id",
        "organization" => "organization_id",
        "terminals" => "sns",
        "without-terminals" => "without_sns",
        "without-tags" => "without_tags",
        "hold-back" => "hold_back",
        "in-flight" => "in_flight",
        "in-flight-site" => "in_flight_site",
        "retry-max" => "retry_max",
        "retry-wait" => "retry_wait",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Now;
    use crate::console::i18n::Language;

    const NOW: Now = Now(1_795_397_400_000);

    fn moments() -> Moments {
        Moments::new("Asia/Shanghai", Language::Chinese, NOW)
    }

    fn typed(fields: &[(&str, &str)]) -> Typed {
        Typed::of(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()).unwrap()
    }

    fn read(typed: &Typed) -> (NewRollout, Vec<(String, &'static str)>) {
        let mut wrong = Vec::new();
        let new = typed.read_noting(&moments(), &mut wrong);
        (new, wrong)
    }

    #[test]
    fn the_recommended_form_is_a_possible_strategy() {
        let (new, wrong) = read(&Typed::recommended());
        assert_eq!(wrong, []);
        assert_eq!((new.strategy.stages.len(), new.strategy.soak_s, new.retry_max), (5, 86_400, Some(2)));
        assert!(new.strategy.gate.opens_stages && new.strategy.checked().is_ok());
    }

    #[test]
    fn one_press_means_everybody_at_once_and_keeps_what_is_no_strategy() {
        let mut form = Typed::recommended();
        form.set("name", "autumn");
        form.set("told_0", "7");
        form.set("plan", "at_once");
        form.arrange();
        let (new, wrong) = read(&form);
        assert_eq!(new.strategy, Strategy { announcements: new.strategy.announcements.clone(), ..Strategy::default() });
        assert_eq!((new.name.as_str(), form.value("told_0")), ("autumn", "7"));
        assert_eq!(wrong, [("announcements".to_owned(), "announcements")], "an organization without a date");
    }

    #[test]
    fn empty_rows_do_not_count_and_more_can_be_had() {
        let mut form = typed(&[
            ("stage_kind_0", "tag"),
            ("stage_0", "canary"),
            ("stage_kind_3", "percent"),
            ("stage_3", "10%"),
            ("window_from_1", "22:00"),
            ("window_until_1", "06:00"),
            ("window_days_1", "6"),
            ("window_days_1", "7"),
            ("add", "stages"),
            ("budget", "0.5"),
        ]);
        let (new, wrong) = read(&form);
        assert_eq!(wrong, []);
        assert_eq!(new.strategy.stages, [Stage::Tag("canary".to_owned()), Stage::Percent(10)]);
        assert_eq!(new.strategy.windows[0].days, [6, 7]);
        assert_eq!((new.strategy.windows.len(), new.strategy.gate.outcome_budget_bp), (1, 50));
        assert_eq!(form.stage_rows().len(), STAGE_ROWS);
        form.arrange();
        assert_eq!(form.stage_rows().len(), STAGE_ROWS + ROWS_ADDED);
    }

    #[test]
    fn what_cannot_be_read_is_noted_beside_its_field() {
        let (_, wrong) = read(&typed(&[
            ("subject", "profile"),
            ("layer", "group"),
            ("stage_kind_0", "count"),
            ("stage_0", "many"),
            ("soak", "1"),
            ("soak_unit", "w"),
            ("budget", "1.234"),
            ("starts", "soon"),
            ("priority", "-1"),
        ]));
        let fields: Vec<&str> = wrong.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(fields, ["layer", "priority", "starts", "stages", "soak", "budget"]);
    }

    #[test]
    fn unknown_fields_are_refused_and_hostile_text_is_escaped() {
        for name in ["path", "stage_x", "stage_99", "window_days_"] {
            assert!(Typed::of(vec![(name.to_owned(), "1".to_owned())]).is_err(), "{name}");
        }
        let mut form = Typed::default();
        form.refuse_with("name", "\"><script>".to_owned());
        assert!(!form.wrong("name").to_string().contains("<script"));
    }
}
