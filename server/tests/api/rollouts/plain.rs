//! A rollout to everybody at once.

use super::*;
use crate::harness::{on_each_database, on_each_database_with};

#[test]
fn a_preview_says_how_many_and_why_not_the_others() {
    on_each_database(|server| {
        prepare(server);
        for id in 1..=30 {
            terminal(server, id, "/1/2/", &[]);
        }
        terminal(server, 31, "/1/2/", &[("firmware", "4.2.0")]);
        terminal(server, 32, "/1/2/", &[("model", "demo-p9")]);
        terminal(server, 33, "/1/2/", &[("lifecycle", "suspended")]);
        terminal(server, 34, "/1/2/", &[("enrolled", "NULL")]);
        terminal(server, 35, "/1/3/", &[]);
        let busy = started(server, &json!({"terminal_ids": [30, 35]}));
        wait_for_count(server, busy, "offered", 2);

        let id = draft(server, HEAD, &json!({"organization_id": 2}));
        let preview = server.get(&format!("/api/v1/rollouts/{id}/preview"), HEAD).expect(200).json();
        assert_eq!(preview["count"], 29);
        assert_eq!(preview["sample"].as_array().unwrap().len(), 20);
        assert_eq!(preview["sample"][0], json!({"id": 1, "sn": "SN000001", "model": "demo-p1", "firmware": "4.1.0"}));
        assert_eq!(
            preview["excluded"],
            json!([
                {"reason": "at_target", "count": 1},
                {"reason": "model_mismatch", "count": 1},
                {"reason": "lifecycle_not_allowed", "count": 1},
                {"reason": "busy_elsewhere", "count": 1},
                {"reason": "never_enrolled", "count": 1},
            ])
        );
    });
}

#[test]
fn a_filter_narrows_by_model_version_tag_and_list() {
    on_each_database(|server| {
        with_terminals(server, 4);
        sql(
            server,
            "INSERT INTO terminal_tags (tag, terminal_id) VALUES ('canary', 2), ('canary', 3), ('x', 4);".into(),
        );
        sql(server, "UPDATE terminal_states SET firmware = '4.0.0' WHERE terminal_id = 3;".into());
        let count = |filter: Value| {
            let id = draft(server, HEAD, &filter);
            server.get(&format!("/api/v1/rollouts/{id}/preview"), HEAD).expect(200).json()["count"].as_i64().unwrap()
        };
        assert_eq!(count(json!({})), 4);
        assert_eq!(count(json!({"models": ["demo-p9"]})), 0);
        assert_eq!(count(json!({"firmware": ["4.1.0"]})), 3);
        assert_eq!(count(json!({"tags": ["canary"]})), 2);
        assert_eq!(count(json!({"tags": ["canary"], "firmware": ["4.1.0"]})), 1);
        assert_eq!(count(json!({"terminal_ids": [4, 1, 99]})), 2);
        assert_eq!(count(json!({"organization_id": 2})), 0);
    });
}

#[test]
fn a_start_needs_the_count_that_the_filter_means() {
    on_each_database(|server| {
        with_terminals(server, 8);
        let id = draft(server, HEAD, &json!({}));
        let path = format!("/api/v1/rollouts/{id}/start");
        for wrong in [0, 2, 14] {
            let problem = server.post(&path, HEAD, &json!({"confirm_count": wrong})).expect(409).json();
            assert!(problem["detail"].as_str().unwrap().contains("8 now"), "{problem}");
        }
        let nobody = draft(server, HEAD, &json!({"models": ["demo-p9"]}));
        server.post(&format!("/api/v1/rollouts/{nobody}/start"), HEAD, &json!({"confirm_count": 0})).expect(409);
        let running = server.post(&path, HEAD, &json!({"confirm_count": 10})).expect(200).json();
        assert_eq!(running["state"], "running");
        server.post(&path, HEAD, &json!({"confirm_count": 8})).expect(409);
        server.post(&path, HEAD, &json!({"confirm_count": "8"})).expect(422);
        server.post(&path, HEAD, &json!({"confirm_count": 8, "force": true})).expect(422);
    });
}

