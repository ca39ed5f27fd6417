//! What people looked up, and the evidence packs that a merchant can be shown.

use diesel::prelude::*;
use serde_json::{Value, json};
use tillward_protocol::ids::TerminalId;
use tillward_server::db;
use tillward_server::db::schema::{evidence_packs, terminals};
use tillward_server::failures::incidents::{self, Kind, Level, NewIncident};
use tillward_server::failures::lookups;

use crate::check_in::{check_in, failure};
use crate::console::Browser;
use crate::feed;
use crate::fixtures::{admin, headquarters, operator, organization, token_of};
use crate::harness::{TestServer, on_each_database, wait_until};

const SN: &str = "EVISN0008929";
const BOUND: &str = "850331053110612";
const OTHER: &str = "850100059980612";

struct World {
    /// Somebody who enters look-ups.
    token: String,
    login: String,
    /// Somebody of another organization.
    stranger: String,
    terminal_id: i64,
    session: String,
}

fn world(server: &TestServer) -> World {
    let token = admin(server);
    let root = headquarters(server, &token);
    let ours = organization(server, &token, root, "OURS");
    let other = organization(server, &token, root, "OTHER");
    server.post("/api/v1/models", &token, &json!({ "code": "demo-m1", "name": "M1" })).expect(201);
    let new = json!({
        "sn": SN, "model": "demo-m1", "organization_id": ours, "merchant_no": BOUND,
        "merchant_name": "杭州好味餐饮店", "store_name": "西湖店",
    });
    let id = server.post("/api/v1/terminals", &token, &new).expect(201).json()["id"].as_i64().unwrap();
    let epoch: Result<i64, db::Error> = server.block_on(
        server.state.db.read(move |conn| Ok(terminals::table.find(id).select(terminals::session_epoch).first(conn)?)),
    );
    let session = server.state.tokens.issue_terminal(TerminalId(id), epoch.unwrap(), server.clock.now()).unwrap();
    let somebody = operator(server, &token, ours, "org_ops");
    World {
        token: somebody.token,
        login: somebody.login,
        stranger: operator(server, &token, other, "org_admin").token,
        terminal_id: id,
        session,
    }
}

/// The terminal reports one payment and one failure, a minute ago.
fn report(server: &TestServer, world: &World) -> i64 {
    let at_ms = server.clock.now().0 - 60_000;
    let mut body = check_in(1, 1);
    body["payments"] = json!([{
        "id": "p1", "occurred_at_ms": at_ms, "transaction": "sale", "amount_fen": 618_187, "batch_no": "000012",
        "trace_no": "000345", "ref_no": "032616123456", "merchant_no_sent": BOUND,
    }]);
    let mut event = failure("e1");
    event["occurred_at_ms"] = json!(at_ms);
    event["in_update"] = json!(false);
    body["failures"] = json!([event]);
    server.post("/device/v1/check-in", &world.session, &body).expect(200);
    at_ms
}

fn seen(at_ms: i64) -> Value {
    json!({
        "sn": SN, "at_ms": at_ms + 120_000, "amount_fen": 618_187, "source": "unionpay_app",
        "merchant_name": "某某加油站", "merchant_no": OTHER, "note": "客户截图已核对",
    })
}

