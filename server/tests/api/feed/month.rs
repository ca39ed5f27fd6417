//! A month of a reseller who has nothing but files.

use serde_json::{Value, json};

use super::{MERCHANT, channel, counts, import, moment, summary};
use crate::harness::{TestServer, on_each_database, wait_until};
use crate::seed::{MODEL, Tree};

const DAY_MS: i64 = 86_400_000;
/// Terminals of the reseller.
const TERMINALS: i64 = 30;
/// The scan number of the same merchant.
const ALIAS: &str = "850331053110688";
/// A number of the fee-free class.
const REDUCED: &str = "850331083980612";

fn sn(terminal: i64) -> String {
    format!("00{terminal:04}7X")
}

/// The reseller's own sheet: as text cells in GBK.
fn registry() -> Vec<u8> {
    let mut sheet = "机具号,型号,商户号,商户名称,门店名称\n".to_owned();
    for terminal in 0..TERMINALS {
        sheet.push_str(&format!("'{},{MODEL},{MERCHANT},张记面馆,张江{}店\n", sn(terminal), terminal % 3));
    }
    encoding_rs::GBK.encode(&sheet).0.into_owned()
}

/// One week of the channel's export, in GBK, yuan and China's time.
struct Week {
    text: String,
    rows: i64,
}

impl Week {
    fn new() -> Self {
        let title = "某渠道交易明细,,,,,,,,\n".to_owned();
        let headings =
            "交易流水号,机具序列号,商户编号,商户名称,交易金额(元),结算金额(元),手续费(元),交易日期,交易状态\n";
        Self { text: title + headings, rows: 0 }
    }

    fn row(&mut self, number: &str, sn: &str, merchant: &str, [amount, settled, fee]: [&str; 3], at_ms: i64) {
        let at = moment(at_ms);
        self.text.push_str(&format!("{number},'{sn},{merchant},张记面馆,{amount},{settled},{fee},{at},交易成功\n"));
        self.rows += 1;
    }

    /// Every terminal pays twice a day.
    fn ordinary(week: i64, from_ms: i64) -> Self {
        let mut file = Self::new();
        for day in 0..7 {
            for terminal in 0..TERMINALS {
                for half in 0..2 {
                    let at_ms = from_ms + day * DAY_MS + (9 + half * 6) * 3_600_000 + terminal * 60_000;
                    let number = format!("2026{week:02}{day:02}{terminal:04}{half:04}");
                    file.row(&number, &sn(terminal), MERCHANT, ["\"1,000.00\"", "994.00", "6.00"], at_ms);
                }
            }
        }
        file
    }

    fn bytes(&self) -> Vec<u8> {
        encoding_rs::GBK.encode(&self.text).0.into_owned()
    }
}

fn incidents(server: &TestServer, token: &str, kind: &str) -> Vec<Value> {
    let page = server.get(&format!("/api/v1/incidents?kind={kind}&size=100"), token).expect(200).json();
    page["items"].as_array().unwrap().clone()
}

