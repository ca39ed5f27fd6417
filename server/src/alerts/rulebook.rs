//! Rules and hours as people keep them: checked, versioned, in the audit log. What they mean is in `rules.rs`.

use serde::{Deserialize, Serialize};
use serde_json::json;
use tillward_protocol::FieldError;

use super::channels::Error;
use super::digest::DIGEST_AT_MIN;
use super::hours::Zone;
use super::rules::{DAY_MIN, Quiet, Rule, Urgency};
use super::store::rules::{self as store, StoredHours, StoredRule};
use super::{Level, store::channels};
use crate::audit::{self, Actor, Deed};
use crate::clock::Now;
use crate::db::{self, Conn, Db, Sequence};
use crate::failures::incidents::Kind;
use crate::operators::{Caller, Scope};
use crate::organizations::{self, Organization};
use crate::{terminals, text};

/// Rules of one organization.
pub const RULES_MAX: i64 = 50;
/// Steps of one rule: more are a day of nobody listening.
const STEPS_MAX: usize = 5;
/// Models that one rule names.
const MODELS_MAX: usize = 100;

/// What a new rule is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewAlertRule)]
pub struct NewRule {
    /// What people call it.
    pub name: String,
    /// The organization it belongs to; the caller's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<i64>,
    /// Whether it is in force; yes when absent. While an organization has a rule in force, its channels get only what rules send.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Kinds of incidents; all when empty.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// Levels; all when empty.
    #[serde(default)]
    pub levels: Vec<Level>,
    /// Models of terminals; all when empty. What is about no particular model concerns all.
    #[serde(default)]
    pub models: Vec<String>,
    /// `now`, or `digest` for once a day.
    pub delivery: String,
    /// Channels of the same organization: those told at once, then those told as well each time nobody took it on in time.
    pub steps: Vec<Vec<i64>>,
}

fn yes() -> bool {
    true
}

/// A change of a rule: all of it anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AlertRuleChange)]
pub struct RuleChange {
    /// The version that was read.
    pub version: i64,
    /// What people call it.
    pub name: String,
    /// Whether it is in force.
    pub enabled: bool,
    /// Kinds of incidents; all when empty.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// Levels; all when empty.
    #[serde(default)]
    pub levels: Vec<Level>,
    /// Models of terminals; all when empty.
    #[serde(default)]
    pub models: Vec<String>,
    /// `now` or `digest`.
    pub delivery: String,
    /// Channels of each step.
    pub steps: Vec<Vec<i64>>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = AlertRule)]
pub struct RuleView {
    /// Its number.
    pub id: i64,
    /// The organization it belongs to.
    pub organization_id: i64,
    /// What people call it.
    pub name: String,
    /// Whether it is in force.
    pub enabled: bool,
    /// Kinds of incidents; all when empty.
    pub kinds: Vec<String>,
    /// Levels; all when empty.
    pub levels: Vec<Level>,
    /// Models of terminals; all when empty.
    pub models: Vec<String>,
    /// `now` or `digest`.
    pub delivery: String,
    /// Channels of each step.
    pub steps: Vec<Vec<i64>>,
    /// Who made it.
    pub created_by: String,
    /// When it was made, Unix ms.
    pub created_at_ms: i64,
    /// Grows with each change.
    pub version: i64,
}

fn shown(stored: StoredRule) -> RuleView {
    RuleView {
        id: stored.id,
        organization_id: stored.organization_id,
        name: stored.name,
        enabled: stored.rule.is_enabled,
        kinds: stored.rule.kinds,
        levels: stored.rule.levels,
        models: stored.rule.models,
        delivery: stored.rule.urgency.as_str().to_owned(),
        steps: stored.rule.steps,
        created_by: stored.created_by,
        created_at_ms: stored.created_at_ms,
        version: stored.version,
    }
}

fn organization_of(conn: &mut Conn, caller: &Caller, id: Option<i64>) -> Result<Organization, Error> {
    let found = organizations::get(conn, &caller.scope, id.unwrap_or(caller.organization_id))?;
    Ok(found.ok_or_else(|| FieldError::new("organization_id", "is not an organization that you may see"))?)
}

