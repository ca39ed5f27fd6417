//! The channel's side of a demo: its file of settled payments, imported as a person does, with what such files bring.
//!
//! Most payments settle less the contracted fee. One merchant is taken a service fee, one pays a raised rate; one
//! terminal's payments settle under another shop of the fleet, and another's under a number of the fee-free class that
//! nobody has seen before.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::admin::{Admin, number, text};
use super::random::Draws;
use super::register::{merchant_name, merchant_no};

/// Terminals whose payments the file has, at most: it is one import, compared while somebody waits.
const TERMINALS_MAX: usize = 1_000;
/// Payments of each terminal in the file.
const PAYMENTS: u32 = 8;
/// Contracted with every merchant whose contract is entered, millionths.
const RATE_PPM: i64 = 6_000;
/// What the merchant with the raised rate pays, millionths.
const RAISED_PPM: i64 = 6_300;
/// A merchant number of the fee-free class in the same region.
const REDUCED_NO: &str = "850331083980612";
/// Merchants whose contracts are entered: all that something happens to.
const CONTRACTS: u64 = 10;
/// Of what happens to the terminals of these numbers, a terminal of the demo each.
const SERVICE_FEE: u64 = 3;
const RAISED_RATE: u64 = 5;
const OTHER_SHOP: u64 = 7;
const FEE_FREE: u64 = 9;
/// Payments at the end that settle under another number.
const SWITCHED: u32 = 3;

