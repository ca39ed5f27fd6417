//! Simulated terminals.

pub mod client;
pub mod load;
pub mod network;
pub mod population;
pub mod random;
