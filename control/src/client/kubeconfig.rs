//! Kubeconfig files, as far as one server, its CA and one user go.

use std::{fs, path::Path};

use anyhow::{Context, anyhow, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;

use crate::shell::yaml;

/// Whom to ask, whom to believe, who we are.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Kubeconfig {
    /// `https://host:port`, without a slash at the end.
    pub(crate) server: String,
    /// PEM of the CA.
    pub(crate) ca_pem: String,
    /// PEM chain and key of a client certificate.
    pub(crate) certificate: Option<(String, String)>,
    /// Bearer token.
    pub(crate) token: Option<String>,
    /// Namespace where none is named.
    pub(crate) namespace: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    clusters: Vec<Named<Cluster>>,
    #[serde(default)]
    users: Vec<Named<User>>,
    #[serde(default)]
    contexts: Vec<Named<Context_>>,
}

#[derive(Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "cluster", alias = "user", alias = "context")]
    content: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: Option<String>,
    certificate_authority_data: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate: Option<String>,
    client_certificate_data: Option<String>,
    client_key: Option<String>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<String>,
}

#[derive(Deserialize)]
struct Context_ {
    cluster: String,
    user: String,
    #[serde(default)]
    namespace: String,
}

impl Kubeconfig {
    /// Reads a file; paths in it are relative to it.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes =
            fs::read(path).with_context(|| format!("cannot read kubeconfig {}", path.display()))?;
        let beside = path.parent().unwrap_or(Path::new("."));
        Self::parse(&bytes, beside)
            .with_context(|| format!("cannot use kubeconfig {}", path.display()))
    }

    fn parse(bytes: &[u8], beside: &Path) -> anyhow::Result<Self> {
        let json = yaml::to_json(bytes).map_err(|e| anyhow!(e.0))?.json;
        let file: File = serde_json::from_slice(&json)?;
        let current = file.current_context;
        let context = find(file.contexts, &current, "context")?;
        let cluster = find(file.clusters, &context.cluster, "cluster")?;
        let user = find(file.users, &context.user, "user")?;
        let ca_pem =
            either(cluster.certificate_authority_data, cluster.certificate_authority, beside)?
                .context("the cluster has no certificate-authority-data")?;
        let chain = either(user.client_certificate_data, user.client_certificate, beside)?;
        let key = either(user.client_key_data, user.client_key, beside)?;
        let token = match (user.token, user.token_file) {
            (Some(token), _) => Some(token),
            (None, Some(file)) => either(None, Some(file), beside)?.map(|t| t.trim().to_owned()),
            (None, None) => None,
        };
        Ok(Self {
            server: cluster.server.trim_end_matches('/').to_owned(),
            ca_pem,
            certificate: chain.zip(key),
            token,
            namespace: if context.namespace.is_empty() {
                "default".into()
            } else {
                context.namespace
            },
        })
    }
}

fn find<T>(all: Vec<Named<T>>, name: &str, what: &str) -> anyhow::Result<T> {
    if name.is_empty() {
        bail!("it names no {what}");
    }
    let found = all.into_iter().find(|item| item.name == name);
    found.map(|item| item.content).with_context(|| format!("it has no {what} `{name}`"))
}

fn either(
    data: Option<String>,
    file: Option<String>,
    beside: &Path,
) -> anyhow::Result<Option<String>> {
    match (data, file) {
        (Some(data), _) => {
            let bytes = STANDARD.decode(data.trim()).map_err(|e| anyhow!("not base64: {e}"))?;
            Ok(Some(String::from_utf8(bytes)?))
        }
        (None, Some(file)) => {
            let path = beside.join(file);
            let read = fs::read_to_string(&path);
            Ok(Some(read.with_context(|| format!("cannot read {}", path.display()))?))
        }
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use coracle_keys::ring::Identity;

    use super::*;

    #[test]
    fn our_own_is_read() {
        let admin = Identity { key_pem: "KEY".into(), chain_pem: "CHAIN".into(), is_new: false };
        let text = crate::data_dir::kubeconfig("127.0.0.1", 6443, "CA", &admin);
        let read = Kubeconfig::parse(text.as_bytes(), Path::new("/")).unwrap();
        assert_eq!(read.server, "https://127.0.0.1:6443");
        assert_eq!((read.ca_pem.as_str(), read.namespace.as_str()), ("CA", "default"));
        assert_eq!(read.certificate, Some(("CHAIN".into(), "KEY".into())));
    }

    #[test]
    fn what_is_missing_is_named() {
        let check = |text: &str, want: &str| {
            let error = Kubeconfig::parse(text.as_bytes(), Path::new("/")).err().unwrap();
            assert!(format!("{error:#}").contains(want), "{error:#}");
        };
        check("{}", "names no context");
        check("current-context: x", "no context `x`");
        check("contexts:\n- name: x\n  context: {cluster: c, user: u}\ncurrent-context: x", "`c`");
        check("a: [", "YAML");
    }
}
