//! Check-ins are counted exactly once, answered after the commit, and refused by the field's name.

use std::io::Write;

use diesel::prelude::*;
use serde_json::{Value, json};
use tillward_protocol::ids::TerminalId;
use tillward_server::db;
use tillward_server::db::schema::{
    cohort_cells, cohort_outcomes, failures, models, organizations, terminal_states, terminals,
};

use crate::harness::{Answer, TestServer, on_each_database};

/// A registered terminal with an open session.
pub struct Terminal {
    pub id: i64,
    token: String,
}

pub fn terminal(server: &TestServer, id: i64) -> Terminal {
    let made: Result<(), db::Error> = server.block_on(server.state.db.write(move |conn| {
        let organization: Option<i64> =
            organizations::table.find(1_000).select(organizations::id).first(conn).optional()?;
        if organization.is_none() {
            diesel::insert_into(organizations::table)
                .values((
                    organizations::id.eq(1_000),
                    organizations::path.eq("/1000/"),
                    organizations::level.eq(0),
                    organizations::name.eq("测试"),
                    organizations::short_code.eq("check-in-test"),
                    organizations::status.eq("active"),
                    organizations::created_at_ms.eq(0),
                    organizations::version.eq(1),
                ))
                .execute(conn)?;
            diesel::insert_into(models::table)
                .values((
                    models::code.eq("demo-p1"),
                    models::name.eq("P1"),
                    models::capabilities.eq("{}"),
                    models::created_at_ms.eq(0),
                ))
                .execute(conn)?;
        }
        let sn = format!("SN{id:06}");
        diesel::insert_into(terminals::table)
            .values((
                terminals::id.eq(id),
                terminals::sn.eq(&sn),
                terminals::sn_reversed.eq(sn.chars().rev().collect::<String>()),
                terminals::model.eq("demo-p1"),
                terminals::organization_id.eq(1_000),
                terminals::org_path.eq("/1000/"),
                terminals::region.eq("广东"),
                terminals::lifecycle.eq("active"),
                terminals::session_epoch.eq(1),
                terminals::stream.eq(1),
                terminals::assignment_version.eq(0),
                terminals::created_at_ms.eq(0),
                terminals::version.eq(1),
            ))
            .execute(conn)?;
        Ok(())
    }));
    made.unwrap();
    let now = server.clock.now();
    Terminal { id, token: server.state.tokens.issue_terminal(TerminalId(id), 1, now).unwrap() }
}

pub fn check_in(stream: u32, seq: u32) -> Value {
    json!({
        "v": 1, "stream": stream, "seq": seq, "at_ms": 1_790_000_000_000_i64, "boot_id": "b1",
        "software": {"firmware": "4.1.0", "slot": "a", "agent": "0.1.0", "app": "2.0.1"},
        "condition": {"access": "4g", "plmn": "46000", "rsrp_dbm": -101, "rtt_ms": 84},
        "transactions": {"ok": 3, "failed": 1, "by_code": {"91": 1}},
    })
}

pub fn failure(id: &str) -> Value {
    json!({
        "id": id, "occurred_at_ms": 1_790_000_000_000_i64, "transaction": "sale", "stage": "host_resp",
        "response_code": "91", "amount_fen": 1200,
        "condition": {"access": "2g", "plmn": "46000", "rssi_dbm": -101},
    })
}

impl Terminal {
    pub fn send(&self, server: &TestServer, body: &Value) -> Answer {
        server.post("/device/v1/check-in", &self.token, body)
    }
}

/// `(seq, check_ins, failures)` of the state row.
fn state(server: &TestServer, terminal: &Terminal) -> (i64, i64, i64) {
    let id = terminal.id;
    let row: Result<_, db::Error> = server.block_on(server.state.db.read(move |conn| {
        Ok(terminal_states::table
            .find(id)
            .select((terminal_states::seq, terminal_states::check_ins, terminal_states::failures))
            .first(conn)?)
    }));
    row.unwrap()
}

