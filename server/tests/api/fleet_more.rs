//! The fleet's rules over time: what stays as people left it, what is not over only because it is not looked at any more,
//! and what they see in a fleet that is larger than their lists.

use serde_json::json;
use tillward_server::failures::incidents::{Kind, Level, NewIncident};

use crate::fleet::{alert_kinds, detail, events, new, open_at};
use crate::harness::on_each_database;
use crate::seed::Tree;

#[test]
fn nothing_hides_what_is_more_urgent_than_itself() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let now = server.clock.now();
        let area = |key: &str, level| NewIncident { level, ..new(Kind::AreaOutage, key, vec![]) };
        let bank = open_at(server, new(Kind::BankOutage, "bank", vec![]), now);
        let urgent = open_at(server, area("area:region:3101", Level::P1), now);
        let shown = detail(server, &tree.east_ops, &json!(urgent));
        assert_eq!(shown["incident"]["parent_id"], json!(null));
        assert_eq!(alert_kinds(&shown), ["incident_opened"]);
        // What was folded comes out when it becomes more urgent than what explains it, and is not folded again.
        let folded = open_at(server, area("area:region:3301", Level::P2), now);
        let shown = detail(server, &tree.east_ops, &json!(folded));
        assert_eq!((&shown["incident"]["parent_id"], alert_kinds(&shown).len()), (&json!(bank), 0));
        for level in [Level::P1, Level::P2] {
            open_at(server, area("area:region:3301", level), now);
        }
        let shown = detail(server, &tree.east_ops, &json!(folded));
        assert_eq!((events(&shown), alert_kinds(&shown)), (vec!["open", "unfold"], vec!["incident_opened"]));
        assert_eq!((&shown["incident"]["masked_since_ms"], &shown["incident"]["level"]), (&json!(null), &json!("P1")));
    });
}
