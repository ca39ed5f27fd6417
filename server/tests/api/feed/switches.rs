//! Merchants whose payments are settled under other numbers (B6): a pattern is found where a circumstance stands out, how
//! much was compared always stands beside it, and nothing is said of what nobody has decided on.

use diesel::prelude::*;
use serde_json::{Value, json};
use tillward_server::clock::Now;
use tillward_server::db;
use tillward_server::db::schema::payments;
use tillward_server::failures::fleet;

use super::{MERCHANT, channel, ended, moment, send, summary, terminals};
use crate::console::Browser;
use crate::fixtures::{ADMIN, admin};
use crate::harness::{TestServer, on_each_database, wait_until};
use crate::seed::{MODEL, Tree};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// A number of the fee-free class that is not the merchant's.
const OTHER: &str = "850331083980612";

/// A file of payments of S1, one line each.
struct File {
    text: String,
    n: usize,
    today_ms: i64,
}

impl File {
    fn new(server: &TestServer) -> Self {
        let now_ms = server.clock.now().0;
        let text = "流水号,机具序列号,商户编号,交易金额,交易时间,交易状态,支付方式\n".to_owned();
        Self { text, n: 0, today_ms: now_ms - now_ms.rem_euclid(DAY_MS) }
    }

    /// A payment so many days ago at this hour (UTC).
    fn add(&mut self, days: i64, hour: i64, merchant_no: &str) {
        self.n += 1;
        let minute_ms = i64::try_from(self.n % 60).unwrap() * 60_000;
        let at = moment(self.today_ms - days * DAY_MS + hour * HOUR_MS + minute_ms);
        let way = if self.n.is_multiple_of(2) { "刷卡" } else { "扫码" };
        self.text.push_str(&format!("{},S1,{merchant_no},100,{at},成功,{way}\n", self.n));
    }

    fn import(&self, server: &TestServer, token: &str, channel: i64) {
        let sent = send(server, token, channel, "file_name=b6.csv", self.text.as_bytes()).expect(202).json();
        let ended = ended(server, token, &sent["id"]);
        assert_eq!(ended["accepted"], self.n, "{ended}");
        summary(server, token);
    }
}

/// Ten days of payments under the bound number, and twelve at eleven in the evening under another.
fn evening(server: &TestServer) -> File {
    let mut file = File::new(server);
    for day in 1..=10 {
        (8..20).for_each(|hour| file.add(day, hour, MERCHANT));
    }
    (1..=2).for_each(|day| file.add(day, 23, MERCHANT));
    for day in 1..=6 {
        (0..2).for_each(|_| file.add(day, 23, OTHER));
    }
    file
}

/// A person decides about the other number.
fn decide(server: &TestServer, token: &str, verb: &str, body: &Value) {
    let numbers = server.get("/api/v1/merchant-numbers", token).expect(200).json();
    let path = format!("/api/v1/merchant-numbers/{}/{verb}", numbers["items"][0]["id"]);
    server.post(&path, token, body).expect(200);
}

/// A person says that the other number is not the merchant's.
fn foreign(server: &TestServer, token: &str, n: i64) {
    decide(server, token, "foreign", &json!({"reason": "核对账单，不是本商户"}));
    wait_until("the payments are looked at again", || summary(server, token)["s4_switched"] == n);
}

fn pass(server: &TestServer, hours: i64) {
    let now = Now(server.clock.now().0 + hours * HOUR_MS);
    server.block_on(fleet::pass(&server.state.db, now, "UTC")).unwrap();
}

fn merchants(server: &TestServer, token: &str) -> Value {
    server.get("/api/v1/reconciliation/merchants", token).expect(200).json()
}

fn rule(server: &TestServer, token: &str) -> (Value, Value) {
    let rules = server.get("/api/v1/fleet/rules", token).expect(200).json();
    let rule = rules.as_array().unwrap().iter().find(|rule| rule["rule"] == "B6").unwrap().clone();
    (rule["verdict"].clone(), rule["missing"].clone())
}

fn incident(server: &TestServer, token: &str, id: &Value) -> Value {
    server.get(&format!("/api/v1/incidents/{id}"), token).expect(200).json()
}

fn findings(server: &TestServer, token: &str) -> usize {
    let found = server.get("/api/v1/fleet/findings?rule=B6", token).expect(200).json();
    found["items"].as_array().unwrap().len()
}

