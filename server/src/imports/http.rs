//! REST of imports.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use serde::{Deserialize, Serialize};

use super::{Error, FILE_BYTES_MAX, Import, Kind, Mapping, Preview, Start, Upload};
use crate::audit;
use crate::db;
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{self, Json, Path, Query};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::{Problem, sentence};
use crate::operators::{Caller, Permission};

const READ: Access = Access::Operator(Permission::SettlementsRead);
const WRITE: Access = Access::Operator(Permission::SettlementsWrite);

/// This domain's rows of the endpoint table.
pub fn endpoints() -> Vec<Endpoint> {
    let one = |endpoint: Endpoint| endpoint.returns::<Import>(200, "The import as it is now");
    vec![
        Endpoint::post(
            "/api/v1/imports",
            WRITE,
            "Takes a file of payments or failures (CSV in UTF-8 or GB18030, or XLSX; 64 MiB, 200,000 rows) and begins",
            upload,
        )
        .query::<UploadQuery>()
        .body_file("application/octet-stream", "The file, with a row of headings")
        .returns::<Import>(202, "The import; ask for it again to see its progress"),
        Endpoint::get("/api/v1/imports", READ, "Imports of your organizations, newest first", list)
            .query::<ListQuery>()
            .returns::<Page<Import>>(200, "A page of imports"),
        one(Endpoint::get("/api/v1/imports/{id}", READ, "One import with its progress", get)),
        Endpoint::get("/api/v1/imports/{id}/preview", READ, "The first rows as the mapping reads them", preview)
            .returns::<Preview>(200, "Up to ten rows"),
        one(Endpoint::post("/api/v1/imports/{id}/start", WRITE, "Starts a held or tried import", start)
            .body::<StartBody>()),
        one(Endpoint::post("/api/v1/imports/{id}/cancel", WRITE, "Gives an import up; what is in stays", cancel)),
        Endpoint::get("/api/v1/imports/{id}/errors.csv", READ, "The refused rows with their lines and reasons", errors)
            .returns_empty(200, "CSV in UTF-8 with a byte order mark"),
        Endpoint::get("/api/v1/import-mappings", READ, "How a source writes, as it was saved last", mapping)
            .query::<MappingQuery>()
            .returns::<Mapping>(200, "The mapping"),
        Endpoint::post("/api/v1/import-mappings", WRITE, "Saves how a source writes", save_mapping)
            .query::<MappingQuery>()
            .body::<Mapping>()
            .returns::<Mapping>(200, "The mapping"),
    ]
}

/// What is sent, and what shall become of it.
#[derive(Debug, Clone, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct UploadQuery {
    /// What the file holds.
    kind: Kind,
    /// For a channel feed the channel's number.
    #[serde(default)]
    source: String,
    /// Organization of the rows where the source does not say; the caller's own when absent.
    organization_id: Option<i64>,
    /// Name of the file.
    #[serde(default)]
    file_name: String,
    /// `import` at once, `try` only, or `hold` until it is started; `import` when absent.
    #[serde(default)]
    #[param(inline)]
    start: Start,
}

/// Which imports.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// `next` of the page before.
    #[serde(default)]
    after: Option<String>,
    /// Rows on the page, 1–100; 20 when absent.
    #[serde(default)]
    size: Option<u32>,
    /// Only of this kind.
    kind: Option<Kind>,
}

/// Whose mapping.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct MappingQuery {
    /// What the files hold; a channel feed when absent.
    kind: Option<Kind>,
    /// For a channel feed the channel's number.
    #[serde(default)]
    source: String,
    /// Organization where the source does not say; the caller's own when absent.
    organization_id: Option<i64>,
}

/// How to start.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ImportStartBody)]
struct StartBody {
    /// Only judge the rows.
    #[serde(default)]
    dry_run: bool,
    /// How the file is read; as it was uploaded or tried when absent.
    #[serde(default)]
    mapping: Option<Mapping>,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::not_found(),
            Error::Invalid(error) => error.into(),
            Error::Conflict(_) => Self::conflict(sentence(&error)),
            Error::Blob(_) => Self::internal(&error),
            Error::Db(error) => error.into(),
        }
    }
}

