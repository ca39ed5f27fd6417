//! What kinds of incidents there are. Pure.

/// Which rule found it, and so what its subject and evidence mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A gate stopped a rollout as a whole.
    RolloutHalted,
    /// A gate stopped a rollout for one scope: a model, a carrier, a place.
    RolloutScopeStopped,
    /// A terminal reports another configuration than it should have, and setting it again did not help.
    ConfigDrift,
    /// More failures than expected, explained by a combination of conditions or by none.
    FailureRise,
    /// The bank or the switch fails, for all carriers and regions alike.
    BankOutage,
    /// One area or carrier fails.
    AreaOutage,
    /// The cards of one pool fell silent.
    SimPool,
    /// A firmware fails more than the one before it.
    FirmwareRegression,
    /// One terminal fails far more than its like.
    TerminalSuspect,
    /// Payments arrived under another merchant number.
    MerchantSwitch,
    /// Money arrived short, and fees do not explain it.
    AmountShort,
    /// A payment is known to one side alone.
    SettlementMissing,
    /// A terminal reports that it was tampered with.
    Tamper,
    /// Many terminals fell silent at once.
    TerminalsOffline,
    /// A terminal that must not call in does.
    BlockedCalling,
    /// A certificate, key or card runs out.
    Expiry,
    /// Somebody or something sent card data, which was refused.
    CardData,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 17] = [
        Self::RolloutHalted,
        Self::RolloutScopeStopped,
        Self::ConfigDrift,
        Self::FailureRise,
        Self::BankOutage,
        Self::AreaOutage,
        Self::SimPool,
        Self::FirmwareRegression,
        Self::TerminalSuspect,
        Self::MerchantSwitch,
        Self::AmountShort,
        Self::SettlementMissing,
        Self::Tamper,
        Self::TerminalsOffline,
        Self::BlockedCalling,
        Self::Expiry,
        Self::CardData,
    ];

    /// Name in tables, URLs and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RolloutHalted => "rollout_halted",
            Self::RolloutScopeStopped => "rollout_scope_stopped",
            Self::ConfigDrift => "config_drift",
            Self::FailureRise => "failure_rise",
            Self::BankOutage => "bank_outage",
            Self::AreaOutage => "area_outage",
            Self::SimPool => "sim_pool",
            Self::FirmwareRegression => "firmware_regression",
            Self::TerminalSuspect => "terminal_suspect",
            Self::MerchantSwitch => "merchant_switch",
            Self::AmountShort => "amount_short",
            Self::SettlementMissing => "settlement_missing",
            Self::Tamper => "tamper",
            Self::TerminalsOffline => "terminals_offline",
            Self::BlockedCalling => "blocked_calling",
            Self::Expiry => "expiry",
            Self::CardData => "card_data",
        }
    }

    /// The kind of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_own_name_and_by_no_other() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
        }
        let names: std::collections::BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        assert_eq!(Kind::parse("surprise"), None);
    }
}
