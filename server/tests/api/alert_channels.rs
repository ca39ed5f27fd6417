//! Channels of every kind: robots and mail get what they want, as fast as they take it, and nobody sees their secrets.

use std::sync::{Arc, Mutex};

use diesel::prelude::*;
use serde_json::{Value, json};
use tillward_server::alerts::{self, BACK_OFF_MS_MAX, BATCH_MAX, LEASE_MS, REFUSALS_MAX, Sender};
use tillward_server::clock::Clock;
use tillward_server::config::{Config, SmtpTls};
use tillward_server::console;
use tillward_server::db::schema::alert_channels;
use tillward_server::db::{Db, Error, Location};
use tillward_server::failures::incidents::{self, Level, NewIncident};
use tillward_server::vault::Vault;

use crate::harness::{TestServer, on_each_database, on_each_database_with, wait_until};
use crate::incidents::{halted, open};
use crate::mailbox::Mailbox;
use crate::receiver::{Address, Receiver, Reply};
use crate::seed::{self, Tree};

const KEY: &str = "0123456789abcdefTAIL";

/// An address as the settings of a group robot show it.
fn robot(kind: &str) -> Value {
    let url = match kind {
        "wecom" => format!("https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key={KEY}"),
        "dingtalk" => format!("https://oapi.dingtalk.com/robot/send?access_token={KEY}"),
        _ => format!("https://open.feishu.cn/open-apis/bot/v2/hook/{KEY}"),
    };
    json!({ "kind": kind, "url": url })
}

fn with(mut value: Value, more: Value) -> Value {
    value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    value
}

fn make(server: &TestServer, token: &str, transport: Value, more: Value) -> i64 {
    let new = with(json!({ "name": "值班群", "transport": transport }), more);
    let made = server.post("/api/v1/alert-channels", token, &new).expect(201).json();
    assert_eq!(made["secret"], "", "only webhooks have a secret of the server's");
    made["channel"]["id"].as_i64().unwrap()
}

/// One that nobody is reminded of soon.
fn calm(number: i64) -> NewIncident {
    NewIncident { level: Level::P3, ..halted(number) }
}

fn deliveries(server: &TestServer, token: &str, query: &str) -> Vec<Value> {
    let page = server.get(&format!("/api/v1/alert-deliveries?size=100{query}"), token).expect(200).json();
    page["items"].as_array().unwrap().clone()
}

fn patch(server: &TestServer, token: &str, id: i64, change: Value) -> crate::harness::Answer {
    let path = format!("/api/v1/alert-channels/{id}");
    let headers = [("content-type", "application/json")];
    server.send("PATCH", &path, token, &headers, change.to_string().as_bytes())
}

/// Runs on each database, with robots found at this address.
fn with_robots_at(at: Address, test: impl Fn(&TestServer)) {
    let url = format!("http://127.0.0.1:{}", at.0);
    on_each_database_with(
        |config| {
            config.robots_url = Some(url.clone());
            config.public_url = Some("https://console.example".to_owned());
        },
        test,
    );
}

