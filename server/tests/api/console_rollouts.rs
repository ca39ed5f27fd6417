//! Rollouts in the console: made on a form, approved by a second person, watched, and stopped, all without scripts.

use serde_json::json;
use tillward_protocol::phase::Phase;

use crate::console::Browser;
use crate::fixtures::{ADMIN, admin, headquarters, operator, organization};
use crate::harness::{TestServer, on_each_database, on_each_database_with, wait_until};
use crate::rollouts::{SHA256, manifest, order, report, sql, terminal_sql, update};

/// The administrator's server with a published release 1 (4.2.0) and terminals 1 to `count` in two regions.
fn fleet(server: &TestServer, count: i64) -> String {
    let token = admin(server);
    assert_eq!(headquarters(server, &token), 1);
    server.post("/api/v1/models", &token, &json!({"code": "demo-p1", "name": "P1"})).expect(201);
    let mut statements = format!(
        "INSERT INTO releases (id, organization_id, org_path, name, component, firmware_version, release_counter, models,
             requires, sha256, length_bytes, notes, state, created_by, created_by_name, created_at_ms, version)
         VALUES (1, 1, '/1/', 'r1', 'os', '4.2.0', 1, '[\"demo-p1\"]', '[]', '{SHA256}', 1000, '', 'published', 1, 'x', 0, 1);
         INSERT INTO release_models (model, component, release_counter, release_id, target_name)
         VALUES ('demo-p1', 'os', 1, 1, 'demo-p1.os.4.2.0-1.bin');"
    );
    for id in 1..=count {
        statements.push_str(&terminal_sql(id, "/1/", &[]));
    }
    statements.push_str("UPDATE terminals SET region = 'East'; UPDATE terminals SET region = 'West' WHERE id > 1;");
    sql(server, statements);
    token
}

/// The administrator's browser in a language.
fn browser<'a>(server: &'a TestServer, login: &str, language: &str) -> Browser<'a> {
    let browser = Browser::signed_in(server, login);
    browser.post("/preferences", &[("language", language)]).expect(303);
    browser
}

const PLAIN: [(&str, &str); 9] = [
    ("name", "秋季升级"),
    ("subject", "release"),
    ("release_id", "1"),
    ("method", "static"),
    ("budget", "1"),
    ("watch", "1"),
    ("watch_unit", "h"),
    ("timeout", "7"),
    ("timeout_unit", "d"),
];

/// The fields of a good form, and these.
fn with<'a>(csrf: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [("csrf", csrf)].into_iter().chain(PLAIN).chain(more.iter().copied()).collect()
}

