//! The last word before new firmware starts: a server that took its order back, one that does not answer, an order that
//! has grown old, a terminal that is in use, and a link that costs money.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use serde_json::json;
use support::bench::{Bench, payload};
use support::server::{Mishap, World};
use support::signer::{Release, Tweaks};
use support::terminal::names;

/// Longer than the shortest validity of an order.
const LONG_DOWNLOAD: Duration = Duration::from_millis(1_200);

fn release() -> Release {
    Release::new("2.0.0", 2, payload(50_000, 1))
}

/// What the server says after a pause, a halt or a cancellation.
fn withdrawn(bench: &mut Bench, order: i64) -> Box<World> {
    let mut later = World::default();
    bench.signer.publish(&mut later, None, order, &Tweaks::default());
    Box::new(later)
}

fn said_last(bench: &Bench) -> (String, String) {
    let update = bench.last_update();
    let text = |field: &str| update[field].as_str().unwrap_or_default().to_owned();
    (text("phase"), text("reason"))
}

fn deferred(reason: &str) -> (String, String) {
    ("deferred".to_owned(), reason.to_owned())
}

fn runs_the_old_one(bench: &Bench) -> bool {
    bench.terminal.running() == ("a".to_owned(), "1.0.0".to_owned())
}

/// A bench whose order is withdrawn in the very check-in that asks for the permit.
fn withdrawn_when_asked() -> Bench {
    let mut bench = Bench::new();
    bench.order(&release(), 1);
    let later = withdrawn(&mut bench, 2);
    bench.server.world().change_at = Some(("installing", later));
    bench
}

#[test]
fn an_order_withdrawn_before_the_boot_decision_is_not_applied_and_its_image_is_kept() {
    let mut bench = withdrawn_when_asked();
    let said = bench.terminal.round();
    assert!(runs_the_old_one(&bench), "{said}");
    assert_eq!(said_last(&bench), ("failed".to_owned(), "cancelled".to_owned()), "{said}");
    assert_eq!(bench.server.world().phases(), ["installing", "failed"]);
    // Kept over starts, as bytes that nothing can start from.
    bench.terminal.round();
    let kept = format!("{}.part", release().sha256());
    assert_eq!(names(&bench.terminal.slots().join("b")), [kept]);
    // The rollout goes on: installed from what is here.
    bench.order(&release(), 3);
    let said = bench.terminal.round();
    assert!(bench.terminal.runs(&release()), "{said}");
    assert_eq!(bench.server.world().asked(&release().path()), 1, "downloaded once");
}

#[test]
fn what_was_kept_of_a_withdrawn_order_is_verified_again_before_it_is_installed() {
    let mut bench = withdrawn_when_asked();
    bench.terminal.round();
    let part = bench.terminal.slots().join("b").join(format!("{}.part", release().sha256()));
    let mut bytes = std::fs::read(&part).unwrap();
    bytes[7] ^= 1;
    std::fs::write(&part, bytes).unwrap();
    bench.order(&release(), 3);
    let said = bench.terminal.round();
    assert!(bench.terminal.runs(&release()), "{said}");
    assert_eq!(bench.server.world().asked(&release().path()), 2);
}

#[test]
fn what_was_kept_of_a_withdrawn_order_gives_way_to_another_release() {
    let mut bench = withdrawn_when_asked();
    bench.terminal.round();
    let other = Release::new("3.0.0", 3, payload(40_000, 2));
    bench.order(&other, 3);
    bench.terminal.round();
    assert!(bench.terminal.runs(&other));
    assert_eq!(names(&bench.terminal.slots().join("b")), ["firmware.bin", "slot.json"]);
}

#[test]
fn what_was_kept_of_a_withdrawn_order_gives_way_when_space_runs_short() {
    let bench = withdrawn_when_asked();
    bench.terminal.round();
    assert_eq!(names(&bench.terminal.slots().join("b")).len(), 1);
    bench.terminal.reconfigure("reserve_bytes = 0", "reserve_bytes = 1_000_000_000_000_000");
    bench.terminal.round();
    assert_eq!(names(&bench.terminal.slots().join("b")), Vec::<String>::new());
}

