//! Requests in, calls or refusals out.

use alloc::{format, string::String, sync::Arc, vec::Vec};

use super::*;

fn http(method: &str, url: &str, headers: &[(&str, &str)]) -> Arc<HttpRequest> {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    Arc::new(HttpRequest {
        method: method.into(),
        path: path.into(),
        query: query.into(),
        headers: headers.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        ..HttpRequest::default()
    })
}

/// `verb group/version/plural/sub ns=… name=… authz=… hub`, or `verb path PATH`.
fn shape(method: &str, url: &str) -> String {
    let call = match Call::parse(http(method, url, &[])) {
        Ok(call) => call,
        Err(status) => return format!("{} {}", status.code, status.message),
    };
    let verb = call.verb.as_str();
    match &call.target {
        Target::Path(path) => format!("{verb} path {path}"),
        Target::Resource(t) => format!(
            "{verb} {}/{}/{}/{} ns={} name={} authz={} {}",
            t.group,
            t.version,
            t.plural,
            t.subresource,
            t.namespace,
            t.name,
            call.authz_name,
            t.hub.map_or("-", |hub| hub.def().kind)
        ),
    }
}

#[test]
fn paths_become_targets() {
    let check = |method, url, want: &str| assert_eq!(shape(method, url), want, "{method} {url}");
    check("GET", "/", "get path /");
    check("GET", "/api", "get path /api");
    check("GET", "/api/v1", "get path /api/v1");
    check("GET", "/api/v1/", "get path /api/v1");
    check("GET", "/apis/apps/v1", "get path /apis/apps/v1");
    check("GET", "/healthz/ping", "get path /healthz/ping");
    check("GET", "/api/v1/watch", "get path /api/v1/watch");
    check("GET", "/api/v1//pods", "get path /api/v1//pods");
    check("GET", "/api/v1/namespaces//pods", "get path /api/v1/namespaces//pods");
    check("GET", "/api/v1/pods", "list /v1/pods/ ns= name= authz= Pod");
    check("GET", "/api/v1/pods?watch=true", "watch /v1/pods/ ns= name= authz= Pod");
    check("GET", "/api/v1/pods?watch=0", "list /v1/pods/ ns= name= authz= Pod");
    check("GET", "/api/v1/pods?watch", "watch /v1/pods/ ns= name= authz= Pod");
    check("GET", "/api/v1/watch/pods", "watch /v1/pods/ ns= name= authz= Pod");
    check("GET", "/api/v1/watch/namespaces/x/pods/y", "watch /v1/pods/ ns=x name= authz=y Pod");
    check("GET", "/api/v1/namespaces", "list /v1/namespaces/ ns= name= authz= Namespace");
    check("GET", "/api/v1/namespaces/x", "get /v1/namespaces/ ns= name=x authz=x Namespace");
    check(
        "PUT",
        "/api/v1/namespaces/x/finalize",
        "update /v1/namespaces/finalize ns= name=x authz=x Namespace",
    );
    check("GET", "/api/v1/namespaces/x/pods", "list /v1/pods/ ns=x name= authz= Pod");
    check("HEAD", "/api/v1/namespaces/x/pods/y", "get /v1/pods/ ns=x name=y authz=y Pod");
    check("GET", "/api/v1/namespaces/x/pods/y/log", "get /v1/pods/log ns=x name=y authz=y Pod");
    check(
        "GET",
        "/api/v1/namespaces/x/pods?fieldSelector=metadata.name%3Dy",
        "list /v1/pods/ ns=x name= authz=y Pod",
    );
    check(
        "GET",
        "/api/v1/namespaces/x/pods?watch=1&fieldSelector=spec.nodeName=n,metadata.name==y",
        "watch /v1/pods/ ns=x name= authz=y Pod",
    );
    check(
        "GET",
        "/api/v1/namespaces/x/pods?fieldSelector=metadata.name!=y",
        "list /v1/pods/ ns=x name= authz= Pod",
    );
    check(
        "DELETE",
        "/api/v1/namespaces/x/pods",
        "deletecollection /v1/pods/ ns=x name= authz= Pod",
    );
    check("DELETE", "/api/v1/nodes/pi%2d1", "delete /v1/nodes/ ns= name=pi-1 authz=pi-1 Node");
    check(
        "PATCH",
        "/apis/extensions/v1beta1/namespaces/x/deployments/d/scale",
        "patch extensions/v1beta1/deployments/scale ns=x name=d authz=d Deployment",
    );
    check(
        "POST",
        "/apis/apps/v1beta1/namespaces/x/deployments",
        "create apps/v1beta1/deployments/ ns=x name= authz= Deployment",
    );
    check(
        "GET",
        "/apis/events.k8s.io/v1/namespaces/x/events",
        "list events.k8s.io/v1/events/ ns=x name= authz= Event",
    );
    check(
        "GET",
        "/apis/apps/v1beta1/replicasets",
        "list apps/v1beta1/replicasets/ ns= name= authz= -",
    );
    check("POST", "/apis/batch/v1/jobs", "create batch/v1/jobs/ ns= name= authz= -");
    check("GET", "/api/v1/namespaces/x/pods/a%2Fb", "400 invalid path segment \"a%2Fb\"");
    check("GET", "/api/v1/namespaces/../pods/b", "400 invalid path segment \"..\"");
    check("GET", "/api/v1/nodes/%zz", "400 invalid path segment \"%zz\"");
    check("GET", "/api/v1/nodes/%ff", "400 invalid path segment \"%ff\"");
    check(
        "BREW",
        "/api/v1/nodes",
        "405 the server does not allow this method on the requested resource",
    );
    check("GET", "/api/v1/nodes?a=%4", "400 invalid URL escape or text in query near \"a\"");
}

