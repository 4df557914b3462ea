//! Free ports on loopback.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

/// Below the range from which the kernel takes ports for outgoing connections (32768 and up on Linux), so that no
/// client takes a server's port while the server restarts.
const RANGE: Range<u16> = 20_000..32_000;

/// How many ports are tried before giving up.
const TRIES: usize = 1_000;

/// `N` different ports on 127.0.0.1 that nobody listens on at this moment. Somebody else may take one before the server
/// binds it: a server that fails for this reason is started again with other ports.
pub(crate) fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    let mut listeners = Vec::with_capacity(N);
    let mut chosen = HashSet::with_capacity(N);
    for _ in 0..TRIES {
        if listeners.len() == N {
            break;
        }
        let port = random_port();
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            && chosen.insert(port)
        {
            listeners.push((port, listener));
        }
    }
    let ports: Vec<u16> = listeners.iter().map(|(port, _)| *port).collect();
    ports
        .try_into()
        .map_err(|_| io::Error::new(io::ErrorKind::AddrInUse, "no free ports on 127.0.0.1"))
}

/// A random number from the operating system's entropy, without a dependency: a fresh `RandomState` hashes differently.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(0_u8)
}

fn random_port() -> u16 {
    let width = u64::from(RANGE.end - RANGE.start);
    RANGE.start + u16::try_from(random() % width).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_different_and_can_be_bound() {
        let ports: [u16; 8] = free_ports().unwrap();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), 8);
        for port in ports {
            assert!(RANGE.contains(&port));
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        }
    }

    #[test]
    fn a_port_in_use_is_not_offered() {
        let [port] = free_ports().unwrap();
        let _held = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert!((0..200).all(|_| free_ports::<1>().unwrap() != [port]));
    }
}
