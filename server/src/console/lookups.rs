//! Evidence: what people looked up about transactions, how much that covers, and the way to one transaction.

use actix_web::{HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::evidence_pack::address;
use super::form::Form;
use super::pack_words::{self, Words};
use super::shell::{self, Shell};
use super::sign_in::Nothing;
use super::status::{Status, Tone};
use crate::failures::classify::{Standing, Verdict};
use crate::failures::lookups::{self, COVERAGE_MS, Coverage, Filter, Lookup, NOTE_CHARS_MAX, NewLookup, Source};
use crate::http::State;
use crate::http::auth::Acting;
use crate::http::body::{Path, Query, query_pair};
use crate::http::endpoints::{Access, Endpoint};
use crate::http::page::{Page, PageQuery};
use crate::http::problem::Problem;
use crate::operators::{Caller, Permission};
use crate::payments::{self, Payment};
use crate::terminals;
use crate::terminals::fields::clean_id;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let write = Access::Page(Permission::FailuresWrite);
    vec![
        Endpoint::get("/lookups", Access::Page(Permission::FailuresRead), "", list),
        Endpoint::post("/lookups", write, "", add),
        Endpoint::post("/lookups/{id}/withdraw", write, "", withdraw),
    ]
}

/// Payments of a terminal that are listed.
const PAYMENTS_MAX: u32 = 50;

#[derive(Debug, Clone, Default, Deserialize)]
struct LookupQuery {
    #[serde(default)]
    sn: String,
    #[serde(default)]
    ref_no: String,
    #[serde(default)]
    after: Option<String>,
}

struct Row {
    id: String,
    at: String,
    sn: String,
    href: Option<String>,
    level: String,
    source: String,
    merchant: String,
    status: Status,
    by: String,
    looked_up: String,
}

struct PaymentRow {
    at: String,
    href: String,
    sn: String,
    kind: String,
    amount: String,
    numbers: String,
    merchant: String,
}

#[derive(Template)]
#[template(path = "lookups.html")]
struct LookupsPage {
    shell: Shell,
    covered: Vec<String>,
    sn: String,
    ref_no: String,
    is_filtered: bool,
    payments: Vec<PaymentRow>,
    rows: Vec<Row>,
    next: Option<String>,
    sources: Vec<(&'static str, String)>,
    may_write: bool,
    note_chars_max: usize,
    now_field: String,
}

struct Read {
    coverage: Coverage,
    payments: Vec<Payment>,
    lookups: Vec<Lookup>,
}

async fn list(
    shell: Shell,
    state: web::Data<State>,
    caller: Caller,
    Query(query): Query<LookupQuery>,
) -> Result<HttpResponse, Problem> {
    let page = PageQuery { after: query.after.clone(), size: None };
    let (size, before) = (page.size()?, page.after::<String>()?);
    let (sn, ref_no) = (clean_id(&query.sn), clean_id(&query.ref_no));
    let now = shell.moments.now();
    let (wanted_sn, wanted_ref) = (sn.clone(), ref_no.clone());
    let read = state
        .db
        .read(move |conn| {
            let scope = &caller.scope;
            let terminal_id = match wanted_sn.as_str() {
                "" => None,
                sn => Some(terminals::id_of_sn(conn, scope, sn)?.unwrap_or_default()),
            };
            let filter = Filter { terminal_id, ..Filter::default() };
            let asked = payments::Filter {
                terminal_id,
                ref_no: Some(wanted_ref).filter(|ref_no| !ref_no.is_empty()),
                ..payments::Filter::default()
            };
            let is_asked = asked != payments::Filter::default();
            Ok::<_, Problem>(Read {
                coverage: lookups::coverage(conn, scope, now.0 - COVERAGE_MS, now.0 + 1)?,
                payments: match is_asked {
                    true => payments::list(conn, scope, &asked, None, PAYMENTS_MAX)?,
                    false => Vec::new(),
                },
                lookups: lookups::list(conn, scope, &filter, before.as_deref(), size + 1)?,
            })
        })
        .await?;
    let found = Page::from_rows(read.lookups, size, |lookup| lookup.id.clone());
    let words = Words { language: shell.language, moments: shell.moments.clone() };
    let Coverage { levels, transactions, .. } = &read.coverage;
    let next = |cursor: &str| format!("/lookups?{}&{}", query_pair("sn", &sn), query_pair("after", cursor));
    shell::ok(&LookupsPage {
        covered: levels
            .iter()
            .map(|level| pack_words::covered(&words, &level.level, level.checked, *transactions))
            .collect(),
        is_filtered: !(sn.is_empty() && ref_no.is_empty()),
        next: found.next.as_deref().map(next),
        rows: found.items.into_iter().map(|lookup| row(&shell, lookup)).collect(),
        payments: read.payments.into_iter().map(|payment| payment_row(&shell, payment)).collect(),
        sources: Source::ALL.map(|source| (source.as_str(), shell.word("lookup-source", source.as_str()))).into(),
        may_write: shell.may(Permission::FailuresWrite),
        note_chars_max: NOTE_CHARS_MAX,
        now_field: shell.moments.field(now.0),
        sn,
        ref_no,
        shell,
    })
}

fn row(shell: &Shell, lookup: Lookup) -> Row {
    let merchant: Vec<String> = [lookup.merchant_name, lookup.merchant_no, lookup.mcc].into_iter().flatten().collect();
    Row {
        at: shell.moments.absolute(lookup.at_ms),
        href: lookup.event_id.as_deref().map(|event_id| address(&lookup.sn, event_id)),
        status: status(shell, lookup.judgement.verdict.as_ref(), lookup.judgement.not_checked.is_empty()),
        source: shell.word("lookup-source", &lookup.source),
        level: lookup.level,
        merchant: merchant.join(" · "),
        by: lookup.created_by,
        looked_up: shell.moments.absolute(lookup.looked_up_at_ms),
        sn: lookup.sn,
        id: lookup.id,
    }
}

/// What a look-up shows: the bound merchant, another one (to be verified), or nothing that could be compared.
fn status(shell: &Shell, verdict: Option<&Verdict>, is_checked: bool) -> Status {
    let (tone, name) = match verdict.map(|verdict| verdict.standing) {
        Some(Standing::Proven) => (Tone::Bad, "differs"),
        Some(Standing::Suspected | Standing::Review) => (Tone::Warning, "suspected"),
        None if is_checked => (Tone::Good, "same"),
        None => (Tone::Quiet, "not_comparable"),
    };
    Status { tone, word: shell.word("lookup-shows", name) }
}

fn payment_row(shell: &Shell, payment: Payment) -> PaymentRow {
    let yuan = format!("{}.{:02}", payment.amount_fen / 100, payment.amount_fen % 100);
    let numbers: Vec<String> = [payment.batch_no, payment.trace_no, payment.ref_no].into_iter().flatten().collect();
    PaymentRow {
        at: shell.moments.absolute(payment.at_ms),
        href: address(&payment.sn, &payment.event_id),
        kind: shell.word("transaction", &payment.transaction_type),
        amount: shell.with("failure-yuan", "yuan", yuan),
        numbers: numbers.join(" · "),
        merchant: payment.merchant_no_sent.unwrap_or_default(),
        sn: payment.sn,
    }
}

/// The form as it is typed: moments in the console's zone, the amount in yuan.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Typed {
    sn: String,
    #[serde(default)]
    event_id: Option<String>,
    #[serde(default)]
    at: Option<String>,
    #[serde(default)]
    amount: Option<String>,
    #[serde(default)]
    ref_no: Option<String>,
    source: Source,
    #[serde(default)]
    merchant_name: Option<String>,
    #[serde(default)]
    merchant_no: Option<String>,
    #[serde(default)]
    mcc: Option<String>,
    #[serde(default)]
    note: String,
}