/// Check-ins, exposures, failed exposures and failures in all cells.
fn cells(server: &TestServer) -> (i64, i64, i64, i64) {
    let rows: Result<Vec<(i64, i64, i64, i64)>, db::Error> = server.block_on(server.state.db.read(|conn| {
        Ok(cohort_cells::table
            .select((
                cohort_cells::check_ins,
                cohort_cells::exposures,
                cohort_cells::failed_exposures,
                cohort_cells::failures,
            ))
            .load(conn)?)
    }));
    rows.unwrap().into_iter().fold((0, 0, 0, 0), |a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2, a.3 + b.3))
}

#[test]
fn a_check_in_sent_again_is_acknowledged_and_not_counted_again() {
    on_each_database(|server| {
        let terminal = terminal(server, 7);
        let mut body = check_in(1, 1);
        body["failures"] = json!([failure("e1"), failure("e2")]);
        for _ in 0..3 {
            let answer = terminal.send(server, &body).expect(200).json();
            assert_eq!(answer["acknowledged"], json!({"stream": 1, "seq": 1}));
        }
        assert_eq!(state(server, &terminal), (1, 1, 2));
        assert_eq!(cells(server), (1, 1, 1, 2));
        let outcomes: Result<Vec<(String, i64)>, db::Error> = server.block_on(server.state.db.read(|conn| {
            Ok(cohort_outcomes::table.select((cohort_outcomes::outcome, cohort_outcomes::failures)).load(conn)?)
        }));
        assert_eq!(outcomes.unwrap(), [("code:91".to_owned(), 2)]);
        let stored: Result<i64, db::Error> =
            server.block_on(server.state.db.read(|conn| Ok(failures::table.count().get_result(conn)?)));
        assert_eq!(stored.unwrap(), 2);
    });
}

#[test]
fn an_older_report_is_accepted_and_ignored_and_a_newer_stream_starts_anew() {
    on_each_database(|server| {
        let terminal = terminal(server, 7);
        terminal.send(server, &check_in(1, 5)).expect(200);
        let old = terminal.send(server, &check_in(1, 4)).expect(200).json();
        assert_eq!(old["acknowledged"], json!({"stream": 1, "seq": 5}));
        assert_eq!(state(server, &terminal).1, 1);
        let next = terminal.send(server, &check_in(2, 1)).expect(200).json();
        assert_eq!(next["acknowledged"], json!({"stream": 2, "seq": 1}));
        let late = terminal.send(server, &check_in(1, 6)).expect(200).json();
        assert_eq!(late["acknowledged"], json!({"stream": 2, "seq": 1}));
        assert_eq!(state(server, &terminal).1, 2);
        assert_eq!(cells(server).0, 2);
    });
}

#[test]
fn many_terminals_at_once_are_all_counted_with_duplicates_among_them() {
    on_each_database(|server| {
        let terminals: Vec<Terminal> = (1..=40).map(|id| terminal(server, id)).collect();
        std::thread::scope(|scope| {
            for terminal in &terminals {
                scope.spawn(|| {
                    for seq in [1, 2, 2, 1, 3, 3] {
                        terminal.send(server, &check_in(1, seq)).expect(200);
                    }
                });
                scope.spawn(|| terminal.send(server, &check_in(1, 1)).expect(200));
            }
        });
        for terminal in &terminals {
            assert_eq!(state(server, terminal).0, 3);
        }
        // A report that is overtaken by a newer one of its terminal is acknowledged without being counted, so the sum is
        // over what each terminal's row says.
        let counted: i64 = terminals.iter().map(|terminal| state(server, terminal).1).sum();
        assert_eq!(cells(server).0, counted);
        assert!((40..=120).contains(&counted), "{counted}");
    });
}

#[test]
fn the_answer_says_when_to_come_back_and_what_to_run() {
    on_each_database(|server| {
        let terminal = terminal(server, 7);
        let answer = terminal.send(server, &check_in(1, 1)).expect(200).json();
        let next = answer["next_check_in_s"].as_i64().unwrap();
        assert!((450..=1_350).contains(&next), "{next}");
        assert_eq!(answer["desired"]["director"], 0);
        assert_eq!(answer["manifest_wanted"], true);
        let changed: Result<usize, db::Error> = server.block_on(server.state.db.write(|conn| {
            Ok(diesel::update(terminals::table.find(7)).set(terminals::assignment_version.eq(3)).execute(conn)?)
        }));
        assert_eq!(changed.unwrap(), 1);
        let answer = terminal.send(server, &check_in(1, 2)).expect(200).json();
        assert_eq!(answer["desired"]["director"], 3);
        assert_eq!(answer.get("manifest_wanted"), None);
    });
}

