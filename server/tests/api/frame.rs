//! The frame itself: health, documents, errors.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;
use tillward_server::app::Server;
use tillward_server::clock::Clock;
use tillward_server::config::Config;

use crate::harness::{on_each_database, on_each_database_with};

#[test]
fn a_healthy_server_is_ready_and_describes_itself() {
    on_each_database(|server| {
        assert_eq!(server.get("/healthz", "").expect(200).text(), "ok\n");
        assert_eq!(server.get("/readyz", "").expect(200).json()["status"], "ready");
        let document = server.get("/api/openapi.json", "").expect(200).json();
        assert!(document["paths"]["/api/v1/audit"]["get"]["responses"]["200"].is_object());
    });
}

#[test]
fn every_error_is_a_problem_document() {
    on_each_database(|server| {
        let unknown = server.get("/no/such/page", "").expect(404);
        assert_eq!(unknown.header("content-type"), Some("application/problem+json"));
        assert!(unknown.header("x-request-id").is_some());
        let wrong_method = server.post("/healthz", "", &json!({})).expect(405);
        assert_eq!(wrong_method.json()["code"], "method_not_allowed");
        let stranger = server.get("/api/v1/audit", "").expect(401);
        assert_eq!(stranger.header("www-authenticate"), Some("Bearer"));
        assert_eq!(stranger.json()["status"], 401);
    });
}

#[test]
fn the_figures_of_the_fleet_are_for_this_machine_and_not_for_whom_a_proxy_lets_through() {
    on_each_database(|server| {
        server.get("/metrics", "").expect(200);
        for header in ["x-forwarded-for", "forwarded"] {
            server.send("GET", "/metrics", "", &[(header, "203.0.113.9")], b"").expect(404);
        }
    });
}

fn pem(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/tls").join(name)
}

/// `GET /healthz` over TLS, by a client that trusts the test's own certificate alone.
fn healthz_over_tls(address: &str) -> String {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pem("test-only.crt.pem")).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let client = rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut stream = rustls::StreamOwned::new(client, TcpStream::connect(address).unwrap());
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // The end of the connection may come without a farewell.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_server_with_a_certificate_speaks_tls_and_nothing_else() {
    let with_certificate = |config: &mut Config| {
        config.tls_certificate = Some(pem("test-only.crt.pem"));
        config.tls_key = Some(pem("test-only.key.pem"));
    };
    on_each_database_with(with_certificate, |server| {
        let address = server.url.strip_prefix("https://").expect("its address says so");
        let answer = healthz_over_tls(address);
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n"), "{answer}");
        let mut plain = TcpStream::connect(address).unwrap();
        plain.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        let _ = plain.read_to_end(&mut answer);
        assert!(!String::from_utf8_lossy(&answer).contains("ok"), "plain text was answered");
    });
}

#[test]
fn a_certificate_that_cannot_be_used_is_named_at_the_start() {
    let data_dir = tempfile::tempdir().unwrap();
    let start = |certificate: PathBuf, key: PathBuf| {
        let config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            data_dir: data_dir.path().to_owned(),
            tls_certificate: Some(certificate),
            tls_key: Some(key),
            ..Config::default()
        };
        let started = actix_web::rt::System::new().block_on(Server::start(config, Clock::system()));
        format!("{:#}", started.err().expect("it does not start"))
    };
    let (certificate, key) = (pem("test-only.crt.pem"), pem("test-only.key.pem"));
    assert!(start(pem("none.pem"), key.clone()).contains("none.pem"));
    assert!(start(key.clone(), key).contains("holds no certificate"));
    assert!(start(certificate.clone(), certificate).contains("test-only.crt.pem"));
}
