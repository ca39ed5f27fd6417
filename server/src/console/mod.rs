//! The web console: server-rendered pages, one file per menu entry.
//!
//! A handler reads, fills a page's struct and renders its template; every form calls the same domain function as REST.
//! Pages work without scripts, keep their filters in the address, and say why and when. Nothing is fetched from
//! elsewhere and nothing is inline: see the policy in [`shell`].

mod alert_channel_form;
mod alert_channels;
mod alert_hours;
mod alert_rules;
mod alerts;
mod assets;
mod audit;
mod care_rules;
mod care_words;
mod cause_rollouts;
mod channels;
mod chart;
mod conditions;
mod config;
mod dial;
mod evidence;
mod evidence_pack;
mod explain;
mod failures;
mod feed_imports;
mod field;
mod filled;
mod fleet;
mod form;
mod guidance;
mod i18n;
mod import;
mod incident;
mod incidents;
mod inspections;
mod lift_chart;
mod lookups;
mod mapping;
mod merchants;
mod moments;
mod network_advice;
mod operators;
mod organizations;
mod overview;
mod pack_words;
mod preferences;
pub mod problems;
mod reconciliation;
mod refusals;
mod releases;
mod rollout;
mod rollout_actions;
mod rollout_acts;
mod rollout_events;
mod rollout_evidence;
mod rollout_form;
mod rollout_new;
mod rollout_progress;
mod rollout_words;
mod rollouts;
mod rules;
mod shell;
mod sign_in;
mod status;
mod switches;
mod terminal;
mod terminals;
mod upload;
mod verdict;
mod why;
mod work_orders;

use crate::http::endpoints::Endpoint;

/// The text of a key with values in it, in the language of a tag: for what leaves the server otherwise than as a page.
pub fn text(language: &str, key: &str, values: &[(&str, &str)]) -> String {
    conditions::title(i18n::Language::of_tag(language).unwrap_or(i18n::Language::Chinese), key, values)
}

/// The pages.
pub fn endpoints() -> Vec<Endpoint> {
    [
        assets::endpoints(),
        preferences::endpoints(),
        sign_in::endpoints(),
        overview::endpoints(),
        explain::endpoints(),
        terminals::endpoints(),
        import::endpoints(),
        terminal::endpoints(),
        failures::endpoints(),
        rules::endpoints(),
        incidents::endpoints(),
        incident::endpoints(),
        reconciliation::endpoints(),
        feed_imports::endpoints(),
        channels::endpoints(),
        merchants::endpoints(),
        lookups::endpoints(),
        evidence_pack::endpoints(),
        alerts::endpoints(),
        alert_channels::endpoints(),
        alert_rules::endpoints(),
        alert_hours::endpoints(),
        network_advice::endpoints(),
        fleet::endpoints(),
        inspections::endpoints(),
        care_rules::endpoints(),
        work_orders::endpoints(),
        guidance::endpoints(),
        field::endpoints(),
        releases::endpoints(),
        rollouts::endpoints(),
        rollout_new::endpoints(),
        rollout_actions::endpoints(),
        rollout::endpoints(),
        rollout_events::endpoints(),
        organizations::endpoints(),
        operators::endpoints(),
        audit::endpoints(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
