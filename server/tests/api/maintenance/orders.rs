//! Work orders from their opening to their proof.

use serde_json::{Value, json};
use tillward_server::db;
use tillward_server::maintenance::orders::state::PROOF_MS_MAX;
use tillward_server::maintenance::orders::{self, KEPT_MS, Kind};
use tillward_server::maintenance::{ForIncident, Urgency, open_for_incident};

use super::{DAY_MS, Terminal, answers, done, events, order, round, wait_for_state};
use crate::fixtures::{admin, headquarters, operator};
use crate::harness::{TestServer, on_each_database, wait_until};
use crate::seed::Tree;

const HOUR_MS: i64 = 3_600_000;

fn open(server: &TestServer, token: &str, new: &Value) -> i64 {
    server.post("/api/v1/work-orders", token, new).expect(201).json()["order"]["id"].as_i64().unwrap()
}

fn act(server: &TestServer, token: &str, id: i64, verb: &str, note: &str) -> crate::harness::Answer {
    server.post(&format!("/api/v1/work-orders/{id}/{verb}"), token, &json!({ "note": note }))
}

#[test]
fn a_finding_opens_one_order_and_only_a_healthy_check_in_closes_it() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let terminal = Terminal::new(server, &tree, "E1");
        let (ops, field) = (&tree.east_ops, &tree.east_field);
        terminal.report(server, json!({"tamper": "triggered"}));
        round(server);
        round(server);
        let found = terminal.orders(server, ops);
        assert_eq!(found.len(), 1, "one, however often it is found");
        let id = found[0]["id"].as_i64().unwrap();
        assert_eq!((&found[0]["kind"], &found[0]["reason"]), (&json!("inspection"), &json!("tamper")));
        assert_eq!((&found[0]["urgency"], &found[0]["opened_by"]), (&json!("now"), &json!("maintenance")));
        assert_eq!(terminal.due(server, ops).unwrap()["work_order_ids"], json!([id]));
        let again = json!({"terminal_id": terminal.id, "kind": "repair", "reason": "tamper"});
        let refused = server.post("/api/v1/work-orders", ops, &again).expect(409).json();
        assert_eq!(refused["detail"], format!("Work order {id} about this is open already."));
        // On site: the checklist first.
        assert_eq!(act(server, field, id, "done", "").expect(422).json()["field"], "answers");
        let answered = json!({"answers": {"seals": {"found": "fault", "note": "封签破损"}}});
        server.post(&format!("/api/v1/work-orders/{id}/answer"), field, &answered).expect(200);
        let odd = json!({"answers": {"mood": {"found": "ok"}}});
        assert_eq!(
            server.post(&format!("/api/v1/work-orders/{id}/answer"), field, &odd).expect(422).json()["field"],
            "answers"
        );
        let card = json!({"answers": {"seals": {"found": "ok", "note": "4111 1111 1111 1111"}}});
        server.post(&format!("/api/v1/work-orders/{id}/answer"), field, &card).expect(422);
        let waiting = done(server, field, id, json!({"note": "重灌密钥"})).expect(200).json();
        assert_eq!(waiting["order"]["state"], "waiting_for_proof");
        assert_eq!(waiting["done"]["by"], *field);
        assert!(
            act(server, field, id, "start", "")
                .expect(409)
                .text()
                .contains("waiting_for_proof cannot take the step start")
        );
        // A check-in that says nothing of it proves nothing; one that shows the fault refutes it.
        terminal.report(server, json!({}));
        wait_until("the check-in was looked at", || order(server, ops, id)["proof"]["checks"].is_array());
        assert_eq!(order(server, ops, id)["order"]["state"], "waiting_for_proof");
        terminal.report(server, json!({"tamper": "mask"}));
        wait_for_state(server, ops, id, "in_progress");
        let reopened = order(server, ops, id);
        let refuted = &reopened["history"][0];
        assert_eq!((&refuted["event"], &refuted["actor_kind"]), (&json!("fault"), &json!("system")));
        let tamper = json!({"signal": "tamper", "observed": "mask", "healthy": false});
        assert!(refuted["proof"]["checks"].as_array().unwrap().contains(&tamper), "{refuted}");
        assert_eq!(reopened["order"]["outcome"], Value::Null);
        done(server, field, id, json!({})).expect(200);
        terminal.report(server, json!({"tamper": "ok"}));
        wait_for_state(server, ops, id, "closed");
        let closed = order(server, ops, id);
        assert_eq!((&closed["order"]["outcome"], &closed["proof"]["check_in"]), (&json!("proven"), &json!(4)));
        assert_eq!(events(&closed), ["open", "answer", "answer", "done", "fault", "answer", "done", "prove"]);
        assert_eq!(terminal.due(server, ops), None);
        assert!(act(server, ops, id, "cancel", "late").expect(409).text().contains("closed"));
        act(server, field, id, "note", "补充照片编号 17").expect(200);
        let log = server.get("/api/v1/audit?size=100", &tree.admin).expect(200).json();
        let number = id.to_string();
        let of_it = |entry: &&Value| entry["object_kind"] == "work_order" && entry["object_id"] == number.as_str();
        let log: Vec<&str> = log["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(of_it)
            .map(|entry| entry["action"].as_str().unwrap())
            .collect();
        assert_eq!(log.len(), 9, "{log:?}");
        assert_eq!((log[0], log[1], log[8]), ("work_orders.note", "work_orders.prove", "work_orders.open"));
    });
}

