//! Layers of parameters, how a rollout brings a profile into force on one, and terminals that do not take theirs.

use std::collections::HashMap;

use serde_json::{Value, json};
use tillward_protocol::ids::Sha256Hex;
use tillward_server::audit::Actor;
use tillward_server::clock::Now;
use tillward_server::db;
use tillward_server::operators::Scope;
use tillward_server::profiles::{self, Error, LayerKey, Unstaged};

use crate::harness::{TestServer, on_each_database};
use crate::seed::{MODEL, Tree};

const DAY_MS: i64 = 86_400_000;

fn organization(organization_id: i64) -> LayerKey {
    LayerKey::Organization { organization_id }
}

fn group(organization_id: i64, tag: &str) -> LayerKey {
    LayerKey::Group { organization_id, tag: tag.to_owned() }
}

/// A version of a profile of headquarters.
fn profile(server: &TestServer, tree: &Tree, name: &str, parameters: Value) -> i64 {
    let new = json!({"name": name, "parameters": parameters});
    server.post("/api/v1/profiles", &tree.admin, &new).expect(201).json()["id"].as_i64().unwrap()
}

fn terminal(server: &TestServer, tree: &Tree, sn: &str, organization_id: i64, tags: Value) -> i64 {
    let new = json!({"sn": sn, "model": MODEL, "organization_id": organization_id, "tags": tags});
    server.post("/api/v1/terminals", &tree.admin, &new).expect(201).json()["id"].as_i64().unwrap()
}

fn stage(server: &TestServer, ids: &[i64], layer: &LayerKey, profile: i64) -> HashMap<i64, String> {
    let (ids, layer, now) = (ids.to_vec(), layer.clone(), server.clock.now());
    server.block_on(server.state.db.write(move |conn| profiles::stage(conn, &ids, &layer, profile, now))).unwrap()
}

fn unstage(
    server: &TestServer,
    ids: &[i64],
    layer: &LayerKey,
    profile: i64,
    how: Unstaged,
) -> HashMap<i64, Option<String>> {
    let (ids, layer, now) = (ids.to_vec(), layer.clone(), server.clock.now());
    let unstage = move |conn: &mut db::Conn| profiles::unstage(conn, &ids, &layer, profile, how, now);
    server.block_on(server.state.db.write(unstage)).unwrap()
}

/// Settles a profile and tells all terminals of the layer.
fn settle(server: &TestServer, layer: &LayerKey, profile: i64) {
    let (layer, now) = (layer.clone(), server.clock.now());
    let settle = move |conn: &mut db::Conn| profiles::settle(conn, &Actor::system("test"), &layer, profile, now);
    server.block_on(server.state.db.write(settle)).unwrap();
    while server.block_on(profiles::spread(&server.state.db, now)).unwrap() {}
}

fn config(server: &TestServer, token: &str, terminal: i64) -> Value {
    server.get(&format!("/api/v1/terminals/{terminal}/config"), token).expect(200).json()
}

/// `name=value` of all that a terminal should have, after a look at whether that is also what it is told.
fn expected(server: &TestServer, tree: &Tree, terminal: i64) -> String {
    let config = config(server, &tree.admin, terminal);
    let values = config["values"].as_array().unwrap();
    let parameters: serde_json::Map<String, Value> =
        values.iter().map(|each| (each["name"].as_str().unwrap().to_owned(), each["value"].clone())).collect();
    let hash = Sha256Hex::of(Value::Object(parameters).to_string().as_bytes());
    let is_told = match config["expected_hash"].as_str() {
        Some(told) => told == hash.as_str(),
        None => values.is_empty(),
    };
    assert!(is_told, "{config}");
    let pairs = values.iter().map(|each| format!("{}={}", each["name"].as_str().unwrap(), each["value"]));
    pairs.collect::<Vec<_>>().join(" ")
}

