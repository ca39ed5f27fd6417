//! `tillward migrate`.

use clap::Args;

use crate::config::Config;
use crate::db::{Db, Direction};

/// Brings the database to the newest schema; the server does so at its start, too.
#[derive(Debug, Clone, Args)]
pub struct Migrate {
    /// Takes every migration back instead: all data is lost.
    #[arg(long, requires = "yes_delete_everything")]
    down: bool,
    /// Confirms `--down`.
    #[arg(long)]
    yes_delete_everything: bool,
}

/// Runs it.
///
/// # Errors
/// When the database cannot be reached or a migration fails.
pub fn run(config: &Config, migrate: &Migrate) -> anyhow::Result<()> {
    let db = Db::open_unmigrated(&config.database())?;
    let direction = if migrate.down { Direction::Down } else { Direction::Up };
    db.migrate(direction)?;
    println!("{}", if migrate.down { "the database is empty" } else { "the schema is the newest" });
    Ok(())
}