#[test]
fn an_offer_becomes_a_success_only_by_the_signed_manifest() {
    on_each_database(|server| {
        with_terminals(server, 1);
        let id = started(server, &json!({}));
        wait_for_count(server, id, "offered", 1);
        let row = director(server, 1);
        assert_eq!(row.assignment_version, 1);
        let entry = &row.orders[0].entry;
        assert_eq!(
            (entry.name.as_str(), entry.length, entry.sha256.as_str(), entry.matches.release_counter),
            ("demo-p1.os.4.2.0-1.bin", 1000, SHA256, 1)
        );
        let order = row.orders[0].assignment;

        let mut downloading = update(order, Phase::Downloading, None);
        (downloading.bytes, downloading.bytes_total) = (Some(400), Some(1000));
        report(server, 1, Some(downloading), None);
        for phase in [Phase::Installing, Phase::Rebooting, Phase::Trial, Phase::Downloading, Phase::Succeeded] {
            say(server, 1, order, phase, None);
        }
        assert_eq!(phase_of(server, order).0, "trial", "a claim is no proof");
        let claim = || Some(update(order, Phase::Succeeded, None));
        report(server, 1, claim(), Some(manifest(1, "4.2.0", &"b".repeat(64))));
        report(server, 1, claim(), Some(manifest(1, "4.1.0", SHA256)));
        report(server, 1, claim(), Some(manifest(2, "4.2.0", SHA256)));
        assert_eq!(phase_of(server, order).0, "trial", "another version, digest or terminal is no proof");
        assert_eq!(director(server, 1).assignment_version, 1, "the order did not change");

        report(server, 1, claim(), Some(manifest(1, "4.2.0", SHA256)));
        assert_eq!(phase_of(server, order).0, "succeeded");
        let done = director(server, 1);
        assert_eq!((done.assignment_version, done.orders.len()), (2, 0));
        wait_for_state(server, id, "succeeded");
        assert_counts_hold(server);

        let rows = server.get(&format!("/api/v1/rollouts/{id}/assignments"), HEAD).expect(200).json();
        assert_eq!((&rows["items"][0]["bytes_done"], &rows["items"][0]["next_check_in_ms"]), (&json!(400), &json!(77)));
        let timeline = server.get("/api/v1/terminals/1/updates", HEAD).expect(200).json();
        let phases: Vec<&str> = timeline.as_array().unwrap().iter().map(|e| e["phase"].as_str().unwrap()).collect();
        for phase in ["offered", "downloading", "installing", "rebooting", "trial", "succeeded"] {
            assert!(phases.contains(&phase), "{phase} in {phases:?}");
        }
        assert_eq!(timeline[0]["release_version"], "4.2.0");
    });
}

#[test]
fn a_manifest_alone_proves_what_was_installed() {
    on_each_database(|server| {
        with_terminals(server, 2);
        let id = started(server, &json!({}));
        wait_for_count(server, id, "offered", 2);
        report(server, 1, None, Some(manifest(1, "4.2.0", SHA256)));
        report(server, 2, None, Some(manifest(2, "4.1.0", SHA256)));
        let counts = &rollout(server, id)["counts"];
        assert_eq!((&counts["succeeded"], &counts["offered"]), (&json!(1), &json!(1)));
        assert_counts_hold(server);
    });
}

#[test]
fn nonsense_reports_change_nothing_and_fail_nothing() {
    on_each_database(|server| {
        with_terminals(server, 2);
        let id = started(server, &json!({}));
        wait_for_count(server, id, "offered", 2);
        let (mine, other) = (order(server, 1), order(server, 2));
        say(server, 1, other, Phase::Failed, Some(Reason::NoSpace));
        say(server, 1, 123_456, Phase::Failed, Some(Reason::NoSpace));
        say(server, 77, mine, Phase::Failed, Some(Reason::NoSpace));
        say(server, 1, mine, Phase::Failed, None);
        assert_eq!(rollout(server, id)["counts"]["offered"], 2);
        assert_counts_hold(server);
    });
}

#[test]
fn a_refusal_under_a_number_that_the_terminal_could_not_know_is_about_its_live_order() {
    on_each_database(|server| {
        with_terminals(server, 2);
        let id = started(server, &json!({}));
        wait_for_count(server, id, "offered", 2);
        say(server, 1, 123_456, Phase::Failed, Some(Reason::WrongKey));
        assert_eq!(phase_of(server, order(server, 2)).0, "offered");
        let counts = &rollout(server, id)["counts"];
        assert_eq!((&counts["failed"], &counts["offered"]), (&json!(1), &json!(1)));
        assert_counts_hold(server);
    });
}

