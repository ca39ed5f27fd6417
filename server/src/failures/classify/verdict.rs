//! What a judgement says: causes, symptoms and the reasons for them. Pure.
//!
//! Every enumeration has one name for tables, URLs and answers (`as_str`, `parse`); people read translations of them.

use serde::{Deserialize, Serialize};

/// An enumeration with one fixed name for each of its values.
macro_rules! named {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $value:ident => $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $text)] $value,)+
        }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$(Self::$value,)+];

            /// Name in tables, URLs and answers.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $text,)+
                }
            }

            /// The value of this name.
            pub fn parse(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == name)
            }
        }
    };
}

named! {
    /// Which rule spoke. The order is that of the table of rules: of two that match, the earlier one is the verdict.
    Rule {
        /// Another merchant number was settled, and the terminal had sent a wrong one already.
        R1b => "R1b",
        /// Another merchant number was settled than the bound one.
        R1 => "R1",
        /// The number is right, the category is not.
        R1a => "R1a",
        /// Number and category are right, the name is not.
        R1c => "R1c",
        /// The difference is made of fees.
        R2 => "R2",
        /// The difference looks like a flat fee, or the rate is not the contracted one.
        R2a => "R2a",
        /// A difference that no fee explains.
        R2b => "R2b",
        /// An update was under way, or a configuration had just changed.
        R3 => "R3",
        /// No connection, and the link was bad.
        R4 => "R4",
        /// No connection over a good link.
        R4a => "R4a",
        /// The card in the modem was another one shortly before; it annotates R4 and R4a.
        R4b => "R4b",
        /// No answer in time while others had one.
        R5 => "R5",
        /// The response code, or the stage when there is none.
        R6 => "R6",
        /// The card reader.
        R7 => "R7",
        /// A crash or a loss of power shortly before.
        R8 => "R8",
        /// The tamper protection.
        R9 => "R9",
        /// What the operator did.
        R10 => "R10",
        /// A payment that one side alone knows, or a reversal that never went out.
        R11 => "R11",
    }
}

named! {
    /// What is seen. Fees are kept apart: they are no fault.
    Symptom {
        /// Failed with a code or a message (刷不了).
        Fail => "S1",
        /// Less money arrives than was charged (少到账).
        Amount => "S2",
        /// Missing, duplicated or not reversed (查不到这笔).
        Missing => "S3",
        /// Another merchant at clearing than the bound one (商户名不对).
        Switch => "S4",
        /// The difference is a fee.
        Fee => "fee",
        /// Nothing is wrong.
        None => "none",
    }
}

named! {
    /// Whose part of the way a cause is in.
    Family {
        /// Network.
        Net => "NET",
        /// Device.
        Dev => "DEV",
        /// Firmware, configuration, the time of an update.
        Upg => "UPG",
        /// Operator.
        Opr => "OPR",
        /// Bank or switch.
        Bnk => "BNK",
        /// Acquirer side.
        Chn => "CHN",
        /// Unknown.
        Unk => "UNK",
    }
}

named! {
    /// Why it happened.
    Cause {
        /// Weak mobile signal, or none.
        NetSignal => "NET.SIGNAL",
        /// Weak WiFi.
        NetWifi => "NET.WIFI",
        /// Names are not resolved.
        NetDns => "NET.DNS",
        /// No secure connection.
        NetTls => "NET.TLS",
        /// Registered, but without data.
        NetSimSuspended => "NET.SIM_SUSPENDED",
        /// What is sent gets lost on the way.
        NetUplinkLoss => "NET.UPLINK_LOSS",
        /// One area or carrier fails.
        NetArea => "NET.AREA",
        /// The cards of one pool fell silent.
        NetSimPool => "NET.SIM_POOL",
        /// The card reader.
        DevReader => "DEV.READER",
        /// Crashed or lost power.
        DevReset => "DEV.RESET",
        /// The tamper protection fired.
        DevTamper => "DEV.TAMPER",
        /// The clock is wrong.
        DevClock => "DEV.CLOCK",
        /// The message is malformed.
        DevFormat => "DEV.FORMAT",
        /// Keys or authentication codes.
        DevKey => "DEV.KEY",
        /// A number was used twice.
        DevTraceReuse => "DEV.TRACE_REUSE",
        /// An update was under way.
        UpgWindow => "UPG.WINDOW",
        /// A certificate ran out.
        UpgCert => "UPG.CERT",
        /// The new version behaves worse.
        UpgRegression => "UPG.REGRESSION",
        /// Wrong parameters on the terminal.
        UpgConfigDrift => "UPG.CONFIG_DRIFT",
        /// The card in the modem was changed.
        OprSimSwap => "OPR.SIM_SWAP",
        /// PIN.
        OprPin => "OPR.PIN",
        /// Amount.
        OprAmount => "OPR.AMOUNT",
        /// Not signed in.
        OprNotSignedIn => "OPR.NOT_SIGNED_IN",
        /// Cancelled.
        OprCancel => "OPR.CANCEL",
        /// Nobody went on.
        OprTimeout => "OPR.TIMEOUT",
        /// The payment host does not answer.
        BnkHostTimeout => "BNK.HOST_TIMEOUT",
        /// Declined by the issuer.
        BnkIssuer => "BNK.ISSUER",
        /// Card or account.
        BnkCard => "BNK.CARD",
        /// Over a limit.
        BnkLimit => "BNK.LIMIT",
        /// A flawed success.
        BnkDeferred => "BNK.DEFERRED",
        /// Change of day.
        BnkCutover => "BNK.CUTOVER",
        /// The issuer did not answer in time.
        BnkTimeout => "BNK.TIMEOUT",
        /// Issuer, line or switch is down.
        BnkSwitch => "BNK.SWITCH",
        /// Approved for a part of the amount.
        BnkPartial => "BNK.PARTIAL",
        /// Another merchant at clearing.
        ChnSwitch => "CHN.SWITCH",
        /// Another category at clearing.
        ChnMcc => "CHN.MCC",
        /// A fee that is accounted for.
        ChnFee => "CHN.FEE",
        /// Probably a fee, or another rate than agreed.
        ChnFeeSuspect => "CHN.FEE_SUSPECT",
        /// Merchant or terminal are not known or not allowed there.
        ChnBinding => "CHN.BINDING",
        /// Nothing known fits.
        Unknown => "UNK",
    }
}

