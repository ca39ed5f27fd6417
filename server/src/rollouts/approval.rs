//! Maker and checker: what a second person has to agree to, and that it is still the same when they do.
//!
//! What is approved is the preview: so many terminals, and exactly these. When the filter means others at the moment of
//! approval, the request goes back to its maker.

use serde::{Deserialize, Serialize};

use super::actions::check_next_stage;
use super::state::{Event, State, step};
use super::store::{self, Stored};
use super::{
    CONFIRM_SLACK, CONFIRM_SLACK_PERCENT, Error, Preview, advance, append, check_subject, checked_text, resolve,
};
use crate::audit::Actor;
use crate::clock::Now;
use crate::db::{self, Conn, Db};
use crate::operators::{Caller, Scope, keys};

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// To start.
    Start,
    /// To open the next stage without waiting for the gate.
    Widen,
    /// To go on after a halt.
    Override,
}

impl Kind {
    /// Name in the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Widen => "widen",
            Self::Override => "override",
        }
    }
}

/// Something that waits for a second person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Request {
    /// What.
    pub kind: Kind,
    /// `operator` or `api_key`.
    pub by_kind: String,
    /// Number of who asked.
    pub by_id: i64,
    /// Name of who asked.
    pub by: String,
    /// Why.
    pub why: String,
    /// When, Unix ms.
    pub at_ms: i64,
}

impl Request {
    /// A request of `caller`.
    pub(super) fn new(kind: Kind, caller: &Caller, why: String, now: Now) -> Self {
        let by_kind = caller.kind.as_str().to_owned();
        Self { kind, by_kind, by_id: caller.id, by: caller.name.clone(), why, at_ms: now.0 }
    }

    /// Whether `caller` is who asked, in person or by an API key.
    ///
    /// # Errors
    /// [`db::Error`].
    pub fn is_of(&self, conn: &mut Conn, caller: &Caller) -> Result<bool, db::Error> {
        keys::is_same_person(conn, (&self.by_kind, self.by_id), (caller.kind.as_str(), caller.id))
    }
}

/// Resolves a rollout outside of any write: it may take seconds.
async fn resolved(db: &Db, scope: &Scope, id: i64, event: Event) -> Result<(Stored, Preview), Error> {
    let scope = scope.clone();
    db.read(move |conn| {
        let rollout = store::get(conn, &scope, id)?.ok_or(Error::NotFound)?;
        step(&rollout.state, &event)?;
        let preview = resolve::preview(conn, &rollout)?;
        Ok((rollout, preview))
    })
    .await
}

fn check_confirmed(confirmed: u64, resolved: u64) -> Result<(), Error> {
    if confirmed.abs_diff(resolved) > CONFIRM_SLACK.max(resolved.saturating_mul(CONFIRM_SLACK_PERCENT) / 100) {
        return Err(Error::CountDiffers { confirmed, resolved });
    }
    if resolved == 0 {
        return Err(Error::NothingToUpdate);
    }
    Ok(())
}

/// Starts a draft once a person has confirmed how many terminals it is for.
///
/// # Errors
/// [`Error::NeedsApproval`] from `approval_from` terminals on, [`Error::CountDiffers`] or [`Error::NothingToUpdate`]
/// when the filter means something else now, [`Error::Refused`], [`Error::ReleaseNotPublished`], [`Error::NotFound`].
pub async fn start(
    db: &Db,
    scope: Scope,
    id: i64,
    confirmed: u64,
    approval_from: u64,
    actor: Actor,
    now: Now,
) -> Result<(), Error> {
    let (_, preview) = resolved(db, &scope, id, Event::Start).await?;
    check_confirmed(confirmed, preview.count)?;
    if preview.count >= approval_from {
        return Err(Error::NeedsApproval { count: preview.count, from: approval_from });
    }
    db.write(move |conn| {
        let rollout = targeted(conn, &scope, id, &preview, None)?;
        advance(conn, &rollout, &Event::Start, &actor, now)
    })
    .await
}

/// Asks for a second person to start a draft.
///
/// # Errors
/// As [`start`], [`Error::NeedsApproval`] aside; [`Error::Field`] for the reason.
pub async fn submit(
    db: &Db,
    caller: Caller,
    id: i64,
    confirmed: u64,
    why: &str,
    actor: Actor,
    now: Now,
) -> Result<(), Error> {
    let request = Request::new(Kind::Start, &caller, checked_text("why", why)?, now);
    let (_, preview) = resolved(db, &caller.scope, id, Event::Submit).await?;
    check_confirmed(confirmed, preview.count)?;
    db.write(move |conn| {
        let rollout = targeted(conn, &caller.scope, id, &preview, Some(&request))?;
        advance(conn, &rollout, &Event::Submit, &actor, now)
    })
    .await
}

