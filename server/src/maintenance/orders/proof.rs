//! Whether a check-in shows that the work of an order is done. Pure.
//!
//! Each kind of work and each reason names the signals that must be healthy. A signal that a check-in does not say is
//! waited for; one that shows the fault refutes the work at once. Counters since the report before may hold what happened
//! before the work, so they count from the second check-in after it.

use serde::{Deserialize, Serialize};
use tillward_protocol::checkin::{CheckIn, Printer, Tamper};
use tillward_protocol::condition::Access;

use super::kind::Kind;
use crate::maintenance::due::Rules;
use crate::maintenance::reason::Reason;
use crate::maintenance::window;

const DAY_MS: i64 = 86_400_000;

/// Something that a check-in says of the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ProofSignal)]
pub enum Signal {
    /// It called at all.
    Call,
    /// Tamper protection.
    Tamper,
    /// Printer.
    Printer,
    /// Card reader: errors among readings since the report before.
    Reader,
    /// Battery, percent.
    Battery,
    /// Coin cell, mV.
    CoinCell,
    /// Earliest expiry of a certificate, Unix ms.
    Certificate,
    /// SIM card.
    Sim,
    /// Mobile network.
    Network,
    /// Signed in at the acquirer.
    SignedIn,
    /// Firmware version.
    Firmware,
    /// A payment went through.
    Payment,
}

impl Signal {
    /// Every signal.
    pub const ALL: [Self; 12] = [
        Self::Call,
        Self::Tamper,
        Self::Printer,
        Self::Reader,
        Self::Battery,
        Self::CoinCell,
        Self::Certificate,
        Self::Sim,
        Self::Network,
        Self::SignedIn,
        Self::Firmware,
        Self::Payment,
    ];

    /// Name in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Tamper => "tamper",
            Self::Printer => "printer",
            Self::Reader => "reader",
            Self::Battery => "battery",
            Self::CoinCell => "coin_cell",
            Self::Certificate => "certificate",
            Self::Sim => "sim",
            Self::Network => "network",
            Self::SignedIn => "signed_in",
            Self::Firmware => "firmware",
            Self::Payment => "payment",
        }
    }
}

/// What the terminal had said when the work was said to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// Its check-ins until then.
    pub check_ins: i64,
    /// Its SIM card, if it had said.
    pub iccid: Option<String>,
}

/// What shall be proven.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Kind of work.
    pub kind: Kind,
    /// What it was opened for.
    pub reason: Option<Reason>,
    /// The firmware that must run, if that is asked.
    pub firmware: Option<&'a str>,
    /// How it was before.
    pub baseline: &'a Baseline,
}

/// One signal of a check-in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ProofCheck)]
pub struct Check {
    /// Which.
    pub signal: Signal,
    /// What it showed; empty when it was not said.
    pub observed: String,
    /// Whether that is healthy; absent when it was not said.
    pub healthy: Option<bool>,
}

/// What a check-in means for the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It does not say enough: the next one may.
    Unclear(Vec<Check>),
    /// The work is done.
    Healthy(Vec<Check>),
    /// It is not.
    Faulty(Vec<Check>),
}

/// Judges the `check_ins`th check-in of the terminal, received at `now_ms`.
pub fn judge(wanted: Wanted<'_>, check_in: &CheckIn, check_ins: i64, rules: &Rules, now_ms: i64) -> Verdict {
    let mut checks = vec![Check { signal: Signal::Call, observed: String::new(), healthy: Some(true) }];
    let mut is_missing = false;
    for (signal, is_needed) in needed(wanted) {
        match seen(signal, wanted, check_in, check_ins, rules, now_ms) {
            Some((observed, healthy)) => checks.push(Check { signal, observed, healthy: Some(healthy) }),
            None if is_needed => {
                is_missing = true;
                checks.push(Check { signal, observed: String::new(), healthy: None });
            }
            None => {}
        }
    }
    if checks.iter().any(|check| check.healthy == Some(false)) {
        Verdict::Faulty(checks)
    } else if is_missing {
        Verdict::Unclear(checks)
    } else {
        Verdict::Healthy(checks)
    }
}