#[test]
fn a_blocked_terminal_is_refused_and_a_session_of_an_older_epoch_has_ended() {
    on_each_database(|server| {
        let terminal = terminal(server, 7);
        let set = |lifecycle: &'static str, epoch: i64| {
            let changed: Result<usize, db::Error> = server.block_on(server.state.db.write(move |conn| {
                let row = diesel::update(terminals::table.find(7));
                Ok(row.set((terminals::lifecycle.eq(lifecycle), terminals::session_epoch.eq(epoch))).execute(conn)?)
            }));
            assert_eq!(changed.unwrap(), 1);
        };
        set("blocked", 1);
        assert_eq!(terminal.send(server, &check_in(1, 1)).expect(403).json()["code"], "blocked");
        set("active", 2);
        terminal.send(server, &check_in(1, 1)).expect(401);
        assert_eq!(cells(server).0, 0);
    });
}

#[test]
fn bad_fields_are_refused_by_name_and_nothing_is_counted() {
    on_each_database(|server| {
        let terminal = terminal(server, 7);
        let with = |pointer: &str, value: Value| {
            let mut body = check_in(1, 1);
            body["failures"] = json!([failure("e1")]);
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            body.pointer_mut(parent).unwrap()[key] = value;
            body
        };
        for (body, field) in [
            (with("/surprise", json!(1)), "surprise"),
            (with("/condition/colour", json!("red")), "condition.colour"),
            (with("/condition/rsrp_dbm", json!(7)), "condition.rsrp_dbm"),
            (with("/condition/access", json!("6g")), "condition.access"),
            (with("/seq", json!("one")), "seq"),
            (with("/seq", json!(0)), "seq"),
            (with("/v", json!(2)), "v"),
            (with("/transactions/by_code", json!({"9": 1})), "transactions.by_code"),
            (with("/failures/0/condition/loss_percent", json!(101)), "failures[0].condition.loss_percent"),
            (with("/failures/0/note", json!("card 4111 1111 1111 1111")), "failures[0].note"),
            (with("/failures/0/stage", Value::Null), "failures[0].stage"),
        ] {
            let problem = terminal.send(server, &body).expect(422).json();
            assert_eq!(problem["field"], field, "{problem}");
            assert!(!problem["detail"].as_str().unwrap().contains("4111"), "{problem}");
        }
        assert_eq!(cells(server).0, 0);
    });
}

#[test]
fn compressed_bodies_are_read_and_bombs_are_refused() {
    on_each_database(|server| {
        let terminal = terminal(server, 7);
        let send = |encoding: &str, body: &[u8]| {
            let headers = [("content-type", "application/json"), ("content-encoding", encoding)];
            server.send("POST", "/device/v1/check-in", &terminal.token, &headers, body)
        };
        let gzip = |data: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        };
        let zstd = |data: &[u8]| zstd::encode_all(data, 1).unwrap();
        send("gzip", &gzip(check_in(1, 1).to_string().as_bytes())).expect(200);
        send("zstd", &zstd(check_in(1, 2).to_string().as_bytes())).expect(200);
        assert_eq!(state(server, &terminal).1, 2);
        let bomb = vec![b' '; 64 << 20];
        send("gzip", &gzip(&bomb)).expect(413);
        send("zstd", &zstd(&bomb)).expect(413);
        send("br", b"x").expect(415);
        send("gzip", b"not gzip").expect(400);
        send("zstd", &zstd(check_in(1, 3).to_string().as_bytes())[..20]).expect(400);
        send("identity", &[b'{'; 300_000]).expect(413);
        send("identity", &"[".repeat(1_000).into_bytes()).expect(422);
        send("identity", format!("{{\"x\":{}", "[".repeat(1_000)).as_bytes()).expect(422);
        send("identity", b"\xff\xfe").expect(400);
        assert_eq!(state(server, &terminal).1, 2);
    });
}
