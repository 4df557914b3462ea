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
        concat!("#!lua flags=", $flags, "\n", $(include_str!(concat!("lua/", $file)), "\n"),+)
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
            Self::Exchange => source!("allow-oom", "time.lua", "packs.lua", "library.lua", "exchange.lua"),
            Self::Publish => concat!(
                "#!lua\n",
                include_str!("lua/time.lua"),
                include_str!("lua/packs.lua"),
                include_str!("lua/library.lua"),
                include_str!("lua/publish.lua")
            ),
            Self::Extend => source!("allow-oom", "time.lua", "packs.lua", "library.lua", "extend.lua"),
            Self::Recover => source!("allow-oom", "time.lua", "packs.lua", "library.lua", "recover.lua"),
            Self::Consumers => source!("allow-oom", "time.lua", "packs.lua", "library.lua", "consumers.lua"),
            Self::Stats => source!("allow-oom", "time.lua", "packs.lua", "library.lua", "stats.lua"),
            Self::List => source!("allow-oom", "time.lua", "packs.lua", "library.lua", "list.lua"),
            Self::Dead => source!("allow-oom", "time.lua", "packs.lua", "library.lua", "dead.lua"),
            Self::Pause => source!("allow-oom", "time.lua", "packs.lua", "library.lua", "pause.lua"),
            Self::Lease => source!("allow-oom", "time.lua", "lease.lua"),
            Self::Ledger => source!("allow-oom", "time.lua", "ledger.lua"),
        }
    }
}
