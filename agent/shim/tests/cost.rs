//! What a pod costs: memory of its shim, time to a running process.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking, helpers too"
)]

mod host;

use std::fs;
use std::time::Instant;

use coracle_runtime::{ContainerId, Runtime};
use host::TestHost;

fn pss_kib(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_pod_costs_little() {
    let host = TestHost::new();
    let mut times = Vec::new();
    for number in 0..5 {
        let uid = format!("cost{number}");
        let begun = Instant::now();
        let pod = host.pod(&uid);
        let made = begun.elapsed();
        let mut spec = host.spec("web", &["sleep", "1000"]);
        host.runtime.start_container(&pod, &spec).unwrap();
        let started = begun.elapsed();
        spec.id = ContainerId::parse("true", 0).unwrap();
        spec.argv = vec!["true".into()];
        let begun = Instant::now();
        host.run(&pod, &spec);
        let ran = begun.elapsed();
        let begun = Instant::now();
        host.runtime.remove_container(&pod, &spec.id).unwrap();
        let removed = begun.elapsed();
        times.push((made, started - made, ran, removed));
    }
    let shims: Vec<_> = (0..5)
        .map(|n| host.runtime.pod(&host::pod_spec(&format!("cost{n}")).uid).unwrap().unwrap())
        .map(|status| pss_kib(status.shim_pid.unwrap()))
        .collect();
    println!("pod, start, run true, remove: {times:?}; shims' PSS in KiB: {shims:?}");
    if std::env::var_os("CORACLE_SHOW_MAPS").is_some() {
        let status = host.runtime.pod(&host::pod_spec("cost1").uid).unwrap().unwrap();
        println!(
            "{}",
            fs::read_to_string(format!("/proc/{}/smaps", status.shim_pid.unwrap())).unwrap()
        );
    }
    let begun = Instant::now();
    host.runtime.remove_pod(&host::pod_spec("cost0").uid).unwrap();
    println!("remove pod {:?}", begun.elapsed());
    assert!(shims.iter().all(|kib| *kib < 2048), "{shims:?}");
}
