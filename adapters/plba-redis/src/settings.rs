//! Where Redis is and how the queue uses it, as a location says it. Nothing is opened here.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use plba_contracts::config::Location;
use plba_contracts::secret::Secret;
use plba_net::TlsSettings;
use plba_tasks::queue::Durability;

/// The schemes that a location may have.
pub(crate) const SCHEMES: &[&str] = &[
    "redis",
    "rediss",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
];

const NAMES: &str = "prefix, capacity, bytes, task_bytes, lease, maximum_crashes, durability, wait_replicas, \
                     wait_timeout, response_timeout, ca, only_ca";

/// Where Redis is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Site {
    /// One server: `redis://host:port`.
    Server(String, u16),
    /// Whichever server the sentinels call the primary of this name: `redis+sentinel://host:port,host:port/name`.
    Sentinel {
        /// The sentinels, asked in turn.
        sentinels: Vec<(String, u16)>,
        /// The name under which they watch the primary.
        name: String,
    },
    /// The node of a cluster that has the slot of the prefix: `redis+cluster://host:port,host:port`.
    Cluster(Vec<(String, u16)>),
}

/// How a queue on Redis is set up. [`read`](Self::read) makes it of a location, whose query has the fields' names.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// Where Redis is. Default: 127.0.0.1:6379.
    pub site: Site,
    /// Whether connections speak TLS. Default: no.
    pub tls: Option<TlsSettings>,
    /// The user; Redis's `default` without one.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// The numbered database. Default: 0.
    pub database: i64,
    /// What all keys begin with, in braces; backends with different prefixes share nothing. Default: `plba`.
    pub prefix: String,
    /// How many tasks a named queue keeps, dead letters not counted, before publishers wait. Default: 1,000,000.
    pub capacity: u64,
    /// How many bytes they may take before publishers wait. Default: 4 GiB.
    pub bytes: u64,
    /// How many bytes one task may take. Default: 16 MiB.
    pub task_bytes: usize,
    /// How long a lease lasts. Default: 30 s.
    pub lease: Duration,
    /// After how many crashes a task is dead. Default: 5.
    pub maximum_crashes: u32,
    /// The durability that the server must be configured for; it is refused otherwise. Default: none, and a warning when the
    /// server keeps nothing on disk.
    pub durability: Option<Durability>,
    /// How many replicas must have a published task before it counts as published. Default: 0.
    pub wait_replicas: u32,
    /// How long a publish waits for them. Default: 1 s.
    pub wait_timeout: Duration,
    /// How long an answer may take before the connection is given up. Default: 5 s, but no more than a third of the lease.
    pub response_timeout: Duration,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self {
            site: Site::Server("127.0.0.1".into(), 6379),
            tls: None,
            user: None,
            password: None,
            database: 0,
            prefix: "plba".into(),
            capacity: 1_000_000,
            bytes: 4 << 30,
            task_bytes: 16 << 20,
            lease: Duration::from_secs(30),
            maximum_crashes: 5,
            durability: None,
            wait_replicas: 0,
            wait_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(5),
        }
    }
}

impl RedisSettings {
    /// Reads a location, such as `rediss://user:password@host/0?prefix=orders&lease=30&durability=process_crash`. Spans are
    /// in seconds, with a fraction if need be; user and password are percent-decoded.
    ///
    /// # Errors
    /// An unknown scheme or name, or a value out of range; the sentence names it and shows no password.
    pub fn read(location: &Location) -> Result<Self, String> {
        let scheme = location.scheme();
        if !SCHEMES.contains(&scheme) {
            return Err(format!("\"{scheme}:\" is none of {}", SCHEMES.join(", ")));
        }
        let mut settings = Self::default();
        if scheme.starts_with("rediss") {
            settings.tls = Some(TlsSettings::default());
        }
        let rest = location.rest().split('?').next().unwrap_or_default();
        let rest = rest
            .strip_prefix("//")
            .ok_or("write \"//\" and a host after the scheme")?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let hosts = match authority.rsplit_once('@') {
            Some((account, hosts)) => {
                settings.read_account(account)?;
                hosts
            }
            None => authority,
        };
        settings.read_site(scheme, hosts, path)?;
        for (name, value) in location.query() {
            settings.read_option(name, &decode(value)?)?;
        }
        settings.response_timeout = settings
            .response_timeout
            .min((settings.lease / 3).max(Duration::from_millis(200)));
        settings.validate()?;
        Ok(settings)
    }

