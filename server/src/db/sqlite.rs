//! SQLite's one writer thread and its readers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::r2d2::R2D2Connection;
use tokio::sync::oneshot;

use super::{Conn, Error};

/// Waits for another process's lock this long before it gives up, ms.
const BUSY_TIMEOUT_MS: u32 = 5_000;
/// Writes that may wait for the writer thread; beyond that callers wait for a place.
const QUEUE_MAX: usize = 1_024;
/// Page cache of the writer, KiB. Enough for the upper levels of every index of a 100,000-terminal fleet.
const WRITER_CACHE_KIB: u32 = 32 * 1_024;
/// Page cache of each reader, KiB.
const READER_CACHE_KIB: u32 = 4 * 1_024;
/// The log is folded back into the file this often while something is written. By a thread of its own: the commit that
/// folds waits for thousands of scattered pages, and everybody behind it.
const FOLD_EVERY: Duration = Duration::from_secs(1);
/// From this many pages on (16 MiB) the writer folds what came in while the thread did, and the log starts anew.
const RESTART_PAGES: i32 = 4_096;
/// Should the thread fail, a commit folds after this many pages (256 MiB).
const LOG_PAGES_MAX: u32 = 65_536;

type Job = Box<dyn FnOnce(&mut Conn) + Send>;

/// Owns the write connection on its own thread; jobs run in the order they were sent.
pub(super) struct Writer {
    jobs: mpsc::SyncSender<Job>,
}

impl Writer {
    pub(super) fn start(path: &Path) -> Result<Self, Error> {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent)
                .map_err(|error| Error::Open(format!("cannot create {}: {error}", parent.display())))?;
        }
        let conn = Conn::Sqlite(open_writer(path).map_err(|error| Error::Open(error.to_string()))?);
        let (jobs, queue) = mpsc::sync_channel::<Job>(QUEUE_MAX);
        let (written, wake) = mpsc::sync_channel(1);
        let log = Log { written, is_rest_small: Arc::default() };
        let folder = open_writer(path).map_err(|error| Error::Open(error.to_string()))?;
        let is_rest_small = Arc::clone(&log.is_rest_small);
        let cannot = |error| Error::Open(format!("cannot start a thread: {error}"));
        std::thread::Builder::new()
            .name("sqlite-log".to_owned())
            .spawn(move || fold_log(&wake, folder, &is_rest_small))
            .map_err(cannot)?;
        let path = path.to_owned();
        std::thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || work_off(&queue, conn, &path, &log))
            .map_err(cannot)?;
        Ok(Self { jobs })
    }

    /// Runs `work` on the writer thread and resolves with its result.
    pub(super) async fn run<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&mut Conn) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (done, result) = oneshot::channel();
        let mut job: Job = Box::new(move |conn| {
            // The caller may have gone away; its write still stands.
            let _ = done.send(work(conn));
        });
        loop {
            match self.jobs.try_send(job) {
                Ok(()) => break,
                Err(mpsc::TrySendError::Full(back)) => {
                    job = back;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                Err(mpsc::TrySendError::Disconnected(_)) => return Err(E::from(Error::Closed)),
            }
        }
        result.await.map_err(|_| E::from(Error::Closed))?
    }

    /// [`Writer::run`] for start-up, outside any async runtime.
    pub(super) fn run_blocking<T, F>(&self, work: F) -> Result<T, Error>
    where
        F: FnOnce(&mut Conn) -> Result<T, Error> + Send + 'static,
        T: Send + 'static,
    {
        let (done, result) = mpsc::sync_channel(1);
        let job: Job = Box::new(move |conn| {
            let _ = done.send(work(conn));
        });
        self.jobs.send(job).map_err(|_| Error::Closed)?;
        result.recv().map_err(|_| Error::Closed)?
    }
}

/// Does one job after the other. One that panics, or whose transaction SQLite itself took back (a full disk), leaves the
/// connection in a state in which every later transaction would be refused; it is opened anew, which rolls back.
fn work_off(queue: &mpsc::Receiver<Job>, mut conn: Conn, path: &Path, log: &Log) {
    while let Ok(job) = queue.recv() {
        if catch_unwind(AssertUnwindSafe(|| job(&mut conn))).is_err() {
            tracing::error!("a write panicked and was rolled back");
        }
        if R2D2Connection::is_broken(&mut conn) {
            match open_writer(path) {
                Ok(anew) => conn = Conn::Sqlite(anew),
                // The next write is refused, and then it is tried again.
                Err(error) => tracing::error!(%error, "the database cannot be opened anew"),
            }
        }
        // One that is on its way is enough.
        let _ = log.written.try_send(());
        if let (true, Conn::Sqlite(conn)) = (log.is_rest_small.swap(false, Ordering::Relaxed), &mut conn) {
            fold(conn);
        }
    }
}

