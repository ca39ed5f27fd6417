//! Enrolment: activation codes, proof of possession, sessions.

use diesel::prelude::*;
use serde_json::json;
use tillward_protocol::crypto::{SigningKey, public_hex, sign_hex};
use tillward_protocol::enrol::enrol_bytes;
use tillward_server::db;
use tillward_server::db::schema::terminal_manifests;

use crate::harness::on_each_database;
use crate::seed::{Device, Tree};

const DAY_MS: i64 = 86_400_000;

#[test]
fn a_terminal_redeems_its_code_once_and_may_ask_again_with_the_same_key() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let id = tree.terminal(server, "A1")["id"].as_i64().unwrap();
        let code = tree.code(server, id);
        let device = Device::new("A1", id, 1);
        let first = device.enrol(server, &code).expect(200).json();
        assert_eq!((&first["terminal_id"], &first["stream"]), (&json!(id), &json!(1)));
        let again = device.enrol(server, &code).expect(200).json();
        assert_eq!((&again["terminal_id"], &again["stream"]), (&json!(id), &json!(1)));
        Device::new("A1", id, 2).enrol(server, &code).expect(401);
        let session = device.session(server).expect(200).json();
        assert_eq!(session["expires_in_s"], 3600);
        assert!(server.state.tokens.verify_terminal(session["token"].as_str().unwrap(), server.clock.now()).is_some());
        let trail = server.get("/api/v1/audit?size=1", &tree.admin).expect(200).json();
        assert_eq!(
            (&trail["items"][0]["action"], &trail["items"][0]["actor_kind"]),
            (&json!("terminals.enrol"), &json!("terminal"))
        );
    });
}

#[test]
fn a_code_is_bound_to_its_serial_number_and_its_time() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let id = tree.terminal(server, "A1")["id"].as_i64().unwrap();
        tree.terminal(server, "A2");
        let code = tree.code(server, id);
        Device::new("A2", id, 1).enrol(server, &code).expect(401);
        Device::new("A3", id, 1).enrol(server, &code).expect(401);
        Device::new("A1", id, 1).enrol(server, "0000-0000-0000-0000-0000").expect(401);
        Device::new("A1", id, 1).enrol(server, "not a code").expect(401);
        server.clock.advance_ms(7 * DAY_MS + 1);
        Device::new("A1", id, 1).enrol(server, &code).expect(401);
        // A new code voids the one before it.
        let second = tree.code(server, id);
        let third = tree.code(server, id);
        Device::new("A1", id, 1).enrol(server, &second).expect(401);
        Device::new("A1", id, 1).enrol(server, &third.to_lowercase()).expect(200);
    });
}

#[test]
fn nobody_enrols_without_proof_of_the_key() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let id = tree.terminal(server, "A1")["id"].as_i64().unwrap();
        let code = tree.code(server, id);
        let mine = SigningKey::from_bytes(&[1; 32]);
        let theirs = public_hex(&SigningKey::from_bytes(&[2; 32]));
        let proof = sign_hex(&mine, &enrol_bytes(&"A1".parse().unwrap(), &code, &theirs));
        let stolen = json!({"sn": "A1", "activation_code": code, "public_key": theirs, "proof": proof});
        server.post("/device/v1/enrol", "", &stolen).expect(401);
        let short = json!({"sn": "A1", "activation_code": code, "public_key": "ab", "proof": proof});
        assert_eq!(server.post("/device/v1/enrol", "", &short).expect(422).json()["field"], "public_key");
        Device::new("A1", id, 1).enrol(server, &code).expect(200);
    });
}

