//! What in a check-in an update could have caused: crashes, and payments that failed for a cause the terminal can have.

use tillward_protocol::checkin::{BootReason, CheckIn};
use tillward_protocol::failure::Stage;
use tillward_protocol::ids::TerminalId;

use crate::clock::Now;
use crate::rollouts::TerminalFailure;
use crate::rollouts::gate::Class;

/// Oldest event whose moment is believed, ms before the check-in (31 d): beyond, the terminal's clock jumped.
const AGE_MS_MAX: i64 = 31 * 24 * 3600 * 1000;

/// The failures of one check-in that a gate may weigh.
pub(super) fn of(check_in: &CheckIn, terminal: TerminalId, now: Now) -> Vec<TerminalFailure> {
    let crash = match (check_in.terminal.boot_reason, check_in.terminal.uptime_s) {
        (Some(BootReason::Watchdog | BootReason::Panic), Some(uptime_s)) => Some(TerminalFailure {
            terminal_id: terminal.0,
            class: Class::Hard,
            event: format!("boot:{}", check_in.boot_id),
            at_ms: now.0.saturating_sub(i64::from(uptime_s).saturating_mul(1000)),
        }),
        // Without its time a start cannot be told from one that was there before.
        (
            Some(
                BootReason::PowerOn
                | BootReason::User
                | BootReason::Ota
                | BootReason::Watchdog
                | BootReason::Panic
                | BootReason::LowBattery
                | BootReason::Tamper,
            )
            | None,
            _,
        ) => None,
    };
    let payments = check_in.failures.iter().filter(|failure| is_the_terminals(failure.stage)).map(|failure| {
        // Both moments are the terminal's own; their difference is true even where its clock is not.
        let age_ms = check_in.at_ms.saturating_sub(failure.occurred_at_ms).clamp(0, AGE_MS_MAX);
        TerminalFailure {
            terminal_id: terminal.0,
            class: Class::Payment,
            event: format!("failure:{}", failure.id),
            at_ms: now.0.saturating_sub(age_ms),
        }
    });
    crash.into_iter().chain(payments).collect()
}

/// Whether the terminal itself, its software or its network can be the cause: not what the person at the counter did, and
/// not what the host or the bank answered.
fn is_the_terminals(stage: Stage) -> bool {
    match stage {
        Stage::CardRead
        | Stage::Pack
        | Stage::Dns
        | Stage::Tcp
        | Stage::Tls
        | Stage::Send
        | Stage::Wait
        | Stage::MacVerify
        | Stage::Esign
        | Stage::Upload => true,
        Stage::Pin | Stage::HostResp => false,
    }
}
