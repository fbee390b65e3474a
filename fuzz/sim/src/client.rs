//! `kubectl` by its script: creates the quick start's Deployment, scales it, changes its template, undoes, and has a
//! second Deployment come and go.

use coracle_control_logic::call::HttpRequest;
use serde_json::{Value, json};

use crate::{
    rng::Rng,
    wire::{Method, News, Scene, Tag, admin, json, request, text},
};

/// The quick start's Deployment.
pub const NAME: &str = "test-service-deploy";
/// One that asks for CPU and memory, and goes again.
pub const GUEST: &str = "guest";
/// An image that no registry has.
pub const NO_IMAGE: &str = "docker.io/jagadesh1982/missing";
const IMAGE: &str = "docker.io/jagadesh1982/testing-service";
const APPS: &str = "/apis/apps/v1/namespaces/default/deployments";
const LEGACY: &str = "/apis/apps/v1beta1/namespaces/default/deployments";

/// One line of the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// `create -f basic-deployment.yml`.
    Create,
    /// `scale --replicas N`.
    Scale(u64),
    /// A new value of VERSION.
    Version(u64),
    /// `set image`, to one that is there or not.
    Image(bool),
    /// The legacy rollback to the revision before.
    Undo,
    /// The other Deployment comes.
    CreateGuest(u64),
    /// It goes, before what it owns or after.
    DeleteGuest {
        /// `--cascade=foreground`.
        foreground: bool,
    },
    /// The Deployment goes.
    Delete,
    /// Nothing for so many ms.
    Wait(u64),
}

/// The client.
#[derive(Debug)]
pub struct Client {
    script: Vec<Line>,
    at: usize,
    tag: Tag,
    /// Replicas that were asked for last.
    pub replicas: u64,
}

impl Client {
    /// Draws a script of about so many lines. It ends with a Deployment that can be satisfied and without a guest.
    pub fn draw(lines: u64, rng: &mut Rng) -> Self {
        let mut script = vec![Line::Create];
        for _ in 0..lines {
            script.push(Line::Wait(rng.pick(&[100, 2_000, 10_000, 40_000], 0)));
            match rng.below(8) {
                0..=1 => script.push(Line::Scale(rng.below(8))),
                2 => script.push(Line::Version(rng.below(1000))),
                3 => script.push(Line::Image(false)),
                4 => script.push(Line::Image(true)),
                5 => script.push(Line::Undo),
                6 => script.push(Line::CreateGuest(rng.between(1, 6))),
                _ if rng.chance(300) => script.extend([Line::Delete, Line::Create]),
                _ => script.push(Line::DeleteGuest { foreground: rng.chance(500) }),
            }
        }
        let replicas = rng.between(1, 6);
        let foreground = rng.chance(500);
        script.extend([Line::Image(true), Line::Scale(replicas), Line::DeleteGuest { foreground }]);
        Self { script, at: 0, tag: 0, replicas }
    }

    /// Asks for the Deployment with so many replicas, and for nothing else.
    pub fn only(replicas: u64) -> Self {
        Self { script: vec![Line::Create, Line::Scale(replicas)], at: 0, tag: 0, replicas }
    }

    /// Whether the script is played.
    pub fn is_done(&self) -> bool {
        self.at >= self.script.len()
    }

    /// Begins.
    pub fn start(&mut self, scene: &mut Scene<'_>) {
        self.tag = scene.after(100);
    }

    /// Takes what concerns it.
    ///
    /// # Errors
    /// The server refused what it must take.
    pub fn news(&mut self, news: &News, scene: &mut Scene<'_>) -> Result<(), String> {
        if news.tag() != self.tag {
            return Ok(());
        }
        let Some(line) = self.script.get(self.at).cloned() else { return Ok(()) };
        match news {
            News::Timer(_) => match line {
                Line::Wait(ms) => {
                    self.at += 1;
                    self.tag = scene.after(ms.max(1));
                }
                Line::Create
                | Line::Scale(_)
                | Line::Version(_)
                | Line::Image(_)
                | Line::Undo
                | Line::CreateGuest(_)
                | Line::DeleteGuest { .. }
                | Line::Delete => self.tag = scene.call(ask(&line)),
            },
            News::Answer(_, code, body) => {
                if goes_on(&line, *code, &json(body))? {
                    self.at += 1;
                }
                self.tag = scene.after(300);
            }
            News::Lost(_) | News::Opened(_) | News::Bytes(..) | News::Closed(_) => {
                self.tag = scene.after(500);
            }
        }
        Ok(())
    }
}

