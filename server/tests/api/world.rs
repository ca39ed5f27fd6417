//! Everything the walks of the endpoint table need: two organizations, people of every role, one object of each kind,
//! and one valid body for each endpoint that takes one.
//!
//! A new endpoint with path parameters needs a line in [`World::address`], a new one with a body a line in
//! [`World::example`]; the walks fail until it has them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::http::Method;
use diesel::prelude::*;
use serde_json::{Value, json};
use tillward_protocol::ids::{Sha256Hex, TerminalId};
use tillward_server::db;
use tillward_server::db::schema::terminals;
use tillward_server::failures::classify::{EventFacts, judge_event};
use tillward_server::failures::incidents::NewIncident;
use tillward_server::failures::verdicts::{self, NewVerdict};
use tillward_server::http::endpoints::{Access, Endpoint};
use tillward_server::operators::{self, Role};

use crate::fixtures::{ADMIN, PASSWORD, admin, headquarters, organization};
use crate::harness::TestServer;
use crate::receiver::NOWHERE;

/// In the name of everything that belongs to the first organization, so that its traces are found anywhere.
pub const MARK: &str = "ZQX";

/// Serial number of the first organization's terminal.
const SN: &str = "ZQXSN000001";

/// Canonical bytes of the first organization's profile.
const PARAMETERS: &str = r#"{"a":1}"#;

/// One role's credentials in one organization.
#[derive(Clone)]
pub struct Person {
    /// Access token.
    pub token: String,
    /// The console's cookie.
    pub cookie: String,
}

/// A server with two organizations side by side.
pub struct World<'a> {
    pub server: &'a TestServer,
    /// Headquarters' first administrator.
    pub admin: Person,
    /// People of the first organization, by role.
    pub ours: BTreeMap<Role, Person>,
    /// The other organization's administrator, who has every permission there.
    pub other: Person,
    /// A good session token of a terminal that is not registered.
    pub terminal: String,
    ours_id: i64,
    /// Numbers of the objects made so far, by kind.
    made: RefCell<BTreeMap<&'static str, String>>,
    http: ureq::Agent,
}

