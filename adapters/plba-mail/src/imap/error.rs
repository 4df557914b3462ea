//! What can go wrong between the client and an IMAP server, sorted by what the caller does next.

use std::time::Duration;

use plba_net::ConnectError;

/// Why an IMAP command, or the way to it, failed. [`ImapError::next_move`] says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ImapError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection ended, or what is left of it can't be trusted: end of file, `BYE`, a time-out.
    #[error("connection lost during {command}: {reason}")]
    Lost {
        /// The command that was running.
        command: &'static str,
        /// What ended it.
        reason: String,
    },
    /// The server sent something that can't be read, and the connection ended with it. The command asked for something
    /// that this server or this parser stumbles over: ask for less of it on a new connection.
    #[error("unreadable answer to {command}: {reason}")]
    Unreadable {
        /// The command that was running.
        command: &'static str,
        /// What could not be read.
        reason: String,
    },
    /// The server asks for a pause, in words or as a response code (`THROTTLED`, `UNAVAILABLE`, `INUSE`, `LIMIT`, …).
    #[error("the server asks for a pause at {command}: {text}")]
    Throttled {
        /// The command that was refused.
        command: &'static str,
        /// The pause the server named, if it did.
        wait: Option<Duration>,
        /// The server's words.
        text: String,
    },
    /// The server refuses the credentials.
    #[error("the server refuses the credentials: {text}; check user and password")]
    Credentials {
        /// The server's words.
        text: String,
    },
    /// The folder does not exist (any more), or may not be opened.
    #[error("cannot open folder `{folder}`: {text}")]
    NoFolder {
        /// The folder as the configuration names it.
        folder: String,
        /// The server's words, and which folders there are.
        text: String,
    },
    /// The folder can only be read, so that nothing can be marked in it.
    #[error("folder `{folder}` is read-only ({reason}): messages could not be marked as seen; grant write access")]
    ReadOnly {
        /// The folder as the configuration names it.
        folder: String,
        /// How it is known.
        reason: String,
    },
    /// The server said `NO` for a reason of its own.
    #[error("the server refused {command}: {text}")]
    Refused {
        /// The command that was refused.
        command: &'static str,
        /// The server's words.
        text: String,
    },
    /// The server said `BAD`, or lacks something this client can't do without.
    #[error("the server does not understand {command}: {text}")]
    Unsupported {
        /// The command that was refused.
        command: &'static str,
        /// The server's words.
        text: String,
    },
}

/// What the caller of a failed command does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextMove {
    /// Close the connection, if there still is one, and dial again after the usual back-off.
    Reconnect,
    /// As `Reconnect`, but wait at least this long if the server named a time.
    Pause(Option<Duration>),
    /// Try a few times at long intervals, then stop and tell an operator: more tries may lock the account.
    AskOperator,
    /// The connection is fine; the same command may work later.
    RetryLater,
}

impl ImapError {
    /// What to do about this error.
    pub fn next_move(&self) -> NextMove {
        match self {
            ImapError::Connect(_) | ImapError::Lost { .. } | ImapError::Unreadable { .. } => NextMove::Reconnect,
            ImapError::Throttled { wait, .. } => NextMove::Pause(*wait),
            ImapError::Credentials { .. } => NextMove::AskOperator,
            // A folder may come back and rights may be granted; neither is a reason to stop looking.
            ImapError::NoFolder { .. } | ImapError::ReadOnly { .. } => NextMove::Reconnect,
            ImapError::Refused { .. } | ImapError::Unsupported { .. } => NextMove::RetryLater,
        }
    }
}

/// The largest pause a server can impose: beyond it, asking again is the better guess.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// Response codes (RFC 5530, RFC 9051 section 7.1) and phrases that ask for a pause. Many servers know no codes.
const PAUSE_SIGNS: [&str; 9] = [
    "[UNAVAILABLE]",
    "[INUSE]",
    "[LIMIT]",
    "[THROTTLED]",
    "[OVERQUOTA]",
    "THROTTL",
    "TOO MANY",
    "MAXIMUM NUMBER OF CONNECTIONS",
    "SUGGESTED BACKOFF TIME",
];

/// Sorts a tagged `NO` (or a `BYE`) by its text: does it ask for a pause?
pub(crate) fn asks_for_pause(text: &str) -> bool {
    let text = text.to_ascii_uppercase();
    PAUSE_SIGNS.iter().any(|sign| text.contains(sign))
}

/// Reads `Suggested Backoff Time: 299961 milliseconds`, as Exchange and Office 365 write it.
pub(crate) fn suggested_pause(text: &str) -> Option<Duration> {
    let upper = text.to_ascii_uppercase();
    let (_, rest) = upper.split_once("SUGGESTED BACKOFF TIME")?;
    let rest = rest.trim_start_matches([':', ' ']);
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let milliseconds: u64 = digits.parse().ok()?;
    Some(Duration::from_millis(milliseconds).min(LONGEST_PAUSE))
}

/// Sorts a tagged `NO`. A folder without room for what is moved there is no reason to fetch nothing.
pub(crate) fn refused(command: &'static str, text: String) -> ImapError {
    let moves = matches!(command, "UID MOVE" | "UID COPY");
    if asks_for_pause(&text) && !(moves && text.to_ascii_uppercase().contains("[OVERQUOTA]")) {
        let wait = suggested_pause(&text);
        return ImapError::Throttled { command, wait, text };
    }
    ImapError::Refused { command, text }
}

/// Sorts the end of a connection: a `BYE` may say that the server is merely busy.
pub(crate) fn lost(command: &'static str, bye: Option<&str>, otherwise: &str) -> ImapError {
    match bye {
        Some(text) if asks_for_pause(text) => refused(command, text.to_owned()),
        Some(text) => ImapError::Lost {
            command,
            reason: format!("the server said BYE {text}"),
        },
        None => ImapError::Lost {
            command,
            reason: otherwise.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_that_exchange_suggests_is_understood() {
        let text = "Request is throttled. Suggested Backoff Time: 299961 milliseconds";
        assert_eq!(suggested_pause(text), Some(Duration::from_millis(299_961)));
        let error = refused("UID FETCH", text.into());
        assert_eq!(error.next_move(), NextMove::Pause(Some(Duration::from_millis(299_961))));
    }

    #[test]
    fn a_pause_of_weeks_is_cut_to_an_hour() {
        assert_eq!(
            suggested_pause("Suggested Backoff Time: 99999999999 milliseconds"),
            Some(LONGEST_PAUSE)
        );
        assert_eq!(suggested_pause("Suggested Backoff Time: soon"), None);
    }

    #[test]
    fn refusals_are_sorted_by_what_they_ask_for() {
        let cases = [
            ("[INUSE] mailbox is locked", true),
            ("Too many simultaneous connections", true),
            ("[THROTTLED] slow down", true),
            ("[OVERQUOTA] no room", true),
            ("[SERVERBUG] sorry", false),
            ("no such message", false),
        ];
        for (text, pause) in cases {
            let error = refused("NOOP", text.into());
            assert_eq!(matches!(error, ImapError::Throttled { .. }), pause, "{text}");
        }
    }
}
