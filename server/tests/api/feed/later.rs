//! What comes later reaches payments that were compared before: bindings, contracts, terminals, corrections; and another
//! look that finds nothing else tells nobody.

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use serde_json::{Value, json};
use tillward_server::db::schema::{channel_transactions, verdict_counts, verdicts};
use tillward_server::db::{self, Conn};

use super::settled::{HEADINGS, REDUCED, comes_to, file, incidents, numbers, reported, reported_many, shown};
use super::{MERCHANT, channel, import, moment, summary, terminals};
use crate::harness::{TestServer, on_each_database, wait_until};
use crate::seed::{MODEL, Tree};

const DAY_MS: i64 = 86_400_000;

fn id_of(server: &TestServer, token: &str, sn: &str) -> i64 {
    let page = server.get(&format!("/api/v1/terminals?q={sn}"), token).expect(200).json();
    page["items"][0]["id"].as_i64().unwrap()
}

/// Has every payment looked at once more, as a routine look does, and waits for its end.
fn look_again(server: &TestServer) {
    let now_ms = server.clock.now().0;
    let write = server.state.db.write(move |conn| {
        diesel::update(channel_transactions::table).set(channel_transactions::due_ms.eq(now_ms)).execute(conn)?;
        Ok::<_, db::Error>(())
    });
    server.block_on(write).unwrap();
    none_due(server);
}

/// Waits until no payment is due.
fn none_due(server: &TestServer) {
    wait_until("every payment is looked at", || {
        let now_ms = server.clock.now().0;
        let read = server.state.db.read(move |conn| {
            let due = channel_transactions::table.filter(channel_transactions::due_ms.le(now_ms));
            Ok::<i64, db::Error>(due.count().get_result(conn)?)
        });
        server.block_on(read).unwrap() == 0
    });
}

#[test]
fn another_look_that_finds_the_same_leaves_a_resolved_incident_closed() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        let short = |settled: &str| file(server, &[("1", "S1", MERCHANT, "100", settled, "0", "0", 5)]);
        import(server, ops, channel, short("87.66").as_bytes());
        summary(server, ops);
        let path = format!("/api/v1/incidents/{}", incidents(server, ops, "amount_short")[0]["id"]);
        server.post(&format!("{path}/resolve"), ops, &json!({"note": "已补款"})).expect(200);
        look_again(server);
        let incident = || server.get(&path, ops).expect(200).json()["incident"].clone();
        assert_eq!((&incident()["state"], &incident()["occurrences"]), (&json!("resolved"), &json!(1)));
        // What the channel tells now is another difference.
        import(server, ops, channel, short("80").as_bytes());
        wait_until("it is open again", || incident()["state"] == "open");
        assert_eq!(incident()["occurrences"], 2);
    });
}

#[test]
fn a_terminal_that_no_longer_reports_says_nothing_of_what_the_channel_settles() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        let id = id_of(server, ops, "S1");
        let begin_ms = server.clock.now().0;
        reported(server, id, "a", begin_ms, 10_000, MERCHANT);
        reported(server, id, "b", begin_ms + 3 * DAY_MS, 10_000, MERCHANT);
        server.clock.advance_ms(20 * DAY_MS);
        // Fifteen days ago: two days after the last report.
        import(server, ops, channel, file(server, &[("1", "S1", MERCHANT, "77", "77", "0", "0", 360)]).as_bytes());
        let found = summary(server, ops);
        assert_eq!((&found["s3_missing"], &found["fine"]), (&json!(0), &json!(1)), "{found}");
        assert_eq!(incidents(server, ops, "settlement_missing"), Vec::<Value>::new());
        // It reports again, and still knows nothing of that payment.
        reported(server, id, "c", begin_ms + 19 * DAY_MS, 10_000, MERCHANT);
        server.clock.advance_ms(DAY_MS + 60_000);
        comes_to(server, ops, "s3_missing", 1);
    });
}

#[test]
fn one_side_alone_is_given_the_time_that_the_organization_has_set() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        let set = |hours: i64| {
            let row = json!({"value": (hours * 3_600).to_string()});
            let overrides = json!([{"table": "thresholds", "key": "missing_after_s", "row": row}]);
            let body = json!({"version": 0, "note": "批量结算", "overrides": overrides}).to_string();
            let headers = [("content-type", "application/json")];
            server.send(
                "PUT",
                &format!("/api/v1/rules/tables/{}", tree.east),
                &tree.east_admin,
                &headers,
                body.as_bytes(),
            )
        };
        let refused = set(8 * 24).expect(422).json();
        assert_eq!(refused["field"], "thresholds.missing_after_s.value", "{refused}");
        set(120).expect(200);
        let id = id_of(server, ops, "S1");
        let now_ms = server.clock.now().0;
        reported(server, id, "a", now_ms - 2 * DAY_MS, 10_000, MERCHANT);
        import(server, ops, channel, file(server, &[("1", "S1", MERCHANT, "77", "77", "0", "0", 1)]).as_bytes());
        assert_eq!(summary(server, ops)["s3_missing"], 0);
        server.clock.advance_ms(2 * DAY_MS);
        // It still reports, so that it would have told.
        reported(server, id, "b", now_ms + 2 * DAY_MS, 10_000, MERCHANT);
        none_due(server);
        server.clock.advance_ms(DAY_MS);
        none_due(server);
        assert_eq!(incidents(server, ops, "settlement_missing"), Vec::<Value>::new());
        server.clock.advance_ms(2 * DAY_MS);
        comes_to(server, ops, "s3_missing", 1);
    });
}

