//! Bad input to every endpoint: refused as a problem document, never with a failure of the server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use actix_web::http::Method;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tillward_server::http::endpoints::{Access, Endpoint, table};

use crate::harness::{Answer, on_each_database};
use crate::world::World;

/// Deeper than any parser here goes.
const DEPTH: usize = 1_000;
/// More than any endpoint reads as JSON, decoded.
const HUGE_BYTES: usize = 8 << 20;

/// A row with the headers that let its owner in.
struct Target {
    row: Endpoint,
    address: String,
    credentials: Vec<(&'static str, String)>,
    /// Whether it takes a JSON body, so that all that is not one must be refused.
    takes_json: bool,
}

impl Target {
    fn all(world: &World<'_>) -> Vec<Self> {
        let document = world.server.get("/api/openapi.json", "").expect(200).json();
        let rows = table().into_iter().filter(|row| row.method != Method::HEAD);
        rows.map(|row| {
            let operation = &document["paths"][row.path][row.method.as_str().to_lowercase()];
            let owner = world.owner();
            let credentials = match row.access {
                Access::Public => vec![],
                // Signed with each body, in `send`.
                Access::Channel => vec![],
                Access::Terminal => vec![("authorization", format!("Bearer {}", world.terminal))],
                Access::Operator(_) => vec![("authorization", format!("Bearer {}", owner.token))],
                Access::Page(_) => {
                    vec![("cookie", format!("tillward={}", owner.cookie)), ("sec-fetch-site", "same-origin".to_owned())]
                }
            };
            Self {
                address: world.address(&row).expect("World::address knows every row"),
                takes_json: operation["requestBody"]["content"]["application/json"].is_object()
                    || (row.path.starts_with("/device/") && row.method == Method::POST),
                credentials,
                row,
            }
        })
        .collect()
    }

    fn takes_body(&self) -> bool {
        matches!(self.row.method, Method::POST | Method::PUT | Method::PATCH)
    }

    fn send(&self, world: &World<'_>, address: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut all: Vec<(&str, &str)> = self.credentials.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let signed = if self.row.access == Access::Channel { world.signed(body) } else { Vec::new() };
        all.extend(signed.iter().map(|(name, value)| (*name, value.as_str())));
        all.extend_from_slice(headers);
        world.server.send(self.row.method.as_str(), address, "", &all, body)
    }

    /// Holds for each answer to bad input.
    fn check(&self, answer: &Answer, what: &str) {
        let status = answer.status;
        let name = format!("{} {} with {what}: {status} {}", self.row.method, self.row.path, answer.text());
        assert!(status < 500, "{name}");
        if (400..500).contains(&status) && !matches!(self.row.access, Access::Page(_)) && is_interface(self.row.path) {
            assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{name}");
            assert_eq!(answer.json()["status"], status, "{name}");
        }
    }

