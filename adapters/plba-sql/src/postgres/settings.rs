//! What a PostgreSQL location says: where the server is, and how tasks are kept there.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use plba_contracts::config::Location;
use plba_net::TlsSettings;
use plba_tasks::queue::Durability;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// The names that PostgreSQL's own part of a location may have in its query.
const OF_POSTGRES: &[&str] = &["host", "application_name", "options"];

/// How tasks, ledgers and leases are kept in PostgreSQL. Read from a location by [`from_location`](Self::from_location):
/// `postgres://USER:PASSWORD@HOST:PORT/DATABASE?lease=30&pool=4`.
#[derive(Clone, Debug)]
pub struct PostgresSettings {
    /// Hosts, user, password and database. Of several hosts the first one that takes writes is used.
    pub server: Config,
    /// `sslmode`, `sslrootcert`: whom to trust; `None` does without TLS. Default: without it for hosts on this machine
    /// (`localhost`, 127.0.0.1, a socket), and TLS verified against the system's authorities for all others.
    pub tls: Option<TlsSettings>,
    /// `schema`: where the tables are, 1 to 40 letters, digits or underscores. Default: `plba`.
    pub schema: String,
    /// `lease`: how long a lease lasts, in seconds. Default: 30 s.
    pub lease: Duration,
    /// `capacity`: how many tasks one named queue keeps, dead letters not counted, before publishers wait. Default:
    /// 1,000,000.
    pub capacity: usize,
    /// `bytes`: how many bytes they may take before publishers wait. Default: 16 GiB.
    pub bytes: usize,
    /// `task_bytes`: how many bytes one task may take. Default: 64 MiB.
    pub task_bytes: usize,
    /// `dead_capacity`: how many dead letters a queue keeps whose rules were not set. Default: 100,000.
    pub dead_capacity: u64,
    /// `maximum_crashes`: after how many crashes a task is dead. Default: 5.
    pub maximum_crashes: u32,
    /// `pool`: how many connections publish, take and end tasks at once. Default: 4.
    pub pool: usize,
    /// `handlers`: how many connections run effects and what handlers do by themselves. Default: 4.
    pub handlers: usize,
    /// `listen=on|off`: whether to be told of new tasks (LISTEN), to set up sessions, and to prepare statements in them. Off
    /// is for connection poolers in transaction mode, such as PgBouncer. Default: on.
    pub listen: bool,
    /// `poll`: how often a consumer that waits looks by itself, in milliseconds. Default: 1,000.
    pub poll: Duration,
    /// `statement_timeout`: how long one statement may take on the server, in seconds. Default: 10 s.
    pub statement_timeout: Duration,
    /// `durability=process_crash|os_crash|replicated`: what tasks are to survive; the server's configuration is checked for
    /// it. Default: `os_crash`.
    pub durability: Durability,
}

impl PostgresSettings {
    /// The defaults, for this server.
    pub fn new(server: Config) -> Self {
        let tls = (!is_near(&server)).then(TlsSettings::default);
        Self {
            server,
            tls,
            schema: "plba".to_owned(),
            lease: Duration::from_secs(30),
            capacity: 1_000_000,
            bytes: 16 << 30,
            task_bytes: 64 << 20,
            dead_capacity: 100_000,
            maximum_crashes: 5,
            pool: 4,
            handlers: 4,
            listen: true,
            poll: Duration::from_secs(1),
            statement_timeout: Duration::from_secs(10),
            durability: Durability::OsCrash,
        }
    }