#[test]
fn a_rollout_is_made_on_a_form_that_loses_nothing_that_was_typed() {
    on_each_database(|server| {
        fleet(server, 3);
        let chinese = browser(server, ADMIN, "zh-CN");
        let csrf = chinese.csrf();
        let blank = chinese.get("/rollouts/new?release=1").expect(200).text();
        assert!(blank.contains(r#"value="02:00""#) && blank.contains("推荐：先少后多"), "{blank}");
        let plain = chinese.post("/rollouts/new", &with(&csrf, &[("plan", "at_once"), ("stage_0", "20")])).expect(200);
        let plain = plain.text();
        assert!(plain.contains(r#"value="秋季升级""#) && !plain.contains(r#"value="20""#), "{plain}");
        let shrinking =
            [("stage_kind_0", "percent"), ("stage_0", "50"), ("stage_kind_1", "percent"), ("stage_1", "10")];
        let refused = chinese.post("/rollouts", &with(&csrf, &shrinking)).expect(422).text();
        for shown in [r#"value="秋季升级""#, "逐批递增", r#"value="50""#, r#"id="stages-wrong""#] {
            assert!(refused.contains(shown), "{shown}: {refused}");
        }
        let unknown = chinese.post("/rollouts", &with(&csrf, &[("sns", "SN000001 NOPE")])).expect(422).text();
        assert!(unknown.contains("SN000001 NOPE</textarea>") && unknown.contains(r#"id="sns-wrong""#), "{unknown}");
        let english = browser(server, ADMIN, "en");
        let english_csrf = english.csrf();
        let refused = english.post("/rollouts", &with(&english_csrf, &[("priority", "many")])).expect(422).text();
        assert!(refused.contains("0 to 100.") && refused.contains(r#"aria-describedby="priority-wrong""#), "{refused}");
        assert_eq!(english.post("/rollouts", &with(&english_csrf, &[("path", "/1/")])).status, 422, "unknown fields");
        chinese.post("/preferences", &[("language", "zh-CN")]).expect(303);

        let stages = [("stage_kind_0", "count"), ("stage_0", "1"), ("stage_kind_2", "percent"), ("stage_2", "100")];
        let made = chinese.post("/rollouts", &with(&csrf, &stages)).expect(303);
        assert_eq!(made.header("location"), Some("/rollouts/1?done=draft"));
        let draft = chinese.get("/rollouts/1").expect(200).text();
        for shown in ["将升级 3 台终端", "1 台", "累计 3 台", "SN000002", "输入将升级的台数 3"] {
            assert!(draft.contains(shown), "{shown}: {draft}");
        }
        let wrong = chinese.post("/rollouts/1/start", &[("csrf", &csrf), ("count", "99")]).expect(409).text();
        assert!(
            wrong.contains("99") && wrong.contains(r#"id="refused""#) && wrong.contains("id=\"preview\""),
            "{wrong}"
        );
        assert_eq!(chinese.post("/rollouts/1/start", &[("csrf", &csrf), ("count", "all")]).status, 422);
        let revised = with(&csrf, &[("revises", "1"), ("without_sns", "SN000003")]);
        let revised = chinese.post("/rollouts", &revised).expect(303);
        assert_eq!(revised.header("location"), Some("/rollouts/2?done=draft"));
        assert!(chinese.get("/rollouts/1").expect(200).text().contains("已修改为任务 2"));
        assert!(chinese.get("/rollouts/new?from=2").expect(200).text().contains("SN000003</textarea>"));
        let started = chinese.post("/rollouts/2/start", &[("csrf", &csrf), ("count", "2")]).expect(303);
        assert_eq!(started.header("location"), Some("/rollouts/2?done=started"));
    });
}

#[test]
fn a_second_person_approves_and_the_maker_is_told_so() {
    let strict = |config: &mut tillward_server::config::Config| config.approval_from_terminals = 2;
    on_each_database_with(strict, |server| {
        let token = fleet(server, 3);
        let second = operator(server, &token, 1, "approver");
        let maker = browser(server, ADMIN, "en");
        let csrf = maker.csrf();
        maker.post("/rollouts", &with(&csrf, &[])).expect(303);
        let draft = maker.get("/rollouts/1").expect(200).text();
        assert!(draft.contains(r#"action="/rollouts/1/submit""#) && draft.contains("second person"), "{draft}");
        let no_reason = maker.post("/rollouts/1/submit", &[("csrf", &csrf), ("count", "3")]).expect(422).text();
        assert!(no_reason.contains("Give a reason"), "{no_reason}");
        let fields = [("csrf", csrf.as_str()), ("count", "3"), ("why", "a security fix")];
        maker.post("/rollouts/1/submit", &fields).expect(303);
        let waiting = maker.get("/rollouts/1").expect(200).text();
        for shown in ["Asks to start", "a security fix", "You asked for this yourself", "3 terminals will be updated"] {
            assert!(waiting.contains(shown), "{shown}: {waiting}");
        }
        assert!(!waiting.contains("/rollouts/1/approve"));
        let own = maker.post("/rollouts/1/approve", &[("csrf", &csrf)]).expect(409).text();
        assert!(own.contains("nobody approves their own request") || own.contains("Nobody approves"), "{own}");
        // A key that the maker makes is no second person.
        let key = json!({"name": "helper", "role": "approver", "expires_in_days": 1});
        let key = server.post("/api/v1/api-keys", &token, &key).expect(201).json();
        let by_key = server.post("/api/v1/rollouts/1/approve", key["secret"].as_str().unwrap(), &json!({})).expect(409);
        assert!(by_key.text().contains("their own request"), "{}", by_key.text());

        let second = browser(server, &second.login, "en");
        let csrf = second.csrf();
        assert!(second.get("/").expect(200).text().contains("Awaiting approval"), "it is on the overview");
        assert!(second.get("/rollouts/1").expect(200).text().contains("/rollouts/1/approve"));
        assert_eq!(second.post("/rollouts/1/reject", &[("csrf", &csrf)]).status, 422, "a reason is needed");
        let agreed = second.post("/rollouts/1/approve", &[("csrf", &csrf)]).expect(303);
        assert_eq!(agreed.header("location"), Some("/rollouts/1?done=agreed"));
    });
}

#[test]
fn each_waiting_terminal_says_why_and_what_is_dangerous_is_typed() {
    on_each_database(|server| {
        let token = fleet(server, 3);
        let browser = browser(server, ADMIN, "en");
        let csrf = browser.csrf();
        let stages = [("stage_kind_0", "count"), ("stage_0", "1"), ("soak", "1"), ("soak_unit", "d")];
        browser.post("/rollouts", &with(&csrf, &stages)).expect(303);
        browser.post("/rollouts/1/start", &[("csrf", &csrf), ("count", "3")]).expect(303);
        let opened = || server.get("/api/v1/rollouts/1", &token).expect(200).json()["opened"] == 1;
        wait_until("the first stage is open", opened);
        let waiting = browser.get("/rollouts/1?phase=waiting").expect(200).text();
        assert!(waiting.contains("Its stage is not open yet") && waiting.contains("Open now"), "{waiting}");
        let sn = waiting.split("class=\"sn mono\" href=\"/terminals/").nth(1).unwrap().split('"').next().unwrap();
        let terminal = browser.get(&format!("/terminals/{sn}")).expect(200).text();
        assert!(terminal.contains("Update to r1 4.2.0: Queued. Its stage is not open yet."), "{terminal}");

        assert_eq!(browser.post("/rollouts/1/advance", &[("csrf", &csrf)]).status, 422, "a reason is needed");
        let fields = [("csrf", csrf.as_str()), ("why", "seen enough")];
        browser.post("/rollouts/1/advance", &fields).expect(303);
        let last = browser.post("/rollouts/1/advance", &fields).expect(409).text();
        assert!(
            last.contains(r#"id="refused""#) && last.contains("seen enough") || last.contains("last stage"),
            "{last}"
        );

        let part = browser.get("/rollouts/1?part=region%3DWest").expect(200).text();
        assert!(part.contains("Type West to confirm") && part.contains("not installing yet"), "{part}");
        let stop = |confirm| {
            let part = [("attribute", "region"), ("value", "West"), ("why", "bad hour"), ("confirm", confirm)];
            let fields: Vec<_> = [("csrf", csrf.as_str())].into_iter().chain(part).collect();
            browser.post("/rollouts/1/stop-scope", &fields)
        };
        let untyped = stop("East").expect(422).text();
        assert!(untyped.contains("nothing was done") && untyped.contains(r#"value="bad hour""#), "{untyped}");
        assert_eq!(stop("West").expect(303).header("location"), Some("/rollouts/1?done=part_stopped"));
        assert!(browser.get("/rollouts/1").expect(200).text().contains("Parts stopped alone"));

        let end = |confirm| browser.post("/rollouts/1/cancel", &[("csrf", &csrf), ("why", "x"), ("confirm", confirm)]);
        assert_eq!(end("2").status, 422);
        assert_eq!(end("1").expect(303).header("location"), Some("/rollouts/1?done=cancelled"));
    });
}

#[test]
fn an_organization_sees_what_it_was_told_on_its_overview_and_in_a_calendar() {
    on_each_database(|server| {
        let token = fleet(server, 1);
        let east = organization(server, &token, 1, "EAST");
        let west = organization(server, &token, 1, "WEST");
        let told_ms = server.clock.now().0 + 3 * 24 * 3_600_000;
        let body = json!({
            "name": "winter <update>",
            "release_id": 1,
            "strategy": {"announcements": [{"organization_id": east, "not_before_ms": told_ms}]},
        });
        server.post("/api/v1/rollouts", &token, &body).expect(201);
        server.post("/api/v1/rollouts/1/start", &token, &json!({"confirm_count": 1})).expect(200);
        for (id, is_told) in [(east, true), (west, false)] {
            let person = operator(server, &token, id, "org_admin");
            let browser = browser(server, &person.login, "en");
            for path in ["/", "/rollouts/announced"] {
                let page = browser.get(path).expect(200).text();
                assert_eq!(page.contains("winter &#60;update&#62;"), is_told, "{path}: {page}");
                assert!(!page.contains("href=\"/rollouts/1\""), "a rollout that it cannot open is no link");
            }
        }
    });
}

#[test]
fn the_way_back_is_made_on_the_page_from_an_earlier_firmware() {
    on_each_database(|server| {
        let token = fleet(server, 2);
        let payload = server.send("POST", "/api/v1/releases/payloads", &token, &[], b"the good one").expect(201).json();
        let sha256 = payload["sha256"].as_str().unwrap();
        sql(
            server,
            format!(
                "UPDATE releases SET release_counter = 5 WHERE id = 1;
                 UPDATE release_models SET release_counter = 5 WHERE release_id = 1;
                 INSERT INTO releases (id, organization_id, org_path, name, component, firmware_version,
                     release_counter, models, requires, sha256, length_bytes, notes, state, created_by, created_by_name,
                     created_at_ms, version)
                 VALUES (2, 1, '/1/', 'r2', 'os', '4.1.0', 3, '[\"demo-p1\"]', '[]', '{sha256}', 12, '', 'published', 1,
                     'x', 0, 1), (3, 1, '/1/', 'r3', 'os', '4.0.0', 2, '[\"demo-p1\"]', '[]', '{SHA256}', 12, '',
                     'published', 1, 'x', 0, 1);
                 UPDATE id_counters SET next = 10 WHERE name = 'releases'"
            ),
        );
        let browser = browser(server, ADMIN, "en");
        let csrf = browser.csrf();
        browser.post("/rollouts", &with(&csrf, &[])).expect(303);
        browser.post("/rollouts/1/start", &[("csrf", &csrf), ("count", "2")]).expect(303);
        let offered = || server.get("/api/v1/rollouts/1", &token).expect(200).json()["counts"]["offered"] == 2;
        wait_until("both are offered it", offered);
        for terminal in 1..=2 {
            let said = update(order(server, terminal), Phase::Succeeded, None);
            report(server, terminal, Some(said), Some(manifest(terminal, "4.2.0", SHA256)));
        }
        let page = browser.get("/rollouts/1").expect(200).text();
        assert!(page.contains(r#"action="/rollouts/1/again""#) && page.contains("r2 · 4.1.0 · 3"), "{page}");
        assert!(!page.contains(r#"action="/rollouts/1/undo""#), "nothing goes forward to it yet");
        let again = |release: &str| browser.post("/rollouts/1/again", &[("csrf", &csrf), ("release_id", release)]);
        let gone = again("3").expect(422).text();
        assert!(gone.contains("was not uploaded yet"), "{gone}");
        assert_eq!(again("2").expect(303).header("location"), Some("/rollouts/1?done=again"));
        let page = browser.get("/rollouts/1?done=again").expect(200).text();
        assert!(page.contains("A draft was made") && page.contains("r2 · 4.1.0 · 6 · Draft"), "{page}");
        // Somebody approves and publishes it.
        sql(server, "UPDATE releases SET state = 'published' WHERE release_counter = 6".to_owned());
        let page = browser.get("/rollouts/1").expect(200).text();
        assert!(page.contains(r#"action="/rollouts/1/undo""#), "{page}");
        let undo = browser.post("/rollouts/1/undo", &[("csrf", &csrf), ("release_id", "10")]).expect(303);
        assert_eq!(undo.header("location"), Some("/rollouts/2?done=draft"));
        let draft = server.get("/api/v1/rollouts/2", &token).expect(200).json();
        assert_eq!((&draft["parent_id"], &draft["release_version"]), (&json!(1), &json!("4.1.0")));
    });
}
