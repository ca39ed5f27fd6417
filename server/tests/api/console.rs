//! The console as a browser without scripts uses it.

use crate::fixtures::{ADMIN, PASSWORD, admin, headquarters, operator};
use crate::harness::{Answer, TestServer, on_each_database};
use serde_json::json;
use tillward_server::operators;

const PAGES: &[&str] = &[
    "/lookups",
    "/causes",
    "/reconciliation",
    "/imports",
    "/merchants",
    "/merchants/new",
    "/channels",
    "/",
    "/terminals",
    "/terminals/import",
    "/releases",
    "/rollouts",
    "/rollouts/new",
    "/rollouts/announced",
    "/failures",
    "/incidents",
    "/alerts",
    "/alerts/channels",
    "/alerts/channels/new?kind=dingtalk",
    "/alerts/rules",
    "/alerts/rules/new",
    "/alerts/hours",
    "/fleet",
    "/network-advice",
    "/inspections",
    "/inspections/rules",
    "/work-orders",
    "/guidance",
    "/m",
    "/rules",
    "/organizations",
    "/operators",
    "/audit?verify=1",
];

/// A browser: one cookie jar, forms, no redirects followed.
pub struct Browser<'a> {
    /// Whom it talks to.
    pub server: &'a TestServer,
    /// Its cookies, as it sends them.
    pub cookies: String,
}

impl<'a> Browser<'a> {
    pub fn signed_in(server: &'a TestServer, login: &str) -> Self {
        let mut browser = Self { server, cookies: String::new() };
        let answer = browser.post("/login", &[("login", login), ("password", PASSWORD), ("next", "/terminals")]);
        assert_eq!((answer.status, answer.header("location")), (303, Some("/terminals")), "{}", answer.text());
        browser.keep(&answer);
        browser
    }

    fn keep(&mut self, answer: &Answer) {
        let cookie = answer.header("set-cookie").expect("a cookie");
        assert!(
            cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax") && cookie.contains("Path=/"),
            "{cookie}"
        );
        let pair = cookie.split(';').next().unwrap();
        self.cookies = if self.cookies.is_empty() { pair.to_owned() } else { format!("{}; {pair}", self.cookies) };
    }

    pub fn get(&self, path: &str) -> Answer {
        self.server.send("GET", path, "", &[("cookie", &self.cookies), ("accept", "text/html")], b"")
    }

    pub fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.post_from("same-origin", path, fields)
    }

    fn post_from(&self, site: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
        let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        let headers = [
            ("cookie", self.cookies.as_str()),
            ("accept", "text/html"),
            ("content-type", "application/x-www-form-urlencoded"),
            ("sec-fetch-site", site),
        ];
        self.server.send("POST", path, "", &headers, body.join("&").as_bytes())
    }

    /// Sends a form with a file as a browser does: its fields in the order of the page.
    fn send_form(&self, path: &str, order: &[&str], mode: &str, file: &str) -> Answer {
        let csrf = self.csrf();
        let mut body = String::new();
        let mut sent: Vec<&str> = Vec::new();
        for name in order.iter().copied() {
            // Radio buttons share a name.
            if sent.contains(&name) {
                continue;
            }
            sent.push(name);
            let (kind, value) = match name {
                "csrf" => ("", csrf.as_str()),
                "mode" => ("", mode),
                _ => ("; filename=\"terminals.csv\"", file),
            };
            body += &format!("--limit\r\ncontent-disposition: form-data; name=\"{name}\"{kind}\r\n\r\n{value}\r\n");
        }
        body += "--limit--\r\n";
        let headers = [
            ("cookie", self.cookies.as_str()),
            ("accept", "text/html"),
            ("content-type", "multipart/form-data; boundary=limit"),
            ("sec-fetch-site", "same-origin"),
        ];
        self.server.send("POST", path, "", &headers, body.as_bytes())
    }

    /// The token that this session's forms carry.
    pub fn csrf(&self) -> String {
        let page = self.get("/organizations").expect(200).text();
        page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    }
}

