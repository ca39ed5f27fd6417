//! Each failure is judged once, by tables that its organization may change, and the verdict says why.

use diesel::prelude::*;
use serde_json::{Value, json};
use tillward_server::clock::Now;
use tillward_server::db;
use tillward_server::db::schema::{failures, settings, terminals, verdict_counts, verdicts as rows};
use tillward_server::failures::classify::{
    Binding, FeedRow, FeedStatus, NumberKnown, SettlementFacts, judge_settlement,
};
use tillward_server::failures::verdicts::{self, Left, NewVerdict, Source};

use crate::check_in::{Terminal, check_in, failure};
use crate::console::Browser;
use crate::fixtures::{admin, headquarters, operator, organization};
use crate::harness::{Answer, TestServer, on_each_database, wait_until};

/// A headquarters with a reseller and a terminal of it that can call.
struct Shop {
    admin: String,
    root: i64,
    east: i64,
    owner: String,
    stranger: String,
    terminal: Terminal,
}

fn shop(server: &TestServer) -> Shop {
    let admin = admin(server);
    let root = headquarters(server, &admin);
    let east = organization(server, &admin, root, "EAST");
    let west = organization(server, &admin, root, "WEST");
    let owner = operator(server, &admin, east, "org_admin").token;
    let stranger = operator(server, &admin, west, "org_admin").token;
    let terminal = crate::check_in::terminal(server, 77);
    let path = format!("/{root}/{east}/");
    let moved: Result<(), db::Error> = server.block_on(server.state.db.write(move |conn| {
        diesel::update(terminals::table.find(77))
            .set((
                terminals::organization_id.eq(east),
                terminals::org_path.eq(path),
                terminals::merchant_no.eq("850331053110612"),
            ))
            .execute(conn)?;
        Ok(())
    }));
    moved.unwrap();
    Shop { admin, root, east, owner, stranger, terminal }
}

/// Sends failures and waits until all are judged.
fn report(server: &TestServer, shop: &Shop, seq: u32, failures: &[Value], more: Value) {
    let mut body = check_in(1, seq);
    body["failures"] = json!(failures);
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    shop.terminal.send(server, &body).expect(200);
    server.clock.advance_ms(3_000);
    wait_until("every failure is judged", || {
        let page = list(server, &shop.owner, "size=100");
        page["items"].as_array().unwrap().iter().all(|row| row["verdict"].is_object())
    });
}

fn list(server: &TestServer, token: &str, query: &str) -> Value {
    server.get(&format!("/api/v1/failures?{query}"), token).expect(200).json()
}

fn of_code(id: &str, code: &str) -> Value {
    let mut failure = failure(id);
    failure["response_code"] = json!(code);
    failure
}

/// A failure without a code.
fn of_stage(id: &str, stage: &str, condition: Value) -> Value {
    let mut failure = failure(id);
    failure.as_object_mut().unwrap().remove("response_code");
    failure["stage"] = json!(stage);
    failure["condition"] = condition;
    failure
}

fn causes(server: &TestServer, token: &str) -> Vec<(String, i64)> {
    let counted = server.get("/api/v1/failures/causes", token).expect(200).json();
    let rows = counted["causes"].as_array().unwrap().iter();
    rows.map(|row| (row["cause"].as_str().unwrap().to_owned(), row["count"].as_i64().unwrap())).collect()
}

fn edit(server: &TestServer, token: &str, organization: i64, body: &Value) -> Answer {
    let headers = [("content-type", "application/json")];
    let path = format!("/api/v1/rules/tables/{organization}");
    server.send("PUT", &path, token, &headers, body.to_string().as_bytes())
}

fn incidents(server: &TestServer, token: &str, kind: &str) -> Vec<Value> {
    let page = server.get(&format!("/api/v1/incidents?kind={kind}"), token).expect(200).json();
    page["items"].as_array().unwrap().clone()
}

