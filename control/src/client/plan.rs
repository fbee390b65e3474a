//! `plan`: where the pods of manifests would go, and why. `why`: why a pod is where it is, or why it is nowhere. Both ask
//! the server what there is, and decide with the scheduler's own code.

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use coracle_api::views::{MetaView, NodeView, PodView, read};
use coracle_control_logic::scheduler::{
    PlacementProfile,
    plan::{Snapshot, Standing, Verdict},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    Client, PlaceArgs, Told,
    api::encode,
    manifest::{self, Document},
    output::Table,
    say,
};

/// Most pods that one template is taken for.
const REPLICAS_MAX: u64 = 10_000;

/// How nodes are chosen among those that can take a pod.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Placement {
    /// The fullest node: fewest nodes in use.
    #[default]
    Pack,
    /// The emptiest node.
    Spread,
    /// The node on which least of what is free becomes useless for the pods seen so far.
    Gradient,
}

impl From<Placement> for PlacementProfile {
    fn from(placement: Placement) -> Self {
        match placement {
            Placement::Pack => Self::Pack,
            Placement::Spread => Self::Spread,
            Placement::Gradient => Self::Gradient,
        }
    }
}

/// Arguments of `plan`.
#[derive(Clone, Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// File or directory of objects, YAML or JSON; `-`: stdin. What has no pods is passed over.
    #[arg(short, long, value_name = "FILE", required = true)]
    filename: Vec<String>,
    /// How the server chooses nodes (its own `--placement`).
    #[arg(long, value_enum, default_value_t)]
    placement: Placement,
}

/// Arguments of `why`.
#[derive(Clone, Debug, Args)]
pub(crate) struct WhyArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// NAME or pod/NAME.
    #[arg(value_name = "POD")]
    pod: String,
    /// How the server chooses nodes (its own `--placement`).
    #[arg(long, value_enum, default_value_t)]
    placement: Placement,
}

/// `plan`.
pub(crate) fn plan(args: &PlanArgs) -> anyhow::Result<()> {
    let documents = manifest::read(&args.filename)?;
    let client = Client::new(&args.place)?;
    let mut pods = Vec::new();
    for document in &documents {
        pods.extend(pods_of(&client, document)?);
    }
    if pods.is_empty() {
        bail!("nothing in {} makes pods", args.filename.join(", "));
    }
    let mut snapshot = snapshot(&client, args.placement)?;
    let mut table = table(&["POD", "NODE", "SCORE", "WHY"]);
    let (mut without, all) = (0, pods.len());
    for pod in pods {
        let (node, score, why) = match snapshot.place(&pod) {
            Verdict::Goes { node, score, candidates } => {
                (node, score.to_string(), format!("best of {candidates}"))
            }
            Verdict::Preempts { node, victims } => {
                let why = format!("after these have left: {}", victims.join(", "));
                (node, "-".into(), why)
            }
            Verdict::Waits { text } => {
                without += 1;
                ("-".into(), "-".into(), text)
            }
        };
        let name = format!("{}/{}", pod.metadata.namespace, pod.metadata.name);
        table.rows.push(vec![name, node, score, why]);
    }
    table.lines().iter().try_for_each(|line| say(line))?;
    if without == 0 {
        return Ok(());
    }
    Err(Told(format!("{without} of {all} pods would have no place")).into())
}

/// `why`.
pub(crate) fn why(args: &WhyArgs) -> anyhow::Result<()> {
    let name = args.pod.strip_prefix("pod/").or(args.pod.strip_prefix("pods/"));
    let name = name.unwrap_or(&args.pod);
    if name.is_empty() || name.contains('/') {
        bail!("`{}` is no pod: give NAME or pod/NAME", args.pod);
    }
    let client = Client::new(&args.place)?;
    let namespace = client.namespace();
    let path = format!("/api/v1/namespaces/{}/pods/{}", encode(namespace), encode(name));
    let pod: PodView =
        read(&client.api.json("GET", &path, b"")?).context("the server's pod cannot be read")?;
    let standings = match snapshot(&client, args.placement)?.why(&pod) {
        Ok(standings) => standings,
        Err(text) => return say(&format!("pod/{name} is pending: {text}")),
    };
    let at = pod.spec.node_name.as_str();
    let able = standings.nodes.iter().filter(|node| node.score.is_some()).count();
    let rank = |node: &Standing| {
        let place = standings.nodes.iter().position(|one| one.node == node.node);
        node.score.and(place).map_or("-".to_owned(), |place| (place + 1).to_string())
    };
    let own = standings.nodes.iter().find(|node| node.node == at);
    say(&match (at.is_empty(), own, standings.refusal) {
        (true, _, Some(text)) => format!("pod/{name} is pending: {text}"),
        (true, _, None) => {
            format!("pod/{name} is pending; {able} nodes could take it when it is looked at next")
        }
        (false, Some(own), _) if own.score.is_some() => {
            format!(
                "pod/{name} is on {at}, now number {} of {able} nodes that could take it",
                rank(own)
            )
        }
        (false, Some(_), _) => format!("pod/{name} is on {at}, which would not take it now"),
        (false, None, _) => format!("pod/{name} is on {at}, which is no node of this cluster"),
    })?;
    let mut table = table(&["NODE", "RANK", "SCORE", "WHY"]);
    for node in &standings.nodes {
        let score = node.score.map_or("-".to_owned(), |score| score.to_string());
        table.rows.push(vec![node.node.clone(), rank(node), score, reasons(node)]);
    }
    table.lines().iter().try_for_each(|line| say(line))
}

