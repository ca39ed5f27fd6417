//! From the upload to the withdrawal, step by step, and who may take each.

use diesel::prelude::*;
use serde_json::{Value, json};
use tillward_protocol::ids::{Sha256Hex, TerminalId};
use tillward_server::db::schema::releases;
use tillward_server::db::{self, Conn};

use super::{
    ADMIN, APPROVER, AUDITOR, MANAGER, OTHER_MANAGER, act, create, draft, image_client, now, publish, set_up, token,
    upload,
};
use crate::harness::{on_each_database, on_each_database_with};

#[test]
fn an_earlier_firmware_is_published_again_under_the_next_counter() {
    on_each_database(|server| {
        set_up(server);
        let good = publish(server, 7, b"the good one");
        publish(server, 8, b"the bad one");
        let again = act(server, MANAGER, &good, "again").expect(201).json();
        assert_eq!((&again["release_counter"], &again["state"]), (&json!(9), &json!("draft")));
        for same in ["sha256", "firmware_version", "models", "component", "length_bytes"] {
            assert_eq!(again[same], good[same], "{same}");
        }
        act(server, APPROVER, &again, "approve").expect(200);
        assert_eq!(act(server, MANAGER, &again, "publish").expect(200).json()["state"], "published");
        server.post("/api/v1/releases/999/again", &token(server, MANAGER), &json!({})).expect(404);
    });
}

