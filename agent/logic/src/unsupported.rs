//! What a pod may ask for. Whatever is not listed here keeps the pod Pending, with an event that names the field:
//! a pod is not run as if it had not asked.

use alloc::{format, string::String};

use serde_json::{Map, Value};

/// How one field of a type is judged.
enum Rule {
    /// Acted on, or without meaning on a node.
    Any,
    /// Only these values.
    OneOf(&'static [&'static str]),
    /// Only `false` or 0: the feature is not there.
    Off,
    /// Another type.
    Is(&'static [Field]),
    /// A list of another type.
    ListOf(&'static [Field]),
    /// A map whose keys must be among these.
    Keys(&'static [&'static str]),
}
use Rule::{Any, Is, Keys, ListOf, Off, OneOf};

type Field = (&'static str, Rule);

const COMPUTE: &[&str] = &["cpu", "memory"];
const REQUESTS: &[&str] = &["cpu", "memory", "ephemeral-storage"];

const POD: &[Field] = &[
    ("volumes", ListOf(VOLUME)),
    ("containers", ListOf(CONTAINER)),
    ("restartPolicy", OneOf(&["Always", "OnFailure", "Never"])),
    ("terminationGracePeriodSeconds", Any),
    ("activeDeadlineSeconds", Any),
    // Services have no names yet: every policy but None gives the node's resolver.
    ("dnsPolicy", OneOf(&["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"])),
    ("nodeSelector", Any),
    ("serviceAccountName", Any),
    ("serviceAccount", Any),
    ("automountServiceAccountToken", Any),
    ("nodeName", Any),
    ("hostNetwork", Any),
    ("hostPID", Off),
    ("hostIPC", Off),
    ("shareProcessNamespace", Off),
    ("securityContext", Is(POD_SECURITY)),
    ("imagePullSecrets", Any),
    ("hostname", Any),
    ("subdomain", Any),
    ("affinity", Any),
    ("schedulerName", Any),
    ("tolerations", Any),
    ("hostAliases", Any),
    ("priorityClassName", Any),
    ("priority", Any),
    ("dnsConfig", Any),
    ("enableServiceLinks", Any),
    ("preemptionPolicy", Any),
    ("topologySpreadConstraints", Any),
    ("setHostnameAsFQDN", Off),
    ("os", Is(&[("name", OneOf(&["linux"]))])),
    ("schedulingGates", Any),
    ("hostUsers", Any),
];

const POD_SECURITY: &[Field] = &[
    ("runAsUser", Any),
    ("runAsGroup", Any),
    ("runAsNonRoot", Any),
    ("supplementalGroups", Any),
    ("supplementalGroupsPolicy", OneOf(&["Merge"])),
    ("fsGroup", Any),
    ("fsGroupChangePolicy", Any),
    ("seccompProfile", Is(&[("type", OneOf(&["RuntimeDefault", "Unconfined"]))])),
    ("appArmorProfile", Is(&[("type", OneOf(&["Unconfined"]))])),
];

const CONTAINER: &[Field] = &[
    ("name", Any),
    ("image", Any),
    ("command", Any),
    ("args", Any),
    ("workingDir", Any),
    ("ports", ListOf(PORT)),
    ("envFrom", ListOf(&[("prefix", Any), ("configMapRef", Any), ("secretRef", Any)])),
    ("env", ListOf(&[("name", Any), ("value", Any), ("valueFrom", Is(ENV_SOURCE))])),
    ("resources", Is(&[("requests", Keys(REQUESTS)), ("limits", Keys(COMPUTE))])),
    ("resizePolicy", Any),
    ("volumeMounts", ListOf(MOUNT)),
    ("terminationMessagePath", Any),
    ("terminationMessagePolicy", Any),
    ("imagePullPolicy", Any),
    ("securityContext", Is(SECURITY)),
    ("stdin", Off),
    ("stdinOnce", Off),
    ("tty", Off),
];

const ENV_SOURCE: &[Field] = &[
    ("fieldRef", Any),
    ("resourceFieldRef", Any),
    ("configMapKeyRef", Any),
    ("secretKeyRef", Any),
];

const PORT: &[Field] =
    &[("name", Any), ("containerPort", Any), ("protocol", Any), ("hostPort", Off), ("hostIP", Any)];

const MOUNT: &[Field] = &[
    ("name", Any),
    ("mountPath", Any),
    ("readOnly", Any),
    ("recursiveReadOnly", OneOf(&["Disabled"])),
    ("mountPropagation", OneOf(&["None"])),
    ("subPath", Any),
    ("subPathExpr", Any),
];

const SECURITY: &[Field] = &[
    ("capabilities", Any),
    ("privileged", Off),
    ("runAsUser", Any),
    ("runAsGroup", Any),
    ("runAsNonRoot", Any),
    ("readOnlyRootFilesystem", Any),
    ("allowPrivilegeEscalation", Any),
    ("procMount", OneOf(&["Default"])),
    ("seccompProfile", Is(&[("type", OneOf(&["RuntimeDefault", "Unconfined"]))])),
    ("appArmorProfile", Is(&[("type", OneOf(&["Unconfined"]))])),
];

const VOLUME: &[Field] = &[
    ("name", Any),
    // A size limit is held by a tmpfs; on disk it would need eviction.
    ("emptyDir", Is(&[("medium", OneOf(&["", "Memory"])), ("sizeLimit", Any)])),
    ("hostPath", Any),
    ("configMap", Any),
    ("secret", Any),
    ("downwardAPI", Any),
    (
        "projected",
        Is(&[
            ("defaultMode", Any),
            (
                "sources",
                ListOf(&[
                    ("serviceAccountToken", Any),
                    ("configMap", Any),
                    ("secret", Any),
                    ("downwardAPI", Any),
                ]),
            ),
        ]),
    ),
];

/// The sentence about the first thing in a pod's `spec` that this agent does not have; `None` if it has all.
pub fn first(spec: &Value) -> Option<String> {
    let Value::Object(fields) = spec else { return None };
    let host_network = fields.get("hostNetwork") == Some(&Value::Bool(true));
    // The one field where false is the wish for a feature (a user namespace).
    let user_namespace = (fields.get("hostUsers") == Some(&Value::Bool(false)))
        .then(|| String::from("spec.hostUsers: false"));
    let path = user_namespace
        .or_else(|| walk("spec", fields, POD, host_network))
        .or_else(|| disk_limit(fields))?;
    Some(format!("{path} is not implemented by this agent yet"))
}

fn walk(
    at: &str,
    object: &Map<String, Value>,
    rules: &[Field],
    host_network: bool,
) -> Option<String> {
    object.iter().find_map(|(name, value)| {
        if is_empty(value) {
            return None;
        }
        // With the host's network the API server sets hostPort to containerPort, and it holds by itself.
        if host_network && name == "hostPort" {
            return None;
        }
        let path = format!("{at}.{name}");
        let Some((_, rule)) = rules.iter().find(|(known, _)| known == name) else {
            return Some(path);
        };
        judge(path, value, rule, host_network)
    })
}

fn judge(path: String, value: &Value, rule: &Rule, host_network: bool) -> Option<String> {
    match rule {
        Any => None,
        Off => Some(path),
        OneOf(words) => {
            let text = value.as_str().map_or_else(|| format!("{value}"), String::from);
            (!words.contains(&text.as_str())).then(|| format!("{path}: {text}"))
        }
        Is(rules) => walk(&path, value.as_object()?, rules, host_network),
        ListOf(rules) => value.as_array()?.iter().enumerate().find_map(|(index, item)| {
            walk(&format!("{path}[{index}]"), item.as_object()?, rules, host_network)
        }),
        Keys(keys) => value
            .as_object()?
            .iter()
            .find(|(key, _)| !keys.contains(&key.as_str()))
            .map(|(key, _)| format!("{path}[{key}]")),
    }
}

/// `emptyDir.sizeLimit` without `medium: Memory`.
fn disk_limit(spec: &Map<String, Value>) -> Option<String> {
    spec.get("volumes")?.as_array()?.iter().enumerate().find_map(|(index, volume)| {
        let empty_dir = volume.get("emptyDir")?;
        let in_memory = empty_dir.get("medium").and_then(Value::as_str) == Some("Memory");
        let limited = empty_dir.get("sizeLimit").is_some_and(|limit| !limit.is_null());
        (limited && !in_memory).then(|| format!("spec.volumes[{index}].emptyDir.sizeLimit on disk"))
    })
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_there_is_named() {
        let check = |spec: Value, want: Option<&str>| {
            let want = want.map(|path| format!("{path} is not implemented by this agent yet"));
            assert_eq!(first(&spec), want, "{spec}");
        };
        let container = |extra: Value| {
            let mut container = json!({"name": "c", "image": "i", "resources": {}});
            for (key, value) in extra.as_object().unwrap() {
                container[key] = value.clone();
            }
            json!({"containers": [container]})
        };
        check(container(json!({})), None);
        check(
            container(json!({"livenessProbe": {"exec": {}}})),
            Some("spec.containers[0].livenessProbe"),
        );
        check(
            container(json!({"lifecycle": {"preStop": {}}})),
            Some("spec.containers[0].lifecycle"),
        );
        check(container(json!({"tty": true})), Some("spec.containers[0].tty"));
        check(container(json!({"tty": false})), None);
        check(
            container(json!({"ports": [{"containerPort": 80, "hostPort": 80}]})),
            Some("spec.containers[0].ports[0].hostPort"),
        );
        check(
            json!({"hostNetwork": true, "containers": [{"ports": [{"containerPort": 80, "hostPort": 80}]}]}),
            None,
        );
        check(
            container(json!({"securityContext": {"privileged": true}})),
            Some("spec.containers[0].securityContext.privileged"),
        );
        check(
            container(json!({"securityContext": {"seccompProfile": {"type": "Localhost"}}})),
            Some("spec.containers[0].securityContext.seccompProfile.type: Localhost"),
        );
        check(
            container(json!({"resources": {"limits": {"nvidia.com/gpu": "1"}}})),
            Some("spec.containers[0].resources.limits[nvidia.com/gpu]"),
        );
        check(
            container(
                json!({"volumeMounts": [{"name": "v", "mountPropagation": "Bidirectional"}]}),
            ),
            Some("spec.containers[0].volumeMounts[0].mountPropagation: Bidirectional"),
        );
        check(json!({"initContainers": [{"name": "i"}]}), Some("spec.initContainers"));
        check(json!({"initContainers": []}), None);
        check(json!({"hostPID": true}), Some("spec.hostPID"));
        check(json!({"hostUsers": true}), None);
        check(json!({"hostUsers": false}), Some("spec.hostUsers: false"));
        check(json!({"runtimeClassName": "kata"}), Some("spec.runtimeClassName"));
        check(
            json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}),
            Some("spec.volumes[0].persistentVolumeClaim"),
        );
        check(
            json!({"volumes": [{"name": "v", "projected": {"sources": [{"clusterTrustBundle": {}}]}}]}),
            Some("spec.volumes[0].projected.sources[0].clusterTrustBundle"),
        );
        check(
            json!({"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]}),
            Some("spec.volumes[0].emptyDir.sizeLimit on disk"),
        );
        check(json!({"volumes": [{"name": "v", "emptyDir": {}}]}), None);
        check(json!({"aFieldOfTomorrow": 1}), Some("spec.aFieldOfTomorrow"));
    }
}
