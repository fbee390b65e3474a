//! A container's life on the real kernel: start, output, ways to end, restart of the agent, death of the shim, removal.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking, helpers too"
)]

mod host;

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use coracle_runtime::limits::CONTAINERS_PER_POD_MAX;
use coracle_runtime::{ContainerId, ContainerState, Event, Resources, Runtime, RuntimeError};
use host::{TestHost, eventually, exit, how, is_process, pod_spec, running_pid};

#[test]
fn a_container_says_something_and_ends() {
    let host = TestHost::new();
    let pod = host.pod("talk");
    let script = "echo out; echo err >&2; printf 'no end'; exit 3";
    let spec = host.spec("web", &["sh", "-c", script]);
    assert_eq!(how(host.run(&pod, &spec)), exit(3, None, false));
    let mut log = host.log("web");
    log.sort();
    assert_eq!(log, ["stderr F err", "stdout F out", "stdout P no end"]);
    assert!(matches!(host.state_of(&pod, &spec.id), Some(ContainerState::Exited(_))));
    let again = host.runtime.start_container(&pod, &spec).unwrap_err();
    assert!(matches!(again, RuntimeError::AlreadyStarted { .. }), "{again}");
    host.runtime.remove_container(&pod, &spec.id).unwrap();
    assert_eq!(host.state_of(&pod, &spec.id), None);
    host.runtime.remove_pod(&pod).unwrap();
    assert_eq!(host.traces(), BTreeSet::new());
}

#[test]
fn what_cannot_start_may_be_tried_for_ever() {
    let host = TestHost::new();
    let pod = host.pod("tries");
    let mut spec = host.spec("web", &["/nope"]);
    let tries = u32::try_from(CONTAINERS_PER_POD_MAX).unwrap() + 2;
    for attempt in 0..tries {
        spec.id = ContainerId::parse("web", attempt).unwrap();
        let error = host.runtime.start_container(&pod, &spec).unwrap_err();
        assert!(matches!(error, RuntimeError::Start { .. }), "try {attempt}: {error}");
        if let Some(before) = attempt.checked_sub(1) {
            let before = ContainerId::parse("web", before).unwrap();
            host.runtime.remove_container(&pod, &before).unwrap();
        }
    }
    assert_eq!(host.runtime.pod(&pod).unwrap().unwrap().containers.len(), 1);
}

#[test]
fn the_ways_to_end_are_told_apart() {
    let host = TestHost::new();
    let pod = host.pod("ends");
    let spec = host.spec("ok", &["true"]);
    assert_eq!(how(host.run(&pod, &spec)), exit(0, None, false));

    let sleeper = host.spec("killed", &["sleep", "1000"]);
    host.runtime.start_container(&pod, &sleeper).unwrap();
    host.runtime.kill(&pod, &sleeper.id).unwrap();
    assert_eq!(how(host.exit_of(&pod, &sleeper.id)), exit(137, Some(9), false));

    let trap = "trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done";
    let polite = host.spec("polite", &["sh", "-c", trap]);
    host.runtime.start_container(&pod, &polite).unwrap();
    eventually("the trap is set", || host.output("polite") == "up\n");
    host.runtime.signal(&pod, &polite.id, 15).unwrap();
    assert_eq!(how(host.exit_of(&pod, &polite.id)), exit(7, None, false));

    let mut hungry = host.spec("hungry", &["sh", "-c", "x=a; while :; do x=$x$x; done"]);
    hungry.resources = Resources { memory_bytes: Some(16 << 20), ..Resources::default() };
    assert_eq!(how(host.run(&pod, &hungry)), exit(137, Some(9), true));

    let gone = ContainerId::parse("gone", 0).unwrap();
    let error = host.runtime.kill(&pod, &gone).unwrap_err();
    assert!(matches!(error, RuntimeError::NoSuchContainer { .. }), "{error}");
    host.runtime.signal(&pod, &polite.id, 15).unwrap();
}

#[test]
fn a_start_that_fails_says_why_and_counts_as_an_attempt() {
    let host = TestHost::new();
    let pod = host.pod("fails");
    let check = |name: &str, argv: &[&str], want: &str| {
        let spec = host.spec(name, argv);
        let error = host.runtime.start_container(&pod, &spec).unwrap_err();
        assert_eq!(error.to_string(), want);
        let state = host.state_of(&pod, &spec.id);
        assert!(
            matches!(&state, Some(ContainerState::StartFailed { message, .. }) if message == want),
            "{state:?}"
        );
    };
    check("slash", &["/bin/nope"], "exec /bin/nope: No such file or directory");
    check("path", &["nope"], "exec nope: No such file or directory");
    check("mode", &["/etc/passwd"], "exec /etc/passwd: Permission denied");
    check("none", &[], "cannot run this: no command: neither the pod nor the image has one");
    let mut spec = host.spec("layer", &["true"]);
    spec.layers.push("/no/such/layer".into());
    let error = host.runtime.start_container(&pod, &spec).unwrap_err();
    assert_eq!(error.to_string(), "open /no/such/layer: No such file or directory");
    assert_eq!(fs::read_dir(host.config.state_dir(&pod).join("containers")).unwrap().count(), 0);
}

