//! The second connection: the agent opens it, and then the roles turn. The control plane is the HTTP/2 client on it and
//! asks for logs; no port is open on the node.

use std::{convert::Infallible, rc::Rc, sync::Arc};

use bytes::Bytes;
use coracle_rt::{Io, Timers, sleep, within};
use http_body_util::{BodyExt as _, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Frame, Incoming},
    header,
    service::service_fn,
};
use smol::channel;

use super::{
    Shell,
    api::Api,
    chance::jitter,
    clock, limits,
    log::{info, warning},
    logs::{Reader, Wish},
};

type Body = UnsyncBoxBody<Bytes, Infallible>;

const PATH: &str = "/coracle/v1/tunnel";
const PROTOCOL: &str = "coracle-tunnel";

/// Keeps a tunnel open for ever.
pub(crate) async fn keep(shell: Rc<Shell>, api: Api) {
    let mut delay = limits::RECONNECT.0;
    loop {
        api.connected().await;
        let began = clock::now().mono;
        if let Err(why) = serve(&shell, &api).await {
            warning!("tunnel to the control plane: {why}; opening it again");
        }
        if clock::now().mono.since(began) > 60_000 {
            delay = limits::RECONNECT.0;
        }
        sleep(jitter(delay)).await;
        delay = (delay * 2).min(limits::RECONNECT.1);
    }
}

async fn serve(shell: &Rc<Shell>, api: &Api) -> Result<(), String> {
    let mut tls = (*api.tls()).clone();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let (stream, _) =
        api.server().connect(Arc::new(tls)).await.map_err(|error| error.to_string())?;
    let opening = async {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(Io(stream))
                .await
                .map_err(|error| error.to_string())?;
        shell.member.local.spawn(async move {
            // Ends when the connection is handed over, or breaks: either shows below.
            let _ = connection.with_upgrades().await;
        });
        let request = Request::get(PATH)
            .header(header::HOST, api.server().authority())
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, PROTOCOL)
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(format!("the control plane answered {}", response.status()));
        }
        hyper::upgrade::on(response).await.map_err(|error| error.to_string())
    };
    let upgraded = within(limits::CONNECT_TIMEOUT, opening).await.ok_or("it took too long")??;
    info!("tunnel to the control plane is open");
    let answering = Rc::clone(shell);
    let service = service_fn(move |request| {
        let shell = Rc::clone(&answering);
        async move { Ok::<_, Infallible>(answer(&shell, &request)) }
    });
    hyper::server::conn::http2::Builder::new(shell.member.local.clone())
        .timer(Timers)
        .max_concurrent_streams(limits::TUNNEL_STREAMS_MAX)
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(256 * 1024)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(limits::TUNNEL_PING_AFTER)
        .keep_alive_timeout(limits::PING_TIMEOUT)
        .serve_connection(upgraded, service)
        .await
        .map_err(|error| error.to_string())
}

fn answer(shell: &Rc<Shell>, request: &Request<Incoming>) -> Response<Body> {
    let path = request.uri().path();
    let mut parts = path.trim_start_matches('/').split('/');
    let kind = parts.next().unwrap_or_default();
    match (request.method(), kind) {
        (&Method::GET, "containerLogs") => {
            match (parts.next(), parts.next(), parts.next(), parts.next()) {
                (Some(namespace), Some(pod), Some(container), None) => logs(
                    shell,
                    namespace,
                    pod,
                    container,
                    request.uri().query().unwrap_or_default(),
                ),
                _ => said(
                    StatusCode::NOT_FOUND,
                    "the path is /containerLogs/NAMESPACE/POD/CONTAINER",
                ),
            }
        }
        (&Method::GET, "healthz") => said(StatusCode::OK, "ok"),
        (_, "exec" | "attach" | "portForward" | "run") => said(
            StatusCode::NOT_IMPLEMENTED,
            &format!("{kind} is not implemented by this agent yet"),
        ),
        _ => said(StatusCode::NOT_FOUND, &format!("this agent has no {path}")),
    }
}

fn said(code: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Full::from(text.to_owned()).boxed_unsync());
    *response.status_mut() = code;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

fn logs(
    shell: &Rc<Shell>,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &str,
) -> Response<Body> {
    let now_us = clock::wall_ms().saturating_mul(1000);
    let wish = match Wish::parse(query, now_us) {
        Ok(wish) => wish,
        Err(why) => return said(StatusCode::BAD_REQUEST, &why),
    };
    let agent = shell.member.agent.borrow();
    let found =
        agent.pods().find(|known| known.meta.namespace == namespace && known.meta.name == pod);
    let Some(found) = found else {
        return said(StatusCode::NOT_FOUND, &format!("pod \"{pod}\" not found on this node"));
    };
    if found.container(container).is_none() {
        let text = format!("container {container} is not valid for pod {pod}");
        return said(StatusCode::BAD_REQUEST, &text);
    }
    let uid = found.uid.clone();
    let attempt = match (agent.attempts(&uid, container), wish.previous) {
        (Some((_, Some(before))), true) => before,
        (Some((latest, _)), false) => latest,
        (_, true) => {
            let text =
                format!("previous terminated container \"{container}\" in pod \"{pod}\" not found");
            return said(StatusCode::BAD_REQUEST, &text);
        }
        (None, false) => {
            let text = format!("container \"{container}\" in pod \"{pod}\" is waiting to start");
            return said(StatusCode::BAD_REQUEST, &text);
        }
    };
    drop(agent);
    let path = shell.state.log(&uid, container, attempt);
    let (send, receive) = channel::bounded::<Result<Frame<Bytes>, Infallible>>(1);
    let reading = Rc::clone(shell);
    let container = container.to_owned();
    shell.member.local.spawn(async move {
        let follow = wish.follow && !wish.previous;
        let opened = reading.blocking(move || Reader::open(&path, wish)).await;
        let mut reader = match opened {
            Ok(reader) => reader,
            Err(error) => {
                warning!("log of container {container} of pod {uid}: {error}");
                return;
            }
        };
        loop {
            // Asked before the read: what was written before the end is still read.
            let running = reading.member.agent.borrow().is_running(&uid, &container, attempt);
            let (back, next) = reading
                .blocking(move || {
                    let next = reader.next();
                    (reader, next)
                })
                .await;
            reader = back;
            match next {
                Ok(Some(text)) if text.is_empty() => {
                    if !follow || !running || send.is_closed() {
                        return;
                    }
                    sleep(limits::LOG_POLL).await;
                }
                Ok(Some(text)) => {
                    if send.send(Ok(Frame::data(text.into()))).await.is_err() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    warning!("log of container {container} of pod {uid}: {error}");
                    return;
                }
            }
        }
    });
    let mut response = Response::new(StreamBody::new(receive).boxed_unsync());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
    response
}
