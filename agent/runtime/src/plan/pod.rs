//! The steps to a pod's sandbox.

use crate::{Config, PodSandboxSpec, wire};

use super::Step;

/// The steps that make a pod's sandbox: state directory, cgroups with limits, shim.
///
/// With `again`, the state directory is there from the shim that died, with the records of its containers.
pub fn pod_steps(spec: &PodSandboxSpec, config: &Config, again: bool) -> Vec<Step> {
    let state = config.state_dir(&spec.uid);
    let cgroup = config.pod_cgroup(spec);
    let shim_cgroup = format!("{cgroup}/shim");
    let mut steps = Vec::new();
    if !again {
        steps.push(Step::KeepDir { path: config.pod_dir(&spec.uid) });
        steps.push(Step::MakeDir { path: state.clone(), mode: 0o700 });
    }
    // Also again: after a power cut they may be missing where the files beside them are not.
    steps.push(Step::KeepDir { path: state.join("records") });
    steps.push(Step::KeepDir { path: state.join("containers") });
    if !again {
        let bytes = cgroup.clone().into_bytes();
        steps.push(Step::WriteFile { path: state.join("cgroup"), bytes });
        // Last: a state directory without it was cut off while it was being made.
        steps.push(Step::WriteFile { path: state.join("pod"), bytes: wire::encode(spec) });
    }
    steps.push(Step::MakeCgroup { path: cgroup.clone() });
    steps.push(Step::Limit { path: cgroup, resources: spec.resources });
    steps.push(Step::MakeCgroup { path: shim_cgroup.clone() });
    steps.push(Step::StartShim { uid: spec.uid.clone(), cgroup: shim_cgroup });
    steps
}
