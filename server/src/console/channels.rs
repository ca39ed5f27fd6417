//! Channels that tell of settled payments: the list, one with the mapping of its callbacks, its secret shown once.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::form::Form;
use super::mapping::{self, MappingForm};
use super::organizations::{self, Choice};
use super::shell::{self, Shell};
use crate::failures::feed::{self, CALLBACK, Channel, NewChannel};
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Path, Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::imports::{self, Kind, Mapping};
use crate::operators::{Caller, Permission};

pub(super) fn endpoints() -> Vec<Endpoint> {
    let read = Access::Page(Permission::SettlementsRead);
    let write = Access::Page(Permission::SettlementsWrite);
    vec![
        Endpoint::get("/channels", read, "", list),
        Endpoint::post("/channels", write, "", create),
        Endpoint::get("/channels/{id}", read, "", show),
        Endpoint::post("/channels/{id}/mapping", write, "", save),
        Endpoint::post("/channels/{id}/secret", write, "", renew),
        Endpoint::post("/channels/{id}/delete", write, "", delete),
    ]
}

struct Row {
    id: i64,
    name: String,
    path: String,
    last: String,
    by: String,
}

#[derive(Template)]
#[template(path = "channels.html")]
struct ChannelsPage {
    shell: Shell,
    rows: Vec<Row>,
    next: Option<String>,
    organizations: Vec<Choice>,
    may_write: bool,
}

async fn list(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(page): Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let (size, after) = (page.size()?, page.after::<i64>()?);
    let scope = caller.scope.clone();
    let rows = state.db.read(move |conn| feed::list(conn, &scope, after, size + 1)).await?;
    let page = Page::from_rows(rows, size, |channel| channel.id);
    let tree = organizations::within(&state, caller.scope).await?;
    let row = |channel: Channel| Row {
        last: last(&shell, &channel),
        id: channel.id,
        name: channel.name,
        path: channel.callback_path,
        by: channel.created_by,
    };
    shell::ok(&ChannelsPage {
        next: page.next.map(|cursor| format!("/channels?{}", query_pair("after", &cursor))),
        rows: page.items.into_iter().map(row).collect(),
        organizations: organizations::choices(&tree, Some(caller.organization_id)),
        may_write: shell.may(Permission::SettlementsWrite),
        shell,
    })
}

fn last(shell: &Shell, channel: &Channel) -> String {
    channel.last_row_at_ms.map_or_else(|| shell.say("feed-channel-never"), |at_ms| shell.moments.ago(at_ms))
}

#[derive(Template)]
#[template(path = "channel.html")]
struct ChannelPage {
    id: i64,
    name: String,
    call: String,
    facts: Vec<(String, String)>,
    secret: Option<String>,
    form: MappingForm,
    may_write: bool,
    shell: Shell,
}

async fn show(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<i64>,
) -> Result<HttpResponse, Problem> {
    page(shell, &state, caller, id, None).await
}

async fn page(
    shell: Shell,
    state: &State,
    caller: Caller,
    id: i64,
    secret: Option<String>,
) -> Result<HttpResponse, Problem> {
    let (channel, mapping) = state
        .db
        .read(move |conn| {
            let channel = feed::find(conn, &caller.scope, id)?;
            let source = format!("{id}{CALLBACK}");
            let home = channel.organization_id;
            let mapping = imports::saved_mapping(conn, &caller.scope, Kind::ChannelFeed, home, &source)?;
            Ok::<_, Problem>((channel, mapping))
        })
        .await?;
    let mapping =
        mapping.unwrap_or_else(|| Mapping { utc_offset_min: imports::mapping::china_min(), ..Mapping::default() });
    shell::ok(&ChannelPage {
        id,
        call: format!(
            "POST {}\nX-Tillward-Timestamp: 1795341900\nX-Tillward-Signature: hex(HMAC-SHA256(secret, \"1795341900.\" + body))",
            channel.callback_path
        ),
        facts: vec![
            (shell.say("feed-channel-last"), last(&shell, &channel)),
            (shell.say("feed-import-by"), channel.created_by.clone()),
            (shell.say("feed-import-at"), shell.moments.absolute(channel.created_at_ms)),
        ],
        name: channel.name,
        secret,
        form: mapping::of_paths(&shell, Kind::ChannelFeed.intake().fields(), &mapping),
        may_write: shell.may(Permission::SettlementsWrite),
        shell,
    })
}

async fn create(
    shell: Shell,
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Form(new): Form<NewChannel>,
) -> Result<HttpResponse, Problem> {
    let now = state.clock.now();
    let acting = caller.clone();
    let made = state.db.write(move |conn| feed::create(conn, &acting, &actor, new, now)).await?;
    // The one page that has the secret on it; no address leads back to it.
    page(shell, &state, caller, made.channel.id, Some(made.secret)).await
}

async fn save(
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<i64>,
    Form(sent): Form<BTreeMap<String, String>>,
) -> Result<HttpResponse, Problem> {
    let now = state.clock.now();
    state
        .db
        .write(move |conn| {
            let channel = feed::find(conn, &caller.scope, id)?;
            let mapping = mapping::sent(&sent, Kind::ChannelFeed.intake().fields(), &Mapping::default())?;
            let source = format!("{id}{CALLBACK}");
            let home = channel.organization_id;
            imports::save_mapping(conn, &caller.scope, Kind::ChannelFeed, home, &source, &mapping, now)?;
            Ok::<_, Problem>(())
        })
        .await?;
    Ok(shell::see_other(&format!("/channels/{id}?done=mapping_saved")))
}

/// Nothing but the token.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

async fn renew(
    shell: Shell,
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Path(id): Path<i64>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<HttpResponse, Problem> {
    let now = state.clock.now();
    let scope = caller.scope.clone();
    let made = state.db.write(move |conn| feed::renew_secret(conn, &actor, &scope, id, now)).await?;
    page(shell, &state, caller, id, Some(made.secret)).await
}

async fn delete(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Path(id): Path<i64>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<HttpResponse, Problem> {
    let now = state.clock.now();
    state.db.write(move |conn| feed::delete(conn, &actor, &caller.scope, id, now)).await?;
    Ok(shell::see_other("/channels?done=feed_channel_deleted"))
}
