//! Failures that no terminal reported: taken once, marked by their source, counted in the cells of their hour.

use diesel::prelude::*;
use serde_json::{Value, json};
use tillward_server::db::schema::{cohort_cells, cohort_outcomes, cohorts, failures};
use tillward_server::{checkin, db};

use crate::check_in::{check_in, failure, terminal};
use crate::fixtures::{admin, headquarters, operator, organization};
use crate::harness::{TestServer, on_each_database, wait_until};
use crate::told_first::bring_home;

const SN: &str = "IMPSN00001";

/// A terminal that calls nobody, and the token of somebody who reports for it.
fn set_up(server: &TestServer) -> (String, i64) {
    let token = admin(server);
    let root = headquarters(server, &token);
    let ours = organization(server, &token, root, "OURS");
    server.post("/api/v1/models", &token, &json!({ "code": "demo-m1", "name": "M1" })).expect(201);
    let new = json!({
        "sn": SN, "model": "demo-m1", "organization_id": ours, "hardware": "v2", "region": "3301",
        "merchant_no": "850331053110612",
    });
    let id = server.post("/api/v1/terminals", &token, &new).expect(201).json()["id"].as_i64().unwrap();
    (operator(server, &token, ours, "org_ops").token, id)
}

fn item(server: &TestServer, trace_no: &str) -> Value {
    json!({
        "sn": SN, "occurred_at_ms": server.clock.now().0 - 5 * 3_600_000, "transaction": "sale",
        "response_code": "91", "amount_fen": 12_300, "batch_no": "000001", "trace_no": trace_no,
    })
}

pub fn take(server: &TestServer, token: &str, items: Value) -> Value {
    server.post("/api/v1/failures", token, &json!({ "failures": items })).expect(200).json()
}

/// Failures, exposures and outcomes in all cells.
pub fn cells(server: &TestServer) -> (i64, i64, Vec<(String, i64)>) {
    let read: Result<_, db::Error> = server.block_on(server.state.db.read(|conn| {
        let rows: Vec<(i64, i64)> =
            cohort_cells::table.select((cohort_cells::failures, cohort_cells::exposures)).load(conn)?;
        let outcomes = cohort_outcomes::table
            .order(cohort_outcomes::outcome)
            .select((cohort_outcomes::outcome, cohort_outcomes::failures))
            .load(conn)?;
        Ok((rows.iter().map(|row| row.0).sum(), rows.iter().map(|row| row.1).sum(), outcomes))
    }));
    read.unwrap()
}

/// Transactions that went well and that failed, in all cells.
pub fn transactions(server: &TestServer) -> (i64, i64) {
    let read: Result<_, db::Error> = server.block_on(server.state.db.read(|conn| {
        let columns = (cohort_cells::transactions_ok, cohort_cells::transactions_failed);
        Ok(cohort_cells::table.select(columns).load::<(i64, i64)>(conn)?)
    }));
    read.unwrap().iter().fold((0, 0), |(ok, failed), row| (ok + row.0, failed + row.1))
}

#[test]
fn a_list_sent_again_stores_and_counts_nothing_twice() {
    on_each_database(|server| {
        let (token, id) = set_up(server);
        let items = json!([item(server, "000001"), item(server, "000002")]);
        let taken = take(server, &token, items.clone());
        assert_eq!(taken, json!({"stored": 2, "duplicates": 0, "refused": []}));
        let again = take(server, &token, items);
        assert_eq!(again, json!({"stored": 0, "duplicates": 2, "refused": []}));
        // The same transaction in other words is the same transaction.
        let mut reworded = item(server, "1");
        reworded["id"] = json!("own-id");
        reworded["batch_no"] = json!("1");
        assert_eq!(take(server, &token, json!([reworded.clone(), reworded]))["duplicates"], 2);
        // Two failures in one hour of a terminal that calls nobody: one exposure.
        assert_eq!(cells(server), (2, 1, vec![("code:91".to_owned(), 2)]));
        assert_eq!(transactions(server), (0, 2), "each counts as one transaction that failed");
        let listed = server.get(&format!("/api/v1/failures?terminal_id={id}"), &token).expect(200).json();
        let rows = listed["items"].as_array().unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!((&rows[0]["source"], &rows[0]["firmware"]), (&json!("rest"), &json!("unknown")));
        assert_eq!((&rows[0]["access"], &rows[0]["stage"]), (&json!("unknown"), &json!("host_resp")));
    });
}

