//! The sample repositories against the real agent: what is bad is refused by its name and reported; what is good runs.
//!
//! The server is real and orders an update; what the agent then reads comes from the sample folder. The samples' orders
//! are numbered, so the server's own are brought to the same numbers first.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use serde_json::json;
use tillward_tests::admin::{Admin, text};
use tillward_tests::agent::{Agent, Provision};
use tillward_tests::files::FileServer;
use tillward_tests::server::Server;

const MODEL: &str = "demo-p1";

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware-samples")
}

fn payload(version: &str) -> Vec<u8> {
    std::fs::read(samples().join("payload").join(format!("{version}.bin"))).unwrap()
}

/// A server with terminal 1, and its agent that reads repositories from `files`.
struct Scene {
    server: Server,
    admin: Admin,
    agent: Agent,
    repository: PathBuf,
    _files: FileServer,
    _links: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let server = Server::start();
        let admin = Admin::set_up(&server);
        admin.add_model(MODEL);
        let registered = admin.add_terminal("SAMPLE0001", MODEL);
        assert_eq!(registered.id, 1, "the samples' director speaks to terminal 1");
        let links = tempfile::tempdir().unwrap();
        let repository = links.path().join("now");
        let files = FileServer::start(links.path().to_owned());
        let trust = |name: &str| std::fs::read(samples().join("trust").join(name)).unwrap();
        let provision = Provision {
            url: server.url.clone(),
            model: MODEL.to_owned(),
            firmware: "4.1.0".to_owned(),
            factory_counter: 41,
            image_url: Some(format!("{}/now/image", files.url)),
            director_url: Some(format!("{}/now/director", files.url)),
            poll_max_s: 0.2,
            image_root: trust("image.root.json"),
            director_root: trust("director.root.json"),
        };
        let agent = Agent::prepare(&provision, &registered);
        agent.round();
        Self { server, admin, agent, repository, _files: files, _links: links }
    }

    /// From now on the agent reads this repository.
    fn offer(&self, name: &str) {
        // Absent the first time.
        let _ = std::fs::remove_file(&self.repository);
        std::os::unix::fs::symlink(samples().join(name).canonicalize().unwrap(), &self.repository).unwrap();
    }

    /// Orders a release and takes it back before the agent hears of it, so that the next order has the next number.
    fn use_a_number_up(&self, release: i64) {
        let rollout = self.admin.roll_out("taken back", release, &json!({}));
        self.admin.wait_for_offers(rollout, 1);
        self.admin.post(&format!("/api/v1/rollouts/{rollout}/cancel"), &json!({"why": "only its number was needed"}));
        tillward_tests::wait_until("it is taken back", || {
            self.admin.only_assignment(rollout)["finished_at_ms"].is_i64()
        });
    }

    fn order(&self, release: i64, expected_number: i64) -> i64 {
        let rollout = self.admin.roll_out("for the sample", release, &json!({}));
        self.admin.wait_for_offers(rollout, 1);
        assert_eq!(self.admin.only_assignment(rollout)["id"], expected_number);
        rollout
    }

    /// Rounds until the server says that the assignment ended; gives its phase and reason.
    fn ending(&self, rollout: i64) -> (String, String) {
        self.agent
            .rounds_until("the assignment ends", |_| self.admin.only_assignment(rollout)["finished_at_ms"].is_i64());
        let assignment = self.admin.only_assignment(rollout);
        (text(&assignment, "phase"), assignment["reason"].as_str().unwrap_or_default().to_owned())
    }
}

/// A terminal that runs `before` is offered the bad repository and must stay as it is.
fn refuse(reason: &str, before: &str) {
    let scene = Scene::new();
    let newest = scene.admin.publish("4.2.0", 42, MODEL, &payload("4.2.0"));
    if before == "4.2.0" {
        scene.offer("good/4.2.0");
        let rollout = scene.order(newest, 1);
        assert_eq!(scene.ending(rollout).0, "succeeded");
        let newest = scene.admin.publish("4.3.0", 43, MODEL, &payload("4.3.0"));
        scene.use_a_number_up(newest);
        check_refusal(&scene, reason, newest, before);
    } else {
        scene.use_a_number_up(newest);
        scene.use_a_number_up(newest);
        check_refusal(&scene, reason, newest, before);
    }
}

