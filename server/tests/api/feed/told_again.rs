//! Payments that are told more than once: what stays, what is judged anew, and by what they are known again.

use std::sync::{Arc, Barrier};

use diesel::prelude::*;
use serde_json::{Value, json};
use tillward_protocol::crypto::sha256;
use tillward_server::checkin::{self, Slot};
use tillward_server::db;
use tillward_server::db::schema::{channel_transactions, cohort_cells};

use super::{MERCHANT, channel, counts, import, moment, signed, terminals};
use crate::harness::{TestServer, on_each_database, wait_until};
use crate::seed::{MODEL, Tree};

/// A number of the fee-free class, in the same region and of the same institution.
const REDUCED: &str = "850331083980612";
const HEADINGS: &str = "流水号,机具序列号,商户编号,商户名称,交易金额,结算金额,手续费,交易时间,交易状态,参考号";

/// The only payment of this amount.
fn settlement(server: &TestServer, token: &str, amount_fen: i64) -> Value {
    let page = server.get("/api/v1/settlements?size=100", token).expect(200).json();
    let rows: Vec<Value> =
        page["items"].as_array().unwrap().iter().filter(|row| row["amount_fen"] == amount_fen).cloned().collect();
    assert_eq!(rows.len(), 1, "{page}");
    rows[0].clone()
}

#[test]
fn a_row_that_says_less_takes_nothing_back() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        let at_ms = server.clock.now().hour_ms() - 30 * 3_600_000 + 60_000;
        let at = moment(at_ms);
        let rich = format!(
            "{HEADINGS}\n\
             1,S1,{MERCHANT},张记面馆,100,99.40,0.60,{at},成功,\n\
             2,S1,{MERCHANT},张记面馆,200,,,{at},失败,\n\
             3,S1,{MERCHANT},张记面馆,300,298.20,1.80,{at},成功,\n\
             3,S1,,,300,,,{at},,REF3\n"
        );
        assert_eq!(counts(&import(server, ops, channel, rich.as_bytes())), [3, 1, 0, 0]);
        // A day alone, no state, no settlement.
        let day = at.get(..10).unwrap();
        let poor = format!(
            "流水号,机具序列号,交易金额,交易日期,参考号\n1,S1,100,{day},REF1\n2,S1,200,{day},\n3,S1,300,{day},\n"
        );
        assert_eq!(counts(&import(server, ops, channel, poor.as_bytes())), [0, 1, 2, 0]);
        let paid = settlement(server, ops, 10_000);
        assert_eq!((&paid["settle_fen"], &paid["fee_fen"]), (&json!(9_940), &json!(60)), "{paid}");
        assert_eq!((&paid["merchant_no"], &paid["merchant_name"]), (&json!(MERCHANT), &json!("张记面馆")));
        assert_eq!((&paid["at_ms"], &paid["ref_no"]), (&json!(at_ms), &json!("REF1")));
        assert_eq!(settlement(server, ops, 20_000)["status"], "failure");
        let twice = settlement(server, ops, 30_000);
        assert_eq!((&twice["settle_fen"], &twice["merchant_no"]), (&json!(29_820), &json!(MERCHANT)), "{twice}");
        assert_eq!((&twice["status"], &twice["ref_no"]), (&json!("success"), &json!("REF3")));
    });
}

#[test]
fn a_payment_that_is_corrected_is_judged_anew_and_counts_once_under_review() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        let at = moment(server.clock.now().0 - 5 * 3_600_000);
        let file = |first: &str, second: &str| {
            let line = |number: u32, merchant: &str, money: &str| {
                format!("{number},S1,{merchant},张记面馆,{money},{at},成功,\n")
            };
            format!("{HEADINGS}\n{}{}", line(1, MERCHANT, first), line(2, REDUCED, second))
        };
        let first = file("100,87.66,0", "200,,");
        assert_eq!(counts(&import(server, ops, channel, first.as_bytes())), [2, 0, 0, 0]);
        let found = super::summary(server, ops);
        assert_eq!((&found["s2_short"], &found["review"]), (&json!(1), &json!(1)), "{found}");
        let corrected = file("100,100,0", "200,198.80,1.20");
        assert_eq!(counts(&import(server, ops, channel, corrected.as_bytes())), [0, 2, 0, 0]);
        // Both are looked at in one transaction.
        wait_until("the first is in order", || {
            server.get("/api/v1/reconciliation?days=60", ops).expect(200).json()["fine"] == 1
        });
        let detail = format!("/api/v1/settlements/{}", settlement(server, ops, 10_000)["id"]);
        let why = server.get(&detail, ops).expect(200).json();
        assert_eq!(
            (&why["settlement"]["result"], &why["judgement"]["verdict"]),
            (&json!("fine"), &Value::Null),
            "{why}"
        );
        let under_review = settlement(server, ops, 20_000);
        assert_eq!((&under_review["result"], &under_review["settle_fen"]), (&json!("review"), &json!(19_880)));
        let numbers = server.get("/api/v1/merchant-numbers", ops).expect(200).json();
        assert_eq!(numbers["items"][0]["payments"], 1, "{numbers}");
    });
}

