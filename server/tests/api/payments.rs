//! The short form of payments: stored exactly once with the check-in, found by whoever reconciles, and gone in time.

use serde_json::{Value, json};
use tillward_server::operators::Scope;
use tillward_server::payments::{self, Payment};
use tillward_server::{db, failures};

use crate::check_in::{check_in, failure, terminal};
use crate::fixtures::{admin, headquarters, operator, organization};
use crate::harness::{TestServer, on_each_database};

const AT_MS: i64 = 1_790_000_000_000;

fn payment(id: &str, at_ms: i64, trace_no: &str) -> Value {
    json!({
        "id": id, "occurred_at_ms": at_ms, "transaction": "sale", "amount_fen": 9_900, "batch_no": "000012",
        "trace_no": trace_no, "ref_no": format!("0326161{trace_no:0>5}"), "merchant_no_sent": "850331053110612",
        "terminal_no_sent": "12345678", "merchant_no_resp": "850331053110612",
    })
}

fn stored(server: &TestServer, terminal_id: i64) -> Vec<Payment> {
    let read: Result<_, db::Error> = server.block_on(
        server.state.db.read(move |conn| payments::of_terminal(conn, &Scope::everything(), terminal_id, 0, i64::MAX)),
    );
    read.unwrap()
}

fn ids(payments: &[Payment]) -> Vec<&str> {
    payments.iter().map(|payment| payment.event_id.as_str()).collect()
}

#[test]
fn payments_are_stored_once_however_often_and_late_their_check_in_comes() {
    on_each_database(|server| {
        let terminal = terminal(server, 7);
        let mut first = check_in(1, 1);
        first["payments"] = json!([payment("p1", AT_MS, "1"), payment("p2", AT_MS + 1, "2")]);
        first["failures"] = json!([failure("e1")]);
        let mut second = check_in(1, 2);
        // The terminal forgot that it sent p2 and says it once more; the server does not.
        second["payments"] = json!([payment("p2", AT_MS + 1, "2"), payment("p3", AT_MS + 2, "3")]);
        for _ in 0..3 {
            terminal.send(server, &first).expect(200);
        }
        for body in [&second, &first, &second] {
            let answer = terminal.send(server, body).expect(200).json();
            assert_eq!(answer["acknowledged"], json!({"stream": 1, "seq": 2}));
        }
        assert_eq!(ids(&stored(server, 7)), ["p1", "p2", "p3"]);
        // A late report of a stream that is over is acknowledged and changes nothing.
        terminal.send(server, &check_in(2, 1)).expect(200);
        let mut late = check_in(1, 3);
        late["payments"] = json!([payment("p4", AT_MS + 3, "4")]);
        terminal.send(server, &late).expect(200);
        assert_eq!(ids(&stored(server, 7)), ["p1", "p2", "p3"]);
        let scope = Scope::everything();
        let failed: Result<_, db::Error> = server.block_on(
            server.state.db.read(move |conn| failures::list(conn, &scope, &failures::Filter::default(), None, 10)),
        );
        assert_eq!(failed.unwrap().len(), 1);
    });
}

#[test]
fn many_terminals_at_once_store_every_payment_once() {
    on_each_database(|server| {
        let terminals: Vec<_> = (1..=12).map(|id| terminal(server, id)).collect();
        std::thread::scope(|threads| {
            for terminal in &terminals {
                threads.spawn(move || {
                    for seq in 1..=6_u32 {
                        let mut body = check_in(1, seq);
                        let id = format!("p{seq}");
                        body["payments"] = json!([payment(&id, AT_MS + i64::from(seq), "9")]);
                        // Twice in a row, as after a lost answer.
                        send_once(server, terminal, &body);
                        send_once(server, terminal, &body);
                    }
                });
            }
        });
        for terminal in &terminals {
            assert_eq!(ids(&stored(server, terminal.id)), ["p1", "p2", "p3", "p4", "p5", "p6"]);
        }
    });
}

/// By a client of its own: the test server's is not shared by threads.
fn send_once(server: &TestServer, terminal: &crate::check_in::Terminal, body: &Value) {
    terminal.send(server, body).expect(200);
}

#[test]
fn a_payment_is_found_by_its_reference_or_its_terminal_and_time_by_the_servers_clock() {
    on_each_database(|server| {
        let terminal = terminal(server, 7);
        let mut body = check_in(1, 1);
        // The terminal's clock is a minute ahead.
        body["condition"]["clock_offset_ms"] = json!(60_000);
        body["payments"] = json!([payment("p1", AT_MS + 60_000, "1")]);
        terminal.send(server, &body).expect(200);
        let scope = Scope::subtree("/1000/");
        let found: Result<_, db::Error> = server.block_on(server.state.db.read({
            let scope = scope.clone();
            move |conn| {
                Ok((
                    payments::by_ref_no(conn, &scope, "032616100001", AT_MS - 1, AT_MS + 1)?,
                    payments::of_terminal(conn, &scope, 7, AT_MS, AT_MS + 1)?,
                    payments::of_terminal(conn, &scope, 7, AT_MS + 1, i64::MAX)?,
                    payments::by_ref_no(conn, &Scope::subtree("/1001/"), "032616100001", 0, i64::MAX)?,
                    payments::find(conn, &scope, 7, "p1")?,
                    payments::count(conn, &scope, 0, i64::MAX)?,
                ))
            }
        }));
        let (by_ref, near, later, elsewhere, one, count) = found.unwrap();
        let one = one.unwrap();
        assert_eq!((one.at_ms, one.occurred_at_ms), (AT_MS, AT_MS + 60_000));
        assert_eq!((by_ref, near), (vec![one.clone()], vec![one]));
        assert_eq!((later, elsewhere, count), (vec![], vec![], 1));
    });
}

