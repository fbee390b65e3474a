//! The query's options, typed, with Kubernetes' answers for bad ones.

use alloc::{
    format,
    string::{String, ToString},
};

use coracle_api::{FieldErrors, Status, selector::FieldSelector, time};

use super::{HttpRequest, Target, Verb, path::Parsed, query::first, query::flag, query::truth};
use crate::limits;

/// What to do with fields that the schema does not have, or that come twice.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Dropped silently.
    Ignore,
    /// Dropped, with a Warning header for each.
    #[default]
    Warn,
    /// 400.
    Strict,
}

/// How `resourceVersion` of a list is meant.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum VersionMatch {
    /// Exactly that version.
    Exact,
    /// That one or any later one.
    NotOlderThan,
}

/// What becomes of the things that a deleted object owns.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Collected after it is gone.
    Background,
    /// Collected before it goes.
    Foreground,
    /// Left alone.
    Orphan,
}

/// What a Table's rows carry of their object.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// A PartialObjectMetadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

/// Options of `pods/NAME/log`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Empty: the only container.
    pub container: String,
    /// Goes on as lines come.
    pub follow: bool,
    /// Of the container's last life.
    pub previous: bool,
    /// A time before each line.
    pub timestamps: bool,
    /// Only the last seconds (at least 1).
    pub since_seconds: Option<i64>,
    /// Only since (RFC 3339, as sent).
    pub since_time: Option<String>,
    /// Only the last lines (0 and up).
    pub tail_lines: Option<i64>,
    /// At most so many bytes (at least 1).
    pub limit_bytes: Option<i64>,
    /// `All` (or empty), `Stdout`, `Stderr`.
    pub stream: String,
}

/// All options. Those that a verb does not know stay as they are by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// As sent; parsed by whoever selects.
    pub label_selector: String,
    /// As sent, and the name of a legacy watch path as `metadata.name=NAME`.
    pub field_selector: String,
    /// `None`: not given; `Some(0)`: any.
    pub resource_version: Option<u64>,
    /// How it is meant.
    pub resource_version_match: Option<VersionMatch>,
    /// Most items of a page; 0: all.
    pub limit: u64,
    /// Of the page before; empty: the first page.
    pub continue_token: String,
    /// A list or watch ends after so many seconds.
    pub timeout_seconds: Option<u64>,
    /// Bookmarks are understood.
    pub allow_watch_bookmarks: bool,
    /// The watch begins with what there is, closed by a bookmark.
    pub send_initial_events: Option<bool>,
    /// Nothing is to be written (`dryRun=All`).
    pub dry_run: bool,
    /// Who is to stand in managedFields; never empty for a request of HTTP.
    pub field_manager: String,
    /// About unknown and doubled fields.
    pub field_validation: FieldValidation,
    /// Apply takes over what others own.
    pub force: bool,
    /// Seconds granted at deletion.
    pub grace_period_seconds: Option<i64>,
    /// What becomes of owned things.
    pub propagation_policy: Option<Propagation>,
    /// Its older form.
    pub orphan_dependents: Option<bool>,
    /// Deleting is to go on though the stored object cannot be read.
    pub ignore_store_read_error: bool,
    /// Indented JSON.
    pub pretty: bool,
    /// Of a Table.
    pub include_object: IncludeObject,
    /// Of a log.
    pub log: LogOptions,
}

/// Reads the options that the verb knows. 400: not a number; 422: a value or a combination that cannot be.
pub(super) fn parse(
    http: &HttpRequest,
    parsed: &Parsed,
    pairs: &[(String, String)],
) -> Result<Options, Status> {
    let text = |key: &str| first(pairs, key).unwrap_or_default().to_string();
    let mut options = Options {
        pretty: flag(pairs, "pretty"),
        field_manager: manager_of(http.header("user-agent").unwrap_or_default()),
        include_object: match first(pairs, "includeObject") {
            None | Some("" | "Metadata") => IncludeObject::Metadata,
            Some("None") => IncludeObject::None,
            Some("Object") => IncludeObject::Object,
            Some(other) => {
                return Err(Status::bad_request(format!(
                    "unrecognized includeObject value {other:?}: use None, Metadata or Object"
                )));
            }
        },
        ..Options::default()
    };
    let Target::Resource(target) = &parsed.target else { return Ok(options) };
    let mut faults = FieldErrors::new();
    let kind = match parsed.verb {
        Verb::Get => "GetOptions",
        Verb::List | Verb::Watch | Verb::DeleteCollection => "ListOptions",
        Verb::Create => "CreateOptions",
        Verb::Update => "UpdateOptions",
        Verb::Patch => "PatchOptions",
        Verb::Delete => "DeleteOptions",
    };
    if parsed.verb.is_read() || parsed.verb == Verb::DeleteCollection {
        options.resource_version = resource_version(pairs)?;
    }
    match parsed.verb {
        Verb::Get if target.subresource == "log" => options.log = log_options(pairs)?,
        Verb::Get => {}
        Verb::List | Verb::Watch | Verb::DeleteCollection => {
            options.label_selector = text("labelSelector");
            options.field_selector = text("fieldSelector");
            options.field_selector = narrowed(options.field_selector, &parsed.selected_name)?;
            list_options(&mut options, parsed.verb, pairs, &mut faults)?;
        }
        Verb::Create | Verb::Update | Verb::Patch => {
            write_options(&mut options, http, parsed.verb, pairs, &mut faults);
        }
        Verb::Delete => {}
    }
    if matches!(parsed.verb, Verb::Delete | Verb::DeleteCollection) {
        delete_options(&mut options, pairs, &mut faults)?;
    }
    faults.into_result("meta.k8s.io", kind, "")?;
    Ok(options)
}

