//! Failures are kept with their conditions, and a rise is explained by the combination that causes it.

use serde_json::json;
use tillward_server::failures::{self, Filter};
use tillward_server::operators::Scope;
use tillward_server::{db, failures::Overview};

use crate::check_in::{check_in, failure, terminal};
use crate::harness::on_each_database;

#[test]
fn a_fault_of_one_firmware_over_one_access_type_is_named() {
    on_each_database(|server| {
        // 4.2.0 over 2G fails; 4.2.0 elsewhere and 2G with 4.1.0 do not.
        for id in 1..=48_i64 {
            let terminal = terminal(server, id);
            let firmware = if id % 2 == 0 { "4.2.0" } else { "4.1.0" };
            let access = if id % 4 < 2 { "2g" } else { "4g" };
            for seq in 1..=4_u32 {
                let mut body = check_in(1, seq);
                body["software"]["firmware"] = json!(firmware);
                body["condition"] = json!({"access": access, "plmn": "46000"});
                body["transactions"] = json!({"ok": 5, "failed": 0});
                if (firmware == "4.2.0" && access == "2g") || (id == 3 && seq == 1) {
                    body["failures"] = json!([failure(&format!("e{id}-{seq}"))]);
                    body["transactions"]["failed"] = json!(1);
                }
                terminal.send(server, &body).expect(200);
            }
        }
        let scope = || Scope::subtree("/1000/");
        let overview: Result<Overview, db::Error> =
            server.block_on(failures::overview(&server.state.db, scope(), 24, server.clock.now()));
        let overview = overview.unwrap();
        assert_eq!((overview.exposures, overview.failures), (192.0, 49.0));
        let headline = &overview.explanations[0];
        let named: Vec<(&str, &str)> =
            headline.all_of.iter().map(|c| (c.attribute.as_str(), c.value.as_str())).collect();
        assert_eq!(named, [("firmware", "4.2.0"), ("access", "2g")]);
        assert_eq!(headline.failures, 48.0);
        assert_eq!(overview.outcomes, [("code:91".to_owned(), 49)]);

        let elsewhere = failures::overview(&server.state.db, Scope::subtree("/1001/"), 24, server.clock.now());
        assert_eq!(server.block_on(elsewhere).unwrap().exposures, 0.0);

        let list = |scope: Scope, filter: Filter| {
            let rows: Result<_, db::Error> =
                server.block_on(server.state.db.read(move |conn| failures::list(conn, &scope, &filter, None, 100)));
            rows.unwrap()
        };
        let one = list(scope(), Filter { terminal_id: Some(4), ..Filter::default() });
        assert_eq!(one.len(), 4);
        assert_eq!(one[0].event["condition"]["rssi_dbm"], -101);
        assert_eq!(list(Scope::subtree("/1001/"), Filter::default()), []);
    });
}
