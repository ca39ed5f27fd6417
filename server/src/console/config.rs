//! The part of a terminal's page that shows its parameters: what it should have, from where, and what it has.

use std::collections::BTreeMap;

use super::shell::Shell;
use super::status::{Status, Tone};
use crate::organizations::Organization;
use crate::profiles::{Difference, DriftState, LayerKey, Origin, Parameter, TerminalConfig};

/// One parameter.
pub(super) struct ConfigRow {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) layer: String,
    pub(super) profile: String,
    pub(super) reported: String,
    pub(super) differs: bool,
}

/// A terminal's parameters.
pub(super) struct ConfigView {
    pub(super) status: Option<Status>,
    pub(super) note: String,
    pub(super) rows: Vec<ConfigRow>,
}

const UNKNOWN: &str = "–";

/// Every parameter that the terminal should have or has, by name.
pub(super) fn view(shell: &Shell, config: TerminalConfig, tree: &[Organization]) -> ConfigView {
    let (status, note) = (status(shell, &config), note(shell, &config));
    let is_known = config.differences.is_some();
    let differences = config.differences.into_iter().flatten();
    let mut differing: BTreeMap<String, Difference> =
        differences.map(|difference| (difference.name.clone(), difference)).collect();
    let mut rows = Vec::with_capacity(config.values.len() + differing.len());
    for each in config.values {
        let value = text(&each.value);
        let difference = differing.remove(&each.name);
        let reported = match &difference {
            Some(difference) => difference.reported.as_ref().map(text),
            None => is_known.then(|| value.clone()),
        };
        rows.push(ConfigRow {
            layer: layer(shell, &each.origin.layer, tree),
            profile: profile(&each.origin),
            reported: reported.unwrap_or_else(|| UNKNOWN.to_owned()),
            differs: difference.is_some(),
            name: each.name,
            value,
        });
    }
    rows.extend(differing.into_values().map(|difference| ConfigRow {
        name: difference.name,
        value: UNKNOWN.to_owned(),
        layer: UNKNOWN.to_owned(),
        profile: String::new(),
        reported: difference.reported.as_ref().map_or_else(|| UNKNOWN.to_owned(), text),
        differs: true,
    }));
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    ConfigView { status, note, rows }
}

fn status(shell: &Shell, config: &TerminalConfig) -> Option<Status> {
    let expected = config.expected_hash.as_ref()?;
    Some(match &config.drift {
        Some(drift) => Status { tone: tone(drift.state), word: shell.word("drift", drift.state.as_str()) },
        None if config.reported_hash.as_ref() == Some(expected) => {
            Status { tone: Tone::Good, word: shell.say("config-agrees") }
        }
        None => Status { tone: Tone::Busy, word: shell.say("config-pending") },
    })
}

fn tone(state: DriftState) -> Tone {
    match state {
        DriftState::Watching | DriftState::Repairing => Tone::Warning,
        DriftState::Alarmed => Tone::Bad,
    }
}

fn note(shell: &Shell, config: &TerminalConfig) -> String {
    match (&config.drift, &config.reported_hash, &config.differences) {
        (Some(drift), _, _) => shell.with("config-drifts-since", "time", shell.moments.absolute(drift.since_ms)),
        (None, None, None) => shell.say("config-not-reported"),
        (None, Some(_), None) => shell.say("config-reported-unknown"),
        (None, _, Some(_)) => String::new(),
    }
}

fn text(value: &Parameter) -> String {
    match value {
        Parameter::Flag(flag) => flag.to_string(),
        Parameter::Integer(number) => number.to_string(),
        Parameter::Text(text) => text.clone(),
    }
}

/// The layer in words; an organization above the reader's own has no name here.
fn layer(shell: &Shell, layer: &LayerKey, tree: &[Organization]) -> String {
    let organization = layer.organization_id().and_then(|id| tree.iter().find(|each| each.id == id));
    let tag = match layer {
        LayerKey::Group { tag, .. } => Some(tag.as_str()),
        LayerKey::Global | LayerKey::Organization { .. } | LayerKey::Terminal => None,
    };
    let parts =
        [Some(shell.word("layer", layer.kind())), tag.map(str::to_owned), organization.map(|it| it.name.clone())];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

fn profile(origin: &Origin) -> String {
    format!("{} · v{}", origin.profile_name, origin.profile_version)
}
