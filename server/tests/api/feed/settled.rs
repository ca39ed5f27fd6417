//! What payments show: merchants, money, coverage, and what counts for the statistics.

use diesel::prelude::*;
use serde_json::{Value, json};
use tillward_server::db;
use tillward_server::db::schema::payments;
use tillward_server::failures::reconcile;

use super::{MERCHANT, channel, counts, import, moment, summary, terminals};
use crate::harness::{TestServer, on_each_database, wait_until};
use crate::seed::{MODEL, Tree};

/// A number of the fee-free class, in the same region and of the same institution.
pub(super) const REDUCED: &str = "850331083980612";

pub(super) const HEADINGS: &str =
    "流水号,机具序列号,商户编号,商户名称,交易金额,结算金额,手续费,提现费,服务费,交易时间,交易状态,应答码";

/// Number, serial number, merchant, amount, settled, fee, second order, hours ago.
pub(super) type Row<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str, &'a str, &'a str, i64);

/// A file of rows.
pub(super) fn file(server: &TestServer, rows: &[Row<'_>]) -> String {
    let mut text = format!("{HEADINGS}\n");
    for (number, sn, merchant, amount, settled, fee, second, hours) in rows {
        let at = moment(server.clock.now().0 - hours * 3_600_000);
        text.push_str(&format!("{number},{sn},{merchant},张记面馆,{amount},{settled},{fee},0,{second},{at},成功,\n"));
    }
    text
}

pub(super) fn shown(server: &TestServer, token: &str, result: &str) -> Vec<Value> {
    let page = server.get(&format!("/api/v1/settlements?result={result}&size=100"), token).expect(200).json();
    page["items"].as_array().unwrap().clone()
}

/// Waits until payments were looked at again.
pub(super) fn comes_to(server: &TestServer, token: &str, what: &str, n: i64) {
    wait_until(what, || server.get("/api/v1/reconciliation", token).expect(200).json()[what] == n);
}

pub(super) fn incidents(server: &TestServer, token: &str, kind: &str) -> Vec<Value> {
    let page = server.get(&format!("/api/v1/incidents?kind={kind}"), token).expect(200).json();
    page["items"].as_array().unwrap().clone()
}

pub(super) fn numbers(server: &TestServer, token: &str) -> Vec<Value> {
    server.get("/api/v1/merchant-numbers", token).expect(200).json()["items"].as_array().unwrap().clone()
}

#[test]
fn a_number_first_seen_is_a_review_and_a_switch_once_a_person_says_that_it_is_foreign() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        let text = file(
            server,
            &[
                ("1", "S1", MERCHANT, "100", "99.40", "0.60", "0", 5),
                ("2", "S1", REDUCED, "100", "99.40", "0.60", "0", 4),
                ("3", "S1", REDUCED, "200", "198.80", "1.20", "0", 3),
            ],
        );
        import(server, &tree.east_ops, channel, text.as_bytes());
        let before = summary(server, &tree.east_ops);
        assert_eq!((&before["review"], &before["s4_switched"]), (&json!(2), &json!(0)), "{before}");
        assert_eq!(incidents(server, &tree.east_ops, "merchant_switch"), Vec::<Value>::new());
        let number = &numbers(server, &tree.east_ops)[0];
        assert_eq!(
            (&number["number"], &number["state"], &number["payments"]),
            (&json!(REDUCED), &json!("open"), &json!(2))
        );
        assert_eq!(numbers(server, &tree.west_ops), Vec::<Value>::new());
        let foreign = format!("/api/v1/merchant-numbers/{}/foreign", number["id"]);
        server.post(&foreign, &tree.west_ops, &json!({"reason": "not ours"})).expect(404);
        server.post(&foreign, &tree.east_ops, &json!({"reason": "核对账单，不是本商户"})).expect(200);
        comes_to(server, &tree.east_ops, "s4_switched", 2);
        assert_eq!(summary(server, &tree.east_ops)["review"], 0);
        let switched = shown(server, &tree.east_ops, "switched");
        assert!(switched.iter().all(|row| row["severity"] == "critical"), "{switched:?}");
        let detail = format!("/api/v1/settlements/{}", switched[0]["id"]);
        let why = server.get(&detail, &tree.east_ops).expect(200).json();
        assert_eq!(why["judgement"]["verdict"]["cause"], "CHN.SWITCH", "{why}");
        assert_eq!(why["judgement"]["verdict"]["standing"], "proven");
        server.get(&detail, &tree.west_ops).expect(404);
        // One incident for the merchant, terminal and day, however many payments.
        let opened = incidents(server, &tree.east_ops, "merchant_switch");
        assert!(!opened.is_empty() && opened.len() <= 2, "{opened:?}");
        assert!(opened.iter().all(|incident| incident["level"] == "P1"), "{opened:?}");
        server.post(&foreign, &tree.east_ops, &json!({"reason": "again"})).expect(409);
    });
}

