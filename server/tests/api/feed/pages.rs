//! The console's pages of the feed: a person makes a channel, sends a file, starts it, and decides about a number.

use crate::fixtures::{PASSWORD, admin, headquarters};
use crate::harness::{Answer, TestServer, on_each_database, wait_until};
use serde_json::json;

struct Browser<'a> {
    server: &'a TestServer,
    cookie: String,
}

impl<'a> Browser<'a> {
    fn sign_in(server: &'a TestServer, login: &str) -> Self {
        let now = server.clock.now();
        let signing_in = tillward_server::operators::sign_in(&server.state.db, login, PASSWORD, "browser", now);
        let cookie = format!("tillward={}", server.block_on(signing_in).unwrap().refresh_token);
        Self { server, cookie }
    }

    fn get(&self, path: &str) -> Answer {
        self.server.send("GET", path, "", &[("cookie", &self.cookie)], b"")
    }

    fn csrf(&self, path: &str) -> String {
        let page = self.get(path).expect(200).text();
        page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    }

    fn post(&self, path: &str, from: &str, fields: &[(&str, &str)]) -> Answer {
        let token = self.csrf(from);
        let pairs = fields.iter().copied().chain([("csrf", token.as_str())]);
        let body: Vec<String> =
            pairs.map(|(name, value)| tillward_server::http::body::query_pair(name, value)).collect();
        let headers = [
            ("cookie", self.cookie.as_str()),
            ("sec-fetch-site", "same-origin"),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        self.server.send("POST", path, "", &headers, body.join("&").as_bytes())
    }

    fn upload(&self, source: &str, file: &str) -> Answer {
        let token = self.csrf("/imports");
        let part = |name: &str, value: &str| {
            format!("--B\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let body = format!(
            "{}{}--B\r\ncontent-disposition: form-data; name=\"file\"; filename=\"十一月.csv\"\r\n\r\n{file}\r\n--B--\r\n",
            part("csrf", &token),
            part("from", source)
        );
        let headers = [
            ("cookie", self.cookie.as_str()),
            ("sec-fetch-site", "same-origin"),
            ("content-type", "multipart/form-data; boundary=B"),
        ];
        self.server.send("POST", "/imports", "", &headers, body.as_bytes())
    }
}

#[test]
fn a_person_makes_a_channel_sends_a_file_and_decides_about_a_number() {
    on_each_database(|server| {
        let token = admin(server);
        let home = headquarters(server, &token);
        let model = json!({"code": "a-b", "name": "A"});
        server.post("/api/v1/models", &token, &model).expect(201);
        let terminal = json!({"sn": "S1", "model": "a-b", "merchant_no": super::MERCHANT});
        server.post("/api/v1/terminals", &token, &terminal).expect(201);
        let browser = Browser::sign_in(server, crate::fixtures::ADMIN);

        let id = home.to_string();
        let made = browser.post("/channels", "/channels", &[("name", "渠道甲"), ("organization_id", &id)]).expect(200);
        assert!(made.text().contains("Shown only once"), "{}", made.text());
        assert!(!browser.get("/channels/1").expect(200).text().contains("id=\"secret\""));
        let mapping = [("column_sn", "sn"), ("column_amount_fen", "amount"), ("column_at_ms", "time"), ("unit", "fen")];
        browser.post("/channels/1/mapping", "/channels/1", &mapping).expect(303);
        assert!(browser.get("/channels/1").expect(200).text().contains("value=\"amount\""));

        let at = super::moment(server.clock.now().0 - 3_600_000);
        let file = format!(
            "机具号,商户号,金额,交易时间,交易状态,备注\nS1,850331083980612,100.00,{at},成功,<b>x</b>\nS1,,一百,{at},成功,\n"
        );
        let sent = browser.upload("channel_feed:1", &file).expect(303);
        let page = sent.header("location").unwrap().to_owned();
        let shown = browser.get(&page).expect(200).text();
        assert!(shown.contains("十一月.csv") && shown.contains("100.00"), "{shown}");
        assert!(!shown.contains("<b>x</b>"), "{shown}");
        assert!(shown.contains("<td>Succeeded</td>") && !shown.contains("<td>success</td>"), "{shown}");
        let columns = [
            ("column_sn", "机具号"),
            ("column_merchant_no", "商户号"),
            ("column_amount_fen", "金额"),
            ("column_at_ms", "交易时间"),
            ("column_status", "交易状态"),
            ("unit", "yuan"),
            ("rate_unit", "percent"),
            ("utc_offset_min", "480"),
            ("mode", "import"),
        ];
        browser.post(&format!("{page}/start"), &page, &columns).expect(303);
        wait_until("the import ends", || browser.get(&page).expect(200).text().contains("errors.csv"));
        assert!(browser.get(&format!("{page}/progress")).expect(200).text().contains("<progress"));
        let refused = browser.get(&format!("{page}/errors.csv")).expect(200).text();
        assert!(refused.contains("一百"), "{refused}");

        wait_until("the number is under review", || {
            browser.get("/reconciliation").expect(200).text().contains("/merchant-numbers/1/foreign")
        });
        let shown = browser.get("/reconciliation").expect(200).text();
        assert!(shown.contains("1 of 1 checked"), "{shown}");
        browser.post("/merchant-numbers/1/foreign", "/reconciliation", &[("reason", "not ours")]).expect(303);
        wait_until("the switch is shown", || {
            browser.get("/reconciliation?result=switched").expect(200).text().contains("/reconciliation/settlements/1")
        });
        let why = browser.get("/reconciliation/settlements/1").expect(200).text();
        assert!(why.contains("850331083980612") && why.contains("R1"), "{why}");
        for path in ["/merchants", "/channels", "/imports", "/reconciliation/settlements.csv"] {
            browser.get(path).expect(200);
        }
    });
}