#[test]
fn lower_layers_override_upper_ones_and_each_value_says_where_it_comes_from() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let id = terminal(server, &tree, "A1", tree.east_shop, json!(["vip"]));
        let other = terminal(server, &tree, "W1", tree.west, json!(["vip"]));
        let all = json!({"a": 0, "b": 0, "c": 0, "d": 0, "e": 0});
        settle(server, &LayerKey::Global, profile(server, &tree, "all", all));
        settle(
            server,
            &organization(tree.east),
            profile(server, &tree, "east", json!({"b": 1, "c": 1, "d": 1, "e": 1})),
        );
        settle(server, &organization(tree.east_shop), profile(server, &tree, "shop", json!({"c": 2, "d": 2, "e": 2})));
        settle(server, &group(tree.east, "vip"), profile(server, &tree, "vip", json!({"d": 3, "e": 3})));
        let own = profile(server, &tree, "own", json!({"e": 4}));
        let asked = json!({"ids": [id]});
        server.post(&format!("/api/v1/profiles/{own}/assign"), &tree.admin, &asked).expect(200);
        assert_eq!(expected(server, &tree, id), "a=0 b=1 c=2 d=3 e=4");
        assert_eq!(expected(server, &tree, other), "a=0 b=0 c=0 d=0 e=0");
        let config = config(server, &tree.east_ops, id);
        let origins: Vec<&Value> =
            config["values"].as_array().unwrap().iter().map(|each| &each["origin"]["layer"]).collect();
        let expected = [
            json!({"kind": "global"}),
            json!({"kind": "organization", "organization_id": tree.east}),
            json!({"kind": "organization", "organization_id": tree.east_shop}),
            json!({"kind": "group", "organization_id": tree.east, "tag": "vip"}),
            json!({"kind": "terminal"}),
        ];
        assert_eq!(origins, expected.iter().collect::<Vec<_>>());
        let last = &config["values"][4]["origin"];
        assert_eq!((&last["profile_id"], &last["profile_version"]), (&json!(own), &json!(1)));
        assert_eq!((&config["reported_hash"], &config["drift"]), (&json!(null), &json!(null)));
        server.get(&format!("/api/v1/terminals/{id}/config"), &tree.west_ops).expect(404);
    });
}

#[test]
fn the_list_of_layers_holds_what_is_in_force_within_the_callers_organizations() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let one = profile(server, &tree, "one", json!({"a": 1}));
        for layer in [LayerKey::Global, group(tree.east, "vip"), organization(tree.east), organization(tree.west)] {
            settle(server, &layer, one);
        }
        let kinds = |token: &str, query: &str| -> Vec<String> {
            let page = server.get(&format!("/api/v1/config/layers{query}"), token).expect(200).json();
            let row = |row: &Value| format!("{} {}", row["layer"]["kind"].as_str().unwrap(), row["org_path"]);
            page["items"].as_array().unwrap().iter().map(row).collect()
        };
        let east = ["group \"/101/102/\"", "organization \"/101/102/\""];
        assert_eq!(
            kinds(&tree.admin, ""),
            ["global \"/101/\"", east[0], east[1], "organization \"/101/104/\""].map(str::to_owned)
        );
        assert_eq!(kinds(&tree.east_ops, ""), east);
        assert_eq!(kinds(&tree.west_ops, ""), ["organization \"/101/104/\""]);
        let first = server.get("/api/v1/config/layers?size=2", &tree.admin).expect(200).json();
        assert_eq!(first["items"][0]["spreading"], false);
        let rest = format!("?after={}", first["next"].as_str().unwrap());
        assert_eq!(kinds(&tree.admin, &rest), [east[1], "organization \"/101/104/\""]);
    });
}

