//! Terminals: models, registration, changes, their life, transfers.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use serde_json::{Value, json};
use tillward_server::db;
use tillward_server::db::schema::{terminal_states, terminals};

use crate::harness::{TestServer, on_each_database, wait_until};
use crate::seed::{self, Tree};

#[test]
fn a_model_is_created_once_and_by_release_managers_only() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let new = json!({"code": "pax-a920", "name": "PAX A920", "capabilities": {"ab_slots": true}});
        server.post("/api/v1/models", &tree.east_ops, &new).expect(403);
        let made = server.post("/api/v1/models", &tree.admin, &new).expect(201).json();
        assert_eq!(made["capabilities"]["ab_slots"], true);
        server.post("/api/v1/models", &tree.admin, &new).expect(409);
        for code in ["a920", "Pax-A920", "-a920", "pax-"] {
            let wrong = json!({"code": code, "name": "x"});
            let problem = server.post("/api/v1/models", &tree.admin, &wrong).expect(422).json();
            assert_eq!(problem["field"], "code", "{code}");
        }
        let codes: Vec<Value> =
            server.get("/api/v1/models", &tree.east_ops).expect(200).json().as_array().unwrap().clone();
        assert!(codes.iter().any(|model| model["code"] == "pax-a920"), "{codes:?}");
    });
}

#[test]
fn a_terminal_is_registered_once_and_seen_only_from_above() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let new = json!({"sn": "'００７A", "model": seed::MODEL, "tags": ["VIP"], "notes": "二楼"});
        let made = server.post("/api/v1/terminals", &tree.east_ops, &new).expect(201).json();
        assert_eq!((&made["sn"], &made["lifecycle"], &made["version"]), (&json!("007A"), &json!("stocked"), &json!(1)));
        assert_eq!(made["organization_id"], tree.east);
        assert_eq!(made["region"], "3101", "taken from the organization");
        let path = format!("/api/v1/terminals/{}", made["id"]);
        assert_eq!(server.get(&path, &tree.east_ops).expect(200).json(), made);
        server.get(&path, &tree.admin).expect(200);
        server.get(&path, &tree.west_ops).expect(404);
        let again = json!({"sn": "007A", "model": seed::MODEL});
        server.post("/api/v1/terminals", &tree.east_ops, &again).expect(409);
        server.post("/api/v1/terminals", &tree.west_ops, &again).expect(409);
    });
}

#[test]
fn a_terminal_with_an_unknown_model_organization_or_field_is_refused_by_name() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        for (field, new) in [
            ("model", json!({"sn": "A1", "model": "no-such"})),
            ("organization_id", json!({"sn": "A1", "model": seed::MODEL, "organization_id": tree.west})),
            ("imei", json!({"sn": "A1", "model": seed::MODEL, "imei": "123"})),
            ("notes", json!({"sn": "A1", "model": seed::MODEL, "notes": "4111111111111111"})),
            ("colour", json!({"sn": "A1", "model": seed::MODEL, "colour": "red"})),
        ] {
            let problem = server.post("/api/v1/terminals", &tree.east_ops, &new).expect(422);
            assert_eq!(problem.json()["field"], field);
            assert!(!problem.text().contains("4111"), "a card number is never repeated");
        }
    });
}

#[test]
fn of_two_people_who_change_a_terminal_the_second_is_told() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let made = tree.terminal(server, "A1");
        let path = format!("/api/v1/terminals/{}", made["id"]);
        let change = json!({"version": 1, "merchant_no": "850331053110612", "tags": ["b", "a"], "notes": null});
        let changed = patch(server, &path, &tree.east_ops, &change).expect(200).json();
        assert_eq!(changed["merchant_no"], "850331053110612");
        assert_eq!((&changed["tags"], &changed["version"]), (&json!(["a", "b"]), &json!(2)));
        patch(server, &path, &tree.east_ops, &change).expect(409);
        patch(server, &path, &tree.west_ops, &json!({"version": 2})).expect(404);
        let cleared = json!({"version": 2, "merchant_no": null});
        assert_eq!(patch(server, &path, &tree.east_ops, &cleared).expect(200).json()["merchant_no"], Value::Null);
    });
}