/// What the writer and the thread that folds its log tell each other.
struct Log {
    /// Something was written.
    written: mpsc::SyncSender<()>,
    /// Almost everything was folded: the writer does the rest between two transactions, when nobody adds to it.
    is_rest_small: Arc<AtomicBool>,
}

/// Folds the log while there is a writer.
fn fold_log(wake: &mpsc::Receiver<()>, mut conn: SqliteConnection, is_rest_small: &AtomicBool) {
    // Nobody waits for this connection.
    conn.set_instrumentation(|_: diesel::connection::InstrumentationEvent<'_>| ());
    while let Ok(()) = wake.recv() {
        // What came in during the first time is a small part of it.
        if fold(&mut conn) >= RESTART_PAGES && fold(&mut conn) >= RESTART_PAGES {
            is_rest_small.store(true, Ordering::Relaxed);
        }
        std::thread::sleep(FOLD_EVERY);
    }
}

#[derive(QueryableByName)]
struct Folded {
    #[diesel(sql_type = diesel::sql_types::Integer)]
    log: i32,
}

/// Copies what it can of the log into the file, without waiting for anybody; how many pages the log holds.
fn fold(conn: &mut SqliteConnection) -> i32 {
    let folded = diesel::sql_query("PRAGMA wal_checkpoint(PASSIVE)").get_result::<Folded>(conn);
    // A full disk is said by those who write.
    folded.map_or(0, |folded| folded.log)
}

fn open_writer(path: &Path) -> ConnectionResult<SqliteConnection> {
    let mut conn = SqliteConnection::establish(&path.to_string_lossy())?;
    conn.batch_execute(&format!(
        "PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
         PRAGMA foreign_keys = ON; PRAGMA cache_size = -{WRITER_CACHE_KIB}; \
         PRAGMA wal_autocheckpoint = {LOG_PAGES_MAX}; PRAGMA temp_store = MEMORY;"
    ))
    .map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(conn)
}

/// A connection that refuses to write.
pub(super) fn open_reader(path: &Path) -> ConnectionResult<SqliteConnection> {
    let mut conn = SqliteConnection::establish(&path.to_string_lossy())?;
    conn.batch_execute(&format!(
        "PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}; PRAGMA query_only = ON; \
         PRAGMA cache_size = -{READER_CACHE_KIB}; PRAGMA temp_store = MEMORY;"
    ))
    .map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(conn)
}

/// Writes a consistent copy of the database at `from` to the new file `to`, also while a server writes.
///
/// # Errors
/// [`Error::Open`] when `from` cannot be opened, [`Error::Query`] when the copy cannot be written.
pub fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    if !from.is_file() {
        return Err(Error::Open(format!("{} is not there", from.display())));
    }
    let mut conn =
        SqliteConnection::establish(&from.to_string_lossy()).map_err(|error| Error::Open(error.to_string()))?;
    let to = to.to_string_lossy().replace('\'', "''");
    conn.batch_execute(&format!("PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}; VACUUM INTO '{to}'"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{Db, Location, settings};

    #[tokio::test]
    async fn the_log_starts_anew_while_writes_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(&Location::Sqlite(folder.path().join("db"))).unwrap();
        let mut log_bytes = 0;
        for written_mib in 1..4_000 {
            db.write(|conn| settings::set(conn, "large", &"x".repeat(1 << 20))).await.unwrap();
            log_bytes = std::fs::metadata(folder.path().join("db-wal")).unwrap().len();
            if written_mib > 32 && log_bytes < (written_mib << 20) / 2 {
                return;
            }
        }
        panic!("the log has {log_bytes} bytes");
    }

    #[tokio::test]
    async fn a_write_that_panics_or_loses_its_transaction_leaves_the_next_one_a_good_connection() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(&Location::Sqlite(folder.path().join("db"))).unwrap();
        let set = |key: &'static str| db.write(move |conn| settings::set(conn, key, "x"));
        let panicked: Result<(), Error> = db
            .write(|conn| {
                settings::set(conn, "panicked", "x")?;
                panic!("as a defect would")
            })
            .await;
        assert!(matches!(panicked, Err(Error::Closed)));
        set("after the panic").await.unwrap();
        let lost: Result<(), Error> = db
            .write(|conn| {
                settings::set(conn, "lost", "x")?;
                // What SQLite does by itself when the disk is full.
                conn.batch_execute("ROLLBACK")?;
                Err(Error::Closed)
            })
            .await;
        assert!(lost.is_err());
        set("after the loss").await.unwrap();
        let there = |key: &'static str| db.read(move |conn| settings::get(conn, key));
        for (key, is_there) in
            [("panicked", false), ("after the panic", true), ("lost", false), ("after the loss", true)]
        {
            assert_eq!(there(key).await.unwrap().is_some(), is_there, "{key}");
        }
    }
}
