//! The terminal's clock. It may be wrong by decades; nothing trusts it alone.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix ms; 0 for a clock before 1970.
pub fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Unix s.
pub fn unix_s() -> i64 {
    unix_ms() / 1000
}
