//! The services of the cluster, as far as containers are told of them in their environment; kept on disk for a start
//! with no server in sight.

use std::{cell::RefCell, collections::BTreeMap, fs, net::Ipv4Addr};

use coracle_agent_logic::{Pod, env::ServiceFacts};
use coracle_disk::{self as disk, Sync};
use serde_json::Value;

use super::{api::Server, limits, log::warning, state::StateDir, watch::Seen};

/// Namespace and name.
type Key = (String, String);

/// Services by namespace and name.
pub(crate) struct Services {
    state: StateDir,
    known: RefCell<BTreeMap<Key, ServiceFacts>>,
}

type Stored = Vec<(String, String, String, Vec<(String, u16, String)>)>;

impl Services {
    pub(crate) fn open(state: &StateDir) -> Self {
        let bytes = fs::read(state.agent("services.json")).unwrap_or_default();
        let stored: Stored = serde_json::from_slice(&bytes).unwrap_or_default();
        let known = stored.into_iter().map(|(namespace, name, cluster_ip, ports)| {
            ((namespace, name.clone()), ServiceFacts { name, cluster_ip, ports })
        });
        Self { state: state.clone(), known: RefCell::new(known.collect()) }
    }

    /// Takes what the watch saw.
    pub(crate) fn take(&self, seen: Seen) {
        let before = self.known.borrow().clone();
        {
            let mut known = self.known.borrow_mut();
            match seen {
                Seen::Listed(items) => *known = items.iter().filter_map(facts).collect(),
                Seen::Changed(item) => match facts(&item) {
                    Some((key, facts)) => {
                        known.insert(key, facts);
                    }
                    // It became headless, or lost its ports.
                    None => remove(&mut known, &item),
                },
                Seen::Gone(item) => remove(&mut known, &item),
            }
            if known.len() > limits::SERVICES_MAX {
                warning!(
                    "more than {} services: containers are not told of the last",
                    limits::SERVICES_MAX
                );
                while known.len() > limits::SERVICES_MAX {
                    known.pop_last();
                }
            }
        }
        if *self.known.borrow() != before {
            self.save();
        }
    }

    fn save(&self) {
        let known = self.known.borrow();
        let stored: Stored = known
            .iter()
            .map(|((namespace, name), facts)| {
                (namespace.clone(), name.clone(), facts.cluster_ip.clone(), facts.ports.clone())
            })
            .collect();
        let bytes = serde_json::to_vec(&stored).unwrap_or_default();
        if let Err(error) =
            disk::replace(&self.state.agent("services.json"), &bytes, 0o600, Sync::Later)
        {
            warning!("cannot keep the services: {error}");
        }
    }

    /// Address and port of `default/kubernetes`.
    pub(crate) fn kubernetes(&self) -> Option<(Ipv4Addr, u16)> {
        let known = self.known.borrow();
        let facts = known.get(&("default".into(), "kubernetes".into()))?;
        Some((facts.cluster_ip.parse().ok()?, facts.ports.first()?.1))
    }

    /// What a container of the pod is told: the API server always, others of its namespace if it wants.
    ///
    /// With the node's network the service address leads nowhere (it is translated for pods only): the server's own is
    /// given.
    pub(crate) fn of(&self, pod: &Pod, server: &Server) -> Vec<ServiceFacts> {
        let known = self.known.borrow();
        let api_key: Key = ("default".into(), "kubernetes".into());
        let mut found: Vec<ServiceFacts> = known
            .iter()
            .filter(|((namespace, _), _)| pod.service_links() && *namespace == pod.meta.namespace)
            .filter(|(key, _)| **key != api_key)
            .map(|(_, facts)| facts.clone())
            .collect();
        if pod.spec.host_network {
            found.push(ServiceFacts {
                name: "kubernetes".into(),
                cluster_ip: server.host.clone(),
                ports: vec![("https".into(), server.port, "TCP".into())],
            });
        } else {
            found.extend(known.get(&api_key).cloned());
        }
        found
    }
}

fn remove(known: &mut BTreeMap<Key, ServiceFacts>, item: &Value) {
    let text =
        |path: &str| item.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    known.remove(&(text("/metadata/namespace"), text("/metadata/name")));
}

fn facts(item: &Value) -> Option<(Key, ServiceFacts)> {
    let text = |path: &str| item.pointer(path).and_then(Value::as_str);
    let cluster_ip = text("/spec/clusterIP").filter(|ip| !ip.is_empty() && *ip != "None")?;
    let ports = item.pointer("/spec/ports")?.as_array()?;
    let ports: Vec<(String, u16, String)> = ports
        .iter()
        .filter_map(|port| {
            let text = |name: &str| port.get(name).and_then(Value::as_str);
            let number = u16::try_from(port.get("port")?.as_u64()?).ok()?;
            Some((
                text("name").unwrap_or_default().into(),
                number,
                text("protocol").unwrap_or("TCP").into(),
            ))
        })
        .collect();
    let name = text("/metadata/name")?.to_owned();
    let key = (text("/metadata/namespace")?.to_owned(), name.clone());
    Some((key, ServiceFacts { name, cluster_ip: cluster_ip.into(), ports }))
}
