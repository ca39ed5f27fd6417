//! The real agent against a server that speaks the contract: one update from order to commit, and each refusal.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use support::bench::{Bench, payload};
use support::server::Server;
use support::signer::{PAST, Release, Signer, Tweaks};
use support::terminal::{Terminal, names};

/// Orders a bad release and expects that it is refused for `reason`, reported, and that the old firmware runs.
fn refused(bench: &mut Bench, release: &Release, tweaks: &Tweaks, reason: &str) {
    bench.terminal.round();
    let before = bench.terminal.running();
    let order = bench.server.world().desired.director + 1;
    bench.publish(release, order, tweaks);
    let said = bench.terminal.round();
    let update = bench.last_update();
    assert_eq!(update["phase"], "failed", "{said}");
    assert_eq!(update["reason"], reason, "{said}");
    assert_eq!(bench.terminal.running(), before);
    assert!(!names(&bench.terminal.slots().join("b")).iter().any(|name| name.ends_with(".part")), "{said}");
    let manifest = bench.server.world().manifests().pop().unwrap();
    assert_eq!(manifest["refusal"]["reason"], reason);
    let count = bench.server.world().counted.len();
    bench.terminal.round();
    let world = bench.server.world();
    assert_eq!(world.counted.len(), count + 1, "a refused order is looked at once");
    assert_eq!(world.counted[count].update, None, "a result that was heard is not repeated");
}

#[test]
fn an_update_is_downloaded_verified_installed_proven_and_reported() {
    let mut bench = Bench::new();
    bench.terminal.round();
    assert_eq!(bench.terminal.running(), ("a".to_owned(), "1.0.0".to_owned()));
    let release = Release::new("2.0.0", 2, payload(100_000, 1));
    bench.order(&release, 1);
    let said = bench.terminal.round();
    assert!(bench.terminal.runs(&release), "{said}");
    let world = bench.server.world();
    assert_eq!(world.phases(), ["installing", "rebooting", "trial", "succeeded"], "{said}");
    let last = world.counted.last().unwrap();
    assert_eq!((last.software.firmware.as_str(), last.software.slot.as_str()), ("2.0.0", "b"));
    assert_eq!(last.update.as_ref().unwrap().assignment, 10);
    let manifests = world.manifests();
    let counters: Vec<u64> = manifests.iter().map(|manifest| manifest["counter"].as_u64().unwrap()).collect();
    assert!(counters.is_sorted() && counters.windows(2).all(|pair| pair[0] < pair[1]), "{counters:?}");
    let component = &manifests.last().unwrap()["components"][0];
    assert_eq!(*component, json!({"name": "os", "version": "2.0.0", "sha256": release.sha256(), "release_counter": 2}));
    drop(world);
    let status = bench.terminal.status();
    assert_eq!((&status["update"]["state"], &status["report"]), (&json!("idle"), &Value::Null));
    assert_eq!(status["committed"]["os"], 2);
}

#[test]
fn the_next_update_goes_into_the_first_slot_again() {
    let mut bench = Bench::new();
    for order in 1..=3 {
        let release = Release::new(&format!("{}.0.0", order + 1), order as u64 + 1, payload(5_000, order as u8));
        bench.order(&release, order);
        let said = bench.terminal.round();
        assert!(bench.terminal.runs(&release), "{said}");
        assert_eq!(bench.terminal.running().0, if order % 2 == 1 { "b" } else { "a" });
    }
}

#[test]
fn firmware_signed_with_keys_the_role_does_not_have_is_refused() {
    let release = Release::new("2.0.0", 2, payload(5_000, 1));
    refused(&mut Bench::new(), &release, &Tweaks { firmware_signers: vec![2, 3], ..Tweaks::default() }, "wrong_key");
}

#[test]
fn a_director_document_signed_with_a_wrong_key_is_refused() {
    let release = Release::new("2.0.0", 2, payload(5_000, 1));
    refused(&mut Bench::new(), &release, &Tweaks { wrong_director_key: true, ..Tweaks::default() }, "wrong_key");
}

#[test]
fn firmware_signed_by_one_of_two_officers_is_refused() {
    let release = Release::new("2.0.0", 2, payload(5_000, 1));
    refused(&mut Bench::new(), &release, &Tweaks { firmware_signers: vec![0], ..Tweaks::default() }, "below_threshold");
}

#[test]
fn one_officer_signing_twice_is_refused() {
    let release = Release::new("2.0.0", 2, payload(5_000, 1));
    refused(
        &mut Bench::new(),
        &release,
        &Tweaks { firmware_signers: vec![0, 0], ..Tweaks::default() },
        "duplicate_signature",
    );
}

