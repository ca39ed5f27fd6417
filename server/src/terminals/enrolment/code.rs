//! Activation codes: short enough to type, random enough to keep only their hash. Pure, but for the random source.

use std::fmt;

/// Letters and digits that cannot be mistaken for each other (Crockford's base 32).
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters of a code: 100 random bits.
const LENGTH: usize = 20;
/// Characters between dashes.
const GROUP: usize = 4;

/// A one-time code.
#[derive(Clone, PartialEq, Eq)]
pub struct ActivationCode([u8; LENGTH]);

impl ActivationCode {
    /// A new one.
    pub fn random() -> Self {
        Self(rand::random::<[u8; LENGTH]>().map(|byte| ALPHABET[usize::from(byte % 32)]))
    }

    /// What a person typed: in any case, with or without dashes, O for 0 and I or L for 1.
    pub fn parse(text: &str) -> Option<Self> {
        let mut code = [0; LENGTH];
        let mut length = 0;
        for byte in text.bytes().filter(|byte| !matches!(byte, b'-' | b' ')) {
            let byte = match byte.to_ascii_uppercase() {
                b'O' => b'0',
                b'I' | b'L' => b'1',
                other => other,
            };
            if !ALPHABET.contains(&byte) {
                return None;
            }
            *code.get_mut(length)? = byte;
            length += 1;
        }
        (length == LENGTH).then_some(Self(code))
    }

    /// What is kept of it.
    pub fn hash(&self) -> String {
        hex::encode(tillward_protocol::crypto::sha256(&self.0))
    }
}

impl fmt::Display for ActivationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, group) in self.0.chunks(GROUP).enumerate() {
            if index > 0 {
                f.write_str("-")?;
            }
            f.write_str(&String::from_utf8_lossy(group))?;
        }
        Ok(())
    }
}

impl fmt::Debug for ActivationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ActivationCode(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_understood_as_people_type_it() {
        let code = ActivationCode::parse("0123-4567-89AB-CDEF-GHJK").unwrap();
        for typed in ["0123456789abcdefghjk", "O123 4567 89AB CDEF GHJK", "oI23-4567-89ab-cdef-ghjk"] {
            assert_eq!(ActivationCode::parse(typed).as_ref(), Some(&code), "{typed}");
        }
        for wrong in ["", "0123", "0123-4567-89AB-CDEF-GHJKM", "0123-4567-89AB-CDEF-GHJU", "0123-4567-89AB-CDEF-GHJ錢"]
        {
            assert_eq!(ActivationCode::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_new_code_is_shown_in_groups_and_parses_back() {
        let code = ActivationCode::random();
        let shown = code.to_string();
        assert_eq!(shown.len(), 24);
        assert_eq!(ActivationCode::parse(&shown), Some(code.clone()));
        assert_ne!(code, ActivationCode::random());
        assert!(!format!("{code:?}").contains(&shown));
    }
}
