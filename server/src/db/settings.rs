//! Facts about this installation that every server over one database shares: the token secret, the bootstrap token.

use diesel::prelude::*;

use super::schema::settings;
use crate::db::{self, Conn, Db};

/// Reads one setting.
///
/// # Errors
/// [`db::Error`].
pub fn get(conn: &mut Conn, key: &str) -> Result<Option<String>, db::Error> {
    Ok(settings::table.find(key).select(settings::value).first(conn).optional()?)
}

/// Writes one setting, within the caller's transaction.
///
/// # Errors
/// [`db::Error`].
pub fn set(conn: &mut Conn, key: &str, value: &str) -> Result<(), db::Error> {
    let changed = diesel::update(settings::table.find(key)).set(settings::value.eq(value)).execute(conn)?;
    if changed == 0 {
        diesel::insert_into(settings::table)
            .values((settings::key.eq(key), settings::value.eq(value)))
            .execute(conn)?;
    }
    Ok(())
}

/// Removes one setting; returns whether it was there.
///
/// # Errors
/// [`db::Error`].
pub fn remove(conn: &mut Conn, key: &str) -> Result<bool, db::Error> {
    Ok(diesel::delete(settings::table.find(key)).execute(conn)? > 0)
}

/// The secret under which session tokens are made: 32 random bytes, made once for each database.
///
/// # Errors
/// [`db::Error`].
pub async fn token_secret(db: &Db) -> Result<Vec<u8>, db::Error> {
    const KEY: &str = "token_secret";
    let made = hex::encode(rand::random::<[u8; 32]>());
    let first = db
        .write({
            let made = made.clone();
            move |conn| match get(conn, KEY)? {
                Some(secret) => Ok(secret),
                None => set(conn, KEY, &made).map(|()| made),
            }
        })
        .await;
    let secret = match first {
        // Two servers started at once on a new database: the other one's stands.
        Err(error) if error.is_unique_violation() => db.read(|conn| get(conn, KEY)).await?.unwrap_or(made),
        other => other?,
    };
    hex::decode(secret).map_err(|_| db::Error::Open("the stored token secret is damaged".to_owned()))
}
