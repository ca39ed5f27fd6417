//! A database without a server: nothing happens but what a test does, at the moment that it says.

use std::path::Path;

use tillward_server::audit::Actor;
use tillward_server::db::schema::rollouts as rollout_rows;
use tillward_server::db::{Db, Location};
use tillward_server::operators::Caller;
use tillward_server::rollouts::gate::Class;
use tillward_server::rollouts::{TerminalFailure, note_failures};
use tokio::runtime::Runtime;

use super::faults::Faults;
use super::*;
use crate::harness::PostgresDatabase;

/// A Tuesday, 03:00 in China: within the night's window.
pub(super) const BEGIN_MS: i64 = 1_789_498_800_000;

/// Where it is.
pub(super) enum Place<'a> {
    Sqlite(&'a Path),
    Postgres(&'a str),
}

/// The database, with faults to come.
pub(super) struct Bare {
    pub runtime: Runtime,
    pub faults: Faults,
    /// What the faults are in, and what goes on at the same time; two servers' on PostgreSQL, the same on SQLite.
    pub one: Db,
    pub two: Db,
    pub is_postgres: bool,
}

impl Bare {
    pub(super) fn open(place: &Place<'_>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (first, second) = match place {
            Place::Sqlite(folder) => (folder.join("db").to_str().unwrap().to_owned(), None),
            // What waits for a lock that the other one holds gives up: the other one waits for it here.
            Place::Postgres(url) => {
                (format!("{url}?application_name=one"), Some(format!("{url}?options=-clock_timeout%3D60")))
            }
        };
        let faults = Faults::of(&first);
        let one = Db::open(&Location::parse(&first)).unwrap();
        let two = second.as_ref().map_or_else(|| one.clone(), |url| Db::open(&Location::parse(url)).unwrap());
        Self { runtime, faults, one, two, is_postgres: second.is_some() }
    }

    /// Does it, by the first of the two; the database must not refuse.
    pub(super) fn does(&self, deed: Deed, now_ms: i64) {
        let done = self.runtime.block_on(perform(self.one.clone(), walker(), deed, Now(now_ms)));
        done.unwrap_or_else(|error| panic!("the database refused without a fault: {error}"));
    }

    /// Writes a draft over a number of new terminals that just called, all alike, and starts it.
    pub(super) fn starts(&self, terminals: i64, new: Value) {
        self.plants(terminals);
        self.rolls_out(new);
    }

    /// Runs statements, in one transaction.
    pub(super) fn runs(&self, statements: String) {
        self.runtime.block_on(execute(&self.one, statements)).unwrap();
    }

    /// A number of new terminals that just called, all alike.
    pub(super) fn plants(&self, terminals: i64) {
        let mut statements = prepared();
        (1..=terminals).for_each(|id| statements.push_str(&terminal_sql(id, "/1/", &[])));
        statements.push_str(&format!("UPDATE terminal_states SET last_seen_ms = {BEGIN_MS}, carrier = 'cmcc'"));
        self.runs(statements);
    }

    /// Writes the first draft and starts it.
    pub(super) fn rolls_out(&self, new: Value) {
        let new = serde_json::from_value(new).unwrap();
        let made = self.one.write(move |conn| {
            let caller = walker();
            rollouts::create(conn, &caller, new, &Actor::from(&caller), Now(BEGIN_MS))
        });
        assert_eq!(self.runtime.block_on(made).unwrap(), 1);
        self.does(Deed::Act { rollout: 1, verb: "start", part: ("", "") }, BEGIN_MS);
    }
}

/// Runs `test` on SQLite and, where it is to be had, on PostgreSQL.
pub(super) fn on_each_bare(test: impl Fn(&Bare)) {
    let folder = tempfile::tempdir().unwrap();
    test(&Bare::open(&Place::Sqlite(folder.path())));
    on_bare_postgres(test);
}

/// Runs `test` on PostgreSQL, where it is to be had: SQLite has one writer, and nothing comes in between.
pub(super) fn on_bare_postgres(test: impl Fn(&Bare)) {
    if let Some(database) = PostgresDatabase::create() {
        test(&Bare::open(&Place::Postgres(&database.url)));
    }
}

/// Somebody of the head office who may do everything.
pub(super) fn walker() -> Caller {
    Caller { organization_id: 1, scope: Scope::subtree("/1/"), id: 1, ..Caller::command("walker") }
}

