//! Session tokens (JWT, HS256) for terminals and operators, with this program's own crypto.
//!
//! The two kinds have different audiences: neither is accepted on the other's roots. A terminal's token is verified
//! once and then looked up in memory; ending its session is the database's business (`session_epoch`), read with each
//! check-in's transaction.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::signature::{Error as SignatureError, Signer, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tillward_protocol::ids::TerminalId;

use crate::clock::Now;

/// How long a terminal's session token is good for, s.
pub const TERMINAL_TOKEN_S: u32 = 3_600;
/// How long an operator's access token is good for, s; the refresh token gets the next one.
pub const OPERATOR_TOKEN_S: u32 = 900;
/// How long a challenge may take to come back signed, s: several round trips over 2G.
pub const CHALLENGE_S: i64 = 120;
/// Verified terminal tokens kept in memory, in all shards. Beyond, a shard starts anew and verifies again.
const CACHED_TOKENS_MAX: usize = 1 << 20;
const SHARDS: usize = 64;

/// A terminal with a good token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSession {
    /// Which terminal.
    pub terminal_id: TerminalId,
    /// The epoch its session was opened in.
    pub epoch: i64,
    /// When the token ends, Unix s.
    pub expires_s: i64,
}

/// An operator's access token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorClaims {
    /// Session id.
    pub sid: String,
    /// Audience, always `operator`.
    aud: String,
    /// End, Unix s.
    pub exp: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct TerminalClaims {
    sub: i64,
    ep: i64,
    aud: String,
    exp: i64,
}

const TERMINAL_AUDIENCE: &str = "terminal";
const OPERATOR_AUDIENCE: &str = "operator";

/// Makes and checks tokens with one secret.
pub struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    secret: Vec<u8>,
    hashers: (RandomState, RandomState),
    shards: Vec<Mutex<HashMap<(u64, u64), TerminalSession>>>,
}

impl Tokens {
    /// Tokens under `secret` (32 random bytes, the same on every server over one database).
    pub fn new(secret: &[u8]) -> Self {
        // A second call finds the provider already there.
        let _ = PROVIDER.install_default();
        Self {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
            secret: secret.to_vec(),
            hashers: (RandomState::new(), RandomState::new()),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// A session token for a terminal.
    pub fn issue_terminal(&self, terminal_id: TerminalId, epoch: i64, now: Now) -> Option<String> {
        let exp = now.seconds() + i64::from(TERMINAL_TOKEN_S);
        self.issue(&TerminalClaims { sub: terminal_id.0, ep: epoch, aud: TERMINAL_AUDIENCE.to_owned(), exp })
    }

    /// An access token for an operator's session.
    pub fn issue_operator(&self, session_id: &str, now: Now) -> Option<String> {
        let exp = now.seconds() + i64::from(OPERATOR_TOKEN_S);
        self.issue(&OperatorClaims { sid: session_id.to_owned(), aud: OPERATOR_AUDIENCE.to_owned(), exp })
    }

    /// The terminal behind `token`, if it is good at `now`.
    pub fn verify_terminal(&self, token: &str, now: Now) -> Option<TerminalSession> {
        let key = (self.hashers.0.hash_one(token), self.hashers.1.hash_one(token));
        let shard = usize::try_from(key.0 % 64).ok().and_then(|index| self.shards.get(index))?;
        let known = shard.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        let session = match known {
            Some(session) => session,
            None => {
                let claims: TerminalClaims = self.verify(token, TERMINAL_AUDIENCE)?;
                let terminal_id = TerminalId(claims.sub);
                let session = TerminalSession { terminal_id, epoch: claims.ep, expires_s: claims.exp };
                if session.expires_s > now.seconds() {
                    let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
                    if shard.len() >= CACHED_TOKENS_MAX / SHARDS {
                        shard.clear();
                    }
                    shard.insert(key, session);
                }
                session
            }
        };
        (session.expires_s > now.seconds()).then_some(session)
    }

    /// The claims of an operator's `token`, if it is good at `now`.
    pub fn verify_operator(&self, token: &str, now: Now) -> Option<OperatorClaims> {
        let claims: OperatorClaims = self.verify(token, OPERATOR_AUDIENCE)?;
        (claims.exp > now.seconds()).then_some(claims)
    }

    /// A challenge for a terminal to sign; nothing is stored.
    pub fn challenge(&self, terminal_id: TerminalId, now: Now) -> String {
        let until = now.seconds() + CHALLENGE_S;
        format!("{until}.{}", self.challenge_mac(terminal_id, until))
    }

    /// Whether `challenge` was given to this terminal and is still good.
    pub fn is_challenge(&self, challenge: &str, terminal_id: TerminalId, now: Now) -> bool {
        use subtle::ConstantTimeEq;
        let Some((until, mac)) = challenge.split_once('.') else { return false };
        let Ok(until) = until.parse::<i64>() else { return false };
        let good: bool = mac.as_bytes().ct_eq(self.challenge_mac(terminal_id, until).as_bytes()).into();
        good && (now.seconds()..=now.seconds() + CHALLENGE_S).contains(&until)
    }

    fn challenge_mac(&self, terminal_id: TerminalId, until: i64) -> String {
        hex::encode(hmac_sha256(&self.secret, format!("challenge\n{terminal_id}\n{until}").as_bytes()))
    }

    fn issue<C: Serialize>(&self, claims: &C) -> Option<String> {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.encoding)
            .inspect_err(|error| tracing::error!(%error, "a token could not be made"))
            .ok()
    }

    fn verify<C: serde::de::DeserializeOwned + Clone>(&self, token: &str, audience: &str) -> Option<C> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "aud"]);
        // Expiry is checked by the callers against the server's own clock.
        validation.validate_exp = false;
        jsonwebtoken::decode::<C>(token, &self.decoding, &validation).ok().map(|data| data.claims)
    }
}

