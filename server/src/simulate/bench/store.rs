//! The planner's benchmark: its own PostgreSQL database, a generated fleet, and how far a rollout has got.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;

use crate::clock::Now;
use crate::db::schema::{assignments, release_models, releases, rollout_counts, rollout_progress};
use crate::db::{self, Conn, Sequence, next_id, next_ids};

/// Models of the fleet, each with its share of a hundred.
pub(super) const MODELS: [(&str, i64); 5] =
    [("bench-p1", 45), ("bench-p2", 25), ("bench-q1", 15), ("bench-q2", 10), ("bench-x1", 5)];
/// Terminals that one statement makes.
const FILL_CHUNK: i64 = 50_000;
/// As long as a terminal's real report, bytes.
const REPORT: &str = concat!(
    r#"{"boot_id":"0197c3e4b1a27d60","terminal":{"app_state":"idle","signed_in":true,"batch_open":true,"uptime_s":86021,"#,
    r#""boot_count":17},"condition":{"access":"4g","plmn":"46000","tac":28721,"cell_id":119847681,"rsrp_dbm":-97,"#,
    r#""rsrq_db":-10,"sinr_db":8,"dns_ms":92,"tcp_ms":88,"tls_ms":214,"rtt_ms":86,"rtt_p95_ms":112,"loss_percent":1},"#,
    r#""network":{"sent_bytes":3120,"received_bytes":2210},"device":{"battery_percent":81,"charging":false}}"#,
);

/// A PostgreSQL database that is dropped with this value.
pub(super) struct OwnDatabase {
    server: String,
    name: String,
}

impl OwnDatabase {
    /// Makes a database on the server that `url` leads to.
    pub(super) fn create(url: &str) -> anyhow::Result<Self> {
        let own = Self { server: url.to_owned(), name: format!("tillward_bench_{}", std::process::id()) };
        own.command(&format!("CREATE DATABASE {}", own.name))?;
        Ok(own)
    }

    /// Its URL: the server's with another path.
    pub(super) fn url(&self) -> String {
        let host_at = self.server.find("://").map_or(0, |at| at + 3);
        let (start, rest) = self.server.split_at(host_at);
        let host_end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, rest) = rest.split_at(host_end);
        let options = rest.find('?').and_then(|at| rest.get(at..)).unwrap_or_default();
        format!("{start}{host}/{}{options}", self.name)
    }

    fn command(&self, sql: &str) -> anyhow::Result<()> {
        Ok(PgConnection::establish(&self.server)?.batch_execute(sql)?)
    }
}

impl Drop for OwnDatabase {
    fn drop(&mut self) {
        if let Err(error) = self.command(&format!("DROP DATABASE {} WITH (FORCE)", self.name)) {
            tracing::warn!(%error, name = self.name, "the benchmark's database stays");
        }
    }
}

/// Makes `count` enrolled terminals that all called within the last quarter of an hour, or, one in fifty, days ago. They
/// belong to the `stores_of` organizations from `first_organization` on, by store; some stores have one terminal, most
/// about nine.
pub(super) fn fill(
    conn: &mut Conn,
    from: i64,
    count: i64,
    (first_organization, organizations): (i64, i64),
    now: Now,
) -> Result<(), db::Error> {
    let first = next_ids(conn, Sequence::Terminals, count)?;
    if first != from {
        return Err(db::Error::Open("the benchmark's database is not its own".to_owned()));
    }
    let now = now.0;
    let mut below = 0;
    let models: String = MODELS
        .iter()
        .map(|(code, share)| {
            below += share;
            format!("WHEN h % 100 < {below} THEN '{code}' ")
        })
        .collect();
    let end = from + count - 1;
    // `h` mixes the number; `s` is the store.
    let numbered = format!(
        "WITH RECURSIVE n(i) AS (SELECT CAST({from} AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < {end}), \
         m AS (SELECT i, i * 2654435761 / 65536 % 1000003 AS h, \
             CASE WHEN i * 2654435761 / 65536 % 4 = 0 THEN 10000000 + i ELSE i / 12 END AS s FROM n), \
         t AS (SELECT m.i AS i, h, s, o.id AS organization_id, o.path AS org_path, o.region AS region, \
             CAST(10000000 + i AS TEXT) AS d, CASE {models} ELSE 'bench-p1' END AS model \
             FROM m JOIN organizations AS o ON o.id = {first_organization} + s * 2654435761 / 65536 % {organizations}) "
    );
    let reversed: String = (1..=8).rev().map(|at| format!("substr(d, {at}, 1) || ")).collect();
    conn.batch_execute(&format!(
        "INSERT INTO terminals (id, sn, sn_reversed, model, hardware, organization_id, org_path, merchant_no, \
             merchant_name, store_name, terminal_no, region, lifecycle, session_epoch, public_key, enrolled_at_ms, \
             stream, assignment_version, created_at_ms, version) {numbered} \
         SELECT i, 'BENCH' || d, {reversed} 'HCNEB', model, CASE WHEN h % 3 = 0 THEN 'rev-b' ELSE 'rev-a' END, \
             organization_id, org_path, 'M' || CAST(s AS TEXT), 'merchant ' || CAST(s AS TEXT), \
             'store ' || CAST(s AS TEXT), d, region, 'active', 0, \
             '00112233445566778899aabbccddeeff00112233445566778899aabb' || d, {now} - 86400000, 1, 0, {now}, 1 FROM t"
    ))?;
    conn.batch_execute(&format!(
        "INSERT INTO terminal_states (terminal_id, stream, seq, first_seen_ms, last_seen_ms, next_check_in_ms, \
             interval_s, sampled_at_ms, check_ins, failures, transactions_ok, transactions_failed, firmware, slot, \
             agent, app, access, carrier, signal, org_path, model, lifecycle, region, tags, report) {numbered} \
         SELECT i, 0, 0, {now} - 86400000, \
             CASE WHEN h % 50 = 0 THEN {now} - 259200000 - h ELSE {now} - h % 900 * 1000 END, {now} + h % 900 * 1000, \
             900, 0, 96, 0, 400, 2, CASE WHEN h % 10 = 0 THEN '4.0.2' ELSE '4.1.0' END, 'a', '0.1.0', '3.8.1', \
             CASE WHEN h % 100 < 70 THEN '4g' WHEN h % 100 < 92 THEN 'wifi' ELSE '2g' END, \
             CASE WHEN h % 7 < 4 THEN 'cmcc' WHEN h % 7 < 6 THEN 'cucc' ELSE 'ctcc' END, 'good', org_path, model, \
             'active', region, '', '{REPORT}' FROM t"
    ))?;
    Ok(())
}