#[test]
fn one_key_under_two_names_is_refused() {
    let release = Release::new("2.0.0", 2, payload(5_000, 1));
    let tweaks = Tweaks { firmware_signers: vec![0], twin_keys: true, ..Tweaks::default() };
    refused(&mut Bench::new(), &release, &tweaks, "duplicate_signature");
}

#[test]
fn one_flipped_bit_is_refused() {
    let release = Release::new("2.0.0", 2, payload(5_000, 1));
    let mut bad = payload(5_000, 1);
    bad[4_321] ^= 1;
    refused(&mut Bench::new(), &release, &Tweaks { payload: Some(bad), ..Tweaks::default() }, "digest_mismatch");
}

#[test]
fn a_payload_that_ends_early_is_refused_with_and_without_a_stated_length() {
    let release = Release::new("2.0.0", 2, payload(50_000, 1));
    let short = || Tweaks { payload: Some(payload(40_000, 1)), ..Tweaks::default() };
    refused(&mut Bench::new(), &release, &short(), "truncated");
    let mut bench = Bench::new();
    bench.server.world().payload_without_length = true;
    refused(&mut bench, &release, &short(), "truncated");
}

#[test]
fn a_payload_that_goes_on_is_refused_with_and_without_a_stated_length() {
    let release = Release::new("2.0.0", 2, payload(50_000, 1));
    let long = || Tweaks { payload: Some(payload(50_001, 1)), ..Tweaks::default() };
    refused(&mut Bench::new(), &release, &long(), "too_long");
    let mut bench = Bench::new();
    bench.server.world().payload_without_length = true;
    refused(&mut bench, &release, &long(), "too_long");
}

#[test]
fn firmware_for_another_model_is_refused() {
    let mut release = Release::new("2.0.0", 2, payload(5_000, 1));
    release.model = "demo-p2".to_owned();
    refused(&mut Bench::new(), &release, &Tweaks::default(), "wrong_model");
}

#[test]
fn a_lower_release_counter_is_refused_though_everything_else_is_newer() {
    let mut bench = Bench::new();
    bench.order(&Release::new("2.0.0", 5, payload(5_000, 1)), 1);
    bench.terminal.round();
    let older = Release::new("3.0.0", 4, payload(5_000, 2));
    bench.order(&older, 2);
    bench.terminal.round();
    assert_eq!(bench.last_update()["reason"], "downgrade");
    assert_eq!(bench.terminal.running().1, "2.0.0");
}

#[test]
fn metadata_that_goes_back_is_refused_even_when_the_stored_metadata_is_gone() {
    let mut bench = Bench::new();
    let release = Release::new("2.0.0", 2, payload(5_000, 1));
    bench.publish(&release, 1, &Tweaks { version: Some(9 << 20), ..Tweaks::default() });
    bench.terminal.round();
    let older = Tweaks { version: Some(8 << 20), ..Tweaks::default() };
    bench.publish(&Release::new("3.0.0", 3, payload(5_000, 2)), 2, &older);
    bench.terminal.round();
    assert_eq!(bench.last_update()["reason"], "downgrade");
    std::fs::remove_dir_all(bench.terminal.state().join("metadata")).unwrap();
    bench.server.world().desired.director = 3;
    bench.terminal.round();
    assert_eq!(bench.last_update()["reason"], "downgrade");
    assert_eq!(bench.terminal.running().1, "2.0.0");
}

#[test]
fn expired_metadata_is_refused_in_the_delegated_role_and_at_the_director() {
    let release = Release::new("2.0.0", 2, payload(5_000, 1));
    refused(&mut Bench::new(), &release, &Tweaks { firmware_expires: PAST, ..Tweaks::default() }, "expired_metadata");
    refused(&mut Bench::new(), &release, &Tweaks { director_expires: PAST, ..Tweaks::default() }, "expired_metadata");
}

#[test]
fn a_director_that_disagrees_with_the_image_repository_is_refused() {
    let release = Release::new("2.0.0", 2, payload(5_000, 1));
    let changes: [fn(&mut Value); 4] = [
        |entry| entry["length"] = json!(4_999),
        |entry| entry["hashes"]["sha256"] = json!("0".repeat(64)),
        |entry| entry["custom"]["match"]["release_counter"] = json!(9),
        |entry| entry["custom"]["match"]["hardware_ids"] = json!(["demo-p1", "demo-p2"]),
    ];
    for director_entry in changes {
        refused(
            &mut Bench::new(),
            &release,
            &Tweaks { director_entry, ..Tweaks::default() },
            "director_image_disagree",
        );
    }
}

#[test]
fn a_director_document_for_another_terminal_is_refused() {
    let release = Release::new("2.0.0", 2, payload(5_000, 1));
    refused(&mut Bench::new(), &release, &Tweaks { terminal_id: 2, ..Tweaks::default() }, "wrong_director_document");
}

