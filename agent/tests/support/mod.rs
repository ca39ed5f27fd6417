//! What the tests of the real agent share: a server that speaks the contract, a signer, and a terminal on disk.
//! Several test programs include it and none uses all of it.
#![allow(dead_code)]

pub mod bench;
pub mod disk;
pub mod fleet;
pub mod server;
pub mod signer;
pub mod terminal;