#[test]
fn a_failure_is_judged_with_its_reasons_and_found_by_its_cause() {
    on_each_database(|server| {
        let shop = shop(server);
        let weak = json!({"access": "4g", "plmn": "46000", "rsrp_dbm": -118, "registration": "ok"});
        let failures = [of_code("e1", "51"), of_stage("e2", "tls", weak), of_code("e3", "Z9"), of_code("e4", "51")];
        report(server, &shop, 1, &failures, json!({}));
        let rows = list(server, &shop.owner, "size=100");
        let verdict = |event: &str| {
            let row = rows["items"].as_array().unwrap().iter().find(|row| row["event_id"] == event).unwrap();
            row["verdict"].clone()
        };
        let card = verdict("e1");
        assert_eq!((&card["cause"], &card["rule"], &card["symptom"]), (&json!("BNK.CARD"), &json!("R6"), &json!("S1")));
        assert_eq!(card["family"], "BNK");
        assert!(card["advice"]["meaning_zh"].as_str().unwrap().contains("资金不足"), "{card}");
        let signal = verdict("e2");
        assert_eq!(signal["cause"], "NET.SIGNAL");
        let reason = &signal["reasons"][0];
        assert_eq!(
            (&reason["rule"], &reason["field"], &reason["observed"], &reason["threshold"]),
            (&json!("R4"), &json!("rsrp_dbm"), &json!("-118"), &json!("≥ -115"))
        );
        assert_eq!(signal["alternatives"][0]["cause"], "NET.TLS");
        let lacks = signal["not_checked"].as_array().unwrap();
        assert!(lacks.contains(&json!({"rule": "R4", "missing": "sinr_db"})), "{lacks:?}");
        let unmapped = verdict("e3");
        assert_eq!((&unmapped["cause"], &unmapped["reasons"][0]["observed"]), (&json!("UNK"), &json!("Z9")));

        let found = list(server, &shop.owner, "cause=BNK.CARD&size=1");
        assert_eq!(found["items"][0]["event_id"], "e4");
        let next =
            list(server, &shop.owner, &format!("cause=BNK.CARD&size=1&after={}", found["next"].as_str().unwrap()));
        assert_eq!((&next["items"][0]["event_id"], &next["next"]), (&json!("e1"), &Value::Null));
        assert_eq!(list(server, &shop.owner, "symptom=S4")["items"], json!([]));
        assert_eq!(list(server, &shop.owner, "cause=BNK.CARD&stage=tls")["items"], json!([]));
        server.get("/api/v1/failures?cause=NET", &shop.owner).expect(422);
        let counts = [("BNK.CARD".to_owned(), 2), ("NET.SIGNAL".to_owned(), 1), ("UNK".to_owned(), 1)];
        assert_eq!(causes(server, &shop.owner), counts);
        assert_eq!(causes(server, &shop.admin), counts, "those above see it too");
        assert_eq!(causes(server, &shop.stranger), []);
        assert_eq!(list(server, &shop.stranger, "cause=BNK.CARD")["items"], json!([]));
    });
}

#[test]
fn a_tampered_terminal_is_an_incident_whatever_its_failures_are() {
    on_each_database(|server| {
        let shop = shop(server);
        let device = json!({"device": {"tamper": "triggered"}});
        report(server, &shop, 1, &[of_code("e1", "51"), of_code("e2", "51")], device);
        let row = &list(server, &shop.owner, "size=1")["items"][0]["verdict"];
        assert_eq!((&row["cause"], &row["alternatives"][0]["cause"]), (&json!("BNK.CARD"), &json!("DEV.TAMPER")));
        let open = incidents(server, &shop.owner, "tamper");
        assert_eq!(open.len(), 1, "{open:?}");
        assert_eq!((&open[0]["level"], &open[0]["occurrences"]), (&json!("P1"), &json!(2)));
        assert_eq!(incidents(server, &shop.stranger, "tamper"), Vec::<Value>::new());
    });
}

