//! Rules of accounts: who may create and change whose.

use serde_json::json;
use tillward_protocol::FieldError;

use super::{
    Caller, Change, Error, Language, NewOperator, Operator, Scope, Status, checked_login, keys, password, sessions,
    store,
};
use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn, Db, Sequence};
use crate::{organizations, text};

/// Most accounts of one installation: every person of a large reseller chain, and a bound for a script gone wild.
const OPERATORS_MAX: i64 = 20_000;

/// Makes an account in one of the caller's organizations.
///
/// # Errors
/// [`Error::Denied`] when the role has more than the caller's, [`Error::LoginTaken`], [`Error::Suspended`],
/// [`Error::Limit`], [`Error::Field`], [`Error::Busy`], [`Error::Db`].
pub async fn create(db: &Db, caller: &Caller, actor: &Actor, new: NewOperator, now: Now) -> Result<Operator, Error> {
    if !caller.role.may_grant(new.role) {
        return Err(Error::Denied("this role may do more than your own"));
    }
    let checked = Checked::of(&new)?;
    let password_hash = password::hash(new.password.clone()).await?;
    let (scope, actor) = (caller.scope.clone(), actor.clone());
    db.write(move |conn| insert(conn, &scope, &actor, &new, checked, &password_hash, now)).await
}

/// The parts of a new account that were checked.
pub(super) struct Checked {
    login: String,
    name: String,
}

impl Checked {
    pub(super) fn of(new: &NewOperator) -> Result<Self, FieldError> {
        let login = checked_login(&new.login)?;
        let name = text::name("name", &new.name)?;
        password::check(&new.password, &login)?;
        Ok(Self { login, name })
    }
}

/// The rest of creating, within a transaction.
pub(super) fn insert(
    conn: &mut Conn,
    scope: &Scope,
    actor: &Actor,
    new: &NewOperator,
    checked: Checked,
    password_hash: &str,
    now: Now,
) -> Result<Operator, Error> {
    let organization = organizations::get(conn, scope, new.organization_id)?
        .ok_or_else(|| FieldError::new("organization_id", "is not an organization that you may see"))?;
    if !organizations::is_open(conn, &organization.path)? {
        return Err(Error::Suspended);
    }
    if store::count(conn)? >= OPERATORS_MAX {
        return Err(Error::Limit(format!("there may be at most {OPERATORS_MAX} operators")));
    }
    let operator = Operator {
        id: db::next_id(conn, Sequence::Operators)?,
        organization_id: organization.id,
        org_path: organization.path,
        login: checked.login,
        name: checked.name,
        role: new.role,
        status: Status::Active,
        language: new.language,
        created_at_ms: now.0,
        version: 1,
    };
    store::insert(conn, &operator, password_hash)
        .map_err(|error| if error.is_unique_violation() { Error::LoginTaken } else { Error::Db(error) })?;
    append(conn, actor, "operators.create", &operator, now)?;
    Ok(operator)
}

/// The operator of this number, if it is in `scope`.
///
/// # Errors
/// [`db::Error`].
pub async fn get(db: &Db, scope: &Scope, id: i64) -> Result<Option<Operator>, db::Error> {
    let scope = scope.clone();
    db.read(move |conn| store::get(conn, &scope, id)).await
}

/// The operator of this login name, if it is in `scope`.
///
/// # Errors
/// [`db::Error`].
pub async fn find_by_login(db: &Db, scope: &Scope, login: &str) -> Result<Option<Operator>, db::Error> {
    let (scope, login) = (scope.clone(), super::normal_login(login));
    db.read(move |conn| store::find_by_login(conn, &scope, &login)).await
}

/// Operators of `scope` by number, after the number `after`.
///
/// # Errors
/// [`db::Error`].
pub async fn list(db: &Db, scope: &Scope, after: Option<i64>, size: u32) -> Result<Vec<Operator>, db::Error> {
    let scope = scope.clone();
    db.read(move |conn| store::list(conn, &scope, after, i64::from(size))).await
}

