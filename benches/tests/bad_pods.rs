//! Pods that cannot run: the image, the command, a field that is not implemented, a full disk. Each says why in its
//! status and in an event, and the node keeps nothing of it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    path::Path,
    process::Command,
};

use anyhow::{Result, ensure};
use coracle_benches::{
    cluster::{Cluster, project, wait_for},
    disk::SmallDisk,
};
use serde_json::{Value, json};

/// Runs a script there and gives what it printed.
fn sh(dir: &Path, script: &str) -> String {
    let output = Command::new("sh")
        .args(["-c", &format!("set -e; {script}")])
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// What the registry gives, by path below `/v2/`: the length that it promises, and the bytes that it sends.
#[derive(Default)]
struct Shelf(BTreeMap<String, (usize, Vec<u8>)>);

impl Shelf {
    fn put(&mut self, path: &str, bytes: Vec<u8>) {
        self.0.insert(path.to_owned(), (bytes.len(), bytes));
    }

    /// An image of one layer; `layer` is the file that holds it as tar, `sent` what is sent for it (none: itself).
    fn image(&mut self, dir: &Path, name: &str, layer: &str, sent: Option<Vec<u8>>) {
        let digest = |file: &str| {
            format!("sha256:{}", sh(dir, &format!("sha256sum {file} | cut -d' ' -f1")))
        };
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let bytes = fs::read(dir.join(layer)).unwrap();
        let config = json!({
            "os": "linux", "architecture": arch, "config": { "Entrypoint": ["/nothing"] },
            "rootfs": { "type": "layers", "diff_ids": [digest(layer)] },
        })
        .to_string();
        fs::write(dir.join("config.json"), &config).unwrap();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": digest("config.json"), "size": config.len(),
            },
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": digest(layer), "size": bytes.len(),
            }],
        });
        self.put(&format!("{name}/manifests/latest"), manifest.to_string().into_bytes());
        self.put(&format!("{name}/blobs/{}", digest("config.json")), config.into_bytes());
        let promised = bytes.len();
        self.0.insert(format!("{name}/blobs/{}", digest(layer)), (promised, sent.unwrap_or(bytes)));
    }

    /// Serves it until the test ends; gives the port.
    fn serve(self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut lines =
                    BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let Some(first) = lines.next() else { continue };
                lines.take_while(|line| !line.is_empty()).for_each(drop);
                let path = first.split(' ').nth(1).unwrap_or("").trim_start_matches("/v2/");
                let nothing = (0, Vec::new());
                let (code, (length, bytes)) = match self.0.get(path) {
                    Some(found) => (200, found),
                    None => (if path.is_empty() { 200 } else { 404 }, &nothing),
                };
                let head = format!(
                    "HTTP/1.1 {code} X\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
                );
                // A client that hung up is its own affair.
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(bytes));
            }
        });
        port
    }
}

fn pod(name: &str, image: &str, more: Value) -> String {
    let mut container = json!({ "name": "c", "image": image });
    container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "containers": [container], "terminationGracePeriodSeconds": 1 },
    })
    .to_string()
}

/// `REASON: message` of the container's state, and after it of its last one.
fn state(cluster: &Cluster, name: &str) -> Result<String> {
    let pod: Value = serde_json::from_str(&cluster.ok(&["get", "pod", name, "-o", "json"])?)?;
    let status = &pod["status"]["containerStatuses"][0];
    let one = |state: &Value| {
        let state = state.get("waiting").or(state.get("terminated")).unwrap_or(&Value::Null);
        let part = |key: &str| state[key].as_str().unwrap_or_default().to_owned();
        format!("{}: {}", part("reason"), part("message"))
    };
    Ok(format!("{} | {}", one(&status["state"]), one(&status["lastState"])))
}

/// `REASON: message` of each event about the pod.
fn events(cluster: &Cluster, name: &str) -> Result<Vec<String>> {
    let filter = format!("involvedObject.name={name}");
    let list = cluster.ok(&["get", "events", "--field-selector", &filter, "-o", "json"])?;
    let list: Value = serde_json::from_str(&list)?;
    let part = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let items = list["items"].as_array().cloned().unwrap_or_default();
    Ok(items.iter().map(|e| format!("{}: {}", part(e, "reason"), part(e, "message"))).collect())
}

