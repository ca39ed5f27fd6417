//! Failures are explained on demand over any part of the fleet, and on a schedule with an incident.

use serde_json::json;
use tillward_server::audit::Actor;
use tillward_server::clock::Now;
use tillward_server::db;
use tillward_server::failures::incidents::{self, Filter, Kind, Level, NewIncident};
use tillward_server::failures::localize::{GAIN_MIN, Predicate, explain as localize};
use tillward_server::failures::{self, Class, Found, Only, Overview, Question, WATCH_INTERVAL_MS, cells_file};
use tillward_server::operators::{Caller, Scope};
use tillward_server::rollouts::Evidence;

use crate::check_in::{Terminal, check_in, failure, terminal};
use crate::console::Browser;
use crate::fixtures::{ADMIN, admin, headquarters, operator, organization};
use crate::harness::{TestServer, on_each_database, wait_until};
use crate::rollouts::{SHA256, sql};

fn scope() -> Scope {
    Scope::subtree("/1000/")
}

/// 4.2.0 over 2G fails; 4.2.0 elsewhere and 2G with 4.1.0 do not.
fn fault(server: &TestServer) {
    let terminals: Vec<Terminal> = (1..=48).map(|id| terminal(server, id)).collect();
    fault_of(server, &terminals, "4.2.0", "2g");
}

