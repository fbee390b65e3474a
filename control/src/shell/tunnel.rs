//! The nodes' tunnels: a connection that the agent opens and on which the roles then turn. Here the control plane is
//! the HTTP/2 client, and the agent serves logs and streams, each with flow control of its own.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use bytes::Bytes;
use coracle_api::Status;
use coracle_control_logic::{call::Peer, plane::Event};
use coracle_rt::{Timers, within};
use http_body_util::Empty;
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    client::conn::http2::{self, SendRequest},
    upgrade::OnUpgrade,
};

use super::{body::Body, drive::Drive};
use crate::{
    limits::{
        CONNECTION_WINDOW_BYTES, NODE_HEAD_TIMEOUT, PING_EVERY, PING_TIMEOUT, STREAM_SEND_BYTES,
        STREAM_WINDOW_BYTES,
    },
    log,
};

/// Where agents ask for it.
pub(crate) const PATH: &str = "/coracle/v1/tunnel";
/// What they ask for in `Upgrade`.
pub(crate) const PROTOCOL: &str = "coracle-tunnel";

/// The live tunnels, at most one a node.
#[derive(Default)]
pub(crate) struct Nodes {
    live: RefCell<BTreeMap<String, Tunnel>>,
    /// Numbers given to tunnels; none twice.
    numbers: Cell<u64>,
}

struct Tunnel {
    /// Tells this tunnel from an older or newer one of the node.
    number: u64,
    peer: Peer,
    sender: SendRequest<Empty<Bytes>>,
}

impl Nodes {
    /// Asks the node's agent and gives its answer when its head is there.
    pub(crate) async fn get(
        &self,
        node: &str,
        path_and_query: &str,
    ) -> Result<Response<Incoming>, Status> {
        let sender = self.live.borrow().get(node).map(|tunnel| tunnel.sender.clone());
        let unreachable = |why: &str| {
            let message = format!("node \"{node}\" cannot be asked: {why}");
            Status::new(503, "ServiceUnavailable", message)
        };
        let mut sender = sender.ok_or_else(|| {
            unreachable("its agent is not connected; is coracle-agent running there?")
        })?;
        let request = Request::get(format!("https://node{path_and_query}"))
            .body(Empty::new())
            .map_err(|e| Status::bad_request(format!("no path for a node: {e}")))?;
        let asked = async {
            sender.ready().await?;
            sender.send_request(request).await
        };
        match within(NODE_HEAD_TIMEOUT, asked).await {
            Some(Ok(response)) => Ok(response),
            Some(Err(error)) => {
                Err(unreachable(&format!("its connection broke: {}", log::Chain(&error))))
            }
            None => Err(unreachable("its agent does not answer")),
        }
    }

    /// Whose tunnels are live.
    pub(crate) fn connected(&self) -> Vec<Peer> {
        self.live.borrow().values().map(|tunnel| tunnel.peer.clone()).collect()
    }
}

/// The node of a client certificate.
fn node_name(peer: &Peer) -> Option<&str> {
    let name = peer.common_name.strip_prefix("system:node:")?;
    let of_nodes = peer.organizations.iter().any(|group| group == "system:nodes");
    (of_nodes && !name.is_empty()).then_some(name)
}

/// Takes the request for a tunnel: 101, and the connection turns.
pub(crate) fn accept(
    drive: &Rc<Drive>,
    peer: Option<Peer>,
    request: &mut Request<Incoming>,
) -> Result<Response<Body>, Box<Status>> {
    let Some(peer) = peer else {
        return Err(Status::new(401, "Unauthorized", "Unauthorized").into());
    };
    let Some(node) = node_name(&peer).map(str::to_owned) else {
        let message = format!("user \"{}\" is no node: tunnels are for nodes", peer.common_name);
        return Err(Status::new(403, "Forbidden", message).into());
    };
    let asked = request.headers().get("upgrade").and_then(|value| value.to_str().ok());
    if !asked.is_some_and(|value| value.eq_ignore_ascii_case(PROTOCOL)) {
        let message = format!("a tunnel is asked for over HTTP/1.1 with `Upgrade: {PROTOCOL}`");
        return Err(Status::bad_request(message).into());
    }
    let upgrade = hyper::upgrade::on(request);
    let serving = drive.clone();
    drive.local.spawn(async move { run(&serving, upgrade, node, peer).await });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("connection", "Upgrade")
        .header("upgrade", PROTOCOL)
        .body(Body::empty())
        .map_err(|e| Status::new(500, "InternalError", e.to_string()).into())
}

async fn run(drive: &Rc<Drive>, upgrade: OnUpgrade, node: String, peer: Peer) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            log::warning!("tunnel of node {node}: {}", log::Chain(&error));
            return;
        }
    };
    let handshake = http2::Builder::new(drive.local.clone())
        .timer(Timers)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(STREAM_SEND_BYTES)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .handshake(upgraded)
        .await;
    let (sender, connection) = match handshake {
        Ok(both) => both,
        Err(error) => {
            log::warning!("tunnel of node {node}: {}", log::Chain(&error));
            return;
        }
    };
    let number = {
        let mut live = drive.nodes.live.borrow_mut();
        let number = drive.nodes.numbers.get() + 1;
        drive.nodes.numbers.set(number);
        live.insert(node.clone(), Tunnel { number, peer: peer.clone(), sender });
        number
    };
    log::info!("node {node} is connected");
    drive.step(Event::NodeTunnel(peer.clone(), true));
    let ended = connection.await;
    let was_live = {
        let mut live = drive.nodes.live.borrow_mut();
        let same = live.get(&node).is_some_and(|tunnel| tunnel.number == number);
        if same {
            live.remove(&node);
        }
        same
    };
    if was_live {
        let why = ended.err().map_or("closed".to_owned(), |e| log::Chain(&e).to_string());
        log::info!("node {node} is no longer connected: {why}");
        drive.step(Event::NodeTunnel(peer, false));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nodes_have_tunnels() {
        let check = |name: &str, group: &str, want: Option<&str>| {
            let peer = Peer { common_name: name.into(), organizations: vec![group.into()] };
            assert_eq!(node_name(&peer), want);
        };
        check("system:node:pi1", "system:nodes", Some("pi1"));
        check("system:node:pi1", "system:masters", None);
        check("system:node:", "system:nodes", None);
        check("pi1", "system:nodes", None);
    }
}
