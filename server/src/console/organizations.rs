//! The organization tree.

use actix_web::{HttpResponse, web};
use askama::Template;

use super::form::Form;
use super::shell::{self, Shell};
use super::status::{Status, Tone};
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{PAGE_SIZE_MAX, Page, PageQuery};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission, Scope};
use crate::organizations::{self, NewOrganization, Organization};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/organizations", Access::Page(Permission::OrganizationsRead), "", list),
        Endpoint::post("/organizations", Access::Page(Permission::OrganizationsWrite), "", create),
    ]
}

/// Deepest level that is still indented further.
const DEPTH_MAX: i64 = 5;
/// Most organizations that a choice on a form offers.
const CHOICES_MAX: u32 = 1_000;

struct Row {
    id: i64,
    depth: i64,
    name: String,
    short_code: String,
    region: String,
    status: Status,
}

#[derive(Template)]
#[template(path = "organizations.html")]
struct OrganizationsPage {
    shell: Shell,
    rows: Vec<Row>,
    next: Option<String>,
    may_create: bool,
}

async fn list(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let after: Option<String> = query.after()?;
    let own_depth = depth_of(caller.scope.from());
    let size = PAGE_SIZE_MAX;
    let found = state.db.read(move |conn| organizations::list(conn, &caller.scope, after.as_deref(), size + 1)).await?;
    let page = Page::from_rows(found, size, |organization| organization.path.clone());
    let rows = page.items.into_iter().map(|organization| Row {
        id: organization.id,
        depth: (depth_of(&organization.path) - own_depth + 1).clamp(1, DEPTH_MAX),
        status: status_of(&shell, organization.status.as_str()),
        name: organization.name,
        short_code: organization.short_code,
        region: organization.region.unwrap_or_default(),
    });
    let rows = rows.collect();
    let next = page.next.map(|cursor| format!("/organizations?{}", query_pair("after", &cursor)));
    let may_create = shell.may(Permission::OrganizationsWrite);
    shell::ok(&OrganizationsPage { rows, next, may_create, shell })
}

fn depth_of(path: &str) -> i64 {
    i64::try_from(path.matches('/').count()).unwrap_or(DEPTH_MAX)
}

/// Of an organization or an account: in use or not.
pub(super) fn status_of(shell: &Shell, name: &str) -> Status {
    let tone = if name == "active" { Tone::Good } else { Tone::Quiet };
    Status { tone, word: shell.word("status", name) }
}

async fn create(
    state: web::Data<State>,
    acting: Acting,
    Form(new): Form<NewOrganization>,
) -> Result<HttpResponse, Problem> {
    let Acting { caller, actor } = acting;
    organizations::create(&state.db, &caller.scope, &actor, new, state.clock.now()).await?;
    Ok(shell::see_other("/organizations?done=organization"))
}

/// One entry of a choice.
pub(super) struct Choice {
    pub(super) value: String,
    pub(super) word: String,
    pub(super) is_chosen: bool,
}

/// The organizations of `scope` in the order of the tree, for a choice on a form.
///
/// # Errors
/// 503 or 500 when the database fails.
pub(super) async fn within(state: &State, scope: Scope) -> Result<Vec<Organization>, Problem> {
    Ok(state.db.read(move |conn| organizations::list(conn, &scope, None, CHOICES_MAX)).await?)
}

/// The part of `scope` that a filter names by the number of an organization; all of it where it names none.
///
/// # Errors
/// 422 for what is no organization of the caller's.
pub(super) async fn narrowed(state: &State, scope: Scope, id: &str) -> Result<Scope, Problem> {
    let id = match id.trim() {
        "" => return Ok(scope),
        id => id.parse().map_err(|_| Problem::invalid("organization_id", "is not a number"))?,
    };
    let found = state.db.read(move |conn| organizations::part(conn, &scope, id)).await?;
    found.ok_or_else(|| Problem::invalid("organization_id", "is not an organization of yours"))
}

/// Their choice, indented as the tree is.
pub(super) fn choices(organizations: &[Organization], chosen: Option<i64>) -> Vec<Choice> {
    let top = organizations.first().map_or(0, |organization| organization.level);
    let choice = |organization: &Organization| {
        let depth = usize::try_from(organization.level - top).unwrap_or(0);
        Choice {
            value: organization.id.to_string(),
            word: format!("{}{}", "\u{3000}".repeat(depth), organization.name),
            is_chosen: chosen == Some(organization.id),
        }
    };
    organizations.iter().map(choice).collect()
}

/// Names of the organizations on `path`, from the caller's own downwards.
pub(super) fn chain(organizations: &[Organization], path: &str) -> Vec<String> {
    let above = organizations.iter().filter(|organization| path.starts_with(&organization.path));
    above.map(|organization| organization.name.clone()).collect()
}
