//! From blocks to pages: breaks lines and pages, and writes what is to be drawn.

use pdf_writer::types::TextRenderingMode;
use pdf_writer::{Content, Name, Str};

use super::face::{Face, Glyph};
use super::{Block, Document, Error, PAGES_MAX};

/// A4.
pub(super) const WIDTH_PT: f32 = 595.0;
/// A4.
pub(super) const HEIGHT_PT: f32 = 842.0;
/// Name of Helvetica on every page.
pub(super) const LATIN: &[u8] = b"L";
/// Name of the embedded font on every page.
pub(super) const WIDE: &[u8] = b"W";

const MARGIN_PT: f32 = 50.0;
const BOTTOM_PT: f32 = 62.0;
const TEXT_PT: f32 = WIDTH_PT - 2.0 * MARGIN_PT;
/// Height of a line, in sizes.
const LEADING: f32 = 1.55;
/// Width of the names in a list of facts.
const NAMES_PT: f32 = 128.0;
/// Between columns.
const GAP_PT: f32 = 10.0;
/// Characters that do not begin a line.
const NOT_FIRST: &str = "，。、；：！？）」』”’％%,.;:!?)]}";

/// One page's drawing.
pub(super) struct Page {
    pub(super) content: Vec<u8>,
}

/// How a text looks.
#[derive(Debug, Clone, Copy)]
struct Style {
    size: f32,
    /// 0 black to 1 white.
    gray: f32,
    is_bold: bool,
}

const TITLE: Style = Style { size: 18.0, gray: 0.1, is_bold: true };
const LEAD: Style = Style { size: 10.0, gray: 0.4, is_bold: false };
const HEADING: Style = Style { size: 12.0, gray: 0.1, is_bold: true };
const BODY: Style = Style { size: 9.5, gray: 0.12, is_bold: false };
const STRONG: Style = Style { size: 9.5, gray: 0.1, is_bold: true };
const NAME: Style = Style { size: 9.5, gray: 0.42, is_bold: false };
const CELL: Style = Style { size: 8.8, gray: 0.12, is_bold: false };
const CELL_NAME: Style = Style { size: 8.2, gray: 0.42, is_bold: false };
const FOOT: Style = Style { size: 7.6, gray: 0.5, is_bold: false };

/// A line that fits its width.
type Line = Vec<(Glyph, f32)>;

/// Draws a document on as many pages as it needs.
pub(super) fn pages(document: &Document, face: &mut Face) -> Result<Vec<Page>, Error> {
    let mut sheet = Sheet { face, done: Vec::new(), content: Content::new(), y: HEIGHT_PT - MARGIN_PT };
    for block in &document.blocks {
        sheet.block(block)?;
    }
    sheet.turn()?;
    let Sheet { face, done, .. } = sheet;
    let count = done.len();
    let numbered = done.into_iter().enumerate().map(|(index, mut content)| {
        foot(&mut content, face, &document.footer, &format!("{} / {count}", index + 1));
        Page { content: content.finish().to_vec() }
    });
    Ok(numbered.collect())
}

fn foot(content: &mut Content, face: &mut Face, text: &str, number: &str) {
    let right: Line = glyphs(face, number);
    let number_pt = width(&right, FOOT.size);
    rule(content, BOTTOM_PT - 14.0);
    // A footer that is too long is cut: it never runs into the number.
    let left = lines(face, text, FOOT.size, TEXT_PT - number_pt - GAP_PT).into_iter().next().unwrap_or_default();
    show(content, &left, FOOT, MARGIN_PT, BOTTOM_PT - 28.0);
    show(content, &right, FOOT, WIDTH_PT - MARGIN_PT - number_pt, BOTTOM_PT - 28.0);
}

/// Texts side by side, each in lines that fit its column.
struct Row {
    cells: Vec<(Vec<Line>, Style)>,
    line_pt: f32,
}

impl Row {
    fn lines(&self) -> usize {
        self.cells.iter().map(|(lines, _)| lines.len()).max().unwrap_or(0)
    }

    /// Room that it needs at once: all of it, unless it is higher than half a page.
    fn together_pt(&self) -> f32 {
        let whole = f32::from(u16::try_from(self.lines()).unwrap_or(u16::MAX)) * self.line_pt;
        if whole < (HEIGHT_PT - MARGIN_PT - BOTTOM_PT) / 2.0 { whole } else { self.line_pt }
    }
}

/// The page that is being drawn, and those before it.
struct Sheet<'a> {
    face: &'a mut Face,
    done: Vec<Content>,
    content: Content,
    /// Where the next line's top is.
    y: f32,
}

