//! `tillward bench …`: measures and prints.

use crate::simulate::bench::{self, Options, Rate};

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
