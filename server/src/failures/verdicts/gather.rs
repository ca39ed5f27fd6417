//! What the rules want to know about a failure, gathered from the registry, the last check-in, updates, earlier failures
//! and cells. What was not reported, or is too old to be true of that moment, is not available.

use std::collections::{BTreeMap, HashMap};

use tillward_protocol::checkin::CheckIn;
use tillward_protocol::failure::{Failure, Stage};

use super::store::FailureIn;
use super::store::facts::{self as store, Earlier, Known};
use crate::db::{self, Conn};
use crate::failures::classify::{Boot, CardReadRun, EventFacts, Happened, OwnUpdate, ReaderCounts};
use crate::failures::incidents::{self, Incident, Kind};
use crate::operators::Scope;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// A report tells about moments this far from it: three of the shortest intervals.
const REPORT_TRUE_MS: i64 = 45 * MINUTE_MS;
/// Oldest moment that a terminal's clock is believed for, before the receipt: beyond, the clock jumped.
const SPOOLED_MS_MAX: i64 = 31 * DAY_MS;
/// How far back updates matter: the longest time limit of the rules is a day.
const UPDATES_MS: i64 = DAY_MS;
/// Earlier failures of one terminal that are looked at.
const EARLIER_MAX: i64 = 64;
/// Time zone where the registry names none: that of the whole mainland, minutes east of UTC.
const OFFSET_MIN_DEFAULT: i64 = 480;
/// Codes that point at a merchant's binding when they gather there.
const MERCHANT_CODES: [&str; 2] = ["57", "58"];
/// Codes that are looked at for such a gathering.
const LOOKED_AT: [&str; 3] = ["40", "57", "58"];
/// As carriers here count data.
const BYTES_PER_MB: u64 = 1 << 20;
/// Incidents of the bank that one batch reads.
const OUTAGES_MAX: u32 = 50;

/// Fewest exposures of a carrier in an hour that say something about it.
pub const PEERS_EXPOSURES_MIN: i64 = 20;
/// A carrier is fine while at most so many of its exposures fail to get a connection, percent.
pub const PEERS_FAILED_PERCENT_MAX: i64 = 5;

/// Whether terminals of a carrier got through in the hour of a moment; `None` when too few tried to say.
///
/// # Errors
/// [`db::Error`].
pub fn peers_fine(conn: &mut Conn, carrier: &str, at_ms: i64) -> Result<Option<bool>, db::Error> {
    if carrier == "unknown" {
        return Ok(None);
    }
    let (exposures, failed) = store::carrier_hour(conn, carrier, at_ms - at_ms.rem_euclid(HOUR_MS))?;
    Ok((exposures >= PEERS_EXPOSURES_MIN).then(|| failed * 100 <= exposures * PEERS_FAILED_PERCENT_MAX))
}

/// A failure with its facts and what its verdict is stored with.
pub(super) struct Gathered {
    pub(super) failure: FailureIn,
    pub(super) facts: EventFacts,
    pub(super) sn: Option<String>,
    pub(super) merchant_no: Option<String>,
}

/// What one batch of failures shares.
struct Around {
    known: HashMap<i64, Known>,
    reports: HashMap<i64, CheckIn>,
    plans: HashMap<String, i64>,
    updates: Vec<(i64, i64, String)>,
    told_since: HashMap<i64, i64>,
    outages: Vec<Incident>,
    peers: BTreeMap<(String, i64), Option<bool>>,
}

/// One failure's place in time.
struct Moment {
    /// When it happened by the server's clock, as well as that is known.
    at_ms: i64,
    /// How far the terminal's last report is from it; `None` when there is none, or it is too far away.
    report_ms: Option<i64>,
    /// Whether that report came about when the failure did.
    is_fresh: bool,
}

