//! Texts of the files that every container gets: /etc/hosts and /etc/resolv.conf.

use alloc::{format, string::String, vec::Vec};

use crate::spec::{Pod, PodSpec};

/// Name servers, search domains and options that a resolver takes; glibc reads no more.
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;

/// /etc/hosts of a pod with these addresses. With the host's network, `node_hosts` is the node's own file.
pub fn hosts(pod: &Pod, ips: &[String], node_hosts: &str) -> String {
    let mut text = String::from("# Written by coracle-agent.\n");
    if pod.spec.host_network {
        text.push_str(node_hosts);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    } else {
        text.push_str("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
        text.push_str("fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n");
        let host = pod.hostname();
        for ip in ips {
            if pod.spec.subdomain.is_empty() {
                text.push_str(&format!("{ip}\t{host}\n"));
            } else {
                let (subdomain, namespace) = (&pod.spec.subdomain, &pod.meta.namespace);
                text.push_str(&format!(
                    "{ip}\t{host}.{subdomain}.{namespace}.svc.cluster.local\t{host}\n"
                ));
            }
        }
    }
    if !pod.spec.host_aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in &pod.spec.host_aliases {
            text.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.join("\t")));
        }
    }
    text
}

/// /etc/resolv.conf: the node's, or nothing with policy `None`, and the pod's `dnsConfig` over it.
pub fn resolv_conf(spec: &PodSpec, node: &str) -> String {
    let own = &spec.dns_config;
    let mut nameservers: Vec<&str> = own.nameservers.iter().map(String::as_str).collect();
    let mut searches: Vec<&str> = Vec::new();
    let mut options: Vec<String> = Vec::new();
    if spec.dns_policy != "None" {
        let mut from_node: Vec<&str> = Vec::new();
        for line in node.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => from_node.extend(words.next()),
                Some("search" | "domain") => searches = words.collect(),
                Some("options") => options = words.map(String::from).collect(),
                _ => {}
            }
        }
        from_node.append(&mut nameservers);
        nameservers = from_node;
    }
    for search in &own.searches {
        if !searches.contains(&search.as_str()) {
            searches.push(search);
        }
    }
    for option in &own.options {
        options.retain(|known| known.split(':').next() != Some(&option.name));
        options.push(match &option.value {
            Some(value) if !value.is_empty() => format!("{}:{value}", option.name),
            _ => option.name.clone(),
        });
    }
    let mut text = String::new();
    for nameserver in nameservers.iter().take(NAMESERVERS_MAX) {
        text.push_str(&format!("nameserver {nameserver}\n"));
    }
    searches.truncate(SEARCHES_MAX);
    if !searches.is_empty() {
        text.push_str(&format!("search {}\n", searches.join(" ")));
    }
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn resolvers_are_the_nodes_and_the_pods_over_them() {
        let node = "# comment\nnameserver 192.0.2.53\nsearch lan\noptions ndots:1 edns0\n";
        let check = |spec: Value, want: &str| {
            let spec: PodSpec = serde_json::from_value(spec).unwrap();
            assert_eq!(resolv_conf(&spec, node), want);
        };
        check(json!({}), "nameserver 192.0.2.53\nsearch lan\noptions ndots:1 edns0\n");
        check(
            json!({"dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["a.b"], "options": [{"name": "ndots", "value": "5"}]}}),
            "nameserver 192.0.2.53\nnameserver 1.1.1.1\nsearch lan a.b\noptions edns0 ndots:5\n",
        );
        check(
            json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"]}}),
            "nameserver 1.1.1.1\n",
        );
    }

    #[test]
    fn hosts_name_the_pod() {
        let pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"hostname": "h", "subdomain": "s", "hostAliases": [{"ip": "192.0.2.9", "hostnames": ["x", "y"]}]}});
        let pod = Pod::parse(serde_json::to_vec(&pod).unwrap().into()).unwrap();
        let text = hosts(&pod, &["10.42.0.2".into()], "");
        assert!(text.contains("10.42.0.2\th.s.n.svc.cluster.local\th\n"), "{text}");
        assert!(text.ends_with("192.0.2.9\tx\ty\n"), "{text}");
    }
}
