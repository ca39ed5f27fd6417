//! Terminals that something befell call in every five minutes for an hour, so that its end is seen soon. Only on WiFi or
//! cable: on a SIM card it would use up the month's data.

use tillward_protocol::condition::Access;

use super::store;
use crate::clock::Now;
use crate::db::{self, Conn};

/// How long it lasts, ms.
pub const BOOST_MS: i64 = 3_600_000;
/// How often such a terminal calls in, s.
pub const BOOSTED_INTERVAL_S: u32 = 300;
/// Accesses on which it is done.
pub(super) const ACCESSES: [&str; 2] = ["wifi", "eth"];
/// Terminals that one finding asks at most.
const TERMINALS_MAX: usize = 500;

/// Begins it for those of these terminals that are on WiFi or cable; returns for how many. It ends by itself.
///
/// # Errors
/// [`db::Error`].
pub(super) fn begin(conn: &mut Conn, terminal_ids: &[i64], now: Now) -> Result<usize, db::Error> {
    let mut ids: Vec<i64> = terminal_ids.iter().copied().take(TERMINALS_MAX).collect();
    ids.sort_unstable();
    ids.dedup();
    let boosted = store::boost(conn, &ids, now.0.saturating_add(BOOST_MS))?;
    metrics::counter!("tillward_terminals_boosted_total").increment(u64::try_from(boosted).unwrap_or(0));
    Ok(boosted)
}

/// The interval of a terminal that is asked until `poll_until_ms` and calls over `access` now, s.
pub fn interval_s(normal_s: u32, poll_until_ms: Option<i64>, access: Option<Access>, now: Now) -> u32 {
    let is_asked = poll_until_ms.is_some_and(|until_ms| now.0 < until_ms && until_ms - now.0 <= BOOST_MS);
    let is_free = access.is_some_and(|access| ACCESSES.contains(&access.as_str()));
    if is_asked && is_free { normal_s.min(BOOSTED_INTERVAL_S) } else { normal_s }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_by_itself_and_is_for_wifi_and_cable_only() {
        let until = Some(1_000 + BOOST_MS);
        for (now_ms, access, expected) in [
            (1_000, Some(Access::Wifi), 300),
            (1_000, Some(Access::Ethernet), 300),
            (1_000, Some(Access::FourG), 900),
            (1_000, Some(Access::BluetoothPhone), 900),
            (1_000, None, 900),
            (1_000 + BOOST_MS - 1, Some(Access::Wifi), 300),
            (1_000 + BOOST_MS, Some(Access::Wifi), 900),
            // A clock that went back does not make it last for ever.
            (0, Some(Access::Wifi), 900),
        ] {
            assert_eq!(interval_s(900, until, access, Now(now_ms)), expected, "{now_ms} {access:?}");
        }
        assert_eq!(interval_s(900, None, Some(Access::Wifi), Now(0)), 900);
        assert_eq!(interval_s(60, until, Some(Access::Wifi), Now(1_000)), 60, "never slower");
    }
}
