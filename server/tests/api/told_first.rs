//! Failures that an organization told of before their terminals did: counted once, known by the terminal's own report from
//! then on, and judged by it.

use std::sync::mpsc;

use diesel::prelude::*;
use serde_json::{Value, json};
use tillward_server::db::schema::terminals;
use tillward_server::db::{self, Conn};
use tillward_server::failures::verdicts::{self, Left};

use crate::check_in::{Terminal, check_in, failure, terminal};
use crate::console::Browser;
use crate::feed::{channel, counts, import, moment, terminals as register};
use crate::fixtures::{ADMIN, admin, token_of};
use crate::harness::{TestServer, on_each_database, wait_until};
use crate::imported_failures::{cells, take, transactions};
use crate::seed::Tree;

/// Gives terminal 7 to the headquarters, whose people report for it.
pub fn bring_home(server: &TestServer) {
    let moved: Result<(), db::Error> = server.block_on(server.state.db.write(|conn| {
        let root = tillward_server::organizations::headquarters(conn)?.expect("it was set up");
        diesel::update(terminals::table.find(7)).set(terminals::org_path.eq(root.path)).execute(conn)?;
        Ok(())
    }));
    moved.unwrap();
}

fn judge(server: &TestServer) {
    server.clock.advance_ms(3_000);
    while server.block_on(verdicts::pass(&server.state.db, server.clock.now())).unwrap() == Left::More {}
}

/// The only failure of terminal 7.
fn only(server: &TestServer, token: &str) -> Value {
    let listed = server.get("/api/v1/failures?terminal_id=7", token).expect(200).json();
    let rows = listed["items"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "{listed}");
    rows[0].clone()
}

/// What the terminal knows of it: no answer came, and the signal was bad.
fn own(id: &str, at_ms: i64) -> Value {
    let mut own = failure(id);
    own["occurred_at_ms"] = json!(at_ms);
    own["stage"] = json!("tls");
    own["response_code"] = Value::Null;
    own["ref_no"] = json!("32616000001");
    own["condition"] = json!({"access": "4g", "plmn": "46000", "rsrp_dbm": -125, "loss_percent": 60});
    own
}

fn send(server: &TestServer, terminal: &Terminal, seq: u32, failures: Value) {
    let mut body = check_in(1, seq);
    body["transactions"] = json!({"ok": 0, "failed": 1});
    body["failures"] = failures;
    terminal.send(server, &body).expect(200);
}

#[test]
fn the_terminals_own_report_takes_the_place_of_what_was_told_and_is_judged() {
    on_each_database(|server| {
        let token = admin(server);
        let terminal = terminal(server, 7);
        bring_home(server);
        let at_ms = server.clock.now().0 - 60_000;
        let told = json!({
            "sn": "SN000007", "id": "own-1", "occurred_at_ms": at_ms, "response_code": "51", "amount_fen": 12_300,
            "batch_no": "9", "trace_no": "321", "ref_no": "032616000001", "note": "customer called",
        });
        assert_eq!(take(server, &token, json!([told]))["stored"], 1);
        judge(server);
        let before = only(server, &token);
        assert_eq!((&before["told"], &before["source"]), (&Value::Null, &json!("rest")));

        // By the reference number alone; the organization knew batch and trace, too.
        send(server, &terminal, 1, json!([own("e1", at_ms + 2_000)]));
        assert_eq!(cells(server).0, 1, "it was counted when it was told");
        let now = only(server, &token);
        assert_eq!((&now["event_id"], &now["source"]), (&json!("own-1"), &json!("rest")), "{now}");
        assert_eq!((&now["stage"], &now["response_code"]), (&json!("tls"), &Value::Null));
        assert_eq!(
            (&now["access"], &now["carrier"], &now["firmware"]),
            (&json!("4g"), &json!("CMCC"), &json!("4.1.0"))
        );
        assert_eq!(now["occurred_at_ms"], at_ms + 2_000);
        let event = &now["event"];
        assert_eq!((&event["note"], &event["trace_no"]), (&json!("customer called"), &json!("321")), "nothing is lost");
        assert_eq!((&event["id"], &event["condition"]["loss_percent"]), (&json!("own-1"), &json!(60)));
        assert_eq!((&now["told"]["response_code"], &now["told"]["stage"]), (&json!("51"), &json!("host_resp")));

        let page = Browser::signed_in(server, ADMIN).get("/failures").expect(200).text();
        let (_, told) = page.split_once("Told before by the organization").expect("the page shows what was told");
        assert!(told.contains("<dd>51</dd>"), "{page}");

        let was = before["verdict"]["cause"].clone();
        assert_eq!(now["verdict"]["cause"], was, "not judged yet");
        judge(server);
        let judged = only(server, &token)["verdict"].clone();
        assert_ne!(judged["cause"], was, "{judged}");
        assert!(judged["cause"].as_str().unwrap().starts_with("NET."), "{judged}");
        assert_eq!(judged["earlier"][0]["cause"], was, "what was said earlier stays beside it: {judged}");
        judge(server);
        assert_eq!(only(server, &token)["verdict"], judged, "once");

        // In another check-in, under another name: the same transaction, and what the organization said stays.
        send(server, &terminal, 2, json!([own("e1", at_ms + 2_000), own("e2", at_ms + 2_000)]));
        assert_eq!(cells(server).0, 1);
        assert_eq!(only(server, &token)["told"]["response_code"], "51");
        let mut same = own("e1", at_ms);
        same["sn"] = json!("SN000007");
        assert_eq!(take(server, &token, json!([same]))["duplicates"], 1);
    });
}

