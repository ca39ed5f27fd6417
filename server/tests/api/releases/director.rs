//! What the director tells one terminal.

use diesel::prelude::*;
use serde_json::{Value, json};
use sigstore_tuf::Updater;
use tillward_protocol::ids::TerminalId;
use tillward_protocol::trust::DirectorCustom;
use tillward_server::db::schema::{assignments, rollouts, terminal_manifests, terminals};
use tillward_server::db::{self, Conn};

use super::{ADMIN, Http, image_client, now, publish, set_up, token};
use crate::harness::{TestServer, on_each_database};

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