#[test]
fn a_root_made_in_quick_start_mode_is_refused_unless_the_build_is_for_it() {
    let (server, mut signer) = (Server::start(), Signer::new());
    signer.mark = Some(("x-tillward-mode", "quickstart"));
    let terminal = Terminal::new(&server, &signer);
    let release = Release::new("2.0.0", 2, payload(5_000, 1));
    signer.publish(&mut server.world(), Some(&release), 1, &Tweaks::default());
    terminal.round();
    if cfg!(feature = "quickstart") {
        assert!(terminal.runs(&release));
    } else {
        assert_eq!(server.world().manifests().pop().unwrap()["refusal"]["reason"], "quickstart_root");
        assert_eq!(terminal.running().1, "1.0.0");
    }
}

#[test]
fn a_download_that_is_cut_off_goes_on_where_it_ended() {
    let mut bench = Bench::new();
    let release = Release::new("2.0.0", 2, payload(400_000, 1));
    bench.order(&release, 1);
    bench.server.world().payload_cuts.extend([150_000, 100_000]);
    let said = bench.terminal.round();
    assert!(bench.terminal.runs(&release), "{said}");
    let world = bench.server.world();
    let ranges: Vec<_> =
        world.requests.iter().filter(|(_, path, _)| *path == release.path()).map(|(.., range)| range.clone()).collect();
    assert_eq!(ranges, [None, Some("bytes=150000-".to_owned()), Some("bytes=250000-".to_owned())]);
    assert_eq!(world.counted.iter().filter_map(|c| c.update.as_ref()?.resumed).max(), Some(2));
}

#[test]
fn a_payload_that_changed_on_the_disk_meanwhile_is_fetched_again() {
    let mut bench = Bench::new();
    let release = Release::new("2.0.0", 2, payload(100_000, 1));
    bench.order(&release, 1);
    bench.server.world().payload_cuts.extend([50_000, 0]);
    bench.terminal.round();
    let part = bench.terminal.slots().join("b").join(format!("{}.part", release.sha256()));
    let mut bytes = std::fs::read(&part).unwrap();
    assert_eq!(bytes.len(), 50_000);
    bytes[7] ^= 1;
    std::fs::write(&part, bytes).unwrap();
    let said = bench.terminal.round();
    assert!(bench.terminal.runs(&release), "{said}");
}

#[test]
fn a_missing_payload_is_the_networks_fault_and_does_not_end_the_order() {
    let mut bench = Bench::new();
    let release = Release::new("2.0.0", 2, payload(5_000, 1));
    bench.order(&release, 1);
    let file = bench.server.world().files.remove(&release.path()).unwrap();
    bench.terminal.round();
    assert_eq!(
        (bench.last_update()["phase"].clone(), bench.last_update()["reason"].clone()),
        (Value::Null, Value::Null)
    );
    bench.terminal.round();
    assert_eq!(
        (bench.last_update()["phase"].clone(), bench.last_update()["reason"].clone()),
        (json!("deferred"), json!("network_error"))
    );
    bench.server.world().files.insert(release.path(), file);
    bench.terminal.round();
    assert!(bench.terminal.runs(&release));
}