#[test]
fn what_the_terminal_says_of_its_card_modem_and_pin_pad_and_of_partial_approvals_counts() {
    on_each_database(|server| {
        let shop = shop(server);
        let (iccid, imei) = ("89860012345678901234", "490154203237518");
        let csv = format!("iccid,plan_mb\n{iccid},30\n");
        let headers = [("content-type", "text/csv")];
        server.send("POST", "/api/v1/sim-cards/import", &shop.owner, &headers, csv.as_bytes()).expect(200);
        let registered: Result<(), db::Error> = server.block_on(server.state.db.write(move |conn| {
            let bound = (terminals::iccid.eq(iccid), terminals::imei.eq(imei));
            diesel::update(terminals::table.find(77)).set(bound).execute(conn)?;
            Ok(())
        }));
        registered.unwrap();
        let good = json!({"access": "4g", "plmn": "46000", "rsrp_dbm": -90, "sinr_db": 12, "registration": "ok"});
        // The clock of the failures is that of the report: what it says holds for them.
        let now_ms = server.clock.now().0;
        let at = |mut failure: Value| {
            failure["occurred_at_ms"] = json!(now_ms);
            failure
        };
        let mut partial = at(of_code("e2", "10"));
        partial["approved_fen"] = json!(700);
        let failures = [at(of_stage("e1", "tcp", good.clone())), partial];
        let used = |mib: u64| json!({"sent_bytes": 1, "received_bytes": 1, "month_bytes": mib << 20});
        let device = json!({"iccid": iccid, "imei": "356938035643809", "tamper": "ok", "ped_ok": false});
        report(server, &shop, 1, &failures, json!({"network": used(30), "device": device}));
        let verdict = |event: &str| {
            let rows = list(server, &shop.owner, "size=100");
            let row = rows["items"].as_array().unwrap().iter().find(|row| row["event_id"] == event).unwrap();
            row["verdict"].clone()
        };
        let suspended = verdict("e1");
        assert_eq!((&suspended["cause"], &suspended["root"]), (&json!("NET.SIM_SUSPENDED"), &json!("OPR.SIM_SWAP")));
        let has = |verdict: &Value, field: &str| {
            verdict["reasons"].as_array().unwrap().iter().any(|reason| reason["field"] == field)
        };
        assert!(has(&suspended, "month_bytes") && has(&suspended, "imei_changed_s"), "{suspended}");
        let approved = verdict("e2");
        assert!(has(&approved, "approved_fen"), "{approved}");
        assert_eq!(incidents(server, &shop.owner, "tamper").len(), 1, "the PIN pad is not in order");

        let well = json!({"iccid": iccid, "imei": imei, "tamper": "ok", "ped_ok": true});
        let more = json!({"network": used(29), "device": well});
        report(server, &shop, 2, &[at(of_stage("e3", "dns", good))], more);
        let other = verdict("e3");
        assert_eq!((&other["cause"], &other["root"]), (&json!("NET.DNS"), &Value::Null), "{other}");
    });
}

/// Verdicts, what they are counted as, and revisions.
fn stored(server: &TestServer) -> (i64, i64, i64) {
    let read: Result<_, db::Error> = server.block_on(server.state.db.read(|conn| {
        let n: i64 = rows::table.count().get_result(conn)?;
        let counted: Vec<i64> = verdict_counts::table.select(verdict_counts::n).load(conn)?;
        let revisions: Vec<i64> = rows::table.select(rows::revision).load(conn)?;
        Ok((n, counted.iter().sum(), revisions.iter().sum()))
    }));
    read.unwrap()
}

fn pass(server: &TestServer, now: Now) -> Left {
    server.block_on(verdicts::pass(&server.state.db, now)).unwrap()
}

