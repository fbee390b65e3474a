//! What this host can and cannot do: facts with fixes, for `coracle-agent doctor` and for node conditions.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::cgroup::{CgroupSet, Controller};
use crate::{Fact, FactKind};

/// The Raspberry Pi's firmware leaves the memory controller off.
const MEMORY_FIX: &str = "add `cgroup_enable=memory cgroup_memory=1` to the line in /boot/firmware/cmdline.txt (`coracle-agent doctor --fix` does) and reboot";

/// Looks at the host. Reads files of /proc and /sys, and asks `nft` and `iptables` for their versions.
pub fn facts() -> Vec<Fact> {
    let mut facts = Vec::new();
    match CgroupSet::of_this_host() {
        Ok(cgroups) => facts.extend(cgroup_facts(&cgroups)),
        Err(error) => facts.push(fatal(
            "cgroup",
            format!("/proc/self/mountinfo cannot be read: {error}"),
            "mount /proc",
        )),
    }
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    facts.push(root_fact(&read("/proc/self/status")));
    facts.push(filesystem_fact(&read("/proc/filesystems")));
    facts.push(namespace_fact(Path::new("/proc/self/ns")));
    facts.push(seccomp_fact(&read("/proc/sys/kernel/seccomp/actions_avail")));
    facts.push(forward_fact(&read("/proc/sys/net/ipv4/ip_forward")));
    facts.push(bridge_fact());
    facts.push(tool_fact("nftables", "nft", "apt-get install nftables"));
    facts
}

fn good(name: &'static str, found: impl Into<String>) -> Fact {
    Fact { name, kind: FactKind::Good, found: found.into(), fix: String::new() }
}

fn lacking(name: &'static str, found: impl Into<String>, fix: &str) -> Fact {
    Fact { name, kind: FactKind::Lacking, found: found.into(), fix: fix.to_owned() }
}

fn fatal(name: &'static str, found: impl Into<String>, fix: &str) -> Fact {
    Fact { name, kind: FactKind::Fatal, found: found.into(), fix: fix.to_owned() }
}

/// The tree, and each controller that limits are made of.
fn cgroup_facts(cgroups: &CgroupSet) -> Vec<Fact> {
    let mut facts = vec![if cgroups.is_v2()
        || cgroups.has(Controller::Freezer)
        || cgroups.has(Controller::Pids)
    {
        good("cgroup", format!("{cgroups:?}"))
    } else {
        fatal(
            "cgroup",
            "no cgroup tree is mounted below /sys/fs/cgroup",
            "mount one: `mount -t cgroup2 none /sys/fs/cgroup`, or boot with systemd",
        )
    }];
    for (name, controller, means, fix) in [
        ("memory-controller", Controller::Memory, "memory limits are not enforced", MEMORY_FIX),
        (
            "cpu-controller",
            Controller::Cpu,
            "CPU limits and shares are not enforced",
            "use a kernel with CONFIG_CGROUP_SCHED and CONFIG_CFS_BANDWIDTH",
        ),
        (
            "pids-controller",
            Controller::Pids,
            "the number of processes is not limited",
            "use a kernel with CONFIG_CGROUP_PIDS",
        ),
    ] {
        facts.push(if cgroups.has(controller) {
            good(name, "there")
        } else {
            lacking(name, format!("absent: {means}"), fix)
        });
    }
    facts
}

fn root_fact(status: &str) -> Fact {
    let capabilities = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let held = crate::Capabilities::from_bits(capabilities);
    let needed =
        [crate::Capability::SysAdmin, crate::Capability::NetAdmin, crate::Capability::Mknod];
    if !needed.into_iter().all(|cap| held.has(cap)) {
        return fatal("rights", "not enough rights to make containers", "run the agent as root");
    }
    if !held.has(crate::Capability::SysResource) {
        return lacking(
            "rights",
            "without CAP_SYS_RESOURCE: shims and guaranteed pods are not kept from the OOM killer",
            "run the agent as root outside of a container, or with that capability",
        );
    }
    good("rights", "root")
}

fn filesystem_fact(filesystems: &str) -> Fact {
    let overlay = filesystems
        .lines()
        .any(|line| line.trim() == "nodev\toverlay" || line.ends_with("\toverlay"));
    if overlay {
        good("overlayfs", "there")
    } else if module_listed("overlay") {
        good("overlayfs", "a module; the first mount loads it")
    } else {
        fatal(
            "overlayfs",
            "not in this kernel, and there is no module of it",
            "use a kernel with CONFIG_OVERLAY_FS",
        )
    }
}

