//! Where simulated terminals stand and which network they have: one *joint* draw of access, carrier, region and signal.
//!
//! The built-in table holds counts and typical values for each combination of access, carrier, region and signal band;
//! `--population FILE` draws from whole rows instead. Both have the same columns and one parser. Source: data release
//! of the "mobilebandwidth" measurement study (Apache-2.0); `tillward simulate derive-population FILE` made the table.
//!
//! The release has as many rows for each access type as its authors chose, so access is drawn first, by [`MIX`]. It has
//! no 2G and 3G and its 5G radio readings are saturated (−44 dBm and above, which is not a measurement): those take
//! place and signal from a 4G row, see [`Population::sample`].

use std::collections::BTreeMap;
use std::io::Read;

use serde::Deserialize;
use tillward_protocol::condition::{Access, Condition, SignalBand};

use super::random::Draws;

/// The built-in table.
const BUILT_IN: &str = include_str!("population.csv");

/// Share of each access type among handheld payment terminals (our assumption: Cat-1 modules dominate, WiFi where the
/// shop has it, old 2G/3G stock remains).
const MIX: [(Access, f64); 5] =
    [(Access::FourG, 0.70), (Access::Wifi, 0.22), (Access::FiveG, 0.03), (Access::ThreeG, 0.02), (Access::TwoG, 0.03)];

/// Strongest reading that is one: at and above this the source's modems only say "saturated".
const RSRP_SATURATED_DBM: i32 = -44;
/// What a 2G or 3G modem reads above the RSRP of the 4G cell next to it: RSSI sums the whole channel (our rule; it maps
/// the 4G bands −95/−110/−118 dBm onto −75/−90/−100 dBm).
const RSSI_ABOVE_RSRP_DB: i32 = 20;

/// A mobile network operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Carrier {
    /// China Mobile.
    Cmcc,
    /// China Unicom.
    Cucc,
    /// China Telecom.
    Ctcc,
    /// Not known.
    Unknown,
}

impl Carrier {
    fn parse(text: &str) -> Self {
        match text {
            "CMCC" => Self::Cmcc,
            "CUCC" => Self::Cucc,
            "CTCC" => Self::Ctcc,
            _ => Self::Unknown,
        }
    }

    /// Name in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cmcc => "CMCC",
            Self::Cucc => "CUCC",
            Self::Ctcc => "CTCC",
            Self::Unknown => "unknown",
        }
    }

    /// The operator code its terminals report.
    pub fn plmn(self) -> Option<&'static str> {
        match self {
            Self::Cmcc => Some("46000"),
            Self::Cucc => Some("46001"),
            Self::Ctcc => Some("46011"),
            Self::Unknown => None,
        }
    }
}

/// One line of either file.
#[derive(Debug, Deserialize)]
struct Line {
    access: String,
    carrier: String,
    region: String,
    #[serde(default)]
    weight: Option<f64>,
    rsrp_dbm: Option<i32>,
    rsrq_db: Option<i32>,
    sinr_db: Option<i32>,
    rssi_dbm: Option<i32>,
    bandwidth_mbps: Option<f64>,
}

/// Where one terminal stands and what its link is like on an ordinary day.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// Access type.
    pub access: Access,
    /// Mobile network operator, or the line's provider.
    pub carrier: Carrier,
    /// Province, in pinyin as the source has it: draws depend on it.
    pub region: String,
    /// Usual RSRP, dBm.
    pub rsrp_dbm: Option<i32>,
    /// Usual RSRQ, dB.
    pub rsrq_db: Option<i32>,
    /// Usual SINR, dB.
    pub sinr_db: Option<i32>,
    /// Usual RSSI, dBm.
    pub rssi_dbm: Option<i32>,
    /// Usual bandwidth, Mbit/s.
    pub bandwidth_mbps: f64,
}

impl Place {
    /// Province as people write it, for what they see.
    pub fn province(&self) -> &str {
        let known = PROVINCES.into_iter().find(|(pinyin, _)| *pinyin == self.region);
        known.map_or(self.region.as_str(), |(_, written)| written)
    }

    /// Signal band on an ordinary day.
    pub fn signal_band(&self) -> SignalBand {
        let condition = Condition {
            access: Some(self.access),
            rsrp_dbm: self.rsrp_dbm,
            rssi_dbm: self.rssi_dbm,
            ..Condition::default()
        };
        condition.signal_band()
    }
}

/// Rows of one access type with their running weights.
#[derive(Debug, Default)]
struct Rows {
    places: Vec<Place>,
    weights_up_to: Vec<f64>,
}

