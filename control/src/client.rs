//! The built-in client: `create`, `apply`, `get`, `delete`, `logs`, `wait` in kubectl's words, `plan` and `why`, and what
//! `token` and `up` ask. Blocking; no part of the server's loop.
//!
//! | part | what |
//! |---|---|
//! | [`kubeconfig`], [`api`] | whom to ask, and requests |
//! | [`discovery`] | what a word like `deploy` is |
//! | [`manifest`] | files of objects |
//! | [`output`], [`jsonpath`] | tables, YAML, JSON as kubectl prints them |
//! | [`write`], [`get`], [`delete`], [`logs`], [`wait`], [`plan`] | the commands |

pub(crate) mod api;
pub(crate) mod delete;
pub(crate) mod discovery;
pub(crate) mod get;
pub(crate) mod jsonpath;
pub(crate) mod kubeconfig;
pub(crate) mod logs;
pub(crate) mod manifest;
pub(crate) mod output;
pub(crate) mod plan;
pub(crate) mod target;
pub(crate) mod wait;
pub(crate) mod write;

use std::{cell::OnceCell, io::Write, path::PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;

use crate::cli::DirArgs;
use api::{Api, Refused, kubeconfig_path};
use discovery::Discovery;
use kubeconfig::Kubeconfig;

/// Whom to ask.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServerArgs {
    /// Where `admin.kubeconfig` is, if no other kubeconfig is named.
    #[command(flatten)]
    pub(crate) dir: DirArgs,
    /// Kubeconfig to use. Default: $KUBECONFIG, else DIR/admin.kubeconfig.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

impl ServerArgs {
    /// The kubeconfig that is meant.
    pub(crate) fn config(&self) -> anyhow::Result<Kubeconfig> {
        Kubeconfig::read(&kubeconfig_path(self.kubeconfig.as_deref(), &self.dir.data_dir))
    }
}

/// Whom to ask, and where objects are.
#[derive(Clone, Debug, Args)]
pub(crate) struct PlaceArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Namespace. Default: the kubeconfig's, else `default`.
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
}

/// A server, its kinds, and a namespace.
pub(crate) struct Client {
    pub(crate) api: Api,
    /// Named on the command line; manifests must not say another.
    asked_namespace: Option<String>,
    discovery: OnceCell<Discovery>,
}

impl Client {
    /// For a command.
    pub(crate) fn new(place: &PlaceArgs) -> anyhow::Result<Self> {
        let api = Api::new(place.server.config()?)?;
        Ok(Self { api, asked_namespace: place.namespace.clone(), discovery: OnceCell::new() })
    }

    /// For `up`.
    pub(crate) fn of(config: Kubeconfig) -> anyhow::Result<Self> {
        let api = Api::new(config)?;
        Ok(Self { api, asked_namespace: None, discovery: OnceCell::new() })
    }

    pub(crate) fn namespace(&self) -> &str {
        self.asked_namespace.as_deref().unwrap_or(self.api.namespace())
    }

    /// Asked for once.
    pub(crate) fn discovery(&self) -> anyhow::Result<&Discovery> {
        if self.discovery.get().is_none() {
            let read = Discovery::read(&self.api)?;
            return Ok(self.discovery.get_or_init(|| read));
        }
        self.discovery.get().ok_or_else(|| anyhow!("discovery is missing"))
    }
}

/// One line on stdout.
pub(crate) fn say(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}").context("cannot write to stdout")
}

/// An error as kubectl tells it: one line on stderr.
pub(crate) fn tell(error: &anyhow::Error) {
    let text = format!("{error:#}").replace(['\n', '\r'], " ");
    let label = if error.is::<Refused>() || error.is::<Told>() { "" } else { "error: " };
    // An error that cannot be written has no one to be told to.
    let _unheard = writeln!(std::io::stderr().lock(), "{label}{text}");
}

/// Several things were asked and some failed; all but the last are told already.
#[derive(Debug, Default)]
pub(crate) struct Failures(Option<anyhow::Error>);

impl Failures {
    /// Goes on whether this went well or not.
    pub(crate) fn note<T>(&mut self, done: anyhow::Result<T>) -> Option<T> {
        match done {
            Ok(value) => Some(value),
            Err(error) => {
                if let Some(earlier) = self.0.replace(error) {
                    tell(&earlier);
                }
                None
            }
        }
    }

    /// The end: the last failure, if any.
    pub(crate) fn end(self) -> anyhow::Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

/// A message that needs no `error:` before it.
#[derive(Debug)]
pub(crate) struct Told(pub(crate) String);

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Told {}
