//! Commands of the `tillward` program that work on a server's data.

pub mod audit;
pub mod backup;
pub mod bench;
pub mod explain;
pub mod gate;
pub mod keys;
pub mod migrate;
pub mod operator;
pub mod release;
pub mod serve;
pub mod settings;

use crate::config::Config;
use crate::db::Db;

/// Runs `command` over the configured database, brought to the newest schema.
///
/// # Errors
/// When the database cannot be opened, or what the command returns.
pub fn with_database<F>(config: &Config, command: F) -> anyhow::Result<()>
where
    F: AsyncFnOnce(Db) -> anyhow::Result<()>,
{
    let db = Db::open(&config.database())?;
    runtime()?.block_on(command(db))
}

/// A small runtime for one command.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}
