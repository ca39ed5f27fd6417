//! What is due, by rule, by organization, by time.

use diesel::prelude::*;
use serde_json::{Value, json};
use tillward_server::db;
use tillward_server::db::schema::terminal_certificates;

use super::{DAY_MS, Terminal, done, order, round, wait_for_state};
use crate::harness::{TestServer, on_each_database};
use crate::seed::Tree;

fn list(server: &TestServer, token: &str, query: &str) -> Value {
    server.get(&format!("/api/v1/inspections?{query}"), token).expect(200).json()
}

fn sns(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|row| row["sn"].as_str().unwrap().to_owned()).collect()
}

/// Ends of certificates that the fleet's list of what runs out knows, Unix ms.
fn noted_certificates(server: &TestServer) -> Vec<i64> {
    let read: Result<Vec<i64>, db::Error> = server.block_on(
        server
            .state
            .db
            .read(|conn| Ok(terminal_certificates::table.select(terminal_certificates::expires_at_ms).load(conn)?)),
    );
    read.unwrap()
}

#[test]
fn each_reason_is_named_with_what_was_observed_and_its_threshold() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let [well, tampered, cell, card, silent] =
            ["E1", "E2", "E3", "E4", "E5"].map(|sn| Terminal::new(server, &tree, sn));
        let expires_ms = server.clock.now().0 + 20 * DAY_MS;
        well.report(server, json!({"tamper": "ok", "coin_mv": 3_000, "printer": "ok"}));
        tampered.report(server, json!({"tamper": "triggered", "coin_mv": 2_600}));
        cell.report(server, json!({"coin_mv": 2_650}));
        card.report(server, json!({"certificate_expires_ms": expires_ms}));
        round(server);
        let ops = &tree.east_ops;
        assert_eq!(well.reasons(server, ops), Vec::<String>::new());
        assert_eq!(silent.reasons(server, ops), Vec::<String>::new(), "of one that never called nothing is known");
        assert_eq!(tampered.reasons(server, ops), ["tamper", "coin_cell"]);
        let row = cell.due(server, ops).unwrap();
        let finding = json!({"reason": "coin_cell", "urgency": "soon", "observed": 2_650, "threshold": 2_700});
        assert_eq!(row["findings"], json!([finding]));
        let row = card.due(server, ops).unwrap();
        let finding = json!({"reason": "certificate", "urgency": "soon", "observed": expires_ms, "threshold": 30});
        assert_eq!(row["findings"], json!([finding]));
        assert_eq!(noted_certificates(server), [expires_ms], "what runs out is told from there");
        // Filters, order and pages.
        assert_eq!(sns(&list(server, ops, "size=100")), ["E2", "E4", "E3"], "what cannot wait comes first");
        assert_eq!(sns(&list(server, ops, "reason=coin_cell")), ["E2", "E3"]);
        assert_eq!(sns(&list(server, ops, "urgency=now")), ["E2"]);
        let first = list(server, ops, "size=2");
        let next = first["next"].as_str().unwrap();
        assert_eq!(sns(&first), ["E2", "E4"]);
        let second = list(server, ops, &format!("size=2&after={next}"));
        assert_eq!((sns(&second), second["next"].as_str()), (vec!["E3".to_owned()], None));
        assert_eq!(sns(&list(server, &tree.admin, &format!("organization_id={}", tree.east))).len(), 3);
        // Others see nothing of it.
        assert_eq!(sns(&list(server, &tree.west_ops, "")), Vec::<String>::new());
        let refused = server.get(&format!("/api/v1/inspections?organization_id={}", tree.east), &tree.west_ops);
        assert_eq!(refused.expect(422).json()["field"], "organization_id");
        assert_eq!(server.get("/api/v1/inspections?reason=mood", ops).expect(422).json()["field"], "reason");
        let table = server.get("/api/v1/inspections.csv?reason=coin_cell", ops).expect(200);
        assert!(table.body.starts_with("\u{feff}sn,model".as_bytes()));
        let text = table.text();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("coin_cell 2650 (2700)") && text.ends_with("\r\n"));
        let refused = server.get(&format!("/api/v1/inspections.csv?organization_id={}", tree.east), &tree.west_ops);
        refused.expect(422);
    });
}

