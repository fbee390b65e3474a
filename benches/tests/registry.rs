//! The quick start's manifest with its image from a real registry that stands in for docker.io; and an imported archive
//! that wins over it.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    env, fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::ensure;
use coracle_benches::cluster::{Cluster, project, wait_for};

const NAME: &str = "jagadesh1982/testing-service:latest";

struct Registry {
    process: Child,
    dir: PathBuf,
    port: u16,
}

impl Registry {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = env::temp_dir().join(format!("coracle-registry-{}-{port}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n",
            dir.display()
        );
        fs::write(dir.join("config.yml"), config).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(dir.join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed (make setup)");
        let registry = Self { process, dir, port };
        wait_for("docker-registry to listen", || {
            Ok(std::net::TcpStream::connect(("127.0.0.1", port))?)
        })
        .unwrap();
        registry
    }

    fn push(&self, archive: &Path) {
        let source = format!("oci-archive:{}", archive.display());
        let target = format!("docker://127.0.0.1:{}/{NAME}", self.port);
        let output = Command::new("skopeo")
            .args([
                "--insecure-policy",
                "copy",
                "--quiet",
                "--dest-tls-verify=false",
                &source,
                &target,
            ])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Applies the manifest, waits until both pods run, and gives their answers.
fn answers(cluster: &Cluster) -> Vec<String> {
    let manifest = project().join("control/examples/basic-deployment.yml");
    cluster.ok(&["create", "-f", &manifest.display().to_string()]).unwrap();
    wait_for("both pods to run", || {
        let list = cluster.ok(&["get", "pods", "--no-headers"])?;
        ensure!(
            list.lines().filter(|line| line.contains(" Running ")).count() == 2,
            "{list}\n{}",
            cluster.ok(&["describe", "pods"])?
        );
        Ok(())
    })
    .unwrap();
    let ips = cluster.ok(&["get", "pods", "-o", "jsonpath={.items[*].status.podIP}"]).unwrap();
    let ips: Vec<&str> = ips.split_whitespace().collect();
    assert_eq!(ips.len(), 2, "{ips:?}");
    let ask = |ip: &&str| {
        wait_for("the pod to answer", || {
            let output = Command::new("curl")
                .args(["-s", "--max-time", "5", &format!("http://{ip}:9876/")])
                .output()?;
            ensure!(output.status.success(), "curl {ip}: {}", output.status);
            Ok(String::from_utf8(output.stdout)?)
        })
        .unwrap()
    };
    ips.iter().map(ask).collect()
}

#[test]
fn the_image_comes_from_a_registry_in_docker_ios_place() {
    let registry = Registry::start();
    registry.push(&project().join("target/demo/testing-service.tar"));
    let mut cluster = Cluster::start().unwrap();
    cluster
        .agent(
            "pi1",
            &["--registry-mirror", &format!("docker.io=http://127.0.0.1:{}", registry.port)],
        )
        .unwrap();
    for answer in answers(&cluster) {
        assert!(answer.contains(r#""version":"0.5""#), "{answer}");
    }
    let events = cluster.ok(&["get", "events", "-o", "jsonpath={.items[*].reason}"]).unwrap();
    for reason in ["Scheduled", "Pulled", "Created", "Started"] {
        assert!(events.split(' ').any(|one| one == reason), "no event {reason} in {events}");
    }
}

#[test]
fn an_imported_archive_wins_over_the_registry() {
    // The registry has another image under the name: one whose entrypoint is not there.
    let registry = Registry::start();
    let dir = env::temp_dir().join(format!("coracle-other-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let run = |words: &[&str]| {
        let output = Command::new("umoci").args(words).current_dir(&dir).output().unwrap();
        assert!(
            output.status.success(),
            "umoci {words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    run(&["init", "--layout", "other"]);
    run(&["new", "--image", "other:latest"]);
    run(&["config", "--image", "other:latest", "--config.entrypoint", "/nothing"]);
    let source = format!("oci:{}:latest", dir.join("other").display());
    let target = format!("docker://127.0.0.1:{}/{NAME}", registry.port);
    let output = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", &source, &target])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::remove_dir_all(&dir).unwrap();

    let mut cluster = Cluster::start().unwrap();
    cluster.import("pi1", &project().join("target/demo/testing-service.tar")).unwrap();
    cluster
        .agent(
            "pi1",
            &["--registry-mirror", &format!("docker.io=http://127.0.0.1:{}", registry.port)],
        )
        .unwrap();
    for answer in answers(&cluster) {
        assert!(answer.contains(r#""version":"0.5""#), "{answer}");
    }
}