/// The field selector of a list or watch that was authorized for this one name (empty: for all): it must pick no other.
fn narrowed(selector: String, name: &str) -> Result<String, Status> {
    if name.is_empty() {
        return Ok(selector);
    }
    if selector.is_empty() {
        return Ok(format!("metadata.name={name}"));
    }
    let terms = FieldSelector::parse(&selector).map_err(Status::bad_request)?;
    if terms.exact("metadata.name") == Some(name) {
        return Ok(selector);
    }
    Err(Status::bad_request(format!(
        "fieldSelector {selector:?} does not match the requested name {name:?}"
    )))
}

fn list_options(
    options: &mut Options,
    verb: Verb,
    pairs: &[(String, String)],
    faults: &mut FieldErrors,
) -> Result<(), Status> {
    // A limit or timeout of less than nothing is none, as Kubernetes has it.
    options.limit = number(pairs, "limit")?.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    options.timeout_seconds = number(pairs, "timeoutSeconds")?
        .and_then(|n| u64::try_from(n).ok())
        .filter(|seconds| *seconds > 0);
    options.continue_token = first(pairs, "continue").unwrap_or_default().into();
    options.allow_watch_bookmarks = flag(pairs, "allowWatchBookmarks");
    options.send_initial_events = first(pairs, "sendInitialEvents").map(truth);
    let watch = verb == Verb::Watch;
    let mut forbid = |field, why: &str| faults.forbidden(field, why);
    if options.send_initial_events.is_some() && !watch {
        forbid("sendInitialEvents", "sendInitialEvents is forbidden for list");
    }
    let given = first(pairs, "resourceVersionMatch").unwrap_or_default();
    if options.send_initial_events.is_some() && watch && given != "NotOlderThan" {
        forbid(
            "resourceVersionMatch",
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        );
    }
    if !given.is_empty() {
        if watch && options.send_initial_events.is_none() {
            forbid(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            );
        }
        if !watch && options.resource_version.is_none() {
            forbid(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            );
        }
        if !options.continue_token.is_empty() {
            forbid(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden when continue is provided",
            );
        }
        if given == "Exact" && options.resource_version == Some(0) {
            forbid(
                "resourceVersionMatch",
                "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
            );
        }
    }
    options.resource_version_match = match given {
        "" => None,
        "Exact" => Some(VersionMatch::Exact),
        "NotOlderThan" => Some(VersionMatch::NotOlderThan),
        other => {
            faults.not_supported("resourceVersionMatch", other, &["Exact", "NotOlderThan"]);
            None
        }
    };
    Ok(())
}

fn write_options(
    options: &mut Options,
    http: &HttpRequest,
    verb: Verb,
    pairs: &[(String, String)],
    faults: &mut FieldErrors,
) {
    dry_run(options, pairs, faults);
    let apply = verb == Verb::Patch
        && http
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("application/apply-patch"));
    let manager = first(pairs, "fieldManager").unwrap_or_default();
    if manager.len() > limits::FIELD_MANAGER_BYTES_MAX {
        faults.too_long("fieldManager", limits::FIELD_MANAGER_BYTES_MAX);
    } else if manager.chars().any(char::is_control) {
        faults.invalid("fieldManager", manager, "should only contain printable characters");
    } else if !manager.is_empty() {
        options.field_manager = manager.into();
    } else if apply {
        faults.required("fieldManager", "is required for apply patch");
    }
    if let Some(force) = first(pairs, "force") {
        options.force = truth(force);
        if verb == Verb::Patch && !apply {
            faults.forbidden("force", "may not be specified for non-apply patch");
        }
    }
    options.field_validation = match first(pairs, "fieldValidation") {
        None | Some("" | "Warn") => FieldValidation::Warn,
        Some("Ignore") => FieldValidation::Ignore,
        Some("Strict") => FieldValidation::Strict,
        Some(other) => {
            faults.not_supported("fieldValidation", other, &["Ignore", "Strict", "Warn"]);
            FieldValidation::Warn
        }
    };
}