fn escaped(value: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    value.bytes().map(escape).collect()
}

#[test]
fn the_first_administrator_is_made_on_a_page_that_is_gone_afterwards() {
    on_each_database(|server| {
        let token = server.block_on(operators::bootstrap(&server.state.db, server.clock.now())).unwrap().unwrap();
        let mut browser = Browser { server, cookies: String::new() };
        assert_eq!(browser.get("/").expect(303).header("location"), Some("/login"));
        assert_eq!(browser.get("/login").expect(303).header("location"), Some("/setup"));
        let fields = |token: &str| {
            [
                ("bootstrap_token", token.to_owned()),
                ("login", "boss".to_owned()),
                ("name", "李明".to_owned()),
                ("password", PASSWORD.to_owned()),
                ("organization_name", "瑞丰支付".to_owned()),
            ]
        };
        let wrong = fields("00");
        let wrong: Vec<_> = wrong.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let refused = browser.post("/setup", &wrong);
        assert!((400..500).contains(&refused.status), "{}", refused.status);
        assert!(refused.text().contains("李明"), "what was typed is kept");
        let right = fields(&token);
        let right: Vec<_> = right.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let done = browser.post("/setup", &right).expect(303);
        browser.keep(&done);
        assert!(browser.get("/organizations").expect(200).text().contains("瑞丰支付"));
        assert_eq!(browser.get("/setup").expect(303).header("location"), Some("/login"));
    });
}

#[test]
fn every_page_stands_in_both_languages_under_the_strict_policy() {
    on_each_database(|server| {
        admin(server);
        let browser = Browser::signed_in(server, ADMIN);
        for language in ["zh-CN", "en"] {
            browser.post("/preferences", &[("language", language)]).expect(303);
            for path in PAGES {
                let page = browser.get(path).expect(200);
                let policy = page.header("content-security-policy").expect(path);
                assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
                assert_eq!(page.header("cache-control"), Some("no-store"), "{path}");
                let text = page.text();
                assert!(text.contains(&format!("<html lang=\"{language}\"")), "{path}");
                let has_chinese = text.contains("退出登录");
                assert_eq!(has_chinese, language == "zh-CN", "{path} in {language}");
            }
        }
    });
}

#[test]
fn a_page_that_was_asked_for_is_reached_after_signing_in_and_nothing_outside_is() {
    on_each_database(|server| {
        admin(server);
        let stranger = Browser { server, cookies: String::new() };
        let asked = stranger.get("/terminals?connection=offline").expect(303);
        assert_eq!(asked.header("location"), Some("/login?next=%2Fterminals%3Fconnection%3Doffline"));
        let page = stranger.get("/login?next=%2Fterminals%3Fconnection%3Doffline").expect(200).text();
        assert!(page.contains("/terminals?connection=offline"));
        let fields = |next| [("login", ADMIN), ("password", PASSWORD), ("next", next)];
        for next in ["https://evil.example/", "//evil.example", "/\\evil.example"] {
            assert_eq!(stranger.post("/login", &fields(next)).expect(303).header("location"), Some("/"), "{next}");
        }
        let wrong = stranger.post("/login", &[("login", ADMIN), ("password", "not it at all")]).expect(422);
        assert!(wrong.text().contains(ADMIN) && wrong.header("set-cookie").is_none());
        assert_eq!(stranger.post_from("cross-site", "/login", &fields("/")).status, 403);
    });
}

