//! Simulated terminals on their way through a rollout in stages.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tillward_protocol::ids::Sha256Hex;
use tillward_protocol::manifest::Component;

use crate::admin::{Admin, number, text};
use crate::fleet;
use crate::server::Server;
use crate::terminal::Terminal;

/// Longest that a rollout over a few terminals may take, the gate's pauses included.
const PATIENCE: Duration = Duration::from_secs(240);
const VERSION: &str = "4.2.0";

/// A fleet with a rollout that runs.
pub struct Updating {
    /// Who started it.
    pub admin: Admin,
    /// The terminals by their numbers.
    pub terminals: BTreeMap<i64, Terminal>,
    rollout: i64,
    firmware: Component,
}

impl Updating {
    /// Enrols `count` terminals and starts a rollout to them in three stages, at most four at once.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn start(server: &Server, count: usize) -> Self {
        let admin = Admin::set_up(server);
        let mut terminals = BTreeMap::new();
        for (registered, seed) in fleet::register(&admin, count).iter().zip(1..) {
            let mut terminal = Terminal::new(&server.url, registered, seed);
            terminal.check_in_with(0);
            terminals.insert(registered.id, terminal);
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware-samples/payload");
        let payload = std::fs::read(folder.join(format!("{VERSION}.bin"))).unwrap();
        let release = admin.publish(VERSION, 42, "demo-p1", &payload);
        let strategy = json!({"stages": [{"count": 2}, {"percent": 50}], "in_flight_max": 4});
        let new = json!({"name": VERSION, "release_id": release, "strategy": strategy});
        let rollout = number(&admin.post("/api/v1/rollouts", &new), "id");
        admin.post(&format!("/api/v1/rollouts/{rollout}/start"), &json!({"confirm_count": count}));
        let firmware = Component {
            name: "os".to_owned(),
            version: VERSION.parse().unwrap(),
            sha256: Some(Sha256Hex::of(&payload)),
            release_counter: 42,
        };
        Self { admin, terminals, rollout, firmware }
    }

    /// Lets terminals update until so many have, or everybody has.
    ///
    /// # Panics
    /// When that takes minutes, or more than four are at it.
    pub fn carry_on_until(&mut self, succeeded: i64) {
        let started = Instant::now();
        loop {
            let rollout = self.admin.rollout(self.rollout);
            let counts = &rollout["counts"];
            if number(counts, "succeeded") >= succeeded {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "the rollout does not go on: {rollout}");
            let rows = self.rows();
            let ordered: Vec<&Value> = rows.iter().filter(|row| is_ordered(row)).collect();
            assert!(ordered.len() <= 4, "{ordered:?}");
            match ordered.first() {
                Some(row) => {
                    let terminal = self.terminals.get_mut(&number(row, "terminal_id")).unwrap();
                    terminal.act_out_update(number(row, "id"), &self.firmware);
                }
                // Everybody else calls, as they do while they wait.
                None => self.terminals.values_mut().for_each(|terminal| drop(terminal.check_in_with(0))),
            }
        }
    }

    /// Waits for the rollout's end.
    ///
    /// # Panics
    /// When it does not end well.
    pub fn finish(&mut self) {
        self.carry_on_until(i64::try_from(self.terminals.len()).unwrap());
        crate::wait_until("the rollout ends", || self.admin.rollout(self.rollout)["state"] == "succeeded");
        self.check();
    }

    /// Checks that what the server counts is what its rows say.
    ///
    /// # Panics
    /// When it is not.
    pub fn check(&self) {
        // A pass may commit between the two answers; what has drifted stays so.
        crate::wait_until("the counts equal a recount", || {
            let mut recount: BTreeMap<String, i64> = BTreeMap::new();
            self.rows().iter().for_each(|row| *recount.entry(text(row, "phase")).or_default() += 1);
            let rollout = self.admin.rollout(self.rollout);
            let counts = rollout["counts"].as_object().unwrap().iter();
            let kept = counts.filter_map(|(phase, n)| Some((phase.clone(), n.as_i64().filter(|n| *n != 0)?)));
            kept.collect::<BTreeMap<_, _>>() == recount
        });
    }

    /// Numbers of the terminals that the director names the release for.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn ordered(&self) -> Vec<i64> {
        self.rows().iter().filter(|row| is_ordered(row)).map(|row| number(row, "terminal_id")).collect()
    }

    fn rows(&self) -> Vec<Value> {
        let page = self.admin.get(&format!("/api/v1/rollouts/{}/assignments?size=100", self.rollout));
        page["items"].as_array().unwrap().clone()
    }
}

fn is_ordered(row: &Value) -> bool {
    matches!(row["phase"].as_str(), Some("offered" | "downloading" | "installing" | "rebooting" | "trial"))
}