#[test]
fn without_a_check_in_the_work_goes_on_and_a_person_may_close_it_as_unproven() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let terminal = Terminal::new(server, &tree, "E1");
        let (ops, field) = (&tree.east_ops, &tree.east_field);
        terminal.report(server, json!({}));
        let id = open(server, ops, &json!({"terminal_id": terminal.id, "kind": "inspection", "note": "客户来电"}));
        done(server, field, id, json!({})).expect(200);
        server.clock.advance_ms(PROOF_MS_MAX - 60_000);
        server.clock.advance_ms(120_000);
        wait_for_state(server, ops, id, "in_progress");
        assert_eq!(events(&order(server, ops, id)).last().unwrap(), "no_proof");
        act(server, field, id, "close-unproven", "x").expect(403);
        assert_eq!(act(server, ops, id, "close-unproven", " ").expect(422).json()["field"], "note");
        let closed = act(server, ops, id, "close-unproven", "导入模式终端，现场照片已存档").expect(200).json();
        assert_eq!((&closed["order"]["state"], &closed["order"]["outcome"]), (&json!("closed"), &json!("unproven")));
        let device = server.get("/api/v1/device-list", ops).expect(200).json()["items"][0].clone();
        assert_eq!((&device["inspected_by"], &device["inspection_proven"]), (&json!(field), &json!(false)));
        // What is closed without having been done is no inspection.
        let other = Terminal::new(server, &tree, "E2");
        let id = open(server, ops, &json!({"terminal_id": other.id, "kind": "inspection"}));
        act(server, ops, id, "close-unproven", "终端已退回").expect(200);
        let devices = server.get("/api/v1/device-list", ops).expect(200).json();
        assert_eq!(devices["items"][1]["inspected_at_ms"], Value::Null);
    });
}

