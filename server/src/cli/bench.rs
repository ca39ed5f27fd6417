//! `tillward bench …`: measures and prints.

use crate::simulate::bench::{self, Options, Rate, feed, planner};

/// Runs the comparison and prints it.
///
/// # Errors
/// When a server cannot be started or nothing is answered.
pub fn run(options: &Options, json: bool) -> anyhow::Result<()> {
    let report = bench::run(options)?;
    if json {
        println!("{}", serde_json::to_string(&report)?);
        return Ok(());
    }
    println!(
        "{}-byte check-ins over {} connections, {} terminals; {} rounds of {} s; {} processors for server and generator",
        report.body_bytes, report.connections, report.terminals, report.rounds, report.seconds, report.processors
    );
    println!("| server | per second | server CPU | per CPU-second | p50 ms | p99 ms | failed |");
    println!("|---|---|---|---|---|---|---|");
    let row = |name: &str, rate: &Rate| {
        println!(
            "| {name} | {:.0} | {:.2} | {:.0} | {:.1} | {:.1} | {} |",
            rate.per_second, rate.server_cpu, rate.per_cpu_second, rate.p50_ms, rate.p99_ms, rate.failed
        );
    };
    for result in &report.results {
        row("bare handler", &result.bare);
        row(result.database, &result.durable);
        let (low, high) = result.ratio_range;
        println!(
            "{} over bare: {:.2} of the rate ({low:.2}–{high:.2}), {:.2} per CPU-second; counted minus acknowledged: {}",
            result.database, result.ratio, result.ratio_per_cpu_second, result.counted_minus_acknowledged
        );
    }
    Ok(())
}

/// Runs a rollout over a large fleet beside its check-ins, and prints what that took.
///
/// # Errors
/// When a server cannot be started, or the rollout does not get on.
pub fn run_planner(options: &planner::Options, json: bool) -> anyhow::Result<()> {
    let report = planner::run(options)?;
    if json {
        println!("{}", serde_json::to_string(&report)?);
        return Ok(());
    }
    println!(
        "{} terminals; check-ins over {} connections; {} processors for server, database and generator",
        report.terminals, report.connections, report.processors
    );
    for result in &report.results {
        println!(
            "\n{}: fleet made in {:.0} s, preview {:.1} s, admission of {} in {:.1} s",
            result.database, result.fill_s, result.preview_s, result.admitted, result.admission_s
        );
        for stage in &result.stages {
            println!(
                "stage {}: first offer after {:.2} s, all {} after {:.1} s",
                stage.stage, stage.first_offer_s, stage.terminals, stage.full_s
            );
        }
        print_parts(&result.parts);
        println!(
            "check-ins with the planner at work over those without: {:.2}; longest statement {:.0} ms ({}), longest \
             transaction {:.0} ms",
            result.ratio, result.longest_statement_ms, result.longest_statement, result.longest_transaction_ms
        );
    }
    Ok(())
}

/// Takes a channel's file in, twice, and prints what that took.
///
/// # Errors
/// When a database cannot be made, or the file does not come in.
pub fn run_feed(options: &feed::Options, json: bool) -> anyhow::Result<()> {
    let measured = feed::run(options)?;
    if json {
        println!("{}", serde_json::to_string(&measured)?);
        return Ok(());
    }
    println!("| database | rows | upload s | import s | new | again s | known | compare s |");
    println!("|---|---|---|---|---|---|---|---|");
    for one in &measured {
        println!(
            "| {} | {} | {:.1} | {:.1} | {} | {:.1} | {} | {:.1} |",
            one.database,
            one.rows,
            one.upload_s,
            one.import_s,
            one.accepted,
            one.again_s,
            one.duplicates,
            one.compare_s
        );
    }
    Ok(())
}

fn print_parts(parts: &[planner::Part]) {
    println!(
        "| part | s | check-ins/s | ratio | latency p50 / p99 / max ms | failed | statements p50 / p99 / max ms | \
         transactions p50 / p99 / max ms | RSS MiB | log MiB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let of = |p: &planner::Percentiles| format!("{:.2} / {:.1} / {:.1}", p.p50_ms, p.p99_ms, p.max_ms);
    for part in parts {
        println!(
            "| {} | {:.1} | {} | {} | {} | {} | {} | {} | {} | {} |",
            part.name,
            part.seconds,
            part.check_ins_per_s.map_or("–".to_owned(), |rate| format!("{rate:.0}")),
            part.ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}")),
            of(&part.latency),
            part.failed,
            of(&part.statements),
            of(&part.transactions),
            part.resident_mib,
            part.log_mib.map_or("–".to_owned(), |mib| mib.to_string()),
        );
    }
    for part in parts {
        for slow in &part.slow {
            println!("  {}: {:.0} ms at most, {} slow: {}", part.name, slow.max_ms, slow.count, slow.statement);
        }
    }
}
