//! What a test may want of a PostgreSQL server. What the server makes of it is in `config`.

/// How a PostgreSQL server is set up. The default is as durable as PostgreSQL itself by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresOptions {
    /// `synchronous_commit`, in PostgreSQL's own words; default: `on`.
    pub synchronous_commit: String,
    /// Default: `true`. Without it nothing survives the machine's death; the server's own death it does survive.
    pub fsync: bool,
    /// Default: 100, of which three are for the superuser, which is the user of these servers.
    pub max_connections: u16,
    /// Whether clients have to prove that they know the password (SCRAM-SHA-256); default: `true`. Otherwise everybody
    /// on this machine is let in.
    pub scram: bool,
    /// Whether the port takes TLS too, with a private certificate authority; default: `false`.
    pub tls: bool,
    /// Whether data lie in memory (`/dev/shm`) if two gigabytes are free there; default: `false`. What the server syncs,
    /// it syncs at no cost then: for tests that end servers often and measure nothing.
    pub in_memory: bool,
    /// Further settings, name and value without quotes; default: none. They come last, and PostgreSQL takes the last one
    /// of a name.
    pub settings: Vec<(String, String)>,
}

impl Default for PostgresOptions {
    fn default() -> PostgresOptions {
        PostgresOptions {
            synchronous_commit: "on".to_owned(),
            fsync: true,
            max_connections: 100,
            scram: true,
            tls: false,
            in_memory: false,
            settings: Vec::new(),
        }
    }
}
