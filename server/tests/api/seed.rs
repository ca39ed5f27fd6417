//! A small organization tree with operators' keys, written straight into the database, and devices that enrol.

use diesel::prelude::*;
use serde_json::{Value, json};
use tillward_protocol::crypto::{SigningKey, public_hex, sign_hex};
use tillward_protocol::enrol::{enrol_bytes, session_bytes};
use tillward_protocol::ids::TerminalId;
use tillward_server::db::schema::{api_keys, models, operators, organizations};
use tillward_server::db::{self, Conn};
use tillward_server::operators::hash_of_secret;

use crate::harness::{Answer, TestServer};

/// The model that every tree knows.
pub const MODEL: &str = "newland-me31";

/// Headquarters with two resellers, of which the first has a shop below it; a key for each role that tests need.
pub struct Tree {
    pub root: i64,
    pub east: i64,
    pub east_shop: i64,
    pub west: i64,
    pub admin: String,
    pub east_ops: String,
    pub east_field: String,
    pub east_admin: String,
    pub west_ops: String,
}

impl Tree {
    pub fn plant(server: &TestServer) -> Self {
        let tree = Self {
            root: 101,
            east: 102,
            east_shop: 103,
            west: 104,
            admin: "twk_admin".to_owned(),
            east_ops: "twk_east_ops".to_owned(),
            east_field: "twk_east_field".to_owned(),
            east_admin: "twk_east_admin".to_owned(),
            west_ops: "twk_west_ops".to_owned(),
        };
        let keys = [
            (1, tree.admin.clone(), "platform_admin", 101, "/101/"),
            (2, tree.east_ops.clone(), "org_ops", 102, "/101/102/"),
            (3, tree.east_field.clone(), "field", 102, "/101/102/"),
            (4, tree.east_admin.clone(), "org_admin", 102, "/101/102/"),
            (5, tree.west_ops.clone(), "org_ops", 104, "/101/104/"),
        ];
        let write = server.state.db.write(move |conn| {
            organization(conn, 101, None, "/101/", "HQ", None)?;
            organization(conn, 102, Some(101), "/101/102/", "EAST", Some("3101"))?;
            organization(conn, 103, Some(102), "/101/102/103/", "EAST1", Some("3102"))?;
            organization(conn, 104, Some(101), "/101/104/", "WEST", Some("5101"))?;
            for (id, secret, role, organization_id, path) in keys {
                operator(conn, id)?;
                key(conn, id, &secret, role, organization_id, path)?;
            }
            diesel::insert_into(models::table)
                .values((
                    models::code.eq(MODEL),
                    models::name.eq("Newland ME31"),
                    models::capabilities.eq("{}"),
                    models::created_at_ms.eq(0),
                ))
                .execute(conn)?;
            Ok::<_, db::Error>(())
        });
        server.block_on(write).unwrap();
        tree
    }

    /// Registers a terminal of the eastern reseller.
    pub fn terminal(&self, server: &TestServer, sn: &str) -> Value {
        let new = json!({"sn": sn, "model": MODEL});
        server.post("/api/v1/terminals", &self.east_ops, &new).expect(201).json()
    }

    /// Registers and enrols a terminal of the eastern reseller.
    pub fn device(&self, server: &TestServer, sn: &str, seed: u8) -> Device {
        let made = self.terminal(server, sn);
        let device = Device::new(sn, made["id"].as_i64().unwrap(), seed);
        device.enrol(server, &self.code(server, device.id)).expect(200);
        device
    }

    /// An activation code for a terminal of the eastern reseller.
    pub fn code(&self, server: &TestServer, id: i64) -> String {
        let path = format!("/api/v1/terminals/{id}/activation-codes");
        server.post(&path, &self.east_field, &json!({})).expect(201).json()["code"].as_str().unwrap().to_owned()
    }
}

/// Inserts an organization.
pub fn organization(
    conn: &mut Conn,
    id: i64,
    parent: Option<i64>,
    path: &str,
    short_code: &str,
    region: Option<&str>,
) -> QueryResult<usize> {
    diesel::insert_into(organizations::table)
        .values((
            organizations::id.eq(id),
            organizations::parent_id.eq(parent),
            organizations::path.eq(path),
            organizations::level.eq(i64::try_from(path.matches('/').count()).unwrap() - 2),
            organizations::name.eq(format!("{short_code} 有限公司")),
            organizations::short_code.eq(short_code),
            organizations::region.eq(region),
            organizations::status.eq("active"),
            organizations::created_at_ms.eq(0),
            organizations::version.eq(1),
        ))
        .execute(conn)
}

/// The person behind the key of this number: each key has one of its own.
fn operator(conn: &mut Conn, id: i64) -> QueryResult<usize> {
    diesel::insert_into(operators::table)
        .values((
            operators::id.eq(id),
            operators::organization_id.eq(101),
            operators::org_path.eq("/101/"),
            operators::login.eq(format!("root{id}")),
            operators::name.eq("root"),
            operators::password_hash.eq("!"),
            operators::role.eq("platform_admin"),
            operators::status.eq("active"),
            operators::language.eq("en"),
            operators::created_at_ms.eq(0),
            operators::version.eq(1),
        ))
        .execute(conn)
}

fn key(conn: &mut Conn, id: i64, secret: &str, role: &str, organization_id: i64, path: &str) -> QueryResult<usize> {
    diesel::insert_into(api_keys::table)
        .values((
            api_keys::id.eq(id),
            api_keys::organization_id.eq(organization_id),
            api_keys::org_path.eq(path),
            api_keys::created_by.eq(id),
            api_keys::name.eq(secret),
            api_keys::role.eq(role),
            api_keys::key_hash.eq(hash_of_secret(secret)),
            api_keys::key_prefix.eq("twk_"),
            api_keys::created_at_ms.eq(0),
            api_keys::expires_at_ms.eq(i64::MAX),
            api_keys::last_used_at_ms.eq(None::<i64>),
            api_keys::revoked_at_ms.eq(None::<i64>),
        ))
        .execute(conn)
}

/// The device side of one terminal.
pub struct Device {
    pub sn: String,
    pub id: i64,
    pub key: SigningKey,
}

impl Device {
    pub fn new(sn: &str, id: i64, seed: u8) -> Self {
        Self { sn: sn.to_owned(), id, key: SigningKey::from_bytes(&[seed; 32]) }
    }

    /// Redeems `code`.
    pub fn enrol(&self, server: &TestServer, code: &str) -> Answer {
        let public_key = public_hex(&self.key);
        let proof = sign_hex(&self.key, &enrol_bytes(&self.sn.parse().unwrap(), code, &public_key));
        let request = json!({"sn": self.sn, "activation_code": code, "public_key": public_key, "proof": proof});
        server.post("/device/v1/enrol", "", &request)
    }

    /// Signs a challenge.
    pub fn session(&self, server: &TestServer) -> Answer {
        let asked = json!({"terminal_id": self.id});
        let challenge = server.post("/device/v1/challenge", "", &asked).expect(200).json()["challenge"].clone();
        let challenge = challenge.as_str().unwrap();
        let proof = sign_hex(&self.key, &session_bytes(TerminalId(self.id), challenge));
        let request = json!({"terminal_id": self.id, "challenge": challenge, "proof": proof});
        server.post("/device/v1/session", "", &request)
    }

    /// A session token.
    pub fn token(&self, server: &TestServer) -> String {
        self.session(server).expect(200).json()["token"].as_str().unwrap().to_owned()
    }
}