#[test]
fn a_look_up_finds_its_transaction_and_says_what_differs_and_how_sure() {
    on_each_database(|server| {
        let world = world(server);
        let at_ms = report(server, &world);
        let made = server.post("/api/v1/lookups", &world.token, &seen(at_ms)).expect(201).json();
        assert_eq!((&made["event_id"], &made["level"], &made["at_ms"]), (&json!("p1"), &json!("L2"), &json!(at_ms)));
        let verdict = &made["judgement"]["verdict"];
        assert_eq!((&verdict["rule"], &verdict["symptom"]), (&json!("R1"), &json!("S4")), "{made}");
        let by_number = json!({
            "sn": SN, "at_ms": at_ms, "ref_no": "032616123456", "source": "issuer_bill", "merchant_no": BOUND,
        });
        let same = server.post("/api/v1/lookups", &world.token, &by_number).expect(201).json();
        assert_eq!((&same["event_id"], &same["level"]), (&json!("p1"), &json!("L3")));
        assert!(same["judgement"]["verdict"].is_null(), "{same}");
        let unknown = json!({ "sn": SN, "at_ms": at_ms - 86_400_000, "source": "95516", "merchant_no": BOUND });
        let alone = server.post("/api/v1/lookups", &world.token, &unknown).expect(201).json();
        assert!(alone["event_id"].is_null(), "what the terminal did not report is stored as it was typed");

        let coverage = server.get("/api/v1/lookups/coverage", &world.token).expect(200).json();
        assert_eq!(coverage["transactions"], 1);
        let levels = json!([
            {"level": "L1", "checked": 0}, {"level": "L2", "checked": 2}, {"level": "L3", "checked": 1},
        ]);
        assert_eq!(coverage["levels"], levels);
        let elsewhere = server.get("/api/v1/lookups/coverage", &world.stranger).expect(200).json();
        assert!(elsewhere["transactions"].is_null(), "where nothing is reported nobody says of how many: {elsewhere}");
    });
}

/// Incidents of a kind: level and how often each was seen.
fn opened_of(server: &TestServer, world: &World, kind: &str) -> Vec<(String, i64)> {
    let page = server.get(&format!("/api/v1/incidents?kind={kind}"), &world.token).expect(200).json();
    let row = |row: &Value| (row["level"].as_str().unwrap().to_owned(), row["occurrences"].as_i64().unwrap());
    page["items"].as_array().unwrap().iter().map(row).collect()
}

#[test]
fn a_look_up_that_proves_a_switch_opens_the_incident_that_the_channels_row_adds_to() {
    on_each_database(|server| {
        let world = world(server);
        let at_ms = report(server, &world);
        let mut right = seen(at_ms);
        right["merchant_no"] = json!(BOUND);
        right["merchant_name"] = json!("杭州好味餐饮店");
        server.post("/api/v1/lookups", &world.token, &right).expect(201);
        assert_eq!(opened_of(server, &world, "merchant_switch"), Vec::<(String, i64)>::new());
        server.post("/api/v1/lookups", &world.token, &seen(at_ms)).expect(201);
        let opened = opened_of(server, &world, "merchant_switch");
        assert_eq!((opened.len(), opened[0].1), (1, 1), "{opened:?}");
        let page = server.get("/api/v1/incidents?kind=merchant_switch", &world.token).expect(200).json();
        let path = format!("/api/v1/incidents/{}", page["items"][0]["id"]);
        let detail = server.get(&path, &world.token).expect(200).json();
        assert_eq!(detail["incident"]["subject"], format!("{BOUND} · {SN}"));
        assert!(detail["evidence"]["item"].as_str().unwrap().starts_with("lookup:"), "{detail}");
        assert_eq!(detail["terminals"][0]["sn"], SN);
        // On its page what the rules looked at has words, and there is a way to what was looked up.
        let page = Browser::signed_in(server, &world.login).get(path.trim_start_matches("/api/v1")).expect(200).text();
        for shown in ["Merchant number settled", "evidence level", "97%", &format!("href=\"/lookups?sn={SN}\"")] {
            assert!(page.contains(shown), "{shown}: {page}");
        }
        let (shown, raw) = page.split_once("<pre class=\"raw\">").unwrap();
        for name in ["merchant_no", "merchant no settled", "tables_version", "tables version", "not_checked"] {
            assert!(!shown.contains(name) && (name.contains(' ') || raw.contains(name)), "{name}: {page}");
        }
        // The channel's own row is under review until somebody says that the number is foreign.
        settled_at(server, &world, at_ms, OTHER);
        let number = server.get("/api/v1/merchant-numbers", &world.token).expect(200).json()["items"][0].clone();
        let foreign = format!("/api/v1/merchant-numbers/{}/foreign", number["id"]);
        server.post(&foreign, &world.token, &json!({ "reason": "核对账单，不是本商户" })).expect(200);
        wait_until("the channel's row adds to it", || {
            opened_of(server, &world, "merchant_switch") == [(opened[0].0.clone(), 2)]
        });
        let stranger = server.get("/api/v1/incidents?kind=merchant_switch", &world.stranger).expect(200).json();
        assert_eq!(stranger["items"], json!([]));
    });
}

