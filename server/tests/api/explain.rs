//! Failures are explained on demand over any part of the fleet, and on a schedule with an incident.

use serde_json::json;
use tillward_server::audit::Actor;
use tillward_server::clock::Now;
use tillward_server::db;
use tillward_server::failures::incidents::{self, Filter, Kind};
use tillward_server::failures::localize::{GAIN_MIN, Predicate, explain as localize};
use tillward_server::failures::{self, Found, Overview, Question, WATCH_INTERVAL_MS, cells_file};
use tillward_server::operators::{Caller, Scope};

use crate::check_in::{check_in, failure, terminal};
use crate::console::Browser;
use crate::fixtures::{ADMIN, admin, headquarters, operator, organization};
use crate::harness::{TestServer, on_each_database, wait_until};
use crate::rollouts::{SHA256, sql};

fn scope() -> Scope {
    Scope::subtree("/1000/")
}

/// 4.2.0 over 2G fails; 4.2.0 elsewhere and 2G with 4.1.0 do not.
fn fault(server: &TestServer) {
    for id in 1..=48_i64 {
        let terminal = terminal(server, id);
        let firmware = if id % 2 == 0 { "4.2.0" } else { "4.1.0" };
        let access = if id % 4 < 2 { "2g" } else { "4g" };
        for seq in 1..=4_u32 {
            let mut body = check_in(1, seq);
            body["software"]["firmware"] = json!(firmware);
            body["condition"] = json!({"access": access, "plmn": "46000"});
            body["transactions"] = json!({"ok": 5, "failed": 0});
            if (firmware == "4.2.0" && access == "2g") || (id == 3 && seq == 1) {
                body["failures"] = json!([failure(&format!("e{id}-{seq}"))]);
                body["transactions"]["failed"] = json!(1);
            }
            terminal.send(server, &body).expect(200);
        }
    }
}

fn named(explanation: &failures::Explanation) -> Vec<(&str, &str)> {
    explanation.all_of.iter().map(|c| (c.attribute.as_str(), c.value.as_str())).collect()
}

fn ask(server: &TestServer, question: Question) -> Overview {
    let answer: Result<_, db::Error> =
        server.block_on(failures::explain(&server.state.db, scope(), question, server.clock.now()));
    answer.unwrap()
}

#[test]
fn a_question_is_about_the_part_of_the_fleet_it_names() {
    on_each_database(|server| {
        fault(server);
        let all = Question { hours: 24, ..Question::default() };
        let answer = ask(server, all.clone());
        assert_eq!(named(&answer.explanations[0]), [("firmware", "4.2.0"), ("access", "2g")]);
        assert_eq!((answer.explanations[0].terminals, answer.explanations[0].failing.len()), (12, 12));
        let new = ask(server, Question { firmware: Some("4.2.0".to_owned()), ..all.clone() });
        assert_eq!((new.exposures, new.failures), (96.0, 48.0));
        assert_eq!(ask(server, Question { region: Some("nowhere".to_owned()), ..all.clone() }).exposures, 0.0);
        let code = ask(server, Question { outcome: Some("code:91".to_owned()), ..all.clone() });
        assert_eq!((code.exposures, code.failures), (192.0, 49.0));
        assert_eq!(named(&code.explanations[0]), [("firmware", "4.2.0"), ("access", "2g")]);
        assert_eq!(ask(server, Question { outcome: Some("code:05".to_owned()), ..all }).failures, 0.0);
    });
}

#[test]
fn the_exported_cells_give_the_same_answer_again() {
    on_each_database(|server| {
        fault(server);
        let question = Question { hours: 24, ..Question::default() };
        let answer = ask(server, question.clone());
        let (caller, actor, now) = (Caller::command("test"), Actor::system("test"), server.clock.now());
        let csv: Result<_, db::Error> =
            server.block_on(failures::export_cells(&server.state.db, &caller, actor, scope(), question, now));
        let file = cells_file::read(&csv.unwrap()).unwrap();
        let again = localize(&file.cells, GAIN_MIN, |_| None);
        assert_eq!((again.n, again.k), (answer.exposures, answer.failures));
        let names: Vec<Vec<(String, String)>> = again
            .explanations
            .iter()
            .map(|found| {
                let name = |p: &Predicate| {
                    let attribute = &file.cells.attributes[p.attribute];
                    (attribute.name.clone(), attribute.values[usize::from(p.code)].clone())
                };
                found.all_of.iter().map(name).collect()
            })
            .collect();
        assert_eq!(names[0], [("firmware".to_owned(), "4.2.0".to_owned()), ("access".to_owned(), "2g".to_owned())]);
        assert_eq!(again.explanations[0].lift, answer.explanations[0].lift);
    });
}

