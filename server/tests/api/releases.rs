//! Releases, and what TUF clients read from the server.

use diesel::prelude::*;
use serde_json::{Value, json};
use sigstore_tuf::Updater;
use sigstore_tuf::transport::FetchFuture;
use tillward_protocol::ids::{Sha256Hex, TerminalId};
use tillward_protocol::trust::DirectorCustom;
use tillward_server::db::schema::{
    assignments, models, operator_sessions, operators, organizations, releases, rollouts, terminal_manifests, terminals,
};
use tillward_server::db::{self, Conn};

use crate::harness::{TestServer, on_each_database, on_each_database_with};

/// Two organizations, one below the other and one beside, with operators; returns nothing, tokens are made by name.
pub fn set_up(server: &TestServer) {
    let now = server.clock.now().0;
    let seed = move |conn: &mut Conn| -> Result<(), db::Error> {
        for (id, parent, path) in [(1, None, "/1/"), (2, Some(1), "/1/2/"), (3, Some(1), "/1/3/")] {
            diesel::insert_into(organizations::table)
                .values((
                    organizations::id.eq(id),
                    organizations::parent_id.eq(parent.map(i64::from)),
                    organizations::path.eq(path),
                    organizations::level.eq(if id == 1 { 0_i64 } else { 1 }),
                    organizations::name.eq(format!("organization {id}")),
                    organizations::short_code.eq(format!("o{id}")),
                    organizations::region.eq(None::<String>),
                    organizations::status.eq("active"),
                    organizations::created_at_ms.eq(now),
                    organizations::version.eq(1_i64),
                ))
                .execute(conn)?;
        }
        for (id, role, organization, path) in [
            (1, "platform_admin", 1, "/1/"),
            (2, "approver", 1, "/1/"),
            (3, "auditor", 1, "/1/"),
            (4, "release_manager", 2, "/1/2/"),
            (5, "release_manager", 3, "/1/3/"),
        ] {
            diesel::insert_into(operators::table)
                .values((
                    operators::id.eq(id),
                    operators::organization_id.eq(i64::from(organization)),
                    operators::org_path.eq(path),
                    operators::login.eq(format!("operator{id}")),
                    operators::name.eq(format!("Operator {id}")),
                    operators::password_hash.eq(""),
                    operators::role.eq(role),
                    operators::status.eq("active"),
                    operators::language.eq("en"),
                    operators::created_at_ms.eq(now),
                    operators::version.eq(1_i64),
                ))
                .execute(conn)?;
            diesel::insert_into(operator_sessions::table)
                .values((
                    operator_sessions::id.eq(format!("session{id}")),
                    operator_sessions::operator_id.eq(id),
                    operator_sessions::family_hash.eq(format!("family{id}")),
                    operator_sessions::refresh_hash.eq(format!("hash{id}")),
                    operator_sessions::csrf_token.eq("csrf"),
                    operator_sessions::user_agent.eq("test"),
                    operator_sessions::created_at_ms.eq(now),
                    operator_sessions::expires_at_ms.eq(now + 3_600_000),
                    operator_sessions::revoked_at_ms.eq(None::<i64>),
                ))
                .execute(conn)?;
        }
        for code in ["demo-p1", "pax-a920"] {
            diesel::insert_into(models::table)
                .values((
                    models::code.eq(code),
                    models::name.eq(code),
                    models::capabilities.eq("{}"),
                    models::created_at_ms.eq(now),
                ))
                .execute(conn)?;
        }
        Ok(())
    };
    server.block_on(server.state.db.write(seed)).unwrap();
}

const ADMIN: i64 = 1;
const APPROVER: i64 = 2;
const AUDITOR: i64 = 3;
const MANAGER: i64 = 4;
const OTHER_MANAGER: i64 = 5;

fn token(server: &TestServer, operator: i64) -> String {
    server.state.tokens.issue_operator(&format!("session{operator}"), server.clock.now()).unwrap()
}

fn upload(server: &TestServer, bytes: &[u8]) -> Value {
    let token = token(server, MANAGER);
    server.send("POST", "/api/v1/releases/payloads", &token, &[], bytes).expect(201).json()
}

fn draft(counter: i64, sha256: &str) -> Value {
    json!({"component": "os", "firmware_version": format!("4.{counter}.0"), "release_counter": counter,
        "models": ["demo-p1", "pax-a920"], "notes": "修复 \"TLS\" 超时 \\ ok", "sha256": sha256})
}

fn create(server: &TestServer, counter: i64, bytes: &[u8]) -> Value {
    let sha256 = upload(server, bytes)["sha256"].as_str().unwrap().to_owned();
    server.post("/api/v1/releases", &token(server, MANAGER), &draft(counter, &sha256)).expect(201).json()
}