#[test]
fn from_an_incident_there_is_a_way_to_the_transaction_that_it_is_about() {
    on_each_database(|server| {
        let world = world(server);
        let browser = Browser::signed_in(server, &world.login);
        let (terminal_id, now) = (world.terminal_id, server.clock.now());
        let path = server.get(&format!("/api/v1/terminals/{terminal_id}"), &world.token).expect(200).json();
        let org_path = path["org_path"].as_str().unwrap_or_else(|| panic!("{path}")).to_owned();
        for (item, address) in [
            ("feed:64", "/reconciliation/settlements/64".to_owned()),
            ("feed:x", String::new()),
            ("payment:p1", format!("/terminals/{SN}/transactions/p1")),
            ("e9", format!("/terminals/{SN}/transactions/e9")),
            ("lookup:3", format!("/lookups?sn={SN}")),
        ] {
            let new = NewIncident {
                kind: Kind::MerchantSwitch,
                level: Level::P3,
                org_path: org_path.clone(),
                key: item.to_owned(),
                subject: item.to_owned(),
                evidence: json!({"cause": "CHN.SWITCH", "severity": "low", "item": item}),
                rollout_id: None,
                release_id: None,
                terminal_ids: vec![terminal_id],
                affected: 1,
            };
            let opened: Result<i64, db::Error> =
                server.block_on(server.state.db.write(move |conn| incidents::open(conn, new, now)));
            let page = browser.get(&format!("/incidents/{}", opened.unwrap())).expect(200).text();
            let link =
                page.split_once("\">Show the transaction</a>").map(|(before, _)| before.rsplit_once('"').unwrap().1);
            assert_eq!(link, Some(address.as_str()).filter(|address| !address.is_empty()), "{item}: {page}");
        }
    });
}

#[test]
fn a_look_up_of_what_failed_at_the_terminal_says_that_one_side_alone_knows_it() {
    on_each_database(|server| {
        let world = world(server);
        let at_ms = server.clock.now().0 - 4 * 86_400_000;
        let mut event = failure("e9");
        event["occurred_at_ms"] = json!(at_ms);
        event["ref_no"] = json!("032616000009");
        let mut body = check_in(1, 1);
        body["failures"] = json!([event]);
        server.post("/device/v1/check-in", &world.session, &body).expect(200);
        let by_number = json!({
            "sn": SN, "at_ms": at_ms + 300_000, "ref_no": "032616000009", "source": "95516", "merchant_no": BOUND,
        });
        let made = server.post("/api/v1/lookups", &world.token, &by_number).expect(201).json();
        assert_eq!(
            (&made["event_id"], &made["judgement"]["verdict"]["symptom"]),
            (&json!("e9"), &json!("S3")),
            "{made}"
        );
        assert_eq!(opened_of(server, &world, "settlement_missing").len(), 1);
        // The issuer's bill says the same of the same payment.
        let by_event = json!({"sn": SN, "event_id": "e9", "source": "issuer_bill", "merchant_no": BOUND});
        server.post("/api/v1/lookups", &world.token, &by_event).expect(201);
        let opened = opened_of(server, &world, "settlement_missing");
        assert_eq!((opened.len(), opened[0].1), (1, 2), "{opened:?}");
    });
}