/// Ten hours of each of a hundred terminals, all of them told as failed or as well.
fn tell(conn: &mut db::Conn, before_ms: i64, is_failed: bool) -> Result<(), db::Error> {
    let slot = |n: i64| Slot {
        terminal_id: 5_000 + n / 10,
        org_path: "/101/102/",
        model: MODEL,
        hardware: None,
        region: "",
        at_ms: before_ms - (1 + n % 10) * 3_600_000,
        is_failed,
        outcome: None,
    };
    let slots: Vec<Slot<'_>> = (0..1_000).map(slot).collect();
    checkin::note_slots(conn, &slots)
}

#[test]
fn an_hour_that_two_servers_tell_of_at_once_counts_once() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let hour_ms = server.clock.now().hour_ms();
        // SQLite has one writer at a time.
        let is_parallel = server.state.db.sqlite_path().is_none();
        let together = Arc::new(Barrier::new(2));
        let write = |is_failed: bool| {
            let together = Arc::clone(&together);
            server.state.db.write(move |conn| {
                if is_parallel {
                    together.wait();
                }
                tell(conn, hour_ms, is_failed)
            })
        };
        let (well, failed) = server.block_on(async { tokio::join!(write(false), write(true)) });
        well.unwrap();
        failed.unwrap();
        let found = server.get("/api/v1/failures/overview?hours=24", &tree.east_ops).expect(200).json();
        assert_eq!(found["exposures"].as_f64(), Some(1_000.0), "{found}");
        assert_eq!(found["failures"].as_f64(), Some(1_000.0), "{found}");
    });
}

/// Gives the only payment of the database another key, as an earlier version would have.
fn rekey(server: &TestServer, key: String) {
    let write = server.state.db.write(move |conn| {
        let written = diesel::update(channel_transactions::table)
            .set(channel_transactions::ref_key.eq(&key))
            .execute(conn)
            .map_err(db::Error::from)?;
        assert_eq!(written, 1);
        Ok::<_, db::Error>(())
    });
    server.block_on(write).unwrap();
}

#[test]
fn a_number_is_the_same_in_files_and_callbacks_and_as_it_was_once_kept() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        terminals(server, &tree, &["S1"]);
        let (channel, secret) = channel(server, &tree);
        let save = |source: &str, mapping: Value| {
            server.post(&format!("/api/v1/import-mappings?source={source}"), ops, &mapping).expect(200);
        };
        let columns = json!({"trans_no": "流水号", "sn": "机具序列号", "amount_fen": "交易金额", "at_ms": "交易时间"});
        // One of the two says what the numbers look like.
        save(&channel.to_string(), json!({"columns": columns, "number_form": {"length": 10, "prefix": "20"}}));
        let paths = json!({"trans_no": "no", "sn": "sn", "amount_fen": "amount", "at_ms": "time"});
        save(&format!("{channel}/callback"), json!({"columns": paths, "unit": "fen"}));
        let at_ms = server.clock.now().hour_ms() - 5 * 3_600_000;
        let body = json!({"no": "2000000001", "sn": "S1", "amount": 9_900, "time": at_ms}).to_string();
        let signed = signed(&secret, server.clock.now().seconds(), body.as_bytes());
        let mut headers: Vec<(&str, &str)> = signed.iter().map(|(name, value)| (*name, value.as_str())).collect();
        headers.push(("content-type", "application/json"));
        let path = format!("/channel/v1/{channel}/transactions");
        let taken = server.send("POST", &path, "", &headers, body.as_bytes()).expect(200).json();
        assert_eq!(taken["accepted"], 1, "{taken}");
        let file = format!("流水号,机具序列号,交易金额,交易时间\n2000000001,S1,99,{}\n", moment(at_ms));
        assert_eq!(counts(&import(server, ops, channel, file.as_bytes())), [0, 0, 1, 0]);
        rekey(server, "t:2000000001".to_owned());
        assert_eq!(counts(&import(server, ops, channel, file.as_bytes())), [0, 0, 1, 0]);
    });
}

