//! What anybody reads: payloads and the image repository's metadata.

use super::{publish, set_up};
use crate::harness::on_each_database;

#[test]
fn payloads_come_whole_in_parts_and_not_at_all_as_http_says() {
    on_each_database(|server| {
        set_up(server);
        let bytes: Vec<u8> = (0..1_500_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let release = publish(server, 42, &bytes);
        let sha256 = release["sha256"].as_str().unwrap();
        let path = format!("/tuf/image/targets/{sha256}.pax-a920.os.4.42.0-42.bin");
        let get = |headers: &[(&str, &str)]| server.send("GET", &path, "", headers, b"");
        let whole = get(&[]).expect(200);
        assert!(whole.body == bytes);
        assert_eq!(whole.header("accept-ranges"), Some("bytes"));
        assert_eq!(whole.header("cache-control"), Some("public, max-age=31536000, immutable"));
        let etag = format!("\"{sha256}\"");
        assert_eq!(whole.header("etag"), Some(etag.as_str()));
        assert_eq!(whole.header("content-length"), Some("1500000"));
        let head = server.send("HEAD", &path, "", &[], b"").expect(200);
        assert_eq!((head.header("content-length"), head.body.len()), (Some("1500000"), 0));

        let part = get(&[("range", "bytes=600000-1299999")]).expect(206);
        assert!(part.body == bytes[600_000..1_300_000]);
        assert_eq!(part.header("content-range"), Some("bytes 600000-1299999/1500000"));
        let rest = get(&[("range", "bytes=1499990-"), ("if-range", &etag)]).expect(206);
        assert!(rest.body == bytes[1_499_990..]);
        assert_eq!(get(&[("range", "bytes=0-9"), ("if-range", "\"other\"")]).expect(200).body.len(), bytes.len());
        let beyond = get(&[("range", "bytes=1500000-")]).expect(416);
        assert_eq!(beyond.header("content-range"), Some("bytes */1500000"));
        assert!(get(&[("if-none-match", &etag)]).expect(304).body.is_empty());
        server.get(&path.replace("pax-a920", "pax-a80"), "").expect(404);
        server.get("/tuf/image/targets/..%2F..%2Fkeys", "").expect(404);
    });
}

#[test]
fn metadata_is_cached_for_ever_the_timestamp_for_a_minute_and_a_missing_root_is_a_problem() {
    on_each_database(|server| {
        let timestamp = server.get("/tuf/image/metadata/timestamp.json", "").expect(200);
        assert_eq!(timestamp.header("cache-control"), Some("public, max-age=60"));
        assert_eq!(timestamp.header("content-type"), Some("application/json"));
        let etag = timestamp.header("etag").unwrap().to_owned();
        let again =
            server.send("GET", "/tuf/image/metadata/timestamp.json", "", &[("if-none-match", etag.as_str())], b"");
        again.expect(304);
        let root = server.get("/tuf/image/metadata/1.root.json", "").expect(200);
        assert_eq!(root.header("cache-control"), Some("public, max-age=31536000, immutable"));
        for path in [
            "/tuf/image/metadata/2.root.json",
            "/tuf/director/metadata/2.root.json",
            "/tuf/image/metadata/9.snapshot.json",
            "/tuf/image/metadata/a/b.json",
            "/tuf/image",
        ] {
            let missing = server.get(path, "").expect(404);
            assert_eq!(missing.header("content-type"), Some("application/problem+json"), "{path}");
        }
        server.get("/tuf/director/metadata/1.root.json", "").expect(200);
    });
}
