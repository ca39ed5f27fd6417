//! A small typesetter: headings, paragraphs, facts and tables on A4 pages, in Chinese and English, as a PDF.
//!
//! It knows nothing of what it sets. Chinese glyphs are embedded, only those that are used, so that a file looks the same
//! everywhere; Latin letters are Helvetica, which every reader has. The same document gives the same bytes.

mod face;
mod layout;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use pdf_writer::types::{CidFontType, FontFlags, SystemInfo, UnicodeCmap};
use pdf_writer::{Filter, Finish, Name, Pdf, Rect, Ref, Str, TextStr};

use face::Face;
use layout::{LATIN, Page, WIDE};

/// Most pages of one document: beyond, something is wrong with it.
pub const PAGES_MAX: usize = 20;

/// What to set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Title in the file's properties.
    pub title: String,
    /// Language tag, for example `zh-CN`.
    pub language: &'static str,
    /// From top to bottom.
    pub blocks: Vec<Block>,
    /// At the foot of every page, beside its number.
    pub footer: String,
}

/// A part of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// The title on the first page.
    Title(String),
    /// A line below the title.
    Lead(String),
    /// Begins a section.
    Heading(String),
    /// A paragraph.
    Text(String),
    /// A paragraph that stands out.
    Strong(String),
    /// Names and values.
    Facts(Vec<(String, String)>),
    /// Rows below headings; `shares` are the columns' parts of the width.
    Table {
        /// Headings.
        headings: Vec<String>,
        /// Width of each column, relative to the others.
        shares: Vec<u16>,
        /// Cells, row by row.
        rows: Vec<Vec<String>>,
    },
}

/// Why no file could be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The font that is compiled in cannot be read.
    #[error("the font cannot be read: {0}")]
    Font(String),
    /// The document does not fit on [`PAGES_MAX`] pages.
    #[error("the document has more than {PAGES_MAX} pages")]
    TooLong,
}

/// Sets a document. Some milliseconds of work.
///
/// # Errors
/// [`Error::TooLong`]; [`Error::Font`] only if the program is damaged.
pub fn render(document: &Document) -> Result<Vec<u8>, Error> {
    let mut face = Face::load()?;
    let pages = layout::pages(document, &mut face)?;
    let subset = face.subset()?;
    let mut next = Ref::new(1);
    let (catalog, tree, info) = (next.bump(), next.bump(), next.bump());
    let (latin, wide) = (next.bump(), next.bump());
    let mut pdf = Pdf::new();
    let mut catalog = pdf.catalog(catalog);
    catalog.pages(tree).lang(TextStr(document.language));
    catalog.finish();
    pdf.document_info(info).title(TextStr(&document.title)).creator(TextStr("Tillward"));
    let ids: Vec<(Ref, Ref)> = pages.iter().map(|_| (next.bump(), next.bump())).collect();
    let count = i32::try_from(ids.len()).unwrap_or(i32::MAX);
    pdf.pages(tree).kids(ids.iter().map(|(page, _)| *page)).count(count);
    for (page, (page_id, content_id)) in pages.iter().zip(ids) {
        let Page { content } = page;
        let mut page = pdf.page(page_id);
        page.media_box(Rect::new(0.0, 0.0, layout::WIDTH_PT, layout::HEIGHT_PT)).parent(tree).contents(content_id);
        page.resources().fonts().pair(Name(LATIN), latin).pair(Name(WIDE), wide);
        page.finish();
        pdf.stream(content_id, &compressed(content)).filter(Filter::FlateDecode);
    }
    pdf.type1_font(latin).base_font(Name(b"Helvetica")).encoding_predefined(Name(b"WinAnsiEncoding"));
    embed(&mut pdf, wide, &mut next, &face, &subset);
    Ok(pdf.finish())
}

/// Name of the embedded font; the letters before the plus say that it is a part.
const SUBSET_NAME: &[u8] = b"TILLWD+DroidSansFallback";
const IDENTITY: SystemInfo<'static> = SystemInfo { registry: Str(b"Adobe"), ordering: Str(b"Identity"), supplement: 0 };