#[test]
fn firmware_that_is_not_healthy_is_taken_back_and_never_tried_again() {
    let mut bench = Bench::with(r#"health_command = ["sh", "-c", "exit 1"]"#);
    bench.terminal.round();
    let release = Release::new("2.0.0", 2, payload(5_000, 1));
    bench.order(&release, 1);
    let said = bench.terminal.round();
    assert_eq!(bench.terminal.running(), ("a".to_owned(), "1.0.0".to_owned()), "{said}");
    let update = bench.last_update();
    assert_eq!((&update["phase"], &update["reason"]), (&json!("rolled_back"), &json!("health_check_failed")));
    assert_eq!(bench.terminal.status()["committed"]["os"], Value::Null);
    bench.order(&release, 2);
    bench.terminal.round();
    let update = bench.last_update();
    assert_eq!((&update["phase"], &update["reason"]), (&json!("failed"), &json!("rolled_back_before")));
    assert_eq!(bench.terminal.running().1, "1.0.0");
}

#[test]
fn firmware_that_is_not_healthy_in_time_is_taken_back() {
    let mut bench = Bench::with("health_command = [\"sh\", \"-c\", \"exit 75\"]\ntrial_deadline_s = 1");
    bench.order(&Release::new("2.0.0", 2, payload(5_000, 1)), 1);
    bench.terminal.round();
    assert_eq!(bench.last_update()["reason"], "trial_deadline");
    assert_eq!(bench.terminal.running().1, "1.0.0");
}

#[test]
fn a_damaged_journal_installs_nothing_until_the_terminal_is_enrolled_again() {
    let mut bench = Bench::new();
    bench.terminal.round();
    for name in ["journal.a", "journal.b"] {
        std::fs::write(bench.terminal.state().join(name), b"damaged").unwrap();
    }
    let release = Release::new("2.0.0", 2, payload(5_000, 1));
    bench.order(&release, 1);
    bench.terminal.round();
    assert_eq!(bench.last_update()["reason"], "state_damaged");
    assert_eq!(bench.terminal.running().1, "1.0.0");
    assert_eq!(bench.terminal.status()["journal"], "damaged");
    let enrolled = bench.terminal.command(&["enrol", "--code", "code-1"]).output().unwrap();
    assert!(enrolled.status.success(), "{enrolled:?}");
    bench.order(&release, 2);
    bench.terminal.round();
    assert!(bench.terminal.runs(&release));
}

#[test]
fn a_number_that_nobody_signed_does_not_hide_later_orders() {
    let mut bench = Bench::new();
    let release = Release::new("2.0.0", 2, payload(5_000, 1));
    bench.publish(&release, 1, &Tweaks { wrong_director_key: true, ..Tweaks::default() });
    bench.server.world().desired.director = i64::MAX;
    bench.terminal.round();
    assert_eq!(bench.last_update()["reason"], Value::Null, "no server numbers its orders like this");
    let looked = bench.server.world().asked("/tuf/director/t/1/metadata/timestamp.json");
    bench.terminal.round();
    assert_eq!(bench.server.world().asked("/tuf/director/t/1/metadata/timestamp.json"), looked, "refused once");
    bench.order(&release, 2);
    let said = bench.terminal.round();
    assert!(bench.terminal.runs(&release), "{said}");
}

#[test]
fn a_time_that_stolen_online_keys_drove_ahead_goes_with_them() {
    const FAR_AHEAD_S: i64 = 32_460_000_000;
    let mut bench = Bench::new();
    let first = Release::new("2.0.0", 2, payload(5_000, 1));
    bench.publish(&first, 1, &Tweaks { issued_at: 99_000_000_000, ..Tweaks::default() });
    bench.terminal.round();
    assert_eq!(bench.last_update()["reason"], "wrong_director_document", "issued after its own end");
    // The thief names the latest time that still verifies.
    bench.publish(&first, 2, &Tweaks { issued_at: FAR_AHEAD_S, ..Tweaks::default() });
    bench.terminal.round();
    assert!(bench.terminal.runs(&first));
    let second = Release::new("3.0.0", 3, payload(5_000, 2));
    bench.signer.replace_online_keys(&mut bench.server.world(), "director", "2100-01-01T00:00:00Z");
    bench.order(&second, 3);
    bench.terminal.round();
    assert_eq!(bench.last_update()["reason"], "expired_metadata", "the old keys' word counts until the root is stored");
    bench.order(&second, 4);
    let said = bench.terminal.round();
    assert!(bench.terminal.runs(&second), "{said}");
}

#[test]
fn the_bits_that_run_already_under_a_higher_counter_raise_the_counter_only() {
    let mut bench = Bench::new();
    let release = Release::new("2.0.0", 2, payload(5_000, 1));
    bench.order(&release, 1);
    bench.terminal.round();
    let again = Release { counter: 7, name: "demo-p1.os.2.0.0-7.bin".to_owned(), ..release.clone() };
    bench.order(&again, 2);
    bench.terminal.round();
    assert_eq!(bench.last_update()["phase"], "succeeded");
    assert_eq!(bench.server.world().asked(&again.path()), 0);
    assert_eq!(bench.terminal.status()["committed"]["os"], 7);
    assert_eq!(bench.server.world().manifests().pop().unwrap()["components"][0]["release_counter"], 7);
    bench.order(&Release::new("3.0.0", 6, payload(5_000, 2)), 3);
    bench.terminal.round();
    assert_eq!(bench.last_update()["reason"], "downgrade");
}

#[test]
fn nothing_below_the_firmware_a_terminal_came_with_is_installed() {
    let mut bench = Bench::new();
    let roots = "director_root = \"director.json\"";
    bench.terminal.reconfigure(roots, &format!("{roots}\nfactory_counter = 41"));
    bench.order(&Release::new("4.0.0", 40, payload(5_000, 1)), 1);
    let said = bench.terminal.round();
    assert_eq!(bench.last_update()["reason"], "downgrade", "{said}");
    assert_eq!(bench.server.world().manifests()[0]["components"][0]["release_counter"], 41);
    let newer = Release::new("4.2.0", 42, payload(5_000, 2));
    bench.order(&newer, 2);
    bench.terminal.round();
    assert!(bench.terminal.runs(&newer));
}