#[test]
fn a_pass_that_begins_anew_judges_nothing_twice_and_finds_what_came_late() {
    on_each_database(|server| {
        let shop = shop(server);
        let failures: Vec<Value> = (0..60).map(|n| of_code(&format!("e{n}"), "91")).collect();
        report(server, &shop, 1, &failures, json!({}));
        assert_eq!(stored(server), (60, 60, 60));
        // As after a crash before its place was kept, and as two servers at the same failures.
        let forget = |key: &'static str| {
            let forgotten: Result<(), db::Error> = server.block_on(server.state.db.write(move |conn| {
                diesel::delete(settings::table.find(key)).execute(conn)?;
                Ok(())
            }));
            forgotten.unwrap();
        };
        forget("verdicts_cursor");
        let now = server.clock.now();
        for _ in 0..3 {
            pass(server, now);
        }
        assert_eq!(stored(server), (60, 60, 60));
        // Committed behind the pass, which has been past that moment.
        let late: Result<(), db::Error> = server.block_on(server.state.db.write(|conn| {
            let row = failures::table.filter(failures::event_id.eq("e7"));
            let changed = diesel::update(row).set(failures::event_id.eq("a-late-one")).execute(conn)?;
            assert_eq!(changed, 1);
            Ok(())
        }));
        late.unwrap();
        server.clock.advance_ms(61_000);
        wait_until("what came late is judged", || {
            pass(server, server.clock.now());
            stored(server).0 == 61
        });
        assert_eq!(stored(server), (61, 61, 61));
    });
}

#[test]
fn an_edit_holds_from_then_on_and_changes_earlier_verdicts_only_when_asked() {
    on_each_database(|server| {
        let shop = shop(server);
        let weak = |id: &str| {
            of_stage(id, "tls", json!({"access": "4g", "plmn": "46000", "rsrp_dbm": -112, "registration": "ok"}))
        };
        report(server, &shop, 1, &[weak("e1"), of_code("e2", "Z9")], json!({}));
        assert_eq!(causes(server, &shop.owner), [("NET.TLS".to_owned(), 1), ("UNK".to_owned(), 1)]);
        let numbers = server.get("/api/v1/fleet/kpis", &shop.owner).expect(200).json();
        assert_eq!((&numbers["judged"], &numbers["explained"]), (&json!(2), &json!(1)));
        let others = server.get("/api/v1/fleet/kpis", &shop.stranger).expect(200).json();
        assert_eq!((&others["judged"], &others["explained"]), (&json!(0), &json!(0)));
        let before = list(server, &shop.owner, "cause=NET.TLS")["items"][0]["verdict"].clone();
        assert_eq!((&before["is_current"], &before["revision"]), (&json!(true), &json!(1)));

        let overrides = json!([
            {"table": "thresholds", "key": "weak_rsrp_dbm", "row": {"value": "-110", "note": "山区"}},
            {"table": "response_codes", "key": "Z9", "row": {
                "meaning_zh": "通道维护", "meaning_en": "channel maintenance", "cause": "BNK.SWITCH", "confidence": "0.8",
                "path_proven": "yes", "advice_zh": "等待通道恢复", "advice_en": "wait",
            }},
        ]);
        let wanted = json!({"version": 0, "note": "山区信号", "overrides": overrides});
        let tables = edit(server, &shop.owner, shop.east, &wanted).expect(200).json();
        assert_eq!(tables["version"], 1);
        let thresholds =
            tables["tables"].as_array().unwrap().iter().find(|table| table["name"] == "thresholds").unwrap();
        let row =
            |key: &str| thresholds["rows"].as_array().unwrap().iter().find(|row| row["key"] == key).unwrap().clone();
        assert_eq!(row("weak_rsrp_dbm")["row"]["value"], "-110");
        assert_eq!(row("weak_rsrp_dbm")["origin"]["from"], "organization");
        assert_eq!(row("weak_sinr_db")["origin"]["from"], "shipped");
        edit(server, &shop.owner, shop.east, &wanted).expect(409);
        edit(server, &shop.stranger, shop.east, &wanted).expect(404);
        edit(server, &shop.owner, shop.root, &wanted).expect(404);
        let bad = json!({"version": 1, "note": "x", "overrides": [{"table": "thresholds", "key": "weak_rsrp_dbm", "row": null}]});
        assert_eq!(
            edit(server, &shop.owner, shop.east, &bad).expect(422).json()["field"],
            "thresholds.weak_rsrp_dbm.value"
        );

        let still = list(server, &shop.owner, "cause=NET.TLS")["items"][0]["verdict"].clone();
        assert_eq!((&still["is_current"], &still["tables_version"]), (&json!(false), &before["tables_version"]));
        let version = before["tables_version"].as_str().unwrap();
        let used = server.get(&format!("/api/v1/rules/versions/{version}"), &shop.owner).expect(200).json();
        assert_eq!(used["tables"]["thresholds"]["rows"]["weak_rsrp_dbm"]["value"], "-115");
        server.get(&format!("/api/v1/rules/versions/{version}"), &shop.stranger).expect(404);
        report(server, &shop, 2, &[weak("e3")], json!({}));
        assert_eq!(list(server, &shop.owner, "cause=NET.SIGNAL")["items"][0]["event_id"], "e3");

        let now = server.clock.now().0;
        let asked = json!({"from_ms": 0, "to_ms": now + 1});
        let none = server.post("/api/v1/failures/reevaluate", &shop.stranger, &asked).expect(200).json();
        assert_eq!(none["judged"], 0);
        let done = server.post("/api/v1/failures/reevaluate", &shop.owner, &asked).expect(200).json();
        assert_eq!((&done["judged"], &done["changed"], &done["next"]), (&json!(3), &json!(2), &Value::Null));
        let after = list(server, &shop.owner, "cause=NET.SIGNAL");
        let e1 = after["items"].as_array().unwrap().iter().find(|row| row["event_id"] == "e1").unwrap();
        let verdict = &e1["verdict"];
        assert_eq!((&verdict["is_current"], &verdict["revision"]), (&json!(true), &json!(2)));
        assert_eq!(
            (&verdict["earlier"][0]["cause"], &verdict["earlier"][0]["tables_version"]),
            (&json!("NET.TLS"), &json!(version))
        );
        assert_eq!(causes(server, &shop.owner), [("NET.SIGNAL".to_owned(), 2), ("BNK.SWITCH".to_owned(), 1)]);
        assert_eq!(stored(server).0, stored(server).1);
        let log = server.get("/api/v1/audit?size=100", &shop.admin).expect(200).text();
        assert!(log.contains("rules.edit") && log.contains("rules.reevaluate"));
    });
}