/// Signals that must be healthy, and whether the proof waits for them to be said.
fn needed(wanted: Wanted<'_>) -> Vec<(Signal, bool)> {
    let mut signals = match wanted.kind {
        Kind::Inspection | Kind::ReplaceTerminal => vec![(Signal::Tamper, false)],
        Kind::Repair => vec![(Signal::Tamper, false), (Signal::Printer, false), (Signal::Reader, false)],
        Kind::ReplaceSim => vec![(Signal::Sim, true), (Signal::Network, true)],
        Kind::SignIn => vec![(Signal::SignedIn, true)],
        Kind::TeachOperator => vec![(Signal::Payment, true)],
    };
    let own = match wanted.reason {
        Some(Reason::Tamper) => Some(Signal::Tamper),
        Some(Reason::Reader) => Some(Signal::Reader),
        Some(Reason::Printer) => Some(Signal::Printer),
        Some(Reason::Battery) => Some(Signal::Battery),
        Some(Reason::CoinCell) => Some(Signal::CoinCell),
        Some(Reason::Certificate) => Some(Signal::Certificate),
        // The call itself is the proof, or the new card is.
        Some(Reason::Moved | Reason::Sim | Reason::Dormant | Reason::Age) | None => None,
    };
    // Another terminal has other parts: what was wrong with the old one is not asked of it.
    for signal in own
        .filter(|_| wanted.kind != Kind::ReplaceTerminal)
        .into_iter()
        .chain(wanted.firmware.map(|_| Signal::Firmware))
    {
        signals.retain(|(known, _)| *known != signal);
        signals.push((signal, true));
    }
    // Where nothing names what was broken, a call proves nothing: it called before.
    if wanted.kind == Kind::Repair && wanted.reason.is_none() && wanted.firmware.is_none() {
        signals.push((Signal::Payment, true));
    }
    signals
}

