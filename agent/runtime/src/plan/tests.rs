//! R4 on a model of a host: whichever step fails, before or after it took effect, undo leaves the host as found.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::{
    Config, ContainerId, ContainerSpec, LogSpec, PodSandboxSpec, PodUid, QosClass, Resources,
    RuntimeError, Seccomp, TerminationMessage,
};

/// A host: what is on it, and the step that fails.
#[derive(Default)]
struct Model {
    there: BTreeSet<String>,
    fail_at: Option<usize>,
    fail_after_effect: bool,
    performed: usize,
}

impl Model {
    fn thing(step: &Step) -> Option<String> {
        match step {
            Step::MakeDir { path, .. } => Some(format!("dir {}", path.display())),
            Step::WriteFile { path, .. } => Some(format!("file {}", path.display())),
            Step::MakeCgroup { path } => Some(format!("cgroup {path}")),
            Step::StartShim { cgroup, .. } | Step::Spawn { cgroup, .. } => {
                Some(format!("process in {cgroup}"))
            }
            Step::KeepDir { .. } | Step::KeepFile { .. } | Step::Limit { .. } => None,
        }
    }
}

impl Sys for Model {
    fn perform(&mut self, step: &Step) -> Result<(), StepError> {
        let failing = self.fail_at == Some(self.performed);
        self.performed += 1;
        let error = StepError { message: format!("{step:?}"), errno: Some(5) };
        if failing && !self.fail_after_effect {
            return Err(error);
        }
        if let Some(thing) = Self::thing(step) {
            assert!(self.there.insert(thing), "{step:?} makes what is there");
        }
        if failing { Err(error) } else { Ok(()) }
    }

    fn undo(&mut self, step: &Step) {
        if let Step::MakeCgroup { path } = step {
            let process = format!("process in {path}");
            assert!(!self.there.contains(&process), "{path} is removed with a process in it");
        }
        if let Some(thing) = Self::thing(step) {
            self.there.remove(&thing);
        }
    }
}

fn pod() -> Vec<Step> {
    let spec = PodSandboxSpec {
        uid: PodUid::parse("u").unwrap(),
        name: "web".into(),
        namespace: "default".into(),
        hostname: "web".into(),
        host_network: false,
        qos: QosClass::BestEffort,
        resources: Resources::default(),
    };
    pod_steps(&spec, &Config::new("/data".into(), "/bin/agent".into()), false)
}

fn spec() -> ContainerSpec {
    let mut spec = ContainerSpec::new(
        ContainerId::parse("web", 0).unwrap(),
        LogSpec::new("/data/logs/web.log".into()),
    );
    spec.argv = vec!["web".into()];
    spec.layers = vec!["/layers/1".into()];
    spec.termination_message = Some(TerminationMessage {
        host_path: "/data/message".into(),
        container_path: "/dev/termination-log".into(),
    });
    spec
}

fn steps_of(spec: &ContainerSpec) -> Result<Vec<Step>, RuntimeError> {
    let host = HostFacts { cgroup_v2: true, cgroup_v1: Vec::new() };
    container_steps(spec, Path::new("/data/c/web.0"), "coracle/podu/web.0", &host)
}

fn child_of(spec: &ContainerSpec) -> Vec<ChildStep> {
    match steps_of(spec).unwrap().pop() {
        Some(Step::Spawn { child, .. }) => child,
        other => panic!("the last step is {other:?}"),
    }
}

#[test]
fn r4_whichever_step_fails_nothing_is_left() {
    for steps in [pod(), steps_of(&spec()).unwrap()] {
        for fail_at in 0..steps.len() {
            for fail_after_effect in [false, true] {
                let mut model =
                    Model { fail_at: Some(fail_at), fail_after_effect, ..Model::default() };
                let error = run(&steps, &mut model).unwrap_err();
                assert_eq!(error.message, format!("{:?}", steps[fail_at]));
                assert_eq!(model.there, BTreeSet::new(), "after step {fail_at} failed");
            }
        }
        let mut model = Model::default();
        assert_eq!(run(&steps, &mut model), Ok(()));
        assert_ne!(model.there, BTreeSet::new());
    }
}

