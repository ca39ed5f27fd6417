//! Roles, what each may do, and the part of the organization tree a caller sees. Pure.

use serde::{Deserialize, Serialize};

/// What a person or program may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything in the subtree.
    PlatformAdmin,
    /// Releases and rollouts.
    ReleaseManager,
    /// Approves what others asked for.
    Approver,
    /// Terminals, operators and organizations of the subtree.
    OrgAdmin,
    /// Daily work on terminals.
    OrgOps,
    /// On site: reads terminals, activates them.
    Field,
    /// Reads everything, changes nothing.
    Auditor,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 7] = [
        Self::PlatformAdmin,
        Self::ReleaseManager,
        Self::Approver,
        Self::OrgAdmin,
        Self::OrgOps,
        Self::Field,
        Self::Auditor,
    ];

    /// Name in tables, tokens and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PlatformAdmin => "platform_admin",
            Self::ReleaseManager => "release_manager",
            Self::Approver => "approver",
            Self::OrgAdmin => "org_admin",
            Self::OrgOps => "org_ops",
            Self::Field => "field",
            Self::Auditor => "auditor",
        }
    }

    /// The role of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }

    /// Whether this role has `permission`. The one authorization matrix.
    pub fn allows(self, permission: Permission) -> bool {
        use Permission as P;
        match self {
            Self::PlatformAdmin => true,
            Self::ReleaseManager => {
                permission.is_read()
                    || matches!(
                        permission,
                        P::ReleasesWrite | P::ReleasesPublish | P::RolloutsWrite | P::ProfilesWrite | P::IncidentsWrite
                    )
            }
            Self::Approver => {
                permission.is_read()
                    || matches!(permission, P::ReleasesApprove | P::RolloutsApprove | P::AliasesApprove)
            }
            Self::OrgAdmin => {
                permission.is_read()
                    || matches!(
                        permission,
                        P::TerminalsWrite
                            | P::TerminalsActivate
                            | P::OrganizationsWrite
                            | P::OperatorsWrite
                            | P::ProfilesWrite
                            | P::RolloutsWrite
                            | P::IncidentsWrite
                            | P::AlertsWrite
                            | P::FailuresWrite
                            | P::SettlementsWrite
                            | P::AliasesApprove
                            | P::RulesWrite
                    )
            }
            Self::OrgOps => {
                matches!(permission, P::TerminalsWrite | P::IncidentsWrite | P::FailuresWrite | P::SettlementsWrite)
                    || (permission.is_read() && !matches!(permission, P::AuditRead | P::OperatorsRead))
            }
            Self::Field => matches!(permission, P::TerminalsRead | P::FailuresRead | P::TerminalsActivate | P::Own),
            Self::Auditor => permission.is_read(),
        }
    }

    /// Whether an operator of this role may give `other` to somebody: never more than it has itself.
    pub fn may_grant(self, other: Self) -> bool {
        Permission::ALL.iter().all(|&permission| !other.allows(permission) || self.allows(permission))
    }
}

/// One thing that may be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// One's own account and session.
    Own,
    /// See terminals and their conditions.
    TerminalsRead,
    /// Import and change terminals.
    TerminalsWrite,
    /// Hand out activation codes.
    TerminalsActivate,
    /// See organizations.
    OrganizationsRead,
    /// Create and change organizations.
    OrganizationsWrite,
    /// See operators.
    OperatorsRead,
    /// Create and change operators and API keys.
    OperatorsWrite,
    /// See releases.
    ReleasesRead,
    /// Upload releases.
    ReleasesWrite,
    /// Approve a release.
    ReleasesApprove,
    /// Publish and withdraw releases.
    ReleasesPublish,
    /// See rollouts.
    RolloutsRead,
    /// Create, start, pause and cancel rollouts.
    RolloutsWrite,
    /// Approve rollouts.
    RolloutsApprove,
    /// See profiles.
    ProfilesRead,
    /// Create and assign profiles.
    ProfilesWrite,
    /// See failures and statistics.
    FailuresRead,
    /// Bring failures that no terminal reported, and what people looked up about payments.
    FailuresWrite,
    /// See incidents and alerts.
    IncidentsRead,
    /// Take on incidents and carry them on.
    IncidentsWrite,
    /// Say where alerts go.
    AlertsWrite,
    /// Change the tables that rules compare with, and have failures judged again.
    RulesWrite,
    /// See the audit log.
    AuditRead,
    /// See settled payments, imports and merchants.
    SettlementsRead,
    /// Import payments, set up channels and merchants, ask for aliases.
    SettlementsWrite,
    /// Approve other numbers of merchants.
    AliasesApprove,
}

