//! REST of the reconciliation.

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use serde::{Deserialize, Serialize};

use super::{DAYS_MAX, Filter, Settlement, SettlementDetail, Summary};
use crate::audit;
use crate::db;
use crate::failures::feed::Result as Shows;
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Json, Path, Query};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::imports::values::{day_of, harmless};
use crate::merchants::numbers::{self, Act, MerchantNumber, NewMerchantNumber, Said};
use crate::operators::{Caller, Permission};

const READ: Access = Access::Operator(Permission::SettlementsRead);
const WRITE: Access = Access::Operator(Permission::SettlementsWrite);
const APPROVE: Access = Access::Operator(Permission::AliasesApprove);

/// Payments in one block of a download.
const BLOCK: u32 = 1_000;

/// This domain's rows of the endpoint table.
pub fn endpoints() -> Vec<Endpoint> {
    let number = |endpoint: Endpoint| endpoint.returns::<MerchantNumber>(200, "The number as it is now");
    vec![
        Endpoint::get("/api/v1/reconciliation", READ, "What payments show, and how much was compared", summary)
            .query::<SummaryQuery>()
            .returns::<Summary>(200, "Counts and coverage"),
        Endpoint::get("/api/v1/settlements", READ, "Payments as channels told them, newest first", list)
            .query::<ListQuery>()
            .returns::<Page<Settlement>>(200, "A page of payments"),
        Endpoint::get("/api/v1/settlements.csv", READ, "The same as CSV for spreadsheets", export)
            .query::<ListQuery>()
            .returns_empty(200, "CSV in UTF-8 with a byte order mark"),
        Endpoint::get("/api/v1/settlements/{id}", READ, "One payment with why it was judged so", get)
            .returns::<SettlementDetail>(200, "The payment"),
        Endpoint::get(
            "/api/v1/merchant-numbers",
            READ,
            "Other numbers of merchants: under review and decided",
            numbers,
        )
        .query::<NumberQuery>()
        .returns::<Page<MerchantNumber>>(200, "A page of numbers"),
        Endpoint::post("/api/v1/merchant-numbers", WRITE, "Asks to approve another number of a merchant", enter)
            .body::<NewMerchantNumber>()
            .returns::<MerchantNumber>(201, "The number, asked for"),
        number(
            Endpoint::post("/api/v1/merchant-numbers/{id}/request", WRITE, "Asks to approve it as an alias", request)
                .body::<Said>(),
        ),
        number(Endpoint::post(
            "/api/v1/merchant-numbers/{id}/approve",
            APPROVE,
            "Approves an alias that somebody else asked for",
            approve,
        )),
        number(
            Endpoint::post(
                "/api/v1/merchant-numbers/{id}/foreign",
                WRITE,
                "Says that it is not the merchant's",
                foreign,
            )
            .body::<Said>(),
        ),
        number(Endpoint::post(
            "/api/v1/merchant-numbers/{id}/reopen",
            APPROVE,
            "Takes a decision back: it is under review again",
            reopen,
        )),
    ]
}

/// Of which time.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct SummaryQuery {
    /// From, Unix ms; with `to_ms`.
    from_ms: Option<i64>,
    /// Before, Unix ms.
    to_ms: Option<i64>,
    /// Days back from now, 1–396; 30 when absent.
    days: Option<i64>,
}

/// Which payments.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// `next` of the page before.
    #[serde(default)]
    after: Option<String>,
    /// Rows on the page, 1–100; 20 when absent.
    #[serde(default)]
    size: Option<u32>,
    /// Only those that show this: `short`, `switched`, `review`, …
    result: Option<String>,
    /// Only of this channel.
    channel_id: Option<i64>,
    /// Only of this terminal.
    terminal_id: Option<i64>,
    /// Only of this serial number.
    sn: Option<String>,
    /// Only settled under this merchant number.
    merchant_no: Option<String>,
    /// At or after, Unix ms.
    from_ms: Option<i64>,
    /// Before, Unix ms.
    to_ms: Option<i64>,
}