    fn read_account(&mut self, account: &str) -> Result<(), String> {
        let (user, password) = account.split_once(':').unwrap_or((account, ""));
        self.user = (!user.is_empty()).then(|| decode(user)).transpose()?;
        self.password = (!password.is_empty())
            .then(|| decode(password).map(Secret::from))
            .transpose()?;
        Ok(())
    }

    fn read_site(&mut self, scheme: &str, hosts: &str, path: &str) -> Result<(), String> {
        let port = if scheme.ends_with("+sentinel") { 26_379 } else { 6379 };
        let mut places = hosts
            .split(',')
            .map(|host| read_host(host, port))
            .collect::<Result<Vec<_>, _>>()?;
        let mut database = path;
        self.site = if scheme.ends_with("+sentinel") {
            let (name, number) = path.split_once('/').unwrap_or((path, ""));
            if name.is_empty() {
                return Err("name what the sentinels watch: redis+sentinel://host1,host2/name".into());
            }
            database = number;
            Site::Sentinel {
                sentinels: places,
                name: decode(name)?,
            }
        } else if scheme.ends_with("+cluster") {
            Site::Cluster(places)
        } else if places.len() == 1 {
            let (host, port) = places.remove(0);
            Site::Server(host, port)
        } else {
            return Err("one host is enough; for several write redis+sentinel: or redis+cluster:".into());
        };
        if !database.is_empty() {
            self.database = database
                .parse()
                .map_err(|_| format!("a database is a number, not \"{database}\""))?;
        }
        if matches!(self.site, Site::Cluster(_)) && self.database != 0 {
            return Err("a cluster has no database but 0; use prefix to tell queues apart".into());
        }
        Ok(())
    }

    fn read_option(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "prefix" => self.prefix = value.to_owned(),
            "capacity" => self.capacity = number(name, value)?,
            "bytes" => self.bytes = number(name, value)?,
            "task_bytes" => self.task_bytes = number(name, value)?,
            "lease" => self.lease = span(name, value)?,
            "maximum_crashes" => self.maximum_crashes = number(name, value)?,
            "wait_replicas" => self.wait_replicas = number(name, value)?,
            "wait_timeout" => self.wait_timeout = span(name, value)?,
            "response_timeout" => self.response_timeout = span(name, value)?,
            "durability" => {
                self.durability = Some(match value {
                    "volatile" => Durability::Volatile,
                    "process_crash" => Durability::ProcessCrash,
                    "os_crash" => Durability::OsCrash,
                    "replicated" => Durability::Replicated,
                    _ => {
                        return Err(format!(
                            "durability is volatile, process_crash, os_crash or replicated, not \"{value}\""
                        ));
                    }
                });
            }
            "ca" | "only_ca" => {
                let tls = self
                    .tls
                    .as_mut()
                    .ok_or_else(|| format!("{name} is for TLS: begin with \"rediss\""))?;
                if name == "ca" {
                    tls.ca = Some(PathBuf::from(value));
                } else {
                    tls.only_ca = value != "false";
                }
            }
            _ => return Err(format!("\"redis:\" knows no \"{name}\", but {NAMES}")),
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
        let sound = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        require(
            (1..=100).contains(&self.prefix.len()) && self.prefix.chars().all(sound),
            "prefix has 1 to 100 letters, digits, '-', '_' and '.'",
        );
        require(
            (1..=100_000_000).contains(&self.capacity),
            "capacity lies between 1 and 100,000,000",
        );
        require(self.bytes >= 1 << 20, "bytes is at least 1 MiB (1048576)");
        require(
            (1 << 10..=256 << 20).contains(&self.task_bytes),
            "task_bytes lies between 1 KiB (1024) and 256 MiB (268435456)",
        );
        require(
            (Duration::from_millis(100)..=Duration::from_secs(86_400)).contains(&self.lease),
            "lease lies between 0.1 s and a day",
        );
        require(self.maximum_crashes >= 1, "maximum_crashes is at least 1");
        let waits = Duration::from_millis(10)..=Duration::from_secs(3_600);
        require(
            waits.contains(&self.wait_timeout),
            "wait_timeout lies between 0.01 s and an hour",
        );
        require(
            waits.contains(&self.response_timeout),
            "response_timeout lies between 0.01 s and an hour",
        );
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults.join("; "))
        }
    }
}

