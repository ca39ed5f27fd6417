//! From what was typed to the rollout that it means.

use super::super::moments::Moments;
use super::super::rollout_words::seconds_of_unit;
use super::super::rollouts::names;
use super::super::shell::Shell;
use super::{ANNOUNCEMENT_ROWS_MAX, Typed};
use crate::profiles::LayerKey;
use crate::rollouts::NewRollout;
use crate::rollouts::filter::OfRollout;
use crate::rollouts::strategy::{Announcement, GateSettings, STAGES_MAX, Stage, Strategy, WINDOWS_MAX, Window};

/// What a text is read as when it is not what the field takes.
struct Wrong(&'static str);

impl Typed {
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
    pub(in crate::console) fn read(&mut self, shell: &Shell) -> NewRollout {
        let mut wrong: Vec<(String, &'static str)> = Vec::new();
        let new = self.read_noting(&shell.moments, &mut wrong);
        for (field, words) in wrong {
            self.refuse(shell, &field, words);
        }
        new
    }

    pub(super) fn read_noting(&self, moments: &Moments, wrong: &mut Vec<(String, &'static str)>) -> NewRollout {
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
