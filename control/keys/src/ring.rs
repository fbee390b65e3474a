//! The real keys, on ring: ECDSA P-256 for the CA and the tokens, ChaCha20-Poly1305 for sealing (fast on boards
//! without AES instructions), HMAC-SHA-256.
//!
//! Certificates are written by [`crate::x509`]: what is asked for (subject with several organizations, key of any
//! kind) is passed on byte for byte.

mod request;
mod stored;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    aead, digest, hmac,
    rand::{SecureRandom, SystemRandom},
    signature::{self, KeyPair},
};

pub use request::{ca_in_chain, new_key_pem, request_pem};
pub use stored::{Identity, RealKeys, ServerNames};

use crate::{
    CertRequest, CsrFacts, KeyError, Keys,
    der::{bit_string, nest, tag},
    join::hex,
    pem, x509,
};

/// AlgorithmIdentifier of a P-256 public key (RFC 5480).
const P256_KEY: &[u8] = &[
    0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1,
    7,
];
/// AlgorithmIdentifier of a P-384 public key.
const P384_KEY: &[u8] =
    &[0x30, 0x10, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 0x22];
/// AlgorithmIdentifier of an RSA public key (RFC 4055).
const RSA_KEY: &[u8] = &[0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
/// AlgorithmIdentifier of an Ed25519 key and signature (RFC 8410).
const ED25519: &[u8] = &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70];
/// AlgorithmIdentifier of ecdsa-with-SHA256 (RFC 5758).
const ECDSA_SHA256: &[u8] = &[0x30, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
/// AlgorithmIdentifier of ecdsa-with-SHA384.
const ECDSA_SHA384: &[u8] = &[0x30, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
/// AlgorithmIdentifier of sha256WithRSAEncryption.
const RSA_SHA256: &[u8] = &[0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 5, 0];

/// First octet of a sealed value: which algorithm and layout.
const SEALED_V1: u8 = 1;

/// SHA-256.
pub fn sha256(data: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, data).as_ref());
    out
}

/// Random octets from the system.
pub fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut out = [0; N];
    SystemRandom::new()
        .fill(&mut out)
        .map_err(|_| KeyError("the system gives no random bytes; is /dev/urandom there?".into()))?;
    Ok(out)
}

/// A P-256 key that signs.
struct P256 {
    pair: signature::EcdsaKeyPair,
}

impl P256 {
    fn from_pem(text: &str, fixed: bool, what: &str) -> Result<Self, KeyError> {
        let der = pem::decode("PRIVATE KEY", text)?;
        let algorithm = if fixed {
            &signature::ECDSA_P256_SHA256_FIXED_SIGNING
        } else {
            &signature::ECDSA_P256_SHA256_ASN1_SIGNING
        };
        let pair = signature::EcdsaKeyPair::from_pkcs8(algorithm, &der, &SystemRandom::new())
            .map_err(|e| KeyError(format!("{what} is no P-256 key in PKCS #8: {e}")))?;
        Ok(Self { pair })
    }

    fn bits(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn public_key_der(&self) -> Vec<u8> {
        nest(tag::SEQUENCE, &[P256_KEY, &bit_string(self.bits())])
    }

    /// Key identifier: the first 20 octets of the SHA-256 of the key's bits (RFC 7093, method 1).
    fn id(&self) -> Vec<u8> {
        key_id(self.bits())
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let made = self.pair.sign(&SystemRandom::new(), message);
        made.map(|s| s.as_ref().to_vec())
            .map_err(|_| KeyError("signing failed: the system gives no random bytes".into()))
    }
}

fn key_id(bits: &[u8]) -> Vec<u8> {
    sha256(bits).into_iter().take(20).collect()
}

/// Checks a request's signature with the key it holds.
fn verify_request(request: &x509::Request<'_>) -> Result<(), KeyError> {
    let (key_kind, bits) = x509::read_public_key(request.public_key_der)?;
    let signed = &request.signed;
    let algorithm: &dyn signature::VerificationAlgorithm = match (key_kind, signed.algorithm) {
        (P256_KEY, ECDSA_SHA256) => &signature::ECDSA_P256_SHA256_ASN1,
        (P384_KEY, ECDSA_SHA384) => &signature::ECDSA_P384_SHA384_ASN1,
        (P384_KEY, ECDSA_SHA256) => &signature::ECDSA_P384_SHA256_ASN1,
        (RSA_KEY, RSA_SHA256) => &signature::RSA_PKCS1_2048_8192_SHA256,
        (ED25519, ED25519) => &signature::ED25519,
        _ => {
            return Err(KeyError(
                "the certificate request's key or signature is of a kind not taken; use ECDSA P-256 or \
                 P-384, Ed25519, or RSA of 2048 bits or more with SHA-256"
                    .into(),
            ));
        }
    };
    signature::UnparsedPublicKey::new(algorithm, bits)
        .verify(signed.message, signed.signature)
        .map_err(|_| KeyError("the certificate request's own signature does not hold".into()))
}

impl Keys for RealKeys {
    fn root_ca_pem(&self) -> &str {
        &self.root_pem
    }

