//! PostgreSQL's configuration: what is appended to the file that `initdb` made, and who may connect.

use std::fmt::{Display, Write};
use std::path::Path;

use super::PostgresOptions;
use crate::certificate::Certificates;

pub(super) const FILE: &str = "postgresql.conf";
pub(super) const ACCESS_FILE: &str = "pg_hba.conf";
pub(super) const LOG: &str = "postgres.log";
pub(super) const DATA: &str = "data";

/// The lines after those of `initdb`. Shared memory lies in the directory, so that it goes with it.
pub(super) fn text(
    directory: &Path,
    options: &PostgresOptions,
    port: u16,
    certificates: Option<&Certificates>,
) -> String {
    let mut lines = Lines(String::new());
    lines.add("listen_addresses", "127.0.0.1");
    lines.add("port", port);
    lines.add("unix_socket_directories", directory.display());
    lines.add("dynamic_shared_memory_type", "mmap");
    lines.add("timezone", "UTC");
    lines.add("log_timezone", "UTC");
    lines.add("max_connections", options.max_connections);
    lines.add("fsync", if options.fsync { "on" } else { "off" });
    lines.add("synchronous_commit", &options.synchronous_commit);
    if let Some(certificates) = certificates {
        lines.add("ssl", "on");
        lines.add("ssl_cert_file", certificates.server.display());
        lines.add("ssl_key_file", certificates.server_key.display());
    }
    for (name, value) in &options.settings {
        lines.add(name, value);
    }
    lines.0
}

/// Who may connect: over the socket in the private directory everybody, over TCP who knows the password.
pub(super) fn access(options: &PostgresOptions) -> String {
    let method = if options.scram { "scram-sha-256" } else { "trust" };
    format!("local all all trust\nhost all all 127.0.0.1/32 {method}\nhost replication all 127.0.0.1/32 {method}\n")
}

struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: impl Display) {
        let value = value.to_string().replace('\'', "''");
        // Writing to a `String` can't fail.
        let _ = writeln!(self.0, "{name} = '{value}'");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_a_line_quoted_and_settings_come_last() {
        let options = PostgresOptions {
            synchronous_commit: "off".to_owned(),
            fsync: false,
            max_connections: 7,
            settings: vec![("search_path".to_owned(), "it's".to_owned())],
            ..PostgresOptions::default()
        };
        let text = text(Path::new("/d"), &options, 1, None);
        for line in [
            "synchronous_commit = 'off'",
            "fsync = 'off'",
            "max_connections = '7'",
            "unix_socket_directories = '/d'",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        assert!(text.ends_with("search_path = 'it''s'\n"), "{text}");
    }

    #[test]
    fn nobody_is_trusted_over_tcp_unless_that_was_asked_for() {
        for scram in [true, false] {
            let options = PostgresOptions {
                scram,
                ..PostgresOptions::default()
            };
            let trusted = access(&options).contains("127.0.0.1/32 trust");
            assert_eq!(trusted, !scram);
        }
    }
}