#[test]
fn an_alias_is_approved_by_somebody_else_and_holds_for_its_time() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        let text = file(
            server,
            &[
                ("1", "S1", REDUCED, "100", "99.40", "0.60", "0", 100),
                ("2", "S1", REDUCED, "100", "99.40", "0.60", "0", 4),
            ],
        );
        import(server, &tree.east_ops, channel, text.as_bytes());
        assert_eq!(summary(server, &tree.east_ops)["review"], 2);
        let path = format!("/api/v1/merchant-numbers/{}", numbers(server, &tree.east_ops)[0]["id"]);
        let from_ms = server.clock.now().0 - 50 * 3_600_000;
        let asked = json!({"reason": "扫码收款的商户号", "valid_from_ms": from_ms});
        server.post(&format!("{path}/request"), &tree.east_admin, &asked).expect(200);
        server.post(&format!("{path}/approve"), &tree.east_ops, &json!({})).expect(403);
        let own = server.post(&format!("{path}/approve"), &tree.east_admin, &json!({})).expect(409).json();
        assert!(own["detail"].as_str().unwrap().contains("own request"), "{own}");
        server.post(&format!("{path}/request"), &tree.east_ops, &asked).expect(200);
        let approved = server.post(&format!("{path}/approve"), &tree.east_admin, &json!({})).expect(200).json();
        assert_eq!(approved["state"], "alias");
        comes_to(server, &tree.east_ops, "fees", 1);
        assert_eq!(summary(server, &tree.east_ops)["review"], 1, "only from its first day on");
        server.post(&format!("{path}/reopen"), &tree.east_admin, &json!({})).expect(200);
        comes_to(server, &tree.east_ops, "review", 2);
    });
}

#[test]
fn a_fee_is_no_fault_and_what_no_fee_explains_is_one() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        let text = file(
            server,
            &[
                ("1", "S1", MERCHANT, "100", "99.40", "0.60", "0", 5),
                ("2", "S1", MERCHANT, "6181.87", "6082.87", "0", "99.00", 5),
                ("3", "S1", MERCHANT, "6181.87", "6082.87", "0", "0", 5),
                ("4", "S1", MERCHANT, "100", "87.66", "0", "0", 5),
                ("5", "S1", MERCHANT, "100", "", "0", "0", 5),
            ],
        );
        import(server, &tree.east_ops, channel, text.as_bytes());
        let found = summary(server, &tree.east_ops);
        assert_eq!((&found["fees"], &found["s2_short"], &found["fine"]), (&json!(3), &json!(1), &json!(1)), "{found}");
        assert_eq!((&found["money_known"], &found["fees_fen"]), (&json!(4), &json!(60 + 9_900 + 9_900)));
        let short = shown(server, &tree.east_ops, "short");
        assert_eq!((short.len(), &short[0]["settle_fen"]), (1, &json!(8_766)));
        assert_eq!(incidents(server, &tree.east_ops, "amount_short").len(), 1);
        assert_eq!(incidents(server, &tree.east_ops, "merchant_switch").len(), 0);
    });
}

