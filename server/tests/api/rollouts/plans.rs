//! How the databases come to the rows of what grows with a rollout: by an index that leads to them, never through a whole
//! table. The statements are those of `rollouts/store/`, in short.

use diesel::sql_types::Text;

use super::*;
use crate::harness::on_each_database;

#[derive(QueryableByName)]
struct Plan {
    #[diesel(sql_type = Text, column_name = "plan")]
    plan: String,
}

#[derive(QueryableByName)]
struct SqlitePlan {
    #[diesel(sql_type = Text)]
    detail: String,
}

/// A statement, and the index by which it finds its rows; the primary key's where none is named.
const STATEMENTS: [(&str, &str); 19] = [
    (
        "SELECT * FROM gate_events WHERE rollout_id = 1 AND judged IS NOT NULL AND judged > 5 ORDER BY judged LIMIT 5000",
        "gate_events_judged",
    ),
    (
        "SELECT judged FROM gate_events WHERE rollout_id = 1 AND judged IS NOT NULL ORDER BY judged DESC LIMIT 1",
        "gate_events_judged",
    ),
    (
        "SELECT * FROM gate_events WHERE rollout_id = 1 AND judged IS NULL ORDER BY at_ms, event LIMIT 500",
        "gate_events_new",
    ),
    (
        "DELETE FROM gate_events WHERE rollout_id = 1 AND judged IS NOT NULL AND judged > 5 AND judged <= 505",
        "gate_events_judged",
    ),
    ("SELECT at_ms FROM gate_failed WHERE rollout_id = 1 AND terminal_id IN (3, 4)", ""),
    ("SELECT at_ms FROM gate_sites WHERE rollout_id = 1 AND site IN (3, 4)", ""),
    ("SELECT n FROM gate_commits WHERE rollout_id = 1 AND minute_ms >= 7 ORDER BY minute_ms, cell", ""),
    ("SELECT cell, SUM(n) FROM gate_commits WHERE rollout_id = 1 AND minute_ms > 7 GROUP BY cell", ""),
    ("SELECT n FROM gate_losses WHERE rollout_id = 1 AND minute_ms >= 7", ""),
    ("SELECT n FROM rollout_reasons WHERE rollout_id = 1 AND phase IN ('failed', 'offered') AND n <> 0", ""),
    ("SELECT state FROM gate_folds WHERE rollout_id = 1", ""),
    (
        "SELECT id FROM assignments WHERE rollout_id = 1 AND phase IN ('failed', 'rolled_back', 'timed_out') AND org_path >= '/1/' AND org_path < '/10' ORDER BY org_path, id LIMIT 1000",
        "assignments_ended_badly",
    ),
    (
        "SELECT id, terminal_id FROM assignments WHERE rollout_id = 1 AND phase = 'failed' AND id > 9 ORDER BY id LIMIT 500",
        "assignments_by_phase",
    ),
    (
        "SELECT a.id, s.last_seen_ms FROM assignments a LEFT JOIN terminal_states s ON s.terminal_id = a.terminal_id WHERE a.rollout_id = 1 AND a.phase = 'waiting' AND a.id > 9 ORDER BY a.id LIMIT 1000",
        "assignments_by_phase",
    ),
    (
        "SELECT id FROM assignments WHERE rollout_id = 1 AND phase = 'waiting' AND ready_ms IS NULL AND rank >= 3 AND rank < 9 ORDER BY rank LIMIT 500",
        "assignments_unopened",
    ),
    (
        "SELECT id FROM assignments WHERE rollout_id = 1 AND phase = 'waiting' AND ready_ms <= 9 ORDER BY ready_ms LIMIT 500",
        "assignments_ready",
    ),
    (
        "SELECT id FROM assignments WHERE rollout_id = 1 AND cell IN (1, 2) AND live = 1 AND phase IN ('waiting', 'offered', 'downloading') LIMIT 500",
        "assignments_in_cell",
    ),
    (
        "SELECT id FROM assignments WHERE live = 1 AND deadline_ms <= 9 ORDER BY deadline_ms LIMIT 500",
        "assignments_due",
    ),
    ("SELECT id FROM assignments WHERE rollout_id = 1 AND terminal_id > 9 ORDER BY terminal_id LIMIT 21", ""),
];

/// One line for each step of the plan.
fn plan(conn: &mut Conn, statement: &str) -> Result<Vec<String>, Error> {
    match conn {
        Conn::Sqlite(c) => {
            let rows: Vec<SqlitePlan> = diesel::sql_query(format!("EXPLAIN QUERY PLAN {statement}")).load(c)?;
            Ok(rows.into_iter().map(|row| row.detail).collect())
        }
        Conn::Postgres(c) => {
            // As a pass of the planner has it: empty tables would be read whole.
            c.batch_execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")?;
            c.batch_execute(
                "CREATE OR REPLACE FUNCTION pg_temp.plan_of(statement text) RETURNS SETOF text LANGUAGE plpgsql AS \
                 $$ BEGIN RETURN QUERY EXECUTE 'EXPLAIN ' || statement; END $$",
            )?;
            let quoted = statement.replace('\'', "''");
            let rows: Vec<Plan> =
                diesel::sql_query(format!("SELECT p AS plan FROM pg_temp.plan_of('{quoted}') AS p")).load(c)?;
            Ok(rows.into_iter().map(|row| row.plan).collect())
        }
    }
}

/// A statement, the index that finds its rows, and how the database means to run it.
type Planned = (&'static str, &'static str, Vec<String>);

#[test]
fn what_grows_with_a_rollout_is_found_by_an_index() {
    on_each_database(|server| {
        let plans = server.block_on(server.state.db.write(|conn| {
            STATEMENTS.iter().map(|(statement, index)| Ok((*statement, *index, plan(conn, statement)?))).collect()
        }));
        let plans: Result<Vec<Planned>, Error> = plans;
        for (statement, index, plan) in plans.unwrap() {
            let shown = plan.join("\n");
            let is_whole = |line: &String| line.starts_with("SCAN") || line.contains("Seq Scan");
            assert!(!plan.iter().any(is_whole), "{statement}\n{shown}");
            let is_by_key = ["PRIMARY KEY", "autoindex", "_pkey", "_key"].iter().any(|name| shown.contains(name));
            let is_found = if index.is_empty() { is_by_key } else { shown.contains(index) };
            assert!(is_found, "{statement} by {index}\n{shown}");
        }
    });
}
