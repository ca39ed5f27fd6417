//! Identifiers and counters: parsed once, then valid.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::FieldError;

/// The server's own number for one terminal. Stable for the terminal's life; part of its director address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct TerminalId(pub i64);

impl fmt::Display for TerminalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which run of sequence numbers a report belongs to. Grows at every enrolment and when the agent lost its spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct Stream(pub u32);

/// Number of a report within its stream; the first is 1. The pair `(stream, seq)` only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct Seq(pub u32);

macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident, $length:expr, $what:expr, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = FieldError;
            fn from_str(text: &str) -> Result<Self, FieldError> {
                let allowed: fn(u8) -> bool = $allowed;
                if !$length.contains(&text.len()) || !text.bytes().all(allowed) {
                    return Err(FieldError::new(stringify!($name), $what));
                }
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = FieldError;
            fn try_from(text: String) -> Result<Self, FieldError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_newtype!(
    /// Serial number as printed on the terminal: 1–50 letters and digits. Text always: leading zeros count.
    Sn, 1..=50, "must be 1 to 50 letters or digits", |b| b.is_ascii_alphanumeric()
);
text_newtype!(
    /// A firmware, application or agent version such as `4.2.0` or `1.2.3-7`.
    Version, 1..=32, "must be 1 to 32 characters of letters, digits, `.`, `-`, `_` or `+`",
    |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+')
);
text_newtype!(
    /// `vendor-model`, for example `pax-a920`: lower case, no `.` (it prefixes target names).
    ModelCode, 3..=40, "must be 3 to 40 characters of lower-case letters, digits or `-`",
    |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'
);
text_newtype!(
    /// Flat name of a signed file, for example `pax-a920.os.1.2.3-7.bin`. Never contains a path separator.
    TargetName, 1..=128, "must be 1 to 128 characters of lower-case letters, digits, `.`, `_` or `-`",
    |b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-')
);
text_newtype!(
    /// SHA-256 in 64 lower-case hex digits; a config hash is one of the profile's canonical bytes.
    Sha256Hex, 64..=64, "must be 64 lower-case hex digits", |b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)
);

impl Sha256Hex {
    /// Digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(hex::encode(crate::crypto::sha256(bytes)))
    }

    /// From the 32 raw bytes.
    pub fn from_bytes(digest: [u8; 32]) -> Self {
        Self(hex::encode(digest))
    }
}
