//! REST of imports.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;

use super::{Error, FILE_BYTES_MAX, Imported, Request};
use crate::audit::{self, Actor};
use crate::db;
use crate::http::auth::Acting;
use crate::http::body::{self, Path, Query};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::problem::Problem;
use crate::http::{RequestId, State};
use crate::operators::{Caller, Permission};

/// This part's rows of the endpoint table.
pub(in crate::terminals) fn endpoints() -> Vec<Endpoint> {
    let write = Access::Operator(Permission::TerminalsWrite);
    vec![
        Endpoint::post(
            "/api/v1/terminals/import",
            write,
            "Registers terminals from a CSV file (UTF-8 or GB18030), 64 MiB and 200,000 rows at most",
            import,
        )
        .query::<ImportQuery>()
        .body_file("text/csv", "The file, with a row of headings")
        .returns::<Imported>(200, "What became of the rows"),
        Endpoint::get(
            "/api/v1/terminals/imports/{id}/errors.csv",
            write,
            "The refused rows of an import with their reasons",
            errors,
        )
        .returns_empty(200, "CSV in UTF-8 with a byte order mark"),
    ]
}

/// How to import.
#[derive(Debug, Clone, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ImportQuery {
    /// Only say what would become of the rows.
    #[serde(default)]
    dry_run: bool,
    /// The organization of rows that name none; the caller's own when absent.
    organization_id: Option<i64>,
    /// The model of files without that column.
    model: Option<String>,
}

async fn import(
    state: web::Data<State>,
    caller: Caller,
    request_id: web::ReqData<RequestId>,
    Query(asked): Query<ImportQuery>,
    request: HttpRequest,
    mut payload: web::Payload,
) -> Result<web::Json<Imported>, Problem> {
    let _turn = state.imports.take()?;
    let file = body::read(request.headers(), &mut payload, FILE_BYTES_MAX).await?;
    let actor = Actor::from(&caller).in_request(&request_id.0);
    let asked = Request {
        dry_run: asked.dry_run,
        organization_id: asked.organization_id.unwrap_or(caller.organization_id),
        model: asked.model,
    };
    let now = state.clock.now();
    Ok(web::Json(super::run(&state.db, actor, caller.name, caller.scope, asked, file, now).await?))
}

async fn errors(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Path(id): Path<String>,
) -> Result<HttpResponse, Problem> {
    let scope = caller.scope.clone();
    let (export, first) = {
        let (scope, id) = (scope.clone(), id.clone());
        let read = move |conn: &mut db::Conn| {
            let export = super::errors_export(conn, &scope, &id)?;
            Ok::<_, Error>((export, super::errors_after(conn, &scope, &id, 0)?))
        };
        state.db.read(read).await?
    };
    audit::export(&state.db, &caller, actor, export, state.clock.now()).await?;
    // One block in memory at a time.
    let blocks = stream::unfold((state, first, true), move |(state, block, is_first)| {
        let (id, scope) = (id.clone(), scope.clone());
        async move {
            let (number, csv) = block?;
            let csv = if is_first { format!("\u{feff}{csv}") } else { csv };
            let next = state.db.read(move |conn| super::errors_after(conn, &scope, &id, number)).await;
            match next {
                Ok(next) => Some((Ok(Bytes::from(csv)), (state, next, false))),
                // The connection is cut, so that nobody takes the part for the whole.
                Err(error) => Some((Err(cut(error)), (state, None, false))),
            }
        }
    });
    Ok(HttpResponse::Ok()
        .content_type("text/csv; charset=utf-8")
        .insert_header((header::CONTENT_DISPOSITION, "attachment; filename=\"refused-terminals.csv\""))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .streaming(blocks))
}

fn cut(error: Error) -> db::Error {
    tracing::warn!(%error, "the refused rows could not be read to the end");
    db::Error::Closed
}