#[test]
fn a_look_up_of_what_may_still_be_reversed_is_judged_again_when_it_no_longer_can_be() {
    on_each_database(|server| {
        let world = world(server);
        let mut event = failure("e9");
        event["occurred_at_ms"] = json!(server.clock.now().0 - 3_600_000);
        let mut body = check_in(1, 1);
        body["failures"] = json!([event]);
        server.post("/device/v1/check-in", &world.session, &body).expect(200);
        let seen = |source: &str| json!({"sn": SN, "event_id": "e9", "source": source, "merchant_no": BOUND});
        let made = server.post("/api/v1/lookups", &world.token, &seen("95516")).expect(201).json();
        assert_eq!(made["judgement"]["verdict"], Value::Null, "{made}");
        let mistaken = server.post("/api/v1/lookups", &world.token, &seen("issuer_bill")).expect(201).json();
        let mistaken = mistaken["id"].as_str().unwrap();
        server.post(&format!("/api/v1/lookups/{mistaken}/withdraw"), &world.token, &json!({})).expect(200);
        let judge = || server.block_on(lookups::judge_due(&server.state.db, server.clock.now())).unwrap();
        server.clock.advance_ms(70 * 3_600_000);
        let world = World { token: token_of(server, &world.login), ..world };
        judge();
        assert_eq!(opened_of(server, &world, "settlement_missing").len(), 0);
        server.clock.advance_ms(2 * 3_600_000);
        let world = World { token: token_of(server, &world.login), ..world };
        // Once, however often it is looked for.
        judge();
        judge();
        let opened = opened_of(server, &world, "settlement_missing");
        assert_eq!((opened.len(), opened[0].1), (1, 1), "{opened:?}");
        let page = server.get("/api/v1/lookups", &world.token).expect(200).json();
        assert_eq!(page["items"][0]["judgement"]["verdict"]["symptom"], "S3", "{page}");
    });
}

#[test]
fn two_transactions_that_fit_are_no_match() {
    on_each_database(|server| {
        let world = world(server);
        let at_ms = report(server, &world);
        let mut body = check_in(1, 2);
        body["payments"] = json!([{
            "id": "p2", "occurred_at_ms": at_ms + 1_000, "transaction": "sale", "amount_fen": 618_187,
        }]);
        server.post("/device/v1/check-in", &world.session, &body).expect(200);
        let made = server.post("/api/v1/lookups", &world.token, &seen(at_ms)).expect(201).json();
        assert!(made["event_id"].is_null(), "{made}");
    });
}

#[test]
fn a_mistake_is_taken_back_once_and_stays_readable() {
    on_each_database(|server| {
        let world = world(server);
        let at_ms = report(server, &world);
        let made = server.post("/api/v1/lookups", &world.token, &seen(at_ms)).expect(201).json();
        let at = format!("/api/v1/lookups/{}/withdraw", made["id"].as_str().unwrap());
        server.post(&at, &world.stranger, &json!({})).expect(404);
        server.post(&at, &world.token, &json!({})).expect(200);
        server.post(&at, &world.token, &json!({})).expect(409);
        let listed = |query: &str| {
            let page = server.get(&format!("/api/v1/lookups?{query}"), &world.token).expect(200).json();
            page["items"].as_array().unwrap().len()
        };
        assert_eq!((listed(""), listed("with_withdrawn=true")), (0, 1));
        let coverage = server.get("/api/v1/lookups/coverage", &world.token).expect(200).json();
        assert_eq!(coverage["levels"][1]["checked"], 0);
    });
}

#[test]
fn card_data_and_somebody_elses_terminal_are_refused() {
    on_each_database(|server| {
        let world = world(server);
        let at_ms = report(server, &world);
        let mut card = seen(at_ms);
        card["note"] = json!("6222021234567890128");
        let answer = server.post("/api/v1/lookups", &world.token, &card).expect(422);
        assert_eq!(answer.json()["field"], "note");
        assert!(!answer.text().contains("6222"));
        let refused = server.post("/api/v1/lookups", &world.stranger, &seen(at_ms)).expect(422).json();
        assert_eq!(refused["field"], "sn");
        let mut wrong = seen(at_ms);
        wrong["event_id"] = json!("nobody-s");
        let refused = server.post("/api/v1/lookups", &world.token, &wrong).expect(422).json();
        assert_eq!(refused["field"], "event_id");
    });
}

fn make(server: &TestServer, world: &World, event_id: &str) -> Value {
    let new = json!({ "terminal_id": world.terminal_id, "event_id": event_id });
    server.post("/api/v1/evidence-packs", &world.token, &new).expect(201).json()
}

fn part<'a>(pack: &'a Value, name: &str) -> &'a Value {
    let parts = pack["content"]["parts"].as_array().unwrap();
    &parts.iter().find(|part| part["part"] == name).unwrap()["known"]
}

