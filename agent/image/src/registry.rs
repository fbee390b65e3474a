//! Client of registries: OCI distribution-spec 1.1 pulls, Docker's token authentication, mirrors.

use std::{
    collections::BTreeMap,
    io::Read,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::Engine as _;
use serde::Deserialize;
use ureq::{Agent, Body, http::Response};

use crate::{Digest, ImageError, Reference, limits, manifest};

/// Another place to ask for a registry's images first (`--registry-mirror HOST=URL`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// The registry it stands in for: `docker.io`.
    pub host: String,
    /// `https://mirror.lan:5000`; plain `http://` is taken at its word.
    pub url: String,
}

impl Mirror {
    /// Reads `HOST=URL`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (host, url) =
            text.split_once('=').ok_or_else(|| format!("`{text}` is not HOST=URL"))?;
        let url = url.trim_end_matches('/');
        if host.is_empty() || !(url.starts_with("http://") || url.starts_with("https://")) {
            return Err(format!("`{text}` is not HOST=URL with an http:// or https:// URL"));
        }
        Ok(Self { host: host.into(), url: url.into() })
    }
}

/// A user of one registry (from imagePullSecrets).
#[derive(Clone)]
pub struct Credential {
    /// Host, with port where it has one.
    pub registry: String,
    /// User.
    pub user: String,
    /// Password or token.
    pub password: String,
}

/// Client of all registries; cheap to keep, holds connections and tokens.
pub struct Registry {
    agent: Agent,
    mirrors: Vec<Mirror>,
    /// Bearer tokens by (base URL, repository, user); forgotten when refused.
    tokens: Mutex<BTreeMap<(String, String, String), String>>,
}

/// One place that may have the image.
struct Place {
    base: String,
    repository: String,
}

/// An answer's body.
pub type Blob = Box<dyn Read + Send>;

/// What one place said.
enum Fault {
    NotFound(String),
    Unauthorized(String),
    Network(String),
    /// Our own limits or the specification: asking elsewhere does not help.
    Final(ImageError),
}