#[test]
fn an_order_goes_with_its_reason_and_does_not_come_back_for_the_same_one() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let terminal = Terminal::new(server, &tree, "E1");
        let ops = &tree.east_ops;
        let states = || -> Vec<String> {
            let orders = terminal.orders(server, ops);
            orders.iter().rev().map(|order| order["state"].as_str().unwrap().to_owned()).collect()
        };
        terminal.report(server, json!({"coin_mv": 2_600}));
        round(server);
        assert_eq!(states(), ["open"]);
        terminal.report(server, json!({"coin_mv": 3_000}));
        round(server);
        assert_eq!(states(), ["cancelled"], "nobody has begun, and the reason is gone");
        terminal.report(server, json!({"coin_mv": 2_600}));
        round(server);
        assert_eq!(states(), ["cancelled", "open"], "it came anew");
        let id = terminal.orders(server, ops)[0]["id"].as_i64().unwrap();
        act(server, ops, id, "cancel", "下周统一换").expect(200);
        round(server);
        assert_eq!(states(), ["cancelled", "cancelled"], "a person decided");
        // What may be an attack is looked at although it seems to be over, and so is what was begun.
        terminal.report(server, json!({"coin_mv": 3_000, "tamper": "triggered"}));
        round(server);
        terminal.report(server, json!({"coin_mv": 2_600, "tamper": "ok"}));
        round(server);
        let begun = terminal.orders(server, ops)[0]["id"].as_i64().unwrap();
        act(server, ops, begun, "start", "").expect(200);
        terminal.report(server, json!({"coin_mv": 3_000}));
        round(server);
        assert_eq!(states(), ["cancelled", "cancelled", "open", "in_progress"]);
    });
}

#[test]
fn each_kind_of_work_has_its_own_proof() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        let old = json!({"sn": "E1", "model": crate::seed::MODEL, "iccid": "89860000000000000001"});
        let terminal = Terminal::with(server, &tree, &old);
        terminal.report(server, json!({"printer": "out"}));
        let start = |kind: &str, more: Value| {
            let id = open(server, ops, &json!({"terminal_id": terminal.id, "kind": kind}));
            done(server, ops, id, more).expect(200);
            id
        };
        let sim = start("replace_sim", json!({}));
        let sign_in = start("sign_in", json!({}));
        let repair = start("repair", json!({}));
        let radio = json!({"access": "4g", "plmn": "46000", "rsrp_dbm": -90});
        terminal.check_in(
            server,
            &json!({
                "device": {"iccid": "89860000000000000001", "printer": "paper_low"}, "condition": radio,
                "terminal": {"signed_in": false},
            }),
        );
        wait_for_state(server, ops, sim, "in_progress");
        wait_for_state(server, ops, sign_in, "in_progress");
        wait_until("the check-in was looked at", || order(server, ops, repair)["proof"]["checks"].is_array());
        assert_eq!(order(server, ops, repair)["order"]["state"], "waiting_for_proof", "it called before as well");
        for id in [sim, sign_in] {
            done(server, ops, id, json!({})).expect(200);
        }
        terminal.check_in(
            server,
            &json!({
                "device": {"iccid": "89860000000000000002"}, "condition": radio, "terminal": {"signed_in": true},
                "transactions": {"ok": 2, "failed": 0},
            }),
        );
        wait_for_state(server, ops, repair, "closed");
        wait_for_state(server, ops, sign_in, "closed");
        // The card's old number was the baseline of the second attempt, too.
        wait_for_state(server, ops, sim, "closed");
        let teach = start("teach_operator", json!({}));
        terminal.check_in(server, &json!({"transactions": {"ok": 5, "failed": 0}}));
        terminal.check_in(server, &json!({"transactions": {"ok": 1, "failed": 0}}));
        wait_for_state(server, ops, teach, "closed");
        let firmware = json!({"terminal_id": terminal.id, "kind": "repair", "expected_firmware": "4.2.0"});
        let firmware = open(server, ops, &firmware);
        done(server, ops, firmware, json!({})).expect(200);
        terminal.report(server, json!({}));
        wait_for_state(server, ops, firmware, "in_progress");
    });
}