#[test]
fn a_pack_of_a_payment_excludes_the_network_and_shows_the_end_of_the_serial_number_alone() {
    on_each_database(|server| {
        let world = world(server);
        let at_ms = report(server, &world);
        server.post("/api/v1/lookups", &world.token, &seen(at_ms)).expect(201);
        let pack = make(server, &world, "p1");
        assert_eq!(pack["content"]["transaction"]["sn_tail"], "8929");
        assert!(!pack["content"].to_string().contains(SN));
        assert_eq!((part(&pack, "network"), part(&pack, "config")), (&json!("excluded"), &json!("excluded")));
        assert_eq!(part(&pack, "update"), "not_checked", "nothing was recorded about it");
        assert_eq!(pack["content"]["lookups"][0]["merchant_no"], OTHER);
        assert_eq!(pack["content"]["judgements"][0]["judgement"]["verdict"]["cause"], "CHN.SWITCH");
        assert_eq!(
            (&pack["content"]["coverage_of"], &pack["content"]["coverage"][1]["checked"]),
            (&json!(1), &json!(1))
        );
    });
}

/// A channel of ours tells that the payment settled at this merchant; waits until it is compared.
fn settled_at(server: &TestServer, world: &World, at_ms: i64, merchant_no: &str) {
    let made = server.post("/api/v1/feed-channels", &world.token, &json!({ "name": "渠道甲" })).expect(201).json();
    let file = format!(
        "流水号,机具序列号,商户编号,商户名称,交易金额,结算金额,手续费,提现费,参考号,交易时间,交易状态\n\
         1,{SN},{merchant_no},杭州好味餐饮店,6181.87,6181.87,0,0,032616123456,{},成功\n",
        feed::moment(at_ms),
    );
    let import = feed::import(server, &world.token, made["channel"]["id"].as_i64().unwrap(), file.as_bytes());
    assert_eq!(feed::counts(&import), [1, 0, 0, 0], "{import}");
    feed::summary(server, &world.token);
}

/// What a pack says about what the channel settled.
fn said_of_the_settlement(pack: &Value) -> Value {
    let judgements = pack["content"]["judgements"].as_array().unwrap();
    let of_channel: Vec<&Value> = judgements.iter().filter(|judged| judged["level"] == "L1").collect();
    assert_eq!(of_channel.len(), 1, "{pack}");
    of_channel[0]["judgement"].clone()
}

#[test]
fn an_approved_number_of_the_merchant_is_in_order_in_look_ups_and_in_packs() {
    on_each_database(|server| {
        let world = world(server);
        let at_ms = report(server, &world);
        let alias = json!({ "bound_no": BOUND, "number": OTHER, "reason": "扫码收款的商户号" });
        let asked = server.post("/api/v1/merchant-numbers", &world.token, &alias).expect(201).json();
        let admin = token_of(server, crate::fixtures::ADMIN);
        let approve = format!("/api/v1/merchant-numbers/{}/approve", asked["id"]);
        assert_eq!(server.post(&approve, &admin, &json!({})).expect(200).json()["state"], "alias");
        let mut same = seen(at_ms);
        same["merchant_name"] = json!("杭州好味餐饮店");
        let looked_up = server.post("/api/v1/lookups", &world.token, &same).expect(201).json();
        assert!(looked_up["judgement"]["verdict"].is_null(), "{looked_up}");
        settled_at(server, &world, at_ms, OTHER);
        let pack = make(server, &world, "p1");
        assert!(said_of_the_settlement(&pack)["verdict"].is_null(), "{pack}");
    });
}

#[test]
fn a_pack_says_of_a_settlement_what_was_said_when_it_was_compared() {
    on_each_database(|server| {
        let world = world(server);
        let at_ms = report(server, &world);
        settled_at(server, &world, at_ms, OTHER);
        let number = server.get("/api/v1/merchant-numbers", &world.token).expect(200).json()["items"][0].clone();
        let foreign = format!("/api/v1/merchant-numbers/{}/foreign", number["id"]);
        server.post(&foreign, &world.token, &json!({ "reason": "核对账单，不是本商户" })).expect(200);
        wait_until("the payment is looked at again", || {
            server.get("/api/v1/reconciliation", &world.token).expect(200).json()["s4_switched"] == 1
        });
        let listed = server.get("/api/v1/settlements?result=switched", &world.token).expect(200).json();
        let at = format!("/api/v1/settlements/{}", listed["items"][0]["id"]);
        let compared = server.get(&at, &world.token).expect(200).json()["judgement"].clone();
        assert_eq!(compared["verdict"]["standing"], "proven", "{compared}");
        let pack = make(server, &world, "p1");
        assert_eq!(said_of_the_settlement(&pack), compared);
    });
}