#[test]
fn a_staged_terminal_differs_from_the_others_until_it_is_taken_back() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let [a, b, west] = [("A1", tree.east), ("A2", tree.east_shop), ("W1", tree.west)]
            .map(|(sn, organization)| terminal(server, &tree, sn, organization, json!([])));
        let layer = organization(tree.east);
        let first = profile(server, &tree, "base", json!({"v": 1}));
        settle(server, &layer, first);
        let second = profile(server, &tree, "base", json!({"v": 2}));
        let told = stage(server, &[a, west], &layer, second);
        assert_eq!(told.keys().collect::<Vec<_>>(), [&a], "a terminal that is not on the layer is left alone");
        assert_eq!(config(server, &tree.admin, a)["expected_hash"], told[&a]);
        let values = |expected: [&str; 3]| {
            assert_eq!([a, b, west].map(|id| self::expected(server, &tree, id)), expected.map(str::to_owned));
        };
        values(["v=2", "v=1", ""]);
        assert_eq!(stage(server, &[a], &layer, second), told, "staging again changes nothing");
        values(["v=2", "v=1", ""]);
        for _ in 0..2 {
            unstage(server, &[a, b, west], &layer, second, Unstaged::Follow);
            values(["v=1", "v=1", ""]);
        }
        // Over the start of a second rollout of the same name, and back step by step.
        let third = profile(server, &tree, "base", json!({"v": 3}));
        stage(server, &[a], &layer, second);
        stage(server, &[a], &layer, third);
        values(["v=3", "v=1", ""]);
        unstage(server, &[a], &layer, third, Unstaged::Follow);
        values(["v=2", "v=1", ""]);
        unstage(server, &[a], &layer, second, Unstaged::Follow);
        values(["v=1", "v=1", ""]);
    });
}

#[test]
fn what_was_settled_is_for_everybody_on_the_layer_and_can_still_be_taken_back() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let ids = ["A1", "A2", "A3"].map(|sn| terminal(server, &tree, sn, tree.east, json!([])));
        let layer = organization(tree.east);
        let values = |expected: [&str; 3]| {
            assert_eq!(ids.map(|id| self::expected(server, &tree, id)), expected.map(str::to_owned));
        };
        let first = profile(server, &tree, "base", json!({"v": 1}));
        stage(server, &ids[..1], &layer, first);
        values(["v=1", "", ""]);
        settle(server, &layer, first);
        settle(server, &layer, first);
        values(["v=1", "v=1", "v=1"]);
        let second = profile(server, &tree, "base", json!({"v": 2}));
        stage(server, &ids[..2], &layer, second);
        unstage(server, &ids[1..2], &layer, second, Unstaged::Hold);
        values(["v=2", "v=1", "v=1"]);
        settle(server, &layer, second);
        values(["v=2", "v=1", "v=2"]);
        // Undone for two: one that was staged, one that was not.
        unstage(server, &[ids[0], ids[2]], &layer, second, Unstaged::Follow);
        values(["v=1", "v=1", "v=1"]);
        let newcomer = terminal(server, &tree, "A4", tree.east, json!([]));
        assert_eq!(expected(server, &tree, newcomer), "v=2");
        let third = profile(server, &tree, "base", json!({"v": 3}));
        stage(server, &ids, &layer, third);
        settle(server, &layer, third);
        values(["v=3", "v=3", "v=3"]);
        assert_eq!(expected(server, &tree, newcomer), "v=3");
        // A version without parameters takes a profile back from its layer.
        settle(server, &layer, profile(server, &tree, "base", json!({})));
        values(["", "", ""]);
    });
}

#[test]
fn a_terminal_takes_the_layers_of_where_it_goes_and_leaves_those_of_where_it_was() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        settle(server, &organization(tree.east), profile(server, &tree, "east", json!({"east": 1})));
        settle(server, &group(tree.root, "lab"), profile(server, &tree, "lab", json!({"lab": 1})));
        let id = terminal(server, &tree, "A1", tree.root, json!([]));
        let transfer = |to: i64| {
            let asked = json!({"ids": [id], "organization_id": to});
            let done = server.post("/api/v1/terminals/transfer", &tree.admin, &asked).expect(200).json();
            assert_eq!(done["moved"], json!([id]), "{done}");
        };
        let tag = |tags: Value| {
            let path = format!("/api/v1/terminals/{id}");
            let version = server.get(&path, &tree.admin).expect(200).json()["version"].clone();
            let body = json!({"version": version, "tags": tags}).to_string();
            let headers = [("content-type", "application/json")];
            server.send("PATCH", &path, &tree.admin, &headers, body.as_bytes()).expect(200);
        };
        assert_eq!(expected(server, &tree, id), "");
        transfer(tree.east);
        assert_eq!(expected(server, &tree, id), "east=1");
        tag(json!(["lab"]));
        assert_eq!(expected(server, &tree, id), "east=1 lab=1");
        let second = profile(server, &tree, "east", json!({"east": 2}));
        stage(server, &[id], &organization(tree.east), second);
        assert_eq!(expected(server, &tree, id), "east=2 lab=1");
        transfer(tree.root);
        assert_eq!(expected(server, &tree, id), "lab=1");
        tag(json!([]));
        assert_eq!(expected(server, &tree, id), "");
        transfer(tree.east);
        assert_eq!(expected(server, &tree, id), "east=1", "what was staged there is forgotten");
        let file = format!("sn,model,tags\nI1,{MODEL},lab\n");
        let headers = [("content-type", "text/csv")];
        server.send("POST", "/api/v1/terminals/import", &tree.east_ops, &headers, file.as_bytes()).expect(200);
        let found = server.get("/api/v1/terminals?tag=lab", &tree.admin).expect(200).json();
        let imported = found["items"][0]["id"].as_i64().unwrap();
        assert_eq!(expected(server, &tree, imported), "east=1 lab=1");
    });
}

