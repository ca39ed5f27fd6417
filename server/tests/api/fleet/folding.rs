//! What an incident explains is folded under it, and comes out when it outlasts it.

use diesel::prelude::*;
use serde_json::{Value, json};
use tillward_server::clock::Now;
use tillward_server::db::schema::store_networks;
use tillward_server::failures::incidents::{Kind, NewIncident};

use super::{Planted, act, alert_kinds, detail, events, in_transaction, new, open_at, pass, plant};
use crate::console::Browser;
use crate::fixtures::{ADMIN, admin, headquarters};
use crate::harness::on_each_database;
use crate::seed::Tree;

const MINUTE_MS: i64 = 60_000;

#[test]
fn what_an_outage_explains_is_folded_and_told_when_it_outlasts_it() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ops = &tree.east_ops;
        let now = server.clock.now();
        plant(server, vec![Planted::new(7, now.0), Planted::new(8, now.0)]);
        let before = open_at(server, new(Kind::TerminalSuspect, "terminal:8", vec![8]), now);
        let bank =
            open_at(server, NewIncident { org_path: "/101/".to_owned(), ..new(Kind::BankOutage, "bank", vec![]) }, now);
        let suspect = open_at(server, new(Kind::TerminalSuspect, "terminal:7", vec![7]), now);
        let area = open_at(server, new(Kind::AreaOutage, "area:region:3101", vec![8]), now);
        let rise = open_at(server, new(Kind::FailureRise, "rise", vec![]), now);
        let own = NewIncident { evidence: json!({"outcomes": ["stage:tls"]}), ..new(Kind::FailureRise, "own", vec![]) };
        let own = open_at(server, own, now);
        let tamper = open_at(server, new(Kind::Tamper, "terminal:7", vec![7]), now);
        let elsewhere =
            NewIncident { org_path: "/101/104/".to_owned(), ..new(Kind::AreaOutage, "area:region:5101", vec![]) };
        let under = |id: i64| {
            let shown = detail(server, &tree.admin, &json!(id));
            (shown["incident"]["parent_id"].clone(), alert_kinds(&shown).len())
        };
        for id in [suspect, area, rise] {
            assert_eq!(under(id), (json!(bank), 0), "{id}");
        }
        assert_eq!(under(open_at(server, elsewhere, now)), (json!(bank), 0), "the whole tree's bank");
        for id in [own, tamper] {
            assert_eq!(under(id), (json!(null), 1), "{id}");
        }
        // What was told before is folded when it is seen again.
        assert_eq!(under(before), (json!(null), 1));
        open_at(server, new(Kind::TerminalSuspect, "terminal:8", vec![8]), now);
        let shown = detail(server, ops, &json!(before));
        assert_eq!((events(&shown), &shown["incident"]["parent_id"]), (vec!["open", "fold"], &json!(bank)));
        assert_eq!(shown["incident"]["due_ms"], json!(null), "nobody is reminded of it");
        let list = |query: &str| -> Vec<Value> {
            server.get(&format!("/api/v1/incidents?{query}"), &tree.admin).expect(200).json()["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|row| row["id"].clone())
                .collect()
        };
        assert_eq!(list(&format!("parent_id={bank}")).len(), 5);
        assert_eq!(detail(server, &tree.admin, &json!(bank))["incident"]["folded"], 5);
        // What goes on is told when the outage is over, and what does not is over with it.
        let later = Now(now.0 + 30 * MINUTE_MS);
        server.clock.advance_ms(30 * MINUTE_MS);
        open_at(server, new(Kind::AreaOutage, "area:region:3101", vec![8]), later);
        act(server, &tree.admin, bank, "resolve");
        let shown = detail(server, ops, &json!(area));
        assert_eq!((events(&shown), alert_kinds(&shown)), (vec!["open", "unfold"], vec!["incident_opened"]));
        assert_eq!(shown["incident"]["masked_since_ms"], json!(null));
        assert!(shown["incident"]["due_ms"].is_i64());
        let shown = detail(server, ops, &json!(suspect));
        assert_eq!((events(&shown), &shown["incident"]["state"]), (vec!["open", "subside"], &json!("mitigated")));
        assert_eq!(alert_kinds(&shown), Vec::<&str>::new());
        // Seen once more after that, it is told as what came back.
        open_at(server, new(Kind::TerminalSuspect, "terminal:7", vec![7]), later);
        let shown = detail(server, ops, &json!(suspect));
        // Terminal 7 is not in the region of the area that goes on.
        assert_eq!(alert_kinds(&shown), ["incident_reopened"]);
        assert_eq!(shown["incident"]["folded"], 0);
    });
}

