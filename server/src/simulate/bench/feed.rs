//! `tillward bench feed`: a channel's file of many rows, taken in twice and compared, on a database of its own.
//!
//! Everything is what the server runs: the upload with its encoding and card scan, the worker's blocks, the comparison.
//! Only the passes are called one after the other, so that each has its own time.

use std::fmt::Write as _;
use std::time::Instant;

use bytes::Bytes;
use serde::Serialize;

use super::store::OwnDatabase;
use crate::audit::Actor;
use crate::blobs::{Blobs, S3Options};
use crate::clock::Clock;
use crate::db::{Db, Location};
use crate::failures::{feed, reconcile};
use crate::imports::{self, Kind, Start, Upload, values};
use crate::operators::{Caller, Scope};
use crate::organizations;
use crate::terminals::{self, NewModel, NewTerminal};

/// Terminals that the rows are spread over.
const TERMINALS: i64 = 1_000;
/// The merchant that all are bound to.
const MERCHANT: &str = "850331053110612";

/// How to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Rows of the file.
    pub rows: i64,
    /// A PostgreSQL server to measure as well; a database is made there and dropped.
    pub postgres: Option<String>,
}

/// One database.
#[derive(Debug, Clone, Serialize)]
pub struct Measurement {
    /// `sqlite` or `postgresql`.
    pub database: &'static str,
    /// Rows of the file.
    pub rows: i64,
    /// Reading and keeping the file, s.
    pub upload_s: f64,
    /// Taking its rows in, s.
    pub import_s: f64,
    /// New rows.
    pub accepted: i64,
    /// Taking the same rows in again, s.
    pub again_s: f64,
    /// Known rows the second time.
    pub duplicates: i64,
    /// Comparing all of them, s.
    pub compare_s: f64,
}

/// Runs on SQLite and, where one is named, on PostgreSQL.
///
/// # Errors
/// When a database cannot be made, or the file does not come in.
pub fn run(options: &Options) -> anyhow::Result<Vec<Measurement>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let folder = tempfile::tempdir()?;
    let sqlite = Location::Sqlite(folder.path().join("bench.sqlite"));
    let mut measured = vec![runtime.block_on(measure("sqlite", &sqlite, folder.path(), options.rows))?];
    if let Some(url) = &options.postgres {
        let own = OwnDatabase::create(url)?;
        let location = Location::parse(&own.url());
        measured.push(runtime.block_on(measure("postgresql", &location, folder.path(), options.rows))?);
    }
    Ok(measured)
}

async fn measure(
    database: &'static str,
    location: &Location,
    folder: &std::path::Path,
    rows: i64,
) -> anyhow::Result<Measurement> {
    let opened = location.clone();
    let db = tokio::task::spawn_blocking(move || Db::open(&opened)).await??;
    let blobs = Blobs::open(&folder.join(database).to_string_lossy(), &S3Options::default())?;
    let clock = Clock::system();
    let (caller, source) = plant(&db, &clock).await?;
    let file = Bytes::from(file(rows, clock.now().0)?);
    let (first, upload_s, import_s) = import(&db, &blobs, &clock, &caller, &source, file.clone()).await?;
    let (second, _, again_s) = import(&db, &blobs, &clock, &caller, &source, file).await?;
    let began = Instant::now();
    while reconcile::pass(&db, clock.now()).await? {}
    Ok(Measurement {
        database,
        rows,
        upload_s,
        import_s,
        accepted: first.accepted,
        again_s,
        duplicates: second.duplicates,
        compare_s: began.elapsed().as_secs_f64(),
    })
}

/// Headquarters, its terminals and a channel.
async fn plant(db: &Db, clock: &Clock) -> anyhow::Result<(Caller, String)> {
    let now = clock.now();
    db.write(move |conn| {
        let home = organizations::ensure_headquarters(conn, now)?;
        let caller =
            Caller { organization_id: home.id, scope: Scope::subtree(home.path.clone()), ..Caller::command("bench") };
        let actor = Actor::system("bench");
        let model = NewModel { code: "bench-m1".to_owned(), name: "M1".to_owned(), ..NewModel::default() };
        terminals::create_model(conn, &actor, &caller.scope, model, now)?;
        for terminal in 0..TERMINALS {
            let new = NewTerminal {
                sn: format!("BENCH{terminal:05}"),
                model: "bench-m1".to_owned(),
                merchant_no: Some(MERCHANT.to_owned()),
                ..NewTerminal::default()
            };
            terminals::create(conn, &actor, &caller.scope, home.id, new, now)?;
        }
        let new = feed::NewChannel { name: "bench".to_owned(), organization_id: None };
        let made = feed::create(conn, &caller, &actor, new, now)?;
        Ok::<_, anyhow::Error>((caller, made.channel.id.to_string()))
    })
    .await
}

/// A channel's export in GBK, one row in a thousand short and one under another merchant.
fn file(rows: i64, now_ms: i64) -> anyhow::Result<Vec<u8>> {
    let mut text =
        "交易流水号,机具序列号,商户编号,商户名称,交易金额(元),结算金额(元),手续费(元),交易时间,交易状态,备注\n"
            .to_owned();
    for row in 0..rows {
        let at_ms = now_ms - 86_400_000 - row * 20_000;
        let day = values::day_of(at_ms, 480);
        let of_day_s = (at_ms + 28_800_000).rem_euclid(86_400_000) / 1_000;
        let (hour, minute, second) = (of_day_s / 3_600, of_day_s / 60 % 60, of_day_s % 60);
        let merchant = if row % 1_000 == 7 { "850331083980612" } else { MERCHANT };
        let settled = if row % 1_000 == 3 { "87.66" } else { "99.40" };
        writeln!(
            text,
            "2026{row:016},BENCH{:05},{merchant},张记面馆,100.00,{settled},0.60,{day} {hour:02}:{minute:02}:{second:02},成功,",
            row % TERMINALS
        )?;
    }
    Ok(encoding_rs::GBK.encode(&text).0.into_owned())
}

async fn import(
    db: &Db,
    blobs: &Blobs,
    clock: &Clock,
    caller: &Caller,
    source: &str,
    file: Bytes,
) -> anyhow::Result<(imports::Import, f64, f64)> {
    let asked = Upload {
        kind: Kind::ChannelFeed,
        source: source.to_owned(),
        organization_id: caller.organization_id,
        file_name: "bench.csv".to_owned(),
        start: Start::Import,
    };
    let began = Instant::now();
    let sent = imports::upload(db, blobs, caller, Actor::system("bench"), asked, file, clock.now()).await?;
    let upload_s = began.elapsed().as_secs_f64();
    let began = Instant::now();
    while imports::pass(db, blobs, clock).await? {}
    let import_s = began.elapsed().as_secs_f64();
    let (scope, id) = (caller.scope.clone(), sent.id);
    let done = db.read(move |conn| imports::find(conn, &scope, &id)).await?;
    anyhow::ensure!(done.state == imports::State::Done, "the file did not come in: {:?}", done.problem);
    Ok((done, upload_s, import_s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_run_counts_every_row_once() {
        let measured = run(&Options { rows: 1_200, postgres: None }).unwrap();
        let [one] = measured.as_slice() else { panic!("{measured:?}") };
        assert_eq!((one.accepted, one.duplicates), (1_200, 1_200));
    }
}