#[test]
fn settlements_under_another_number_at_one_hour_are_one_pattern_to_be_reviewed() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        evening(server).import(server, ops, channel);
        foreign(server, ops, 12);
        pass(server, 0);
        let found = merchants(server, ops);
        let one = &found[0];
        assert_eq!((found.as_array().unwrap().len(), &one["merchant_no"]), (1, &json!(MERCHANT)), "{found}");
        assert_eq!((&one["merchant_name"], &one["org_path"]), (&json!("张记面馆"), &json!("/101/102/")));
        assert_eq!((&one["switched"], &one["compared"], &one["successful"]), (&json!(12), &json!(134), &json!(134)));
        assert_eq!((&one["coverage"], &one["verdict"]), (&json!(1.0), &json!("hit")));
        let part = |name: &str| one[name].as_f64().unwrap();
        assert!(part("share_low") < part("share") && part("share") < part("share_high"), "{one}");
        let split = &one["splits"][0];
        assert_eq!((&split["split"], &split["value"]), (&json!("hour"), &json!("23:00–23:59")));
        assert_eq!((&split["compared"], &split["switched"]), (&json!(14), &json!(12)));
        assert!(split["ratio"].as_f64() >= Some(3.0) && split["p_adjusted"].as_f64() < Some(0.05), "{split}");
        assert_eq!(one["splits"].as_array().unwrap().len(), 1, "ways, amounts and channels are alike");
        assert_eq!(merchants(server, &tree.west_ops), json!([]));
        assert_eq!(rule(server, ops), (json!("hit"), Value::Null));
        let id = &one["incident_id"];
        let shown = incident(server, ops, id);
        assert_eq!(
            (&shown["incident"]["kind"], &shown["incident"]["level"]),
            (&json!("merchant_switch"), &json!("P3")),
            "a pattern accuses nobody"
        );
        let evidence = &shown["evidence"];
        assert_eq!((&evidence["coverage"], &evidence["splits"]), (&json!(1.0), &one["splits"]));
        assert_eq!((&evidence["share_low"], &evidence["reasons"][0]["rule"]), (&one["share_low"], &json!("B6")));
        // The same payments an hour later are the same incident, and what people closed stays closed.
        pass(server, 1);
        assert_eq!(incident(server, ops, id)["incident"]["occurrences"], 1);
        server.post(&format!("/api/v1/incidents/{id}/resolve"), ops, &json!({"note": "已核查"})).expect(200);
        pass(server, 2);
        assert_eq!(merchants(server, ops)[0]["incident_id"], *id);
        assert_eq!(incident(server, ops, id)["incident"]["state"], "resolved");
        let mut more = File::new(server);
        more.n = 500;
        more.add(1, 23, OTHER);
        more.n = 1;
        more.import(server, ops, channel);
        wait_until("one more differs", || summary(server, ops)["s4_switched"] == 13);
        pass(server, 3);
        let again = incident(server, ops, id);
        assert_eq!((&again["incident"]["state"], &again["incident"]["occurrences"]), (&json!("open"), &json!(2)));
        assert_eq!((findings(server, ops), &merchants(server, ops)[0]["switched"]), (1, &json!(13)));
    });
}

/// A payment that the terminal reported and no channel told of.
fn report(server: &TestServer, terminal_id: i64, event: &str, at_ms: i64) {
    let event = event.to_owned();
    let write = server.state.db.write(move |conn| {
        diesel::insert_into(payments::table)
            .values((
                payments::terminal_id.eq(terminal_id),
                payments::event_id.eq(&event),
                payments::occurred_at_ms.eq(at_ms),
                payments::at_ms.eq(at_ms),
                payments::received_at_ms.eq(at_ms),
                payments::org_path.eq("/101/102/"),
                payments::transaction_type.eq("sale"),
                payments::amount_fen.eq(77),
            ))
            .execute(conn)?;
        Ok::<_, db::Error>(())
    });
    server.block_on(write).unwrap();
}

