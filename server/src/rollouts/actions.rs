//! What people do with a rollout that is on its way: pause, resume, end, go on after a halt, stop a part, try again, undo.

use super::filter::{Attributes, Filter, OfRollout};
use super::state::{Event, State};
use super::store::gate::{self as gate_store, Stop};
use super::store::{self, Stored, Subject};
use super::{
    Error, NewRollout, Request, RequestKind, TEXT_BYTES_MAX, advance, approval, checked_text, field, stop_part,
};
use super::{check_subject, create_child};
use crate::audit::Actor;
use crate::clock::Now;
use crate::db::Conn;
use crate::operators::{Caller, Scope};

/// Writes a draft anew, as `new` says; the draft `id` ends. Returns the number of the new one.
///
/// # Errors
/// [`Error::Refused`] for what is no draft any more, [`Error::NotFound`], and as [`super::create`].
pub fn revise(
    conn: &mut Conn,
    caller: &Caller,
    id: i64,
    new: NewRollout,
    actor: &Actor,
    now: Now,
) -> Result<i64, Error> {
    let draft = store::get(conn, &caller.scope, id)?.ok_or(Error::NotFound)?;
    if draft.state != State::Draft {
        return Err(Error::Refused(super::state::Refusal { state: draft.state.as_str(), event: "revise" }));
    }
    let revised = create_child(conn, caller, new, draft.parent_id, actor, now)?;
    advance(conn, &draft, &Event::Cancel { why: format!("revised as {revised}") }, actor, now)?;
    Ok(revised)
}

/// Stops offering until [`resume`]; terminals that already install go on.
///
/// # Errors
/// [`Error::Refused`], [`Error::Field`], [`Error::NotFound`].
pub fn pause(conn: &mut Conn, scope: &Scope, id: i64, why: &str, actor: &Actor, now: Now) -> Result<(), Error> {
    let event = Event::Pause { why: checked_text("why", why)? };
    act(conn, scope, id, &event, actor, now)
}

/// Ends a pause.
///
/// # Errors
/// [`Error::Refused`], [`Error::NotFound`], [`Error::ReleaseNotPublished`].
pub fn resume(conn: &mut Conn, scope: &Scope, id: i64, actor: &Actor, now: Now) -> Result<(), Error> {
    let rollout = store::get(conn, scope, id)?.ok_or(Error::NotFound)?;
    check_subject(conn, &rollout)?;
    advance(conn, &rollout, &Event::Resume, actor, now)
}

/// Ends a rollout; terminals that already install go on.
///
/// # Errors
/// [`Error::Refused`], [`Error::Field`], [`Error::NotFound`].
pub fn cancel(conn: &mut Conn, scope: &Scope, id: i64, why: &str, actor: &Actor, now: Now) -> Result<(), Error> {
    let event = Event::Cancel { why: checked_text("why", why)? };
    act(conn, scope, id, &event, actor, now)
}

fn act(conn: &mut Conn, scope: &Scope, id: i64, event: &Event, actor: &Actor, now: Now) -> Result<(), Error> {
    let rollout = store::get(conn, scope, id)?.ok_or(Error::NotFound)?;
    advance(conn, &rollout, event, actor, now)
}

/// Goes on after a halt, or asks for somebody who agrees where so many terminals need that. What stopped the rollout is
/// theirs to answer for; the gate judges what comes on top of it, and may stop it again.
///
/// # Errors
/// [`Error::Refused`], [`Error::Field`], [`Error::NotFound`], [`Error::ReleaseNotPublished`].
pub fn override_halt(
    conn: &mut Conn,
    caller: &Caller,
    id: i64,
    why: &str,
    approval_from: u64,
    actor: &Actor,
    now: Now,
) -> Result<(), Error> {
    let why = checked_text("why", why)?;
    let rollout = store::get(conn, &caller.scope, id)?.ok_or(Error::NotFound)?;
    check_subject(conn, &rollout)?;
    let request = Request::new(RequestKind::Override, caller, why, now);
    approval::do_or_ask(conn, &rollout, &Event::Override, request, approval_from, actor, now)
}

/// Opens the next stage without waiting for the gate, or asks for somebody who agrees.
///
/// # Errors
/// [`Error::LastStage`], [`Error::Refused`], [`Error::Field`], [`Error::NotFound`].
pub fn advance_stage(
    conn: &mut Conn,
    caller: &Caller,
    id: i64,
    why: &str,
    approval_from: u64,
    actor: &Actor,
    now: Now,
) -> Result<(), Error> {
    let why = checked_text("why", why)?;
    let rollout = store::get(conn, &caller.scope, id)?.ok_or(Error::NotFound)?;
    check_next_stage(&rollout)?;
    let request = Request::new(RequestKind::Widen, caller, why, now);
    approval::do_or_ask(conn, &rollout, &Event::OpenStage, request, approval_from, actor, now)
}

/// Whether there is a stage after the running one.
pub(super) fn check_next_stage(rollout: &Stored) -> Result<(), Error> {
    let is_running = matches!(rollout.state, State::Running { .. });
    if is_running && rollout.stage.saturating_add(1) >= i64::from(rollout.strategy.stage_count()) {
        return Err(Error::LastStage);
    }
    Ok(())
}