#[test]
fn what_is_reported_before_anybody_judged_it_is_judged_by_the_report_alone() {
    on_each_database(|server| {
        let token = admin(server);
        let terminal = terminal(server, 7);
        bring_home(server);
        let at_ms = server.clock.now().0 - 60_000;
        let told = json!({"sn": "SN000007", "occurred_at_ms": at_ms, "response_code": "51", "ref_no": "032616000001"});
        assert_eq!(take(server, &token, json!([told]))["stored"], 1);
        send(server, &terminal, 1, json!([own("e1", at_ms)]));
        judge(server);
        let verdict = only(server, &token)["verdict"].clone();
        assert!(verdict["cause"].as_str().unwrap().starts_with("NET."), "{verdict}");
        assert_eq!(verdict["earlier"].as_array().map(Vec::len).unwrap_or(0), 0, "{verdict}");
    });
}

/// Lets both begin while nobody can count, and end when both wait.
fn at_once(server: &TestServer, one: impl FnOnce() + Send, other: impl FnOnce() + Send) {
    let (held, is_held) = mpsc::channel::<()>();
    let (release, released) = mpsc::channel::<()>();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let hold = server.state.db.write(move |conn| {
                if let Conn::Postgres(c) = conn {
                    diesel::sql_query("LOCK TABLE cohort_cells IN EXCLUSIVE MODE").execute(c)?;
                    held.send(()).unwrap();
                    released.recv().unwrap();
                } else {
                    // One writes at a time.
                    held.send(()).unwrap();
                }
                Ok::<_, db::Error>(())
            });
            server.block_on(hold).unwrap();
        });
        is_held.recv().unwrap();
        threads.spawn(one);
        threads.spawn(other);
        wait_until("both wait", || server.block_on(server.state.db.read(are_both_waiting)).unwrap());
        // On SQLite nobody listens any more.
        let _ = release.send(());
    });
}

fn are_both_waiting(conn: &mut Conn) -> Result<bool, db::Error> {
    let Conn::Postgres(conn) = conn else { return Ok(true) };
    let waits = "(SELECT COUNT(*) FROM pg_stat_activity \
                 WHERE datname = current_database() AND wait_event_type = 'Lock') >= 2";
    Ok(diesel::select(diesel::dsl::sql::<diesel::sql_types::Bool>(waits)).get_result::<bool>(conn)?)
}

#[test]
fn a_failure_that_organization_and_terminal_tell_at_one_moment_is_counted_once() {
    on_each_database(|server| {
        let token = admin(server);
        let terminal = terminal(server, 7);
        bring_home(server);
        let at_ms = server.clock.now().0 - 60_000;
        for n in 1..=4_u32 {
            let mut event = failure(&format!("e{n}"));
            event["occurred_at_ms"] = json!(at_ms);
            event["batch_no"] = json!("000009");
            event["trace_no"] = json!(format!("{n:06}"));
            let item = json!({
                "sn": "SN000007", "occurred_at_ms": at_ms, "transaction": "sale", "response_code": "91",
                "batch_no": "9", "trace_no": n.to_string(),
            });
            let report = || send(server, &terminal, n, json!([event]));
            let tell = || drop(take(server, &token, json!([item])));
            at_once(server, report, tell);
            assert_eq!(cells(server).0, i64::from(n));
        }
        let listed = server.get("/api/v1/failures?terminal_id=7", &token_of(server, ADMIN)).expect(200).json();
        assert_eq!(listed["items"].as_array().unwrap().len(), 4);
    });
}

#[test]
fn a_failure_that_organization_and_channel_tell_at_one_moment_is_counted_once() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        register(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        let at_ms = server.clock.now().hour_ms() - 5 * 3_600_000 + 7_000;
        for n in 1..=4_i64 {
            let at = moment(at_ms + n * 60_000);
            let file = format!(
                "流水号,机具序列号,交易金额,交易时间,交易状态,应答码,参考号\n{n},S1,100,{at},失败,91,03261600000{n}\n"
            );
            let item = json!({
                "sn": "S1", "occurred_at_ms": at_ms + n * 60_000, "transaction": "sale", "response_code": "91",
                "amount_fen": 10_000, "ref_no": format!("03261600000{n}"),
            });
            let told = || assert_eq!(counts(&import(server, ops, channel, file.as_bytes())), [1, 0, 0, 0]);
            let reported = || assert_eq!(take(server, ops, json!([item]))["stored"], 1);
            at_once(server, told, reported);
            assert_eq!(transactions(server), (0, n));
        }
    });
}
