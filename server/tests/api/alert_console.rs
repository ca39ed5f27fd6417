//! Channels, rules, hours and the log as people use them in the console.

use serde_json::json;

use crate::console::Browser;
use crate::fixtures::{ADMIN, admin, headquarters, organization};
use crate::harness::{on_each_database, wait_until};
use crate::incidents::{halted, open};
use crate::receiver::{Address, Receiver, Reply};
use tillward_server::failures::incidents::NewIncident;

const DINGTALK: &str = "https://oapi.dingtalk.com/robot/send?access_token=0123456789abcdefTAIL";

#[test]
fn a_channel_is_made_tried_changed_paused_and_deleted() {
    on_each_database(|server| {
        admin(server);
        let browser = Browser::signed_in(server, ADMIN);
        let csrf = browser.csrf();
        let csrf = ("csrf", csrf.as_str());
        assert!(browser.get("/alerts/channels").expect(200).text().contains("No channels yet"));
        let fields = |url: &'static str, mobiles: &'static str| {
            [
                csrf,
                ("kind", "dingtalk"),
                ("name", "值班群"),
                ("level", "P2"),
                ("language", "zh-CN"),
                ("url", url),
                ("secret", "SECtest0123456789"),
                ("mobiles", mobiles),
                ("mention_level", "P1"),
                ("batch_s", "30"),
                ("digest", "on"),
            ]
        };
        let refused =
            browser.post("/alerts/channels", &fields("https://evil.example/?access_token=01234567", "")).expect(422);
        let page = refused.text();
        assert!(page.contains("id=\"url-wrong\"") && page.contains("值班群"), "what was typed is kept: {page}");
        assert!(!page.contains("SECtest0123456789"), "but secrets are typed again");
        let made = browser.post("/alerts/channels", &fields(DINGTALK, "13800001111")).expect(303);
        let address = made.header("location").unwrap().split('?').next().unwrap().to_owned();
        let page = browser.get(&address).expect(200).text();
        assert!(page.contains("…TAIL") && page.contains("138****1111"), "{page}");
        assert!(!page.contains("0123456789abcdef") && !page.contains("SECtest") && !page.contains("13800001111"));

        let save = |more: &[(&'static str, &'static str)]| {
            let mut fields =
                vec![csrf, ("name", "夜班"), ("level", "P1"), ("language", "en"), ("mobiles", "138****1111")];
            fields.extend(more);
            browser.post(&address, &fields)
        };
        save(&[("version", "1"), ("batch_s", "soon")]).expect(422);
        save(&[("version", "1"), ("batch_s", "5"), ("prefix", "拉卡拉")]).expect(303);
        let stale = save(&[("version", "1")]).expect(422).text();
        assert!(stale.contains("changed meanwhile"), "{stale}");
        let page = browser.get(&address).expect(200).text();
        assert!(page.contains("夜班") && page.contains("拉卡拉") && page.contains("138****1111"), "{page}");

        browser.post(&format!("{address}/pause"), &[csrf]).expect(303);
        assert!(browser.get("/alerts/channels").expect(200).text().contains("Paused"));
        browser.post(&format!("{address}/resume"), &[csrf]).expect(303);
        browser.post(&format!("{address}/delete"), &[csrf]).expect(303);
        browser.get(&address).expect(404);
        assert_eq!(browser.post("/alerts/channels", &[("kind", "email")]).status, 403, "only with the form's token");
    });
}

#[test]
fn a_webhooks_secret_is_shown_once_and_its_trial_says_how_it_ended() {
    on_each_database(|server| {
        admin(server);
        let browser = Browser::signed_in(server, ADMIN);
        let csrf = browser.csrf();
        let receiver = Receiver::start(Address::free(), |n, _| Reply::Status(if n == 1 { 204 } else { 500 }));
        let url = receiver.address.transport()["url"].as_str().unwrap().to_owned();
        let fields =
            [("csrf", csrf.as_str()), ("kind", "webhook"), ("name", "own system"), ("level", "P3"), ("url", &url)];
        let page = browser.post("/alerts/channels", &fields).expect(200).text();
        let secret = page.split("id=\"secret\">").nth(1).unwrap().split('<').next().unwrap().to_owned();
        assert!(secret.starts_with("twh_"), "{secret}");
        let address =
            page.split("<form class=\"stack\" id=\"channel\" action=\"").nth(1).unwrap().split('"').next().unwrap();
        assert!(!browser.get(address).expect(200).text().contains(&secret));
        let tried = || browser.post(&format!("{address}/test"), &[("csrf", csrf.as_str())]).expect(200).text();
        assert!(tried().contains("The test message arrived."));
        assert!(receiver.received()[0].is_signed_with(&secret));
        assert!(tried().contains("did not arrive: the endpoint answered 500"));
    });
}

