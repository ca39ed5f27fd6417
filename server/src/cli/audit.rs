//! `tillward audit …`.

use clap::Subcommand;

use crate::audit;
use crate::db::Db;

/// What to do with the audit log.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Walks the hash chain; fails when an entry was changed, removed or moved.
    Verify {
        /// A head that was noted earlier: proves that nothing was cut off since.
        #[arg(long, value_name = "HASH")]
        expect_head: Option<String>,
    },
}

/// Runs one command.
///
/// # Errors
/// A broken chain, or a failure of the database.
pub async fn run(db: &Db, command: Command) -> anyhow::Result<()> {
    let Command::Verify { expect_head } = command;
    let verdict = audit::verify(db, expect_head.as_deref()).await?;
    match (verdict.broken_at, verdict.problem) {
        (Some(seq), problem) => anyhow::bail!("the chain is broken at entry {seq}: {}", problem.unwrap_or_default()),
        (None, Some(problem)) => anyhow::bail!("{problem}"),
        (None, None) => {
            println!("{} entries, all in order; head {}", verdict.entries, verdict.head);
            Ok(())
        }
    }
}
