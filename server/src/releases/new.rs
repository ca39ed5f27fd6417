//! What a release says of itself, checked once when it is made. Pure.

use serde::{Deserialize, Serialize};
use tillward_protocol::FieldError;
use tillward_protocol::ids::{ModelCode, Sha256Hex, TargetName, Version};

use crate::text;

/// Longest name, bytes: one line on a page.
pub const NAME_BYTES_MAX: usize = 120;
/// Longest notes, bytes.
pub const NOTES_BYTES_MAX: usize = 4_000;
/// Longest component name, characters; it is part of target names.
pub const COMPONENT_CHARS_MAX: usize = 16;
/// Most models of one release: each has its own signed entry.
pub const MODELS_MAX: usize = 64;
/// Most requirements of one release.
pub const REQUIRES_MAX: usize = 8;
/// Largest counter: what JSON carries exactly everywhere (2^53 − 1).
pub const COUNTER_MAX: i64 = (1 << 53) - 1;

/// A component that must have come this far before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Needs {
    /// Component name.
    pub component: String,
    /// Smallest release counter.
    pub release_counter: i64,
}

/// A release as it is asked for. The payload is uploaded first and named by its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRelease {
    /// For people, for example `Q4 security update`; the version when empty.
    #[serde(default)]
    pub name: String,
    /// What changed, for people.
    #[serde(default)]
    pub notes: String,
    /// `os`, `app`, …: 1–16 lower-case letters and digits.
    pub component: String,
    /// Version that runs after the installation.
    pub firmware_version: String,
    /// Higher than that of every earlier release of the component on each model.
    pub release_counter: i64,
    /// Models it fits.
    pub models: Vec<String>,
    /// Smallest release counter that may be updated from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_from_counter: Option<i64>,
    /// Components that must be updated first.
    #[serde(default)]
    pub requires: Vec<Needs>,
    /// SHA-256 of the uploaded payload, hex.
    pub sha256: String,
}

/// A release whose fields are all possible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedRelease {
    /// For people.
    pub name: String,
    /// For people.
    pub notes: String,
    /// Component.
    pub component: String,
    /// Version.
    pub firmware_version: Version,
    /// Counter.
    pub release_counter: i64,
    /// Models, each once, in order.
    pub models: Vec<ModelCode>,
    /// Smallest starting point.
    pub min_from_counter: Option<i64>,
    /// Requirements.
    pub requires: Vec<Needs>,
    /// Payload.
    pub sha256: Sha256Hex,
}

impl NewRelease {
    /// Checks every field.
    ///
    /// # Errors
    /// The first field that is impossible, by name.
    pub fn check(self) -> Result<CheckedRelease, FieldError> {
        let firmware_version: Version = named("firmware_version", self.firmware_version.parse())?;
        let text = |field: &str, text: &str, max: usize| free_text(field, text, max);
        text("name", &self.name, NAME_BYTES_MAX)?;
        text("notes", &self.notes, NOTES_BYTES_MAX)?;
        check_component("component", &self.component)?;
        counter("release_counter", self.release_counter)?;
        if let Some(least) = self.min_from_counter {
            counter("min_from_counter", least)?;
            if least > self.release_counter {
                return Err(FieldError::new("min_from_counter", "must not be above release_counter"));
            }
        }
        if self.requires.len() > REQUIRES_MAX {
            return Err(FieldError::new("requires", format!("may have at most {REQUIRES_MAX} entries")));
        }
        for (index, needs) in self.requires.iter().enumerate() {
            check_component("component", &needs.component).map_err(|error| error.at("requires", index))?;
            counter("release_counter", needs.release_counter).map_err(|error| error.at("requires", index))?;
            if needs.component == self.component {
                let error = FieldError::new("component", "is the release's own; use min_from_counter");
                return Err(error.at("requires", index));
            }
        }
        let models = self.checked_models()?;
        for model in &models {
            let name = target_name(model, &self.component, &firmware_version, self.release_counter);
            named("firmware_version", name.map(|_| ()))?;
        }
        Ok(CheckedRelease {
            name: if self.name.trim().is_empty() { firmware_version.to_string() } else { self.name.trim().to_owned() },
            notes: self.notes,
            component: self.component,
            firmware_version,
            release_counter: self.release_counter,
            models,
            min_from_counter: self.min_from_counter,
            requires: self.requires,
            sha256: digest(&self.sha256)?,
        })
    }

    fn checked_models(&self) -> Result<Vec<ModelCode>, FieldError> {
        if self.models.is_empty() || self.models.len() > MODELS_MAX {
            return Err(FieldError::new("models", format!("must name 1 to {MODELS_MAX} models")));
        }
        let mut models: Vec<ModelCode> = Vec::new();
        for (index, code) in self.models.iter().enumerate() {
            let model: ModelCode = named(&format!("models[{index}]"), code.parse())?;
            if models.contains(&model) {
                return Err(FieldError::new(format!("models[{index}]"), "is listed twice"));
            }
            models.push(model);
        }
        models.sort();
        Ok(models)
    }
}