    fn refuses(&self, answer: &Answer, what: &str) {
        self.check(answer, what);
        let status = answer.status;
        assert!((400..500).contains(&status), "{} {} with {what}: {status}", self.row.method, self.row.path);
    }
}

fn is_interface(path: &str) -> bool {
    path.starts_with("/api/") || path.starts_with("/device/")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Name, headers, bytes.
type BadBody = (&'static str, Vec<(&'static str, &'static str)>, Vec<u8>);

/// Bodies that no endpoint for JSON may take, with their headers.
fn bad_bodies() -> Vec<BadBody> {
    const JSON: (&str, &str) = ("content-type", "application/json");
    let nested = |open: &str, close: &str| format!("{}1{}", open.repeat(DEPTH), close.repeat(DEPTH)).into_bytes();
    let gzipped = ("content-encoding", "gzip");
    let whole = gzip(br#"{"login":"somebody","password":"something long"}"#);
    let cut = whole[..whole.len() / 2].to_vec();
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0x55;
    let bomb = gzip(&vec![b' '; HUGE_BYTES]);
    let zstd_bomb = zstd::encode_all(&vec![b' '; HUGE_BYTES][..], 1).unwrap();
    let zstd_cut = zstd_bomb[..zstd_bomb.len() / 2].to_vec();
    vec![
        ("nothing", vec![JSON], b" ".to_vec()),
        ("a list", vec![JSON], b"[]".to_vec()),
        ("a text", vec![JSON], b"\"text\"".to_vec()),
        ("a number", vec![JSON], b"1e999".to_vec()),
        ("null", vec![JSON], b"null".to_vec()),
        ("an unknown field", vec![JSON], br#"{"no_such_field":1}"#.to_vec()),
        ("a cut object", vec![JSON], br#"{"login":"#.to_vec()),
        ("two values", vec![JSON], b"{} {}".to_vec()),
        ("broken UTF-8", vec![JSON], b"{\"login\":\"\xff\xfe\xc3\"}".to_vec()),
        ("half a surrogate", vec![JSON], br#"{"login":"\ud800"}"#.to_vec()),
        ("UTF-16", vec![JSON], b"\xff\xfe{\0}\0".to_vec()),
        ("deep lists", vec![JSON], nested("[", "]")),
        ("deep objects", vec![JSON], nested("{\"a\":", "}")),
        ("no content type", vec![], b"{}".to_vec()),
        ("another content type", vec![("content-type", "text/plain")], b"{}".to_vec()),
        ("a form", vec![("content-type", "application/x-www-form-urlencoded")], b"a=b&%FF=%00".to_vec()),
        ("an unknown encoding", vec![JSON, ("content-encoding", "br")], b"{}".to_vec()),
        ("two encodings", vec![JSON, ("content-encoding", "gzip, gzip")], gzip(&gzip(b"{}"))),
        ("gzip that is none", vec![JSON, gzipped], b"{}".to_vec()),
        ("cut gzip", vec![JSON, gzipped], cut),
        ("damaged gzip", vec![JSON, gzipped], damaged),
        ("a gzip bomb", vec![JSON, gzipped], bomb),
        ("zstd that is none", vec![JSON, ("content-encoding", "zstd")], b"{}".to_vec()),
        ("cut zstd", vec![JSON, ("content-encoding", "zstd")], zstd_cut),
        ("a zstd bomb", vec![JSON, ("content-encoding", "zstd")], zstd_bomb),
    ]
}

#[test]
fn no_body_that_is_not_right_gets_in() {
    on_each_database(|server| {
        let world = World::new(server);
        let mut strict = 0;
        for target in Target::all(&world).iter().filter(|target| target.takes_body()) {
            for (what, headers, body) in bad_bodies() {
                let answer = target.send(&world, &target.address, &headers, &body);
                if target.takes_json {
                    target.refuses(&answer, what);
                    strict += 1;
                } else {
                    // What takes files or nothing may well be content.
                    target.check(&answer, what);
                }
            }
        }
        assert!(strict > 100, "only {strict}: the table is not what this test thinks");
    });
}

#[test]
fn a_huge_body_is_refused_before_it_is_read() {
    on_each_database(|server| {
        let world = World::new(server);
        for target in Target::all(&world).iter().filter(|target| target.takes_json) {
            let status = refuse_huge(&world, target);
            assert_eq!(status, 413, "{} {}", target.row.method, target.row.path);
        }
    });
}

/// Sends a body of 64 MiB until the server has had enough, and returns the answer's status.
fn refuse_huge(world: &World<'_>, target: &Target) -> u16 {
    let address = world.server.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut head = format!(
        "{} {} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
        target.row.method,
        target.address,
        64 << 20
    );
    let signed = if target.row.access == Access::Channel { world.signed(b"") } else { Vec::new() };
    for (name, value) in target.credentials.iter().chain(&signed) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut reader = stream.try_clone().unwrap();
    let answer = std::thread::spawn(move || {
        let mut status = [0; 12];
        reader.read_exact(&mut status).map(|()| String::from_utf8_lossy(&status).into_owned())
    });
    let block = [b' '; 64 << 10];
    for _ in 0..1_024 {
        if answer.is_finished() || stream.write_all(&block).is_err() {
            break;
        }
    }
    let line = answer.join().unwrap().expect("an answer comes before the connection ends");
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Values that are wrong nearly everywhere, and must do no harm anywhere.
fn odd_values() -> Vec<Value> {
    vec![
        Value::Null,
        json!(""),
        json!("\u{0}"),
        json!("a\u{0}b"),
        json!("' OR 1=1 --"),
        json!("\u{202e}\u{feff}"),
        json!("长".repeat(100_000)),
        json!(-1),
        json!(0),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1.5e300),
        json!([]),
        json!({}),
        json!([[["x"]]]),
        json!(true),
    ]
}

/// Every pointer into `value`, its own fields and those of all below.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                let pointer = format!("{at}/{name}");
                pointers(inner, &pointer, found);
                found.push(pointer);
            }
        }
        Value::Array(items) => {
            for (index, inner) in items.iter().enumerate() {
                let pointer = format!("{at}/{index}");
                pointers(inner, &pointer, found);
                found.push(pointer);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn no_odd_value_in_any_field_fails_the_server() {
    on_each_database(|server| {
        let world = World::new(server);
        for target in Target::all(&world).iter().filter(|target| target.takes_json) {
            let (method, path) = (&target.row.method, target.row.path);
            let good = world.example(method, path);
            let good = good.unwrap_or_else(|| panic!("{method} {path}: add a valid body to World::example"));
            let mut fields = Vec::new();
            pointers(&good, "", &mut fields);
            assert!(!fields.is_empty(), "{method} {path}: an example without fields shows nothing");
            for field in &fields {
                for odd in odd_values() {
                    let mut body = good.clone();
                    *body.pointer_mut(field).unwrap() = odd.clone();
                    let headers = [("content-type", "application/json")];
                    let answer = target.send(&world, &target.address, &headers, body.to_string().as_bytes());
                    let shown: String = odd.to_string().chars().take(20).collect();
                    target.check(&answer, &format!("{field} = {shown}"));
                }
            }
        }
    });
}

#[test]
fn no_odd_path_or_query_fails_the_server() {
    const ODD: &[&str] = &[
        "%00",
        "a%00b",
        "%FF%FE",
        "-1",
        "0",
        "9223372036854775808",
        "1e3",
        "..%2F..%2Fetc",
        "%27%20OR%201=1",
        "%E9%95%BF",
    ];
    const QUERIES: &[&str] = &[
        "size=0",
        "size=x",
        "size=-1",
        "after=%FF",
        "after=%00",
        "after=bnVsbA",
        "after=IlwwIg",
        "after=eyJhIjoxfQ",
        "&&&=%",
        "size=1&size=2",
    ];
    on_each_database(|server| {
        let world = World::new(server);
        let targets = Target::all(&world);
        let long = "9".repeat(4_000);
        for target in targets.iter().filter(|target| target.row.method == Method::GET && !is_stream(target.row.path)) {
            for query in QUERIES {
                target.check(&target.send(&world, &format!("{}?{query}", target.address), &[], b""), query);
            }
            for name in documented_queries(server, target.row.path) {
                for odd in ODD.iter().copied().chain([long.as_str()]) {
                    let answer = target.send(&world, &format!("{}?{name}={odd}", target.address), &[], b"");
                    target.check(&answer, &format!("{name}={odd}"));
                }
            }
        }
        for target in targets.iter().filter(|target| target.row.path.contains('{')) {
            for odd in ODD.iter().copied().chain([long.as_str()]) {
                let body = world.example(&target.row.method, target.row.path).unwrap_or(json!({})).to_string();
                let body = if target.takes_body() { body.as_bytes() } else { b"" };
                let address = with_parameters(target.row.path, odd);
                let answer = target.send(&world, &address, &[("content-type", "application/json")], body);
                target.check(&answer, odd);
                assert!(answer.status >= 300, "{} {address} was found", target.row.method);
            }
        }
    });
}

/// Whether a row's answer goes on for ever.
fn is_stream(path: &str) -> bool {
    path.ends_with("/events") || path.ends_with("/stream") || path.ends_with("/live")
}

fn documented_queries(server: &crate::harness::TestServer, path: &str) -> Vec<String> {
    let document = server.get("/api/openapi.json", "").expect(200).json();
    let parameters = document["paths"][path]["get"]["parameters"].as_array().cloned().unwrap_or_default();
    let in_query = parameters.iter().filter(|parameter| parameter["in"] == "query");
    in_query.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect()
}

fn with_parameters(path: &str, value: &str) -> String {
    let mut filled = String::new();
    for (index, part) in path.split(['{', '}']).enumerate() {
        filled.push_str(if index % 2 == 0 { part } else { value });
    }
    filled
}
