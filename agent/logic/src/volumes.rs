//! What is in a pod's volumes: which objects they need, and the files of each, decided without touching a disk.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};

use crate::{
    env::{Data, ObjectRef, Objects, not_found},
    fields::{self, Place},
    spec::{DownwardFiles, KeyToPath, ObjectFiles, Pod, TokenFile, Volume},
};

/// Default mode of files in ConfigMap, Secret, downwardAPI and projected volumes.
pub const FILE_MODE: u32 = 0o644;

/// A token to be asked for: audience (empty: the API server) and life in seconds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenWish {
    /// `spec.audiences[0]`; empty for the default.
    pub audience: String,
    /// `spec.expirationSeconds`.
    pub expiration_seconds: u64,
}

/// Tokens by wish.
pub type Tokens = BTreeMap<TokenWish, String>;

/// One file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Content.
    pub bytes: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}

/// The files of one volume by relative path, each path clean (no `..`, not absolute).
pub type Files = BTreeMap<String, File>;

/// Objects that the volumes of this pod need.
pub fn references(pod: &Pod) -> BTreeSet<ObjectRef> {
    let map = |files: &ObjectFiles| ObjectRef::ConfigMap(files.object().into());
    let secret = |files: &ObjectFiles| ObjectRef::Secret(files.object().into());
    let mut found = BTreeSet::new();
    for volume in &pod.spec.volumes {
        found.extend(volume.config_map.as_ref().map(map));
        found.extend(volume.secret.as_ref().map(secret));
        for source in volume.projected.iter().flat_map(|projected| &projected.sources) {
            found.extend(source.config_map.as_ref().map(map));
            found.extend(source.secret.as_ref().map(secret));
        }
    }
    found
}

/// Tokens that the volumes of this pod need.
pub fn token_wishes(pod: &Pod) -> BTreeSet<TokenWish> {
    let projected = pod.spec.volumes.iter().filter_map(|volume| volume.projected.as_ref());
    let sources = projected.flat_map(|projected| &projected.sources);
    sources.filter_map(|source| source.service_account_token.as_ref()).map(wish).collect()
}

fn wish(token: &TokenFile) -> TokenWish {
    TokenWish {
        audience: token.audience.clone(),
        expiration_seconds: token.expiration_seconds.unwrap_or(3600).max(600),
    }
}

/// The files of a ConfigMap, Secret, downwardAPI or projected volume; `None` for the other kinds.
///
/// # Errors
/// An object, key or field is missing; the text is that of a FailedMount event.
pub fn files(
    pod: &Pod,
    volume: &Volume,
    objects: &Objects,
    tokens: &Tokens,
    place: &Place,
) -> Result<Option<Files>, String> {
    let mut files = Files::new();
    let failed =
        |why: String| format!("MountVolume.SetUp failed for volume \"{}\" : {why}", volume.name);
    if let Some(map) = &volume.config_map {
        let reference = ObjectRef::ConfigMap(map.object().into());
        let mode = map.default_mode.unwrap_or(FILE_MODE);
        object(&reference, map, mode, objects, &mut files).map_err(failed)?;
    } else if let Some(secret) = &volume.secret {
        let reference = ObjectRef::Secret(secret.object().into());
        let mode = secret.default_mode.unwrap_or(FILE_MODE);
        object(&reference, secret, mode, objects, &mut files).map_err(failed)?;
    } else if let Some(downward) = &volume.downward_api {
        let mode = downward.default_mode.unwrap_or(FILE_MODE);
        downward_files(pod, downward, mode, place, &mut files).map_err(failed)?;
    } else if let Some(projected) = &volume.projected {
        let mode = projected.default_mode.unwrap_or(FILE_MODE);
        for source in &projected.sources {
            if let Some(map) = &source.config_map {
                let reference = ObjectRef::ConfigMap(map.object().into());
                object(&reference, map, mode, objects, &mut files).map_err(failed)?;
            }
            if let Some(secret) = &source.secret {
                let reference = ObjectRef::Secret(secret.object().into());
                object(&reference, secret, mode, objects, &mut files).map_err(failed)?;
            }
            if let Some(downward) = &source.downward_api {
                downward_files(pod, downward, mode, place, &mut files).map_err(failed)?;
            }
            if let Some(token) = &source.service_account_token {
                let bytes = tokens.get(&wish(token)).ok_or_else(|| {
                    failed(format!(
                        "no token for service account {}",
                        pod.spec.service_account_name
                    ))
                })?;
                put(&mut files, &token.path, bytes.as_bytes().to_vec(), mode).map_err(failed)?;
            }
        }
    } else {
        return Ok(None);
    }
    own_group(pod, &mut files);
    Ok(Some(files))
}