/// Stops one part of a rollout alone: a model, an access, a carrier, a region, a hardware revision.
///
/// # Errors
/// [`Error::Field`] for a part that the rollout does not have, [`Error::Refused`] when it is over, [`Error::NotFound`].
pub fn stop_scope(
    conn: &mut Conn,
    caller: &Caller,
    id: i64,
    (attribute, value, why): (&str, &str, &str),
    actor: &Actor,
    now: Now,
) -> Result<(), Error> {
    let why = checked_text("why", why)?;
    let rollout = store::get(conn, &caller.scope, id)?.ok_or(Error::NotFound)?;
    if !matches!(rollout.state, State::Running { .. } | State::Paused { .. } | State::Halted { .. }) {
        let event = "stop_scope";
        return Err(Error::Refused(super::state::Refusal { state: rollout.state.as_str(), event }));
    }
    if !Attributes::NAMES.contains(&attribute) {
        return Err(field("attribute", format!("must be one of {}", Attributes::NAMES.join(", "))));
    }
    let has = gate_store::cells(conn, id)?.iter().any(|cell| cell.attributes.value(attribute) == Some(value));
    if !has || value.len() > TEXT_BYTES_MAX {
        return Err(field("value", "no terminal of this rollout has it"));
    }
    if !store::hold(conn, &rollout, &rollout.progress)? {
        return Err(Error::Raced);
    }
    let stop = Stop {
        attribute: attribute.to_owned(),
        value: value.to_owned(),
        why,
        stopped_by: caller.name.clone(),
        stopped_at_ms: now.0,
    };
    stop_part(conn, &rollout, &stop, actor, now)
}

/// A draft that tries the failed and silent terminals again, with everything else as it was. Returns its number.
///
/// # Errors
/// [`Error::NoSuchTerminals`], [`Error::NotFound`], and as [`super::create`].
pub fn retry(conn: &mut Conn, caller: &Caller, id: i64, actor: &Actor, now: Now) -> Result<i64, Error> {
    let rollout = store::get(conn, &caller.scope, id)?.ok_or(Error::NotFound)?;
    let phases = ["failed", "timed_out"];
    let again = after(conn, &rollout, &phases, "2")?;
    let (release_id, profile_id, layer) = match &rollout.subject {
        Subject::Release(id) => (Some(*id), None, None),
        Subject::Profile { id, layer } => (None, Some(*id), Some(layer.clone())),
    };
    let new = NewRollout { release_id, profile_id, layer, ..again };
    create_child(conn, caller, new, Some(id), actor, now)
}

/// A draft that brings what this rollout updated back, by a release that goes forward: the earlier firmware published
/// again under a higher release counter. Only to the terminals that this rollout updated. Returns its number.
///
/// # Errors
/// [`Error::NoSuchTerminals`], [`Error::Field`] for a release whose counter is not higher, [`Error::NotFound`], and as
/// [`super::create`].
pub fn undo(conn: &mut Conn, caller: &Caller, id: i64, release_id: i64, actor: &Actor, now: Now) -> Result<i64, Error> {
    let rollout = store::get(conn, &caller.scope, id)?.ok_or(Error::NotFound)?;
    let Subject::Release(bad_id) = rollout.subject else {
        return Err(field("release_id", "a profile is taken back by rolling out its earlier version"));
    };
    let bad = store::release(conn, bad_id)?.ok_or(Error::NotFound)?;
    let good = super::published(conn, &caller.scope, release_id)?;
    if good.component != bad.component || good.release_counter <= bad.release_counter {
        let problem = format!(
            "must be of component {} with a release counter above {}: publish the earlier firmware again",
            bad.component, bad.release_counter
        );
        return Err(field("release_id", problem));
    }
    let back = after(conn, &rollout, &["succeeded"], "undo")?;
    let new = NewRollout { release_id: Some(release_id), ..back };
    create_child(conn, caller, new, Some(id), actor, now)
}

/// A rollout like `rollout` to those of its terminals that ended in one of `phases`.
fn after(conn: &mut Conn, rollout: &Stored, phases: &[&str], suffix: &str) -> Result<NewRollout, Error> {
    let counts = store::counts(conn, &[rollout.id])?;
    if !counts.iter().any(|(_, phase, n)| *n > 0 && phases.contains(&phase.as_str())) {
        return Err(Error::NoSuchTerminals);
    }
    let ending = format!(" · {suffix}");
    let mut name = rollout.name.clone();
    while name.len() + ending.len() > TEXT_BYTES_MAX {
        name.pop();
    }
    let phases = phases.iter().map(|&phase| phase.to_owned()).collect();
    let number = |n: i64| u32::try_from(n).ok();
    Ok(NewRollout {
        name: name + &ending,
        filter: Filter { of_rollout: Some(OfRollout { rollout_id: rollout.id, phases }), ..Filter::default() },
        strategy: super::Strategy { is_dynamic: false, ..rollout.strategy.clone() },
        assignment_timeout_s: number(rollout.assignment_timeout_s),
        retry_max: number(rollout.retry_max),
        retry_wait_s: number(rollout.retry_wait_s),
        priority: number(rollout.priority),
        ..NewRollout::default()
    })
}