/// Gathers the facts of some failures: some ten reads, and one or two for each terminal.
pub(super) fn gather(conn: &mut Conn, failures: Vec<FailureIn>) -> Result<Vec<Gathered>, db::Error> {
    let mut ids: Vec<i64> = failures.iter().map(|failure| failure.terminal_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let known = store::known(conn, &ids)?;
    let reports = known.iter().filter_map(|(id, known)| {
        let (_, _, report) = known.state.as_ref()?;
        Some((*id, serde_json::from_str::<CheckIn>(report).ok()?))
    });
    let received = || failures.iter().map(|failure| failure.received_at_ms);
    let (from_ms, to_ms) = (received().min().unwrap_or(0), received().max().unwrap_or(0));
    let reports: HashMap<i64, CheckIn> = reports.collect();
    let cards = known.values().filter_map(|known| known.iccid.as_deref()).chain(reports.values().filter_map(card));
    let mut cards: Vec<&str> = cards.collect();
    cards.sort_unstable();
    cards.dedup();
    let mut around = Around {
        plans: store::plans(conn, &cards)?,
        reports,
        known,
        updates: store::updates(conn, &ids, from_ms - SPOOLED_MS_MAX.min(UPDATES_MS), to_ms)?,
        told_since: store::told_since(conn, &ids)?,
        outages: outages(conn)?,
        peers: BTreeMap::new(),
    };
    let mut gathered = Vec::with_capacity(failures.len());
    for failure in failures {
        let facts = one(conn, &failure, &mut around)?;
        let known = around.known.get(&failure.terminal_id);
        gathered.push(Gathered {
            sn: known.map(|known| known.sn.clone()),
            merchant_no: known.and_then(|known| known.merchant_no.clone()),
            failure,
            facts,
        });
    }
    Ok(gathered)
}

/// Outages of the bank that were seen lately; whatever finds them opens incidents.
fn outages(conn: &mut Conn) -> Result<Vec<Incident>, db::Error> {
    let filter = incidents::Filter { kind: Some(Kind::BankOutage), ..incidents::Filter::default() };
    incidents::list(conn, &Scope::everything(), &filter, None, OUTAGES_MAX)
}

fn one(conn: &mut Conn, failure: &FailureIn, around: &mut Around) -> Result<EventFacts, db::Error> {
    let event: Option<Failure> = serde_json::from_str(&failure.event).ok();
    let mut facts = match &event {
        Some(event) => EventFacts::of(event),
        // Of another shape, as an import may leave it: the columns still say what they say.
        None => EventFacts {
            stage: Stage::ALL.into_iter().find(|stage| stage.as_str() == failure.stage),
            response_code: failure.response_code.clone(),
            ..EventFacts::default()
        },
    };
    let known = around.known.get(&failure.terminal_id);
    let moment = moment_of(failure, event.as_ref(), known);
    let offset_min = known.and_then(|known| known.utc_offset_min).unwrap_or(OFFSET_MIN_DEFAULT);
    facts.local_minute = u32::try_from((moment.at_ms / MINUTE_MS + offset_min).rem_euclid(24 * 60)).ok();
    facts.all_hosts_unreachable = facts.condition.loss_percent.map(|percent| percent >= 100);
    facts.own_update = own_update(event.as_ref(), failure, &around.updates, &moment);
    facts.bank_outage = Some(is_outage(&around.outages, &failure.org_path, moment.at_ms));
    if let (Some(known), Some(report)) = (known, around.reports.get(&failure.terminal_id)) {
        reported(&mut facts, known, report, &moment);
        facts.quota_bytes = quota(&around.plans, known, report);
    }
    if facts.stage == Some(Stage::Wait) && facts.response_code.is_none() {
        let key = (failure.carrier.clone(), moment.at_ms - moment.at_ms.rem_euclid(HOUR_MS));
        facts.peers_fine = match around.peers.get(&key) {
            Some(fine) => *fine,
            None => {
                let fine = peers_fine(conn, &failure.carrier, moment.at_ms)?;
                around.peers.insert(key, fine);
                fine
            }
        };
    }
    let told_since = around.told_since.get(&failure.terminal_id).copied();
    history(conn, &mut facts, failure, event.as_ref(), known, told_since, &moment)?;
    Ok(facts)
}

/// When it happened: by the terminal's clock, less its error where that is known, and never after the receipt.
fn moment_of(failure: &FailureIn, event: Option<&Failure>, known: Option<&Known>) -> Moment {
    let offset_ms = event.and_then(|event| event.condition.clock_offset_ms).unwrap_or(0);
    let claimed = failure.occurred_at_ms.saturating_sub(offset_ms);
    let is_possible = (failure.received_at_ms - SPOOLED_MS_MAX..=failure.received_at_ms).contains(&claimed);
    let at_ms = if is_possible { claimed } else { failure.received_at_ms };
    let seen_ms = known.and_then(|known| known.state.as_ref()).map(|(last_seen_ms, _, _)| *last_seen_ms);
    let report_ms = seen_ms.map(|seen_ms| seen_ms - at_ms).filter(|ms| ms.abs() <= REPORT_TRUE_MS);
    let is_fresh = seen_ms.is_some_and(|seen_ms| (seen_ms - failure.received_at_ms).abs() <= REPORT_TRUE_MS);
    Moment { at_ms, report_ms, is_fresh }
}

/// What the last report says about a moment close to it.
fn reported(facts: &mut EventFacts, known: &Known, report: &CheckIn, moment: &Moment) {
    let (terminal, device, network) = (&report.terminal, &report.device, &report.network);
    if moment.is_fresh {
        // Also true of an event that waited in the terminal: what was opened stays opened.
        facts.tamper = device.tamper;
        facts.ped_ok = device.ped_ok;
    }
    facts.certificate_expired_ms = device.certificate_expires_ms.map(|at_ms| moment.at_ms.saturating_sub(at_ms));
    let Some(report_ms) = moment.report_ms else { return };
    facts.signed_in = terminal.signed_in;
    facts.boot = terminal.boot_reason.zip(terminal.uptime_s).and_then(|(reason, uptime_s)| {
        let before_ms = i64::from(uptime_s).saturating_mul(1000) - report_ms;
        // What was the reason of a start after the event says nothing about it.
        (before_ms >= 0).then_some(Boot { reason, before_ms })
    });
    let errors = [device.icc_errors, device.mag_errors, device.nfc_errors];
    facts.reader = device.read_tries.map(|tries| {
        let errors = errors.iter().flatten().fold(0u32, |sum, n| sum.saturating_add(*n));
        ReaderCounts { errors, tries }
    });
    facts.month_bytes = network.month_bytes;
    let interval_s = known.state.as_ref().map_or(i64::MAX, |(_, interval_s, _)| *interval_s);
    // A count of a longer time is an upper bound of that of ten minutes: it can say no, and not yes.
    facts.reconnects_10min = (interval_s <= 600 || network.reconnects == 0).then_some(network.reconnects);
    facts.iccid_changed = match (&known.iccid, &device.iccid) {
        (Some(bound), Some(seen)) if is_same_card(bound, seen) => Some(Happened::Not),
        (Some(_), Some(_)) => Some(Happened::BeforeMs(0)),
        _ => None,
    };
    facts.imei_changed = known.imei.as_ref().zip(device.imei.as_ref()).map(|(bound, seen)| match bound == seen {
        true => Happened::Not,
        false => Happened::BeforeMs(0),
    });
}

/// The card that a terminal reports, without the filler of an odd number of digits.
fn card(report: &CheckIn) -> Option<&str> {
    report.device.iccid.as_deref().map(|iccid| iccid.trim_end_matches(['F', 'f']))
}

/// What the card in the terminal may use in a month, bytes: of the one that it reports, or of the one on record, if it is
/// that one.
fn quota(plans: &HashMap<String, i64>, known: &Known, report: &CheckIn) -> Option<u64> {
    let (seen, bound) = (card(report), known.iccid.as_deref());
    let bound = bound.filter(|bound| seen.is_none_or(|seen| is_same_card(bound, seen)));
    let plan_mb = [seen, bound].into_iter().flatten().find_map(|iccid| plans.get(iccid))?;
    // Sheets write 0 for what is not known or not limited.
    u64::try_from(*plan_mb).ok().filter(|plan_mb| *plan_mb > 0).map(|plan_mb| plan_mb.saturating_mul(BYTES_PER_MB))
}

/// Card numbers are printed with and without their check digit and filler.
fn is_same_card(bound: &str, seen: &str) -> bool {
    let plain = |text: &str| text.trim_end_matches(['F', 'f']).to_owned();
    let (bound, seen) = (plain(bound), plain(seen));
    bound == seen || (bound.len().abs_diff(seen.len()) == 1 && (bound.starts_with(&seen) || seen.starts_with(&bound)))
}

fn own_update(
    event: Option<&Failure>,
    failure: &FailureIn,
    updates: &[(i64, i64, String)],
    moment: &Moment,
) -> Option<OwnUpdate> {
    if event.and_then(|event| event.in_update) == Some(true) {
        return Some(OwnUpdate::UnderWay);
    }
    // Newest first.
    let mut steps = updates.iter().filter(|(id, at_ms, _)| *id == failure.terminal_id && *at_ms <= moment.at_ms);
    Some(match steps.next().map(|(_, at_ms, phase)| (*at_ms, phase.as_str())) {
        Some((_, "installing" | "rebooting" | "trial")) => OwnUpdate::UnderWay,
        Some((at_ms, "succeeded" | "rolled_back")) => OwnUpdate::EndedBeforeMs(moment.at_ms - at_ms),
        // Only what had begun to change something can have broken something.
        Some((at_ms, "failed" | "timed_out"))
            if steps.any(|(_, _, phase)| ["installing", "rebooting", "trial"].contains(&phase.as_str())) =>
        {
            OwnUpdate::EndedBeforeMs(moment.at_ms - at_ms)
        }
        Some(_) | None => OwnUpdate::Not,
    })
}

/// Whether an outage of the bank was open then, for this organization or one above it.
fn is_outage(outages: &[Incident], org_path: &str, at_ms: i64) -> bool {
    // An outage is noticed after it began.
    const NOTICED_AFTER_MS: i64 = 15 * MINUTE_MS;
    outages.iter().any(|outage| {
        org_path.starts_with(&outage.org_path)
            && outage.opened_at_ms - NOTICED_AFTER_MS <= at_ms
            && outage.resolved_at_ms.is_none_or(|resolved_ms| at_ms <= resolved_ms)
    })
}

/// What earlier failures, samples and orders say.
fn history(
    conn: &mut Conn,
    facts: &mut EventFacts,
    failure: &FailureIn,
    event: Option<&Failure>,
    known: Option<&Known>,
    told_since: Option<i64>,
    moment: &Moment,
) -> Result<(), db::Error> {
    let to_ms = failure.received_at_ms;
    let from_ms = to_ms - DAY_MS;
    let wants_earlier = facts.stage == Some(Stage::CardRead)
        || facts.response_code.is_some()
        || facts.stage.is_some_and(|stage| matches!(stage, Stage::Pin | Stage::Pack | Stage::MacVerify | Stage::Esign));
    if wants_earlier {
        let earlier = store::earlier(conn, failure.terminal_id, from_ms, to_ms, EARLIER_MAX)?;
        let before: Vec<&Earlier> = earlier.iter().filter(|row| row.2 <= failure.occurred_at_ms).collect();
        facts.card_read_run = (facts.stage == Some(Stage::CardRead)).then(|| card_read_run(&before));
        facts.same_code_day = facts.response_code.as_deref().map(|code| same_code(&before, code));
        facts.config_changed = config_changed(failure, &before, known, told_since, moment);
    }
    if facts.response_code.as_deref() == Some("30") {
        let firmware =
            event.and_then(|event| event.firmware.as_ref()).map_or(failure.firmware.as_str(), |f| f.as_str());
        let since_ms = moment.at_ms - DAY_MS;
        let (any, other) = store::firmware_seen(conn, failure.terminal_id, firmware, since_ms, moment.at_ms)?;
        facts.version_changed =
            any.map(|_| other.map_or(Happened::Not, |at_ms| Happened::BeforeMs(moment.at_ms - at_ms)));
    }
    let merchant_no = known.and_then(|known| known.merchant_no.as_deref());
    if let (Some(code), Some(merchant_no)) = (facts.response_code.as_deref(), merchant_no)
        && LOOKED_AT.contains(&code)
    {
        let n = store::merchant_failures(conn, &failure.org_path, merchant_no, &MERCHANT_CODES, from_ms, to_ms)?;
        facts.merchant_code_day = Some(n);
    }
    Ok(())
}

/// How many of the newest failures in a row were in reading a card, and on how many entries.
fn card_read_run(newest_first: &[&Earlier]) -> CardReadRun {
    let run: Vec<&&Earlier> = newest_first.iter().take_while(|row| row.3 == Stage::CardRead.as_str()).collect();
    let mut entries: Vec<String> = run
        .iter()
        .filter_map(|row| serde_json::from_str::<Failure>(&row.6).ok()?.entry)
        .map(|entry| format!("{entry:?}"))
        .collect();
    entries.sort_unstable();
    entries.dedup();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    CardReadRun { failures: count(run.len()), entries: count(entries.len()) }
}

/// Failures with this code that are no retries of one another.
fn same_code(newest_first: &[&Earlier], code: &str) -> u32 {
    let same = newest_first.iter().filter(|row| row.4.as_deref() == Some(code));
    let firsts = same.filter(|row| {
        let retry_of = serde_json::from_str::<Failure>(&row.6).ok().and_then(|event| event.retry_of);
        retry_of.is_none_or(|first| newest_first.iter().all(|other| other.0 != first))
    });
    u32::try_from(firsts.count()).unwrap_or(u32::MAX)
}

/// Whether the configuration in force was another one shortly before.
fn config_changed(
    failure: &FailureIn,
    newest_first: &[&Earlier],
    known: Option<&Known>,
    told_since: Option<i64>,
    moment: &Moment,
) -> Option<Happened> {
    let hash = failure.config_hash.as_deref()?;
    let other = newest_first.iter().find(|row| row.5.as_deref().is_some_and(|other| other != hash));
    if let Some(row) = other {
        return Some(Happened::BeforeMs((failure.occurred_at_ms - row.2).max(0)));
    }
    // It applies what it was told, and so cannot have before it was told.
    let is_desired = known.and_then(|known| known.desired_config_hash.as_deref()) == Some(hash);
    Some(match told_since.filter(|since_ms| is_desired && *since_ms <= moment.at_ms) {
        Some(since_ms) => Happened::BeforeMs(moment.at_ms - since_ms),
        None => Happened::Not,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(occurred_at_ms: i64, received_at_ms: i64) -> FailureIn {
        FailureIn {
            terminal_id: 1,
            event_id: "e".to_owned(),
            occurred_at_ms,
            received_at_ms,
            org_path: "/1/4/".to_owned(),
            stage: "card_read".to_owned(),
            response_code: None,
            firmware: "4.1.0".to_owned(),
            config_hash: Some("aa".to_owned()),
            carrier: "CMCC".to_owned(),
            event: "{}".to_owned(),
        }
    }

    fn earlier(id: &str, occurred_at_ms: i64, stage: &str, code: Option<&str>, extra: &str) -> Earlier {
        let event = format!(
            r#"{{"id":"{id}","occurred_at_ms":{occurred_at_ms},"transaction":"sale","stage":"{stage}","condition":{{}}{extra}}}"#
        );
        assert!(serde_json::from_str::<Failure>(&event).is_ok(), "{event}");
        let code = code.map(str::to_owned);
        (id.to_owned(), occurred_at_ms, occurred_at_ms, stage.to_owned(), code, Some("aa".to_owned()), event)
    }

    #[test]
    fn a_moment_is_the_terminals_own_unless_its_clock_cannot_be_right() {
        let received = 100 * DAY_MS;
        for (occurred, at_ms) in [
            (received - HOUR_MS, received - HOUR_MS),
            (received + HOUR_MS, received),
            (0, received),
            (received - SPOOLED_MS_MAX - 1, received),
        ] {
            assert_eq!(moment_of(&failure(occurred, received), None, None).at_ms, at_ms, "{occurred}");
        }
    }

    #[test]
    fn a_run_of_unread_cards_ends_at_anything_else() {
        let rows = [
            earlier("4", 4, "card_read", None, r#","entry":"icc""#),
            earlier("3", 3, "card_read", None, r#","entry":"nfc""#),
            earlier("2", 2, "card_read", None, r#","entry":"icc""#),
            earlier("1", 1, "host_resp", Some("51"), ""),
            earlier("0", 0, "card_read", None, r#","entry":"mag""#),
        ];
        let rows: Vec<&Earlier> = rows.iter().collect();
        assert_eq!(card_read_run(&rows), CardReadRun { failures: 3, entries: 2 });
        assert_eq!(card_read_run(&rows[3..]), CardReadRun { failures: 0, entries: 0 });
    }

    #[test]
    fn retries_of_one_another_count_once() {
        let rows = [
            earlier("3", 3, "host_resp", Some("14"), r#","retry_of":"1""#),
            earlier("2", 2, "host_resp", Some("51"), ""),
            earlier("1", 1, "host_resp", Some("14"), ""),
            earlier("0", 0, "host_resp", Some("14"), r#","retry_of":"gone""#),
        ];
        let rows: Vec<&Earlier> = rows.iter().collect();
        assert_eq!(same_code(&rows, "14"), 2);
        assert_eq!(same_code(&rows, "51"), 1);
        assert_eq!(same_code(&rows, "91"), 0);
    }

    #[test]
    fn another_config_hash_shortly_before_is_a_change() {
        let now = failure(10 * MINUTE_MS, 10 * MINUTE_MS);
        let moment = Moment { at_ms: 10 * MINUTE_MS, report_ms: None, is_fresh: false };
        let mut before = earlier("1", 4 * MINUTE_MS, "pack", None, "");
        assert_eq!(config_changed(&now, &[&before], None, None, &moment), Some(Happened::Not));
        before.5 = Some("bb".to_owned());
        let changed = Some(Happened::BeforeMs(6 * MINUTE_MS));
        assert_eq!(config_changed(&now, &[&before], None, None, &moment), changed);
        let unknown = FailureIn { config_hash: None, ..now };
        assert_eq!(config_changed(&unknown, &[&before], None, None, &moment), None);
    }

    #[test]
    fn a_card_is_the_same_with_and_without_its_last_digit() {
        assert!(is_same_card("89860012345678901234", "89860012345678901234"));
        assert!(is_same_card("89860012345678901234", "8986001234567890123"));
        assert!(is_same_card("8986001234567890123F", "8986001234567890123"));
        assert!(!is_same_card("89860012345678901234", "89860012345678905678"));
    }
}
