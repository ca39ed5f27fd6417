//! Maintenance: what is due, work orders that check-ins prove, checklists and thresholds, operators' guidance.

mod due;
mod guidance;
mod orders;
mod pages;

use diesel::prelude::*;
use serde_json::{Value, json};
use tillward_protocol::ids::TerminalId;
use tillward_server::db;
use tillward_server::db::schema::{terminal_states, terminals};
use tillward_server::maintenance::ROUND_MS;

use crate::harness::{TestServer, wait_until};
use crate::seed::Tree;

pub const DAY_MS: i64 = 86_400_000;

/// An active terminal of the eastern reseller that checks in.
pub struct Terminal {
    pub id: i64,
    seq: std::cell::Cell<u32>,
}

impl Terminal {
    pub fn new(server: &TestServer, tree: &Tree, sn: &str) -> Self {
        Self::with(server, tree, &json!({"sn": sn, "model": crate::seed::MODEL}))
    }

    /// Registered with these fields.
    pub fn with(server: &TestServer, tree: &Tree, fields: &Value) -> Self {
        let made = server.post("/api/v1/terminals", &tree.east_ops, fields).expect(201).json();
        let id = made["id"].as_i64().unwrap();
        let activate = server.state.db.write(move |conn| {
            diesel::update(terminal_states::table.find(id))
                .set(terminal_states::lifecycle.eq("active"))
                .execute(conn)?;
            let row = diesel::update(terminals::table.find(id));
            row.set((terminals::lifecycle.eq("active"), terminals::stream.eq(1))).execute(conn)?;
            Ok::<_, db::Error>(())
        });
        server.block_on(activate).unwrap();
        Self { id, seq: std::cell::Cell::new(0) }
    }

    /// One more check-in, with these parts in it.
    pub fn check_in(&self, server: &TestServer, parts: &Value) {
        self.seq.set(self.seq.get() + 1);
        let mut body = json!({
            "v": 1, "stream": 1, "seq": self.seq.get(), "at_ms": 1_790_000_000_000_i64, "boot_id": "b1",
            "software": {"firmware": "4.1.0", "slot": "a", "agent": "0.1.0"},
        });
        for (name, part) in parts.as_object().unwrap() {
            body[name] = part.clone();
        }
        let id = self.id;
        let epoch = server.state.db.read(move |conn| {
            let epoch = terminals::table.find(id).select(terminals::session_epoch).first::<i64>(conn);
            epoch.map_err(db::Error::from)
        });
        let epoch = server.block_on(epoch).unwrap();
        let token = server.state.tokens.issue_terminal(TerminalId(id), epoch, server.clock.now()).unwrap();
        server.post("/device/v1/check-in", &token, &body).expect(200);
    }

    /// A check-in with this health of the device.
    pub fn report(&self, server: &TestServer, device: Value) {
        self.check_in(server, &json!({ "device": device }));
    }

    /// What is due of it; none when nothing is.
    pub fn due(&self, server: &TestServer, token: &str) -> Option<Value> {
        let items = server.get("/api/v1/inspections?size=100", token).expect(200).json()["items"].clone();
        items.as_array().unwrap().iter().find(|row| row["terminal_id"] == self.id).cloned()
    }

    /// Reasons for which it is due, most urgent first.
    pub fn reasons(&self, server: &TestServer, token: &str) -> Vec<String> {
        let findings = self.due(server, token).map(|row| row["findings"].clone()).unwrap_or(json!([]));
        let name = |finding: &Value| finding["reason"].as_str().unwrap().to_owned();
        findings.as_array().unwrap().iter().map(name).collect()
    }

    /// Its orders, newest first.
    pub fn orders(&self, server: &TestServer, token: &str) -> Vec<Value> {
        let path = format!("/api/v1/work-orders?size=100&terminal_id={}", self.id);
        server.get(&path, token).expect(200).json()["items"].as_array().unwrap().clone()
    }
}

/// Lets the pass go over all terminals once more.
pub fn round(server: &TestServer) {
    server.clock.advance_ms(ROUND_MS);
    let began_ms = server.clock.now().0;
    wait_until("a round ends", || {
        let cursor = server.state.db.read(|conn| {
            use tillward_server::db::schema::maintenance_passes as passes;
            let cursor = passes::table.find("maintenance").select(passes::cursor).first::<String>(conn).optional();
            cursor.map_err(db::Error::from)
        });
        let Some(cursor) = server.block_on(cursor).unwrap() else { return false };
        let cursor: Value = serde_json::from_str(&cursor).unwrap();
        cursor["is_over"] == true && cursor["began_ms"].as_i64().unwrap() >= began_ms
    });
}

pub fn order(server: &TestServer, token: &str, id: i64) -> Value {
    server.get(&format!("/api/v1/work-orders/{id}"), token).expect(200).json()
}

/// Names of what happened, oldest first.
pub fn events(detail: &Value) -> Vec<String> {
    let history = detail["history"].as_array().unwrap();
    history.iter().rev().map(|entry| entry["event"].as_str().unwrap().to_owned()).collect()
}

/// "All is well" for every required item of an order's checklist.
pub fn answers(detail: &Value) -> Value {
    let items = detail["checklist"]["items"].as_array().unwrap();
    let required = items.iter().filter(|item| item["required"] == true);
    required
        .map(|item| (item["id"].as_str().unwrap().to_owned(), json!({"found": "ok"})))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Says that an order is done, its checklist answered.
pub fn done(server: &TestServer, token: &str, id: i64, more: Value) -> crate::harness::Answer {
    let mut body = json!({ "answers": answers(&order(server, token, id)) });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    server.post(&format!("/api/v1/work-orders/{id}/done"), token, &body)
}

pub fn wait_for_state(server: &TestServer, token: &str, id: i64, state: &str) {
    wait_until(&format!("order {id} is {state}"), || order(server, token, id)["order"]["state"] == state);
}
