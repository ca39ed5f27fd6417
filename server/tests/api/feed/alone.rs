//! Payments that one side alone knows: said once, whenever the other side tells.

use serde_json::json;
use tillward_server::db::{self, settings};
use tillward_server::failures::reconcile;

use super::settled::{comes_to, incidents, reported, reported_many, shown};
use super::{MERCHANT, channel, counts, import, moment, summary, terminals};
use crate::harness::{TestServer, on_each_database, wait_until};
use crate::seed::Tree;

const DAY_MS: i64 = 86_400_000;
const HOUR_MS: i64 = 3_600_000;

fn id_of(server: &TestServer, token: &str, sn: &str) -> i64 {
    let page = server.get(&format!("/api/v1/terminals?q={sn}"), token).expect(200).json();
    page["items"][0]["id"].as_i64().unwrap()
}

fn look(server: &TestServer) {
    server.block_on(reconcile::look_for_missing(&server.state.db, server.clock.now())).unwrap();
}

fn missing(server: &TestServer, token: &str) -> i64 {
    let found = server.get("/api/v1/reconciliation?days=60", token).expect(200).json();
    found["s3_missing"].as_i64().unwrap()
}

/// Looks until so many payments are missing; another server may just lead.
fn look_until(server: &TestServer, token: &str, n: i64) {
    wait_until("the look is done", || {
        look(server);
        missing(server, token) == n
    });
}

/// Looks until the look by the clock has passed this event.
fn look_past(server: &TestServer, event: &str) {
    wait_until("the look by the clock has passed all of them", || {
        look(server);
        let read = server.state.db.read(|conn| settings::get(conn, "reconcile.reported"));
        let place: Result<Option<String>, db::Error> = server.block_on(read);
        place.unwrap().is_some_and(|place| place.contains(&format!("\"{event}\"")))
    });
}

/// A file of payments: name, serial number, amount, when; the reference number is that of the event of this name.
fn file(rows: &[(&str, &str, &str, i64)]) -> String {
    let mut text = "机具序列号,商户编号,交易金额,结算金额,手续费,交易时间,交易状态,参考号\n".to_owned();
    for (name, sn, amount, at_ms) in rows {
        let at = moment(*at_ms);
        let ref_no = if name.is_empty() { String::new() } else { format!("REF{name}") };
        text.push_str(&format!("{sn},{MERCHANT},{amount},{amount},0,{at},成功,{ref_no}\n"));
    }
    text
}

/// The same with days alone.
fn file_of_days(rows: &[(&str, &str, &str, i64)]) -> String {
    let mut text = file(rows).replace("交易时间", "交易日期");
    for (_, _, _, at_ms) in rows {
        let at = moment(*at_ms);
        text = text.replace(&at, at.get(..10).unwrap());
    }
    text
}

#[test]
fn a_file_that_comes_after_a_month_is_held_against_what_was_reported_long_before() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        let (id, begin_ms) = (id_of(server, ops, "S1"), server.clock.now().0);
        for (event, days, amount_fen) in [("a", 0, 10_000), ("b", 2, 20_000), ("c", 3, 30_000), ("e", 10, 100)] {
            reported(server, id, event, begin_ms + days * DAY_MS, amount_fen, MERCHANT);
        }
        server.clock.advance_ms(40 * DAY_MS);
        look_past(server, "e");
        assert_eq!(missing(server, ops), 0, "a channel that told nothing proves nothing");
        let rows = [
            ("a", "S1", "100", begin_ms),
            ("c", "S1", "300", begin_ms + 3 * DAY_MS),
            ("e", "S1", "1", begin_ms + 10 * DAY_MS),
        ];
        assert_eq!(counts(&import(server, ops, channel, file(&rows).as_bytes())), [3, 0, 0, 0]);
        assert_eq!(summary(server, ops)["matched"], 3);
        server.clock.advance_ms(2 * HOUR_MS);
        look_until(server, ops, 1);
        let opened = incidents(server, ops, "settlement_missing");
        assert_eq!((opened.len(), &opened[0]["occurrences"]), (1, &json!(1)), "{opened:?}");
        // The same file again, and what was forgotten in it.
        let forgotten = file(&[("b", "S1", "200", begin_ms + 2 * DAY_MS)]);
        import(server, ops, channel, file(&rows).as_bytes());
        import(server, ops, channel, forgotten.as_bytes());
        comes_to_60(server, ops, 0);
        server.clock.advance_ms(2 * HOUR_MS);
        look(server);
        assert_eq!(missing(server, ops), 0);
    });
}

