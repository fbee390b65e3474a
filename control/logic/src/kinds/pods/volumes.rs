//! Rules for the volumes of a pod.

use alloc::collections::BTreeSet;

use coracle_api::validation;
use serde_json::Value;

use super::env::downward_items;
use crate::kinds::{
    access::{at, int, items, text},
    field::{FieldErrors, Path},
    quantities,
};

/// Names of the volumes that a mount may use.
pub(crate) type Volumes<'a> = BTreeSet<&'a str>;

/// Kinds of files and directories that a hostPath may ask for.
const HOST_PATH_TYPES: [&str; 8] = [
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

/// All volumes of a pod at `path`; gives their names.
pub(crate) fn volumes<'a>(
    volumes: &'a [Value],
    path: &Path,
    errors: &mut FieldErrors,
) -> Volumes<'a> {
    let mut names = BTreeSet::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        let name = text(volume, &["name"]);
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            for why in validation::dns1123_label(name) {
                errors.invalid(&path.child("name"), name, &why);
            }
            if !names.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
        }
        source(volume, &path, errors);
    }
    names
}

fn source(volume: &Value, path: &Path, errors: &mut FieldErrors) {
    let sources = volume.as_object().into_iter().flatten();
    let mut found = 0;
    for (kind, source) in sources.filter(|(key, value)| *key != "name" && !value.is_null()) {
        let path = path.child(kind);
        found += 1;
        if found > 1 {
            errors.forbidden(&path, "may not specify more than 1 volume type");
            continue;
        }
        match kind.as_str() {
            "emptyDir" => {
                if let Some(size) = at(source, &["sizeLimit"]) {
                    quantities::checked(errors, &path.child("sizeLimit"), size);
                }
            }
            "hostPath" => host_path(source, &path, errors),
            "secret" => {
                required(source, "secretName", &path, errors);
                files(source, &path, errors);
            }
            "configMap" => {
                required(source, "name", &path, errors);
                files(source, &path, errors);
            }
            "downwardAPI" => {
                mode(source, "defaultMode", &path, errors);
                downward_items(source, &path, errors);
            }
            "projected" => projected(source, &path, errors),
            "persistentVolumeClaim" => required(source, "claimName", &path, errors),
            "nfs" => {
                required(source, "server", &path, errors);
                required(source, "path", &path, errors);
            }
            "csi" => required(source, "driver", &path, errors),
            _ => {}
        }
    }
    if found == 0 {
        errors.required(path, "must specify a volume type");
    }
}

fn required(holder: &Value, key: &str, path: &Path, errors: &mut FieldErrors) {
    if text(holder, &[key]).is_empty() {
        errors.required(&path.child(key), "");
    }
}

fn host_path(source: &Value, path: &Path, errors: &mut FieldErrors) {
    let host = text(source, &["path"]);
    if host.is_empty() {
        return errors.required(&path.child("path"), "");
    }
    no_backsteps(host, &path.child("path"), errors);
    let kind = text(source, &["type"]);
    if !HOST_PATH_TYPES.contains(&kind) {
        errors.not_supported(&path.child("type"), kind, &HOST_PATH_TYPES);
    }
}

fn files(source: &Value, path: &Path, errors: &mut FieldErrors) {
    mode(source, "defaultMode", path, errors);
    key_paths(source, path, errors);
}

fn key_paths(source: &Value, path: &Path, errors: &mut FieldErrors) {
    for (index, item) in items(source, &["items"]).iter().enumerate() {
        let path = path.child("items").index(index);
        required(item, "key", &path, errors);
        let file = text(item, &["path"]);
        if file.is_empty() {
            errors.required(&path.child("path"), "");
        } else {
            file_path(file, &path.child("path"), errors);
        }
        mode(item, "mode", &path, errors);
    }
}

/// File modes: permission bits only.
pub(crate) fn mode(holder: &Value, key: &str, path: &Path, errors: &mut FieldErrors) {
    if let Some(mode) = int(holder, &[key])
        && !(0..=0o777).contains(&mode)
    {
        let why = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.invalid(&path.child(key), mode, why);
    }
}

fn no_backsteps(file: &str, path: &Path, errors: &mut FieldErrors) -> bool {
    let fine = file.split('/').all(|part| part != "..");
    if !fine {
        errors.invalid(path, file, "must not contain '..'");
    }
    fine
}

/// A path that stays inside: relative, and no `..`.
pub(crate) fn inside(file: &str, path: &Path, errors: &mut FieldErrors) {
    if file.starts_with('/') {
        errors.invalid(path, file, "must be a relative path");
    }
    no_backsteps(file, path, errors);
}

/// A path inside that also does not begin as the agent's own entries do (`..data`).
pub(crate) fn file_path(file: &str, path: &Path, errors: &mut FieldErrors) {
    if file.starts_with('/') {
        errors.invalid(path, file, "must be a relative path");
    }
    if no_backsteps(file, path, errors) && file.starts_with("..") {
        errors.invalid(path, file, "must not start with '..'");
    }
}

fn projected(projected: &Value, path: &Path, errors: &mut FieldErrors) {
    mode(projected, "defaultMode", path, errors);
    let mut taken = BTreeSet::new();
    for (index, source) in items(projected, &["sources"]).iter().enumerate() {
        let path = path.child("sources").index(index);
        let parts = source.as_object().into_iter().flatten();
        let mut found = 0;
        for (kind, part) in parts.filter(|(_, part)| !part.is_null()) {
            let path = path.child(kind);
            found += 1;
            if found > 1 {
                errors.forbidden(&path, "may not specify more than 1 volume type");
                continue;
            }
            match kind.as_str() {
                "secret" | "configMap" => {
                    required(part, "name", &path, errors);
                    key_paths(part, &path, errors);
                }
                "downwardAPI" => downward_items(part, &path, errors),
                "serviceAccountToken" => token(part, &path, errors),
                _ => {}
            }
            let own = (kind == "serviceAccountToken").then(|| text(part, &["path"]));
            let listed = items(part, &["items"]).iter().map(|item| text(item, &["path"]));
            for file in own.into_iter().chain(listed).filter(|file| !file.is_empty()) {
                if !taken.insert(file) {
                    errors.invalid(&path, file, "conflicting duplicate paths");
                }
            }
        }
    }
}

fn token(token: &Value, path: &Path, errors: &mut FieldErrors) {
    let seconds = int(token, &["expirationSeconds"]).unwrap_or(3600);
    let at_seconds = path.child("expirationSeconds");
    if seconds < 600 {
        let why = "may not specify a duration less than 10 minutes";
        errors.invalid(&at_seconds, seconds, why);
    }
    if seconds > 1 << 32 {
        let why = "may not specify a duration larger than 2^32 seconds";
        errors.invalid(&at_seconds, seconds, why);
    }
    match text(token, &["path"]) {
        "" => errors.required(&path.child("path"), ""),
        file => file_path(file, &path.child("path"), errors),
    }
}
