//! One terminal, its server and its signer, put together.

use serde_json::Value;

use super::server::Server;
use super::signer::{Release, Signer, Tweaks};
use super::terminal::Terminal;

/// Bytes that differ by `seed`.
pub fn payload(size: usize, seed: u8) -> Vec<u8> {
    (0..size).map(|n| (n as u8).wrapping_mul(31) ^ (n >> 8) as u8 ^ seed).collect()
}

/// One terminal, its server and whoever signs for it.
pub struct Bench {
    pub server: Server,
    pub signer: Signer,
    pub terminal: Terminal,
}

impl Bench {
    pub fn new() -> Self {
        Self::with("")
    }

    pub fn with(more: &str) -> Self {
        let (server, signer) = (Server::start(), Signer::new());
        let terminal = Terminal::with(&server, &signer, more);
        Self { server, signer, terminal }
    }

    pub fn publish(&mut self, release: &Release, order: i64, tweaks: &Tweaks) {
        self.signer.publish(&mut self.server.world(), Some(release), order, tweaks);
    }

    pub fn order(&mut self, release: &Release, order: i64) {
        self.publish(release, order, &Tweaks::default());
    }

    pub fn last_update(&self) -> Value {
        let world = self.server.world();
        let update = world.counted.iter().rev().find_map(|check_in| check_in.update.clone());
        serde_json::to_value(update).unwrap()
    }
}
