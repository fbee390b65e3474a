//! A container's environment, command line and user: from the pod, the image and the objects they name.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};

use crate::{
    fields::{self, Place},
    limits,
    spec::{Container, EnvSource, KeyRef, Pod},
};

/// A ConfigMap or Secret that a pod names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectRef {
    /// In the pod's namespace.
    ConfigMap(String),
    /// In the pod's namespace.
    Secret(String),
}

/// Keys and values of an object; a ConfigMap's `binaryData` too.
pub type Data = BTreeMap<String, Vec<u8>>;

/// Objects by reference; `None`: it does not exist.
pub type Objects = BTreeMap<ObjectRef, Option<Data>>;

/// A service whose address containers of its namespace find in their environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceFacts {
    /// Name.
    pub name: String,
    /// Address.
    pub cluster_ip: String,
    /// Name (may be empty), number and protocol of each port, in order.
    pub ports: Vec<(String, u16, String)>,
}

/// Why an environment cannot be put together (`CreateContainerConfigError`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub String);

/// What a container runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Working directory.
    pub cwd: String,
}

/// Objects that the environment of this container needs.
pub fn references(container: &Container) -> BTreeSet<ObjectRef> {
    let mut found = BTreeSet::new();
    for source in &container.env_from {
        found.extend(
            source.config_map_ref.as_ref().map(|map| ObjectRef::ConfigMap(map.name.clone())),
        );
        found.extend(
            source.secret_ref.as_ref().map(|secret| ObjectRef::Secret(secret.name.clone())),
        );
    }
    for from in container.env.iter().filter_map(|var| var.value_from.as_ref()) {
        let map = from.config_map_key_ref.as_ref();
        found.extend(map.map(|map| ObjectRef::ConfigMap(map.name.clone())));
        let secret = from.secret_key_ref.as_ref();
        found.extend(secret.map(|secret| ObjectRef::Secret(secret.name.clone())));
    }
    found
}

/// The whole environment: the image's, the host name, services, `envFrom`, then `env`; later ones win. The order is
/// the order of first mention.
///
/// # Errors
/// An object or key that is not optional is missing, or all is more than [`limits::ENV_BYTES_MAX`].
pub fn environment(
    pod: &Pod,
    container: &Container,
    image_env: &[String],
    services: &[ServiceFacts],
    objects: &Objects,
    place: &Place,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut vars = Vars::default();
    for pair in image_env {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        vars.set(name, value.into());
    }
    if !vars.has("PATH") {
        vars.set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    }
    vars.set("HOSTNAME", pod.hostname().into());
    // Only what the pod itself sets can be named by `$(NAME)`, and services.
    let mut known = BTreeMap::new();
    for (name, value) in services.iter().flat_map(service_vars) {
        known.insert(name.clone(), value.clone());
        vars.set(&name, value);
    }
    for source in &container.env_from {
        let refs = [
            source
                .config_map_ref
                .as_ref()
                .map(|named| (ObjectRef::ConfigMap(named.name.clone()), named)),
            source.secret_ref.as_ref().map(|named| (ObjectRef::Secret(named.name.clone()), named)),
        ];
        for (reference, named) in refs.into_iter().flatten() {
            let Some(data) = objects.get(&reference).and_then(Option::as_ref) else {
                if named.optional {
                    continue;
                }
                return Err(not_found(&reference));
            };
            for (key, value) in data {
                let name = format!("{}{key}", source.prefix);
                // Kubernetes takes any printable name but one with `=`.
                if name.contains(['=', '\0']) || !name.bytes().all(|b| (0x20..0x7f).contains(&b)) {
                    continue;
                }
                let value = text(value);
                known.insert(name.clone(), value.clone());
                vars.set(&name, value);
            }
        }
    }
    for var in &container.env {
        let value = match &var.value_from {
            None => Some(expand(&var.value, &known)),
            Some(from) => value_from(pod, container, from, objects, place)?,
        };
        if let Some(value) = value {
            known.insert(var.name.clone(), value.clone());
            vars.set(&var.name, value);
        }
    }
    vars.finish(&container.name)
}

