//! What the gate stops, as a whole and in part, and what people do then.

use tillward_server::rollouts::gate::Class;
use tillward_server::rollouts::{TerminalFailure, note_failures};

use super::*;
use crate::harness::on_each_database;

#[test]
fn a_build_that_rolls_back_is_halted_with_an_incident_and_only_a_person_goes_on() {
    on_each_database(|server| {
        with_terminals(server, 60);
        let id = running(server, &json!({"stages": [{"count": 10}], "hold_back_percent": 5}));
        wait_for_count(server, id, "offered", 10);
        let orders = ordered(server, id);
        say(server, orders[9].0, orders[9].1, Phase::Installing, None);
        say(server, orders[8].0, orders[8].1, Phase::Downloading, None);
        all_roll_back(server, &orders[..4]);
        server.clock.advance_ms(10_000);
        wait_for_state(server, id, "halted");
        let detail = rollout(server, id);
        assert_eq!(detail["verdict"], "fail");
        assert_eq!((&detail["evidence"]["failed"], &detail["evidence"]["started"]), (&json!(4), &json!(6)));
        assert!(detail["why"].as_str().unwrap().contains("4 of 6"), "{}", detail["why"]);
        // What installs goes on; everything else waits, and nothing is offered any more.
        wait_for_count(server, id, "waiting", 55);
        assert_eq!(phase_of(server, orders[9].1).0, "installing");
        assert!(ordered(server, id).iter().all(|(terminal, _)| director(server, *terminal).orders.is_empty()));
        let incidents = server.get(&format!("/api/v1/incidents?rollout_id={id}"), HEAD).expect(200).json();
        assert_eq!(incidents["items"][0]["kind"], "rollout_halted");
        assert_eq!(incidents["items"][0]["level"], "P1");
        // Going on needs a reason.
        let path = format!("/api/v1/rollouts/{id}/override");
        server.post(&path, HEAD, &json!({"why": ""})).expect(422);
        server.post(&path, AUDITOR, &json!({"why": "I want to"})).expect(403);
        post(server, &path, &json!({"why": "the four stood in one flooded shop"}), 200);
        wait_for_count(server, id, "offered", 5);
        server.clock.advance_ms(10_000);
        server.block_on(planner::pass(&server.state.db, server.clock.now())).unwrap();
        assert_eq!(rollout(server, id)["state"], "running", "what a person answered for is no evidence any more");
        assert_eq!(rollout(server, id)["evidence"]["forgiven"]["failed"], 4);
        // More of the same is.
        let again: Vec<(i64, i64)> = ordered(server, id).into_iter().filter(|order| order.1 != orders[9].1).collect();
        all_roll_back(server, &again[..3]);
        server.clock.advance_ms(10_000);
        wait_for_state(server, id, "halted");
        assert_counts_hold(server);
    });
}

#[test]
fn one_failure_of_many_is_no_reason_to_stop() {
    on_each_database(|server| {
        with_terminals(server, 60);
        let id = running(server, &json!({}));
        wait_for_count(server, id, "offered", 60);
        let orders = ordered(server, id);
        all_roll_back(server, &orders[..1]);
        orders[1..].iter().for_each(|order| succeed(server, *order));
        wait_for_state(server, id, "succeeded");
    });
}

#[test]
fn updated_terminals_that_fail_more_than_those_not_yet_updated_stop_the_rollout() {
    on_each_database(|server| {
        with_terminals(server, 400);
        everybody_calls(server);
        let id = running(server, &json!({"stages": [{"count": 60}], "soak_s": 7200}));
        wait_for_count(server, id, "offered", 60);
        let orders = ordered(server, id);
        orders.iter().for_each(|order| succeed(server, *order));
        wait_until("the controls were counted", || {
            server.clock.advance_ms(10_000);
            everybody_calls(server);
            rollout(server, id)["evidence"]["controls"] == 340
        });
        let fail = |terminals: Vec<i64>| {
            let now = server.clock.now();
            write(server, move |conn| {
                let failures: Vec<TerminalFailure> = terminals
                    .iter()
                    .map(|&terminal_id| TerminalFailure {
                        terminal_id,
                        class: Class::Payment,
                        event: format!("failure:{terminal_id}:{}", now.0),
                        at_ms: now.0,
                    })
                    .collect();
                note_failures(conn, &failures, now)
            });
        };
        let treated: Vec<i64> = orders.iter().map(|(terminal, _)| *terminal).collect();
        let controls: Vec<i64> = (1..=400).filter(|id| !treated.contains(id)).collect();
        // As many as chance would have: six times as many controls fail.
        fail(treated[..2].iter().chain(&controls[..12]).copied().collect());
        server.clock.advance_ms(10_000);
        wait_until("they are judged", || rollout(server, id)["evidence"]["classes"][1]["control"] == 12);
        assert_eq!(rollout(server, id)["state"], "running");
        // The same failures again are no news.
        fail(treated[..2].to_vec());
        fail(treated[2..30].to_vec());
        server.clock.advance_ms(10_000);
        wait_for_state(server, id, "halted");
        let evidence = rollout(server, id)["evidence"].clone();
        assert_eq!(evidence["failed"], 0, "no update itself failed");
        assert_eq!(evidence["left_out"]["repeated"], 2);
        assert!(evidence["e_health"].as_f64().unwrap() > 200.0, "{evidence}");
    });
}

