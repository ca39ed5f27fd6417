//! What becomes of the rows of a file, decided over what is registered already.

use std::collections::HashMap;

use csv::StringRecord;
use tillward_protocol::FieldError;

use super::parse::Row;
use super::store;
use crate::db::{self, Conn};
use crate::operators::Scope;
use crate::organizations::{self, Organization};
use crate::terminals::Model;
use crate::terminals::fields::Registration;
use crate::terminals::store::Record;

/// What rows are judged by.
pub(super) struct Registry {
    scope: Scope,
    pub(super) owner: Organization,
    models: Vec<Model>,
    by_code: HashMap<String, Option<Organization>>,
}

/// One row, judged.
pub(super) enum Verdict {
    Create(Box<Registration>, Organization),
    Update(Box<Record>, Vec<String>),
    Unchanged,
    Refuse(FieldError),
}

impl Registry {
    /// What files of `scope` are judged by, whose rows go to `owner` where they name nobody.
    pub(super) fn new(scope: Scope, owner: Organization, models: Vec<Model>) -> Self {
        Self { scope, owner, models, by_code: HashMap::new() }
    }

    /// A verdict for each row, in order; a few statements for all of them.
    ///
    /// # Errors
    /// [`db::Error`].
    pub(super) fn judge(&mut self, conn: &mut Conn, rows: &[(StringRecord, Row)]) -> Result<Vec<Verdict>, db::Error> {
        let sns: Vec<&str> = rows.iter().map(|(_, row)| row.registration.sn.as_str()).collect();
        let tusns: Vec<&str> = rows.iter().filter_map(|(_, row)| row.registration.tusn.as_deref()).collect();
        let known = store::by_sn(conn, &sns)?;
        let tusn_of = store::sn_by_tusn(conn, &tusns)?;
        let ids: Vec<i64> = known.values().map(|record| record.id).collect();
        let tags = store::tags(conn, &ids)?;
        let mut verdicts = Vec::with_capacity(rows.len());
        for (_, row) in rows {
            let given = &row.registration;
            let owner = self.owner_of(conn, row)?;
            let taken =
                given.tusn.as_ref().and_then(|tusn| tusn_of.get(tusn)).is_some_and(|sn| sn != given.sn.as_str());
            verdicts.push(match (owner, known.get(given.sn.as_str())) {
                (Err(error), _) => Verdict::Refuse(error),
                _ if taken => Verdict::Refuse(FieldError::new("tusn", "belongs to another terminal")),
                (Ok(owner), None) => match self.models.iter().any(|model| model.code == given.model.as_str()) {
                    true => Verdict::Create(Box::new(given.clone()), owner),
                    false => Verdict::Refuse(FieldError::new("model", "is not a known model; create it first")),
                },
                (Ok(owner), Some(record)) => {
                    let old_tags = tags.get(&record.id).map(Vec::as_slice).unwrap_or_default();
                    let owner = row.organization.is_some().then_some(&owner);
                    merged(&self.scope, record, old_tags, owner, given)
                }
            });
        }
        Ok(verdicts)
    }

    fn owner_of(&mut self, conn: &mut Conn, row: &Row) -> Result<Result<Organization, FieldError>, db::Error> {
        let Some(code) = &row.organization else { return Ok(Ok(self.owner.clone())) };
        if !self.by_code.contains_key(code) {
            let found = organizations::find_by_short_code(conn, &self.scope, code)?;
            self.by_code.insert(code.clone(), found);
        }
        let found = self.by_code.get(code).cloned().flatten();
        Ok(found.ok_or_else(|| FieldError::new("organization", "is not the short code of an organization of yours")))
    }
}

/// What a row changes of a terminal that is known.
fn merged(
    scope: &Scope,
    record: &Record,
    old_tags: &[String],
    named: Option<&Organization>,
    given: &Registration,
) -> Verdict {
    let refuse = |field, problem: &str| Verdict::Refuse(FieldError::new(field, problem));
    if !scope.contains(&record.org_path) {
        return refuse("sn", "is registered already");
    }
    if record.model != given.model.as_str() {
        return refuse("model", "differs from the registered one");
    }
    if given.tusn.is_some() && record.tusn.is_some() && given.tusn != record.tusn {
        return refuse("tusn", "differs from the registered one");
    }
    if named.is_some_and(|owner| owner.id != record.organization_id) {
        return refuse("organization", "is another one; move terminals by a transfer");
    }
    let mut new = record.clone();
    let fill = |old: &mut Option<String>, given: &Option<String>| {
        if given.is_some() {
            old.clone_from(given);
        }
    };
    fill(&mut new.tusn, &given.tusn);
    fill(&mut new.hardware, &given.hardware);
    fill(&mut new.merchant_no, &given.merchant_no);
    fill(&mut new.merchant_name, &given.merchant_name);
    fill(&mut new.store_name, &given.store_name);
    fill(&mut new.terminal_no, &given.terminal_no);
    fill(&mut new.iccid, &given.iccid);
    fill(&mut new.imei, &given.imei);
    fill(&mut new.notes, &given.notes);
    if let Some(region) = &given.region {
        new.region.clone_from(region);
    }
    let tags = if given.tags.is_empty() { old_tags } else { &given.tags };
    if new == *record && tags == old_tags { Verdict::Unchanged } else { Verdict::Update(Box::new(new), tags.to_vec()) }
}
