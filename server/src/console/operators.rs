//! Accounts of the caller's organizations.

use actix_web::{HttpResponse, web};
use askama::Template;

use super::form::Form;
use super::organizations::{self, Choice};
use super::shell::{self, Shell};
use super::status::Status;
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::operators::{self, Caller, NewOperator, Permission, Role};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/operators", Access::Page(Permission::OperatorsRead), "", list),
        Endpoint::post("/operators", Access::Page(Permission::OperatorsWrite), "", create),
    ]
}

struct Row {
    name: String,
    login: String,
    role: String,
    organization: String,
    status: Status,
    since: String,
    since_at: String,
}

#[derive(Template)]
#[template(path = "operators.html")]
struct OperatorsPage {
    shell: Shell,
    rows: Vec<Row>,
    next: Option<String>,
    may_create: bool,
    organizations: Vec<Choice>,
    roles: Vec<Choice>,
}

async fn list(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let size = query.size()?;
    let found = operators::list(&state.db, &caller.scope, query.after::<i64>()?, size + 1).await?;
    let page = Page::from_rows(found, size, |operator| operator.id);
    let tree = organizations::within(&state, caller.scope.clone()).await?;
    let name_of = |id: i64| tree.iter().find(|organization| organization.id == id).map(|found| found.name.clone());
    let rows = page.items.into_iter().map(|operator| Row {
        role: shell.word("role", operator.role.as_str()),
        organization: name_of(operator.organization_id).unwrap_or_default(),
        status: organizations::status_of(&shell, operator.status.as_str()),
        since: shell.moments.ago(operator.created_at_ms),
        since_at: shell.moments.absolute(operator.created_at_ms),
        name: operator.name,
        login: operator.login,
    });
    let rows = rows.collect();
    let next = page.next.map(|cursor| format!("/operators?{}", query_pair("after", &cursor)));
    let grantable = Role::ALL.into_iter().filter(|role| caller.role.may_grant(*role));
    let roles = grantable.map(|role| Choice {
        value: role.as_str().to_owned(),
        word: shell.word("role", role.as_str()),
        is_chosen: false,
    });
    let roles = roles.collect();
    let may_create = shell.may(Permission::OperatorsWrite);
    let organizations = organizations::choices(&tree, Some(caller.organization_id));
    shell::ok(&OperatorsPage { rows, next, may_create, organizations, roles, shell })
}

async fn create(
    state: web::Data<State>,
    acting: Acting,
    Form(new): Form<NewOperator>,
) -> Result<HttpResponse, Problem> {
    let Acting { caller, actor } = acting;
    operators::create(&state.db, &caller, &actor, new, state.clock.now()).await?;
    Ok(shell::see_other("/operators?done=operator"))
}