impl ListQuery {
    fn filter(&self) -> Result<Filter, Problem> {
        let results = match self.result.as_deref().filter(|name| !name.is_empty()) {
            None => Vec::new(),
            Some(name) => {
                let unknown = || Problem::invalid("result", "is not something that a payment shows");
                vec![Shows::parse(name).ok_or_else(unknown)?]
            }
        };
        Ok(Filter {
            results,
            channel_id: self.channel_id,
            terminal_id: self.terminal_id,
            sn: self.sn.clone(),
            merchant_no: self.merchant_no.clone(),
            from_ms: self.from_ms,
            to_ms: self.to_ms,
        })
    }
}

/// Which numbers.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct NumberQuery {
    /// `next` of the page before.
    #[serde(default)]
    after: Option<String>,
    /// Rows on the page, 1–100; 20 when absent.
    #[serde(default)]
    size: Option<u32>,
    /// Only in this state: `open`, `requested`, `alias` or `foreign`.
    state: Option<String>,
}

async fn summary(
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<SummaryQuery>,
) -> Result<web::Json<Summary>, Problem> {
    let days = query.days.unwrap_or(30);
    if !(1..=DAYS_MAX).contains(&days) {
        return Err(Problem::invalid("days", format!("must be 1 to {DAYS_MAX}")));
    }
    let (from_ms, to_ms) = super::last_days(days, state.clock.now());
    let (from_ms, to_ms) = (query.from_ms.unwrap_or(from_ms), query.to_ms.unwrap_or(to_ms));
    Ok(web::Json(state.db.read(move |conn| super::summary(conn, &caller.scope, from_ms, to_ms)).await?))
}

async fn list(
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<web::Json<Page<Settlement>>, Problem> {
    let filter = query.filter()?;
    let page = PageQuery { after: query.after, size: query.size };
    let (size, after) = (page.size()?, page.after::<(i64, i64)>()?);
    let rows = state.db.read(move |conn| super::list(conn, &caller.scope, &filter, after, size + 1)).await?;
    Ok(web::Json(Page::from_rows(rows, size, |row| (row.at_ms, row.id))))
}

async fn get(
    state: web::Data<State>,
    caller: Caller,
    Path(id): Path<i64>,
) -> Result<web::Json<SettlementDetail>, Problem> {
    let found = state.db.read(move |conn| super::find(conn, &caller.scope, id)).await?;
    Ok(web::Json(found.ok_or_else(Problem::not_found)?))
}

async fn export(
    state: web::Data<State>,
    acting: Acting,
    Query(query): Query<ListQuery>,
) -> Result<HttpResponse, Problem> {
    let filter = query.filter()?;
    download(state, acting, filter).await
}

/// Payments as CSV, a block in memory at a time; who takes them along is noted first.
pub(crate) async fn download(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    filter: Filter,
) -> Result<HttpResponse, Problem> {
    audit::export(&state.db, &caller, actor, filter.export(), state.clock.now()).await?;
    let begin = Some((None, true));
    let blocks = stream::unfold((state, begin), move |(state, place)| {
        let (filter, scope) = (filter.clone(), caller.scope.clone());
        async move {
            let (after, is_first) = place?;
            let read = state.db.read(move |conn| super::list(conn, &scope, &filter, after, BLOCK)).await;
            match read {
                Ok(rows) => {
                    let next =
                        rows.last().filter(|_| u32::try_from(rows.len()) == Ok(BLOCK)).map(|row| (row.at_ms, row.id));
                    let csv = lines(&rows, is_first);
                    Some((Ok(Bytes::from(csv)), (state, next.map(|key| (Some(key), false)))))
                }
                // The connection is cut, so that nobody takes the part for the whole.
                Err(error) => Some((Err::<Bytes, db::Error>(error), (state, None))),
            }
        }
    });
    Ok(HttpResponse::Ok()
        .content_type("text/csv; charset=utf-8")
        .insert_header((header::CONTENT_DISPOSITION, "attachment; filename=\"settlements.csv\""))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .streaming(blocks))
}

/// Headings as people know them; they are understood by an import, too.
const HEADINGS: [&str; 14] = [
    "机具序列号",
    "交易时间",
    "交易状态",
    "交易金额(元)",
    "结算金额(元)",
    "手续费(元)",
    "提现费(元)",
    "商户号",
    "商户名称",
    "MCC",
    "参考号",
    "结果",
    "未核对原因",
    "严重程度",
];

fn lines(rows: &[Settlement], with_headings: bool) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    // Writing to memory does not fail.
    if with_headings {
        let _ = writer.write_record(HEADINGS);
    }
    for row in rows {
        let text = |text: &Option<String>| harmless(text.as_deref().unwrap_or_default());
        let yuan = |fen: Option<i64>| fen.map(yuan).unwrap_or_default();
        // A tab keeps spreadsheets from rounding long numbers.
        let id = |text: &Option<String>| text.as_ref().map(|id| format!("\t{id}")).unwrap_or_default();
        let _ = writer.write_record([
            format!("\t{}", row.sn),
            moment(row.at_ms),
            row.status.clone(),
            yuan(Some(row.amount_fen)),
            yuan(row.settle_fen),
            yuan(row.fee_fen),
            yuan(row.withdraw_fen),
            id(&row.merchant_no),
            text(&row.merchant_name),
            text(&row.mcc),
            id(&row.ref_no),
            row.result.as_str().to_owned(),
            text(&row.lacking),
            row.severity.clone(),
        ]);
    }
    let csv = writer.into_inner().unwrap_or_default();
    if with_headings { [b"\xef\xbb\xbf", csv.as_slice()].concat() } else { csv }
}