/// Checks a rule for the organization of this path.
fn checked(conn: &mut Conn, org_path: &str, wanted: &RuleChange) -> Result<(String, Rule), Error> {
    let refused = |field: &str, problem: String| Err(Error::from(FieldError::new(field, problem)));
    let name = text::name("name", &wanted.name)?;
    let Some(urgency) = Urgency::parse(&wanted.delivery) else {
        return refused("delivery", "must be now or digest".to_owned());
    };
    if wanted.kinds.iter().any(|kind| Kind::parse(kind).is_none()) {
        return refused("kinds", "names a kind of alert that does not exist".to_owned());
    }
    if wanted.models.len() > MODELS_MAX {
        return refused("models", format!("must name at most {MODELS_MAX} models"));
    }
    if !wanted.models.is_empty() {
        let known = terminals::list_models(conn)?;
        if wanted.models.iter().any(|model| !known.iter().any(|known| known.code == *model)) {
            return refused("models", "names a model that there is not".to_owned());
        }
    }
    if wanted.steps.is_empty() || wanted.steps.len() > STEPS_MAX || wanted.steps.iter().any(Vec::is_empty) {
        return refused("steps", format!("must be 1 to {STEPS_MAX} steps, each with a channel"));
    }
    if urgency == Urgency::Digest && wanted.steps.len() > 1 {
        return refused("steps", "must be one step when it tells once a day: a digest is not escalated".to_owned());
    }
    let own = channels::names(conn, org_path)?;
    if wanted.steps.iter().flatten().any(|id| !own.iter().any(|(known, _)| known == id)) {
        return refused("steps", "must name channels of the same organization".to_owned());
    }
    let rule = Rule {
        is_enabled: wanted.enabled,
        kinds: unique(&wanted.kinds),
        levels: unique(&wanted.levels),
        models: unique(&wanted.models),
        urgency,
        steps: wanted.steps.iter().map(|step| unique(step)).collect(),
    };
    Ok((name, rule))
}

fn unique<T: Clone + Ord>(list: &[T]) -> Vec<T> {
    let mut list = list.to_vec();
    list.sort();
    list.dedup();
    list
}

/// Makes a rule in one of the caller's organizations.
///
/// # Errors
/// [`Error::Field`], [`Error::Limit`], [`Error::Db`].
pub async fn create_rule(db: &Db, caller: &Caller, actor: &Actor, new: NewRule, now: Now) -> Result<RuleView, Error> {
    let (caller, actor) = (caller.clone(), actor.clone());
    db.write(move |conn| {
        let organization = organization_of(conn, &caller, new.organization_id)?;
        let wanted = RuleChange {
            version: 0,
            name: new.name,
            enabled: new.enabled,
            kinds: new.kinds,
            levels: new.levels,
            models: new.models,
            delivery: new.delivery,
            steps: new.steps,
        };
        let (name, rule) = checked(conn, &organization.path, &wanted)?;
        let rules = i64::try_from(store::of_organization(conn, &organization.path)?.len()).unwrap_or(RULES_MAX);
        if rules >= RULES_MAX {
            return Err(Error::Limit(format!("an organization may have at most {RULES_MAX} rules; delete one")));
        }
        let stored = StoredRule {
            id: db::next_id(conn, Sequence::AlertRules)?,
            organization_id: organization.id,
            org_path: organization.path,
            name,
            rule,
            created_by: caller.name,
            created_at_ms: now.0,
            version: 1,
        };
        store::insert(conn, &stored)?;
        append(conn, &actor, "alert_rules.create", &stored, now)?;
        Ok(shown(stored))
    })
    .await
}

