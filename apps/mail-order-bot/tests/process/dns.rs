//! A DNS server on loopback that knows a few TXT records and addresses: enough of RFC 1035 for SPF, DKIM and DMARC. Also used
//! by the unit tests of `authentication`.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};

/// What a name stands for.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// A TXT record.
    Txt(String),
    /// The server fails.
    Failure,
}

/// A running server; it ends with the process.
pub(crate) struct Dns {
    address: SocketAddr,
}

impl Dns {
    /// A server that knows these names; all others don't exist.
    pub(crate) fn start(zone: impl IntoIterator<Item = (String, Answer)>) -> Self {
        let zone: HashMap<String, Answer> = zone.into_iter().collect();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut packet = [0; 4096];
            while let Ok((length, peer)) = socket.recv_from(&mut packet) {
                if let Some(reply) = reply(&packet[..length], &zone) {
                    let _ = socket.send_to(&reply, peer);
                }
            }
        });
        Self { address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

const TXT: u16 = 16;

fn reply(query: &[u8], zone: &HashMap<String, Answer>) -> Option<Vec<u8>> {
    let mut at = 12;
    let mut labels = Vec::new();
    while *query.get(at)? != 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(query.get(at + 1..at + 1 + length)?).to_lowercase());
        at += 1 + length;
    }
    let kind = u16::from_be_bytes([*query.get(at + 1)?, *query.get(at + 2)?]);
    let question = query.get(12..at + 5)?;
    let answer = zone.get(&labels.join("."));
    let (code, text) = match answer {
        Some(Answer::Txt(text)) if kind == TXT => (0, Some(text)),
        Some(Answer::Txt(_)) => (0, None),
        Some(Answer::Failure) => (2, None),
        None => (3, None),
    };
    let mut reply = query[..2].to_vec();
    reply.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(text.is_some()), 0, 0, 0, 0]);
    reply.extend(question);
    if let Some(text) = text {
        let chunks: Vec<&[u8]> = text.as_bytes().chunks(255).collect();
        let length = text.len() + chunks.len();
        reply.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60]);
        reply.extend(u16::try_from(length).ok()?.to_be_bytes());
        for chunk in chunks {
            reply.push(u8::try_from(chunk.len()).ok()?);
            reply.extend(chunk);
        }
    }
    Some(reply)
}
