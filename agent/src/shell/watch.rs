//! List, then watch from there; on a break go on from the last revision; on 410 list anew. No polling.

use coracle_rt::sleep;
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde_json::Value;

use super::{
    api::{Api, ApiError},
    chance::jitter,
    clock, limits,
    log::warning,
};

/// What a watch says.
#[derive(Debug)]
pub(crate) enum Seen {
    /// All that is there.
    Listed(Vec<Value>),
    /// One was made or changed.
    Changed(Value),
    /// One is gone; as it last was.
    Gone(Value),
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct List {
    metadata: ListMeta,
    items: Option<Vec<Value>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ListMeta {
    resource_version: String,
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    object: Value,
}

/// How a watch ended.
enum End {
    /// Go on from the last revision.
    Broke(String),
    /// The revision is too old: list anew.
    Expired,
    /// The API server wants no watch from there.
    Refused(String),
}

/// Follows a collection for ever. `path` is that of the collection, `selector` an encoded query (`fieldSelector=…`) or
/// empty. `tell` is awaited before more is read: a slow one holds up the stream, and the server sees it.
pub(crate) async fn follow<F: AsyncFnMut(Seen)>(
    api: &Api,
    path: &str,
    selector: &str,
    mut tell: F,
) {
    let mut delay = limits::RECONNECT.0;
    loop {
        api.connected().await;
        let revision = match list(api, path, selector).await {
            Ok((revision, items)) => {
                tell(Seen::Listed(items)).await;
                revision
            }
            Err(error) => {
                warning!("cannot list {path}: {error}; trying again");
                sleep(jitter(delay)).await;
                delay = (delay * 2).min(limits::RECONNECT.1);
                continue;
            }
        };
        let mut revision = revision;
        loop {
            api.connected().await;
            let began = clock::now().mono;
            match watch(api, path, selector, &mut revision, &mut tell).await {
                End::Expired => {
                    sleep(jitter(delay)).await;
                    break;
                }
                // Whatever it is (a revision of a cluster that was restored, say): only a new list is sure to mend it.
                End::Refused(why) => {
                    warning!("watch of {path}: {why}; listing anew");
                    sleep(jitter(delay)).await;
                    delay = (delay * 2).min(limits::RECONNECT.1);
                    break;
                }
                End::Broke(why) => {
                    // A lost connection is told once, by whoever keeps it.
                    if !why.is_empty() && api.is_connected() {
                        warning!("watch of {path} broke: {why}; going on");
                    }
                    // One that was quiet until its time was over is as good as one that told much.
                    if clock::now().mono.since(began) > limits::WATCH_GOOD_MS {
                        delay = limits::RECONNECT.0;
                    }
                    sleep(jitter(delay)).await;
                    delay = (delay * 2).min(limits::RECONNECT.1);
                }
            }
        }
    }
}

async fn list(api: &Api, path: &str, selector: &str) -> Result<(String, Vec<Value>), ApiError> {
    let bytes = api.get_bytes(&format!("{path}?{selector}")).await?;
    let list: List = serde_json::from_slice(&bytes)
        .map_err(|error| ApiError::Lost(format!("its list is no JSON: {error}")))?;
    Ok((list.metadata.resource_version, list.items.unwrap_or_default()))
}

async fn watch<F: AsyncFnMut(Seen)>(
    api: &Api,
    path: &str,
    selector: &str,
    revision: &mut String,
    tell: &mut F,
) -> End {
    let and = if selector.is_empty() { "" } else { "&" };
    let path = format!(
        "{path}?{selector}{and}watch=true&allowWatchBookmarks=true&resourceVersion={revision}&timeoutSeconds={}",
        limits::WATCH_SECONDS
    );
    let mut body = match api.stream(&path).await {
        Ok(body) => body,
        Err(error) if error.code() == Some(410) => return End::Expired,
        Err(error) if error.code().is_some() => return End::Refused(error.to_string()),
        Err(error) => return End::Broke(error.to_string()),
    };
    let mut waiting: Vec<u8> = Vec::new();
    loop {
        let frame = match body.frame().await {
            None => return End::Broke(String::new()),
            Some(Err(error)) => return End::Broke(error.to_string()),
            Some(Ok(frame)) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        waiting.extend_from_slice(&data);
        if waiting.len() > limits::WATCH_EVENT_BYTES_MAX {
            return End::Broke("an event is larger than an object can be".into());
        }
        while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = waiting.drain(..=end).collect();
            if line.trim_ascii().is_empty() {
                continue;
            }
            let line: Line = match serde_json::from_slice(&line) {
                Ok(line) => line,
                Err(error) => return End::Broke(format!("an event is no JSON: {error}")),
            };
            if line.kind == "ERROR" {
                let code = line.object.get("code").and_then(Value::as_u64);
                let message = line.object.get("message").and_then(Value::as_str);
                return match code {
                    Some(410) => End::Expired,
                    _ => End::Refused(message.unwrap_or("an error without words").into()),
                };
            }
            let seen = line.object.pointer("/metadata/resourceVersion").and_then(Value::as_str);
            if let Some(seen) = seen {
                *revision = seen.into();
            }
            match line.kind.as_str() {
                "ADDED" | "MODIFIED" => tell(Seen::Changed(line.object)).await,
                "DELETED" => tell(Seen::Gone(line.object)).await,
                _ => {}
            }
        }
        waiting.shrink_to(16 * 1024);
    }
}

/// A field selector for a query.
pub(crate) fn field_selector(field: &str, value: &str) -> String {
    // Names of the API need no escaping beyond `=`.
    format!("fieldSelector={field}%3D{value}")
}