/// What a node lacks, or else why it refuses.
fn reasons(node: &Standing) -> String {
    if node.lacks.is_empty() {
        return node.reasons.join(", ");
    }
    let lack = |lack: &coracle_control_logic::scheduler::plan::Lack| {
        let (name, requested) = (&lack.resource, &lack.requested);
        format!("{name}: requested {requested}, free {}, total {}", lack.free, lack.total)
    };
    let lacks: Vec<String> = node.lacks.iter().map(lack).collect();
    format!("Insufficient {}", lacks.join("; "))
}

fn table(columns: &[&str]) -> Table {
    let columns = columns.iter().map(|name| ((*name).to_owned(), true)).collect();
    Table { columns, with_header: true, ..Table::default() }
}

/// What there is now.
fn snapshot(client: &Client, placement: Placement) -> anyhow::Result<Snapshot> {
    let mut snapshot = Snapshot::new(placement.into());
    for namespace in list::<MetaView>(client, "namespaces")? {
        snapshot.namespace(&namespace.metadata);
    }
    for node in list::<NodeView>(client, "nodes")? {
        snapshot.node(&node);
    }
    for pod in list::<PodView>(client, "pods")? {
        snapshot.pod(&pod);
    }
    Ok(snapshot)
}

#[derive(serde::Deserialize)]
struct List<T> {
    items: Vec<T>,
}

fn list<T: DeserializeOwned>(client: &Client, plural: &str) -> anyhow::Result<Vec<T>> {
    let value = client.api.json("GET", &format!("/api/v1/{plural}"), b"")?;
    let list: List<T> = read(&value).with_context(|| format!("the server's {plural}"))?;
    Ok(list.items)
}

/// The pods that an object would make, as the server would store them.
fn pods_of(client: &Client, document: &Document) -> anyhow::Result<Vec<PodView>> {
    let Some((template, count)) = template(document)? else { return Ok(Vec::new()) };
    let said = document.namespace();
    let namespace = if said.is_empty() { client.namespace() } else { said };
    let name = if document.name().is_empty() { "pod" } else { document.name() };
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": template.pointer("/metadata/labels").cloned().unwrap_or_default(),
            "annotations": template.pointer("/metadata/annotations").cloned().unwrap_or_default(),
        },
        "spec": template.get("spec").cloned().unwrap_or_default(),
    });
    // The server fills in what is left out, and refuses what it would refuse.
    let path = format!("/api/v1/namespaces/{}/pods?dryRun=All", encode(namespace));
    let stored = client.api.json("POST", &path, pod.to_string().as_bytes());
    let stored = stored.with_context(|| format!("{} {name}", document.kind()))?;
    let one: PodView = read(&stored).context("the server's pod")?;
    let is_pod = document.kind() == "Pod";
    let numbered = (1..=count).map(|number| {
        let mut pod = one.clone();
        if !is_pod {
            pod.metadata.name = format!("{name}-{number}");
        }
        pod
    });
    Ok(numbered.collect())
}

/// The template of an object's pods and how many there will be; `None`: it makes none.
fn template(document: &Document) -> anyhow::Result<Option<(Value, u64)>> {
    let value = &document.value;
    let number = |pointer: &str| value.pointer(pointer).and_then(Value::as_u64);
    let (pointer, count) = match document.kind() {
        "Pod" => ("", 1),
        "Deployment" | "ReplicaSet" | "StatefulSet" | "ReplicationController" => {
            ("/spec/template", number("/spec/replicas").unwrap_or(1))
        }
        "Job" => {
            let side_by_side = number("/spec/parallelism").unwrap_or(1);
            ("/spec/template", side_by_side.min(number("/spec/completions").unwrap_or(u64::MAX)))
        }
        "CronJob" => ("/spec/jobTemplate/spec/template", 1),
        "DaemonSet" => bail!("DaemonSet {}: which nodes it wants is not planned", document.name()),
        _ => return Ok(None),
    };
    if REPLICAS_MAX < count {
        bail!("{} {}: more than {REPLICAS_MAX} pods", document.kind(), document.name());
    }
    let template = value.pointer(pointer).cloned();
    let template = template
        .with_context(|| format!("{} {} has no pod template", document.kind(), document.name()))?;
    Ok(Some((template, count)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_found_and_counted() {
        let check = |value: Value, want: Option<u64>| {
            let document = Document { source: "f".into(), bytes: Vec::new(), value };
            let found = template(&document).unwrap();
            assert_eq!(found.map(|(_, count)| count), want, "{}", document.value);
        };
        check(json!({"kind": "Pod", "spec": {}}), Some(1));
        check(json!({"kind": "Deployment", "spec": {"template": {}}}), Some(1));
        check(json!({"kind": "StatefulSet", "spec": {"replicas": 3, "template": {}}}), Some(3));
        check(
            json!({"kind": "Job", "spec": {"parallelism": 4, "completions": 2, "template": {}}}),
            Some(2),
        );
        check(json!({"kind": "ConfigMap"}), None);
    }

    #[test]
    fn what_cannot_be_planned_is_said() {
        let check = |value: Value| {
            let document = Document { source: "f".into(), bytes: Vec::new(), value };
            assert!(template(&document).is_err(), "{}", document.value);
        };
        check(json!({"kind": "DaemonSet", "spec": {"template": {}}}));
        check(json!({"kind": "Deployment", "spec": {}}));
        check(json!({"kind": "Deployment", "spec": {"replicas": 1_000_000, "template": {}}}));
    }
}