#[test]
fn a_long_download_hears_that_the_order_was_withdrawn_and_goes_on_from_there_when_it_comes_again() {
    let mut bench = Bench::new();
    bench.terminal.round();
    bench.server.world().next_check_in_s = 0;
    let release = Release::new("2.0.0", 2, payload(400_000, 1));
    bench.order(&release, 1);
    let later = withdrawn(&mut bench, 2);
    bench.server.world().change_at = Some(("downloading", later));
    bench.terminal.round();
    assert_eq!(bench.server.world().phases(), ["downloading", "failed"]);
    assert_eq!(said_last(&bench).1, "cancelled");
    let part = bench.terminal.slots().join("b").join(format!("{}.part", release.sha256()));
    let kept = std::fs::metadata(&part).unwrap().len();
    assert!(kept > 0 && kept < 400_000, "{kept}");
    bench.order(&release, 3);
    bench.terminal.round();
    assert!(bench.terminal.runs(&release));
    let world = bench.server.world();
    let range = world.requests.iter().rev().find(|(_, path, _)| *path == release.path()).unwrap().2.clone();
    assert_eq!(range, Some(format!("bytes={kept}-")));
    let progress: Vec<u64> = world
        .counted
        .iter()
        .filter_map(|check_in| check_in.update.as_ref())
        .filter(|update| update.assignment == 30 && update.phase.as_str() == "downloading")
        .filter_map(|update| update.bytes)
        .collect();
    assert!(progress.len() > 3 && progress.is_sorted(), "{progress:?}");
}

#[test]
fn an_order_withdrawn_during_a_broken_download_ends_it() {
    let mut bench = Bench::new();
    bench.order(&release(), 1);
    bench.server.world().payload_cuts.extend([20_000, 0]);
    bench.terminal.round();
    assert_eq!(bench.terminal.status()["update"]["state"], "downloading");
    bench.signer.publish(&mut bench.server.world(), None, 2, &Tweaks::default());
    bench.terminal.round();
    assert_eq!(said_last(&bench).1, "cancelled");
    assert_eq!(bench.terminal.status()["update"]["state"], "idle");
}

#[test]
fn without_an_answer_nothing_is_applied_however_new_the_order() {
    for mishap in [Mishap::LoseRequest, Mishap::LoseAnswer, Mishap::Busy] {
        let mut bench = Bench::new();
        bench.terminal.round();
        bench.order(&release(), 1);
        bench.server.world().mishaps.extend([Mishap::Nothing, mishap]);
        let said = bench.terminal.round();
        assert!(runs_the_old_one(&bench), "{mishap:?}: {said}");
        assert_eq!(bench.terminal.status()["update"]["state"], "written", "{mishap:?}: {said}");
        // The terminal starts again and again and reaches nobody.
        for _ in 0..3 {
            bench.server.world().mishaps.push_back(mishap);
            bench.terminal.try_round();
            assert!(runs_the_old_one(&bench), "{mishap:?}");
        }
        let reason = if mishap == Mishap::Busy { "server_busy" } else { "network_error" };
        assert_eq!(bench.terminal.status()["report"]["reason"], reason);
        bench.terminal.round();
        assert!(bench.terminal.runs(&release()), "{mishap:?}");
        assert_eq!(bench.server.world().asked(&release().path()), 1);
    }
}

#[test]
fn a_halt_that_came_while_nobody_answered_is_heard_first() {
    let mut bench = Bench::new();
    bench.terminal.round();
    bench.order(&release(), 1);
    bench.server.world().mishaps.extend([Mishap::Nothing, Mishap::LoseRequest]);
    bench.terminal.round();
    bench.signer.publish(&mut bench.server.world(), None, 2, &Tweaks::default());
    let said = bench.terminal.round();
    assert!(runs_the_old_one(&bench), "{said}");
    assert_eq!(said_last(&bench).1, "cancelled");
}

