//! What a reseller does in the console, done in a real browser against the real server.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use serde_json::json;
use tillward_protocol::ids::Sha256Hex;
use tillward_protocol::manifest::Component;
use tillward_tests::admin::{Admin, LOGIN, PASSWORD, Registered};
use tillward_tests::browser::Browser;
use tillward_tests::server::Server;
use tillward_tests::terminal::Terminal;
use tillward_tests::wait_within;

const MODEL: &str = "demo-p1";
const TERMINALS: usize = 6;
const PAYLOAD: &[u8] = b"a payload that no simulated terminal reads";

/// The first administrator sets the server up in the browser and is signed in by that or signs in after it.
fn set_up_and_sign_in(browser: &Browser, server: &Server) {
    browser.go(&format!("{}/setup", server.url));
    check_page(browser);
    browser.type_into("input[name=bootstrap_token]", &server.bootstrap_token);
    browser.type_into("input[name=organization_name]", "Headquarters");
    browser.type_into("input[name=name]", "Test administrator");
    browser.type_into("input[name=login]", LOGIN);
    browser.type_into("input[name=password]", PASSWORD);
    browser.click("form[action='/setup'] button[type=submit]");
    browser.wait_for("#search");
    // Out and in again: the login page is a page too.
    browser.click("header details.menu > summary");
    browser.click("form[action='/logout'] button");
    browser.wait_for_address("/login");
    check_page(browser);
    browser.type_into("input[name=login]", LOGIN);
    browser.type_into("input[name=password]", PASSWORD);
    browser.click("form[action='/login'] button[type=submit]");
    browser.wait_for("#search");
    check_page(browser);
}

/// Nothing refused, nothing broken, nothing unnamed.
fn check_page(browser: &Browser) {
    assert_eq!(browser.complaints(), Vec::<String>::new(), "on {}", browser.address());
    assert_eq!(browser.barriers(), Vec::<String>::new());
}

/// Terminals that have checked in; the fourth one had a failure in weak 2G.
fn fleet(admin: &Admin, url: &str) -> Vec<(Registered, Terminal)> {
    admin.add_model(MODEL);
    let sns: Vec<String> =
        (0..TERMINALS).map(|index| format!("NW{:05}{:04}", 88_120 + index, 7_301 + 11 * index)).collect();
    let registered = admin.add_terminals(&sns, MODEL);
    registered
        .into_iter()
        .enumerate()
        .map(|(index, registered)| {
            let mut terminal = Terminal::new(url, &registered, index as u64);
            terminal.check_in_with(u64::from(index == 3));
            (registered, terminal)
        })
        .collect()
}

#[test]
fn a_reseller_finds_a_terminal_reads_a_failure_and_steers_a_rollout() {
    let Some(browser) = Browser::open("the console in a browser") else { return };
    let server = Server::start();
    set_up_and_sign_in(&browser, &server);
    let admin = Admin::of(&server);
    let mut fleet = fleet(&admin, &server.url);
    find_terminal_and_read_failure(&browser, &admin, &fleet[3].0);
    admin.publish("4.2.0", 42, MODEL, PAYLOAD);
    let rollout = create_and_start_rollout(&browser, &server);
    watch_progress(&browser, &admin, rollout, &mut fleet);
    pause_and_resume(&browser, &admin, rollout);
    for page in [
        "/",
        "/terminals",
        "/terminals/import",
        "/releases",
        "/rollouts",
        "/rollouts/new",
        "/rollouts/announced",
        "/alerts",
        "/alerts/channels",
        "/alerts/channels/new?kind=dingtalk",
        "/alerts/rules",
        "/alerts/hours",
        "/inspections",
        "/inspections/rules",
        "/work-orders",
        "/guidance",
        "/m",
        "/organizations",
        "/operators",
        "/audit",
    ] {
        browser.go(&format!("{}{page}", server.url));
        check_page(&browser);
    }
    assert!(!server.has_logged("panicked"), "{}", server.log_end());
}

fn find_terminal_and_read_failure(browser: &Browser, admin: &Admin, wanted: &Registered) {
    let tail = &wanted.sn[wanted.sn.len() - 4..];
    browser.type_into("#search", &format!("{tail}\u{e007}"));
    browser.wait_for_address(&format!("/terminals/{}", wanted.sn));
    check_page(browser);
    let failures = admin.get(&format!("/api/v1/failures?terminal_id={}", wanted.id));
    let condition = &failures["items"][0]["event"]["condition"];
    browser.click("#failures details.failure > summary");
    let shown = browser.text("#failures details.failure .detail");
    let rtt_ms = condition["rtt_ms"].as_i64().unwrap().to_string();
    assert!(shown.contains(&rtt_ms), "the round-trip time {rtt_ms} ms is not among the conditions: {shown}");
    assert!(shown.contains("1.0.0"), "the firmware is not among the conditions: {shown}");
    let access = condition["access"].as_str().unwrap();
    let summary = browser.text("#failures details.failure > summary").to_lowercase().replace('-', "");
    let is_named = shown.to_lowercase().contains(access) || summary.contains(access);
    assert!(is_named, "the access type {access} is not among the conditions: {summary} {shown}");
}

