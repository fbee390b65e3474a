//! `coracle serve`: keys, store, control plane, listeners, in this order; then ready; then until told to stop.

use std::{
    cell::Cell,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    path::Path,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use async_signal::{Signal, Signals};
use coracle_api::Status;
use coracle_control_logic::{
    call::{Body, HttpRequest, Peer},
    plane::{Config, ControlPlane, Response, ResponseBody},
};
use coracle_keys::{
    Keys, files,
    join::{JoinToken, TOKEN_ID_LEN, TOKEN_SECRET_LEN, token_chars},
    ring::{RealKeys, ServerNames, random},
};
use coracle_rt::{Local, within};
use coracle_store::{Store, archive::Archive};
use smol::{Async, stream::StreamExt};

use crate::{
    cli::ServeArgs,
    data_dir::{self, DataDir, key_files, kubeconfig},
    last_good::LastGood,
    limits::{CERTIFICATE_CHECK_EVERY, STOP_GRACE, STORE_CLOSE_TIMEOUT},
    log,
    shell::{
        clock::unix_seconds,
        drive::{Drive, Make, Plane, refusal},
        http::{Front, OwnPaths},
        listener::{self, Doors},
        store_thread::StoreThread,
        tls,
    },
};

const DEFAULT_PORT: u16 = 6443;
/// Where a backup is read while the server runs (`coracle backup`); administrators only.
pub(crate) const BACKUP_PATH: &str = "/coracle/v1/backup";
/// How long the first start tries to store its join token before it goes on without.
const JOIN_TOKEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let mut signals =
        Signals::new([Signal::Term, Signal::Int]).context("cannot wait for SIGTERM and SIGINT")?;
    let stopped = async move {
        let interrupted = matches!(signals.next().await, Some(Ok(Signal::Int)));
        if interrupted { "SIGINT" } else { "SIGTERM" }.to_owned()
    };
    run_until(args, stopped, |_port| {})
}

/// Runs until `stopped` gives the reason; says when it is ready and on which port.
pub(crate) fn run_until(
    args: &ServeArgs,
    stopped: impl Future<Output = String>,
    ready: impl FnOnce(u16),
) -> anyhow::Result<()> {
    let started = Instant::now();
    let dir = DataDir::open_or_create(&args.dir.data_dir)?;
    let keys = Arc::new(RealKeys::open_or_create(&dir.path, unix_seconds())?);
    let store_path = dir.store_path();
    let open = move || Ok(Box::new(data_dir::open_store_upgrading(&store_path)?) as Box<dyn Store>);
    let (store, loaded, news) = StoreThread::start(Box::new(open), Some(LastGood::new(&dir.path)))?;
    let objects = loaded.entries.len();
    let listeners = listen(&args.listen)?;
    let first = listeners.first().context("no address to listen on")?.1;
    let reach = Reach::new(&listeners, &args.advertise);
    let config = Config {
        advertise_ips: reach.advertise_ips.iter().map(IpAddr::to_string).collect(),
        port: first.port(),
        platform: format!("linux/{}", go_architecture()),
        pod_cidr: args.pod_cidr.clone(),
        placement: args.placement.into(),
        ..Config::default()
    };
    let mut names = ServerNames::standard(&host_name(), &config.kubernetes_service_ip);
    reach.names.iter().for_each(|name| names.add(name));
    let identity = keys.server_identity(&names, unix_seconds())?;
    let tls = tls::server_config(&identity, keys.root_ca_pem())?;
    let making = keys.clone();
    let make: Make = Box::new(move |loaded, now| {
        let seed = random::<8>().map_or_else(|_| now.0, u64::from_be_bytes);
        let plane = ControlPlane::new(config.clone(), making.clone(), loaded, now, seed)?;
        Ok(Box::new(plane) as Box<dyn Plane>)
    });
    let local = Local::default();
    let server = Server { dir, keys, names, reach, listeners, first };
    // Not smol's own, under which two threads hand the sockets to each other and wake ten times for one request.
    smol::future::block_on(local.run(async {
        let drive = Drive::start(&local, make, store, loaded, news)
            .map_err(|e| anyhow!("the store cannot be used: {e}"))?;
        let stopped = async {
            let why = stopped.await;
            log::info!("stopping on {why}");
            Ok(())
        };
        let running = server.run(&local, &drive, tls, (started, objects), ready);
        let done = smol::future::or(stopped, running).await;
        let deadline = Instant::now() + STOP_GRACE;
        while drive.unanswered() > 0 && Instant::now() < deadline {
            smol::Timer::after(Duration::from_millis(10)).await;
        }
        drive.stop_store(STORE_CLOSE_TIMEOUT);
        done
    }))
}