/// Makes the channel, enters contracts, imports the file for the first [`TERMINALS_MAX`] of the terminals of these serial
/// numbers, which have their merchants since `from_ms` at the latest, and says what comes out.
///
/// # Errors
/// When the server refuses, or takes longer than `patience`.
pub async fn tell(
    admin: &Admin,
    seed: u64,
    sns: &[String],
    (from_ms, to_ms): (i64, i64),
    patience: Duration,
) -> anyhow::Result<String> {
    let sns = sns.get(..TERMINALS_MAX).unwrap_or(sns);
    for index in 0..CONTRACTS.min(sns.len() as u64) {
        let contract = json!({
            "merchant_no": merchant_no(index), "name": merchant_name(index), "rate_ppm": RATE_PPM,
            "risk_class": "standard",
        });
        let _: Value = admin.post("/api/v1/merchants", &contract).await?;
    }
    let made: Value = admin.post("/api/v1/feed-channels", &json!({"name": "示例渠道 Demo channel"})).await?;
    let channel = number(&made["channel"], "id")?;
    let path = format!("/api/v1/imports?kind=channel_feed&source={channel}&file_name=settled.csv");
    let file = file(seed, sns, (from_ms, to_ms))?;
    let sent: Value = admin.upload(&path, "application/octet-stream", &file).await?;
    let path = format!("/api/v1/imports/{}", text(&sent, "id")?);
    let started = Instant::now();
    let done = loop {
        let import: Value = admin.get(&path).await?;
        if !matches!(import["state"].as_str(), Some("waiting" | "running")) {
            break import;
        }
        anyhow::ensure!(started.elapsed() < patience, "the channel's file is not imported: {import}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let rows = sns.len() as u64 * u64::from(PAYMENTS);
    anyhow::ensure!(done["accepted"] == rows, "not all rows of the channel's file were taken: {done}");
    loop {
        let summary: Value = admin.get("/api/v1/reconciliation?days=7").await?;
        if summary["waiting"] == 0 && summary["payments"] == rows {
            return sentence(&summary);
        }
        anyhow::ensure!(started.elapsed() < patience, "the channel's file is not compared: {summary}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What the comparison shows, and how much was compared.
fn sentence(summary: &Value) -> anyhow::Result<String> {
    let channel = summary["coverage"].as_array().and_then(|levels| levels.iter().find(|level| level["level"] == "L1"));
    let coverage = channel.ok_or_else(|| anyhow::anyhow!("the answer has no coverage: {summary}"))?;
    Ok(format!(
        "The channel's file: the merchant of {} of {} settled payments compared\n  \
         {} under another merchant of the fleet, {} under a number that a person has to judge; less arrived in {} because \
         of fees, in {} for no known reason",
        number(coverage, "checked")?,
        number(coverage, "total")?,
        number(summary, "s4_switched")?,
        number(summary, "review")?,
        number(summary, "fees")?,
        number(summary, "s2_short")?,
    ))
}

/// The file, as channels write it: Chinese headings, yuan, China's time.
fn file(seed: u64, sns: &[String], (from_ms, to_ms): (i64, i64)) -> anyhow::Result<Vec<u8>> {
    let mut file = csv::Writer::from_writer(Vec::new());
    file.write_record([
        "参考号",
        "批次号",
        "凭证号",
        "机具序列号",
        "商户编号",
        "商户名称",
        "交易金额(元)",
        "结算金额(元)",
        "手续费(元)",
        "交易时间",
        "交易状态",
    ])?;
    for (index, sn) in (0_u64..).zip(sns) {
        let mut draws = Draws::of(seed, "channel", index);
        for nth in 0..PAYMENTS {
            let amount = i64::from(draws.whole(800, 200_000));
            let part = (f64::from(nth) + draws.unit()) / f64::from(PAYMENTS);
            let at_ms = from_ms + ((to_ms - from_ms) as f64 * part) as i64;
            let row = Settled::of(index, nth, amount, sns.len() as u64);
            let (reference, trace) = (format!("{:012}", index * 1_000 + u64::from(nth) + 1), format!("{:06}", nth + 1));
            let [asked, settled, fee] = [row.amount, row.settled, row.fee.unwrap_or(0)].map(yuan);
            let fee = if row.fee.is_some() { fee } else { String::new() };
            let fields = [
                &reference,
                "000001",
                &trace,
                sn,
                &row.merchant_no,
                &row.merchant_name,
                &asked,
                &settled,
                &fee,
                &local(at_ms)?,
                "交易成功",
            ];
            file.write_record(fields)?;
        }
    }
    Ok(file.into_inner()?)
}

/// One row; money in fen.
struct Settled {
    merchant_no: String,
    merchant_name: String,
    amount: i64,
    settled: i64,
    /// What the channel calls a fee; none where it does not say.
    fee: Option<i64>,
}

impl Settled {
    fn of(index: u64, nth: u32, amount: i64, terminals: u64) -> Self {
        let fee = |ppm: i64| (amount * ppm + 500_000) / 1_000_000;
        let usual = Self {
            merchant_no: merchant_no(index),
            merchant_name: merchant_name(index),
            amount,
            settled: amount - fee(RATE_PPM),
            fee: Some(fee(RATE_PPM)),
        };
        let is_late = nth + SWITCHED >= PAYMENTS;
        match index {
            // 99 yuan.
            SERVICE_FEE if nth == 0 => Self { amount: 618_187, settled: 608_287, fee: None, ..usual },
            RAISED_RATE if is_late => Self { settled: amount - fee(RAISED_PPM), fee: Some(fee(RAISED_PPM)), ..usual },
            OTHER_SHOP if is_late && terminals > OTHER_SHOP + 1 => {
                Self { merchant_no: merchant_no(OTHER_SHOP + 1), merchant_name: merchant_name(OTHER_SHOP + 1), ..usual }
            }
            FEE_FREE if is_late => {
                Self { merchant_no: REDUCED_NO.to_owned(), merchant_name: "某公益项目".to_owned(), ..usual }
            }
            _ => usual,
        }
    }
}

fn yuan(fen: i64) -> String {
    format!("{}.{:02}", fen / 100, fen % 100)
}

fn local(at_ms: i64) -> anyhow::Result<String> {
    let china = jiff::tz::TimeZone::fixed(jiff::tz::offset(8));
    let local = jiff::Timestamp::from_millisecond(at_ms)?.to_zoned(china);
    Ok(local.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_writes_the_same_file_and_each_row_adds_up() {
        let sns: Vec<String> = (0..12).map(|n| format!("D07N{n:08}")).collect();
        let of = |seed| file(seed, &sns, (1_763_800_000_000, 1_763_900_000_000)).unwrap();
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
        let text = String::from_utf8(of(7)).unwrap();
        assert_eq!(text.lines().count(), 1 + 12 * PAYMENTS as usize);
        assert!(text.contains(",6181.87,6082.87,,2025-11-2"), "{text}");
        assert_eq!(text.matches(REDUCED_NO).count(), SWITCHED as usize);
        assert_eq!(text.matches(&merchant_no(OTHER_SHOP + 1)).count(), (PAYMENTS + SWITCHED) as usize);
        for index in 0..12 {
            for nth in 0..PAYMENTS {
                let row = Settled::of(index, nth, 100_000, 12);
                let taken = row.fee.unwrap_or(9_900);
                assert_eq!(row.amount - row.settled, taken, "{index} {nth}");
            }
        }
        assert_eq!(Settled::of(RAISED_RATE, PAYMENTS - 1, 100_000, 12).fee, Some(630));
    }
}
