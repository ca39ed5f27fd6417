//! The network and device circumstances at a moment, as a terminal measured them.
//!
//! Ranges are those the radio standards can produce (LTE: RSRP −140…−44 dBm, RSRQ −20…−3 dB, 28-bit cell id).
//! A value outside cannot have been measured and is refused by its name.

use serde::{Deserialize, Serialize};

use crate::check::{digits, in_range};
use crate::{Check, FieldError};

/// How the terminal reaches the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(as = AccessType))]
pub enum Access {
    /// 5G NR.
    #[serde(rename = "5g")]
    FiveG,
    /// LTE.
    #[serde(rename = "4g")]
    FourG,
    /// UMTS and its successors.
    #[serde(rename = "3g")]
    ThreeG,
    /// GSM, GPRS, EDGE.
    #[serde(rename = "2g")]
    TwoG,
    /// Wireless LAN.
    #[serde(rename = "wifi")]
    Wifi,
    /// Cable.
    #[serde(rename = "eth")]
    Ethernet,
    /// Tethered to a phone over Bluetooth.
    #[serde(rename = "bt_phone")]
    BluetoothPhone,
}

impl Access {
    /// Every access type.
    pub const ALL: [Self; 7] =
        [Self::FiveG, Self::FourG, Self::ThreeG, Self::TwoG, Self::Wifi, Self::Ethernet, Self::BluetoothPhone];

    /// Name on the wire and in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FiveG => "5g",
            Self::FourG => "4g",
            Self::ThreeG => "3g",
            Self::TwoG => "2g",
            Self::Wifi => "wifi",
            Self::Ethernet => "eth",
            Self::BluetoothPhone => "bt_phone",
        }
    }
}

/// Whether the modem is registered with the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(as = NetworkRegistration))]
#[serde(rename_all = "snake_case")]
pub enum Registration {
    /// Registered.
    Ok,
    /// Looking for a network.
    Searching,
    /// The network refused.
    Denied,
    /// No network.
    None,
}

/// The SIM card as the modem sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SimState {
    /// Usable.
    Ready,
    /// No card.
    Absent,
    /// Waits for a PIN or PUK.
    Locked,
    /// Card present, does not answer properly.
    Error,
}

/// Link and latency at one moment. Everything a terminal cannot measure is absent, never zero.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(as = DeviceCondition))]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Access type in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// Network operator code, 5–6 digits (MCC + MNC), for example `46000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plmn: Option<String>,
    /// Tracking or location area code, 16 bits (24 on 5G).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tac: Option<u32>,
    /// Cell identity, 28 bits (36 on 5G).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cell_id: Option<u64>,
    /// Physical cell identity, 0–1007.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pci: Option<u32>,
    /// Radio band number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub band: Option<u32>,
    /// Reference signal received power, dBm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rsrp_dbm: Option<i32>,
    /// Reference signal received quality, dB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rsrq_db: Option<i32>,
    /// Signal to interference and noise ratio, dB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sinr_db: Option<i32>,
    /// Received signal strength (WiFi, 2G, 3G), dBm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rssi_dbm: Option<i32>,
    /// Registration with the mobile network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration: Option<Registration>,
    /// Whether the access point name works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apn_ok: Option<bool>,
    /// IP version in use, 4 or 6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_version: Option<u8>,
    /// State of the SIM card.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sim: Option<SimState>,
    /// Whether the terminal roams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roaming: Option<bool>,
    /// Hash of the WiFi access point's address, 16–64 hex digits; never the address itself, which has 12.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bssid_hash: Option<String>,
    /// WiFi channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wifi_channel: Option<u32>,
    /// Name resolution, ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_ms: Option<u32>,
    /// TCP connect, ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_ms: Option<u32>,
    /// TLS handshake, ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_ms: Option<u32>,
    /// Median round trip to this server, ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<u32>,
    /// 95th percentile of the round trip to this server, ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_p95_ms: Option<u32>,
    /// Median round trip to the payment host, from real transactions, ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_rtt_ms: Option<u32>,
    /// 95th percentile of the round trip to the payment host, ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_rtt_p95_ms: Option<u32>,
    /// Transactions behind the payment host's figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_rtt_count: Option<u32>,
    /// Probes lost, percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_percent: Option<u8>,
    /// Terminal clock minus server clock, ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_offset_ms: Option<i64>,
}

/// Longest latency that is a measurement and not a hang, ms (ten minutes).
const LATENCY_MS_MAX: u32 = 600_000;
/// Largest clock error that is reported as such, ms (about 30 years: a dead battery starts in 1970 or 2000).
pub const CLOCK_OFFSET_MS_MAX: i64 = 2_000_000_000_000;

