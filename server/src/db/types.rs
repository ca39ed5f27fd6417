//! Numbers that the program gives out itself, because the databases must not.

use diesel::prelude::*;

use super::schema::id_counters;
use super::{Conn, Error};

/// Which things are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sequence {
    /// Organizations.
    Organizations,
    /// Operators.
    Operators,
    /// API keys.
    ApiKeys,
    /// Terminals.
    Terminals,
    /// Profiles.
    Profiles,
    /// Releases.
    Releases,
    /// Rollouts.
    Rollouts,
    /// Assignments; they must stay below 2³¹ for clients of the compatible interface.
    Assignments,
    /// Audit entries; also the lock under which the chain grows.
    AuditEntries,
    /// Incidents.
    Incidents,
    /// Alerts.
    Alerts,
    /// Channels that alerts go to.
    AlertChannels,
    /// Bindings of terminals to merchants.
    TerminalBindings,
    /// Merchants.
    Merchants,
    /// Numbers that settled in place of a merchant's own.
    MerchantNumbers,
    /// Channels that tell of settled payments.
    FeedChannels,
    /// What channels tell of payments.
    ChannelTransactions,
    /// What unattended scans found.
    Explanations,
    /// Rules by which alerts find their channels.
    AlertRules,
    /// What the fleet's rules found.
    FleetFindings,
    /// Work orders.
    WorkOrders,
}

impl Sequence {
    fn name(self) -> &'static str {
        match self {
            Self::Organizations => "organizations",
            Self::Operators => "operators",
            Self::ApiKeys => "api_keys",
            Self::Terminals => "terminals",
            Self::Profiles => "profiles",
            Self::Releases => "releases",
            Self::Rollouts => "rollouts",
            Self::Assignments => "assignments",
            Self::AuditEntries => "audit_entries",
            Self::Incidents => "incidents",
            Self::Alerts => "alerts",
            Self::AlertChannels => "alert_channels",
            Self::TerminalBindings => "terminal_bindings",
            Self::Merchants => "merchants",
            Self::MerchantNumbers => "merchant_numbers",
            Self::FeedChannels => "feed_channels",
            Self::ChannelTransactions => "channel_transactions",
            Self::Explanations => "explanations",
            Self::AlertRules => "alert_rules",
            Self::FleetFindings => "fleet_findings",
            Self::WorkOrders => "work_orders",
        }
    }
}

/// Takes the next number. Two statements; the row stays locked until the transaction ends.
///
/// # Errors
/// [`Error::Query`].
pub fn next_id(conn: &mut Conn, sequence: Sequence) -> Result<i64, Error> {
    next_ids(conn, sequence, 1)
}

/// Takes `count` numbers in a row and returns the first.
///
/// # Errors
/// [`Error::Query`].
pub fn next_ids(conn: &mut Conn, sequence: Sequence, count: i64) -> Result<i64, Error> {
    let row = id_counters::table.find(sequence.name());
    diesel::update(row).set(id_counters::next.eq(id_counters::next + count)).execute(conn)?;
    let next: i64 = row.select(id_counters::next).first(conn)?;
    Ok(next - count)
}
