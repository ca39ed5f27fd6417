//! Operators' errors by store, against like stores.

use serde_json::{Value, json};
use tillward_server::clock::Now;
use tillward_server::maintenance::guidance::{self, KEPT_WEEKS};

use super::{DAY_MS, Terminal, round};
use crate::harness::{TestServer, on_each_database, wait_until};
use crate::seed::Tree;

/// A failed transaction.
fn failed(number: u32, more: Value) -> Value {
    let mut event = json!({
        "id": format!("f{number}"), "occurred_at_ms": 1_790_000_000_000_i64, "transaction": "sale", "condition": {},
    });
    for (name, value) in more.as_object().unwrap() {
        event[name] = value.clone();
    }
    event
}

fn list(server: &TestServer, token: &str, query: &str) -> Vec<Value> {
    server.get(&format!("/api/v1/guidance?{query}"), token).expect(200).json()["items"].as_array().unwrap().clone()
}

fn of_error<'a>(store: &'a Value, error: &str) -> &'a Value {
    store["by_error"].as_array().unwrap().iter().find(|rate| rate["error"] == error).unwrap()
}

/// Seven stores with 300 payments each; at the first, thirty wrong PINs, at each other one.
fn shops(server: &TestServer, tree: &Tree) -> Vec<Terminal> {
    let shop = |n: u32| {
        let name = format!("门店{n}");
        let fields = json!({"sn": format!("E{n}"), "model": crate::seed::MODEL, "store_name": name});
        Terminal::with(server, tree, &fields)
    };
    let shops: Vec<Terminal> = (0..7).map(shop).collect();
    for shop in &shops {
        shop.check_in(server, &json!({"transactions": {"ok": 1_000, "failed": 0}}));
    }
    // From here on attempts and failures are counted.
    round(server);
    wait_until("the fold has begun", || server.block_on(guidance::fold(&server.state.db, server.clock.now())).is_ok());
    shops
}

#[test]
fn a_store_with_more_wrong_pins_than_like_ones_is_above_them_and_others_are_not() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let shops = shops(server, &tree);
        for (index, shop) in shops.iter().enumerate() {
            let pins = if index == 0 { 30 } else { 1 };
            let pin = |n| failed(n, json!({"stage": "host_resp", "response_code": "55"}));
            let mut failures: Vec<Value> = (0..pins).map(pin).collect();
            // None of these is an operator's: the bank, the network.
            failures.push(failed(900, json!({"stage": "host_resp", "response_code": "91"})));
            failures.push(failed(901, json!({"stage": "tls"})));
            failures.push(failed(902, json!({"stage": "card_read", "operator_action": "cancel"})));
            shop.check_in(
                server,
                &json!({"transactions": {"ok": 300, "failed": failures.len()}, "failures": failures}),
            );
        }
        server.clock.advance_ms(DAY_MS);
        round(server);
        let ops = &tree.east_ops;
        wait_until("all is counted", || {
            let rows = list(server, ops, "size=100");
            rows.len() == 7 && rows.iter().all(|row| row["attempts"].as_i64().unwrap() >= 300)
        });
        let rows = list(server, ops, "size=100");
        let worst = &rows[0];
        assert_eq!((&worst["store_name"], &worst["verdict"]), (&json!("门店0"), &json!("above")));
        assert_eq!(
            (&worst["like_stores"], &worst["attempts"]),
            (&json!(6), &json!(333)),
            "the first thousand is not counted"
        );
        let pin = of_error(worst, "pin");
        assert_eq!((&pin["errors"], &pin["verdict"]), (&json!(30), &json!("above")));
        let (low, high) = (pin["rate_low"].as_f64().unwrap(), pin["rate_high"].as_f64().unwrap());
        assert!(low > 0.05 && high < 0.15 && low < 30.0 / 333.0 && high > 30.0 / 333.0);
        assert!(pin["usual_rate"].as_f64().unwrap() < 0.004);
        assert_eq!(
            (&of_error(worst, "cancelled")["errors"], &of_error(worst, "reader")["errors"]),
            (&json!(1), &json!(0))
        );
        assert!(rows[1..].iter().all(|row| row["verdict"] == "usual"));
        assert_eq!(list(server, ops, "verdict=above").len(), 1);
        assert!(list(server, &tree.west_ops, "").is_empty());
        // Each is counted once, however often the passes look.
        round(server);
        server.block_on(guidance::fold(&server.state.db, server.clock.now())).unwrap();
        assert_eq!(list(server, ops, "size=100"), rows);
        // Pages.
        let first = server.get("/api/v1/guidance?size=3", ops).expect(200).json();
        let next = first["next"].as_str().unwrap();
        let second = server.get(&format!("/api/v1/guidance?size=100&after={next}"), ops).expect(200).json();
        let names = |page: &Value| page["items"].as_array().unwrap().len();
        assert_eq!((names(&first), names(&second)), (3, 4));
        let table = server.get("/api/v1/guidance.csv?verdict=above", ops).expect(200).text();
        assert_eq!(table.lines().count(), 6, "a heading and five errors: {table}");
        assert!(table.starts_with('\u{feff}') && table.contains("门店0"));
        // What to do about it.
        let teach = json!({"org_path": worst["org_path"], "store_name": "门店0", "note": "密码输入"});
        server.post("/api/v1/guidance/teach", &tree.west_ops, &teach).expect(404);
        let opened = server.post("/api/v1/guidance/teach", ops, &teach).expect(201).json();
        assert_eq!((&opened["order"]["kind"], &opened["order"]["sn"]), (&json!("teach_operator"), &json!("E0")));
        server.post("/api/v1/guidance/teach", ops, &teach).expect(409);
    });
}

#[test]
fn few_payments_or_few_stores_are_said_to_be_insufficient() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let shops = shops(server, &tree);
        let pin = |n| failed(n, json!({"stage": "pin"}));
        let failures: Vec<Value> = (0..20).map(pin).collect();
        shops[0].check_in(server, &json!({"transactions": {"ok": 30, "failed": 20}, "failures": failures}));
        server.clock.advance_ms(DAY_MS);
        round(server);
        let ops = &tree.east_ops;
        wait_until("all is counted", || list(server, ops, "").first().is_some_and(|row| row["attempts"] == 50));
        let rows = list(server, ops, "");
        assert_eq!(rows.len(), 1, "stores without errors are not listed");
        assert_eq!(
            (&rows[0]["verdict"], &of_error(&rows[0], "pin")["missing"]),
            (&json!("insufficient"), &json!("attempts"))
        );
        assert_eq!(server.get("/api/v1/guidance?verdict=mood", ops).expect(422).json()["field"], "verdict");
        // Weeks that are too old go.
        let now = server.clock.now();
        let sweep = |weeks: i64| {
            let now = Now(now.0 + weeks * 7 * DAY_MS);
            server.block_on(guidance::sweep(&server.state.db, now)).unwrap()
        };
        assert_eq!(sweep(KEPT_WEEKS - 1), 0);
        assert!(sweep(KEPT_WEEKS + 2) > 0);
        assert!(list(server, ops, "").is_empty());
    });
}