/// Whether a volume's files live in memory only: those with Secrets and tokens do. (The agent's own copy of its pods' Secrets,
/// from which they start without a server, is a 0600 file in its data directory.)
pub fn in_memory(volume: &Volume) -> bool {
    volume.secret.is_some()
        || volume.projected.is_some()
        || volume.empty_dir.as_ref().is_some_and(|empty| empty.medium == "Memory")
}

/// Whether the agent alone writes a volume's files: containers get it read-only whatever they ask for, as kubelet has it.
pub fn is_published(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
}

/// With `fsGroup` the group may read what the owner may.
fn own_group(pod: &Pod, files: &mut Files) {
    if pod.spec.security_context.fs_group.is_some() {
        for file in files.values_mut() {
            file.mode |= (file.mode & 0o700) >> 3 & 0o040;
        }
    }
}

fn object(
    reference: &ObjectRef,
    wanted: &ObjectFiles,
    mode: u32,
    objects: &Objects,
    files: &mut Files,
) -> Result<(), String> {
    let Some(data) = objects.get(reference).and_then(Option::as_ref) else {
        return if wanted.optional { Ok(()) } else { Err(not_found(reference).0) };
    };
    if wanted.items.is_empty() {
        for (key, value) in data {
            put(files, key, value.clone(), mode)?;
        }
        return Ok(());
    }
    for KeyToPath { key, path, mode: own } in &wanted.items {
        match data.get(key) {
            Some(value) => put(files, path, value.clone(), own.unwrap_or(mode))?,
            None if wanted.optional => {}
            None => return Err(missing_key(data, key)),
        }
    }
    Ok(())
}

fn missing_key(_data: &Data, key: &str) -> String {
    format!("references non-existent config key: {key}")
}

fn downward_files(
    pod: &Pod,
    wanted: &DownwardFiles,
    mode: u32,
    place: &Place,
    files: &mut Files,
) -> Result<(), String> {
    for item in &wanted.items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(reference), _) => fields::field(pod, place, reference)?,
            (None, Some(reference)) => fields::resource(pod, None, place, reference)?,
            (None, None) => String::new(),
        };
        put(files, &item.path, text.into_bytes(), item.mode.unwrap_or(mode))?;
    }
    Ok(())
}

fn put(files: &mut Files, path: &str, bytes: Vec<u8>, mode: u32) -> Result<(), String> {
    let path = clean(path).ok_or_else(|| format!("invalid path {path:?}"))?;
    files.insert(path, File { bytes, mode: mode & 0o777 });
    Ok(())
}