#[test]
fn what_passes_by_itself_ends_no_assignment_and_burns_no_attempt() {
    on_each_database(|server| {
        with_terminals(server, 2);
        let id = started(server, &json!({}));
        wait_for_count(server, id, "offered", 2);
        let (busy, broken) = (order(server, 1), order(server, 2));
        for _ in 0..3 {
            say(server, 1, busy, Phase::Downloading, None);
            say(server, 1, busy, Phase::Failed, Some(Reason::ServerBusy));
            say(server, 1, busy, Phase::Deferred, Some(Reason::NotIdle));
        }
        say(server, 2, broken, Phase::Failed, Some(Reason::DigestMismatch));
        say(server, 2, broken, Phase::Downloading, None);
        assert_eq!(phase_of(server, busy), ("offered".to_owned(), Some("not_idle".to_owned())));
        assert_eq!(phase_of(server, broken), ("failed".to_owned(), Some("digest_mismatch".to_owned())));
        let rows = server.get(&format!("/api/v1/rollouts/{id}/assignments"), HEAD).expect(200).json();
        assert_eq!((&rows["items"][0]["attempts"], &rows["items"][1]["attempts"]), (&json!(0), &json!(1)));
        let reasons = &rollout(server, id)["reasons"];
        assert_eq!(
            *reasons,
            json!([
                {"phase": "failed", "reason": "digest_mismatch", "n": 1},
                {"phase": "offered", "reason": "not_idle", "n": 1},
            ])
        );
        assert_counts_hold(server);
    });
}

#[test]
fn a_pause_takes_back_what_is_not_yet_installing_and_a_resume_offers_it_again() {
    on_each_database(|server| {
        with_terminals(server, 3);
        let id = started(server, &json!({}));
        wait_for_count(server, id, "offered", 3);
        let (downloading, installing) = (order(server, 2), order(server, 3));
        say(server, 2, downloading, Phase::Downloading, None);
        say(server, 3, installing, Phase::Installing, None);
        act(server, id, "pause");
        for terminal in 1..=3 {
            assert_eq!(director(server, terminal).orders, [], "a paused rollout offers nothing");
        }
        wait_for_count(server, id, "waiting", 2);
        assert_eq!(rollout(server, id)["counts"]["installing"], 1);
        wait_until("versions grow", || (1..=3).all(|terminal| director(server, terminal).assignment_version == 2));
        // Late words of the terminal that was downloading revive nothing.
        say(server, 2, downloading, Phase::Downloading, None);
        assert_eq!(phase_of(server, downloading).0, "waiting");
        assert_eq!(rollout(server, id)["why"], "a bad hour");

        server.post(&format!("/api/v1/rollouts/{id}/resume"), HEAD, &json!({})).expect(200);
        wait_for_count(server, id, "offered", 2);
        wait_until("versions grow", || (1..=3).all(|terminal| director(server, terminal).assignment_version == 3));
        assert_eq!(order(server, 3), installing);
        assert_counts_hold(server);
    });
}

#[test]
fn a_cancelled_rollout_offers_nothing_and_lets_go_of_its_terminals() {
    on_each_database(|server| {
        with_terminals(server, 2);
        let id = started(server, &json!({}));
        wait_for_count(server, id, "offered", 2);
        let trial = order(server, 2);
        say(server, 2, trial, Phase::Trial, None);
        act(server, id, "cancel");
        wait_for_count(server, id, "cancelled", 1);
        assert_eq!((director(server, 1).orders.len(), director(server, 2).orders.len()), (0, 0));
        // What already ran its trial still counts.
        report(server, 2, Some(update(trial, Phase::Succeeded, None)), Some(manifest(2, "4.2.0", SHA256)));
        assert_eq!(phase_of(server, trial).0, "succeeded");
        for verb in ["pause", "resume", "cancel", "start"] {
            let body = if verb == "start" { json!({"confirm_count": 2}) } else { json!({"why": "x"}) };
            server.post(&format!("/api/v1/rollouts/{id}/{verb}"), HEAD, &body).expect(409);
        }
        sql(server, "UPDATE terminal_states SET firmware = '4.2.0' WHERE terminal_id = 2;".into());
        let again = started(server, &json!({}));
        wait_for_count(server, again, "offered", 1);
        assert_counts_hold(server);
    });
}

