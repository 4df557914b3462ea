//! Whether a Redis server serves: a PING that is answered with PONG. While it loads its data it answers `-LOADING`.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// For connecting and for each line.
const PATIENCE: Duration = Duration::from_secs(2);

/// One try, in inline commands.
pub(super) fn answers(port: u16, password: Option<&str>) -> bool {
    ping(port, password).unwrap_or(false)
}

fn ping(port: u16, password: Option<&str>) -> io::Result<bool> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    if let Some(password) = password {
        stream.write_all(format!("AUTH {password}\r\n").as_bytes())?;
        lines.read_line(&mut line)?;
        line.clear();
    }
    stream.write_all(b"PING\r\n")?;
    lines.read_line(&mut line)?;
    Ok(line == "+PONG\r\n")
}
