//! The quick start's service: answers every GET on port 9876 with its host name, pod IP and `VERSION` as JSON, `/healthz`
//! with `ok`, logs each request to stdout and exits 0 on SIGTERM. `PORT` chooses another port.
//!
//! Just enough HTTP/1.1 (RFC 9112) for that: one request a connection, bodies are not read.

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::ExitCode,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::SignalFd,
};

/// Connections at one time; further ones are closed at once.
const CONNECTIONS_MAX: usize = 64;
/// Bytes of a request's head.
const HEAD_BYTES_MAX: u64 = 8192;
/// A client that says nothing for so long is hung up on.
const SILENCE_MAX: Duration = Duration::from_secs(10);

static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("testing-service: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    // Blocked before the first thread starts, so that all threads have it blocked and the descriptor gets it.
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTERM);
    stop.add(Signal::SIGINT);
    stop.thread_block()?;
    let signals = SignalFd::new(&stop)?;

    let port = env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(9876);
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    log(&format!("listening on port {port}"));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if CONNECTIONS_MAX <= CONNECTIONS.load(Ordering::Relaxed) {
                continue;
            }
            CONNECTIONS.fetch_add(1, Ordering::Relaxed);
            thread::spawn(move || {
                if let Err(error) = answer(&stream) {
                    log(&format!("request failed: {error}"));
                }
                CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    let signal = signals.read_signal()?.map_or(0, |info| info.ssi_signo);
    log(&format!("signal {signal}: good bye"));
    Ok(())
}

fn answer(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    let mut lines = BufReader::new(stream.take(HEAD_BYTES_MAX)).lines();
    let Some(first) = lines.next() else { return Ok(()) };
    let first = first?;
    // The rest of the head, so that the client is not reset while it still writes.
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or("/"));
    let (status, kind, body) = match (method, path) {
        ("GET" | "HEAD", "/healthz") => ("200 OK", "text/plain", "ok\n".to_owned()),
        ("GET" | "HEAD", _) => ("200 OK", "application/json", info(stream)?),
        _ => ("405 Method Not Allowed", "text/plain", "only GET\n".to_owned()),
    };
    log(&format!("{} {method} {path} {status}", stream.peer_addr()?.ip()));
    let length = body.len();
    let body = if method == "HEAD" { "" } else { &body };
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

fn info(stream: &TcpStream) -> io::Result<String> {
    let host = fs::read_to_string("/proc/sys/kernel/hostname")?;
    let version = env::var("VERSION").unwrap_or_default();
    let (host, version) = (quoted(host.trim()), quoted(&version));
    let ip = stream.local_addr()?.ip();
    Ok(format!("{{\"host\":{host},\"ip\":\"{ip}\",\"version\":{version}}}\n"))
}

/// A JSON string (RFC 8259, 7).
fn quoted(text: &str) -> String {
    let mut json = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            c if c < ' ' => json.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => json.push(c),
        }
    }
    json.push('"');
    json
}

fn log(line: &str) {
    // Whoever reads the log may have gone; the service goes on.
    let _ = writeln!(io::stdout().lock(), "{line}");
}
