//! Whether two merchant names are the same shop's. Pure.

use unicode_normalization::UnicodeNormalization;

/// A name as it is compared: one width, no spaces or marks, lower case, without endings that only say what kind of
/// business it is. A name that is nothing but such an ending stays as it is.
pub fn normalized(name: &str, suffixes: &[String]) -> String {
    let mut text: String = name.nfkc().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    loop {
        let shorter = suffixes.iter().find_map(|suffix| {
            let suffix: String = suffix.nfkc().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
            text.strip_suffix(&suffix).filter(|rest| !suffix.is_empty() && !rest.is_empty()).map(str::to_owned)
        });
        match shorter {
            Some(rest) => text = rest,
            None => return text,
        }
    }
}

/// Jaro–Winkler similarity of two texts, whole percent rounded down: 100 for the same.
pub fn similarity_percent(one: &str, other: &str) -> i64 {
    let (a, b): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let jaro = jaro(&a, &b);
    let prefix = a.iter().zip(&b).take(4).take_while(|(x, y)| x == y).count();
    #[allow(clippy::cast_precision_loss)] // At most four.
    let similarity = jaro + prefix as f64 * 0.1 * (1.0 - jaro);
    #[allow(clippy::cast_possible_truncation)] // Between 0 and 100; the addition evens out what floats lose.
    let percent = (similarity * 100.0 + 1e-9) as i64;
    percent
}

#[allow(clippy::cast_precision_loss)] // Lengths of names.
fn jaro(a: &[char], b: &[char]) -> f64 {
    if a.is_empty() || b.is_empty() {
        return if a.is_empty() && b.is_empty() { 1.0 } else { 0.0 };
    }
    let window = (a.len().max(b.len()) / 2).saturating_sub(1);
    let mut taken = vec![false; b.len()];
    let mut from_a = Vec::new();
    for (i, x) in a.iter().enumerate() {
        let (low, high) = (i.saturating_sub(window), (i + window + 1).min(b.len()));
        let found = b.iter().zip(&mut taken).skip(low).take(high.saturating_sub(low)).find(|(y, t)| *y == x && !**t);
        if let Some((_, taken)) = found {
            *taken = true;
            from_a.push(x);
        }
    }
    let from_b = b.iter().zip(&taken).filter(|(_, taken)| **taken).map(|(y, _)| y);
    let moved = from_a.iter().zip(from_b).filter(|(x, y)| **x != *y).count();
    let m = from_a.len() as f64;
    if from_a.is_empty() {
        return 0.0;
    }
    (m / a.len() as f64 + m / b.len() as f64 + (m - moved as f64 / 2.0) / m) / 3.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similarity_is_that_of_the_textbook() {
        for (one, other, percent) in [
            ("MARTHA", "MARHTA", 96),
            ("DIXON", "DICKSONX", 81),
            ("JELLYFISH", "SMELLYFISH", 89),
            ("", "", 100),
            ("a", "", 0),
            ("a", "b", 0),
            ("老王超市", "老王超市", 100),
        ] {
            assert_eq!(similarity_percent(one, other), percent, "{one} {other}");
            assert_eq!(similarity_percent(other, one), percent, "{other} {one}");
        }
    }

    #[test]
    fn width_spaces_marks_and_kinds_of_business_do_not_count() {
        let suffixes: Vec<String> = ["有限责任公司", "有限公司", "店"].iter().map(|s| (*s).to_owned()).collect();
        for other in ["杭州老王食品有限公司", "杭州 老王食品（有限责任公司）", "杭州老王食品", "杭州老王食品店"]
        {
            assert_eq!(normalized(other, &suffixes), "杭州老王食品", "{other}");
        }
        assert_eq!(normalized("ＡＢＣ-ｍａｒｔ", &suffixes), "abcmart");
        assert_eq!(normalized("店", &suffixes), "店");
        assert_ne!(normalized("杭州老李食品", &suffixes), normalized("杭州老王食品", &suffixes));
    }
}
