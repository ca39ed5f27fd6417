//! A terminal that was recalled and allocated to another organization: what was before stays with whoever had it.

use diesel::prelude::*;
use serde_json::{Value, json};
use tillward_protocol::ids::TerminalId;
use tillward_server::db;
use tillward_server::db::schema::terminals;

use crate::check_in::{check_in, failure};
use crate::feed;
use crate::fixtures::{admin, headquarters, operator, organization};
use crate::harness::{Answer, TestServer, on_each_database};

const SN: &str = "MOVED0008929";
/// Reference number of every payment here.
const REF_NO: &str = "032616123456";
/// What belongs to whoever had the terminal then.
const LISTS: [&str; 4] = ["payments", "failures", "lookups", "evidence-packs"];
/// The merchant of the first holder.
const FIRST: &str = "850331053110612";
/// The merchant of the second.
const SECOND: &str = "850510053110999";

/// Two resellers, and a terminal that is at the first one's merchant.
struct World {
    admin: String,
    root: i64,
    first: String,
    second: String,
    second_id: i64,
    terminal_id: i64,
}

impl World {
    fn new(server: &TestServer) -> Self {
        let admin = admin(server);
        let root = headquarters(server, &admin);
        let first_id = organization(server, &admin, root, "FIRST");
        let second_id = organization(server, &admin, root, "SECOND");
        server.post("/api/v1/models", &admin, &json!({ "code": "demo-m1", "name": "M1" })).expect(201);
        let new = json!({
            "sn": SN, "model": "demo-m1", "organization_id": first_id, "merchant_no": FIRST,
            "merchant_name": "杭州好味餐饮店", "store_name": "西湖店",
        });
        let made = server.post("/api/v1/terminals", &admin, &new).expect(201).json();
        Self {
            first: operator(server, &admin, first_id, "org_ops").token,
            second: operator(server, &admin, second_id, "org_ops").token,
            admin,
            root,
            second_id,
            terminal_id: made["id"].as_i64().unwrap(),
        }
    }

    fn address(&self) -> String {
        format!("/api/v1/terminals/{}", self.terminal_id)
    }

    fn version(&self, server: &TestServer) -> Value {
        server.get(&self.address(), &self.admin).expect(200).json()["version"].clone()
    }

    /// Takes the terminal from the first holder's merchant and gives it to the second holder's.
    fn hand_over(&self, server: &TestServer) {
        for action in ["bind", "unbind"] {
            let step = json!({ "action": action, "version": self.version(server) });
            server.post(&format!("{}/lifecycle", self.address()), &self.admin, &step).expect(200);
        }
        server.clock.advance_ms(60_000);
        for organization_id in [self.root, self.second_id] {
            let asked = json!({ "ids": [self.terminal_id], "organization_id": organization_id });
            let done = server.post("/api/v1/terminals/transfer", &self.admin, &asked).expect(200).json();
            assert_eq!(done["moved"], json!([self.terminal_id]), "{done}");
        }
        let change = json!({
            "version": self.version(server), "merchant_no": SECOND, "merchant_name": "成都小面馆", "store_name": "春熙店",
        });
        let headers = [("content-type", "application/json")];
        server.send("PATCH", &self.address(), &self.second, &headers, change.to_string().as_bytes()).expect(200);
        server.clock.advance_ms(60_000);
    }

    /// The terminal reports one payment, and what `more` adds.
    fn report(&self, server: &TestServer, seq: u32, event_id: &str, more: impl Fn(&mut Value)) {
        let id = self.terminal_id;
        let epoch: Result<i64, db::Error> = server.block_on(
            server
                .state
                .db
                .read(move |conn| Ok(terminals::table.find(id).select(terminals::session_epoch).first(conn)?)),
        );
        let session = server.state.tokens.issue_terminal(TerminalId(id), epoch.unwrap(), server.clock.now()).unwrap();
        let mut body = check_in(1, seq);
        body["at_ms"] = json!(server.clock.now().0);
        body["payments"] = json!([{
            "id": event_id, "occurred_at_ms": server.clock.now().0, "transaction": "sale", "amount_fen": 618_187,
            "ref_no": REF_NO,
        }]);
        more(&mut body);
        server.post("/device/v1/check-in", &session, &body).expect(200);
    }

    /// Rows that somebody sees of a list.
    fn seen(&self, server: &TestServer, token: &str, list: &str) -> usize {
        let page = server.get(&format!("/api/v1/{list}?terminal_id={}", self.terminal_id), token).expect(200).json();
        page["items"].as_array().unwrap().len()
    }

    /// Asks for a pack of a transaction.
    fn pack(&self, server: &TestServer, token: &str, event_id: &str) -> Answer {
        let new = json!({ "terminal_id": self.terminal_id, "event_id": event_id });
        server.post("/api/v1/evidence-packs", token, &new)
    }

