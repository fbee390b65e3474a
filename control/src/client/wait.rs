//! `wait`, and waiting for others: on a watch, never on a clock.

use std::{
    str::FromStr,
    time::{Duration, Instant},
};

use anyhow::{anyhow, bail};
use clap::Args;
use serde_json::Value;

use super::{
    Client, Failures, PlaceArgs,
    api::{Ask, WATCH_AGAIN_AFTER, encode, is_gone},
    jsonpath::{JsonPath, plain},
    say,
    target::{Target, TargetArgs},
};

/// Arguments of `wait`.
#[derive(Clone, Debug, Args)]
pub(crate) struct WaitArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// All objects of the type.
    #[arg(long)]
    all: bool,
    /// delete, create, condition=TYPE[=STATUS] or jsonpath={.a.b}[=VALUE].
    #[arg(long = "for", value_name = "WHAT")]
    what: What,
    /// How long, as in 30s, 5m, 1h.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    timeout: Duration,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Gone,
    There,
    Condition { kind: String, status: String },
    Path { path: JsonPath, value: Option<String> },
}

impl FromStr for What {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (word, rest) = text.split_once('=').unwrap_or((text, ""));
        Ok(match (word, rest) {
            ("delete", "") => Self::Gone,
            ("create", "") => Self::There,
            ("condition", rest) if !rest.is_empty() => {
                let (kind, status) = rest.split_once('=').unwrap_or((rest, "True"));
                Self::Condition { kind: kind.into(), status: status.into() }
            }
            ("jsonpath", rest) if !rest.is_empty() => {
                let (path, value) = match rest.split_once("}=") {
                    Some((path, value)) => (format!("{path}}}"), Some(value.to_owned())),
                    None => (rest.to_owned(), None),
                };
                Self::Path { path: JsonPath::parse(path.trim_matches('\''))?, value }
            }
            _ => bail!(
                "allowed are delete, create, condition=TYPE[=STATUS], jsonpath={{PATH}}[=VALUE]"
            ),
        })
    }
}

impl What {
    fn holds(&self, object: Option<&Value>) -> bool {
        match (self, object) {
            (Self::Gone, object) => object.is_none(),
            (Self::There, object) => object.is_some(),
            (_, None) => false,
            (Self::Condition { kind, status }, Some(object)) => {
                current(object)
                    && condition(object, kind).is_some_and(|is| is.eq_ignore_ascii_case(status))
            }
            (Self::Path { path, value }, Some(object)) => {
                let found = path.find(object);
                match value {
                    Some(value) => {
                        !found.is_empty() && found.iter().all(|one| plain(one) == *value)
                    }
                    None => !found.is_empty(),
                }
            }
        }
    }
}

/// Its status is about the spec as it is now.
pub(crate) fn current(object: &Value) -> bool {
    let number = |pointer| object.pointer(pointer).and_then(Value::as_i64);
    number("/status/observedGeneration") >= number("/metadata/generation")
        || number("/status/observedGeneration").is_none()
}

/// Status of a condition.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let named = |one: &&Value| {
        one.get("type").and_then(Value::as_str).is_some_and(|name| name.eq_ignore_ascii_case(kind))
    };
    conditions.iter().find(named)?.get("status")?.as_str()
}

/// `90`, `1.5s`, `5m`, `1h30m`, `250ms`. Negative means long, as for kubectl.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let no = || format!("`{text}` is no time; give one like 30s, 5m or 1h");
    if text.starts_with('-') {
        return Ok(Duration::from_secs(7 * 24 * 3600));
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest.get(..end).unwrap_or_default().parse().map_err(|_| no())?;
        rest = rest.get(end..).unwrap_or_default();
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match rest.get(..end).unwrap_or_default() {
            "ms" => 0.001,
            "s" | "" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(no()),
        };
        seconds += number * unit;
        rest = rest.get(end..).unwrap_or_default();
    }
    if text.is_empty() {
        return Err(no());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| no())
}

/// Does it.
pub(crate) fn run(args: &WaitArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.place)?;
    let deadline = Instant::now() + args.timeout;
    let mut targets = Vec::new();
    for target in args.target.targets(&client)? {
        if target.name.is_some() {
            targets.push(target);
        } else if args.all || args.target.selector.is_some() {
            targets.extend(matching(&client, &target, args.target.selector.as_deref())?);
        } else {
            bail!("name the objects, or give --all or a selector (-l)");
        }
    }
    if targets.is_empty() {
        if args.what == What::Gone {
            return Ok(());
        }
        bail!("no matching resources found");
    }
    let mut failures = Failures::default();
    for target in &targets {
        failures.note(one(&client, target, &args.what, deadline));
    }
    failures.end()
}

