//! Callers that are not who they say, or nobody: certificates, tokens, no credentials at all.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Error, ensure};
use coracle_benches::{
    api::{Api, MAPS},
    cluster::wait_for,
};
use serde_json::json;

/// A certificate of that subject, signed by `ca` (none: by itself).
fn certificate(dir: &Path, name: &str, subject: &str, ca: Option<(&Path, &Path)>, days: &str) {
    let sign = match ca {
        None => format!(
            "openssl x509 -req -in {name}.csr -signkey {name}.key -extfile ext -days {days} -out {name}.crt"
        ),
        Some((cert, key)) => format!(
            "openssl x509 -req -in {name}.csr -CA {} -CAkey {} -set_serial 7 -extfile ext -days {days} -out {name}.crt",
            cert.display(),
            key.display()
        ),
    };
    let script = format!(
        "set -e; echo extendedKeyUsage=clientAuth >ext
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr -subj '{subject}'
        {sign}"
    );
    let output = Command::new("sh").args(["-c", &script]).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn certificates_of_others_and_of_yesterday_are_refused() {
    let api = Api::start();
    let pki = api.cluster.data().join("pki");
    let (ca, ca_key) = (pki.join("ca.crt"), pki.join("ca.key"));
    let admin = "/O=system:masters/CN=admin";
    let output = Command::new("openssl")
        .args(["x509", "-noout", "-subject", "-nameopt", "multiline", "-in"])
        .arg(&ca)
        .output()
        .unwrap();
    let subject = String::from_utf8_lossy(&output.stdout).into_owned();
    let name = subject.lines().find_map(|line| line.trim().strip_prefix("commonName")).unwrap();
    let name = name.trim().trim_start_matches('=').trim();
    // A CA of the same name, with another key.
    certificate(&api.dir, "other-ca", &format!("/CN={name}"), None, "2");
    let other = (api.dir.join("other-ca.crt"), api.dir.join("other-ca.key"));
    certificate(&api.dir, "foreign", admin, Some((&other.0, &other.1)), "2");
    certificate(&api.dir, "own", admin, None, "2");
    certificate(&api.dir, "expired", admin, Some((&ca, &ca_key)), "-1");
    certificate(&api.dir, "good", "/CN=somebody", Some((&ca, &ca_key)), "2");
    for (name, alert) in
        [("foreign", "alert"), ("own", "alert"), ("expired", "certificate expired")]
    {
        let (cert, key) = (api.file(&format!("{name}.crt")), api.file(&format!("{name}.key")));
        let answer = api.curl(&["--http1.1", "--cert", &cert, "--key", &key], MAPS);
        let error = answer.map(|answer| answer.code).unwrap_err();
        // A client that is still sending when the alert comes sees the broken pipe first.
        assert!(error.contains(alert) || error.contains("Broken pipe"), "{name}: {error}");
        wait_for("the log to tell of it", || {
            let log = api.cluster.log("control");
            ensure!(log.contains("invalid peer certificate"), "{log}");
            Ok(())
        })
        .unwrap();
    }
    // Ours, but nobody who may: told by name.
    let (cert, key) = (api.file("good.crt"), api.file("good.key"));
    let answer = api.curl(&["--cert", &cert, "--key", &key], MAPS).unwrap();
    assert_eq!(answer.code, 403);
    assert!(answer.message().contains(r#"User "somebody" cannot list resource "configmaps""#));
}

#[test]
fn without_good_credentials_there_is_health_and_version_only() {
    let api = Api::start();
    let code = |words: &[&str], path: &str| api.curl(words, path).unwrap().code;
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(code(&[], path), 200, "{path}");
    }
    for path in [
        "/",
        "/api",
        "/apis",
        "/api/v1",
        "/apis/apps/v1",
        "/openapi/v2",
        "/openapi/v3",
        "/metrics",
        "/nonsense",
        "/api/v1/nonsense",
        "/api/v1/pods?watch=1",
        "/api/v1/namespaces/default/secrets/x",
        "/api/v1/namespaces/default/pods/x/log",
        "/apis/apps/v1/deployments",
        "/coracle/v1/backup",
        "/coracle/v1/tunnel",
    ] {
        let answer = api.curl(&[], path).unwrap();
        assert_eq!((answer.code, answer.message().as_str()), (401, "Unauthorized"), "{path}");
    }
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        assert_eq!(code(&["-X", method, "-d", "{}"], "/api/v1/namespaces"), 401, "{method}");
        assert_eq!(code(&["-X", method, "-d", "{}"], "/version"), 403, "{method}");
    }

    let token = |more: &[&str]| {
        let words = [&["create", "token", "default"], more].concat();
        api.cluster.ok(&words).unwrap()
    };
    let with = |token: &str| code(&["-H", &format!("authorization: Bearer {token}")], MAPS);
    let good = token(&[]);
    assert_eq!(with(&good), 403, "known, but nothing is allowed to it");
    let parts: Vec<&str> = good.split('.').collect();
    let [head, claims, signature] = parts[..] else { panic!("{good}") };
    let other = token(&["--audience", "other"]);
    let none = "eyJhbGciOiJub25lIn0";
    let foreign_signature = other.rsplit('.').next().unwrap();
    for bad in [
        format!("{head}.{claims}.{}", signature.chars().rev().collect::<String>()),
        format!("{head}.{claims}.{foreign_signature}"),
        format!("{head}.{claims}."),
        format!("{none}.{claims}."),
        format!("{head}.{}x.{signature}", &claims[..claims.len() - 1]),
        other.clone(),
        "a.b.c".into(),
        "abcdef.0123456789abcdef".into(),
        String::new(),
        "a".repeat(20_000),
    ] {
        assert_eq!(with(&bad), 401, "{bad}");
    }
    for scheme in ["Basic YWRtaW46YWRtaW4=", "Bearer", "nonsense"] {
        assert_eq!(code(&["-H", &format!("authorization: {scheme}")], MAPS), 401, "{scheme}");
    }

    // A service account that is deleted takes its tokens along; a bootstrap token that has expired is nobody's.
    api.cluster.ok(&["create", "serviceaccount", "gone"]).unwrap();
    let gone = api.cluster.ok(&["create", "token", "gone"]).unwrap();
    assert_eq!(with(&gone), 403);
    api.cluster.ok(&["delete", "serviceaccount", "gone"]).unwrap();
    assert_eq!(with(&gone), 401, "the token of a deleted service account");
    for (id, expiration, want) in
        [("aaaaaa", "2099-01-01T00:00:00Z", 403), ("bbbbbb", "2020-01-01T00:00:00Z", 401)]
    {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
            "metadata": { "name": format!("bootstrap-token-{id}"), "namespace": "kube-system" },
            "stringData": {
                "token-id": id, "token-secret": "0123456789abcdef", "expiration": expiration,
                "usage-bootstrap-authentication": "true",
            },
        });
        api.cluster.ok_with(&["create", "-f", "-"], &secret.to_string()).unwrap();
        assert_eq!(with(&format!("{id}.0123456789abcdef")), want, "{expiration}");
        assert_eq!(with(&format!("{id}.0123456789abcdee")), 401, "a wrong secret");
    }
}

#[test]
fn strangers_who_hold_connections_leave_room_for_the_others() {
    let api = Api::start();
    let address = api.cluster.url().unwrap().replace("https://", "");
    let mut strangers: Vec<Child> = Vec::new();
    // Each keeps its standard input open, and so its connection.
    for _ in 0..150 {
        let client = Command::new("openssl")
            .args(["s_client", "-quiet", "-connect", &address])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        strangers.push(client.unwrap());
    }
    wait_for("strangers to be turned away", || {
        let ended =
            strangers.iter_mut().map(|one| usize::from(matches!(one.try_wait(), Ok(Some(_)))));
        let ended: usize = ended.sum();
        ensure!(ended == 150 - 128, "{ended} have ended");
        Ok(())
    })
    .unwrap();
    assert!(api.cluster.log("control").contains("128 connections without a client certificate"));
    api.curl(&[], "/version").unwrap_err();
    api.cluster.ok(&["get", "namespaces"]).unwrap();
    for stranger in &mut strangers {
        let _ = stranger.kill();
        stranger.wait().unwrap();
    }
    wait_for("their places to be free", || api.curl(&[], "/version").map_err(Error::msg)).unwrap();
}
