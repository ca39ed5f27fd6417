//! Releases: firmware with its signed metadata, from draft to withdrawn.
//!
//! The database says in which state a release is; the image repository says what terminals may run. Publishing writes the
//! repository first and the state after it, withdrawing the state first and the repository after it, so that a crash in
//! between never offers what is not decided; [`maintain`] finishes what was left.

mod commands;
mod entry;
pub mod http;
mod new;
mod state;
mod store;
mod tuf;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tillward_protocol::FieldError;
use tillward_protocol::ids::{ModelCode, TargetName, TerminalId};
use tillward_protocol::manifest::Manifest;

pub use commands::{CommandError, Verified, add_file, verify};
pub use entry::image_entry;
pub use new::{CheckedRelease, Needs, NewRelease, target_name};
pub use state::{Event, OwnApproval, Refusal, ReleaseState, step};

use entry::{files, image_entries};

use crate::audit::{self, Actor, Deed};
use crate::blobs::{BlobError, payload_key};
use crate::clock::Now;
use crate::db::{self, Conn, Db, Sequence};
use crate::http::tokens::TerminalSession;
use crate::operators::{Caller, Scope};
use crate::signing::director::{Desired, Order};
use crate::signing::image::ImageError;
use crate::signing::{OpenError, Signing};

/// Withdrawn files that one maintenance pass compares with the repository.
const WITHDRAWN_FILES_MAX: i64 = 10_000;

/// One release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Release {
    /// Number.
    pub id: i64,
    /// Organization it belongs to.
    pub organization_id: i64,
    /// Path of that organization.
    pub org_path: String,
    /// For people.
    pub name: String,
    /// `os`, `app`, …
    pub component: String,
    /// Version that runs after the installation.
    pub firmware_version: String,
    /// Only grows from release to release of one component and model.
    pub release_counter: i64,
    /// Models it fits.
    pub models: Vec<String>,
    /// Smallest release counter that may be updated from.
    pub min_from_counter: Option<i64>,
    /// Components that must be updated first.
    pub requires: Vec<Needs>,
    /// SHA-256 of the payload, hex.
    pub sha256: String,
    /// Length of the payload, bytes.
    pub length_bytes: i64,
    /// What changed, for people.
    pub notes: String,
    /// Where it is.
    pub state: ReleaseState,
    /// Number of who made it.
    pub created_by: i64,
    /// Name of who made it.
    pub created_by_name: String,
    /// Number of who approved it.
    pub approved_by: Option<i64>,
    /// When it was made, Unix ms.
    pub created_at_ms: i64,
    /// When it was published, Unix ms.
    pub published_at_ms: Option<i64>,
    /// Grows with every change.
    pub version: i64,
}

/// Which releases of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// In this state.
    pub state: Option<ReleaseState>,
    /// Of this component.
    pub component: Option<String>,
    /// For this model.
    pub model: Option<ModelCode>,
}