#[test]
fn questions_over_rest_are_checked_and_answered() {
    on_each_database(|server| {
        let token = admin(server);
        let home = headquarters(server, &token);
        let answer = server.get("/api/v1/failures/explain?hours=3", &token).expect(200).json();
        assert_eq!((&answer["mode"], &answer["explanations"]), (&json!("contrast"), &json!([])));
        server.get(&format!("/api/v1/failures/explain?organization_id={home}"), &token).expect(200);
        server.get("/api/v1/failures/explain?organization_id=987654", &token).expect(422);
        server.get("/api/v1/failures/explain?hours=0", &token).expect(422);
        let csv = server.get("/api/v1/failures/cells.csv?model=demo-p1", &token).expect(200);
        assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8"));
        assert!(csv.text().starts_with("firmware,model,hardware,app,config,region,carrier,access,signal,in_update,exposures,failures,base_exposures,base_failures"));
        assert_eq!(server.get("/api/v1/failures/explanations", &token).expect(200).json()["items"], json!([]));
    });
}

#[test]
fn the_page_is_about_the_organization_that_its_address_names() {
    on_each_database(|server| {
        fault(server);
        let token = admin(server);
        let east = organization(server, &token, headquarters(server, &token), "EAST");
        let browser = Browser::signed_in(server, ADMIN);
        for address in ["/causes", "/causes?organization_id=1000", "/causes?organization_id="] {
            assert!(browser.get(address).expect(200).text().contains("SN000004"), "{address}");
        }
        let page = browser.get(&format!("/causes?window=3d&organization_id={east}&model=demo-p1")).expect(200).text();
        assert!(!page.contains("SN000004") && page.contains("0 of 0 samples failed"), "{page}");
        assert!(page.contains(&format!("<option value=\"{east}\" selected>")), "{page}");
        let kept = format!("organization_id={east}&#38;model=demo-p1");
        for link in ["/causes?window=7d", "/failures/cells.csv?window=3d"] {
            assert!(page.contains(&format!("href=\"{link}&#38;{kept}\"")), "{link}: {page}");
        }
        let (whole, part) = ("/failures/cells.csv", format!("/failures/cells.csv?organization_id={east}"));
        assert!(browser.get(whole).expect(200).text().lines().count() > 2);
        assert_eq!(browser.get(&part).expect(200).text().lines().count(), 1);
        browser.get("/causes?organization_id=987654").expect(422);
        browser.get("/causes?organization_id=east").expect(422);
        let below = Browser::signed_in(server, &operator(server, &token, east, "org_ops").login);
        below.get(&format!("/causes?organization_id={east}")).expect(200);
        for address in ["/causes?organization_id=1000", "/failures/cells.csv?organization_id=1000"] {
            below.get(address).expect(422);
        }
    });
}

