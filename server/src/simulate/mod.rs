//! Simulated terminals.

pub mod client;
pub mod course;
pub mod load;
pub mod network;
pub mod payments;
pub mod population;
pub mod random;
pub mod terminal;
