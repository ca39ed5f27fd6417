//! Releases, and what TUF clients read from the server.

mod director;
mod publishing;
mod reading;

use diesel::prelude::*;
use serde_json::{Value, json};
use sigstore_tuf::Updater;
use sigstore_tuf::transport::FetchFuture;
use tillward_server::db::schema::{models, operator_sessions, operators, organizations};
use tillward_server::db::{self, Conn};

use crate::harness::TestServer;

/// Two organizations, one below the other and one beside, with operators; returns nothing, tokens are made by name.
pub fn set_up(server: &TestServer) {
    let now = server.clock.now().0;
    let seed = move |conn: &mut Conn| -> Result<(), db::Error> {
        for (id, parent, path) in [(1, None, "/1/"), (2, Some(1), "/1/2/"), (3, Some(1), "/1/3/")] {
            diesel::insert_into(organizations::table)
                .values((
                    organizations::id.eq(id),
                    organizations::parent_id.eq(parent.map(i64::from)),
                    organizations::path.eq(path),
                    organizations::level.eq(if id == 1 { 0_i64 } else { 1 }),
                    organizations::name.eq(format!("organization {id}")),
                    organizations::short_code.eq(format!("o{id}")),
                    organizations::region.eq(None::<String>),
                    organizations::status.eq("active"),
                    organizations::created_at_ms.eq(now),
                    organizations::version.eq(1_i64),
                ))
                .execute(conn)?;
        }
        for (id, role, organization, path) in [
            (1, "platform_admin", 1, "/1/"),
            (2, "approver", 1, "/1/"),
            (3, "auditor", 1, "/1/"),
            (4, "release_manager", 2, "/1/2/"),
            (5, "release_manager", 3, "/1/3/"),
        ] {
            diesel::insert_into(operators::table)
                .values((
                    operators::id.eq(id),
                    operators::organization_id.eq(i64::from(organization)),
                    operators::org_path.eq(path),
                    operators::login.eq(format!("operator{id}")),
                    operators::name.eq(format!("Operator {id}")),
                    operators::password_hash.eq(""),
                    operators::role.eq(role),
                    operators::status.eq("active"),
                    operators::language.eq("en"),
                    operators::created_at_ms.eq(now),
                    operators::version.eq(1_i64),
                ))
                .execute(conn)?;
            diesel::insert_into(operator_sessions::table)
                .values((
                    operator_sessions::id.eq(format!("session{id}")),
                    operator_sessions::operator_id.eq(id),
                    operator_sessions::family_hash.eq(format!("family{id}")),
                    operator_sessions::refresh_hash.eq(format!("hash{id}")),
                    operator_sessions::csrf_token.eq("csrf"),
                    operator_sessions::user_agent.eq("test"),
                    operator_sessions::created_at_ms.eq(now),
                    operator_sessions::expires_at_ms.eq(now + 3_600_000),
                    operator_sessions::revoked_at_ms.eq(None::<i64>),
                ))
                .execute(conn)?;
        }
        for code in ["demo-p1", "pax-a920"] {
            diesel::insert_into(models::table)
                .values((
                    models::code.eq(code),
                    models::name.eq(code),
                    models::capabilities.eq("{}"),
                    models::created_at_ms.eq(now),
                ))
                .execute(conn)?;
        }
        Ok(())
    };
    server.block_on(server.state.db.write(seed)).unwrap();
}

const ADMIN: i64 = 1;
const APPROVER: i64 = 2;
const AUDITOR: i64 = 3;
const MANAGER: i64 = 4;
const OTHER_MANAGER: i64 = 5;

fn token(server: &TestServer, operator: i64) -> String {
    server.state.tokens.issue_operator(&format!("session{operator}"), server.clock.now()).unwrap()
}

fn upload(server: &TestServer, bytes: &[u8]) -> Value {
    let token = token(server, MANAGER);
    server.send("POST", "/api/v1/releases/payloads", &token, &[], bytes).expect(201).json()
}

fn draft(counter: i64, sha256: &str) -> Value {
    json!({"component": "os", "firmware_version": format!("4.{counter}.0"), "release_counter": counter,
        "models": ["demo-p1", "pax-a920"], "notes": "修复 \"TLS\" 超时 \\ ok", "sha256": sha256})
}

fn create(server: &TestServer, counter: i64, bytes: &[u8]) -> Value {
    let sha256 = upload(server, bytes)["sha256"].as_str().unwrap().to_owned();
    server.post("/api/v1/releases", &token(server, MANAGER), &draft(counter, &sha256)).expect(201).json()
}

fn act(server: &TestServer, operator: i64, release: &Value, verb: &str) -> crate::harness::Answer {
    server.post(&format!("/api/v1/releases/{}/{verb}", release["id"]), &token(server, operator), &json!({}))
}

pub fn publish(server: &TestServer, counter: i64, bytes: &[u8]) -> Value {
    let release = create(server, counter, bytes);
    act(server, APPROVER, &release, "approve").expect(200);
    act(server, MANAGER, &release, "publish").expect(200).json()
}

/// A TUF client's transport over real HTTP.
struct Http {
    base: String,
    targets: String,
    token: String,
}

impl Http {
    fn fetch(&self, url: &str) -> Option<Vec<u8>> {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let mut request = agent.get(url);
        if !self.token.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        let mut response = request.call().unwrap();
        match response.status().as_u16() {
            200 => Some(response.body_mut().read_to_vec().unwrap()),
            404 => None,
            status => panic!("{url}: {status}"),
        }
    }
}

impl sigstore_tuf::Repository for Http {
    fn fetch_metadata<'a>(&'a self, name: &'a str, _max_length: u64) -> FetchFuture<'a> {
        Box::pin(async move { Ok(self.fetch(&format!("{}/{name}", self.base))) })
    }

    fn fetch_target<'a>(&'a self, path: &'a str, _max_length: u64) -> FetchFuture<'a> {
        Box::pin(async move { Ok(self.fetch(&format!("{}/{path}", self.targets))) })
    }
}

fn image_client(server: &TestServer) -> Updater {
    let base = format!("{}/tuf/image/metadata", server.url);
    let http = Http { base, targets: format!("{}/tuf/image/targets", server.url), token: String::new() };
    let root = server.get("/tuf/image/metadata/1.root.json", "").expect(200).body;
    Updater::new(http, &root).unwrap()
}

fn now(server: &TestServer) -> jiff::Timestamp {
    jiff::Timestamp::from_second(server.clock.now().seconds()).unwrap()
}
