//! Stores are told what to change in their network.

use serde_json::json;
use tillward_server::clock::Now;
use tillward_server::failures::advice;

use super::{Planted, month, plant};
use crate::harness::on_each_database;
use crate::seed::Tree;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

#[test]
fn a_store_is_told_what_to_change_and_what_it_would_have_saved() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let now = server.clock.now();
        let at = |id: i64, access: &'static str, carrier: &'static str, store: &'static str| Planted {
            region: "3101",
            access,
            carrier,
            store: Some(store),
            ..Planted::new(id, now.0)
        };
        let weak = [at(1, "4g", "CMCC", "河坊街店"), at(2, "4g", "CMCC", "河坊街店")];
        let others: Vec<Planted> = (3..=14).map(|id| at(id, "eth", "unknown", "其他店")).collect();
        let quiet = at(15, "4g", "CUCC", "新店");
        plant(server, weak.iter().chain(&others).chain([&quiet]).cloned().collect());
        for one in &weak {
            month(server, one, 100, -113, 5, now);
        }
        for one in &others {
            month(server, one, 50, -80, 50, now);
        }
        server.block_on(advice::pass(&server.state.db, now)).unwrap();
        // The first store was judged before the region was known; an hour later the next round goes round.
        let later = Now(now.0 + 2 * HOUR_MS);
        server.block_on(advice::pass(&server.state.db, later)).unwrap();
        server.block_on(advice::pass(&server.state.db, later)).unwrap();
        let page = server.get("/api/v1/network-advice", &tree.east_ops).expect(200).json();
        let stores = page["items"].as_array().unwrap();
        let names: Vec<&str> = stores.iter().map(|store| store["store_name"].as_str().unwrap()).collect();
        assert_eq!(names, ["河坊街店", "其他店"], "the worst first; what measured nothing is in no list");
        let worst = &stores[0];
        assert_eq!((&worst["terminals"], &worst["attempts"], &worst["failed"]), (&json!(2), &json!(1_000), &json!(40)));
        assert_eq!(worst["judged"]["parts"][0]["name"], "failures");
        let advice = &worst["judged"]["advice"][0];
        assert_eq!((&advice["change"], &advice["to_access"]), (&json!("fixed_line"), &json!("eth")));
        assert_eq!((&advice["saved"], &advice["terminals"]), (&json!(36), &json!(12)));
        assert!(advice["saved_low"].as_i64() < advice["saved"].as_i64());
        let own = server.get("/api/v1/terminals/1/network-advice", &tree.east_ops).expect(200).json();
        assert_eq!(own[0]["store_name"], "河坊街店");
        assert_eq!(server.get("/api/v1/terminals/15/network-advice", &tree.east_ops).expect(200).json(), json!([]));
        assert_eq!(server.get("/api/v1/network-advice", &tree.west_ops).expect(200).json()["items"], json!([]));
        server.get("/api/v1/terminals/1/network-advice", &tree.west_ops).expect(404);
        let first = server.get("/api/v1/network-advice?size=1", &tree.east_ops).expect(200).json();
        let next = first["next"].as_str().unwrap();
        let second =
            server.get(&format!("/api/v1/network-advice?size=1&after={next}"), &tree.east_ops).expect(200).json();
        assert_eq!((&second["items"][0]["store_name"], &second["next"]), (&json!("其他店"), &json!(null)));
    });
}