#[test]
fn a_terminals_life_follows_the_graph() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let made = tree.terminal(server, "A1");
        let path = format!("/api/v1/terminals/{}", made["id"]);
        let act = |action: &str, version: i64| {
            let step = json!({"action": action, "version": version});
            server.post(&format!("{path}/lifecycle"), &tree.east_ops, &step)
        };
        assert!(act("bind", 1).expect(409).text().contains("merchant_no"));
        patch(server, &path, &tree.east_ops, &json!({"version": 1, "merchant_no": "850331053110612"})).expect(200);
        assert_eq!(act("bind", 2).expect(200).json()["lifecycle"], "bound");
        act("activate", 2).expect(409);
        assert_eq!(act("activate", 3).expect(200).json()["lifecycle"], "active");
        assert!(act("retire", 4).expect(409).text().contains("unbind it first"));
        let unbound = act("unbind", 4).expect(200).json();
        assert_eq!((&unbound["lifecycle"], &unbound["merchant_no"]), (&json!("unbound"), &Value::Null));
        assert_eq!(act("retire", 5).expect(200).json()["lifecycle"], "retired");
        act("unblock", 6).expect(409);
        act("sell", 6).expect(422);
        let trail = server.get("/api/v1/audit?size=5", &tree.admin).expect(200).json();
        assert_eq!(trail["items"][0]["action"], "terminals.lifecycle");
    });
}

#[test]
fn unbound_terminals_move_one_step_and_the_others_say_why_not() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ids: Vec<Value> = ["A1", "A2"].iter().map(|sn| tree.terminal(server, sn)["id"].clone()).collect();
        let bound = tree.terminal(server, "A3");
        let path = format!("/api/v1/terminals/{}", bound["id"]);
        patch(server, &path, &tree.east_ops, &json!({"version": 1, "merchant_no": "850331053110612"})).expect(200);
        server.post(&format!("{path}/lifecycle"), &tree.east_ops, &json!({"action": "bind", "version": 2})).expect(200);
        let down = json!({"ids": [ids[0], ids[1], bound["id"], 999_999], "organization_id": tree.east_shop});
        let done = server.post("/api/v1/terminals/transfer", &tree.east_ops, &down).expect(200).json();
        assert_eq!(done["moved"], json!([ids[0], ids[1]]));
        let reasons = done["refused"].to_string();
        assert!(reasons.contains("only unbound terminals move") && reasons.contains("not found"), "{reasons}");
        let moved = server.get(&format!("/api/v1/terminals/{}", ids[0]), &tree.east_ops).expect(200).json();
        assert_eq!((&moved["lifecycle"], &moved["organization_id"]), (&json!("allocated"), &json!(tree.east_shop)));
        // From a grandchild to the top it is two steps.
        let up = json!({"ids": [ids[0]], "organization_id": tree.root});
        let refused = server.post("/api/v1/terminals/transfer", &tree.admin, &up).expect(200).json();
        assert!(refused["refused"][0]["reason"].as_str().unwrap().contains("direct child"), "{refused}");
        let up = json!({"ids": [ids[0]], "organization_id": tree.east});
        server.post("/api/v1/terminals/transfer", &tree.east_ops, &up).expect(200);
        let back = server.get(&format!("/api/v1/terminals/{}", ids[0]), &tree.east_ops).expect(200).json();
        assert_eq!(back["lifecycle"], "stocked");
        let foreign = json!({"ids": [ids[0]], "organization_id": tree.west});
        server.post("/api/v1/terminals/transfer", &tree.east_ops, &foreign).expect(422);
        server
            .post("/api/v1/terminals/transfer", &tree.east_ops, &json!({"ids": [], "organization_id": 1}))
            .expect(422);
    });
}

/// Whether a transaction waits for a lock; PostgreSQL only.
fn somebody_waits(server: &TestServer) -> bool {
    let waiting = server.state.db.read(|conn| {
        let of_us = "wait_event_type = 'Lock' AND datname = current_database()";
        let count = sql::<BigInt>(&format!("SELECT COUNT(*) FROM pg_stat_activity WHERE {of_us}"));
        count.get_result::<i64>(conn).map_err(db::Error::from)
    });
    server.block_on(waiting).unwrap() > 0
}