/// Why something cannot be done with a release.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// There is none that the caller may see.
    #[error("no such release")]
    NotFound,
    /// A field was refused.
    #[error("a field was refused")]
    Field(#[from] FieldError),
    /// The state does not allow it.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// Somebody else changed the release meanwhile.
    #[error("the release was changed by somebody else meanwhile; look at it again")]
    Changed,
    /// There is no organization yet that could own it.
    #[error("there is no organization yet; set up the server first")]
    NoOrganization,
    /// The image repository.
    #[error("image repository")]
    Image(#[from] ImageError),
    /// Storage.
    #[error("storage")]
    Blob(#[from] BlobError),
    /// The database.
    #[error("database")]
    Db(#[from] db::Error),
}

/// Who does something with releases: what they see, whose their releases are, and how the audit log calls them.
#[derive(Debug, Clone)]
pub struct Author {
    /// Number of the operator or key; 0 for the server's own commands.
    pub id: i64,
    /// Name.
    pub name: String,
    /// Organization that owns what is made.
    pub organization_id: i64,
    /// What can be seen and changed.
    pub scope: Scope,
    /// For the audit log.
    pub actor: Actor,
}

impl Author {
    /// The author behind a request.
    pub fn new(caller: &Caller, request_id: &str) -> Self {
        Self {
            id: caller.id,
            name: caller.name.clone(),
            organization_id: caller.organization_id,
            scope: caller.scope.clone(),
            actor: Actor::from(caller).in_request(request_id),
        }
    }

    /// The server itself, for commands on its machine and for the demo; owns by the top of the tree.
    ///
    /// # Errors
    /// [`ReleaseError::NoOrganization`] on a server that was not set up yet.
    pub async fn system(db: &Db, name: &str) -> Result<Self, ReleaseError> {
        let top = db.read(store::top_organization).await?;
        let (organization_id, path) = top.ok_or(ReleaseError::NoOrganization)?;
        let (scope, actor) = (Scope::subtree(path), Actor::system(name));
        Ok(Self { id: 0, name: name.to_owned(), organization_id, scope, actor })
    }
}

/// Makes a draft of a payload that was uploaded before.
///
/// # Errors
/// [`ReleaseError::Field`] by name: an impossible value, an unknown model, a counter that is not higher, a digest that was
/// not uploaded.
pub async fn create(
    db: &Db,
    signing: &Signing,
    author: &Author,
    new: NewRelease,
    now: Now,
) -> Result<Release, ReleaseError> {
    let new = new.check()?;
    let stored = signing.blobs.head(&payload_key(&new.sha256)).await?;
    let length_bytes = match stored.map(|meta| i64::try_from(meta.size).unwrap_or(i64::MAX)) {
        None => return Err(FieldError::new("sha256", "was not uploaded yet; upload the payload first").into()),
        Some(0) => return Err(FieldError::new("sha256", "is the digest of an empty payload").into()),
        Some(length) => length,
    };
    let author = author.clone();
    db.write(move |conn| insert(conn, &author, &new, length_bytes, now)).await
}

fn insert(
    conn: &mut Conn,
    author: &Author,
    new: &CheckedRelease,
    length_bytes: i64,
    now: Now,
) -> Result<Release, ReleaseError> {
    let codes: Vec<String> = new.models.iter().map(ToString::to_string).collect();
    // Taking the number locks it until the commit: of two drafts made at once, the second one sees the first one's counter.
    let id = db::next_id(conn, Sequence::Releases)?;
    if let Some(unknown) = store::unknown_model(conn, &codes)? {
        return Err(FieldError::new("models", format!("{unknown} is not a known model")).into());
    }
    let taken = store::highest_counter(conn, &codes, &new.component)?;
    if let Some((model, highest)) = taken.filter(|(_, highest)| *highest >= new.release_counter) {
        let problem = format!("must be above {highest}, which {model} already has for {}", new.component);
        return Err(FieldError::new("release_counter", problem).into());
    }
    let named = |model: &ModelCode| target_name(model, &new.component, &new.firmware_version, new.release_counter);
    let names = new.models.iter().map(named).collect::<Result<Vec<TargetName>, FieldError>>()?;
    let maker = store::Maker {
        organization_id: author.organization_id,
        org_path: author.scope.from().to_owned(),
        id: author.id,
        name: author.name.clone(),
    };
    store::insert(conn, id, &maker, new, length_bytes, &names, now)?;
    let release = store::get(conn, &author.scope, id)?.ok_or(ReleaseError::NotFound)?;
    record(conn, author, "releases.create", &release, json!({}), now)?;
    Ok(release)
}

fn record(
    conn: &mut Conn,
    author: &Author,
    action: &str,
    release: &Release,
    more: serde_json::Value,
    now: Now,
) -> Result<(), db::Error> {
    let detail = json!({"component": release.component, "firmware_version": release.firmware_version,
        "release_counter": release.release_counter, "models": release.models, "sha256": release.sha256, "more": more});
    let object_id = release.id.to_string();
    let deed = Deed { action, object_kind: "release", object_id, org_path: &release.org_path, detail };
    audit::append(conn, &author.actor, &deed, now)
}

/// One release.
///
/// # Errors
/// [`ReleaseError::NotFound`], also for one outside of `scope`.
pub async fn get(db: &Db, scope: Scope, id: i64) -> Result<Release, ReleaseError> {
    db.read(move |conn| store::get(conn, &scope, id)).await?.ok_or(ReleaseError::NotFound)
}

/// Releases, newest first, with numbers below `before`.
///
/// # Errors
/// The database.
pub async fn list(
    db: &Db,
    scope: Scope,
    filter: Filter,
    before: Option<i64>,
    size: u32,
) -> Result<Vec<Release>, ReleaseError> {
    Ok(db.read(move |conn| store::list(conn, &scope, &filter, before, i64::from(size))).await?)
}

/// Approves a draft.
///
/// # Errors
/// [`ReleaseError::Refused`] when the state does not allow it, or the author approves an own release and must not.
pub async fn approve(db: &Db, author: &Author, id: i64, own: OwnApproval, now: Now) -> Result<Release, ReleaseError> {
    let author = author.clone();
    db.write(move |conn| {
        let before = store::get(conn, &author.scope, id)?.ok_or(ReleaseError::NotFound)?;
        let is_own = before.created_by == author.id && before.created_by_name == author.name;
        let event = if is_own { Event::ApproveOwn(own) } else { Event::Approve };
        let state = step(before.state, event)?;
        let change = store::Change { state, approved_by: Some(author.id), published_at_ms: None };
        let more = json!({"is_own_release": is_own});
        change_state(conn, &author, "releases.approve", &before, &change, more, now)
    })
    .await
}

/// Compare, set, audit: one transaction with what decided it.
fn change_state(
    conn: &mut Conn,
    author: &Author,
    action: &str,
    before: &Release,
    change: &store::Change,
    more: serde_json::Value,
    now: Now,
) -> Result<Release, ReleaseError> {
    if !store::set_state(conn, before, change)? {
        return Err(ReleaseError::Changed);
    }
    let after = store::get(conn, &author.scope, before.id)?.ok_or(ReleaseError::NotFound)?;
    record(conn, author, action, &after, more, now)?;
    Ok(after)
}

/// Publishes an approved release: lists it in the image repository, once for each model, through the publish gate.
///
/// # Errors
/// [`ReleaseError::Refused`], [`ReleaseError::Image`] when the gate or the repository refuse.
pub async fn publish(db: &Db, signing: &Signing, author: &Author, id: i64, now: Now) -> Result<Release, ReleaseError> {
    let before = get(db, author.scope.clone(), id).await?;
    step(before.state, Event::Publish)?;
    let published = signing.image.publish(image_entries(&before)?, now.seconds()).await?;
    let writer = author.clone();
    let written = db
        .write(move |conn| {
            let before = store::get(conn, &writer.scope, id)?.ok_or(ReleaseError::NotFound)?;
            let state = step(before.state, Event::Publish)?;
            let change = store::Change { state, approved_by: before.approved_by, published_at_ms: Some(now.0) };
            let more = json!({"timestamp_version": published.timestamp_version});
            change_state(conn, &writer, "releases.publish", &before, &change, more, now)
        })
        .await;
    if matches!(written, Err(ReleaseError::Refused(Refusal::Final))) {
        // Withdrawn while it was being published: what the state says stands.
        signing.image.withdraw(&files(&before)?, now.seconds()).await?;
    }
    written
}

/// Withdraws a release for ever. From the commit on nothing new is offered; then it leaves the image repository, and the
/// planner, which should be woken, halts its rollouts and tells their terminals.
///
/// # Errors
/// [`ReleaseError::Refused`] when it is withdrawn already.
pub async fn withdraw(db: &Db, signing: &Signing, author: &Author, id: i64, now: Now) -> Result<Release, ReleaseError> {
    let writer = author.clone();
    let withdrawn = db
        .write(move |conn| {
            let before = store::get(conn, &writer.scope, id)?.ok_or(ReleaseError::NotFound)?;
            let state = step(before.state, Event::Withdraw)?;
            let change =
                store::Change { state, approved_by: before.approved_by, published_at_ms: before.published_at_ms };
            let more = json!({"was": before.state.as_str()});
            change_state(conn, &writer, "releases.withdraw", &before, &change, more, now)
        })
        .await?;
    if let Err(error) = signing.image.withdraw(&files(&withdrawn)?, now.seconds()).await {
        // The maintenance pass tries again; the decision itself stands.
        tracing::error!(release = id, %error, "withdrawn, but still listed in the image repository");
    }
    Ok(withdrawn)
}

/// Re-signs what is worn and takes withdrawn files off the repository that a crash left there. Call at least hourly.
///
/// # Errors
/// Signing, storage, the database.
pub async fn maintain(db: &Db, signing: &Signing, now: Now) -> Result<(), MaintainError> {
    signing.renew(now).await?;
    if !signing.has_keys() {
        return Ok(());
    }
    let withdrawn = db.read(|conn| store::withdrawn_files(conn, WITHDRAWN_FILES_MAX)).await?;
    let edition = signing.image.edition().await?;
    let left: Vec<_> = withdrawn.into_iter().filter(|(name, _)| edition.listed(name).is_some()).collect();
    if !left.is_empty() {
        signing.image.withdraw(&left, now.seconds()).await?;
    }
    Ok(())
}

/// Why a maintenance pass failed. It never retries: the next pass does.
#[derive(Debug, thiserror::Error)]
pub enum MaintainError {
    /// Re-signing.
    #[error("re-signing")]
    Renew(#[from] OpenError),
    /// The image repository.
    #[error("image repository")]
    Image(#[from] ImageError),
    /// The database.
    #[error("database")]
    Db(#[from] db::Error),
}

/// What the director says to the terminal of this session now; `None` when the session is over.
///
/// # Errors
/// The database, or a stored release that is damaged.
pub async fn desired(db: &Db, session: TerminalSession) -> Result<Option<Desired>, ReleaseError> {
    let terminal_id = session.terminal_id;
    let row = db.read(move |conn| store::desired(conn, terminal_id.0, session.epoch)).await?;
    let Some(row) = row else { return Ok(None) };
    let mut orders = Vec::new();
    // A release that has no file for this model is no order: the image repository would not list it.
    if let Some((assignment, release)) = row.order.filter(|(_, release)| release.models.contains(&row.model)) {
        let model: ModelCode = row.model.parse()?;
        orders.push(Order { assignment, entry: image_entry(&release, &model)? });
    }
    Ok(Some(Desired { terminal_id, assignment_version: row.assignment_version, orders }))
}

/// The highest version of its documents that the terminal says it verified, by its newest signed manifest.
///
/// # Errors
/// The database.
pub async fn seen_version(db: &Db, terminal_id: TerminalId) -> Result<Option<u64>, db::Error> {
    let body = db.read(move |conn| store::manifest(conn, terminal_id.0)).await?;
    Ok(body.and_then(|body| serde_json::from_str::<Manifest>(&body).ok()).map(|manifest| manifest.director_version))
}