#[test]
fn settling_reaches_more_terminals_than_one_step_takes() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        for (organization, lead) in [(&tree.east_ops, "E"), (&tree.west_ops, "W")] {
            let rows: String = (0..620).map(|n| format!("{lead}{n:04},{MODEL},lab\n")).collect();
            let headers = [("content-type", "text/csv")];
            let file = format!("sn,model,tags\n{rows}");
            server.send("POST", "/api/v1/terminals/import", organization, &headers, file.as_bytes()).expect(200);
        }
        let count_of = |profile: i64| {
            let hash =
                server.get(&format!("/api/v1/profiles/{profile}"), &tree.admin).expect(200).json()["hash"].clone();
            let mut count = 0;
            let mut query = String::from("?size=100");
            loop {
                let page = server.get(&format!("/api/v1/terminals{query}"), &tree.admin).expect(200).json();
                let rows = page["items"].as_array().unwrap();
                count += rows.iter().filter(|row| row["desired_config_hash"] == hash).count();
                let Some(next) = page["next"].as_str() else { return count };
                query = format!("?size=100&after={next}");
            }
        };
        let all = profile(server, &tree, "base", json!({"v": 1}));
        settle(server, &LayerKey::Global, all);
        assert_eq!(count_of(all), 1_240);
        let west = profile(server, &tree, "base", json!({"v": 2}));
        settle(server, &organization(tree.west), west);
        assert_eq!((count_of(all), count_of(west)), (620, 620));
        let east = profile(server, &tree, "base", json!({"v": 3}));
        settle(server, &group(tree.east, "lab"), east);
        assert_eq!((count_of(all), count_of(west), count_of(east)), (0, 620, 620));
    });
}

#[test]
fn only_ones_own_profiles_go_on_ones_own_layers() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let of_head = profile(server, &tree, "head", json!({"a": 1}));
        let new = json!({"name": "east", "parameters": {"a": 1}});
        let of_east =
            server.post("/api/v1/profiles", &tree.east_admin, &new).expect(201).json()["id"].as_i64().unwrap();
        let check = |scope: &str, layer: LayerKey, profile: i64| {
            let scope = Scope::subtree(scope);
            let check = move |conn: &mut db::Conn| profiles::check_layer(conn, &scope, &layer, profile);
            match server.block_on(server.state.db.read(check)) {
                Ok(found) => Ok(found.id),
                Err(Error::NotFound) => Err("not found".to_owned()),
                Err(Error::Invalid(error)) => Err(error.field),
                Err(error) => panic!("{error}"),
            }
        };
        let (head, east) = ("/101/", "/101/102/");
        let refused = || Err("layer".to_owned());
        for (scope, layer, profile, answer) in [
            (head, LayerKey::Global, of_head, Ok(of_head)),
            (head, organization(tree.west), of_east, Ok(of_east)),
            (head, LayerKey::Terminal, of_head, Ok(of_head)),
            (head, organization(tree.root), of_head, refused()),
            (head, organization(999), of_head, refused()),
            (east, organization(tree.east_shop), of_east, Ok(of_east)),
            (east, group(tree.east, "vip"), of_east, Ok(of_east)),
            (east, organization(tree.east), of_head, Err("not found".to_owned())),
            (east, LayerKey::Global, of_east, refused()),
            (east, organization(tree.west), of_east, refused()),
            (east, group(tree.west, "vip"), of_east, refused()),
        ] {
            assert_eq!(check(scope, layer.clone(), profile), answer, "{scope} {layer:?}");
        }
    });
}

