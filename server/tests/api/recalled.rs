//! A terminal that was recalled and allocated to another organization: what was before stays with whoever had it.

use serde_json::{Value, json};

use crate::fixtures::{admin, headquarters, operator, organization};
use crate::harness::{TestServer, on_each_database};

const SN: &str = "MOVED0008929";
/// The merchant of the first holder.
const FIRST: &str = "850331053110612";
/// The merchant of the second.
const SECOND: &str = "850510053110999";

/// Two resellers, and a terminal that is at the first one's merchant.
struct World {
    admin: String,
    root: i64,
    first: String,
    second: String,
    second_id: i64,
    terminal_id: i64,
}

impl World {
    fn new(server: &TestServer) -> Self {
        let admin = admin(server);
        let root = headquarters(server, &admin);
        let first_id = organization(server, &admin, root, "FIRST");
        let second_id = organization(server, &admin, root, "SECOND");
        server.post("/api/v1/models", &admin, &json!({ "code": "demo-m1", "name": "M1" })).expect(201);
        let new = json!({
            "sn": SN, "model": "demo-m1", "organization_id": first_id, "merchant_no": FIRST,
            "merchant_name": "杭州好味餐饮店", "store_name": "西湖店",
        });
        let made = server.post("/api/v1/terminals", &admin, &new).expect(201).json();
        Self {
            first: operator(server, &admin, first_id, "org_ops").token,
            second: operator(server, &admin, second_id, "org_ops").token,
            admin,
            root,
            second_id,
            terminal_id: made["id"].as_i64().unwrap(),
        }
    }

    fn address(&self) -> String {
        format!("/api/v1/terminals/{}", self.terminal_id)
    }

    fn version(&self, server: &TestServer) -> Value {
        server.get(&self.address(), &self.admin).expect(200).json()["version"].clone()
    }

    /// Takes the terminal from the first holder's merchant and gives it to the second holder's.
    fn hand_over(&self, server: &TestServer) {
        for action in ["bind", "unbind"] {
            let step = json!({ "action": action, "version": self.version(server) });
            server.post(&format!("{}/lifecycle", self.address()), &self.admin, &step).expect(200);
        }
        server.clock.advance_ms(60_000);
        for organization_id in [self.root, self.second_id] {
            let asked = json!({ "ids": [self.terminal_id], "organization_id": organization_id });
            let done = server.post("/api/v1/terminals/transfer", &self.admin, &asked).expect(200).json();
            assert_eq!(done["moved"], json!([self.terminal_id]), "{done}");
        }
        let change = json!({
            "version": self.version(server), "merchant_no": SECOND, "merchant_name": "成都小面馆", "store_name": "春熙店",
        });
        let headers = [("content-type", "application/json")];
        server.send("PATCH", &self.address(), &self.second, &headers, change.to_string().as_bytes()).expect(200);
        server.clock.advance_ms(60_000);
    }

    /// Merchant numbers that somebody sees in the terminal's history, newest first.
    fn bound(&self, server: &TestServer, token: &str) -> Vec<String> {
        let rows = server.get(&format!("{}/bindings", self.address()), token).expect(200).json();
        rows.as_array().unwrap().iter().map(|row| row["merchant_no"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn bindings_stay_with_the_organization_that_had_the_terminal_and_nobody_later_moves_them() {
    on_each_database(|server| {
        let world = World::new(server);
        assert_eq!(world.bound(server, &world.first), [FIRST]);
        world.hand_over(server);
        assert_eq!(world.bound(server, &world.second), [SECOND]);
        assert_eq!(world.bound(server, &world.admin), [SECOND, FIRST]);
        server.get(&format!("{}/bindings", world.address()), &world.first).expect(404);
        let past = json!({ "merchant_no": SECOND, "from_ms": 0, "to_ms": 1_000_000, "reason": "旧台账" });
        server.post(&format!("{}/bindings", world.address()), &world.second, &past).expect(422);
        assert_eq!(world.bound(server, &world.admin), [SECOND, FIRST]);
    });
}

#[test]
fn a_merchant_that_moves_along_in_the_record_is_bound_anew_for_who_has_the_terminal_now() {
    on_each_database(|server| {
        let world = World::new(server);
        server.clock.advance_ms(60_000);
        let asked = json!({ "ids": [world.terminal_id], "organization_id": world.root });
        server.post("/api/v1/terminals/transfer", &world.admin, &asked).expect(200);
        let rows = server.get(&format!("{}/bindings", world.address()), &world.admin).expect(200).json();
        let owners: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["org_path"].as_str().unwrap()).collect();
        assert_eq!(owners.len(), 2, "{rows}");
        assert_eq!(owners[0], format!("/{}/", world.root));
        assert!(owners[1].starts_with(owners[0]) && owners[1] != owners[0], "{rows}");
        assert_eq!(rows[1]["to_ms"], rows[0]["from_ms"]);
    });
}