/// The ranges in which [`fill`] is called for `count` terminals.
pub(super) fn chunks(count: i64) -> impl Iterator<Item = (i64, i64)> {
    (0..)
        .map(|at| at * FILL_CHUNK)
        .take_while(move |done| *done < count)
        .map(move |done| (done + 1, FILL_CHUNK.min(count - done)))
}

/// Lets PostgreSQL look at the new rows, as it does by itself some minutes later.
pub(super) fn analyze(conn: &mut Conn) -> Result<(), db::Error> {
    match conn {
        Conn::Sqlite(_) => Ok(()),
        Conn::Postgres(c) => Ok(c.batch_execute("ANALYZE")?),
    }
}

/// A published release for every model, without a payload: nothing of it is downloaded. Returns its number.
pub(super) fn publish(conn: &mut Conn, organization: (i64, &str), version: &str, now: Now) -> Result<i64, db::Error> {
    let id = next_id(conn, Sequence::Releases)?;
    let models: Vec<&str> = MODELS.iter().map(|(code, _)| *code).collect();
    diesel::insert_into(releases::table)
        .values((
            (releases::id.eq(id), releases::organization_id.eq(organization.0), releases::org_path.eq(organization.1)),
            (releases::name.eq("bench"), releases::component.eq("os"), releases::firmware_version.eq(version)),
            (releases::release_counter.eq(420), releases::models.eq(serde_json::json!(models).to_string())),
            (releases::requires.eq("[]"), releases::sha256.eq("00".repeat(32)), releases::length_bytes.eq(8 << 20)),
            (releases::notes.eq(""), releases::state.eq("published"), releases::created_by.eq(0)),
            (releases::created_by_name.eq("bench"), releases::created_at_ms.eq(now.0), releases::version.eq(1)),
            releases::published_at_ms.eq(now.0),
        ))
        .execute(conn)?;
    for model in models {
        diesel::insert_into(release_models::table)
            .values((
                release_models::model.eq(model),
                release_models::component.eq("os"),
                release_models::release_counter.eq(420),
                release_models::release_id.eq(id),
                release_models::target_name.eq(format!("{model}/os/420")),
            ))
            .execute(conn)?;
    }
    Ok(id)
}

/// How far a rollout has got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) is_admitted: bool,
    pub(super) admitted: i64,
    /// Terminals whose stage is open.
    pub(super) opened: i64,
    pub(super) waiting: i64,
    pub(super) offered: i64,
}

/// By primary keys.
pub(super) fn reached(conn: &mut Conn, rollout_id: i64) -> Result<Reached, db::Error> {
    let (admitted_up_to, admitted, opened): (i64, i64, i64) = rollout_progress::table
        .find(rollout_id)
        .select((rollout_progress::admitted_up_to, rollout_progress::admitted, rollout_progress::opened))
        .first(conn)?;
    let counts: Vec<(String, i64)> = rollout_counts::table
        .filter(rollout_counts::rollout_id.eq(rollout_id))
        .select((rollout_counts::phase, rollout_counts::n))
        .load(conn)?;
    let n = |phase: &str| counts.iter().find(|(name, _)| name == phase).map_or(0, |(_, n)| *n);
    let is_admitted = admitted_up_to == i64::MAX;
    Ok(Reached { is_admitted, admitted, opened, waiting: n("waiting"), offered: n("offered") })
}

/// Terminals of a rollout in this phase, in the order of their assignments.
pub(super) fn in_phase(conn: &mut Conn, rollout_id: i64, phase: &str, limit: i64) -> Result<Vec<i64>, db::Error> {
    Ok(assignments::table
        .filter(assignments::rollout_id.eq(rollout_id))
        .filter(assignments::phase.eq(phase))
        .order(assignments::id)
        .limit(limit)
        .select(assignments::terminal_id)
        .load(conn)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_database_stands_beside_the_one_that_was_named() {
        for (server, expected) in [
            ("postgres://u@h:1/db", "postgres://u@h:1/x"),
            ("postgres://u@h:1", "postgres://u@h:1/x"),
            ("postgres://u@h:1/db?sslmode=disable", "postgres://u@h:1/x?sslmode=disable"),
        ] {
            // Nothing is connected to: the value is forgotten, not dropped.
            let own = std::mem::ManuallyDrop::new(OwnDatabase { server: server.to_owned(), name: "x".to_owned() });
            assert_eq!(own.url(), expected);
        }
    }

    #[test]
    fn the_chunks_hold_every_number_once() {
        let chunks: Vec<(i64, i64)> = chunks(120_000).collect();
        assert_eq!(chunks, [(1, 50_000), (50_001, 50_000), (100_001, 20_000)]);
    }
}
