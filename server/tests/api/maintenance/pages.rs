//! The pages: on site, in the office, for those who set the rules.

use serde_json::json;

use super::{round, wait_for_state};
use crate::console::Browser;
use crate::fixtures::{ADMIN, admin, headquarters, operator};
use crate::harness::{TestServer, on_each_database};

/// A server with one active terminal of headquarters that reports a broken printer and a tamper alarm.
struct Shop {
    root: i64,
    token: String,
    id: i64,
    seq: std::cell::Cell<u32>,
}

const SN: &str = "N7NL00887301";

impl Shop {
    fn new(server: &TestServer) -> Self {
        use diesel::prelude::*;
        use tillward_server::db::schema::{terminal_states, terminals};
        let token = admin(server);
        let root = headquarters(server, &token);
        server.post("/api/v1/models", &token, &json!({"code": crate::seed::MODEL, "name": "M"})).expect(201);
        let fields = json!({"sn": SN, "model": crate::seed::MODEL, "store_name": "张记面馆", "merchant_name": "张记"});
        let id = server.post("/api/v1/terminals", &token, &fields).expect(201).json()["id"].as_i64().unwrap();
        let activate = server.state.db.write(move |conn| {
            diesel::update(terminal_states::table.find(id))
                .set(terminal_states::lifecycle.eq("active"))
                .execute(conn)?;
            diesel::update(terminals::table.find(id)).set(terminals::lifecycle.eq("active")).execute(conn)?;
            Ok::<_, tillward_server::db::Error>(())
        });
        server.block_on(activate).unwrap();
        Self { root, token, id, seq: std::cell::Cell::new(0) }
    }

    fn report(&self, server: &TestServer, device: serde_json::Value) {
        self.seq.set(self.seq.get() + 1);
        let body = json!({
            "v": 1, "stream": 1, "seq": self.seq.get(), "at_ms": 1_790_000_000_000_i64, "boot_id": "b1",
            "software": {"firmware": "4.1.0", "slot": "a", "agent": "0.1.0"}, "device": device,
        });
        let terminal = tillward_protocol::ids::TerminalId(self.id);
        let token = server.state.tokens.issue_terminal(terminal, 0, server.clock.now()).unwrap();
        server.post("/device/v1/check-in", &token, &body).expect(200);
    }
}

#[test]
fn an_engineer_on_site_finds_the_terminal_answers_the_checklist_and_a_check_in_closes_the_order() {
    on_each_database(|server| {
        let shop = Shop::new(server);
        shop.report(server, json!({"tamper": "triggered"}));
        round(server);
        let engineer = operator(server, &shop.token, shop.root, "field");
        let browser = Browser::signed_in(server, &engineer.login);
        let home = browser.get("/m").expect(200).text();
        assert!(home.contains("Unassigned work orders") && home.contains(SN), "the order that the rule opened");
        assert_eq!(browser.get("/m?q=7301").expect(303).header("location"), Some(&*format!("/m/{SN}")));
        assert!(browser.get("/m?q=nobody").expect(200).text().contains("Nothing found"));
        let page = browser.get(&format!("/m/{SN}")).expect(200).text();
        for shown in ["Tamper alarm", "The tamper protection fired", "do not open it", "张记面馆", "a.seals"] {
            assert!(page.contains(shown), "{shown}");
        }
        assert!(!page.contains(&format!("/m/{SN}/begin")), "an inspection is open already");
        let order =
            server.get("/api/v1/work-orders", &shop.token).expect(200).json()["items"][0]["id"].as_i64().unwrap();
        // The field may not see organizations, where others take the form's token from.
        let csrf = home.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        let path = format!("/m/{SN}/orders/{order}/done");
        let required = ["serial", "seals", "slots", "cables", "place", "screen"].map(|id| format!("a.{id}"));
        let mut fields: Vec<(&str, &str)> = vec![("csrf", &csrf), ("note", "重灌密钥"), ("n.seals", "已换新封签")];
        assert_eq!(browser.post(&path, &fields).status, 422, "the checklist is not answered");
        fields.extend(required.iter().map(|name| (name.as_str(), "ok")));
        let to = format!("/m/{SN}?done=order_done");
        assert_eq!(browser.post(&path, &fields).expect(303).header("location"), Some(&*to));
        assert!(browser.get(&to).expect(200).text().contains("Waiting for the terminal"));
        shop.report(server, json!({"tamper": "ok"}));
        wait_for_state(server, &shop.token, order, "closed");
        let page = browser.get(&format!("/work-orders/{order}")).expect(200).text();
        assert!(page.contains("A check-in proved it; closed") && page.contains("已换新封签"));
        assert!(
            !page.contains("/cancel") && !page.contains("/assign"),
            "nothing is left to do, least of all for the field"
        );
        // Who stands there may always inspect it.
        let begin = format!("/m/{SN}/begin");
        assert_eq!(
            browser.post(&begin, &[("csrf", &csrf)]).expect(303).header("location"),
            Some(&*format!("/m/{SN}?done=order_started"))
        );
        let mine = browser.get("/m").expect(200).text();
        assert!(mine.contains("My work orders") && mine.contains(SN));
        assert_eq!(browser.post("/inspections/order", &[("csrf", &csrf)]).status, 403);
        assert_eq!(browser.get("/inspections/rules").status, 403);
        assert_eq!(browser.get("/m/nobody").status, 404);
    });
}