fn create_and_start_rollout(browser: &Browser, server: &Server) -> i64 {
    browser.go(&format!("{}/rollouts/new", server.url));
    browser.type_into("#new input[name=name]", "Autumn update");
    check_page(browser);
    // The recommended plan waits for the night.
    browser.click("#at-once");
    browser.wait_for("#new input[name=soak][value='0']");
    browser.wait_for("#new input[name=name][value='Autumn update']");
    browser.click("#save");
    browser.wait_for_address("?done=draft");
    check_page(browser);
    browser.type_into("#preview input[name=count]", &TERMINALS.to_string());
    browser.click("#preview button[type=submit]");
    browser.wait_for_address("?done=");
    browser.wait_for("#pause");
    let address = browser.address();
    let id = address.split("/rollouts/").nth(1).and_then(|rest| rest.split('?').next()).unwrap();
    id.parse().unwrap()
}

/// Terminals report while the page is open: its numbers move although nobody loads it again.
fn watch_progress(browser: &Browser, admin: &Admin, rollout: i64, fleet: &mut [(Registered, Terminal)]) {
    admin.wait_for_offers(rollout, i64::try_from(fleet.len()).unwrap());
    browser.script("window.loadedOnce = true");
    let before = browser.text("#progress .live");
    let page = admin.get(&format!("/api/v1/rollouts/{rollout}/assignments"));
    let assignments = page["items"].as_array().unwrap();
    let installed = Component {
        name: "os".to_owned(),
        version: "4.2.0".parse().unwrap(),
        sha256: Some(Sha256Hex::of(PAYLOAD)),
        release_counter: 42,
    };
    for (registered, terminal) in fleet.iter_mut().take(TERMINALS - 1) {
        let own = assignments.iter().find(|assignment| assignment["terminal_id"] == registered.id).unwrap();
        terminal.act_out_update(own["id"].as_i64().unwrap(), &installed);
    }
    let succeeded = admin.rollout(rollout)["counts"]["succeeded"].clone();
    assert_eq!(succeeded, json!(TERMINALS - 1), "the server did not take the terminals' word");
    wait_within(Duration::from_secs(20), "the progress moves", || {
        let now = browser.text("#progress .live");
        now != before && now.contains(&(TERMINALS - 1).to_string())
    });
    assert_eq!(browser.script("return window.loadedOnce"), true, "the page was loaded again");
    check_page(browser);
}

fn pause_and_resume(browser: &Browser, admin: &Admin, rollout: i64) {
    browser.click("#pause");
    browser.type_into("form[action$='/pause'] input[name=why]", "complaints from shops");
    browser.click("form[action$='/pause'] button[type=submit]");
    wait_within(Duration::from_secs(20), "the rollout is paused", || admin.rollout(rollout)["state"] == "paused");
    assert_eq!(admin.rollout(rollout)["why"], "complaints from shops");
    browser.wait_for_text("#progress", "complaints from shops");
    check_page(browser);
    browser.click("form[action$='/resume'] button[type=submit]");
    wait_within(Duration::from_secs(20), "the rollout runs again", || admin.rollout(rollout)["state"] == "running");
}

#[test]
fn every_room_fits_a_phone_and_speaks_chinese() {
    let Some(browser) = Browser::open("the console on a phone") else { return };
    let server = Server::start();
    set_up_and_sign_in(&browser, &server);
    let admin = Admin::of(&server);
    let fleet = fleet(&admin, &server.url);
    browser.click("header details.menu > summary");
    browser.click("header button[name=language][value=zh-CN]");
    browser.wait_for("html[lang=zh-CN] #search");
    browser.shrink_to_phone();
    let terminal = format!("/terminals/{}", fleet[3].0.sn);
    let on_site = format!("/m/{}", fleet[3].0.sn);
    for page in [
        "/",
        "/terminals",
        &terminal,
        "/releases",
        "/rollouts",
        "/rollouts/new",
        "/rollouts/announced",
        "/alerts",
        "/alerts/channels",
        "/alerts/channels/new?kind=dingtalk",
        "/alerts/rules",
        "/alerts/hours",
        "/inspections",
        "/inspections/rules",
        "/work-orders",
        "/guidance",
        "/m",
        &on_site,
        "/organizations",
        "/operators",
        "/audit",
    ] {
        browser.go(&format!("{}{page}", server.url));
        check_page(&browser);
        assert_eq!(browser.script("return document.documentElement.lang"), "zh-CN");
        let overflow =
            browser.script("return document.documentElement.scrollWidth - document.documentElement.clientWidth");
        assert_eq!(overflow, json!(0), "{page} is wider than a phone");
    }
}