#[test]
fn r5_an_agent_that_comes_back_finds_its_pods_and_starts_nothing_twice() {
    let mut host = TestHost::new();
    let pod = host.pod("back");
    let stays = host.spec("stays", &["sleep", "1000"]);
    let pid = running_pid(&host.runtime.start_container(&pod, &stays).unwrap());
    let leaves = host.spec("leaves", &["sh", "-c", "read x; exit 4"]);
    let mut leaves = leaves;
    leaves.stdin_open = true;
    host.runtime.start_container(&pod, &leaves).unwrap();

    host.restart_agent();
    host.runtime.recover().unwrap();
    host.runtime.kill(&pod, &leaves.id).unwrap();
    assert_eq!(how(host.exit_of(&pod, &leaves.id)), exit(137, Some(9), false));

    host.restart_agent();
    let pods = host.runtime.recover().unwrap();
    assert_eq!(pods.len(), 1);
    assert_eq!(pods[0].spec, pod_spec("back"));
    let states: Vec<_> = pods[0].containers.iter().map(|c| (c.id.name(), &c.state)).collect();
    assert!(
        matches!(
            states[..],
            [("stays", ContainerState::Running { .. }), ("leaves", ContainerState::Exited(_))]
        ),
        "{states:?}"
    );
    assert!(is_process(pid));
    for spec in [&stays, &leaves] {
        let again = host.runtime.start_container(&pod, spec).unwrap_err();
        assert!(matches!(again, RuntimeError::AlreadyStarted { .. }), "{again}");
    }
    let again = host.runtime.create_pod(&pod_spec("back")).unwrap_err();
    assert!(matches!(again, RuntimeError::PodExists(_)), "{again}");
    host.runtime.remove_pod(&pod).unwrap();
    assert!(!is_process(pid));
    assert_eq!(host.traces(), BTreeSet::new());
}

#[test]
fn containers_die_with_their_shim_and_the_pod_can_be_made_anew() {
    let host = TestHost::new();
    let pod = host.pod("orphan");
    let spec = host.spec("web", &["sh", "-c", "sleep 1000 & sleep 1000"]);
    let pid = running_pid(&host.runtime.start_container(&pod, &spec).unwrap());
    let done = host.spec("done", &["true"]);
    host.run(&pod, &done);
    let shim = host.runtime.pod(&pod).unwrap().unwrap().shim_pid.unwrap();
    coracle_runtime::linux::os::kill(shim, 9).unwrap();
    let event = host.runtime.wait_event(host::PATIENCE).unwrap();
    assert_eq!(event, Some(Event::ShimDied { pod: pod.clone() }));
    assert!(!is_process(pid));
    let status = host.runtime.pod(&pod).unwrap().unwrap();
    assert_eq!(status.shim_pid, None);
    assert_eq!(host.state_of(&pod, &spec.id), Some(ContainerState::Unknown));
    assert!(matches!(host.state_of(&pod, &done.id), Some(ContainerState::Exited(_))));

    host.runtime.create_pod(&pod_spec("orphan")).unwrap();
    let again = host.runtime.start_container(&pod, &spec).unwrap_err();
    assert!(
        matches!(again, RuntimeError::AlreadyStarted { state: ContainerState::Unknown, .. }),
        "{again}"
    );
    let mut next = spec;
    next.id = ContainerId::parse("web", 1).unwrap();
    host.runtime.start_container(&pod, &next).unwrap();
    host.runtime.remove_pod(&pod).unwrap();
    assert_eq!(host.traces(), BTreeSet::new());
}

#[test]
fn a_shim_that_died_while_the_agent_was_away_is_noticed() {
    let mut host = TestHost::new();
    let pod = host.pod("away");
    let spec = host.spec("web", &["sleep", "1000"]);
    let pid = running_pid(&host.runtime.start_container(&pod, &spec).unwrap());
    let shim = host.runtime.pod(&pod).unwrap().unwrap().shim_pid.unwrap();
    coracle_runtime::linux::os::kill(shim, 9).unwrap();
    host.restart_agent();
    let pods = host.runtime.recover().unwrap();
    assert_eq!(pods[0].shim_pid, None);
    assert_eq!(pods[0].containers[0].state, ContainerState::Unknown);
    assert!(!is_process(pid));
    assert_eq!(host.runtime.wait_event(Duration::ZERO).unwrap(), None);
}

#[test]
fn logs_rotate_and_lose_nothing() {
    let host = TestHost::new();
    let pod = host.pod("rotate");
    let mut spec = host.spec("web", &["sh", "-c", "for i in $(seq 1000); do echo line $i; done"]);
    spec.log.file_bytes_max = 20_000;
    spec.log.files_max = 4;
    assert_eq!(how(host.run(&pod, &spec)), exit(0, None, false));
    let mut lines = Vec::new();
    for number in (0..4).rev() {
        let suffix = if number == 0 { String::new() } else { format!(".{number}") };
        let path = host.dir.join("logs").join(format!("web.log{suffix}"));
        let text = fs::read_to_string(path).unwrap_or_default();
        assert!(text.len() <= 20_000);
        lines.extend(
            text.lines().map(|line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap()),
        );
    }
    assert_eq!(lines, (1..=1000).collect::<Vec<_>>());
}