/// Writes down what was resolved and who asks; the rollout as it then is.
fn targeted(
    conn: &mut Conn,
    scope: &Scope,
    id: i64,
    preview: &Preview,
    request: Option<&Request>,
) -> Result<Stored, Error> {
    let rollout = store::get(conn, scope, id)?.ok_or(Error::NotFound)?;
    check_subject(conn, &rollout)?;
    let count = i64::try_from(preview.count).unwrap_or(i64::MAX);
    if !store::note_target(conn, &rollout, Some((count, &preview.digest)), request)? {
        return Err(Error::Raced);
    }
    store::get(conn, scope, id)?.ok_or(Error::NotFound)
}

/// Does what is asked for, or leaves it to a second person where the rollout is for so many terminals.
pub(super) fn do_or_ask(
    conn: &mut Conn,
    rollout: &Stored,
    event: &Event,
    request: Request,
    approval_from: u64,
    actor: &Actor,
    now: Now,
) -> Result<(), Error> {
    let count = u64::try_from(rollout.targeted.unwrap_or(0)).unwrap_or(0);
    if count < approval_from {
        return advance(conn, rollout, event, actor, now);
    }
    step(&rollout.state, event)?;
    if !store::note_target(conn, rollout, None, Some(&request))? {
        return Err(Error::Raced);
    }
    let action = format!("rollouts.ask_{}", request.kind.as_str());
    let detail = serde_json::json!({"why": request.why});
    Ok(append(conn, actor, &action, rollout.id, &rollout.org_path, detail, now)?)
}

/// Agrees to what waits, and does it. A start is resolved anew: other terminals than those that were asked for send it
/// back.
///
/// # Errors
/// [`Error::NothingRequested`], [`Error::OwnRequest`], [`Error::SetChanged`], [`Error::Refused`],
/// [`Error::ReleaseNotPublished`], [`Error::NotFound`].
pub async fn approve(db: &Db, caller: Caller, id: i64, actor: Actor, now: Now) -> Result<(), Error> {
    let rollout = {
        let caller = caller.clone();
        let read = move |conn: &mut Conn| {
            let rollout = store::get(conn, &caller.scope, id)?.ok_or(Error::NotFound)?;
            match &rollout.request {
                Some(request) if request.is_of(conn, &caller)? => Err(Error::OwnRequest),
                Some(_) | None => Ok(rollout),
            }
        };
        db.read(read).await?
    };
    let request = rollout.request.as_ref().ok_or(Error::NothingRequested)?;
    let event = match request.kind {
        Kind::Start => Event::Approve,
        Kind::Widen => Event::OpenStage,
        Kind::Override => Event::Override,
    };
    let preview = match request.kind {
        Kind::Start => Some(resolved(db, &caller.scope, id, Event::Approve).await?.1),
        Kind::Widen | Kind::Override => None,
    };
    let changed = preview.filter(|preview| Some(&preview.digest) != rollout.target_digest.as_ref());
    if let Some(preview) = changed {
        let then = rollout.targeted.unwrap_or(0);
        db.write(move |conn| advance(conn, &rollout, &Event::Reject, &actor, now)).await?;
        return Err(Error::SetChanged { then, now: preview.count });
    }
    db.write(move |conn| {
        check_subject(conn, &rollout)?;
        if event == Event::OpenStage {
            check_next_stage(&rollout)?;
        }
        advance(conn, &rollout, &event, &actor, now)
    })
    .await
}

/// Does not agree: a start goes back to its maker, anything else is forgotten.
///
/// # Errors
/// [`Error::NothingRequested`], [`Error::Field`], [`Error::NotFound`].
pub fn reject(conn: &mut Conn, scope: &Scope, id: i64, why: &str, actor: &Actor, now: Now) -> Result<(), Error> {
    let why = checked_text("why", why)?;
    let rollout = store::get(conn, scope, id)?.ok_or(Error::NotFound)?;
    let request = rollout.request.as_ref().ok_or(Error::NothingRequested)?;
    let detail = serde_json::json!({"asked_for": request.kind.as_str(), "by": request.by, "why": why});
    append(conn, actor, "rollouts.refuse_request", id, &rollout.org_path, detail, now)?;
    if rollout.state == State::AwaitingApproval {
        return advance(conn, &rollout, &Event::Reject, actor, now);
    }
    if store::note_target(conn, &rollout, None, None)? { Ok(()) } else { Err(Error::Raced) }
}