impl Registry {
    /// A client that trusts the certificate authorities in `ca_pem` (the system's bundle).
    pub fn new(mirrors: Vec<Mirror>, ca_pem: &[u8]) -> Self {
        let roots: Vec<_> = ureq::tls::parse_pem(ca_pem)
            .filter_map(|item| match item {
                Ok(ureq::tls::PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        let tls = ureq::tls::TlsConfig::builder()
            .root_certs(ureq::tls::RootCerts::new_with_certs(&roots))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .user_agent(concat!("coracle/", env!("CARGO_PKG_VERSION")))
            .max_redirects(5)
            .timeout_connect(Some(Duration::from_secs(limits::CONNECT_SECONDS_MAX)))
            .timeout_recv_response(Some(Duration::from_secs(limits::ANSWER_SECONDS_MAX)))
            // A node pulls rarely: idle connections are not worth their buffers.
            .max_idle_connections(2)
            .max_idle_age(Duration::from_secs(10))
            .build();
        Self { agent: config.into(), mirrors, tokens: Mutex::default() }
    }

    /// The manifest or index that the name stands for: bytes and digest, checked where the name holds a digest.
    pub fn manifest(
        &self,
        image: &Reference,
        key: &str,
        credentials: &[Credential],
    ) -> Result<(Vec<u8>, Digest), ImageError> {
        let mut answer = self.ask(image, "manifests", key, credentials)?;
        let mut bytes = Vec::new();
        answer.1.read_to_end(&mut bytes).map_err(|error| ImageError::Network {
            image: image.to_string(),
            why: format!("{}: {error}", answer.0),
        })?;
        let got = crate::digesting::digest_of(&bytes);
        if key.starts_with("sha256:") && got.as_str() != key {
            return Err(ImageError::DigestMismatch {
                image: image.to_string(),
                what: "manifest".into(),
                want: key.into(),
                got: got.to_string(),
            });
        }
        Ok((bytes, got))
    }

    /// A blob's bytes as they come; the caller checks the digest.
    pub fn blob(
        &self,
        image: &Reference,
        digest: &Digest,
        credentials: &[Credential],
    ) -> Result<Blob, ImageError> {
        Ok(self.ask(image, "blobs", digest.as_str(), credentials)?.1)
    }

    /// Asks each place in turn; the first that answers wins.
    fn ask(
        &self,
        image: &Reference,
        kind: &str,
        key: &str,
        credentials: &[Credential],
    ) -> Result<(String, Blob), ImageError> {
        let (mut missing, mut refused, mut broken) = (Vec::new(), Vec::new(), Vec::new());
        for place in self.places(image) {
            let mut tries = 0;
            loop {
                match self.ask_place(&place, image, kind, key, credentials) {
                    Ok(blob) => return Ok((place.base, blob)),
                    Err(Fault::Final(error)) => return Err(error),
                    Err(Fault::NotFound(why)) => missing.push(why),
                    Err(Fault::Unauthorized(why)) => refused.push(why),
                    Err(Fault::Network(_)) if tries < limits::RETRIES_MAX => {
                        tries += 1;
                        continue;
                    }
                    Err(Fault::Network(why)) => broken.push(why),
                }
                break;
            }
        }
        let name = image.to_string();
        if !broken.is_empty() {
            broken.append(&mut refused);
            broken.append(&mut missing);
            return Err(ImageError::Network { image: name, why: broken.join("; ") });
        }
        if !refused.is_empty() {
            return Err(ImageError::Unauthorized {
                registry: image.registry.clone(),
                image: name,
                why: refused.join("; "),
            });
        }
        Err(ImageError::NotFound { image: name, why: missing.join("; ") })
    }

    /// Mirrors in the order given, then the registry itself.
    fn places(&self, image: &Reference) -> Vec<Place> {
        let place = |base: String| Place { base, repository: image.repository.clone() };
        let mirrors = self.mirrors.iter().filter(|mirror| mirror.host == image.registry);
        let mut places: Vec<_> = mirrors.map(|mirror| place(mirror.url.clone())).collect();
        let host =
            if image.registry == "docker.io" { "registry-1.docker.io" } else { &image.registry };
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        // As Docker has it: a registry on this machine's own loopback needs no TLS.
        let loopback = name == "localhost" || name.starts_with("127.") || name == "[::1]";
        let scheme = if loopback { "http" } else { "https" };
        places.push(place(format!("{scheme}://{host}")));
        places
    }

    fn ask_place(
        &self,
        place: &Place,
        image: &Reference,
        kind: &str,
        key: &str,
        credentials: &[Credential],
    ) -> Result<Blob, Fault> {
        let url = format!("{}/v2/{}/{kind}/{key}", place.base, place.repository);
        let credential =
            credentials.iter().find(|one| same_registry(&one.registry, &image.registry));
        let token_key = (
            place.base.clone(),
            place.repository.clone(),
            credential.map_or("", |one| &one.user).to_owned(),
        );
        let known = self.tokens.lock().ok().and_then(|tokens| tokens.get(&token_key).cloned());
        let mut answer = self.get(&url, known.as_deref(), kind)?;
        if answer.status().as_u16() == 401 {
            let authorization = self.authorize(&answer, place, credential, &url)?;
            answer = self.get(&url, Some(&authorization), kind)?;
            if let (Ok(mut tokens), true) = (self.tokens.lock(), answer.status().is_success()) {
                if 64 <= tokens.len() {
                    tokens.clear();
                }
                tokens.insert(token_key, authorization);
            }
        }
        let status = answer.status().as_u16();
        let said = |answer: Response<Body>| {
            let mut text = String::new();
            let mut reader = answer.into_body().into_reader().take(300);
            // Whatever of the explanation can be had.
            let _ = reader.read_to_string(&mut text);
            format!("{url}: HTTP {status} {}", text.trim().replace('\n', " "))
        };
        match status {
            200 => {}
            401 | 403 => return Err(Fault::Unauthorized(said(answer))),
            404 => return Err(Fault::NotFound(said(answer))),
            _ => return Err(Fault::Network(said(answer))),
        }
        let max =
            if kind == "manifests" { limits::MANIFEST_BYTES_MAX } else { limits::LAYER_BYTES_MAX };
        let length = answer
            .headers()
            .get("content-length")
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| max < length) {
            let why = format!("{url} is longer than {max} bytes");
            return Err(Fault::Final(ImageError::Malformed { image: image.to_string(), why }));
        }
        Ok(Box::new(answer.into_body().into_with_config().limit(max).reader()))
    }

    fn get(
        &self,
        url: &str,
        authorization: Option<&str>,
        kind: &str,
    ) -> Result<Response<Body>, Fault> {
        let mut request = self.agent.get(url);
        if kind == "manifests" {
            request = request.header("accept", manifest::ACCEPT);
        }
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        request.call().map_err(|error| Fault::Network(format!("{url}: {error}")))
    }

    /// Answers a 401's challenge: Basic, or a Bearer token from the realm it names.
    fn authorize(
        &self,
        answer: &Response<Body>,
        place: &Place,
        credential: Option<&Credential>,
        url: &str,
    ) -> Result<String, Fault> {
        let header = answer
            .headers()
            .get("www-authenticate")
            .and_then(|value| value.to_str().ok())
            .unwrap_or("");
        let basic = credential.map(|one| {
            let pair = format!("{}:{}", one.user, one.password);
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
        });
        let (scheme, parameters) = header.split_once(' ').unwrap_or((header, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return basic
                .ok_or_else(|| Fault::Unauthorized(format!("{url}: wants a user and password")));
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Fault::Unauthorized(format!(
                "{url}: HTTP 401 without a Basic or Bearer challenge"
            )));
        }
        let parameters = challenge(parameters);
        let realm = parameters
            .get("realm")
            .ok_or_else(|| Fault::Unauthorized(format!("{url}: its challenge names no realm")))?;
        // Never send a password in the clear to where the registry itself would not have been asked so.
        if basic.is_some() && realm.starts_with("http://") && !place.base.starts_with("http://") {
            return Err(Fault::Unauthorized(format!(
                "{url}: its token server {realm} is not https"
            )));
        }
        let mut request = self.agent.get(realm);
        if let Some(service) = parameters.get("service") {
            request = request.query("service", service);
        }
        let pull = format!("repository:{}:pull", place.repository);
        request = request.query("scope", parameters.get("scope").unwrap_or(&pull));
        if let Some(basic) = basic {
            request = request.header("authorization", basic);
        }
        let answer = request.call().map_err(|error| Fault::Network(format!("{realm}: {error}")))?;
        if !answer.status().is_success() {
            return Err(Fault::Unauthorized(format!("{realm}: HTTP {}", answer.status().as_u16())));
        }
        let bytes =
            answer.into_body().into_with_config().limit(limits::TOKEN_BYTES_MAX).read_to_vec();
        let bytes = bytes.map_err(|error| Fault::Network(format!("{realm}: {error}")))?;
        let token: Token = serde_json::from_slice(&bytes)
            .map_err(|error| Fault::Unauthorized(format!("{realm}: {error}")))?;
        let token = token.token.or(token.access_token).filter(|text| !text.is_empty());
        token
            .map(|text| format!("Bearer {text}"))
            .ok_or_else(|| Fault::Unauthorized(format!("{realm}: its answer holds no token")))
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// `docker.io` goes under several names in credentials.
fn same_registry(given: &str, registry: &str) -> bool {
    let host = given.trim_start_matches("https://").trim_start_matches("http://");
    let host = host.split('/').next().unwrap_or(host);
    host == registry
        || (registry == "docker.io" && matches!(host, "index.docker.io" | "registry-1.docker.io"))
}

/// `realm="…",service="…"` (RFC 9110, 11.3); commas inside quotes belong to the value.
fn challenge(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = text.trim();
    while let Some((name, after)) = rest.split_once('=') {
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        found.insert(name.trim().to_ascii_lowercase(), value.to_owned());
        rest = next.trim_start_matches([',', ' ']);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_with_commas_in_quotes() {
        let got =
            challenge(r#"realm="https://a/token",service="reg",scope="repository:x:pull,push""#);
        assert_eq!(got["realm"], "https://a/token");
        assert_eq!(got["service"], "reg");
        assert_eq!(got["scope"], "repository:x:pull,push");
        assert!(challenge("").is_empty());
        assert_eq!(challenge("realm=x")["realm"], "x");
    }

    #[test]
    fn mirrors_come_first_and_loopback_needs_no_tls() {
        let mirror = Mirror::parse("docker.io=http://127.0.0.1:5000/").unwrap();
        let registry = Registry::new(vec![mirror], b"");
        let bases = |name: &str| {
            let places = registry.places(&Reference::parse(name).unwrap());
            places.into_iter().map(|place| place.base).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(bases("nginx"), "http://127.0.0.1:5000 https://registry-1.docker.io");
        assert_eq!(bases("ghcr.io/a/b"), "https://ghcr.io");
        assert_eq!(bases("localhost:5000/a"), "http://localhost:5000");
        assert!(Mirror::parse("docker.io").is_err());
        assert!(Mirror::parse("docker.io=ftp://x").is_err());
    }
}
