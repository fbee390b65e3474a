//! What a control plane says to what it cannot take: manifests and requests. Each answer names the thing, the cause and
//! where there is one the fix, and nothing half-done is left behind.

use std::{
    io::Write as _,
    net::TcpStream,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use coracle_benches::{
    api::{Api, DEPLOYMENTS, JSON, MAPS, YAML},
    cluster::{Kubectl, project},
};
use serde_json::json;

fn map(data: &str) -> String {
    format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"x"}},"data":{data}}}"#)
}

fn deployment(name: &str, value: &str, template_label: &str) -> String {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": {
            "selector": { "matchLabels": { "app": "x" } },
            "template": {
                "metadata": { "labels": { "app": template_label } },
                "spec": { "containers": [{ "name": "c", "image": "i", "env": [{ "name": "A", "value": value }] }] },
            },
        },
    })
    .to_string()
}

#[test]
fn manifests_are_refused_in_words_and_nothing_is_made() {
    let api = Api::start();
    let yaml = |body: &str, code, says: &[&str]| api.refuses((YAML, body, MAPS), code, says);
    let json = |body: &str, code, says: &[&str]| api.refuses((JSON, body, MAPS), code, says);
    yaml("this: is: no: yaml\n  - at all: {", 400, &["YAML", "line 1 column 9"]);
    yaml("hello", 400, &["not an object"]);
    json("not json", 400, &["json parse error", "line 1"]);
    json("", 400, &["body of the request is empty"]);
    json("[1]", 400, &["not an object"]);
    api.refuses(("text/plain", "x", MAPS), 415, &["application/json", "application/yaml"]);
    let protobuf = "application/vnd.kubernetes.protobuf";
    api.refuses((protobuf, "k8s\0\u{7f}\u{7f}", MAPS), 400, &["protobuf parse error"]);
    api.refuses((protobuf, "{}", MAPS), 400, &["protobuf"]);

    yaml("kind: Nonsense\nmetadata: {name: x}", 400, &["(Nonsense)", "(ConfigMap)"]);
    yaml("apiVersion: v9\nkind: ConfigMap\nmetadata: {name: x}", 400, &["(v9)", "(v1)"]);
    let nowhere = "the server could not find the requested resource";
    api.refuses((JSON, "{}", "/api/v1/namespaces/default/nonsenses"), 404, &[nowhere]);
    api.refuses((JSON, "{}", "/apis/example.com/v1/bars"), 404, &[nowhere]);

    // Wrong types name the field and the type; wrong values name the field and what would be right.
    json(&map(r#"{"a":1}"#), 400, &["ConfigMap.data of type string"]);
    api.refuses(
        (YAML, "kind: Deployment\nmetadata: {name: x}\nspec: {replicas: two}", DEPLOYMENTS),
        400,
        &["spec.replicas of type int32"],
    );
    json(&map(r#"{"a/b":"c"}"#), 422, &["data[a/b]", "must consist of"]);
    api.refuses(
        (JSON, &deployment("Bad_Name", "", "x"), DEPLOYMENTS),
        422,
        &["metadata.name", "lowercase"],
    );
    api.refuses(
        (JSON, &deployment("x", "", "other"), DEPLOYMENTS),
        422,
        &["spec.template.metadata.labels", "`selector` does not match template `labels`"],
    );

    // Size.
    let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes));
    json(&map(&format!("{{\"a\":{}}}", text(1_100_000))), 422, &["data: Too long", "1048576"]);
    api.refuses(
        (JSON, &deployment("x", &"x".repeat(1_100_000), "x"), DEPLOYMENTS),
        413,
        &["deployments.apps \"x\" is too large", "1048576", "split it"],
    );
    for bytes in [4_000_000, 9_000_000, 20_000_000] {
        json(&map(&format!("{{\"a\":{}}}", text(bytes))), 413, &["limit is 3145728"]);
    }

    // Depth and bombs, and none takes long.
    let started = Instant::now();
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    json(&map(&deep), 400, &["nested deeper than 128 levels"]);
    json(&map(&(r#"{"a":"#.repeat(10_000) + "1" + &"}".repeat(10_000))), 400, &["nested deeper"]);
    yaml(
        &format!("kind: ConfigMap\ndata: {deep}"),
        400,
        &["nested deeper than 80 levels", "line 2"],
    );
    yaml(&format!("kind: ConfigMap\ndata:\n  {}", "- ".repeat(10_000)), 400, &["nested deeper"]);
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let nine = format!("*a{}, ", n - 1).repeat(9);
        bomb += &format!("a{n}: &a{n} [{}]\n", nine.trim_end_matches(", "));
    }
    yaml(&bomb, 400, &["aliases stand for too much"]);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(api.admin(&[], "/readyz").unwrap().code, 200);
    api.nothing_was_made();
}

#[test]
fn unknown_and_doubled_fields_warn_or_are_refused() {
    let api = Api::start();
    let yaml = "apiVersion: v1\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: NAME, wrong: 1}\ndata: {a: b, a: c}\nspec: {}\n";
    let json = r#"{"apiVersion":"v1","apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"NAME","wrong":1},"data":{"a":"b","a":"c"},"spec":{}}"#;
    let faults = [
        r#"duplicate field "apiVersion""#,
        r#"duplicate field "data.a""#,
        r#"unknown field "metadata.wrong""#,
        r#"unknown field "spec""#,
    ];
    for (kind, body) in [(YAML, yaml), (JSON, json)] {
        let path = format!("{MAPS}?fieldValidation=Strict");
        api.refuses((kind, body, &path), 400, &[&["strict decoding error"], &faults[..]].concat());
        api.nothing_was_made();
    }
    for (name, kind, body) in [("of-yaml", YAML, yaml), ("of-json", JSON, json)] {
        let body = body.replace("NAME", name);
        let answer = api.post(kind, &body, &format!("{MAPS}?fieldValidation=Warn"));
        assert_eq!(answer.code, 201, "{}", answer.body);
        assert_eq!(
            answer.head.matches("\r\nwarning: 299").count(),
            faults.len(),
            "{}",
            answer.head
        );
        for fault in faults {
            let quoted = fault.replace('"', "\\\"").to_ascii_lowercase();
            assert!(answer.head.contains(&quoted), "{quoted}: {}", answer.head);
        }
        let made = answer.status();
        assert_eq!(made["data"], json!({ "a": "c" }), "the last one wins");
        assert!(made.get("spec").is_none() && made["metadata"].get("wrong").is_none(), "{made}");
        let name = name.replace("of", "quiet");
        let body = body.replace("of-", "quiet-");
        let answer = api.post(kind, &body, &format!("{MAPS}?fieldValidation=Ignore"));
        assert_eq!(answer.code, 201, "{name}: {}", answer.body);
        assert!(!answer.head.contains("warning"), "{}", answer.head);
    }
    let path = format!("{MAPS}?fieldValidation=Maybe");
    api.refuses((JSON, json, &path), 422, &["fieldValidation", "\"Ignore\", \"Strict\", \"Warn\""]);
    // A kind that nobody knows, through kubectl, in its words.
    for which in [Kubectl::Current, Kubectl::Old] {
        let manifest = "kind: Nonsense\napiVersion: v1\nmetadata: {name: x}\n";
        let said = api.cluster.kubectl_with(which, &["create", "-f", "-"], manifest).unwrap();
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.contains(r#"no matches for kind "Nonsense" in version "v1""#), "{said}");
    }
}

#[test]
fn malformed_and_oversize_requests_are_answered_and_block_nobody() {
    let api = Api::start();
    let long = "a".repeat(60_000);
    let header = format!("x-long: {long}");
    for version in ["--http1.1", "--http2"] {
        let code = |words: &[&str], path: &str| {
            api.admin(&[&[version], words].concat(), path).map(|answer| answer.code)
        };
        let oversize = code(&["-H", &header], "/version");
        // On HTTP/1.1 the server closes with most of the head unread: the reset may overtake the answer.
        let reset = version == "--http1.1"
            && oversize.as_ref().is_err_and(|why| why.starts_with("curl: (5"));
        assert!(oversize == Ok(431) || reset, "{version}: {oversize:?}");
        assert_eq!(code(&[], &format!("/api/v1/{}", &long[..5000])), Ok(414), "{version}");
        assert_eq!(code(&[], &format!("{MAPS}?labelSelector={}", &long[..20_000])), Ok(414));
        assert_eq!(code(&["-X", "NONSENSE"], MAPS), Ok(405), "{version}");
        assert_eq!(
            code(&["-X", "PATCH", "-H", "content-type: text/x", "-d", "{}"], &format!("{MAPS}/x")),
            Ok(415)
        );
        assert_eq!(code(&["-H", "accept: text/html"], MAPS), Ok(406), "{version}");
    }
    for (query, says) in [
        ("labelSelector=a%20in%20(", "unable to parse requirement"),
        ("fieldSelector=spec.wrong%3D1", "field label not supported: spec.wrong"),
        ("resourceVersion=abc", "\"abc\""),
        ("continue=zzz", "list again without it"),
        ("watch=1&timeoutSeconds=x", "must be a whole number"),
    ] {
        let answer = api.admin(&[], &format!("{MAPS}?{query}")).unwrap();
        assert_eq!(answer.code, 400, "{query}: {}", answer.body);
        assert!(answer.message().contains(says), "{query}: {}", answer.message());
    }
    for path in ["/%2e%2e/etc", "/api/v1/namespaces/%ff", "/api/v1/namespaces/..%2f"] {
        let answer = api.admin(&["--path-as-is"], path).unwrap();
        assert_eq!(answer.code, 400, "{path}");
        assert!(answer.message().starts_with("invalid path segment"), "{}", answer.message());
    }
    for bytes in [
        b"NONSENSE\r\n\r\n".as_slice(),
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /version HTTP/1.1\r\nno colon here\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"\0\x01\x02\x03\r\n\r\n",
    ] {
        let answer = api.raw(bytes);
        assert!(
            answer.starts_with("HTTP/1.1 400"),
            "{:?}: {answer}",
            String::from_utf8_lossy(bytes)
        );
    }

    // Callers that say nothing, or a byte of a handshake, or half a head: others are answered at once.
    let address = api.url.trim_start_matches("https://");
    let mut slow: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    for stream in slow.iter_mut().step_by(2) {
        stream.write_all(&[0x16]).unwrap();
    }
    let mut halves: Vec<_> = (0..5)
        .map(|_| {
            let mut child = Command::new("openssl")
                .args(["s_client", "-quiet", "-connect", address])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let head =
                b"POST /api/v1/namespaces HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{";
            child.stdin.as_mut().unwrap().write_all(head).unwrap();
            child
        })
        .collect();
    let started = Instant::now();
    for _ in 0..5 {
        assert_eq!(api.admin(&[], MAPS).unwrap().code, 200);
    }
    let took = started.elapsed();
    for child in &mut halves {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(took < Duration::from_secs(5), "{took:?}");
    drop(slow);
    api.nothing_was_made();
}

#[test]
fn the_command_lines_say_what_is_wrong() {
    let bin = coracle_benches::cluster::bin_dir().unwrap();
    let file = project().join("Makefile").display().to_string();
    for (program, words, code, says) in [
        ("coracle", vec!["nonsense"], 2, "nonsense"),
        ("coracle", vec!["serve", "--data-dir", &file], 1, &*file),
        ("coracle", vec!["serve", "--data-dir", &file, "--listen", "nowhere"], 2, "nowhere"),
        ("coracle-agent", vec!["nonsense"], 2, "nonsense"),
        ("coracle-agent", vec!["--data-dir", &file, "image", "list"], 1, &*file),
    ] {
        let output = Command::new(bin.join(program)).args(&words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{program} {words:?}: {said}");
        assert!(said.contains(says), "{program} {words:?}: {said}");
        assert!(code != 1 || said.trim().lines().count() == 1, "one line: {said}");
    }
}
