//! The keys on disk: `DIR/pki`, made whole on the first start (written beside and renamed), 0700 with 0600 files.
//!
//! | file | what |
//! |---|---|
//! | `ca.crt`, `ca.key` | the cluster's root certificate and its key |
//! | `sa.key` | signs service account tokens |
//! | `seal.key` | seals Secrets (32 octets, base64) |
//! | `mac.key` | HMAC (32 octets, base64) |
//! | `server.pem`, `admin.pem` | key and chain of the API server and of the administrator; made anew as needed |

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{aead, hmac};

use super::{ECDSA_SHA256, P256, kid, new_key_pem, random, sha256};
use crate::{KeyError, files, pem, x509};

/// The root is valid from 1970: boards without a clock of their own start there, and TLS looks at the time.
const ROOT_FROM_S: i64 = 0;
/// No board of ours was started before 2025, whatever its clock says.
const NOW_MIN_S: i64 = 1_735_689_600;
const YEAR_S: i64 = 365 * 86_400;
const ROOT_YEARS: i64 = 30;
/// Life of the server's and the administrator's certificate.
const LEAF_S: i64 = YEAR_S;
/// Likewise, counted from [`NOW_MIN_S`], where the clock was never set: what is made before the time comes is good after.
const LEAF_UNSET_CLOCK_S: i64 = 5 * YEAR_S;
/// Made anew when less than this is left.
const LEAF_RENEW_S: i64 = 120 * 86_400;

/// What the server's certificate must be good for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerNames {
    /// DNS names.
    pub dns: BTreeSet<String>,
    /// IP addresses in their canonical text form.
    pub ips: BTreeSet<String>,
}

fn leaf_until_s(now_s: i64) -> i64 {
    if now_s < NOW_MIN_S { NOW_MIN_S + LEAF_UNSET_CLOCK_S } else { now_s + LEAF_S }
}

impl ServerNames {
    /// The names every API server has: loopback, the `kubernetes` Service and its first address, this host.
    pub fn standard(host_name: &str, service_ip: &str) -> Self {
        let mut names = Self::default();
        for name in [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            host_name,
            "127.0.0.1",
            "::1",
            service_ip,
        ] {
            names.add(name);
        }
        names
    }

    /// Adds a DNS name or an address. Empty ones are left out.
    pub fn add(&mut self, name: &str) {
        match name.parse::<std::net::IpAddr>() {
            Ok(ip) => _ = self.ips.insert(ip.to_string()),
            Err(_) if name.is_empty() => {}
            Err(_) => _ = self.dns.insert(name.to_owned()),
        }
    }
}

/// A key and the chain that goes with it.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Private key, PEM.
    pub key_pem: String,
    /// Leaf, then root, PEM.
    pub chain_pem: String,
    /// It was made just now, not found.
    pub is_new: bool,
}

/// The key is not for logs.
impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity(is_new: {})", self.is_new)
    }
}

/// The cluster's keys, read from a directory.
pub struct RealKeys {
    dir: PathBuf,
    pub(super) ca: P256,
    pub(super) root_pem: String,
    pub(super) root_der: Vec<u8>,
    pub(super) root_subject: Vec<u8>,
    pub(super) jwt: P256,
    pub(super) jwt_kid: String,
    pub(super) jwt_header: String,
    pub(super) sealing: aead::LessSafeKey,
    pub(super) mac: hmac::Key,
}

impl std::fmt::Debug for RealKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RealKeys({})", self.dir.display())
    }
}

impl RealKeys {
    /// Reads `data_dir/pki`, or makes it if it is not there. `now_s`: Unix seconds.
    pub fn open_or_create(data_dir: &Path, now_s: i64) -> Result<Self, KeyError> {
        let dir = data_dir.join("pki");
        if !dir.exists() {
            create(data_dir, &dir, now_s)?;
        }
        Self::open(dir)
    }

    fn open(dir: PathBuf) -> Result<Self, KeyError> {
        let read = |name: &str| files::read_text(&dir.join(name));
        let named = |name: &str, e: KeyError| KeyError(format!("{}/{name}: {e}", dir.display()));
        let root_pem = read("ca.crt")?;
        let root_der = pem::decode("CERTIFICATE", &root_pem).map_err(|e| named("ca.crt", e))?;
        let root = x509::read_certificate(&root_der).map_err(|e| named("ca.crt", e))?;
        let ca = P256::from_pem(&read("ca.key")?, false, "it").map_err(|e| named("ca.key", e))?;
        if root.public_key_der != ca.public_key_der() {
            return Err(named("ca.crt", KeyError("it is not of ca.key; restore both".into())));
        }
        let jwt = P256::from_pem(&read("sa.key")?, true, "it").map_err(|e| named("sa.key", e))?;
        let jwt_kid = kid(&jwt);
        let secret = |name: &str| -> Result<Vec<u8>, KeyError> {
            STANDARD
                .decode(read(name)?.trim())
                .ok()
                .filter(|key| key.len() == 32)
                .ok_or_else(|| named(name, KeyError("it is not 32 octets in base64".into())))
        };
        let sealing = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, &secret("seal.key")?)
            .map_err(|_| named("seal.key", KeyError("ring refuses it".into())))?;
        Ok(Self {
            ca,
            root_pem,
            root_der,
            root_subject: root.subject_der,
            jwt_header: format!(r#"{{"alg":"ES256","kid":"{jwt_kid}"}}"#),
            jwt_kid,
            jwt,
            sealing: aead::LessSafeKey::new(sealing),
            mac: hmac::Key::new(hmac::HMAC_SHA256, &secret("mac.key")?),
            dir,
        })
    }