/// Waits until the container's state has one of these reasons and, like an event, says all of these words.
fn says(cluster: &Cluster, name: &str, reasons: &[&str], words: &[&str]) {
    wait_for(&format!("pod {name} to say {words:?}"), || {
        let state = state(cluster, name)?;
        let all = |text: &str| words.iter().all(|word| text.contains(word));
        ensure!(reasons.iter().any(|reason| state.starts_with(reason)), "{state}");
        ensure!(all(&state), "its state is {state:?}");
        let events = events(cluster, name)?;
        ensure!(events.iter().any(|event| all(event)), "its events are {events:#?}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn images_that_cannot_be_had_are_told_of_and_leave_nothing() {
    let mut cluster = Cluster::start().unwrap();
    let dir = cluster.dir().join("made");
    fs::create_dir_all(dir.join("in")).unwrap();
    sh(&dir, "echo hello >in/hello; tar -C in -cf good.tar .");
    sh(
        &dir,
        "echo bad >escaped-by-a-layer; cd in; tar -cPf ../dots.tar ../escaped-by-a-layer; rm ../escaped-by-a-layer",
    );
    sh(
        &dir,
        "printf 'this is no archive, but as long as a block of one would have to be' >noise.tar",
    );
    let good = fs::read(dir.join("good.tar")).unwrap();
    let mut wrong = good.clone();
    wrong[600] ^= 1;
    let mut shelf = Shelf::default();
    shelf.image(&dir, "wrong", "good.tar", Some(wrong));
    shelf.image(&dir, "short", "good.tar", Some(good[..good.len() / 2].to_vec()));
    shelf.image(&dir, "dots", "dots.tar", None);
    shelf.image(&dir, "noise", "noise.tar", None);
    let other = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 2,
            "digest": format!("sha256:{}", "0".repeat(64)),
            "platform": { "os": "linux", "architecture": "s390x" },
        }],
    });
    shelf.put("other/manifests/latest", other.to_string().into_bytes());
    shelf.put("html/manifests/latest", b"<html>Log in to the hotel's wireless</html>".to_vec());
    let port = shelf.serve();

    cluster.agent("pi1", &[]).unwrap();
    let pull = ["ErrImagePull", "ImagePullBackOff"].as_slice();
    let rows: &[(&str, &[&str], &[&str])] = &[
        ("missing", pull, &["/missing", "not found", "HTTP 404", "check the name and tag"]),
        ("other", pull, &["/other", "no variant for linux/", "it has: linux/s390x"]),
        ("wrong", pull, &["/wrong", "has digest sha256:", "was promised", "nothing of it is kept"]),
        ("short", pull, &["/short", "cannot fetch image"]),
        ("dots", pull, &["/dots", "../escaped-by-a-layer"]),
        ("noise", pull, &["/noise", "damaged or not an image"]),
        ("html", pull, &["/html", "damaged or not an image"]),
    ];
    for (name, ..) in rows {
        let image = format!("127.0.0.1:{port}/{name}");
        cluster.ok_with(&["create", "-f", "-"], &pod(name, &image, json!({}))).unwrap();
    }
    for (name, image, policy) in [
        ("closed", "127.0.0.1:1/closed", "Always"),
        ("never", "127.0.0.1:1/never", "Never"),
        ("misnamed", "Not/A/Name:@", "Always"),
    ] {
        let manifest = pod(name, image, json!({ "imagePullPolicy": policy }));
        cluster.ok_with(&["create", "-f", "-"], &manifest).unwrap();
    }
    for (name, reasons, words) in rows {
        says(&cluster, name, reasons, words);
    }
    says(&cluster, "closed", pull, &["127.0.0.1:1/closed", "refused"]);
    says(&cluster, "never", &["ErrImageNeverPull"], &["pull policy of Never", "image import"]);
    says(&cluster, "misnamed", &["InvalidImageName"], &["Not/A/Name:@", "not valid"]);

    // Nothing of them is on the node.
    let listed = Command::new(coracle_benches::cluster::bin_dir().unwrap().join("coracle-agent"))
        .arg("--data-dir")
        .arg(cluster.agent_dir("pi1"))
        .args(["image", "list"])
        .output()
        .unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(!listed.contains("127.0.0.1"), "{listed}");
    cluster.ok(&["delete", "pods", "--all", "--wait=true", "--timeout=60s"]).unwrap();
    wait_for("the store to be empty", || {
        let left = sh(
            &cluster.agent_dir("pi1"),
            "find . -path '*/images/layers/*' -o -path '*/images/tmp/*'",
        );
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })
    .unwrap();
    assert_eq!(sh(cluster.dir(), "find . -name escaped-by-a-layer"), "");
    assert!(cluster.shims().is_empty());
}