#[test]
fn with_little_compared_there_is_no_pattern_and_the_coverage_says_so() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        pass(server, -1);
        assert_eq!(rule(server, ops), (json!("insufficient"), json!("compared")), "nothing was compared at all");
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        let mut file = File::new(server);
        (8..15).for_each(|hour| file.add(1, hour, MERCHANT));
        (0..3).for_each(|_| file.add(1, 23, OTHER));
        (0..40).for_each(|n| file.add(2, n % 24, ""));
        file.import(server, ops, channel);
        let listed = server.get("/api/v1/terminals?q=S1", ops).expect(200).json();
        let terminal_id = listed["items"][0]["id"].as_i64().unwrap();
        for n in 0..5 {
            report(server, terminal_id, &format!("r{n}"), file.today_ms - 3 * DAY_MS + n);
        }
        foreign(server, ops, 3);
        pass(server, 0);
        let one = merchants(server, ops)[0].clone();
        assert_eq!((&one["verdict"], &one["missing"]), (&json!("insufficient"), &json!("compared")), "{one}");
        assert_eq!((&one["switched"], &one["compared"], &one["successful"]), (&json!(3), &json!(10), &json!(55)));
        assert!((one["coverage"].as_f64().unwrap() - 10.0 / 55.0).abs() < 1e-9, "{one}");
        assert!(one["share_high"].as_f64() > Some(0.5), "three of ten say little: {one}");
        assert_eq!((&one["splits"], &one["incident_id"]), (&json!([]), &Value::Null));
        assert_eq!(rule(server, ops), (json!("insufficient"), json!("compared")));
        assert_eq!(findings(server, ops), 0);
    });
}

#[test]
fn aliases_and_numbers_that_wait_for_a_person_are_no_switches() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        evening(server).import(server, ops, channel);
        assert_eq!(summary(server, ops)["review"], 12);
        pass(server, 0);
        assert_eq!((merchants(server, ops), rule(server, ops).0), (json!([]), json!("clear")), "nobody has decided");
        decide(server, ops, "request", &json!({"reason": "扫码收款的商户号"}));
        decide(server, &tree.east_admin, "approve", &json!({}));
        wait_until("the alias holds", || summary(server, ops)["review"] == 0);
        pass(server, 1);
        assert_eq!((merchants(server, ops), rule(server, ops).0), (json!([]), json!("clear")), "an alias");
        decide(server, &tree.east_admin, "reopen", &json!({}));
        wait_until("it is under review again", || summary(server, ops)["review"] == 12);
        foreign(server, ops, 12);
        pass(server, 2);
        assert_eq!(merchants(server, ops)[0]["switched"], 12);
        decide(server, &tree.east_admin, "reopen", &json!({}));
        wait_until("it is under review once more", || summary(server, ops)["review"] == 12);
        pass(server, 3);
        assert_eq!(merchants(server, ops), json!([]), "what was taken back is not shown");
        assert_eq!(findings(server, ops), 1, "what was found stays on record");
    });
}

#[test]
fn pages_show_share_interval_and_coverage_and_the_incident_its_splits() {
    on_each_database(|server| {
        let token = admin(server);
        server.post("/api/v1/models", &token, &json!({"code": MODEL, "name": "M"})).expect(201);
        let terminal = json!({"sn": "S1", "model": MODEL, "merchant_no": MERCHANT, "merchant_name": "张记面馆"});
        server.post("/api/v1/terminals", &token, &terminal).expect(201);
        let made = server.post("/api/v1/feed-channels", &token, &json!({"name": "渠道甲"})).expect(201).json();
        let mut file = evening(server);
        (0..66).for_each(|n| file.add(7, n % 24, ""));
        file.import(server, &token, made["channel"]["id"].as_i64().unwrap());
        foreign(server, &token, 12);
        pass(server, 0);
        let id = merchants(server, &token)[0]["incident_id"].as_i64().unwrap();
        let browser = Browser::signed_in(server, ADMIN);
        let page = browser.get("/reconciliation").expect(200).text();
        for text in [
            "12 / 134 · 9.0%",
            "95% interval 5.2%–15.0%",
            "134 of 200 checked · 67.0%",
            "Pattern to be reviewed",
            "Hour 23:00–23:59: 12 / 14",
            &format!("/incidents/{id}\""),
        ] {
            assert!(page.contains(text), "{text}: {page}");
        }
        let page = browser.get(&format!("/incidents/{id}")).expect(200).text();
        for text in
            ["A pattern to be reviewed", "134 of 200 successful payments", "Circumstances that stand out", "Hour"]
        {
            assert!(page.contains(text), "{text}: {page}");
        }
        let fleet = browser.get("/fleet").expect(200).text();
        assert!(fleet.contains("Pattern of settlements that differ"), "{fleet}");
    });
}
