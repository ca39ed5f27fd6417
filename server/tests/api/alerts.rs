//! Alerts reach their channels: signed, in order, at least once, whatever is away meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tillward_server::alerts::{self, LEASE_MS, NewChannel, NewTransport, REFUSALS_MAX, Sender};
use tillward_server::audit::Actor;
use tillward_server::clock::Clock;
use tillward_server::config::Config;
use tillward_server::console;
use tillward_server::db::{Db, Error, Location};
use tillward_server::failures::incidents::{self, Level, NewIncident};
use tillward_server::operators::Caller;
use tillward_server::vault::Vault;

use crate::harness::{TestServer, on_each_database, wait_until};
use crate::incidents::{halted, open};
use crate::receiver::{Address, NOWHERE, Receiver, Reply};
use crate::seed::{self, Tree};

/// Makes a channel and returns its number and secret.
fn channel(server: &TestServer, token: &str, at: Address, more: Value) -> (i64, String) {
    let mut new = json!({ "name": "值班", "transport": at.transport() });
    new.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let made = server.post("/api/v1/alert-channels", token, &new).expect(201).json();
    (made["channel"]["id"].as_i64().unwrap(), made["secret"].as_str().unwrap().to_owned())
}

/// The newest alert as `token` sees it.
fn newest(server: &TestServer, token: &str) -> Value {
    server.get("/api/v1/alerts", token).expect(200).json()["items"][0].clone()
}

/// One that nobody is reminded of, however fast the test's clock runs.
fn patient(rollout_id: i64) -> NewIncident {
    NewIncident { level: Level::P3, ..halted(rollout_id) }
}

#[test]
fn an_alert_waits_for_an_endpoint_that_is_away_and_arrives_signed() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let at = Address::free();
        let (channel_id, secret) = channel(server, &tree.east_admin, at, json!({}));
        // Of an organization below: the channel gets it too.
        let id = open(server, NewIncident { org_path: "/101/102/103/".to_owned(), ..patient(1) });
        let delivery = || newest(server, &tree.east_ops)["deliveries"][0].clone();
        wait_until("a first attempt", || delivery()["attempts"].as_i64() >= Some(1));
        assert_eq!((&delivery()["state"], &delivery()["status"]), (&json!("pending"), &json!(null)));
        let shown = server.get("/api/v1/alert-channels", &tree.east_ops).expect(200).json()["items"][0].clone();
        assert!(shown["failures"].as_i64() >= Some(1) && !shown["last_error"].as_str().unwrap().is_empty(), "{shown}");
        assert!(!shown["last_error"].as_str().unwrap().contains("TOKEN"), "{shown}");

        // It comes up, is not ready at once, and then is.
        let receiver = Receiver::start(at, |n, _| Reply::Status(if n == 1 { 503 } else { 200 }));
        wait_until("two attempts", || {
            server.clock.advance_ms(2_000);
            receiver.received().len() >= 2 && delivery()["state"] == "sent"
        });
        let received = receiver.received();
        assert_eq!(received[0].head, "POST /hook/TOKEN?a=b HTTP/1.1");
        for request in &received {
            assert!(request.is_signed_with(&secret) && !request.is_signed_with("another"), "{request:?}");
            assert_eq!(request.headers["content-type"], "application/json");
            assert_eq!(request.delivery(), received[0].delivery());
            assert_eq!(request.body, received[0].body);
        }
        let body = received[0].json();
        assert_eq!(
            (&body["kind"], &body["level"], &body["incident_id"], &body["org_path"]),
            (&json!("incident_opened"), &json!("P3"), &json!(id), &json!("/101/102/103/"))
        );
        let title = json!({ "key": "incident-title-rollout_halted", "parameters": { "subject": "rollout 1" } });
        assert_eq!(body["title"], title);
        assert_eq!(newest(server, &tree.east_ops)["state"], "sent");
        assert_eq!((&delivery()["channel_id"], &delivery()["status"]), (&json!(channel_id), &json!(200)));
        let shown = server.get("/api/v1/alert-channels", &tree.east_ops).expect(200).json()["items"][0].clone();
        assert_eq!((&shown["failures"], &shown["last_error"]), (&json!(0), &json!("")));
    });
}