/// Command line and working directory: the pod's over the image's. `$(NAME)` is expanded from `env`.
///
/// # Errors
/// Neither the pod nor the image says what to run.
pub fn command(
    container: &Container,
    image_entrypoint: &[String],
    image_cmd: &[String],
    image_cwd: &str,
    env: &[(String, String)],
) -> Result<Command, ConfigError> {
    let known: BTreeMap<String, String> = env.iter().cloned().collect();
    let expand_all =
        |words: &[String]| words.iter().map(|word| expand(word, &known)).collect::<Vec<_>>();
    let (command, args) = match (container.command.is_empty(), container.args.is_empty()) {
        (true, true) => (image_entrypoint.to_vec(), image_cmd.to_vec()),
        (true, false) => (image_entrypoint.to_vec(), expand_all(&container.args)),
        (false, _) => (expand_all(&container.command), expand_all(&container.args)),
    };
    let argv: Vec<String> = command.into_iter().chain(args).collect();
    if argv.is_empty() {
        return Err(ConfigError(format!(
            "no command specified: neither container {} nor its image says what to run",
            container.name
        )));
    }
    let cwd = [container.working_dir.as_str(), image_cwd, "/"]
        .into_iter()
        .find(|cwd| !cwd.is_empty())
        .unwrap_or("/");
    Ok(Command { argv, cwd: cwd.into() })
}