#[test]
fn a_release_that_is_withdrawn_halts_its_rollouts_and_every_terminal_that_had_the_order_hears_of_it() {
    on_each_database(|server| {
        with_terminals(server, 3);
        let id = started(server, &json!({}));
        wait_for_count(server, id, "offered", 3);
        let installing = order(server, 3);
        say(server, 3, installing, Phase::Installing, None);
        server.post("/api/v1/releases/1/withdraw", HEAD, &json!({})).expect(200);
        for terminal in 1..=3 {
            assert_eq!(director(server, terminal).orders, [], "from the commit on");
        }
        wait_for_state(server, id, "halted");
        wait_for_count(server, id, "cancelled", 2);
        // A document of the old version would be taken for the one that the terminal has.
        wait_until("versions grow", || (1..=3).all(|terminal| director(server, terminal).assignment_version == 2));
        assert_eq!(rollout(server, id)["why"], "the release is not published any more");
        assert_counts_hold(server);
    });
}

#[test]
fn time_limits_end_what_nobody_ends() {
    on_each_database(|server| {
        with_terminals(server, 3);
        let forgotten = draft(server, HEAD, &json!({}));
        let id = started(server, &json!({}));
        wait_for_count(server, id, "offered", 3);
        let (deferred, trial) = (order(server, 2), order(server, 3));
        say(server, 3, trial, Phase::Trial, None);
        server.clock.advance_ms(DAY_MS + 1);
        wait_for_count(server, id, "timed_out", 1);
        assert_eq!(phase_of(server, trial), ("timed_out".to_owned(), Some("trial".to_owned())));
        server.clock.advance_ms(4 * DAY_MS);
        say(server, 2, deferred, Phase::Deferred, Some(Reason::NotIdle));
        say(server, 2, deferred, Phase::Deferred, Some(Reason::NotIdle));
        server.clock.advance_ms(3 * DAY_MS);
        wait_for_count(server, id, "timed_out", 2);
        assert_eq!(phase_of(server, deferred).0, "offered", "a terminal that says why is not silent");
        server.clock.advance_ms(8 * DAY_MS);
        wait_for_state(server, id, "succeeded");
        assert_eq!(rollout(server, id)["counts"]["timed_out"], 3);
        server.clock.advance_ms(20 * DAY_MS);
        wait_for_state(server, forgotten, "cancelled");
        assert_eq!(rollout(server, forgotten)["why"], "time limit");
        assert_eq!(director(server, 1).orders, []);
        assert_counts_hold(server);
    });
}

#[test]
fn other_organizations_see_and_touch_nothing() {
    on_each_database(|server| {
        with_terminals(server, 1);
        terminal(server, 2, "/1/2/", &[]);
        let id = draft(server, RESELLER, &json!({}));
        for token in [HEAD, RESELLER] {
            server.get(&format!("/api/v1/rollouts/{id}"), token).expect(200);
            let preview = server.get(&format!("/api/v1/rollouts/{id}/preview"), token).expect(200).json();
            assert_eq!(preview["sample"][0]["id"], 2, "a reseller's rollout reaches its own terminals only");
        }
        for path in ["", "/preview", "/assignments"] {
            server.get(&format!("/api/v1/rollouts/{id}{path}"), NEIGHBOUR).expect(404);
        }
        for (verb, body) in [
            ("start", json!({"confirm_count": 1})),
            ("pause", json!({"why": "x"})),
            ("resume", json!({})),
            ("cancel", json!({"why": "x"})),
        ] {
            let path = format!("/api/v1/rollouts/{id}/{verb}");
            server.post(&path, NEIGHBOUR, &body).expect(404);
            server.post(&path, AUDITOR, &body).expect(403);
            server.post(&path, "", &body).expect(401);
        }
        assert_eq!(server.get("/api/v1/rollouts", NEIGHBOUR).expect(200).json()["items"], json!([]));
        assert_eq!(server.get("/api/v1/rollouts", AUDITOR).expect(200).json()["items"][0]["id"], id);
        server.get("/api/v1/terminals/2/updates", NEIGHBOUR).expect(404);
        server.get("/api/v1/terminals/2/updates", RESELLER).expect(200);

        let try_draft = |token: &str, release: i64, filter: Value| {
            server.post("/api/v1/rollouts", token, &json!({"name": "n", "release_id": release, "filter": filter}))
        };
        assert_eq!(try_draft(RESELLER, 3, json!({})).expect(422).json()["field"], "release_id");
        assert_eq!(try_draft(RESELLER, 99, json!({})).expect(422).json()["field"], "release_id");
        let problem = try_draft(RESELLER, 1, json!({"organization_id": 1})).expect(422).json();
        assert_eq!(problem["field"], "filter.organization_id");
        try_draft(HEAD, 3, json!({})).expect(201);
        try_draft(HEAD, 2, json!({})).expect(409);
    });
}