#[test]
fn a_transfer_that_waits_for_a_terminal_does_not_hold_the_audit_log() {
    on_each_database(|server| {
        if server.state.db.sqlite_path().is_some() {
            // One writer: nobody waits for a row.
            return;
        }
        let tree = Tree::plant(server);
        let ids: Vec<i64> = ["A1", "A2"].iter().map(|sn| tree.terminal(server, sn)["id"].as_i64().unwrap()).collect();
        let (held, holding) = std::sync::mpsc::channel();
        let (go_on, going_on) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            // Somebody who changed the second terminal and now writes it into the log.
            let last = ids[1];
            let state = server.state.clone();
            let other = scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(state.db.write(move |conn| {
                    terminal_states::table.find(last).select(terminal_states::terminal_id).first::<i64>(conn)?;
                    diesel::update(terminal_states::table.find(last))
                        .set(terminal_states::terminal_id.eq(last))
                        .execute(conn)?;
                    held.send(()).unwrap();
                    going_on.recv().unwrap();
                    db::next_id(conn, db::Sequence::AuditEntries)?;
                    // Nothing of it shall stay.
                    Err::<(), _>(db::Error::Closed)
                }))
            });
            holding.recv().unwrap();
            let transfer = scope.spawn(|| {
                let down = json!({"ids": ids, "organization_id": tree.east_shop});
                server.post("/api/v1/terminals/transfer", &tree.east_ops, &down)
            });
            wait_until("the transfer waits for the second terminal", || somebody_waits(server));
            go_on.send(()).unwrap();
            let outcome = other.join().unwrap();
            assert!(matches!(outcome, Err(db::Error::Closed)), "{outcome:?}");
            assert_eq!(transfer.join().unwrap().expect(200).json()["moved"], json!(ids));
        });
    });
}

/// Serial numbers of a page.
fn listed(server: &TestServer, token: &str, query: &str) -> Vec<String> {
    let page = server.get(&format!("/api/v1/terminals?{query}"), token).expect(200).json();
    page["items"].as_array().unwrap().iter().map(|row| row["sn"].as_str().unwrap().to_owned()).collect()
}

/// Six terminals with every filterable attribute, three of which called.
fn fleet(server: &TestServer, tree: &Tree) {
    let terminals = [
        json!({"sn": "AB000001", "tags": ["vip", "a_b"], "merchant_no": "850331053110612", "merchant_name": "张记面馆"}),
        json!({"sn": "AB000002", "tags": ["axb"], "store_name": "张江店", "organization_id": tree.east_shop}),
        json!({"sn": "AB000003", "region": "9999", "terminal_no": "12345678"}),
        json!({"sn": "CD000001", "tags": ["vip"]}),
        json!({"sn": "CD000002"}),
        json!({"sn": "CD000003"}),
    ];
    for mut new in terminals {
        new["model"] = json!(seed::MODEL);
        server.post("/api/v1/terminals", &tree.east_ops, &new).expect(201);
    }
    let new = json!({"sn": "WEST0001", "model": seed::MODEL});
    server.post("/api/v1/terminals", &tree.west_ops, &new).expect(201);
    let now = server.clock.now().0;
    for (sn, firmware, age_ms) in
        [("CD000001", "1.0.0", 0), ("CD000002", "2.0.0", 1_800_000), ("CD000003", "2.0.0", 90_000_000)]
    {
        let seen = server.state.db.write(move |conn| {
            let id: i64 = terminals::table.filter(terminals::sn.eq(sn)).select(terminals::id).first(conn)?;
            diesel::update(terminal_states::table.find(id))
                .set((
                    terminal_states::firmware.eq(firmware),
                    terminal_states::last_seen_ms.eq(now - age_ms),
                    terminal_states::interval_s.eq(900),
                ))
                .execute(conn)?;
            Ok::<_, db::Error>(())
        });
        server.block_on(seen).unwrap();
    }
}