#[test]
fn what_is_too_long_is_refused() {
    let code =
        |request: Arc<HttpRequest>| Call::parse(request).map(|_| 0).unwrap_or_else(|s| s.code);
    let long = "a".repeat(limits::QUERY_BYTES_MAX + 1);
    assert_eq!(code(http("GET", &format!("/{}", &long[..limits::PATH_BYTES_MAX]), &[])), 414);
    assert_eq!(code(http("GET", &format!("/api?{long}"), &[])), 414);
    let header = "a".repeat(limits::HEADER_BYTES_MAX);
    assert_eq!(code(http("GET", "/api", &[("authorization", &header)])), 431);
    let pairs: Vec<String> = (0..=limits::QUERY_PAIRS_MAX).map(|n| format!("k{n}=v")).collect();
    assert_eq!(code(http("GET", &format!("/api?{}", pairs.join("&")), &[])), 400);
    assert_eq!(code(http("GET", "/api?a=b", &[("authorization", "x")])), 0);
}

fn options(method: &str, url: &str, headers: &[(&str, &str)]) -> Result<Options, String> {
    let call = Call::parse(http(method, url, headers)).expect("the path is good");
    call.options.map_err(|status| format!("{} {}", status.code, status.message))
}

#[test]
fn options_are_read() {
    let list = options(
        "GET",
        "/api/v1/pods?labelSelector=app%3Dx%2Ctier+in+%28a%2Cb%29&limit=500&continue=abc&timeoutSeconds=30&\
         resourceVersion=12&allowWatchBookmarks=true&includeObject=Object&pretty=1",
        &[("user-agent", "kubectl/v1.36 (linux)")],
    )
    .expect("good");
    assert_eq!(list.label_selector, "app=x,tier in (a,b)");
    assert_eq!((list.limit, list.continue_token.as_str()), (500, "abc"));
    assert_eq!((list.timeout_seconds, list.resource_version), (Some(30), Some(12)));
    assert!(list.allow_watch_bookmarks && list.pretty);
    assert_eq!(list.include_object, IncludeObject::Object);
    assert_eq!(list.field_manager, "kubectl");

    let watch = options("GET", "/api/v1/watch/nodes/n1", &[]).expect("good");
    assert_eq!(watch.field_selector, "metadata.name=n1");

    let streamed = options(
        "GET",
        "/api/v1/pods?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
        &[],
    )
    .expect("good");
    assert_eq!(streamed.send_initial_events, Some(true));
    assert_eq!(streamed.resource_version_match, Some(VersionMatch::NotOlderThan));

    let apply = options(
        "PATCH",
        "/api/v1/namespaces/x/configmaps/c?fieldManager=me&force=true&fieldValidation=Strict&dryRun=All",
        &[("content-type", "application/apply-patch+yaml")],
    )
    .expect("good");
    assert!(apply.force && apply.dry_run);
    assert_eq!(apply.field_manager, "me");
    assert_eq!(apply.field_validation, FieldValidation::Strict);

    let delete = options(
        "DELETE",
        "/api/v1/namespaces/x/pods/p?gracePeriodSeconds=0&propagationPolicy=Foreground",
        &[],
    )
    .expect("good");
    assert_eq!(delete.grace_period_seconds, Some(0));
    assert_eq!(delete.propagation_policy, Some(Propagation::Foreground));

    let log = options(
        "GET",
        "/api/v1/namespaces/x/pods/p/log?container=c&follow=true&tailLines=5&sinceSeconds=9",
        &[],
    )
    .expect("good");
    assert_eq!(
        (log.log.tail_lines, log.log.since_seconds, log.log.follow),
        (Some(5), Some(9), true)
    );
    assert_eq!(log.log.container, "c");
}

