//! The rules for failures to get a connection: R4, R4a and R4b. Pure.

use tillward_protocol::condition::{Access, Registration};
use tillward_protocol::failure::Stage;

use super::event::{failed, lately};
use super::facts::EventFacts;
use super::rows::Tables;
use super::seen;
use super::verdict::{Cause, Family, Judgement, Reason, Rule, Severity, Verdict};

/// How the terminal reached the network, as far as the rules tell it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Cellular,
    Wifi,
    Wired,
    Unknown,
}

fn link(facts: &EventFacts) -> Link {
    let condition = &facts.condition;
    match condition.access {
        Some(Access::FiveG | Access::FourG | Access::ThreeG | Access::TwoG) => Link::Cellular,
        Some(Access::Wifi) => Link::Wifi,
        Some(Access::Ethernet | Access::BluetoothPhone) => Link::Wired,
        // Only a mobile network has these.
        None if condition.rsrp_dbm.is_some() || condition.sinr_db.is_some() => Link::Cellular,
        None => Link::Unknown,
    }
}

/// The stage, when it failed before anything was sent or while sending, and no host answered.
fn connecting(facts: &EventFacts) -> Option<Stage> {
    facts
        .stage
        .filter(|stage| matches!(stage, Stage::Dns | Stage::Tcp | Stage::Tls | Stage::Send))
        .filter(|_| facts.response_code.is_none())
}

/// R4: no connection, and the link was bad.
pub(super) fn weak_link(facts: &EventFacts, tables: &Tables, judgement: &mut Judgement) -> Option<Verdict> {
    let stage = connecting(facts)?;
    let (condition, limits, link) = (&facts.condition, &tables.thresholds, link(facts));
    let mut reasons = Vec::new();
    let mut below = |field: &str, value: Option<i32>, limit: i64, weight: f64| match value {
        None => judgement.lacks(Rule::R4, field),
        Some(value) if i64::from(value) < limit => {
            reasons.push(seen(Rule::R4, field, value, format!("≥ {limit}"), weight));
        }
        Some(_) => {}
    };
    match link {
        Link::Cellular => {
            below("rsrp_dbm", condition.rsrp_dbm, limits.weak_rsrp_dbm, 1.0);
            below("sinr_db", condition.sinr_db, limits.weak_sinr_db, 0.8);
            match condition.registration {
                None => judgement.lacks(Rule::R4, "registration"),
                Some(Registration::Ok) => {}
                Some(state) => {
                    let state = format!("{state:?}").to_lowercase();
                    reasons.push(seen(Rule::R4, "registration", state, "ok", 1.0));
                }
            }
        }
        Link::Wifi => below("rssi_dbm", condition.rssi_dbm, limits.weak_wifi_rssi_dbm, 1.0),
        Link::Wired => {}
        Link::Unknown => judgement.lacks(Rule::R4, "access"),
    }
    match facts.reconnects_10min {
        None => judgement.lacks(Rule::R4, "reconnects_10min"),
        Some(n) if i64::from(n) >= limits.reconnects_min => {
            reasons.push(seen(Rule::R4, "reconnects_10min", n, format!("< {}", limits.reconnects_min), 0.7));
        }
        Some(_) => {}
    }
    if reasons.is_empty() {
        return None;
    }
    reasons.push(seen(Rule::R4, "stage", stage.as_str(), "dns, tcp, tls, send", 0.5));
    let cause = match link {
        Link::Cellular => Cause::NetSignal,
        Link::Wifi => Cause::NetWifi,
        // A cable has no signal; it loses what it carries.
        Link::Wired | Link::Unknown => Cause::NetUplinkLoss,
    };
    Some(failed(Rule::R4, cause, 0.9, Severity::Low, reasons))
}

/// The reasons why the radio is good; `None` when it is not, or not known to be.
fn good_radio(facts: &EventFacts, tables: &Tables, judgement: &mut Judgement) -> Option<Vec<Reason>> {
    let (condition, limits) = (&facts.condition, &tables.thresholds);
    let mut above = |field: &str, value: Option<i32>, limit: i64| match value {
        None => {
            judgement.lacks(Rule::R4a, field);
            None
        }
        Some(value) if i64::from(value) > limit => Some(seen(Rule::R4a, field, value, format!("> {limit}"), 0.5)),
        Some(_) => None,
    };
    match link(facts) {
        Link::Cellular => {
            let rsrp = above("rsrp_dbm", condition.rsrp_dbm, limits.good_rsrp_dbm);
            let sinr = above("sinr_db", condition.sinr_db, limits.good_sinr_db);
            Some(vec![rsrp?, sinr?])
        }
        Link::Wifi => Some(vec![above("rssi_dbm", condition.rssi_dbm, limits.good_wifi_rssi_dbm)?]),
        Link::Wired => Some(vec![seen(Rule::R4a, "access", "cable", "no radio", 0.3)]),
        Link::Unknown => {
            judgement.lacks(Rule::R4a, "access");
            None
        }
    }
}

