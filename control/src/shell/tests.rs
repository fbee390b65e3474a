//! The shell on real sockets, with a small control plane that answers by path.

mod client;
mod crowds;
mod stub;

use std::{rc::Rc, sync::Arc, time::Duration};

use client::{Client, Dir, next_frame};
use coracle_api::Status;
use coracle_control_logic::plane::{Config, ControlPlane};
use coracle_keys::{
    CertRequest, CsrFacts, Keys,
    ring::{Identity, RealKeys, ServerNames, new_key_pem, request_pem},
};
use coracle_rt::{Local, within};
use coracle_store::{
    Revision,
    faults::FaultyDisk,
    mem::{Fault, MemDisk, MemStore},
    recording::{Log, Mark, Recording},
    redb::RedbStore,
};
use stub::Stub;

use super::{
    clock::unix_seconds,
    drive::{Drive, Make, Plane},
    http::Front,
    listener::{self, Doors},
    store_thread::{Open, StoreThread},
    tls,
};
use crate::limits::BODY_BYTES_MAX;

const PATIENCE: Duration = Duration::from_secs(20);

/// A server on a free port.
struct Server {
    port: u16,
    keys: Arc<RealKeys>,
    disk: MemDisk,
    stub: stub::Seen,
    drive: Rc<Drive>,
    _dir: Dir,
}

impl Server {
    /// With the stub on a store in memory.
    fn start(local: &Local, name: &str) -> Self {
        let disk = MemDisk::default();
        let opened = disk.clone();
        let seen = stub::Seen::default();
        let shared = seen.clone();
        let mut server = Self::start_with(
            local,
            name,
            Box::new(move || Ok(Box::new(MemStore::open(&opened)))),
            |_keys| {
                Box::new(move |loaded, _now| {
                    Ok(Box::new(Stub::new(&loaded, shared.clone())) as Box<dyn Plane>)
                })
            },
        );
        server.disk = disk;
        server.stub = seen;
        server
    }

    fn start_with(
        local: &Local,
        name: &str,
        open: Open,
        make: impl FnOnce(Arc<RealKeys>) -> Make,
    ) -> Self {
        let dir = Dir::new(name);
        let keys = Arc::new(RealKeys::open_or_create(&dir.0, unix_seconds()).unwrap());
        let names = ServerNames::standard("here", "10.43.0.1");
        let identity = keys.server_identity(&names, unix_seconds()).unwrap();
        let config = tls::server_config(&identity, keys.root_ca_pem()).unwrap();
        let (store, loaded, news) = StoreThread::start(open, None).unwrap();
        let make = make(keys.clone());
        let drive = Drive::start(local, make, store, loaded, news).unwrap();
        let front = Front {
            drive: drive.clone(),
            body_bytes: std::cell::Cell::new(0),
            own: Box::new(|_, _| None),
        };
        let doors = Doors::new(Rc::new(front), config);
        let socket = listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = socket.get_ref().local_addr().unwrap().port();
        local.spawn(listener::accept(socket, doors, local.clone()));
        Self { port, keys, disk: MemDisk::default(), stub: stub::Seen::default(), drive, _dir: dir }
    }

    /// A certificate of this server's CA.
    fn identity(&self, name: &str, group: &str, seconds: (i64, i64)) -> Identity {
        let key_pem = new_key_pem().unwrap();
        let facts = CsrFacts {
            common_name: name.into(),
            organizations: vec![group.into()],
            ..CsrFacts::default()
        };
        let now = unix_seconds();
        let chain_pem = self.keys.issue(&CertRequest {
            csr_pem: &request_pem(&facts, &key_pem).unwrap(),
            not_before_s: now + seconds.0,
            not_after_s: now + seconds.1,
            client: true,
            server: false,
            serial: [5; 16],
        });
        Identity { key_pem, chain_pem: chain_pem.unwrap(), is_new: true }
    }

    fn admin(&self) -> Identity {
        self.keys.admin_identity(unix_seconds()).unwrap()
    }

    async fn client(&self, local: &Local, h2: bool) -> Client {
        Client::connect(local, self.port, &self.keys, Some(&self.admin()), h2).await.unwrap()
    }
}

