//! `create` and `apply`: objects from files, sent as they are written, so that the server judges every line of them.

use anyhow::bail;
use clap::{Args, ValueEnum};
use serde_json::Value;

use super::{
    Client, Failures, PlaceArgs,
    api::{Ask, Refused, is_not_found},
    manifest::{self, Document},
    output::{self, Format},
    say,
    target::of_document,
};

const MANAGER: &str = "coracle";

/// What they have in common.
#[derive(Clone, Debug, Args)]
pub(crate) struct FilesArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// File or directory of objects, YAML or JSON; `-`: stdin.
    #[arg(short, long, value_name = "FILE", required = true)]
    filename: Vec<String>,
    /// What to do about fields that the server does not know or that are there twice.
    #[arg(long, value_enum, default_value_t = Validate::Warn)]
    validate: Validate,
    /// server: everything but saving.
    #[arg(long, value_enum, default_value_t = DryRun::None)]
    dry_run: DryRun,
    /// yaml, json, name or jsonpath=PATH.
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
enum Validate {
    /// The server refuses.
    #[value(alias = "true")]
    Strict,
    /// The server warns.
    Warn,
    /// Nothing.
    #[value(alias = "false")]
    Ignore,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
enum DryRun {
    None,
    Server,
}

/// Arguments of `create`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    files: FilesArgs,
}

/// Arguments of `apply`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    files: FilesArgs,
    /// Take over fields that others have set.
    #[arg(long)]
    force_conflicts: bool,
}

/// `create`.
pub(crate) fn create(args: &CreateArgs) -> anyhow::Result<()> {
    each(&args.files, |client, document| {
        let target = of_document(client, document)?;
        let path = target.kind.path(target.namespace.as_deref(), None);
        let path = format!("{path}?{}", query(args.files.validate, args.files.dry_run));
        let content_type = "application/yaml";
        let ask = Ask {
            method: "POST",
            path: &path,
            content_type,
            body: &document.bytes,
            ..Ask::default()
        };
        let value = client.api.value(&ask).map_err(|e| during(e, "creating", document))?;
        Ok((value, "created"))
    })
}

/// `apply`.
pub(crate) fn apply(args: &ApplyArgs) -> anyhow::Result<()> {
    each(&args.files, |client, document| {
        apply_one(client, document, args.files.validate, args.files.dry_run, args.force_conflicts)
    })
}

/// Applies what a file says, as `apply -f` does; for `up`.
pub(crate) fn apply_document(client: &Client, document: &Document) -> anyhow::Result<String> {
    let (value, done) = apply_one(client, document, Validate::Warn, DryRun::None, true)?;
    message(client, document, &value, done)
}

/// Server-side apply. Messages are those of kubectl's usual apply, as the outcome is the same.
fn apply_one(
    client: &Client,
    document: &Document,
    validate: Validate,
    dry_run: DryRun,
    force: bool,
) -> anyhow::Result<(Value, &'static str)> {
    let target = of_document(client, document)?;
    if target.name.is_none() {
        bail!(
            "error when applying \"{}\": metadata.name is needed; `coracle create` makes names",
            document.source
        );
    }
    let object = target.path();
    let before = match client.api.json("GET", &object, b"") {
        Ok(value) => Some(content(value)),
        Err(error) if is_not_found(&error) => None,
        Err(error) => return Err(error),
    };
    let path = format!("{object}?force={force}&{}", query(validate, dry_run));
    let ask = Ask {
        method: "PATCH",
        path: &path,
        content_type: "application/apply-patch+yaml",
        body: &document.bytes,
        ..Ask::default()
    };
    let value = client.api.value(&ask).map_err(|e| during(e, "applying", document))?;
    let done = match before {
        None => "created",
        Some(before) if before == content(value.clone()) => "unchanged",
        Some(_) => "configured",
    };
    Ok((value, done))
}

/// Without what every write changes.
fn content(mut value: Value) -> Value {
    output::without_managed_fields(&mut value);
    if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
        metadata.remove("resourceVersion");
    }
    value
}

fn query(validate: Validate, dry_run: DryRun) -> String {
    let validation = match validate {
        Validate::Strict => "Strict",
        Validate::Warn => "Warn",
        Validate::Ignore => "Ignore",
    };
    let dry_run = if dry_run == DryRun::Server { "&dryRun=All" } else { "" };
    format!("fieldManager={MANAGER}&fieldValidation={validation}{dry_run}")
}

fn during(error: anyhow::Error, doing: &str, document: &Document) -> anyhow::Error {
    match error.downcast::<Refused>() {
        Ok(refused) => {
            let mut doing = format!("error when {doing} \"{}\"", document.source);
            if refused.status == 409 && doing.contains("applying") {
                doing += " (--force-conflicts takes the fields over)";
            }
            refused.during(&doing).into()
        }
        Err(error) => error,
    }
}

fn each(
    args: &FilesArgs,
    mut one: impl FnMut(&Client, &Document) -> anyhow::Result<(Value, &'static str)>,
) -> anyhow::Result<()> {
    let documents = manifest::read(&args.filename)?;
    let client = Client::new(&args.place)?;
    let mut failures = Failures::default();
    for document in &documents {
        let done = one(&client, document).and_then(|(mut value, done)| {
            match &args.output {
                Some(Format::Name) | None => {}
                Some(format) => {
                    output::without_managed_fields(&mut value);
                    return output::object(format, None, &value);
                }
            }
            let line = message(&client, document, &value, done)?;
            let dry_run = if args.dry_run == DryRun::Server { " (server dry run)" } else { "" };
            if args.output.is_some() {
                return say(line.split(' ').next().unwrap_or_default());
            }
            say(&format!("{line}{dry_run}"))
        });
        failures.note(done);
    }
    failures.end()
}

/// `deployment.apps/x created`.
fn message(
    client: &Client,
    document: &Document,
    value: &Value,
    done: &str,
) -> anyhow::Result<String> {
    let kind = client.discovery()?.by_kind(document.api_version(), document.kind())?;
    let name = value.pointer("/metadata/name").and_then(Value::as_str);
    Ok(format!("{}/{} {done}", kind.shown(), name.unwrap_or(document.name())))
}