#[test]
fn payments_are_no_part_of_the_terminals_last_report() {
    on_each_database(|server| {
        let terminal = terminal(server, 7);
        let mut body = check_in(1, 1);
        body["payments"] = json!([payment("p1", AT_MS, "1")]);
        terminal.send(server, &body).expect(200);
        let report: Result<String, db::Error> = server.block_on(server.state.db.read(|conn| {
            use diesel::prelude::*;
            use tillward_server::db::schema::terminal_states;
            Ok(terminal_states::table.find(7).select(terminal_states::report).first(conn)?)
        }));
        assert!(!report.unwrap().contains("payments"));
    });
}

#[test]
fn a_payment_that_cannot_be_is_refused_by_its_place_and_nothing_of_the_report_is_counted() {
    on_each_database(|server| {
        let terminal = terminal(server, 7);
        let refuse = |payments: Value, field: &str| {
            let mut body = check_in(1, 1);
            body["payments"] = payments;
            let answer = terminal.send(server, &body).expect(422);
            let problem = answer.json();
            assert_eq!(problem["field"], field, "{problem}");
            assert!(!answer.text().contains("4111"), "{}", answer.text());
        };
        let many: Vec<Value> = (0..257).map(|n| payment(&format!("p{n}"), AT_MS, "1")).collect();
        refuse(json!(many), "payments");
        let mut bad = payment("p1", AT_MS, "1");
        bad["amount_fen"] = json!(-1);
        refuse(json!([payment("p0", AT_MS, "1"), bad]), "payments[1].amount_fen");
        let mut bad = payment("p1", AT_MS, "1");
        bad["pan"] = json!("4111111111111111");
        refuse(json!([bad]), "payments[0].pan");
        assert_eq!(stored(server, 7), []);
        let good: Vec<Value> = (0..256).map(|n| payment(&format!("p{n}"), AT_MS + n, "1")).collect();
        let mut body = check_in(1, 1);
        body["payments"] = json!(good);
        terminal.send(server, &body).expect(200);
        assert_eq!(stored(server, 7).len(), 200, "one question gets at most so many");
    });
}

#[test]
fn payments_are_listed_page_by_page_within_the_scope_alone() {
    on_each_database(|server| {
        let token = admin(server);
        let root = headquarters(server, &token);
        let ours = organization(server, &token, root, "OURS");
        let other = organization(server, &token, root, "OTHER");
        let model = json!({ "code": "demo-m1", "name": "M1" });
        server.post("/api/v1/models", &token, &model).expect(201);
        let new = json!({ "sn": "OURSN0001", "model": "demo-m1", "organization_id": ours });
        let made = server.post("/api/v1/terminals", &token, &new).expect(201).json();
        let id = made["id"].as_i64().unwrap();
        let epoch: Result<i64, db::Error> = server.block_on(server.state.db.read(move |conn| {
            use diesel::prelude::*;
            use tillward_server::db::schema::terminals;
            Ok(terminals::table.find(id).select(terminals::session_epoch).first(conn)?)
        }));
        let session = server.state.tokens.issue_terminal(
            tillward_protocol::ids::TerminalId(id),
            epoch.unwrap(),
            server.clock.now(),
        );
        let mut body = check_in(1, 1);
        let many: Vec<Value> = (0..3).map(|n| payment(&format!("p{n}"), AT_MS + n, &format!("{n}"))).collect();
        body["payments"] = json!(many);
        server.post("/device/v1/check-in", &session.unwrap(), &body).expect(200);

        let person = operator(server, &token, ours, "org_ops");
        let page = server.get("/api/v1/payments?size=2", &person.token).expect(200).json();
        let listed: Vec<&str> =
            page["items"].as_array().unwrap().iter().map(|row| row["event_id"].as_str().unwrap()).collect();
        assert_eq!(listed, ["p2", "p1"]);
        let next = page["next"].as_str().unwrap();
        let rest = server.get(&format!("/api/v1/payments?size=2&after={next}"), &person.token).expect(200).json();
        assert_eq!(rest["items"][0]["event_id"], "p0");
        assert!(rest["next"].is_null());
        let by_ref = server.get("/api/v1/payments?ref_no=032616100001", &person.token).expect(200).json();
        assert_eq!(by_ref["items"][0]["event_id"], "p1");
        let stranger = operator(server, &token, other, "org_ops");
        let none = server.get(&format!("/api/v1/payments?terminal_id={id}"), &stranger.token).expect(200).json();
        assert_eq!(none["items"], json!([]));
    });
}

#[test]
fn payments_go_when_they_are_too_old_and_not_before() {
    on_each_database(|server| {
        let terminal = terminal(server, 7);
        let mut body = check_in(1, 1);
        let many: Vec<Value> = (0..256).map(|n| payment(&format!("p{n}"), AT_MS, "1")).collect();
        body["payments"] = json!(many);
        terminal.send(server, &body).expect(200);
        let sweep = || server.block_on(payments::sweep(&server.state.db, server.clock.now())).unwrap();
        server.clock.advance_ms(payments::KEPT_MS - 60_000);
        assert_eq!(sweep(), 0);
        server.clock.advance_ms(120_000);
        assert_eq!(sweep(), 256);
        assert_eq!(stored(server, 7), []);
    });
}
