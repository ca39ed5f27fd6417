//! Callbacks: who may call, what is read, and what comes again.

use diesel::Connection;
use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use serde_json::{Value, json};

use super::later::waiting_for_locks;
use super::{channel, signed, terminals};
use crate::harness::{Answer, TestServer, on_each_database, wait_until};
use crate::seed::Tree;

fn call(server: &TestServer, channel: i64, headers: &[(&str, String)], body: &[u8]) -> Answer {
    let mut all: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    all.push(("content-type", "application/json"));
    server.send("POST", &format!("/channel/v1/{channel}/transactions"), "", &all, body)
}

fn told(server: &TestServer, channel: i64, secret: &str, body: &Value) -> Answer {
    let body = body.to_string();
    call(server, channel, &signed(secret, server.clock.now().seconds(), body.as_bytes()), body.as_bytes())
}

fn map(server: &TestServer, tree: &Tree, channel: i64) {
    let mapping = json!({
        "columns": {
            "trans_no": "transNo", "sn": "deviceSn", "amount_fen": "amount", "settle_fen": "settleAmount",
            "status": "status", "at_ms": "time", "merchant_no": "merchantNo",
        },
        "unit": "fen", "words": [{"field": "status", "says": "2", "means": "success"}, {"field": "status", "says": "1", "means": "processing"}],
        "rows_path": "data",
    });
    let path = format!("/api/v1/import-mappings?source={channel}/callback");
    server.post(&path, &tree.east_ops, &mapping).expect(200);
}

fn payment(server: &TestServer, number: &str, status: u32) -> Value {
    let at_ms = server.clock.now().0 - 60_000;
    json!({
        "transNo": number, "deviceSn": "S1", "amount": 9_900, "settleAmount": 9_840, "status": status, "time": at_ms,
        "merchantNo": "850331053110612", "cardNo": "6222021234567890128",
    })
}

#[test]
fn only_fresh_callbacks_that_the_channel_signed_get_in() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let (id, secret) = channel(server, &tree);
        map(server, &tree, id);
        let body = json!({"data": [payment(server, "1", 2)]}).to_string();
        let now_s = server.clock.now().seconds();
        let good = signed(&secret, now_s, body.as_bytes());
        for (headers, sent) in [
            (Vec::new(), body.as_bytes()),
            (signed("another", now_s, body.as_bytes()), body.as_bytes()),
            (signed(&secret, now_s - 301, body.as_bytes()), body.as_bytes()),
            (signed(&secret, now_s + 301, body.as_bytes()), body.as_bytes()),
            (good.clone(), b"{}"),
            (vec![("x-tillward-timestamp", (now_s + 1).to_string()), good[1].clone()], body.as_bytes()),
        ] {
            call(server, id, &headers, sent).expect(401);
        }
        call(server, id + 1, &good, body.as_bytes()).expect(401);
        call(server, id, &good, body.as_bytes()).expect(200);
        let renewed = server.post(&format!("/api/v1/feed-channels/{id}/secret"), &tree.east_ops, &json!({}));
        let renewed = renewed.expect(200).json();
        assert_ne!(renewed["secret"], secret.as_str());
        call(server, id, &good, body.as_bytes()).expect(401);
        server.send("DELETE", &format!("/api/v1/feed-channels/{id}"), &tree.east_ops, &[], b"").expect(204);
        told(server, id, renewed["secret"].as_str().unwrap(), &json!({"data": []})).expect(401);
    });
}

#[test]
fn a_payment_comes_in_once_and_is_taken_over_when_it_ends() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        terminals(server, &tree, &["S1"]);
        let (id, secret) = channel(server, &tree);
        let under_way = json!({"data": [payment(server, "77", 1)]});
        told(server, id, &secret, &under_way).expect(409);
        map(server, &tree, id);
        let taken = told(server, id, &secret, &under_way).expect(200).json();
        assert_eq!((&taken["accepted"], &taken["card_members"]), (&json!(1), &json!(1)), "{taken}");
        assert_eq!(told(server, id, &secret, &under_way).expect(200).json()["duplicates"], 1);
        let summary = server.get("/api/v1/reconciliation", &tree.east_ops).expect(200).json();
        assert_eq!((&summary["processing"], &summary["settled"]), (&json!(1), &json!(0)), "{summary}");
        let mut done = under_way.clone();
        done["data"][0]["status"] = json!(2);
        assert_eq!(told(server, id, &secret, &done).expect(200).json()["changed"], 1);
        assert_eq!(told(server, id, &secret, &done).expect(200).json()["duplicates"], 1);
        // What has ended is not under way again, whatever comes late.
        assert_eq!(told(server, id, &secret, &under_way).expect(200).json()["duplicates"], 1);
        let summary = super::summary(server, &tree.east_ops);
        assert_eq!((&summary["payments"], &summary["settled"]), (&json!(1), &json!(1)), "{summary}");
        let rows = server.get("/api/v1/settlements", &tree.east_ops).expect(200).text();
        assert!(!rows.contains("6222") && !rows.contains("\"77\""), "{rows}");
    });
}

#[test]
fn a_payment_that_two_servers_are_told_of_at_once_is_one() {
    on_each_database(|server| {
        // On SQLite one transaction writes after the other.
        let Some(url) = server.state.config.database_url.clone() else { return };
        let tree = Tree::plant(server);
        terminals(server, &tree, &["S1"]);
        let (id, secret) = channel(server, &tree);
        map(server, &tree, id);
        let body = json!({"data": [payment(server, "77", 2)]});
        let mut other = PgConnection::establish(&url).unwrap();
        // Both are read, and neither is written, while the channel is locked.
        other.batch_execute(&format!("BEGIN; SELECT id FROM feed_channels WHERE id = {id} FOR UPDATE;")).unwrap();
        let (first, second) = std::thread::scope(|threads| {
            let call = || told(server, id, &secret, &body).expect(200).json();
            let both = (threads.spawn(call), threads.spawn(call));
            wait_until("both wait for the channel", || waiting_for_locks(server) >= 2);
            other.batch_execute("COMMIT").unwrap();
            (both.0.join().unwrap(), both.1.join().unwrap())
        });
        let sum = |name: &str| first[name].as_i64().unwrap() + second[name].as_i64().unwrap();
        assert_eq!((sum("accepted"), sum("duplicates")), (1, 1), "{first} {second}");
        let found = server.get("/api/v1/failures/overview?hours=24", &tree.east_ops).expect(200).json();
        assert_eq!(found["exposures"].as_f64(), Some(1.0), "{found}");
    });
}

#[test]
fn bad_payments_are_named_by_their_place_and_good_ones_beside_them_stay() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        terminals(server, &tree, &["S1"]);
        let (id, secret) = channel(server, &tree);
        map(server, &tree, id);
        let mut bad = payment(server, "2", 2);
        bad["amount"] = json!("12.5");
        let body = json!({"data": [payment(server, "1", 2), bad, payment(server, "3", 9)]});
        let taken = told(server, id, &secret, &body).expect(200).json();
        assert_eq!(taken["accepted"], 1);
        let refused: Vec<(u64, &str)> = taken["refused"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| (row["place"].as_u64().unwrap(), row["field"].as_str().unwrap()))
            .collect();
        assert_eq!(refused, [(2, "amount_fen"), (3, "status")]);
        told(server, id, &secret, &json!({"nothing": 1})).expect(422);
        told(server, id, &secret, &json!({"data": (0..501).collect::<Vec<_>>()})).expect(422);
    });
}