#[test]
fn a_settlement_is_kept_once_and_a_proven_switch_opens_one_incident() {
    on_each_database(|server| {
        let shop = shop(server);
        let path = format!("/{}/{}/", shop.root, shop.east);
        let now = server.clock.now();
        let record = |item: &str, known: Option<NumberKnown>| {
            let (item, path) = (item.to_owned(), path.clone());
            let recorded: Result<usize, db::Error> = server.block_on(server.state.db.write(move |conn| {
                let tables = verdicts::in_force(conn, &path)?;
                let row = FeedRow {
                    status: FeedStatus::Success,
                    merchant_no: Some("850331083980001".to_owned()),
                    merchant_name: None,
                    mcc_cleared: None,
                    amount_fen: Some(10_000),
                    settle_amount_fen: Some(9_940),
                    fee_fen: Some(60),
                    withdraw_fee_fen: None,
                    rate_ppm: None,
                    capped: None,
                    second_orders: None,
                    success_at_ms: None,
                };
                let binding = Binding { merchant_no: "850331053110612".to_owned(), ..Binding::default() };
                let facts = SettlementFacts {
                    row: Some(row),
                    binding: Some(binding),
                    number_known: known,
                    ..SettlementFacts::default()
                };
                let new = NewVerdict {
                    source: Source::Settlement,
                    terminal_id: Some(77),
                    sn: Some("SN000077".to_owned()),
                    merchant_no: Some("850331053110612".to_owned()),
                    item,
                    org_path: path,
                    received_at_ms: now.0,
                    response_code: None,
                    judgement: judge_settlement(&facts, &tables.tables),
                    tables,
                };
                verdicts::record_all(conn, &[new], now)
            }));
            recorded.unwrap()
        };
        assert_eq!(record("row:0", None), 1);
        assert_eq!(
            incidents(server, &shop.owner, "merchant_switch"),
            Vec::<Value>::new(),
            "first seen: to be reviewed"
        );
        assert_eq!(record("row:1", Some(NumberKnown::Foreign)), 1);
        assert_eq!(record("row:1", Some(NumberKnown::Foreign)), 0);
        assert_eq!(record("row:2", Some(NumberKnown::Foreign)), 1);
        let open = incidents(server, &shop.owner, "merchant_switch");
        assert_eq!(open.len(), 1, "one for a merchant, terminal and day: {open:?}");
        assert_eq!((&open[0]["level"], &open[0]["occurrences"]), (&json!("P1"), &json!(2)));
        assert_eq!(causes(server, &shop.owner), [], "counts of failures are their own");
    });
}