#[test]
fn impossible_input_is_refused_by_the_fields_name() {
    on_each_database(|server| {
        with_terminals(server, 1);
        let good = json!({"name": "n", "release_id": 1, "filter": {}});
        for (field, value, named) in [
            ("name", json!(""), "name"),
            ("name", json!("card 4111 1111 1111 1111"), "name"),
            ("name", json!("x".repeat(201)), "name"),
            ("assignment_timeout_s", json!(1), "assignment_timeout_s"),
            ("filter", json!({"models": ["A B"]}), "filter.models[0]"),
            ("filter", json!({"surprise": 1}), "filter.surprise"),
            ("filter", json!({"terminal_ids": (0..10_001).collect::<Vec<_>>()}), "filter.terminal_ids"),
            ("release_id", json!("1"), "release_id"),
        ] {
            let mut body = good.clone();
            body[field] = value;
            let problem = server.post("/api/v1/rollouts", HEAD, &body).expect(422).json();
            assert_eq!(problem["field"], named, "{problem}");
        }
        server.get("/api/v1/rollouts?state=surprise", HEAD).expect(422);
        server.get("/api/v1/rollouts?size=0", HEAD).expect(422);
        server.get("/api/v1/rollouts/surprise", HEAD).expect(404);
        let id = draft(server, HEAD, &json!({}));
        server.get(&format!("/api/v1/rollouts/{id}/assignments?phase=surprise"), HEAD).expect(422);
        server.post(&format!("/api/v1/rollouts/{id}/cancel"), HEAD, &json!({"why": "  "})).expect(422);
        server.post(&format!("/api/v1/rollouts/{id}/pause"), HEAD, &json!({"why": "draft"})).expect(409);
    });
}

#[test]
fn a_release_that_was_rolled_back_on_a_terminal_is_not_offered_there_again() {
    on_each_database(|server| {
        with_terminals(server, 2);
        let id = started(server, &json!({}));
        wait_for_count(server, id, "offered", 2);
        say(server, 1, order(server, 1), Phase::RolledBack, Some(Reason::HealthCheckFailed));
        say(server, 2, order(server, 2), Phase::Failed, Some(Reason::NoSpace));
        wait_for_state(server, id, "succeeded");
        let again = draft(server, HEAD, &json!({}));
        let preview = server.get(&format!("/api/v1/rollouts/{again}/preview"), HEAD).expect(200).json();
        assert_eq!(preview["excluded"], json!([{"reason": "rolled_back_before", "count": 1}]));
        assert_eq!(preview["sample"][0]["id"], 2);
        let unsuccessful = |path: &str| {
            let scope = Scope::subtree(path);
            let found = server.state.db.read(move |conn| rollouts::unsuccessful_terminals(conn, &scope));
            let mut found = server.block_on(found).unwrap();
            found.sort_unstable();
            found
        };
        assert_eq!(unsuccessful("/1/"), [1, 2]);
        assert_eq!(unsuccessful("/9/"), Vec::<i64>::new(), "those of another organization");
        let tasks = server.block_on(server.state.db.read(|conn| rollouts::tasks(conn, &[1, 2, 3]))).unwrap();
        let phases: Vec<_> = tasks.iter().map(|(id, task)| (*id, task.phase.as_str(), task.is_live)).collect();
        assert_eq!(phases, [(1, "rolled_back", false), (2, "failed", false)]);
    });
}

#[test]
fn a_fleet_of_several_windows_is_admitted_whole_and_once() {
    let for_one_person = |config: &mut tillward_server::config::Config| config.approval_from_terminals = 10_000;
    on_each_database_with(for_one_person, |server| {
        with_terminals(server, 1_234);
        let first = started(server, &json!({}));
        wait_for_count(server, first, "offered", 1_234);
        assert_eq!(rollout(server, first)["is_admitted"], true);
        assert_counts_hold(server);
        let mut seen = Vec::new();
        for phase in ["", "&phase=offered"] {
            let mut after = String::new();
            seen.clear();
            loop {
                let path = format!("/api/v1/rollouts/{first}/assignments?size=100&after={after}{phase}");
                let page = server.get(&path, HEAD).expect(200).json();
                seen.extend(page["items"].as_array().unwrap().iter().map(|row| row["terminal_id"].as_i64().unwrap()));
                match page["next"].as_str() {
                    Some(next) => after = next.to_owned(),
                    None => break,
                }
            }
            assert_eq!(seen, (1..=1_234).collect::<Vec<i64>>(), "pages{phase}");
        }
        let listed = json!({"terminal_ids": (1..=1_234).collect::<Vec<i64>>()});
        let second = draft(server, HEAD, &listed);
        let preview = server.get(&format!("/api/v1/rollouts/{second}/preview"), HEAD).expect(200).json();
        assert_eq!(preview["excluded"], json!([{"reason": "busy_elsewhere", "count": 1_234}]));
        act(server, first, "cancel");
        wait_for_count(server, first, "cancelled", 1_234);
        server.post(&format!("/api/v1/rollouts/{second}/start"), HEAD, &json!({"confirm_count": 1_234})).expect(200);
        wait_for_count(server, second, "offered", 1_234);
        assert_counts_hold(server);
    });
}

