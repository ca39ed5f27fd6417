//! The numbers that the rules compare with, each with its unit in its name. Pure.

use super::rows::Cells;
use super::tables::TableError;

/// Declares the thresholds once: field, and the range in which a value makes sense.
macro_rules! thresholds {
    ($($(#[$doc:meta])* $name:ident: $low:literal..=$high:literal,)+) => {
        /// Thresholds by name. All are whole numbers; the unit stands last in the name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct Thresholds {
            $($(#[$doc])* pub $name: i64,)+
        }

        impl Thresholds {
            /// The names, as the table has them.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name),)+];

            /// Reads the rows; every name must be there, with a value that makes sense.
            pub(super) fn read(rows: &[Cells<'_>]) -> Result<Self, TableError> {
                if let Some(unknown) = rows.iter().find(|cells| !Self::NAMES.contains(&cells.key)) {
                    return Err(unknown.fault("name", "is no threshold that a rule uses"));
                }
                Ok(Self { $($name: one(rows, stringify!($name), $low, $high)?,)+ })
            }
        }
    };
}

impl Thresholds {
    /// R11: the age from which a payment is missing where one side alone knows it, ms.
    pub fn missing_after_ms(&self) -> i64 {
        self.missing_after_s * 1000 + 1
    }
}

fn one(rows: &[Cells<'_>], name: &str, low: i64, high: i64) -> Result<i64, TableError> {
    let Some(cells) = rows.iter().find(|cells| cells.key == name) else {
        return Err(TableError {
            table: super::tables::TableName::Thresholds,
            key: name.to_owned(),
            column: "value".to_owned(),
            problem: "every threshold must have a value: it may be changed, not removed".to_owned(),
        });
    };
    let value = cells.integer("value")?;
    if (low..=high).contains(&value) {
        Ok(value)
    } else {
        Err(cells.fault("value", &format!("must be between {low} and {high}")))
    }
}

thresholds! {
    /// R3: an update counts for this long after it ended, s.
    update_after_s: 0..=86_400,
    /// R3: a change of configuration counts for this long, s.
    config_changed_s: 0..=86_400,
    /// R4: RSRP below this is weak, dBm.
    weak_rsrp_dbm: -140..=-80,
    /// R4: SINR below this is weak, dB.
    weak_sinr_db: -20..=10,
    /// R4: WiFi RSSI below this is weak, dBm.
    weak_wifi_rssi_dbm: -100..=-50,
    /// R4: so many reconnects within ten minutes are a bad link.
    reconnects_min: 1..=100,
    /// R4a: RSRP above this is good, dBm.
    good_rsrp_dbm: -140..=-60,
    /// R4a: SINR above this is good, dB.
    good_sinr_db: -20..=20,
    /// R4a: WiFi RSSI above this is good, dBm.
    good_wifi_rssi_dbm: -100..=-40,
    /// R4a: a clock further off than this breaks certificates, s.
    clock_offset_s: 1..=86_400,
    /// R4b: a change of SIM card counts for this long, s.
    sim_swap_s: 0..=604_800,
    /// R5: a round trip to us up to this is fine, ms.
    rtt_fine_ms: 1..=10_000,
    /// R6: so many of one code on one terminal within a day point at the terminal.
    code_repeats_day_min: 2..=1_000,
    /// R6: so many of one code at one merchant within a day point at its binding.
    merchant_spike_day_min: 2..=1_000,
    /// R6: a change of version counts for this long, s.
    version_changed_s: 0..=2_592_000,
    /// R6: the change of day begins at this minute of the day, min.
    cutover_from_min: 0..=1_439,
    /// R6: … and ends at this one, min.
    cutover_to_min: 0..=1_439,
    /// R7: so many failures to read in a row …
    reader_run_min: 1..=100,
    /// R7: … on so many entries.
    reader_entries_min: 1..=3,
    /// R7: a larger share of failed reads is a bad reader, percent.
    reader_error_share_percent: 1..=100,
    /// R7: … of at least so many reads.
    reader_tries_min: 1..=10_000,
    /// R8: a restart counts for this long, s.
    reset_before_s: 0..=3_600,
    /// R1c: names less alike than this differ, percent of Jaro–Winkler similarity.
    name_similarity_percent: 1..=100,
    /// R2: a difference up to this is rounding, fen.
    fee_tolerance_fen: 0..=100,
    /// R2a: rates further apart than this differ, millionths.
    rate_tolerance_ppm: 0..=10_000,
    /// R11: a payment is missing after this, s. A week at most: what one side alone knows is looked for then.
    missing_after_s: 3_600..=604_800,
    /// R11: a reversal is overdue after this, s.
    reversal_overdue_s: 60..=2_592_000,
}
