//! Dovecot's configuration, in the language of version 2.3: everything in one directory, everything as one user.

use std::path::Path;

use crate::account::Account;
use crate::certificate::Certificates;

pub(super) const FILE: &str = "dovecot.conf";
pub(super) const PASSWORD_FILE: &str = "password";
pub(super) const LOG: &str = "dovecot.log";

/// The whole configuration file. `chroot =` because only root may; `auth_failure_delay` and the connection limit
/// because tests should neither wait for a wrong password nor share a limit made for people.
pub(super) fn text(
    directory: &Path,
    account: &Account,
    certificates: &Certificates,
    imap_port: u16,
    imaps_port: u16,
) -> String {
    let directory = directory.display();
    let Account { user, group, .. } = account;
    let certificate = certificates.server.display();
    let key = certificates.server_key.display();
    let password = super::PASSWORD;
    format!(
        "\
base_dir = {directory}/run
state_dir = {directory}/state
log_path = {directory}/{LOG}
protocols = imap
listen = 127.0.0.1
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
mail_uid = {user}
mail_gid = {group}
first_valid_uid = 1
ssl = yes
ssl_cert = <{certificate}
ssl_key = <{key}
disable_plaintext_auth = no
auth_mechanisms = plain login scram-sha-256
auth_failure_delay = 0
mail_location = maildir:{directory}/mail/%u
mail_max_userip_connections = 500
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={user} gid={group} home={directory}/mail/%u allow_all_users=yes
}}
namespace inbox {{
  inbox = yes
  separator = /
}}
service anvil {{
  chroot =
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {imap_port}
  }}
  inet_listener imaps {{
    port = {imaps_port}
    ssl = yes
  }}
}}
"
    )
}
