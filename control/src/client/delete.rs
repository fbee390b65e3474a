//! `delete`: marks objects for deletion and waits until they are gone.

use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{
    Client, Failures, PlaceArgs,
    api::{Ask, is_not_found},
    say,
    target::{Target, TargetArgs},
    wait::{duration, matching, until},
};

/// With no `--timeout`, as good as for ever.
const LONG: Duration = Duration::from_secs(7 * 24 * 3600);

/// Arguments of `delete`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// All objects of the type.
    #[arg(long, conflicts_with = "filename")]
    all: bool,
    /// What becomes of what the objects own.
    #[arg(long, value_enum, default_value_t = Cascade::Background)]
    cascade: Cascade,
    /// Do not wait until the objects are gone: --wait=false.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    wait: bool,
    /// How long to wait; 0: as long as it takes.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    timeout: Duration,
    /// Seconds that containers have to end.
    #[arg(long, value_name = "SECONDS", conflicts_with = "now")]
    grace_period: Option<u32>,
    /// One second to end.
    #[arg(long)]
    now: bool,
    /// With --grace-period=0: do not wait for the node.
    #[arg(long)]
    force: bool,
    /// What is not there is no failure.
    #[arg(long)]
    ignore_not_found: bool,
}

/// What becomes of dependents.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Cascade {
    /// They go after it.
    Background,
    /// They go before it.
    Foreground,
    /// They stay.
    Orphan,
}

/// Does it.
pub(crate) fn run(args: &DeleteArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.place)?;
    let labels = args.target.selector.as_deref();
    let mut found = Vec::new();
    for target in args.target.targets(&client)? {
        if target.name.is_some() {
            found.push((target, args.ignore_not_found));
        } else if args.all || labels.is_some() {
            found.extend(matching(&client, &target, labels)?.into_iter().map(|t| (t, true)));
        } else {
            bail!(
                "resource(s) were provided, but no name was specified; name them, or give --all or -l"
            );
        }
    }
    if found.is_empty() {
        return say("No resources found");
    }
    let grace_s = match (args.grace_period, args.now, args.force) {
        (Some(0), _, false) => Some(1),
        (Some(seconds), ..) => Some(seconds),
        (None, true, _) => Some(1),
        (None, false, true) => Some(0),
        (None, false, false) => None,
    };
    let timeout = if args.timeout.is_zero() { LONG } else { args.timeout };
    let deadline = Instant::now() + timeout;
    let mut failures = Failures::default();
    let mut marked = Vec::new();
    for (target, may_be_gone) in &found {
        match delete(&client, target, args.cascade, grace_s) {
            Err(error) if *may_be_gone && is_not_found(&error) => {}
            Err(error) => {
                failures.note::<()>(Err(error));
            }
            Ok(uid) => {
                let forced =
                    if args.force && grace_s == Some(0) { "force deleted" } else { "deleted" };
                say(&deleted(target, forced))?;
                marked.push((target, uid));
            }
        }
    }
    for (target, uid) in marked.iter().filter(|_| args.wait) {
        failures.note(wait_gone(&client, target, uid, deadline));
    }
    failures.end()
}

fn deleted(target: &Target, how: &str) -> String {
    let (kind, name) = (target.kind.shown(), target.name.as_deref().unwrap_or_default());
    match &target.namespace {
        Some(namespace) => format!("{kind} \"{name}\" {how} from {namespace} namespace"),
        None => format!("{kind} \"{name}\" {how}"),
    }
}

/// Asks for its deletion; gives its uid.
pub(crate) fn delete(
    client: &Client,
    target: &Target,
    cascade: Cascade,
    grace_s: Option<u32>,
) -> anyhow::Result<String> {
    let policy = match cascade {
        Cascade::Background => "Background",
        Cascade::Foreground => "Foreground",
        Cascade::Orphan => "Orphan",
    };
    let mut options = json!({
        "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy,
    });
    if let (Some(seconds), Value::Object(fields)) = (grace_s, &mut options) {
        fields.insert("gracePeriodSeconds".into(), seconds.into());
    }
    let (path, body) = (target.path(), options.to_string());
    let ask = Ask { method: "DELETE", path: &path, body: body.as_bytes(), ..Ask::default() };
    let answer = client.api.value(&ask)?;
    // The object while it ends, or a Status once it is gone.
    let uid = ["/metadata/uid", "/details/uid"]
        .iter()
        .find_map(|pointer| answer.pointer(pointer)?.as_str());
    Ok(uid.unwrap_or_default().to_owned())
}

/// Waits until that very object is gone; another one of the name does not count.
pub(crate) fn wait_gone(
    client: &Client,
    target: &Target,
    uid: &str,
    deadline: Instant,
) -> anyhow::Result<()> {
    let gone = |object: Option<&Value>| {
        object.is_none_or(|object| {
            object.pointer("/metadata/uid").and_then(Value::as_str) != Some(uid)
        })
    };
    if until(client, target, deadline, &mut { gone })? {
        return Ok(());
    }
    let (name, kind) = (target.name.as_deref().unwrap_or_default(), &target.kind.plural);
    Err(anyhow!("timed out waiting for the condition on {kind}/{name}"))
}