    /// Merchant numbers that somebody sees in the terminal's history, newest first.
    fn bound(&self, server: &TestServer, token: &str) -> Vec<String> {
        let rows = server.get(&format!("{}/bindings", self.address()), token).expect(200).json();
        rows.as_array().unwrap().iter().map(|row| row["merchant_no"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn bindings_stay_with_the_organization_that_had_the_terminal_and_nobody_later_moves_them() {
    on_each_database(|server| {
        let world = World::new(server);
        assert_eq!(world.bound(server, &world.first), [FIRST]);
        world.hand_over(server);
        assert_eq!(world.bound(server, &world.second), [SECOND]);
        assert_eq!(world.bound(server, &world.admin), [SECOND, FIRST]);
        server.get(&format!("{}/bindings", world.address()), &world.first).expect(404);
        let past = json!({ "merchant_no": SECOND, "from_ms": 0, "to_ms": 1_000_000, "reason": "旧台账" });
        server.post(&format!("{}/bindings", world.address()), &world.second, &past).expect(422);
        assert_eq!(world.bound(server, &world.admin), [SECOND, FIRST]);
    });
}

#[test]
fn a_merchant_that_moves_along_in_the_record_is_bound_anew_for_who_has_the_terminal_now() {
    on_each_database(|server| {
        let world = World::new(server);
        server.clock.advance_ms(60_000);
        let asked = json!({ "ids": [world.terminal_id], "organization_id": world.root });
        server.post("/api/v1/terminals/transfer", &world.admin, &asked).expect(200);
        let rows = server.get(&format!("{}/bindings", world.address()), &world.admin).expect(200).json();
        let owners: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["org_path"].as_str().unwrap()).collect();
        assert_eq!(owners.len(), 2, "{rows}");
        assert_eq!(owners[0], format!("/{}/", world.root));
        assert!(owners[1].starts_with(owners[0]) && owners[1] != owners[0], "{rows}");
        assert_eq!(rows[1]["to_ms"], rows[0]["from_ms"]);
    });
}

#[test]
fn payments_failures_look_ups_and_packs_stay_with_the_organization_whose_they_are() {
    on_each_database(|server| {
        let world = World::new(server);
        let at_ms = server.clock.now().0;
        world.report(server, 1, "p1", |body| {
            let mut event = failure("e1");
            event["occurred_at_ms"] = json!(at_ms);
            body["failures"] = json!([event]);
        });
        let seen = json!({ "sn": SN, "event_id": "p1", "source": "95516", "merchant_no": FIRST });
        server.post("/api/v1/lookups", &world.first, &seen).expect(201);
        let made = world.pack(server, &world.first, "p1").expect(201).json();
        let at = format!("/api/v1/evidence-packs/{}", made["id"].as_str().unwrap());
        world.hand_over(server);
        for list in LISTS {
            let counts = [&world.first, &world.second, &world.admin].map(|token| world.seen(server, token, list));
            assert_eq!(counts, [1, 0, 1], "{list}");
        }
        server.get(&at, &world.second).expect(404);
        assert_eq!(server.get(&at, &world.first).expect(200).json()["proof"]["is_intact"], true);
        for event_id in ["p1", "e1"] {
            world.pack(server, &world.second, event_id).expect(422);
        }
        // What headquarters makes of it later is of the first holder, too, and says where the terminal was then.
        let later = world.pack(server, &world.admin, "p1").expect(201).json();
        let bound = &later["content"]["bound"];
        assert_eq!((&bound["merchant_no"], &bound["store_name"]), (&json!(FIRST), &json!("西湖店")));
        let at = format!("/api/v1/evidence-packs/{}", later["id"].as_str().unwrap());
        server.get(&at, &world.second).expect(404);
        server.get(&at, &world.first).expect(200);
    });
}

#[test]
fn a_later_holder_is_told_nothing_of_what_settled_before_or_was_bound_then() {
    on_each_database(|server| {
        let world = World::new(server);
        let at_ms = server.clock.now().0;
        world.report(server, 1, "p1", |_| {});
        let channel =
            server.post("/api/v1/feed-channels", &world.first, &json!({ "name": "渠道甲" })).expect(201).json();
        let file = format!(
            "流水号,机具序列号,商户编号,商户名称,交易金额,结算金额,手续费,提现费,参考号,交易时间,交易状态\n\
             1,{SN},{FIRST},杭州好味餐饮店,6181.87,6181.87,0,0,{REF_NO},{},成功\n",
            feed::moment(at_ms),
        );
        let number = channel["channel"]["id"].as_i64().unwrap();
        assert_eq!(feed::counts(&feed::import(server, &world.first, number, file.as_bytes())), [1, 0, 0, 0]);
        feed::summary(server, &world.first);
        let settled = |token: &str, event_id: &str| {
            let pack = world.pack(server, token, event_id).expect(201).json();
            pack["content"]["settled"].as_array().unwrap().len()
        };
        assert_eq!(settled(&world.first, "p1"), 1);
        world.hand_over(server);
        // The same number within a day: the channel's record is another payment's.
        world.report(server, 2, "p2", |_| {});
        assert_eq!(settled(&world.second, "p2"), 0);
        let typed = json!({ "sn": SN, "at_ms": at_ms, "source": "95516", "merchant_no": SECOND });
        let answer = server.post("/api/v1/lookups", &world.second, &typed).expect(201);
        assert!(!answer.text().contains(FIRST), "{}", answer.text());
    });
}
