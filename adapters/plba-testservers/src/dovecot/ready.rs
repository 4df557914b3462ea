//! Whether a server serves: a LOGIN that succeeds. A connection alone says little, since Dovecot accepts and drops
//! connections before its authentication is up.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// The user that only asks; its mailbox is nobody else's.
const USER: &str = "ready";

/// For connecting and for each line.
const PATIENCE: Duration = Duration::from_secs(2);

/// Lines read before giving up on an answer.
const MOST_LINES: usize = 20;

/// One try to log in over a plain connection (RFC 9051, section 6.2.3).
pub(super) fn logs_in(port: u16, password: &str) -> bool {
    try_login(port, password).unwrap_or(false)
}

fn try_login(port: u16, password: &str) -> io::Result<bool> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    lines.read_line(&mut line)?;
    if !line.starts_with("* OK") {
        return Ok(false);
    }
    stream.write_all(format!("a LOGIN {USER} {password}\r\n").as_bytes())?;
    for _ in 0..MOST_LINES {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            return Ok(false);
        }
        if let Some(answer) = line.strip_prefix("a ") {
            let accepted = answer.starts_with("OK");
            stream.write_all(b"b LOGOUT\r\n")?;
            return Ok(accepted);
        }
    }
    Ok(false)
}
