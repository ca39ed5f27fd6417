//! REST of maintenance: what is due, work orders, checklists and thresholds, operators' guidance.

mod due;
mod guidance;
mod orders;
mod settings;

use super::Error;
use crate::http::endpoints::{Access, Endpoint};
use crate::http::problem::{Problem, sentence};
use crate::operators::Permission;

const READ: Access = Access::Operator(Permission::MaintenanceRead);
const WORK: Access = Access::Operator(Permission::MaintenanceWork);
const WRITE: Access = Access::Operator(Permission::MaintenanceWrite);
const CONFIGURE: Access = Access::Operator(Permission::MaintenanceConfigure);

/// This domain's rows of the endpoint table.
pub fn endpoints() -> Vec<Endpoint> {
    [due::endpoints(), orders::endpoints(), settings::endpoints(), guidance::endpoints()]
        .into_iter()
        .flatten()
        .collect()
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::not_found(),
            Error::Field(error) => Self::from(error),
            Error::Refused(_) | Error::Exists(_) | Error::Raced => Self::conflict(sentence(&error)),
            Error::Db(error) => Self::from(error),
        }
    }
}