#[test]
fn each_robot_is_written_to_in_its_own_form_until_it_says_that_it_has_the_message() {
    let at = Address::free();
    with_robots_at(at, |server| {
        let tree = Tree::plant(server);
        let receiver = Receiver::start(at, |n, _| {
            // All of them answer 200; the first three messages are not in the group.
            let code = if n <= 3 { 93_000 } else { 0 };
            Reply::Json(
                json!({ "errcode": if n <= 3 { code.max(310_000) } else { 0 }, "code": if n <= 3 { 19_024 } else { 0 } }),
            )
        });
        let mention = json!({ "mention": { "mobiles": ["13800001111"] } });
        make(server, &tree.east_admin, with(robot("wecom"), json!({ "prefix": "拉卡拉" })), json!({}));
        let signed = with(with(robot("dingtalk"), mention), json!({ "secret": "SECtest0123456789" }));
        make(server, &tree.east_admin, signed, json!({}));
        let signed = with(robot("feishu"), json!({ "secret": "feishu-test-secret" }));
        make(server, &tree.east_admin, signed, json!({ "language": "en" }));
        // Urgent, so that the hour of the day plays no part.
        let subject = "NW881207301 <at id=all>".to_owned();
        let id = open(server, NewIncident { subject, ..halted(1) });
        wait_until("each was tried", || receiver.received().len() >= 3);
        wait_until("and the failures are noted", || {
            deliveries(server, &tree.east_ops, "&state=pending").iter().filter(|line| line["error"] != "").count() == 3
        });
        wait_until("each has it", || {
            server.clock.advance_ms(2_000);
            deliveries(server, &tree.east_ops, "&state=sent").len() == 3
        });
        let received = receiver.received();
        let to = |lead: &str| received.iter().rfind(|request| request.head.starts_with(lead)).unwrap();
        let link = format!("https://console.example/incidents/{id}");
        let wecom = to("POST /cgi-bin/webhook/send?key=").json();
        let text = wecom["markdown"]["content"].as_str().unwrap();
        assert!(
            text.starts_with("## <font color=\"warning\">拉卡拉 P1 升级任务“…7301 ‹at id=all›”已熔断</font>"),
            "{text}"
        );
        assert!(text.contains("> 组织：EAST 有限公司\n") && text.contains(&link), "{text}");
        let dingtalk = to("POST /robot/send?access_token=");
        assert!(dingtalk.head.contains("&timestamp=") && dingtalk.head.contains("&sign="), "{}", dingtalk.head);
        assert_eq!(dingtalk.json()["at"], json!({ "atMobiles": ["13800001111"], "isAtAll": false }));
        let feishu = to("POST /open-apis/bot/v2/hook/").json();
        assert_eq!(feishu["card"]["header"]["template"], "red");
        assert!(feishu["timestamp"].is_string() && feishu["sign"].is_string());
        assert_eq!(feishu["card"]["elements"][1]["actions"][0]["text"]["content"], "Open", "in the channel's language");
        assert!(received.iter().all(|request| !String::from_utf8_lossy(&request.body).contains("881207301")));
    });
}

#[test]
fn a_burst_becomes_one_message_and_a_robot_gets_no_more_than_it_takes() {
    let at = Address::free();
    with_robots_at(at, |server| {
        let tree = Tree::plant(server);
        let receiver = Receiver::start(at, |_, _| Reply::Json(json!({ "errcode": 0 })));
        let id = make(server, &tree.east_admin, robot("wecom"), json!({}));
        // While it is paused nothing is sent and nothing is lost.
        let paused = patch(server, &tree.east_admin, id, json!({ "version": 1, "paused": true })).expect(200).json();
        assert!(paused["paused_at_ms"].is_i64());
        let burst = i64::try_from(BATCH_MAX).unwrap() + 1;
        for number in 1..=burst {
            open(server, calm(number));
        }
        assert_eq!(deliveries(server, &tree.east_ops, "&state=pending").len(), BATCH_MAX + 1);
        assert_eq!(receiver.received().len(), 0);
        patch(server, &tree.east_admin, id, json!({ "version": 2, "paused": false })).expect(200);
        wait_until("all have gone", || deliveries(server, &tree.east_ops, "&state=sent").len() == BATCH_MAX + 1);
        let messages = receiver.received();
        assert_eq!(messages.len(), 2, "fifty in one, and one that was left");
        let text = messages[0].json()["markdown"]["content"].as_str().unwrap().to_owned();
        assert!(text.contains("50 条告警（P3 50）") && text.contains("另有 30 条"), "{text}");
        assert!(text.len() <= 4_096);

        // Of the six at once two are used up.
        let path = format!("/api/v1/alert-channels/{id}/test");
        let tries: Vec<Value> =
            (0..6).map(|_| server.post(&path, &tree.east_admin, &json!({})).expect(200).json()).collect();
        let accepted = tries.iter().filter(|ended| ended["accepted"] == true).count();
        assert!((4..=5).contains(&accepted), "{tries:?}");
        assert!(tries[5]["error"].as_str().unwrap().contains("too many messages"), "{tries:?}");
        // What comes now waits for its turn, together.
        let before = receiver.received().len();
        for number in 100..103 {
            open(server, calm(number));
        }
        assert_eq!(deliveries(server, &tree.east_ops, "&state=pending").len(), 3);
        wait_until("they go", || {
            server.clock.advance_ms(500);
            deliveries(server, &tree.east_ops, "&state=sent").len() == BATCH_MAX + 4
        });
        assert_eq!(receiver.received().len(), before + 1);
    });
}