#[test]
fn an_area_explains_the_terminals_in_it_and_a_mitigated_outage_explains_nothing() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let now = server.clock.now();
        plant(server, vec![Planted::new(7, now.0), Planted::new(8, now.0)]);
        let area = open_at(server, new(Kind::AreaOutage, "area:region:3101", vec![8]), now);
        let inside = open_at(server, new(Kind::TerminalSuspect, "terminal:8", vec![8]), now);
        let outside = open_at(server, new(Kind::TerminalSuspect, "terminal:7", vec![7]), now);
        let parent = |id: i64| detail(server, &tree.east_ops, &json!(id))["incident"]["parent_id"].clone();
        assert_eq!((parent(inside), parent(outside)), (json!(area), json!(null)));
        let cell = open_at(server, new(Kind::AreaOutage, "area:cell:46000-7", vec![7]), now);
        open_at(server, new(Kind::TerminalSuspect, "terminal:7", vec![7]), now);
        assert_eq!(parent(outside), json!(cell), "by the report of its latest check-in");
        act(server, &tree.east_ops, cell, "mitigate");
        let shown = detail(server, &tree.east_ops, &json!(outside));
        assert_eq!(events(&shown), ["open", "fold", "unfold"]);
        let third = open_at(server, new(Kind::TerminalSuspect, "terminal:7b", vec![7]), now);
        assert_eq!(parent(third), json!(null));
        // The bell counts what stands for itself: the area is under way, its terminal is folded.
        let page = server.get(&format!("/api/v1/incidents/{inside}"), &tree.east_ops).expect(200).json();
        assert!(page["incident"]["masked_since_ms"].is_i64());
        act(server, &tree.east_ops, inside, "acknowledge");
        let shown = detail(server, &tree.east_ops, &json!(inside));
        assert_eq!(shown["incident"]["masked_since_ms"], json!(null), "somebody has it before them");
    });
}

#[test]
fn pages_show_what_is_folded_what_the_rules_said_and_what_to_change() {
    on_each_database(|server| {
        let token = admin(server);
        let path = format!("/{}/", headquarters(server, &token));
        let now = server.clock.now();
        let of_root = |kind, key: &str| NewIncident { org_path: path.clone(), ..new(kind, key, vec![]) };
        let bank = open_at(server, of_root(Kind::BankOutage, "91 · 96"), now);
        let area = open_at(server, of_root(Kind::AreaOutage, "area:region:3101"), now);
        pass(server, now);
        let store = path.clone();
        in_transaction(server, move |conn| {
            let body = json!({"links": [], "judged": {
                "score": 35, "lacks_peers": false,
                "parts": [
                    {"name": "failures", "access": "4g", "carrier": "CMCC", "score": 35, "observed": 0.04, "of": 1000},
                    {"name": "signal", "access": "4g", "carrier": "CMCC", "score": 60, "observed": 0.62, "of": 312},
                ],
                "advice": [{
                    "change": "fixed_line", "access": "4g", "carrier": "CMCC", "to_access": "eth", "to_carrier": "unknown",
                    "now": {"attempts": 1000, "failed": 31}, "then": {"attempts": 3000, "failed": 12}, "terminals": 14,
                    "saved": 12, "saved_low": 7, "saved_high": 18,
                }],
            }});
            diesel::insert_into(store_networks::table)
                .values((
                    store_networks::id.eq(1),
                    store_networks::org_path.eq(store),
                    store_networks::store_name.eq("河坊街店"),
                    store_networks::region.eq("3301"),
                    store_networks::terminals.eq(2),
                    store_networks::attempts.eq(1_000),
                    store_networks::failed.eq(31),
                    store_networks::score.eq(35),
                    store_networks::body.eq(body.to_string()),
                    store_networks::computed_at_ms.eq(0),
                ))
                .execute(conn)?;
            Ok(())
        });
        let browser = Browser::signed_in(server, ADMIN);
        let page = |path: &str| browser.get(path).expect(200).text();
        let list = page("/incidents");
        assert!(list.contains("1 folded under it"), "{list}");
        assert!(!list.contains(&format!("/incidents/{area}\"")), "it is found under the one that explains it");
        assert!(page(&format!("/incidents/{bank}")).contains("Explained by this"));
        assert!(page(&format!("/incidents/{area}")).contains("Another alert explains this one"));
        let fleet = page("/fleet");
        assert!(fleet.contains("not enough history") && fleet.contains("not judged yet"), "{fleet}");
        let advice = page("/network-advice");
        for text in ["河坊街店", "about 12 of 31 failures in 30 days (7–18)", "4.0% of payments", "at 14 terminals"]
        {
            assert!(advice.contains(text), "{text}: {advice}");
        }
        let numbers = server.get("/api/v1/fleet/kpis", &token).expect(200).json();
        assert_eq!((&numbers["in_use"], &numbers["repair_mean_ms"]), (&json!(0), &json!(null)));
    });
}
