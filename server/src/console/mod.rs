//! The web console: server-rendered pages, one file per menu entry.
//!
//! A handler reads, fills a page's struct and renders its template; every form calls the same domain function as REST.
//! Pages work without scripts, keep their filters in the address, and say why and when. Nothing is fetched from
//! elsewhere and nothing is inline: see the policy in [`shell`].

mod assets;
mod audit;
mod channels;
mod chart;
mod conditions;
mod config;
mod dial;
mod evidence;
mod evidence_pack;
mod failures;
mod feed_imports;
mod form;
mod i18n;
mod import;
mod incident;
mod incidents;
mod lookups;
mod mapping;
mod merchants;
mod moments;
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
mod rollout_events;
mod rollout_evidence;
mod rollout_form;
mod rollout_new;
mod rollout_words;
mod rollouts;
mod rules;
mod shell;
mod sign_in;
mod status;
mod terminal;
mod terminals;
mod upload;
mod verdict;
mod why;

use crate::http::endpoints::Endpoint;

/// The pages.
pub fn endpoints() -> Vec<Endpoint> {
    [
        assets::endpoints(),
        preferences::endpoints(),
        sign_in::endpoints(),
        overview::endpoints(),
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