#[test]
fn a_replacement_is_proven_by_the_terminal_that_stands_there_now() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        let at = |sn: &str, store: &str| {
            Terminal::with(server, &tree, &json!({"sn": sn, "model": crate::seed::MODEL, "store_name": store}))
        };
        let [old, new] = ["E1", "E2"].map(|sn| at(sn, "门店1"));
        let (elsewhere, nowhere) = (at("E3", "门店2"), Terminal::new(server, &tree, "E4"));
        let id = open(server, ops, &json!({"terminal_id": old.id, "kind": "replace_terminal", "reason": "reader"}));
        let field = |more: Value| done(server, ops, id, more).expect(422).json()["field"].clone();
        assert_eq!(field(json!({})), "replacement_sn");
        assert_eq!(field(json!({"replacement_sn": "E1"})), "replacement_sn");
        assert_eq!(field(json!({"replacement_sn": "nobody"})), "replacement_sn");
        // Terminals that work, but not there.
        [&elsewhere, &nowhere].iter().for_each(|terminal| terminal.report(server, json!({"tamper": "ok"})));
        assert_eq!(field(json!({"replacement_sn": "E3"})), "replacement_sn");
        assert_eq!(field(json!({"replacement_sn": "E4"})), "replacement_sn");
        done(server, ops, id, json!({"replacement_sn": "E2"})).expect(200);
        assert_eq!(order(server, ops, id)["replacement_sn"], "E2");
        old.report(server, json!({}));
        new.report(server, json!({"tamper": "ok"}));
        wait_for_state(server, ops, id, "closed");
        let repair = open(server, ops, &json!({"terminal_id": old.id, "kind": "repair"}));
        assert_eq!(
            done(server, ops, repair, json!({"replacement_sn": "E2"})).expect(422).json()["field"],
            "replacement_sn"
        );
    });
}

#[test]
fn orders_are_given_to_people_who_can_do_them_and_reminded_of() {
    on_each_database(|server| {
        let token = admin(server);
        let root = headquarters(server, &token);
        let [engineer, auditor] = ["field", "auditor"].map(|role| operator(server, &token, root, role));
        let model = json!({"code": crate::seed::MODEL, "name": "M"});
        server.post("/api/v1/models", &token, &model).expect(201);
        let made =
            server.post("/api/v1/terminals", &token, &json!({"sn": "H1", "model": crate::seed::MODEL})).expect(201);
        let id =
            open(server, &token, &json!({"terminal_id": made.json()["id"], "kind": "inspection", "due_in_days": 3}));
        let assign = |operator_id: Value| {
            server.post(&format!("/api/v1/work-orders/{id}/assign"), &token, &json!({"operator_id": operator_id}))
        };
        assert_eq!(assign(json!(auditor.id)).expect(422).json()["field"], "operator_id");
        assert_eq!(assign(json!(987_654)).expect(422).json()["field"], "operator_id");
        assert_eq!(assign(json!(engineer.id)).expect(200).json()["order"]["assignee_name"], engineer.login);
        let mine = format!("/api/v1/work-orders?state=live&assignee_id={}", engineer.id);
        let mine = server.get(&mine, &engineer.token).expect(200).json();
        assert_eq!((&mine["items"][0]["id"], &mine["items"][0]["state"]), (&json!(id), &json!("assigned")));
        let due_in_ms = mine["items"][0]["due_ms"].as_i64().unwrap() - server.clock.now().0;
        assert!((2 * DAY_MS..=3 * DAY_MS).contains(&due_in_ms), "{due_in_ms}");
        act(server, &engineer.token, id, "start", "").expect(200);
        act(server, &engineer.token, id, "cancel", "no").expect(403);
        server.post("/api/v1/work-orders", &engineer.token, &json!({"terminal_id": 1, "kind": "repair"})).expect(403);
        // The engineer's token lives shorter than the time limit.
        let reader = operator(server, &token, root, "auditor");
        let key = server.post(
            "/api/v1/api-keys",
            &token,
            &json!({"name": "reader", "role": "auditor", "expires_in_days": 90}),
        );
        let key = key.expect(201).json()["secret"].as_str().unwrap().to_owned();
        assert_ne!(reader.id, auditor.id);
        server.clock.advance_ms(3 * DAY_MS + 60_000);
        wait_until("a reminder", || order(server, &key, id)["order"]["reminders"] == 1);
        let detail = order(server, &key, id);
        assert_eq!(
            (&detail["order"]["state"], events(&detail).last().unwrap().as_str()),
            (&json!("in_progress"), "remind")
        );
        let left_ms = detail["order"]["deadline_ms"].as_i64().unwrap() - server.clock.now().0;
        assert!(left_ms > 5 * DAY_MS, "the next one comes later");
    });
}

