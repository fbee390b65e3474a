//! Keys for the simulator: deterministic, without cryptography, and honest: what it did not sign it refuses.
//!
//! Tokens are JWTs and certificates are X.509 in shape, so whoever reads them needs no special case; only the
//! signatures are a keyed checksum. Anyone could forge them: never a real cluster.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    CertRequest, CsrFacts, KeyError, Keys,
    der::{bit_string, nest, tag, value},
    pem, x509,
};

/// An OID below an arc for examples: 1.3.6.1.4.1.32473.1.
const ALGORITHM_OID: &[u8] = &[0x2b, 6, 1, 4, 1, 0x81, 0xfd, 0x59, 1];
const HEADER: &str = r#"{"alg":"FAKE","kid":"fake"}"#;

/// Everything follows from one seed.
#[derive(Clone, Debug)]
pub struct FakeKeys {
    secret: [u8; 32],
    ca_key: Vec<u8>,
    root_der: Vec<u8>,
    root_pem: String,
}

/// A keyed checksum of 256 bits: four mixed lanes. Stable for ever (seeds are kept); not secure.
pub fn checksum(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut lanes = [0x243f_6a88_85a3_08d3_u64, 0x1319_8a2e, 0xa409_3822, 0x299f_31d0];
    let length = u64::try_from(data.len()).expect("a length fits 64 bits").to_be_bytes();
    for byte in key.iter().chain(&length).chain(data) {
        for (lane, salt) in lanes.iter_mut().zip(1_u64..) {
            *lane = (*lane ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3 + 2 * salt);
            *lane ^= *lane >> 29;
        }
    }
    let mut out = [0; 32];
    for (chunk, lane) in out.chunks_mut(8).zip(lanes) {
        chunk.copy_from_slice(&(lane ^ lane >> 32).to_be_bytes());
    }
    out
}

fn algorithm() -> Vec<u8> {
    value(tag::SEQUENCE, &value(tag::OID, ALGORITHM_OID))
}

fn public_key(key: &[u8]) -> Vec<u8> {
    nest(tag::SEQUENCE, &[&algorithm(), &bit_string(key)])
}

/// A request as an agent in the simulator makes it; `key` is both halves of its key.
pub fn request_pem(facts: &CsrFacts, key: &[u8]) -> String {
    let der = x509::write_request(facts, &public_key(key), &algorithm(), |message| {
        Ok(checksum(key, message).into())
    })
    .expect("the simulator asks for well-formed names");
    pem::encode("CERTIFICATE REQUEST", &der)
}

impl FakeKeys {
    /// The keys of the cluster with this seed.
    pub fn new(seed: u64) -> Self {
        let secret = checksum(b"fake cluster", &seed.to_be_bytes());
        let ca_key = checksum(&secret, b"ca").to_vec();
        let subject = x509::name("fake-ca", &[]);
        let template = x509::Template {
            issuer_der: &subject,
            subject_der: &subject,
            public_key_der: &public_key(&ca_key),
            key_ids: (&[0; 20], &[0; 20]),
            validity_s: (0, 4_102_444_800),
            serial: [1; 16],
            authority: true,
            client: false,
            server: false,
            dns_names: &[],
            ip_addresses: &[],
        };
        let root_der = x509::write_certificate(&template, &algorithm(), |message| {
            Ok(checksum(&ca_key, message).into())
        })
        .expect("the template names no address");
        let root_pem = pem::encode("CERTIFICATE", &root_der);
        Self { secret, ca_key, root_der, root_pem }
    }

    /// The root certificate's checksum in place of its SHA-256 (for join tokens).
    pub fn root_hash(&self) -> [u8; 32] {
        checksum(b"hash", &self.root_der)
    }

    /// Reads a certificate of a chain that [`Keys::issue`] gave; refuses one that this cluster did not sign.
    pub fn read_issued(&self, chain_pem: &str) -> Result<x509::CertFacts, KeyError> {
        let der = pem::decode("CERTIFICATE", chain_pem)?;
        let signed = x509::certificate_signed(&der)?;
        if signed.signature != checksum(&self.ca_key, signed.message) {
            return Err(KeyError("the certificate was not signed by this cluster's CA".into()));
        }
        x509::read_certificate(&der)
    }

    fn stream(&self, context: &[u8], nonce: [u8; 12], data: &[u8]) -> Vec<u8> {
        let key = [self.secret.as_slice(), &nonce, context].concat();
        let blocks = (0_u64..).flat_map(|n| checksum(&key, &n.to_be_bytes()));
        data.iter().zip(blocks).map(|(byte, pad)| byte ^ pad).collect()
    }
}