#[test]
fn a_card_that_runs_out_is_due_by_the_list_of_its_provider() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let fields = |sn: &str, iccid: &str| json!({"sn": sn, "model": crate::seed::MODEL, "iccid": iccid});
        let ends = Terminal::with(server, &tree, &fields("E1", "89860012345678900101"));
        let lasts = Terminal::with(server, &tree, &fields("E2", "89860012345678900102"));
        let unlisted = Terminal::with(server, &tree, &fields("E3", "89860012345678900103"));
        let csv = "iccid,pool,plan_mb,expires\n89860012345678900101,A1,30,2020-01-31\n\
                   89860012345678900102,A1,30,2090-01-31\n";
        let headers = [("content-type", "text/csv")];
        let sent = server.send("POST", "/api/v1/sim-cards/import", &tree.east_ops, &headers, csv.as_bytes());
        assert_eq!(sent.expect(200).json()["written"], 2);
        [&ends, &lasts, &unlisted].iter().for_each(|terminal| terminal.report(server, json!({})));
        round(server);
        let reasons = [&ends, &lasts, &unlisted].map(|terminal| terminal.reasons(server, &tree.east_ops));
        assert_eq!(reasons, [vec!["sim".to_owned()], vec![], vec![]]);
    });
}

#[test]
fn what_a_terminal_stops_saying_stays_found_until_it_says_otherwise() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let terminal = Terminal::new(server, &tree, "E1");
        terminal.report(server, json!({"coin_mv": 2_400}));
        round(server);
        terminal.report(server, json!({}));
        round(server);
        assert_eq!(terminal.reasons(server, &tree.east_ops), ["coin_cell"]);
        terminal.report(server, json!({"coin_mv": 2_950}));
        round(server);
        assert_eq!(terminal.reasons(server, &tree.east_ops), Vec::<String>::new());
    });
}

#[test]
fn errors_of_a_reader_are_judged_over_many_check_ins_and_each_counts_once() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let terminal = Terminal::new(server, &tree, "E1");
        let read = |tries: u32, errors: u32| {
            terminal.report(server, json!({"read_tries": tries, "icc_errors": errors}));
            round(server);
        };
        read(10, 9);
        read(8, 3);
        round(server);
        round(server);
        assert_eq!(terminal.reasons(server, &tree.east_ops), Vec::<String>::new(), "eight tries are too few");
        read(7, 1);
        let row = terminal.due(server, &tree.east_ops).unwrap();
        assert_eq!(
            row["findings"][0]["observed"],
            json!({"errors": 4, "n": 15}),
            "the error that opened is not counted"
        );
        assert_eq!(row["findings"][0]["threshold"], 20);
        read(30, 0);
        assert_eq!(terminal.reasons(server, &tree.east_ops), Vec::<String>::new());
    });
}

