//! Check-ins and failures are counted exactly once, also when the server is killed under load, again and again.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use tillward_tests::admin::{Admin, Totals};
use tillward_tests::database::Database;
use tillward_tests::server::Server;
use tillward_tests::{fleet, programs};

const TERMINALS: usize = 96;
const CHECK_INS_EACH: u64 = 60;

/// Shares of the load, percent, after which the server is killed.
const KILLS: [u64; 5] = [5, 25, 45, 65, 85];

#[test]
fn a_server_killed_five_times_under_load_counts_each_check_in_once_on_sqlite() {
    kill_under_load(Database::Sqlite);
}

#[test]
fn a_server_killed_five_times_under_load_counts_each_check_in_once_on_postgresql() {
    if let Some(database) = Database::postgres("exactly once") {
        kill_under_load(database);
    }
}

fn kill_under_load(database: Database) {
    let mut server = Server::start_with(programs::tillward(), database, 900);
    let admin = Admin::set_up(&server);
    let registered = fleet::register(&admin, TERMINALS);
    let load = fleet::start(&server.url, &registered, CHECK_INS_EACH, 1);
    for percent in KILLS {
        load.wait_for(percent);
        server.kill();
        server.start_again();
    }
    let sent = load.finish();
    assert!(sent.repeated > 0, "the kills met no check-in under way: nothing was tried here");
    let counted = Admin::of(&server).totals();
    let expected = Totals {
        check_ins: sent.check_ins,
        failures: sent.failures,
        state_check_ins: sent.check_ins,
        state_failures: sent.failures,
    };
    assert_eq!(counted, expected);
    let audit = server.tool(&["audit", "verify"]);
    assert!(audit.status.success(), "{audit:?}");
}