#[test]
fn two_servers_that_get_the_same_list_at_once_store_it_once() {
    on_each_database(|server| {
        let (token, _) = set_up(server);
        let items: Vec<Value> = (0..40).map(|n| item(server, &format!("{n:06}"))).collect();
        let body = json!(items);
        let stored: i64 = std::thread::scope(|threads| {
            let senders: Vec<_> = (0..4)
                .map(|_| threads.spawn(|| take(server, &token, body.clone())["stored"].as_i64().unwrap()))
                .collect();
            senders.into_iter().map(|sender| sender.join().unwrap()).sum()
        });
        assert_eq!(stored, 40);
        assert_eq!(cells(server).0, 40);
    });
}

#[test]
fn what_is_not_known_is_unknown_and_what_the_registry_knows_is_taken_from_there() {
    on_each_database(|server| {
        let (token, _) = set_up(server);
        let mut known = item(server, "000002");
        known["firmware"] = json!("4.2.0");
        known["condition"] = json!({"access": "4g", "plmn": "46000", "rsrp_dbm": -121});
        take(server, &token, json!([item(server, "000001"), known]));
        type Row = (String, String, String, String, String, String, String);
        let rows: Result<Vec<Row>, db::Error> = server.block_on(server.state.db.read(|conn| {
            Ok(cohorts::table
                .order(cohorts::firmware)
                .select((
                    cohorts::model,
                    cohorts::hardware,
                    cohorts::region,
                    cohorts::firmware,
                    cohorts::access,
                    cohorts::carrier,
                    cohorts::signal,
                ))
                .load(conn)?)
        }));
        let row = |texts: [&str; 7]| {
            let [model, hardware, region, firmware, access, carrier, signal] = texts.map(str::to_owned);
            (model, hardware, region, firmware, access, carrier, signal)
        };
        // One cohort for all that is told of a terminal that calls nobody, or a rate would compare what was counted
        // differently.
        assert_eq!(rows.unwrap(), [row(["demo-m1", "v2", "3301", "unknown", "unknown", "unknown", "unknown"])]);
        let listed = server.get("/api/v1/failures?firmware=4.2.0", &token).expect(200).json();
        let event = &listed["items"][0];
        assert_eq!(
            (&event["carrier"], &event["signal"]),
            (&json!("CMCC"), &json!("bad")),
            "the event keeps what was said"
        );
        let hours: Result<Vec<i64>, db::Error> = server
            .block_on(server.state.db.read(|conn| Ok(cohort_cells::table.select(cohort_cells::hour_ms).load(conn)?)));
        let hour_ms = tillward_server::clock::Now(server.clock.now().0 - 5 * 3_600_000).hour_ms();
        assert!(hours.unwrap().iter().all(|hour| *hour == hour_ms), "in the hour in which it happened");
    });
}

#[test]
fn a_bad_item_is_named_and_costs_no_other() {
    on_each_database(|server| {
        let (token, _) = set_up(server);
        let mut card = item(server, "000002");
        card["note"] = json!("card 6222021234567890128");
        let mut unknown = item(server, "000003");
        unknown["sn"] = json!("NOBODYS");
        let mut future = item(server, "000004");
        future["occurred_at_ms"] = json!(server.clock.now().0 + 86_400_000);
        let answer = take(server, &token, json!([item(server, "000001"), card, unknown, future]));
        assert_eq!(answer["stored"], 1);
        let named: Vec<(i64, &str)> = answer["refused"]
            .as_array()
            .unwrap()
            .iter()
            .map(|refused| (refused["index"].as_i64().unwrap(), refused["field"].as_str().unwrap()))
            .collect();
        assert_eq!(named, [(1, "note"), (2, "sn"), (3, "occurred_at_ms")]);
        assert!(!answer.to_string().contains("6222"), "{answer}");
        let many: Vec<Value> = (0..501).map(|n| item(server, &format!("{n:06}"))).collect();
        let refused = server.post("/api/v1/failures", &token, &json!({ "failures": many })).expect(422).json();
        assert_eq!(refused["field"], "failures");
    });
}

