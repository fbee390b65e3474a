//! Paths that are no resources: health, version, keys of service account tokens.

use alloc::{format, string::String, vec::Vec};
use core::fmt::Write as _;

use coracle_api::Status;
use serde_json::json;

use super::{ControlPlane, Response};
use crate::{
    call::{HttpRequest, query},
    registry::answer::{json_bytes, json_value, plain},
    views,
};

/// Version of the API that is served.
const MAJOR: &str = "1";
/// Its minor part.
const MINOR: &str = "36";

impl ControlPlane {
    /// Answers a GET of a path.
    pub(super) fn path(&self, http: &HttpRequest, path: &str) -> Result<Response, Status> {
        if !matches!(http.method.as_str(), "GET" | "HEAD") {
            return Err(Status::method_not_allowed());
        }
        let address = format!("{}:{}", self.host(), self.config.port);
        if let Some(answer) = views::answer(http, path, &address) {
            return answer;
        }
        match path.trim_end_matches('/') {
            "/version" => Ok(json_value(200, &self.version())),
            "/openid/v1/jwks" => Ok(json_bytes(
                200,
                "application/jwk-set+json".into(),
                self.keys.jwks().into_bytes().into(),
            )),
            "/.well-known/openid-configuration" => Ok(json_value(200, &self.openid())),
            "/metrics" => Ok(plain(200, &self.metrics())),
            other => {
                for name in ["healthz", "livez", "readyz"] {
                    if let Some(rest) =
                        other.strip_prefix('/').and_then(|path| path.strip_prefix(name))
                    {
                        if rest.is_empty() {
                            return Ok(self.health(http, name));
                        }
                        if let Some(check) = rest.strip_prefix('/') {
                            return self.one_check(name, check);
                        }
                    }
                }
                Err(Status::not_served())
            }
        }
    }

    fn version(&self) -> serde_json::Value {
        json!({
            "major": MAJOR,
            "minor": MINOR,
            "emulationMajor": MAJOR,
            "emulationMinor": MINOR,
            "minCompatibilityMajor": MAJOR,
            "minCompatibilityMinor": MINOR,
            "gitVersion": format!("v{MAJOR}.{MINOR}.0+coracle.{}", env!("CARGO_PKG_VERSION")),
            "gitCommit": "",
            "gitTreeState": "",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "",
            "compiler": "rustc",
            "platform": self.config.platform,
        })
    }

    /// Where clients reach this server.
    fn host(&self) -> &str {
        self.config.advertise_ips.first().map_or("127.0.0.1", String::as_str)
    }

    fn openid(&self) -> serde_json::Value {
        let host = self.host();
        json!({
            "issuer": self.config.issuer,
            "jwks_uri": format!("https://{host}:{}/openid/v1/jwks", self.config.port),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// Each check with why it fails, if it does.
    fn checks(&self, endpoint: &str) -> Vec<(&'static str, Option<String>)> {
        let store = self.failed.as_ref().map(|why| format!("the store failed: {why}"));
        let mut checks = alloc::vec![("ping", None), ("store", store)];
        if endpoint != "livez" {
            let left = match self.bootstrap.failure() {
                Some(why) => Some(why.into()),
                None if self.bootstrap.is_done() => None,
                None => Some("not finished".into()),
            };
            checks.push(("bootstrap", left));
        }
        checks
    }

    /// As upstream: `ok`, or with `verbose` (or where one fails) a line for each check.
    fn health(&self, http: &HttpRequest, endpoint: &str) -> Response {
        let pairs = query::decode(&http.query).unwrap_or_default();
        let excluded: Vec<&str> = pairs
            .iter()
            .filter(|(key, _)| key == "exclude")
            .map(|(_, value)| value.as_str())
            .collect();
        let checks = self.checks(endpoint);
        let mut lines = String::new();
        let mut healthy = true;
        for (name, failure) in &checks {
            let _ = if excluded.contains(name) {
                writeln!(lines, "[+]{name} excluded: ok")
            } else if let Some(why) = failure {
                healthy = false;
                writeln!(lines, "[-]{name} failed: {why}")
            } else {
                writeln!(lines, "[+]{name} ok")
            };
        }
        if !healthy {
            return plain(500, &format!("{lines}{endpoint} check failed\n"));
        }
        if query::first(&pairs, "verbose").is_some() {
            plain(200, &format!("{lines}{endpoint} check passed\n"))
        } else {
            plain(200, "ok")
        }
    }

    fn one_check(&self, endpoint: &str, check: &str) -> Result<Response, Status> {
        let checks = self.checks(endpoint);
        let (_, failure) =
            checks.into_iter().find(|(name, _)| *name == check).ok_or_else(Status::not_served)?;
        Ok(match failure {
            None => plain(200, "ok"),
            Some(why) => plain(500, &format!("internal server error: {why}\n")),
        })
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        let mut gauge = |name: &str, help: &str, value: u64| {
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n");
        };
        gauge("coracle_revision", "Number of the last change.", self.cache.revision());
        gauge("coracle_watches", "Open watches.", self.watches.len() as u64);
        gauge("coracle_writes_waiting", "Writes under way.", self.flights.len() as u64);
        gauge("coracle_nodes_connected", "Nodes that serve logs now.", self.tunnels.len() as u64);
        for resource in coracle_api::Resource::all() {
            let (def, count) = (resource.def(), self.cache.count(resource, None));
            let _ = writeln!(
                text,
                "coracle_objects{{group=\"{}\",resource=\"{}\"}} {count}",
                def.group, def.plural
            );
        }
        text
    }
}
