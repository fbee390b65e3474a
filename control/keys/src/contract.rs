//! What every [`Keys`] owes, as one suite: `check` panics with the name of what does not hold.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{CertRequest, CsrFacts, KeyError, Keys, pem, x509};

/// Longest token that is looked at, in bytes.
pub const JWT_BYTES_MAX: usize = 16 * 1024;

/// Takes a JWT apart that must have exactly this header, and gives the claims if `holds(message, signature)`.
pub fn split_jwt(
    token: &str,
    header: &str,
    holds: impl FnOnce(&[u8], &[u8]) -> bool,
) -> Result<String, KeyError> {
    let refused = |why: &str| KeyError(format!("the token {why}"));
    if token.len() > JWT_BYTES_MAX {
        return Err(refused("is too long"));
    }
    let (message, signature) = token.rsplit_once('.').ok_or_else(|| refused("is no JWT"))?;
    let (head, claims) = message.split_once('.').ok_or_else(|| refused("is no JWT"))?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| refused("is not base64url"));
    if decode(head)? != header.as_bytes() {
        return Err(refused("was signed with another key or algorithm"));
    }
    if !holds(message.as_bytes(), &decode(signature)?) {
        return Err(refused("has a signature that does not hold"));
    }
    String::from_utf8(decode(claims)?).map_err(|_| refused("has claims that are not UTF-8"))
}

/// Runs the suite. `other` are the keys of another cluster; `request_pem` makes a request with a key of its own.
pub fn check(keys: &dyn Keys, other: &dyn Keys, request_pem: &dyn Fn(&CsrFacts) -> String) {
    tokens(keys, other);
    requests(keys, request_pem);
    certificates(keys, request_pem);
    sealing(keys, other);
    assert_eq!(keys.mac(b"a"), keys.mac(b"a"), "a mac is stable");
    assert_ne!(keys.mac(b"a"), keys.mac(b"b"), "a mac depends on the data");
    assert_ne!(keys.mac(b"a"), other.mac(b"a"), "a mac depends on the cluster");
}

fn tokens(keys: &dyn Keys, other: &dyn Keys) {
    let claims = r#"{"sub":"system:serviceaccount:a:b","exp":1}"#;
    let token = keys.sign_jwt(claims).expect("claims are signed");
    assert_eq!(keys.verify_jwt(&token).as_deref(), Ok(claims), "own tokens verify");
    assert!(other.verify_jwt(&token).is_err(), "another cluster's tokens are refused");
    let (message, signature) = token.rsplit_once('.').expect("a JWT has dots");
    let (head, _) = message.split_once('.').expect("a JWT has two dots");
    let forged = URL_SAFE_NO_PAD.encode(claims.replace("a:b", "x:y"));
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    for bad in [
        format!("{head}.{forged}.{signature}"),
        format!("{message}."),
        format!("{none}.{forged}."),
        message.to_owned(),
        String::new(),
        "..".to_owned(),
        "x".repeat(JWT_BYTES_MAX + 1),
    ] {
        assert!(keys.verify_jwt(&bad).is_err(), "a forged token is refused: {bad:.80}");
    }
}

fn some_facts() -> CsrFacts {
    CsrFacts {
        common_name: "system:node:pi1".into(),
        organizations: vec!["system:nodes".into(), "second".into()],
        dns_names: vec!["pi1".into(), "pi1.local".into()],
        ip_addresses: vec!["10.0.0.1".into(), "fd00::1".into()],
        other_names: false,
    }
}

fn requests(keys: &dyn Keys, request_pem: &dyn Fn(&CsrFacts) -> String) {
    let facts = some_facts();
    let text = request_pem(&facts);
    assert_eq!(keys.read_csr(&text), Ok(facts), "a request's facts are read");
    let der = pem::decode("CERTIFICATE REQUEST", &text).expect("the maker writes PEM");
    for at in 0..der.len() {
        let mut bent = der.clone();
        if let Some(byte) = bent.get_mut(at) {
            *byte ^= 1;
        }
        let bent = pem::encode("CERTIFICATE REQUEST", &bent);
        assert!(keys.read_csr(&bent).is_err(), "a request changed at byte {at} is refused");
    }
    for bad in ["", "-----BEGIN CERTIFICATE REQUEST-----", "nonsense"] {
        assert!(keys.read_csr(bad).is_err(), "{bad:?} is no request");
    }
}

fn certificates(keys: &dyn Keys, request_pem: &dyn Fn(&CsrFacts) -> String) {
    let facts = some_facts();
    let csr_pem = &request_pem(&facts);
    let request = CertRequest {
        csr_pem,
        not_before_s: 1_700_000_000,
        not_after_s: 1_800_000_000,
        client: true,
        server: true,
        serial: [0xff; 16],
    };
    let chain = keys.issue(&request).expect("a good request is certified");
    let certificates = pem::decode_all("CERTIFICATE", &chain).expect("the chain is PEM");
    assert_eq!(certificates.len(), 2, "the chain is leaf and root");
    let root = pem::decode("CERTIFICATE", keys.root_ca_pem()).expect("the root is PEM");
    assert_eq!(certificates.last(), Some(&root), "the chain ends in the root");
    let leaf = certificates.first().expect("there are two");
    let got = x509::read_certificate(leaf).expect("the leaf is readable");
    assert_eq!(got.common_name, facts.common_name);
    assert_eq!(got.organizations, facts.organizations);
    assert_eq!(got.dns_names, facts.dns_names);
    assert_eq!(got.ip_addresses, facts.ip_addresses);
    assert_eq!((got.not_before_s, got.not_after_s), (1_700_000_000, 1_800_000_000));
    assert!(keys.issue(&CertRequest { csr_pem: "nonsense", ..request }).is_err());
}

fn sealing(keys: &dyn Keys, other: &dyn Keys) {
    let plain = b"a secret that must not be on the disk".as_slice();
    let sealed = keys.seal(b"/registry/a", [1; 12], plain);
    assert!(!sealed.windows(8).any(|w| plain.starts_with(w)), "sealed bytes do not show");
    assert_eq!(keys.unseal(b"/registry/a", &sealed).as_deref(), Ok(plain));
    assert!(keys.unseal(b"/registry/b", &sealed).is_err(), "a moved value is refused");
    assert!(other.unseal(b"/registry/a", &sealed).is_err(), "another key is refused");
    for at in 0..sealed.len() {
        let mut bent = sealed.clone();
        if let Some(byte) = bent.get_mut(at) {
            *byte ^= 1;
        }
        assert!(keys.unseal(b"/registry/a", &bent).is_err(), "changed at {at}");
        let (cut, _) = sealed.split_at(at);
        assert!(keys.unseal(b"/registry/a", cut).is_err(), "cut at {at}");
    }
    assert_eq!(keys.unseal(b"e", &keys.seal(b"e", [2; 12], b"")).as_deref(), Ok(&[][..]));
}