impl Rows {
    fn add(&mut self, place: Place, weight: f64) {
        let before = self.weights_up_to.last().copied().unwrap_or(0.0);
        self.places.push(place);
        self.weights_up_to.push(before + weight);
    }

    fn draw(&self, draws: &mut Draws) -> Option<&Place> {
        let at = draws.unit() * self.weights_up_to.last()?;
        self.places.get(self.weights_up_to.partition_point(|up_to| *up_to <= at))
    }
}

/// A joint distribution of places and networks.
#[derive(Debug)]
pub struct Population {
    cellular: Rows,
    five_g: Rows,
    wifi: Rows,
    /// How far values may stray from the row's, dB: nothing for measured rows, a little for typical values.
    spread_db: f64,
}

impl Population {
    /// The built-in table.
    ///
    /// # Errors
    /// When the table that was compiled in is damaged.
    pub fn built_in() -> anyhow::Result<Self> {
        Self::read(BUILT_IN.as_bytes(), 2.0)
    }

    /// The rows of a file.
    ///
    /// # Errors
    /// When it cannot be read, or has no 4G or no WiFi rows.
    pub fn from_file(path: &std::path::Path) -> anyhow::Result<Self> {
        let file = std::fs::File::open(path).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        Self::read(file, 0.0).map_err(|error| error.context(path.display().to_string()))
    }

    fn read(source: impl Read, spread_db: f64) -> anyhow::Result<Self> {
        let mut population =
            Self { cellular: Rows::default(), five_g: Rows::default(), wifi: Rows::default(), spread_db };
        let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(source);
        for line in reader.deserialize::<Line>() {
            let line = line?;
            let rows = match line.access.as_str() {
                "4g" => &mut population.cellular,
                "5g" => &mut population.five_g,
                "wifi" => &mut population.wifi,
                other => anyhow::bail!("access type {other} is not known; known are 4g, 5g and wifi"),
            };
            let weight = line.weight.unwrap_or(1.0);
            if let Some(place) = place(&line) {
                rows.add(place, weight);
            }
        }
        anyhow::ensure!(!population.cellular.places.is_empty(), "no usable 4g rows");
        anyhow::ensure!(!population.wifi.places.is_empty(), "no usable wifi rows");
        Ok(population)
    }

    /// Draws one terminal's place.
    ///
    /// 5G, 3G and 2G take carrier, region and signal together from a 4G row; bandwidth comes from a 5G row, or is that of
    /// the old technology. China Telecom never had GSM or UMTS: its 3G is EVDO, and on 2G another row is drawn.
    pub fn sample(&self, draws: &mut Draws) -> Place {
        let access = MIX[draws.weighted(&MIX.map(|(_, share)| share))].0;
        let rows = if access == Access::Wifi { &self.wifi } else { &self.cellular };
        let mut place = self.draw_valid(rows, access, draws);
        place.access = access;
        match access {
            Access::FiveG => {
                place.bandwidth_mbps = self.five_g.draw(draws).map_or(200.0, |row| row.bandwidth_mbps);
            }
            Access::ThreeG => to_old(&mut place, 2.0),
            Access::TwoG => to_old(&mut place, 0.1),
            Access::FourG | Access::Wifi | Access::Ethernet | Access::BluetoothPhone => {}
        }
        self.stray(&mut place, draws);
        place
    }

    fn draw_valid(&self, rows: &Rows, access: Access, draws: &mut Draws) -> Place {
        const TRIES: usize = 64;
        for _ in 0..TRIES {
            match rows.draw(draws) {
                Some(place) if access == Access::TwoG && place.carrier == Carrier::Ctcc => {}
                Some(place) => return place.clone(),
                None => break,
            }
        }
        // Reached only by a file with nothing but China Telecom in it.
        self.cellular.places[0].clone()
    }

    /// Moves the signal a little, within its band: the bands' shares stay those of the table.
    fn stray(&self, place: &mut Place, draws: &mut Draws) {
        let by = draws.normal(0.0, self.spread_db).round() as i32;
        let band = place.signal_band();
        let moved = Place {
            rsrp_dbm: place.rsrp_dbm.map(|value| (value + by).clamp(-140, RSRP_SATURATED_DBM)),
            rssi_dbm: place.rssi_dbm.map(|value| (value + by).clamp(-119, -10)),
            ..place.clone()
        };
        if moved.signal_band() == band {
            *place = moved;
        }
    }
}

