//! The parts of a Pod object that the agent acts on. Everything else is looked at by [`crate::unsupported`].

use alloc::{collections::BTreeMap, string::String, sync::Arc, vec::Vec};

use coracle_api::Meta;
use serde::Deserialize;
use serde_json::Value;

/// One life of one pod.
///
/// Invariant: 1..=63 bytes of `[A-Za-z0-9-]`, so it can name a directory and a cgroup. [`PodUid::parse`] is the only
/// way to make one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodUid(Arc<str>);

impl PodUid {
    /// Checks the text; `None` if it could not name a directory safely.
    pub fn parse(raw: &str) -> Option<Self> {
        let ok = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        ((1..=63).contains(&raw.len()) && raw.bytes().all(ok)).then(|| Self(raw.into()))
    }

    /// The uid as the API server gave it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl core::fmt::Display for PodUid {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why bytes are not a pod that an agent can hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPod(pub String);

/// A pod, read once from its JSON and shared.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Which life.
    pub uid: PodUid,
    /// Name, namespace, labels, annotations, deletion.
    pub meta: Meta,
    /// What is wanted.
    pub spec: PodSpec,
    /// Conditions in the object's status: those that are not the agent's are kept as they are.
    pub conditions: Vec<Value>,
    /// The first thing asked for that this agent does not have; see [`crate::unsupported`].
    pub unsupported: Option<String>,
    /// The JSON, for the copy on disk.
    pub bytes: Arc<[u8]>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Raw {
    metadata: Meta,
    spec: PodSpec,
    status: RawStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawStatus {
    conditions: Vec<Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawSpec {
    spec: Value,
}

impl Pod {
    /// Reads a Pod object.
    ///
    /// # Errors
    /// Not JSON of a pod, or without a usable uid, name or namespace.
    pub fn parse(bytes: Arc<[u8]>) -> Result<Self, BadPod> {
        let bad = |why: &str| BadPod(why.into());
        let raw: Raw = serde_json::from_slice(&bytes)
            .map_err(|error| BadPod(alloc::format!("not a pod: {error}")))?;
        let RawSpec { spec } =
            serde_json::from_slice(&bytes).map_err(|error| BadPod(alloc::format!("{error}")))?;
        let uid = PodUid::parse(&raw.metadata.uid).ok_or_else(|| bad("no usable metadata.uid"))?;
        let ok = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        for name in [&raw.metadata.name, &raw.metadata.namespace] {
            if name.is_empty() || name.len() > 253 || name.starts_with('.') || !name.bytes().all(ok)
            {
                return Err(bad("no usable metadata.name or metadata.namespace"));
            }
        }
        let unsupported = crate::unsupported::first(&spec);
        Ok(Self {
            uid,
            meta: raw.metadata,
            spec: raw.spec,
            conditions: raw.status.conditions,
            unsupported,
            bytes,
        })
    }

    /// The container of this name.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.spec.containers.iter().find(|container| container.name == name)
    }

    /// `NAME_NAMESPACE(UID)`, as kubelet's messages name a pod.
    pub fn full_name(&self) -> String {
        alloc::format!("{}_{}({})", self.meta.name, self.meta.namespace, self.uid)
    }

    /// The host name inside the pod: `spec.hostname`, else the pod's name cut to the kernel's 63 bytes.
    pub fn hostname(&self) -> &str {
        if !self.spec.hostname.is_empty() {
            return &self.spec.hostname;
        }
        let name = &self.meta.name;
        name.get(..63.min(name.len())).unwrap_or(name).trim_end_matches(['-', '.'])
    }

    /// Whether the environment of services is wanted (default true).
    pub fn service_links(&self) -> bool {
        self.spec.enable_service_links.unwrap_or(true)
    }
}

/// When a container that ended is started again.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum RestartPolicy {
    /// Whatever it ended with.
    #[default]
    Always,
    /// If it failed.
    OnFailure,
    /// Not at all.
    Never,
}

macro_rules! views {
    ($($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident: $type:ty,)* })*) => {
        $($(#[$meta])*
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name { $($(#[$fmeta])* pub $field: $type,)* })*
    };
}

views! {
    /// `spec`.
    PodSpec {
        /// In start order.
        containers: Vec<Container>,
        /// Volumes by name.
        volumes: Vec<Volume>,
        /// `Always` if not said.
        restart_policy: RestartPolicy,
        /// Seconds between SIGTERM and SIGKILL; 30 if not said.
        termination_grace_period_seconds: Option<u64>,
        /// Seconds the pod may be active.
        active_deadline_seconds: Option<u64>,
        /// `ClusterFirst`, `Default`, `None`.
        dns_policy: String,
        /// Added to, or with policy `None` instead of, the node's resolver settings.
        dns_config: DnsConfig,
        /// Identity of the pod.
        service_account_name: String,
        /// Where it was bound.
        node_name: String,
        /// Uses the node's network namespace.
        host_network: bool,
        /// Settings for all containers.
        security_context: SecurityContext,
        /// Secrets with registry credentials.
        image_pull_secrets: Vec<LocalName>,
        /// Host name; the pod's name if empty.
        hostname: String,
        /// With `hostname`, a name below `NAMESPACE.svc.cluster.local`.
        subdomain: String,
        /// More lines of /etc/hosts.
        host_aliases: Vec<HostAlias>,
        /// Environment of services; true if not said.
        enable_service_links: Option<bool>,
        /// Priority, already resolved.
        priority: Option<i32>,
        /// Name of the priority class.
        priority_class_name: String,
    }
    /// `spec.containers[]`.
    Container {
        /// Unique in the pod.
        name: String,
        /// As the user wrote it.
        image: String,
        /// Replaces the image's entrypoint (and its command).
        command: Vec<String>,
        /// Replaces the image's command.
        args: Vec<String>,
        /// Replaces the image's working directory.
        working_dir: String,
        /// Variables, in order.
        env: Vec<EnvVar>,
        /// Whole objects as variables, before `env`.
        env_from: Vec<EnvFrom>,
        /// Requests and limits as quantities.
        resources: Resources,
        /// What is mounted where.
        volume_mounts: Vec<VolumeMount>,
        /// `/dev/termination-log` if empty.
        termination_message_path: String,
        /// `File` or `FallbackToLogsOnError`.
        termination_message_policy: String,
        /// `Always`, `IfNotPresent`, `Never`; the API server has set it.
        image_pull_policy: String,
        /// Overrides the pod's.
        security_context: SecurityContext,
    }
    /// `securityContext` of pod and container in one: fields that one of them lacks stay empty.
    SecurityContext {
        /// User id of the entrypoint.
        run_as_user: Option<i64>,
        /// Group id of the entrypoint.
        run_as_group: Option<i64>,
        /// Refuse to run as 0.
        run_as_non_root: Option<bool>,
        /// The root file system is mounted read-only.
        read_only_root_filesystem: Option<bool>,
        /// False sets no_new_privs.
        allow_privilege_escalation: Option<bool>,
        /// Added to and taken from the default set.
        capabilities: Capabilities,
        /// Which filter.
        seccomp_profile: Option<SeccompProfile>,
        /// More groups (pod only).
        supplemental_groups: Vec<i64>,
        /// Group that owns volumes (pod only).
        fs_group: Option<i64>,
    }
    /// `capabilities`.
    Capabilities {
        /// Names without `CAP_`, or `ALL`.
        add: Vec<String>,
        /// Likewise.
        drop: Vec<String>,
    }
    /// `seccompProfile`.
    SeccompProfile {
        /// `RuntimeDefault` or `Unconfined`.
        #[serde(rename = "type")]
        kind: String,
    }
    /// `resources`.
    Resources {
        /// Quantities by resource name.
        requests: BTreeMap<String, Value>,
        /// Quantities by resource name.
        limits: BTreeMap<String, Value>,
    }
    /// `env[]`.
    EnvVar {
        /// Name.
        name: String,
        /// Value; `$(NAME)` is expanded.
        value: String,
        /// Value from elsewhere.
        value_from: Option<EnvSource>,
    }
    /// `env[].valueFrom`: exactly one is set.
    EnvSource {
        /// A field of the pod.
        field_ref: Option<FieldRef>,
        /// A resource number of a container.
        resource_field_ref: Option<ResourceFieldRef>,
        /// A key of a ConfigMap.
        config_map_key_ref: Option<KeyRef>,
        /// A key of a Secret.
        secret_key_ref: Option<KeyRef>,
    }
    /// `fieldRef`.
    FieldRef {
        /// `metadata.name`, `status.podIP`, …
        field_path: String,
    }
    /// `resourceFieldRef`.
    ResourceFieldRef {
        /// The container; in `env` the one itself.
        container_name: String,
        /// `limits.cpu`, `requests.memory`, …
        resource: String,
        /// Unit of the answer; 1 if empty.
        divisor: Option<Value>,
    }
    /// A key of a named object.
    KeyRef {
        /// Name of the object, in the pod's namespace.
        name: String,
        /// Key in `data`.
        key: String,
        /// Missing is not an error.
        optional: bool,
    }
    /// `envFrom[]`.
    EnvFrom {
        /// Put before each name.
        prefix: String,
        /// All keys of a ConfigMap.
        config_map_ref: Option<NameRef>,
        /// All keys of a Secret.
        secret_ref: Option<NameRef>,
    }
    /// A named object that may be missing.
    NameRef {
        /// Name.
        name: String,
        /// Missing is not an error.
        optional: bool,
    }
    /// `imagePullSecrets[]`.
    LocalName {
        /// Name.
        name: String,
    }
    /// `hostAliases[]`.
    HostAlias {
        /// Address.
        ip: String,
        /// Its names.
        hostnames: Vec<String>,
    }
    /// `dnsConfig`.
    DnsConfig {
        /// Addresses.
        nameservers: Vec<String>,
        /// Domains.
        searches: Vec<String>,
        /// Options.
        options: Vec<DnsOption>,
    }
    /// `dnsConfig.options[]`.
    DnsOption {
        /// Name.
        name: String,
        /// Value, if it has one.
        value: Option<String>,
    }
    /// `volumeMounts[]`.
    VolumeMount {
        /// Of the volume.
        name: String,
        /// Where, absolute.
        mount_path: String,
        /// Read-only.
        read_only: bool,
        /// A path inside the volume.
        sub_path: String,
        /// Likewise, with `$(NAME)` expanded from the environment.
        sub_path_expr: String,
    }
    /// `volumes[]`: a name and one source.
    Volume {
        /// Unique in the pod.
        name: String,
        /// Empty at the start, gone with the pod.
        empty_dir: Option<EmptyDir>,
        /// A path of the node.
        host_path: Option<HostPath>,
        /// Files from a ConfigMap.
        config_map: Option<ObjectFiles>,
        /// Files from a Secret.
        secret: Option<ObjectFiles>,
        /// Files from fields of the pod.
        #[serde(rename = "downwardAPI")]
        downward_api: Option<DownwardFiles>,
        /// Several of these in one directory.
        projected: Option<Projected>,
    }
    /// `emptyDir`.
    EmptyDir {
        /// Empty (disk) or `Memory`.
        medium: String,
        /// Size of a `Memory` one.
        size_limit: Option<Value>,
    }
    /// `hostPath`.
    HostPath {
        /// Absolute.
        path: String,
        /// Empty, `DirectoryOrCreate`, `Directory`, `FileOrCreate`, `File`, `Socket`, `CharDevice`, `BlockDevice`.
        #[serde(rename = "type")]
        kind: String,
    }
    /// `configMap`, `secret` as a volume or a projected source.
    ObjectFiles {
        /// Name of a ConfigMap or projected object.
        name: String,
        /// Name of a Secret (volume form).
        secret_name: String,
        /// Chosen keys; all if empty.
        items: Vec<KeyToPath>,
        /// Mode of files without one of their own; 0644 if not said.
        default_mode: Option<u32>,
        /// Missing is not an error.
        optional: bool,
    }
    /// `items[]` of an object.
    KeyToPath {
        /// Key in `data`.
        key: String,
        /// Path in the volume.
        path: String,
        /// Mode.
        mode: Option<u32>,
    }
    /// `downwardAPI`.
    DownwardFiles {
        /// Files.
        items: Vec<DownwardFile>,
        /// Mode of files without one of their own.
        default_mode: Option<u32>,
    }
    /// `downwardAPI.items[]`.
    DownwardFile {
        /// Path in the volume.
        path: String,
        /// A field of the pod.
        field_ref: Option<FieldRef>,
        /// A resource number.
        resource_field_ref: Option<ResourceFieldRef>,
        /// Mode.
        mode: Option<u32>,
    }
    /// `projected`.
    Projected {
        /// What goes in.
        sources: Vec<ProjectedSource>,
        /// Mode of files without one of their own.
        default_mode: Option<u32>,
    }
    /// `projected.sources[]`: exactly one is set.
    ProjectedSource {
        /// A token for the pod's service account.
        service_account_token: Option<TokenFile>,
        /// Keys of a ConfigMap.
        config_map: Option<ObjectFiles>,
        /// Keys of a Secret.
        secret: Option<ObjectFiles>,
        /// Fields of the pod.
        #[serde(rename = "downwardAPI")]
        downward_api: Option<DownwardFiles>,
    }
    /// `serviceAccountToken`.
    TokenFile {
        /// Whom it is for; the API server if empty.
        audience: String,
        /// Asked life in seconds; 3600 if not said.
        expiration_seconds: Option<u64>,
        /// Path in the volume.
        path: String,
    }
}

impl ObjectFiles {
    /// The object's name in either form.
    pub fn object(&self) -> &str {
        if self.secret_name.is_empty() { &self.name } else { &self.secret_name }
    }
}
