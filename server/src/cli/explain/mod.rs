//! `tillward explain …`: which conditions explain the failures in a table, and how well that works on fleets with known
//! causes.

mod evaluate;
mod print;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::gate::Unreadable;
use crate::failures::cells_file;
use crate::failures::localize::{self, GAIN_MIN};
use evaluate::EvaluateArgs;

const FORMAT: &str = "\
THE FILE
  A table with a header: CSV separated by comma, semicolon or tab, UTF-8 with or without byte order mark, LF or CRLF,
  quoted fields, columns in any order.

  exposures        attempts in the window that could have failed
  failures         those that failed
  base_exposures   the same in a time when all was well; better 5 times as many exposures as in the window
  base_failures    both or neither
  terminal_id      the terminal of the row; never a condition. With it, a set that rests on one broken terminal is not
                   named; without it that cannot be told
  Every other column is an attribute (firmware, carrier, region, …), 64 at most. Values are texts; an empty field is the
  value \"\", nothing known. Rows of the same values are added up. Counts may have decimals.

  Attributes are what is known of every attempt, failed or not. What is recorded of failures only (a response code, the
  reason of a reboot) would explain everything and hide the cause. An attribute that is empty or \"unknown\" for failures
  twice as often as for exposures, or half as often, is left out for that reason. A row with more failures than exposures
  is refused: it counts events against attempts.

THE ANSWER
  Sets of one to three attribute values that fail more than expected, in the order of their evidence; none when nothing
  stands out. Expected is what the baseline of each row and of its values says. Without base columns, or with fewer than
  50 failures in them, it is what the same values do elsewhere in the window: what has always been so cannot be told from
  what is new, values that differ by less than 1.7 times are taken for the former, and confidence is low.

  Values with less than 0.1 % of exposures and of failures count as one and are not named. Of an attribute with more than
  1,000 values the 256 with the most failures are looked at, alone and together with firmware.

  Exit status: 0 for a file that was read, whatever the answer; 2 for one that cannot be read.";

/// Arguments of `tillward explain`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, after_long_help = FORMAT)]
pub struct ExplainArgs {
    #[command(subcommand)]
    tool: Option<Tool>,
    #[command(flatten)]
    file: Option<FileArgs>,
}

#[derive(Debug, Clone, Subcommand)]
enum Tool {
    /// Puts known causes into simulated fleets and counts how often exactly those are named.
    Evaluate(EvaluateArgs),
}

/// A table.
#[derive(Debug, Clone, Args)]
struct FileArgs {
    /// The table, `-` for standard input; `--help` describes it.
    #[arg(long, value_name = "FILE")]
    cells: PathBuf,
    /// Evidence from which a set is named, nats.
    #[arg(long, value_name = "NATS", default_value_t = GAIN_MIN)]
    gain_min: f64,
    /// Prints a JSON array instead of text.
    #[arg(long)]
    json: bool,
}

/// Runs the command and writes what it found to `out`.
///
/// # Errors
/// [`Unreadable`] for a file that cannot be read; what else went wrong, in words.
pub fn run(args: &ExplainArgs, out: &mut impl Write) -> anyhow::Result<()> {
    match (&args.tool, &args.file) {
        (Some(Tool::Evaluate(args)), _) => evaluate::run(args, out),
        (None, Some(args)) => explain(args, out),
        (None, None) => anyhow::bail!("give --cells FILE or the command evaluate; see --help"),
    }
}

fn explain(args: &FileArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let unreadable = |problem: String| Unreadable(format!("{}: {problem}", args.cells.display()));
    let bytes = bytes(&args.cells).map_err(|error| unreadable(error.to_string()))?;
    let file = cells_file::read(&bytes).map_err(|error| unreadable(error.to_string()))?;
    let report = localize::explain(&file.cells, args.gain_min, |set| file.worst_terminal(set));
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&print::json(&file, &report))?)?;
        return Ok(());
    }
    Ok(print::text(&file, &report, out)?)
}

fn bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    std::fs::read(path)
}

#[cfg(test)]
mod tests;
