//! The two fonts: how wide a character is, and which glyphs of the embedded one are used.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use subsetter::GlyphRemapper;

use super::Error;

/// The Chinese font: see `fonts/README.md`.
const COMPRESSED: &[u8] = include_bytes!("../../fonts/droid-sans-fallback-gbk.ttf.zst");

/// Widths of Helvetica's characters 32 to 126, in thousandths of the size (Adobe's metrics of the 14 standard fonts).
const LATIN_WIDTHS: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556, 556, 556, 556,
    556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833,
    722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556, 333, 556, 556, 500, 556,
    556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334,
    260, 334, 584,
];

/// Other characters of the Latin font: their code in `WinAnsiEncoding` and their width.
const LATIN_OTHERS: [(char, u8, u16); 15] = [
    ('…', 0x85, 1000),
    ('‘', 0x91, 222),
    ('’', 0x92, 222),
    ('“', 0x93, 333),
    ('”', 0x94, 333),
    ('•', 0x95, 350),
    ('–', 0x96, 556),
    ('—', 0x97, 1000),
    ('›', 0x9b, 333),
    ('¥', 0xa5, 556),
    ('°', 0xb0, 400),
    ('±', 0xb1, 584),
    ('·', 0xb7, 278),
    ('×', 0xd7, 584),
    ('é', 0xe9, 556),
];

/// Shown for a character that neither font has.
const MISSING: u8 = b'?';

/// A character as a font writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Glyph {
    /// Of Helvetica, by its code.
    Latin(u8),
    /// Of the embedded font, by its number in the part that is embedded.
    Wide(u16),
}

/// What a font descriptor says, in thousandths of the size.
pub(super) struct Metrics {
    pub(super) bbox: [f32; 4],
    pub(super) ascent: f32,
    pub(super) descent: f32,
}

/// Both fonts, and which glyphs of the embedded one were asked for.
pub(super) struct Face {
    data: &'static [u8],
    parsed: ttf_parser::Face<'static>,
    remapper: GlyphRemapper,
    used: BTreeMap<char, (u16, u16)>,
}

impl Face {
    pub(super) fn load() -> Result<Self, Error> {
        static DATA: OnceLock<Vec<u8>> = OnceLock::new();
        // What is compiled in does not change; an empty font is refused below.
        let data = DATA.get_or_init(|| zstd::decode_all(COMPRESSED).unwrap_or_default());
        let parsed = ttf_parser::Face::parse(data, 0).map_err(|error| Error::Font(error.to_string()))?;
        Ok(Self { data, parsed, remapper: GlyphRemapper::new(), used: BTreeMap::new() })
    }

    /// The character's glyph and its width in thousandths of the size.
    pub(super) fn glyph(&mut self, character: char) -> (Glyph, f32) {
        if let Some((code, width)) = latin(character) {
            return (Glyph::Latin(code), f32::from(width));
        }
        if let Some(&(glyph, original)) = self.used.get(&character) {
            return (Glyph::Wide(glyph), self.advance(original));
        }
        let Some(original) = self.parsed.glyph_index(character) else {
            let width = latin(char::from(MISSING)).map_or(556, |(_, width)| width);
            return (Glyph::Latin(MISSING), f32::from(width));
        };
        let glyph = self.remapper.remap(original.0);
        self.used.insert(character, (glyph, original.0));
        (Glyph::Wide(glyph), self.advance(original.0))
    }

    fn advance(&self, original: u16) -> f32 {
        let advance =
            self.parsed.glyph_hor_advance(ttf_parser::GlyphId(original)).unwrap_or(self.parsed.units_per_em());
        self.thousandths(f32::from(advance))
    }

    fn thousandths(&self, units: f32) -> f32 {
        units * 1000.0 / f32::from(self.parsed.units_per_em().max(1))
    }

    /// The characters that are embedded, with their glyphs.
    pub(super) fn used(&self) -> impl Iterator<Item = (char, u16)> {
        self.used.iter().map(|(character, (glyph, _))| (*character, *glyph))
    }

    /// Widths of the embedded glyphs, by glyph, in thousandths.
    pub(super) fn widths(&self) -> Vec<(u16, f32)> {
        let mut widths: Vec<(u16, u16)> = self.used.values().copied().collect();
        widths.sort_unstable();
        widths.dedup();
        widths.into_iter().map(|(glyph, original)| (glyph, self.advance(original))).collect()
    }

    pub(super) fn metrics(&self) -> Metrics {
        let bbox = self.parsed.global_bounding_box();
        let bbox = [bbox.x_min, bbox.y_min, bbox.x_max, bbox.y_max].map(|edge| self.thousandths(f32::from(edge)));
        Metrics {
            bbox,
            ascent: self.thousandths(f32::from(self.parsed.ascender())),
            descent: self.thousandths(f32::from(self.parsed.descender())),
        }
    }

    /// The font with the used glyphs alone.
    pub(super) fn subset(&self) -> Result<Vec<u8>, Error> {
        subsetter::subset(self.data, 0, &self.remapper).map_err(|error| Error::Font(error.to_string()))
    }
}

fn latin(character: char) -> Option<(u8, u16)> {
    let code = u8::try_from(u32::from(character)).ok().filter(|code| (32..=126).contains(code));
    if let Some(code) = code {
        return LATIN_WIDTHS.get(usize::from(code - 32)).map(|width| (code, *width));
    }
    LATIN_OTHERS.iter().find(|(other, _, _)| *other == character).map(|(_, code, width)| (*code, *width))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_font_has_the_characters_of_names_and_labels() {
        let mut face = Face::load().unwrap();
        for character in "拉卡拉电签终端商户名不一致喆堃珺镕，。：；（）「」￥％第１笔".chars()
        {
            let (glyph, width) = face.glyph(character);
            assert!(matches!(glyph, Glyph::Wide(_)) && (900.0..=1100.0).contains(&width), "{character} {width}");
        }
        assert_eq!(face.glyph('A'), (Glyph::Latin(65), 667.0));
        assert_eq!(face.glyph('~').1, 584.0);
        assert_eq!(face.glyph('\u{1F600}').0, Glyph::Latin(b'?'));
        assert!(face.subset().unwrap().len() < 30_000);
    }
}
