//! Who may come in, through the whole front: tokens, reviews, applies that create.

use alloc::{borrow::ToOwned, format, string::String, vec::Vec};

use serde_json::{Value, json};

use crate::{
    call::Peer,
    scripted::{Answer, Scripted},
};

const SELF: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

/// The answer to someone with this token, or certificate, or neither.
fn ask(
    cluster: &mut Scripted,
    who: Result<&str, Option<&str>>,
    method: &str,
    url: &str,
    body: Option<&Value>,
) -> Answer {
    let mut http = Scripted::http(method, url, body);
    http.peer = None;
    match who {
        Ok(token) => http.headers.push(("authorization".into(), format!("Bearer {token}"))),
        Err(peer) => {
            http.peer =
                peer.map(|name| Peer { common_name: name.into(), organizations: Vec::new() });
        }
    }
    let id = cluster.send_http(http);
    cluster.run();
    cluster.answers.remove(&id).expect("an answer")
}

fn can_get_pods() -> Value {
    json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}}})
}

#[test]
fn a_service_account_comes_in_with_its_token_until_it_is_deleted() {
    let mut cluster = Scripted::new();
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    cluster.want(201, "POST", accounts, json!({"metadata": {"name": "robot"}}));
    let made = cluster.want(201, "POST", &format!("{accounts}/robot/token"), json!({"spec": {}}));
    assert_eq!(made["kind"], "TokenRequest");
    assert_eq!(made["apiVersion"], "authentication.k8s.io/v1");
    let token = made["status"]["token"].as_str().expect("a token").to_owned();

    let whoami = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let me = ask(&mut cluster, Ok(&token), "POST", whoami, Some(&json!({}))).json();
    let info = &me["status"]["userInfo"];
    assert!(info.is_object(), "{me}");
    assert_eq!(info["username"], "system:serviceaccount:default:robot");
    assert_eq!(
        info["groups"],
        json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"])
    );
    let pods = "/api/v1/namespaces/default/pods";
    assert_eq!(ask(&mut cluster, Ok(&token), "GET", pods, None).code, 403);
    let review = ask(&mut cluster, Ok(&token), "POST", SELF, Some(&can_get_pods())).json();
    assert_eq!(review["status"]["allowed"], false);

    cluster.want(
        201,
        "POST",
        "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings",
        json!({
            "metadata": {"name": "robot-views"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": "default"}],
        }),
    );
    assert_eq!(ask(&mut cluster, Ok(&token), "GET", pods, None).code, 200);
    let review = ask(&mut cluster, Ok(&token), "POST", SELF, Some(&can_get_pods())).json();
    assert_eq!(review["status"]["allowed"], true);

    let tokens = "/apis/authentication.k8s.io/v1/tokenreviews";
    let seen = cluster.want(201, "POST", tokens, json!({"spec": {"token": token}}));
    assert_eq!(seen["status"]["authenticated"], true);
    let mut cut = token.clone();
    cut.pop();
    let seen = cluster.want(201, "POST", tokens, json!({"spec": {"token": cut}}));
    assert_eq!(seen["status"]["error"], "invalid bearer token");

    cluster.want(200, "DELETE", &format!("{accounts}/robot"), Value::Null);
    assert_eq!(ask(&mut cluster, Ok(&token), "GET", pods, None).code, 401);
}

#[test]
fn strangers_are_told_nothing() {
    let mut cluster = Scripted::new();
    for (url, code) in [
        ("/healthz", 200),
        ("/version", 200),
        ("/api", 401),
        ("/api/v1/namespaces", 401),
        ("/nothing/here", 401),
        ("/apis/batch/v1/jobs", 401),
        ("/api/v1/pods?limit=nonsense", 401),
    ] {
        assert_eq!(ask(&mut cluster, Err(None), "GET", url, None).code, code, "{url}");
    }
    // One with a name but no rights learns what it may not, before what is wrong with the question.
    for (url, code) in [
        ("/api/v1/namespaces", 403),
        ("/nothing/here", 403),
        ("/apis/batch/v1/jobs", 403),
        ("/api/v1/pods?limit=nonsense", 403),
    ] {
        assert_eq!(ask(&mut cluster, Err(Some("eve")), "GET", url, None).code, code, "{url}");
    }
    let got = cluster.want(400, "GET", "/api/v1/pods?limit=nonsense", Value::Null);
    assert_eq!(got["reason"], "BadRequest");
}

#[test]
fn an_update_that_creates_needs_the_right_to_create() {
    let mut cluster = Scripted::new();
    let group = "/apis/rbac.authorization.k8s.io/v1";
    cluster.want(
        201,
        "POST",
        &format!("{group}/clusterroles"),
        json!({"metadata": {"name": "updater"}, "rules": [{
            "verbs": ["update"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"],
        }]}),
    );
    cluster.want(
        201,
        "POST",
        &format!("{group}/clusterrolebindings"),
        json!({
            "metadata": {"name": "updater"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "updater"},
            "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane"}],
        }),
    );
    let url = format!("{group}/namespaces/default/roles/r");
    let role = json!({"metadata": {"name": "r"}, "rules": []});
    let refused = ask(&mut cluster, Err(Some("jane")), "PUT", &url, Some(&role));
    assert_eq!(refused.code, 403, "{}", refused.text());
    assert!(refused.text().contains("cannot create resource"), "{}", refused.text());
    let made = cluster.call("PUT", &url, Some(&role));
    assert_eq!(made.code, 201, "{}", made.text());
    let changed = ask(&mut cluster, Err(Some("jane")), "PUT", &url, Some(&role));
    assert_eq!(changed.code, 200, "{}", changed.text());
}

