//! SQL of what is kept of each terminal: written by passes and by what people do.

use diesel::prelude::*;
use tillward_protocol::checkin::CheckIn;

use crate::db::schema::{sim_cards, terminal_care, terminal_certificates, terminal_states, terminals};
use crate::db::{self, Conn};
use crate::maintenance::due::Finding;
use crate::maintenance::window::Windows;
use crate::on_backend;
use crate::terminals::Lifecycle;

/// Terminals in these states are with a merchant: those are inspected.
pub(in crate::maintenance) const IN_FIELD: [Lifecycle; 3] = [Lifecycle::Bound, Lifecycle::Active, Lifecycle::Suspended];

/// What is kept of one terminal.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::maintenance) struct Care {
    pub findings: Vec<Finding>,
    pub windows: Windows,
    pub org_path: String,
    pub inspected_at_ms: Option<i64>,
    pub inspected_by: Option<String>,
    pub inspected_place: Option<String>,
    pub inspection_order_id: Option<i64>,
    pub inspection_proven: Option<bool>,
    /// 0 when there is no row yet.
    pub version: i64,
}

/// One terminal as a pass finds it.
#[derive(Debug, Clone)]
pub(in crate::maintenance) struct Visit {
    pub terminal_id: i64,
    pub model: String,
    pub org_path: String,
    pub is_in_field: bool,
    pub since_ms: i64,
    pub merchant_no: Option<String>,
    pub store_name: Option<String>,
    /// `,one,two,`.
    pub tags: String,
    pub last_seen_ms: i64,
    pub check_ins: i64,
    pub transactions: i64,
    /// What it said last; `None` before its first check-in.
    pub report: Option<CheckIn>,
    /// Expiry of its SIM card, where that is registered.
    pub sim_expires_ms: Option<i64>,
    /// Expiry of its certificate, as it was noted before.
    pub certificate_expires_ms: Option<i64>,
    pub care: Care,
}

type CareColumns =
    (String, String, Option<String>, Option<i64>, Option<String>, Option<String>, Option<i64>, Option<i64>, i64);
type TerminalColumns = (i64, String, String, String, Option<i64>, i64, Option<String>, Option<String>);
type StateColumns = (Option<String>, i64, i64, i64, i64, String);
type VisitColumns = (TerminalColumns, StateColumns, Option<CareColumns>, Option<i64>, Option<i64>);

fn care(columns: CareColumns) -> Care {
    let (org_path, findings, windows, inspected_at_ms, inspected_by, place, order_id, proven, version) = columns;
    Care {
        findings: serde_json::from_str(&findings).unwrap_or_default(),
        windows: windows.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
        org_path,
        inspected_at_ms,
        inspected_by,
        inspected_place: place,
        inspection_order_id: order_id,
        inspection_proven: proven.map(|proven| proven != 0),
        version,
    }
}

macro_rules! visits {
    () => {
        terminals::table
            .inner_join(terminal_states::table.on(terminal_states::terminal_id.eq(terminals::id)))
            .left_join(terminal_care::table.on(terminal_care::terminal_id.eq(terminals::id)))
            .left_join(sim_cards::table.on(sim_cards::iccid.nullable().eq(terminals::iccid)))
            .left_join(terminal_certificates::table.on(terminal_certificates::terminal_id.eq(terminals::id)))
            .select((
                (
                    terminals::id,
                    terminals::model,
                    terminals::org_path,
                    terminals::lifecycle,
                    terminals::enrolled_at_ms,
                    terminals::created_at_ms,
                    terminals::merchant_no,
                    terminals::store_name,
                ),
                (
                    terminal_states::tags,
                    terminal_states::last_seen_ms,
                    terminal_states::check_ins,
                    terminal_states::transactions_ok,
                    terminal_states::transactions_failed,
                    terminal_states::report,
                ),
                (
                    terminal_care::org_path,
                    terminal_care::findings,
                    terminal_care::windows,
                    terminal_care::inspected_at_ms,
                    terminal_care::inspected_by,
                    terminal_care::inspected_place,
                    terminal_care::inspection_order_id,
                    terminal_care::inspection_proven,
                    terminal_care::version,
                )
                    .nullable(),
                sim_cards::expires_at_ms.nullable(),
                terminal_certificates::expires_at_ms.nullable(),
            ))
    };
}