#[test]
fn a_pack_of_a_failure_has_the_circumstances_that_the_event_carried() {
    on_each_database(|server| {
        let world = world(server);
        report(server, &world);
        let pack = make(server, &world, "e1");
        let content = &pack["content"];
        assert_eq!(
            (&content["transaction"]["outcome"], &content["moment"]["source"]),
            (&json!("failed"), &json!("event"))
        );
        assert_eq!(content["moment"]["condition"]["rssi_dbm"], -101);
        assert_eq!((part(&pack, "network"), part(&pack, "update")), (&json!("excluded"), &json!("excluded")));
        assert_eq!(content["judgements"][0]["judgement"]["verdict"]["rule"], "R6");
    });
}

#[test]
fn a_pack_proves_itself_by_the_audit_log_and_a_changed_one_does_not() {
    on_each_database(|server| {
        let world = world(server);
        report(server, &world);
        let pack = make(server, &world, "p1");
        let id = pack["id"].as_str().unwrap().to_owned();
        let at = format!("/api/v1/evidence-packs/{id}");
        let shown = server.get(&at, &world.token).expect(200).json();
        assert_eq!(shown["pack"], pack);
        assert_eq!(shown["proof"]["is_intact"], true);
        assert!(shown["proof"]["audit_seq"].as_i64() > Some(0));
        let by_hash = format!("/api/v1/evidence-packs?sha256={}", pack["sha256"].as_str().unwrap());
        assert_eq!(server.get(&by_hash, &world.token).expect(200).json()["items"][0]["id"], id.as_str());
        server.get(&at, &world.stranger).expect(404);
        let refused = json!({ "terminal_id": world.terminal_id, "event_id": "p1" });
        server.post("/api/v1/evidence-packs", &world.stranger, &refused).expect(422);

        let changed = id.clone();
        let change: Result<(), db::Error> = server.block_on(server.state.db.write(move |conn| {
            let row = evidence_packs::table.find(changed);
            let content: String = row.clone().select(evidence_packs::content).first(conn)?;
            let content = content.replace("618187", "618188");
            let sha256: String = tillward_protocol::ids::Sha256Hex::of(content.as_bytes()).into();
            // Even with a hash that fits: the audit log has another one.
            let values = (evidence_packs::content.eq(content), evidence_packs::sha256.eq(sha256));
            diesel::update(row).set(values).execute(conn)?;
            Ok(())
        }));
        change.unwrap();
        assert_eq!(server.get(&at, &world.token).expect(200).json()["proof"]["is_intact"], false);
    });
}

#[test]
fn a_pack_is_a_pdf_in_both_languages_for_its_owner_alone() {
    on_each_database(|server| {
        let world = world(server);
        let at_ms = report(server, &world);
        server.post("/api/v1/lookups", &world.token, &seen(at_ms)).expect(201);
        let pack = make(server, &world, "p1");
        let at = format!("/api/v1/evidence-packs/{}/pdf", pack["id"].as_str().unwrap());
        for language in ["zh-CN", "en"] {
            let file = server.get(&format!("{at}?language={language}"), &world.token).expect(200);
            assert_eq!(file.header("content-type"), Some("application/pdf"));
            assert!(file.header("content-disposition").unwrap().contains(".pdf"));
            assert!(file.body.starts_with(b"%PDF-") && file.body.len() < 200_000, "{} bytes", file.body.len());
        }
        server.get(&format!("{at}?language=fr"), &world.token).expect(422);
        server.get(&at, &world.stranger).expect(404);
    });
}