/// Writes a rule of the caller's organizations anew.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Changed`], [`Error::Field`], [`Error::Db`].
pub async fn update_rule(
    db: &Db,
    scope: &Scope,
    actor: &Actor,
    id: i64,
    change: RuleChange,
    now: Now,
) -> Result<RuleView, Error> {
    let (scope, actor) = (scope.clone(), actor.clone());
    db.write(move |conn| {
        let before = store::get(conn, &scope, id)?.ok_or(Error::NotFound)?;
        let (name, rule) = checked(conn, &before.org_path, &change)?;
        let after = StoredRule { name, rule, ..before };
        if !store::replace(conn, change.version, &after)? {
            return Err(Error::Changed);
        }
        append(conn, &actor, "alert_rules.update", &after, now)?;
        Ok(shown(StoredRule { version: change.version.saturating_add(1), ..after }))
    })
    .await
}

/// Deletes a rule of the caller's organizations.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Db`].
pub async fn delete_rule(db: &Db, scope: &Scope, actor: &Actor, id: i64, now: Now) -> Result<(), Error> {
    let (scope, actor) = (scope.clone(), actor.clone());
    db.write(move |conn| {
        let rule = store::get(conn, &scope, id)?.ok_or(Error::NotFound)?;
        store::delete(conn, id)?;
        append(conn, &actor, "alert_rules.delete", &rule, now)?;
        Ok(())
    })
    .await
}

/// Rules of the scope by number, after the number `after`.
///
/// # Errors
/// [`db::Error`].
pub fn list_rules(conn: &mut Conn, scope: &Scope, after: Option<i64>, size: u32) -> Result<Vec<RuleView>, db::Error> {
    Ok(store::list(conn, scope, after, i64::from(size))?.into_iter().map(shown).collect())
}

/// One rule.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Db`].
pub fn get_rule(conn: &mut Conn, scope: &Scope, id: i64) -> Result<RuleView, Error> {
    store::get(conn, scope, id)?.map(shown).ok_or(Error::NotFound)
}

fn append(conn: &mut Conn, actor: &Actor, action: &str, stored: &StoredRule, now: Now) -> Result<(), db::Error> {
    let rule = &stored.rule;
    let detail = json!({
        "name": stored.name,
        "enabled": rule.is_enabled,
        "kinds": rule.kinds,
        "levels": rule.levels.iter().map(|level| level.as_str()).collect::<Vec<_>>(),
        "models": rule.models,
        "delivery": rule.urgency.as_str(),
        "steps": rule.steps,
    });
    let object_id = stored.id.to_string();
    let deed = Deed { action, object_kind: "alert_rule", object_id, org_path: &stored.org_path, detail };
    audit::append(conn, actor, &deed, now)
}

/// When people want to be left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AlertQuietHours)]
pub struct QuietHours {
    /// When they begin, `22:00`.
    pub from: String,
    /// When they end, `07:00`; on the next day when that is before their beginning.
    pub until: String,
    /// Levels that break through; the others wait for the digest.
    #[serde(default)]
    pub breaks: Vec<Level>,
}

/// When the people of an organization are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = AlertHours)]
pub struct Hours {
    /// The organization.
    pub organization_id: i64,
    /// Its time zone.
    pub time_zone: String,
    /// Its quiet hours, if it has some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet: Option<QuietHours>,
    /// When its digests are sent.
    pub digest_at: String,
    /// Grows with each change; 0 before the first.
    pub version: i64,
}

/// A change of an organization's hours: all of them anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AlertHoursChange)]
pub struct HoursChange {
    /// The organization; the caller's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<i64>,
    /// The version that was read; 0 before the first change.
    pub version: i64,
    /// IANA name of its time zone; the server's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Its quiet hours; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet: Option<QuietHours>,
    /// When its digests are sent; 08:30 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest_at: Option<String>,
}

/// `22:00` as a minute of the day.
fn minute_of(field: &str, text: &str) -> Result<u16, FieldError> {
    let parsed = text.trim().split_once(':').and_then(|(hour, minute)| {
        let (hour, minute) = (hour.parse::<u16>().ok()?, minute.parse::<u16>().ok()?);
        (hour < 24 && minute < 60).then_some(hour * 60 + minute)
    });
    parsed.ok_or_else(|| FieldError::new(field, "must be a time of day such as 22:00"))
}