#[test]
fn enrolling_anew_replaces_the_key_ends_sessions_and_begins_a_stream() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let old = tree.device(server, "A1", 1);
        let epoch = epoch_of(server, &old);
        let id = old.id;
        let kept: Result<usize, db::Error> = server.block_on(server.state.db.write(move |conn| {
            let manifest = (
                terminal_manifests::terminal_id.eq(id),
                terminal_manifests::counter.eq(40),
                terminal_manifests::received_at_ms.eq(0),
                terminal_manifests::body.eq("{}"),
                terminal_manifests::signature.eq(""),
            );
            Ok(diesel::insert_into(terminal_manifests::table).values(manifest).execute(conn)?)
        }));
        assert_eq!(kept.unwrap(), 1);
        let new = Device::new("A1", old.id, 2);
        let answer = new.enrol(server, &tree.code(server, old.id)).expect(200).json();
        assert_eq!(answer["stream"], 2);
        old.session(server).expect(401);
        assert!(epoch_of(server, &new) > epoch, "tokens of the old key are of another epoch");
        let manifests: Result<i64, db::Error> =
            server.block_on(server.state.db.read(|conn| Ok(terminal_manifests::table.count().get_result(conn)?)));
        assert_eq!(manifests.unwrap(), 0, "the old key's manifest would outrank the new one's");
    });
}

#[test]
fn a_blocked_terminal_gets_no_session_and_a_strangers_question_no_answer() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let device = tree.device(server, "A1", 1);
        let before = epoch_of(server, &device);
        let path = format!("/api/v1/terminals/{}/lifecycle", device.id);
        server.post(&path, &tree.east_ops, &json!({"action": "report_lost", "version": 2})).expect(200);
        assert!(epoch_of(server, &device) > before, "a lost terminal calls, to be locked, in a new session");
        device.enrol(server, "0000-0000-0000-0000-0000").expect(401);
        let codes = format!("/api/v1/terminals/{}/activation-codes", device.id);
        server.post(&codes, &tree.east_field, &json!({})).expect(409);
        server.post(&path, &tree.east_ops, &json!({"action": "found", "version": 3})).expect(200);
        server.post(&path, &tree.east_ops, &json!({"action": "block", "version": 4})).expect(200);
        device.session(server).expect(403);
        let unknown = Device::new("A9", 999_999, 1).session(server).expect(401).json();
        let wrong_key = Device::new("A1", device.id, 9).session(server).expect(401).json();
        assert_eq!(unknown, wrong_key, "nobody learns which numbers exist");
    });
}

#[test]
fn a_challenge_is_for_one_terminal_and_short_lived() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let device = tree.device(server, "A1", 1);
        let other = tree.device(server, "A2", 2);
        let challenge = server.post("/device/v1/challenge", "", &json!({"terminal_id": other.id})).expect(200).json();
        let challenge = challenge["challenge"].as_str().unwrap().to_owned();
        let bytes = tillward_protocol::enrol::session_bytes(tillward_protocol::ids::TerminalId(device.id), &challenge);
        let proof = sign_hex(&device.key, &bytes);
        let request = json!({"terminal_id": device.id, "challenge": challenge, "proof": proof});
        server.post("/device/v1/session", "", &request).expect(401);
    });
}

#[test]
fn codes_are_made_in_bulk_within_the_callers_organizations() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let mine = tree.terminal(server, "A1")["id"].as_i64().unwrap();
        let path = "/api/v1/terminals/activation-codes";
        let made = server.post(path, &tree.east_field, &json!({"ids": [mine, mine, 999_999]})).expect(201).json();
        assert_eq!(made["codes"].as_array().unwrap().len(), 1);
        assert_eq!(made["codes"][0]["sn"], "A1");
        assert_eq!(made["refused"].as_array().unwrap().len(), 2);
        let foreign = server.post(path, &tree.admin, &json!({"ids": [mine], "valid_days": 91})).expect(422).json();
        assert_eq!(foreign["field"], "valid_days");
        server.post(path, &tree.east_field, &json!({"ids": []})).expect(422);
        server.post(path, &tree.west_ops, &json!({"ids": [mine]})).expect(403);
    });
}

#[test]
fn too_many_tries_for_one_terminal_are_slowed_down() {
    on_each_database(|server| {
        let device = Device::new("A1", 1, 1);
        let slowed = (0..40).map(|_| device.enrol(server, "0000-0000-0000-0000-0000")).find(|a| a.status == 429);
        let slowed = slowed.expect("the limit is reached within 40 tries");
        assert!(slowed.header("retry-after").is_some());
    });
}

fn epoch_of(server: &crate::harness::TestServer, device: &Device) -> i64 {
    let token = device.token(server);
    server.state.tokens.verify_terminal(&token, server.clock.now()).unwrap().epoch
}