#[test]
fn alerts_arrive_in_order_and_one_that_is_refused_holds_up_the_others_only_for_a_while() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let receiver = Receiver::start(Address::free(), |_, request| {
            Reply::Status(if request.json()["title"]["parameters"]["subject"] == "poison" { 400 } else { 204 })
        });
        channel(server, &tree.east_admin, receiver.address, json!({}));
        let first = open(server, patient(1));
        let poison = open(server, NewIncident { subject: "poison".to_owned(), ..patient(2) });
        let last = open(server, patient(3));
        let state = |id: i64| {
            let page = server.get(&format!("/api/v1/alerts?incident_id={id}"), &tree.east_ops).expect(200).json();
            page["items"][0].clone()
        };
        wait_until("the last one arrives", || {
            server.clock.advance_ms(2_000);
            state(last)["state"] == "sent"
        });
        assert_eq!((&state(first)["state"], &state(poison)["state"]), (&json!("sent"), &json!("failed")));
        let refused = &state(poison)["deliveries"][0];
        assert_eq!((&refused["status"], &refused["attempts"]), (&json!(400), &json!(REFUSALS_MAX)));
        let order: Vec<i64> =
            receiver.received().iter().map(|request| request.json()["incident_id"].as_i64().unwrap()).collect();
        let mut expected = vec![first];
        expected.extend(vec![poison; usize::try_from(REFUSALS_MAX).unwrap()]);
        expected.push(last);
        assert_eq!(order, expected);
    });
}

#[test]
fn a_channel_that_never_answers_holds_up_no_other() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let silent = Receiver::start(Address::free(), |_, _| Reply::Silence);
        let willing = Receiver::willing();
        channel(server, &tree.east_admin, silent.address, json!({}));
        channel(server, &tree.east_admin, willing.address, json!({}));
        open(server, halted(1));
        wait_until("the other channel has it", || willing.received().len() == 1);
        open(server, halted(2));
        wait_until("the other channel has the next one", || willing.received().len() == 2);
        assert_eq!(silent.received().len(), 1, "the first attempt is still waiting");
        assert_eq!(newest(server, &tree.east_ops)["state"], "pending");
    });
}

#[test]
fn a_channel_gets_what_is_urgent_enough_for_it_and_nobody_elses() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let (east, west, root) = (Receiver::willing(), Receiver::willing(), Receiver::willing());
        channel(server, &tree.east_admin, east.address, json!({ "level": "P2" }));
        channel(server, &tree.admin, west.address, json!({ "organization_id": tree.west }));
        let (root_channel, _) = channel(server, &tree.admin, root.address, json!({ "level": "P1" }));
        open(server, NewIncident { level: Level::P3, ..halted(1) });
        assert_eq!(newest(server, &tree.east_ops)["state"], "unrouted");
        open(server, NewIncident { level: Level::P2, ..halted(2) });
        let urgent = open(server, halted(3));
        wait_until("both have theirs", || east.received().len() == 2 && root.received().len() == 1);
        assert_eq!(root.received()[0].json()["incident_id"], urgent);
        assert_eq!(west.received().len(), 0);
        wait_until("it is noted", || newest(server, &tree.admin)["state"] == "sent");
        let of_headquarters = newest(server, &tree.admin)["deliveries"].as_array().unwrap().len();
        let of_east = newest(server, &tree.east_ops)["deliveries"].clone();
        assert_eq!(of_headquarters, 2);
        assert_eq!(of_east.as_array().unwrap().len(), 1, "the channel above is not its business");
        assert_ne!(of_east[0]["channel_id"], root_channel);
    });
}

#[test]
fn secrets_are_shown_once_and_addresses_never() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let (id, secret) = channel(server, &tree.east_admin, NOWHERE, json!({}));
        assert!(secret.starts_with("twh_"));
        open(server, halted(1));
        for path in ["/api/v1/alert-channels", "/api/v1/alerts", "/api/v1/audit", "/api/v1/incidents/1"] {
            let text = server.get(path, &tree.admin).expect(200).text();
            assert!(!text.contains(&secret) && !text.contains("TOKEN"), "{path}: {text}");
        }
        let shown = server.get("/api/v1/alert-channels", &tree.east_ops).expect(200).json()["items"][0].clone();
        assert_eq!((&shown["origin"], &shown["kind"]), (&json!("http://127.0.0.1:9"), &json!("webhook")));
        let path = format!("/api/v1/alert-channels/{id}");
        assert_eq!(server.get("/api/v1/alert-channels", &tree.west_ops).expect(200).json()["items"], json!([]));
        server.send("DELETE", &path, &tree.east_ops, &[], b"").expect(403);
        let foreign = json!({ "name": "x", "organization_id": tree.west, "transport": NOWHERE.transport() });
        assert_eq!(
            server.post("/api/v1/alert-channels", &tree.east_admin, &foreign).expect(422).json()["field"],
            "organization_id"
        );
        for url in ["http://user:hunter2@127.0.0.1/", "ftp://127.0.0.1/", "127.0.0.1"] {
            let new = json!({ "name": "x", "transport": { "kind": "webhook", "url": url } });
            let refused = server.post("/api/v1/alert-channels", &tree.east_admin, &new).expect(422);
            assert_eq!(refused.json()["field"], "transport.url", "{url}");
            assert!(!refused.text().contains("hunter2"));
        }
        // What waits for a deleted channel is given up, and said so.
        server.send("DELETE", &path, &tree.east_admin, &[], b"").expect(204);
        server.send("DELETE", &path, &tree.east_admin, &[], b"").expect(404);
        wait_until("its delivery is given up", || newest(server, &tree.east_ops)["state"] == "failed");
        let given_up = newest(server, &tree.east_ops)["deliveries"][0].clone();
        assert_eq!(given_up["error"], "the channel was deleted");
        open(server, halted(2));
        assert_eq!(newest(server, &tree.east_ops)["state"], "unrouted");
    });
}

