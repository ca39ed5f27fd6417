//! From a rollout, or from nothing, to a filled form.

use super::super::moments::Moments;
use super::super::rollout_words::{budget, split_span};
use super::{ANNOUNCEMENT_ROWS_MAX, ROW_FIELDS, Typed};
use crate::profiles::LayerKey;
use crate::rollouts::Rollout;
use crate::rollouts::strategy::{Stage, Strategy, Window};

impl Typed {
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
    pub(super) fn recommend(&mut self) {
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

    pub(super) fn at_once(&mut self) {
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
    pub(in crate::console) fn like(rollout: &Rollout, moments: &Moments) -> Self {
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
}