fn one(client: &Client, target: &Target, what: &What, deadline: Instant) -> anyhow::Result<()> {
    let waits_for_some = matches!(what, What::Gone | What::There);
    if !waits_for_some {
        client.api.json("GET", &target.path(), b"")?;
    }
    if until(client, target, deadline, &mut |object| what.holds(object))? {
        return say(&format!("{} condition met", target.shown()));
    }
    let name = target.name.as_deref().unwrap_or_default();
    Err(anyhow!("timed out waiting for the condition on {}/{name}", target.kind.plural))
}

/// The objects of a collection, each as a target.
pub(crate) fn matching(
    client: &Client,
    target: &Target,
    labels: Option<&str>,
) -> anyhow::Result<Vec<Target>> {
    let list = client.api.json("GET", &target.list_path(labels, None), b"")?;
    let items = list.get("items").and_then(Value::as_array);
    let text =
        |item: &Value, pointer| item.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let each = |item: &Value| Target {
        kind: target.kind.clone(),
        namespace: text(item, "/metadata/namespace"),
        name: text(item, "/metadata/name"),
    };
    Ok(items.into_iter().flatten().map(each).collect())
}

/// Watches one object until `holds` (None: it is not there); false when the time is over.
pub(crate) fn until(
    client: &Client,
    target: &Target,
    deadline: Instant,
    holds: &mut dyn FnMut(Option<&Value>) -> bool,
) -> anyhow::Result<bool> {
    let path = target.list_path(None, None);
    loop {
        let began = Instant::now();
        let list = client.api.value(&Ask { path: &path, ..Ask::default() })?;
        if holds(list.pointer("/items/0")) {
            return Ok(true);
        }
        let since = list.pointer("/metadata/resourceVersion").and_then(Value::as_str);
        let from = format!("{path}&resourceVersion={}", encode(since.unwrap_or_default()));
        let watched = client.api.watch(&from, "", Some(deadline), &mut |kind, object| {
            Ok(holds((kind != "DELETED").then_some(&object)))
        });
        match watched {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        if began.elapsed() < WATCH_AGAIN_AFTER {
            std::thread::sleep(WATCH_AGAIN_AFTER);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times() {
        let check = |text: &str, want: Option<u64>| {
            let read = duration(text).ok().map(|time| u64::try_from(time.as_millis()).unwrap());
            assert_eq!(read, want, "{text}");
        };
        check("30s", Some(30_000));
        check("1h30m", Some(5_400_000));
        check("1.5s", Some(1500));
        check("250ms", Some(250));
        check("0", Some(0));
        check("-1s", Some(7 * 24 * 3_600_000));
        check("", None);
        check("s", None);
        check("5 m", None);
        check("1d", None);
        check("99999999999999999999999h", None);
    }

    #[test]
    fn what_holds() {
        let object = json!({
            "metadata": { "generation": 2 },
            "status": { "observedGeneration": 2, "phase": "Running", "conditions": [
                { "type": "Ready", "status": "True" }, { "type": "Odd", "status": "Unknown" },
            ]},
        });
        let check = |what: &str, object: Option<&Value>, want: bool| {
            assert_eq!(What::from_str(what).unwrap().holds(object), want, "{what}");
        };
        check("delete", Some(&object), false);
        check("delete", None, true);
        check("create", Some(&object), true);
        check("condition=Ready", Some(&object), true);
        check("condition=ready=false", Some(&object), false);
        check("condition=Odd=Unknown", Some(&object), true);
        check("condition=Nope", Some(&object), false);
        check("condition=Ready", None, false);
        check("jsonpath={.status.phase}=Running", Some(&object), true);
        check("jsonpath={.status.phase}=Failed", Some(&object), false);
        check("jsonpath={.status.phase}", Some(&object), true);
        check("jsonpath={.status.podIP}", Some(&object), false);
        let mut stale = object.clone();
        stale["metadata"]["generation"] = json!(3);
        check("condition=Ready", Some(&stale), false);
        for bad in ["", "condition", "condition=", "gone", "jsonpath={"] {
            assert!(What::from_str(bad).is_err(), "{bad}");
        }
    }
}
