//! `get`: one object, several, a list, a watch.

use clap::Args;
use serde_json::Value;

use super::{
    Client, Failures, PlaceArgs,
    api::{Ask, WATCH_AGAIN_AFTER, encode, is_gone, is_not_found},
    output::{self, Format, Table},
    say,
    target::{Target, TargetArgs},
};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// Arguments of `get`.
#[derive(Clone, Debug, Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// wide, yaml, json, name or jsonpath=PATH.
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
    /// Stay and show what changes.
    #[arg(short, long)]
    watch: bool,
    /// Only objects with these fields.
    #[arg(long, value_name = "FIELDS")]
    field_selector: Option<String>,
    /// No line with the columns' names.
    #[arg(long)]
    no_headers: bool,
    /// Show metadata.managedFields in YAML and JSON.
    #[arg(long)]
    show_managed_fields: bool,
    /// What is not there is no failure.
    #[arg(long)]
    ignore_not_found: bool,
}

/// Does it.
pub(crate) fn run(args: &GetArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.place)?;
    let targets = args.target.targets(&client)?;
    if args.watch {
        let [target] = targets.as_slice() else {
            anyhow::bail!("you may only specify a single resource type or object with --watch");
        };
        return watch(&client, args, target);
    }
    match args.output.clone().unwrap_or(Format::Table { wide: false }) {
        Format::Table { wide } => tables(&client, args, &targets, wide),
        format @ (Format::Json | Format::Yaml | Format::Name | Format::JsonPath(_)) => {
            objects(&client, args, &targets, &format)
        }
    }
}

impl GetArgs {
    fn ask(&self, client: &Client, target: &Target, accept: &str) -> anyhow::Result<Option<Value>> {
        let path = match &target.name {
            Some(_) => target.path(),
            None => self.list_path(target),
        };
        match client.api.value(&Ask { path: &path, accept, ..Ask::default() }) {
            Err(error) if self.ignore_not_found && is_not_found(&error) => Ok(None),
            asked => asked.map(Some),
        }
    }

    fn list_path(&self, target: &Target) -> String {
        target.list_path(self.target.selector.as_deref(), self.field_selector.as_deref())
    }

    fn nothing(&self, client: &Client, targets: &[Target]) {
        let namespaced = targets.iter().any(|target| target.kind.namespaced);
        let text = if namespaced && !self.target.all_namespaces {
            format!("No resources found in {} namespace.", client.namespace())
        } else {
            "No resources found".to_owned()
        };
        // Not an error, and not for whoever reads the output.
        let _unheard = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{text}\n"));
    }
}

fn tables(client: &Client, args: &GetArgs, targets: &[Target], wide: bool) -> anyhow::Result<()> {
    let mut failures = Failures::default();
    let several = targets.iter().any(|other| targets.first().is_some_and(|t| t.kind != other.kind));
    let mut tables: Vec<(&Target, Table)> = Vec::new();
    for target in targets {
        let asked = args.ask(client, target, TABLE);
        let Some(Some(table)) = failures.note(asked) else { continue };
        let like_last = tables.last().is_some_and(|(last, _)| last.kind == target.kind);
        if !like_last {
            let table = Table {
                with_namespace: args.target.all_namespaces && target.kind.namespaced,
                wide,
                prefix: several.then(|| target.kind.shown()),
                with_header: !args.no_headers,
                ..Table::default()
            };
            tables.push((target, table));
        }
        if let Some((_, last)) = tables.last_mut() {
            last.add(&table);
        }
    }
    tables.retain(|(_, table)| !table.is_empty());
    let nothing = tables.is_empty();
    let mut first = true;
    for (_, mut table) in tables {
        if !std::mem::take(&mut first) {
            say("")?;
        }
        table.lines().iter().try_for_each(|line| say(line))?;
    }
    let failed = failures.end();
    if nothing && failed.is_ok() && targets.iter().any(|target| target.name.is_none()) {
        args.nothing(client, targets);
    }
    failed
}