    /// Reads a `postgres:` or `postgresql:` location.
    ///
    /// # Errors
    /// Unknown names and values out of range, each named; the password is never in it.
    pub fn from_location(location: &Location) -> Result<Self, String> {
        let text = location.as_str();
        let (place, _) = text.split_once('?').unwrap_or((text, ""));
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        for (name, value) in location.query() {
            if OF_POSTGRES.contains(&name) {
                theirs.push(format!("{name}={value}"));
            } else {
                ours.push((name, value));
            }
        }
        let url = if theirs.is_empty() {
            place.to_owned()
        } else {
            format!("{place}?{}", theirs.join("&"))
        };
        let server = Config::from_str(&url).map_err(|error| {
            format!(
                "the location can't be read: {}; write postgres://USER:PASSWORD@HOST:PORT/DATABASE",
                plba_contracts::describe(&error)
            )
        })?;
        if server.get_hosts().is_empty() {
            return Err("the location names no host; write postgres://USER:PASSWORD@HOST:PORT/DATABASE".to_owned());
        }
        let mut settings = Self::new(server);
        for (name, value) in ours {
            settings.set(name, value)?;
        }
        settings.validate()?;
        Ok(settings)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let number = || {
            value
                .parse::<usize>()
                .map_err(|_| format!("{name} takes a whole number, not \"{value}\""))
        };
        match name {
            "schema" => value.clone_into(&mut self.schema),
            "lease" => self.lease = Duration::from_secs(number()? as u64),
            "capacity" => self.capacity = number()?,
            "bytes" => self.bytes = number()?,
            "task_bytes" => self.task_bytes = number()?,
            "dead_capacity" => self.dead_capacity = number()? as u64,
            "maximum_crashes" => {
                self.maximum_crashes = u32::try_from(number()?).map_err(|_| format!("{name} is too large"))?;
            }
            "pool" => self.pool = number()?,
            "handlers" => self.handlers = number()?,
            "poll" => self.poll = Duration::from_millis(number()? as u64),
            "statement_timeout" => self.statement_timeout = Duration::from_secs(number()? as u64),
            "listen" => {
                self.listen = match value {
                    "on" => true,
                    "off" => false,
                    _ => return Err(format!("listen is on or off, not \"{value}\"")),
                }
            }
            "durability" => {
                self.durability = match value {
                    "process_crash" => Durability::ProcessCrash,
                    "os_crash" => Durability::OsCrash,
                    "replicated" => Durability::Replicated,
                    _ => {
                        return Err(format!(
                            "durability is process_crash, os_crash or replicated, not \"{value}\""
                        ));
                    }
                }
            }
            "sslmode" => match value {
                "disable" => self.tls = None,
                // Certificates are always verified: there is no weaker kind.
                "require" | "verify-ca" | "verify-full" => _ = self.tls.get_or_insert_default(),
                _ => return Err(format!("sslmode is disable or verify-full, not \"{value}\"")),
            },
            "sslrootcert" => {
                let tls = self.tls.get_or_insert_default();
                tls.ca = Some(PathBuf::from(value));
                tls.only_ca = true;
            }
            _ => {
                return Err(format!(
                    "\"postgres:\" knows no \"{name}\", but schema, lease, capacity, bytes, task_bytes, dead_capacity, \
                     maximum_crashes, pool, handlers, listen, poll, statement_timeout, durability, sslmode, sslrootcert, \
                     application_name, options"
                ));
            }
        }
        Ok(())
    }