fn act(server: &TestServer, operator: i64, release: &Value, verb: &str) -> crate::harness::Answer {
    server.post(&format!("/api/v1/releases/{}/{verb}", release["id"]), &token(server, operator), &json!({}))
}

pub fn publish(server: &TestServer, counter: i64, bytes: &[u8]) -> Value {
    let release = create(server, counter, bytes);
    act(server, APPROVER, &release, "approve").expect(200);
    act(server, MANAGER, &release, "publish").expect(200).json()
}

/// A TUF client's transport over real HTTP.
struct Http {
    base: String,
    targets: String,
    token: String,
}

impl Http {
    fn fetch(&self, url: &str) -> Option<Vec<u8>> {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let mut request = agent.get(url);
        if !self.token.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        let mut response = request.call().unwrap();
        match response.status().as_u16() {
            200 => Some(response.body_mut().read_to_vec().unwrap()),
            404 => None,
            status => panic!("{url}: {status}"),
        }
    }
}

impl sigstore_tuf::Repository for Http {
    fn fetch_metadata<'a>(&'a self, name: &'a str, _max_length: u64) -> FetchFuture<'a> {
        Box::pin(async move { Ok(self.fetch(&format!("{}/{name}", self.base))) })
    }

    fn fetch_target<'a>(&'a self, path: &'a str, _max_length: u64) -> FetchFuture<'a> {
        Box::pin(async move { Ok(self.fetch(&format!("{}/{path}", self.targets))) })
    }
}

fn image_client(server: &TestServer) -> Updater {
    let base = format!("{}/tuf/image/metadata", server.url);
    let http = Http { base, targets: format!("{}/tuf/image/targets", server.url), token: String::new() };
    let root = server.get("/tuf/image/metadata/1.root.json", "").expect(200).body;
    Updater::new(http, &root).unwrap()
}