#[test]
fn without_an_answer_an_old_order_is_not_applied_either() {
    let mut bench = Bench::with("order_valid_s = 1");
    bench.terminal.round();
    bench.order(&release(), 1);
    let mut world = bench.server.world();
    world.change_at_payload = Some((LONG_DOWNLOAD, Box::default()));
    world.mishaps.extend([Mishap::Nothing, Mishap::LoseRequest]);
    drop(world);
    let said = bench.terminal.round();
    assert!(runs_the_old_one(&bench), "{said}");
    assert_eq!(bench.terminal.status()["report"]["reason"], "network_error");
}

#[test]
fn a_release_that_was_withdrawn_during_a_long_download_is_not_applied() {
    let mut bench = Bench::with("order_valid_s = 1");
    bench.terminal.round();
    bench.order(&release(), 1);
    // The image repository lists it no more, and the director has not heard of that.
    let mut later = withdrawn(&mut bench, 1);
    later.files.retain(|path, _| path.starts_with("/tuf/image/"));
    bench.server.world().change_at_payload = Some((LONG_DOWNLOAD, later));
    let said = bench.terminal.round();
    assert!(runs_the_old_one(&bench), "{said}");
    assert_eq!(said_last(&bench), ("failed".to_owned(), "director_image_disagree".to_owned()), "{said}");
}

#[test]
fn an_order_that_has_grown_old_and_still_stands_is_applied_after_another_look() {
    let mut bench = Bench::with("order_valid_s = 1");
    bench.terminal.round();
    bench.order(&release(), 1);
    bench.server.world().change_at_payload = Some((LONG_DOWNLOAD, Box::default()));
    let said = bench.terminal.round();
    assert!(bench.terminal.runs(&release()), "{said}");
    assert_eq!(bench.server.world().asked("/tuf/director/t/1/metadata/timestamp.json"), 2);
}