/// A relative path without `.`, `..` and empty parts; `None` if it has them or starts like our own `..data`.
pub fn clean(path: &str) -> Option<String> {
    let ok = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
    let fits = !path.is_empty() && path.len() <= 4096 && !path.starts_with("..");
    (fits && path.split('/').all(ok)).then(|| path.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn files_of(volume: Value, fs_group: Option<i64>) -> Result<Option<Files>, String> {
        let pod = json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"a": "b"}},
            "spec": {"volumes": [volume], "serviceAccountName": "sa", "securityContext": {"fsGroup": fs_group}},
        });
        let pod = Pod::parse(serde_json::to_vec(&pod).unwrap().into()).unwrap();
        let data: Data = [("k".into(), b"v".to_vec()), ("l".into(), b"w".to_vec())].into();
        let objects: Objects = [
            (ObjectRef::ConfigMap("cm".into()), Some(data.clone())),
            (ObjectRef::Secret("se".into()), Some(data)),
        ]
        .into();
        let tokens =
            [(TokenWish { audience: String::new(), expiration_seconds: 3607 }, "jwt".into())]
                .into();
        files(&pod, &pod.spec.volumes[0], &objects, &tokens, &Place::default())
    }

    fn check(volume: Value, want: &[(&str, &str, u32)]) {
        let got = files_of(volume.clone(), None).unwrap().unwrap();
        let want: Files = want
            .iter()
            .map(|(path, text, mode)| {
                ((*path).into(), File { bytes: text.as_bytes().to_vec(), mode: *mode })
            })
            .collect();
        assert_eq!(got, want, "{volume}");
    }

    #[test]
    fn files_come_from_objects_fields_and_tokens() {
        check(
            json!({"name": "v", "configMap": {"name": "cm"}}),
            &[("k", "v", 0o644), ("l", "w", 0o644)],
        );
        check(
            json!({"name": "v", "secret": {"secretName": "se", "defaultMode": 256, "items": [
                {"key": "k", "path": "deep/er", "mode": 384}]}}),
            &[("deep/er", "v", 0o600)],
        );
        check(json!({"name": "v", "configMap": {"name": "no", "optional": true}}), &[]);
        check(
            json!({"name": "v", "downwardAPI": {"items": [
                {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}),
            &[("labels", "a=\"b\"", 0o644)],
        );
        check(
            json!({"name": "v", "projected": {"defaultMode": 420, "sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                {"configMap": {"name": "cm", "items": [{"key": "k", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
            ]}}),
            &[("token", "jwt", 0o644), ("ca.crt", "v", 0o644), ("namespace", "n", 0o644)],
        );
        assert_eq!(files_of(json!({"name": "v", "emptyDir": {}}), None), Ok(None));
    }

    #[test]
    fn only_the_agent_writes_what_it_publishes() {
        fn check(volume: Value, want: bool) {
            let pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"},
                "spec": {"volumes": [volume]}});
            let pod = Pod::parse(serde_json::to_vec(&pod).unwrap().into()).unwrap();
            assert_eq!(is_published(&pod.spec.volumes[0]), want, "{volume}");
        }
        check(json!({"name": "v", "configMap": {"name": "cm"}}), true);
        check(json!({"name": "v", "secret": {"secretName": "se"}}), true);
        check(json!({"name": "v", "downwardAPI": {}}), true);
        check(json!({"name": "v", "projected": {"sources": []}}), true);
        check(json!({"name": "v", "emptyDir": {"medium": "Memory"}}), false);
        check(json!({"name": "v", "hostPath": {"path": "/data"}}), false);
    }

    #[test]
    fn the_group_may_read_what_its_owner_may() {
        let volume = json!({"name": "v", "secret": {"secretName": "se", "defaultMode": 256, "items": [{"key": "k", "path": "k"}]}});
        let got = files_of(volume, Some(1000)).unwrap().unwrap();
        assert_eq!(got["k"].mode, 0o440);
    }

    #[test]
    fn what_is_missing_or_leads_out_is_refused() {
        let check = |volume: Value, want: &str| {
            let error = files_of(volume, None).unwrap_err();
            assert_eq!(error, format!("MountVolume.SetUp failed for volume \"v\" : {want}"));
        };
        check(json!({"name": "v", "configMap": {"name": "no"}}), "configmap \"no\" not found");
        check(
            json!({"name": "v", "configMap": {"name": "cm", "items": [{"key": "x", "path": "x"}]}}),
            "references non-existent config key: x",
        );
        check(
            json!({"name": "v", "configMap": {"name": "cm", "items": [{"key": "k", "path": "a/../../x"}]}}),
            "invalid path \"a/../../x\"",
        );
        check(
            json!({"name": "v", "projected": {"sources": [{"serviceAccountToken": {"audience": "vault", "path": "t"}}]}}),
            "no token for service account sa",
        );
    }
}
