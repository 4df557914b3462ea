//! Who the servers run as: never root. An ordinary user runs them as itself; root runs them as `nobody`.

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::StartError;

/// The user that root drops to.
const UNPRIVILEGED: &str = "nobody";

/// The user and group that a server runs as.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) user: String,
    pub(crate) group: String,
    uid: u32,
    gid: u32,
    /// Whether this process is root and has to become this account.
    drop: bool,
}

impl Account {
    pub(crate) fn for_servers(what: &'static str) -> Result<Account, StartError> {
        let read = |file: &str| {
            fs::read_to_string(file).map_err(|error| StartError::io(what, &format!("read {file}"), &error))
        };
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        choose(own, &read("/etc/passwd")?, &read("/etc/group")?).map_err(|reason| StartError::failed(what, reason))
    }

    /// Makes the command run as this account, without supplementary groups.
    pub(crate) fn apply(&self, command: &mut Command) {
        if self.drop {
            command.gid(self.gid).uid(self.uid);
        }
    }

    /// Hands a file or directory to this account.
    pub(crate) fn own(&self, path: &Path) -> io::Result<()> {
        if self.drop {
            chown(path, Some(self.uid), Some(self.gid))
        } else {
            Ok(())
        }
    }

    /// Where this account can reach a directory made for it: root's own `TMPDIR` may be closed to others.
    pub(crate) fn temporary_root(&self) -> PathBuf {
        if self.drop {
            PathBuf::from("/tmp")
        } else {
            std::env::temp_dir()
        }
    }
}

fn choose(own: (u32, u32), passwd: &str, group: &str) -> Result<Account, String> {
    let drop = own.0 == 0;
    let entry = |line: &str| -> Option<(String, u32, u32)> {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        Some((name, fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let (user, uid, gid) = passwd
        .lines()
        .filter_map(entry)
        .find(|(name, uid, _)| if drop { name == UNPRIVILEGED } else { *uid == own.0 })
        .map(|(name, uid, gid)| (name, uid, if drop { gid } else { own.1 }))
        .ok_or_else(|| {
            let wanted = if drop {
                format!("user `{UNPRIVILEGED}`")
            } else {
                format!("user id {}", own.0)
            };
            format!("{wanted} has no line in /etc/passwd, and servers want the name of the user they run as")
        })?;
    let name_of = |line: &str| -> Option<String> {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    };
    let group = group
        .lines()
        .find_map(name_of)
        .ok_or_else(|| format!("group id {gid} has no line in /etc/group, and servers want the group's name"))?;
    Ok(Account {
        user,
        group,
        uid,
        gid,
        drop,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/bin/false\nada:x:1000:1000::/:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\nnogroup:x:65534:\nada:x:1000:\n";

    fn check(own: (u32, u32), expected: Result<(&str, &str, bool), &str>) {
        match (choose(own, PASSWD, GROUP), expected) {
            (Ok(account), Ok((user, group, drop))) => {
                assert_eq!(
                    (account.user.as_str(), account.group.as_str(), account.drop),
                    (user, group, drop)
                );
            }
            (Err(reason), Err(part)) => assert!(reason.contains(part), "{reason}"),
            (chosen, expected) => panic!("{own:?}: {chosen:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn root_drops_to_nobody_and_others_stay_themselves() {
        check((0, 0), Ok(("nobody", "nogroup", true)));
        check((1000, 1000), Ok(("ada", "ada", false)));
        check((1000, 100), Ok(("ada", "users", false)));
    }

    #[test]
    fn an_account_without_a_name_is_refused_with_its_number() {
        check((4711, 100), Err("user id 4711"));
        check((1000, 4711), Err("group id 4711"));
    }
}