#[test]
fn what_the_terminal_reported_itself_is_not_taken_again() {
    on_each_database(|server| {
        let token = admin(server);
        let terminal = terminal(server, 7);
        let at_ms = server.clock.now().0 - 60_000;
        let mut event = failure("e1");
        event["occurred_at_ms"] = json!(at_ms);
        event["batch_no"] = json!("000009");
        event["trace_no"] = json!("000321");
        let mut body = check_in(1, 1);
        body["failures"] = json!([event]);
        terminal.send(server, &body).expect(200);
        // Only the whole tree holds that terminal: its organization was made beside headquarters.
        let sn = "SN000007";
        let item = json!({
            "sn": sn, "occurred_at_ms": at_ms + 5_000, "transaction": "sale", "response_code": "91",
            "batch_no": "9", "trace_no": "321",
        });
        bring_home(server);
        let mut other_day = item.clone();
        other_day["occurred_at_ms"] = json!(at_ms - 2 * 86_400_000);
        let taken = take(server, &token, json!([item, other_day]));
        assert_eq!((&taken["stored"], &taken["duplicates"]), (&json!(1), &json!(1)), "{taken}");
        let count: Result<i64, db::Error> =
            server.block_on(server.state.db.read(|conn| Ok(failures::table.count().get_result(conn)?)));
        assert_eq!(count.unwrap(), 2);
        let totals = server.block_on(server.state.db.read(checkin::totals)).unwrap();
        assert_eq!((totals.failures, totals.state_failures), (2, 1), "cells hold both, the terminal's row its own");
    });
}

#[test]
fn what_was_reported_for_a_terminal_is_not_counted_again_when_it_reports_by_itself() {
    on_each_database(|server| {
        let token = admin(server);
        let terminal = terminal(server, 7);
        bring_home(server);
        let mut first = check_in(1, 1);
        first["transactions"] = json!({"ok": 1, "failed": 0});
        terminal.send(server, &first).expect(200);
        let at_ms = server.clock.now().0 - 60_000;
        // Nobody said what kind of transaction it was.
        let item = |trace: &str, ref_no: Option<&str>| {
            json!({
                "sn": "SN000007", "occurred_at_ms": at_ms, "response_code": "91", "ref_no": ref_no,
                "batch_no": ref_no.is_none().then_some("9"), "trace_no": ref_no.is_none().then_some(trace),
            })
        };
        let items = json!([item("321", None), item("", Some("032616000001"))]);
        assert_eq!(take(server, &token, items)["stored"], 2);
        let event = |id: &str, trace: &str, ref_no: Option<&str>| {
            let mut event = failure(id);
            event["occurred_at_ms"] = json!(at_ms);
            event["batch_no"] = json!("000009");
            event["trace_no"] = json!(trace);
            if let Some(ref_no) = ref_no {
                event["ref_no"] = json!(ref_no);
            }
            event
        };
        let mut second = check_in(1, 2);
        second["transactions"] = json!({"ok": 0, "failed": 3});
        second["failures"] = json!([
            event("e1", "000321", None),
            event("e2", "000322", Some("032616000001")),
            event("e3", "000323", None),
        ]);
        terminal.send(server, &second).expect(200);
        let (failures, _, outcomes) = cells(server);
        assert!(outcomes.iter().all(|(outcome, _)| outcome == "code:91"), "{outcomes:?}");
        assert_eq!((failures, outcomes.iter().map(|(_, n)| n).sum::<i64>()), (3, 3), "one firmware is known, one not");
        let listed = server.get("/api/v1/failures?terminal_id=7", &token).expect(200).json();
        assert_eq!(listed["items"].as_array().unwrap().len(), 3, "two told of before, one not");
        let totals = server.block_on(server.state.db.read(checkin::totals)).unwrap();
        assert_eq!((totals.failures, totals.state_failures), (3, 3), "its own row says what it sent");
    });
}