#[test]
fn parameters_of_all_layers_have_a_limit_together() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let id = terminal(server, &tree, "A1", tree.east, json!([]));
        let large = |n: usize| {
            let parameters: Value = (0..31).map(|key| (format!("p{n}.{key}"), json!("x".repeat(1_000)))).collect();
            profile(server, &tree, &format!("large {n}"), parameters)
        };
        for n in 0..4 {
            stage(server, &[id], &LayerKey::Terminal, large(n));
        }
        let told = config(server, &tree.admin, id)["expected_hash"].clone();
        let asked = json!({"ids": [id]});
        server.post(&format!("/api/v1/profiles/{}/assign", large(4)), &tree.admin, &asked).expect(422);
        assert_eq!(config(server, &tree.admin, id)["expected_hash"], told);
    });
}

#[test]
fn parameters_that_no_terminal_is_told_are_deleted_after_a_while() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let id = terminal(server, &tree, "A1", tree.east, json!([]));
        for version in 1..=3 {
            stage(server, &[id], &LayerKey::Terminal, profile(server, &tree, "own", json!({"v": version})));
        }
        let forget = |days: i64| {
            let now = Now(server.clock.now().0 + days * DAY_MS);
            server.block_on(profiles::forget_unused(&server.state.db, now)).unwrap()
        };
        assert_eq!((forget(29), forget(31), forget(31)), (0, 2, 0));
        assert_eq!(expected(server, &tree, id), "v=3");
    });
}

/// A terminal that is told a profile, and what its check-ins bring.
struct Reporter<'a> {
    server: &'a TestServer,
    tree: &'a Tree,
    id: i64,
    token: String,
    hash: String,
}

impl Reporter<'_> {
    /// Sends a check-in and returns what should be applied.
    fn report(&self, seq: u32, config_hash: Option<&str>) -> Value {
        let mut body = crate::check_in::check_in(2, seq);
        if let Some(hash) = config_hash {
            body["software"]["config_hash"] = json!(hash);
        }
        let answer = self.server.post("/device/v1/check-in", &self.token, &body).expect(200).json();
        answer["desired"]["config"].clone()
    }

    /// Its drift's state, after a look at whether list and page of the terminal agree.
    fn drift(&self) -> Option<String> {
        let list = self.server.get("/api/v1/config/drifts", &self.tree.east_ops).expect(200).json();
        let items = list["items"].as_array().unwrap();
        let here = config(self.server, &self.tree.east_ops, self.id)["drift"].clone();
        assert_eq!(items.first().unwrap_or(&json!(null)), &here);
        here["state"].as_str().map(str::to_owned)
    }
}

fn reporter<'a>(server: &'a TestServer, tree: &'a Tree) -> Reporter<'a> {
    let device = tree.device(server, "A1", 1);
    let own = profile(server, tree, "own", json!({"a": 1, "b": 1}));
    let hash = stage(server, &[device.id], &LayerKey::Terminal, own)[&device.id].clone();
    Reporter { server, tree, id: device.id, token: device.token(server), hash }
}

