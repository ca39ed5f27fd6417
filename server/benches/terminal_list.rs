//! How long a page of the terminal list takes with 100,000 terminals: every filter alone and every pair of filters, in
//! each order, dense, sparse and without a match. `cargo bench -p tillward --bench terminal_list`
//!
//! The terminals come in through the import, whose time is printed too. The limit is 50 ms for any of them; the
//! program fails when one takes longer. Beside the time on the clock stands the time on the processor, which is what
//! counts where other programs run at the same time.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use tillward_server::audit::Actor;
use tillward_server::clock::Clock;
use tillward_server::db::schema::{models, organizations};
use tillward_server::db::{self, Conn, Db, Location};
use tillward_server::operators::Scope;
use tillward_server::terminals::import::{self, Request};
use tillward_server::terminals::list::{list, overview};
use tillward_server::terminals::{Connection, Filter, Lifecycle, Sort};

const TERMINALS: usize = 100_000;
/// Rows of a page, and the one that tells whether there is a next.
const LIMIT: usize = 21;
const REPEATS: usize = 3;
const LIMIT_MS: f64 = 50.0;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<bool> {
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let db = Db::open(&Location::Sqlite(folder.path().join("tillward.db")))?;
    let now = Clock::system().now();
    let scope = Scope::subtree("/1/");
    runtime.block_on(db.write(plant))?;
    let started = Instant::now();
    let request = Request { dry_run: false, organization_id: 1, model: None };
    let (file, actor) = (csv().into(), Actor::system("bench"));
    let imported = runtime.block_on(import::run(&db, actor, "bench".to_owned(), scope.clone(), request, file, now))?;
    println!("import: {} rows in {:.1} s", imported.created, started.elapsed().as_secs_f64());
    anyhow::ensure!(imported.created == u64::try_from(TERMINALS)?, "{imported:?}");
    runtime.block_on(db.write(move |conn| report(conn, now.0)))?;
    println!("resident: {}", resident());

    let singles = singles();
    let mut worst: Vec<Timed> = Vec::new();
    let mut time = |name: String, filter: Filter| -> anyhow::Result<()> {
        for sort in [Sort::Id, Sort::LastSeen] {
            if Sort::of(Some(sort), &filter).is_err() {
                continue;
            }
            let (mut taken, mut worked, mut rows) = (Duration::ZERO, Duration::ZERO, 0);
            for _ in 0..REPEATS {
                let (scope, filter) = (scope.clone(), filter.clone());
                let read = move |conn: &mut Conn| {
                    let (started, worked) = (Instant::now(), on_processor());
                    let rows = list(conn, &scope, &filter, sort, None, LIMIT, now)?;
                    let worked = on_processor().saturating_sub(worked);
                    Ok::<_, tillward_server::terminals::Error>((started.elapsed(), worked, rows.len()))
                };
                let (once, work, count) = runtime.block_on(db.read(read))?;
                // The slowest counts: nobody waits for an average.
                taken = taken.max(once);
                worked = worked.max(work);
                rows = count;
            }
            worst.push(Timed {
                ms: ms(taken),
                processor_ms: ms(worked),
                name: format!("{name} | {sort:?} | {rows} rows"),
            });
        }
        Ok(())
    };
    time("no filter".to_owned(), Filter::default())?;
    for (index, (field, name, set)) in singles.iter().enumerate() {
        let mut filter = Filter::default();
        set(&mut filter);
        time(name.clone(), filter)?;
        for (other_field, other_name, other_set) in singles.iter().skip(index + 1) {
            if field != other_field {
                let mut filter = Filter::default();
                set(&mut filter);
                other_set(&mut filter);
                time(format!("{name} + {other_name}"), filter)?;
            }
        }
    }
    let started = Instant::now();
    let counts = runtime.block_on(db.read(move |conn| overview(conn, &Scope::subtree("/1/"), now)))?;
    let overview_ms = started.elapsed().as_secs_f64() * 1_000.0;
    Ok(print(worst, overview_ms, counts.total))
}

