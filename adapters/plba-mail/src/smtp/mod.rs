//! Sending mails through a server (RFC 5321, RFC 6409): one connection that is reused, under deadlines, with answers told
//! apart by what is to be done about them. What a mail says, and whether it was sent before, is the application's business.
//!
//! ```text
//! smtp://[USER@]HOST[:587]?password_file=…&starttls=required|off&ca=…&only_ca=…&hello=…&timeout=…&idle=…&messages=…
//! smtps://[USER@]HOST[:465]?…
//! ```
//!
//! A mail is handed over when the server has said so after its last line. If the connection is lost between that line and
//! the answer, nobody can know; the mail is sent again, under the same Message-ID, and the recipient may get it twice. That
//! is the only case in which this happens.

mod connection;
mod error;
#[cfg(test)]
mod exim_tests;
mod location;
mod sender;
#[cfg(test)]
mod tests;

pub use error::SmtpError;
pub use location::{SmtpSettings, StartTls};
pub use sender::SmtpSender;
