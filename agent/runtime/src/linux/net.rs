//! The namespaces that a pod's containers share, made by the shim for itself.

use std::io;

use nix::sched::CloneFlags;

/// Moves this process into network (unless `host_network`), IPC and UTS namespaces of its own, names the host in the
/// latter, and brings the loopback interface up.
///
/// Unprivileged processes of the pod may bind low ports and send pings, as Docker has it: both are safe in a network of their own.
pub fn prepare_pod_namespaces(hostname: &str, host_network: bool) -> io::Result<()> {
    let mut flags = CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    if !host_network {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    nix::sched::unshare(flags)?;
    nix::unistd::sethostname(hostname)?;
    if !host_network {
        loopback_up()?;
        for (file, value) in
            [("ip_unprivileged_port_start", "0"), ("ping_group_range", "0 2147483647")]
        {
            // Kernels without IPv4 or before 4.11 do not have them; nothing depends on them.
            let _absent = std::fs::write(format!("/proc/sys/net/ipv4/{file}"), value);
        }
    }
    Ok(())
}

fn loopback_up() -> io::Result<()> {
    // SAFETY: an all-zero ifreq is a valid one; the requests are given a pointer to it; the socket is closed once.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes_with_nul()) {
            *to = (*from).cast_signed() as libc::c_char;
        }
        let up = libc::IFF_UP | libc::IFF_RUNNING;
        request.ifr_ifru.ifru_flags = libc::c_short::try_from(up).unwrap_or(1);
        let done = libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &raw const request);
        let error = io::Error::last_os_error();
        libc::close(socket);
        if done < 0 { Err(error) } else { Ok(()) }
    }
}