impl Cause {
    /// Whose part of the way it is in.
    pub fn family(self) -> Family {
        let name = self.as_str();
        let family = name.split_once('.').map_or(name, |(family, _)| family);
        Family::parse(family).unwrap_or(Family::Unk)
    }
}

named! {
    /// How much it matters, least first.
    Severity {
        /// For information.
        Info => "info",
        /// Low.
        Low => "low",
        /// Medium.
        Medium => "medium",
        /// High.
        High => "high",
        /// Critical.
        Critical => "critical",
    }
}

named! {
    /// How firmly it stands.
    Standing {
        /// The values themselves show it.
        Proven => "proven",
        /// It fits what is known.
        Suspected => "suspected",
        /// A person has to look first: it may well be in order.
        Review => "review",
    }
}

named! {
    /// Which part of a merchant number differs.
    Segment {
        /// Digits 1–3: acquiring institution.
        Institution => "INST",
        /// Digits 4–7: region.
        Region => "REGION",
        /// Digits 8–11: merchant category.
        Mcc => "MCC",
        /// Digits 12–15: serial number.
        Serial => "SERIAL",
    }
}

named! {
    /// How close to the cardholder a settlement was seen.
    EvidenceLevel {
        /// The channel's callback or file.
        L1 => "L1",
        /// A UnionPay query.
        L2 => "L2",
        /// The issuer's bill.
        L3 => "L3",
    }
}

named! {
    /// What a judgement asks to be done beside being stored.
    FindingKind {
        /// The tamper protection is not in order: always a security incident.
        Tamper => "tamper",
        /// Another merchant than the bound one was settled.
        MerchantSwitch => "merchant_switch",
        /// The terminal sends another merchant number than the bound one.
        ConfigDrift => "config_drift",
        /// Money arrived short, and fees do not explain it.
        AmountShort => "amount_short",
        /// One side alone knows the payment, or its reversal never went out.
        SettlementMissing => "settlement_missing",
        /// A merchant number that nobody has judged: an alias, or a switch?
        ReviewNumber => "review_number",
    }
}

/// One thing that was looked at: a rule's condition with what was observed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Reason {
    /// The rule it belongs to.
    pub rule: Rule,
    /// The field, as facts and feeds call it, for example `rsrp_dbm`.
    pub field: String,
    /// What was seen.
    pub observed: String,
    /// What it was compared with.
    pub threshold: String,
    /// How much it weighs among the reasons of its rule, 0 to 1.
    pub weight: f64,
}

/// A rule that could not be checked, wholly or in part, because something was not available.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NotChecked {
    /// The rule.
    pub rule: Rule,
    /// The field that was not available.
    pub missing: String,
}

/// What one rule says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Verdict {
    /// The rule.
    pub rule: Rule,
    /// What is seen.
    pub symptom: Symptom,
    /// Why.
    pub cause: Cause,
    /// How sure: for a merchant number, how sure it is *that the numbers differ*, and never that anybody did wrong. 0 to 1.
    pub confidence: f64,
    /// How much it matters.
    pub severity: Severity,
    /// How firmly it stands.
    pub standing: Standing,
    /// What lies behind the cause, when that is known (R4b).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Cause>,
    /// Parts of the merchant number that differ (R1, R1b).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<Segment>,
    /// The conditions that held, with what was observed.
    pub reasons: Vec<Reason>,
}

/// Something to be done beside storing the verdict, whichever rule came first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Finding {
    /// What.
    pub kind: FindingKind,
    /// How much it matters.
    pub severity: Severity,
    /// What shows it.
    pub reasons: Vec<Reason>,
}

/// Everything that the rules say about one failure or one settlement.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Judgement {
    /// The first rule that matched; none when nothing known fits or nothing is wrong.
    pub verdict: Option<Verdict>,
    /// Later rules that matched too, in order.
    pub alternatives: Vec<Verdict>,
    /// What could not be checked.
    pub not_checked: Vec<NotChecked>,
    /// What is to be done beside.
    pub findings: Vec<Finding>,
}

impl Judgement {
    /// The cause of the verdict, or [`Cause::Unknown`].
    pub fn cause(&self) -> Cause {
        self.verdict.as_ref().map_or(Cause::Unknown, |verdict| verdict.cause)
    }

    /// Every rule that matched, the verdict first.
    pub fn matches(&self) -> impl Iterator<Item = &Verdict> {
        self.verdict.iter().chain(&self.alternatives)
    }

    /// Takes up the next rule's match. The rules come in order: the first is the verdict.
    pub(super) fn matched(&mut self, verdict: Verdict) {
        if self.verdict.is_none() {
            self.verdict = Some(verdict);
        } else {
            self.alternatives.push(verdict);
        }
    }

    /// Notes that `rule` lacked `missing`.
    pub(super) fn lacks(&mut self, rule: Rule, missing: &str) {
        let lack = NotChecked { rule, missing: missing.to_owned() };
        if !self.not_checked.contains(&lack) {
            self.not_checked.push(lack);
        }
    }
}