#[test]
fn the_list_filters_by_everything_it_offers_and_shows_no_other_organization() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        fleet(server, &tree);
        let shop = format!("organization_id={}", tree.east_shop);
        for (query, expected) in [
            ("model=newland-me31&size=3", vec!["AB000001", "AB000002", "AB000003"]),
            ("model=other", vec![]),
            ("lifecycle=stocked&tag=vip", vec!["AB000001", "CD000001"]),
            ("lifecycle=active", vec![]),
            ("tag=a_b", vec!["AB000001"]),
            ("region=9999", vec!["AB000003"]),
            ("region=", vec!["AB000001", "AB000002", "AB000003", "CD000001", "CD000002", "CD000003"]),
            ("firmware=2.0.0", vec!["CD000002", "CD000003"]),
            ("connection=online", vec!["CD000001"]),
            ("connection=late&firmware=2.0.0", vec!["CD000002"]),
            ("connection=offline", vec![]),
            ("connection=missing", vec!["CD000003"]),
            ("connection=dormant", vec![]),
            ("connection=never&tag=vip", vec!["AB000001"]),
            (shop.as_str(), vec!["AB000002"]),
            ("q=ab00", vec!["AB000001", "AB000002", "AB000003"]),
            ("q=0001", vec!["AB000001", "CD000001"]),
            ("q=000001&tag=vip&firmware=1.0.0", vec!["CD000001"]),
            ("q=%E5%BC%A0%E8%AE%B0", vec!["AB000001"]),
            ("q=%E5%BC%A0%E6%B1%9F", vec!["AB000002"]),
            ("q=850331", vec!["AB000001"]),
            ("q=12345678", vec!["AB000003"]),
            ("q=WEST0001", vec![]),
            ("sort=-last_seen&size=4", vec!["CD000001", "CD000002", "CD000003", "AB000003"]),
        ] {
            assert_eq!(listed(server, &tree.east_ops, query), expected, "{query}");
        }
        let foreign = format!("/api/v1/terminals?organization_id={}", tree.west);
        assert_eq!(server.get(&foreign, &tree.east_ops).expect(422).json()["field"], "organization_id");
        for (query, field) in
            [("sort=id&connection=online", "sort"), ("q=x", "q"), ("size=0", "size"), ("after=x", "after")]
        {
            let problem = server.get(&format!("/api/v1/terminals?{query}"), &tree.east_ops).expect(422).json();
            assert_eq!(problem["field"], field, "{query}");
        }
        server.get("/api/v1/terminals?lifecycle=sold", &tree.east_ops).expect(422);
    });
}

#[test]
fn pages_follow_each_other_without_gap_or_repetition() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        fleet(server, &tree);
        for query in ["sort=id", "sort=-last_seen", "q=CD00", "q=CD00&sort=-last_seen"] {
            let whole = listed(server, &tree.admin, &format!("{query}&size=100"));
            let (mut pages, mut after) = (Vec::new(), String::new());
            loop {
                let path = format!("/api/v1/terminals?{query}&size=2&after={after}");
                let page = server.get(&path, &tree.admin).expect(200).json();
                let rows = page["items"].as_array().unwrap();
                pages.extend(rows.iter().map(|row| row["sn"].as_str().unwrap().to_owned()));
                match page["next"].as_str() {
                    Some(next) => after = next.to_owned(),
                    None => break,
                }
            }
            assert_eq!(pages, whole, "{query}");
            assert!(whole.len() >= 3, "{query}");
        }
    });
}

#[test]
fn the_overview_counts_what_the_list_shows() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        fleet(server, &tree);
        let overview = server.get("/api/v1/terminals/overview", &tree.east_ops).expect(200).json();
        assert_eq!(overview["total"], 6);
        let of = |list: &str, value: &str| {
            let counts = overview[list].as_array().unwrap();
            counts.iter().find(|count| count["value"] == value).map_or(0, |count| count["terminals"].as_i64().unwrap())
        };
        for state in ["online", "late", "offline", "missing", "dormant", "never"] {
            let listed = listed(server, &tree.east_ops, &format!("connection={state}")).len();
            assert_eq!(usize::try_from(of("connections", state)).unwrap(), listed, "{state}");
        }
        assert_eq!((of("firmwares", "2.0.0"), of("firmwares", "")), (2, 3));
        assert_eq!(of("lifecycles", "stocked"), 6);
        assert_eq!(server.get("/api/v1/terminals/overview", &tree.west_ops).expect(200).json()["total"], 1);
    });
}

fn patch(server: &TestServer, path: &str, token: &str, change: &Value) -> crate::harness::Answer {
    server.send("PATCH", path, token, &[("content-type", "application/json")], change.to_string().as_bytes())
}
