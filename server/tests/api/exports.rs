//! Data that leave as files: whoever takes them along stands in the audit log.

use actix_web::http::Method;
use diesel::prelude::*;
use serde_json::{Value, json};
use tillward_server::db;
use tillward_server::http::endpoints::{Access, Endpoint, table};

use crate::console::Browser;
use crate::fixtures::{ADMIN, admin, headquarters, operator, organization};
use crate::harness::{TestServer, on_each_database};
use crate::world::{Who, World};

/// The newest entries of people and keys, newest first: the server's own passes write, too, whenever they like.
fn entries(server: &TestServer, token: &str) -> Vec<Value> {
    let list = server.get("/api/v1/audit", token).expect(200).json();
    let all = list["items"].as_array().unwrap().iter().cloned();
    all.filter(|entry| ["operator", "api_key"].contains(&entry["actor_kind"].as_str().unwrap())).collect()
}

fn newest(server: &TestServer, token: &str) -> Value {
    entries(server, token).remove(0)
}

fn seq(entry: &Value) -> i64 {
    entry["seq"].as_i64().unwrap()
}

/// What the newest entry says: action, object, detail.
fn said(server: &TestServer, token: &str) -> (String, String, Value) {
    let entry = newest(server, token);
    let text = |name: &str| entry[name].as_str().unwrap().to_owned();
    (text("action"), text("object_id"), serde_json::from_str(&text("detail")).unwrap())
}

/// Whether people read what a row of the table answers.
fn is_read_by_people(row: &Endpoint) -> bool {
    row.method == Method::GET && matches!(row.access, Access::Operator(_) | Access::Page(_))
}

#[test]
fn every_file_that_is_taken_along_is_noted_once_and_one_that_is_refused_is_not() {
    on_each_database(|server| {
        let world = World::new(server);
        let (mut files, mut actions) = (0, Vec::new());
        for row in table().into_iter().filter(is_read_by_people) {
            let name = format!("{} {}", row.method, row.path);
            let at = world.address(&row).unwrap();
            let who = |theirs: bool| {
                let person = if theirs { &world.other } else { world.owner() };
                match row.access {
                    Access::Page(_) => Who::Cookie(&person.cookie, "same-origin"),
                    Access::Public | Access::Terminal | Access::Channel | Access::Operator(_) => {
                        Who::Bearer(&person.token)
                    }
                }
            };
            let before = seq(&newest(server, &world.admin.token));
            let (status, headers) = world.head(&row, &at, who(false));
            if !headers.contains_key("content-disposition") {
                continue;
            }
            assert_eq!(status, 200, "{name}");
            let since: Vec<Value> =
                entries(server, &world.admin.token).into_iter().filter(|entry| seq(entry) > before).collect();
            assert_eq!(since.len(), 1, "{name}: {since:?}");
            let entry = &since[0];
            assert!(!entry["request_id"].as_str().unwrap().is_empty(), "{name}");
            actions.push(entry["action"].as_str().unwrap().to_owned());
            if row.path.contains('{') {
                assert_eq!(world.status(&row, &at, who(true)).0, 404, "{name}");
                assert_eq!(newest(server, &world.admin.token)["seq"], entry["seq"], "{name}: nothing left");
            }
            files += 1;
        }
        actions.sort();
        actions.dedup();
        assert_eq!(
            actions,
            [
                "evidence.download",
                "failures.export",
                "guidance.export",
                "imports.export_refused",
                "inspections.export",
                "settlements.export",
                "terminals.export",
                "terminals.export_refused",
            ]
        );
        assert!(files >= 16, "the console and REST: {files}");
    });
}