impl Check for Condition {
    fn check(&self) -> Result<(), FieldError> {
        digits("plmn", self.plmn.as_deref(), 5..=6)?;
        in_range("tac", self.tac, 0..=0xff_ffff, "")?;
        in_range("cell_id", self.cell_id, 0..=0xf_ffff_ffff, "")?;
        in_range("pci", self.pci, 0..=1007, "")?;
        in_range("band", self.band, 1..=1024, "")?;
        in_range("rsrp_dbm", self.rsrp_dbm, -156..=-31, "dBm")?;
        in_range("rsrq_db", self.rsrq_db, -43..=20, "dB")?;
        in_range("sinr_db", self.sinr_db, -30..=50, "dB")?;
        in_range("rssi_dbm", self.rssi_dbm, -120..=0, "dBm")?;
        match self.ip_version {
            None | Some(4 | 6) => {}
            Some(version) => return Err(FieldError::new("ip_version", format!("must be 4 or 6, was {version}"))),
        }
        match self.bssid_hash.as_deref() {
            // An address with its colons is no hash; twelve bare digits may be one, and say too much about a place.
            Some(hash) if !is_digest(hash) => {
                return Err(FieldError::new("bssid_hash", "must be 16 to 64 lower-case hex digits of a digest"));
            }
            Some(_) | None => {}
        }
        in_range("wifi_channel", self.wifi_channel, 1..=233, "")?;
        for (field, value) in [
            ("dns_ms", self.dns_ms),
            ("tcp_ms", self.tcp_ms),
            ("tls_ms", self.tls_ms),
            ("rtt_ms", self.rtt_ms),
            ("rtt_p95_ms", self.rtt_p95_ms),
            ("host_rtt_ms", self.host_rtt_ms),
            ("host_rtt_p95_ms", self.host_rtt_p95_ms),
        ] {
            in_range(field, value, 0..=LATENCY_MS_MAX, "ms")?;
        }
        in_range("loss_percent", self.loss_percent, 0..=100, "percent")?;
        in_range("clock_offset_ms", self.clock_offset_ms, -CLOCK_OFFSET_MS_MAX..=CLOCK_OFFSET_MS_MAX, "ms")
    }
}

fn is_digest(text: &str) -> bool {
    (16..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Signal in coarse bands, the form that cohort cells keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SignalBand {
    /// RSRP above −95 dBm, or WiFi above −65 dBm.
    Good,
    /// RSRP −95 to −110 dBm, or WiFi −65 to −75 dBm.
    Fair,
    /// RSRP below −110 dBm, or WiFi below −75 dBm.
    Poor,
    /// RSRP below −118 dBm, or WiFi below −85 dBm.
    Bad,
    /// Cable, or not measured.
    Unknown,
}

impl SignalBand {
    /// Name on the wire and in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Fair => "fair",
            Self::Poor => "poor",
            Self::Bad => "bad",
            Self::Unknown => "unknown",
        }
    }
}

impl Condition {
    /// The coarse band of the signal in use (LTE and WiFi rules of thumb).
    pub fn signal_band(&self) -> SignalBand {
        let bands = |value: i32, [good, fair, poor]: [i32; 3]| match value {
            v if v > good => SignalBand::Good,
            v if v >= fair => SignalBand::Fair,
            v if v >= poor => SignalBand::Poor,
            _ => SignalBand::Bad,
        };
        match (self.access, self.rsrp_dbm, self.rssi_dbm) {
            (Some(Access::Ethernet | Access::BluetoothPhone), _, _) => SignalBand::Unknown,
            (Some(Access::Wifi), _, Some(rssi)) => bands(rssi, [-65, -75, -85]),
            (_, Some(rsrp), _) => bands(rsrp, [-95, -110, -118]),
            (Some(Access::TwoG | Access::ThreeG), None, Some(rssi)) => bands(rssi, [-75, -90, -100]),
            _ => SignalBand::Unknown,
        }
    }

    /// The carrier behind the operator code: `CMCC`, `CUCC`, `CTCC`, `CBN`, or `unknown`.
    pub fn carrier(&self) -> &'static str {
        match self.plmn.as_deref() {
            Some("46000" | "46002" | "46004" | "46007" | "46008" | "46013") => "CMCC",
            Some("46001" | "46006" | "46009" | "46010") => "CUCC",
            Some("46003" | "46005" | "46011" | "46012") => "CTCC",
            Some("46015") => "CBN",
            _ => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_values_are_refused_by_name() {
        let cases = [
            (Condition { rsrp_dbm: Some(12), ..Condition::default() }, "rsrp_dbm"),
            (Condition { loss_percent: Some(101), ..Condition::default() }, "loss_percent"),
            (Condition { plmn: Some("46OOO".into()), ..Condition::default() }, "plmn"),
            (Condition { rtt_ms: Some(u32::MAX), ..Condition::default() }, "rtt_ms"),
            (Condition { cell_id: Some(1 << 40), ..Condition::default() }, "cell_id"),
            (Condition { ip_version: Some(5), ..Condition::default() }, "ip_version"),
            (Condition { bssid_hash: Some("a4:5e:60:c2:11:0f".into()), ..Condition::default() }, "bssid_hash"),
            (Condition { bssid_hash: Some("a45e60c2110f".into()), ..Condition::default() }, "bssid_hash"),
        ];
        for (condition, field) in cases {
            assert_eq!(condition.check().unwrap_err().field, field);
        }
        assert_eq!(Condition::default().check(), Ok(()));
    }

    #[test]
    fn signal_bands_follow_the_link_in_use() {
        let wifi = |rssi| Condition { access: Some(Access::Wifi), rssi_dbm: Some(rssi), ..Condition::default() };
        let lte = |rsrp| Condition { access: Some(Access::FourG), rsrp_dbm: Some(rsrp), ..Condition::default() };
        assert_eq!(wifi(-50).signal_band(), SignalBand::Good);
        assert_eq!(wifi(-70).signal_band(), SignalBand::Fair);
        assert_eq!(lte(-94).signal_band(), SignalBand::Good);
        assert_eq!(lte(-95).signal_band(), SignalBand::Fair);
        assert_eq!(lte(-111).signal_band(), SignalBand::Poor);
        assert_eq!(lte(-130).signal_band(), SignalBand::Bad);
        assert_eq!(Condition::default().signal_band(), SignalBand::Unknown);
    }
}
