//! Rollouts: a release on its way to a set of terminals.

pub mod assignment;
pub mod http;
pub mod state;

/// What a check-in says of an update.
pub struct Report<'a> {
    /// Which terminal.
    pub terminal_id: i64,
    /// Its report.
    pub update: Option<&'a tillward_protocol::phase::UpdateReport>,
    /// Its newest manifest.
    pub manifest: Option<&'a tillward_protocol::manifest::Manifest>,
    /// Its firmware.
    pub firmware: &'a str,
}

/// Steps the assignment.
pub fn apply_report(_: &mut crate::db::Conn, _: &Report<'_>, _: crate::clock::Now) -> Result<(), crate::db::Error> {
    Ok(())
}
