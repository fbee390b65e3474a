//! Requests to the API server of a kubeconfig.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use coracle_keys::pem;
use ureq::{
    Agent,
    http::Request,
    tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig, TlsProvider},
};

use super::kubeconfig::Kubeconfig;

/// Largest answer read whole, in bytes: a backup of a large cluster.
const ANSWER_BYTES_MAX: u64 = 1 << 30;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A server that can be asked.
pub(crate) struct Api {
    agent: Agent,
    config: Kubeconfig,
}

/// Which kubeconfig: the one named, else `$KUBECONFIG`, else the data directory's.
pub(crate) fn kubeconfig_path(named: Option<&Path>, data_dir: &Path) -> PathBuf {
    match (named, std::env::var_os("KUBECONFIG")) {
        (Some(path), _) => path.into(),
        (None, Some(path)) if !path.is_empty() => path.into(),
        _ => data_dir.join("admin.kubeconfig"),
    }
}

impl Api {
    /// Gets ready; nothing is sent yet.
    pub(crate) fn new(config: Kubeconfig) -> anyhow::Result<Self> {
        let certificates = |text: &str| -> anyhow::Result<Vec<Certificate<'static>>> {
            let ders = pem::decode_all("CERTIFICATE", text)?;
            Ok(ders.iter().map(|der| Certificate::from_der(der).to_owned()).collect())
        };
        let roots = certificates(&config.ca_pem)?;
        let client = match &config.certificate {
            None => None,
            Some((chain, key)) => {
                let key = PrivateKey::from_pem(key.as_bytes()).context("the client key")?;
                Some(ClientCert::new_with_certs(&certificates(chain)?, key))
            }
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(provider)
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .client_cert(client)
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .user_agent("coracle")
            .build()
            .new_agent();
        Ok(Self { agent, config })
    }

    /// Sends a request; gives the status and the body.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &[u8],
    ) -> anyhow::Result<(u16, Vec<u8>)> {
        let server = &self.config.server;
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{server}{path}"))
            .header("accept", "application/json");
        if !body.is_empty() {
            request = request.header("content-type", content_type);
        }
        if let Some(token) = &self.config.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = if body.is_empty() {
            self.agent.run(request.body(())?)
        } else {
            self.agent.run(request.body(body)?)
        };
        let mut answer = answer
            .with_context(|| format!("cannot reach {server}; is `coracle serve` running?"))?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
        Ok((status, body))
    }

    /// Sends JSON and reads JSON; a Status that says failure is an error with its message.
    pub(crate) fn json(
        &self,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> anyhow::Result<serde_json::Value> {
        let (status, answer) = self.ask(method, path, "application/json", body)?;
        let value: serde_json::Value = serde_json::from_slice(&answer)
            .with_context(|| format!("{method} {path}: the answer ({status}) is no JSON"))?;
        if (200..300).contains(&status) {
            return Ok(value);
        }
        let message = value.get("message").and_then(|message| message.as_str());
        match message {
            Some(message) => Err(anyhow!("{message}")),
            None => bail!("{method} {path}: the server answered {status}"),
        }
    }
}