#[test]
fn r1_and_r2_by_order() {
    let child = child_of(&spec());
    let at = |want: &dyn Fn(&ChildStep) -> bool| child.iter().position(want).unwrap();
    let enter = at(&|step| matches!(step, ChildStep::EnterRoot { .. }));
    let leave = at(&|step| *step == ChildStep::LeaveOldRoot);
    let close = at(&|step| *step == ChildStep::CloseOthers);
    let cwd = at(&|step| matches!(step, ChildStep::Cwd { .. }));
    let proc =
        at(&|step| matches!(step, ChildStep::Mount { fstype, .. } if fstype.to_bytes() == b"proc"));
    let last_bind = child.iter().rposition(|step| matches!(step, ChildStep::Bind { .. })).unwrap();
    assert!(enter < last_bind && last_bind < proc && proc < leave && leave < close);
    assert!(close < cwd, "the working directory must not go through an inherited descriptor");
    assert!(matches!(child.last(), Some(ChildStep::Exec { .. })));
}

#[test]
fn r3_rights_are_reduced_in_the_order_the_kernel_needs() {
    fn check(no_new_privs: bool, seccomp: Seccomp, want: &[&str]) {
        let spec = ContainerSpec { no_new_privs, seccomp, ..spec() };
        let words = ["load the seccomp", "become user", "set capabilities", "set no_new_privs"];
        let child = child_of(&spec);
        let got = child.iter().filter_map(|step| {
            let text = step.to_string();
            words.iter().position(|word| text.starts_with(word))
        });
        let names = ["seccomp", "ids", "caps", "nnp"];
        assert_eq!(got.map(|at| names[at]).collect::<Vec<_>>(), want);
    }
    check(false, Seccomp::Default, &["seccomp", "ids", "caps"]);
    check(true, Seccomp::Default, &["ids", "caps", "nnp", "seccomp"]);
    check(true, Seccomp::Unconfined, &["ids", "caps", "nnp"]);
    check(false, Seccomp::Unconfined, &["ids", "caps"]);
}

#[test]
fn a_bad_spec_is_refused_with_its_reason() {
    fn check(spec: ContainerSpec, want: &str) {
        let got = steps_of(&spec).map(|_steps| ()).unwrap_err().to_string();
        assert_eq!(got, want);
    }
    let mount = |target: &str, propagation| crate::Mount {
        source: crate::MountSource::Tmpfs { size_bytes: None, mode: 0o755 },
        target: target.into(),
        readonly: false,
        propagation,
    };
    let private = crate::Propagation::Private;
    check(
        ContainerSpec { argv: Vec::new(), ..spec() },
        "cannot run this: no command: neither the pod nor the image has one",
    );
    check(
        ContainerSpec { argv: vec!["/a\0b".into()], ..spec() },
        "cannot run this: `/a\\0b` has a NUL byte in it",
    );
    check(
        ContainerSpec { layers: Vec::new(), ..spec() },
        "cannot run this: 0 layers; 1 to 128 are possible",
    );
    check(
        ContainerSpec { cwd: "srv".into(), ..spec() },
        "cannot run this: `srv` is not an absolute path without `..`",
    );
    check(
        ContainerSpec { mounts: vec![mount("/a/../../b", private)], ..spec() },
        "cannot run this: `/a/../../b` is not an absolute path without `..`",
    );
    check(
        ContainerSpec { mounts: vec![mount("/proc/x", private)], ..spec() },
        "cannot run this: a volume cannot be mounted on /proc/x",
    );
    check(
        ContainerSpec { mounts: vec![mount("/x", crate::Propagation::Shared)], ..spec() },
        "cannot run this: mount propagation Bidirectional of /x needs a privileged container",
    );
}

#[test]
fn a_program_is_looked_up_in_the_last_path_given() {
    fn check(program: &str, env: &[&str], want: &[&str]) {
        let spec = ContainerSpec {
            argv: vec![program.into()],
            env: env.iter().map(|entry| (*entry).to_owned()).collect(),
            ..spec()
        };
        match child_of(&spec).pop() {
            Some(ChildStep::Exec { candidates, .. }) => {
                let got: Vec<_> = candidates.iter().map(|path| path.to_str().unwrap()).collect();
                assert_eq!(got, want);
            }
            other => panic!("the last step is {other:?}"),
        }
    }
    check("sh", &["PATH=/a:/b"], &["/a/sh", "/b/sh"]);
    check("sh", &["PATH=/a", "PATH=/c:"], &["/c/sh", "./sh"]);
    check("/bin/sh", &["PATH=/a"], &["/bin/sh"]);
    check("./run", &[], &["./run"]);
}