fn now(server: &TestServer) -> jiff::Timestamp {
    jiff::Timestamp::from_second(server.clock.now().seconds()).unwrap()
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
fn payloads_come_whole_in_parts_and_not_at_all_as_http_says() {
    on_each_database(|server| {
        set_up(server);
        let bytes: Vec<u8> = (0..1_500_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let release = publish(server, 42, &bytes);
        let sha256 = release["sha256"].as_str().unwrap();
        let path = format!("/tuf/image/targets/{sha256}.pax-a920.os.4.42.0-42.bin");
        let get = |headers: &[(&str, &str)]| server.send("GET", &path, "", headers, b"");
        let whole = get(&[]).expect(200);
        assert!(whole.body == bytes);
        assert_eq!(whole.header("accept-ranges"), Some("bytes"));
        assert_eq!(whole.header("cache-control"), Some("public, max-age=31536000, immutable"));
        let etag = format!("\"{sha256}\"");
        assert_eq!(whole.header("etag"), Some(etag.as_str()));
        assert_eq!(whole.header("content-length"), Some("1500000"));
        let head = server.send("HEAD", &path, "", &[], b"").expect(200);
        assert_eq!((head.header("content-length"), head.body.len()), (Some("1500000"), 0));

        let part = get(&[("range", "bytes=600000-1299999")]).expect(206);
        assert!(part.body == bytes[600_000..1_300_000]);
        assert_eq!(part.header("content-range"), Some("bytes 600000-1299999/1500000"));
        let rest = get(&[("range", "bytes=1499990-"), ("if-range", &etag)]).expect(206);
        assert!(rest.body == bytes[1_499_990..]);
        assert_eq!(get(&[("range", "bytes=0-9"), ("if-range", "\"other\"")]).expect(200).body.len(), bytes.len());
        let beyond = get(&[("range", "bytes=1500000-")]).expect(416);
        assert_eq!(beyond.header("content-range"), Some("bytes */1500000"));
        assert!(get(&[("if-none-match", &etag)]).expect(304).body.is_empty());
        server.get(&path.replace("pax-a920", "pax-a80"), "").expect(404);
        server.get("/tuf/image/targets/..%2F..%2Fkeys", "").expect(404);
    });
}

#[test]
fn metadata_is_cached_for_ever_the_timestamp_for_a_minute_and_a_missing_root_is_a_problem() {
    on_each_database(|server| {
        let timestamp = server.get("/tuf/image/metadata/timestamp.json", "").expect(200);
        assert_eq!(timestamp.header("cache-control"), Some("public, max-age=60"));
        assert_eq!(timestamp.header("content-type"), Some("application/json"));
        let etag = timestamp.header("etag").unwrap().to_owned();
        let again =
            server.send("GET", "/tuf/image/metadata/timestamp.json", "", &[("if-none-match", etag.as_str())], b"");
        again.expect(304);
        let root = server.get("/tuf/image/metadata/1.root.json", "").expect(200);
        assert_eq!(root.header("cache-control"), Some("public, max-age=31536000, immutable"));
        for path in [
            "/tuf/image/metadata/2.root.json",
            "/tuf/director/metadata/2.root.json",
            "/tuf/image/metadata/9.snapshot.json",
            "/tuf/image/metadata/a/b.json",
            "/tuf/image",
        ] {
            let missing = server.get(path, "").expect(404);
            assert_eq!(missing.header("content-type"), Some("application/problem+json"), "{path}");
        }
        server.get("/tuf/director/metadata/1.root.json", "").expect(200);
    });
}

/// A terminal of model `demo-p1` with one order for `release` in `phase`.
fn terminal_with_order(server: &TestServer, id: i64, release: &Value, phase: &'static str) {
    let now = server.clock.now().0;
    let release_id = release["id"].as_i64().unwrap();
    let seed = move |conn: &mut Conn| -> Result<(), db::Error> {
        diesel::insert_into(terminals::table)
            .values((
                terminals::id.eq(id),
                terminals::sn.eq(format!("SN{id}")),
                terminals::sn_reversed.eq(format!("{id}NS")),
                terminals::model.eq("demo-p1"),
                terminals::organization_id.eq(2_i64),
                terminals::org_path.eq("/1/2/"),
                terminals::region.eq(""),
                terminals::lifecycle.eq("active"),
                terminals::session_epoch.eq(3_i64),
                terminals::stream.eq(1_i64),
                terminals::assignment_version.eq(5_i64),
                terminals::created_at_ms.eq(now),
                terminals::version.eq(1_i64),
            ))
            .execute(conn)?;
        diesel::insert_into(rollouts::table)
            .values((
                rollouts::id.eq(id),
                rollouts::organization_id.eq(2_i64),
                rollouts::org_path.eq("/1/2/"),
                rollouts::name.eq("rollout"),
                rollouts::release_id.eq(release_id),
                rollouts::filter.eq("{}"),
                rollouts::state.eq("running"),
                rollouts::stage.eq(0_i64),
                rollouts::why.eq(""),
                rollouts::state_since_ms.eq(now),
                rollouts::strategy.eq("{}"),
                (
                    rollouts::assignment_timeout_s.eq(60_i64),
                    rollouts::retry_max.eq(0_i64),
                    rollouts::retry_wait_s.eq(600_i64),
                    rollouts::priority.eq(0_i64),
                ),
                rollouts::created_by.eq(1_i64),
                rollouts::created_by_name.eq("x"),
                rollouts::created_at_ms.eq(now),
                rollouts::version.eq(1_i64),
            ))
            .execute(conn)?;
        diesel::insert_into(assignments::table)
            .values((
                assignments::id.eq(900 + id),
                assignments::rollout_id.eq(id),
                assignments::terminal_id.eq(id),
                assignments::org_path.eq("/1/2/"),
                assignments::phase.eq(phase),
                assignments::live.eq(i64::from(phase != "succeeded")),
                (
                    assignments::stage.eq(0_i64),
                    assignments::rank.eq(id),
                    assignments::hand_picked.eq(0_i64),
                    assignments::site.eq(0_i64),
                    assignments::cell.eq(0_i64),
                ),
                assignments::attempts.eq(0_i64),
                assignments::bytes_done.eq(0_i64),
                assignments::bytes_total.eq(0_i64),
                assignments::created_at_ms.eq(now),
                assignments::phase_since_ms.eq(now),
                assignments::version.eq(1_i64),
            ))
            .execute(conn)?;
        Ok(())
    };
    server.block_on(server.state.db.write(seed)).unwrap();
}

fn terminal_token(server: &TestServer, id: i64, epoch: i64) -> String {
    server.state.tokens.issue_terminal(TerminalId(id), epoch, server.clock.now()).unwrap()
}

#[test]
fn the_director_tells_a_terminal_what_to_install_in_the_image_repositorys_words() {
    on_each_database(|server| {
        set_up(server);
        let release = publish(server, 42, b"firmware of 42");
        for (id, phase) in [(1, "offered"), (2, "waiting"), (3, "succeeded"), (4, "downloading")] {
            terminal_with_order(server, id, &release, phase);
        }
        let ordered = |id: i64| {
            let base = format!("{}/tuf/director/t/{id}/metadata", server.url);
            let http = Http { base, targets: String::new(), token: terminal_token(server, id, 3) };
            let root = server.get("/tuf/director/metadata/1.root.json", "").expect(200).body;
            let mut client = Updater::new(http, &root).unwrap();
            server.block_on(client.refresh(now(server))).unwrap();
            let targets = client.trusted().targets_role("targets").unwrap().clone();
            let custom: DirectorCustom = serde_json::from_value(targets.extra["custom"].clone()).unwrap();
            assert_eq!((custom.terminal_id, custom.assignment_version), (TerminalId(id), 5));
            targets.targets
        };
        let mut image = image_client(server);
        server.block_on(image.refresh(now(server))).unwrap();
        let listed = server.block_on(image.get_target_info("demo-p1.os.4.42.0-42.bin", now(server))).unwrap().unwrap();
        for id in [1, 4] {
            let order = &ordered(id)["demo-p1.os.4.42.0-42.bin"];
            assert_eq!((order.length, &order.hashes), (listed.length, &listed.hashes));
            let custom = order.custom.as_ref().unwrap();
            assert_eq!(custom["match"], listed.custom.as_ref().unwrap()["match"]);
            assert_eq!((custom["assignment"].as_i64(), custom["action"].as_str()), (Some(900 + id), Some("install")));
        }
        assert!(ordered(2).is_empty() && ordered(3).is_empty());
    });
}

#[test]
fn a_terminal_reads_its_own_documents_only_and_only_while_its_session_lasts() {
    on_each_database(|server| {
        set_up(server);
        let release = publish(server, 42, b"firmware of 42");
        for id in [1, 2] {
            terminal_with_order(server, id, &release, "offered");
        }
        let path = "/tuf/director/t/1/metadata/timestamp.json";
        let own = server.get(path, &terminal_token(server, 1, 3)).expect(200);
        assert_eq!(own.header("cache-control"), Some("private, no-cache"));
        let etag = own.header("etag").unwrap().to_owned();
        let bearer = format!("Bearer {}", terminal_token(server, 1, 3));
        let headers = [("if-none-match", etag.as_str()), ("authorization", bearer.as_str())];
        server.send("GET", path, "", &headers, b"").expect(304);
        server.get(path, &terminal_token(server, 2, 3)).expect(404);
        server.get(path, &terminal_token(server, 1, 2)).expect(401);
        server.get(path, "").expect(401);
        server.get(path, &token(server, ADMIN)).expect(401);
        server.get("/tuf/director/t/1/metadata/2.root.json", &terminal_token(server, 1, 3)).expect(404);
        server.get("/tuf/director/t/1/metadata/1.root.json", &terminal_token(server, 1, 3)).expect(200);
        server.get("/tuf/director/t/1/metadata/1.targets.json", &terminal_token(server, 1, 3)).expect(404);
        server.get("/tuf/director/t/x/metadata/timestamp.json", &terminal_token(server, 1, 3)).expect(404);
    });
}

#[test]
fn a_terminal_that_saw_the_next_window_already_is_not_sent_back() {
    on_each_database(|server| {
        set_up(server);
        let release = publish(server, 42, b"firmware of 42");
        terminal_with_order(server, 1, &release, "offered");
        let version = || {
            let path = "/tuf/director/t/1/metadata/timestamp.json";
            let answer = server.get(path, &terminal_token(server, 1, 3)).expect(200);
            let version = answer.json()["signed"]["version"].as_u64().unwrap();
            assert_eq!(answer.header("etag"), Some(format!("\"{version}\"").as_str()));
            let targets = format!("/tuf/director/t/1/metadata/{version}.targets.json");
            server.get(&targets, &terminal_token(server, 1, 3)).expect(200);
            version
        };
        let own = version();
        for (seen, expected) in [(own, own), (own + 1, own + 1), (own + 2, own)] {
            let manifest = json!({"terminal_id": 1, "counter": 1, "components": [], "slot": "a", "image_root": 1,
                "director_root": 1, "director_version": seen});
            let write = move |conn: &mut Conn| -> Result<(), db::Error> {
                diesel::delete(terminal_manifests::table.find(1)).execute(conn)?;
                diesel::insert_into(terminal_manifests::table)
                    .values((
                        terminal_manifests::terminal_id.eq(1_i64),
                        terminal_manifests::counter.eq(1_i64),
                        terminal_manifests::received_at_ms.eq(0_i64),
                        terminal_manifests::body.eq(manifest.to_string()),
                        terminal_manifests::signature.eq(""),
                    ))
                    .execute(conn)?;
                Ok(())
            };
            server.block_on(server.state.db.write(write)).unwrap();
            assert_eq!(version(), expected, "another server, whose clock is a little ahead, signed {seen}");
        }
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
