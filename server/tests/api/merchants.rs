//! Merchants as a reseller's staff enter and change them in the console.

use serde_json::{Value, json};

use crate::console::Browser;
use crate::fixtures::{ADMIN, Person, admin, headquarters, operator, organization};
use crate::harness::{Answer, TestServer, on_each_database};

const NUMBER: &str = "898330153110001";

/// Staff of a reseller, signed in, with the number of its organization.
fn staff<'a>(server: &'a TestServer, token: &str, role: &str) -> (Browser<'a>, Person, i64) {
    let reseller = organization(server, token, headquarters(server, token), "EAST");
    let person = operator(server, token, reseller, role);
    (Browser::signed_in(server, &person.login), person, reseller)
}

fn send(browser: &Browser<'_>, path: &str, fields: &[(&str, &str)]) -> Answer {
    let csrf = browser.csrf();
    let fields: Vec<_> = [("csrf", csrf.as_str())].into_iter().chain(fields.iter().copied()).collect();
    browser.post(path, &fields)
}

fn merchants(server: &TestServer, token: &str) -> Vec<Value> {
    let list = server.get("/api/v1/merchants", token).expect(200).json();
    list["items"].as_array().unwrap().clone()
}

/// Actions of the audit log about merchants, newest first.
fn deeds(server: &TestServer, token: &str) -> Vec<Value> {
    let list = server.get("/api/v1/audit", token).expect(200).json();
    let entries = list["items"].as_array().unwrap().clone();
    entries.into_iter().filter(|entry| entry["object_kind"] == "merchant").collect()
}

#[test]
fn staff_of_a_reseller_enter_a_merchant_and_change_what_is_contracted() {
    on_each_database(|server| {
        let token = admin(server);
        let (browser, person, reseller) = staff(server, &token, "org_ops");
        assert!(browser.get("/merchants").expect(200).text().contains("href=\"/merchants/new\""));
        browser.get("/merchants/new").expect(200);
        let home = reseller.to_string();
        let fields = [("merchant_no", NUMBER), ("name", "张记面馆"), ("rate", "0.385"), ("organization_id", &home)];
        let made = send(&browser, "/merchants", &fields).expect(303);
        assert_eq!(made.header("location"), Some("/merchants?done=merchant"));
        let merchant = merchants(server, &person.token).remove(0);
        assert_eq!(merchant["rate_ppm"], 3_850);
        assert_eq!((&merchant["mcc"], &merchant["risk_class"]), (&Value::Null, &Value::Null));
        assert_eq!(merchant["organization_id"], reseller);
        let address = format!("/merchants/{}", merchant["id"]);
        let list = browser.get("/merchants").expect(200).text();
        for shown in [NUMBER, "张记面馆", "Reseller EAST", "5311", "0.3850%", &format!("href=\"{address}\"")] {
            assert!(list.contains(shown), "{shown}: {list}");
        }

        let page = browser.get(&address).expect(200).text();
        for filled in ["name=\"version\" value=\"1\"", "name=\"rate\" value=\"0.3850\"", "value=\"张记面馆\""] {
            assert!(page.contains(filled), "{filled}: {page}");
        }
        let change =
            [("version", "1"), ("name", "张记面馆一店"), ("mcc", "5812"), ("rate", "0.6"), ("risk_class", "standard")];
        let saved = send(&browser, &address, &change).expect(303);
        assert_eq!(saved.header("location"), Some(format!("{address}?done=saved").as_str()));
        let merchant = merchants(server, &person.token).remove(0);
        assert_eq!(
            [&merchant["name"], &merchant["mcc"], &merchant["rate_ppm"], &merchant["risk_class"]],
            [&json!("张记面馆一店"), &json!("5812"), &json!(6_000), &json!("standard")]
        );
        // What is left empty is taken away.
        send(&browser, &address, &[("version", "2"), ("name", "张记面馆一店")]).expect(303);
        let merchant = merchants(server, &person.token).remove(0);
        assert_eq!([&merchant["mcc"], &merchant["rate_ppm"], &merchant["risk_class"]], [&Value::Null; 3]);

        let deeds = deeds(server, &token);
        let names: Vec<&str> = deeds.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
        assert_eq!(names, ["merchants.update", "merchants.update", "merchants.create"]);
        assert!(deeds.iter().all(|entry| entry["actor_id"] == person.id), "{deeds:?}");
        assert!(deeds[0]["detail"].as_str().unwrap().contains("张记面馆一店"), "{deeds:?}");
        let admin = Browser::signed_in(server, ADMIN);
        assert!(admin.get("/audit").expect(200).text().contains(&format!("href=\"{address}\"")));
    });
}