#[test]
fn mail_waits_for_a_server_that_is_away_and_goes_to_each_recipient_that_it_knows() {
    let at = Address::free();
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "hush\n").unwrap();
    let settings = |config: &mut Config| {
        config.smtp_host = Some("127.0.0.1".to_owned());
        config.smtp_port = Some(at.0);
        config.smtp_tls = SmtpTls::None;
        config.smtp_user = Some("alerts".to_owned());
        config.smtp_password_file = Some(password.clone());
        config.smtp_from = Some("Tillward <alerts@example.com>".to_owned());
        config.public_url = Some("https://console.example/".to_owned());
    };
    on_each_database_with(settings, |server| {
        let tree = Tree::plant(server);
        let to = json!({ "kind": "email", "to": ["zhang.san@example.com", "li.si@example.com"], "prefix": "[lab]" });
        let id = make(server, &tree.east_admin, to, json!({ "language": "en" }));
        open(server, calm(1));
        let line = || deliveries(server, &tree.east_ops, "")[0].clone();
        let shown = || server.get(&format!("/api/v1/alert-channels/{id}"), &tree.east_ops).expect(200).json();
        wait_until("a first attempt", || line()["attempts"].as_i64() >= Some(1));
        assert_eq!(
            (&line()["state"], &line()["error"]),
            (&json!("pending"), &json!("the mail server cannot be reached"))
        );
        // It comes up and knows nobody: that is no fault of the alert, however often it is tried.
        let known = Arc::new(Mutex::new(Vec::<&'static str>::new()));
        let mailbox = Mailbox::start(at, {
            let known = Arc::clone(&known);
            move |recipient: &str| {
                if known.lock().unwrap().iter().any(|name| recipient.contains(*name)) { 250 } else { 550 }
            }
        });
        let before = line()["attempts"].as_i64().unwrap();
        wait_until("it is refused again and again", || {
            server.clock.advance_ms(5_000);
            line()["status"] == 550 && line()["attempts"].as_i64().unwrap() > before + REFUSALS_MAX
        });
        assert_eq!(line()["state"], "pending");
        assert_eq!(line()["error"], "the mail server refused it with 550", "and nothing of what the server said");
        // It knows one of the two: that one has the mail, and the channel says who does not.
        known.lock().unwrap().push("zhang.san");
        server.clock.advance_ms(BACK_OFF_MS_MAX);
        wait_until("one has the mail", || line()["state"] == "sent");
        let partly = "the others have it; the mail server did not take it for l***@example.com";
        assert_eq!((&line()["error"], &shown()["last_error"]), (&json!(partly), &json!(partly)));
        assert_eq!(shown()["failures"], 0);
        let mail = mailbox.mails()[0].clone();
        assert_eq!(mailbox.mails().len(), 1);
        assert!(mail.user.contains("PLAIN"), "{mail:?}");
        assert!(mail.from.contains("<alerts@example.com>"), "{mail:?}");
        assert!(mail.to.len() == 1 && mail.to[0].contains("zhang.san"), "{mail:?}");
        assert!(mail.header("Subject").contains("[lab]"), "{mail:?}");
        assert!(mail.header("Message-ID").starts_with("<tillward-"), "{mail:?}");
        // It knows both: one mail goes to both of them.
        known.lock().unwrap().push("li.si");
        let ended = server.post(&format!("/api/v1/alert-channels/{id}/test"), &tree.east_admin, &json!({}));
        assert_eq!(ended.expect(200).json(), json!({ "accepted": true, "status": 250, "error": "" }));
        wait_until("the mail is there", || mailbox.mails().len() == 2);
        let mails = mailbox.mails();
        assert_eq!(mails[1].to.len(), 2, "{mails:?}");
        assert!(mails[1].text.contains("Tillward test message"), "{mails:?}");
        assert_eq!(shown()["target"], "z***@example.com, l***@example.com");
    });
}

#[test]
fn mail_without_a_mail_server_says_so_and_waits() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let to = json!({ "kind": "email", "to": ["a@example.com"] });
        let id = make(server, &tree.east_admin, to, json!({}));
        let ended = server.post(&format!("/api/v1/alert-channels/{id}/test"), &tree.east_admin, &json!({}));
        assert_eq!(ended.expect(200).json()["error"], "no mail server is set on this server");
        open(server, halted(1));
        wait_until("it was tried", || deliveries(server, &tree.east_ops, "")[0]["attempts"].as_i64() >= Some(1));
        assert_eq!(deliveries(server, &tree.east_ops, "")[0]["state"], "pending");
    });
}

