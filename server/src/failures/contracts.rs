//! What a terminal was bound to, and what is known of that merchant: its contract, its other numbers, whose a number is.
//!
//! Whoever compares a settlement, a look-up or a pack with a binding asks here, so that all of them say the same.

use std::collections::BTreeSet;

use super::classify::{self, NumberKnown};
use crate::db::{self, Conn};
use crate::merchants::numbers::{self, MerchantNumber, State};
use crate::merchants::{self, Merchant};
use crate::operators::Scope;
use crate::terminals::bindings::{self, Binding};

/// The binding that was in force at this moment, if an organization of the scope had the terminal then. One statement.
pub(super) fn bound_at(
    conn: &mut Conn,
    scope: &Scope,
    terminal_id: i64,
    at_ms: i64,
) -> Result<Option<Binding>, db::Error> {
    let known = bindings::of_terminals(conn, &[terminal_id])?;
    Ok(known.into_iter().find(|binding| binding.holds_at(at_ms) && scope.contains(&binding.org_path)))
}

/// Contracts and other numbers of some merchants, over all organizations: each question names whose answer it wants.
pub(super) struct Contracts {
    merchants: Vec<(Merchant, String)>,
    numbers: Vec<MerchantNumber>,
    /// Numbers that settled and that terminals are bound to, with the organizations of these terminals.
    bound: Vec<(String, String)>,
}

impl Contracts {
    /// Reads what is known of these bound numbers and of those that settled. Three statements.
    pub(super) fn read(conn: &mut Conn, bound: &[String], settled: &[String]) -> Result<Self, db::Error> {
        let all: BTreeSet<&String> = bound.iter().chain(settled).collect();
        let all: Vec<String> = all.into_iter().cloned().collect();
        Ok(Self {
            merchants: merchants::of_numbers(conn, &Scope::everything(), &all)?,
            numbers: numbers::of_bound(conn, bound)?,
            bound: bindings::bound_numbers(conn, settled)?,
        })
    }

    /// A binding as the rules compare with it, for a payment of this organization at this moment.
    pub(super) fn binding(&self, binding: &Binding, org_path: &str, at_ms: i64) -> classify::Binding {
        let contract = self.contract(&binding.merchant_no, org_path);
        let valid = self.known_of(&binding.merchant_no, org_path).filter(|number| number.is_alias_at(at_ms));
        classify::Binding {
            merchant_no: binding.merchant_no.clone(),
            merchant_name: contract.map(|merchant| merchant.name.clone()).or_else(|| binding.merchant_name.clone()),
            mcc: contract.and_then(|merchant| merchant.mcc.clone()),
            risk_class: contract.and_then(|merchant| merchant.risk_class.clone()),
            aliases: valid.map(|number| number.number.clone()).collect(),
            contracted_rate_ppm: contract.and_then(|merchant| merchant.rate_ppm),
        }
    }

    /// What is known of the number that settled in place of the bound one; `home` is the organization of the channel.
    pub(super) fn number_known(
        &self,
        bound_no: &str,
        settled: &str,
        org_path: &str,
        home: &str,
    ) -> Option<NumberKnown> {
        if settled == bound_no {
            return None;
        }
        let mut known = self.known_of(bound_no, org_path);
        let is_foreign = known.any(|number| number.number == settled && number.state == State::Foreign);
        // Another merchant of the same people; what others have bound is none of their business.
        let is_bound = self.bound.iter().any(|(number, path)| number == settled && path.starts_with(home));
        let is_ours = is_bound || self.contract(settled, org_path).is_some();
        Some(match (is_foreign, is_ours) {
            (true, _) => NumberKnown::Foreign,
            (false, true) => NumberKnown::OtherMerchant,
            (false, false) => NumberKnown::Unjudged,
        })
    }

    /// Whether this number beside the bound one is on somebody's list, judged or not.
    pub(super) fn is_noted(&self, bound_no: &str, number: &str, org_path: &str) -> bool {
        self.known_of(bound_no, org_path).any(|known| known.number == number)
    }

    /// The merchant's record of the nearest organization above.
    fn contract(&self, merchant_no: &str, org_path: &str) -> Option<&Merchant> {
        let above = self
            .merchants
            .iter()
            .filter(|(merchant, path)| merchant.merchant_no == merchant_no && org_path.starts_with(path.as_str()));
        above.max_by_key(|(_, path)| path.len()).map(|(merchant, _)| merchant)
    }

    fn known_of<'a>(&'a self, bound_no: &'a str, org_path: &'a str) -> impl Iterator<Item = &'a MerchantNumber> {
        self.numbers.iter().filter(move |number| number.bound_no == bound_no && org_path.starts_with(&number.org_path))
    }
}
