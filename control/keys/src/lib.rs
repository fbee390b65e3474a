//! Certificates, tokens, signatures and the sealing of secrets.
//!
//! The words (this file) need no features: [`Keys`] is the port that the control plane's logic signs and verifies
//! with. Feature `ring` brings the real thing, `fake` an honest stand-in for the simulator. Never async, never the store.
//! No clock is read here: times come in as Unix seconds.
//!
//! | part | what |
//! |---|---|
//! | [`join`] | the join token: CA hash and bootstrap token |
//! | [`x509`], [`der`], [`pem`] | certificates and requests, read strictly and written, without cryptography |
//! | `ring` (feature) | [`ring::RealKeys`] on files of their own; the agent's key, request and CA pinning |
//! | [`fake`] | deterministic keys for the simulator; refuses what it did not sign |
//! | [`contract`] | the suite both pass |

pub mod contract;
pub mod der;
pub mod fake;
pub mod files;
pub mod join;
pub mod pem;
#[cfg(feature = "ring")]
pub mod ring;
pub mod x509;

/// A refusal or failure; the text names the thing, the cause and the fix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyError(pub String);

impl std::fmt::Display for KeyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for KeyError {}

/// What a certificate request says of itself; its own signature has been checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CsrFacts {
    /// Subject CN.
    pub common_name: String,
    /// Subject O, in order.
    pub organizations: Vec<String>,
    /// Subject alternative names.
    pub dns_names: Vec<String>,
    /// Subject alternative names that are addresses.
    pub ip_addresses: Vec<String>,
    /// e-mail or URI names are asked for (no profile of ours allows them).
    pub other_names: bool,
}

/// What to certify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertRequest<'a> {
    /// PEM of the request.
    pub csr_pem: &'a str,
    /// First second of validity.
    pub not_before_s: i64,
    /// Last second of validity.
    pub not_after_s: i64,
    /// Usable as a TLS client.
    pub client: bool,
    /// Usable as a TLS server.
    pub server: bool,
    /// 16 random bytes.
    pub serial: [u8; 16],
}

/// Signing, verifying, sealing. Deterministic for the same arguments where the algorithm is; randomness comes in.
pub trait Keys: Send + Sync {
    /// PEM of the cluster's root certificate.
    fn root_ca_pem(&self) -> &str;
    /// Signs the JSON claims as a JWT.
    fn sign_jwt(&self, claims_json: &str) -> Result<String, KeyError>;
    /// Checks shape and signature; gives the claims as JSON text. Expiry and audience are the caller's to check.
    fn verify_jwt(&self, token: &str) -> Result<String, KeyError>;
    /// The public keys that verify the JWTs, as a JWKS document.
    fn jwks(&self) -> String;
    /// Reads a PEM certificate request and checks its signature.
    fn read_csr(&self, csr_pem: &str) -> Result<CsrFacts, KeyError>;
    /// Issues a certificate for the request's subject, names and key. Gives the PEM chain (leaf, then root).
    fn issue(&self, request: &CertRequest<'_>) -> Result<String, KeyError>;
    /// Encrypts; `nonce` must never repeat; `context` (the store key) is authenticated.
    fn seal(&self, context: &[u8], nonce: [u8; 12], plain: &[u8]) -> Vec<u8>;
    /// Decrypts what [`Keys::seal`] gave for the same context.
    fn unseal(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, KeyError>;
    /// HMAC-SHA-256 under a key of the cluster's own (for storing and comparing bootstrap token secrets, continue tokens).
    fn mac(&self, data: &[u8]) -> [u8; 32];
}