#[test]
fn reviews_come_as_protobuf_too() {
    let mut cluster = Scripted::new();
    let mut http = Scripted::http("POST", SELF, None);
    for (key, value) in &mut http.headers {
        if key == "content-type" {
            *value = "application/vnd.kubernetes.protobuf".into();
        }
    }
    // What the current kubectl sends for `auth can-i create pods`.
    http.body.bytes = Vec::from(
        &b"k8s\0\n2\n\x17authorization.k8s.io/v1\x12\x17SelfSubjectAccessReview\x12?\n\x10\n\0\x12\0\x1a\0\"\0*\0\
           2\08\0B\0\x12!\n\x1f\n\x07default\x12\x06create\x1a\0\"\0*\x04pods2\0:\0\x1a\x08\x08\0\x12\0\x1a\0 \0\x1a\0\"\0"[..],
    );
    let id = cluster.send_http(http);
    let answer = cluster.answers.remove(&id).expect("answered at once");
    assert_eq!(answer.code, 201, "{}", answer.text());
    let review = answer.json();
    assert_eq!(review["spec"]["resourceAttributes"]["resource"], "pods");
    assert_eq!(review["status"]["allowed"], true);
}

#[test]
fn a_head_alone_says_who_is_known() {
    let mut cluster = Scripted::new();
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    cluster.want(201, "POST", accounts, json!({"metadata": {"name": "robot"}}));
    let made = cluster.want(201, "POST", &format!("{accounts}/robot/token"), json!({"spec": {}}));
    let token = made["status"]["token"].as_str().expect("a token").to_owned();
    let knows = |peer: Option<&str>, header: Option<String>| {
        let mut head = Scripted::http("POST", "/api/v1/namespaces/default/pods", None);
        head.peer = peer.map(|name| Peer { common_name: name.into(), organizations: Vec::new() });
        head.headers.extend(header.map(|value| ("authorization".to_owned(), value)));
        cluster.plane.knows(cluster.now, &head)
    };
    assert!(knows(Some("jane"), None));
    assert!(knows(None, Some(format!("Bearer {token}"))));
    // Nobody, a certificate without a name, a token of nobody, another scheme.
    assert!(!knows(None, None));
    assert!(!knows(Some(""), None));
    assert!(!knows(None, Some("Bearer x.y.z".into())));
    assert!(!knows(None, Some(format!("Basic {token}"))));
}
