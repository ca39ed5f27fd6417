//! How far two geohashes are from each other. Pure.

/// Letters of a geohash, five bits each.
const LETTERS: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
/// Metres of one degree of latitude.
const DEGREE_M: f64 = 111_320.0;

/// Metres between the middles of two places; none when one of them is no geohash. Good to some percent up to hundreds of
/// kilometres, which is far better than what a geohash of six characters says.
pub fn distance_m(one: &str, other: &str) -> Option<i64> {
    let (latitude, longitude) = middle(one)?;
    let (other_latitude, other_longitude) = middle(other)?;
    let mut around = (longitude - other_longitude).abs();
    if around > 180.0 {
        around = 360.0 - around;
    }
    let east = around * ((latitude + other_latitude) / 2.0).to_radians().cos();
    let north = latitude - other_latitude;
    let metres = (east.hypot(north) * DEGREE_M).round();
    // Half the earth's girth at most.
    #[allow(clippy::cast_possible_truncation)]
    let metres = metres as i64;
    Some(metres)
}

/// Latitude and longitude of the middle, degrees.
fn middle(geohash: &str) -> Option<(f64, f64)> {
    if geohash.is_empty() || geohash.len() > 12 {
        return None;
    }
    let (mut latitude, mut longitude) = ((-90.0, 90.0), (-180.0, 180.0));
    let mut is_longitude = true;
    for letter in geohash.bytes() {
        let bits = LETTERS.iter().position(|known| *known == letter)?;
        for bit in (0..5).rev() {
            let range: &mut (f64, f64) = if is_longitude { &mut longitude } else { &mut latitude };
            let half = f64::midpoint(range.0, range.1);
            if bits >> bit & 1 == 1 {
                range.0 = half;
            } else {
                range.1 = half;
            }
            is_longitude = !is_longitude;
        }
    }
    Some((f64::midpoint(latitude.0, latitude.1), f64::midpoint(longitude.0, longitude.1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_places_are_as_far_apart_as_they_are() {
        // 人民广场 in Shanghai and 西湖 in Hangzhou: 165 km.
        let far = distance_m("wtw3sj", "wtmkn3").unwrap();
        assert!((150_000..185_000).contains(&far), "{far}");
        assert_eq!(distance_m("wtw3sj", "wtw3sj"), Some(0));
        // Neighbours on both sides of the border between two large cells.
        let near = distance_m("wtw3sj", "wtw3sm").unwrap();
        assert!((100..2_000).contains(&near), "{near}");
        assert!(distance_m("xbpbpb", "80n0n0").is_some());
    }

    #[test]
    fn what_is_no_geohash_is_nowhere() {
        for odd in ["", "wtw3sa", "WTW3SJ", "长", "wtw3sjwtw3sjw"] {
            assert_eq!(distance_m("wtw3sj", odd), None, "{odd}");
        }
    }
}