struct Server {
    dir: DataDir,
    keys: Arc<RealKeys>,
    names: ServerNames,
    reach: Reach,
    listeners: Vec<(Async<TcpListener>, SocketAddr)>,
    first: SocketAddr,
}

impl Server {
    async fn run(
        self,
        local: &Local,
        drive: &Rc<Drive>,
        tls: Arc<rustls::ServerConfig>,
        (started, objects): (Instant, usize),
        ready: impl FnOnce(u16),
    ) -> anyhow::Result<()> {
        self.join_token(drive).await?;
        self.write_kubeconfig()?;
        let front = Front {
            drive: drive.clone(),
            body_bytes: Cell::new(0),
            own: own_paths(drive, &self.dir.path),
        };
        let doors = Doors::new(Rc::new(front), tls);
        for (listener, address) in self.listeners {
            log::info!("listening on {address}");
            local.spawn(listener::accept(listener, doors.clone(), local.clone()));
        }
        let took = started.elapsed().as_millis();
        log::info!("ready after {took} ms with {objects} stored objects");
        ready(self.first.port());
        loop {
            smol::Timer::after(CERTIFICATE_CHECK_EVERY).await;
            let renewed = self.keys.server_identity(&self.names, unix_seconds());
            let made = renewed.and_then(|identity| {
                let config = tls::server_config(&identity, self.keys.root_ca_pem())?;
                Ok((identity.is_new, config))
            });
            match made {
                Ok((true, config)) => {
                    log::info!("the server's certificate was made anew");
                    *doors.tls.borrow_mut() = config;
                }
                Ok((false, _)) => {}
                Err(error) => log::error!("the server's certificate: {error}"),
            }
        }
    }

    fn write_kubeconfig(&self) -> anyhow::Result<()> {
        let admin = self.keys.admin_identity(unix_seconds())?;
        let (host, port) = (&self.reach.kubeconfig_host, self.first.port());
        let text = kubeconfig(host, port, self.keys.root_ca_pem(), &admin);
        let path = self.dir.kubeconfig_path();
        // Unchanged is not written: a restart does not wear the flash.
        if std::fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
            files::write_private(&path, text.as_bytes())?;
        }
        Ok(())
    }

    /// Makes the first bootstrap token and the file to join with, once: a deleted token is not made again.
    async fn join_token(&self, drive: &Rc<Drive>) -> anyhow::Result<()> {
        let path = self.dir.join_token_path();
        if path.exists() {
            return Ok(());
        }
        let chars = |length| -> anyhow::Result<String> {
            let chars = token_chars(random::<64>()?, length);
            if chars.len() == length { Ok(chars) } else { Err(anyhow!("too few random bytes")) }
        };
        let token = JoinToken {
            ca_sha256: self.keys.root_sha256(),
            id: chars(TOKEN_ID_LEN)?,
            secret: chars(TOKEN_SECRET_LEN)?,
        };
        let request = HttpRequest {
            method: "POST".into(),
            path: "/api/v1/namespaces/kube-system/secrets".into(),
            headers: vec![
                ("content-type".into(), "application/json".into()),
                ("accept".into(), "application/json".into()),
                ("user-agent".into(), "coracle".into()),
            ],
            body: Body {
                bytes: bootstrap_secret(&token, "made by the first start", None).into_bytes(),
                ..Body::default()
            },
            ..HttpRequest::default()
        };
        let stored = async {
            let mut told = false;
            loop {
                let answer = drive.ask_as_admin(request.clone()).await;
                if answer.status == 201 {
                    return;
                }
                if !told {
                    log::debug!("the join token is not stored yet: {}", answer.status);
                    told = true;
                }
                // The namespace is being made.
                smol::Timer::after(Duration::from_millis(20)).await;
            }
        };
        if within(JOIN_TOKEN_TIMEOUT, stored).await.is_none() {
            log::error!("the join token could not be stored; the next start tries again");
            return Ok(());
        }
        files::write_private(&path, format!("{}\n", token.format()).as_bytes())?;
        Ok(())
    }
}