/// Expands `$(NAME)`; `$$(NAME)` stays `$(NAME)`; a name that is not known stays as it is.
pub fn expand(text: &str, known: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let after = from.get(1..).unwrap_or_default();
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) =
            after.strip_prefix('(').and_then(|inner| inner.split_once(')'))
        {
            match known.get(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// Docker-links variables of a service, and `NAME_SERVICE_HOST`, `NAME_SERVICE_PORT`.
pub fn service_vars(service: &ServiceFacts) -> Vec<(String, String)> {
    let upper = |name: &str| name.to_ascii_uppercase().replace('-', "_");
    let prefix = upper(&service.name);
    let ip = &service.cluster_ip;
    let Some((_, first_port, first_protocol)) = service.ports.first() else { return Vec::new() };
    let mut vars: Vec<(String, String)> = Vec::new();
    let mut set = |name: String, value: String| vars.push((name, value));
    set(format!("{prefix}_SERVICE_HOST"), ip.clone());
    set(format!("{prefix}_SERVICE_PORT"), first_port.to_string());
    for (name, port, _) in service.ports.iter().filter(|(name, _, _)| !name.is_empty()) {
        set(format!("{prefix}_SERVICE_PORT_{}", upper(name)), port.to_string());
    }
    let url = |protocol: &str, port: u16| {
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.clone() };
        format!("{}://{host}:{port}", protocol.to_ascii_lowercase())
    };
    set(format!("{prefix}_PORT"), url(first_protocol, *first_port));
    for (_, port, protocol) in &service.ports {
        let base = format!("{prefix}_PORT_{port}_{}", protocol.to_ascii_uppercase());
        set(base.clone(), url(protocol, *port));
        set(format!("{base}_PROTO"), protocol.to_ascii_lowercase());
        set(format!("{base}_PORT"), port.to_string());
        set(format!("{base}_ADDR"), ip.clone());
    }
    vars
}

fn value_from(
    pod: &Pod,
    container: &Container,
    from: &EnvSource,
    objects: &Objects,
    place: &Place,
) -> Result<Option<String>, ConfigError> {
    if let Some(reference) = &from.field_ref {
        return fields::field(pod, place, reference).map(Some).map_err(ConfigError);
    }
    if let Some(reference) = &from.resource_field_ref {
        return fields::resource(pod, Some(container), place, reference)
            .map(Some)
            .map_err(ConfigError);
    }
    if let Some(key) = &from.config_map_key_ref {
        return key_of(ObjectRef::ConfigMap(key.name.clone()), key, pod, objects);
    }
    if let Some(key) = &from.secret_key_ref {
        return key_of(ObjectRef::Secret(key.name.clone()), key, pod, objects);
    }
    Ok(Some(String::new()))
}

fn key_of(
    reference: ObjectRef,
    key: &KeyRef,
    pod: &Pod,
    objects: &Objects,
) -> Result<Option<String>, ConfigError> {
    let data = objects.get(&reference).and_then(Option::as_ref);
    match data.map(|data| data.get(&key.key)) {
        Some(Some(value)) => Ok(Some(text(value))),
        _ if key.optional => Ok(None),
        None => Err(not_found(&reference)),
        Some(None) => {
            let kind = match reference {
                ObjectRef::ConfigMap(_) => "ConfigMap",
                ObjectRef::Secret(_) => "Secret",
            };
            Err(ConfigError(format!(
                "couldn't find key {} in {kind} {}/{}",
                key.key, pod.meta.namespace, key.name
            )))
        }
    }
}

/// `configmap "x" not found`.
pub fn not_found(reference: &ObjectRef) -> ConfigError {
    ConfigError(match reference {
        ObjectRef::ConfigMap(name) => format!("configmap \"{name}\" not found"),
        ObjectRef::Secret(name) => format!("secret \"{name}\" not found"),
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[derive(Default)]
struct Vars {
    list: Vec<(String, String)>,
    index: BTreeMap<String, usize>,
}

impl Vars {
    fn has(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    fn set(&mut self, name: &str, value: String) {
        match self.index.get(name).and_then(|at| self.list.get_mut(*at)) {
            Some(slot) => slot.1 = value,
            None => {
                self.index.insert(name.into(), self.list.len());
                self.list.push((name.into(), value));
            }
        }
    }

    fn finish(self, container: &str) -> Result<Vec<(String, String)>, ConfigError> {
        let bytes: usize = self.list.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
        if bytes > limits::ENV_BYTES_MAX {
            return Err(ConfigError(format!(
                "the environment of container {container} is {bytes} bytes; at most {} are possible",
                limits::ENV_BYTES_MAX
            )));
        }
        Ok(self.list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(container: Value) -> Pod {
        let pod = json!({
            "metadata": {"name": "web-1", "namespace": "shop", "uid": "u-1"},
            "spec": {"containers": [container]},
        });
        Pod::parse(serde_json::to_vec(&pod).unwrap().into()).unwrap()
    }

    fn objects() -> Objects {
        let data = |pairs: &[(&str, &str)]| -> Option<Data> {
            Some(pairs.iter().map(|(k, v)| ((*k).into(), v.as_bytes().to_vec())).collect())
        };
        [
            (ObjectRef::ConfigMap("settings".into()), data(&[("A", "1"), ("B", "two")])),
            (ObjectRef::Secret("keys".into()), data(&[("token", "s3cret")])),
            (ObjectRef::ConfigMap("gone".into()), None),
        ]
        .into()
    }

    fn env_of(container: Value) -> Result<Vec<(String, String)>, String> {
        let pod = pod(container);
        let place = Place { pod_ips: ["10.42.0.9".into()].into(), ..Place::default() };
        environment(
            &pod,
            &pod.spec.containers[0],
            &["PATH=/bin".into(), "X=image".into()],
            &[],
            &objects(),
            &place,
        )
        .map_err(|error| error.0)
    }

    #[test]
    fn the_environment_is_put_together() {
        let check = |container: Value, want: &[(&str, &str)]| {
            let got = env_of(container.clone()).unwrap();
            for (name, value) in want {
                let found = got.iter().find(|(known, _)| known == name);
                assert_eq!(
                    found.map(|(_, value)| value.as_str()),
                    Some(*value),
                    "{name} of {container}"
                );
            }
        };
        check(json!({"name": "c"}), &[("PATH", "/bin"), ("HOSTNAME", "web-1"), ("X", "image")]);
        check(
            json!({"name": "c", "env": [
                {"name": "X", "value": "pod"},
                {"name": "Y", "value": "$(X)-$(NOPE)-$$(X)-$"},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "T", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}},
                {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "B"}}},
            ]}),
            &[
                ("X", "pod"),
                ("Y", "pod-$(NOPE)-$(X)-$"),
                ("IP", "10.42.0.9"),
                ("T", "s3cret"),
                ("B", "two"),
            ],
        );
        check(
            json!({"name": "c", "envFrom": [{"prefix": "P_", "configMapRef": {"name": "settings"}}],
                   "env": [{"name": "P_A", "value": "own"}, {"name": "Z", "value": "$(P_B)"}]}),
            &[("P_A", "own"), ("P_B", "two"), ("Z", "two")],
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let check = |container: Value, want: &str| {
            assert_eq!(env_of(container.clone()), Err(want.into()), "{container}");
        };
        check(
            json!({"name": "c", "envFrom": [{"configMapRef": {"name": "gone"}}]}),
            "configmap \"gone\" not found",
        );
        check(
            json!({"name": "c", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "none", "key": "k"}}}]}),
            "secret \"none\" not found",
        );
        check(
            json!({"name": "c", "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "k"}}}]}),
            "couldn't find key k in ConfigMap shop/settings",
        );
        let optional = env_of(json!({"name": "c",
            "envFrom": [{"configMapRef": {"name": "gone", "optional": true}}],
            "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "k", "optional": true}}}]}));
        assert!(!optional.unwrap().iter().any(|(name, _)| name == "A"));
    }

    #[test]
    fn services_are_found_in_the_environment() {
        let service = ServiceFacts {
            name: "my-db".into(),
            cluster_ip: "10.43.0.7".into(),
            ports: [("sql".into(), 5432, "TCP".into())].into(),
        };
        let vars: BTreeMap<String, String> = service_vars(&service).into_iter().collect();
        let want = [
            ("MY_DB_SERVICE_HOST", "10.43.0.7"),
            ("MY_DB_SERVICE_PORT", "5432"),
            ("MY_DB_SERVICE_PORT_SQL", "5432"),
            ("MY_DB_PORT", "tcp://10.43.0.7:5432"),
            ("MY_DB_PORT_5432_TCP", "tcp://10.43.0.7:5432"),
            ("MY_DB_PORT_5432_TCP_PROTO", "tcp"),
            ("MY_DB_PORT_5432_TCP_PORT", "5432"),
            ("MY_DB_PORT_5432_TCP_ADDR", "10.43.0.7"),
        ];
        assert_eq!(vars, want.map(|(k, v)| (k.into(), v.into())).into());
    }

    #[test]
    fn the_pods_command_goes_over_the_images() {
        let check = |container: Value, want: &[&str], cwd: &str| {
            let pod = pod(container);
            let got = command(
                &pod.spec.containers[0],
                &["/entry".into()],
                &["serve".into()],
                "/srv",
                &[("N".into(), "5".into())],
            );
            let got = got.unwrap();
            assert_eq!(got.argv, want);
            assert_eq!(got.cwd, cwd);
        };
        check(json!({"name": "c"}), &["/entry", "serve"], "/srv");
        check(json!({"name": "c", "args": ["-n", "$(N)"]}), &["/entry", "-n", "5"], "/srv");
        check(json!({"name": "c", "command": ["sh"], "workingDir": "/tmp"}), &["sh"], "/tmp");
        check(json!({"name": "c", "command": ["sh"], "args": ["-c"]}), &["sh", "-c"], "/srv");
        let nothing = command(&Container::default(), &[], &[], "", &[]);
        assert!(nothing.unwrap_err().0.starts_with("no command specified"));
    }
}