/// `-12.30`.
fn yuan(fen: i64) -> String {
    let sign = if fen < 0 { "-" } else { "" };
    let abs = fen.unsigned_abs();
    format!("{sign}{}.{:02}", abs / 100, abs % 100)
}

/// China's time, as the files that come have it.
fn moment(at_ms: i64) -> String {
    const OFFSET_MIN: i64 = 480;
    let of_day_s = (at_ms + OFFSET_MIN * 60_000).rem_euclid(86_400_000) / 1_000;
    let day = day_of(at_ms, OFFSET_MIN);
    format!("{day} {:02}:{:02}:{:02}", of_day_s / 3_600, of_day_s / 60 % 60, of_day_s % 60)
}

async fn numbers(
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<NumberQuery>,
) -> Result<web::Json<Page<MerchantNumber>>, Problem> {
    let wanted = match query.state.as_deref().filter(|name| !name.is_empty()) {
        None => None,
        Some(name) => {
            let unknown = || Problem::invalid("state", "is not a state of a merchant number");
            Some(numbers::State::parse(name).ok_or_else(unknown)?)
        }
    };
    let page = PageQuery { after: query.after, size: query.size };
    let (size, before) = (page.size()?, page.after::<i64>()?);
    let rows = state.db.read(move |conn| numbers::list(conn, &caller.scope, wanted, before, size + 1)).await?;
    Ok(web::Json(Page::from_rows(rows, size, |number| number.id)))
}

async fn enter(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Json(new): Json<NewMerchantNumber>,
) -> Result<HttpResponse, Problem> {
    let now = state.clock.now();
    let made = state.db.write(move |conn| super::enter(conn, &caller, &actor, new, now)).await?;
    Ok(HttpResponse::Created().json(made))
}

async fn request(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Json(said): Json<Said>,
) -> Result<web::Json<MerchantNumber>, Problem> {
    act(&state, acting, id, Act::Request(said)).await
}

async fn approve(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
) -> Result<web::Json<MerchantNumber>, Problem> {
    act(&state, acting, id, Act::Approve).await
}

async fn foreign(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
    Json(said): Json<Said>,
) -> Result<web::Json<MerchantNumber>, Problem> {
    act(&state, acting, id, Act::Foreign(said)).await
}

async fn reopen(
    state: web::Data<State>,
    acting: Acting,
    Path(id): Path<i64>,
) -> Result<web::Json<MerchantNumber>, Problem> {
    act(&state, acting, id, Act::Reopen).await
}

/// One step, and the reconciliation wakes.
pub(crate) async fn act(
    state: &State,
    Acting { caller, actor }: Acting,
    id: i64,
    act: Act,
) -> Result<web::Json<MerchantNumber>, Problem> {
    let now = state.clock.now();
    let number = state.db.write(move |conn| super::decide(conn, &caller, &actor, id, act, now)).await?;
    state.reconciling.wake();
    Ok(web::Json(number))
}
