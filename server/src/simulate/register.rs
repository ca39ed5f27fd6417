//! What a demo needs before its terminals can call: organizations, models, terminals with activation codes, releases.

use std::collections::HashMap;

use futures_util::{TryStreamExt, stream};
use serde_json::{Value, json};

use super::admin::{Admin, number, text};
use super::terminal::Terminal;

/// Models of the demo: code, name, share of the fleet.
pub const MODELS: [(&str, &str, f64); 4] = [
    ("demo-p1", "Demo P1 电签", 0.30),
    ("newland-me31", "Newland ME31", 0.30),
    ("pax-d180", "PAX D180", 0.25),
    ("landi-m20", "Landi M20", 0.15),
];
/// Model of the real agents: the one that the sample firmware was made for.
pub const AGENT_MODEL: &str = MODELS[0].0;
/// Tag of the real agents.
pub const AGENT_TAG: &str = "real-agent";
/// Requests at the same time.
const AT_ONCE: usize = 16;
/// Terminals in one request for activation codes.
const CODES_AT_ONCE: usize = 500;

/// Below headquarters: short code, name, index of the one above, region.
const ORGANIZATIONS: [(&str, &str, Option<usize>, &str); 5] = [
    ("EAST", "华东代理 East Reseller", None, "江苏"),
    ("SOUTH", "华南代理 South Reseller", None, "广东"),
    ("EAST-SZ", "苏州分销 Suzhou Sub-reseller", Some(0), "江苏"),
    ("EAST-HZ", "杭州分销 Hangzhou Sub-reseller", Some(0), "浙江"),
    ("SOUTH-SZ", "深圳分销 Shenzhen Sub-reseller", Some(1), "广东"),
];

/// Makes the organization tree; gives the short codes of those that get terminals.
///
/// # Errors
/// When the server refuses.
pub async fn organizations(admin: &Admin) -> anyhow::Result<Vec<String>> {
    let me: Value = admin.get("/api/v1/me").await?;
    let headquarters = number(&me, "organization_id")?;
    let mut made = Vec::new();
    for (short_code, name, above, region) in ORGANIZATIONS {
        let parent_id = above.and_then(|index: usize| made.get(index).copied()).unwrap_or(headquarters);
        let body = json!({"parent_id": parent_id, "name": name, "short_code": short_code, "region": region});
        let organization: Value = admin.post("/api/v1/organizations", &body).await?;
        made.push(number(&organization, "id")?);
    }
    Ok(ORGANIZATIONS.map(|(short_code, ..)| short_code.to_owned()).to_vec())
}

/// Makes the models known.
///
/// # Errors
/// When the server refuses.
pub async fn models(admin: &Admin) -> anyhow::Result<()> {
    for (code, name, _) in MODELS {
        let capabilities = json!({
            "ab_slots": true, "battery": true, "wifi": true, "cell": true, "esign": true, "os": "linux",
            "flash_kib": 131_072, "battery_percent_min": 20,
        });
        let _: Value =
            admin.post("/api/v1/models", &json!({"code": code, "name": name, "capabilities": capabilities})).await?;
    }
    Ok(())
}

/// A terminal to be registered.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Serial number.
    pub sn: String,
    /// Model code.
    pub model: String,
    /// Region.
    pub region: String,
    /// Short code of its organization.
    pub organization: String,
    /// Tags.
    pub tags: Vec<String>,
}

impl Registration {
    /// That of a simulated terminal.
    pub fn of(terminal: &Terminal, organization: &str) -> Self {
        Self {
            sn: terminal.sn.to_string(),
            model: terminal.model.to_string(),
            region: terminal.place().province().to_owned(),
            organization: organization.to_owned(),
            tags: Vec::new(),
        }
    }
}

/// Imports terminals as a person does: a CSV file, judged first, then taken.
///
/// # Errors
/// When the server refuses a row.
pub async fn import(admin: &Admin, registrations: &[Registration]) -> anyhow::Result<()> {
    let file = csv_of(registrations)?;
    for dry_run in [true, false] {
        let path = format!("/api/v1/terminals/import?dry_run={dry_run}");
        let imported: Value = admin.upload(&path, "text/csv", &file).await?;
        let created = number(&imported, "created")?;
        anyhow::ensure!(usize::try_from(created) == Ok(registrations.len()), "not all rows were taken: {imported}");
    }
    Ok(())
}

