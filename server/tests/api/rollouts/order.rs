//! Which terminals come when: stages, windows, limits, priorities, dates, further attempts, what must come first.

use super::*;
use crate::harness::on_each_database;

#[test]
fn a_stage_opens_when_the_one_before_has_ended_and_the_hold_back_comes_last() {
    on_each_database(|server| {
        with_terminals(server, 100);
        let id = running(server, &json!({"stages": [{"count": 3}, {"percent": 50}], "hold_back_percent": 5}));
        wait_for_count(server, id, "offered", 3);
        let first = ordered(server, id);
        assert_eq!(rollout(server, id)["stage"], 0);
        assert_eq!(waits(server, id), BTreeMap::from([("stage".to_owned(), 97)]));
        for order in &first {
            succeed(server, *order);
        }
        server.clock.advance_ms(10_000);
        // 20 terminals are held back; half of the other 80 less the first three.
        wait_for_count(server, id, "offered", 37);
        assert_eq!(rollout(server, id)["stage"], 1);
        for (stage, offered) in [(2, 40), (3, 20)] {
            for order in ordered(server, id) {
                succeed(server, order);
            }
            server.clock.advance_ms(10_000);
            wait_for_count(server, id, "offered", offered);
            assert_eq!(rollout(server, id)["stage"], stage);
        }
        let detail = rollout(server, id);
        assert_eq!(detail["stage_views"][3]["is_hold_back"], true);
        assert_eq!(detail["stage_views"][0]["finished"], 3);
        for order in ordered(server, id) {
            succeed(server, order);
        }
        wait_for_state(server, id, "succeeded");
        assert_counts_hold(server);
    });
}

#[test]
fn a_stage_that_adds_nobody_is_passed_over_and_not_waited_for() {
    on_each_database(|server| {
        with_terminals(server, 40);
        // Nobody has the tag; 2 % of 40 are nobody more than one.
        let stages = json!([{"tag": "canary"}, {"count": 1}, {"percent": 2}, {"percent": 50}]);
        let id = running(server, &json!({"stages": stages, "soak_s": 600}));
        wait_for_count(server, id, "offered", 1);
        assert_eq!(rollout(server, id)["stage"], 1, "the first stage has nobody");
        succeed(server, ordered(server, id)[0]);
        server.clock.advance_ms(11 * MINUTE_MS);
        wait_for_count(server, id, "offered", 19);
        assert_eq!(rollout(server, id)["stage"], 3, "the third adds nobody");
        // A person who opens the next stage opens one that adds somebody, too.
        act(server, id, "advance");
        wait_for_count(server, id, "offered", 39);
        assert_counts_hold(server);
    });
}

#[test]
fn a_soak_time_is_waited_for_and_a_stage_never_is_one_neighbourhood() {
    on_each_database(|server| {
        with_terminals(server, 200);
        let id = running(server, &json!({"stages": [{"count": 40}], "soak_s": 3600}));
        wait_for_count(server, id, "offered", 40);
        let first = ordered(server, id);
        let low = first.iter().filter(|(terminal, _)| *terminal <= 100).count();
        assert!((8..=32).contains(&low), "{low} of 40 are among the first hundred");
        // Ten never answer: they do not keep the others waiting once the soak is over.
        for order in first.iter().skip(10) {
            succeed(server, *order);
        }
        server.clock.advance_ms(HOUR_MS - 60_000);
        server.block_on(planner::pass(&server.state.db, server.clock.now())).unwrap();
        assert_eq!(rollout(server, id)["stage"], 0);
        server.clock.advance_ms(2 * MINUTE_MS);
        wait_for_count(server, id, "offered", 170);
        assert_eq!(rollout(server, id)["stage"], 1);
    });
}