impl Sheet<'_> {
    fn block(&mut self, block: &Block) -> Result<(), Error> {
        match block {
            Block::Title(text) => self.paragraph(text, TITLE, 2.0, 4.0),
            Block::Lead(text) => self.paragraph(text, LEAD, 0.0, 4.0),
            Block::Heading(text) => {
                // A heading stands with at least two lines of what it is about.
                self.make_room(64.0)?;
                self.paragraph(text, HEADING, 12.0, 4.0)
            }
            Block::Text(text) => self.paragraph(text, BODY, 0.0, 5.0),
            Block::Strong(text) => self.paragraph(text, STRONG, 0.0, 5.0),
            Block::Facts(facts) => self.facts(facts),
            Block::Table { headings, shares, rows } => self.table(headings, shares, rows),
        }
    }

    fn paragraph(&mut self, text: &str, style: Style, above: f32, below: f32) -> Result<(), Error> {
        self.y -= above;
        for line in lines(self.face, text, style.size, TEXT_PT) {
            self.make_room(style.size * LEADING)?;
            self.y -= style.size * LEADING;
            show(&mut self.content, &line, style, MARGIN_PT, self.y + style.size * 0.45);
        }
        self.y -= below;
        Ok(())
    }

    fn facts(&mut self, facts: &[(String, String)]) -> Result<(), Error> {
        for (name, value) in facts {
            let columns = [(name.as_str(), NAME, NAMES_PT - GAP_PT), (value.as_str(), BODY, TEXT_PT - NAMES_PT)];
            self.row(&columns, &[0.0, NAMES_PT], 1.5)?;
        }
        self.y -= 4.0;
        Ok(())
    }

    fn table(&mut self, headings: &[String], shares: &[u16], rows: &[Vec<String>]) -> Result<(), Error> {
        let total: f32 = shares.iter().map(|share| f32::from(*share)).sum::<f32>().max(1.0);
        let widths: Vec<f32> = shares.iter().map(|share| f32::from(*share) / total * TEXT_PT).collect();
        let starts: Vec<f32> = widths
            .iter()
            .scan(0.0, |at, width| {
                let start = *at;
                *at += width;
                Some(start)
            })
            .collect();
        let styled = |cells: &'_ [String], style: Style| -> Vec<(String, Style, f32)> {
            cells.iter().zip(&widths).map(|(cell, width)| (cell.clone(), style, width - GAP_PT)).collect()
        };
        self.make_room(48.0)?;
        let mut head = None;
        for cells in std::iter::once(headings).chain(rows.iter().map(Vec::as_slice)) {
            let style = if head.is_none() { CELL_NAME } else { CELL };
            let cells = styled(cells, style);
            let columns: Vec<(&str, Style, f32)> =
                cells.iter().map(|(text, style, width)| (text.as_str(), *style, *width)).collect();
            let row = self.measured(&columns);
            let pages = self.done.len();
            self.make_room(row.together_pt())?;
            if let Some(head) = head.as_ref().filter(|_| self.done.len() > pages) {
                self.ruled(head, &starts)?;
            }
            self.ruled(&row, &starts)?;
            head.get_or_insert(row);
        }
        self.y -= 4.0;
        Ok(())
    }

    /// A row of a table.
    fn ruled(&mut self, row: &Row, starts: &[f32]) -> Result<(), Error> {
        self.draw(row, starts, 2.0)?;
        rule(&mut self.content, self.y);
        self.y -= 2.0;
        Ok(())
    }

    /// Texts side by side.
    fn row(&mut self, columns: &[(&str, Style, f32)], starts: &[f32], below: f32) -> Result<(), Error> {
        let row = self.measured(columns);
        self.make_room(row.together_pt())?;
        self.draw(&row, starts, below)
    }

    fn measured(&mut self, columns: &[(&str, Style, f32)]) -> Row {
        let cells: Vec<(Vec<Line>, Style)> =
            columns.iter().map(|(text, style, width)| (lines(self.face, text, style.size, *width), *style)).collect();
        let line_pt = cells.iter().map(|(_, style)| style.size * LEADING).fold(0.0, f32::max);
        Row { cells, line_pt }
    }

    /// What is higher than a page goes on with the next one.
    fn draw(&mut self, row: &Row, starts: &[f32], below: f32) -> Result<(), Error> {
        for index in 0..row.lines() {
            self.make_room(row.line_pt)?;
            self.y -= row.line_pt;
            for ((lines, style), start) in row.cells.iter().zip(starts) {
                if let Some(line) = lines.get(index) {
                    show(&mut self.content, line, *style, MARGIN_PT + start, self.y + style.size * 0.45);
                }
            }
        }
        self.y -= below;
        Ok(())
    }

    fn make_room(&mut self, height: f32) -> Result<(), Error> {
        if self.y - height < BOTTOM_PT { self.turn() } else { Ok(()) }
    }

    fn turn(&mut self) -> Result<(), Error> {
        if self.done.len() >= PAGES_MAX {
            return Err(Error::TooLong);
        }
        self.done.push(std::mem::replace(&mut self.content, Content::new()));
        self.y = HEIGHT_PT - MARGIN_PT;
        Ok(())
    }
}

