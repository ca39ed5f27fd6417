//! Simulated terminals.

pub mod network;
pub mod population;
pub mod random;
