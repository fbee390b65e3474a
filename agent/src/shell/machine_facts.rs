//! What the agent finds out about its machine, from /proc, /sys and /etc.

use std::{
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::Path,
};

use coracle_agent_logic::node::{Lack, NodeFacts};
use coracle_runtime::{Fact, FactKind};
use rustix::fs::statvfs;

/// Reads everything. `server` is the API server's address if it is known: the address that leads there comes first.
/// `lacking` is what the runtime found missing.
pub(crate) fn read(
    name: &str,
    data_dir: &Path,
    server: Option<SocketAddr>,
    lacking: &[Fact],
) -> NodeFacts {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let meminfo = text("/proc/meminfo");
    let (disk_bytes, disk_free_bytes) = match statvfs(data_dir) {
        Ok(stat) => {
            // 64 bits on every board, unlike C's.
            let block = stat.f_frsize;
            (block.saturating_mul(stat.f_blocks), block.saturating_mul(stat.f_bavail))
        }
        Err(_) => (0, 0),
    };
    let uts = nix::sys::utsname::uname();
    let kernel = uts.as_ref().map(|uts| uts.release().to_string_lossy().into_owned());
    let machine_id = text("/etc/machine-id");
    let system_uuid = match text("/sys/class/dmi/id/product_uuid") {
        uuid if uuid.is_empty() => machine_id.clone(),
        uuid => uuid,
    };
    NodeFacts {
        name: name.into(),
        hostname: super::containers::host_name(),
        ips: addresses(server),
        architecture: architecture().into(),
        kernel: kernel.unwrap_or_default(),
        os_image: os_image(&text("/etc/os-release")),
        machine_id,
        system_uuid,
        boot_id: text("/proc/sys/kernel/random/boot_id"),
        cpus: std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64),
        memory_bytes: kib(&meminfo, "MemTotal:") * 1024,
        memory_free_bytes: kib(&meminfo, "MemAvailable:") * 1024,
        disk_bytes,
        disk_free_bytes,
        pids: (processes(), text("/proc/sys/kernel/pid_max").parse().unwrap_or(0)),
        pods_max: None,
        lacking: lacking
            .iter()
            // Without a line that mends it, it is nothing to tell a user.
            .filter(|fact| fact.kind != FactKind::Good && !fact.fix.is_empty())
            .map(|fact| Lack {
                name: fact.name.into(),
                found: fact.found.clone(),
                fix: fact.fix.clone(),
            })
            .collect(),
    }
}

/// Go's name of this machine's architecture.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// The addresses by which others reach this machine: the one that leads to the server, or out.
fn addresses(server: Option<SocketAddr>) -> Vec<String> {
    // Connecting a datagram socket sends nothing; the kernel only chooses the source address.
    let towards = |to: SocketAddr| -> Option<IpAddr> {
        let any: SocketAddr =
            if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let out: [SocketAddr; 2] =
        [([192, 0, 2, 1], 9).into(), ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 9).into()];
    let mut found: Vec<IpAddr> = Vec::new();
    for ip in server.into_iter().chain(out).filter_map(towards) {
        if !ip.is_loopback()
            && !ip.is_unspecified()
            && !found.iter().any(|known| known.is_ipv4() == ip.is_ipv4())
        {
            found.push(ip);
        }
    }
    if found.is_empty() {
        found.push(IpAddr::from([127, 0, 0, 1]));
    }
    found.iter().map(IpAddr::to_string).collect()
}

fn kib(meminfo: &str, name: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// From /proc/loadavg: `0.00 0.01 0.05 1/123 4567`.
fn processes() -> u64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let all = text.split_whitespace().nth(3).and_then(|pair| pair.split('/').nth(1)?.parse().ok());
    all.unwrap_or(0)
}

fn os_image(os_release: &str) -> String {
    let line = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.map_or_else(|| "Linux".into(), |name| name.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_read() {
        let facts = read("board", Path::new("/tmp"), None, &[]);
        assert!(facts.cpus > 0 && facts.memory_bytes > 0 && facts.disk_bytes > 0, "{facts:?}");
        assert!(facts.memory_free_bytes <= facts.memory_bytes);
        assert!(!facts.kernel.is_empty() && !facts.ips.is_empty());
        assert!(facts.pids.0 > 0);
    }

    #[test]
    fn files_read() {
        assert_eq!(kib("MemTotal:  1024 kB\nMemAvailable:  512 kB\n", "MemAvailable:"), 512);
        assert_eq!(
            os_image("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
            "Debian GNU/Linux 12 (bookworm)"
        );
        assert_eq!(os_image(""), "Linux");
    }
}