impl Permission {
    /// Every permission.
    pub const ALL: [Self; 27] = [
        Self::Own,
        Self::TerminalsRead,
        Self::TerminalsWrite,
        Self::TerminalsActivate,
        Self::OrganizationsRead,
        Self::OrganizationsWrite,
        Self::OperatorsRead,
        Self::OperatorsWrite,
        Self::ReleasesRead,
        Self::ReleasesWrite,
        Self::ReleasesApprove,
        Self::ReleasesPublish,
        Self::RolloutsRead,
        Self::RolloutsWrite,
        Self::RolloutsApprove,
        Self::ProfilesRead,
        Self::ProfilesWrite,
        Self::FailuresRead,
        Self::FailuresWrite,
        Self::IncidentsRead,
        Self::IncidentsWrite,
        Self::AlertsWrite,
        Self::RulesWrite,
        Self::AuditRead,
        Self::SettlementsRead,
        Self::SettlementsWrite,
        Self::AliasesApprove,
    ];

    /// Name in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::TerminalsRead => "terminals_read",
            Self::TerminalsWrite => "terminals_write",
            Self::TerminalsActivate => "terminals_activate",
            Self::OrganizationsRead => "organizations_read",
            Self::OrganizationsWrite => "organizations_write",
            Self::OperatorsRead => "operators_read",
            Self::OperatorsWrite => "operators_write",
            Self::ReleasesRead => "releases_read",
            Self::ReleasesWrite => "releases_write",
            Self::ReleasesApprove => "releases_approve",
            Self::ReleasesPublish => "releases_publish",
            Self::RolloutsRead => "rollouts_read",
            Self::RolloutsWrite => "rollouts_write",
            Self::RolloutsApprove => "rollouts_approve",
            Self::ProfilesRead => "profiles_read",
            Self::ProfilesWrite => "profiles_write",
            Self::FailuresRead => "failures_read",
            Self::FailuresWrite => "failures_write",
            Self::IncidentsRead => "incidents_read",
            Self::IncidentsWrite => "incidents_write",
            Self::AlertsWrite => "alerts_write",
            Self::RulesWrite => "rules_write",
            Self::AuditRead => "audit_read",
            Self::SettlementsRead => "settlements_read",
            Self::SettlementsWrite => "settlements_write",
            Self::AliasesApprove => "aliases_approve",
        }
    }

    /// Whether it only lets look (or concerns nobody else).
    pub fn is_read(self) -> bool {
        match self {
            Self::Own
            | Self::TerminalsRead
            | Self::OrganizationsRead
            | Self::OperatorsRead
            | Self::ReleasesRead
            | Self::RolloutsRead
            | Self::ProfilesRead
            | Self::FailuresRead
            | Self::IncidentsRead
            | Self::AuditRead
            | Self::SettlementsRead => true,
            Self::TerminalsWrite
            | Self::TerminalsActivate
            | Self::OrganizationsWrite
            | Self::OperatorsWrite
            | Self::ReleasesWrite
            | Self::ReleasesApprove
            | Self::ReleasesPublish
            | Self::RolloutsWrite
            | Self::RolloutsApprove
            | Self::ProfilesWrite
            | Self::FailuresWrite
            | Self::IncidentsWrite
            | Self::AlertsWrite
            | Self::SettlementsWrite
            | Self::AliasesApprove
            | Self::RulesWrite => false,
        }
    }
}