fn delete_options(
    options: &mut Options,
    pairs: &[(String, String)],
    faults: &mut FieldErrors,
) -> Result<(), Status> {
    dry_run(options, pairs, faults);
    options.grace_period_seconds = number(pairs, "gracePeriodSeconds")?;
    options.orphan_dependents = first(pairs, "orphanDependents").map(truth);
    options.propagation_policy = match first(pairs, "propagationPolicy") {
        None | Some("") => None,
        Some(given) => {
            let policy = Propagation::parse(given);
            if policy.is_none() {
                faults.not_supported(
                    "propagationPolicy",
                    given,
                    &["Background", "Foreground", "Orphan"],
                );
            }
            policy
        }
    };
    if options.orphan_dependents.is_some() && options.propagation_policy.is_some() {
        faults.invalid(
            "propagationPolicy",
            first(pairs, "propagationPolicy").unwrap_or_default(),
            "orphanDependents and deletionPropagation cannot be both set",
        );
    }
    Ok(())
}

fn log_options(pairs: &[(String, String)]) -> Result<LogOptions, Status> {
    let text = |key: &str| first(pairs, key).unwrap_or_default().to_string();
    let log = LogOptions {
        container: text("container"),
        follow: flag(pairs, "follow"),
        previous: flag(pairs, "previous"),
        timestamps: flag(pairs, "timestamps"),
        since_seconds: number(pairs, "sinceSeconds")?,
        since_time: first(pairs, "sinceTime").filter(|time| !time.is_empty()).map(Into::into),
        tail_lines: number(pairs, "tailLines")?,
        limit_bytes: number(pairs, "limitBytes")?,
        stream: text("stream"),
    };
    if let Some(since) = log.since_time.as_deref().filter(|since| time::parse_us(since).is_none()) {
        return Err(Status::bad_request(format!(
            "sinceTime: Invalid value: {since:?}: must be a time since 1970 as RFC 3339 has it"
        )));
    }
    let mut faults = FieldErrors::new();
    let mut at_least = |field, value: Option<i64>, least: i64, words: &str| {
        if let Some(value) = value.filter(|value| *value < least) {
            faults.invalid(field, value, format!("must be greater than {words}"));
        }
    };
    at_least("tailLines", log.tail_lines, 0, "or equal to 0");
    at_least("limitBytes", log.limit_bytes, 1, "0");
    at_least("sinceSeconds", log.since_seconds, 1, "0");
    if log.since_seconds.is_some() && log.since_time.is_some() {
        faults.forbidden("", "at most one of `sinceTime` or `sinceSeconds` may be specified");
    }
    if !matches!(log.stream.as_str(), "" | "All" | "Stdout" | "Stderr") {
        faults.not_supported("stream", &log.stream, &["All", "Stderr", "Stdout"]);
    }
    if !matches!(log.stream.as_str(), "" | "All") && log.tail_lines.is_some() {
        faults.forbidden("", "`tailLines` and specific `stream` are mutually exclusive for now");
    }
    faults.into_result("", "PodLogOptions", "")?;
    Ok(log)
}

impl Propagation {
    /// By its name in the API.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "Background" => Some(Self::Background),
            "Foreground" => Some(Self::Foreground),
            "Orphan" => Some(Self::Orphan),
            _ => None,
        }
    }
}

fn dry_run(options: &mut Options, pairs: &[(String, String)], faults: &mut FieldErrors) {
    for (_, value) in pairs.iter().filter(|(key, value)| key == "dryRun" && !value.is_empty()) {
        if value == "All" {
            options.dry_run = true;
        } else {
            faults.not_supported("dryRun", value, &["All"]);
        }
    }
}

fn resource_version(pairs: &[(String, String)]) -> Result<Option<u64>, Status> {
    match first(pairs, "resourceVersion").unwrap_or_default() {
        "" => Ok(None),
        given => given.parse().map(Some).map_err(|_| {
            Status::bad_request(format!(
                "resourceVersion: Invalid value: {given:?}: not a number that a list or watch gave"
            ))
        }),
    }
}

fn number(pairs: &[(String, String)], key: &str) -> Result<Option<i64>, Status> {
    match first(pairs, key).unwrap_or_default() {
        "" => Ok(None),
        given => given.parse().map(Some).map_err(|_| {
            Status::bad_request(format!("{key}: Invalid value: {given:?}: must be a whole number"))
        }),
    }
}

/// The manager that a user agent stands for: what is before its first slash.
fn manager_of(agent: &str) -> String {
    let name = agent.split('/').next().unwrap_or_default().trim();
    let name: String = name.chars().filter(|c| !c.is_control()).collect();
    let mut end = name.len().min(limits::FIELD_MANAGER_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    match name.get(..end) {
        None | Some("") => "unknown".into(),
        Some(name) => name.into(),
    }
}
