//! Simulated terminals.

pub mod admin;
pub mod agents;
pub mod bench;
pub mod client;
pub mod course;
pub mod fleet;
pub mod load;
pub mod network;
pub mod payments;
pub mod population;
pub mod random;
pub mod terminal;