#[test]
fn a_channel_can_be_tried() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let receiver = Receiver::start(Address::free(), |n, _| Reply::Status(if n == 1 { 204 } else { 302 }));
        let (id, secret) = channel(server, &tree.east_admin, receiver.address, json!({}));
        let path = format!("/api/v1/alert-channels/{id}/test");
        let ended = || server.post(&path, &tree.east_admin, &json!({})).expect(200).json();
        assert_eq!(ended(), json!({ "accepted": true, "status": 204, "error": "" }));
        let received = receiver.received()[0].clone();
        assert!(received.is_signed_with(&secret));
        assert_eq!(received.json()["kind"], "test");
        let redirected = ended();
        assert_eq!((&redirected["accepted"], &redirected["status"]), (&json!(false), &json!(302)), "not followed");
        drop(receiver);
        let away = ended();
        assert_eq!((&away["accepted"], &away["status"]), (&json!(false), &json!(null)));
        assert!(!away["error"].as_str().unwrap().is_empty());
        server.post(&path, &tree.east_ops, &json!({})).expect(403);
        server.post(&path, &tree.west_ops, &json!({})).expect(403);
    });
}

#[test]
fn what_was_sent_but_not_noted_is_sent_again_under_the_same_name() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let config = Config { public_url: Some("https://console.example/".to_owned()), ..Config::default() };
    let sender = Sender::new(&config, Vault::new(&[7; 32]), console::text).unwrap();
    let clock = Clock::system();
    let path = folder.path().join("tillward.sqlite3");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let silences = Arc::new(AtomicUsize::new(1));
    let receiver = Receiver::start(Address::free(), {
        let silences = Arc::clone(&silences);
        move |n, _| if n <= silences.load(Ordering::SeqCst) { Reply::Silence } else { Reply::Status(200) }
    });
    let url = receiver.address.transport()["url"].as_str().unwrap().to_owned();
    let db = Db::open(&Location::Sqlite(path.clone())).unwrap();
    runtime.block_on(async {
        db.write(|conn| seed::organization(conn, 1, None, "/1/", "HQ", None).map_err(Error::from)).await.unwrap();
        let new = NewChannel {
            name: "on duty".to_owned(),
            organization_id: Some(1),
            level: None,
            language: None,
            batch_s: None,
            rate_per_min: None,
            digest: false,
            transport: NewTransport::Webhook { url },
        };
        let now = clock.now();
        alerts::create(&db, &sender, &Caller::command("test"), &Actor::system("test"), new, now).await.unwrap();
        let new = NewIncident { org_path: "/1/".to_owned(), ..halted(1) };
        db.write(move |conn| incidents::open(conn, new, now)).await.unwrap();
        let due = alerts::due(&db, clock.now(), 10).await.unwrap();
        assert_eq!(due.len(), 1);
        // Ends like a server that dies after the endpoint has the alert and before that is noted.
        tokio::select! {
            ended = alerts::deliver(db.clone(), sender.clone(), clock.clone(), due[0]) => panic!("{ended:?}"),
            () = async { while receiver.received().is_empty() { tokio::time::sleep(Duration::from_millis(5)).await } } => {}
        }
    });
    drop(db);
    let db = Db::open(&Location::Sqlite(path)).unwrap();
    runtime.block_on(async {
        assert_eq!(alerts::due(&db, clock.now(), 10).await.unwrap(), [], "it still is the dead server's");
        clock.advance_ms(LEASE_MS);
        let due = alerts::due(&db, clock.now(), 10).await.unwrap();
        let ended = alerts::deliver(db.clone(), sender.clone(), clock.clone(), due[0]).await.unwrap();
        assert_eq!(ended, 1);
        // Another server that saw the same channel waiting comes too late.
        assert_eq!(alerts::deliver(db.clone(), sender.clone(), clock.clone(), due[0]).await.unwrap(), 0);
        assert_eq!(alerts::due(&db, clock.now(), 10).await.unwrap(), []);
    });
    let received = receiver.received();
    assert_eq!(received.len(), 2);
    assert_eq!((received[0].delivery(), &received[0].body), (received[1].delivery(), &received[1].body));
    assert_eq!(received[1].json()["incident_url"], "https://console.example/incidents/1");
}