/// The part of the organization tree that a caller sees: one organization and everything below it.
///
/// Paths look like `/1/4/17/`; a subtree is a range of paths, so that an index on `org_path` serves it. Every query of
/// an organization's things takes one of these.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    path: String,
    below: String,
}

impl Scope {
    /// The subtree of the organization whose path is `path`.
    pub fn subtree(path: impl Into<String>) -> Self {
        let path = path.into();
        // '0' follows '/' in ASCII: everything that starts with "/1/4/" sorts before "/1/40".
        let below = format!("{}0", path.trim_end_matches('/'));
        Self { path, below }
    }

    /// The whole tree: for the server's own passes and for commands on its machine, never for a caller over HTTP.
    pub fn everything() -> Self {
        Self::subtree("/")
    }

    /// The smallest path inside.
    pub fn from(&self) -> &str {
        &self.path
    }

    /// The smallest path after all inside.
    pub fn below(&self) -> &str {
        &self.below
    }

    /// Whether `org_path` is inside.
    pub fn contains(&self, org_path: &str) -> bool {
        org_path.starts_with(&self.path)
    }
}

/// Who calls: a signed-in operator or an API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Operator or key.
    pub kind: CallerKind,
    /// The operator's or key's number.
    pub id: i64,
    /// Login name or key name.
    pub name: String,
    /// Role.
    pub role: Role,
    /// The organization it belongs to.
    pub organization_id: i64,
    /// What it sees.
    pub scope: Scope,
    /// Preferred language of a person, `zh-CN` or `en`.
    pub language: String,
    /// The session, for operators that signed in.
    pub session_id: Option<String>,
    /// Token that forms of this session must carry.
    pub csrf_token: String,
}

impl Caller {
    /// A command on the server's own machine: whoever can run one can read the database anyway.
    pub fn command(name: &str) -> Self {
        Self {
            kind: CallerKind::Operator,
            id: 0,
            name: name.to_owned(),
            role: Role::PlatformAdmin,
            organization_id: 0,
            scope: Scope::everything(),
            language: "en".to_owned(),
            session_id: None,
            csrf_token: String::new(),
        }
    }

    /// Whether this caller is the operator of number `id` in person.
    pub fn is_operator(&self, id: i64) -> bool {
        self.kind == CallerKind::Operator && self.id == id
    }
}

/// What kind of caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallerKind {
    /// A person.
    Operator,
    /// A program.
    ApiKey,
}

impl CallerKind {
    /// Name in requests for approval.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::ApiKey => "api_key",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subtree_holds_itself_and_all_below_and_no_sibling() {
        let scope = Scope::subtree("/1/4/");
        for (path, inside) in [("/1/4/", true), ("/1/4/17/", true), ("/1/40/", false), ("/1/", false), ("/1/5/", false)]
        {
            assert_eq!(scope.contains(path), inside, "{path}");
            assert_eq!(path >= scope.from() && path < scope.below(), inside, "range of {path}");
        }
    }

    #[test]
    fn nobody_can_grant_more_than_they_have() {
        assert!(Role::PlatformAdmin.may_grant(Role::PlatformAdmin));
        assert!(!Role::OrgAdmin.may_grant(Role::PlatformAdmin));
        assert!(!Role::OrgAdmin.may_grant(Role::ReleaseManager));
        for role in [Role::OrgAdmin, Role::OrgOps, Role::Field, Role::Auditor] {
            assert!(Role::OrgAdmin.may_grant(role), "{role:?}");
        }
        assert!(!Role::Auditor.may_grant(Role::OrgOps));
    }

    #[test]
    fn an_auditor_reads_everything_and_changes_nothing() {
        for permission in Permission::ALL {
            assert_eq!(Role::Auditor.allows(permission), permission.is_read(), "{permission:?}");
        }
    }
}