/// What the database holds of how a channel is reached.
fn stored(server: &TestServer, id: i64) -> String {
    let read = server.state.db.read(move |conn| {
        alert_channels::table.find(id).select(alert_channels::transport).first::<String>(conn).map_err(Error::from)
    });
    server.block_on(read).unwrap()
}

#[test]
fn secrets_are_sealed_in_the_database_and_masked_in_every_answer() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let mention = json!({ "mention": { "mobiles": ["13800001111"], "everybody": true, "level": "P2" } });
        let transport = with(with(robot("dingtalk"), mention), json!({ "secret": "SECtest0123456789" }));
        let id = make(server, &tree.east_admin, transport, json!({}));
        let held = stored(server, id);
        assert!(held.starts_with("v1."), "{held}");
        for path in [
            "/api/v1/alert-channels".to_owned(),
            format!("/api/v1/alert-channels/{id}"),
            "/api/v1/audit".to_owned(),
            "/api/v1/alert-deliveries".to_owned(),
        ] {
            let text = server.get(&path, &tree.admin).expect(200).text();
            for secret in [KEY, "SECtest0123456789", "13800001111", held.as_str()] {
                assert!(!text.contains(secret), "{path}: {text}");
            }
        }
        let shown = server.get(&format!("/api/v1/alert-channels/{id}"), &tree.east_ops).expect(200).json();
        assert_eq!(
            (&shown["kind"], &shown["origin"], &shown["target"], &shown["is_signed"]),
            (&json!("dingtalk"), &json!("https://oapi.dingtalk.com"), &json!("…TAIL"), &json!(true))
        );
        let masked = json!({ "mobiles": ["138****1111"], "everybody": true, "level": "P2" });
        assert_eq!(shown["mention"], masked);
        // Who sends back what was shown changes nothing.
        let same = json!({ "version": 1, "mention": masked, "name": "夜班" });
        let changed = patch(server, &tree.east_admin, id, same).expect(200).json();
        assert_eq!((&changed["name"], &changed["version"], &changed["mention"]), (&json!("夜班"), &json!(2), &masked));
        patch(server, &tree.east_admin, id, json!({ "version": 1, "name": "late" })).expect(409);
        for (change, field) in [
            (json!({ "url": "https://evil.example/robot/send?access_token=0123456789" }), "transport.url"),
            (json!({ "to": ["a@example.com"] }), "to"),
            (json!({ "batch_s": 3_601 }), "batch_s"),
            (json!({ "rate_per_min": 96 }), "rate_per_min"),
            (json!({ "language": "fr" }), "language"),
            (json!({ "name": " " }), "name"),
        ] {
            let refused = patch(server, &tree.east_admin, id, with(json!({ "version": 2 }), change)).expect(422);
            assert_eq!(refused.json()["field"], field);
        }
        // Others may neither see nor change it.
        server.get(&format!("/api/v1/alert-channels/{id}"), &tree.west_ops).expect(404);
        patch(server, &tree.east_ops, id, json!({ "version": 2, "paused": true })).expect(403);
    });
}