/// What the check-in says of a signal, and whether that is healthy; none when it does not say.
fn seen(
    signal: Signal,
    wanted: Wanted<'_>,
    check_in: &CheckIn,
    check_ins: i64,
    rules: &Rules,
    now_ms: i64,
) -> Option<(String, bool)> {
    let device = &check_in.device;
    let counts_from_after = check_ins >= wanted.baseline.check_ins.saturating_add(2);
    match signal {
        Signal::Call => Some((String::new(), true)),
        Signal::Tamper => device.tamper.map(|tamper| match tamper {
            Tamper::Ok => ("ok".to_owned(), true),
            Tamper::Triggered => ("triggered".to_owned(), false),
            Tamper::Mask => ("mask".to_owned(), false),
        }),
        Signal::Printer => device.printer.map(|printer| match printer {
            Printer::Ok => ("ok".to_owned(), true),
            Printer::PaperLow => ("paper_low".to_owned(), true),
            Printer::Na => ("na".to_owned(), true),
            Printer::Out => ("out".to_owned(), false),
            Printer::Hot => ("hot".to_owned(), false),
        }),
        Signal::Reader => {
            let (tries, errors) =
                window::reader_errors(check_in).filter(|(tries, _)| *tries > 0 && counts_from_after)?;
            let is_good = u64::from(errors) * 100 <= u64::from(tries) * u64::from(rules.error_percent);
            Some((format!("{errors}/{tries}"), is_good))
        }
        Signal::Battery => {
            let percent = device.battery_percent?;
            Some((percent.to_string(), u32::from(percent) > rules.battery_percent_min))
        }
        Signal::CoinCell => device.coin_mv.map(|mv| (mv.to_string(), mv >= rules.coin_mv_min)),
        Signal::Certificate => {
            let expires_ms = device.certificate_expires_ms?;
            let left_ms = expires_ms.saturating_sub(now_ms);
            Some((expires_ms.to_string(), left_ms > i64::from(rules.expiry_days[0]) * DAY_MS))
        }
        Signal::Sim => {
            let iccid = device.iccid.as_deref()?;
            // Its number is nobody's to read here; that it is another one is what counts.
            let tail: String = iccid.chars().skip(iccid.chars().count().saturating_sub(4)).collect();
            Some((tail, wanted.baseline.iccid.as_deref() != Some(iccid)))
        }
        Signal::Network => check_in.condition.access.map(|access| match access {
            Access::FiveG | Access::FourG | Access::ThreeG | Access::TwoG => (access.as_str().to_owned(), true),
            Access::Wifi | Access::Ethernet | Access::BluetoothPhone => (access.as_str().to_owned(), false),
        }),
        Signal::SignedIn => check_in.terminal.signed_in.map(|is_signed_in| (is_signed_in.to_string(), is_signed_in)),
        Signal::Firmware => {
            let firmware = check_in.software.firmware.as_str();
            Some((firmware.to_owned(), wanted.firmware == Some(firmware)))
        }
        Signal::Payment => {
            let ok = check_in.transactions.ok;
            (ok > 0 && counts_from_after).then(|| (ok.to_string(), true))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn check_in(parts: Value) -> CheckIn {
        let mut body = json!({
            "v": 1, "stream": 1, "seq": 1, "at_ms": 1, "boot_id": "b",
            "software": {"firmware": "4.2.0", "slot": "a", "agent": "0.1.0"},
        });
        for (name, part) in parts.as_object().unwrap() {
            body[name] = part.clone();
        }
        serde_json::from_value(body).unwrap()
    }

    fn baseline() -> Baseline {
        Baseline { check_ins: 10, iccid: Some("89860000000000000001".to_owned()) }
    }

    /// `h`ealthy, `f`aulty or `u`nclear, of the second check-in after the work.
    fn outcome(kind: Kind, reason: Option<Reason>, parts: Value) -> char {
        outcome_of(kind, reason, parts, 12)
    }

    fn outcome_of(kind: Kind, reason: Option<Reason>, parts: Value, check_ins: i64) -> char {
        let wanted = Wanted { kind, reason, firmware: None, baseline: &baseline() };
        match judge(wanted, &check_in(parts), check_ins, &Rules::default(), NOW) {
            Verdict::Healthy(_) => 'h',
            Verdict::Faulty(_) => 'f',
            Verdict::Unclear(_) => 'u',
        }
    }

    #[test]
    fn an_inspection_is_proven_by_a_call_that_shows_no_tampering() {
        assert_eq!(outcome(Kind::Inspection, None, json!({})), 'h');
        assert_eq!(outcome(Kind::Inspection, Some(Reason::Age), json!({"device": {"tamper": "ok"}})), 'h');
        assert_eq!(outcome(Kind::Inspection, None, json!({"device": {"tamper": "mask"}})), 'f');
        // Opened for tampering, it waits until the terminal says.
        assert_eq!(outcome(Kind::Inspection, Some(Reason::Tamper), json!({})), 'u');
        assert_eq!(outcome(Kind::Inspection, Some(Reason::Tamper), json!({"device": {"tamper": "ok"}})), 'h');
    }

    #[test]
    fn a_repair_is_proven_by_the_part_that_was_broken() {
        let printer = |state: &str| outcome(Kind::Repair, Some(Reason::Printer), json!({"device": {"printer": state}}));
        assert_eq!(["ok", "paper_low", "out", "hot"].map(printer), ['h', 'h', 'f', 'f']);
        let coin = |mv: u32| outcome(Kind::Repair, Some(Reason::CoinCell), json!({"device": {"coin_mv": mv}}));
        assert_eq!([2_700, 2_699].map(coin), ['h', 'f']);
        let battery = |percent: u32| {
            outcome(Kind::Repair, Some(Reason::Battery), json!({"device": {"battery_percent": percent}}))
        };
        assert_eq!([16, 15].map(battery), ['h', 'f']);
        let expires = |days: i64| {
            let device = json!({"device": {"certificate_expires_ms": NOW + days * DAY_MS}});
            outcome(Kind::Repair, Some(Reason::Certificate), device)
        };
        assert_eq!([91, 90].map(expires), ['h', 'f']);
        assert_eq!(outcome(Kind::Repair, Some(Reason::Printer), json!({"device": {"battery_percent": 50}})), 'u');
        assert_eq!(
            outcome(Kind::Repair, None, json!({"device": {"printer": "out"}})),
            'f',
            "another fault is one, too"
        );
    }

    #[test]
    fn a_repair_of_nobody_knows_what_is_proven_by_a_payment_and_never_by_a_call_alone() {
        let paid = json!({"transactions": {"ok": 3, "failed": 0}});
        assert_eq!(outcome(Kind::Repair, None, json!({})), 'u');
        assert_eq!(outcome(Kind::Repair, None, json!({"device": {"tamper": "ok", "printer": "ok"}})), 'u');
        assert_eq!(outcome(Kind::Repair, None, json!({"transactions": {"ok": 0, "failed": 3}})), 'u');
        assert_eq!(outcome_of(Kind::Repair, None, paid.clone(), 11), 'u', "it may be from before the work");
        assert_eq!(outcome(Kind::Repair, None, paid), 'h');
        let errs = json!({"transactions": {"ok": 3, "failed": 0}, "device": {"read_tries": 5, "icc_errors": 4}});
        assert_eq!(outcome(Kind::Repair, None, errs), 'f', "the reader fails still");
    }

    #[test]
    fn a_reader_is_judged_from_the_second_check_in_on() {
        let read = |errors: u32, check_ins| {
            let device = json!({"device": {"read_tries": 5, "icc_errors": errors}});
            outcome_of(Kind::Repair, Some(Reason::Reader), device, check_ins)
        };
        assert_eq!(read(5, 11), 'u', "errors from before the work are not held against it");
        assert_eq!(read(0, 11), 'u', "nor for it");
        assert_eq!((read(1, 12), read(2, 12)), ('h', 'f'));
        assert_eq!(outcome(Kind::Repair, Some(Reason::Reader), json!({"device": {"read_tries": 0}})), 'u');
    }

    #[test]
    fn a_new_card_is_another_card_on_a_mobile_network() {
        let card = |iccid: &str, access: &str| {
            let parts = json!({"device": {"iccid": iccid}, "condition": {"access": access}});
            outcome(Kind::ReplaceSim, Some(Reason::Sim), parts)
        };
        assert_eq!(card("89860000000000000002", "4g"), 'h');
        assert_eq!(card("89860000000000000001", "4g"), 'f', "the old card");
        assert_eq!(card("89860000000000000002", "wifi"), 'f', "no mobile network");
        assert_eq!(outcome(Kind::ReplaceSim, None, json!({"condition": {"access": "4g"}})), 'u');
        let wanted = Wanted { kind: Kind::ReplaceSim, reason: None, firmware: None, baseline: &baseline() };
        let parts = json!({"device": {"iccid": "89860000000000000002"}, "condition": {"access": "4g"}});
        let Verdict::Healthy(checks) = judge(wanted, &check_in(parts), 12, &Rules::default(), NOW) else { panic!() };
        assert_eq!(checks[1], Check { signal: Signal::Sim, observed: "0002".to_owned(), healthy: Some(true) });
    }

    #[test]
    fn signing_in_teaching_and_firmware_have_their_own_proof() {
        let signed = |is: bool| outcome(Kind::SignIn, None, json!({"terminal": {"signed_in": is}}));
        assert_eq!((signed(true), signed(false)), ('h', 'f'));
        assert_eq!(outcome(Kind::SignIn, None, json!({})), 'u');
        let paid = json!({"transactions": {"ok": 1, "failed": 3}});
        assert_eq!(outcome(Kind::TeachOperator, None, paid.clone()), 'h');
        assert_eq!(outcome_of(Kind::TeachOperator, None, paid, 11), 'u');
        assert_eq!(outcome(Kind::TeachOperator, None, json!({})), 'u');
        for (version, healthy) in [("4.2.0", true), ("4.2.1", false)] {
            let wanted = Wanted { kind: Kind::Repair, reason: None, firmware: Some(version), baseline: &baseline() };
            let verdict = judge(wanted, &check_in(json!({})), 11, &Rules::default(), NOW);
            assert_eq!(matches!(verdict, Verdict::Healthy(_)), healthy, "{version}");
        }
    }

    #[test]
    fn another_terminal_is_not_asked_for_the_old_ones_faults() {
        assert_eq!(outcome(Kind::ReplaceTerminal, Some(Reason::Reader), json!({})), 'h');
        assert_eq!(outcome(Kind::ReplaceTerminal, None, json!({"device": {"tamper": "triggered"}})), 'f');
    }
}
