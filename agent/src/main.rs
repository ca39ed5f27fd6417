//! The program `tillward-agent`.

use std::process::ExitCode;

fn main() -> ExitCode {
    tillward_agent::cli(std::env::args_os().skip(1))
}
