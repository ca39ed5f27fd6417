//! Rollouts: a release on its way to a set of terminals.

pub mod assignment;
mod director;
pub mod http;
mod report;
pub mod state;
mod store;

pub use director::{DirectorRow, OrderedTarget, director_order};
pub use report::{Report, apply_report, apply_reports};
