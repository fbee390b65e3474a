//! The scale bench, small: it must not rot.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::process::Command;

#[test]
fn pods_are_bound_to_fake_nodes_and_run() {
    let output = Command::new(env!("CARGO_BIN_EXE_cluster-scale"))
        .args(["--nodes", "3", "--pods", "20", "--clients", "2"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for case in ["backlog", "create", "join", "deployment"] {
        let line = said.lines().find(|line| {
            line.starts_with("cluster_scale pods_bound_per_second ")
                && line.ends_with(&format!("case={case}"))
        });
        let value: f64 = line.unwrap().split(' ').nth(2).unwrap().parse().unwrap();
        assert!(0.0 < value, "{said}");
    }
}
