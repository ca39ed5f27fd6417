//! The strict gate in front of the TUF library: refuses documents that two parsers could read differently.
//!
//! Duplicate names, floats, versions outside 1..2^53-1, and a role in which one key stands under two key ids. The
//! library would accept each of these.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use tillward_protocol::phase::Reason;
use tillward_protocol::trust::Refused;

/// Largest integer that every JSON reader holds exactly.
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// Parses and checks one metadata document.
///
/// # Errors
/// `MalformedMetadata` or `DuplicateSignature`, with what is wrong where.
pub fn check(name: &str, bytes: &[u8]) -> Result<Value, Refused> {
    let malformed = |what: String| Refused::new(Reason::MalformedMetadata, format!("{name}: {what}"));
    let document = parse(bytes).map_err(|error| malformed(error.to_string()))?;
    let signed =
        document.get("signed").and_then(Value::as_object).ok_or_else(|| malformed("no signed part".to_owned()))?;
    versions(signed).map_err(malformed)?;
    match twin(signed) {
        Some(role) => Err(Refused::new(
            Reason::DuplicateSignature,
            format!("{name}: one key stands under two names in role {role}"),
        )),
        None => Ok(document),
    }
}

fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

fn versions(signed: &Map<String, Value>) -> Result<(), String> {
    let good =
        |version: Option<&Value>| version.and_then(Value::as_u64).is_some_and(|v| (1..=INTEGER_MAX).contains(&v));
    if !good(signed.get("version")) {
        return Err("version must be between 1 and 2^53-1".to_owned());
    }
    let files = signed.get("meta").and_then(Value::as_object).into_iter().flatten();
    match files.into_iter().find(|(_, file)| !good(file.get("version"))) {
        Some((file, _)) => Err(format!("version of {file} must be between 1 and 2^53-1")),
        None => Ok(()),
    }
}

/// The first role in which two key ids have the same key bytes.
fn twin(signed: &Map<String, Value>) -> Option<String> {
    let mut roles: Vec<(String, &Value, &Value)> = Vec::new();
    if let (Some(keys), Some(of_root)) = (signed.get("keys"), signed.get("roles").and_then(Value::as_object)) {
        roles.extend(of_root.iter().map(|(name, role)| (name.clone(), keys, role)));
    }
    if let Some(delegations) = signed.get("delegations")
        && let (Some(keys), Some(delegated)) =
            (delegations.get("keys"), delegations.get("roles").and_then(Value::as_array))
    {
        let name = |role: &Value| role.get("name").and_then(Value::as_str).unwrap_or("?").to_owned();
        roles.extend(delegated.iter().map(|role| (name(role), keys, role)));
    }
    roles.into_iter().find(|(_, keys, role)| has_twin(keys, role)).map(|(name, _, _)| name)
}

fn has_twin(keys: &Value, role: &Value) -> bool {
    let ids: BTreeSet<&str> =
        role.get("keyids").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let mut seen = BTreeSet::new();
    ids.into_iter()
        .filter_map(|id| keys.get(id)?.get("keyval")?.get("public")?.as_str())
        .map(|public| public.split_whitespace().collect::<String>().to_ascii_lowercase())
        .any(|public| !seen.insert(public))
}

/// Builds a value, refusing what is ambiguous.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without floats and duplicate names")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Value, E> {
        Err(E::custom("a number that is not an integer"))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Strict)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = entries.next_key_seed(Name)? {
            if map.contains_key(&name) {
                return Err(de::Error::custom(format!("the name {name:?} appears twice")));
            }
            let value = entries.next_value_seed(Strict)?;
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = String;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        String::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(text: &str) -> Option<Reason> {
        check("x.json", text.as_bytes()).err().map(|refused| refused.reason)
    }

    #[test]
    fn ambiguous_documents_are_refused() {
        assert_eq!(reason(r#"{"signed":{"version":1},"signatures":[]}"#), None);
        let malformed = [
            r#"{"signed":{"version":1,"version":2}}"#,
            r#"{"signed":{"version":1,"custom":{"a":1,"\u0061":2}}}"#,
            r#"{"signed":{"version":1.0}}"#,
            r#"{"signed":{"version":1e20}}"#,
            r#"{"signed":{"version":1,"x":[1.5]}}"#,
            r#"{"signed":{"version":0}}"#,
            r#"{"signed":{"version":9007199254740992}}"#,
            r#"{"signed":{"version":-1}}"#,
            r#"{"signed":{}}"#,
            r#"{"signed":{"version":1,"meta":{"a.json":{"version":0}}}}"#,
            r#"{"signed":{"version":1}} x"#,
            "\u{feff}{\"signed\":{\"version\":1}}",
            "[]",
            "<html>",
            "",
        ];
        for text in malformed {
            assert_eq!(reason(text), Some(Reason::MalformedMetadata), "{text}");
        }
        assert_eq!(
            check("x", b"{\"signed\":{\"version\":1,\"x\":\"\xff\"}}").unwrap_err().reason,
            Reason::MalformedMetadata
        );
        let deep = format!("{{\"signed\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(reason(&deep), Some(Reason::MalformedMetadata));
    }

    #[test]
    fn one_key_under_two_names_is_refused_in_root_roles_and_delegations() {
        let key =
            |public: &str| format!(r#"{{"keytype":"ed25519","scheme":"ed25519","keyval":{{"public":"{public}"}}}}"#);
        let root = |second: &str| {
            format!(
                r#"{{"signed":{{"version":1,"keys":{{"a":{},"b":{}}},"roles":{{"targets":{{"keyids":["a","b"],"threshold":2}}}}}}}}"#,
                key("00ff"),
                key(second)
            )
        };
        assert_eq!(reason(&root("00fe")), None);
        assert_eq!(reason(&root("00FF")), Some(Reason::DuplicateSignature));
        let delegated = format!(
            r#"{{"signed":{{"version":1,"delegations":{{"keys":{{"a":{0},"b":{0}}},"roles":[{{"name":"fw","keyids":["a","b"]}}]}}}}}}"#,
            key("00ff")
        );
        assert_eq!(reason(&delegated), Some(Reason::DuplicateSignature));
    }
}