#[test]
fn a_stage_by_tag_takes_the_named_and_the_block_list_takes_nobody() {
    on_each_database(|server| {
        with_terminals(server, 30);
        sql(
            server,
            "INSERT INTO terminal_tags (tag, terminal_id) VALUES ('canary', 7), ('canary', 21), ('never', 8)"
                .to_owned(),
        );
        let strategy = json!({"stages": [{"tag": "canary"}, {"count": 5}]});
        let filter = json!({"exclude_tags": ["never"], "exclude_terminal_ids": [9, 10]});
        let id = staged(server, &strategy, &json!({"filter": filter}));
        let preview = server.get(&format!("/api/v1/rollouts/{id}/preview"), HEAD).expect(200).json();
        assert_eq!(preview["count"], 27);
        assert_eq!(preview["excluded"], json!([{"reason": "block_listed", "count": 3}]));
        start(server, id);
        wait_for_count(server, id, "offered", 2);
        let named = ordered(server, id);
        assert_eq!(named.iter().map(|(terminal, _)| *terminal).collect::<Vec<_>>(), [7, 21]);
        named.into_iter().for_each(|order| succeed(server, order));
        server.clock.advance_ms(10_000);
        wait_for_count(server, id, "offered", 3);
    });
}

#[test]
fn nothing_is_offered_outside_the_windows_and_a_closing_window_takes_the_offer_back() {
    on_each_database(|server| {
        with_terminals(server, 3);
        sql(server, "UPDATE terminals SET utc_offset_min = 0 WHERE id = 3".to_owned());
        // To the next 00:30 in China, which is 16:30 in London.
        let now = server.clock.now().0;
        let to = (24 * HOUR_MS + 16 * HOUR_MS + 30 * MINUTE_MS - now.rem_euclid(24 * HOUR_MS)).rem_euclid(24 * HOUR_MS);
        server.clock.advance_ms(to);
        let windows = json!([{"from": "02:00", "until": "05:00"}]);
        let id = running(server, &json!({"windows": windows}));
        wait_until("all wait for their window", || waits(server, id) == BTreeMap::from([("window".to_owned(), 3)]));
        server.clock.advance_ms(2 * HOUR_MS);
        wait_for_count(server, id, "offered", 2);
        let orders = ordered(server, id);
        assert_eq!(orders.iter().map(|(terminal, _)| *terminal).collect::<Vec<_>>(), [1, 2]);
        let (terminal, assignment) = orders[0];
        say(server, terminal, assignment, Phase::Installing, None);
        let version = director(server, 2).assignment_version;
        everybody_called_at(server, server.clock.now().0 + 24 * HOUR_MS);
        server.clock.advance_ms(3 * HOUR_MS);
        // The one that installs goes on; the other waits for the next night.
        wait_for_count(server, id, "waiting", 2);
        assert_eq!(phase_of(server, assignment).0, "installing");
        assert!(director(server, 2).orders.is_empty());
        assert!(director(server, 2).assignment_version > version);
        wait_until("both wait for their window", || waits(server, id).get("window") == Some(&2));
        server.clock.advance_ms(5 * HOUR_MS);
        wait_for_count(server, id, "offered", 1);
        assert_eq!(ordered(server, id).iter().filter(|(terminal, _)| *terminal == 3).count(), 1);
        assert_counts_hold(server);
    });
}

#[test]
fn limits_hold_in_all_and_in_one_store() {
    on_each_database(|server| {
        with_terminals(server, 12);
        sql(server, "UPDATE terminals SET merchant_no = '850331053110612', store_name = 'A' WHERE id <= 6".to_owned());
        everybody_calls(server);
        let id = running(server, &json!({"in_flight_max": 8, "in_flight_per_site_max": 2, "wifi_only": true}));
        wait_until("as many as may be", || {
            let orders = ordered(server, id);
            orders.len() == 8 && orders.iter().filter(|(terminal, _)| *terminal <= 6).count() == 2
        });
        let orders = ordered(server, id);
        assert!(director(server, orders[0].0).orders[0].wifi_only);
        let done = orders.iter().find(|(terminal, _)| *terminal <= 6).unwrap();
        succeed(server, *done);
        server.clock.advance_ms(2 * MINUTE_MS);
        everybody_calls(server);
        wait_until("the store's next", || {
            let orders = ordered(server, id);
            orders.len() == 8 && orders.iter().filter(|(terminal, _)| *terminal <= 6).count() == 2
        });
        assert_counts_hold(server);
    });
}