impl<'a> World<'a> {
    pub fn new(server: &'a TestServer) -> Self {
        let token = admin(server);
        let root = headquarters(server, &token);
        let ours_id = organization(server, &token, root, &format!("{MARK}-ALPHA"));
        let other_id = organization(server, &token, root, "BETA");
        let person = |organization_id: i64, role: Role| {
            let login = format!("{}.{organization_id}", role.as_str());
            let new = json!({
                "organization_id": organization_id, "login": login, "name": "Somebody", "password": PASSWORD,
                "role": role.as_str(), "language": "en",
            });
            server.post("/api/v1/operators", &token, &new).expect(201);
            sign_in(server, &login)
        };
        let ours = Role::ALL.into_iter().map(|role| (role, person(ours_id, role))).collect();
        let other = person(other_id, Role::PlatformAdmin);
        let terminal = server.state.tokens.issue_terminal(TerminalId(987_654), 1, server.clock.now()).unwrap();
        let http = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(Duration::from_secs(30)))
            .build()
            .new_agent();
        let admin = sign_in(server, ADMIN);
        Self { server, admin, ours, other, terminal, ours_id, made: RefCell::default(), http }
    }

    /// The first organization's administrator, who has every permission there.
    pub fn owner(&self) -> &Person {
        &self.ours[&Role::PlatformAdmin]
    }

    /// The address of a row, with the first organization's objects for its parameters; `None` when there is no object
    /// of that kind to ask for yet.
    pub fn address(&self, row: &Endpoint) -> Option<String> {
        if !row.path.contains('{') {
            return Some(row.path.to_owned());
        }
        if row.access == Access::Public {
            // What is public has no owner: any value does.
            return Some(fill(row.path, |_| Some("x".to_owned())).unwrap());
        }
        let root = row.path.split("/{").next().unwrap();
        fill(row.path, |name| match (root, name) {
            ("/api/v1/organizations" | "/organizations", "id") => Some(self.ours_id.to_string()),
            ("/api/v1/operators" | "/operators", "id") => Some(self.object("operator", Self::make_operator)),
            ("/api/v1/terminals" | "/terminals" | "/tuf/director/t", "id" | "terminal_id") => {
                Some(self.object("terminal", Self::make_terminal))
            }
            ("/api/v1/releases" | "/releases", "id") => Some(self.object("release", Self::make_release)),
            ("/terminals", "sn") => {
                self.terminal_id();
                Some(SN.to_owned())
            }
            ("/api/v1/profiles" | "/profiles", "id") => Some(self.object("profile", Self::make_profile)),
            ("/api/v1/rollouts" | "/rollouts", "id") => Some(self.object("rollout", Self::make_rollout)),
            ("/api/v1/terminals/imports" | "/terminals/imports", "id") => {
                Some(self.object("import", Self::make_import))
            }
            ("/device/v1/configs", "hash") => {
                self.object("profile", Self::make_profile);
                Some(Sha256Hex::of(PARAMETERS.as_bytes()).as_str().to_owned())
            }
            ("/tuf/director/t", "file") => Some("timestamp.json".to_owned()),
            ("/api/v1/incidents" | "/incidents", "id") => Some(self.object("incident", Self::make_incident)),
            ("/terminals", "event_id") => Some(self.object("failure", Self::make_failure)),
            ("/api/v1/lookups" | "/lookups", "id") => Some(self.object("lookup", Self::make_lookup)),
            ("/api/v1/evidence-packs" | "/evidence-packs", "id") => {
                Some(self.object("evidence_pack", Self::make_evidence_pack))
            }
            ("/api/v1/work-orders" | "/work-orders" | "/m", "id") => {
                Some(self.object("work order", Self::make_work_order))
            }
            ("/m", "sn") => {
                self.terminal_id();
                Some(SN.to_owned())
            }
            ("/api/v1/maintenance-rules" | "/api/v1/checklists", "id") => Some(self.ours_id.to_string()),
            ("/api/v1/checklists", "kind") => Some("inspection".to_owned()),
            ("/api/v1/imports" | "/imports", "id") => Some(self.object("feed import", Self::make_feed_import)),
            ("/api/v1/feed-channels" | "/channel/v1" | "/channels", "id") => {
                Some(self.object("feed channel", Self::make_feed_channel))
            }
            ("/api/v1/merchants" | "/merchants", "id") => Some(self.object("merchant", Self::make_merchant)),
            ("/api/v1/merchant-numbers" | "/merchant-numbers", "id") => {
                Some(self.object("merchant number", Self::make_merchant_number))
            }
            ("/api/v1/settlements" | "/reconciliation/settlements", "id") => {
                Some(self.object("settlement", Self::make_settlement))
            }
            ("/api/v1/alert-channels" | "/alerts/channels", "id") => {
                Some(self.object("alert_channel", Self::make_alert_channel))
            }
            ("/api/v1/alert-rules" | "/alerts/rules", "id") => Some(self.object("alert_rule", Self::make_alert_rule)),
            ("/api/v1/api-keys", "id") => Some(self.object("api_key", Self::make_api_key)),
            ("/api/v1/rules/tables", "organization_id") => Some(self.ours_id.to_string()),
            ("/api/v1/rules/versions", "hash") => Some(self.object("verdict", Self::make_verdict)),
            _ => None,
        })
    }

    /// A valid body of a row that takes one; `None` when there is none to send yet. It is good for the object that
    /// [`World::address`] names.
    pub fn example(&self, method: &Method, path: &str) -> Option<Value> {
        let body = match (method.as_str(), path) {
            ("POST", "/api/v1/setup") => json!({
                "bootstrap_token": "00", "login": "first", "name": "First", "password": PASSWORD,
                "organization_name": "HQ", "language": "en",
            }),
            ("POST", "/api/v1/session") => json!({ "login": "nobody", "password": PASSWORD }),
            ("POST", "/api/v1/session/refresh") => json!({ "refresh_token": "twr_00" }),
            ("POST", "/api/v1/me/password") => json!({ "present_password": "not the one", "password": PASSWORD }),
            ("POST", "/api/v1/operators") => json!({
                "organization_id": self.ours_id, "login": "zqx.second", "name": "Second", "password": PASSWORD,
                "role": "field", "language": "en",
            }),
            ("PATCH", "/api/v1/operators/{id}") => json!({
                "version": 1, "name": "Renamed", "role": "field", "status": "active", "language": "en",
            }),
            ("POST", "/api/v1/operators/{id}/password") => json!({ "password": "a fine new phrase" }),
            ("POST", "/api/v1/api-keys") => json!({
                "name": "second", "role": "auditor", "organization_id": self.ours_id, "expires_in_days": 30,
            }),
            ("POST", "/api/v1/organizations") => json!({
                "parent_id": self.ours_id, "name": "Second", "short_code": "ZQX-SECOND", "region": "3301",
            }),
            ("PATCH", "/api/v1/organizations/{id}") => json!({
                "version": 1, "name": "Renamed", "short_code": "ZQX-RENAMED", "region": "3301", "status": "active",
            }),
            ("POST", "/api/v1/models") => json!({
                "code": "zqx-m2", "name": "M2", "capabilities": { "ab_slots": true, "cell": true },
            }),
            ("POST", "/api/v1/terminals") => {
                let model = self.model();
                json!({
                    "sn": "ZQXSN000002", "model": model, "organization_id": self.ours_id, "hardware": "v2",
                    "merchant_no": "898330148160001", "merchant_name": "M", "store_name": "S", "terminal_no": "12345678",
                    "region": "3301", "iccid": "89860000000000000001", "imei": "490154203237518", "notes": "n",
                    "tags": ["vip"], "check_in_interval_s": 900,
                })
            }
            ("PATCH", "/api/v1/terminals/{id}") => json!({
                "version": 1, "merchant_no": "898330148160001", "merchant_name": "M", "store_name": "S",
                "terminal_no": "12345678", "region": "3301", "hardware": "v2", "notes": "n",
            }),
            ("POST", "/api/v1/terminals/{id}/lifecycle") => json!({ "action": "suspend", "version": 1 }),
            ("POST", "/api/v1/terminals/transfer") => json!({
                "ids": [self.terminal_id()], "organization_id": self.ours_id,
            }),
            ("POST", "/api/v1/terminals/{id}/activation-codes") => json!({ "valid_days": 3 }),
            ("POST", "/api/v1/terminals/activation-codes") => json!({ "ids": [self.terminal_id()], "valid_days": 3 }),
            ("POST", "/api/v1/releases") => self.draft(2),
            ("POST", "/api/v1/profiles") => json!({
                "name": "second", "organization_id": self.ours_id, "parameters": { "a": "x", "b": true, "c": 1 },
            }),
            ("POST", "/api/v1/profiles/{id}/assign") => json!({ "ids": [self.terminal_id()] }),
            ("POST", "/api/v1/rollouts") => self.rollout(),
            ("POST", "/api/v1/rollouts/{id}/start") => json!({ "confirm_count": 1 }),
            ("POST", "/api/v1/rollouts/{id}/submit") => json!({ "confirm_count": 1, "why": "a test" }),
            ("POST", "/api/v1/rollouts/{id}/stop-scope") => json!({
                "attribute": "model", "value": self.model(), "why": "a test",
            }),
            ("POST", "/api/v1/rollouts/{id}/undo") => json!({ "release_id": 1 }),
            (
                "POST",
                "/api/v1/rollouts/{id}/pause"
                | "/api/v1/rollouts/{id}/cancel"
                | "/api/v1/rollouts/{id}/reject"
                | "/api/v1/rollouts/{id}/advance"
                | "/api/v1/rollouts/{id}/override",
            ) => json!({ "why": "a test" }),
            (
                "POST",
                "/api/v1/incidents/{id}/acknowledge"
                | "/api/v1/incidents/{id}/mitigate"
                | "/api/v1/incidents/{id}/resolve"
                | "/api/v1/incidents/{id}/note",
            ) => json!({ "note": "a test" }),
            ("POST", "/api/v1/incidents/{id}/assign") => {
                let owner = self.object("incident owner", |world| world.make_person("zqx.owner", "org_ops"));
                json!({ "operator_id": owner.parse::<i64>().unwrap(), "note": "a test" })
            }
            ("POST", "/api/v1/failures") => json!({ "failures": [self.failure("zqx-second")] }),
            ("POST", "/api/v1/lookups") => self.lookup(),
            ("POST", "/api/v1/evidence-packs") => json!({
                "terminal_id": self.terminal_id(), "event_id": self.object("failure", Self::make_failure),
            }),
            ("POST", "/api/v1/failures/reevaluate") => json!({
                "from_ms": 1, "to_ms": 2, "terminal_id": self.terminal_id(), "cause": "NET.SIGNAL", "after": [1, 1, "e"],
            }),
            ("PUT", "/api/v1/rules/tables/{organization_id}") => json!({
                "version": 0, "note": "a test", "overrides": [
                    { "table": "thresholds", "key": "weak_rsrp_dbm", "row": { "value": "-112" } },
                ],
            }),
            ("POST", "/api/v1/work-orders") => json!({
                "terminal_id": self.terminal_id(), "kind": "repair", "reason": "printer", "note": "a test",
                "urgency": "soon", "due_in_days": 3, "expected_firmware": "4.2.0",
            }),
            ("POST", "/api/v1/work-orders/{id}/assign") => {
                let owner = self.object("incident owner", |world| world.make_person("zqx.owner", "org_ops"));
                json!({ "operator_id": owner.parse::<i64>().unwrap(), "note": "a test" })
            }
            (
                "POST",
                "/api/v1/work-orders/{id}/start"
                | "/api/v1/work-orders/{id}/close-unproven"
                | "/api/v1/work-orders/{id}/cancel"
                | "/api/v1/work-orders/{id}/note",
            ) => json!({ "note": "a test" }),
            ("POST", "/api/v1/work-orders/{id}/answer") => {
                json!({ "answers": { "serial": { "found": "ok", "note": "a test" } } })
            }
            ("POST", "/api/v1/work-orders/{id}/done") => json!({
                "note": "a test", "answers": { "serial": { "found": "fault", "note": "" } }, "replacement_sn": "ZQXSN000009",
            }),
            ("POST", "/api/v1/maintenance-rules/{id}") => json!({
                "version": 0, "rules": {
                    "inspection_days": 90, "inspection_days_by_model": { "zqx-m1": 30 },
                    "inspection_days_by_tag": { "vip": 60 }, "dormant_days": 60, "dormant_now_days": 80, "error_percent": 20,
                    "error_tries_min": 15, "battery_percent_min": 15, "coin_mv_min": 2_700, "coin_mv_now": 2_500,
                    "expiry_days": [90, 30, 7], "moved_m": 3_000, "open_orders_for": ["tamper"],
                },
            }),
            ("POST", "/api/v1/checklists/{id}/{kind}") => json!({
                "version": 0, "items": [{ "id": "seals", "zh": "封签完好", "en": "Seals are whole", "required": true }],
            }),
            ("POST", "/api/v1/guidance/teach") => {
                let path = format!("/api/v1/organizations/{}", self.ours_id);
                let organization = self.server.get(&path, &self.admin.token).expect(200).json();
                json!({
                    "org_path": organization["path"], "merchant_no": "898330148160001", "store_name": "S", "note": "a test",
                })
            }
            ("POST", "/api/v1/alert-channels") => json!({
                "name": "second", "organization_id": self.ours_id, "level": "P2", "transport": NOWHERE.transport(),
            }),
            ("POST", "/api/v1/imports/{id}/start") => json!({ "dry_run": true, "mapping": feed_mapping() }),
            ("POST", "/api/v1/import-mappings") => feed_mapping(),
            ("POST", "/api/v1/feed-channels") => json!({ "name": "second", "organization_id": self.ours_id }),
            ("POST", "/api/v1/merchants") => json!({
                "organization_id": self.ours_id, "merchant_no": "898330148160002", "name": "M", "mcc": "5311",
                "rate_ppm": 6_000, "risk_class": "standard",
            }),
            ("PATCH", "/api/v1/merchants/{id}") => json!({
                "merchant_no": "898330148160001", "name": "Renamed", "mcc": "5311", "rate_ppm": 3_800,
                "risk_class": "preferential", "version": 1,
            }),
            ("POST", "/api/v1/merchant-numbers") => json!({
                "organization_id": self.ours_id, "bound_no": "898330148160001", "number": "898330148160009",
                "reason": "scan", "valid_from_ms": 1, "valid_to_ms": 2,
            }),
            ("POST", "/api/v1/merchant-numbers/{id}/request" | "/api/v1/merchant-numbers/{id}/foreign") => json!({
                "reason": "a test", "valid_from_ms": 1, "valid_to_ms": 2,
            }),
            ("POST", "/api/v1/terminals/{id}/bindings") => json!({
                "merchant_no": "898330148160001", "merchant_name": "M", "terminal_no": "12345678", "from_ms": 1,
                "to_ms": 2, "reason": "a test",
            }),
            ("POST", "/channel/v1/{id}/transactions") => json!({
                "deviceSn": SN, "amount": "12.30", "time": "2026-11-22 18:05:00",
            }),
            ("PATCH", "/api/v1/alert-channels/{id}") => json!({
                "version": 1, "name": "renamed", "level": "P1", "language": "en", "batch_s": 60, "rate_per_min": 5,
                "digest": true, "paused": false, "url": "http://127.0.0.1:9/other",
            }),
            ("POST", "/api/v1/alert-deliveries/replay") => {
                let channel = self.object("alert_channel", Self::make_alert_channel);
                json!({ "channel_id": channel.parse::<i64>().unwrap() })
            }
            ("POST", "/api/v1/alert-rules") => self.rule(),
            ("PUT", "/api/v1/alert-rules/{id}") => {
                let mut rule = self.rule();
                let fields = rule.as_object_mut().unwrap();
                fields.remove("organization_id");
                fields.insert("version".to_owned(), json!(1));
                rule
            }
            ("PUT", "/api/v1/alert-hours") => json!({
                "organization_id": self.ours_id, "version": 0, "time_zone": "Asia/Shanghai", "digest_at": "08:30",
                "quiet": { "from": "22:00", "until": "07:00", "breaks": ["P1"] },
            }),
            ("POST", "/device/v1/enrol") => json!({
                "sn": "ZQXSN000001", "activation_code": "ABCD-EFGH-JKMN-PQRS", "public_key": "00".repeat(32),
                "proof": "00".repeat(64),
            }),
            ("POST", "/device/v1/challenge") => json!({ "terminal_id": self.terminal_id() }),
            ("POST", "/device/v1/session") => json!({
                "terminal_id": self.terminal_id(), "challenge": "1.00", "proof": "00".repeat(64),
            }),
            ("POST", "/device/v1/check-in") => crate::check_in::check_in(1, 1),
            _ => return None,
        };
        Some(body)
    }

    /// Sends a request and returns its status and where it leads.
    pub fn status(&self, row: &Endpoint, address: &str, who: Who<'_>) -> (u16, Option<String>) {
        let (status, headers) = self.head(row, address, who);
        (status, headers.get("location").map(|value| value.to_str().unwrap().to_owned()))
    }

    /// Sends a request and returns its status and headers; reads nothing of the body, which may never end.
    pub fn head(&self, row: &Endpoint, address: &str, who: Who<'_>) -> (u16, ureq::http::HeaderMap) {
        let mut headers = Vec::new();
        match who {
            Who::Stranger => {}
            Who::Bearer(token) => headers.push(("authorization", format!("Bearer {token}"))),
            Who::Cookie(cookie, site) => {
                headers.push(("cookie", format!("tillward={cookie}")));
                headers.push(("sec-fetch-site", site.to_owned()));
            }
        }
        let example = self.example(&row.method, row.path);
        let body = example.map(|body| body.to_string()).unwrap_or_default();
        if !body.is_empty() {
            headers.push(("content-type", "application/json".to_owned()));
        }
        let mut request =
            ureq::http::Request::builder().method(row.method.as_str()).uri(format!("{}{address}", self.server.url));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let sent = if matches!(row.method, Method::GET | Method::HEAD | Method::DELETE) {
            self.http.run(request.body(()).unwrap())
        } else {
            self.http.run(request.body(body).unwrap())
        };
        let response = sent.unwrap_or_else(|error| panic!("{} {address}: {error}", row.method));
        (response.status().as_u16(), response.headers().clone())
    }

    /// One object of a kind, made when it is first asked for.
    fn object(&self, kind: &'static str, make: impl FnOnce(&Self) -> Value) -> String {
        if let Some(id) = self.made.borrow().get(kind) {
            return id.clone();
        }
        let made = make(self);
        let id = match &made["id"] {
            Value::Number(id) => id.to_string(),
            Value::String(id) => id.clone(),
            _ => panic!("{kind} without a number: {made}"),
        };
        self.made.borrow_mut().insert(kind, id.clone());
        id
    }

    fn make_operator(&self) -> Value {
        self.make_person("zqx.person", "field")
    }

    fn make_person(&self, login: &str, role: &str) -> Value {
        let new = json!({
            "organization_id": self.ours_id, "login": login, "name": format!("{MARK} person"),
            "password": PASSWORD, "role": role,
        });
        self.server.post("/api/v1/operators", &self.admin.token, &new).expect(201).json()
    }

    /// A model that headquarters made known.
    fn model(&self) -> String {
        const CODE: &str = "zqx-m1";
        self.object("model", |world| {
            let new = json!({ "code": CODE, "name": "Known to all" });
            world.server.post("/api/v1/models", &world.admin.token, &new).expect(201);
            json!({ "id": 1 })
        });
        CODE.to_owned()
    }

    fn terminal_id(&self) -> i64 {
        self.object("terminal", Self::make_terminal).parse().unwrap()
    }

    fn make_terminal(&self) -> Value {
        let new = json!({ "sn": SN, "model": self.model() });
        self.server.post("/api/v1/terminals", &self.owner().token, &new).expect(201).json()
    }

    /// A session token of a registered terminal of the other organization.
    pub fn other_terminal(&self) -> String {
        let new = json!({ "sn": "BETASN000001", "model": self.model() });
        let made = self.server.post("/api/v1/terminals", &self.other.token, &new).expect(201).json();
        let id = made["id"].as_i64().unwrap();
        let epoch = self.server.state.db.read(move |conn| {
            let epoch = terminals::table.find(id).select(terminals::session_epoch).first::<i64>(conn);
            epoch.map_err(db::Error::from)
        });
        let epoch = self.server.block_on(epoch).unwrap();
        self.server.state.tokens.issue_terminal(TerminalId(id), epoch, self.server.clock.now()).unwrap()
    }

    fn make_release(&self) -> Value {
        let draft = self.draft(1);
        self.server.post("/api/v1/releases", &self.owner().token, &draft).expect(201).json()
    }

    /// A release of a payload that was uploaded.
    fn draft(&self, counter: u32) -> Value {
        let payload = format!("firmware {counter}");
        let path = "/api/v1/releases/payloads";
        let stored = self.server.send("POST", path, &self.owner().token, &[], payload.as_bytes()).expect(201).json();
        json!({
            "name": format!("{MARK} release"), "notes": "", "component": "os",
            "firmware_version": format!("4.{counter}.0"), "release_counter": counter, "models": [self.model()],
            "min_from_counter": 1, "requires": [], "sha256": stored["sha256"],
        })
    }

    fn make_profile(&self) -> Value {
        let parameters: Value = serde_json::from_str(PARAMETERS).unwrap();
        let new = json!({ "name": format!("{MARK} profile"), "parameters": parameters });
        self.server.post("/api/v1/profiles", &self.owner().token, &new).expect(201).json()
    }

    /// A file of one row that is refused.
    fn make_import(&self) -> Value {
        let file = format!("sn,model\n{MARK}SN000003,{MARK}-unknown\n");
        let headers = [("content-type", "text/csv")];
        let path = "/api/v1/terminals/import";
        self.server.send("POST", path, &self.owner().token, &headers, file.as_bytes()).expect(200).json()
    }

    fn make_rollout(&self) -> Value {
        self.server.post("/api/v1/rollouts", &self.owner().token, &self.rollout()).expect(201).json()
    }

    /// A rollout of a release that was published.
    fn rollout(&self) -> Value {
        let release_id = self.object("published release", |world| {
            let token = &world.owner().token;
            let made = world.server.post("/api/v1/releases", token, &world.draft(100)).expect(201).json();
            for step in ["approve", "publish"] {
                world.server.post(&format!("/api/v1/releases/{}/{step}", made["id"]), token, &json!({})).expect(200);
            }
            made
        });
        json!({
            "name": format!("{MARK} rollout"), "release_id": release_id.parse::<i64>().unwrap(),
            "filter": { "models": [self.model()], "terminal_ids": [self.terminal_id()], "exclude_tags": ["never"] },
            "strategy": {
                "stages": [{ "count": 1 }, { "percent": 50 }], "hold_back_percent": 5, "soak_s": 60, "in_flight_max": 5,
                "in_flight_per_site_max": 1, "gate": { "outcome_budget_bp": 100, "watch_s": 3_600, "opens_stages": true },
                "windows": [{ "days": [1, 7], "from": "00:00", "until": "23:59" }],
            },
            "assignment_timeout_s": 3_600, "retry_max": 1, "retry_wait_s": 60, "priority": 1,
        })
    }

    /// Rules open incidents, not people.
    fn make_incident(&self) -> Value {
        let path = format!("/api/v1/organizations/{}", self.ours_id);
        let organization = self.server.get(&path, &self.owner().token).expect(200).json();
        let new = NewIncident {
            org_path: organization["path"].as_str().unwrap().to_owned(),
            subject: format!("{MARK} incident"),
            terminal_ids: vec![self.terminal_id()],
            ..crate::incidents::halted(1)
        };
        json!({ "id": crate::incidents::open(self.server, new) })
    }

    /// A failure of the first organization's terminal that no terminal reported.
    fn failure(&self, id: &str) -> Value {
        self.terminal_id();
        json!({
            "sn": SN, "id": id, "occurred_at_ms": self.server.clock.now().0 - 60_000, "transaction": "sale",
            "response_code": "51", "amount_fen": 9_900, "batch_no": "000001", "trace_no": format!("{:06}", id.len()),
            "note": format!("{MARK} failure"),
        })
    }

    fn make_failure(&self) -> Value {
        const ID: &str = "zqx-first";
        let new = json!({ "failures": [self.failure(ID)] });
        self.server.post("/api/v1/failures", &self.owner().token, &new).expect(200);
        json!({ "id": ID })
    }

    fn lookup(&self) -> Value {
        self.terminal_id();
        json!({
            "sn": SN, "at_ms": self.server.clock.now().0 - 60_000, "amount_fen": 9_900, "source": "unionpay_app",
            "merchant_name": format!("{MARK} shop"), "merchant_no": "850331053110612", "mcc": "5311", "note": "n",
        })
    }

    fn make_lookup(&self) -> Value {
        self.server.post("/api/v1/lookups", &self.owner().token, &self.lookup()).expect(201).json()
    }

    fn make_evidence_pack(&self) -> Value {
        let event_id = self.object("failure", Self::make_failure);
        let new = json!({ "terminal_id": self.terminal_id(), "event_id": event_id });
        self.server.post("/api/v1/evidence-packs", &self.owner().token, &new).expect(201).json()
    }

    /// A verdict, by the tables that it was judged by.
    fn make_verdict(&self) -> Value {
        let path = format!("/api/v1/organizations/{}", self.ours_id);
        let organization = self.server.get(&path, &self.owner().token).expect(200).json();
        let org_path = organization["path"].as_str().unwrap().to_owned();
        let (terminal_id, now) = (self.terminal_id(), self.server.clock.now());
        let recorded = self.server.state.db.write(move |conn| {
            let tables = verdicts::in_force(conn, &org_path)?;
            let new = NewVerdict {
                source: verdicts::Source::Failure,
                terminal_id: Some(terminal_id),
                sn: None,
                merchant_no: None,
                item: MARK.to_owned(),
                org_path,
                received_at_ms: now.0,
                response_code: None,
                judgement: judge_event(&EventFacts::default(), &tables.tables),
                tables,
            };
            verdicts::record_all(conn, std::slice::from_ref(&new), now)?;
            Ok::<_, db::Error>(new.tables.tables.version.clone())
        });
        json!({ "id": self.server.block_on(recorded).unwrap() })
    }

    fn make_work_order(&self) -> Value {
        let new = json!({ "terminal_id": self.terminal_id(), "kind": "inspection", "note": format!("{MARK} order") });
        let made = self.server.post("/api/v1/work-orders", &self.owner().token, &new).expect(201).json();
        made["order"].clone()
    }

    fn make_alert_channel(&self) -> Value {
        let new = json!({ "name": format!("{MARK} channel"), "transport": NOWHERE.transport() });
        let made = self.server.post("/api/v1/alert-channels", &self.owner().token, &new).expect(201).json();
        made["channel"].clone()
    }

    /// Numbers as texts: they are parts of addresses.
    fn make_feed_channel(&self) -> Value {
        let new = json!({ "name": format!("{MARK} channel") });
        let made = self.server.post("/api/v1/feed-channels", &self.owner().token, &new).expect(201).json();
        let id = made["channel"]["id"].as_i64().unwrap();
        self.made.borrow_mut().insert("feed secret", made["secret"].as_str().unwrap().to_owned());
        let path = format!("/api/v1/import-mappings?source={id}/callback");
        let mapping = json!({ "columns": { "sn": "deviceSn", "amount_fen": "amount", "at_ms": "time" } });
        self.server.post(&path, &self.owner().token, &mapping).expect(200);
        json!({ "id": id })
    }

    /// What signs a callback of the first organization's channel.
    pub fn signed(&self, body: &[u8]) -> Vec<(&'static str, String)> {
        self.object("feed channel", Self::make_feed_channel);
        let secret = self.made.borrow()["feed secret"].clone();
        crate::feed::signed(&secret, self.server.clock.now().seconds(), body)
    }

    fn make_feed_import(&self) -> Value {
        let channel = self.object("feed channel", Self::make_feed_channel);
        let file = format!("SN,amount,time\n{MARK}SN000001,12.30,2026-11-22 18:05:00\n");
        let path = format!("/api/v1/imports?kind=channel_feed&source={channel}&start=hold&file_name={MARK}.csv");
        self.server.send("POST", &path, &self.owner().token, &[], file.as_bytes()).expect(202).json()
    }

    fn make_merchant(&self) -> Value {
        let new = json!({ "merchant_no": "898330148160001", "name": format!("{MARK} merchant") });
        self.server.post("/api/v1/merchants", &self.owner().token, &new).expect(201).json()
    }

    fn make_merchant_number(&self) -> Value {
        let new = json!({
            "bound_no": "898330148160001", "number": "898330148160003", "reason": format!("{MARK} reason"),
        });
        self.server.post("/api/v1/merchant-numbers", &self.owner().token, &new).expect(201).json()
    }

    fn make_settlement(&self) -> Value {
        self.terminal_id();
        let body = json!({ "deviceSn": SN, "amount": "1.00", "time": self.server.clock.now().0 }).to_string();
        let channel = self.object("feed channel", Self::make_feed_channel);
        let headers = self.signed(body.as_bytes());
        let mut headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        headers.push(("content-type", "application/json"));
        let path = format!("/channel/v1/{channel}/transactions");
        self.server.send("POST", &path, "", &headers, body.as_bytes()).expect(200);
        self.server.get("/api/v1/settlements", &self.owner().token).expect(200).json()["items"][0].clone()
    }

    /// A rule about everything, for the first organization's channel.
    fn rule(&self) -> Value {
        let channel = self.object("alert_channel", Self::make_alert_channel);
        json!({
            "name": format!("{MARK} rule"), "organization_id": self.ours_id, "enabled": true, "kinds": ["tamper"],
            "levels": ["P1", "P2"], "models": [self.model()], "delivery": "now",
            "steps": [[channel.parse::<i64>().unwrap()]],
        })
    }

    fn make_alert_rule(&self) -> Value {
        self.server.post("/api/v1/alert-rules", &self.owner().token, &self.rule()).expect(201).json()
    }

    fn make_api_key(&self) -> Value {
        let new = json!({ "name": format!("{MARK} key"), "role": "auditor", "expires_in_days": 30 });
        let made = self.server.post("/api/v1/api-keys", &self.owner().token, &new).expect(201).json();
        made["api_key"].clone()
    }
}