/// Something that happens, apart from a pass: drawn first, so that it can be done at any place.
#[derive(Debug, Clone)]
pub(super) enum Deed {
    Pass,
    Reports(Vec<(i64, UpdateReport, bool)>),
    Act { rollout: i64, verb: &'static str, part: (&'static str, &'static str) },
    Calls { one_in: i64 },
    Failures(Vec<(i64, Class)>),
    NewTerminal(i64),
}

/// Does it; an error is one of the database's: refusals are answers.
pub(super) async fn perform(db: Db, caller: Caller, deed: Deed, now: Now) -> Result<(), String> {
    match deed {
        Deed::Pass => planner::pass(&db, now).await.map(drop).map_err(|error| format!("{error:?}")),
        Deed::Reports(said) => db.write(move |conn| hear(conn, &said, now)).await.map_err(|error| format!("{error:?}")),
        Deed::Act { rollout, verb, part } => match act_on(&db, caller, rollout, verb, part, now).await {
            Err(rollouts::Error::Db(error)) => Err(format!("{error:?}")),
            Ok(()) | Err(_) => Ok(()),
        },
        Deed::Calls { one_in } => {
            let statement =
                format!("UPDATE terminal_states SET last_seen_ms = {} WHERE terminal_id % {one_in} = 0", now.0);
            execute(&db, statement).await
        }
        Deed::Failures(failures) => {
            let failed = db.write(move |conn| {
                let failures: Vec<TerminalFailure> = failures
                    .into_iter()
                    .map(|(terminal_id, class)| TerminalFailure {
                        terminal_id,
                        class,
                        event: format!("failure:{}", now.0),
                        at_ms: now.0,
                    })
                    .collect();
                note_failures(conn, &failures, now)
            });
            failed.await.map_err(|error| format!("{error:?}"))
        }
        // The second of one number is refused.
        Deed::NewTerminal(id) => {
            drop(execute(&db, terminal_sql(id, "/1/", &[])).await);
            Ok(())
        }
    }
}

async fn execute(db: &Db, statements: String) -> Result<(), String> {
    let done = db.write(move |conn| Ok::<_, Error>(conn.batch_execute(&statements)?));
    done.await.map_err(|error| format!("{error:?}"))
}

fn hear(conn: &mut Conn, said: &[(i64, UpdateReport, bool)], now: Now) -> Result<(), Error> {
    let rows = assignments::table.inner_join(rollout_rows::table.on(rollout_rows::id.eq(assignments::rollout_id)));
    let rows = rows.select((assignments::id, rollout_rows::release_id.assume_not_null()));
    let of: BTreeMap<i64, i64> = rows.load::<(i64, i64)>(conn)?.into_iter().collect();
    let manifests: Vec<Option<Manifest>> = said
        .iter()
        .map(|(terminal, update, has_proof)| {
            let version = if of.get(&update.assignment) == Some(&5) { "4.5.0" } else { "4.2.0" };
            has_proof.then(|| manifest(*terminal, version, SHA256))
        })
        .collect();
    let reports: Vec<Report<'_>> = said
        .iter()
        .zip(&manifests)
        .map(|((terminal_id, update, _), manifest)| Report {
            terminal_id: *terminal_id,
            update: Some(update),
            manifest: manifest.as_ref(),
            firmware: "4.1.0",
            is_configured: false,
        })
        .collect();
    rollouts::apply_reports(conn, &reports, now)
}

async fn act_on(
    db: &Db,
    caller: Caller,
    id: i64,
    verb: &'static str,
    (attribute, value): (&'static str, &'static str),
    now: Now,
) -> Result<(), rollouts::Error> {
    let (actor, scope) = (Actor::from(&caller), caller.scope.clone());
    let why = "a walk";
    if verb == "start" {
        let preview = {
            let scope = scope.clone();
            db.read(move |conn| rollouts::preview(conn, &scope, id)).await?
        };
        return rollouts::start(db, scope, id, preview.count, u64::MAX, actor, now).await;
    }
    db.write(move |conn| match verb {
        "pause" => rollouts::pause(conn, &scope, id, why, &actor, now),
        "resume" => rollouts::resume(conn, &scope, id, &actor, now),
        "cancel" => rollouts::cancel(conn, &scope, id, why, &actor, now),
        "advance" => rollouts::advance_stage(conn, &caller, id, why, u64::MAX, &actor, now),
        "override" => rollouts::override_halt(conn, &caller, id, why, u64::MAX, &actor, now),
        "stop" => rollouts::stop_scope(conn, &caller, id, (attribute, value, why), &actor, now),
        other => panic!("nobody can {other}"),
    })
    .await
}