#[test]
fn time_alone_makes_terminals_due_and_an_inspection_makes_them_not() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let terminal = Terminal::new(server, &tree, "E1");
        let ops = &tree.east_ops;
        terminal.report(server, json!({"geohash6": "wtw3sj"}));
        server.clock.advance_ms(61 * DAY_MS);
        round(server);
        assert_eq!(terminal.reasons(server, ops), ["dormant"]);
        terminal.report(server, json!({"geohash6": "wtw3sj"}));
        server.clock.advance_ms(20 * DAY_MS);
        round(server);
        assert_eq!(terminal.reasons(server, ops), Vec::<String>::new(), "it called");
        server.clock.advance_ms(50 * DAY_MS);
        terminal.report(server, json!({"geohash6": "wtw3sj"}));
        server.clock.advance_ms(50 * DAY_MS);
        round(server);
        assert_eq!(terminal.reasons(server, ops), ["age"]);
        assert!(terminal.orders(server, ops).is_empty(), "age opens no order by itself");
        let new = json!({"terminal_id": terminal.id, "kind": "inspection", "reason": "age"});
        let id = server.post("/api/v1/work-orders", ops, &new).expect(201).json()["order"]["id"].as_i64().unwrap();
        done(server, ops, id, json!({})).expect(200);
        terminal.report(server, json!({"geohash6": "wtw3sj", "tamper": "ok"}));
        wait_for_state(server, ops, id, "closed");
        assert_eq!(terminal.reasons(server, ops), Vec::<String>::new(), "at once, not with the next round");
        let devices = server.get("/api/v1/device-list", ops).expect(200).json();
        let device = &devices["items"][0];
        assert_eq!((&device["inspected_by"], &device["inspection_proven"]), (&json!(ops), &json!(true)));
        assert_eq!(device["inspection_order_id"], id);
        assert_eq!((&device["sn"], &device["model"]), (&json!("E1"), &json!(crate::seed::MODEL)));
        // From there it may not move unnoticed: 西湖 is far from 人民广场.
        terminal.report(server, json!({"geohash6": "wtmkn3"}));
        round(server);
        assert_eq!(terminal.reasons(server, ops), ["moved"]);
        assert_eq!(
            order(server, ops, terminal.orders(server, ops)[0]["id"].as_i64().unwrap())["order"]["reason"],
            "moved"
        );
        let table = server.get("/api/v1/device-list.csv", ops).expect(200).text();
        assert!(table.contains(",E1,") && table.contains(&format!(",{ops},{id},true")), "{table}");
        assert!(!server.get("/api/v1/device-list", &tree.west_ops).expect(200).text().contains("E1"));
    });
}

#[test]
fn the_nearest_organizations_thresholds_are_in_force_and_only_its_own_people_change_them() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let terminal =
            Terminal::with(server, &tree, &json!({"sn": "E1", "model": crate::seed::MODEL, "tags": ["kiosk"]}));
        terminal.report(server, json!({"coin_mv": 2_800}));
        round(server);
        let ops = &tree.east_ops;
        assert_eq!(terminal.reasons(server, ops), Vec::<String>::new());
        let path = format!("/api/v1/maintenance-rules/{}", tree.east);
        let before = server.get(&path, ops).expect(200).json();
        assert_eq!((&before["version"], &before["from_organization_id"]), (&json!(0), &Value::Null));
        assert_eq!(before["rules"]["inspection_days"], 180);
        let change = |version: i64, rules: Value| json!({ "version": version, "rules": rules });
        let above = format!("/api/v1/maintenance-rules/{}", tree.root);
        server.post(&above, &tree.admin, &change(0, json!({"coin_mv_min": 2_900}))).expect(200);
        round(server);
        assert_eq!(terminal.reasons(server, ops), ["coin_cell"], "those of headquarters hold below it");
        let own = json!({"coin_mv_min": 2_750, "inspection_days_by_tag": {"kiosk": 1}});
        server.post(&path, ops, &change(0, own.clone())).expect(403);
        server.post(&path, &tree.west_ops, &change(0, own.clone())).expect(403);
        let after = server.post(&path, &tree.east_admin, &change(0, own.clone())).expect(200).json();
        assert_eq!((&after["version"], &after["from_organization_id"]), (&json!(1), &json!(tree.east)));
        assert!(
            server.post(&path, &tree.east_admin, &change(0, own.clone())).expect(409).text().contains("same moment")
        );
        let odd = json!({"coin_mv_min": 2_750, "coin_mv_now": 2_751});
        assert_eq!(server.post(&path, &tree.east_admin, &change(1, odd)).expect(422).json()["field"], "coin_mv_now");
        let unknown = server.post(&path, &tree.east_admin, &change(1, json!({"mood": 1}))).expect(422).json();
        assert!(unknown["field"].as_str().unwrap().contains("mood"));
        server.get(&above, ops).expect(404);
        server.clock.advance_ms(DAY_MS);
        round(server);
        assert_eq!(terminal.reasons(server, ops), ["age"], "its tag has an interval of its own");
    });
}