fn hmac_sha256(secret: &[u8], message: &[u8]) -> [u8; 32] {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return [0; 32] };
    mac.update(message);
    mac.finalize().into_bytes().into()
}

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| match algorithm {
        Algorithm::HS256 => Ok(Box::new(Hs256(key.as_bytes().to_vec()))),
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    },
    verifier_factory: |algorithm, key| match algorithm {
        Algorithm::HS256 => Ok(Box::new(Hs256(key.try_get_as_bytes()?.to_vec()))),
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    },
    key_utils: KeyUtils::new_unimplemented(),
};

struct Hs256(Vec<u8>);

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        Ok(hmac_sha256(&self.0, message).to_vec())
    }
}

impl Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), SignatureError> {
        use subtle::ConstantTimeEq;
        let good: bool = hmac_sha256(&self.0, message).ct_eq(signature).into();
        if good { Ok(()) } else { Err(SignatureError::new()) }
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now(1_800_000_000_000);

    #[test]
    fn a_token_is_good_only_for_its_audience_its_secret_and_its_time() {
        let tokens = Tokens::new(b"secret");
        let token = tokens.issue_terminal(TerminalId(7), 3, NOW).unwrap();
        let session = tokens.verify_terminal(&token, NOW).unwrap();
        assert_eq!((session.terminal_id, session.epoch), (TerminalId(7), 3));
        assert_eq!(tokens.verify_operator(&token, NOW), None);
        assert_eq!(Tokens::new(b"other").verify_terminal(&token, NOW), None);
        let later = Now(NOW.0 + i64::from(TERMINAL_TOKEN_S) * 1_000 + 1_000);
        assert_eq!(tokens.verify_terminal(&token, later), None);
        let operator = tokens.issue_operator("s", NOW).unwrap();
        assert!(tokens.verify_operator(&operator, NOW).is_some());
        assert_eq!(tokens.verify_terminal(&operator, NOW), None);
    }

    #[test]
    fn unsigned_and_forged_tokens_are_refused() {
        let tokens = Tokens::new(b"secret");
        let token = tokens.issue_terminal(TerminalId(7), 3, NOW).unwrap();
        let (head, signature) = token.rsplit_once('.').unwrap();
        // {"alg":"none","typ":"JWT"}
        let none = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.", head.split_once('.').unwrap().1);
        for forged in [none, format!("{head}."), format!("{head}A.{signature}"), String::new(), "..".to_owned()] {
            assert_eq!(tokens.verify_terminal(&forged, NOW), None, "{forged}");
        }
    }

    #[test]
    fn a_challenge_is_good_for_its_terminal_and_a_short_time() {
        let tokens = Tokens::new(b"secret");
        let challenge = tokens.challenge(TerminalId(7), NOW);
        assert!(tokens.is_challenge(&challenge, TerminalId(7), NOW));
        assert!(!tokens.is_challenge(&challenge, TerminalId(8), NOW));
        assert!(!tokens.is_challenge(&challenge, TerminalId(7), Now(NOW.0 + 121_000)));
        assert!(!tokens.is_challenge("x", TerminalId(7), NOW));
    }
}
