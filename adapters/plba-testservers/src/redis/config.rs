//! Redis's configuration file.

use std::fmt::Write;
use std::path::Path;

use super::{AppendOnly, RedisOptions};
use crate::certificate::Certificates;

pub(super) const FILE: &str = "redis.conf";
pub(super) const LOG: &str = "redis.log";
pub(super) const DATA: &str = "data";

/// How many numbered databases a server has: each test may have one of its own.
pub(super) const DATABASES: u32 = 1024;

/// The name under which sentinels watch the primary.
pub(super) const WATCHED: &str = "plba";

/// What a server is to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Alone,
    /// Copies the server on this port.
    ReplicaOf(u16),
    /// Watches the server on this port.
    SentinelOf(u16),
    /// A node of a cluster, which talks to the others on this port.
    Node {
        bus: u16,
    },
}

/// A port's role: for everybody, or for those who speak TLS.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub(super) plain: u16,
    pub(super) tls: u16,
}

pub(super) fn text(
    directory: &Path,
    options: &RedisOptions,
    role: Role,
    ports: Ports,
    certificates: Option<&Certificates>,
) -> String {
    let mut lines = Lines(String::new());
    lines.add("bind", "127.0.0.1");
    lines.add("port", ports.plain);
    lines.add("dir", directory.join(DATA).display());
    lines.add("daemonize", "no");
    lines.add("pidfile", "\"\"");
    if let Some(certificates) = certificates {
        lines.add("tls-port", ports.tls);
        lines.add("tls-cert-file", certificates.server.display());
        lines.add("tls-key-file", certificates.server_key.display());
        lines.add("tls-ca-cert-file", certificates.authority.display());
        lines.add("tls-auth-clients", "no");
    }
    if let Role::SentinelOf(primary) = role {
        lines.watch(primary, options);
    } else {
        lines.keep_data(options, role);
    }
    for (name, value) in &options.settings {
        lines.add(name, value);
    }
    lines.0
}

struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: impl std::fmt::Display) {
        // Writing to a `String` can't fail.
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn keep_data(&mut self, options: &RedisOptions, role: Role) {
        self.add("save", "\"\"");
        let (append_only, sync) = match options.append_only {
            AppendOnly::Off => ("no", "everysec"),
            AppendOnly::Unsynced => ("yes", "no"),
            AppendOnly::EverySecond => ("yes", "everysec"),
            AppendOnly::Always => ("yes", "always"),
        };
        self.add("appendonly", append_only);
        self.add("appendfsync", sync);
        if let Some(bytes) = options.maxmemory {
            self.add("maxmemory", bytes);
        }
        self.add("maxmemory-policy", &options.maxmemory_policy);
        if let Some(password) = &options.password {
            self.add("requirepass", password);
            self.add("masterauth", password);
        }
        match role {
            Role::Node { bus } => {
                self.add("cluster-enabled", "yes");
                self.add("cluster-port", bus);
                self.add("cluster-node-timeout", 2000);
            }
            Role::ReplicaOf(primary) => {
                self.add("databases", DATABASES);
                self.add("replicaof", format_args!("127.0.0.1 {primary}"));
                self.add("repl-diskless-sync-delay", 0);
            }
            _ => {
                self.add("databases", DATABASES);
                self.add("repl-diskless-sync-delay", 0);
            }
        }
    }

    /// Two of three sentinels decide, and soon: tests wait for it.
    fn watch(&mut self, primary: u16, options: &RedisOptions) {
        self.add("sentinel monitor", format_args!("{WATCHED} 127.0.0.1 {primary} 2"));
        self.add("sentinel down-after-milliseconds", format_args!("{WATCHED} 500"));
        self.add("sentinel failover-timeout", format_args!("{WATCHED} 3000"));
        if let Some(password) = &options.password {
            self.add("sentinel auth-pass", format_args!("{WATCHED} {password}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(options: &RedisOptions, role: Role) -> Vec<String> {
        let ports = Ports { plain: 1, tls: 2 };
        let text = text(Path::new("/d"), options, role, ports, None);
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn an_option_is_a_line_and_settings_come_last() {
        let options = RedisOptions {
            append_only: AppendOnly::Always,
            maxmemory: Some(1_000_000),
            maxmemory_policy: "allkeys-lru".to_owned(),
            password: Some("open".to_owned()),
            settings: vec![("hz".to_owned(), "100".to_owned())],
            ..RedisOptions::default()
        };
        let lines = lines(&options, Role::Alone);
        for line in [
            "appendonly yes",
            "appendfsync always",
            "maxmemory 1000000",
            "maxmemory-policy allkeys-lru",
            "requirepass open",
        ] {
            assert!(lines.contains(&line.to_owned()), "{line}: {lines:?}");
        }
        assert_eq!(lines.last().map(String::as_str), Some("hz 100"));
    }

    #[test]
    fn a_sentinel_keeps_no_data() {
        let lines = lines(&RedisOptions::default(), Role::SentinelOf(7));
        assert!(
            lines.contains(&"sentinel monitor plba 127.0.0.1 7 2".to_owned()),
            "{lines:?}"
        );
        assert!(!lines.iter().any(|line| line.starts_with("append")), "{lines:?}");
    }
}