#[test]
fn rules_and_hours_are_kept_and_the_log_sends_again() {
    on_each_database(|server| {
        let token = admin(server);
        let root = headquarters(server, &token);
        organization(server, &token, root, "SECOND");
        let browser = Browser::signed_in(server, ADMIN);
        let csrf = browser.csrf();
        let csrf = ("csrf", csrf.as_str());
        assert!(browser.get("/alerts/rules/new").expect(200).text().contains("has no channels yet"));
        let receiver = Receiver::start(Address::free(), |n, _| Reply::Status(if n <= 5 { 400 } else { 204 }));
        let new = json!({ "name": "值班", "transport": receiver.address.transport() });
        let made = server.post("/api/v1/alert-channels", &token, &new).expect(201).json();
        let (root, channel) = (root.to_string(), made["channel"]["id"].to_string());
        let base = [csrf, ("organization_id", root.as_str()), ("name", "夜间"), ("enabled", "on"), ("delivery", "now")];
        let without_channel = browser.post("/alerts/rules", &base).expect(422).text();
        assert!(
            without_channel.contains("id=\"steps-wrong\"") && without_channel.contains("夜间"),
            "{without_channel}"
        );
        let mut fields = base.to_vec();
        fields.extend([("levels", "P1"), ("levels", "P2"), ("kinds", "rollout_halted"), ("step_2", channel.as_str())]);
        browser.post("/alerts/rules", &fields).expect(303);
        let page = browser.get("/alerts/rules").expect(200).text();
        assert!(page.contains("夜间") && page.contains("值班") && page.contains("P2"), "{page}");
        let address = page.split("href=\"/alerts/rules/").nth(2).unwrap().split('"').next().unwrap().to_owned();
        let address = format!("/alerts/rules/{address}");
        let shown = browser.get(&address).expect(200).text();
        assert!(shown.contains("name=\"levels\" value=\"P2\" checked"), "{shown}");
        assert!(shown.contains(&format!("name=\"step_1\" value=\"{channel}\" checked")), "steps move up: {shown}");

        let hours = |until: &'static str| {
            let when = [("quiet_from", "22:00"), ("quiet_until", until), ("breaks", "P1"), ("digest_at", "08:30")];
            let mut fields = vec![csrf, ("organization_id", root.as_str()), ("version", "0"), ("time_zone", "UTC")];
            fields.extend(when);
            browser.post("/alerts/hours", &fields)
        };
        assert!(hours("").expect(422).text().contains("id=\"quiet_until-wrong\""));
        hours("22:01").expect(303);
        let shown = browser.get("/alerts/hours").expect(200).text();
        assert!(shown.contains("value=\"22:01\"") && shown.contains("value=\"UTC\""), "{shown}");

        let path = format!("/api/v1/organizations/{root}");
        let org_path = server.get(&path, &token).expect(200).json()["path"].as_str().unwrap().to_owned();
        open(server, NewIncident { org_path, ..halted(1) });
        wait_until("it is given up", || {
            server.clock.advance_ms(2_000);
            browser.get("/alerts?state=failed").expect(200).text().contains("name=\"alert\"")
        });
        let page = browser.get("/alerts?state=failed").expect(200).text();
        assert!(page.contains("the endpoint refused it with 400") && page.contains("rollout 1"), "{page}");
        let alert = page.split("name=\"alert\" value=\"").nth(1).unwrap().split('"').next().unwrap();
        browser.post("/alerts/replay", &[csrf, ("alert", alert), ("channel", &channel)]).expect(303);
        wait_until("it has arrived", || browser.get("/alerts?state=sent").expect(200).text().contains("rollout 1"));
        browser.get("/alerts?state=nonsense").expect(422);
        browser.post(&format!("{address}/delete"), &[csrf]).expect(303);
        browser.get(&address).expect(404);
    });
}

#[test]
fn where_nothing_is_sent_the_way_to_the_channels_stands() {
    on_each_database(|server| {
        let token = admin(server);
        let org_path = format!("/{}/", headquarters(server, &token));
        let browser = Browser::signed_in(server, ADMIN);
        let way = "href=\"/alerts/channels\">Set up a channel</a>";
        assert!(browser.get("/alerts").expect(200).text().contains(way), "nothing was sent yet");
        let filtered = browser.get("/alerts?state=failed").expect(200).text();
        assert!(!filtered.contains(way), "a filter that nothing fits says nothing of channels");
        let id = open(server, NewIncident { org_path, ..halted(1) });
        assert!(browser.get(&format!("/incidents/{id}")).expect(200).text().contains(way), "nobody is told of it");
    });
}
