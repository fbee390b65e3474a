//! `logs`: what containers wrote.

use std::io::{Read, Write};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;

use super::{
    Client, Failures, PlaceArgs,
    api::{Ask, encode},
    target::Target,
    wait::matching,
};

/// Arguments of `logs`.
#[derive(Clone, Debug, Args)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// POD, or TYPE/NAME of what has pods.
    #[arg(
        value_name = "POD|TYPE/NAME",
        required_unless_present = "selector",
        conflicts_with = "selector"
    )]
    name: Option<String>,
    /// Stay and show what comes.
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines.
    #[arg(long, value_name = "LINES", allow_negative_numbers = true, default_value_t = -1)]
    tail: i64,
    /// Which container.
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Of the container before its last restart.
    #[arg(short, long)]
    previous: bool,
    /// With the time before each line.
    #[arg(long)]
    timestamps: bool,
    /// Of all pods with these labels.
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
}

/// Does it.
pub(crate) fn run(args: &LogsArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.place)?;
    let discovery = client.discovery()?;
    let words = discovery.by_words("pods")?;
    let kind = words.first().context("the server has no pods")?;
    let pods = |name: Option<&str>| Target {
        kind: (*kind).clone(),
        namespace: Some(client.namespace().to_owned()),
        name: name.map(str::to_owned),
    };
    let targets = match (&args.name, &args.selector) {
        (_, Some(labels)) => matching(&client, &pods(None), Some(labels))?,
        (Some(name), None) => match name.split_once('/') {
            None => vec![pods(Some(name))],
            Some((word, name)) => {
                let owners = discovery.by_words(word)?;
                let owner = owners.first().context("logs of what?")?;
                if owner.plural == kind.plural && owner.group == kind.group {
                    vec![pods(Some(name))]
                } else {
                    let owner = Target {
                        kind: (*owner).clone(),
                        namespace: Some(client.namespace().to_owned()),
                        name: Some(name.to_owned()),
                    };
                    vec![first_pod(&client, &owner, &pods(None))?]
                }
            }
        },
        (None, None) => Vec::new(),
    };
    if args.follow && targets.len() > 1 {
        bail!("-f follows one pod; {} match", targets.len());
    }
    let mut failures = Failures::default();
    for target in &targets {
        failures.note(copy(&client, args, target));
    }
    failures.end()
}

fn first_pod(client: &Client, owner: &Target, pods: &Target) -> anyhow::Result<Target> {
    let object = client.api.json("GET", &owner.path(), b"")?;
    let labels = object.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
    let Some(labels) = labels.filter(|labels| !labels.is_empty()) else {
        bail!("{} has no matchLabels to find its pods by; name a pod", owner.shown());
    };
    let pairs: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    let found = matching(client, pods, Some(&pairs.join(",")))?;
    let count = found.len();
    let Some(first) = found.into_iter().next() else {
        bail!("{} has no pods", owner.shown());
    };
    if count > 1 {
        let text = format!("Found {count} pods, using {}\n", first.shown());
        // A remark that cannot be written has no one to be told to.
        let _unheard = std::io::stderr().write_all(text.as_bytes());
    }
    Ok(first)
}

fn copy(client: &Client, args: &LogsArgs, target: &Target) -> anyhow::Result<()> {
    let mut query = Vec::new();
    query.extend(args.container.as_ref().map(|name| format!("container={}", encode(name))));
    query.extend(args.follow.then(|| "follow=true".to_owned()));
    query.extend(args.previous.then(|| "previous=true".to_owned()));
    query.extend(args.timestamps.then(|| "timestamps=true".to_owned()));
    query.extend((args.tail >= 0).then(|| format!("tailLines={}", args.tail)));
    let path = format!("{}/log?{}", target.path(), query.join("&"));
    let answer = client.api.send(&Ask { path: &path, accept: "*/*", ..Ask::default() })?;
    let mut from = answer.into_body().into_reader();
    let mut to = std::io::stdout().lock();
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = from.read(&mut buffer).context("the log broke off")?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(buffer.get(..count).unwrap_or_default())
            .and_then(|()| to.flush())
            .context("cannot write to stdout")?;
    }
}