/// Name of the signed file of one model, for example `pax-a920.os.1.2.3-7.bin`.
///
/// # Errors
/// A version so long that the name would pass 128 characters.
pub fn target_name(
    model: &ModelCode,
    component: &str,
    version: &Version,
    counter: i64,
) -> Result<TargetName, FieldError> {
    // Names have a smaller alphabet than versions; the counter keeps them apart.
    let version = version.as_str().to_ascii_lowercase().replace('+', "_");
    format!("{model}.{component}.{version}-{counter}.bin").parse()
}

fn named<T>(field: &str, parsed: Result<T, FieldError>) -> Result<T, FieldError> {
    parsed.map_err(|error| FieldError::new(field, error.problem))
}

fn digest(text: &str) -> Result<Sha256Hex, FieldError> {
    if text.len() != 64 {
        return Err(FieldError::new("sha256", "must be 64 lower-case hex digits"));
    }
    named("sha256", text.parse())
}

/// A component's name: it is part of target names, so its alphabet is small.
///
/// # Errors
/// At `field`.
pub(super) fn check_component(field: &str, name: &str) -> Result<(), FieldError> {
    let is_fit = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if name.is_empty() || name.len() > COMPONENT_CHARS_MAX || !name.bytes().all(is_fit) {
        let problem = format!("must be 1 to {COMPONENT_CHARS_MAX} lower-case letters or digits");
        return Err(FieldError::new(field, problem));
    }
    Ok(())
}

fn counter(field: &str, value: i64) -> Result<(), FieldError> {
    if (1..=COUNTER_MAX).contains(&value) {
        return Ok(());
    }
    Err(FieldError::new(field, format!("must be between 1 and {COUNTER_MAX}, was {value}")))
}

fn free_text(field: &str, text: &str, max: usize) -> Result<(), FieldError> {
    if text.len() > max {
        return Err(FieldError::new(field, format!("must be at most {max} bytes, was {}", text.len())));
    }
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return Err(FieldError::new(field, "must not contain control characters"));
    }
    text::guarded(field, text)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn new_release() -> NewRelease {
        NewRelease {
            name: " Q4 security update ".to_owned(),
            notes: "修复 TLS 超时".to_owned(),
            component: "os".to_owned(),
            firmware_version: "4.2.0+B1".to_owned(),
            release_counter: 42,
            models: vec!["pax-a920".to_owned(), "demo-p1".to_owned()],
            min_from_counter: Some(40),
            requires: vec![Needs { component: "sp".to_owned(), release_counter: 3 }],
            sha256: "0".repeat(64),
        }
    }

    #[test]
    fn a_possible_release_is_taken_with_its_models_in_order() {
        let checked = new_release().check().unwrap();
        assert_eq!(checked.name, "Q4 security update");
        assert_eq!(checked.models.iter().map(ModelCode::as_str).collect::<Vec<_>>(), ["demo-p1", "pax-a920"]);
        let name = target_name(&checked.models[1], "os", &checked.firmware_version, 42).unwrap();
        assert_eq!(name.as_str(), "pax-a920.os.4.2.0_b1-42.bin");
        let unnamed = NewRelease { name: String::new(), ..new_release() }.check().unwrap();
        assert_eq!(unnamed.name, "4.2.0+B1");
    }

    #[test]
    fn an_impossible_field_is_refused_by_its_name() {
        let refused = |change: fn(&mut NewRelease)| {
            let mut new = new_release();
            change(&mut new);
            new.check().unwrap_err().field
        };
        assert_eq!(refused(|new| new.component = "OS".to_owned()), "component");
        assert_eq!(refused(|new| new.component = "a.b".to_owned()), "component");
        assert_eq!(refused(|new| new.firmware_version = String::new()), "firmware_version");
        assert_eq!(refused(|new| new.firmware_version = "4/2".to_owned()), "firmware_version");
        assert_eq!(refused(|new| new.release_counter = 0), "release_counter");
        assert_eq!(refused(|new| new.release_counter = COUNTER_MAX + 1), "release_counter");
        assert_eq!(refused(|new| new.min_from_counter = Some(43)), "min_from_counter");
        assert_eq!(refused(|new| new.models.clear()), "models");
        assert_eq!(refused(|new| new.models[1] = "pax-a920".to_owned()), "models[1]");
        assert_eq!(refused(|new| new.models[0] = "PAX A920".to_owned()), "models[0]");
        assert_eq!(refused(|new| new.requires[0].component = "os".to_owned()), "requires[0].component");
        assert_eq!(refused(|new| new.requires[0].release_counter = -1), "requires[0].release_counter");
        assert_eq!(refused(|new| new.sha256 = "abc".to_owned()), "sha256");
        assert_eq!(refused(|new| new.notes = "card 4111 1111 1111 1111".to_owned()), "notes");
        assert_eq!(refused(|new| new.name = "x".repeat(NAME_BYTES_MAX + 1)), "name");
    }
}