    /// SHA-256 of the root certificate's DER: what join tokens pin.
    pub fn root_sha256(&self) -> [u8; 32] {
        sha256(&self.root_der)
    }

    /// The API server's key and chain: kept while it has all names and enough time left, else made anew.
    pub fn server_identity(&self, names: &ServerNames, now_s: i64) -> Result<Identity, KeyError> {
        self.identity("server.pem", "kube-apiserver", &[], names, now_s)
    }

    /// The administrator's key and chain (`kubernetes-admin` of `system:masters`).
    pub fn admin_identity(&self, now_s: i64) -> Result<Identity, KeyError> {
        let names = ServerNames::default();
        self.identity("admin.pem", "kubernetes-admin", &["system:masters"], &names, now_s)
    }

    fn identity(
        &self,
        file: &str,
        common_name: &str,
        organizations: &[&str],
        names: &ServerNames,
        now_s: i64,
    ) -> Result<Identity, KeyError> {
        let path = self.dir.join(file);
        if let Some(found) = self.usable(&path, names, now_s) {
            return Ok(found);
        }
        let key_pem = new_key_pem()?;
        let key = P256::from_pem(&key_pem, false, "the new key")?;
        let server = !names.dns.is_empty();
        let leaf = self.certify(&x509::Template {
            issuer_der: &self.root_subject,
            subject_der: &x509::name(common_name, organizations),
            public_key_der: &key.public_key_der(),
            key_ids: (&self.ca.id(), &key.id()),
            // From the root's beginning: a client whose clock is behind may take it.
            validity_s: (ROOT_FROM_S, leaf_until_s(now_s)),
            serial: random()?,
            authority: false,
            client: !server,
            server,
            dns_names: &names.dns.iter().cloned().collect::<Vec<_>>(),
            ip_addresses: &names.ips.iter().cloned().collect::<Vec<_>>(),
        })?;
        let chain_pem = pem::encode("CERTIFICATE", &leaf) + &self.root_pem;
        files::write_private(&path, format!("{key_pem}{chain_pem}").as_bytes())?;
        Ok(Identity { key_pem, chain_pem, is_new: true })
    }

    /// What is in the file, if it is ours, has exactly these names and is not about to expire.
    fn usable(&self, path: &Path, names: &ServerNames, now_s: i64) -> Option<Identity> {
        let text = fs::read_to_string(path).ok()?;
        let key_der = pem::decode("PRIVATE KEY", &text).ok()?;
        let chain = pem::decode_all("CERTIFICATE", &text).ok()?;
        let [leaf, root] = chain.as_slice() else { return None };
        let facts = x509::read_certificate(leaf).ok()?;
        let key_pem = pem::encode("PRIVATE KEY", &key_der);
        let key = P256::from_pem(&key_pem, false, "it").ok()?;
        let good = *root == self.root_der
            && facts.public_key_der == key.public_key_der()
            && facts.dns_names.into_iter().collect::<BTreeSet<_>>() == names.dns
            && facts.ip_addresses.into_iter().collect::<BTreeSet<_>>() == names.ips
            && facts.not_after_s - LEAF_RENEW_S > now_s;
        let chain_pem = pem::encode("CERTIFICATE", leaf) + &self.root_pem;
        good.then_some(Identity { key_pem, chain_pem, is_new: false })
    }

    pub(super) fn certify(&self, template: &x509::Template<'_>) -> Result<Vec<u8>, KeyError> {
        x509::write_certificate(template, ECDSA_SHA256, |tbs| self.ca.sign(tbs))
    }
}

/// Makes the directory beside and renames it: it is there whole or not at all.
fn create(data_dir: &Path, dir: &Path, now_s: i64) -> Result<(), KeyError> {
    let beside = data_dir.join("pki.new");
    let told = |e: io::Error| KeyError(format!("cannot make {}: {e}", beside.display()));
    match fs::remove_dir_all(&beside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(told(e)),
        _ => {}
    }
    fs::DirBuilder::new().mode(0o700).create(&beside).map_err(told)?;
    let ca_key_pem = new_key_pem()?;
    let ca = P256::from_pem(&ca_key_pem, false, "the new key")?;
    // Part of the key's hash in the name: two clusters' roots are told apart in a trust store.
    let subject = x509::name(&format!("coracle-ca-{}", kid(&ca)), &[]);
    let template = x509::Template {
        issuer_der: &subject,
        subject_der: &subject,
        public_key_der: &ca.public_key_der(),
        key_ids: (&ca.id(), &ca.id()),
        validity_s: (ROOT_FROM_S, now_s.max(NOW_MIN_S) + ROOT_YEARS * YEAR_S),
        serial: random()?,
        authority: true,
        client: false,
        server: false,
        dns_names: &[],
        ip_addresses: &[],
    };
    let root = x509::write_certificate(&template, ECDSA_SHA256, |tbs| ca.sign(tbs))?;
    let secret = || random::<32>().map(|key| STANDARD.encode(key) + "\n");
    for (name, content) in [
        ("ca.key", ca_key_pem),
        ("ca.crt", pem::encode("CERTIFICATE", &root)),
        ("sa.key", new_key_pem()?),
        ("seal.key", secret()?),
        ("mac.key", secret()?),
    ] {
        files::write_private(&beside.join(name), content.as_bytes())?;
    }
    fs::rename(&beside, dir).and_then(|()| files::sync_parent(dir)).map_err(told)
}

#[cfg(test)]
#[path = "stored_tests.rs"]
mod tests;