/// R4a: no connection over a good link.
pub(super) fn good_link(facts: &EventFacts, tables: &Tables, judgement: &mut Judgement) -> Option<Verdict> {
    let stage = connecting(facts)?;
    let mut reasons = good_radio(facts, tables, judgement)?;
    let limits = &tables.thresholds;
    let (cause, why) =
        if let Some(found) = (stage == Stage::Tls).then(|| trust(facts, limits.clock_offset_s, judgement)).flatten() {
            found
        } else if let Some(found) = without_data(facts, judgement) {
            found
        } else {
            let at = seen(Rule::R4a, "stage", stage.as_str(), "dns, tls", 1.0);
            match (stage, facts.all_hosts_unreachable) {
                (Stage::Dns, _) => (Cause::NetDns, at),
                (Stage::Tls, _) => (Cause::NetTls, at),
                (_, Some(true)) => (Cause::NetUplinkLoss, seen(Rule::R4a, "all_hosts_unreachable", true, false, 1.0)),
                (_, Some(false)) => return None,
                (_, None) => {
                    judgement.lacks(Rule::R4a, "all_hosts_unreachable");
                    return None;
                }
            }
        };
    reasons.insert(0, why);
    let severity = match cause {
        Cause::UpgCert | Cause::NetSimSuspended => Severity::High,
        Cause::DevClock => Severity::Medium,
        _ => Severity::Low,
    };
    Some(failed(Rule::R4a, cause, 0.85, severity, reasons))
}

/// What makes certificates fail: a wrong clock, or their end.
fn trust(facts: &EventFacts, clock_offset_s: i64, judgement: &mut Judgement) -> Option<(Cause, Reason)> {
    match facts.condition.clock_offset_ms {
        None => judgement.lacks(Rule::R4a, "clock_offset_ms"),
        Some(ms) if ms.unsigned_abs() > clock_offset_s.unsigned_abs().saturating_mul(1000) => {
            let limit = format!("≤ {clock_offset_s}");
            return Some((Cause::DevClock, seen(Rule::R4a, "clock_offset_s", ms / 1000, limit, 1.0)));
        }
        Some(_) => {}
    }
    match facts.certificate_expired_ms {
        None => judgement.lacks(Rule::R4a, "certificate_expires_ms"),
        Some(ms) if ms > 0 => {
            return Some((Cause::UpgCert, seen(Rule::R4a, "certificate_expired_s", ms / 1000, "≤ 0", 1.0)));
        }
        Some(_) => {}
    }
    None
}

/// Registered with the network, and yet no data: the card's contract.
fn without_data(facts: &EventFacts, judgement: &mut Judgement) -> Option<(Cause, Reason)> {
    if link(facts) != Link::Cellular {
        return None;
    }
    match (facts.month_bytes, facts.quota_bytes) {
        (Some(used), Some(quota)) if used >= quota => {
            let why = seen(Rule::R4a, "month_bytes", used, format!("< {quota}"), 1.0);
            return Some((Cause::NetSimSuspended, why));
        }
        (Some(_), Some(_)) => {}
        (None, _) => judgement.lacks(Rule::R4a, "month_bytes"),
        (_, None) => judgement.lacks(Rule::R4a, "quota_bytes"),
    }
    if facts.condition.registration != Some(Registration::Ok) {
        if facts.condition.registration.is_none() {
            judgement.lacks(Rule::R4a, "registration");
        }
        return None;
    }
    if facts.condition.apn_ok == Some(false) {
        return Some((Cause::NetSimSuspended, seen(Rule::R4a, "apn_ok", false, true, 1.0)));
    }
    (facts.all_hosts_unreachable == Some(true))
        .then(|| (Cause::NetSimSuspended, seen(Rule::R4a, "all_hosts_unreachable", true, false, 1.0)))
}

/// R4b: another SIM card, or the card in another modem, lies behind a failure of the mobile link.
pub(super) fn annotate(facts: &EventFacts, tables: &Tables, judgement: &mut Judgement) {
    let is_mobile = link(facts) == Link::Cellular;
    let is_link_failure = judgement.matches().any(|v| matches!(v.rule, Rule::R4 | Rule::R4a));
    if !is_mobile || !is_link_failure {
        return;
    }
    let limit_s = tables.thresholds.sim_swap_s;
    let mut reasons = Vec::new();
    for (field, missing, changed) in
        [("iccid_changed_s", "iccid", facts.iccid_changed), ("imei_changed_s", "imei", facts.imei_changed)]
    {
        match changed {
            None => judgement.lacks(Rule::R4b, missing),
            Some(changed) => {
                if let Some(s) = lately(changed, limit_s) {
                    reasons.push(seen(Rule::R4b, field, s, format!("> {limit_s}"), 0.9));
                }
            }
        }
    }
    if reasons.is_empty() {
        return;
    }
    for verdict in judgement.verdict.iter_mut().chain(&mut judgement.alternatives) {
        let is_net = verdict.cause.family() == Family::Net;
        if is_net && matches!(verdict.rule, Rule::R4 | Rule::R4a) {
            verdict.root = Some(Cause::OprSimSwap);
            verdict.reasons.extend(reasons.iter().cloned());
        }
    }
}
