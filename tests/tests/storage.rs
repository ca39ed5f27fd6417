//! Releases in a bucket: the real server over an S3 server from PyPI, through the very client that production uses.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tillward_protocol::ids::Sha256Hex;
use tillward_tests::admin::Admin;
use tillward_tests::database::Database;
use tillward_tests::http::{Answer, Client};
use tillward_tests::programs::{self, Process};
use tillward_tests::python::python;
use tillward_tests::server::Server;

const PACKAGES: [&str; 1] = ["moto[s3,server]==5.2.5"];

/// A bucket server with an empty bucket `firmware`.
struct Bucket {
    url: String,
    http: Client,
    _process: Process,
}

impl Bucket {
    /// `None`, and said, where it cannot be installed.
    fn start() -> Option<Self> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-moto");
        let python = python("storing in a bucket", &folder, &PACKAGES, "moto.server")?;
        let mut command = Command::new(python);
        command.args(["-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]);
        let mut process = Process::start(command.stdout(Stdio::null()).stderr(Stdio::piped()));
        let said = BufReader::new(process.0.stderr.take().unwrap());
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            // Reads on to the end: a full pipe would stop the child.
            for line in said.lines().map_while(Result::ok) {
                if let Some((_, url)) = line.split_once("Running on ") {
                    let _ = sender.send(url.trim().to_owned());
                }
            }
        });
        let url = receiver.recv_timeout(Duration::from_secs(60)).expect("the bucket server says its address");
        let bucket = Self { url, http: Client::new(Duration::from_secs(30)), _process: process };
        assert_eq!(bucket.ask("PUT", "/firmware").status, 200);
        Some(bucket)
    }

    fn ask(&self, method: &str, path: &str) -> Answer {
        self.http.send(method, &format!("{}{path}", self.url), "", "", b"").unwrap()
    }

    /// Keys in the bucket that begin so.
    fn keys(&self, prefix: &str) -> Vec<String> {
        let list = self.ask("GET", &format!("/firmware?list-type=2&prefix={prefix}")).text();
        list.split("<Key>").skip(1).map(|rest| rest.split("</Key>").next().unwrap().to_owned()).collect()
    }

    /// A server that stores in this bucket, with the signing keys of another one if it is given.
    fn server(&self, keys_of: Option<&Server>) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "a secret for tests only\n").unwrap();
        if let Some(other) = keys_of {
            let keys = |folder: &Path| folder.join("data").join("keys").join("quickstart");
            std::fs::create_dir_all(keys(folder.path())).unwrap();
            for key in std::fs::read_dir(keys(other.folder())).unwrap() {
                let key = key.unwrap();
                std::fs::copy(key.path(), keys(folder.path()).join(key.file_name())).unwrap();
            }
        }
        let settings = vec![
            ("TILLWARD_BLOBS_URL", "s3://firmware/tillward".to_owned()),
            ("TILLWARD_S3_ENDPOINT", self.url.clone()),
            // Digits only: text all the same.
            ("TILLWARD_S3_ACCESS_KEY_ID", "0815".to_owned()),
            ("TILLWARD_S3_SECRET_KEY_FILE", secret.to_string_lossy().into_owned()),
        ];
        Server::start_in(folder, programs::tillward(), Database::Sqlite, 900, settings)
    }
}

#[test]
fn releases_live_in_a_bucket_that_several_servers_share() {
    let Some(bucket) = Bucket::start() else { return };
    let one = bucket.server(None);
    let admin = Admin::set_up(&one);
    admin.add_model("demo-p1");
    // Larger than one part of an upload.
    let payload: Vec<u8> = (0..=255).cycle().take(12 << 20).collect();
    admin.publish("4.2.0", 42, "demo-p1", &payload);
    assert_eq!((bucket.keys("tillward/blobs/").len(), bucket.keys("tillward/uploads/").len()), (1, 0));
    assert!(!one.folder().join("data").join("blobs").exists(), "nothing is on the server's own disk");

    let two = bucket.server(Some(&one));
    let other = Admin::set_up(&two);
    other.add_model("demo-p1");
    let small = b"another firmware".to_vec();
    other.publish("4.3.0", 43, "demo-p1", &small);
    for server in [&one, &two] {
        let client = Admin::of(server);
        let timestamp: serde_json::Value =
            serde_json::from_slice(&client.bytes("/tuf/image/metadata/timestamp.json")).unwrap();
        assert_eq!(timestamp["signed"]["version"], 3, "empty, one release, two");
        for (version, counter, bytes) in [("4.2.0", 42, &payload), ("4.3.0", 43, &small)] {
            let digest = Sha256Hex::of(bytes);
            let path = format!("/tuf/image/targets/{digest}.demo-p1.os.{version}-{counter}.bin");
            assert!(client.bytes(&path) == *bytes, "{version} from {}", server.url);
        }
    }
    assert_eq!(bucket.keys("tillward/tuf/image/claims/"), [] as [String; 0], "claims are given back");
    let report = one.tool(&["keys", "report"]);
    assert!(report.status.success(), "{}", String::from_utf8_lossy(&report.stderr));
}