#[test]
fn bad_options_are_refused() {
    let check = |method, url, want: &str| {
        assert_eq!(options(method, url, &[]).expect_err(url), want, "{method} {url}");
    };
    check("GET", "/api/v1/pods?limit=x", "400 limit: Invalid value: \"x\": must be a whole number");
    check(
        "GET",
        "/api/v1/pods?resourceVersion=x",
        "400 resourceVersion: Invalid value: \"x\": not a number that a list or watch gave",
    );
    check(
        "GET",
        "/api/v1/pods?resourceVersionMatch=Exact",
        "422 ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: \
         resourceVersionMatch is forbidden unless resourceVersion is provided",
    );
    check(
        "GET",
        "/api/v1/pods?watch=1&sendInitialEvents=true",
        "422 ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: \
         sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
    );
    check(
        "POST",
        "/api/v1/namespaces/x/pods?dryRun=Some",
        "422 CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: \"Some\": supported values: \"All\"",
    );
    check(
        "PUT",
        "/api/v1/namespaces/x/pods/p?fieldValidation=Loose",
        "422 UpdateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"Loose\": \
         supported values: \"Ignore\", \"Strict\", \"Warn\"",
    );
    check(
        "PATCH",
        "/api/v1/namespaces/x/pods/p?force=true",
        "422 PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch",
    );
    check(
        "DELETE",
        "/api/v1/namespaces/x/pods/p?propagationPolicy=Never",
        "422 DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"Never\": \
         supported values: \"Background\", \"Foreground\", \"Orphan\"",
    );
    check(
        "GET",
        "/api/v1/namespaces/x/pods/p/log?tailLines=-1",
        "422 PodLogOptions \"\" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0",
    );
    check(
        "GET",
        "/api/v1/namespaces/x/pods/p/log?sinceTime=now%26follow=true",
        "400 sinceTime: Invalid value: \"now&follow=true\": must be a time since 1970 as RFC 3339 has it",
    );
    check(
        "GET",
        "/api/v1/pods?includeObject=All",
        "400 unrecognized includeObject value \"All\": use None, Metadata or Object",
    );
    // It was authorized for `y` alone.
    for selector in ["metadata.name=z", "metadata.name!=z", "spec.nodeName=", "metadata.name!=y"] {
        let url = alloc::format!("/api/v1/watch/namespaces/x/pods/y?fieldSelector={selector}");
        let why = options("GET", &url, &[]).expect_err(&url);
        let want = alloc::format!(
            "400 fieldSelector {selector:?} does not match the requested name \"y\""
        );
        assert_eq!(why, want);
    }
}

#[test]
fn an_apply_needs_a_manager() {
    let kind = &[("content-type", "application/apply-patch+yaml")][..];
    let refused =
        options("PATCH", "/api/v1/namespaces/x/configmaps/c", kind).expect_err("no manager");
    assert_eq!(
        refused,
        "422 PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
    );
}

#[test]
fn only_what_is_served_is_routed() {
    let check = |method, url, want: u16| {
        let call = Call::parse(http(method, url, &[])).expect("the path is good");
        let Target::Resource(target) = &call.target else { panic!("{url} is no resource") };
        let got = routes::check(call.verb, target).map_or_else(|status| status.code, |_| 200);
        assert_eq!(got, want, "{method} {url}");
    };
    check("GET", "/api/v1/pods", 200);
    check("POST", "/api/v1/pods", 405);
    check("DELETE", "/api/v1/pods", 405);
    check("GET", "/api/v1/pods/p", 404);
    check("GET", "/api/v1/namespaces/x/nodes", 404);
    check("GET", "/api/v1/namespaces/x/pods/p/log", 200);
    check("POST", "/api/v1/namespaces/x/pods/p/log", 405);
    check("GET", "/api/v1/namespaces/x/pods/p/log/more", 404);
    check("POST", "/api/v1/namespaces/x/pods/p", 405);
    check("PUT", "/api/v1/namespaces/x/pods", 405);
    check("PATCH", "/api/v1/namespaces/x/pods/p/status", 200);
    check("DELETE", "/api/v1/namespaces", 405);
    check("GET", "/apis/batch/v1/jobs", 404);
    check("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", 200);
    check("GET", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", 405);
    check("POST", "/apis/apps/v1beta1/namespaces/x/deployments/d/rollback", 200);
    check("POST", "/apis/apps/v1/namespaces/x/deployments/d/rollback", 404);
}

#[test]
fn every_served_thing_leads_to_where_it_is_kept() {
    for row in coracle_api::served::all() {
        let stored = !row.plural().ends_with("reviews");
        let hub = routes::hub(row.group, row.version, row.plural());
        assert_eq!(hub.is_some(), stored, "{} {}", row.group, row.name);
    }
    for resource in Resource::all() {
        let def = resource.def();
        assert_eq!(
            routes::hub(def.group, def.version, def.plural),
            Some(resource),
            "{}",
            def.plural
        );
    }
}