fn feed_mapping() -> Value {
    json!({
        "columns": { "sn": "SN", "amount_fen": "amount", "at_ms": "time" }, "unit": "yuan", "rate_unit": "percent",
        "utc_offset_min": 480, "words": [{ "field": "status", "says": "S", "means": "success" }],
        "number_form": { "length": 20, "prefix": "2026" }, "rows_path": "list",
    })
}

/// How a request says who sends it.
#[derive(Clone, Copy)]
pub enum Who<'a> {
    Stranger,
    Bearer(&'a str),
    /// The console's cookie, and what the browser says about the page that asks.
    Cookie(&'a str, &'a str),
}

fn sign_in(server: &TestServer, login: &str) -> Person {
    let now = server.clock.now();
    let signing_in = operators::sign_in(&server.state.db, login, PASSWORD, "browser", now);
    let signed_in = server.block_on(signing_in).unwrap();
    let session_id = signed_in.caller.session_id.unwrap();
    let token = server.state.tokens.issue_operator(&session_id, now).unwrap();
    Person { token, cookie: signed_in.refresh_token }
}

/// `path` with each `{name}` or `{name:pattern}` replaced; `None` when one has no value.
fn fill(path: &str, value: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut filled = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        let (parameter, tail) = after.split_once('}').unwrap();
        filled.push_str(before);
        filled.push_str(&value(parameter.split(':').next().unwrap())?);
        rest = tail;
    }
    filled.push_str(rest);
    Some(filled)
}
