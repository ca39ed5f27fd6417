//! The reference client of The Update Framework reads what a running server publishes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tillward_tests::admin::Admin;
use tillward_tests::programs::run;
use tillward_tests::server::Server;

const PACKAGES: [&str; 2] = ["tuf==7.0.0", "securesystemslib[crypto]==1.4.0"];

/// A Python that has the packages, in `target/`; `None`, and said, where they cannot be installed.
fn python() -> Option<PathBuf> {
    let what = "reading with python-tuf";
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-tuf");
    let python = folder.join("bin").join("python");
    let is_ready = |python: &Path| {
        let mut command = Command::new(python);
        command.args(["-c", "import tuf.ngclient, securesystemslib"]).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if is_ready(&python) {
        return Some(python);
    }
    let mut venv = Command::new("python3");
    if venv.arg("--version").output().is_err() {
        tillward_tests::skip(what, "python3 is not installed");
        return None;
    }
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "--clear"]).arg(&folder);
    let made = run(venv, Duration::from_secs(120));
    if !made.status.success() {
        let said = String::from_utf8_lossy(&made.stdout).into_owned() + &String::from_utf8_lossy(&made.stderr);
        tillward_tests::skip(what, &format!("python3 -m venv failed (Debian: python3-venv): {}", said.trim()));
        return None;
    }
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet"]).args(PACKAGES);
    let installed = run(pip, Duration::from_secs(180));
    if !installed.status.success() {
        let said = String::from_utf8_lossy(&installed.stderr).into_owned();
        tillward_tests::skip(what, &format!("pip cannot install {}: {}", PACKAGES.join(" "), said.trim()));
        return None;
    }
    assert!(is_ready(&python), "pip installed the packages and Python does not find them");
    Some(python)
}

#[test]
fn python_tuf_reads_the_image_repository_of_a_running_server() {
    let Some(python) = python() else { return };
    let server = Server::start();
    let admin = Admin::set_up(&server);
    admin.add_model("demo-p1");
    let payloads: [(&str, i64, Vec<u8>); 2] =
        [("4.2.0", 42, vec![1; 48_640]), ("4.3.0", 43, (0..=255).cycle().take(300_000).collect())];
    for (version, counter, payload) in &payloads {
        admin.publish(version, *counter, "demo-p1", payload);
    }
    let root = server.folder().join("root.json");
    std::fs::write(&root, admin.bytes("/tuf/image/metadata/1.root.json")).unwrap();
    let names = payloads.each_ref().map(|(version, counter, _)| format!("demo-p1.os.{version}-{counter}.bin"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop").join("python_tuf.py");
    let read = |names: &[String]| {
        let mut command = Command::new(&python);
        command.arg(&script).arg(&server.url).arg(&root).args(names);
        run(command, Duration::from_secs(120))
    };
    let output = read(&names);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    for ((_, _, payload), name) in payloads.iter().zip(&names) {
        assert_eq!(said["targets"][name], payload.len(), "{said}");
    }
    assert!(said["metadata_files"].as_u64().unwrap() >= 5 && said["key_ids"].as_u64().unwrap() >= 5, "{said}");
    let unknown = read(&["demo-p1.os.9.9.9-99.bin".to_owned()]);
    assert!(!unknown.status.success(), "a target that nobody published was found");
}
