//! What a command is about: `TYPE NAME...`, `TYPE/NAME...`, `-f FILE`.

use anyhow::{anyhow, bail};
use clap::Args;

use super::{Client, api::encode, discovery::Kind, manifest};

/// Objects on the command line.
#[derive(Clone, Debug, Args)]
pub(crate) struct TargetArgs {
    /// TYPE[,TYPE] [NAME...], or TYPE/NAME...
    #[arg(value_name = "TYPE[/NAME]")]
    pub(crate) words: Vec<String>,
    /// File or directory that names the objects; `-`: stdin.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) filename: Vec<String>,
    /// Only objects with these labels.
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with = "filename")]
    pub(crate) selector: Option<String>,
    /// In all namespaces.
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
}

/// Objects of one kind: one, or those that match.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) kind: Kind,
    /// None: all namespaces.
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
}

impl Target {
    /// Of the object or the collection.
    pub(crate) fn path(&self) -> String {
        self.kind.path(self.namespace.as_deref(), self.name.as_deref())
    }

    /// Of the collection, with a query that holds the selectors.
    pub(crate) fn list_path(&self, labels: Option<&str>, fields: Option<&str>) -> String {
        let mut path = self.kind.path(self.namespace.as_deref(), None) + "?";
        let mut fields: Vec<String> = fields.into_iter().map(str::to_owned).collect();
        fields.extend(self.name.as_ref().map(|name| format!("metadata.name={name}")));
        if !fields.is_empty() {
            path += &format!("&fieldSelector={}", encode(&fields.join(",")));
        }
        if let Some(labels) = labels {
            path += &format!("&labelSelector={}", encode(labels));
        }
        path.replace("?&", "?")
    }

    /// `pod/x`, `deployment.apps/x`.
    pub(crate) fn shown(&self) -> String {
        format!("{}/{}", self.kind.shown(), self.name.as_deref().unwrap_or_default())
    }
}

impl TargetArgs {
    /// Asks the server what the words mean.
    pub(crate) fn targets(&self, client: &Client) -> anyhow::Result<Vec<Target>> {
        if !self.filename.is_empty() {
            if !self.words.is_empty() {
                bail!("give objects with -f or by name, not both");
            }
            return of_files(client, &self.filename);
        }
        let Some(first) = self.words.first() else {
            bail!("say what: a type (`coracle get pods`), TYPE/NAME, or -f FILE");
        };
        let discovery = client.discovery()?;
        let named = |kind: &Kind, name: Option<&str>| Target {
            kind: kind.clone(),
            namespace: (!self.all_namespaces && kind.namespaced)
                .then(|| client.namespace().to_owned()),
            name: name.map(str::to_owned),
        };
        let mut targets = Vec::new();
        if self.words.iter().any(|word| word.contains('/')) {
            for word in &self.words {
                let (kind, name) = word.split_once('/').ok_or_else(|| {
                    anyhow!("there is no need to specify a resource type as a separate argument when passing arguments in resource/name form (e.g. 'get pod/x')")
                })?;
                check_name(word, name)?;
                targets
                    .extend(discovery.by_words(kind)?.iter().map(|kind| named(kind, Some(name))));
            }
        } else {
            let kinds = discovery.by_words(first)?;
            let names = self.words.get(1..).unwrap_or_default();
            for kind in kinds {
                for name in names {
                    check_name(name, name)?;
                    targets.push(named(kind, Some(name)));
                }
                if names.is_empty() {
                    targets.push(named(kind, None));
                }
            }
        }
        let has_names = targets.iter().any(|target| target.name.is_some());
        if has_names && self.selector.is_some() {
            bail!("name cannot be provided when a selector is specified");
        }
        let namespaced = targets.iter().any(|target| target.kind.namespaced);
        if has_names && namespaced && self.all_namespaces {
            bail!("a resource cannot be retrieved by name across all namespaces");
        }
        Ok(targets)
    }
}

fn check_name(word: &str, name: &str) -> anyhow::Result<()> {
    if name.is_empty() || name.contains('/') {
        bail!("`{word}` is not understood: give TYPE/NAME or TYPE NAME");
    }
    Ok(())
}

/// What the files name.
pub(crate) fn of_files(client: &Client, files: &[String]) -> anyhow::Result<Vec<Target>> {
    let documents = manifest::read(files)?;
    let target = |document: &manifest::Document| of_document(client, document);
    documents.iter().map(target).collect()
}

/// What a manifest names.
pub(crate) fn of_document(
    client: &Client,
    document: &manifest::Document,
) -> anyhow::Result<Target> {
    let (source, name) = (&document.source, document.name());
    let kind = client
        .discovery()?
        .by_kind(document.api_version(), document.kind())
        .map_err(|e| {
            anyhow!("resource mapping not found for name: \"{name}\" from \"{source}\": {e}")
        })?
        .clone();
    let said = document.namespace();
    if let Some(asked) = client.asked_namespace.as_deref()
        && kind.namespaced
        && !said.is_empty()
        && said != asked
    {
        bail!(
            "the namespace from the provided object \"{said}\" does not match the namespace \"{asked}\". You must pass '--namespace={said}' to perform this operation."
        );
    }
    let namespace = if said.is_empty() { client.namespace() } else { said };
    Ok(Target {
        namespace: kind.namespaced.then(|| namespace.to_owned()),
        name: (!name.is_empty()).then(|| name.to_owned()),
        kind,
    })
}