#[test]
fn a_release_goes_from_upload_to_a_file_that_any_tuf_client_downloads() {
    on_each_database(|server| {
        set_up(server);
        let published = publish(server, 42, b"firmware of 42");
        assert_eq!(published["state"], "published");
        assert_eq!(published["approved_by"], APPROVER);
        assert_eq!(published["length_bytes"], 14);
        let mut client = image_client(server);
        server.block_on(client.refresh(now(server))).unwrap();
        for name in ["demo-p1.os.4.42.0-42.bin", "pax-a920.os.4.42.0-42.bin"] {
            let bytes = server.block_on(client.get_target(name, now(server))).unwrap();
            assert_eq!(bytes, b"firmware of 42");
        }
        let audit = server.get("/api/v1/audit", &token(server, MANAGER)).expect(200).json();
        let actions: Vec<&str> =
            audit["items"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
        assert_eq!(actions, ["releases.publish", "releases.approve", "releases.create"]);
        assert!(audit["items"][0]["request_id"].as_str().unwrap().len() > 8);
        assert_eq!(server.get("/api/v1/audit/verify", &token(server, AUDITOR)).json()["broken_at"], Value::Null);
    });
}

#[test]
fn a_withdrawn_release_is_gone_for_clients_and_final_for_operators() {
    on_each_database(|server| {
        set_up(server);
        let release = publish(server, 42, b"firmware of 42");
        let path = format!("/tuf/image/targets/{}.demo-p1.os.4.42.0-42.bin", release["sha256"].as_str().unwrap());
        server.get(&path, "").expect(200);
        let mut client = image_client(server);
        server.block_on(client.refresh(now(server))).unwrap();
        assert_eq!(act(server, MANAGER, &release, "withdraw").expect(200).json()["state"], "withdrawn");
        server.get(&path, "").expect(404);
        server.block_on(client.refresh(now(server))).unwrap();
        let found = server.block_on(client.get_target_info("demo-p1.os.4.42.0-42.bin", now(server))).unwrap();
        assert!(found.is_none());
        for verb in ["withdraw", "publish"] {
            assert_eq!(act(server, MANAGER, &release, verb).expect(409).json()["code"], "conflict");
        }
    });
}

#[test]
fn a_release_is_published_only_after_somebody_approved_it() {
    on_each_database(|server| {
        set_up(server);
        let release = create(server, 42, b"firmware");
        act(server, MANAGER, &release, "publish").expect(409);
        act(server, MANAGER, &release, "approve").expect(403);
        act(server, AUDITOR, &release, "approve").expect(403);
        act(server, APPROVER, &release, "approve").expect(200);
        act(server, APPROVER, &release, "approve").expect(409);
        act(server, APPROVER, &release, "publish").expect(403);
    });
}

#[test]
fn in_quickstart_mode_one_person_can_do_all_and_the_audit_log_says_so() {
    on_each_database(|server| {
        set_up(server);
        let sha256 = upload(server, b"firmware")["sha256"].as_str().unwrap().to_owned();
        let release = server.post("/api/v1/releases", &token(server, ADMIN), &draft(7, &sha256)).expect(201).json();
        act(server, ADMIN, &release, "approve").expect(200);
        let audit = server.get("/api/v1/audit?size=1", &token(server, ADMIN)).expect(200).json();
        assert!(audit["items"][0]["detail"].as_str().unwrap().contains("\"is_own_release\":true"));
    });
}

#[test]
fn in_production_mode_nobody_approves_an_own_release_and_the_server_has_no_keys() {
    let production = |config: &mut tillward_server::config::Config| {
        config.mode = tillward_server::config::Mode::Production;
    };
    on_each_database_with(production, |server| {
        set_up(server);
        let sha256 = upload(server, b"firmware")["sha256"].as_str().unwrap().to_owned();
        let release = server.post("/api/v1/releases", &token(server, ADMIN), &draft(7, &sha256)).expect(201).json();
        act(server, ADMIN, &release, "approve").expect(409);
        act(server, APPROVER, &release, "approve").expect(200);
        let refused = act(server, ADMIN, &release, "publish").expect(409).json();
        assert!(refused["detail"].as_str().unwrap().contains("no signing keys"), "{refused}");
        server.get("/tuf/image/metadata/1.root.json", "").expect(404);
        let terminal = server.state.tokens.issue_terminal(TerminalId(1), 0, server.clock.now()).unwrap();
        server.get("/tuf/director/t/1/metadata/timestamp.json", &terminal).expect(503);
    });
}

#[test]
fn bad_fields_are_refused_by_name() {
    on_each_database(|server| {
        set_up(server);
        publish(server, 42, b"firmware");
        let sha256 = Sha256Hex::of(b"firmware").to_string();
        let refused = |change: &dyn Fn(&mut Value)| {
            let mut body = draft(43, &sha256);
            change(&mut body);
            let answer = server.post("/api/v1/releases", &token(server, MANAGER), &body).expect(422).json();
            answer["field"].as_str().unwrap().to_owned()
        };
        assert_eq!(refused(&|body| body["release_counter"] = json!(42)), "release_counter");
        assert_eq!(refused(&|body| body["release_counter"] = json!(41)), "release_counter");
        assert_eq!(refused(&|body| body["release_counter"] = json!("43")), "release_counter");
        assert_eq!(refused(&|body| body["models"] = json!(["demo-p1", "nobody-x1"])), "models");
        assert_eq!(refused(&|body| body["sha256"] = json!("0".repeat(64))), "sha256");
        assert_eq!(refused(&|body| body["sha256"] = json!("0")), "sha256");
        assert_eq!(refused(&|body| body["surprise"] = json!(1)), "surprise");
        let empty = upload(server, b"");
        assert_eq!(refused(&|body| body["sha256"] = empty["sha256"].clone()), "sha256");
        // A model that the counter is new for still takes it.
        let other = json!({"component": "app", "firmware_version": "1", "release_counter": 1, "models": ["demo-p1"],
            "sha256": sha256});
        server.post("/api/v1/releases", &token(server, MANAGER), &other).expect(201);
        let zipped = [("content-encoding", "gzip")];
        server.send("POST", "/api/v1/releases/payloads", &token(server, MANAGER), &zipped, b"x").expect(415);
    });
}

#[test]
fn of_many_drafts_made_at_once_none_gets_a_counter_below_an_earlier_one() {
    on_each_database(|server| {
        set_up(server);
        let sha256 = upload(server, b"firmware")["sha256"].as_str().unwrap().to_owned();
        std::thread::scope(|scope| {
            for counter in 1..=8 {
                let body = draft(counter, &sha256);
                scope.spawn(move || {
                    let answer = server.post("/api/v1/releases", &token(server, MANAGER), &body);
                    assert!(matches!(answer.status, 201 | 422), "{}", answer.text());
                });
            }
        });
        let page = server.get("/api/v1/releases?size=100", &token(server, ADMIN)).expect(200).json();
        let rows = page["items"].as_array().unwrap();
        let counters: Vec<i64> = rows.iter().map(|row| row["release_counter"].as_i64().unwrap()).collect();
        assert!(!counters.is_empty() && counters.is_sorted_by(|later, earlier| later > earlier), "{counters:?}");
    });
}

#[test]
fn releases_are_seen_by_their_organization_and_those_above_and_by_nobody_else() {
    on_each_database(|server| {
        set_up(server);
        let release = create(server, 42, b"firmware");
        let path = format!("/api/v1/releases/{}", release["id"]);
        for (operator, status) in [(MANAGER, 200), (ADMIN, 200), (AUDITOR, 200), (OTHER_MANAGER, 404)] {
            server.get(&path, &token(server, operator)).expect(status);
        }
        act(server, OTHER_MANAGER, &release, "withdraw").expect(404);
        act(server, OTHER_MANAGER, &release, "publish").expect(404);
        let listed = |operator: i64, query: &str| {
            let page = server.get(&format!("/api/v1/releases{query}"), &token(server, operator)).expect(200).json();
            page["items"].as_array().unwrap().len()
        };
        assert_eq!((listed(MANAGER, ""), listed(OTHER_MANAGER, "")), (1, 0));
        assert_eq!(listed(ADMIN, "?state=draft&component=os&model=pax-a920"), 1);
        assert_eq!(listed(ADMIN, "?state=published"), 0);
        assert_eq!(listed(ADMIN, "?component=app"), 0);
        assert_eq!(listed(ADMIN, "?model=none-x1"), 0);
        server.get("/api/v1/releases?state=odd", &token(server, ADMIN)).expect(422);
        server.get("/api/v1/releases/999", &token(server, ADMIN)).expect(404);
        server.get("/api/v1/releases/x", &token(server, ADMIN)).expect(404);
        server.get("/api/v1/releases", "").expect(401);
    });
}

#[test]
fn a_long_list_is_read_page_by_page_without_gaps() {
    on_each_database(|server| {
        set_up(server);
        for counter in 1..=5 {
            create(server, counter, b"firmware");
        }
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let page = server.get(&format!("/api/v1/releases?size=2&after={after}"), &token(server, ADMIN)).json();
            let counters = page["items"].as_array().unwrap().iter().map(|row| row["release_counter"].as_i64().unwrap());
            seen.extend(counters);
            match page["next"].as_str() {
                Some(next) => after = next.to_owned(),
                None => break,
            }
        }
        assert_eq!(seen, [5, 4, 3, 2, 1]);
    });
}