    fn sign_jwt(&self, claims_json: &str) -> Result<String, KeyError> {
        let message = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(&self.jwt_header),
            URL_SAFE_NO_PAD.encode(claims_json)
        );
        let signature = self.jwt.sign(message.as_bytes())?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn verify_jwt(&self, token: &str) -> Result<String, KeyError> {
        crate::contract::split_jwt(token, &self.jwt_header, |message, signature| {
            let algorithm = &signature::ECDSA_P256_SHA256_FIXED;
            let key = signature::UnparsedPublicKey::new(algorithm, self.jwt.bits());
            key.verify(message, signature).is_ok()
        })
    }

    fn jwks(&self) -> String {
        // An uncompressed point: 4, x, y.
        let point = self.jwt.bits().get(1..).unwrap_or_default();
        let (x, y) = point.split_at(point.len() / 2);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let kid = &self.jwt_kid;
        format!(
            r#"{{"keys":[{{"use":"sig","kty":"EC","kid":"{kid}","crv":"P-256","alg":"ES256","x":"{x}","y":"{y}"}}]}}"#
        )
    }

    fn read_csr(&self, csr_pem: &str) -> Result<CsrFacts, KeyError> {
        let der = pem::decode("CERTIFICATE REQUEST", csr_pem)?;
        let request = x509::read_request(&der)?;
        verify_request(&request)?;
        Ok(request.facts)
    }

    fn issue(&self, asked: &CertRequest<'_>) -> Result<String, KeyError> {
        let der = pem::decode("CERTIFICATE REQUEST", asked.csr_pem)?;
        let request = x509::read_request(&der)?;
        verify_request(&request)?;
        let (_, bits) = x509::read_public_key(request.public_key_der)?;
        let leaf = self.certify(&x509::Template {
            issuer_der: &self.root_subject,
            subject_der: request.subject_der,
            public_key_der: request.public_key_der,
            key_ids: (&self.ca.id(), &key_id(bits)),
            validity_s: (asked.not_before_s, asked.not_after_s),
            serial: asked.serial,
            authority: false,
            client: asked.client,
            server: asked.server,
            dns_names: &request.facts.dns_names,
            ip_addresses: &request.facts.ip_addresses,
        })?;
        Ok(pem::encode("CERTIFICATE", &leaf) + &self.root_pem)
    }

    fn seal(&self, context: &[u8], nonce: [u8; 12], plain: &[u8]) -> Vec<u8> {
        let mut body = plain.to_vec();
        self.sealing
            .seal_in_place_append_tag(
                aead::Nonce::assume_unique_for_key(nonce),
                aead::Aad::from(context),
                &mut body,
            )
            .expect("ring refuses only bodies of many gigabytes; objects are bounded");
        [&[SEALED_V1], nonce.as_slice(), &body].concat()
    }

    fn unseal(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, KeyError> {
        let refused = || {
            KeyError(
                "a sealed value was changed, or pki/seal.key is not the one it was sealed with: \
                 restore both from the same backup"
                    .into(),
            )
        };
        let (version, rest) = sealed.split_first().ok_or_else(refused)?;
        let (nonce, body) = rest.split_first_chunk::<12>().ok_or_else(refused)?;
        if *version != SEALED_V1 {
            return Err(refused());
        }
        let mut body = body.to_vec();
        let nonce = aead::Nonce::assume_unique_for_key(*nonce);
        let plain = self
            .sealing
            .open_in_place(nonce, aead::Aad::from(context), &mut body)
            .map_err(|_| refused())?;
        Ok(plain.to_vec())
    }

    fn mac(&self, data: &[u8]) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(hmac::sign(&self.mac, data).as_ref());
        out
    }
}

/// Name of a token-signing key: part of its own hash, so that it changes with the key.
fn kid(key: &P256) -> String {
    hex(&sha256(key.bits())).chars().take(16).collect()
}
