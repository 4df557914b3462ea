//! The scripts, and how they are called: by the digest that the server gave for them on this connection.

/// A script that the server runs as one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Script {
    Exchange,
    Publish,
    Extend,
    Recover,
    Consumers,
    Stats,
    List,
    Dead,
    Pause,
    Lease,
    Ledger,
}

/// What only shrinks, or has to be done though memory is short, is allowed then; publishing is not.
macro_rules! source {
    ($flags:literal, $($file:literal),+) => {
        concat!("#!lua", $flags, "\n", $(include_str!(concat!("lua/", $file)), "\n"),+)
    };
}

/// With what is seldom needed.
macro_rules! with_library {
    ($flags:literal, $file:literal) => {
        source!($flags, "time.lua", "packs.lua", "settle.lua", "library.lua", $file)
    };
}

impl Script {
    pub(crate) const ALL: [Self; 11] = [
        Self::Exchange,
        Self::Publish,
        Self::Extend,
        Self::Recover,
        Self::Consumers,
        Self::Stats,
        Self::List,
        Self::Dead,
        Self::Pause,
        Self::Lease,
        Self::Ledger,
    ];

    pub(crate) fn source(self) -> &'static str {
        match self {
            Self::Exchange => with_library!(" flags=allow-oom", "exchange.lua"),
            Self::Publish => with_library!("", "publish.lua"),
            Self::Extend => with_library!(" flags=allow-oom", "extend.lua"),
            Self::Recover => with_library!(" flags=allow-oom", "recover.lua"),
            Self::Consumers => with_library!(" flags=allow-oom", "consumers.lua"),
            Self::Stats => with_library!(" flags=allow-oom", "stats.lua"),
            Self::List => with_library!(" flags=allow-oom", "list.lua"),
            Self::Dead => with_library!(" flags=allow-oom", "dead.lua"),
            Self::Pause => with_library!(" flags=allow-oom", "pause.lua"),
            Self::Lease => source!(" flags=allow-oom", "time.lua", "lease.lua"),
            Self::Ledger => source!(" flags=allow-oom", "time.lua", "ledger.lua"),
        }
    }
}
