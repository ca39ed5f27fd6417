//! Tables as files: CSV in UTF-8 with a byte order mark, which spreadsheets on Windows need, in blocks, so that memory stays
//! flat however long the table is.

use std::future::Future;

use actix_web::HttpResponse;
use actix_web::http::header;
use bytes::Bytes;
use futures_util::stream;

use crate::db;

/// One line. Cells that a spreadsheet would take for a formula are made text; long numbers are kept as they are, quoted.
pub fn line<T: AsRef<str>>(cells: &[T]) -> String {
    let mut line = String::new();
    for (index, cell) in cells.iter().enumerate() {
        if index > 0 {
            line.push(',');
        }
        let cell = cell.as_ref();
        let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
        if is_formula || cell.contains(['"', ',', '\n', '\r']) {
            line.push('"');
            if is_formula {
                line.push('\'');
            }
            line.push_str(&cell.replace('"', "\"\""));
            line.push('"');
        } else {
            line.push_str(cell);
        }
    }
    line.push_str("\r\n");
    line
}

/// Where a download is.
enum Part<K> {
    Heading(String),
    After(Option<K>),
    End,
}

/// A file of `heading` and the blocks that `next` reads: each from the key of the one before, until there is none.
pub fn download<K, N, F, E>(file_name: &str, heading: String, next: N) -> HttpResponse
where
    K: 'static,
    N: Fn(Option<K>) -> F + 'static,
    F: Future<Output = Result<Option<(K, String)>, E>> + 'static,
    E: std::fmt::Display + 'static,
{
    let blocks = stream::unfold((Part::Heading(heading), next), |(part, next)| async move {
        let key = match part {
            Part::Heading(heading) => {
                let first = Bytes::from(format!("\u{feff}{heading}"));
                return Some((Ok(first), (Part::After(None), next)));
            }
            Part::After(key) => key,
            Part::End => return None,
        };
        match next(key).await {
            Ok(Some((key, block))) => Some((Ok(Bytes::from(block)), (Part::After(Some(key)), next))),
            Ok(None) => None,
            // The connection is cut, so that nobody takes the part for the whole.
            Err(error) => {
                tracing::warn!(%error, "a table could not be read to its end");
                Some((Err(db::Error::Closed), (Part::End, next)))
            }
        }
    });
    HttpResponse::Ok()
        .content_type("text/csv; charset=utf-8")
        .insert_header((header::CONTENT_DISPOSITION, format!("attachment; filename=\"{file_name}\"")))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .streaming(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_needed_and_formulas_made_text() {
        assert_eq!(line(&["a", "", "张记"]), "a,,张记\r\n");
        assert_eq!(line(&["a,b", "say \"x\"", "two\nlines"]), "\"a,b\",\"say \"\"x\"\"\",\"two\nlines\"\r\n");
        assert_eq!(line(&["=1+1", "@x", "-5"]), "\"'=1+1\",\"'@x\",\"'-5\"\r\n");
    }
}