#[test]
fn a_payment_is_known_again_whichever_terminal_its_number_stands_for() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        let (channel, _) = channel(server, &tree);
        let at = moment(server.clock.now().hour_ms() - 5 * 3_600_000);
        let file = |heading: &str, name: &str| format!("{heading},交易金额,交易时间,参考号\n{name},100,{at},REF1\n");
        let by_no = file("终端号", "12345678");
        let told = |file: &str| counts(&import(server, ops, channel, file.as_bytes()));
        let key = |name: &str| {
            let digest = hex::encode(sha256(format!("REF1\n{}\n{name}", at.get(..10).unwrap()).as_bytes()));
            format!("r:{}", digest.get(..32).unwrap())
        };
        assert_eq!(told(&by_no), [1, 0, 0, 0]);
        // Registered later than the payment came.
        let terminal = json!({"sn": "S1", "model": MODEL, "merchant_no": MERCHANT, "terminal_no": "12345678"});
        let terminal = server.post("/api/v1/terminals", ops, &terminal).expect(201).json();
        assert_eq!(told(&by_no), [0, 1, 0, 0]);
        assert_eq!(settlement(server, ops, 10_000)["terminal_id"], terminal["id"]);
        assert_eq!(told(&file("机具序列号", "S1")), [0, 0, 1, 0], "called by its own name");
        rekey(server, key("S1"));
        assert_eq!(told(&by_no), [0, 0, 1, 0], "kept under the name of its terminal, as once");
        rekey(server, key("12345678"));
        let change = json!({"version": terminal["version"], "terminal_no": "87654321"}).to_string();
        let path = format!("/api/v1/terminals/{}", terminal["id"]);
        server.send("PATCH", &path, ops, &[("content-type", "application/json")], change.as_bytes()).expect(200);
        assert_eq!(told(&by_no), [0, 0, 1, 0], "the number stands for no terminal any more");
        assert_eq!(settlement(server, ops, 10_000)["terminal_id"], terminal["id"]);
    });
}

/// Transactions in all cells that went well and that failed, and failures by outcome.
fn counted(server: &TestServer, token: &str) -> (i64, i64, Value) {
    let read = server.state.db.read(|conn| {
        let columns = (cohort_cells::transactions_ok, cohort_cells::transactions_failed);
        Ok::<_, db::Error>(cohort_cells::table.select(columns).load::<(i64, i64)>(conn)?)
    });
    let (ok, failed) = server.block_on(read).unwrap().iter().fold((0, 0), |sum, row| (sum.0 + row.0, sum.1 + row.1));
    let found = server.get("/api/v1/failures/overview?hours=72", token).expect(200).json();
    (ok, failed, found["outcomes"].clone())
}

#[test]
fn a_payment_that_callbacks_and_files_call_otherwise_is_one_and_counts_once() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        terminals(server, &tree, &["S1"]);
        let (channel, secret) = channel(server, &tree);
        let paths = json!({
            "trans_no": "no", "sn": "sn", "amount_fen": "amount", "at_ms": "time", "status": "status",
            "response_code": "code",
        });
        let mapping = json!({"columns": paths, "unit": "fen"});
        server.post(&format!("/api/v1/import-mappings?source={channel}/callback"), ops, &mapping).expect(200);
        let at_ms = server.clock.now().hour_ms() - 5 * 3_600_000 + 7_000;
        let call = |payments: Value| {
            let body = payments.to_string();
            let signed = signed(&secret, server.clock.now().seconds(), body.as_bytes());
            let mut headers: Vec<(&str, &str)> = signed.iter().map(|(name, value)| (*name, value.as_str())).collect();
            headers.push(("content-type", "application/json"));
            let path = format!("/channel/v1/{channel}/transactions");
            server.send("POST", &path, "", &headers, body.as_bytes()).expect(200).json()
        };
        let payment = |no: &str, amount: i64, status: &str, code: &str| json!({"no": no, "sn": "S1", "amount": amount, "time": at_ms, "status": status, "code": code});
        let both = json!([payment("A1", 10_000, "success", "00"), payment("A2", 20_000, "failure", "91")]);
        assert_eq!(call(both.clone())["accepted"], 2);
        let at = moment(at_ms);
        let file = format!(
            "机具序列号,交易金额,交易时间,交易状态,参考号\n\
             S1,100,{at},成功,032616000001\nS1,200,{at},失败,032616000002\nS1,300,{at},成功,032616000003\n"
        );
        assert_eq!(counts(&import(server, ops, channel, file.as_bytes())), [1, 2, 0, 0]);
        assert_eq!(counts(&import(server, ops, channel, file.as_bytes())), [0, 0, 3, 0], "the same file again");
        assert_eq!(call(both)["duplicates"], 2, "and the same callback");
        let late = json!([payment("A3", 30_000, "success", "00")]);
        assert_eq!(call(late.clone())["changed"], 1, "the file came first, and had no code");
        assert_eq!(call(late)["duplicates"], 1);
        assert_eq!(settlement(server, ops, 10_000)["ref_no"], "032616000001");
        assert_eq!(settlement(server, ops, 20_000)["status"], "failure");
        assert_eq!(counted(server, ops), (2, 1, json!([["code:91", 1]])));
        assert_eq!(super::summary(server, ops)["payments"], 3);
        // The same moment, and another amount: another payment.
        assert_eq!(call(json!([payment("A4", 30_001, "success", "00")]))["accepted"], 1);
    });
}