    /// Checks ranges.
    ///
    /// # Errors
    /// Every fault, each naming its setting.
    pub fn validate(&self) -> Result<(), String> {
        let mut faults = Vec::new();
        let mut require = |holds: bool, fault: &str| {
            if !holds {
                faults.push(fault.to_owned());
            }
        };
        let sound = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        require(
            (1..=40).contains(&self.schema.len())
                && self.schema.bytes().all(sound)
                && !self.schema.starts_with(|first: char| first.is_ascii_digit())
                && !self.schema.starts_with("pg_"),
            "schema is a name of 1 to 40 lower-case letters, digits and underscores, and begins with a letter",
        );
        require(
            (Duration::from_millis(100)..=Duration::from_secs(86_400)).contains(&self.lease),
            "lease lies between 100 ms and a day",
        );
        require(
            (1..=100_000_000).contains(&self.capacity),
            "capacity lies between 1 and 100,000,000",
        );
        require(self.bytes >= 1 << 20, "bytes is at least 1 MiB (1048576)");
        require(
            (1 << 10..=512 << 20).contains(&self.task_bytes),
            "task_bytes lies between 1 KiB (1024) and 512 MiB (536870912)",
        );
        require(self.maximum_crashes >= 1, "maximum_crashes is at least 1");
        require((1..=100).contains(&self.pool), "pool lies between 1 and 100");
        require((1..=100).contains(&self.handlers), "handlers lies between 1 and 100");
        require(
            (Duration::from_millis(1)..=Duration::from_secs(60)).contains(&self.poll),
            "poll lies between 1 ms and a minute (60000)",
        );
        require(
            (Duration::from_millis(100)..=Duration::from_secs(600)).contains(&self.statement_timeout),
            "statement_timeout lies between 1 s and 10 minutes (600)",
        );
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults.join("; "))
        }
    }

    /// The hosts and their ports, for people.
    pub(crate) fn site(&self) -> String {
        let ports = self.server.get_ports();
        let host = |(place, host): (usize, &Host)| {
            // One port is that of all hosts.
            let port = ports.get(place).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(path) => format!("{}:{port}", path.display()),
            }
        };
        let hosts: Vec<String> = self.server.get_hosts().iter().enumerate().map(host).collect();
        hosts.join(",")
    }

    /// After how long without an answer the client gives an exchange up: the server should have done so before.
    pub(crate) fn deadline(&self) -> Duration {
        self.statement_timeout + (self.statement_timeout / 2).min(Duration::from_secs(5))
    }
}

/// Whether the server is on this machine.
fn is_near(server: &Config) -> bool {
    server.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => name == "localhost" || name.starts_with("127.") || name == "::1" || name == "[::1]",
        Host::Unix(_) => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(location: &str) -> Result<PostgresSettings, String> {
        PostgresSettings::from_location(&Location::from(location))
    }

    #[test]
    fn what_a_location_says_is_read() {
        let settings =
            read("postgres://u:p%40@db.example:5433/shop?lease=7&schema=q&listen=off&pool=9&application_name=x");
        let settings = settings.unwrap();
        assert_eq!(settings.server.get_password(), Some(&b"p@"[..]));
        assert_eq!(settings.server.get_application_name(), Some("x"));
        assert_eq!((settings.lease, settings.pool), (Duration::from_secs(7), 9));
        assert_eq!((settings.schema.as_str(), settings.listen), ("q", false));
    }

    #[test]
    fn far_servers_are_reached_by_tls_only_unless_told_otherwise() {
        assert!(read("postgres://u@db.example/shop").unwrap().tls.is_some());
        assert!(
            read("postgres://u@db.example/shop?sslmode=disable")
                .unwrap()
                .tls
                .is_none()
        );
        assert!(read("postgres://u@127.0.0.1/shop").unwrap().tls.is_none());
        let own = read("postgres://u@localhost/shop?sslrootcert=/etc/ca.pem")
            .unwrap()
            .tls
            .unwrap();
        assert!(own.only_ca && own.ca == Some(PathBuf::from("/etc/ca.pem")));
    }

    #[test]
    fn faults_in_a_location_are_named_without_the_password() {
        for (location, fault) in [
            (
                "postgres://u:secret@h/d?lease=soon",
                "lease takes a whole number, not \"soon\"",
            ),
            ("postgres://u:secret@h/d?lease=0", "lease lies between"),
            ("postgres://u:secret@h/d?schema=Robert'); --", "schema is a name of"),
            ("postgres://u:secret@h/d?size=1", "knows no \"size\""),
            ("postgres://u:secret@h/d?durability=high", "durability is"),
            ("postgres://u:secret@h/d?sslmode=prefer", "sslmode is disable or"),
            ("postgres:///d", "names no host"),
            ("postgres://u:secret@h:port/d", "can't be read"),
        ] {
            let error = read(location).unwrap_err();
            assert!(error.contains(fault), "{location}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
