//! The part of TOML that the configuration file uses: tables, strings, numbers, booleans and lists of them.
//!
//! A whole TOML library would be a twentieth of the program. What is not known here is refused by its line.

use serde_json::{Map, Value};

/// Reads a document.
///
/// # Errors
/// One sentence with the line.
pub fn parse(text: &str) -> Result<Value, String> {
    let mut root = Map::new();
    let mut table: Option<String> = None;
    for (index, line) in text.lines().enumerate() {
        let at = |problem: String| format!("line {}: {problem}", index + 1);
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            let (name, rest) = rest.split_once(']').ok_or_else(|| at("a table's name ends with ]".to_owned()))?;
            end(rest).and_then(|()| key(name)).map_err(at)?;
            if root.contains_key(name) {
                return Err(at(format!("the table {name} appears twice")));
            }
            root.insert(name.to_owned(), Value::Object(Map::new()));
            table = Some(name.to_owned());
            continue;
        }
        let (name, rest) = line.split_once('=').ok_or_else(|| at("must be `name = value`".to_owned()))?;
        let name = name.trim();
        let (value, rest) = value(rest.trim_start()).map_err(at)?;
        end(rest).and_then(|()| key(name)).map_err(at)?;
        let fields = match &table {
            Some(table) => root.get_mut(table).and_then(Value::as_object_mut),
            None => Some(&mut root),
        };
        if fields.is_some_and(|fields| fields.insert(name.to_owned(), value).is_some()) {
            return Err(at(format!("{name} appears twice")));
        }
    }
    Ok(Value::Object(root))
}

fn key(name: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if name.is_empty() || !name.bytes().all(plain) { Err(format!("{name:?} is not a plain name")) } else { Ok(()) }
}

fn end(rest: &str) -> Result<(), String> {
    let rest = rest.trim_start();
    if rest.is_empty() || rest.starts_with('#') { Ok(()) } else { Err(format!("{rest:?} is one thing too many")) }
}

/// A value at the start of `text`, and what follows it.
fn value(text: &str) -> Result<(Value, &str), String> {
    match text.bytes().next() {
        Some(b'"') => string(text),
        Some(b'\'') => {
            let rest = text.get(1..).unwrap_or_default();
            let (inside, rest) = rest.split_once('\'').ok_or("a string ends with '")?;
            Ok((inside.into(), rest))
        }
        Some(b'[') => list(text),
        _ => plain(text),
    }
}

/// A basic string; its escapes are those of JSON.
fn string(text: &str) -> Result<(Value, &str), String> {
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => {
                let (whole, rest) = text.split_at(index + 1);
                return Ok((serde_json::from_str(whole).map_err(|error| error.to_string())?, rest));
            }
            _ => {}
        }
    }
    Err("a string ends with \"".to_owned())
}

fn list(text: &str) -> Result<(Value, &str), String> {
    let mut items = Vec::new();
    let mut rest = text.get(1..).unwrap_or_default().trim_start();
    loop {
        if let Some(rest) = rest.strip_prefix(']') {
            return Ok((Value::Array(items), rest));
        }
        if rest.starts_with('[') {
            return Err("a list holds no lists".to_owned());
        }
        let (item, after) = value(rest)?;
        items.push(item);
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None if rest.starts_with(']') => {}
            None => return Err("a list ends with ] on the same line".to_owned()),
        }
    }
}

/// A number or a boolean.
fn plain(text: &str) -> Result<(Value, &str), String> {
    let length = text.find([' ', '\t', ',', ']', '#']).unwrap_or(text.len());
    let (word, rest) = text.split_at(length);
    let number = word.replace('_', "");
    let value = match word {
        "true" => true.into(),
        "false" => false.into(),
        _ => match (number.parse::<i64>(), number.parse::<f64>()) {
            (Ok(number), _) => number.into(),
            (Err(_), Ok(number)) if number.is_finite() => number.into(),
            _ => return Err(format!("{word:?} is neither a number nor true, false, a string or a list")),
        },
    };
    Ok((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_configuration_uses_is_read_as_toml_says() {
        let text =
            "# a\nname = \"x\\\"#\" # b\nlist = ['a\\b', \"c\",]\n\n[t-1]\nn = 4_096\nf = 0.5\nyes = true\nnone = []\n";
        let expected = json!({
            "name": "x\"#", "list": ["a\\b", "c"], "t-1": {"n": 4096, "f": 0.5, "yes": true, "none": []},
        });
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn anything_else_is_refused_by_its_line() {
        let bad = [
            "x",
            "x =",
            "= 1",
            "x = 1 2",
            "x = \"a",
            "x = 'a",
            "x = [1",
            "x = [1 2]",
            "x = [[1]]",
            "x = nan",
            "a.b = 1",
            "[a.b]",
            "[[a]]",
            "[a",
            "x = 1\nx = 2",
            "[a]\n[a]",
            "x = {a = 1}",
            "x = 2026-01-01",
            "x = \"\"\"a\"\"\"",
        ];
        for text in bad {
            let problem = parse(text).unwrap_err();
            assert!(problem.starts_with("line "), "{text}: {problem}");
        }
        assert!(parse("a = 1\n\nb").unwrap_err().starts_with("line 3"));
    }
}