#[test]
fn the_entry_says_what_was_asked_for_and_how_many_rows_it_has() {
    on_each_database(|server| {
        let token = admin(server);
        let root = headquarters(server, &token);
        let east = organization(server, &token, root, "EAST");
        let get = |path: &str| {
            server.get(path, &token).expect(200);
            said(server, &token)
        };
        let (action, object, detail) =
            get(&format!("/api/v1/failures/cells.csv?hours=3&model=P1&organization_id={east}"));
        assert_eq!((action.as_str(), object.as_str()), ("failures.export", "cells"));
        let path = format!("/{root}/{east}/");
        assert_eq!(detail, json!({"asked": {"hours": 3, "model": "P1", "org_path": path}, "rows": 0}));
        let (action, _, detail) = get("/api/v1/settlements.csv?sn=SN1&from_ms=5");
        assert_eq!(
            (action.as_str(), detail),
            ("settlements.export", json!({"asked": {"sn": "SN1", "from_ms": 5}, "rows": null}))
        );
        let (action, _, detail) = get("/api/v1/inspections.csv?reason=printer&urgency=now");
        let filter = json!({"due": "printer", "urgency": "now"});
        assert_eq!((action.as_str(), detail), ("inspections.export", json!({"asked": filter, "rows": null})));
        let (action, object, detail) = get("/api/v1/device-list.csv");
        assert_eq!((action.as_str(), object.as_str()), ("terminals.export", "devices"));
        assert_eq!(detail, json!({"asked": {}, "rows": null}));
        let (action, _, detail) = get("/api/v1/guidance.csv");
        assert_eq!((action.as_str(), detail), ("guidance.export", json!({"asked": {}, "rows": 0})));

        let before = seq(&newest(server, &token));
        for refused in [
            "/api/v1/failures/cells.csv?hours=0",
            "/api/v1/failures/cells.csv?organization_id=987654",
            "/api/v1/inspections.csv?reason=nonsense",
            "/api/v1/inspections.csv?organization_id=987654",
            "/api/v1/guidance.csv?organization_id=987654",
        ] {
            assert_eq!(server.get(refused, &token).status, 422, "{refused}");
        }
        let field = operator(server, &token, east, "field");
        let after_sign_in = seq(&newest(server, &token));
        assert!(after_sign_in > before, "making somebody is noted");
        assert_eq!(server.get("/api/v1/settlements.csv", &field.token).status, 403);
        assert_eq!(seq(&newest(server, &token)), after_sign_in);
        let since = entries(server, &token).into_iter().filter(|entry| seq(entry) > before);
        let exports = since.filter(|entry| entry["action"].as_str().unwrap().contains("export")).count();
        assert_eq!(exports, 0, "what was refused is not noted");
    });
}

#[test]
fn a_file_that_cannot_be_noted_is_not_given() {
    on_each_database(|server| {
        let token = admin(server);
        let rename = server.state.db.write(|conn| {
            diesel::sql_query("ALTER TABLE audit_entries RENAME TO audit_entries_away").execute(conn)?;
            Ok::<_, db::Error>(())
        });
        server.block_on(rename).unwrap();
        for path in ["failures/cells.csv", "settlements.csv", "inspections.csv", "device-list.csv", "guidance.csv"] {
            let answer = server.get(&format!("/api/v1/{path}"), &token);
            assert!(answer.status >= 500, "{path}: {}", answer.status);
            assert_eq!(answer.header("content-disposition"), None, "{path}");
            assert_eq!(answer.json()["status"], answer.status, "{path}: a problem, no rows");
        }
    });
}

#[test]
fn the_page_of_the_log_says_it_in_words_to_who_may_read_it() {
    on_each_database(|server| {
        let token = admin(server);
        let root = headquarters(server, &token);
        let east = organization(server, &token, root, "EAST");
        let staff = operator(server, &token, east, "org_admin");
        let browser = Browser::signed_in(server, &staff.login);
        browser.get("/reconciliation/settlements.csv?days=7").expect(200);
        browser.get("/devices.csv").expect(200);
        let key = json!({"name": "nightly", "role": "auditor", "expires_in_days": 1});
        let key = server.post("/api/v1/api-keys", &staff.token, &key).expect(201).json();
        server.get("/api/v1/device-list.csv", key["secret"].as_str().unwrap()).expect(200);
        let newest = newest(server, &token);
        assert_eq!((&newest["actor_kind"], &newest["actor_name"]), (&json!("api_key"), &json!("nightly")));
        assert_eq!(newest["org_path"], format!("/{root}/{east}/"));
        for (language, words) in [
            ("en", ["Exported settled payments", "Exported the list of terminals", "File settlements", "Filter"]),
            ("zh-CN", ["导出到账明细", "导出终端清单", "文件 settlements", "筛选条件"]),
        ] {
            browser.post("/preferences", &[("language", language)]).expect(303);
            let page = browser.get("/audit").expect(200).text();
            for shown in words {
                assert!(page.contains(shown), "{shown}: {page}");
            }
        }
        let reader = Browser::signed_in(server, ADMIN);
        assert!(reader.get("/audit").expect(200).text().contains("nightly"), "those above read it too");
        let west = organization(server, &token, root, "WEST");
        let west = operator(server, &token, west, "auditor");
        let actions: Vec<Value> = entries(server, &west.token).iter().map(|entry| entry["action"].clone()).collect();
        assert!(!actions.contains(&json!("terminals.export")), "{actions:?}");
    });
}