async fn add(
    shell: Shell,
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Form(typed): Form<Typed>,
) -> Result<HttpResponse, Problem> {
    let at_ms = match typed.at.as_deref() {
        None => None,
        Some(text) => {
            let at_ms = shell.moments.of_field(text);
            Some(at_ms.ok_or_else(|| Problem::invalid("at_ms", "is not a moment of this form"))?)
        }
    };
    let amount_fen = typed.amount.as_deref().map(fen).transpose()?;
    let new = NewLookup {
        sn: typed.sn,
        event_id: typed.event_id,
        at_ms,
        amount_fen,
        ref_no: typed.ref_no,
        source: typed.source,
        merchant_name: typed.merchant_name,
        merchant_no: typed.merchant_no,
        mcc: typed.mcc,
        looked_up_at_ms: None,
        note: typed.note,
    };
    let now = state.clock.now();
    let made = state.db.write(move |conn| lookups::add(conn, &caller, &actor, new, now)).await?;
    let back = match &made.event_id {
        Some(event_id) => format!("{}?done=lookup", address(&made.sn, event_id)),
        None => "/lookups?done=lookup".to_owned(),
    };
    Ok(shell::see_other(&back))
}

/// `61.81` yuan in fen, without a detour over fractions.
fn fen(text: &str) -> Result<i64, Problem> {
    let refused = || Problem::invalid("amount_fen", "is not an amount in yuan");
    let (yuan, rest) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if yuan.is_empty() || yuan.len() > 9 || rest.len() > 2 || !is_number(yuan) || !is_number(rest) {
        return Err(refused());
    }
    let (yuan, rest): (i64, i64) =
        (yuan.parse().map_err(|_| refused())?, format!("{rest:0<2}").parse().map_err(|_| refused())?);
    Ok(yuan * 100 + rest)
}

async fn withdraw(
    state: web::Data<State>,
    Acting { caller, actor }: Acting,
    Path(id): Path<String>,
    Form(Nothing {}): Form<Nothing>,
) -> Result<HttpResponse, Problem> {
    let now = state.clock.now();
    state.db.write(move |conn| lookups::withdraw(conn, &caller, &actor, &id, now)).await?;
    Ok(shell::see_other("/lookups?done=lookup_withdrawn"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yuan_become_fen_exactly() {
        for (text, expected) in
            [("61.81", 6_181), ("0.1", 10), ("99", 9_900), ("0.29", 29), ("999999999.99", 99_999_999_999)]
        {
            assert_eq!(fen(text).unwrap(), expected, "{text}");
        }
        for bad in ["", ".5", "1.234", "-1", "1,000", "1e3", "1234567890", "１"] {
            assert!(fen(bad).is_err(), "{bad}");
        }
    }
}
