//! Dovecot's configuration, in the language of version 2.3: everything in one directory, everything as one user.

use crate::account::Account;
use crate::post::{PASSWORD, Post};

pub(super) const FILE: &str = "dovecot.conf";
pub(super) const LOG: &str = "dovecot.log";

/// The whole configuration file. `chroot =` because only root may; `auth_failure_delay` and the connection limit
/// because tests should neither wait for a wrong password nor share a limit made for people.
pub(super) fn text(post: &Post) -> String {
    let directory = post.ground.directory.path().display();
    let Account { user, group, .. } = &post.ground.account;
    let certificate = post.certificates.server.display();
    let key = post.certificates.server_key.display();
    let (plain, tls) = (post.plain, post.tls);
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
  args = password={PASSWORD}
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
    port = {plain}
  }}
  inet_listener imaps {{
    port = {tls}
    ssl = yes
  }}
}}
"
    )
}