#[test]
fn a_reseller_with_nothing_but_files_lives_through_a_month() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        let begin_ms = (server.clock.now().0 + 8 * 3_600_000).div_euclid(DAY_MS) * DAY_MS - 8 * 3_600_000;

        // The terminals come from the reseller's own sheet, the contract is typed in.
        let headers = [("content-type", "text/csv")];
        let registered = server.send("POST", "/api/v1/terminals/import", ops, &headers, &registry()).expect(200).json();
        assert_eq!(registered["created"], TERMINALS, "{registered}");
        let contract =
            json!({"merchant_no": MERCHANT, "name": "张记面馆", "rate_ppm": 6_000, "risk_class": "standard"});
        server.post("/api/v1/merchants", ops, &contract).expect(201);
        let (channel, _) = channel(server, &tree);

        // The first week is as it should be; the export's headings need no mapping.
        server.clock.advance_ms(7 * DAY_MS);
        let week = Week::ordinary(1, begin_ms);
        let done = import(server, ops, channel, &week.bytes());
        assert_eq!((counts(&done), &done["encoding"]), ([420, 0, 0, 0], &json!("GB18030")), "{done}");
        let found = summary(server, ops);
        assert_eq!(
            (&found["settled"], &found["fees"], &found["coverage"][0]["checked"]),
            (&json!(420), &json!(420), &json!(420)),
            "{found}"
        );

        // The second one has a service fee, a scan number nobody has seen, a broken row; and it is sent twice.
        server.clock.advance_ms(7 * DAY_MS);
        let second_ms = begin_ms + 7 * DAY_MS;
        let mut week = Week::ordinary(2, second_ms);
        week.row("F99", &sn(3), MERCHANT, ["6181.87", "6082.87", ""], second_ms + DAY_MS + 3_600_000);
        for scan in 0..5 {
            let at_ms = second_ms + scan * DAY_MS + 7_200_000;
            week.row(&format!("SCAN{scan}"), &sn(4), ALIAS, ["50.00", "49.70", "0.30"], at_ms);
        }
        week.row("BROKEN", &sn(5), MERCHANT, ["一百", "99.40", "0.60"], second_ms + 1);
        let done = import(server, ops, channel, &week.bytes());
        assert_eq!(counts(&done), [426, 0, 0, 1], "{done}");
        let refused = server.get(done["errors_url"].as_str().unwrap(), ops).expect(200).text();
        assert!(refused.contains(&format!("\r\n{},BROKEN,", week.rows + 2)), "{refused}");
        let again = import(server, ops, channel, &week.bytes());
        assert_eq!((counts(&again), &again["repeats"]), ([0, 0, 426, 1], &done["id"]), "{again}");
        let found = summary(server, ops);
        assert_eq!(
            (&found["settled"], &found["review"], &found["s2_short"]),
            (&json!(846), &json!(5), &json!(0)),
            "{found}"
        );
        assert_eq!(found["fees"], 841, "the 99 yuan are a fee and no fault");

        // The scan number is the merchant's own: one asks, another approves.
        let numbers = server.get("/api/v1/merchant-numbers?state=open", ops).expect(200).json();
        assert_eq!((&numbers["items"][0]["number"], &numbers["items"][0]["payments"]), (&json!(ALIAS), &json!(5)));
        let alias = format!("/api/v1/merchant-numbers/{}", numbers["items"][0]["id"]);
        server.post(&format!("{alias}/request"), ops, &json!({"reason": "扫码商户号"})).expect(200);
        server.post(&format!("{alias}/approve"), &tree.east_admin, &json!({})).expect(200);
        wait_until("the alias holds", || {
            server.get("/api/v1/reconciliation?days=60", ops).expect(200).json()["review"] == 0
        });

        // In the third week one terminal settles under a fee-free merchant, and money is missing.
        server.clock.advance_ms(7 * DAY_MS);
        let third_ms = begin_ms + 14 * DAY_MS;
        let mut week = Week::ordinary(3, third_ms);
        for turn in 0..6 {
            let at_ms = third_ms + (turn / 3) * DAY_MS + turn * 600_000;
            week.row(&format!("SW{turn}"), &sn(7), REDUCED, ["880.00", "874.72", "5.28"], at_ms);
        }
        week.row("SHORT", &sn(8), MERCHANT, ["500.00", "430.00", "3.00"], third_ms + 5_000_000);
        week.row("SCAN9", &sn(4), ALIAS, ["50.00", "49.70", "0.30"], third_ms + 5_000_000);
        assert_eq!(counts(&import(server, ops, channel, &week.bytes())), [428, 0, 0, 0]);
        let found = summary(server, ops);
        assert_eq!(
            (&found["review"], &found["s4_switched"], &found["s2_short"]),
            (&json!(6), &json!(0), &json!(1)),
            "{found}"
        );
        assert_eq!(incidents(server, ops, "merchant_switch"), Vec::<Value>::new(), "nobody is accused before a look");
        let numbers = server.get("/api/v1/merchant-numbers?state=open", ops).expect(200).json();
        let foreign = format!("/api/v1/merchant-numbers/{}/foreign", numbers["items"][0]["id"]);
        server.post(&foreign, ops, &json!({"reason": "云闪付账单显示为其他商户"})).expect(200);
        wait_until("the switch is proven", || {
            server.get("/api/v1/reconciliation?days=60", ops).expect(200).json()["s4_switched"] == 6
        });
        let switched = incidents(server, ops, "merchant_switch");
        assert_eq!(switched.len(), 2, "one for each of two days: {switched:?}");
        assert!(switched.iter().all(|incident| incident["level"] == "P1"), "{switched:?}");
        assert_eq!(incidents(server, ops, "amount_short").len(), 1);

        // The fourth week is quiet. At its end the numbers add up, and say how much was compared.
        server.clock.advance_ms(9 * DAY_MS);
        let mut week = Week::ordinary(4, begin_ms + 21 * DAY_MS);
        week.row("UNKNOWN", "NOBODYS1", MERCHANT, ["10.00", "9.94", "0.06"], begin_ms + 22 * DAY_MS);
        assert_eq!(counts(&import(server, ops, channel, &week.bytes())), [421, 0, 0, 0]);
        let found = summary(server, ops);
        let figures =
            ["payments", "settled", "s1_failed", "s2_short", "s3_missing", "s4_switched", "review", "waiting"];
        let figures: Vec<i64> = figures.iter().map(|name| found[name].as_i64().unwrap()).collect();
        assert_eq!(figures, [1_695, 1_695, 0, 1, 0, 6, 0, 0], "{found}");
        let coverage = &found["coverage"][0];
        assert_eq!((&coverage["total"], &coverage["checked"]), (&json!(1_695), &json!(1_694)));
        assert_eq!(found["lacking"], json!({"terminal": 1}));
        let imports = server.get("/api/v1/imports", ops).expect(200).json();
        assert_eq!(imports["items"].as_array().unwrap().len(), 5);
        assert_eq!(server.get("/api/v1/audit/verify", &tree.admin).expect(200).json()["broken_at"], Value::Null);
        // Another reseller sees nothing of it.
        assert_eq!(summary(server, &tree.west_ops)["payments"], 0);
    });
}
