//! Pods: what the scheduler, the controllers and the node agent read and write.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use super::{LabelSelector, views};
use crate::{intstr::IntOrString, object::Meta, quantity::ResourceList};

views! {
    /// `v1/Pod`.
    PodView { metadata: Meta, spec: PodSpec, status: PodStatus, }

    PodSpec {
        node_name: String,
        node_selector: BTreeMap<String, String>,
        affinity: Option<Affinity>,
        tolerations: Vec<Toleration>,
        scheduler_name: String,
        priority: Option<i32>,
        priority_class_name: String,
        preemption_policy: Option<String>,
        scheduling_gates: Vec<SchedulingGate>,
        topology_spread_constraints: Vec<TopologySpreadConstraint>,
        init_containers: Vec<Container>,
        ephemeral_containers: Vec<Container>,
        volumes: Vec<Volume>,
        restart_policy: String,
        termination_grace_period_seconds: Option<i64>,
        active_deadline_seconds: Option<i64>,
        dns_policy: String,
        dns_config: Option<PodDnsConfig>,
        service_account_name: String,
        service_account: String,
        automount_service_account_token: Option<bool>,
        host_network: bool,
        #[serde(rename = "hostPID")]
        host_pid: bool,
        #[serde(rename = "hostIPC")]
        host_ipc: bool,
        host_users: Option<bool>,
        share_process_namespace: Option<bool>,
        security_context: Option<PodSecurityContext>,
        image_pull_secrets: Vec<LocalObjectReference>,
        hostname: String,
        subdomain: String,
        hostname_override: Option<String>,
        #[serde(rename = "setHostnameAsFQDN")]
        set_hostname_as_fqdn: Option<bool>,
        host_aliases: Vec<HostAlias>,
        runtime_class_name: Option<String>,
        enable_service_links: Option<bool>,
        overhead: ResourceList,
        readiness_gates: Vec<ReadinessGate>,
        os: Option<PodOs>,
        resources: Option<ResourceRequirements>,
        resource_claims: Vec<serde_json::Value>,
    } + { containers: Vec<Container>, }

    PodOs { name: String, }
    SchedulingGate { name: String, }
    ReadinessGate { condition_type: String, }
    LocalObjectReference { name: String, }
    HostAlias { ip: String, hostnames: Vec<String>, }
    PodDnsConfig { nameservers: Vec<String>, searches: Vec<String>, options: Vec<PodDnsConfigOption>, }
    PodDnsConfigOption { name: String, value: Option<String>, }

    Toleration {
        key: String,
        operator: String,
        value: String,
        effect: String,
        toleration_seconds: Option<i64>,
    }

    Affinity {
        node_affinity: Option<NodeAffinity>,
        pod_affinity: Option<PodAffinity>,
        pod_anti_affinity: Option<PodAffinity>,
    }
    NodeAffinity {
        required_during_scheduling_ignored_during_execution: Option<NodeSelector>,
        preferred_during_scheduling_ignored_during_execution: Vec<PreferredSchedulingTerm>,
    }
    NodeSelector { node_selector_terms: Vec<NodeSelectorTerm>, }
    NodeSelectorTerm {
        match_expressions: Vec<NodeSelectorRequirement>,
        match_fields: Vec<NodeSelectorRequirement>,
    }
    NodeSelectorRequirement { key: String, operator: String, values: Vec<String>, }
    PreferredSchedulingTerm { weight: i32, preference: NodeSelectorTerm, }
    PodAffinity {
        required_during_scheduling_ignored_during_execution: Vec<PodAffinityTerm>,
        preferred_during_scheduling_ignored_during_execution: Vec<WeightedPodAffinityTerm>,
    }
    PodAffinityTerm {
        label_selector: Option<LabelSelector>,
        namespaces: Vec<String>,
        namespace_selector: Option<LabelSelector>,
        topology_key: String,
        match_label_keys: Vec<String>,
        mismatch_label_keys: Vec<String>,
    }
    WeightedPodAffinityTerm { weight: i32, pod_affinity_term: PodAffinityTerm, }
    TopologySpreadConstraint {
        max_skew: i32,
        topology_key: String,
        when_unsatisfiable: String,
        label_selector: Option<LabelSelector>,
        min_domains: Option<i32>,
        node_affinity_policy: Option<String>,
        node_taints_policy: Option<String>,
        match_label_keys: Vec<String>,
    }

    PodSecurityContext {
        run_as_user: Option<i64>,
        run_as_group: Option<i64>,
        run_as_non_root: Option<bool>,
        supplemental_groups: Vec<i64>,
        supplemental_groups_policy: Option<String>,
        fs_group: Option<i64>,
        fs_group_change_policy: Option<String>,
        sysctls: Vec<Sysctl>,
        seccomp_profile: Option<SeccompProfile>,
        app_armor_profile: Option<AppArmorProfile>,
        se_linux_options: Option<serde_json::Value>,
        windows_options: Option<serde_json::Value>,
    }
    Sysctl { name: String, value: String, }
    SeccompProfile { r#type: String, localhost_profile: Option<String>, }
    AppArmorProfile { r#type: String, localhost_profile: Option<String>, }
    SecurityContext {
        capabilities: Option<Capabilities>,
        privileged: Option<bool>,
        run_as_user: Option<i64>,
        run_as_group: Option<i64>,
        run_as_non_root: Option<bool>,
        read_only_root_filesystem: Option<bool>,
        allow_privilege_escalation: Option<bool>,
        proc_mount: Option<String>,
        seccomp_profile: Option<SeccompProfile>,
        app_armor_profile: Option<AppArmorProfile>,
        se_linux_options: Option<serde_json::Value>,
        windows_options: Option<serde_json::Value>,
    }
    Capabilities { add: Vec<String>, drop: Vec<String>, }

    Container {
        name: String,
        image: String,
        command: Vec<String>,
        args: Vec<String>,
        working_dir: String,
        ports: Vec<ContainerPort>,
        env: Vec<EnvVar>,
        env_from: Vec<EnvFromSource>,
        resources: ResourceRequirements,
        resize_policy: Vec<serde_json::Value>,
        restart_policy: Option<String>,
        volume_mounts: Vec<VolumeMount>,
        volume_devices: Vec<VolumeDevice>,
        liveness_probe: Option<Probe>,
        readiness_probe: Option<Probe>,
        startup_probe: Option<Probe>,
        lifecycle: Option<Lifecycle>,
        termination_message_path: String,
        termination_message_policy: String,
        image_pull_policy: String,
        security_context: Option<SecurityContext>,
        stdin: bool,
        stdin_once: bool,
        tty: bool,
    }
    ContainerPort {
        name: String,
        host_port: i32,
        container_port: i32,
        protocol: String,
        #[serde(rename = "hostIP")]
        host_ip: String,
    }
    EnvVar { value: String, value_from: Option<EnvVarSource>, } + { name: String, }
    EnvVarSource {
        field_ref: Option<ObjectFieldSelector>,
        resource_field_ref: Option<ResourceFieldSelector>,
        config_map_key_ref: Option<KeySelector>,
        secret_key_ref: Option<KeySelector>,
        file_key_ref: Option<serde_json::Value>,
    }
    ObjectFieldSelector { api_version: String, field_path: String, }
    ResourceFieldSelector { container_name: String, resource: String, divisor: Option<String>, }
    KeySelector { name: String, key: String, optional: Option<bool>, }
    EnvFromSource {
        prefix: String,
        config_map_ref: Option<OptionalReference>,
        secret_ref: Option<OptionalReference>,
    }
    OptionalReference { name: String, optional: Option<bool>, }
    ResourceRequirements {
        limits: ResourceList,
        requests: ResourceList,
        claims: Vec<serde_json::Value>,
    }
    VolumeMount {
        name: String,
        mount_path: String,
        read_only: bool,
        recursive_read_only: Option<String>,
        sub_path: String,
        sub_path_expr: String,
        mount_propagation: Option<String>,
    }
    VolumeDevice { name: String, device_path: String, }

    Probe {
        exec: Option<ExecAction>,
        http_get: Option<HttpGetAction>,
        tcp_socket: Option<TcpSocketAction>,
        grpc: Option<GrpcAction>,
        initial_delay_seconds: i32,
        timeout_seconds: i32,
        period_seconds: i32,
        success_threshold: i32,
        failure_threshold: i32,
        termination_grace_period_seconds: Option<i64>,
    }
    ExecAction { command: Vec<String>, }
    HttpGetAction {
        path: String,
        port: IntOrString,
        host: String,
        scheme: String,
        http_headers: Vec<HttpHeader>,
    }
    HttpHeader { name: String, value: String, }
    TcpSocketAction { port: IntOrString, host: String, }
    GrpcAction { port: i32, service: Option<String>, }
    Lifecycle {
        post_start: Option<LifecycleHandler>,
        pre_stop: Option<LifecycleHandler>,
        stop_signal: Option<String>,
    }
    LifecycleHandler {
        exec: Option<ExecAction>,
        http_get: Option<HttpGetAction>,
        tcp_socket: Option<TcpSocketAction>,
        sleep: Option<SleepAction>,
    }
    SleepAction { seconds: i64, }

    /// One volume. A source that is not named here is in `other`, by its field name.
    Volume {
        name: String,
        empty_dir: Option<EmptyDirVolumeSource>,
        host_path: Option<HostPathVolumeSource>,
        config_map: Option<ConfigMapVolumeSource>,
        secret: Option<SecretVolumeSource>,
        #[serde(rename = "downwardAPI")]
        downward_api: Option<DownwardApiVolumeSource>,
        projected: Option<ProjectedVolumeSource>,
        persistent_volume_claim: Option<PersistentVolumeClaimVolumeSource>,
        #[serde(flatten)]
        other: BTreeMap<String, serde_json::Value>,
    }
    EmptyDirVolumeSource { medium: String, size_limit: Option<String>, }
    HostPathVolumeSource { path: String, r#type: Option<String>, }
    KeyToPath { key: String, path: String, mode: Option<i32>, }
    ConfigMapVolumeSource {
        name: String,
        items: Vec<KeyToPath>,
        default_mode: Option<i32>,
        optional: Option<bool>,
    }
    SecretVolumeSource {
        secret_name: String,
        items: Vec<KeyToPath>,
        default_mode: Option<i32>,
        optional: Option<bool>,
    }
    DownwardApiVolumeSource { items: Vec<DownwardApiVolumeFile>, default_mode: Option<i32>, }
    DownwardApiVolumeFile {
        path: String,
        field_ref: Option<ObjectFieldSelector>,
        resource_field_ref: Option<ResourceFieldSelector>,
        mode: Option<i32>,
    }
    ProjectedVolumeSource { sources: Vec<VolumeProjection>, default_mode: Option<i32>, }
    VolumeProjection {
        secret: Option<ProjectedReference>,
        config_map: Option<ProjectedReference>,
        #[serde(rename = "downwardAPI")]
        downward_api: Option<DownwardApiVolumeSource>,
        service_account_token: Option<ServiceAccountTokenProjection>,
        cluster_trust_bundle: Option<serde_json::Value>,
        pod_certificate: Option<serde_json::Value>,
    }
    ProjectedReference { name: String, items: Vec<KeyToPath>, optional: Option<bool>, }
    ServiceAccountTokenProjection {
        audience: String,
        expiration_seconds: Option<i64>,
        path: String,
    }
    PersistentVolumeClaimVolumeSource { claim_name: String, read_only: bool, }

    PodStatus {
        observed_generation: Option<i64>,
        phase: String,
        conditions: Vec<PodCondition>,
        message: String,
        reason: String,
        nominated_node_name: String,
        #[serde(rename = "hostIP")]
        host_ip: String,
        #[serde(rename = "hostIPs")]
        host_ips: Vec<PodIp>,
        #[serde(rename = "podIP")]
        pod_ip: String,
        #[serde(rename = "podIPs")]
        pod_ips: Vec<PodIp>,
        start_time: Option<String>,
        init_container_statuses: Vec<ContainerStatus>,
        container_statuses: Vec<ContainerStatus>,
        ephemeral_container_statuses: Vec<ContainerStatus>,
        qos_class: String,
    }
    PodIp { ip: String, }
    PodCondition {
        observed_generation: Option<i64>,
        last_probe_time: Option<String>,
        last_transition_time: Option<String>,
        reason: String,
        message: String,
    } + { r#type: String, status: String, }
    ContainerStatus {
        state: ContainerState,
        last_state: ContainerState,
        #[serde(rename = "containerID")]
        container_id: String,
        started: Option<bool>,
        allocated_resources: ResourceList,
        resources: Option<ResourceRequirements>,
        volume_mounts: Vec<VolumeMountStatus>,
        user: Option<ContainerUser>,
    } + {
        name: String,
        ready: bool,
        restart_count: i32,
        image: String,
        #[serde(rename = "imageID")]
        image_id: String,
    }
    VolumeMountStatus {
        name: String,
        mount_path: String,
        read_only: bool,
        recursive_read_only: Option<String>,
    }
    ContainerUser { linux: Option<LinuxContainerUser>, }
    LinuxContainerUser { supplemental_groups: Vec<i64>, } + { uid: i64, gid: i64, }
    /// At most one is set; none means waiting.
    ContainerState {
        waiting: Option<ContainerStateWaiting>,
        running: Option<ContainerStateRunning>,
        terminated: Option<ContainerStateTerminated>,
    }
    ContainerStateWaiting { reason: String, message: String, }
    ContainerStateRunning { started_at: Option<String>, }
    ContainerStateTerminated {
        signal: i32,
        reason: String,
        message: String,
        started_at: Option<String>,
        finished_at: Option<String>,
        #[serde(rename = "containerID")]
        container_id: String,
    } + { exit_code: i32, }
}

impl PodStatus {
    /// The condition of this type, if reported.
    pub fn condition(&self, r#type: &str) -> Option<&PodCondition> {
        self.conditions.iter().find(|condition| condition.r#type == r#type)
    }
}

impl PodView {
    /// Condition `Ready` is `True`.
    pub fn is_ready(&self) -> bool {
        self.status.condition("Ready").is_some_and(|ready| ready.status == "True")
    }

    /// Phase `Succeeded` or `Failed`: it will never run again.
    pub fn is_finished(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }
}
