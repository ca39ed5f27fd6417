//! Rollouts: a release on its way to a set of terminals.

pub mod assignment;
pub mod http;
pub mod state;
