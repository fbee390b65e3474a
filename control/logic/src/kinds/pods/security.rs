//! Rules for security contexts.

use alloc::collections::BTreeSet;

use serde_json::Value;

use crate::kinds::{
    access::{at, flag, int, items, text},
    field::{FieldErrors, Path},
};

/// `securityContext` of a pod spec at `path`, and what goes with it.
pub(crate) fn pod(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let path = path.child("securityContext");
    if flag(spec, &["hostPID"]) && flag(spec, &["shareProcessNamespace"]) {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(&path.child("shareProcessNamespace"), true, why);
    }
    let Some(context) = at(spec, &["securityContext"]) else { return };
    for key in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(int(context, &[key]), &path.child(key), errors);
    }
    for (index, group) in items(context, &["supplementalGroups"]).iter().enumerate() {
        id(group.as_i64(), &path.child("supplementalGroups").index(index), errors);
    }
    let policy = text(context, &["fsGroupChangePolicy"]);
    if !matches!(policy, "" | "OnRootMismatch" | "Always") {
        let path = path.child("fsGroupChangePolicy");
        errors.not_supported(&path, policy, &["Always", "OnRootMismatch"]);
    }
    sysctls(context, &path.child("sysctls"), errors);
    profiles(context, &path, errors);
}

/// `securityContext` of a container at `path`, where there is one.
pub(crate) fn container(container: &Value, path: &Path, errors: &mut FieldErrors) {
    let Some(context) = at(container, &["securityContext"]) else { return };
    for key in ["runAsUser", "runAsGroup"] {
        id(int(context, &[key]), &path.child(key), errors);
    }
    let proc_mount = text(context, &["procMount"]);
    if !matches!(proc_mount, "" | "Default" | "Unmasked") {
        errors.not_supported(&path.child("procMount"), proc_mount, &["Default", "Unmasked"]);
    }
    if at(context, &["allowPrivilegeEscalation"]).and_then(Value::as_bool) == Some(false) {
        if flag(context, &["privileged"]) {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.invalid(path, context, why);
        }
        let admin =
            |capability: &Value| matches!(capability.as_str(), Some("CAP_SYS_ADMIN" | "SYS_ADMIN"));
        if items(context, &["capabilities", "add"]).iter().any(admin) {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.invalid(path, context, why);
        }
    }
    profiles(context, path, errors);
}

fn id(id: Option<i64>, path: &Path, errors: &mut FieldErrors) {
    if let Some(id) = id
        && !(0..=i64::from(i32::MAX)).contains(&id)
    {
        errors.invalid(path, id, "must be between 0 and 2147483647, inclusive");
    }
}

fn profiles(context: &Value, path: &Path, errors: &mut FieldErrors) {
    for (key, name) in [("seccompProfile", "seccomp"), ("appArmorProfile", "AppArmor")] {
        let Some(profile) = at(context, &[key]) else { continue };
        let path = path.child(key);
        let at_local = path.child("localhostProfile");
        let local = at(profile, &["localhostProfile"]).and_then(Value::as_str);
        match text(profile, &["type"]) {
            "" => {
                errors.required(&path.child("type"), "type is required when seccompProfile is set")
            }
            "Localhost" => match local {
                None | Some("") => {
                    let why = alloc::format!("must be set when {name} type is Localhost");
                    errors.required(&at_local, &why);
                }
                Some(file) => super::volumes::inside(file, &at_local, errors),
            },
            "RuntimeDefault" | "Unconfined" => {
                if let Some(file) = local {
                    let why = alloc::format!("can only be set when {name} type is Localhost");
                    errors.invalid(&at_local, file, &why);
                }
            }
            other => {
                let known = ["Localhost", "RuntimeDefault", "Unconfined"];
                errors.not_supported(&path.child("type"), other, &known);
            }
        }
    }
}

fn sysctls(context: &Value, path: &Path, errors: &mut FieldErrors) {
    let mut seen = BTreeSet::new();
    for (index, sysctl) in items(context, &["sysctls"]).iter().enumerate() {
        let path = path.index(index).child("name");
        let name = text(sysctl, &["name"]);
        if name.is_empty() {
            errors.required(&path, "");
            continue;
        }
        let part = |part: &str| {
            let ends = [part.bytes().next(), part.bytes().last()];
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
            ends.iter().all(|end| end.is_some_and(plain))
                && part.bytes().all(|b| plain(b) || matches!(b, b'-' | b'_'))
        };
        if name.len() > 253 || !name.split(['.', '/']).all(part) {
            let why = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.invalid(&path, name, why);
        }
        if !seen.insert(name) {
            errors.duplicate(&path, name);
        }
    }
}