fn to_old(place: &mut Place, bandwidth_mbps: f64) {
    place.rssi_dbm = place.rsrp_dbm.map(|rsrp| (rsrp + RSSI_ABOVE_RSRP_DB).min(-40));
    (place.rsrp_dbm, place.rsrq_db, place.sinr_db) = (None, None, None);
    place.bandwidth_mbps = bandwidth_mbps;
}

/// The place in a line, or nothing when it lacks what makes it one: a province and a believable signal.
fn place(line: &Line) -> Option<Place> {
    let access = match line.access.as_str() {
        "4g" => Access::FourG,
        "5g" => Access::FiveG,
        _ => Access::Wifi,
    };
    let is_wifi = access == Access::Wifi;
    let region = province(&line.region)?;
    let rsrp_dbm = line.rsrp_dbm.filter(|value| !is_wifi && (-140..RSRP_SATURATED_DBM).contains(value));
    let rssi_dbm = line.rssi_dbm.filter(|value| is_wifi && (-119..=0).contains(value));
    if access != Access::FiveG && rsrp_dbm.is_none() && rssi_dbm.is_none() {
        return None;
    }
    Some(Place {
        access,
        carrier: Carrier::parse(&line.carrier),
        region: region.to_owned(),
        rsrp_dbm,
        rsrq_db: line.rsrq_db.filter(|value| !is_wifi && (-20..=-3).contains(value)),
        sinr_db: line.sinr_db.filter(|value| !is_wifi && (-20..=40).contains(value)),
        rssi_dbm,
        bandwidth_mbps: line.bandwidth_mbps.unwrap_or(1.0).max(0.01),
    })
}

/// Provinces as the source spells them (pinyin without tones; two different ones are both `shanxi`), without the word
/// for "province", and as people write them.
const PROVINCES: [(&str, &str); 30] = [
    ("anhui", "安徽"),
    ("beijing", "北京"),
    ("chongqing", "重庆"),
    ("fujian", "福建"),
    ("gansu", "甘肃"),
    ("guangdong", "广东"),
    ("guangxi", "广西"),
    ("guizhou", "贵州"),
    ("hainan", "海南"),
    ("hebei", "河北"),
    ("heilongjiang", "黑龙江"),
    ("henan", "河南"),
    ("hubei", "湖北"),
    ("hunan", "湖南"),
    ("jiangsu", "江苏"),
    ("jiangxi", "江西"),
    ("jilin", "吉林"),
    ("liaoning", "辽宁"),
    ("neimenggu", "内蒙古"),
    ("ningxia", "宁夏"),
    ("qinghai", "青海"),
    ("shandong", "山东"),
    ("shanghai", "上海"),
    ("shanxi", "山西/陕西"),
    ("sichuan", "四川"),
    ("tianjin", "天津"),
    ("xinjiang", "新疆"),
    ("xizang", "西藏"),
    ("yunnan", "云南"),
    ("zhejiang", "浙江"),
];

/// The province that a text of the source begins with. Rows from elsewhere or from nowhere are left out.
fn province(text: &str) -> Option<&'static str> {
    PROVINCES.into_iter().map(|(pinyin, _)| pinyin).find(|pinyin| text.starts_with(pinyin))
}

/// Makes the compact table from measured rows: one line for each combination of access, carrier, region and signal band
/// with its count as weight and the medians of its readings.
///
/// # Errors
/// When the source cannot be parsed.
pub fn derive(source: impl Read) -> anyhow::Result<String> {
    let mut groups: BTreeMap<(&'static str, &'static str, String, SignalBand), Vec<Place>> = BTreeMap::new();
    for line in csv::Reader::from_reader(source).deserialize::<Line>() {
        if let Some(place) = place(&line?) {
            let key = (place.access.as_str(), place.carrier.as_str(), place.region.clone(), place.signal_band());
            groups.entry(key).or_default().push(place);
        }
    }
    let mut table = String::from(
        "# Counts and medians by access, carrier, region and signal band. Derived by `tillward simulate derive-population`\n\
         # from the data release of the \"mobilebandwidth\" measurement study (commit ac6aed5, Apache License 2.0).\n\
         access,carrier,region,weight,rsrp_dbm,rsrq_db,sinr_db,rssi_dbm,bandwidth_mbps\n",
    );
    for ((access, carrier, region, _), places) in groups {
        let text = |value: Option<i32>| value.map(|value| value.to_string()).unwrap_or_default();
        let column = |read: fn(&Place) -> Option<i32>| text(median(places.iter().filter_map(read).collect()));
        let bandwidth = median(places.iter().map(|place| (place.bandwidth_mbps * 10.0).round() as i32).collect());
        table.push_str(&format!(
            "{access},{carrier},{region},{},{},{},{},{},{}\n",
            places.len(),
            column(|place| place.rsrp_dbm),
            column(|place| place.rsrq_db),
            column(|place| place.sinr_db),
            column(|place| place.rssi_dbm),
            f64::from(bandwidth.unwrap_or(10)) / 10.0,
        ));
    }
    Ok(table)
}