#[test]
fn a_form_needs_its_sessions_token_and_this_site() {
    on_each_database(|server| {
        let token = admin(server);
        let root = headquarters(server, &token).to_string();
        let browser = Browser::signed_in(server, ADMIN);
        let csrf = browser.csrf();
        let fields =
            |csrf| [("csrf", csrf), ("parent_id", root.as_str()), ("name", "华东代理"), ("short_code", "EAST")];
        assert_eq!(browser.post("/organizations", &fields("")).status, 403);
        assert_eq!(browser.post("/organizations", &fields("0000")).status, 403);
        assert_eq!(browser.post_from("cross-site", "/organizations", &fields(&csrf)).status, 403);
        let other = operator(server, &token, root.parse().unwrap(), "platform_admin");
        let other = Browser::signed_in(server, &other.login);
        assert_eq!(other.post("/organizations", &fields(&csrf)).status, 403);
        let done = browser.post("/organizations", &fields(&csrf)).expect(303);
        assert_eq!(done.header("location"), Some("/organizations?done=organization"));
        assert!(browser.get("/organizations").expect(200).text().contains("华东代理"));
        let unknown: Vec<_> = fields(&csrf).into_iter().chain([("path", "/1/")]).collect();
        assert_eq!(browser.post("/organizations", &unknown).status, 422, "fields that the form does not have");
    });
}

#[test]
fn a_terminals_page_shows_its_parameters_with_their_origin() {
    on_each_database(|server| {
        let token = admin(server);
        server.post("/api/v1/models", &token, &json!({"code": "demo-p1", "name": "P1"})).expect(201);
        let terminal = server.post("/api/v1/terminals", &token, &json!({"sn": "SN0001", "model": "demo-p1"}));
        let id = terminal.expect(201).json()["id"].clone();
        let browser = Browser::signed_in(server, ADMIN);
        browser.post("/preferences", &[("language", "en")]).expect(303);
        assert!(browser.get("/terminals/SN0001").expect(200).text().contains("No parameters"));
        let new = json!({"name": "base <1>", "parameters": {"apn": "cmnet", "tip": true}});
        let profile = server.post("/api/v1/profiles", &token, &new).expect(201).json()["id"].clone();
        server.post(&format!("/api/v1/profiles/{profile}/assign"), &token, &json!({"ids": [id]})).expect(200);
        let page = browser.get("/terminals/SN0001").expect(200).text();
        for shown in ["apn", "cmnet", "base &#60;1&#62; · v1", "Waiting for the terminal to take it"] {
            assert!(page.contains(shown), "{shown}: {page}");
        }
        browser.post("/preferences", &[("language", "zh-CN")]).expect(303);
        assert!(browser.get("/terminals/SN0001").expect(200).text().contains("等待终端应用"));
    });
}

#[test]
fn problems_are_pages_for_browsers_and_documents_for_programs() {
    on_each_database(|server| {
        let token = admin(server);
        let root = headquarters(server, &token);
        let field = operator(server, &token, root, "field");
        let browser = Browser::signed_in(server, &field.login);
        for (path, status) in [("/rollouts", 403), ("/terminals/NOSUCHSN", 404), ("/no/such/page", 404)] {
            let page = browser.get(path).expect(status);
            assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"), "{path}");
            assert!(page.header("content-security-policy").is_some(), "{path}");
        }
        let menu = browser.get("/terminals").expect(200).text();
        assert!(
            !menu.contains("href=\"/rollouts\"")
                && !menu.contains("href=\"/incidents")
                && !menu.contains("href=\"/audit\""),
            "entries it cannot use"
        );
        let document = server.get("/api/v1/rollouts/1", "").expect(401);
        assert_eq!(document.header("content-type"), Some("application/problem+json"));
    });
}

#[test]
fn signing_out_ends_the_session() {
    on_each_database(|server| {
        admin(server);
        let browser = Browser::signed_in(server, ADMIN);
        let csrf = browser.csrf();
        assert_eq!(browser.post("/logout", &[("csrf", &csrf)]).expect(303).header("location"), Some("/login"));
        assert_eq!(browser.get("/terminals").expect(303).header("location"), Some("/login?next=%2Fterminals"));
    });
}

#[test]
fn a_language_and_a_theme_once_chosen_are_kept() {
    on_each_database(|server| {
        admin(server);
        let mut browser = Browser { server, cookies: String::new() };
        let chosen = browser.post("/preferences", &[("theme", "dark"), ("back", "/login")]).expect(303);
        assert_eq!(chosen.header("location"), Some("/login"));
        browser.keep(&chosen);
        browser.keep(&browser.post("/preferences", &[("language", "en")]).expect(303));
        let page = browser.get("/login").expect(200).text();
        assert!(page.contains("<html lang=\"en\" data-theme=\"dark\">"));
    });
}

