//! Passwords: what is accepted, and argon2id off the request threads with a bound on how many run at once.

use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use tillward_protocol::FieldError;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::Error;

/// Shortest password, characters.
pub const CHARS_MIN: usize = 12;
/// Longest password, characters; hashing takes no longer for it, but reading it would.
pub const CHARS_MAX: usize = 128;
/// OWASP's first choice for argon2id with little memory: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1_024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Hashes at one time: each takes a core and 19 MiB for some 30 ms.
const PARALLEL_MAX: usize = 2;
/// A request waits this long for its turn before it is told that the server is busy.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);

static TURNS: Semaphore = Semaphore::const_new(PARALLEL_MAX);

/// Checks a password that somebody wants to use with `login`.
///
/// # Errors
/// [`FieldError`] at `password`; never with the password in it.
pub(super) fn check(password: &str, login: &str) -> Result<(), FieldError> {
    let refused = |problem: &str| Err(FieldError::new("password", problem));
    let chars = password.chars().count();
    if !(CHARS_MIN..=CHARS_MAX).contains(&chars) {
        return refused(&format!("must have {CHARS_MIN} to {CHARS_MAX} characters"));
    }
    if password.to_lowercase().contains(login) {
        return refused("must not contain the login name");
    }
    let mut different: Vec<char> = password.chars().collect();
    different.sort_unstable();
    different.dedup();
    if different.len() < 5 { refused("must have at least 5 different characters") } else { Ok(()) }
}

/// The PHC string to keep for `password`.
///
/// # Errors
/// [`Error::Busy`] when too many wait, [`Error::Hash`] when hashing fails.
pub(super) async fn hash(password: String) -> Result<String, Error> {
    let turn = turn().await?;
    let work = tokio::task::spawn_blocking(move || {
        // Held until the work is done, also when the request is given up meanwhile.
        let _turn = turn;
        let hash: PasswordHash = argon2()?.hash_password(password.as_bytes()).map_err(|_| Error::Hash)?;
        Ok(hash.to_string())
    });
    work.await.map_err(|_| Error::Hash)?
}

/// Whether `password` is the one behind `phc`. Without a `phc` (an unknown login) it takes as long and says no.
///
/// # Errors
/// As [`hash`].
pub(super) async fn verify(password: String, phc: Option<String>) -> Result<bool, Error> {
    let turn = turn().await?;
    let work = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let kept = phc.as_deref().and_then(|phc| PasswordHash::new(phc).ok());
        match kept {
            Some(kept) => Ok(argon2()?.verify_password(password.as_bytes(), &kept).is_ok()),
            None => {
                let mut wasted = [0; Params::DEFAULT_OUTPUT_LEN];
                argon2()?.hash_password_into(password.as_bytes(), &[0; 16], &mut wasted).map_err(|_| Error::Hash)?;
                Ok(false)
            }
        }
    });
    work.await.map_err(|_| Error::Hash)?
}

async fn turn() -> Result<SemaphorePermit<'static>, Error> {
    match tokio::time::timeout(TURN_TIMEOUT, TURNS.acquire()).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(_)) | Err(_) => Err(Error::Busy),
    }
}

fn argon2() -> Result<Argon2<'static>, Error> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|_| Error::Hash)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_passwords_are_refused_and_never_repeated() {
        assert!(check("correct horse battery", "li.na").is_ok());
        assert!(check("密码很长很长很长很长够了", "li.na").is_ok());
        let long = "abcdefgh".repeat(17);
        for bad in ["", "short", "elevenchars", "ababababababab", "xxLI.NAxxabcde", long.as_str()] {
            let error = check(bad, "li.na").unwrap_err();
            assert_eq!(error.field, "password", "{bad}");
            assert!(bad.is_empty() || !error.problem.contains(bad), "{error}");
        }
    }

    #[tokio::test]
    async fn only_the_same_password_fits_its_hash() {
        let phc = hash("correct horse battery".to_owned()).await.unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        assert!(verify("correct horse battery".to_owned(), Some(phc.clone())).await.unwrap());
        assert!(!verify("correct horse batterz".to_owned(), Some(phc)).await.unwrap());
        assert!(!verify("anything at all".to_owned(), None).await.unwrap());
        assert!(!verify("anything at all".to_owned(), Some("damaged".to_owned())).await.unwrap());
    }
}