#[test]
fn the_maintenance_pass_renews_the_timestamp_and_removes_what_a_crash_left_listed() {
    on_each_database(|server| {
        set_up(server);
        let release = publish(server, 42, b"firmware of 42");
        let id = release["id"].as_i64().unwrap();
        // A server that died between the commit and the repository leaves exactly this.
        let withdraw = move |conn: &mut Conn| -> Result<(), db::Error> {
            diesel::update(releases::table.find(id)).set(releases::state.eq("withdrawn")).execute(conn)?;
            Ok(())
        };
        server.block_on(server.state.db.write(withdraw)).unwrap();
        let pass = || {
            let state = &server.state;
            server.block_on(tillward_server::releases::maintain(&state.db, &state.signing, state.clock.now())).unwrap();
        };
        pass();
        let mut client = image_client(server);
        server.block_on(client.refresh(now(server))).unwrap();
        let name = "demo-p1.os.4.42.0-42.bin";
        assert!(server.block_on(client.get_target_info(name, now(server))).unwrap().is_none());
        let version = client.trusted().timestamp().unwrap().version;
        server.clock.advance_ms(13 * 3_600_000);
        pass();
        server.block_on(client.refresh(now(server))).unwrap();
        assert_eq!(client.trusted().timestamp().unwrap().version, version + 1);
        pass();
        server.block_on(client.refresh(now(server))).unwrap();
        assert_eq!(client.trusted().timestamp().unwrap().version, version + 1, "a fresh timestamp stays");
    });
}