#[test]
fn people_are_told_once_of_an_order_that_is_past_its_due_time() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        let (late, finished) = (Terminal::new(server, &tree, "E1"), Terminal::new(server, &tree, "E2"));
        let inspect = |terminal: &Terminal| {
            open(server, ops, &json!({"terminal_id": terminal.id, "kind": "repair", "due_in_days": 1}))
        };
        let (late, finished) = (inspect(&late), inspect(&finished));
        let told = || {
            let page = server.get("/api/v1/alerts?size=100", ops).expect(200).json();
            let about = |alert: &&Value| alert["kind"] == "work_order_overdue";
            page["items"].as_array().unwrap().iter().filter(about).cloned().collect::<Vec<_>>()
        };
        done(server, &tree.east_field, finished, json!({"note": "已修复"})).expect(200);
        server.clock.advance_ms(DAY_MS - 60_000);
        server.block_on(orders::tell_overdue(&server.state.db, server.clock.now())).unwrap();
        assert_eq!(told(), Vec::<Value>::new(), "there is a minute left");
        server.clock.advance_ms(60_000);
        wait_until("people are told", || !told().is_empty());
        server.clock.advance_ms(HOUR_MS);
        server.block_on(orders::tell_overdue(&server.state.db, server.clock.now())).unwrap();
        let alerts = told();
        assert_eq!(alerts.len(), 1, "once, and not of work that waits for its proof: {alerts:?}");
        assert_eq!(alerts[0]["parameters"], json!({"id": late.to_string(), "sn": "E1"}));
        assert_eq!(alerts[0]["org_path"], "/101/102/");
        assert_eq!(server.get("/api/v1/alerts", &tree.west_ops).expect(200).json()["items"], json!([]));
    });
}

#[test]
fn an_incident_opens_an_order_once_in_its_own_transaction() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let terminal = Terminal::new(server, &tree, "E1");
        let terminal_id = terminal.id;
        let open = |incident_id: i64, terminal_id: i64, give_up: bool| {
            let now = server.clock.now();
            let written: Result<Option<i64>, db::Error> = server.block_on(server.state.db.write(move |conn| {
                let asked = ForIncident {
                    terminal_id,
                    incident_id,
                    kind: Kind::Repair,
                    reason: None,
                    urgency: Urgency::Now,
                    note: "失败率明显高于同型号",
                };
                let id = open_for_incident(conn, &asked, now)?;
                if give_up { Err(db::Error::Closed) } else { Ok(id) }
            }));
            written
        };
        assert!(open(7, terminal_id, true).is_err());
        assert!(terminal.orders(server, &tree.east_ops).is_empty());
        let id = open(7, terminal_id, false).unwrap().unwrap();
        assert_eq!(open(7, terminal_id, false).unwrap(), None, "the same incident");
        assert!(open(8, terminal_id, false).unwrap().is_some());
        assert_eq!(open(9, 987_654, false).unwrap(), None, "no such terminal");
        let detail = order(server, &tree.east_ops, id);
        assert_eq!((&detail["order"]["incident_id"], &detail["order"]["kind"]), (&json!(7), &json!("repair")));
        assert_eq!(detail["history"][0]["note"], "失败率明显高于同型号");
        server.get(&format!("/api/v1/work-orders/{id}"), &tree.west_ops).expect(404);
        act(server, &tree.west_ops, id, "cancel", "not mine").expect(404);
    });
}