#[test]
fn the_office_sees_what_is_due_opens_gives_out_and_closes_orders() {
    on_each_database(|server| {
        let shop = Shop::new(server);
        shop.report(server, json!({"coin_mv": 2_650, "certificate_expires_ms": server.clock.now().0 + 5 * 86_400_000}));
        let token = &shop.token;
        let no_orders = json!({"version": 0, "rules": {"open_orders_for": []}});
        server.post(&format!("/api/v1/maintenance-rules/{}", shop.root), token, &no_orders).expect(200);
        round(server);
        let browser = Browser::signed_in(server, ADMIN);
        let page = browser.get("/inspections").expect(200).text();
        for shown in [SN, "2,650 mV, below 2,700 mV", "Certificate expiry 1", "/inspections/order", "张记面馆"] {
            assert!(page.contains(shown), "{shown}");
        }
        assert!(browser.get("/inspections?reason=tamper").expect(200).text().contains("Nothing is due"));
        assert_eq!(browser.get("/inspections?reason=mood").status, 422);
        let csrf = browser.csrf();
        let id = shop.id.to_string();
        let fields = [("csrf", &*csrf), ("terminal_id", &*id), ("kind", "repair"), ("reason", "certificate")];
        let opened = browser.post("/inspections/order", &fields).expect(303);
        let to = opened.header("location").unwrap().to_owned();
        let order = to.trim_start_matches("/work-orders/").split('?').next().unwrap().to_owned();
        let path = format!("/work-orders/{order}");
        assert!(browser.get(&to).expect(200).text().contains("The work order was opened"));
        assert!(browser.get("/work-orders").expect(200).text().contains(&format!("href=\"{path}\"")));
        assert!(!browser.get("/work-orders?state=closed").expect(200).text().contains(&path));
        let act = |verb: &str, note: &str| browser.post(&format!("{path}/{verb}"), &[("csrf", &csrf), ("note", note)]);
        assert_eq!(browser.post(&format!("{path}/assign"), &[("csrf", &csrf)]).status, 303);
        for (verb, note, done) in [
            ("start", "", "order_started"),
            ("note", "seen", "noted"),
            ("close-unproven", "no network there", "order_closed"),
        ] {
            assert_eq!(act(verb, note).expect(303).header("location"), Some(&*format!("{path}?done={done}")), "{verb}");
        }
        assert!(browser.get(&path).expect(200).text().contains("Closed, unproven"));
        assert_eq!(act("start", "").status, 409);
        let table = browser.get("/inspections.csv").expect(200);
        assert!(table.body.starts_with("\u{feff}SN,Model".as_bytes()), "{}", table.text());
        assert!(table.text().contains("Coin cell low: 2,650 mV"));
        let devices = browser.get("/devices.csv").expect(200).text();
        assert!(devices.contains(SN) && devices.contains("张记面馆"), "{devices}");
        let reader = operator(server, token, shop.root, "auditor");
        let reader = Browser::signed_in(server, &reader.login);
        let page = reader.get("/inspections").expect(200).text();
        assert!(page.contains(SN) && !page.contains("/inspections/order") && !page.contains("href=\"/m\""));
    });
}

#[test]
fn thresholds_and_checklists_are_edited_and_guidance_is_shown() {
    on_each_database(|server| {
        let shop = Shop::new(server);
        let browser = Browser::signed_in(server, ADMIN);
        let page = browser.get("/inspections/rules").expect(200).text();
        assert!(page.contains("value=\"180\"") && page.contains("seals* | "), "built in");
        let csrf = browser.csrf();
        let root = shop.root.to_string();
        let numbers = [
            ("inspection_days", "90"),
            ("dormant_days", "60"),
            ("dormant_now_days", "80"),
            ("error_percent", "20"),
            ("error_tries_min", "15"),
            ("battery_percent_min", "15"),
            ("coin_mv_min", "2700"),
            ("coin_mv_now", "2500"),
            ("expiry_planned", "90"),
            ("expiry_soon", "30"),
            ("expiry_now", "7"),
            ("moved_m", "3000"),
        ];
        let mut fields = vec![
            ("csrf", &*csrf),
            ("organization_id", &*root),
            ("version", "0"),
            ("open.tamper", "1"),
            ("by_tag", "vip 30"),
        ];
        fields.extend(numbers);
        assert_eq!(browser.post("/inspections/rules", &fields).status, 303);
        let rules =
            server.get(&format!("/api/v1/maintenance-rules/{root}"), &shop.token).expect(200).json()["rules"].clone();
        assert_eq!((&rules["inspection_days"], &rules["inspection_days_by_tag"]), (&json!(90), &json!({"vip": 30})));
        assert_eq!(rules["open_orders_for"], json!(["tamper"]));
        assert_eq!(browser.post("/inspections/rules", &fields).status, 409, "it was changed since");
        let list = |items: &str| {
            let fields =
                [("csrf", &*csrf), ("organization_id", &*root), ("kind", "repair"), ("version", "0"), ("items", items)];
            browser.post("/inspections/checklist", &fields).status
        };
        assert_eq!(list("photo | 拍照"), 422);
        assert_eq!(list("photo* | 拍照存档 | Take a photo"), 303);
        let page = browser.get("/inspections/rules?kind=repair").expect(200).text();
        assert!(page.contains("photo* | 拍照存档 | Take a photo"));
        let page = browser.get("/guidance").expect(200).text();
        assert!(page.contains("No operator errors on record"));
        assert!(browser.get("/guidance.csv").expect(200).text().starts_with('\u{feff}'));
    });
}