/// The Secret that makes a bootstrap token good for joining, until `expiration` (RFC 3339) where given.
pub(crate) fn bootstrap_secret(
    token: &JoinToken,
    description: &str,
    expiration: Option<&str>,
) -> String {
    let mut secret = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": format!("bootstrap-token-{}", token.id), "namespace": "kube-system" },
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "description": description,
            "token-id": token.id,
            "token-secret": token.secret,
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
        },
    });
    if let Some(data) = secret.get_mut("stringData").and_then(|data| data.as_object_mut()) {
        data.extend(expiration.map(|time| ("expiration".to_owned(), time.into())));
    }
    secret.to_string()
}

/// The paths that are the shell's own.
fn own_paths(drive: &Rc<Drive>, dir: &Path) -> OwnPaths {
    let (drive, dir) = (drive.clone(), dir.to_owned());
    Box::new(move |path, peer| {
        if path != BACKUP_PATH {
            return (path == "/readyz" && !drive.is_up()).then(|| -> Answering {
                let status = Status::new(503, "ServiceUnavailable", "the store has failed");
                Box::pin(async move { refusal(&status) })
            });
        }
        let (drive, dir) = (drive.clone(), dir.clone());
        let (known, allowed) = (peer.is_some(), is_admin(peer));
        Some(Box::pin(async move {
            if !known {
                return refusal(&Status::unauthorized());
            }
            if !allowed {
                let status = Status::new(403, "Forbidden", "backups are for system:masters");
                return refusal(&status);
            }
            match backup(&drive, &dir).await {
                Ok(bytes) => Response {
                    status: 200,
                    headers: vec![("content-type", "application/octet-stream".into())],
                    body: ResponseBody::Bytes(bytes.into()),
                },
                Err(error) => {
                    refusal(&Status::new(500, "InternalError", format!("no backup: {error:#}")))
                }
            }
        }))
    })
}

type Answering = std::pin::Pin<Box<dyn Future<Output = Response>>>;

fn is_admin(peer: Option<&Peer>) -> bool {
    peer.is_some_and(|peer| peer.organizations.iter().any(|group| group == "system:masters"))
}

async fn backup(drive: &Drive, dir: &Path) -> anyhow::Result<Vec<u8>> {
    let loaded = drive.load().await.map_err(|e| anyhow!(e))?;
    let archive = Archive { loaded, files: key_files(dir)? };
    let mut bytes = Vec::new();
    archive.write(&mut bytes)?;
    Ok(bytes)
}

fn listen(asked: &[SocketAddr]) -> anyhow::Result<Vec<(Async<TcpListener>, SocketAddr)>> {
    let bind = |address: SocketAddr| {
        let bound = listener::bind(address).and_then(|l| l.get_ref().local_addr().map(|a| (l, a)));
        bound.with_context(|| {
            format!("cannot listen on {address}; is something else there? give another --listen")
        })
    };
    if asked.is_empty() {
        let all = SocketAddr::from((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT));
        let only_v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT));
        return Ok(vec![bind(all).or_else(|_no_v6| bind(only_v4))?]);
    }
    asked.iter().map(|address| bind(*address)).collect()
}