async fn upload(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Query(asked): Query<UploadQuery>,
    request: HttpRequest,
    mut payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let _turn = state.imports.take()?;
    let file = body::read(request.headers(), &mut payload, FILE_BYTES_MAX).await?;
    let asked = Upload {
        kind: asked.kind,
        source: asked.source,
        organization_id: asked.organization_id.unwrap_or(caller.organization_id),
        file_name: asked.file_name,
        start: asked.start,
    };
    let now = state.clock.now();
    let import = super::upload(&state.db, &state.signing.blobs, &caller, actor, asked, file, now).await?;
    state.import_jobs.wake();
    Ok(HttpResponse::Accepted().json(import))
}

async fn list(
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<web::Json<Page<Import>>, Problem> {
    let page = PageQuery { after: query.after, size: query.size };
    let (size, before) = (page.size()?, page.after::<String>()?);
    let read = move |conn: &mut db::Conn| super::list(conn, &caller.scope, query.kind, before.as_deref(), size + 1);
    let rows = state.db.read(read).await?;
    Ok(web::Json(Page::from_rows(rows, size, |import| import.id.clone())))
}

async fn get(state: web::Data<State>, caller: Caller, Path(id): Path<String>) -> Result<web::Json<Import>, Problem> {
    Ok(web::Json(state.db.read(move |conn| super::find(conn, &caller.scope, &id)).await?))
}

async fn preview(
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<web::Json<Preview>, Problem> {
    Ok(web::Json(super::preview(&state.db, &state.signing.blobs, caller.scope, id, None).await?))
}

async fn start(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Path(id): Path<String>,
    Json(asked): Json<StartBody>,
) -> Result<web::Json<Import>, Problem> {
    let now = state.clock.now();
    let write =
        move |conn: &mut db::Conn| super::start(conn, &actor, &caller.scope, &id, asked.mapping, asked.dry_run, now);
    let import = state.db.write(write).await?;
    state.import_jobs.wake();
    Ok(web::Json(import))
}

async fn cancel(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Path(id): Path<String>,
) -> Result<web::Json<Import>, Problem> {
    let now = state.clock.now();
    Ok(web::Json(state.db.write(move |conn| super::cancel(conn, &actor, &caller.scope, &id, now)).await?))
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
            Ok::<_, Error>((export, super::errors_after(conn, &scope, &id, -1)?))
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
                Err(error) => Some((Err(cut(&error)), (state, None, false))),
            }
        }
    });
    Ok(HttpResponse::Ok()
        .content_type("text/csv; charset=utf-8")
        .insert_header((header::CONTENT_DISPOSITION, "attachment; filename=\"refused-rows.csv\""))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .streaming(blocks))
}

fn cut(error: &Error) -> db::Error {
    tracing::warn!(%error, "the refused rows could not be read to the end");
    db::Error::Closed
}

async fn mapping(
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<MappingQuery>,
) -> Result<web::Json<Mapping>, Problem> {
    let organization_id = query.organization_id.unwrap_or(caller.organization_id);
    let kind = query.kind.unwrap_or(Kind::ChannelFeed);
    let read =
        move |conn: &mut db::Conn| super::saved_mapping(conn, &caller.scope, kind, organization_id, &query.source);
    Ok(web::Json(state.db.read(read).await?.ok_or_else(Problem::not_found)?))
}

async fn save_mapping(
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<MappingQuery>,
    Json(mapping): Json<Mapping>,
) -> Result<web::Json<Mapping>, Problem> {
    let organization_id = query.organization_id.unwrap_or(caller.organization_id);
    let kind = query.kind.unwrap_or(Kind::ChannelFeed);
    let now = state.clock.now();
    let saved = mapping.clone();
    let write = move |conn: &mut db::Conn| {
        super::save_mapping(conn, &caller.scope, kind, organization_id, &query.source, &mapping, now)
    };
    state.db.write(write).await?;
    Ok(web::Json(saved))
}
