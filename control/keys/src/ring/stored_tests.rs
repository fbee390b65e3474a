//! The real keys on real files.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::{CertRequest, CsrFacts, Keys, ring::request_pem};

const NOW_S: i64 = 1_790_000_000;

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("coracle-keys-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn names() -> ServerNames {
    ServerNames::standard("pi0", "10.43.0.1")
}

#[test]
fn keeps_the_contract() {
    let (one, two) = (Dir::new("one"), Dir::new("two"));
    let keys = RealKeys::open_or_create(&one.0, NOW_S).unwrap();
    let other = RealKeys::open_or_create(&two.0, NOW_S).unwrap();
    let key = new_key_pem().unwrap();
    crate::contract::check(&keys, &other, &|facts: &CsrFacts| request_pem(facts, &key).unwrap());
}

#[test]
fn requests_of_another_maker_are_read() {
    let dir = Dir::new("rcgen");
    let keys = RealKeys::open_or_create(&dir.0, NOW_S).unwrap();
    for algorithm in
        [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519]
    {
        let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let mut params =
            rcgen::CertificateParams::new(vec!["a.b".to_owned(), "10.1.2.3".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(rcgen::DnType::CommonName, "system:node:x");
        let csr_pem = params.serialize_request(&pair).unwrap().pem().unwrap();
        let facts = keys.read_csr(&csr_pem).unwrap();
        assert_eq!(facts.common_name, "system:node:x");
        assert_eq!(facts.organizations, ["system:nodes"]);
        assert_eq!(
            (facts.dns_names, facts.ip_addresses),
            (vec!["a.b".into()], vec!["10.1.2.3".into()])
        );
        params.subject_alt_names.push(rcgen::SanType::URI("spiffe://x".try_into().unwrap()));
        let csr_pem = params.serialize_request(&pair).unwrap().pem().unwrap();
        assert!(keys.read_csr(&csr_pem).unwrap().other_names);
    }
}

/// Made with `openssl req -new -newkey rsa:2048 -subj /O=dev/O=ops/CN=jane`.
#[test]
fn rsa_requests_are_read_and_certified() {
    let dir = Dir::new("rsa");
    let keys = RealKeys::open_or_create(&dir.0, NOW_S).unwrap();
    let csr_pem = include_str!("../../testdata/jane-rsa.csr");
    let facts = keys.read_csr(csr_pem).unwrap();
    assert_eq!((facts.common_name.as_str(), facts.organizations.len()), ("jane", 2));
    let request = CertRequest {
        csr_pem,
        not_before_s: NOW_S,
        not_after_s: NOW_S + 1,
        client: true,
        server: false,
        serial: [0; 16],
    };
    let chain = keys.issue(&request).unwrap();
    let leaf = pem::decode("CERTIFICATE", &chain).unwrap();
    assert_eq!(x509::read_certificate(&leaf).unwrap().organizations, ["dev", "ops"]);
}

#[test]
fn a_second_start_finds_the_same_keys() {
    let dir = Dir::new("again");
    let first = RealKeys::open_or_create(&dir.0, NOW_S).unwrap();
    let sealed = first.seal(b"k", [3; 12], b"v");
    let token = first.sign_jwt("{}").unwrap();
    let second = RealKeys::open_or_create(&dir.0, NOW_S + 5).unwrap();
    assert_eq!(first.root_sha256(), second.root_sha256());
    assert_eq!(second.unseal(b"k", &sealed).unwrap(), b"v");
    second.verify_jwt(&token).unwrap();
    assert_eq!(first.jwks(), second.jwks());
    for entry in fs::read_dir(dir.0.join("pki")).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
    }
}

#[test]
fn certificates_are_kept_until_they_no_longer_do() {
    let dir = Dir::new("renew");
    let keys = RealKeys::open_or_create(&dir.0, NOW_S).unwrap();
    let first = keys.server_identity(&names(), NOW_S).unwrap();
    assert!(first.is_new);
    let found = keys.server_identity(&names(), NOW_S + 86_400).unwrap();
    assert!(!found.is_new && found.chain_pem == first.chain_pem && found.key_pem == first.key_pem);
    assert!(keys.server_identity(&names(), NOW_S + LEAF_S).unwrap().is_new, "near its end");
    let mut more = names();
    more.add("api.example.com");
    let changed = keys.server_identity(&more, NOW_S).unwrap();
    assert!(changed.is_new, "another name");
    let leaf = pem::decode("CERTIFICATE", &changed.chain_pem).unwrap();
    let facts = x509::read_certificate(&leaf).unwrap();
    for name in ["localhost", "kubernetes.default.svc.cluster.local", "pi0", "api.example.com"] {
        assert!(facts.dns_names.contains(&name.to_owned()), "{name}");
    }
    for ip in ["127.0.0.1", "::1", "10.43.0.1"] {
        assert!(facts.ip_addresses.contains(&ip.to_owned()), "{ip}");
    }
    fs::write(dir.0.join("pki/server.pem"), "torn").unwrap();
    assert!(keys.server_identity(&more, NOW_S).unwrap().is_new, "a torn file");
}

#[test]
fn a_start_that_was_cut_short_begins_again() {
    let dir = Dir::new("cut");
    fs::create_dir(dir.0.join("pki.new")).unwrap();
    fs::write(dir.0.join("pki.new/ca.key"), "half").unwrap();
    RealKeys::open_or_create(&dir.0, NOW_S).unwrap();
    assert!(!dir.0.join("pki.new").exists());
}

#[test]
fn damage_is_named() {
    let dir = Dir::new("damage");
    RealKeys::open_or_create(&dir.0, NOW_S).unwrap();
    let good = fs::read_to_string(dir.0.join("pki/ca.key")).unwrap();
    for (file, content) in
        [("ca.key", new_key_pem().unwrap()), ("ca.key", "x".into()), ("seal.key", "QUJD".into())]
    {
        let path = dir.0.join("pki").join(file);
        let before = fs::read_to_string(&path).unwrap();
        fs::write(&path, content).unwrap();
        let error = RealKeys::open_or_create(&dir.0, NOW_S).unwrap_err();
        assert!(error.0.contains("pki/"), "{error}");
        fs::write(&path, before).unwrap();
    }
    assert_eq!(fs::read_to_string(dir.0.join("pki/ca.key")).unwrap(), good);
    RealKeys::open_or_create(&dir.0, NOW_S).unwrap();
}

#[test]
fn the_ca_is_pinned_by_its_hash() {
    let dir = Dir::new("pin");
    let keys = RealKeys::open_or_create(&dir.0, NOW_S).unwrap();
    let chain = keys.server_identity(&names(), NOW_S).unwrap().chain_pem;
    let ders = pem::decode_all("CERTIFICATE", &chain).unwrap();
    let shown: Vec<&[u8]> = ders.iter().map(Vec::as_slice).collect();
    let root = super::super::ca_in_chain(&shown, &keys.root_sha256()).unwrap();
    assert_eq!(root, pem::decode("CERTIFICATE", keys.root_ca_pem()).unwrap());
    assert!(super::super::ca_in_chain(&shown, &[7; 32]).is_err());
    assert!(super::super::ca_in_chain(&shown[..1], &keys.root_sha256()).is_err());
}