#[test]
fn fees_that_the_channel_has_no_column_for_are_summed_from_the_differences_that_show_them() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        let at = moment(server.clock.now().0 - 5 * 3_600_000);
        let mut text = "流水号,机具序列号,商户编号,商户名称,交易金额,结算金额,交易时间,交易状态,应答码\n".to_owned();
        for (number, amount, settled) in
            [("1", "6181.87", "6082.87"), ("2", "500", "464"), ("3", "100", "100"), ("4", "100", "87.66")]
        {
            text.push_str(&format!("{number},S1,{MERCHANT},张记面馆,{amount},{settled},{at},成功,\n"));
        }
        import(server, &tree.east_ops, channel, text.as_bytes());
        let found = summary(server, &tree.east_ops);
        assert_eq!((&found["fees"], &found["fees_fen"]), (&json!(2), &json!(9_900 + 3_600)), "{found}");
        let differences: Vec<i64> = shown(server, &tree.east_ops, "fee")
            .iter()
            .map(|row| row["amount_fen"].as_i64().unwrap() - row["settle_fen"].as_i64().unwrap())
            .collect();
        assert_eq!(json!(differences.iter().sum::<i64>()), found["fees_fen"]);
    });
}

#[test]
fn fees_for_data_deposit_and_service_are_all_taken_off() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        let at = moment(server.clock.now().0 - 5 * 3_600_000);
        let text = format!(
            "流水号,机具序列号,商户编号,商户名称,交易金额,结算金额,手续费,流量费,押金,服务费,交易时间,交易状态\n\
             1,S1,{MERCHANT},张记面馆,1000,646,6,48,200,100,{at},成功\n"
        );
        import(server, &tree.east_ops, channel, text.as_bytes());
        let found = summary(server, &tree.east_ops);
        assert_eq!((&found["fees"], &found["s2_short"], &found["fees_fen"]), (&json!(1), &json!(0), &json!(35_400)));
        let orders = shown(server, &tree.east_ops, "fee")[0]["second_orders"].clone();
        let named = [("流量费", 4_800), ("押金", 20_000), ("服务费", 10_000)];
        assert_eq!(orders, json!(named.map(|(kind, fen)| json!({"kind": kind, "amount_fen": fen}))));
    });
}

#[test]
fn what_cannot_be_compared_is_not_called_in_order() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        terminals(server, &tree, &["S1"]);
        let free = json!({"sn": "S2", "model": MODEL});
        server.post("/api/v1/terminals", &tree.east_ops, &free).expect(201);
        server.post("/api/v1/terminals", &tree.west_ops, &json!({"sn": "W1", "model": MODEL})).expect(201);
        let (channel, _) = channel(server, &tree);
        let text = file(
            server,
            &[
                ("1", "S1", MERCHANT, "100", "", "", "", 5),
                ("2", "S2", MERCHANT, "100", "", "", "", 5),
                ("3", "S3", MERCHANT, "100", "", "", "", 5),
                ("4", "S1", "", "100", "", "", "", 5),
                ("5", "W1", MERCHANT, "100", "", "", "", 5),
            ],
        );
        assert_eq!(counts(&import(server, &tree.east_ops, channel, text.as_bytes())), [5, 0, 0, 0]);
        let found = summary(server, &tree.east_ops);
        let coverage = &found["coverage"][0];
        assert_eq!(
            (&coverage["level"], &coverage["total"], &coverage["checked"]),
            (&json!("L1"), &json!(5), &json!(1))
        );
        assert_eq!((&found["fine"], &found["unchecked"]), (&json!(1), &json!(4)), "{found}");
        // Another organization's terminal is not known here.
        assert_eq!(found["lacking"], json!({"binding": 1, "merchant_no": 1, "terminal": 2}));
        assert_eq!(summary(server, &tree.west_ops)["payments"], 0);
        let late = json!({"sn": "S3", "model": MODEL, "merchant_no": MERCHANT});
        server.post("/api/v1/terminals", &tree.east_ops, &late).expect(201);
        server.clock.advance_ms(86_400_000 + 60_000);
        wait_until("the late terminal is found", || {
            let found = server.get("/api/v1/reconciliation", &tree.east_ops).expect(200).json();
            found["coverage"][0]["checked"] == 2
        });
    });
}

