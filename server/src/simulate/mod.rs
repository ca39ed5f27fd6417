//! Simulated terminals over real HTTP: the demo, and load against any server.
//!
//! A place and its network are drawn together ([`population`]), the link changes with dwell times ([`network`]), payments
//! fail as the link lets them ([`payments`]), updates take their course ([`course`]); [`terminal`] puts that together as a
//! pure thing in simulated time, [`fleet`] sends for many of them. [`demo`] adds a server and real agents, [`load`] drives
//! check-ins as fast as they are answered. [`gate`] runs whole rollouts on values, [`causes`] puts causes into counts, both without a server. Nothing in the server
//! imports this but its commands.

mod admin;
mod agents;
pub mod bench;
pub mod causes;
mod channel;
pub mod client;
pub mod command;
mod course;
pub mod demo;
mod fleet;
pub mod gate;
pub mod load;
mod network;
mod outcome;
mod payments;
mod population;
mod random;
mod register;
mod terminal;