#[test]
fn from_a_version_that_fails_there_is_a_way_to_the_rollouts_that_bring_it() {
    on_each_database(|server| {
        fault(server);
        let token = admin(server);
        sql(
            server,
            format!(
                "INSERT INTO releases (id, organization_id, org_path, name, component, firmware_version, release_counter,
                     models, requires, sha256, length_bytes, notes, state, created_by, created_by_name, created_at_ms,
                     version)
                 VALUES (1, 1000, '/1000/', 'r1', 'os', '4.2.0', 1, '[\"demo-p1\"]', '[]', '{SHA256}', 1000, '',
                     'published', 1, 'x', 0, 1);
                 INSERT INTO release_models (model, component, release_counter, release_id, target_name)
                 VALUES ('demo-p1', 'os', 1, 1, 'demo-p1.os.4.2.0-1.bin');
                 UPDATE terminals SET enrolled_at_ms = 0;"
            ),
        );
        let draft = |name: &str| {
            let new = json!({"name": name, "release_id": 1, "filter": {}});
            server.post("/api/v1/rollouts", &token, &new).expect(201).json()["id"].as_i64().unwrap()
        };
        let (id, other) = (draft("autumn"), draft("a draft"));
        let address = format!("/api/v1/rollouts/{id}");
        wait_until("it starts", || {
            let preview = server.get(&format!("{address}/preview"), &token).expect(200).json();
            let confirmed = json!({"confirm_count": preview["count"]});
            server.post(&format!("{address}/start"), &token, &confirmed).status == 200
        });
        let (browser, way) =
            (Browser::signed_in(server, ADMIN), format!("href=\"/rollouts/{id}\">autumn</a> r1 4.2.0"));
        let page = |browser: &Browser<'_>| browser.get("/causes").expect(200).text();
        let shown = page(&browser);
        assert!(shown.contains(&way) && shown.contains("Open one to pause or abort it"), "{shown}");
        assert!(!shown.contains(&format!("/rollouts/{other}\"")), "what was not started is not stopped");
        browser.get(&format!("/rollouts/{id}")).expect(200);

        let found = |query: &str| {
            let list = server.get(&format!("/api/v1/rollouts?{query}"), &token).expect(200).json();
            list["items"].as_array().unwrap().iter().map(|rollout| rollout["id"].as_i64().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(found("firmware=4.2.0"), [other, id]);
        assert_eq!(found("firmware=4.2.0&state=running"), [id]);
        assert_eq!(found("firmware=4.1.0"), [0_i64; 0]);

        // Who may not see rollouts is told of the cause alone.
        let field = operator(server, &token, headquarters(server, &token), "field");
        let field = page(&Browser::signed_in(server, &field.login));
        assert!(field.contains("SN000004") && !field.contains("/rollouts/"), "{field}");

        let why = json!({"why": "too many failures"});
        server.post(&format!("{address}/pause"), &token, &why).expect(200);
        assert!(page(&browser).contains(&way), "a pause may end");
        server.post(&format!("{address}/cancel"), &token, &why).expect(200);
        assert!(!page(&browser).contains(&way), "what has ended needs no stop");
    });
}

#[test]
fn what_an_unattended_scan_finds_opens_one_incident_and_adds_to_it() {
    on_each_database(|server| {
        fault(server);
        let watch = |now: Now| -> usize {
            let opened: Result<_, db::Error> = server.block_on(failures::watch(&server.state.db, now));
            opened.unwrap()
        };
        let incidents_open = || {
            let filter = Filter { kind: Some(Kind::FailureRise), ..Filter::default() };
            let read = move |conn: &mut db::Conn| incidents::list(conn, &scope(), &filter, None, 100);
            let rows: Result<_, db::Error> = server.block_on(server.state.db.read(read));
            rows.unwrap()
        };
        // The server's own pass may have been first: then it is not yet time again.
        let now = server.clock.now();
        watch(now);
        wait_until("an incident", || incidents_open().len() == 1);
        let first = incidents_open().remove(0);
        assert_eq!((first.subject.as_str(), first.org_path.as_str()), ("firmware=4.2.0 · access=2g", "/1000/"));
        assert_eq!((first.affected, first.level.as_str()), (12, "P2"));
        assert_eq!(watch(now), 0, "it is not yet time again");
        let later = Now(now.0 + 2 * WATCH_INTERVAL_MS);
        assert_eq!(watch(later), 1);
        assert_eq!(watch(later), 0);
        let again = incidents_open();
        assert_eq!((again.len(), again[0].occurrences), (1, first.occurrences + 1));
        let read = |conn: &mut db::Conn| failures::found(conn, &scope(), None, 100);
        let found: Result<Vec<Found>, db::Error> = server.block_on(server.state.db.read(read));
        let found = found.unwrap();
        assert_eq!((found[0].org_path.as_str(), found[0].class.as_str()), ("/1000/", "code:91"));
        assert_eq!(found[0].report["explanations"][0]["all_of"][0], json!({"attribute": "firmware", "value": "4.2.0"}));
        let kept: Result<usize, db::Error> = server.block_on(failures::sweep(&server.state.db, later));
        assert_eq!(kept.unwrap(), 0);
    });
}