fn read(csr_pem: &str) -> Result<(Vec<u8>, CsrFacts), KeyError> {
    let der = pem::decode("CERTIFICATE REQUEST", csr_pem)?;
    let request = x509::read_request(&der)?;
    let (named, key) = x509::read_public_key(request.public_key_der)?;
    let same = named == algorithm() && request.signed.algorithm == algorithm();
    if !same || request.signed.signature != checksum(key, request.signed.message) {
        return Err(KeyError("the certificate request's own signature does not hold".into()));
    }
    let facts = request.facts.clone();
    Ok((der, facts))
}

impl Keys for FakeKeys {
    fn root_ca_pem(&self) -> &str {
        &self.root_pem
    }

    fn sign_jwt(&self, claims_json: &str) -> Result<String, KeyError> {
        let message =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(HEADER), URL_SAFE_NO_PAD.encode(claims_json));
        let signature = checksum(&self.secret, message.as_bytes());
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn verify_jwt(&self, token: &str) -> Result<String, KeyError> {
        crate::contract::split_jwt(token, HEADER, |message, signature| {
            signature == checksum(&self.secret, message)
        })
    }

    fn jwks(&self) -> String {
        r#"{"keys":[]}"#.into()
    }

    fn read_csr(&self, csr_pem: &str) -> Result<CsrFacts, KeyError> {
        read(csr_pem).map(|(_, facts)| facts)
    }

    fn issue(&self, request: &CertRequest<'_>) -> Result<String, KeyError> {
        let (der, facts) = read(request.csr_pem)?;
        let parsed = x509::read_request(&der)?;
        let root = x509::read_certificate(&self.root_der)?;
        let template = x509::Template {
            issuer_der: &root.subject_der,
            subject_der: parsed.subject_der,
            public_key_der: parsed.public_key_der,
            key_ids: (&[0; 20], &[1; 20]),
            validity_s: (request.not_before_s, request.not_after_s),
            serial: request.serial,
            authority: false,
            client: request.client,
            server: request.server,
            dns_names: &facts.dns_names,
            ip_addresses: &facts.ip_addresses,
        };
        let leaf = x509::write_certificate(&template, &algorithm(), |message| {
            Ok(checksum(&self.ca_key, message).into())
        })?;
        Ok(pem::encode("CERTIFICATE", &leaf) + &self.root_pem)
    }

    fn seal(&self, context: &[u8], nonce: [u8; 12], plain: &[u8]) -> Vec<u8> {
        let body = self.stream(context, nonce, plain);
        let tag = self.mac(&[context, &nonce, &body].concat());
        [nonce.as_slice(), &tag, &body].concat()
    }

    fn unseal(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, KeyError> {
        let refused = || KeyError("the sealed value was changed, or belongs to another key".into());
        let (nonce, rest) = sealed.split_first_chunk::<12>().ok_or_else(refused)?;
        let (tag, body) = rest.split_first_chunk::<32>().ok_or_else(refused)?;
        if *tag != self.mac(&[context, nonce, body].concat()) {
            return Err(refused());
        }
        Ok(self.stream(context, *nonce, body))
    }

    fn mac(&self, data: &[u8]) -> [u8; 32] {
        checksum(&self.secret, data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_contract() {
        let maker = |facts: &CsrFacts| request_pem(facts, b"an agent's key");
        crate::contract::check(&FakeKeys::new(1), &FakeKeys::new(2), &maker);
    }

    #[test]
    fn the_same_seed_gives_the_same_keys() {
        assert_eq!(FakeKeys::new(7).root_ca_pem(), FakeKeys::new(7).root_ca_pem());
        assert_ne!(FakeKeys::new(7).mac(b""), FakeKeys::new(8).mac(b""));
    }

    #[test]
    fn foreign_certificates_are_refused() {
        let (ours, theirs) = (FakeKeys::new(1), FakeKeys::new(2));
        let csr_pem = &request_pem(&CsrFacts::default(), b"k");
        let request = CertRequest {
            csr_pem,
            not_before_s: 1,
            not_after_s: 2,
            client: true,
            server: false,
            serial: [0; 16],
        };
        let chain = ours.issue(&request).unwrap();
        assert_eq!(ours.read_issued(&chain).unwrap().not_after_s, 2);
        assert!(theirs.read_issued(&chain).is_err());
    }
}
