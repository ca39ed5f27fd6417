//! What is said about the settlements of a transaction: what was said when they were compared, and where nobody has compared
//! them yet, what the rules say with the same binding, contract and numbers.

use super::content::{Judged, Outcome, Transaction};
use super::store::{self, Found};
use crate::db::{self, Conn};
use crate::failures::classify::{
    self, EvidenceLevel, FeedRow, FeedStatus, NumberKnown, SecondOrder, SettlementFacts, Tables, TerminalSide,
    judge_settlement,
};
use crate::failures::contracts::{self, Contracts};
use crate::operators::Scope;
use crate::terminals::bindings::Binding;

/// What a transaction is compared with.
pub(super) struct Compared {
    /// Organization whose the transaction is, as a path.
    org_path: String,
    /// The binding of that moment.
    pub(super) then: Option<Binding>,
    /// The same with the merchant's contract and numbers.
    pub(super) binding: Option<classify::Binding>,
    contracts: Contracts,
}

impl Compared {
    /// Reads it, as far as the scope may know. Four statements.
    pub(super) fn read(
        conn: &mut Conn,
        scope: &Scope,
        (terminal_id, org_path, at_ms): (i64, &str, i64),
        rows: &[Found],
    ) -> Result<Self, db::Error> {
        let then = contracts::bound_at(conn, scope, terminal_id, at_ms)?;
        let bound: Vec<String> = then.iter().map(|then| then.merchant_no.clone()).collect();
        let settled: Vec<String> = rows.iter().filter_map(|row| row.settled.merchant_no.clone()).collect();
        let contracts = Contracts::read(conn, &bound, &settled)?;
        let binding = then.as_ref().map(|then| contracts.binding(then, org_path, at_ms));
        Ok(Self { org_path: org_path.to_owned(), then, binding, contracts })
    }

    fn number_known(&self, row: &Found) -> Option<NumberKnown> {
        let bound_no = &self.binding.as_ref()?.merchant_no;
        let settled = row.settled.merchant_no.as_deref()?;
        self.contracts.number_known(bound_no, settled, &self.org_path, &row.home)
    }
}

/// What is said about each of these settlements. One statement.
pub(super) fn judged(
    conn: &mut Conn,
    terminal_id: i64,
    rows: &[Found],
    compared: &Compared,
    transaction: &Transaction,
    tables: &Tables,
) -> Result<Vec<Judged>, db::Error> {
    let items: Vec<String> = rows.iter().map(Found::item).collect();
    let mut said = store::said(conn, terminal_id, &items)?;
    let mut judged = Vec::with_capacity(rows.len());
    for row in rows {
        judged.push(match said.remove(&row.item()) {
            Some((judgement, tables_hash)) => Judged { level: Some(EvidenceLevel::L1), judgement, tables_hash },
            None => judge(row, compared, transaction, tables),
        });
    }
    Ok(judged)
}

/// What the rules say about a channel's record of it.
fn judge(found: &Found, compared: &Compared, transaction: &Transaction, tables: &Tables) -> Judged {
    let row = &found.settled;
    let orders = row.second_orders.iter().map(|(kind, fen)| SecondOrder { kind: kind.clone(), amount_fen: *fen });
    let facts = SettlementFacts {
        row: Some(FeedRow {
            status: FeedStatus::Success,
            merchant_no: row.merchant_no.clone(),
            merchant_name: row.merchant_name.clone(),
            mcc_cleared: row.mcc.clone(),
            amount_fen: Some(row.amount_fen),
            settle_amount_fen: row.settle_fen,
            fee_fen: row.fee_fen,
            withdraw_fee_fen: row.withdraw_fen,
            rate_ppm: row.rate_ppm,
            capped: row.capped,
            second_orders: row.says_second_orders.then(|| orders.collect()),
            success_at_ms: Some(row.at_ms),
        }),
        level: Some(EvidenceLevel::L1),
        number_known: compared.number_known(found),
        binding: compared.binding.clone(),
        merchant_no_sent: transaction.merchant_no_sent.clone(),
        terminal: match transaction.outcome {
            Outcome::Succeeded => Some(TerminalSide::Succeeded),
            Outcome::Failed => Some(TerminalSide::Failed(None)),
        },
        ..SettlementFacts::default()
    };
    let judgement = judge_settlement(&facts, tables);
    Judged { level: Some(EvidenceLevel::L1), judgement, tables_hash: tables.version.clone() }
}
