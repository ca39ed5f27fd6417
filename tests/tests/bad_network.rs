//! Over a network that cuts, swallows, delays and repeats requests, everything is still counted exactly once, and an
//! update still arrives whole.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use tillward_tests::admin::{Admin, Totals};
use tillward_tests::database::Database;
use tillward_tests::proxy::Proxy;
use tillward_tests::server::Server;
use tillward_tests::{fleet, programs};

const TERMINALS: usize = 48;
const CHECK_INS_EACH: u64 = 40;

#[test]
fn a_network_that_cuts_delays_and_repeats_changes_no_count_on_sqlite() {
    count_over_bad_network(Database::Sqlite, 7);
}

#[test]
fn a_network_that_cuts_delays_and_repeats_changes_no_count_on_postgresql() {
    if let Some(database) = Database::postgres("bad network") {
        count_over_bad_network(database, 8);
    }
}

fn count_over_bad_network(database: Database, seed: u64) {
    let server = Server::start_with(programs::tillward(), database, 900);
    let admin = Admin::set_up(&server);
    let registered = fleet::register(&admin, TERMINALS);
    let proxy = Proxy::start(&server.url, seed);
    let sent = fleet::start(&proxy.url, &registered, CHECK_INS_EACH, seed).finish();
    let faults = proxy.faults();
    assert!(faults.is_complete() && sent.repeated > 0, "some fault was not tried: {faults:?}");
    let expected = Totals {
        check_ins: sent.check_ins,
        failures: sent.failures,
        state_check_ins: sent.check_ins,
        state_failures: sent.failures,
    };
    assert_eq!(admin.totals(), expected, "{faults:?}");
}