fn run<F: Future<Output = ()>>(test: impl FnOnce(Local) -> F) {
    let local = Local::default();
    let done = smol::block_on(local.run(within(PATIENCE, test(local.clone()))));
    assert!(done.is_some(), "the test took longer than {PATIENCE:?}");
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = async {
        while !holds() {
            smol::Timer::after(Duration::from_millis(2)).await;
        }
    };
    assert!(within(PATIENCE / 2, waited).await.is_some(), "never: {what}");
}

#[test]
fn requests_over_both_versions_of_http() {
    run(async |local| {
        let server = Server::start(&local, "versions");
        for h2 in [false, true] {
            let mut client = server.client(&local, h2).await;
            let (status, body) = client.get("/who").await;
            assert_eq!((status, body.as_str()), (200, "kubernetes-admin system:masters"));
            let (status, body) = client.send("POST", "/echo", "text/plain", b"hello").await;
            assert_eq!((status, body.as_str()), (200, "hello"));
            let (status, body) = client.send("POST", "/echo", "application/yaml", b"a: on").await;
            assert_eq!((status, body.as_str()), (200, r#"{"a":true}"#));
            let (status, body) = client.send("POST", "/echo", "application/yaml", b"a: [").await;
            assert_eq!(status, 400);
            let told: Status = serde_json::from_str(&body).unwrap();
            assert!(told.message.contains("YAML"), "{told:?}");
            let (status, _) = client.get("/big").await;
            assert_eq!(status, 200);
        }
    });
}

#[test]
fn bodies_have_a_limit() {
    run(async |local| {
        let server = Server::start(&local, "limits");
        for h2 in [false, true] {
            let mut client = server.client(&local, h2).await;
            let fits = vec![b'x'; BODY_BYTES_MAX];
            let (status, body) = client.send("POST", "/echo", "text/plain", &fits).await;
            assert_eq!((status, body.len()), (200, fits.len()));
            let over = vec![b'x'; BODY_BYTES_MAX + 1];
            let (status, body) = client.send("POST", "/echo", "text/plain", &over).await;
            assert_eq!(status, 413, "{body}");
            assert!(body.contains("RequestEntityTooLarge"));
        }
        let mut client = server.client(&local, false).await;
        let long = format!("/who?{}", "q".repeat(crate::limits::HEAD_BYTES_MAX + 100));
        let (status, _) = client.get(&long).await;
        assert!([414, 431].contains(&status), "{status}");
    });
}

#[test]
fn certificates_of_others_do_not_get_in() {
    run(async |local| {
        let server = Server::start(&local, "certificates");
        let connect = async |identity: Option<&Identity>| -> Result<String, String> {
            let mut client =
                Client::connect(&local, server.port, &server.keys, identity, false).await?;
            let (status, body) = client.try_send("GET", "/who", "", b"").await?;
            Ok(format!("{status} {body}"))
        };
        assert_eq!(connect(None).await.unwrap(), "200 nobody");
        let good = server.identity("jane", "dev", (-60, 60));
        assert_eq!(connect(Some(&good)).await.unwrap(), "200 jane dev");
        let expired = server.identity("jane", "dev", (-600, -300));
        assert!(connect(Some(&expired)).await.is_err());
        let early = server.identity("jane", "dev", (300, 600));
        assert!(connect(Some(&early)).await.is_err());
        let other_dir = Dir::new("certificates-other");
        let other = RealKeys::open_or_create(&other_dir.0, unix_seconds()).unwrap();
        let foreign = other.admin_identity(unix_seconds()).unwrap();
        assert!(connect(Some(&foreign)).await.is_err(), "another cluster's administrator");
        let server_cert = server
            .keys
            .server_identity(&ServerNames::standard("here", "10.43.0.1"), unix_seconds());
        assert!(connect(Some(&server_cert.unwrap())).await.is_err(), "a server's certificate");
        assert_eq!(connect(Some(&good)).await.unwrap(), "200 jane dev", "others are still served");
    });
}

#[test]
fn lists_are_made_as_they_are_read() {
    run(async |local| {
        let server = Server::start(&local, "lists");
        for h2 in [false, true] {
            let mut client = server.client(&local, h2).await;
            let mut slow = client.start("GET", "/list").await.unwrap();
            let pulled = || server.stub.pulled();
            until("the first parts are made", || pulled() > 0).await;
            // The rest waits for the reader: sockets and windows hold a bounded part of the 64 MB.
            let mut last = 0;
            loop {
                smol::Timer::after(Duration::from_millis(100)).await;
                if pulled() == last {
                    break;
                }
                last = pulled();
            }
            assert!(last < stub::LIST_PARTS / 2, "h2 {h2}: {last} parts made unread");
            let mut other = server.client(&local, h2).await;
            assert_eq!(other.get("/who").await.0, 200, "others are served meanwhile");
            let mut bytes = 0;
            while let Some(frame) = next_frame(slow.body_mut()).await {
                bytes += frame.len();
            }
            assert_eq!(bytes, stub::LIST_PARTS * stub::LIST_PART_BYTES);
            server.stub.reset_pulled();
        }
    });
}

#[test]
fn watches_are_woken_and_closed() {
    run(async |local| {
        let server = Server::start(&local, "watches");
        for h2 in [false, true] {
            let mut client = server.client(&local, h2).await;
            let mut watch = client.start("GET", "/watch").await.unwrap();
            assert_eq!(next_frame(watch.body_mut()).await.unwrap(), "first\n");
            let mut other = server.client(&local, h2).await;
            for n in 0..3 {
                other.send("POST", "/poke", "text/plain", format!("{n}\n").as_bytes()).await;
                assert_eq!(next_frame(watch.body_mut()).await.unwrap(), format!("{n}\n"));
            }
            assert_eq!(server.stub.open_watches(), 1);
            drop(watch);
            drop(client);
            until("the plane learns that the watcher is gone", || server.stub.open_watches() == 0)
                .await;
        }
    });
}

#[test]
fn a_failed_store_closes_watches_and_is_opened_again() {
    run(async |local| {
        let server = Server::start(&local, "failed");
        let mut client = server.client(&local, true).await;
        assert_eq!(client.send("POST", "/put", "text/plain", b"a").await, (200, "1".into()));
        let mut watcher = server.client(&local, true).await;
        let mut watch = watcher.start("GET", "/watch").await.unwrap();
        assert_eq!(next_frame(watch.body_mut()).await.unwrap(), "first\n");
        server.disk.fail_next(Fault::Kept);
        let (status, body) = client.send("POST", "/put", "text/plain", b"b").await;
        assert_eq!(status, 500);
        assert!(body.contains("not known whether this was saved"), "{body}");
        assert_eq!(next_frame(watch.body_mut()).await, None, "the watch is closed");
        until("the store is open again", || server.drive.is_up()).await;
        let (status, body) = client.get("/objects").await;
        assert_eq!((status, body.as_str()), (200, "2"), "what was kept is loaded");
        assert_eq!(client.send("POST", "/put", "text/plain", b"c").await.0, 200);
    });
}

#[test]
fn waiting_batches_share_a_commit_and_are_answered_in_order() {
    run(async |local| {
        let server = Server::start(&local, "batches");
        let mut all = Vec::new();
        for n in 0..40 {
            let mut client = server.client(&local, true).await;
            all.push(async move {
                client.send("POST", "/put", "text/plain", format!("k{n}").as_bytes()).await
            });
        }
        let tasks: Vec<_> = all
            .into_iter()
            .map(|task| {
                let (sender, receiver) = smol::channel::bounded(1);
                local.spawn(async move { sender.send(task.await).await.unwrap() });
                receiver
            })
            .collect();
        for task in tasks {
            assert_eq!(task.recv().await.unwrap().0, 200);
        }
        let mut client = server.client(&local, false).await;
        assert_eq!(client.get("/objects").await.1, "40");
    });
}

#[test]
fn a_node_serves_on_its_tunnel() {
    run(async |local| {
        let server = Server::start(&local, "tunnel");
        let mut client = server.client(&local, true).await;
        let (status, body) = client.get("/logs").await;
        assert_eq!(status, 503);
        assert!(body.contains("its agent is not connected"), "{body}");

        let agent = server.identity("system:node:pi1", "system:nodes", (-60, 60));
        let node = client::Node::connect(&local, server.port, &server.keys, &agent).await.unwrap();
        until("the plane knows", || server.stub.tunnels() == 1).await;
        let mut answer = client.start("GET", "/logs").await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(
            next_frame(answer.body_mut()).await.unwrap(),
            "/containerLogs/a/b/c?follow=true\n"
        );
        node.say("more\n");
        assert_eq!(next_frame(answer.body_mut()).await.unwrap(), "more\n");
        drop(answer);
        drop(client);
        until("the node learns that the reader is gone", || node.streams_cancelled() == 1).await;

        let newer = client::Node::connect(&local, server.port, &server.keys, &agent).await.unwrap();
        until("the newer tunnel is known", || server.stub.tunnels_opened() == 2).await;
        let mut client = server.client(&local, false).await;
        let mut answer = client.start("GET", "/logs").await.unwrap();
        let frame = next_frame(answer.body_mut()).await.unwrap();
        assert!(frame.starts_with("/containerLogs"), "{frame}");
        assert_eq!(newer.streams(), 1, "the newest tunnel is used");

        let nobody = server.identity("jane", "system:nodes", (-60, 60));
        let refused = client::Node::connect(&local, server.port, &server.keys, &nobody).await;
        assert!(refused.err().unwrap().contains("403"));
    });
}

/// S1, whole: the real control plane on redb, writers side by side, a disk that writes down its syncs.
#[test]
fn no_write_is_answered_before_its_sync() {
    run(async |local| {
        let (disk, log) = (FaultyDisk::default(), Log::default());
        disk.record(&log);
        let recorded = log.clone();
        let open: Open = Box::new(move || {
            let store = RedbStore::with_backend(disk.backend(), "the test's disk")?;
            Ok(Box::new(Recording::new(store, &recorded)))
        });
        let server = Server::start_with(&local, "synced", open, |keys| {
            Box::new(move |loaded, now| {
                let made = ControlPlane::new(Config::default(), keys.clone(), loaded, now, 7)?;
                Ok(Box::new(made) as Box<dyn Plane>)
            })
        });
        let mut first = server.client(&local, true).await;
        let ready = async {
            while first.get("/api/v1/namespaces/default").await.0 != 200 {
                smol::Timer::after(Duration::from_millis(10)).await;
            }
        };
        assert!(within(PATIENCE / 2, ready).await.is_some(), "the default namespace");
        let done = std::rc::Rc::new(std::cell::Cell::new(0));
        const WRITERS: usize = 6;
        const WRITES: usize = 15;
        for writer in 0..WRITERS {
            let mut client = server.client(&local, writer % 2 == 0).await;
            let (log, done) = (log.clone(), done.clone());
            local.spawn(async move {
                for n in 0..WRITES {
                    let body = serde_json::json!({
                        "apiVersion": "v1", "kind": "ConfigMap",
                        "metadata": { "name": format!("w{writer}-{n}") },
                        "data": { "k": "v".repeat(200) },
                    });
                    let path = "/api/v1/namespaces/default/configmaps";
                    let bytes = body.to_string().into_bytes();
                    let (status, answer) =
                        client.send("POST", path, "application/json", &bytes).await;
                    assert_eq!(status, 201, "{answer}");
                    let object: serde_json::Value = serde_json::from_str(&answer).unwrap();
                    let number = object["metadata"]["resourceVersion"].as_str().unwrap();
                    log.push(Mark::Answered(Revision(number.parse().unwrap())));
                    done.set(done.get() + 1);
                }
            });
        }
        until("all writes are answered", || done.get() == WRITERS * WRITES).await;
        assert_eq!(log.first_early_answer(), None);
        let syncs = log.marks().iter().filter(|mark| **mark == Mark::Synced).count();
        assert!(syncs < 3 * WRITERS * WRITES, "batches share syncs: {syncs}");
    });
}