const CARD: &str = "6222021234567890128";

#[test]
fn card_data_is_refused_wherever_people_write_and_told_once_a_day_by_numbers_alone() {
    on_each_database(|server| {
        let shop = shop(server);
        let token = &shop.owner;
        let id = shop.terminal.id;
        let text = format!("见卡 {CARD}");
        let east = shop.east;
        let asked: Vec<(&str, String, Value)> = vec![
            ("POST", "/api/v1/organizations".to_owned(), json!({"parent_id": east, "name": text, "short_code": "E1"})),
            ("POST", "/api/v1/organizations".to_owned(), json!({"parent_id": east, "name": "E", "short_code": CARD})),
            (
                "POST",
                "/api/v1/operators".to_owned(),
                json!({
                    "organization_id": east, "login": "some.body", "name": text, "password": crate::fixtures::PASSWORD, "role": "field",
                }),
            ),
            (
                "POST",
                "/api/v1/operators".to_owned(),
                json!({
                    "organization_id": east, "login": CARD, "name": "n", "password": crate::fixtures::PASSWORD, "role": "field",
                }),
            ),
            ("POST", "/api/v1/profiles".to_owned(), json!({"name": text, "parameters": {"a": 1}})),
            ("POST", "/api/v1/profiles".to_owned(), json!({"name": "p", "parameters": {"a": text}})),
            ("PATCH", format!("/api/v1/terminals/{id}"), json!({"version": 1, "notes": text})),
            ("PATCH", format!("/api/v1/terminals/{id}"), json!({"version": 1, "merchant_name": text})),
            ("PATCH", format!("/api/v1/terminals/{id}"), json!({"version": 1, "store_name": text})),
            ("PUT", format!("/api/v1/rules/tables/{east}"), json!({"version": 0, "note": text, "overrides": []})),
            (
                "PUT",
                format!("/api/v1/rules/tables/{east}"),
                json!({
                    "version": 0, "note": "n", "overrides": [{"table": "causes", "key": "UNK", "row": {"advice_zh": text}}],
                }),
            ),
        ];
        let sent = asked.len();
        for (method, path, body) in asked {
            let headers = [("content-type", "application/json")];
            let answer = server.send(method, &path, token, &headers, body.to_string().as_bytes()).expect(422);
            let said = answer.text();
            assert!(said.contains("card data"), "{method} {path}: {said}");
            assert!(!said.contains(CARD) && !said.contains("622202"), "{method} {path}: {said}");
        }
        let refused = || incidents(server, token, "card_data");
        wait_until("it is told", || !refused().is_empty());
        let first = refused()[0]["id"].as_i64().unwrap();
        let detail = server.get(&format!("/api/v1/incidents/{first}"), token).expect(200).text();
        assert!(!detail.contains(CARD) && detail.contains("\"refused\""), "{detail}");
        // An import tells of its rows, a terminal of its check-ins, in the same incident of the day.
        let seen = refused()[0]["occurrences"].as_i64().unwrap();
        assert!(usize::try_from(seen).unwrap() <= sent);
        let file = format!("SN,model,remarks\nX1,demo-p1,{CARD}\nX2,demo-p1,fine\n");
        let headers = [("content-type", "text/csv")];
        let imported = server.send("POST", "/api/v1/terminals/import?dry_run=true", token, &headers, file.as_bytes());
        assert_eq!(imported.expect(200).json()["invalid"], 1);
        wait_until("the import is told", || refused()[0]["occurrences"].as_i64().unwrap() > seen);
        let seen = refused()[0]["occurrences"].as_i64().unwrap();
        let mut body = check_in(1, 1);
        let mut failed = failure("e1");
        failed["note"] = json!(text);
        body["failures"] = json!([failed]);
        assert!(!shop.terminal.send(server, &body).expect(422).text().contains(CARD));
        wait_until("the terminal's is told", || refused()[0]["occurrences"].as_i64().unwrap() > seen);
        assert_eq!(refused().len(), 1, "one a day");
        assert_eq!(incidents(server, &shop.stranger, "card_data"), Vec::<Value>::new());
        // Our own numbers never trip it.
        server.clock.advance_ms(5_000);
        let seen = refused()[0]["occurrences"].clone();
        let fine =
            json!({"version": 1, "notes": "TUSN 00005702280117638929 IMEI 490154203237518 商户 850331053110612"});
        let headers = [("content-type", "application/json")];
        let path = format!("/api/v1/terminals/{id}");
        server.send("PATCH", &path, token, &headers, fine.to_string().as_bytes()).expect(200);
        assert_eq!(refused()[0]["occurrences"], seen);
    });
}