#[test]
fn a_terminal_that_does_not_take_its_parameters_is_asked_again_once_and_then_there_is_an_alarm() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let reporter = reporter(server, &tree);
        let told = json!({"hash": reporter.hash});
        let again = json!({"hash": reporter.hash, "attempt": 1});
        let state = |name: &str| Some(name.to_owned());
        assert_eq!((reporter.report(1, None), reporter.drift()), (told.clone(), None));
        assert_eq!((reporter.report(2, None), reporter.drift()), (told.clone(), state("watching")));
        for seq in [2, 1, 2, 2] {
            assert_eq!(
                (reporter.report(seq, None), reporter.drift()),
                (told.clone(), state("watching")),
                "counted before"
            );
        }
        assert_eq!((reporter.report(3, None), reporter.drift()), (told.clone(), state("watching")));
        assert_eq!((reporter.report(4, None), reporter.drift()), (again.clone(), state("repairing")));
        assert_eq!((reporter.report(4, None), reporter.drift()), (again.clone(), state("repairing")));
        assert_eq!((reporter.report(5, None), reporter.drift()), (again.clone(), state("repairing")));
        let since = |name: &str| config(server, &tree.admin, reporter.id)["drift"][name].as_i64().unwrap();
        let (drifts_since_ms, repairs_since_ms) = (since("since_ms"), since("state_since_ms"));
        server.clock.advance_ms(60_000);
        assert_eq!((reporter.report(6, None), reporter.drift()), (again.clone(), state("alarmed")));
        assert_eq!(since("since_ms"), drifts_since_ms);
        assert!(since("state_since_ms") >= repairs_since_ms + 60_000);
        assert_eq!((reporter.report(7, None), reporter.drift()), (again, state("alarmed")));
        let count = |query: &str, token: &str| {
            let page = server.get(&format!("/api/v1/config/drifts{query}"), token).expect(200).json();
            page["items"].as_array().unwrap().len()
        };
        assert_eq!((count("?state=alarmed", &tree.admin), count("?state=watching", &tree.admin)), (1, 0));
        assert_eq!(count("", &tree.west_ops), 0);
        server.get("/api/v1/config/drifts?state=other", &tree.admin).expect(422);
        // It took them after all; a late report of an older time changes nothing.
        assert_eq!((reporter.report(8, Some(&reporter.hash)), reporter.drift()), (told.clone(), None));
        assert_eq!((reporter.report(5, None), reporter.drift()), (told, None));
    });
}

#[test]
fn a_terminal_that_takes_each_change_at_its_next_check_in_does_not_drift() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let reporter = reporter(server, &tree);
        let mut reported: Option<String> = None;
        let mut hash = reporter.hash.clone();
        for round in 0..4 {
            assert_eq!(reporter.report(round * 2 + 1, reported.as_deref()), json!({"hash": hash}));
            assert_eq!(reporter.report(round * 2 + 2, Some(&hash)), json!({"hash": hash}));
            assert_eq!(reporter.drift(), None);
            let next = profile(server, &tree, "own", json!({"a": 1, "b": round, "c": true}));
            let told = stage(server, &[reporter.id], &LayerKey::Terminal, next);
            reported = Some(std::mem::replace(&mut hash, told[&reporter.id].clone()));
        }
        // What it has is known by its hash, so what differs is known by name.
        let config = config(server, &tree.admin, reporter.id);
        assert_eq!((&config["expected_hash"], &config["reported_hash"]), (&json!(hash), &json!(reported)));
        assert_eq!(config["differences"], json!([{"name": "b", "expected": 3, "reported": 2}]));
        reporter.report(9, Some(&"0".repeat(64)));
        assert_eq!(self::config(server, &tree.admin, reporter.id)["differences"], json!(null));
    });
}

#[test]
fn a_new_expectation_ends_a_drift_and_begins_the_count_anew() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let reporter = reporter(server, &tree);
        for seq in 1..=6 {
            reporter.report(seq, None);
        }
        assert_eq!(reporter.drift().as_deref(), Some("alarmed"));
        let next = profile(server, &tree, "own", json!({"a": 2}));
        let hash = stage(server, &[reporter.id], &LayerKey::Terminal, next)[&reporter.id].clone();
        assert_eq!((reporter.report(7, None), reporter.drift()), (json!({"hash": hash}), None));
        assert_eq!((reporter.report(8, None), reporter.drift()), (json!({"hash": hash}), Some("watching".to_owned())));
        let nothing = unstage(server, &[reporter.id], &LayerKey::Terminal, next, Unstaged::Follow);
        assert_ne!(nothing[&reporter.id], Some(hash));
    });
}