#[test]
fn the_language_of_an_account_goes_before_the_browsers() {
    on_each_database(|server| {
        admin(server);
        let browser = Browser::signed_in(server, ADMIN);
        browser.post("/preferences", &[("language", "en")]).expect(303);
        // Another browser of the same person, in which somebody else chose Chinese.
        let mut other = Browser::signed_in(server, ADMIN);
        other.cookies.push_str("; tillward_language=zh-CN");
        assert!(other.get("/terminals").expect(200).text().contains("<html lang=\"en\""));
        let stranger = Browser { server, cookies: "tillward_language=zh-CN".to_owned() };
        assert!(stranger.get("/login").expect(200).text().contains("<html lang=\"zh-CN\""));
    });
}

#[test]
fn a_refusal_says_in_the_readers_language_what_is_wrong_and_keeps_the_menu() {
    on_each_database(|server| {
        let token = admin(server);
        let root = headquarters(server, &token);
        let field = Browser::signed_in(server, &operator(server, &token, root, "field").login);
        for (language, sentence) in
            [("zh-CN", "角色“现场维护”没有“查看升级任务”的权限"), ("en", "does not have the permission")]
        {
            field.post("/preferences", &[("language", language)]).expect(303);
            let page = field.get("/rollouts").expect(403).text();
            assert!(page.contains("href=\"/terminals\""), "no way on: {page}");
            assert!(page.contains(sentence), "{page}");
        }
        field.post("/preferences", &[("language", "zh-CN")]).expect(303);
        let page = field.get("/terminals?connection=nonsense").expect(422).text();
        assert!(page.contains("不是连接状态") && !page.contains("is not"), "{page}");
    });
}

#[test]
fn a_file_is_tried_first_and_imported_when_that_is_asked_and_refused_rows_say_why() {
    on_each_database(|server| {
        let token = admin(server);
        server
            .post(
                "/api/v1/models",
                &token,
                &serde_json::json!({"code": "demo-p1", "name": "P1", "capabilities": {"ab_slots": true}}),
            )
            .expect(201);
        let browser = Browser::signed_in(server, ADMIN);
        browser.post("/preferences", &[("language", "zh-CN")]).expect(303);
        let page = browser.get("/terminals/import").expect(200).text();
        let form = page.split("enctype=\"multipart/form-data\"").nth(1).unwrap().split("</form>").next().unwrap();
        let order: Vec<&str> = form.split(" name=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        let csv = "sn,model,merchant_no\r\nPAGE00000001,demo-p1,\r\nPAGE00000002,demo-p1,12\r\n";
        for (mode, known) in [("dry_run", 404), ("import", 200)] {
            let result = browser.send_form("/terminals/import", &order, mode, csv).expect(200).text();
            assert!(result.contains("PAGE00000002") && result.contains("商户号：必须是 15 位数字"), "{result}");
            assert_eq!(browser.get("/terminals/PAGE00000001").status, known, "{mode}");
        }
    });
}

#[test]
fn what_pages_load_may_be_kept_for_ever_because_its_address_has_its_hash() {
    on_each_database(|server| {
        admin(server);
        let browser = Browser { server, cookies: String::new() };
        let page = browser.get("/login").expect(200).text();
        let addresses: Vec<&str> = page.split(['"', '\'']).filter(|text| text.starts_with("/static/")).collect();
        assert!(addresses.len() >= 5, "{addresses:?}");
        for address in addresses {
            let file = browser.get(address).expect(200);
            assert_eq!(file.header("cache-control"), Some("public, max-age=31536000, immutable"), "{address}");
            let (folder, name) = address.rsplit_once('/').unwrap();
            assert_eq!(browser.get(&format!("{}0000/{name}", &folder[..folder.len() - 4])).status, 404);
        }
    });
}
