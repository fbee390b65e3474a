//! Whose rights an entrypoint gets: the pod's word over the image's, names looked up in the image's own files.

use std::{fs, path::PathBuf};

use coracle_agent_logic::spec::{Container, Pod};
use coracle_runtime::User;

/// Largest /etc/passwd or /etc/group that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// User, group and further groups of a container. `image_user` is the image's `User`.
///
/// # Errors
/// The text of CreateContainerConfigError.
pub(crate) fn resolve(
    pod: &Pod,
    container: &Container,
    image_user: &str,
    layers: &[PathBuf],
) -> Result<User, String> {
    let passwd = read(layers, "etc/passwd");
    let group = read(layers, "etc/group");
    choose(pod, container, image_user, &passwd, &group)
}

fn choose(
    pod: &Pod,
    container: &Container,
    image_user: &str,
    passwd: &str,
    group: &str,
) -> Result<User, String> {
    let (own, all) = (&container.security_context, &pod.spec.security_context);
    let id = |name: &str, value: Option<i64>| match value {
        None => Ok(None),
        Some(value) => {
            u32::try_from(value).map(Some).map_err(|_| format!("{name} {value} is no id"))
        }
    };
    let wanted_user = id("runAsUser", own.run_as_user.or(all.run_as_user))?;
    let wanted_group = id("runAsGroup", own.run_as_group.or(all.run_as_group))?;
    let (image_user, image_group) = match image_user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (image_user, None),
    };
    let uid = match (wanted_user, image_user) {
        (Some(uid), _) => uid,
        (None, "") => 0,
        (None, name) => match name.parse() {
            Ok(uid) => uid,
            Err(_) => entry(passwd, name)
                .and_then(|line| line.get(2)?.parse().ok())
                .ok_or_else(|| format!("the image's user {name} is not in its /etc/passwd"))?,
        },
    };
    let from_passwd =
        passwd.lines().map(fields).find(|line| line.get(2) == Some(&uid.to_string().as_str()));
    let name = from_passwd.as_ref().and_then(|line| line.first().copied()).unwrap_or_default();
    let gid = match (wanted_group, image_group.filter(|_| wanted_user.is_none())) {
        (Some(gid), _) => gid,
        (None, Some(name)) => match name.parse() {
            Ok(gid) => gid,
            Err(_) => entry(group, name)
                .and_then(|line| line.get(2)?.parse().ok())
                .ok_or_else(|| format!("the image's group {name} is not in its /etc/group"))?,
        },
        (None, None) => {
            from_passwd.as_ref().and_then(|line| line.get(3)?.parse().ok()).unwrap_or(0)
        }
    };
    if own.run_as_non_root.or(all.run_as_non_root) == Some(true) && uid == 0 {
        return Err(format!(
            "container has runAsNonRoot and image will run as root (pod: \"{}\", container: {})",
            pod.full_name(),
            container.name
        ));
    }
    let mut groups: Vec<u32> = group
        .lines()
        .map(fields)
        .filter(|line| {
            !name.is_empty()
                && line.get(3).is_some_and(|users| users.split(',').any(|user| user == name))
        })
        .filter_map(|line| line.get(2)?.parse().ok())
        .collect();
    for extra in all.supplemental_groups.iter().chain(&all.fs_group) {
        groups.extend(id("a supplemental group", Some(*extra))?);
    }
    groups.sort_unstable();
    groups.dedup();
    Ok(User { uid, gid, groups })
}

fn fields(line: &str) -> Vec<&str> {
    line.split(':').collect()
}

fn entry<'a>(text: &'a str, name: &str) -> Option<Vec<&'a str>> {
    text.lines().map(fields).find(|line| line.first() == Some(&name))
}

/// A file of the image: from the uppermost layer that has it. A symlink of the image is not followed: it could lead out.
fn read(layers: &[PathBuf], path: &str) -> String {
    for layer in layers {
        let directory = layer.join("etc");
        if fs::symlink_metadata(&directory).is_ok_and(|meta| !meta.is_dir()) {
            return String::new();
        }
        let file = layer.join(path);
        match fs::symlink_metadata(&file) {
            Ok(meta) if meta.is_file() && meta.len() <= FILE_BYTES_MAX => {
                return fs::read(&file).map_or_else(
                    |_| String::new(),
                    |bytes| String::from_utf8_lossy(&bytes).into_owned(),
                );
            }
            // A whiteout, a link, something too large: the image has no such file for us.
            Ok(_) => return String::new(),
            Err(_) => {}
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/var/www:/bin/false\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nextra:x:50:web,other\n";

    fn of(security: Value, pod_security: Value, image: &str) -> Result<User, String> {
        let pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {
            "securityContext": pod_security,
            "containers": [{"name": "c", "securityContext": security}]}});
        let pod = Pod::parse(serde_json::to_vec(&pod).unwrap().into()).unwrap();
        choose(&pod, &pod.spec.containers[0], image, PASSWD, GROUP)
    }

    #[test]
    fn users_are_found() {
        let check =
            |security: Value, pod: Value, image: &str, uid: u32, gid: u32, groups: &[u32]| {
                let want = User { uid, gid, groups: groups.into() };
                assert_eq!(of(security, pod, image), Ok(want), "{image}");
            };
        check(json!({}), json!({}), "", 0, 0, &[]);
        check(json!({}), json!({}), "web", 33, 34, &[50]);
        check(json!({}), json!({}), "web:root", 33, 0, &[50]);
        check(json!({}), json!({}), "1000:7", 1000, 7, &[]);
        check(json!({"runAsUser": 1000}), json!({"runAsUser": 1}), "web", 1000, 0, &[]);
        check(json!({}), json!({"runAsUser": 33, "runAsGroup": 9}), "", 33, 9, &[50]);
        check(json!({}), json!({"fsGroup": 77, "supplementalGroups": [78]}), "", 0, 0, &[77, 78]);
        check(json!({"runAsNonRoot": true}), json!({}), "web", 33, 34, &[50]);
    }

    #[test]
    fn root_is_refused_where_it_is_not_wanted() {
        let error = of(json!({}), json!({"runAsNonRoot": true}), "").unwrap_err();
        assert!(
            error.starts_with("container has runAsNonRoot and image will run as root"),
            "{error}"
        );
        assert!(of(json!({}), json!({}), "nobody").unwrap_err().contains("not in its /etc/passwd"));
    }
}