/// A step takes 200 payments.
#[test]
fn what_one_step_of_the_look_cannot_hold_is_taken_by_the_next() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        let sns = ["S1", "S2", "S3"];
        terminals(server, &tree, &sns);
        let (channel, _) = channel(server, &tree);
        let begin_ms = server.clock.now().0;
        let ends = [("f", begin_ms), ("l", begin_ms + 8 * DAY_MS)];
        let mut rows = Vec::new();
        for sn in sns {
            let id = id_of(server, ops, sn);
            reported_many(server, id, begin_ms + HOUR_MS, (150, HOUR_MS));
            for (end, at_ms) in ends {
                reported(server, id, &format!("{end}{sn}"), at_ms, 10_000, MERCHANT);
                rows.push((format!("{end}{sn}"), sn, at_ms));
            }
        }
        server.clock.advance_ms(40 * DAY_MS);
        look_past(server, "lS3");
        let rows: Vec<_> = rows.iter().map(|(name, sn, at_ms)| (name.as_str(), *sn, "100", *at_ms)).collect();
        import(server, ops, channel, file(&rows).as_bytes());
        assert_eq!(summary(server, ops)["matched"], 6);
        assert_eq!(missing(server, ops), 0);
        server.clock.advance_ms(2 * HOUR_MS);
        look_until(server, ops, 450);
    });
}

fn comes_to_60(server: &TestServer, token: &str, n: i64) {
    wait_until("payments were looked at again", || missing(server, token) == n);
}

#[test]
fn a_payment_that_its_terminal_tells_of_late_is_missing_on_neither_side() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        let (id, begin_ms) = (id_of(server, ops, "S1"), server.clock.now().0);
        for (event, days) in [("f", 0), ("g", 9), ("l", 11)] {
            reported(server, id, event, begin_ms + days * DAY_MS, 10_000, MERCHANT);
        }
        server.clock.advance_ms(11 * DAY_MS + HOUR_MS);
        let rows = [
            ("f", "S1", "100", begin_ms),
            ("", "S1", "77", begin_ms + 4 * DAY_MS),
            ("g", "S1", "100", begin_ms + 9 * DAY_MS),
        ];
        import(server, ops, channel, file(&rows).as_bytes());
        assert_eq!(summary(server, ops)["s3_missing"], 1);
        reported(server, id, "r", begin_ms + 4 * DAY_MS + 60_000, 7_700, MERCHANT);
        server.clock.advance_ms(2 * DAY_MS);
        look_until(server, ops, 0);
        comes_to(server, ops, "matched", 3);
    });
}

#[test]
fn a_payment_that_both_sides_may_mean_is_said_to_be_missing_once() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        terminals(server, &tree, &["S1", "S2"]);
        let (channel, _) = channel(server, &tree);
        // Two in the afternoon in China, where files know days alone.
        let day_ms = (server.clock.now().0 + 8 * HOUR_MS).div_euclid(DAY_MS) * DAY_MS - 8 * HOUR_MS;
        let at = |days: i64| day_ms + days * DAY_MS + 14 * HOUR_MS;
        for (sn, place) in [("S1", 1), ("S2", 2)] {
            let id = id_of(server, ops, sn);
            for (event, days, amount_fen) in [("f", 0, 10_000), ("r", 4, 7_700), ("g", 9, 10_000), ("l", 12, 10_000)] {
                reported(server, id, &format!("{event}{place}"), at(days), amount_fen, MERCHANT);
            }
        }
        server.clock.advance_ms(14 * DAY_MS);
        let rows = [
            ("f1", "S1", "100", at(0)),
            ("", "S1", "77", at(4)),
            ("g1", "S1", "100", at(9)),
            ("f2", "S2", "100", at(0)),
            ("g2", "S2", "100", at(9)),
        ];
        assert_eq!(counts(&import(server, ops, channel, file_of_days(&rows).as_bytes())), [5, 0, 0, 0]);
        let found = summary(server, ops);
        assert_eq!((&found["matched"], &found["s3_missing"]), (&json!(4), &json!(1)), "{found}");
        // Of the first terminal the row says it already; of the second one nobody did.
        look_until(server, ops, 2);
        assert_eq!(shown(server, ops, "missing").len(), 1);
        // The row of the second one comes, and tells more.
        import(server, ops, channel, file_of_days(&[("", "S2", "77", at(4))]).as_bytes());
        wait_until("the row is compared", || shown(server, ops, "missing").len() == 2);
        assert_eq!(missing(server, ops), 2);
        look(server);
        assert_eq!(missing(server, ops), 2);
    });
}