#[test]
fn planners_at_once_and_reports_in_between_let_no_count_drift() {
    on_each_database(|server| {
        with_terminals(server, 600);
        let one = started(server, &json!({"terminal_ids": (1..=400).collect::<Vec<i64>>()}));
        let two = started(server, &json!({"terminal_ids": (200..=600).collect::<Vec<i64>>()}));
        let mut orders = Vec::new();
        let mut seed = 7_u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for round in 0..40 {
            let now = server.clock.now();
            let passes = (0..3).map(|_| planner::pass(&server.state.db, now));
            for passed in server.block_on(futures_util::future::join_all(passes)) {
                passed.unwrap();
            }
            if orders.is_empty() {
                orders = live_orders(server);
            }
            let said: Vec<(i64, UpdateReport)> = (0..50)
                .filter_map(|_| {
                    let pick = usize::try_from(random(u64::try_from(orders.len().max(1)).unwrap())).unwrap();
                    let &(terminal, assignment) = orders.get(pick)?;
                    let phase = Phase::ALL[usize::try_from(random(8)).unwrap()];
                    let reason = Reason::ALL[usize::try_from(random(30)).unwrap()];
                    Some((terminal, update(assignment, phase, Some(reason))))
                })
                .collect();
            write(server, move |conn| {
                let reports: Vec<Report<'_>> = said
                    .iter()
                    .map(|(terminal_id, update)| Report {
                        terminal_id: *terminal_id,
                        update: Some(update),
                        manifest: None,
                        firmware: "4.1.0",
                        is_configured: false,
                    })
                    .collect();
                rollouts::apply_reports(conn, &reports, now)
            });
            match round {
                10 => unless_halted(server, one, "pause"),
                20 => unless_halted(server, one, "resume"),
                30 => act(server, two, "cancel"),
                _ => {}
            }
            assert_counts_hold(server);
        }
        let verdict = server.block_on(audit::verify(&server.state.db, None)).unwrap();
        assert_eq!(verdict.broken_at, None);
        // Two creations, two starts, pause, resume, cancel.
        assert!(verdict.entries >= 7, "{verdict:?}");
    });
}

/// So many are said to fail that the gate may have halted the rollout by then: then a person goes on.
fn unless_halted(server: &TestServer, id: i64, verb: &str) {
    let why = json!({"why": "a bad hour"});
    let body = if verb == "resume" { json!({}) } else { why.clone() };
    if server.post(&format!("/api/v1/rollouts/{id}/{verb}"), HEAD, &body).status != 200 {
        assert_eq!(rollout(server, id)["state"], "halted");
        server.post(&format!("/api/v1/rollouts/{id}/override"), HEAD, &why).expect(200);
    }
}

fn live_orders(server: &TestServer) -> Vec<(i64, i64)> {
    server
        .block_on(server.state.db.read(|conn| {
            let rows =
                assignments::table.filter(assignments::live.eq(1)).select((assignments::terminal_id, assignments::id));
            Ok::<_, Error>(rows.load(conn)?)
        }))
        .unwrap()
}

#[test]
fn deadlines_are_read_from_the_clock_that_is_passed_in() {
    on_each_database(|server| {
        with_terminals(server, 1);
        let id = started(server, &json!({}));
        wait_for_count(server, id, "offered", 1);
        let later = Now(server.clock.now().0 + 8 * DAY_MS);
        // Where the server's own planner leads at that moment, this one does nothing.
        wait_until("the offer ends", || {
            server.block_on(planner::pass(&server.state.db, later)).unwrap();
            rollout(server, id)["counts"]["timed_out"] == 1
        });
    });
}
