//! The one crypto stack: SHA-256 and strict Ed25519, also installed as the provider of the TUF library.

use ed25519_dalek::{Signature, VerifyingKey};
use sha2::Digest;
use sigstore_crypto::{CryptoProvider, Error, HashContext, Result, SigningScheme};
use sigstore_types::HashAlgorithm;

pub use ed25519_dalek::SigningKey;

/// SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    sha2::Sha256::digest(bytes).into()
}

/// Verifies `signature` over `message` strictly (no small-order keys, one accepted encoding).
///
/// Returns whether it holds; a key or signature of the wrong length does not.
pub fn verify(public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let Ok(key) = <[u8; 32]>::try_from(public_key) else { return false };
    let Ok(key) = VerifyingKey::from_bytes(&key) else { return false };
    let Ok(signature) = Signature::from_slice(signature) else { return false };
    key.verify_strict(message, &signature).is_ok()
}

/// [`verify`] with both key and signature in hex, as they travel in JSON.
pub fn verify_hex(public_key: &str, message: &[u8], signature: &str) -> bool {
    match (hex::decode(public_key), hex::decode(signature)) {
        (Ok(key), Ok(signature)) => verify(&key, message, &signature),
        _ => false,
    }
}

/// Signs `message`; the result is in hex.
pub fn sign_hex(key: &SigningKey, message: &[u8]) -> String {
    use ed25519_dalek::Signer;
    hex::encode(key.sign(message).to_bytes())
}

/// Hex of the public half of `key`.
pub fn public_hex(key: &SigningKey) -> String {
    hex::encode(key.verifying_key().to_bytes())
}

/// Makes this crate's crypto the TUF library's provider. Call first in every program; calling again does nothing.
pub fn install() {
    static PROVIDER: Provider = Provider;
    // A second call finds the provider already there, which is what it wanted.
    let _ = sigstore_crypto::install_default_provider(&PROVIDER);
}

#[derive(Debug)]
struct Provider;

struct Sha256Context(sha2::Sha256);

impl HashContext for Sha256Context {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }
    fn finalize(self: Box<Self>) -> Vec<u8> {
        self.0.finalize().to_vec()
    }
}

struct Sha512Context(sha2::Sha512);

impl HashContext for Sha512Context {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }
    fn finalize(self: Box<Self>) -> Vec<u8> {
        self.0.finalize().to_vec()
    }
}

impl CryptoProvider for Provider {
    fn hash(&self, algorithm: HashAlgorithm) -> Result<Box<dyn HashContext>> {
        match algorithm {
            HashAlgorithm::Sha2256 => Ok(Box::new(Sha256Context(sha2::Sha256::new()))),
            HashAlgorithm::Sha2512 => Ok(Box::new(Sha512Context(sha2::Sha512::new()))),
            other => Err(Error::UnsupportedAlgorithm(format!("{other:?}"))),
        }
    }

    fn verify_raw(&self, scheme: SigningScheme, public_key: &[u8], data: &[u8], signature: &[u8]) -> Result<()> {
        match scheme {
            SigningScheme::Ed25519 if verify(public_key, data, signature) => Ok(()),
            SigningScheme::Ed25519 => Err(Error::Verification("ed25519 signature does not hold".to_owned())),
            other => Err(Error::UnsupportedAlgorithm(format!("{other:?}"))),
        }
    }

    fn verify_prehashed(&self, scheme: SigningScheme, _: &[u8], _: &[u8], _: &[u8]) -> Result<()> {
        Err(Error::UnsupportedAlgorithm(format!("{scheme:?} over a digest")))
    }
}
