//! `tillward explain evaluate`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::failures::cells_file;
use crate::simulate::causes::{self, Form};

/// What to evaluate on.
#[derive(Debug, Clone, Args)]
pub struct EvaluateArgs {
    /// Fleets that are drawn.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    instances: u32,
    /// Seed; the same seed and form give the same fleets.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// 2,000 terminals with 10 exposures each instead of 20,000 with 40.
    #[arg(long)]
    small: bool,
    /// Twelve attributes instead of six.
    #[arg(long)]
    twelve: bool,
    /// Terminals that differ five times as much.
    #[arg(long)]
    heavy: bool,
    /// No cause: whatever is named is false.
    #[arg(long)]
    null: bool,
    /// No history.
    #[arg(long)]
    no_base: bool,
    /// Terminals that fail 70 % of the time.
    #[arg(long, default_value_t = 0, value_name = "K")]
    broken: u32,
    /// Everything fails this much more often in the window, percent.
    #[arg(long, default_value_t = 0, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=1_000))]
    rise: u32,
    /// Writes the first fleet as a table for `--cells` instead, and prints its causes.
    #[arg(long, value_name = "FILE")]
    write_cells: Option<PathBuf>,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

/// Draws, scans and counts.
pub fn run(args: &EvaluateArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let form = Form {
        small: args.small,
        twelve: args.twelve,
        heavy: args.heavy,
        null: args.null,
        no_base: args.no_base,
        broken: args.broken,
        rise: args.rise,
    };
    if let Some(path) = &args.write_cells {
        let world = causes::draw(&form, args.seed, 0);
        let mut file = BufWriter::new(File::create(path)?);
        cells_file::write(&world.cells, &mut file)?;
        file.flush()?;
        for cause in world.causes() {
            writeln!(out, "{cause}")?;
        }
        return Ok(());
    }
    let score = causes::run(&form, args.instances, args.seed);
    if args.json {
        let object = json!({
            "form": form, "seed": args.seed, "score": score, "f1": score.f1(), "precision": score.precision(),
            "recall": score.recall(), "top_one": score.top_one(), "false_share": score.false_share(),
        });
        writeln!(out, "{}", serde_json::to_string(&object)?)?;
        return Ok(());
    }
    writeln!(out, "{} fleets, seed {}: {:.0} failures each", score.instances, args.seed, score.failures_mean)?;
    if !form.null {
        writeln!(
            out,
            "F1 {:.3} (precision {:.3}, recall {:.3}): {} of {} causes, {} sets named; first answer right in {:.3}",
            score.f1(),
            score.precision(),
            score.recall(),
            score.hits,
            score.causes,
            score.answers,
            score.top_one()
        )?;
    }
    writeln!(out, "a false set is named in {} fleets ({:.2} %)", score.with_false, 100.0 * score.false_share())?;
    Ok(())
}