fn check_refusal(scene: &Scene, reason: &str, release: i64, before: &str) {
    let payload_before = scene.agent.payload();
    scene.offer(&format!("bad/{reason}"));
    let rollout = scene.order(release, 3);
    assert_eq!(scene.ending(rollout), ("failed".to_owned(), reason.to_owned()));
    assert_eq!((scene.agent.firmware().as_str(), scene.agent.payload()), (before, payload_before));
    let reasons = scene.admin.rollout(rollout)["reasons"].clone();
    assert_eq!(reasons, json!([{"phase": "failed", "reason": reason, "n": 1}]));
    assert!(!scene.server.has_logged("panicked"), "{}", scene.server.log_end());
}

#[test]
fn a_role_signed_by_foreign_keys_is_refused() {
    refuse("wrong_key", "4.1.0");
}

#[test]
fn one_signature_where_two_are_needed_is_refused() {
    refuse("below_threshold", "4.1.0");
}

#[test]
fn one_key_that_signed_twice_is_refused() {
    refuse("duplicate_signature", "4.1.0");
}

#[test]
fn a_flipped_bit_is_refused() {
    refuse("digest_mismatch", "4.1.0");
}

#[test]
fn a_payload_that_ends_early_is_refused() {
    refuse("truncated", "4.1.0");
}

#[test]
fn a_payload_that_goes_on_is_refused() {
    refuse("too_long", "4.1.0");
}

#[test]
fn a_release_of_another_model_is_refused() {
    refuse("wrong_model", "4.1.0");
}

#[test]
fn an_older_release_is_refused_by_a_terminal_as_it_came() {
    refuse("downgrade", "4.1.0");
}

#[test]
fn an_older_release_is_refused_by_a_terminal_that_took_a_newer_one() {
    refuse("downgrade", "4.2.0");
}

#[test]
fn a_role_signed_by_foreign_keys_is_refused_by_a_terminal_that_took_a_good_release() {
    refuse("wrong_key", "4.2.0");
}

#[test]
fn a_bad_payload_of_the_release_that_runs_is_not_even_fetched() {
    let scene = Scene::new();
    let newest = scene.admin.publish("4.2.0", 42, MODEL, &payload("4.2.0"));
    scene.offer("good/4.2.0");
    let first = scene.order(newest, 1);
    assert_eq!(scene.ending(first).0, "succeeded");
    let newest = scene.admin.publish("4.3.0", 43, MODEL, &payload("4.3.0"));
    scene.use_a_number_up(newest);
    scene.offer("bad/digest_mismatch");
    scene.order(newest, 3);
    scene.agent.rounds_until("the order is finished with", |agent| agent.status()["finished_order"] == 3);
    assert_eq!((scene.agent.firmware().as_str(), scene.agent.payload()), ("4.2.0", payload("4.2.0")));
    assert_eq!(scene.agent.status()["last_refusal"], json!(null));
}

#[test]
fn expired_metadata_is_refused() {
    refuse("expired_metadata", "4.1.0");
}

#[test]
fn a_director_that_disagrees_with_the_image_repository_is_refused() {
    refuse("director_image_disagree", "4.1.0");
}

#[test]
fn every_bad_sample_has_a_test_here() {
    let source = include_str!("samples.rs");
    let folders = std::fs::read_dir(samples().join("bad")).unwrap();
    let names: Vec<String> = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.len() >= 10, "{names:?}");
    for name in names {
        assert!(source.contains(&format!("    refuse(\"{name}\"")), "bad/{name} is not tried");
    }
}

#[test]
fn the_good_sample_is_installed_and_the_unhealthy_one_after_it_taken_back() {
    let scene = Scene::new();
    let good = scene.admin.publish("4.2.0", 42, MODEL, &payload("4.2.0"));
    scene.offer("good/4.2.0");
    let rollout = scene.order(good, 1);
    assert_eq!(scene.ending(rollout), ("succeeded".to_owned(), String::new()));
    assert_eq!((scene.agent.firmware(), scene.agent.payload()), ("4.2.0".to_owned(), payload("4.2.0")));
    let unhealthy = scene.admin.publish("4.3.0", 43, MODEL, &payload("4.3.0"));
    scene.offer("good/4.3.0-unhealthy");
    let rollout = scene.order(unhealthy, 2);
    assert_eq!(scene.ending(rollout), ("rolled_back".to_owned(), "health_check_failed".to_owned()));
    assert_eq!((scene.agent.firmware(), scene.agent.payload()), ("4.2.0".to_owned(), payload("4.2.0")));
}
