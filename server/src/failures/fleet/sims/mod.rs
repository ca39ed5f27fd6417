//! SIM cards as their provider lists them: which pool a card is in, its plan, and when it ends. What nobody listed is taken
//! to be in a pool by the beginning of its number.

pub mod http;
mod parse;
mod store;

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tillward_protocol::FieldError;

use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::operators::Scope;
use crate::organizations::{self, Organization};
use crate::terminals::import::decode;

/// Largest file, bytes: some hundred thousand cards.
pub const FILE_BYTES_MAX: usize = 16 << 20;
/// Most rows of a file.
pub const ROWS_MAX: usize = 200_000;
/// Refused rows that are named in the answer.
pub const REFUSED_MAX: usize = 100;
/// Rows in one transaction: a few milliseconds.
const BLOCK: usize = 500;

/// One card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = SimCard)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// Number of the card, 18 to 20 digits or letters.
    pub iccid: String,
    /// Carrier; by the number where it says so.
    #[serde(default)]
    pub carrier: Option<String>,
    /// Pool that its data comes from.
    #[serde(default)]
    pub pool: Option<String>,
    /// Data of a month, MB.
    #[serde(default)]
    pub plan_mb: Option<i64>,
    /// When it ends, Unix ms.
    #[serde(default)]
    pub expires_at_ms: Option<i64>,
}

/// A row that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = RefusedSimRow)]
pub struct RefusedRow {
    /// Line of the file, from 1.
    pub line: u64,
    /// Which field.
    pub field: String,
    /// Why.
    pub problem: String,
}

/// What became of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = SimImport)]
pub struct Imported {
    /// Rows with a card.
    pub rows: u64,
    /// Cards written.
    pub written: u64,
    /// Rows that were not taken.
    pub refused: u64,
    /// The first hundred of them.
    pub refusals: Vec<RefusedRow>,
}

/// Why a file was not imported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file as a whole, or the organization.
    #[error("{0}")]
    Field(#[from] FieldError),
    /// The database failed; what was written before stays.
    #[error("the cards could not be written")]
    Db(#[from] db::Error),
}

/// Writes the cards of a CSV file for an organization of the scope; a card that is known gets its newest values. Importing
/// a file again changes nothing.
///
/// # Errors
/// [`Error`].
pub async fn import(
    db: &Db,
    actor: Actor,
    scope: Scope,
    organization_id: i64,
    file: Vec<u8>,
    now: Now,
) -> Result<Imported, Error> {
    let owner = owner(db, scope.clone(), organization_id).await?;
    let parsed = tokio::task::spawn_blocking(move || {
        let (text, _) = decode(file)?;
        parse::rows(&text)
    });
    let rows = parsed.await.map_err(|_| db::Error::Closed)??;
    let mut imported = Imported::default();
    let mut good = Vec::new();
    let mut seen = HashSet::new();
    for (line, row) in rows {
        imported.rows += 1;
        match row {
            Ok(card) if seen.insert(card.iccid.clone()) => good.push((line, card)),
            Ok(_) => imported.refuse(line, "iccid", "is in the file twice"),
            Err(error) => imported.refuse(line, &error.field, &error.problem),
        }
    }
    for block in good.chunks(BLOCK) {
        let (block, owner, scope) = (block.to_vec(), owner.clone(), scope.clone());
        let taken = db
            .write(move |conn| {
                let cards: Vec<Card> = block.iter().map(|(_, card)| card.clone()).collect();
                let foreign = store::foreign(conn, &scope, &cards)?;
                let own: Vec<&Card> = cards.iter().filter(|card| !foreign.contains(&card.iccid)).collect();
                store::write(conn, &owner, &own, now)?;
                let written = own.len();
                let foreign: Vec<u64> =
                    block.iter().filter(|(_, card)| foreign.contains(&card.iccid)).map(|(line, _)| *line).collect();
                Ok::<_, db::Error>((written, foreign))
            })
            .await?;
        imported.written += u64::try_from(taken.0).unwrap_or(0);
        for line in taken.1 {
            imported.refuse(line, "iccid", "is a card of another organization");
        }
    }
    let (rows, written) = (imported.rows, imported.written);
    db.write(move |conn| {
        let deed = Deed {
            action: "sim_cards.import",
            object_kind: "organization",
            object_id: owner.id.to_string(),
            org_path: &owner.path,
            detail: json!({"rows": rows, "written": written}),
        };
        audit::append(conn, &actor, &deed, now)
    })
    .await?;
    Ok(imported)
}

async fn owner(db: &Db, scope: Scope, id: i64) -> Result<Organization, Error> {
    let found = db.read(move |conn| organizations::get(conn, &scope, id)).await?;
    Ok(found.ok_or_else(|| FieldError::new("organization_id", "is not an organization of yours"))?)
}

impl Imported {
    fn refuse(&mut self, line: u64, field: &str, problem: &str) {
        self.refused += 1;
        if self.refusals.len() < REFUSED_MAX {
            self.refusals.push(RefusedRow { line, field: field.to_owned(), problem: problem.to_owned() });
        }
    }
}

/// Cards of the scope by number, after `after`; of one pool, if one is named.
///
/// # Errors
/// [`db::Error`].
pub fn list(
    conn: &mut Conn,
    scope: &Scope,
    pool: Option<&str>,
    after: Option<&str>,
    size: u32,
) -> Result<Vec<Card>, db::Error> {
    store::list(conn, scope, pool, after.unwrap_or_default(), i64::from(size))
}