fn visit((terminal, state, known, sim_expires_ms, certificate_expires_ms): VisitColumns) -> Visit {
    let (terminal_id, model, org_path, lifecycle, enrolled_at_ms, created_at_ms, merchant_no, store_name) = terminal;
    let (tags, last_seen_ms, check_ins, ok, failed, report) = state;
    Visit {
        terminal_id,
        model,
        org_path,
        is_in_field: IN_FIELD.iter().any(|state| state.as_str() == lifecycle),
        since_ms: enrolled_at_ms.unwrap_or(created_at_ms),
        merchant_no,
        store_name,
        tags: tags.unwrap_or_default(),
        last_seen_ms,
        check_ins,
        transactions: ok.saturating_add(failed),
        report: serde_json::from_str(&report).ok(),
        sim_expires_ms,
        certificate_expires_ms,
        care: known.map(care).unwrap_or_default(),
    }
}

/// Terminals above `after` that have called, in the order of their numbers. By primary keys: first the numbers, since
/// PostgreSQL carries no bound over to the other sides of a join and would read those from the first row on.
pub(in crate::maintenance) fn visits(conn: &mut Conn, after: i64, limit: i64) -> Result<Vec<Visit>, db::Error> {
    let ids: Vec<i64> = terminal_states::table
        .filter(terminal_states::terminal_id.gt(after))
        .order(terminal_states::terminal_id)
        .limit(limit)
        .select(terminal_states::terminal_id)
        .load(conn)?;
    let rows = visits!().filter(terminals::id.eq_any(ids)).order(terminals::id);
    Ok(rows.load(conn)?.into_iter().map(visit).collect())
}

/// One terminal, with what is kept of it locked until the transaction ends. By primary keys.
pub(in crate::maintenance) fn hold(conn: &mut Conn, terminal_id: i64) -> Result<Option<Visit>, db::Error> {
    // Writing takes the lock on both databases, and the row is read as it is under it.
    diesel::update(terminal_care::table.find(terminal_id))
        .set(terminal_care::version.eq(terminal_care::version + 1))
        .execute(conn)?;
    Ok(visits!().filter(terminals::id.eq(terminal_id)).first(conn).optional()?.map(visit))
}

fn reasons(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = findings.iter().map(|finding| finding.reason.as_str()).collect();
    format!(",{},", names.join(","))
}

/// Writes what was judged, if nobody wrote it since it was read; returns whether that was so.
pub(in crate::maintenance) fn save(
    conn: &mut Conn,
    terminal_id: i64,
    after: &Care,
    judged_at_ms: i64,
) -> Result<bool, db::Error> {
    let urgency = after.findings.iter().map(|finding| finding.urgency.rank()).max().unwrap_or(0);
    let windows =
        (after.windows != Windows::default()).then(|| serde_json::to_string(&after.windows).unwrap_or_default());
    let values = (
        terminal_care::org_path.eq(&after.org_path),
        terminal_care::urgency.eq(urgency),
        terminal_care::reasons.eq(reasons(&after.findings)),
        terminal_care::findings.eq(serde_json::to_string(&after.findings).unwrap_or_default()),
        terminal_care::windows.eq(windows),
        terminal_care::judged_at_ms.eq(judged_at_ms),
        terminal_care::inspected_at_ms.eq(after.inspected_at_ms),
        terminal_care::inspected_by.eq(after.inspected_by.as_deref()),
        terminal_care::inspected_place.eq(after.inspected_place.as_deref()),
        terminal_care::inspection_order_id.eq(after.inspection_order_id),
        terminal_care::inspection_proven.eq(after.inspection_proven.map(i64::from)),
        terminal_care::version.eq(after.version + 1),
    );
    let written = if after.version == 0 {
        let row = (terminal_care::terminal_id.eq(terminal_id), values);
        on_backend!(conn, |c| diesel::insert_into(terminal_care::table)
            .values(row)
            .on_conflict_do_nothing()
            .execute(c))?
    } else {
        let row = terminal_care::table.find(terminal_id).filter(terminal_care::version.eq(after.version));
        diesel::update(row).set(values).execute(conn)?
    };
    Ok(written == 1)
}
