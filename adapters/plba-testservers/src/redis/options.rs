//! What a test may want of a Redis server. What the server makes of it is in `config`.

/// How a Redis server is set up. The default is the one that a durable queue asks for: an append-only file, synced every
/// second, and no eviction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisOptions {
    /// Default: [`AppendOnly::EverySecond`].
    pub append_only: AppendOnly,
    /// In bytes; default: `None`, as much as there is.
    pub maxmemory: Option<u64>,
    /// What happens above `maxmemory`, in Redis's own words; default: `noeviction`.
    pub maxmemory_policy: String,
    /// What clients have to say first (`requirepass`, user `default`); default: `None`.
    pub password: Option<String>,
    /// Whether a second port speaks TLS, with a private certificate authority; default: `false`.
    pub tls: bool,
    /// Whether data lie in memory (`/dev/shm`) if two gigabytes are free there; default: `false`. What the server syncs,
    /// it syncs at no cost then: for tests that end servers often and measure nothing.
    pub in_memory: bool,
    /// Further lines of the configuration file, name and value as they stand there; default: none. They come last, and
    /// Redis takes the last one of a name.
    pub settings: Vec<(String, String)>,
}

impl Default for RedisOptions {
    fn default() -> RedisOptions {
        RedisOptions {
            append_only: AppendOnly::EverySecond,
            maxmemory: None,
            maxmemory_policy: "noeviction".to_owned(),
            password: None,
            tls: false,
            in_memory: false,
            settings: Vec::new(),
        }
    }
}

/// Whether writes go to the append-only file, and when it is synced to the disk. Snapshots are always off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendOnly {
    /// No file: everything is lost when the server ends (`appendonly no`).
    Off,
    /// Synced when the kernel likes (`appendfsync no`): survives the server's death, not the machine's.
    Unsynced,
    /// `appendfsync everysec`.
    EverySecond,
    /// Before each answer (`appendfsync always`).
    Always,
}