fn median(mut values: Vec<i32>) -> Option<i32> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(count: u64) -> Vec<Place> {
        let population = Population::built_in().unwrap();
        (0..count).map(|index| population.sample(&mut Draws::of(1, "place", index))).collect()
    }

    #[test]
    fn the_built_in_table_is_small_and_names_its_source() {
        assert!(BUILT_IN.len() <= 40 * 1024, "{}", BUILT_IN.len());
        assert!(BUILT_IN.contains("mobilebandwidth") && BUILT_IN.contains("Apache"));
    }

    #[test]
    fn cellular_dominates_and_every_access_type_occurs() {
        let places = sample(20_000);
        for (access, share) in MIX {
            let found = places.iter().filter(|place| place.access == access).count() as f64 / 20_000.0;
            assert!((found - share).abs() < 0.012, "{}: {found}", access.as_str());
        }
    }

    #[test]
    fn signal_carrier_and_region_belong_together_as_in_the_source() {
        let places = sample(20_000);
        let bad = |carrier| {
            let of: Vec<_> =
                places.iter().filter(|place| place.access == Access::FourG && place.carrier == carrier).collect();
            of.iter().filter(|place| matches!(place.signal_band(), SignalBand::Poor | SignalBand::Bad)).count() as f64
                / of.len() as f64
        };
        for carrier in [Carrier::Cmcc, Carrier::Cucc, Carrier::Ctcc] {
            let share = bad(carrier);
            assert!((0.02..0.30).contains(&share), "{}: {share}", carrier.as_str());
        }
        assert!(places.iter().all(|place| place.signal_band() != SignalBand::Unknown));
        assert!(!places.iter().any(|place| place.access == Access::TwoG && place.carrier == Carrier::Ctcc));
    }

    #[test]
    fn every_province_is_shown_as_people_write_it() {
        let places = sample(20_000);
        assert!(places.iter().all(|place| !place.province().is_ascii()), "pinyin is for tables");
        let of = |region: &str| places.iter().find(|place| place.region == region).map(|place| place.province());
        assert_eq!([of("guangdong"), of("zhejiang")], [Some("广东"), Some("浙江")]);
    }

    #[test]
    fn a_terminal_draws_the_same_place_however_many_there_are() {
        assert_eq!(sample(5)[3], sample(50)[3]);
    }

    #[test]
    fn deriving_keeps_counts_and_drops_what_was_not_measured() {
        let source = "access,carrier,region,city,brand,model,os_version,rsrp_dbm,rsrq_db,sinr_db,rssi_dbm,bandwidth_mbps\n\
                      4g,CMCC,hubeisheng,wuhanshi,a,b,10,-100,-10,3,,10\n\
                      4g,CMCC,hubeisheng,wuhanshi,a,b,10,-102,-10,3,,30\n\
                      4g,CMCC,hubeisheng,wuhanshi,a,b,10,-112,-10,3,,1\n\
                      4g,CMCC,weizhi,,a,b,10,-100,-10,3,,10\n\
                      4g,CMCC,hubeisheng,,a,b,10,,,,,10\n\
                      wifi,CTCC,anhuisheng,,a,b,10,,,,-60,15.55\n";
        let table = derive(source.as_bytes()).unwrap();
        let lines: Vec<&str> = table.lines().skip(3).collect();
        assert_eq!(
            lines,
            ["4g,CMCC,hubei,2,-100,-10,3,,30", "4g,CMCC,hubei,1,-112,-10,3,,1", "wifi,CTCC,anhui,1,,,,-60,15.6"]
        );
        assert!(Population::read(table.as_bytes(), 0.0).is_ok());
    }

    #[test]
    fn a_file_without_cellular_rows_or_with_unknown_access_is_refused() {
        let head = "access,carrier,region,rsrp_dbm,rsrq_db,sinr_db,rssi_dbm,bandwidth_mbps\n";
        let error = |rows: &str| Population::read(format!("{head}{rows}").as_bytes(), 0.0).unwrap_err().to_string();
        assert!(error("wifi,CTCC,anhui,,,,-60,1\n").contains("4g"));
        assert!(error("6g,CTCC,anhui,,,,-60,1\n").contains("6g"));
    }
}