#[test]
fn somebody_elses_terminal_takes_no_failures() {
    on_each_database(|server| {
        let (_, id) = set_up(server);
        let token = crate::fixtures::token_of(server, crate::fixtures::ADMIN);
        let root = headquarters(server, &token);
        let other = organization(server, &token, root, "OTHER");
        let stranger = operator(server, &token, other, "org_admin").token;
        let answer = take(server, &stranger, json!([item(server, "000001")]));
        assert_eq!((&answer["stored"], &answer["refused"][0]["field"]), (&json!(0), &json!("sn")));
        let listed = server.get(&format!("/api/v1/failures?terminal_id={id}"), &token).expect(200).json();
        assert_eq!(listed["items"], json!([]));
        let reader = operator(server, &token, root, "auditor").token;
        server.post("/api/v1/failures", &reader, &json!({ "failures": [] })).expect(403);
    });
}

/// Sends a file and waits until it is taken in.
fn send_file(server: &TestServer, token: &str, file: &[u8], start: &str) -> Value {
    let path = format!("/api/v1/imports?kind=failures&source=till-list&file_name=f.csv&start={start}");
    let headers = [("content-type", "application/octet-stream")];
    let made = server.send("POST", &path, token, &headers, file).expect(202).json();
    let at = format!("/api/v1/imports/{}", made["id"].as_str().unwrap());
    let ended = || {
        let import = server.get(&at, token).expect(200).json();
        let state = import["state"].as_str().unwrap().to_owned();
        matches!(state.as_str(), "done" | "failed").then_some(import)
    };
    wait_until("the import ends", || ended().is_some());
    ended().unwrap()
}

/// Rows as resellers export them: Chinese headings, yuan, a spreadsheet's codes without their zero.
fn csv(server: &TestServer) -> String {
    let day = |hours: i64| {
        let at = jiff::Timestamp::from_millisecond(server.clock.now().0 - hours * 3_600_000).unwrap();
        at.to_zoned(jiff::tz::TimeZone::fixed(jiff::tz::Offset::constant(8))).strftime("%Y/%m/%d %H:%M:%S").to_string()
    };
    format!(
        "机具序列号,交易时间,交易类型,应答码,交易金额(元),批次号,流水号,失败原因\r\n\
         {SN},{},消费,91,123.00,000001,000001,发卡方不能操作\r\n\
         {SN},{},消费,5,88,000001,000002,不予承兑\r\n\
         NOBODYS,{},消费,51,1,000001,000003,\r\n\
         {SN},{},消费,00,1,000001,000004,交易成功\r\n",
        day(5),
        day(6),
        day(6),
        day(6),
    )
}

#[test]
fn a_file_of_failures_is_taken_as_it_is_twice_over_without_counting_twice() {
    on_each_database(|server| {
        let (token, id) = set_up(server);
        let file = csv(server);
        let tried = send_file(server, &token, file.as_bytes(), "try");
        assert_eq!((&tried["accepted"], cells(server).0), (&json!(2), 0), "{tried}");
        let (gb18030, _, _) = encoding_rs::GB18030.encode(&file);
        for (bytes, accepted, duplicates) in [(file.as_bytes(), 2, 0), (gb18030.as_ref(), 0, 2)] {
            let import = send_file(server, &token, bytes, "import");
            assert_eq!(
                (&import["accepted"], &import["duplicates"]),
                (&json!(accepted), &json!(duplicates)),
                "{import}"
            );
            assert_eq!(import["refused"], 2, "{import}");
        }
        let listed = server.get(&format!("/api/v1/failures?terminal_id={id}"), &token).expect(200).json();
        let mut rows: Vec<(&str, &str, i64)> = listed["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                let text = |name: &str| row[name].as_str().unwrap();
                (text("response_code"), text("source"), row["amount_fen"].as_i64().unwrap())
            })
            .collect();
        rows.sort_unstable();
        assert_eq!(rows, [("05", "file", 8_800), ("91", "file", 12_300)]);
        // By REST the same transaction is known.
        assert_eq!(take(server, &token, json!([item(server, "1")]))["duplicates"], 1);
    });
}