/// Merchant number of the demo's terminal of this index: of department stores (5311) and what follows them.
pub fn merchant_no(index: u64) -> String {
    format!("8503310{}", 53_110_000 + index)
}

/// Name of that merchant.
pub fn merchant_name(index: u64) -> String {
    format!("示例商户 {index:04}")
}

fn csv_of(registrations: &[Registration]) -> anyhow::Result<Vec<u8>> {
    let mut file = csv::Writer::from_writer(Vec::new());
    file.write_record(["sn", "model", "organization", "region", "商户号", "商户名称", "门店名称", "tags"])?;
    for (index, row) in registrations.iter().enumerate() {
        let merchant_no = merchant_no(index as u64);
        let (merchant, store) = (merchant_name(index as u64), format!("门店 {:03}", index / 8));
        let tags = row.tags.join(" ");
        let fields = [&row.sn, &row.model, &row.organization, &row.region, &merchant_no, &merchant, &store, &tags];
        file.write_record(fields)?;
    }
    Ok(file.into_inner()?)
}

/// Numbers of the terminals whose serial numbers start so, by serial number.
///
/// # Errors
/// When the server does not answer.
pub async fn ids(admin: &Admin, prefix: &str) -> anyhow::Result<HashMap<String, i64>> {
    let mut ids = HashMap::new();
    let mut after = String::new();
    loop {
        let page: Value = admin.get(&format!("/api/v1/terminals?q={prefix}&size=100{after}")).await?;
        for row in page["items"].as_array().map(Vec::as_slice).unwrap_or_default() {
            ids.insert(text(row, "sn")?, number(row, "id")?);
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(ids),
        }
    }
}

/// Hands terminals to their merchants and puts them into use.
///
/// # Errors
/// When the server refuses one.
pub async fn put_into_use(admin: &Admin, ids: impl Iterator<Item = i64>) -> anyhow::Result<()> {
    stream::iter(ids.map(Ok)).try_for_each_concurrent(AT_ONCE, |id| bind_and_activate(admin, id)).await
}

async fn bind_and_activate(admin: &Admin, id: i64) -> anyhow::Result<()> {
    let mut terminal: Value = admin.get(&format!("/api/v1/terminals/{id}")).await?;
    for action in ["bind", "activate"] {
        let body = json!({"action": action, "version": number(&terminal, "version")?});
        terminal = admin.post(&format!("/api/v1/terminals/{id}/lifecycle"), &body).await?;
    }
    Ok(())
}

/// One-time activation codes, by serial number.
///
/// # Errors
/// When the server refuses one.
pub async fn activation_codes(admin: &Admin, ids: &[i64]) -> anyhow::Result<HashMap<String, String>> {
    let mut codes = HashMap::new();
    for ids in ids.chunks(CODES_AT_ONCE) {
        let issued: Value =
            admin.post("/api/v1/terminals/activation-codes", &json!({"ids": ids, "valid_days": 30})).await?;
        let list = issued["codes"].as_array().cloned().unwrap_or_default();
        anyhow::ensure!(list.len() == ids.len(), "some terminals got no activation code: {}", issued["refused"]);
        for code in &list {
            codes.insert(text(code, "sn")?, text(code, "code")?);
        }
    }
    Ok(codes)
}

/// A release to publish.
#[derive(Debug, Clone, Copy)]
pub struct Firmware {
    /// Version.
    pub version: &'static str,
    /// Release counter.
    pub release_counter: i64,
    /// For people.
    pub name: &'static str,
    /// The payload.
    pub payload: &'static [u8],
}

/// Uploads a payload, makes a release of it, approves and publishes it for all models; gives its number.
///
/// # Errors
/// When the server refuses, the publish gate included.
pub async fn publish(admin: &Admin, firmware: &Firmware) -> anyhow::Result<i64> {
    let stored: Value = admin.upload("/api/v1/releases/payloads", "application/octet-stream", firmware.payload).await?;
    let body = json!({
        "name": firmware.name, "component": "os", "firmware_version": firmware.version,
        "release_counter": firmware.release_counter, "models": MODELS.map(|(code, ..)| code),
        "sha256": text(&stored, "sha256")?,
    });
    let release: Value = admin.post("/api/v1/releases", &body).await?;
    let id = number(&release, "id")?;
    for action in ["approve", "publish"] {
        let _: Value = admin.post(&format!("/api/v1/releases/{id}/{action}"), &json!({})).await?;
    }
    Ok(id)
}
