//! What an administrator does by REST.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::{Answer, Client};
use crate::server::Server;

/// Name of the first administrator.
pub const LOGIN: &str = "admin";
/// Password of the first administrator.
pub const PASSWORD: &str = "a password for tests only";

/// An API key of the first administrator.
#[derive(Debug, Clone)]
pub struct Admin {
    client: Client,
    url: String,
    token: String,
}

/// A terminal that may enrol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Its number.
    pub id: i64,
    /// Its serial number.
    pub sn: String,
    /// Its one-time activation code.
    pub code: String,
}

/// What the server counted, each number in two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Totals {
    /// Check-ins in cohort cells.
    pub check_ins: u64,
    /// Failures in cohort cells.
    pub failures: u64,
    /// Check-ins by the terminals' own rows.
    pub state_check_ins: u64,
    /// Failures by the terminals' own rows.
    pub state_failures: u64,
}

impl Admin {
    /// Makes the first administrator and an API key: a session would end during a long test.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn set_up(server: &Server) -> Self {
        let client = Client::new(Duration::from_secs(60));
        let mut admin = Self { client, url: server.url.clone(), token: String::new() };
        let body = json!({
            "bootstrap_token": server.bootstrap_token, "login": LOGIN, "name": "Test administrator",
            "password": PASSWORD, "organization_name": "总部", "language": "en",
        });
        admin.post("/api/v1/setup", &body);
        admin.sign_in();
        admin
    }

    /// Signs in where the first administrator was made before.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn of(server: &Server) -> Self {
        let client = Client::new(Duration::from_secs(60));
        let mut admin = Self { client, url: server.url.clone(), token: String::new() };
        admin.sign_in();
        admin
    }

    fn sign_in(&mut self) {
        let session = self.post("/api/v1/session", &json!({"login": LOGIN, "password": PASSWORD}));
        self.token = text(&session, "access_token");
        let key = json!({"name": "tests", "role": "platform_admin", "expires_in_days": 1});
        self.token = text(&self.post("/api/v1/api-keys", &key), "secret");
    }

    /// `GET path`, which must succeed.
    ///
    /// # Panics
    /// When it does not.
    pub fn get(&self, path: &str) -> Value {
        self.expect("GET", path, "", b"").json()
    }

    /// Bytes of `GET path`, which must succeed.
    ///
    /// # Panics
    /// When it does not.
    pub fn bytes(&self, path: &str) -> Vec<u8> {
        self.expect("GET", path, "", b"").body
    }

    /// `POST path` with JSON, which must succeed.
    ///
    /// # Panics
    /// When it does not.
    pub fn post(&self, path: &str, body: &Value) -> Value {
        self.expect("POST", path, "application/json", body.to_string().as_bytes()).json()
    }

    /// `POST path` with any body, which must succeed.
    ///
    /// # Panics
    /// When it does not.
    pub fn upload(&self, path: &str, kind: &str, body: &[u8]) -> Value {
        self.expect("POST", path, kind, body).json()
    }

    fn expect(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Answer {
        let answer = self.client.send(method, &format!("{}{path}", self.url), &self.token, kind, body);
        let answer = answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert!((200..300).contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.text());
        answer
    }

    /// Makes a model known.
    pub fn add_model(&self, code: &str) {
        let capabilities = json!({
            "ab_slots": true, "battery": true, "wifi": true, "cell": true, "esign": true, "os": "linux",
            "flash_kib": 131_072, "battery_percent_min": 20,
        });
        self.post("/api/v1/models", &json!({"code": code, "name": code, "capabilities": capabilities}));
    }

    /// Registers a terminal for a merchant and puts it into use.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn add_terminal(&self, sn: &str, model: &str) -> Registered {
        self.add_terminals(&[sn.to_owned()], model).remove(0)
    }

    /// Registers terminals for merchants and puts them into use.
    ///
    /// # Panics
    /// When the server refuses one.
    pub fn add_terminals(&self, sns: &[String], model: &str) -> Vec<Registered> {
        let ids: Vec<i64> = sns.iter().enumerate().map(|(index, sn)| self.add_one(index, sn, model)).collect();
        let issued = self.post("/api/v1/terminals/activation-codes", &json!({"ids": ids, "valid_days": 7}));
        let codes = issued["codes"].as_array().unwrap();
        assert_eq!(codes.len(), ids.len(), "some terminals got no activation code: {}", issued["refused"]);
        codes
            .iter()
            .map(|code| Registered { id: number(code, "terminal_id"), sn: text(code, "sn"), code: text(code, "code") })
            .collect()
    }

    fn add_one(&self, index: usize, sn: &str, model: &str) -> i64 {
        let body = json!({
            "sn": sn, "model": model, "region": "shanghai", "merchant_no": format!("85033105311{index:04}"),
            "merchant_name": format!("示例商户 {index}"), "store_name": "门店 1",
        });
        let mut terminal = self.post("/api/v1/terminals", &body);
        let id = number(&terminal, "id");
        for action in ["bind", "activate"] {
            let body = json!({"action": action, "version": number(&terminal, "version")});
            terminal = self.post(&format!("/api/v1/terminals/{id}/lifecycle"), &body);
        }
        id
    }

    /// Uploads a payload and publishes a release of it; gives the release's number.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn publish(&self, version: &str, counter: i64, model: &str, payload: &[u8]) -> i64 {
        let stored = self.upload("/api/v1/releases/payloads", "application/octet-stream", payload);
        let body = json!({
            "name": format!("Release {version}"), "component": "os", "firmware_version": version,
            "release_counter": counter, "models": [model], "sha256": text(&stored, "sha256"),
        });
        let id = number(&self.post("/api/v1/releases", &body), "id");
        for action in ["approve", "publish"] {
            self.post(&format!("/api/v1/releases/{id}/{action}"), &json!({}));
        }
        id
    }

    /// Starts a rollout of a release over `filter`; gives its number.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn roll_out(&self, name: &str, release: i64, filter: &Value) -> i64 {
        let rollout = self.post("/api/v1/rollouts", &json!({"name": name, "release_id": release, "filter": filter}));
        let id = number(&rollout, "id");
        let preview = self.get(&format!("/api/v1/rollouts/{id}/preview"));
        let body = json!({"confirm_count": number(&preview, "count")});
        self.post(&format!("/api/v1/rollouts/{id}/start"), &body);
        id
    }

    /// A rollout as it is now.
    pub fn rollout(&self, id: i64) -> Value {
        self.get(&format!("/api/v1/rollouts/{id}"))
    }

    /// The one assignment of a rollout of one terminal, once the planner has made it.
    ///
    /// # Panics
    /// When there is none within a minute, or more than one.
    pub fn only_assignment(&self, rollout: i64) -> Value {
        let mut found = Vec::new();
        crate::wait_until("the planner makes the assignment", || {
            let page = self.get(&format!("/api/v1/rollouts/{rollout}/assignments"));
            found = page["items"].as_array().unwrap().clone();
            !found.is_empty()
        });
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    /// Waits until the planner has offered the release to so many terminals of a rollout.
    ///
    /// # Panics
    /// When that does not happen within a minute.
    pub fn wait_for_offers(&self, rollout: i64, count: i64) {
        crate::wait_until("the release is offered", || self.rollout(rollout)["counts"]["offered"] == count);
    }

    /// What the server counted.
    pub fn totals(&self) -> Totals {
        serde_json::from_value(self.get("/api/v1/check-ins/totals")).unwrap()
    }
}

/// The text in this field.
///
/// # Panics
/// When there is none.
pub fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("no text `{field}` in {value}")).to_owned()
}

/// The number in this field.
///
/// # Panics
/// When there is none.
pub fn number(value: &Value, field: &str) -> i64 {
    value[field].as_i64().unwrap_or_else(|| panic!("no number `{field}` in {value}"))
}