/// The slowest of one combination.
struct Timed {
    ms: f64,
    processor_ms: f64,
    name: String,
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// How long this thread has run, as the system counts it; zero where it does not say.
fn on_processor() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|text| text.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

fn print(mut worst: Vec<Timed>, overview_ms: f64, total: i64) -> bool {
    worst.sort_by(|a, b| b.processor_ms.total_cmp(&a.processor_ms));
    println!("{} combinations over {total} terminals, slowest of {REPEATS} each:", worst.len());
    println!("{:>9} {:>13}  combination", "ms", "processor ms");
    for timed in worst.iter().take(20) {
        println!("{:>9.1} {:>13.1}  {}", timed.ms, timed.processor_ms, timed.name);
    }
    let max = worst.iter().map(|timed| timed.ms).fold(0.0, f64::max);
    let processor_max = worst.first().map_or(0.0, |timed| timed.processor_ms);
    let median = worst.get(worst.len() / 2).map_or(0.0, |timed| timed.processor_ms);
    println!(
        "max {max:.1} ms ({processor_max:.1} on the processor, median {median:.1}), limit {LIMIT_MS} ms; \
         overview {overview_ms:.1} ms; resident {}",
        resident()
    );
    max <= LIMIT_MS
}

type Set = Box<dyn Fn(&mut Filter)>;

/// Each filter with values that many, few and no terminals have.
fn singles() -> Vec<(&'static str, String, Set)> {
    let mut singles: Vec<(&'static str, String, Set)> = Vec::new();
    let mut text = |field: &'static str, values: &[&str], set: fn(&mut Filter, String)| {
        for &value in values {
            let owned = value.to_owned();
            singles.push((field, format!("{field}={value}"), Box::new(move |filter| set(filter, owned.clone()))));
        }
    };
    text("model", &["acme-a1", "acme-rare", "none"], |filter, value| filter.model = Some(value));
    text("region", &["r1", "r-rare", "none"], |filter, value| filter.region = Some(value));
    text("tag", &["common", "rare", "none"], |filter, value| filter.tag = Some(value));
    text("firmware", &["1.0.0", "9.9.9", "none"], |filter, value| filter.firmware = Some(value));
    text("q", &["SN0", "SN0999", "000777", "Shop", "Late", "zz"], |filter, value| filter.q = Some(value));
    for lifecycle in [Lifecycle::Active, Lifecycle::Lost, Lifecycle::Blocked] {
        let name = format!("lifecycle={}", lifecycle.as_str());
        singles.push(("lifecycle", name, Box::new(move |filter| filter.lifecycle = Some(lifecycle))));
    }
    for connection in Connection::ALL {
        let name = format!("connection={}", connection.as_str());
        singles.push(("connection", name, Box::new(move |filter| filter.connection = Some(connection))));
    }
    for organization in [2, 51] {
        let name = format!("organization={organization}");
        singles.push(("organization", name, Box::new(move |filter| filter.organization_id = Some(organization))));
    }
    singles
}

/// Headquarters with 50 resellers and three models.
fn plant(conn: &mut Conn) -> Result<(), db::Error> {
    for id in 1..=51_i64 {
        let (parent, path) = if id == 1 { (None, "/1/".to_owned()) } else { (Some(1), format!("/1/{id}/")) };
        diesel::insert_into(organizations::table)
            .values((
                organizations::id.eq(id),
                organizations::parent_id.eq(parent),
                organizations::path.eq(path),
                organizations::level.eq(i64::from(id > 1)),
                organizations::name.eq(format!("Organization {id}")),
                organizations::short_code.eq(format!("O{id}")),
                organizations::status.eq("active"),
                organizations::created_at_ms.eq(0),
                organizations::version.eq(1),
            ))
            .execute(conn)?;
    }
    for code in ["acme-a1", "acme-b2", "acme-rare"] {
        diesel::insert_into(models::table)
            .values((
                models::code.eq(code),
                models::name.eq(code),
                models::capabilities.eq("{}"),
                models::created_at_ms.eq(0),
            ))
            .execute(conn)?;
    }
    Ok(())
}

/// The last terminals have what few have: a walk in the order of registration meets them last.
fn csv() -> String {
    let mut csv = "sn,model,org,merchant_no,merchant_name,store_name,terminal_no,region,tags\n".to_owned();
    for row in 0..TERMINALS {
        let is_rare = row >= TERMINALS - 30;
        let model = match (is_rare, row % 2) {
            (true, _) => "acme-rare",
            (false, 0) => "acme-a1",
            (false, _) => "acme-b2",
        };
        let region = if is_rare { "r-rare".to_owned() } else { format!("r{}", row % 30) };
        let tags = match (is_rare, row % 3) {
            (true, _) => "rare",
            (false, 0) => "common;pool-a",
            (false, _) => "pool-b",
        };
        // A tenth of the stores, registered last, have a name of their own.
        let store = if row >= TERMINALS * 9 / 10 { "Late" } else { "Shop" };
        let organization = 2 + row % 50;
        csv.push_str(&format!(
            "SN{row:08},{model},O{organization},8503310{row:08},Merchant {row},{store} {row},{row:08},{region},{tags}\n"
        ));
    }
    csv
}

/// What a fleet of this size has reported: rows of the usual width.
fn report(conn: &mut Conn, now_ms: i64) -> Result<(), db::Error> {
    let report = format!("{{\"condition\":\"{}\"}}", "x".repeat(700));
    let rare_from = TERMINALS - 30;
    conn.batch_execute(&format!(
        "UPDATE terminals SET lifecycle = CASE terminal_id_hash WHEN 0 THEN 'stocked' WHEN 1 THEN 'bound' ELSE 'active' END \
         FROM (SELECT id AS other, (id * 7919) % 5 AS terminal_id_hash FROM terminals) WHERE other = id; \
         UPDATE terminals SET lifecycle = 'lost' WHERE id > {rare_from}; \
         UPDATE terminal_states SET lifecycle = (SELECT lifecycle FROM terminals WHERE id = terminal_id), \
           interval_s = 900, report = '{report}', agent = '0.1.0', slot = 'a', access = '4g', carrier = 'cmcc', signal = 'good', \
           firmware = CASE WHEN terminal_id > {rare_from} THEN '9.9.9' WHEN (terminal_id * 104729) % 3 = 0 THEN '1.1.0' ELSE '1.0.0' END, \
           last_seen_ms = CASE (terminal_id * 15485863) % 20 WHEN 0 THEN 0 WHEN 1 THEN {now_ms} - 40 * 86400000 - terminal_id \
             WHEN 2 THEN {now_ms} - 3 * 86400000 - terminal_id WHEN 3 THEN {now_ms} - 7200000 - terminal_id \
             WHEN 4 THEN {now_ms} - 1800000 - terminal_id ELSE {now_ms} - (terminal_id * 32452843) % 900000 END;"
    ))?;
    Ok(())
}

/// Memory of this process, as the system counts it.
fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned())
}
