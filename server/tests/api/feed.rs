//! The channel feed: files taken in by jobs, callbacks, and what comes of the rows.

mod alone;
mod callbacks;
mod files;
mod later;
mod month;
mod pages;
mod settled;
mod switches;
mod told_again;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::harness::{Answer, TestServer, wait_until};
use crate::seed::{MODEL, Tree};

/// The merchant that terminals are bound to: institution 850, region 3310, category 5311.
pub const MERCHANT: &str = "850331053110612";

/// A signature as channels make it.
pub fn signed(secret: &str, at_s: i64, body: &[u8]) -> Vec<(&'static str, String)> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{at_s}.").as_bytes());
    mac.update(body);
    let signature = hex::encode(mac.finalize().into_bytes());
    vec![("x-tillward-timestamp", at_s.to_string()), ("x-tillward-signature", signature)]
}

/// A channel of the eastern reseller: its number and its secret.
pub fn channel(server: &TestServer, tree: &Tree) -> (i64, String) {
    let made = server.post("/api/v1/feed-channels", &tree.east_ops, &json!({"name": "渠道甲"})).expect(201).json();
    (made["channel"]["id"].as_i64().unwrap(), made["secret"].as_str().unwrap().to_owned())
}

/// Registers terminals of the eastern reseller, bound to [`MERCHANT`].
pub fn terminals(server: &TestServer, tree: &Tree, sns: &[&str]) {
    let mut file = "SN,model,商户号,商户名称\n".to_owned();
    for sn in sns {
        file.push_str(&format!("{sn},{MODEL},{MERCHANT},张记面馆\n"));
    }
    let headers = [("content-type", "text/csv")];
    let path = "/api/v1/terminals/import";
    server.send("POST", path, &tree.east_ops, &headers, file.as_bytes()).expect(200);
}

/// Sends a file of a channel.
pub fn send(server: &TestServer, token: &str, channel: i64, query: &str, file: &[u8]) -> Answer {
    let path = format!("/api/v1/imports?kind=channel_feed&source={channel}&{query}");
    server.send("POST", &path, token, &[], file)
}

/// Waits until an import has ended and returns it.
pub fn ended(server: &TestServer, token: &str, id: &Value) -> Value {
    let path = format!("/api/v1/imports/{}", id.as_str().unwrap());
    let state = || server.get(&path, token).expect(200).json();
    wait_until("the import ends", || !matches!(state()["state"].as_str(), Some("waiting" | "running")));
    state()
}

/// Sends a file and waits for its end.
pub fn import(server: &TestServer, token: &str, channel: i64, file: &[u8]) -> Value {
    let sent = send(server, token, channel, "file_name=feed.csv", file).expect(202).json();
    ended(server, token, &sent["id"])
}

/// Accepted, changed, duplicates, refused.
pub fn counts(import: &Value) -> [i64; 4] {
    ["accepted", "changed", "duplicates", "refused"].map(|name| import[name].as_i64().unwrap())
}

/// Waits until nothing is left to be compared, and returns the counts of the last 60 days.
pub fn summary(server: &TestServer, token: &str) -> Value {
    let read = || server.get("/api/v1/reconciliation?days=60", token).expect(200).json();
    wait_until("everything is compared", || read()["waiting"] == 0);
    read()
}

/// A moment as files have it, in China's time.
pub fn moment(at_ms: i64) -> String {
    let local =
        jiff::Timestamp::from_millisecond(at_ms).unwrap().to_zoned(jiff::tz::TimeZone::fixed(jiff::tz::offset(8)));
    local.strftime("%Y-%m-%d %H:%M:%S").to_string()
}