#[test]
fn a_whole_store_that_fails_at_once_counts_once() {
    on_each_database(|server| {
        with_terminals(server, 300);
        sql(server, "UPDATE terminals SET merchant_no = '850331053110612', store_name = 'A' WHERE id <= 40".to_owned());
        everybody_calls(server);
        let filter = json!({"filter": {"terminal_ids": (1..=300).collect::<Vec<i64>>()}});
        let id = staged(server, &json!({"stages": [{"count": 150}], "soak_s": 7200}), &filter);
        start(server, id);
        wait_for_count(server, id, "offered", 150);
        let orders = ordered(server, id);
        orders.iter().for_each(|order| succeed(server, *order));
        let now = server.clock.now();
        write(server, move |conn| {
            let failures: Vec<TerminalFailure> = (1..=40)
                .map(|terminal_id| TerminalFailure {
                    terminal_id,
                    class: Class::Hard,
                    event: "boot:1".to_owned(),
                    at_ms: now.0,
                })
                .collect();
            note_failures(conn, &failures, now)
        });
        server.clock.advance_ms(10_000);
        wait_until("all are judged", || rollout(server, id)["evidence"]["left_out"]["suppressed_by_site"] == 39);
        assert_eq!(rollout(server, id)["state"], "running");
    });
}

#[test]
fn a_part_of_a_rollout_is_stopped_alone() {
    on_each_database(|server| {
        with_terminals(server, 20);
        sql(server, "UPDATE terminal_states SET carrier = 'cmcc' WHERE terminal_id <= 8".to_owned());
        sql(server, "UPDATE terminal_states SET carrier = 'cucc' WHERE terminal_id > 8".to_owned());
        let id = running(server, &json!({"stages": [{"count": 10}], "soak_s": 3600}));
        wait_for_count(server, id, "offered", 10);
        let path = format!("/api/v1/rollouts/{id}/stop-scope");
        let body = |attribute: &str, value: &str| json!({"attribute": attribute, "value": value, "why": "it reboots"});
        server.post(&path, HEAD, &body("colour", "red")).expect(422);
        server.post(&path, HEAD, &body("carrier", "ctcc")).expect(422);
        server.post(&path, NEIGHBOUR, &body("carrier", "cmcc")).expect(404);
        post(server, &path, &body("carrier", "cmcc"), 200);
        wait_for_count(server, id, "cancelled", 8);
        let left = ordered(server, id);
        assert!(left.iter().all(|(terminal, _)| *terminal > 8));
        assert_eq!(rollout(server, id)["stops"][0]["value"], "cmcc");
        left.into_iter().for_each(|order| succeed(server, order));
        server.clock.advance_ms(2 * HOUR_MS);
        wait_until("the rest goes on", || {
            ordered(server, id).into_iter().for_each(|order| succeed(server, order));
            rollout(server, id)["counts"]["succeeded"] == 12
        });
        wait_for_state(server, id, "succeeded");
        assert_counts_hold(server);
    });
}

#[test]
fn what_a_stopped_part_did_excuses_nobody_else_after_a_person_went_on() {
    on_each_database(|server| {
        with_terminals(server, 80);
        sql(server, "UPDATE terminal_states SET carrier = 'cmcc' WHERE terminal_id <= 40".to_owned());
        sql(server, "UPDATE terminal_states SET carrier = 'cucc' WHERE terminal_id > 40".to_owned());
        let id = running(server, &json!({"stages": [{"count": 60}], "soak_s": 86_400}));
        wait_for_count(server, id, "offered", 60);
        let of_the_rest =
            || -> Vec<(i64, i64)> { ordered(server, id).into_iter().filter(|(terminal, _)| *terminal > 40).collect() };
        let installing: Vec<(i64, i64)> =
            ordered(server, id).into_iter().filter(|(terminal, _)| *terminal <= 40).take(12).collect();
        assert_eq!(installing.len(), 12);
        for (terminal, assignment) in &installing {
            say(server, *terminal, *assignment, Phase::Installing, None);
        }
        // A part is stopped, and what was installing there goes back.
        let stop = json!({"attribute": "carrier", "value": "cmcc", "why": "it reboots"});
        post(server, &format!("/api/v1/rollouts/{id}/stop-scope"), &stop, 200);
        wait_for_count(server, id, "cancelled", 28);
        all_roll_back(server, &installing);
        // The rest fails by itself, and a person answers for that.
        all_roll_back(server, &of_the_rest()[..4]);
        server.clock.advance_ms(10_000);
        wait_for_state(server, id, "halted");
        assert_eq!(rollout(server, id)["evidence"]["failed"], 4, "the stopped part is none of the rest");
        let why = json!({"why": "the four stood in one flooded shop"});
        post(server, &format!("/api/v1/rollouts/{id}/override"), &why, 200);
        wait_until("the rest is offered", || of_the_rest().len() >= 4);
        server.clock.advance_ms(10_000);
        wait_until("it is judged anew", || {
            let evidence = rollout(server, id)["evidence"].clone();
            evidence["failed"] == 0 && evidence["at_ms"].as_i64() > evidence["forgiven"]["at_ms"].as_i64()
        });
        assert_eq!(rollout(server, id)["state"], "running");
        let forgiven = rollout(server, id)["evidence"]["forgiven"].clone();
        assert_eq!((&forgiven["finished"], &forgiven["failed"]), (&json!(16), &json!(16)));
        assert_eq!(forgiven["cells"], Value::Null, "numbers of cells are nobody's but the gate's");
        // It fails again: of the sixteen only its own four are forgiven.
        all_roll_back(server, &of_the_rest()[..4]);
        server.clock.advance_ms(10_000);
        wait_for_state(server, id, "halted");
        let evidence = rollout(server, id)["evidence"].clone();
        assert_eq!((&evidence["failed"], &evidence["started"]), (&json!(4), &json!(4)));
        assert_counts_hold(server);
    });
}