#[test]
fn a_terminal_with_very_many_events_hides_nobody_elses() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        terminals(server, &tree, &["S1", "S2"]);
        let (channel, _) = channel(server, &tree);
        let (busy, quiet) = (id_of(server, ops, "S1"), id_of(server, ops, "S2"));
        let begin_ms = server.clock.now().0;
        let hour = 3_600_000;
        reported(server, busy, "first", begin_ms, 100, MERCHANT);
        // More than are read at once.
        reported_many(server, busy, begin_ms + 6 * hour, (20_001, 8_000));
        reported(server, busy, "last", begin_ms + 10 * DAY_MS, 100, MERCHANT);
        reported(server, quiet, "first", begin_ms, 100, MERCHANT);
        reported(server, quiet, "this", begin_ms + 29 * hour, 30_000, MERCHANT);
        reported(server, quiet, "last", begin_ms + 10 * DAY_MS, 100, MERCHANT);
        server.clock.advance_ms(11 * DAY_MS);
        // Both 29 hours after the beginning; the busy terminal's is among more than can be read.
        let rows =
            [("1", "S1", MERCHANT, "77", "77", "0", "0", 235), ("2", "S2", MERCHANT, "300", "300", "0", "0", 235)];
        import(server, ops, channel, file(server, &rows).as_bytes());
        let found = summary(server, ops);
        assert_eq!(
            (&found["matched"], &found["s3_missing"], &found["fine"]),
            (&json!(1), &json!(0), &json!(2)),
            "{found}"
        );
        let of_busy = shown(server, ops, "fine").into_iter().find(|row| row["sn"] == "S1").unwrap();
        assert_eq!(of_busy["match_quality"], "none");
    });
}

#[test]
fn payments_are_compared_once_somebody_says_whose_their_terminal_is() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        server.post("/api/v1/terminals", ops, &json!({"sn": "S2", "model": MODEL})).expect(201);
        let (channel, _) = channel(server, &tree);
        import(server, ops, channel, file(server, &[("1", "S2", MERCHANT, "100", "", "", "", 5)]).as_bytes());
        assert_eq!(summary(server, ops)["lacking"], json!({"binding": 1}));
        let path = format!("/api/v1/terminals/{}", id_of(server, ops, "S2"));
        let version = server.get(&path, ops).expect(200).json()["version"].clone();
        let change = json!({"version": version, "merchant_no": MERCHANT}).to_string();
        let headers = [("content-type", "application/json")];
        server.send("PATCH", &path, ops, &headers, change.as_bytes()).expect(200);
        comes_to(server, ops, "fine", 1);
        assert_eq!(summary(server, ops)["lacking"], json!({}));
    });
}

#[test]
fn a_binding_of_the_past_that_is_put_right_takes_its_accusation_back() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        import(server, ops, channel, file(server, &[("1", "S1", REDUCED, "100", "99.40", "0.60", "0", 4)]).as_bytes());
        assert_eq!(summary(server, ops)["review"], 1);
        let foreign = format!("/api/v1/merchant-numbers/{}/foreign", numbers(server, ops)[0]["id"]);
        server.post(&foreign, ops, &json!({"reason": "核对账单，不是本商户"})).expect(200);
        comes_to(server, ops, "s4_switched", 1);
        let to_ms = server.clock.now().0 - 3_600_000;
        let past = json!({"merchant_no": REDUCED, "from_ms": 0, "to_ms": to_ms, "reason": "旧台账"});
        let bindings = format!("/api/v1/terminals/{}/bindings", id_of(server, ops, "S1"));
        server.post(&bindings, ops, &past).expect(200);
        comes_to(server, ops, "s4_switched", 0);
        assert_eq!(summary(server, ops)["fees"], 1);
    });
}

#[test]
fn a_rate_that_is_entered_later_is_held_against_the_fees_of_before() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        import(server, ops, channel, file(server, &[("1", "S1", MERCHANT, "100", "99.40", "0.60", "0", 4)]).as_bytes());
        summary(server, ops);
        let path = format!("/api/v1/settlements/{}", shown(server, ops, "fee")[0]["id"]);
        let rule = || server.get(&path, ops).expect(200).json()["judgement"]["verdict"]["rule"].clone();
        assert_eq!(rule(), "R2");
        let contract = json!({"merchant_no": MERCHANT, "name": "张记面馆", "rate_ppm": 3_800});
        let made = server.post("/api/v1/merchants", ops, &contract).expect(201).json();
        wait_until("0.6 % is more than 0.38 %", || rule() == "R2a");
        // It was 0.6 % all the time.
        let right = json!({"merchant_no": MERCHANT, "name": "张记面馆", "rate_ppm": 6_000});
        let headers = [("content-type", "application/json")];
        let merchant = format!("/api/v1/merchants/{}", made["id"]);
        server.send("PATCH", &merchant, ops, &headers, right.to_string().as_bytes()).expect(200);
        wait_until("it is what was agreed", || rule() == "R2");
    });
}