fn written(minute: u16) -> String {
    let minute = minute % DAY_MIN;
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

fn shown_hours(stored: StoredHours) -> Hours {
    Hours {
        organization_id: stored.organization_id,
        time_zone: stored.time_zone,
        quiet: stored.quiet.map(|quiet| QuietHours {
            from: written(quiet.from_min),
            until: written(quiet.until_min),
            breaks: quiet.breaks,
        }),
        digest_at: written(stored.digest_at_min),
        version: stored.version,
    }
}

/// The hours of one of the caller's organizations; `usual_zone` is the server's time zone.
///
/// # Errors
/// [`Error::Field`], [`Error::Db`].
pub fn hours_of(
    conn: &mut Conn,
    caller: &Caller,
    organization_id: Option<i64>,
    usual_zone: &str,
) -> Result<Hours, Error> {
    let organization = organization_of(conn, caller, organization_id)?;
    let stored = store::hours(conn, organization.id)?.unwrap_or_else(|| StoredHours {
        organization_id: organization.id,
        org_path: organization.path,
        time_zone: usual_zone.to_owned(),
        quiet: None,
        digest_at_min: DIGEST_AT_MIN,
        version: 0,
    });
    Ok(shown_hours(stored))
}

/// Sets the hours of one of the caller's organizations.
///
/// # Errors
/// [`Error::Field`], [`Error::Changed`], [`Error::Db`].
pub async fn set_hours(
    db: &Db,
    caller: &Caller,
    actor: &Actor,
    change: HoursChange,
    usual_zone: &str,
    now: Now,
) -> Result<Hours, Error> {
    let time_zone = change.time_zone.as_deref().unwrap_or(usual_zone).trim().to_owned();
    if Zone::named(&time_zone).is_none() {
        return Err(FieldError::new("time_zone", "is not a time zone that this server knows").into());
    }
    let digest_at_min = change.digest_at.as_deref().map(|at| minute_of("digest_at", at)).transpose()?;
    let quiet = match &change.quiet {
        None => None,
        Some(quiet) => {
            let (from_min, until_min) =
                (minute_of("quiet.from", &quiet.from)?, minute_of("quiet.until", &quiet.until)?);
            if from_min == until_min {
                return Err(FieldError::new("quiet.until", "must be another time than the beginning").into());
            }
            Some(Quiet { from_min, until_min, breaks: unique(&quiet.breaks) })
        }
    };
    let (caller, actor) = (caller.clone(), actor.clone());
    db.write(move |conn| {
        let organization = organization_of(conn, &caller, change.organization_id)?;
        let hours = StoredHours {
            organization_id: organization.id,
            org_path: organization.path,
            time_zone,
            quiet,
            digest_at_min: digest_at_min.unwrap_or(DIGEST_AT_MIN),
            version: change.version,
        };
        if !store::put_hours(conn, &hours)? {
            return Err(Error::Changed);
        }
        let shown = shown_hours(StoredHours { version: change.version.saturating_add(1), ..hours.clone() });
        let deed = Deed {
            action: "alert_hours.update",
            object_kind: "alert_hours",
            object_id: organization.id.to_string(),
            org_path: &hours.org_path,
            detail: json!({"time_zone": shown.time_zone, "quiet": shown.quiet, "digest_at": shown.digest_at}),
        };
        audit::append(conn, &actor, &deed, now)?;
        Ok(shown)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_day_survive_being_read_and_written() {
        for text in ["00:00", "08:30", "22:05", "23:59"] {
            assert_eq!(written(minute_of("digest_at", text).unwrap()), text);
        }
        for bad in ["", "8", "24:00", "12:60", "-1:00", "12:00:00", "noon"] {
            assert_eq!(minute_of("quiet.from", bad).unwrap_err().field, "quiet.from", "{bad}");
        }
    }

    #[test]
    fn those_who_are_told_next_are_told_when_people_are_reminded() {
        for level in Level::ALL {
            let limit_ms = crate::failures::incidents::State::Open.time_limit_ms(level, 0);
            assert_eq!(limit_ms, Some(level.acknowledge_ms()), "{level:?}");
        }
    }
}