#[test]
fn only_addresses_on_the_robots_own_hosts_are_taken() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        for transport in [
            json!({ "kind": "wecom", "url": "http://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=0123456789" }),
            json!({ "kind": "wecom", "url": "https://oapi.dingtalk.com/robot/send?access_token=0123456789" }),
            json!({ "kind": "feishu", "url": "https://open.feishu.cn.evil.example/open-apis/bot/v2/hook/0123456789" }),
        ] {
            let new = json!({ "name": "x", "transport": transport });
            let refused = server.post("/api/v1/alert-channels", &tree.east_admin, &new).expect(422);
            assert_eq!(refused.json()["field"], "transport.url", "{transport}");
        }
        let new = json!({ "name": "x", "transport": with(robot("feishu"), json!({ "mention": {} })) });
        server.post("/api/v1/alert-channels", &tree.east_admin, &new).expect(422);
        let new = json!({ "name": "x", "transport": { "kind": "email", "to": ["nobody"] } });
        let refused = server.post("/api/v1/alert-channels", &tree.east_admin, &new).expect(422);
        assert_eq!(refused.json()["field"], "transport.to");
    });
}

/// A database with one organization, and what sends from it.
struct Bare {
    folder: tempfile::TempDir,
    clock: Clock,
    sender: Sender,
    runtime: tokio::runtime::Runtime,
}

impl Bare {
    fn new(robots: Address, key: [u8; 32]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let robots_url = Some(format!("http://127.0.0.1:{}", robots.0));
        let config = Config { robots_url, ..Config::default() };
        let bare = Self {
            folder: tempfile::tempdir().unwrap(),
            clock: Clock::system(),
            sender: Sender::new(&config, Vault::new(&key), console::text).unwrap(),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
        };
        let db = bare.db();
        let organization = db.write(|conn| seed::organization(conn, 1, None, "/1/", "HQ", None).map_err(Error::from));
        bare.runtime.block_on(organization).unwrap();
        bare
    }

    fn db(&self) -> Db {
        Db::open(&Location::Sqlite(self.folder.path().join("tillward.sqlite3"))).unwrap()
    }

    /// A channel as a program before this one stored it.
    fn plain_channel(&self, db: &Db, transport: Value) {
        let transport = transport.to_string();
        let write = db.write(move |conn| {
            diesel::insert_into(alert_channels::table)
                .values((
                    alert_channels::id.eq(1),
                    alert_channels::organization_id.eq(1),
                    alert_channels::org_path.eq("/1/"),
                    alert_channels::name.eq("on duty"),
                    alert_channels::level.eq("P3"),
                    alert_channels::transport.eq(transport),
                    alert_channels::failures.eq(0),
                    alert_channels::retry_at_ms.eq(0),
                    alert_channels::last_error.eq(""),
                    alert_channels::created_by.eq("somebody"),
                    alert_channels::created_at_ms.eq(0),
                ))
                .execute(conn)
                .map_err(Error::from)
        });
        self.runtime.block_on(write).unwrap();
    }

    fn raise(&self, db: &Db, numbers: std::ops::Range<i64>) {
        let now = self.clock.now();
        for number in numbers {
            let new = NewIncident { org_path: "/1/".to_owned(), ..halted(number) };
            self.runtime.block_on(db.write(move |conn| incidents::open(conn, new, now))).unwrap();
        }
    }

    fn deliver(&self, db: &Db) -> usize {
        self.runtime.block_on(async {
            let mut ended = 0;
            for due in alerts::due(db, self.clock.now(), 10).await.unwrap() {
                let work = alerts::deliver(db.clone(), self.sender.clone(), self.clock.clone(), due);
                ended += work.await.unwrap();
            }
            ended
        })
    }
}