#[test]
fn a_terminal_that_falls_silent_while_it_boots_counts_against_the_update() {
    on_each_database(|server| {
        with_terminals(server, 30);
        everybody_calls(server);
        let id = running(server, &json!({"stages": [{"count": 3}], "soak_s": 86_400}));
        wait_for_count(server, id, "offered", 3);
        let orders = ordered(server, id);
        for (terminal, assignment) in &orders {
            say(server, *terminal, *assignment, Phase::Rebooting, None);
        }
        // Intervals of 900 s, five minutes, and ten for the restart.
        server.clock.advance_ms(59 * MINUTE_MS);
        server.block_on(planner::pass(&server.state.db, server.clock.now())).unwrap();
        assert_eq!(rollout(server, id)["counts"]["rebooting"], 3);
        server.clock.advance_ms(2 * MINUTE_MS);
        wait_for_count(server, id, "timed_out", 3);
        wait_for_state(server, id, "halted");
        let evidence = rollout(server, id)["evidence"].clone();
        assert_eq!((&evidence["started"], &evidence["failed"]), (&json!(3), &json!(3)));
    });
}

#[test]
fn beside_two_stopped_parts_the_rest_goes_on_and_is_judged_by_itself() {
    on_each_database(|server| {
        with_terminals(server, 300);
        sql(server, "UPDATE terminal_states SET carrier = 'cmcc' WHERE terminal_id <= 60".to_owned());
        sql(server, "UPDATE terminal_states SET carrier = 'cucc' WHERE terminal_id > 60".to_owned());
        sql(server, "UPDATE terminals SET region = '110000' WHERE id BETWEEN 31 AND 120".to_owned());
        everybody_calls(server);
        let id = running(server, &json!({"stages": [{"count": 150}], "soak_s": 7200}));
        wait_for_count(server, id, "offered", 150);
        let orders = ordered(server, id);
        orders.iter().for_each(|order| succeed(server, *order));
        let path = format!("/api/v1/rollouts/{id}/stop-scope");
        for (attribute, value) in [("carrier", "cmcc"), ("region", "110000")] {
            post(server, &path, &json!({"attribute": attribute, "value": value, "why": "it reboots"}), 200);
        }
        wait_until("the controls were counted", || {
            server.clock.advance_ms(10_000);
            everybody_calls(server);
            rollout(server, id)["evidence"]["controls"].as_u64().is_some_and(|n| n > 60)
        });
        let fail = |terminals: Vec<i64>| {
            let now = server.clock.now();
            write(server, move |conn| {
                let failure = |terminal_id| TerminalFailure {
                    terminal_id,
                    class: Class::Hard,
                    event: format!("boot:{}", now.0),
                    at_ms: now.0,
                };
                note_failures(conn, &terminals.into_iter().map(failure).collect::<Vec<_>>(), now)
            });
            server.clock.advance_ms(10_000);
        };
        let updated: Vec<i64> = orders.iter().map(|(terminal, _)| *terminal).collect();
        // Both stopped parts go on failing: the rest is none of that.
        fail(updated.iter().copied().filter(|terminal| *terminal <= 120).collect());
        wait_until("they are judged", || rollout(server, id)["evidence"]["classes"][0]["treated"].as_u64() > Some(20));
        let evidence = rollout(server, id)["evidence"].clone();
        assert_eq!(rollout(server, id)["state"], "running", "{evidence}");
        assert_eq!((&evidence["stops"], &evidence["e_health"]), (&json!(2), &json!(1.0)));
        // The rest fails as well.
        fail(updated.iter().copied().filter(|terminal| *terminal > 120).take(30).collect());
        wait_for_state(server, id, "halted");
        assert!(rollout(server, id)["evidence"]["e_health"].as_f64().unwrap() > 100.0);
        assert_counts_hold(server);
    });
}
