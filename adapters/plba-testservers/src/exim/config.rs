//! Exim's configuration, in the language of version 4: everything in one directory, everything as one user.

use crate::account::Account;
use crate::post::{PASSWORD, Post};

pub(super) const FILE: &str = "exim.conf";
pub(super) const LOG: &str = "exim.log";
pub(super) const MAIL: &str = "mail";

/// The whole configuration file. Every address is taken and delivered into one Maildir, but for the local parts `refused`
/// and `deferred`; nothing is ever sent on. `deliver_drop_privilege` is what lets Exim deliver without being root.
pub(super) fn text(post: &Post) -> String {
    let directory = post.ground.directory.path().display();
    let Account { user, group, .. } = &post.ground.account;
    let certificate = post.certificates.server.display();
    let key = post.certificates.server_key.display();
    let (plain, tls) = (post.plain, post.tls);
    format!(
        "\
primary_hostname = mail.test
local_interfaces = 127.0.0.1
daemon_smtp_ports = {plain} : {tls}
tls_on_connect_ports = {tls}
tls_advertise_hosts = *
tls_certificate = {certificate}
tls_privatekey = {key}
spool_directory = {directory}/spool
log_file_path = {directory}/%slog
pid_file_path = {directory}/exim.pid
exim_user = {user}
exim_group = {group}
deliver_drop_privilege = true
never_users =
keep_environment =
host_lookup =
rfc1413_hosts =
smtp_accept_max = 500
smtp_accept_queue = 0
smtp_accept_queue_per_connection = 0
smtp_accept_max_per_connection = 100000
smtp_receive_timeout = 30s
acl_smtp_mail = accept
acl_smtp_rcpt = rcpt
acl_smtp_data = accept
begin acl
rcpt:
  deny message = 550 5.1.1 nobody of that name
       local_parts = refused
  defer message = 451 4.3.0 come back later
       local_parts = deferred
  accept
begin routers
all:
  driver = accept
  transport = maildir
begin transports
maildir:
  driver = appendfile
  directory = {directory}/{MAIL}
  maildir_format
  create_directory
  envelope_to_add
  return_path_add
  user = {user}
  group = {group}
begin retry
* * F,1h,1s
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if eq{{$auth3}}{{{PASSWORD}}}}}
  server_set_id = $auth2
  server_advertise_condition = true
"
    )
}