/// Whether the running kernel has it built in, or as a module that can be loaded.
fn module_listed(name: &str) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let modules = Path::new("/lib/modules").join(release.trim());
    let file = format!("/{name}.ko");
    ["modules.builtin", "modules.dep"]
        .into_iter()
        .any(|list| fs::read_to_string(modules.join(list)).unwrap_or_default().contains(&file))
}

fn namespace_fact(dir: &Path) -> Fact {
    let absent: Vec<_> = ["mnt", "pid", "net", "ipc", "uts"]
        .into_iter()
        .filter(|ns| !dir.join(ns).exists())
        .collect();
    if absent.is_empty() {
        good("namespaces", "mount, pid, network, ipc, uts")
    } else {
        let found = format!("without {}", absent.join(", "));
        fatal("namespaces", found, "use a kernel with CONFIG_NAMESPACES and all below it")
    }
}

fn seccomp_fact(actions: &str) -> Fact {
    if actions.split_whitespace().any(|action| action == "errno") {
        good("seccomp", "filters")
    } else {
        fatal("seccomp", "no filters", "use a kernel with CONFIG_SECCOMP_FILTER")
    }
}

fn forward_fact(forward: &str) -> Fact {
    if forward.trim() == "1" {
        good("ip-forward", "on")
    } else {
        lacking("ip-forward", "off; the agent switches it on", "")
    }
}

fn bridge_fact() -> Fact {
    // Built in, loaded, or loadable: /sys tells the first two apart from nothing, modules.dep the third.
    let there = Path::new("/sys/module/bridge").exists()
        || Path::new("/proc/sys/net/bridge").exists()
        || module_listed("bridge");
    if there {
        good("bridge", "there")
    } else {
        lacking(
            "bridge",
            "not known to be there",
            "run `modprobe bridge`; if pods get no address, use a kernel with CONFIG_BRIDGE",
        )
    }
}

fn tool_fact(name: &'static str, program: &str, fix: &str) -> Fact {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stderr(Stdio::null());
    match command.output() {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout);
            good(name, text.lines().next().unwrap_or_default().trim())
        }
        Ok(_) | Err(_) => {
            lacking(name, format!("no `{program}`: pods reach no further than their node"), fix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_told_with_its_fix() {
        fn check(fact: &Fact, kind: FactKind) {
            assert_eq!(fact.kind, kind, "{fact:?}");
            assert_eq!(fact.fix.is_empty(), kind == FactKind::Good, "{fact:?}");
        }
        check(&root_fact("CapEff:\t000001ffffffffff\n"), FactKind::Good);
        check(&root_fact("CapEff:\t000001fffeffffff\n"), FactKind::Lacking);
        check(&root_fact("CapEff:\t0000000000000000\n"), FactKind::Fatal);
        check(&filesystem_fact("nodev\toverlay\n\text4\n"), FactKind::Good);
        let module = if module_listed("overlay") { FactKind::Good } else { FactKind::Fatal };
        check(&filesystem_fact("\text4\n"), module);
        assert!(!module_listed("coracle-no-such-module"));
        check(&seccomp_fact("kill_process errno allow"), FactKind::Good);
        check(&seccomp_fact(""), FactKind::Fatal);
        check(&namespace_fact(Path::new("/proc/self/ns")), FactKind::Good);
        check(&namespace_fact(Path::new("/nowhere")), FactKind::Fatal);
        check(&tool_fact("nftables", "coracle-no-such-tool", "x"), FactKind::Lacking);
        assert!(
            facts()
                .iter()
                .all(|fact| fact.name != "memory-controller" || fact.kind != FactKind::Fatal)
        );
    }

    #[test]
    fn a_raspberry_pi_without_memory_controller_gets_its_line() {
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        let facts = cgroup_facts(&CgroupSet::parse(mounts, "cpuset cpu io pids"));
        let memory = facts.iter().find(|fact| fact.name == "memory-controller").unwrap();
        assert_eq!(memory.kind, FactKind::Lacking);
        assert!(memory.fix.contains("cgroup_enable=memory cgroup_memory=1"));
    }
}
