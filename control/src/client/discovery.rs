//! What the server serves, read from aggregated discovery, and what a person's word for it means.

use anyhow::{Context, anyhow, bail};
use serde_json::Value;

use super::api::{Api, Ask, encode};

const ACCEPT: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/// A resource in one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kind {
    /// Empty for the core group.
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    singular: String,
    short: Vec<String>,
    categories: Vec<String>,
    verbs: Vec<String>,
    pub(crate) namespaced: bool,
}

impl Kind {
    /// As in `apiVersion`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `deployment.apps`, `pod`: what stands before `/NAME` in messages.
    pub(crate) fn shown(&self) -> String {
        let kind = self.kind.to_lowercase();
        if self.group.is_empty() { kind } else { format!("{kind}.{}", self.group) }
    }

    /// Path of an object or, without a name, of a collection (of all namespaces if none is given).
    pub(crate) fn path(&self, namespace: Option<&str>, name: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        let mut path = format!("{root}/{}", self.api_version());
        if let Some(namespace) = namespace.filter(|_| self.namespaced) {
            path += &format!("/namespaces/{}", encode(namespace));
        }
        path += &format!("/{}", self.plural);
        if let Some(name) = name {
            path += &format!("/{}", encode(name));
        }
        path
    }

    fn is(&self, word: &str) -> bool {
        word == self.plural
            || word == self.singular
            || word == self.kind.to_lowercase()
            || self.short.iter().any(|short| short == word)
    }

    fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|have| have == verb)
    }
}

/// Everything that is served; what is preferred comes first.
#[derive(Debug, Default)]
pub(crate) struct Discovery {
    kinds: Vec<Kind>,
}

impl Discovery {
    /// Asks the server.
    pub(crate) fn read(api: &Api) -> anyhow::Result<Self> {
        let mut kinds = Vec::new();
        for path in ["/api", "/apis"] {
            let ask = Ask { path, accept: ACCEPT, ..Ask::default() };
            let list = api.value(&ask).context("cannot ask what the server serves")?;
            if list.get("kind").and_then(Value::as_str) != Some("APIGroupDiscoveryList") {
                bail!("the server has no aggregated discovery; use kubectl with it");
            }
            kinds.extend(kinds_of(&list));
        }
        Ok(Self { kinds })
    }

    /// The kinds of `po`, `deployments.apps`, `deploy.v1.apps`, `all` or several with commas between.
    pub(crate) fn by_words(&self, words: &str) -> anyhow::Result<Vec<&Kind>> {
        let mut found: Vec<&Kind> = Vec::new();
        for word in words.split(',') {
            let lower = word.to_lowercase();
            let mut category = Vec::new();
            for kind in &self.kinds {
                let member = kind.categories.contains(&lower);
                let again = |seen: &&Kind| seen.plural == kind.plural;
                if member && kind.can("list") && !category.iter().any(again) {
                    category.push(kind);
                }
            }
            match self.by_word(&lower) {
                Some(kind) => found.push(kind),
                None if !category.is_empty() => found.extend(category),
                None => bail!("the server doesn't have a resource type \"{word}\""),
            }
        }
        Ok(found)
    }

    fn by_word(&self, word: &str) -> Option<&Kind> {
        let (name, place) = word.split_once('.').unwrap_or((word, ""));
        self.kinds.iter().find(|kind| {
            let versioned = format!("{}.{}", kind.version, kind.group);
            let here =
                place.is_empty() || place == kind.group || place == versioned.trim_end_matches('.');
            here && kind.is(name)
        })
    }

    /// The kind that a manifest names.
    pub(crate) fn by_kind(&self, api_version: &str, name: &str) -> anyhow::Result<&Kind> {
        let found =
            self.kinds.iter().find(|kind| kind.kind == name && kind.api_version() == api_version);
        found.ok_or_else(|| {
            let others: Vec<String> =
                self.kinds.iter().filter(|kind| kind.kind == name).map(Kind::api_version).collect();
            let hint = if others.is_empty() {
                "`coracle get` knows no such kind".to_owned()
            } else {
                format!("the server has it in {}", others.join(", "))
            };
            anyhow!("no matches for kind \"{name}\" in version \"{api_version}\": {hint}")
        })
    }
}