#[test]
fn an_incident_that_goes_on_a_day_after_its_order_was_closed_opens_another_one() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let terminal = Terminal::new(server, &tree, "E1");
        let terminal_id = terminal.id;
        let ask = || {
            let now = server.clock.now();
            let written: Result<Option<i64>, db::Error> = server.block_on(server.state.db.write(move |conn| {
                let (kind, urgency) = (Kind::Repair, Urgency::Soon);
                let asked = ForIncident { terminal_id, incident_id: 7, kind, reason: None, urgency, note: "" };
                open_for_incident(conn, &asked, now)
            }));
            written.unwrap()
        };
        let first = ask().unwrap();
        server.clock.advance_ms(2 * DAY_MS);
        assert_eq!(ask(), None, "it is not over");
        act(server, &tree.east_ops, first, "close-unproven", "现场照片已存档").expect(200);
        server.clock.advance_ms(DAY_MS - 60_000);
        assert_eq!(ask(), None, "that may be from before the work");
        server.clock.advance_ms(120_000);
        let second = ask().unwrap();
        assert_ne!(second, first);
        act(server, &tree.east_ops, second, "cancel", "终端下周退回").expect(200);
        server.clock.advance_ms(2 * DAY_MS);
        assert_eq!(ask(), None, "a person decided");
    });
}

#[test]
fn an_organizations_own_checklist_is_for_new_orders_and_editions_are_kept() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let [first, second] = ["E1", "E2"].map(|sn| Terminal::new(server, &tree, sn));
        let ops = &tree.east_ops;
        let path = format!("/api/v1/checklists/{}/repair", tree.east);
        let built_in = server.get(&path, ops).expect(200).json();
        assert_eq!((&built_in["organization_id"], &built_in["version"]), (&Value::Null, &json!(1)));
        let before = open(server, ops, &json!({"terminal_id": first.id, "kind": "repair"}));
        let items = json!([{"id": "photo", "zh": "拍照存档", "en": "Take a photo", "required": true}]);
        let change = |version: i64, items: &Value| json!({"version": version, "items": items});
        server.post(&path, ops, &change(0, &items)).expect(403);
        let own = server.post(&path, &tree.east_admin, &change(0, &items)).expect(200).json();
        assert_eq!((&own["organization_id"], &own["version"]), (&json!(tree.east), &json!(1)));
        server.post(&path, &tree.east_admin, &change(0, &items)).expect(409);
        let card = json!([{"id": "a", "zh": "4111 1111 1111 1111", "en": "x"}]);
        assert_eq!(server.post(&path, &tree.east_admin, &change(1, &card)).expect(422).json()["field"], "items");
        assert_eq!(server.post(&path, &tree.east_admin, &change(1, &items)).expect(200).json()["version"], 2);
        let after = open(server, ops, &json!({"terminal_id": second.id, "kind": "repair"}));
        assert_eq!(order(server, ops, before)["checklist"], built_in);
        let detail = order(server, ops, after);
        assert_eq!((&detail["checklist"]["version"], &detail["checklist"]["items"]), (&json!(2), &items));
        assert_eq!(answers(&detail), json!({"photo": {"found": "ok"}}));
        let west = format!("/api/v1/checklists/{}/repair", tree.west);
        assert_eq!(server.get(&west, &tree.west_ops).expect(200).json(), built_in);
        server.get(&path, &tree.west_ops).expect(404);
        server.get(&format!("/api/v1/checklists/{}/mood", tree.east), ops).expect(404);
    });
}

#[test]
fn what_was_over_long_ago_goes_and_what_is_open_stays() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let [first, second] = ["E1", "E2"].map(|sn| Terminal::new(server, &tree, sn));
        let over = open(server, &tree.east_ops, &json!({"terminal_id": first.id, "kind": "repair"}));
        let left = open(server, &tree.east_ops, &json!({"terminal_id": second.id, "kind": "repair"}));
        act(server, &tree.east_ops, over, "cancel", "错开").expect(200);
        let now = server.clock.now();
        let sweep = |later_ms: i64| {
            let now = tillward_server::clock::Now(now.0 + later_ms);
            server.block_on(orders::sweep(&server.state.db, now)).unwrap()
        };
        assert_eq!(sweep(KEPT_MS - 60_000), 0);
        assert_eq!(sweep(KEPT_MS + 60_000), 1);
        server.get(&format!("/api/v1/work-orders/{over}"), &tree.east_ops).expect(404);
        order(server, &tree.east_ops, left);
    });
}
