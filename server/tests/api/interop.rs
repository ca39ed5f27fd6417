//! Foreign TUF clients and our own commands against a running server.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tillward_server::app::Server;
use tillward_server::clock::Clock;
use tillward_server::config::{Config, Mode};
use tillward_server::releases::{Author, CommandError, NewRelease, ReleaseState, add_file, verify};

use crate::harness::{TestServer, on_each_database};
use crate::releases::{publish, set_up};

fn trusted_root(server: &TestServer) -> PathBuf {
    let path = server.data_dir.path().join("trusted.root.json");
    std::fs::write(&path, server.get("/tuf/image/metadata/1.root.json", "").expect(200).body).unwrap();
    path
}

/// Runs when `TILLWARD_TEST_PYTHON` names a Python with `tuf==7.0.0`.
#[test]
fn the_reference_client_reads_the_image_repository() {
    let Ok(python) = std::env::var("TILLWARD_TEST_PYTHON") else {
        // Past the test harness's capture: a skipped check is always said.
        let text = "SKIPPED with python-tuf: set TILLWARD_TEST_PYTHON=/path/to/python with tuf==7.0.0\n";
        let _ = std::io::stderr().write_all(text.as_bytes());
        return;
    };
    let server = TestServer::sqlite();
    set_up(&server);
    publish(&server, 41, b"firmware of 41");
    publish(&server, 42, b"firmware of 42");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/interop/python_tuf.py");
    let ran = Command::new(python)
        .arg(script)
        .arg(&server.url)
        .arg(trusted_root(&server))
        .args(["demo-p1.os.4.42.0-42.bin", "pax-a920.os.4.41.0-41.bin"])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let found: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(found["targets"]["demo-p1.os.4.42.0-42.bin"], 14);
    assert_eq!(found["metadata_files"], 6);
}

#[test]
fn the_verify_command_walks_a_running_server_and_a_folder_and_refuses_a_bad_one() {
    let server = TestServer::sqlite();
    set_up(&server);
    publish(&server, 42, b"firmware of 42");
    let now = server.clock.now();
    let url = format!("{}/tuf/image/metadata/", server.url);
    let root = trusted_root(&server);
    let live = server.block_on(verify(&url, &root, now)).unwrap();
    assert_eq!((live.root_version, live.timestamp_version, live.targets.len()), (1, 2, 2));
    assert!(live.targets.contains_key("pax-a920.os.4.42.0-42.bin"));

    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware-samples");
    let walk = |folder: &str| {
        let source = samples.join(folder).join("image/metadata");
        server.block_on(verify(source.to_str().unwrap(), &samples.join("trust/image.root.json"), now))
    };
    assert_eq!(walk("good/4.3.0-unhealthy").unwrap().targets.len(), 2);
    for bad in ["bad/wrong_key", "bad/below_threshold", "bad/duplicate_signature", "bad/expired_metadata"] {
        assert!(matches!(walk(bad), Err(CommandError::Refused(_))), "{bad}");
    }
    assert!(matches!(walk("bad/nothing"), Err(CommandError::File { .. })));
    let foreign = server.block_on(verify(&url, &samples.join("trust/image.root.json"), now));
    assert!(matches!(foreign, Err(CommandError::Refused(_))));
}

#[test]
fn a_file_on_the_servers_disk_becomes_a_draft_of_the_top_organization() {
    on_each_database(|server| {
        set_up(server);
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware-samples");
        let new = NewRelease {
            name: String::new(),
            notes: String::new(),
            component: "os".to_owned(),
            firmware_version: "4.2.0".to_owned(),
            release_counter: 42,
            models: vec!["demo-p1".to_owned()],
            min_from_counter: None,
            requires: Vec::new(),
            sha256: String::new(),
        };
        let state = &server.state;
        let author = server.block_on(Author::system(&state.db, "command line")).unwrap();
        let add = |file: &str| {
            let file = samples.join(file);
            let adding = add_file(&state.db, &state.signing, &author, &file, new.clone(), server.clock.now());
            server.block_on(adding)
        };
        let release = add("payload/4.2.0.bin").unwrap();
        assert_eq!((release.state, release.organization_id), (ReleaseState::Draft, 1));
        assert_eq!((release.length_bytes, release.created_by_name.as_str()), (48_640, "command line"));
        assert!(matches!(add("payload/none.bin"), Err(CommandError::File { .. })));
        assert!(matches!(add("payload/4.1.0.bin"), Err(CommandError::Release(_))), "the counter is taken");
    });
}

#[test]
fn production_mode_does_not_start_over_quickstart_keys_and_says_why_by_line() {
    let data_dir = tempfile::tempdir().unwrap();
    let config = |mode, database: &str| Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        data_dir: data_dir.path().to_owned(),
        // Keys and roots are what is looked at here; a database each leaves nothing to wait for.
        database_url: Some(data_dir.path().join(database).to_str().unwrap().to_owned()),
        mode,
        workers: 1,
        ..Config::default()
    };
    let start = |mode, database: &str| {
        let config = config(mode, database);
        actix_web::rt::System::new().block_on(async {
            let server = Server::start(config, Clock::system()).await?;
            let handle = server.handle();
            let running = actix_web::rt::spawn(server.run());
            handle.stop(false).await;
            running.await?
        })
    };
    start(Mode::Quickstart, "1.sqlite3").unwrap();
    let refused = start(Mode::Production, "2.sqlite3").unwrap_err().to_string();
    let lines: Vec<&str> = refused.lines().collect();
    assert!(lines[0].starts_with("config error update.quickstart_keys: production mode refuses"), "{refused}");
    assert!(lines[1].starts_with("config error update.quickstart_root: root version 1 of image is a quick-start root"));
    assert!(lines[2].starts_with("config error update.quickstart_root: root version 1 of director is"));
    assert!(lines[3].starts_with("config error update.role_policy: image.root has threshold 1 of 1 keys"));
    std::fs::remove_dir_all(data_dir.path().join("keys")).unwrap();
    let refused = start(Mode::Production, "3.sqlite3").unwrap_err().to_string();
    assert!(refused.starts_with("config error update.quickstart_root"), "the roots alone are enough to refuse");
}