#[test]
fn the_console_shows_why_and_changes_a_row_of_the_rules() {
    on_each_database(|server| {
        let shop = shop(server);
        let person = operator(server, &shop.admin, shop.east, "org_admin");
        let weak = json!({"access": "4g", "plmn": "46000", "rsrp_dbm": -118, "registration": "ok"});
        report(server, &shop, 1, &[of_stage("e1", "tls", weak), of_code("e2", "51")], json!({}));
        let browser = Browser::signed_in(server, &person.login);
        browser.post("/preferences", &[("language", "zh-CN")]).expect(303);
        let page = browser.get("/failures").expect(200).text();
        for words in
            ["为什么这样判断", "移动信号弱", "RSRP（dBm）", "-118", "资金不足", "近 7 天已判定 2 笔", "未核对的项目"]
        {
            assert!(page.contains(words), "{words}");
        }
        assert!(!page.contains("拉卡拉") && !page.contains("无跳码"));
        let narrowed = browser.get("/failures?cause=BNK.CARD").expect(200).text();
        assert!(narrowed.contains("资金不足") && !narrowed.contains("-118"));
        let terminal = browser.get("/terminals/SN000077").expect(200).text();
        assert!(terminal.contains("为什么这样判断") && terminal.contains("移动信号弱"));

        let rules = browser.get("/rules?table=thresholds&key=weak_rsrp_dbm").expect(200).text();
        assert!(rules.contains("value=\"-115\"") && rules.contains("出厂"), "{rules}");
        assert!(rules.contains("依据可信度") && rules.contains("自定规则") && !rules.contains("own rule"), "{rules}");
        let csrf = browser.csrf();
        let fields = |version: &'static str, what: &'static str| {
            vec![
                ("csrf", csrf.clone()),
                ("table", "thresholds".to_owned()),
                ("version", version.to_owned()),
                ("c_name", "weak_rsrp_dbm".to_owned()),
                ("c_value", "-110".to_owned()),
                ("c_rule", "R4".to_owned()),
                ("note", "山区".to_owned()),
                ("what", what.to_owned()),
            ]
        };
        let post = |fields: Vec<(&str, String)>| {
            let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
            browser.post("/rules", &fields)
        };
        post(fields("0", "change")).expect(303);
        let changed = browser.get("/rules?table=thresholds&key=weak_rsrp_dbm").expect(200).text();
        assert!(changed.contains("value=\"-110\"") && changed.contains("本组织") && changed.contains("山区"));
        assert!(post(fields("0", "change")).expect(409).text().contains("已被他人修改"));
        browser.post("/rules/reevaluate", &[("csrf", csrf.as_str())]).expect(303);
        post(fields("1", "reset")).expect(303);
        assert!(browser.get("/rules?table=thresholds&key=weak_rsrp_dbm").expect(200).text().contains("value=\"-115\""));
        let stranger = operator(server, &shop.admin, shop.east, "field");
        let looking = Browser::signed_in(server, &stranger.login);
        assert!(!looking.get("/rules").expect(200).text().contains("action=\"/rules\""));
    });
}