/// Changes an account of the caller's organizations. Disabling ends its sessions and the API keys it made; a smaller
/// role ends those of its API keys that may do more.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Changed`] when `change.version` is not the present one, [`Error::Denied`] when either
/// role has more than the caller's or the caller would change its own role or status, [`Error::Field`], [`Error::Db`].
pub async fn update(
    db: &Db,
    caller: &Caller,
    actor: &Actor,
    id: i64,
    change: Change,
    now: Now,
) -> Result<Operator, Error> {
    let (caller, actor) = (caller.clone(), actor.clone());
    db.write(move |conn| {
        let before = store::get(conn, &caller.scope, id)?.ok_or(Error::NotFound)?;
        let after = changed(&caller, &before, &change)?;
        if before.version != change.version || !store::replace(conn, &after, before.version)? {
            return Err(Error::Changed);
        }
        if after.status == Status::Disabled {
            sessions::end_all(conn, id, None, now)?;
            keys::end_all(conn, id, now)?;
        } else if after.role != before.role {
            keys::end_beyond(conn, id, after.role, now)?;
        }
        append(conn, &actor, "operators.update", &after, now)?;
        Ok(after)
    })
    .await
}

fn changed(caller: &Caller, before: &Operator, change: &Change) -> Result<Operator, Error> {
    let role = change.role.unwrap_or(before.role);
    let status = change.status.unwrap_or(before.status);
    if caller.is_operator(before.id) && (role != before.role || status != before.status) {
        return Err(Error::Denied("nobody changes their own role or disables themselves"));
    }
    if !caller.role.may_grant(before.role) || !caller.role.may_grant(role) {
        return Err(Error::Denied("this role may do more than your own"));
    }
    let name = match &change.name {
        Some(name) => text::name("name", name)?,
        None => before.name.clone(),
    };
    let language = change.language.unwrap_or(before.language);
    Ok(Operator { name, role, status, language, version: before.version + 1, ..before.clone() })
}

/// Keeps the language that a signed-in person chose for themselves.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Changed`] when somebody changed the account at the same moment, [`Error::Db`].
pub async fn choose_language(db: &Db, caller: &Caller, language: Language, now: Now) -> Result<(), Error> {
    let (caller, actor) = (caller.clone(), Actor::from(caller));
    db.write(move |conn| {
        let before = store::get(conn, &caller.scope, caller.id)?.ok_or(Error::NotFound)?;
        if before.language == language {
            return Ok(());
        }
        let after = Operator { language, version: before.version + 1, ..before.clone() };
        if !store::replace(conn, &after, before.version)? {
            return Err(Error::Changed);
        }
        append(conn, &actor, "operators.update", &after, now)?;
        Ok(())
    })
    .await
}

/// Gives an account of the caller's organizations a new password and ends its sessions and its lock.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Denied`] when its role has more than the caller's, [`Error::Field`], [`Error::Busy`],
/// [`Error::Db`].
pub async fn reset_password(
    db: &Db,
    caller: &Caller,
    actor: &Actor,
    id: i64,
    new: String,
    now: Now,
) -> Result<(), Error> {
    let found = get(db, &caller.scope, id).await?.ok_or(Error::NotFound)?;
    if caller.is_operator(id) {
        return Err(Error::Denied("change your own password with the present one"));
    }
    if !caller.role.may_grant(found.role) {
        return Err(Error::Denied("this role may do more than your own"));
    }
    password::check(&new, &found.login)?;
    let password_hash = password::hash(new).await?;
    let (caller, actor) = (caller.clone(), actor.clone());
    db.write(move |conn| {
        // Read again: the role may have grown while the password was hashed.
        let before = store::get(conn, &caller.scope, id)?.ok_or(Error::NotFound)?;
        if before.version != found.version {
            return Err(Error::Changed);
        }
        set_password(conn, &before, &password_hash)?;
        sessions::end_all(conn, id, None, now)?;
        sessions::forget_failures(conn, &before.login)?;
        append(conn, &actor, "operators.reset_password", &before, now)?;
        Ok(())
    })
    .await
}

/// Compare-and-set of the password on the version in `before`.
pub(super) fn set_password(conn: &mut Conn, before: &Operator, password_hash: &str) -> Result<(), Error> {
    if store::set_password(conn, before.id, before.version, password_hash)? { Ok(()) } else { Err(Error::Changed) }
}

/// Appends an entry about `operator`.
pub(super) fn append(
    conn: &mut Conn,
    actor: &Actor,
    action: &str,
    operator: &Operator,
    now: Now,
) -> Result<(), db::Error> {
    let detail = json!({
        "login": operator.login,
        "name": operator.name,
        "role": operator.role,
        "status": operator.status,
        "language": operator.language,
    });
    let object_id = operator.id.to_string();
    let deed = Deed { action, object_kind: "operator", object_id, org_path: &operator.org_path, detail };
    audit::append(conn, actor, &deed, now)
}
