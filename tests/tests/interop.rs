//! The reference client of The Update Framework reads what a running server publishes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tillward_tests::admin::Admin;
use tillward_tests::programs::run;
use tillward_tests::python::python;
use tillward_tests::server::Server;

const PACKAGES: [&str; 2] = ["tuf==7.0.0", "securesystemslib[crypto]==1.4.0"];

#[test]
fn python_tuf_reads_the_image_repository_of_a_running_server() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-tuf");
    let python = python("reading with python-tuf", &folder, &PACKAGES, "tuf.ngclient, securesystemslib");
    let Some(python) = python else { return };
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