#[test]
fn what_is_not_implemented_or_not_there_is_named() {
    let mut cluster = Cluster::start().unwrap();
    cluster.import("pi1", &project().join("target/demo/testing-service.tar")).unwrap();
    cluster.agent("pi1", &[]).unwrap();
    let image = "docker.io/jagadesh1982/testing-service";
    let probe = json!({ "livenessProbe": { "httpGet": { "path": "/healthz", "port": 9876 } } });
    let rows = [
        ("probe", probe, "livenessProbe"),
        ("port", json!({ "ports": [{ "containerPort": 9876, "hostPort": 9876 }] }), "hostPort"),
        ("privileged", json!({ "securityContext": { "privileged": true } }), "privileged"),
        (
            "lifecycle",
            json!({ "lifecycle": { "preStop": { "exec": { "command": ["x"] } } } }),
            "lifecycle",
        ),
    ];
    for (name, more, _) in &rows {
        cluster.ok_with(&["create", "-f", "-"], &pod(name, image, more.clone())).unwrap();
    }
    let mut init: Value = serde_json::from_str(&pod("init", image, json!({}))).unwrap();
    init["spec"]["initContainers"] = json!([{ "name": "i", "image": image }]);
    cluster.ok_with(&["create", "-f", "-"], &init.to_string()).unwrap();
    let fields =
        rows.iter().map(|(name, _, field)| (*name, *field)).chain([("init", "initContainers")]);
    for (name, field) in fields.collect::<Vec<_>>() {
        wait_for(&format!("an event to name {field}"), || {
            let events = events(&cluster, name)?;
            ensure!(events.iter().any(|event| event.contains(field)), "{events:#?}");
            Ok(())
        })
        .unwrap();
        let phase = cluster.ok(&["get", "pod", name, "-o", "jsonpath={.status.phase}"]).unwrap();
        assert_eq!(phase, "Pending", "{name}");
    }
    assert!(cluster.shims().is_empty());

    // A command that is not there; a volume of a ConfigMap that is not there; a variable of a Secret that is not there.
    let manifest = pod("command", image, json!({ "command": ["/no/such/program"] }));
    cluster.ok_with(&["create", "-f", "-"], &manifest).unwrap();
    says(
        &cluster,
        "command",
        &["RunContainerError", "CrashLoopBackOff", "StartError"],
        &["/no/such/program"],
    );
    let key = json!({ "secretKeyRef": { "name": "absent", "key": "k" } });
    let manifest = pod("env", image, json!({ "env": [{ "name": "A", "valueFrom": key }] }));
    cluster.ok_with(&["create", "-f", "-"], &manifest).unwrap();
    says(&cluster, "env", &["CreateContainerConfigError"], &["secret", "\"absent\"", "not found"]);
    cluster.ok(&["create", "secret", "generic", "absent", "--from-literal=k=v"]).unwrap();
    cluster.ok(&["wait", "--for=condition=Ready", "pod/env", "--timeout=60s"]).unwrap();
}

#[test]
fn an_image_that_does_not_fit_the_disk_says_so_and_comes_when_it_fits() {
    let mut cluster = Cluster::start().unwrap();
    let dir = cluster.dir().join("made");
    fs::create_dir_all(dir.join("in")).unwrap();
    sh(&dir, "head -c 12000000 /dev/urandom >in/large; tar -C in -cf large.tar .");
    let mut shelf = Shelf::default();
    shelf.image(&dir, "large", "large.tar", None);
    let port = shelf.serve();
    let disk = SmallDisk::mount(&cluster.agent_dir("pi1"), "8m").unwrap();
    cluster.agent("pi1", &[]).unwrap();
    let image = format!("127.0.0.1:{port}/large");
    cluster.ok_with(&["create", "-f", "-"], &pod("large", &image, json!({}))).unwrap();
    says(
        &cluster,
        "large",
        &["ErrImagePull", "ImagePullBackOff"],
        &["no space left for image", "/large", "free space there"],
    );
    wait_for("the half image to be gone", || {
        let left = sh(disk.at(), "find . -path '*/images/layers/*' -o -path '*/images/tmp/*'");
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })
    .unwrap();
    let ready = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
    assert_eq!(cluster.ok(&["get", "node", "pi1", "-o", ready]).unwrap(), "True");
    disk.resize("64m").unwrap();
    // Its entrypoint is not there: it was pulled, then.
    wait_for("the image to be pulled", || {
        let state = state(&cluster, "large")?;
        ensure!(state.contains("/nothing"), "{state}");
        Ok(())
    })
    .unwrap();
    cluster.ok(&["delete", "pod", "large", "--timeout=60s"]).unwrap();
    drop(cluster);
    drop(disk);
}
