//! TLS to the control plane: trust in one root certificate only, and the node's own certificate once it has one.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use coracle_keys::{KeyError, pem};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
};

/// A certificate chain and its key, both PEM, in one text.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) pem: String,
}

impl Identity {
    fn parts(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), KeyError> {
        let chain = pem::decode_all("CERTIFICATE", &self.pem)?;
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        let key = pem::decode("PRIVATE KEY", &self.pem)?;
        Ok((chain, PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key))))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A client that trusts servers certified by this root, and shows `identity` if there is one.
pub(crate) fn client(
    ca_pem: &str,
    identity: Option<&Identity>,
    alpn: &[&str],
) -> Result<ClientConfig, KeyError> {
    let told = |error: rustls::Error| KeyError(format!("cannot set up TLS: {error}"));
    let mut roots = RootCertStore::empty();
    for der in pem::decode_all("CERTIFICATE", ca_pem)? {
        roots.add(CertificateDer::from(der)).map_err(told)?;
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(told)?
        .with_root_certificates(roots);
    let mut config = match identity {
        Some(identity) => {
            let (chain, key) = identity.parts()?;
            builder.with_client_auth_cert(chain, key).map_err(told)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(config)
}

/// A client that trusts nobody and only looks: it takes the server's chain and then refuses the handshake, so that
/// nothing is sent to a server before its root was compared with the join token.
pub(crate) fn looking(chain: &Arc<Mutex<Vec<Vec<u8>>>>) -> Result<ClientConfig, KeyError> {
    let looker = Looker { chain: Arc::clone(chain), provider: provider() };
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| KeyError(format!("cannot set up TLS: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(looker))
        .with_no_client_auth();
    Ok(config)
}

struct Looker {
    chain: Arc<Mutex<Vec<Vec<u8>>>>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Looker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Looker")
    }
}

impl ServerCertVerifier for Looker {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Ok(mut chain) = self.chain.lock() {
            *chain =
                std::iter::once(end_entity).chain(intermediates).map(|der| der.to_vec()).collect();
        }
        Err(rustls::Error::General("seen".into()))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("seen".into()))
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("seen".into()))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
