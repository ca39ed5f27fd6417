//! A config profile goes out by the same engine.

use super::*;
use crate::harness::on_each_database;

#[test]
fn a_profile_goes_out_in_stages_and_becomes_the_layers_own_in_the_end() {
    on_each_database(|server| {
        with_terminals(server, 4);
        let expected = |terminal: i64| {
            let path = format!("/api/v1/terminals/{terminal}/config");
            server.get(&path, HEAD).expect(200).json()["expected_hash"].as_str().map(str::to_owned)
        };
        let new = json!({"name": "base", "parameters": {"apn": "cmnet"}});
        let profile = post(server, "/api/v1/profiles", &new, 201)["id"].clone();
        let body = json!({
            "name": "apn", "profile_id": profile, "layer": {"kind": "global"},
            "strategy": {"stages": [{"count": 1}], "soak_s": 60},
        });
        let id = post(server, "/api/v1/rollouts", &body, 201)["id"].as_i64().unwrap();
        start(server, id);
        wait_for_count(server, id, "offered", 1);
        let (first, _) = ordered(server, id)[0];
        let hash = expected(first).expect("the first terminal is told");
        assert!((1..=4).filter(|terminal| *terminal != first).all(|terminal| expected(terminal).is_none()));
        assert_eq!(director(server, first).orders, [], "the director has no part in it");
        // A pause takes it back until the terminal applied it.
        act(server, id, "pause");
        wait_for_count(server, id, "waiting", 4);
        wait_until("it is taken back", || expected(first).is_none());
        server.post(&format!("/api/v1/rollouts/{id}/resume"), HEAD, &json!({})).expect(200);
        wait_for_count(server, id, "offered", 1);
        let apply = |terminal: i64| {
            let (now, hash) = (server.clock.now(), hash.clone());
            sql(server, format!("UPDATE terminal_states SET config_hash = '{hash}' WHERE terminal_id = {terminal}"));
            write(server, move |conn| {
                let report = Report {
                    terminal_id: terminal,
                    update: None,
                    manifest: None,
                    firmware: "4.1.0",
                    is_configured: true,
                };
                rollouts::apply_report(conn, &report, now)
            });
        };
        // The last one has just these parameters already.
        let last = (1..=4).rfind(|terminal| *terminal != first).unwrap();
        sql(server, format!("UPDATE terminal_states SET config_hash = '{hash}' WHERE terminal_id = {last}"));
        apply(first);
        wait_for_count(server, id, "succeeded", 1);
        server.clock.advance_ms(2 * MINUTE_MS);
        wait_for_count(server, id, "succeeded", 2);
        wait_for_count(server, id, "offered", 2);
        ordered(server, id).into_iter().for_each(|(terminal, _)| apply(terminal));
        wait_for_state(server, id, "succeeded");
        // Who comes later takes it, too.
        terminal(server, 9, "/1/2/", &[]);
        let layers = server.get("/api/v1/config/layers", HEAD).expect(200).text();
        assert!(layers.contains("global"), "{layers}");
        assert_counts_hold(server);
    });
}