#[test]
fn payments_are_compared_with_the_binding_of_their_time() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        let id = server.get("/api/v1/terminals?q=S1", &tree.east_ops).expect(200).json()["items"][0]["id"].clone();
        server.clock.advance_ms(86_400_000);
        let path = format!("/api/v1/terminals/{id}");
        let terminal = server.get(&path, &tree.east_ops).expect(200).json();
        let other = "850331053119999";
        let change = json!({"version": terminal["version"], "merchant_no": other});
        let headers = [("content-type", "application/json")];
        server.send("PATCH", &path, &tree.east_ops, &headers, change.to_string().as_bytes()).expect(200);
        server.clock.advance_ms(86_400_000);
        let bindings = server.get(&format!("{path}/bindings"), &tree.east_ops).expect(200).json();
        let numbers: Vec<&str> =
            bindings.as_array().unwrap().iter().map(|row| row["merchant_no"].as_str().unwrap()).collect();
        assert_eq!(numbers, [other, MERCHANT]);
        assert_eq!(bindings[1]["to_ms"], bindings[0]["from_ms"]);
        let text = file(
            server,
            &[
                ("1", "S1", MERCHANT, "100", "100", "0", "0", 36),
                ("2", "S1", other, "100", "100", "0", "0", 12),
                ("3", "S1", MERCHANT, "100", "100", "0", "0", 11),
            ],
        );
        import(server, &tree.east_ops, channel, text.as_bytes());
        let found = summary(server, &tree.east_ops);
        // The old number is another merchant of ours by now: that is no unknown number.
        assert_eq!((&found["fine"], &found["s4_switched"]), (&json!(2), &json!(1)), "{found}");
        let past = json!({
            "merchant_no": "850331053118888", "from_ms": 0, "to_ms": 1_000_000, "reason": "旧台账",
        });
        let known = server.post(&format!("{path}/bindings"), &tree.east_ops, &past).expect(200).json();
        assert_eq!((known.as_array().unwrap().len(), &known[1]["from_ms"]), (3, &json!(1_000_000)));
        server.post(&format!("{path}/bindings"), &tree.east_ops, &past).expect(422);
    });
}

#[test]
fn hours_of_terminals_that_call_nobody_count_once_for_the_statistics() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        terminals(server, &tree, &["S1", "S2"]);
        let (channel, _) = channel(server, &tree);
        let hour = server.clock.now().0.div_euclid(3_600_000) * 3_600_000;
        let row = |number: u32, sn: &str, minute: i64, status: &str, code: &str| {
            let at = moment(hour - 10 * 3_600_000 + minute * 60_000);
            format!("{number},{sn},{MERCHANT},张记,100,,,,,{at},{status},{code}\n")
        };
        let mut text = format!("{HEADINGS}\n");
        for part in [
            row(1, "S1", 1, "成功", "00"),
            row(2, "S1", 2, "成功", "00"),
            row(3, "S1", 61, "失败", "91"),
            row(4, "S1", 62, "失败", "91"),
            row(5, "S2", 1, "处理中", ""),
        ] {
            text.push_str(&part);
        }
        let exposures = || {
            let found = server.get("/api/v1/failures/overview?hours=24", &tree.east_ops).expect(200).json();
            (found["exposures"].as_f64().unwrap(), found["failures"].as_f64().unwrap(), found["outcomes"].clone())
        };
        import(server, &tree.east_ops, channel, text.as_bytes());
        assert_eq!(exposures(), (2.0, 1.0, json!([["code:91", 2]])));
        import(server, &tree.east_ops, channel, text.as_bytes());
        assert_eq!(exposures(), (2.0, 1.0, json!([["code:91", 2]])), "the same file again");
        let later = format!("{HEADINGS}\n{}{}", row(5, "S2", 1, "失败", "05"), row(6, "S1", 3, "失败", "96"));
        assert_eq!(counts(&import(server, &tree.east_ops, channel, later.as_bytes())), [1, 1, 0, 0]);
        let (n, k, outcomes) = exposures();
        assert_eq!((n, k, outcomes.as_array().unwrap().len()), (3.0, 3.0, 3), "{outcomes}");
        assert_eq!(summary(server, &tree.east_ops)["s1_failed"], 4);
    });
}

