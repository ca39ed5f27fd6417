//! People and organizations to test with, made over REST as a real installation makes them.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use tillward_server::operators;

use crate::harness::TestServer;

/// Every operator's password in tests.
pub const PASSWORD: &str = "correct horse battery";
/// Login of the first operator.
pub const ADMIN: &str = "first.admin";

/// Sets the server up and returns the first administrator's access token.
pub fn admin(server: &TestServer) -> String {
    let token = server.block_on(operators::bootstrap(&server.state.db, server.clock.now())).unwrap();
    let set_up = json!({
        "bootstrap_token": token.expect("the server is not set up yet"),
        "login": ADMIN,
        "name": "First",
        "password": PASSWORD,
        "language": "en",
    });
    server.post("/api/v1/setup", "", &set_up).expect(201);
    token_of(server, ADMIN)
}

/// Signs in and returns the access token.
pub fn token_of(server: &TestServer, login: &str) -> String {
    let session = session_of(server, login);
    session["access_token"].as_str().unwrap().to_owned()
}

/// Signs in and returns the whole answer.
pub fn session_of(server: &TestServer, login: &str) -> Value {
    server.post("/api/v1/session", "", &json!({ "login": login, "password": PASSWORD })).expect(200).json()
}

/// Number of headquarters.
pub fn headquarters(server: &TestServer, token: &str) -> i64 {
    server.get("/api/v1/organizations", token).expect(200).json()["items"][0]["id"].as_i64().unwrap()
}

/// Makes an organization and returns its number.
pub fn organization(server: &TestServer, token: &str, parent_id: i64, short_code: &str) -> i64 {
    let new = json!({ "parent_id": parent_id, "name": format!("Reseller {short_code}"), "short_code": short_code });
    server.post("/api/v1/organizations", token, &new).expect(201).json()["id"].as_i64().unwrap()
}

/// A made and signed-in operator.
#[derive(Debug, Clone)]
pub struct Person {
    pub id: i64,
    pub login: String,
    pub token: String,
}

/// Makes an operator and signs it in.
pub fn operator(server: &TestServer, token: &str, organization_id: i64, role: &str) -> Person {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let login = format!("{role}.{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let new = json!({
        "organization_id": organization_id,
        "login": login,
        "name": "Somebody",
        "password": PASSWORD,
        "role": role,
        "language": "en",
    });
    let id = server.post("/api/v1/operators", token, &new).expect(201).json()["id"].as_i64().unwrap();
    let token = token_of(server, &login);
    Person { id, login, token }
}
