//! A rollout's progress as a stream of ready fragments.
//!
//! The server looks once a second and sends only what changed. The stream ends when the rollout does, when the session
//! ends or its role no longer allows it, and is refused beyond a number of streams per process: pages then show what
//! they were loaded with.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use askama::Template;
use bytes::Bytes;
use futures_util::stream;

use super::rollout_progress::{Look, Progress};
use super::shell::Shell;
use crate::http::State;
use crate::http::body::Path;
use crate::http::endpoints::{Access, Endpoint};
use crate::http::problem::Problem;
use crate::operators::{self, Caller, Permission};
use crate::rollouts::{self, Rollout};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![Endpoint::get("/rollouts/{id}/events", Access::Page(Permission::RolloutsRead), "", events)]
}

/// How often the counts are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// A comment after this many looks without a change, so that no proxy takes the stream for dead.
const QUIET_LOOKS: u32 = 15;
/// Streams of one process: each costs a read a second, and browsers of a whole shift fit in.
const STREAMS_MAX: usize = 200;
/// A browser that lost its stream comes back after this at the earliest, and after twice this at the latest, ms: all of
/// them come back at once when a server restarts.
const RETRY_MS: u64 = 2_000;

static STREAMS: AtomicUsize = AtomicUsize::new(0);

/// One counted stream; it is given back when the browser goes.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let taken = STREAMS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < STREAMS_MAX).then_some(n + 1));
        taken.ok().map(|_| Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        STREAMS.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Follower {
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    id: i64,
    last: String,
    /// State, stage and request as they were sent last.
    last_state: String,
    quiet: u32,
    is_over: bool,
    _place: Place,
}

async fn events(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<i64>,
) -> Result<HttpResponse, Problem> {
    let scope = caller.scope.clone();
    state.db.read(move |conn| rollouts::get(conn, &scope, id)).await?;
    let place = Place::take().ok_or_else(|| Problem::busy(10))?;
    let retry_ms = RETRY_MS + rand::random::<u64>() % RETRY_MS;
    let follower = Follower {
        shell,
        state,
        caller,
        id,
        last: String::new(),
        last_state: String::new(),
        quiet: 0,
        is_over: false,
        _place: place,
    };
    let first = stream::once(async move { Ok::<_, Problem>(Bytes::from(format!("retry: {retry_ms}\n\n"))) });
    let rest = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    });
    use futures_util::StreamExt;
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(first.chain(rest)))
}

impl Follower {
    /// The next thing to send; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        loop {
            if !self.is_allowed().await {
                self.is_over = true;
                return Some(Bytes::from_static(b"event: end\ndata:\n\n"));
            }
            let (scope, id) = (self.caller.scope.clone(), self.id);
            let may_incidents = self.shell.may(Permission::IncidentsRead);
            let look = self.state.db.read(move |conn| Look::at(conn, &scope, id, may_incidents)).await.ok()?;
            self.shell.moments = self.shell.moments.at(self.state.clock.now());
            let html = Progress::of(&self.shell, &look).render().ok()?;
            let rollout = &look.detail.rollout;
            let is_final = matches!(rollout.state.as_str(), "succeeded" | "cancelled");
            if html != self.last {
                let now = state_of(rollout);
                // The first event repeats what the page was loaded with.
                let has_stepped = !self.last_state.is_empty() && now != self.last_state;
                let event = event(&html, has_stepped, is_final);
                (self.last, self.last_state) = (html, now);
                self.quiet = 0;
                self.is_over = is_final;
                return Some(event);
            }
            tokio::time::sleep(LOOK).await;
            self.quiet += 1;
            if self.quiet >= QUIET_LOOKS {
                self.quiet = 0;
                return Some(Bytes::from_static(b": still here\n\n"));
            }
        }
    }

    /// Whether the session and its role still are what they were; a failing database counts as no.
    async fn is_allowed(&self) -> bool {
        let Some(session_id) = self.caller.session_id.clone() else { return false };
        let caller = operators::caller_of_session(&self.state.db, session_id, self.state.clock.now()).await;
        let caller = caller.ok().flatten();
        caller.is_some_and(|caller| caller.role.allows(Permission::RolloutsRead) && caller.scope == self.caller.scope)
    }
}

/// What the buttons of the page follow from.
fn state_of(rollout: &Rollout) -> String {
    let asked_ms = rollout.request.as_ref().map(|request| request.at_ms);
    format!("{} {} {asked_ms:?}", rollout.state, rollout.stage)
}

/// One event; each line of the fragment is a line of data. A step of the rollout is an event of its own, on which the
/// page asks for its buttons anew.
fn event(html: &str, has_stepped: bool, is_final: bool) -> Bytes {
    let mut text = String::from("event: progress\n");
    for line in html.lines() {
        text.push_str("data: ");
        text.push_str(line);
        text.push('\n');
    }
    text.push('\n');
    if has_stepped {
        text.push_str("event: state\ndata:\n\n");
    }
    if is_final {
        text.push_str("event: end\ndata:\n\n");
    }
    Bytes::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_of_several_lines_is_one_event() {
        let sent = event("<p>\n1</p>", false, false);
        assert_eq!(sent, "event: progress\ndata: <p>\ndata: 1</p>\n\n");
        assert!(event("x", false, true).ends_with(b"event: end\ndata:\n\n"));
        assert!(event("x", true, false).ends_with(b"event: state\ndata:\n\n"));
    }

    #[test]
    fn streams_are_counted_and_given_back() {
        let before = STREAMS.load(Ordering::Relaxed);
        let place = Place::take().unwrap();
        assert_eq!(STREAMS.load(Ordering::Relaxed), before + 1);
        drop(place);
        assert_eq!(STREAMS.load(Ordering::Relaxed), before);
    }
}