fn objects(
    client: &Client,
    args: &GetArgs,
    targets: &[Target],
    format: &Format,
) -> anyhow::Result<()> {
    let mut failures = Failures::default();
    let mut items: Vec<(&Target, Value)> = Vec::new();
    for target in targets {
        let asked = args.ask(client, target, "");
        let Some(Some(mut value)) = failures.note(asked) else { continue };
        match value.get_mut("items").map(Value::take) {
            Some(Value::Array(listed)) if target.name.is_none() => {
                items.extend(listed.into_iter().map(|item| (target, item)));
            }
            _ => items.push((target, value)),
        }
    }
    for (target, item) in &mut items {
        named(target, item);
        if !args.show_managed_fields {
            output::without_managed_fields(item);
        }
    }
    let single = targets.len() == 1 && targets.iter().all(|target| target.name.is_some());
    if *format == Format::Name {
        for (target, item) in &items {
            output::object(format, Some(&target.kind), item)?;
        }
    } else if !single {
        let list = output::list(items.into_iter().map(|(_, item)| item).collect());
        output::object(format, None, &list)?;
    } else if let Some((target, item)) = items.first() {
        output::object(format, Some(&target.kind), item)?;
    }
    failures.end()
}

/// Items of lists do not say what they are.
fn named(target: &Target, item: &mut Value) {
    if let Value::Object(fields) = item {
        fields.entry("apiVersion").or_insert_with(|| target.kind.api_version().into());
        fields.entry("kind").or_insert_with(|| target.kind.kind.clone().into());
    }
}

fn watch(client: &Client, args: &GetArgs, target: &Target) -> anyhow::Result<()> {
    let format = args.output.clone().unwrap_or(Format::Table { wide: false });
    let (accept, wide) = match &format {
        Format::Table { wide } => (TABLE, *wide),
        Format::Json | Format::Yaml | Format::Name | Format::JsonPath(_) => ("", false),
    };
    let mut table = Table {
        with_namespace: args.target.all_namespaces && target.kind.namespaced,
        wide,
        with_header: !args.no_headers,
        ..Table::default()
    };
    if target.name.is_some() {
        // That it is not there must be told; a list would be empty.
        args.ask(client, target, accept)?;
    }
    let mut show = |mut value: Value| -> anyhow::Result<()> {
        if let Format::Table { .. } = format {
            table.add(&value);
            return table.lines().iter().try_for_each(|line| say(line));
        }
        let items = match value.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => items,
            _ => vec![value],
        };
        for mut item in items {
            named(target, &mut item);
            output::without_managed_fields(&mut item);
            if format == Format::Yaml {
                say("---")?;
            }
            output::object(&format, Some(&target.kind), &item)?;
        }
        Ok(())
    };
    let path = args.list_path(target);
    let list = client.api.value(&Ask { path: &path, accept, ..Ask::default() })?;
    let mut since = revision(&list);
    show(list)?;
    loop {
        let from = format!("{path}&resourceVersion={}", encode(&since)).replace("?&", "?");
        let ended = client.api.watch(&from, accept, None, &mut |_, value| {
            since = revision(&value);
            show(value).map(|()| false)
        });
        match ended {
            Ok(_) => std::thread::sleep(WATCH_AGAIN_AFTER),
            Err(error) if is_gone(&error) => {
                let list = client.api.value(&Ask { path: &path, accept, ..Ask::default() })?;
                since = revision(&list);
                show(list)?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Where a watch goes on: the list's, the object's, or that of a Table's row.
fn revision(value: &Value) -> String {
    ["/metadata/resourceVersion", "/rows/0/object/metadata/resourceVersion"]
        .iter()
        .find_map(|pointer| value.pointer(pointer)?.as_str().filter(|text| !text.is_empty()))
        .unwrap_or_default()
        .to_owned()
}
