//! Why a mail was not handed over, by what is to be done about it.

use plba_net::ConnectError;

/// Why a mail was not handed over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SmtpError {
    /// The server can't be reached; try again later.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server does not let us in, or does not fit the settings: somebody has to look at them. Try again later.
    #[error("{host} does not let us send: {problem}; check user, password and TLS of the location")]
    Setup {
        /// The server.
        host: String,
        /// What it said.
        problem: String,
    },
    /// The server does not take the mail now; try again later.
    #[error("the mail was not taken now: {answer}")]
    Later {
        /// What the server said.
        answer: String,
    },
    /// The server will never take this mail.
    #[error("the mail was refused: {answer}")]
    Refused {
        /// What the server said.
        answer: String,
    },
    /// The connection was lost before the mail was complete: it was not taken. Try again.
    #[error("the connection was lost before the mail was complete: {problem}")]
    Broken {
        /// How.
        problem: String,
    },
    /// The connection was lost between the last line of the mail and the answer: it may have been taken. Try again, with the
    /// same Message-ID.
    #[error("the connection was lost before the server confirmed the mail, which it may have taken: {problem}")]
    Unknown {
        /// How.
        problem: String,
    },
    /// The password's file can't be read.
    #[error("the password in {file} can't be read: {problem}")]
    Password {
        /// Its path.
        file: String,
        /// What the system said.
        problem: String,
    },
}