#[test]
fn a_download_opens_in_a_spreadsheet_and_holds_no_formula() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        let text = file(server, &[("1", "S1", MERCHANT, "6181.87", "6082.87", "0", "99", 5)])
            .replace("张记面馆", "=HYPERLINK(1)");
        import(server, &tree.east_ops, channel, text.as_bytes());
        summary(server, &tree.east_ops);
        let answer = server.get("/api/v1/settlements.csv", &tree.east_ops).expect(200);
        let csv = answer.text();
        assert!(csv.starts_with("\u{feff}机具序列号,交易时间") && csv.matches("\r\n").count() == 2, "{csv}");
        assert!(csv.contains(&format!(",6181.87,6082.87,0.00,0.00,\t{MERCHANT},'=HYPERLINK(1),")), "{csv}");
        assert_eq!(server.get("/api/v1/settlements.csv", &tree.west_ops).expect(200).text().lines().count(), 1);
    });
}

/// A success as a terminal reports it.
pub(super) fn reported(server: &TestServer, id: i64, event: &str, at_ms: i64, amount_fen: i64, sent: &str) {
    let (event, sent) = (event.to_owned(), sent.to_owned());
    let write = server.state.db.write(move |conn| {
        diesel::insert_into(payments::table)
            .values((
                payments::terminal_id.eq(id),
                payments::event_id.eq(&event),
                payments::occurred_at_ms.eq(at_ms),
                payments::at_ms.eq(at_ms),
                payments::received_at_ms.eq(at_ms),
                payments::org_path.eq("/101/102/"),
                payments::transaction_type.eq("sale"),
                payments::amount_fen.eq(amount_fen),
                payments::ref_no.eq(format!("REF{event}")),
                payments::merchant_no_sent.eq(&sent),
            ))
            .execute(conn)?;
        Ok::<_, db::Error>(())
    });
    server.block_on(write).unwrap();
}

/// So many successes of a terminal, one each `every_ms`.
pub(super) fn reported_many(server: &TestServer, id: i64, begin_ms: i64, (n, every_ms): (i64, i64)) {
    let text = format!(
        "WITH RECURSIVE seq(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM seq WHERE i < {n} - 1) \
         INSERT INTO payments (terminal_id, event_id, occurred_at_ms, at_ms, received_at_ms, org_path, \
         transaction_type, amount_fen) SELECT {id}, 'many' || i, {begin_ms} + i * {every_ms}, \
         {begin_ms} + i * {every_ms}, {begin_ms} + i * {every_ms}, '/101/102/', 'sale', 1 FROM seq"
    );
    let write = server.state.db.write(move |conn| {
        diesel::sql_query(text).execute(conn)?;
        Ok::<_, db::Error>(())
    });
    server.block_on(write).unwrap();
}