#[test]
fn a_silent_terminal_holds_no_place_that_others_wait_for() {
    on_each_database(|server| {
        with_terminals(server, 4);
        everybody_calls(server);
        sql(server, "UPDATE terminal_states SET last_seen_ms = 0 WHERE terminal_id IN (1, 2)".to_owned());
        let id = running(server, &json!({"in_flight_max": 3}));
        wait_for_count(server, id, "offered", 2);
        wait_until("the silent ones say why", || waits(server, id).get("offline") == Some(&2));
        assert_eq!(ordered(server, id).iter().map(|(terminal, _)| *terminal).collect::<Vec<_>>(), [3, 4]);
    });
}

#[test]
fn the_higher_priority_takes_over_what_waits_and_never_what_is_offered() {
    on_each_database(|server| {
        with_terminals(server, 4);
        let low = running(server, &json!({"stages": [{"count": 1}], "soak_s": 3600}));
        wait_for_count(server, low, "offered", 1);
        wait_for_count(server, low, "waiting", 3);
        let same = staged(server, &json!({}), &json!({}));
        let preview = server.get(&format!("/api/v1/rollouts/{same}/preview"), HEAD).expect(200).json();
        assert_eq!(preview["excluded"], json!([{"reason": "busy_elsewhere", "count": 4}]));
        let high = staged(server, &json!({}), &json!({"priority": 5}));
        start(server, high);
        wait_for_count(server, high, "offered", 3);
        wait_for_count(server, low, "cancelled", 3);
        assert_eq!(rollout(server, low)["counts"]["offered"], 1);
        assert_counts_hold(server);
    });
}

#[test]
fn a_dynamic_rollout_takes_in_later_matches_until_its_end() {
    on_each_database(|server| {
        with_terminals(server, 2);
        let now = server.clock.now().0;
        let dates = json!({"ends_at_ms": now + 24 * HOUR_MS});
        let id = staged(server, &json!({"is_dynamic": true}), &dates);
        start(server, id);
        wait_for_count(server, id, "offered", 2);
        // Most of them come before the first two in the order of stages, which is drawn.
        (3..=12).for_each(|later| terminal(server, later, "/1/", &[]));
        server.clock.advance_ms(6 * MINUTE_MS);
        wait_for_count(server, id, "offered", 12);
        ordered(server, id).into_iter().for_each(|order| succeed(server, order));
        server.clock.advance_ms(HOUR_MS);
        server.block_on(planner::pass(&server.state.db, server.clock.now())).unwrap();
        assert_eq!(rollout(server, id)["state"], "running");
        server.clock.advance_ms(24 * HOUR_MS);
        wait_for_state(server, id, "succeeded");
        let refused = server.post(
            "/api/v1/rollouts",
            HEAD,
            &json!({"name": "x", "release_id": 1, "strategy": {"is_dynamic": true}}),
        );
        assert_eq!(refused.expect(422).json()["field"], "ends_at_ms");
    });
}

#[test]
fn a_planned_start_is_waited_for_and_promised_dates_are_kept() {
    on_each_database(|server| {
        prepare(server);
        terminal(server, 1, "/1/2/", &[]);
        terminal(server, 2, "/1/3/", &[]);
        let now = server.clock.now().0;
        let strategy = json!({"announcements": [{"organization_id": 2, "not_before_ms": now + 48 * HOUR_MS}]});
        let id = staged(server, &strategy, &json!({"starts_at_ms": now + 24 * HOUR_MS}));
        start(server, id);
        server.block_on(planner::pass(&server.state.db, server.clock.now())).unwrap();
        assert!(ordered(server, id).is_empty());
        let told = server.get("/api/v1/announcements", RESELLER).expect(200).json();
        assert_eq!(told[0]["not_before_ms"], now + 48 * HOUR_MS);
        assert_eq!(server.get("/api/v1/announcements", NEIGHBOUR).expect(200).json(), json!([]));
        server.clock.advance_ms(24 * HOUR_MS);
        wait_for_count(server, id, "offered", 1);
        assert_eq!(ordered(server, id)[0].0, 2);
        wait_until("the promise is shown", || waits(server, id).get("announced") == Some(&1));
        server.clock.advance_ms(24 * HOUR_MS);
        wait_for_count(server, id, "offered", 2);
    });
}

