//! TLS 1.2 and 1.3 as the API server speaks it: our chain with the root in it, client certificates optional and, where
//! given, of our CA.

use std::sync::Arc;

use coracle_control_logic::call::Peer;
use coracle_keys::{KeyError, pem, ring::Identity, x509};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};

/// What a listener needs for its handshakes.
pub(crate) fn server_config(
    identity: &Identity,
    root_pem: &str,
) -> Result<Arc<ServerConfig>, KeyError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let told = |what: &str, e: &dyn std::fmt::Display| KeyError(format!("{what}: {e}"));
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from(pem::decode("CERTIFICATE", root_pem)?);
    roots.add(root).map_err(|e| told("the CA certificate is not usable", &e))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|e| told("the CA certificate is not usable", &e))?;
    let chain = pem::decode_all("CERTIFICATE", &identity.chain_pem)?;
    let key = PrivateKeyDer::try_from(pem::decode("PRIVATE KEY", &identity.key_pem)?)
        .map_err(|e| told("the server's key is not usable", &e))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| told("TLS cannot be set up", &e))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.into_iter().map(CertificateDer::from).collect(), key)
        .map_err(|e| told("the server's certificate is not usable", &e))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Connections are few and long: sessions kept for resumption would cost more than they save.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Who a verified certificate speaks for. `None`: it has no CN.
pub(crate) fn peer(certificates: Option<&[CertificateDer<'_>]>) -> Option<Peer> {
    let leaf = certificates?.first()?;
    let facts = x509::read_certificate(leaf).ok()?;
    (!facts.common_name.is_empty())
        .then_some(Peer { common_name: facts.common_name, organizations: facts.organizations })
}