/// Whether the next line is due; else it is tried again.
fn goes_on(line: &Line, code: u16, body: &Value) -> Result<bool, String> {
    match code {
        200..=299 => return Ok(true),
        // The server starts, is full, or lost its store.
        429 | 500 | 503 => return Ok(false),
        _ => {}
    }
    let message = text(body, "/message");
    match (line, code) {
        // An earlier try went through; or its predecessor is still on its way out.
        (Line::Create | Line::CreateGuest(_), 409) => Ok(true),
        // The namespace is made by the first start.
        (Line::Create, 404) if message.contains("namespaces") => Ok(false),
        (Line::DeleteGuest { .. } | Line::Delete, 404) => Ok(true),
        // No revision to go back to.
        (Line::Undo, 404 | 422) => Ok(true),
        // Deleted before the guest's or its own next creation came through.
        (Line::Scale(_) | Line::Version(_) | Line::Image(_), 409) => Ok(false),
        (line, code) => Err(format!("client: {line:?} was answered {code}: {message}")),
    }
}

fn ask(line: &Line) -> HttpRequest {
    let url = format!("{APPS}/{NAME}");
    let (method, url, body) = match line {
        Line::Create => (Method::Post, LEGACY.to_owned(), deployment()),
        Line::Scale(replicas) => {
            (Method::Merge, format!("{url}/scale"), json!({"spec": {"replicas": replicas}}))
        }
        Line::Version(number) => {
            let env = json!([{"name": "VERSION", "value": number.to_string()}]);
            (Method::Strategic, url, container(&json!({"name": "test-ser", "env": env})))
        }
        Line::Image(there) => {
            let image = if *there { IMAGE } else { NO_IMAGE };
            (Method::Strategic, url, container(&json!({"name": "test-ser", "image": image})))
        }
        Line::Undo => {
            let body = json!({
                "apiVersion": "apps/v1beta1", "kind": "DeploymentRollback",
                "name": NAME, "rollbackTo": {"revision": 0},
            });
            (Method::Post, format!("{LEGACY}/{NAME}/rollback"), body)
        }
        Line::CreateGuest(replicas) => (Method::Post, APPS.to_owned(), guest(*replicas)),
        Line::DeleteGuest { foreground } => {
            let policy = if *foreground { "Foreground" } else { "Background" };
            let url = format!("{APPS}/{GUEST}?propagationPolicy={policy}");
            (Method::Delete, url, Value::Null)
        }
        Line::Delete => (Method::Delete, url, Value::Null),
        Line::Wait(_) => (Method::Get, "/version".to_owned(), Value::Null),
    };
    request(&admin(), method, &url, &body)
}

fn container(of: &Value) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [of]}}}})
}

/// `control/examples/basic-deployment.yml`, as kubectl sends it.
pub fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1beta1", "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": "default"},
        "spec": {
            "replicas": 2,
            "template": {
                "metadata": {"labels": {"app": "test-service"}},
                "spec": {"containers": [{
                    "name": "test-ser", "image": IMAGE,
                    "ports": [{"containerPort": 9876}],
                    "env": [{"name": "VERSION", "value": "0.5"}],
                }]},
            },
        },
    })
}

fn guest(replicas: u64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": GUEST, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": GUEST}},
            "template": {
                "metadata": {"labels": {"app": GUEST}},
                "spec": {
                    "terminationGracePeriodSeconds": 5,
                    "containers": [
                        {"name": "one", "image": IMAGE,
                         "resources": {"requests": {"cpu": "450m", "memory": "96Mi"}}},
                        {"name": "two", "image": IMAGE,
                         "resources": {"requests": {"cpu": "150m"}}},
                    ],
                },
            },
        },
    })
}