/// This firmware over this access fails at these terminals, half of which have it and half of which are connected so.
fn fault_of(server: &TestServer, terminals: &[Terminal], faulty: &str, weak: &str) {
    for terminal in terminals {
        let id = terminal.id;
        let firmware = if id % 2 == 0 { faulty } else { "4.1.0" };
        let access = if id % 4 < 2 { weak } else { "4g" };
        for seq in 1..=4_u32 {
            let mut body = check_in(1, seq);
            body["software"]["firmware"] = json!(firmware);
            body["condition"] = json!({"access": access, "plmn": "46000"});
            body["transactions"] = json!({"ok": 5, "failed": 0});
            if (firmware == faulty && access == weak) || (id == 3 && seq == 1) {
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
        let new = ask(server, Question { only: Only::new([("firmware", "4.2.0")]), ..all.clone() });
        assert_eq!((new.exposures, new.failures), (96.0, 48.0));
        let elsewhere = Only::new([("firmware", "4.2.0"), ("access", "!2g")]);
        let new = ask(server, Question { only: elsewhere, ..all.clone() });
        assert_eq!((new.exposures, new.failures, new.explanations.as_slice()), (48.0, 0.0, &[][..]));
        assert_eq!(ask(server, Question { only: Only::new([("region", "nowhere")]), ..all.clone() }).exposures, 0.0);
        let of = |class: &str| Question { class: Class::parse(class), ..all.clone() };
        let code = ask(server, of("code:91"));
        assert_eq!((code.exposures, code.failures), (192.0, 49.0));
        assert_eq!(named(&code.explanations[0]), [("firmware", "4.2.0"), ("access", "2g")]);
        for (class, failures) in [("code:05", 0.0), ("technical", 49.0), ("host", 49.0), ("link", 0.0)] {
            assert_eq!(ask(server, of(class)).failures, failures, "{class}");
        }
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
        server.get("/api/v1/failures/explain?outcome=91", &token).expect(422);
        server.get("/api/v1/failures/explain?access=!2g&outcome=technical", &token).expect(200);
        let csv = server.get("/api/v1/failures/cells.csv?model=demo-p1", &token).expect(200);
        assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8"));
        assert!(csv.text().starts_with("firmware,model,hardware,app,config,region,carrier,access,signal,in_update,exposures,failures,base_exposures,base_failures"));
        assert_eq!(server.get("/api/v1/failures/explanations", &token).expect(200).json()["items"], json!([]));
    });
}

#[test]
fn the_page_narrows_to_any_condition_and_leads_to_what_tells_two_of_them_apart() {
    on_each_database(|server| {
        fault(server);
        admin(server);
        let browser = Browser::signed_in(server, ADMIN);
        let page = browser.get("/causes").expect(200).text();
        assert!(page.contains("49 of 192 samples failed"), "{page}");
        let mut links: Vec<String> = page
            .split("href=\"")
            .filter_map(|rest| rest.split_once('"'))
            .map(|(address, _)| address.replace("&#38;", "&"))
            .filter(|address| address.contains("4.2.0"))
            .collect();
        links.dedup();
        // The set itself, and both of its halves without the other.
        for (conditions, failed) in [
            ("firmware=4.2.0&access=2g", "48 of 48"),
            ("firmware=4.2.0&access=%212g", "0 of 48"),
            ("firmware=%214.2.0&access=2g", "0 of 48"),
        ] {
            let address = links.iter().find(|address| address.ends_with(conditions));
            let part = browser.get(address.unwrap_or_else(|| panic!("{conditions}: {links:?}"))).expect(200).text();
            assert!(part.contains(&format!("{failed} samples failed")), "{conditions}: {part}");
        }
        let others = browser.get("/causes?access=!2g&firmware=4.2.0&outcome=technical").expect(200).text();
        for kept in [
            "<option value=\"!2g\" selected>Not 2G</option>",
            "value=\"technical\" selected",
            "<details class=\"fold whole\" open>",
        ] {
            assert!(others.contains(kept), "{kept}: {others}");
        }
        let cells = browser.get("/failures/cells.csv?access=!2g").expect(200).text();
        assert!(cells.contains(",4g,") && !cells.contains(",2g,"), "{cells}");
        let unknown = browser.get("/causes?outcome=nonsense").expect(200).text();
        assert!(!unknown.contains("value=\"nonsense\""), "{unknown}");
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
fn each_organization_and_each_model_has_causes_of_its_own() {
    on_each_database(|server| {
        let terminals = |from: i64| -> Vec<Terminal> { (from..from + 48).map(|id| terminal(server, id)).collect() };
        let (in_the_west, in_the_east) = (terminals(1), terminals(101));
        let token = admin(server);
        let root = headquarters(server, &token);
        let west = organization(server, &token, root, "WEST");
        let east = organization(server, &token, root, "EAST");
        server.post("/api/v1/models", &token, &json!({"code": "demo-p2", "name": "P2"})).expect(201);
        let path =
            |id: i64| format!("organization_id = {id}, org_path = (SELECT path FROM organizations WHERE id = {id})");
        sql(
            server,
            format!(
                "UPDATE terminals SET {} WHERE id < 100;
                 UPDATE terminals SET model = 'demo-p2', {} WHERE id > 100;",
                path(west),
                path(east)
            ),
        );
        fault_of(server, &in_the_west, "4.2.0", "2g");
        fault_of(server, &in_the_east, "5.0.0", "3g");
        let browser = Browser::signed_in(server, ADMIN);
        let (ours, theirs) = (["SN000004", "Firmware 4.2.0"], ["SN000104", "Firmware 5.0.0"]);
        let shows = |browser: &Browser<'_>, query: &str, shown: &[&str], hidden: &[&str]| {
            let page = browser.get(&format!("/causes{query}")).expect(200).text();
            assert!(shown.iter().all(|text| page.contains(text)), "{query} {shown:?}: {page}");
            assert!(!hidden.iter().any(|text| page.contains(text)), "{query} {hidden:?}: {page}");
        };
        shows(&browser, "", &[ours, theirs].concat(), &[]);
        shows(&browser, &format!("?organization_id={root}"), &[ours, theirs].concat(), &[]);
        shows(&browser, &format!("?organization_id={west}"), &ours, &theirs);
        shows(&browser, &format!("?organization_id={east}"), &theirs, &ours);
        shows(&browser, "?model=demo-p1", &ours, &theirs);
        shows(&browser, "?model=demo-p2", &[&theirs[..], &["48 of 192 samples failed"]].concat(), &ours);
        let of_neither = format!("?organization_id={west}&model=demo-p2");
        shows(&browser, &of_neither, &["0 of 0 samples failed"], &[ours, theirs].concat());
        let below = Browser::signed_in(server, &operator(server, &token, east, "org_ops").login);
        shows(&below, "", &theirs, &ours);
        let cells = below.get("/failures/cells.csv").expect(200).text();
        let rows: Vec<&str> = cells.lines().skip(1).collect();
        assert!(!rows.is_empty() && rows.iter().all(|row| row.contains(",demo-p2,")), "{cells}");
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
        assert!(shown.contains(&way) && shown.contains("Open one to stop it, or part of it"), "{shown}");
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

/// Subjects of rises with their states, in order.
fn rises(server: &TestServer) -> Vec<(String, String)> {
    let filter = Filter { kind: Some(Kind::FailureRise), ..Filter::default() };
    let read = move |conn: &mut db::Conn| incidents::list(conn, &scope(), &filter, None, 100);
    let rows: Result<_, db::Error> = server.block_on(server.state.db.read(read));
    let mut rises: Vec<(String, String)> = rows.unwrap().into_iter().map(|row| (row.subject, row.state)).collect();
    rises.sort();
    rises
}

fn watch_at(server: &TestServer, now: Now) {
    let done: Result<usize, db::Error> = server.block_on(failures::watch(&server.state.db, now));
    done.unwrap();
}

/// Scans without a gap, after `from` and up to `to`.
fn watch_between(server: &TestServer, from: Now, to: Now) {
    let mut at_ms = from.0;
    while at_ms < to.0 {
        at_ms = (at_ms + 2 * WATCH_INTERVAL_MS).min(to.0);
        watch_at(server, Now(at_ms));
    }
}

#[test]
fn one_scan_after_a_time_without_any_ends_no_rise() {
    on_each_database(|server| {
        fault(server);
        let hour_ms = server.clock.now().hour_ms();
        let at = |minutes: i64| Now(hour_ms + minutes * 60_000);
        watch_at(server, at(65));
        watch_at(server, at(235));
        assert_eq!(rises(server)[0].1, "open", "nobody looked for hours");
        watch_between(server, at(235), at(290));
        assert_eq!(rises(server)[0].1, "open");
        watch_between(server, at(290), at(300));
        assert_eq!(rises(server)[0].1, "mitigated");
    });
}

#[test]
fn a_rise_is_over_when_it_was_not_seen_for_an_hour_and_not_before() {
    const FOUND: &str = "firmware=4.2.0 · access=2g";
    on_each_database(|server| {
        fault(server);
        let state = |name: &str| vec![(FOUND.to_owned(), name.to_owned())];
        // The window reaches over three hours, the running one included.
        let hour_ms = server.clock.now().hour_ms();
        let at = |minutes: i64| Now(hour_ms + minutes * 60_000);
        watch_at(server, at(65));
        assert_eq!(rises(server), state("open"));
        watch_between(server, at(65), at(170));
        assert_eq!(rises(server), state("open"), "seen still, for longer than an hour");
        watch_between(server, at(170), at(190));
        assert_eq!(rises(server), state("open"), "not seen any more, but a few minutes ago it was");
        watch_between(server, at(190), at(240));
        assert_eq!(rises(server), state("mitigated"));
        let read = move |conn: &mut db::Conn| incidents::list(conn, &scope(), &Filter::default(), None, 1);
        let rows: Result<_, db::Error> = server.block_on(server.state.db.read(read));
        let id = rows.unwrap()[0].id;
        let detail = server.block_on(server.state.db.read(move |conn| incidents::get(conn, &scope(), id))).unwrap();
        let story: Vec<&str> = detail.timeline.iter().rev().map(|line| line.event.as_str()).collect();
        assert_eq!(story, ["open", "subside"]);
        watch_between(server, at(240), at(300));
        assert_eq!(rises(server), state("mitigated"), "it is said once");
    });
}

#[test]
fn a_rise_that_is_told_to_those_above_is_seen_still_below_them() {
    on_each_database(|server| {
        fault(server);
        let hour_ms = server.clock.now().hour_ms();
        let at = |minutes: i64| Now(hour_ms + minutes * 60_000);
        let before = Now(at(65).0 - 3 * 3_600_000);
        let rise = |subject: &str, key: &str| NewIncident {
            kind: Kind::FailureRise,
            level: Level::P2,
            org_path: "/1000/77/".to_owned(),
            key: key.to_owned(),
            subject: subject.to_owned(),
            evidence: json!({}),
            rollout_id: None,
            release_id: None,
            terminal_ids: Vec::new(),
            affected: 1,
        };
        let told = vec![rise("a part", "firmware=4.2.0;access=2g"), rise("over", "firmware=3.0.0")];
        let opened: Result<_, db::Error> =
            server.block_on(server.state.db.write(move |conn| incidents::open_all(conn, told, before)));
        opened.unwrap();
        watch_between(server, at(55), at(130));
        let expected = [("a part", "open"), ("firmware=4.2.0 · access=2g", "open"), ("over", "mitigated")];
        assert_eq!(rises(server), expected.map(|(subject, state)| (subject.to_owned(), state.to_owned())));
    });
}

/// A rollout of this organization that a gate stopped, with this evidence.
fn halted(org_path: &str, evidence: serde_json::Value) -> NewIncident {
    NewIncident {
        kind: Kind::RolloutHalted,
        level: Level::P1,
        org_path: org_path.to_owned(),
        key: "rollout:1".to_owned(),
        subject: "4.2.0".to_owned(),
        evidence,
        rollout_id: None,
        release_id: None,
        terminal_ids: Vec::new(),
        affected: 1,
    }
}

fn open(server: &TestServer, new: NewIncident) -> i64 {
    let now = server.clock.now();
    let opened: Result<i64, db::Error> =
        server.block_on(server.state.db.write(move |conn| incidents::open(conn, new, now)));
    opened.unwrap()
}

#[test]
fn a_halt_is_explained_beside_the_gates_own_evidence() {
    on_each_database(|server| {
        fault(server);
        let gate = json!({"verdict": "fail", "e": 30.0});
        let (ours, quiet) =
            (open(server, halted("/1000/", gate.clone())), open(server, halted("/2000/", gate.clone())));
        // The server's own pass may be first.
        let explain = || server.block_on(failures::halts::explain_halts(&server.state.db, server.clock.now())).unwrap();
        let detail = |id: i64, org_path: &'static str| {
            let read = move |conn: &mut db::Conn| incidents::get(conn, &Scope::subtree(org_path.to_owned()), id);
            server.block_on(server.state.db.read(read)).unwrap()
        };
        explain();
        let found = detail(ours, "/1000/");
        let headline = &found.evidence["localized"][0];
        assert_eq!(headline["conditions"], "firmware=4.2.0 · access=2g", "{}", found.evidence);
        assert_eq!((&headline["affected"], &headline["failures"]), (&json!(12), &json!(48.0)));
        assert_eq!((&found.evidence["verdict"], &found.evidence["e"]), (&gate["verdict"], &gate["e"]));
        let story: Vec<&str> = found.timeline.iter().rev().map(|line| line.event.as_str()).collect();
        assert_eq!(story, ["open", "evidence"]);
        assert_eq!(found.alerts.len(), 1, "nobody is told twice");
        assert_eq!(detail(quiet, "/2000/").evidence["localized"], failures::halts::NOTHING);
        assert_eq!(explain(), 0, "each once");
        // A halt that comes again has evidence of its own.
        open(server, halted("/1000/", gate));
        explain();
        assert_eq!(detail(ours, "/1000/").evidence["localized"][0]["affected"], 12);
        // What was halted long ago is left as it is.
        open(server, halted("/3000/", json!({"verdict": "fail"})));
        let late = Now(server.clock.now().0 + 3 * 3_600_000);
        assert_eq!(server.block_on(failures::halts::explain_halts(&server.state.db, late)).unwrap(), 0);
    });
}

#[test]
fn the_page_of_a_halt_says_in_words_what_explains_it() {
    on_each_database(|server| {
        let token = admin(server);
        let home = server.get("/api/v1/organizations", &token).expect(200).json()["items"][0]["path"].clone();
        let found = json!({
            "conditions": "firmware=4.2.0 · access=2g", "failures": 47.0, "exposures": 96.0, "expected": 2.2,
            "lift": 21.4, "lift_low": 10.0, "lift_high": 40.1, "coverage": 0.98, "affected": 12,
            "baseline": "history", "hours": 24,
        });
        let with = |localized: serde_json::Value| json!({"verdict": "fail", "localized": localized});
        let id = open(server, halted(home.as_str().unwrap(), with(json!([found]))));
        let browser = Browser::signed_in(server, ADMIN);
        let page = browser.get(&format!("/incidents/{id}")).expect(200).text();
        for text in ["failed at 21.4 × its expected rate", "47 of 96, expected 2.2", "explains 98%", "4.2.0"] {
            assert!(page.contains(text), "{text}: {page}");
        }
        let nothing =
            NewIncident { key: "rollout:2".to_owned(), ..halted(home.as_str().unwrap(), with(json!("nothing"))) };
        let id = open(server, nothing);
        let page = browser.get(&format!("/incidents/{id}")).expect(200).text();
        assert!(page.contains("no condition stands out"), "{page}");
    });
}

#[test]
fn the_page_of_a_halt_shows_the_gates_judgement_as_the_rollouts_own_page_does() {
    on_each_database(|server| {
        let token = admin(server);
        let home = server.get("/api/v1/organizations", &token).expect(200).json()["items"][0]["path"].clone();
        let judged = Evidence {
            verdict: "fail".to_owned(),
            at_ms: server.clock.now().0,
            e: 2_031.1,
            e_max: 2_031.1,
            threshold: 100.0,
            e_outcome: 4_061.2,
            started: 200,
            failed: 11,
            ..Evidence::default()
        };
        let mut evidence = serde_json::to_value(judged).unwrap();
        evidence["localized"] = json!(failures::halts::TOO_MUCH);
        let id = open(server, halted(home.as_str().unwrap(), evidence));
        let page = Browser::signed_in(server, ADMIN).get(&format!("/incidents/{id}")).expect(200).text();
        for text in
            ["verdict-word bad", "11 of 200", "2,031", "too much to look through", "<a href=\"/causes\">Why payments"]
        {
            assert!(page.contains(text), "{text}: {page}");
        }
        for name in ["<dt>e outcome</dt>", "<dt>at ms</dt>", "<th scope=\"col\">at ms</th>"] {
            assert!(!page.contains(name), "{name}: {page}");
        }
        assert!(page.contains("e_outcome"), "as it was recorded, it stands below");
    });
}