fn embed(pdf: &mut Pdf, wide: Ref, next: &mut Ref, face: &Face, subset: &[u8]) {
    let (cid, descriptor, file, unicode) = (next.bump(), next.bump(), next.bump(), next.bump());
    pdf.type0_font(wide)
        .base_font(Name(SUBSET_NAME))
        .encoding_predefined(Name(b"Identity-H"))
        .descendant_font(cid)
        .to_unicode(unicode);
    let mut font = pdf.cid_font(cid);
    font.subtype(CidFontType::Type2)
        .base_font(Name(SUBSET_NAME))
        .system_info(IDENTITY)
        .font_descriptor(descriptor)
        .default_width(1000.0)
        .cid_to_gid_map_predefined(Name(b"Identity"));
    let mut widths = font.widths();
    for (glyph, width) in face.widths() {
        widths.same(glyph, glyph, width);
    }
    widths.finish();
    font.finish();
    let metrics = face.metrics();
    pdf.font_descriptor(descriptor)
        .name(Name(SUBSET_NAME))
        .flags(FontFlags::SYMBOLIC)
        .bbox(Rect::new(metrics.bbox[0], metrics.bbox[1], metrics.bbox[2], metrics.bbox[3]))
        .italic_angle(0.0)
        .ascent(metrics.ascent)
        .descent(metrics.descent)
        .cap_height(metrics.ascent)
        .stem_v(80.0)
        .font_file2(file);
    let data = compressed(subset);
    let length = i32::try_from(subset.len()).unwrap_or(i32::MAX);
    pdf.stream(file, &data).filter(Filter::FlateDecode).pair(Name(b"Length1"), length);
    let mut map = UnicodeCmap::new(Name(b"TillwardUnicode"), IDENTITY);
    for (character, glyph) in face.used() {
        map.pair(glyph, character);
    }
    pdf.stream(unicode, &compressed(&map.finish())).filter(Filter::FlateDecode);
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    // Writing to memory does not fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(blocks: Vec<Block>) -> Document {
        Document { title: "证据".to_owned(), language: "zh-CN", blocks, footer: "Tillward".to_owned() }
    }

    fn every_block() -> Vec<Block> {
        let long = "商户号与绑定不一致，疑似由上游决定；网络不能改变商户号。".repeat(12);
        vec![
            Block::Title("一笔交易的证据".to_owned()),
            Block::Lead("One transaction, 2026-11-23 09:30:00".to_owned()),
            Block::Heading("发生了什么".to_owned()),
            Block::Text(long.clone()),
            Block::Strong("已核对 3 笔，共 20 笔".to_owned()),
            Block::Facts(vec![("金额".to_owned(), "¥61.81".to_owned()), ("说明".to_owned(), long.clone())]),
            Block::Table {
                headings: vec!["规则".to_owned(), "字段".to_owned(), "观察值".to_owned()],
                shares: vec![1, 2, 3],
                rows: (0..50).map(|n| vec![format!("R{n}"), "rsrp_dbm".to_owned(), long.clone()]).collect(),
            },
        ]
    }

    #[test]
    fn a_document_becomes_the_same_small_file_each_time() {
        let short = every_block().into_iter().take(6).collect();
        let one = render(&document(short)).unwrap();
        assert!(one.starts_with(b"%PDF-1.") && one.trim_ascii_end().ends_with(b"%%EOF"));
        assert!(one.len() < 60_000, "{} bytes", one.len());
        assert_eq!(one, render(&document(every_block().into_iter().take(6).collect())).unwrap());
    }

    #[test]
    fn a_long_table_goes_on_and_an_endless_one_is_refused() {
        assert!(render(&document(every_block())).is_ok());
        let endless = (0..30).flat_map(|_| every_block()).collect();
        assert!(matches!(render(&document(endless)), Err(Error::TooLong)));
    }

    #[test]
    fn every_page_that_a_table_reaches_begins_with_its_headings() {
        let rows = (0..190).map(|n| vec![format!("row{n}"), "rsrp".to_owned()]).collect();
        let table = Block::Table { headings: vec!["Field".to_owned(), "Seen".to_owned()], shares: vec![1, 1], rows };
        let after = Block::Text("after".to_owned());
        let pages = layout::pages(&document(vec![table, after]), &mut Face::load().unwrap()).unwrap();
        assert!(pages.len() > 2, "{}", pages.len());
        let mut seen = 0;
        for page in &pages {
            let text = String::from_utf8_lossy(&page.content);
            let (heading, row) = (text.find("(Field)"), text.find("(row"));
            assert!(heading.is_some() && heading < row, "{} pages: {text}", pages.len());
            assert_eq!(text.matches("(Field)").count(), 1);
            seen += text.matches("(row").count();
        }
        assert_eq!(seen, 190);
    }

    #[test]
    fn odd_characters_and_empty_parts_do_no_harm() {
        let odd = "\u{1F600}\u{0}\u{7}\u{202e}é→≥−𠮷\n（）";
        let blocks = vec![
            Block::Title(String::new()),
            Block::Text(odd.to_owned()),
            Block::Facts(Vec::new()),
            Block::Facts(vec![(odd.to_owned(), "x".repeat(5_000))]),
            Block::Table { headings: Vec::new(), shares: Vec::new(), rows: vec![vec!["a".to_owned()]] },
        ];
        assert!(render(&document(blocks)).is_ok());
    }
}