/// Terminals that verdicts of settlements name, and how many are counted, hour by hour.
fn judged(server: &TestServer) -> (Vec<i64>, Vec<i64>) {
    let read = server.state.db.read(|conn| {
        let settlements = verdicts::table.filter(verdicts::source.eq("settlement"));
        let terminals: Vec<i64> = settlements.select(verdicts::terminal_id).load(conn)?;
        let counts: Vec<i64> =
            verdict_counts::table.filter(verdict_counts::n.ne(0)).select(verdict_counts::n).load(conn)?;
        Ok::<_, db::Error>((terminals, counts))
    });
    server.block_on(read).unwrap()
}

#[test]
fn payments_of_a_terminal_that_is_registered_late_count_and_are_judged_once() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        let (channel, _) = channel(server, &tree);
        let at = moment(server.clock.now().0 - 5 * 3_600_000);
        let text = format!(
            "{HEADINGS}\n1,S3,{MERCHANT},张记,100,87.66,0,0,0,{at},成功,00\n2,S3,{MERCHANT},张记,100,,,,,{at},失败,91\n"
        );
        import(server, ops, channel, text.as_bytes());
        assert_eq!(summary(server, ops)["s2_short"], 1);
        assert_eq!(judged(server), (vec![0], vec![1]));
        let counted = || {
            let found = server.get("/api/v1/failures/overview?hours=72", ops).expect(200).json();
            (found["exposures"].as_f64().unwrap(), found["failures"].as_f64().unwrap(), found["outcomes"].clone())
        };
        assert_eq!((counted().0, counted().1), (0.0, 0.0));
        let late = json!({"sn": "S3", "model": MODEL, "merchant_no": MERCHANT});
        server.post("/api/v1/terminals", ops, &late).expect(201);
        server.clock.advance_ms(DAY_MS + 60_000);
        let id = id_of(server, ops, "S3");
        wait_until("the late terminal is found", || judged(server).0.contains(&id));
        assert_eq!(judged(server), (vec![id], vec![1]));
        assert_eq!(counted(), (1.0, 1.0, json!([["code:91", 1]])));
        assert_eq!(summary(server, ops)["s2_short"], 1);
    });
}

#[test]
fn a_payment_whose_time_is_corrected_counts_in_its_new_hour_alone() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        for hours in [5, 3, 1] {
            let text = file(server, &[("1", "S1", MERCHANT, "100", "87.66", "0", "0", hours)]);
            import(server, ops, channel, text.as_bytes());
            none_due(server);
            assert_eq!(judged(server), (vec![id_of(server, ops, "S1")], vec![1]));
        }
    });
}

/// Statements that wait for a lock of another transaction.
pub(super) fn waiting_for_locks(server: &TestServer) -> i64 {
    let read = server.state.db.read(|conn| {
        let text = "(SELECT COUNT(*) FROM pg_stat_activity \
                    WHERE wait_event_type = 'Lock' AND datname = current_database())";
        match conn {
            Conn::Sqlite(_) => Ok(0),
            Conn::Postgres(c) => Ok::<i64, db::Error>(diesel::select(sql::<BigInt>(text)).get_result(c)?),
        }
    });
    server.block_on(read).unwrap()
}

#[test]
fn what_a_channel_tells_while_its_payment_is_compared_is_compared_next() {
    on_each_database(|server| {
        // On SQLite one transaction writes after the other.
        let Some(url) = server.state.config.database_url.clone() else { return };
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        import(server, ops, channel, file(server, &[("1", "S1", MERCHANT, "100", "100", "0", "0", 5)]).as_bytes());
        assert_eq!(summary(server, ops)["fine"], 1);
        let (mut lead, mut feed) = (PgConnection::establish(&url).unwrap(), PgConnection::establish(&url).unwrap());
        // Nobody compares while the lead is taken.
        lead.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(61846521493);").unwrap();
        let now_ms = server.clock.now().0;
        feed.batch_execute(&format!("UPDATE channel_transactions SET due_ms = {now_ms}")).unwrap();
        feed.batch_execute("BEGIN; UPDATE channel_transactions SET settle_fen = 8766, digest = 'another';").unwrap();
        lead.batch_execute("COMMIT").unwrap();
        wait_until("a comparison waits for the correction", || waiting_for_locks(server) > 0);
        feed.batch_execute("COMMIT").unwrap();
        comes_to(server, ops, "s2_short", 1);
    });
}