fn kinds_of(list: &Value) -> Vec<Kind> {
    let array = |value: &Value, name: &str| -> Vec<Value> {
        value.get(name).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let text = |value: &Value, pointer: &str| {
        value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let texts = |value: &Value, name: &str| -> Vec<String> {
        array(value, name).iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut kinds = Vec::new();
    for group in array(list, "items") {
        for version in array(&group, "versions") {
            for resource in array(&version, "resources") {
                kinds.push(Kind {
                    group: text(&group, "/metadata/name"),
                    version: text(&version, "/version"),
                    kind: text(&resource, "/responseKind/kind"),
                    plural: text(&resource, "/resource"),
                    singular: text(&resource, "/singularResource"),
                    short: texts(&resource, "shortNames"),
                    categories: texts(&resource, "categories"),
                    verbs: texts(&resource, "verbs"),
                    namespaced: text(&resource, "/scope") == "Namespaced",
                });
            }
        }
    }
    kinds
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn served() -> Discovery {
        let resource = |plural: &str, kind: &str, short: &str, scope: &str| {
            json!({
                "resource": plural, "responseKind": { "kind": kind }, "scope": scope,
                "singularResource": kind.to_lowercase(), "shortNames": [short],
                "categories": if kind == "Node" { json!([]) } else { json!(["all"]) },
                "verbs": ["get", "list"],
            })
        };
        let group = |name: &str, versions: &[&str], resources: Value| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| json!({ "version": version, "resources": resources }))
                .collect();
            json!({ "metadata": { "name": name }, "versions": versions })
        };
        let deployment = resource("deployments", "Deployment", "deploy", "Namespaced");
        let list = json!({ "items": [
            group("", &["v1"], json!([
                resource("pods", "Pod", "po", "Namespaced"),
                resource("nodes", "Node", "no", "Cluster"),
            ])),
            group("apps", &["v1", "v1beta1"], json!([deployment])),
            group("extensions", &["v1beta1"], json!([deployment])),
        ]});
        Discovery { kinds: kinds_of(&list) }
    }

    #[test]
    fn what_words_mean() {
        let served = served();
        let check = |words: &str, want: &[&str]| {
            let kinds = served.by_words(words).unwrap_or_default();
            let paths: Vec<String> = kinds.iter().map(|k| k.path(Some("n"), Some("x"))).collect();
            assert_eq!(paths, want, "{words}");
        };
        let deployment = "/apis/apps/v1/namespaces/n/deployments/x";
        check("pods", &["/api/v1/namespaces/n/pods/x"]);
        check("po,no", &["/api/v1/namespaces/n/pods/x", "/api/v1/nodes/x"]);
        for word in ["deploy", "Deployment", "deployments.apps", "deploy.v1.apps"] {
            check(word, &[deployment]);
        }
        check("deploy.v1beta1.apps", &["/apis/apps/v1beta1/namespaces/n/deployments/x"]);
        check("deploy.extensions", &["/apis/extensions/v1beta1/namespaces/n/deployments/x"]);
        check("all", &["/api/v1/namespaces/n/pods/x", deployment]);
        check("foos", &[]);
        check("pods,foos", &[]);
    }

    #[test]
    fn what_manifests_name() {
        let served = served();
        let check = |api_version: &str, kind: &str, want: &str| {
            let found = served.by_kind(api_version, kind);
            let told = found.map_or_else(|error| error.to_string(), |kind| kind.path(None, None));
            assert!(told.contains(want), "{told}");
        };
        check("v1", "Pod", "/api/v1/pods");
        check("apps/v1beta1", "Deployment", "/apis/apps/v1beta1/deployments");
        check("apps/v2", "Deployment", "the server has it in apps/v1, apps/v1beta1");
        check("v1", "Foo", "no matches for kind \"Foo\" in version \"v1\"");
    }
}