/// For people: without account and query.
impl fmt::Display for Site {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |places: &[(String, u16)]| {
            let places: Vec<_> = places.iter().map(|(host, port)| format!("{host}:{port}")).collect();
            places.join(",")
        };
        match self {
            Self::Server(host, port) => write!(out, "Redis at {host}:{port}"),
            Self::Sentinel { sentinels, name } => write!(out, "Redis \"{name}\" by sentinels {}", list(sentinels)),
            Self::Cluster(nodes) => write!(out, "Redis cluster {}", list(nodes)),
        }
    }
}

fn read_host(text: &str, default: u16) -> Result<(String, u16), String> {
    let (host, port) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() {
        return Err("a host is missing after \"//\"".into());
    }
    let port = port.map_or(Ok(default), |port| {
        port.parse()
            .map_err(|_| format!("\"{port}\" is no port of host \"{host}\""))
    })?;
    Ok((host.to_owned(), port))
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
    value
        .parse()
        .map_err(|_| format!("{name} takes a whole number, not \"{value}\""))
}

fn span(name: &str, value: &str) -> Result<Duration, String> {
    let seconds = value.parse::<f64>().ok();
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| format!("{name} takes seconds, not \"{value}\""))
}

/// Percent-decoding (RFC 3986, section 2.1).
fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = tail.get(..2).and_then(|digits| str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or("two hexadecimal digits follow a '%'; write a '%' itself as %25")?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).map_err(|_| "what is written with '%' is no UTF-8".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(location: &str) -> Result<RedisSettings, String> {
        RedisSettings::read(&Location::from(location))
    }

    #[test]
    fn a_location_says_where_and_how() {
        let settings = read("rediss://me:p%40ss@[::1]:7000/3?prefix=orders&lease=0.6&durability=os_crash").unwrap();
        assert_eq!(settings.site, Site::Server("::1".into(), 7000));
        assert_eq!(settings.user.as_deref(), Some("me"));
        assert_eq!(settings.password.as_ref().map(Secret::expose), Some("p@ss"));
        assert_eq!((settings.database, settings.prefix.as_str()), (3, "orders"));
        assert_eq!(settings.lease, Duration::from_millis(600));
        assert_eq!(settings.durability, Some(Durability::OsCrash));
        assert!(settings.tls.is_some());
        assert_eq!(settings.response_timeout, Duration::from_millis(200));
    }

    #[test]
    fn sentinels_and_clusters_have_several_hosts() {
        let sentinel = read("redis+sentinel://a,b:7001/orders/2").unwrap();
        let sentinels = vec![("a".to_owned(), 26_379), ("b".to_owned(), 7001)];
        let name = "orders".to_owned();
        assert_eq!(sentinel.site, Site::Sentinel { sentinels, name });
        assert_eq!(sentinel.database, 2);
        let cluster = read("redis+cluster://a:1,b").unwrap();
        assert_eq!(cluster.site, Site::Cluster(vec![("a".into(), 1), ("b".into(), 6379)]));
    }

    #[test]
    fn faults_in_a_location_are_named_and_show_no_password() {
        for (location, fault) in [
            ("redis:var/queue", "write \"//\""),
            ("redis://", "a host is missing"),
            ("redis://a,b", "one host is enough"),
            ("redis://a:port", "is no port"),
            ("redis://a/one", "a database is a number"),
            ("redis+cluster://a/1", "no database but 0"),
            ("redis+sentinel://a", "name what the sentinels watch"),
            ("redis://a?lease=soon", "lease takes seconds"),
            ("redis://a?lease=0.01", "lease lies between"),
            ("redis://a?capacity=0", "capacity lies between"),
            ("redis://a?prefix={x}", "prefix has"),
            ("redis://a?ca=/x", "begin with \"rediss\""),
            ("redis://a?size=1", "knows no \"size\""),
            ("redis://a?durability=yes", "durability is volatile"),
            ("redis://:secret%x@a", "hexadecimal"),
            ("amqp://a", "is none of redis"),
        ] {
            let error = read(location).unwrap_err();
            assert!(error.contains(fault), "{location}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