#[test]
fn what_one_side_alone_knows_is_said_after_its_time_and_only_where_the_feed_is_known_to_be_whole() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        let terminal = server.get("/api/v1/terminals?q=S1", &tree.east_ops).expect(200).json()["items"][0].clone();
        let id = terminal["id"].as_i64().unwrap();
        let begin_ms = server.clock.now().0;
        let day = 86_400_000;
        for (event, days, amount_fen) in [("a", 0, 10_000), ("b", 2, 20_000), ("c", 3, 30_000), ("d", 20, 40_000)] {
            reported(server, id, event, begin_ms + days * day, amount_fen, MERCHANT);
        }
        server.clock.advance_ms(21 * day);
        let row = |event: &str, days: i64, amount: &str| {
            let at = moment(begin_ms + days * day);
            format!("X{event},S1,{MERCHANT},{amount},{amount},0,{at},成功,REF{event}\n")
        };
        // The channel knows nothing of the second one, and of a payment that the terminal does not know; of the last
        // days it has not told yet.
        let text = format!(
            "流水号,机具序列号,商户编号,交易金额,结算金额,手续费,交易时间,交易状态,参考号\n{}{}{}{}",
            row("a", 0, "100"),
            row("c", 3, "300"),
            row("nobody", 4, "77"),
            row("e", 10, "1"),
        );
        reported(server, id, "e", begin_ms + 10 * day, 100, MERCHANT);
        import(server, &tree.east_ops, channel, text.as_bytes());
        summary(server, &tree.east_ops);
        // Another one may just lead.
        wait_until("the look is done", || {
            server.block_on(reconcile::look_for_missing(&server.state.db, server.clock.now())).unwrap();
            server.get("/api/v1/reconciliation?days=60", &tree.east_ops).expect(200).json()["s3_missing"] == 2
        });
        let found = summary(server, &tree.east_ops);
        assert_eq!((&found["matched"], &found["s3_missing"]), (&json!(3), &json!(2)), "{found}");
        let alone = shown(server, &tree.east_ops, "missing");
        assert_eq!((alone.len(), &alone[0]["amount_fen"]), (1, &json!(7_700)));
        assert_eq!(shown(server, &tree.east_ops, "fine")[0]["match_quality"], "ref");
        let opened = incidents(server, &tree.east_ops, "settlement_missing");
        assert_eq!(opened.len(), 2, "{opened:?}");
        // Told late, it is not missing any more.
        let late = format!(
            "流水号,机具序列号,商户编号,交易金额,交易时间,参考号\nXb,S1,{MERCHANT},200,{},REFb\n",
            moment(begin_ms + 2 * day)
        );
        import(server, &tree.east_ops, channel, late.as_bytes());
        wait_until("the late one is known", || {
            server.get("/api/v1/reconciliation?days=60", &tree.east_ops).expect(200).json()["s3_missing"] == 1
        });
    });
}

#[test]
fn a_terminal_that_sends_another_number_has_drifted_and_the_channel_is_not_blamed() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        let terminal = server.get("/api/v1/terminals?q=S1", &tree.east_ops).expect(200).json()["items"][0].clone();
        let at_ms = server.clock.now().0 - 5 * 3_600_000;
        reported(server, terminal["id"].as_i64().unwrap(), "z", at_ms, 10_000, REDUCED);
        let text = file(server, &[("1", "S1", REDUCED, "100", "100", "0", "0", 5)]);
        import(server, &tree.east_ops, channel, text.as_bytes());
        assert_eq!(summary(server, &tree.east_ops)["s4_switched"], 1);
        let row = &shown(server, &tree.east_ops, "switched")[0];
        let why = server.get(&format!("/api/v1/settlements/{}", row["id"]), &tree.east_ops).expect(200).json();
        assert_eq!(why["judgement"]["verdict"]["cause"], "UPG.CONFIG_DRIFT", "{why}");
        assert_eq!(row["match_quality"], "weak");
        assert_eq!(incidents(server, &tree.east_ops, "config_drift").len(), 1);
        assert_eq!(incidents(server, &tree.east_ops, "merchant_switch").len(), 0);
    });
}