#[test]
fn what_an_older_program_stored_plainly_is_sealed_and_still_reached() {
    let at = Address::free();
    let bare = Bare::new(at, [7; 32]);
    let db = bare.db();
    let receiver = Receiver::willing();
    bare.plain_channel(&db, with(receiver.address.transport(), json!({ "secret": "twh_old" })));
    assert_eq!(bare.runtime.block_on(alerts::seal_plain(&db, &bare.sender)).unwrap(), 1);
    assert_eq!(bare.runtime.block_on(alerts::seal_plain(&db, &bare.sender)).unwrap(), 0);
    bare.raise(&db, 1..2);
    assert_eq!(bare.deliver(&db), 1);
    assert!(receiver.received()[0].is_signed_with("twh_old"));
    // Under another key nothing can be read, nothing is sent, and nothing is lost.
    let other = Bare { sender: Bare::new(at, [8; 32]).sender, ..bare };
    other.raise(&db, 2..3);
    assert_eq!(other.deliver(&db), 0);
    assert_eq!(receiver.received().len(), 1);
    let waiting = other.runtime.block_on(alerts::due(&db, other.clock.now(), 10)).unwrap();
    assert_eq!(waiting, [], "it rests");
    other.clock.advance_ms(60_000);
    assert_eq!(other.runtime.block_on(alerts::due(&db, other.clock.now(), 10)).unwrap().len(), 1);
}

#[test]
fn a_batch_that_was_sent_but_not_noted_is_sent_again_whole_within_the_rate() {
    let at = Address::free();
    let bare = Bare::new(at, [7; 32]);
    let db = bare.db();
    let wecom = json!({ "kind": "wecom", "token": KEY, "prefix": "", "mention": {} });
    bare.plain_channel(&db, wecom);
    bare.runtime.block_on(alerts::seal_plain(&db, &bare.sender)).unwrap();
    let silent_once = std::sync::atomic::AtomicBool::new(true);
    let receiver = Receiver::start(at, move |_, _| {
        if silent_once.swap(false, std::sync::atomic::Ordering::SeqCst) {
            Reply::Silence
        } else {
            Reply::Json(json!({ "errcode": 0, "errmsg": "ok" }))
        }
    });
    bare.raise(&db, 1..4);
    bare.runtime.block_on(async {
        let due = alerts::due(&db, bare.clock.now(), 10).await.unwrap();
        // Ends like a server that dies after the robot has the message and before that is noted.
        tokio::select! {
            ended = alerts::deliver(db.clone(), bare.sender.clone(), bare.clock.clone(), due[0]) => panic!("{ended:?}"),
            () = async { while receiver.received().is_empty() { tokio::task::yield_now().await } } => {}
        }
    });
    drop(db);
    let db = bare.db();
    assert_eq!(bare.deliver(&db), 0, "it still is the dead server's");
    bare.raise(&db, 4..5);
    bare.clock.advance_ms(LEASE_MS);
    assert_eq!(bare.deliver(&db), 4, "the three, and the one that came meanwhile");
    let received = receiver.received();
    assert_eq!(received.len(), 2);
    assert!(received[0].json()["markdown"]["content"].as_str().unwrap().contains("3 条告警"));
    assert!(received[1].json()["markdown"]["content"].as_str().unwrap().contains("4 条告警"));

    // The rate outlives servers: it is in the database.
    for number in 10..15 {
        bare.raise(&db, number..number + 1);
        assert_eq!(bare.deliver(&db), 1, "{number}");
    }
    drop(db);
    let db = bare.db();
    bare.raise(&db, 20..22);
    assert_eq!(bare.deliver(&db), 0, "six went out at once");
    bare.clock.advance_ms(5_000);
    assert_eq!(bare.deliver(&db), 2);
    assert_eq!(receiver.received().len(), 8);
}