/// Signs that neither font has, in others that say the same.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '≥' => plain.push_str(">="),
            '≤' => plain.push_str("<="),
            '→' => plain.push_str("->"),
            '−' => plain.push('-'),
            '≠' => plain.push_str("!="),
            '\u{a0}' | '\t' => plain.push(' '),
            '\n' => plain.push('\n'),
            invisible if invisible.is_control() => {}
            other => plain.push(other),
        }
    }
    plain
}

fn glyphs(face: &mut Face, text: &str) -> Line {
    text.chars().map(|character| face.glyph(character)).collect()
}

fn width(line: &[(Glyph, f32)], size: f32) -> f32 {
    line.iter().map(|(_, width)| width).sum::<f32>() * size / 1000.0
}

/// A text in lines of at most `room` points. Chinese breaks between any characters, Latin at spaces and where a word is
/// too long for a line.
fn lines(face: &mut Face, text: &str, size: f32, room: f32) -> Vec<Line> {
    let mut lines = Vec::new();
    for paragraph in plain(text).split('\n') {
        let mut line: Line = Vec::new();
        for word in words(paragraph) {
            let word_glyphs = glyphs(face, &word);
            let hangs = word.chars().all(|character| NOT_FIRST.contains(character));
            if !line.is_empty() && !hangs && width(&line, size) + width(&word_glyphs, size) > room {
                lines.push(std::mem::take(&mut line));
            }
            if line.is_empty() && word.trim().is_empty() && !lines.is_empty() {
                continue;
            }
            for glyph in word_glyphs {
                // One sign of slack for punctuation that hangs over the edge.
                let slack = if hangs { size } else { 0.0 };
                if !line.is_empty() && width(&line, size) + glyph.1 * size / 1000.0 > room + slack {
                    lines.push(std::mem::take(&mut line));
                }
                line.push(glyph);
            }
        }
        lines.push(line);
    }
    lines
}

/// The pieces between which a line may break: a Chinese character, a Latin word, spaces.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut joins = false;
    for character in text.chars() {
        let is_latin = character.is_ascii_graphic();
        match words.last_mut() {
            Some(word) if is_latin && joins => word.push(character),
            _ => words.push(character.to_string()),
        }
        joins = is_latin;
    }
    words
}

fn show(content: &mut Content, line: &[(Glyph, f32)], style: Style, x: f32, y: f32) {
    if line.is_empty() {
        return;
    }
    content.set_fill_gray(style.gray).set_stroke_gray(style.gray).set_line_width(style.size * 0.03);
    content.begin_text();
    let mode = if style.is_bold { TextRenderingMode::FillStroke } else { TextRenderingMode::Fill };
    content.set_text_rendering_mode(mode).set_text_matrix([1.0, 0.0, 0.0, 1.0, x, y]);
    for run in line.chunk_by(|(one, _), (other, _)| {
        matches!((one, other), (Glyph::Latin(_), Glyph::Latin(_)) | (Glyph::Wide(_), Glyph::Wide(_)))
    }) {
        let is_latin = run.first().is_some_and(|(glyph, _)| matches!(glyph, Glyph::Latin(_)));
        content.set_font(Name(if is_latin { LATIN } else { WIDE }), style.size);
        let bytes: Vec<u8> = run
            .iter()
            .flat_map(|(glyph, _)| match glyph {
                Glyph::Latin(code) => vec![*code],
                Glyph::Wide(glyph) => glyph.to_be_bytes().to_vec(),
            })
            .collect();
        content.show(Str(&bytes));
    }
    content.end_text();
}

fn rule(content: &mut Content, y: f32) {
    content.set_stroke_gray(0.85).set_line_width(0.5);
    content.move_to(MARGIN_PT, y).line_to(WIDTH_PT - MARGIN_PT, y).stroke();
}