#[test]
fn what_is_refused_stands_beside_its_field_in_the_readers_words() {
    on_each_database(|server| {
        let token = admin(server);
        let (browser, person, reseller) = staff(server, &token, "org_ops");
        let sibling = organization(server, &token, headquarters(server, &token), "WEST").to_string();
        browser.post("/preferences", &[("language", "zh-CN")]).expect(303);
        let base = [("merchant_no", NUMBER), ("name", "张记面馆"), ("mcc", "5812"), ("rate", "0.6")];
        for (field, value, said) in [
            ("merchant_no", "89833015311000", "必须是 15 位数字"),
            ("name", "卡号 6222021234567890128", "卡号"),
            ("mcc", "58a2", "须为 4 位数字"),
            ("rate", "0.6.1", "须为 0 到 10% 的费率"),
            ("rate", "10.5", "须为 0 到 10% 的费率"),
            ("rate", "150", "须为 0 到 10% 的费率"),
            ("risk_class", "cheap", "须为 standard、preferential、reduced 或 special"),
            ("organization_id", "here", "必须是数字"),
            ("organization_id", &sibling, "不是您的组织"),
        ] {
            let mut fields: Vec<_> = base.iter().copied().filter(|(name, _)| *name != field).collect();
            fields.push((field, value));
            let page = send(&browser, "/merchants", &fields).expect(422).text();
            let beside =
                page.split(&format!("id=\"{field}-wrong\">")).nth(1).unwrap_or_else(|| panic!("{field}: {page}"));
            let beside = beside.split('<').next().unwrap();
            assert!(beside.contains(said), "{field}={value}: {beside}");
            assert!(page.contains(&format!("aria-describedby=\"{field}-wrong\"")), "{field}: {page}");
            let kept = if field == "name" { NUMBER } else { "value=\"张记面馆\"" };
            assert!(page.contains(kept), "what was typed is kept: {page}");
        }
        assert_eq!(send(&browser, "/merchants", &[("created_by", "me")]).status, 422, "no field of the form");
        assert!(merchants(server, &person.token).is_empty() && deeds(server, &token).is_empty());

        let home = reseller.to_string();
        let whole: Vec<_> = base.iter().copied().chain([("organization_id", home.as_str())]).collect();
        send(&browser, "/merchants", &whole).expect(303);
        let page = send(&browser, "/merchants", &whole).expect(409).text();
        assert!(page.contains("id=\"merchant_no-wrong\">这个商户号已登记"), "{page}");

        let address = format!("/merchants/{}", merchants(server, &person.token)[0]["id"]);
        send(&browser, &address, &[("version", "1"), ("name", "张记"), ("mcc", "58")]).expect(422);
        send(&browser, &address, &[("version", "1"), ("name", "别人改的名字")]).expect(303);
        for version in ["1", "", "9"] {
            let page = send(&browser, &address, &[("version", version), ("name", "我的名字")]).expect(409).text();
            assert!(page.contains("有人改动了这个商户"), "{page}");
            assert!(page.contains("value=\"我的名字\"") && page.contains("<dd>别人改的名字</dd>"), "both: {page}");
        }
        assert_eq!(merchants(server, &person.token)[0]["name"], "别人改的名字");
    });
}

#[test]
fn who_may_not_write_sees_no_form_and_who_is_elsewhere_sees_nothing() {
    on_each_database(|server| {
        let token = admin(server);
        let (browser, _, reseller) = staff(server, &token, "auditor");
        let new = json!({
            "organization_id": reseller, "merchant_no": NUMBER, "name": "张记面馆", "rate_ppm": 6_000,
        });
        let made = server.post("/api/v1/merchants", &token, &new).expect(201).json();
        let address = format!("/merchants/{}", made["id"]);
        assert!(!browser.get("/merchants").expect(200).text().contains("/merchants/new"));
        let page = browser.get(&address).expect(200).text();
        assert!(page.contains("<dd>0.60</dd>") && !page.contains("name=\"rate\""), "{page}");
        browser.get("/merchants/new").expect(403);
        let change = [("version", "1"), ("name", "x")];
        assert_eq!(send(&browser, &address, &change).status, 403);
        assert_eq!(send(&browser, "/merchants", &[("merchant_no", NUMBER), ("name", "x")]).status, 403);

        let other = organization(server, &token, headquarters(server, &token), "WEST");
        let other = Browser::signed_in(server, &operator(server, &token, other, "org_admin").login);
        other.get(&address).expect(404);
        assert_eq!(send(&other, &address, &change).status, 404);
        assert_eq!(server.get(&format!("/api/v1{address}"), &token).expect(200).json()["name"], "张记面馆");
    });
}