#[test]
fn a_failed_attempt_is_tried_again_later_and_not_for_ever() {
    on_each_database(|server| {
        with_terminals(server, 1);
        let id = staged(server, &json!({}), &json!({"retry_max": 1, "retry_wait_s": 600}));
        start(server, id);
        wait_for_count(server, id, "offered", 1);
        let (terminal, assignment) = ordered(server, id)[0];
        say(server, terminal, assignment, Phase::Failed, Some(Reason::InstallerFailed));
        assert_eq!(phase_of(server, assignment).0, "waiting");
        wait_until("it says so", || waits(server, id).get("retry") == Some(&1));
        assert!(director(server, terminal).orders.is_empty());
        server.clock.advance_ms(9 * MINUTE_MS);
        server.block_on(planner::pass(&server.state.db, server.clock.now())).unwrap();
        assert_eq!(phase_of(server, assignment).0, "waiting");
        server.clock.advance_ms(2 * MINUTE_MS);
        wait_for_count(server, id, "offered", 1);
        say(server, terminal, assignment, Phase::Failed, Some(Reason::InstallerFailed));
        assert_eq!(phase_of(server, assignment), ("failed".to_owned(), Some("installer_failed".to_owned())));
        wait_for_state(server, id, "succeeded");
        let detail = rollout(server, id);
        assert_eq!(detail["stage_views"][0]["failed"], 1);
        assert_eq!(detail["stage_views"][0]["started"], 1);
        // A person may try the failed ones again: a new rollout, with the same release, to just these.
        let again = post(server, &format!("/api/v1/rollouts/{id}/retry"), &json!({}), 201);
        assert_eq!(again["parent_id"], id);
        let preview = server.get(&format!("/api/v1/rollouts/{}/preview", again["id"]), HEAD).expect(200).json();
        assert_eq!((&preview["count"], &preview["sample"][0]["id"]), (&json!(1), &json!(terminal)));
    });
}

#[test]
fn what_may_not_start_from_here_waits_for_what_comes_first() {
    on_each_database(|server| {
        with_terminals(server, 3);
        sql(
            server,
            "UPDATE releases SET min_from_counter = 10, requires = '[{\"component\":\"app\",\"release_counter\":5}]'
                 WHERE id = 1;
             INSERT INTO releases (id, organization_id, org_path, name, component, firmware_version, release_counter,
                 models, requires, sha256, length_bytes, notes, state, created_by, created_by_name, created_at_ms, version)
             VALUES (8, 1, '/1/', 'old', 'os', '4.1.0', 9, '[]', '[]', '', 1, '', 'published', 1, 'root', 0, 1),
                    (9, 1, '/1/', 'step', 'os', '4.1.5', 10, '[]', '[]', '', 1, '', 'published', 1, 'root', 0, 1),
                    (10, 1, '/1/', 'app', 'app', '2.0', 4, '[]', '[]', '', 1, '', 'published', 1, 'root', 0, 1);
             UPDATE terminal_states SET firmware = '4.1.5' WHERE terminal_id IN (2, 3);
             UPDATE terminal_states SET app = '2.0' WHERE terminal_id = 3"
                .to_owned(),
        );
        let id = staged(server, &json!({}), &json!({}));
        let preview = server.get(&format!("/api/v1/rollouts/{id}/preview"), HEAD).expect(200).json();
        assert_eq!(preview["count"], 1);
        let excluded = json!([{"reason": "below_minimum", "count": 1}, {"reason": "requirement_missing", "count": 1}]);
        assert_eq!(preview["excluded"], excluded);
        assert_eq!(preview["sample"][0]["id"], 2);
    });
}
