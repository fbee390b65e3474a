//! Who a container runs as: names and numbers resolved against an image's /etc/passwd and /etc/group. Pure.

use crate::User;

/// A user or group that the image does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownUser {
    /// No line of /etc/passwd.
    #[error("the image has no user `{0}` in /etc/passwd; use a number")]
    User(String),
    /// No line of /etc/group.
    #[error("the image has no group `{0}` in /etc/group; use a number")]
    Group(String),
}

/// A user with what its line of /etc/passwd says besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Numbers; `groups` are those of /etc/group that list the user.
    pub user: User,
    /// Its home, for HOME; `/` if the image does not say.
    pub home: String,
}

/// Resolves an image's or a pod's user: `""`, `web`, `1000`, `web:www`, `1000:1000`. An empty one is root; a number need
/// not be in the files, and has then group 0.
///
/// `passwd` and `group` are the files' texts, empty if absent; lines that are not understood are skipped.
pub fn resolve_user(wanted: &str, passwd: &str, group: &str) -> Result<Account, UnknownUser> {
    let (name, wanted_group) = match wanted.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (wanted, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let line = passwd
        .lines()
        .filter_map(passwd_line)
        .find(|line| line.name == name || name.parse() == Ok(line.uid));
    let uid = match (&line, name.parse()) {
        (Some(line), _) => line.uid,
        (None, Ok(uid)) => uid,
        (None, Err(_)) => return Err(UnknownUser::User(name.to_owned())),
    };
    let gid = match wanted_group.filter(|group| !group.is_empty()) {
        None => line.as_ref().map_or(0, |line| line.gid),
        Some(wanted) => {
            let found = group.lines().filter_map(group_line).find(|line| line.name == wanted);
            match (found, wanted.parse()) {
                (Some(line), _) => line.gid,
                (None, Ok(gid)) => gid,
                (None, Err(_)) => return Err(UnknownUser::Group(wanted.to_owned())),
            }
        }
    };
    // As Docker: a group that is asked for stands alone.
    let mut groups: Vec<u32> = match (&line, wanted_group) {
        (Some(user), None) => group
            .lines()
            .filter_map(group_line)
            .filter(|line| line.members.split(',').any(|member| member == user.name))
            .map(|line| line.gid)
            .collect(),
        _ => Vec::new(),
    };
    groups.retain(|other| *other != gid);
    groups.dedup();
    let home = line.map(|line| line.home).filter(|home| home.starts_with('/')).unwrap_or("/");
    Ok(Account { user: User { uid, gid, groups }, home: home.to_owned() })
}

struct PasswdLine<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn passwd_line(line: &str) -> Option<PasswdLine<'_>> {
    let mut fields = line.trim().split(':');
    let name = fields.next()?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(PasswdLine { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
}

struct GroupLine<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn group_line(line: &str) -> Option<GroupLine<'_>> {
    let mut fields = line.trim().split(':');
    let name = fields.next()?;
    let gid = fields.nth(1)?.parse().ok()?;
    Some(GroupLine { name, gid, members: fields.next().unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_resolved_as_docker_does() {
        const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# comment\nbroken\n\
            web:x:1000:1001::/srv/web:/bin/sh\n";
        const GROUP: &str = "root:x:0:\nwww:x:33:web,other\nweb:x:1001:\nextra:x:50:web\n";
        fn check(wanted: &str, want: Result<(u32, u32, &[u32], &str), UnknownUser>) {
            let got = resolve_user(wanted, PASSWD, GROUP);
            let want = want.map(|(uid, gid, groups, home)| Account {
                user: User { uid, gid, groups: groups.to_vec() },
                home: home.to_owned(),
            });
            assert_eq!(got, want, "{wanted:?}");
        }
        check("", Ok((0, 0, &[], "/root")));
        check("root", Ok((0, 0, &[], "/root")));
        check("web", Ok((1000, 1001, &[33, 50], "/srv/web")));
        check("1000", Ok((1000, 1001, &[33, 50], "/srv/web")));
        check("web:www", Ok((1000, 33, &[], "/srv/web")));
        check("web:7", Ok((1000, 7, &[], "/srv/web")));
        check("7", Ok((7, 0, &[], "/")));
        check("7:8", Ok((7, 8, &[], "/")));
        check("nobody", Err(UnknownUser::User("nobody".into())));
        check("web:nogroup", Err(UnknownUser::Group("nogroup".into())));
        assert_eq!(resolve_user("", "", "").unwrap().home, "/");
    }
}