#[test]
fn a_terminal_that_is_not_free_downloads_says_why_it_waits_and_installs_once_it_is() {
    let cases = [
        (r#"{"terminal":{"app_state":"transaction"}}"#, "not_idle"),
        (r#"{"terminal":{"app_state":"menu"}}"#, "not_idle"),
        (r#"{"terminal":{}}"#, "not_idle"),
        ("damaged", "not_idle"),
        (r#"{"terminal":{"app_state":"idle","pending_reversals":1}}"#, "transaction_pending"),
        (r#"{"terminal":{"app_state":"idle","pending_esign":1}}"#, "transaction_pending"),
        (r#"{"terminal":{"app_state":"idle","offline_transactions":1}}"#, "transaction_pending"),
        (r#"{"terminal":{"app_state":"idle"},"device":{"battery_percent":44,"charging":false}}"#, "low_battery"),
    ];
    let mut bench = Bench::with("battery_percent_min = 45\n[application]\nstate_file = \"app.json\"");
    let state = bench.terminal.folder.path().join("app.json");
    bench.order(&release(), 1);
    for (text, reason) in cases {
        std::fs::write(&state, text).unwrap();
        bench.terminal.round();
        let said = bench.terminal.round();
        assert_eq!(said_last(&bench), deferred(reason), "{text}: {said}");
        assert!(runs_the_old_one(&bench), "{text}: {said}");
    }
    std::fs::remove_file(&state).unwrap();
    bench.terminal.round();
    assert!(runs_the_old_one(&bench), "an unknown state is not an idle one");
    assert!(!bench.server.world().phases().contains(&"installing".to_owned()), "nobody was asked for a permit in vain");
    std::fs::write(&state, r#"{"terminal":{"app_state":"idle"},"device":{"battery_percent":45}}"#).unwrap();
    let said = bench.terminal.round();
    assert!(bench.terminal.runs(&release()), "{said}");
    assert_eq!(bench.server.world().asked(&release().path()), 1, "downloaded once, meanwhile");
}

#[test]
fn a_payload_waits_for_wifi_where_the_configuration_or_the_director_says_so() {
    let by_configuration = ("wifi_only = true\n", Tweaks::default());
    let director_entry = |entry: &mut serde_json::Value| entry["custom"]["wifi_only"] = json!(true);
    let by_director = ("", Tweaks { director_entry, ..Tweaks::default() });
    for (more, tweaks) in [by_configuration, by_director] {
        let mut bench = Bench::with(&format!("{more}[signal]\nfile = \"signal.json\""));
        let signal = bench.terminal.folder.path().join("signal.json");
        bench.publish(&release(), 1, &tweaks);
        for link in [r#"{"access":"4g"}"#, r#"{"access":"bt_phone"}"#, "{}", "damaged"] {
            std::fs::write(&signal, link).unwrap();
            bench.terminal.round();
            let said = bench.terminal.round();
            assert_eq!(said_last(&bench), deferred("wifi_only"), "{more} {link}: {said}");
        }
        assert_eq!(bench.server.world().asked(&release().path()), 0);
        std::fs::write(&signal, r#"{"access":"wifi"}"#).unwrap();
        let said = bench.terminal.round();
        assert!(bench.terminal.runs(&release()), "{said}");
    }
}

#[test]
fn a_download_stops_when_the_terminal_leaves_the_wifi_and_goes_on_when_it_is_back() {
    // The first three looks at the link find WiFi: for the check-in, before the download, for the next check-in.
    let script = r#"echo x >> {folder}/looks; if [ -e {folder}/back ] || [ $(wc -l < {folder}/looks) -le 3 ]; then
        printf wifi; else printf 4g; fi > {folder}/link; printf "{\"access\":\"%s\"}" $(cat {folder}/link)"#;
    let script = script.split('\n').map(str::trim).collect::<Vec<_>>().join(" ");
    let mut bench = Bench::with(&format!("wifi_only = true\n[signal]\ncommand = ['sh', '-c', '{script}']"));
    bench.server.world().next_check_in_s = 0;
    let release = Release::new("2.0.0", 2, payload(400_000, 1));
    bench.order(&release, 1);
    let said = bench.terminal.round();
    assert_eq!(bench.terminal.status()["report"]["reason"], "wifi_only", "{said}");
    let part = bench.terminal.slots().join("b").join(format!("{}.part", release.sha256()));
    let here = std::fs::metadata(&part).unwrap().len();
    assert!(here > 0 && here < 400_000, "{here}: {said}");
    bench.terminal.round();
    assert_eq!(bench.server.world().asked(&release.path()), 1);
    std::fs::write(bench.terminal.folder.path().join("back"), "").unwrap();
    let said = bench.terminal.round();
    assert!(bench.terminal.runs(&release), "{said}");
    let world = bench.server.world();
    let range = world.requests.iter().rev().find(|(_, path, _)| *path == release.path()).unwrap().2.clone();
    assert_eq!(range, Some(format!("bytes={here}-")));
}

#[test]
fn a_permit_does_not_outlive_a_power_cut_before_the_switch() {
    const OPERATIONS_MAX: u64 = 1_000;
    for n in 1..OPERATIONS_MAX {
        let mut bench = Bench::new();
        bench.order(&release(), 1);
        let mut command = bench.terminal.command(&["run", "--once"]);
        let output = command.env("TILLWARD_AGENT_FAIL_AT", n.to_string()).output().unwrap();
        assert_eq!(output.status.code(), Some(137), "the power never went between permit and switch");
        if n == 1 || bench.terminal.status()["update"]["state"] != "trial" {
            continue;
        }
        assert!(runs_the_old_one(&bench));
        // Weeks later: the rollout was halted meanwhile.
        bench.signer.publish(&mut bench.server.world(), None, 2, &Tweaks::default());
        let said = bench.terminal.round();
        assert!(runs_the_old_one(&bench), "{said}");
        assert_eq!(said_last(&bench), ("failed".to_owned(), "cancelled".to_owned()), "{said}");
        bench.order(&release(), 3);
        bench.terminal.round();
        assert!(bench.terminal.runs(&release()));
        assert_eq!(bench.server.world().asked(&release().path()), 1, "kept meanwhile");
        return;
    }
}