/// Under which names and addresses the server is reached.
#[derive(Debug)]
struct Reach {
    /// For the certificate.
    names: Vec<String>,
    /// For agents and pods; at least one.
    advertise_ips: Vec<IpAddr>,
    /// For the administrator on this machine; as in a URL.
    kubeconfig_host: String,
}

impl Reach {
    fn new(listeners: &[(Async<TcpListener>, SocketAddr)], advertise: &[String]) -> Self {
        let bound: Vec<IpAddr> = listeners.iter().map(|(_, address)| address.ip()).collect();
        Self::of(&bound, advertise, own_addresses)
    }

    fn of(bound: &[IpAddr], advertise: &[String], own: impl Fn() -> Vec<IpAddr>) -> Self {
        let mut names: Vec<String> = advertise.to_vec();
        let mut ips: Vec<IpAddr> = advertise.iter().filter_map(|name| name.parse().ok()).collect();
        for ip in bound {
            let reached = if ip.is_unspecified() { own() } else { vec![*ip] };
            names.extend(reached.iter().map(IpAddr::to_string));
            ips.extend(reached);
        }
        let mut seen = std::collections::BTreeSet::new();
        ips.retain(|ip| seen.insert(*ip));
        if ips.is_empty() {
            ips.push(Ipv4Addr::LOCALHOST.into());
        }
        let local = bound.iter().find(|ip| ip.is_unspecified() || ip.is_loopback());
        let host = match local.or(bound.first()) {
            Some(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
            Some(IpAddr::V6(v6)) => format!("[{v6}]"),
            Some(IpAddr::V4(v4)) => v4.to_string(),
            None => Ipv4Addr::LOCALHOST.to_string(),
        };
        Self { names, advertise_ips: ips, kubeconfig_host: host }
    }
}

/// The addresses that this host would send from to the world; nothing is sent.
pub(crate) fn own_addresses() -> Vec<IpAddr> {
    // Documentation addresses (RFC 5737, RFC 3849): only the route is looked up.
    [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")]
        .into_iter()
        .filter_map(|(from, to)| {
            let socket = UdpSocket::bind(from).ok()?;
            socket.connect(to).ok()?;
            Some(socket.local_addr().ok()?.ip())
        })
        .filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
        .collect()
}

/// Lowercase; empty if it has none.
pub(crate) fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_ascii_lowercase())
        .unwrap_or_default()
}

/// This build's architecture as Go names it.
fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_server_is_reached() {
        let check = |bound: &[&str], advertise: &[&str], host: &str, ips: &[&str]| {
            let ip = |text: &&str| text.parse::<IpAddr>().unwrap();
            let bound: Vec<IpAddr> = bound.iter().map(ip).collect();
            let advertise: Vec<String> = advertise.iter().map(|s| (*s).to_owned()).collect();
            let reach = Reach::of(&bound, &advertise, || vec![ip(&"10.0.0.7")]);
            assert_eq!(reach.kubeconfig_host, host);
            assert_eq!(reach.advertise_ips, ips.iter().map(ip).collect::<Vec<_>>());
        };
        check(&["127.0.0.1"], &[], "127.0.0.1", &["127.0.0.1"]);
        check(&["::"], &[], "127.0.0.1", &["10.0.0.7"]);
        check(&["0.0.0.0"], &["pi.local", "1.2.3.4"], "127.0.0.1", &["1.2.3.4", "10.0.0.7"]);
        check(&["fd00::1"], &[], "[fd00::1]", &["fd00::1"]);
        check(&["10.0.0.7", "127.0.0.1"], &[], "127.0.0.1", &["10.0.0.7", "127.0.0.1"]);
    }
}
