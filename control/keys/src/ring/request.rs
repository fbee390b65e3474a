//! The node's side: a key of its own, a request for a certificate, and trust in a CA by its hash.

use ring::{rand::SystemRandom, signature};

use super::{ECDSA_SHA256, P256, sha256};
use crate::{CsrFacts, KeyError, join::hex, pem, x509};

/// Makes an ECDSA P-256 key; gives it as PEM (PKCS #8).
pub fn new_key_pem() -> Result<String, KeyError> {
    let algorithm = &signature::ECDSA_P256_SHA256_ASN1_SIGNING;
    let made = signature::EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new());
    let der = made.map_err(|_| KeyError("no key made: the system gives no random bytes".into()))?;
    Ok(pem::encode("PRIVATE KEY", der.as_ref()))
}

/// Makes a certificate request (PEM) for these names, signed with that key.
pub fn request_pem(facts: &CsrFacts, key_pem: &str) -> Result<String, KeyError> {
    let key = P256::from_pem(key_pem, false, "the key")?;
    let der = x509::write_request(facts, &key.public_key_der(), ECDSA_SHA256, |tbs| key.sign(tbs))?;
    Ok(pem::encode("CERTIFICATE REQUEST", &der))
}

/// Finds the certificate with this SHA-256 among those a server showed (DER, leaf first): the root that a join token
/// pins. The caller still has to check that the leaf is signed by it, with it as the only root.
pub fn ca_in_chain<'a>(chain: &[&'a [u8]], ca_sha256: &[u8; 32]) -> Result<&'a [u8], KeyError> {
    let found = chain.iter().copied().find(|der| sha256(der) == *ca_sha256);
    found.ok_or_else(|| {
        KeyError(format!(
            "the server is not the one the join token speaks of: none of its {} certificates has the SHA-256 {}; \
             is the address right, and the token of this cluster?",
            chain.len(),
            hex(ca_sha256)
        ))
    })
}