#[test]
fn there_are_only_so_many_packs_of_one_transaction() {
    on_each_database(|server| {
        let world = world(server);
        report(server, &world);
        for _ in 0..50 {
            make(server, &world, "p1");
        }
        let new = json!({ "terminal_id": world.terminal_id, "event_id": "p1" });
        server.post("/api/v1/evidence-packs", &world.token, &new).expect(409);
        make(server, &world, "e1");
    });
}

#[test]
fn the_pages_speak_of_what_differs_and_never_of_who_is_to_blame() {
    on_each_database(|server| {
        let world = world(server);
        let at_ms = report(server, &world);
        server.post("/api/v1/lookups", &world.token, &seen(at_ms)).expect(201);
        let pack = make(server, &world, "p1");
        let admin = token_of(server, crate::fixtures::ADMIN);
        let root = headquarters(server, &admin);
        let at = format!("/evidence-packs/{}", pack["id"].as_str().unwrap());
        let readers = ["zh-CN", "en"].map(|language| {
            let login = format!("reader.{}", language.to_lowercase());
            let new = json!({
                "organization_id": root, "login": login, "name": "Reader", "password": crate::fixtures::PASSWORD,
                "role": "org_admin", "language": language,
            });
            server.post("/api/v1/operators", &admin, &new).expect(201);
            Browser::signed_in(server, &login)
        });
        for address in [
            "/lookups".to_owned(),
            format!("/lookups?sn={SN}"),
            format!("/terminals/{SN}/transactions/p1"),
            format!("/terminals/{SN}/transactions/e1"),
            at.clone(),
        ] {
            for reader in &readers {
                let page = reader.get(&address).expect(200).text();
                for never in ["跳码", "拉卡拉", "Lakala", "fraud", "欺诈"] {
                    assert!(!page.contains(never), "{address} says {never}");
                }
                if address.contains("evidence-packs") {
                    assert!(!page.contains(SN), "{address} shows the whole serial number");
                    assert!(page.contains(OTHER) && page.contains("R1"), "{address}");
                }
            }
        }
        let words = [
            "结算商户与绑定不一致（渠道侧，CHN.SWITCH）",
            "Settled merchant differs from the binding (channel side, CHN.SWITCH)",
        ];
        for (reader, words) in readers.iter().zip(words) {
            assert!(reader.get(&at).expect(200).text().contains(words), "{words}");
        }
    });
}

#[test]
fn a_look_up_is_typed_and_a_pack_made_and_printed_in_the_console() {
    on_each_database(|server| {
        let world = world(server);
        report(server, &world);
        let browser = Browser::signed_in(server, crate::fixtures::ADMIN);
        let csrf = browser.csrf();
        let transaction = format!("/terminals/{SN}/transactions/p1");
        let typed = [
            ("csrf", csrf.as_str()),
            ("sn", SN),
            ("event_id", "p1"),
            ("source", "95516"),
            ("merchant_name", "某某加油站"),
            ("merchant_no", OTHER),
            ("note", ""),
        ];
        let answer = browser.post("/lookups", &typed);
        let expected = format!("{transaction}?done=lookup");
        assert_eq!((answer.status, answer.header("location")), (303, Some(expected.as_str())), "{}", answer.text());
        let made = browser.post(&format!("{transaction}/pack"), &[("csrf", &csrf)]);
        let at = made.header("location").unwrap().split('?').next().unwrap().to_owned();
        assert!(browser.get(&at).expect(200).text().contains("95516"));
        let file = browser.get(&format!("{at}/pdf")).expect(200);
        assert!(file.body.starts_with(b"%PDF-"));
        let listed = server.get("/api/v1/lookups", &world.token).expect(200).json();
        let id = listed["items"][0]["id"].as_str().unwrap().to_owned();
        let back = browser.post(&format!("/lookups/{id}/withdraw"), &[("csrf", &csrf)]);
        assert_eq!(back.header("location"), Some("/lookups?done=lookup_withdrawn"));
        let wrong =
            browser.post("/lookups", &[("csrf", csrf.as_str()), ("sn", SN), ("source", "95516"), ("amount", "1,5")]);
        assert_eq!(wrong.status, 422);
    });
}