#[test]
fn a_payment_told_twice_before_its_terminal_was_registered_counts_once() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        let (channel, _) = channel(server, &tree);
        let at = moment(server.clock.now().hour_ms() - 5 * 3_600_000 + 7_000);
        let by_number = format!("流水号,机具序列号,交易金额,交易时间\n1,S4,100,{at}\n");
        let by_ref = format!("机具序列号,交易金额,交易时间,参考号\nS4,100,{at},032616000001\n");
        for file in [by_number, by_ref] {
            assert_eq!(counts(&import(server, ops, channel, file.as_bytes())), [1, 0, 0, 0]);
        }
        super::summary(server, ops);
        server.post("/api/v1/terminals", ops, &json!({"sn": "S4", "model": MODEL})).expect(201);
        server.clock.advance_ms(86_400_000 + 60_000);
        wait_until("the late terminal is found", || counted(server, ops).0 > 0);
        wait_until("both are its", || super::summary(server, ops)["lacking"]["terminal"].is_null());
        assert_eq!(counted(server, ops).0, 1);
    });
}

#[test]
fn a_failure_that_a_channel_and_its_organization_tell_of_counts_once_whoever_is_first() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        terminals(server, &tree, &["S1", "S2"]);
        let (channel, _) = channel(server, &tree);
        let at_ms = server.clock.now().hour_ms() - 5 * 3_600_000 + 7_000;
        let failure = |sn: &str, trace: &str, ref_no: Option<&str>| {
            json!({
                "sn": sn, "occurred_at_ms": at_ms, "transaction": "sale", "response_code": "91", "amount_fen": 10_000,
                "batch_no": "000001", "trace_no": trace, "ref_no": ref_no,
            })
        };
        let report = |failure: Value| {
            let taken = server.post("/api/v1/failures", ops, &json!({"failures": [failure]})).expect(200).json();
            assert_eq!(taken["stored"], 1, "{taken}");
        };
        let file = |sn: &str, number: u32, batch: &str, trace: &str, ref_no: &str| {
            let at = moment(at_ms + 5_000);
            format!(
                "流水号,机具序列号,交易金额,交易时间,交易状态,应答码,批次号,凭证号,参考号\n\
                 {number},{sn},100,{at},失败,91,{batch},{trace},{ref_no}\n"
            )
        };
        let told = |file: &str| counts(&import(server, ops, channel, file.as_bytes()));
        // The organization first; a spreadsheet took the zero off.
        report(failure("S1", "000001", Some("032616000001")));
        assert_eq!(told(&file("S1", 1, "", "", "32616000001")), [1, 0, 0, 0]);
        assert_eq!(counted(server, ops), (0, 1, json!([["code:91", 1]])));
        // The channel first.
        assert_eq!(told(&file("S2", 2, "1", "2", "")), [1, 0, 0, 0]);
        report(failure("S2", "000002", None));
        assert_eq!(counted(server, ops), (0, 2, json!([["code:91", 2]])));
        // Another trace number is another transaction.
        report(failure("S2", "000003", None));
        assert_eq!(counted(server, ops), (0, 3, json!([["code:91", 3]])));
        assert_eq!(server.get("/api/v1/failures", ops).expect(200).json()["items"].as_array().unwrap().len(), 3);
    });
}
