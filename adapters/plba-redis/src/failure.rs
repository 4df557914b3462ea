//! What went wrong with Redis, as one sentence that says what to do. Which error of the port it becomes is its caller's
//! business.

use plba_contracts::BoxError;
use plba_net::{ConnectError, TlsError};
use redis::{ErrorKind, RedisError, ServerErrorKind};

/// What a failure means for the connection and for another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No answer: whether it was done is unknown, and the connection is not used again.
    Broken,
    /// Not done: this is not the server that takes it; ask again where it is.
    Elsewhere,
    /// Not done: the script has to be loaded.
    NoScript,
    /// Not done: the server has no memory left for it.
    OutOfMemory,
    /// Not done, and it takes a while or a person to change that.
    Refused,
}

/// A failed call.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) sentence: String,
}

impl Failure {
    pub(crate) fn broken(sentence: impl Into<String>) -> Self {
        Self {
            kind: Kind::Broken,
            sentence: sentence.into(),
        }
    }

    pub(crate) fn refused(sentence: impl Into<String>) -> Self {
        Self {
            kind: Kind::Refused,
            sentence: sentence.into(),
        }
    }

    /// An answer of another shape than the script gives.
    pub(crate) fn answer(what: &str) -> Self {
        Self::refused(format!(
            "the answer of Redis to {what} has another shape than this program expects; \
             are keys with this prefix used by something else?"
        ))
    }
}

impl From<Failure> for BoxError {
    fn from(failure: Failure) -> Self {
        failure.sentence.into()
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        Self::broken(format!("Redis can't be reached: {error}"))
    }
}

impl From<TlsError> for Failure {
    fn from(error: TlsError) -> Self {
        Self::refused(error.to_string())
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        let code = error.code().unwrap_or_default().to_owned();
        let detail = error.detail().unwrap_or_default().to_owned();
        let (kind, sentence) = match (error.kind(), code.as_str()) {
            (ErrorKind::Server(kind), code) => of_server(kind, code, &detail),
            (ErrorKind::Extension, code) => of_extension(code, &detail),
            (ErrorKind::AuthenticationFailed, _) => (Kind::Refused, wrong_account(&error.to_string())),
            (ErrorKind::Io | ErrorKind::Parse, _) => (Kind::Broken, format!("the connection to Redis broke: {error}")),
            _ if error.to_string().contains("WRONGPASS") || error.to_string().contains("NOAUTH") => {
                (Kind::Refused, wrong_account(&error.to_string()))
            }
            _ => (Kind::Broken, format!("Redis can't be used: {error}")),
        };
        Self { kind, sentence }
    }
}

fn wrong_account(said: &str) -> String {
    format!("Redis refuses the account ({said}); check user and password in the queue's location")
}

fn of_server(kind: ServerErrorKind, code: &str, detail: &str) -> (Kind, String) {
    match kind {
        ServerErrorKind::NoScript => (Kind::NoScript, "Redis does not know the script".into()),
        ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::TryAgain => (
            Kind::Elsewhere,
            format!("the cluster is moving the queue's slot ({code} {detail}); it is looked for again"),
        ),
        ServerErrorKind::ClusterDown | ServerErrorKind::MasterDown => (
            Kind::Elsewhere,
            format!("the Redis cluster is down ({code} {detail}); see that all its slots are served"),
        ),
        ServerErrorKind::CrossSlot => (
            Kind::Refused,
            "keys of the queue lie in several slots; use a newer program or another prefix".into(),
        ),
        ServerErrorKind::ReadOnly => (
            Kind::Elsewhere,
            "this Redis server is a read-only replica; name the primary in the queue's location, or use redis+sentinel:"
                .into(),
        ),
        ServerErrorKind::BusyLoading => (
            Kind::Refused,
            "Redis is still loading its data; it will answer when that is done".into(),
        ),
        ServerErrorKind::NoPerm => (
            Kind::Refused,
            format!("Redis does not permit it to this user ({detail}); give it +@all on the keys of the prefix, and INFO, CONFIG GET, WAIT"),
        ),
        _ if detail.contains("OOM") => (Kind::OutOfMemory, out_of_memory()),
        _ if detail.contains("WRONGPASS") || detail.contains("NOAUTH") || detail.contains("without any password") => {
            (Kind::Refused, wrong_account(detail))
        }
        _ => (Kind::Refused, format!("Redis refuses it: {code} {detail}")),
    }
}

fn of_extension(code: &str, detail: &str) -> (Kind, String) {
    match code {
        "OOM" => (Kind::OutOfMemory, out_of_memory()),
        "WRONGPASS" | "NOAUTH" => (Kind::Refused, wrong_account(&format!("{code} {detail}"))),
        "BUSY" => (
            Kind::Refused,
            "Redis is busy with somebody's script; see which one (SLOWLOG GET) and end it (SCRIPT KILL)".into(),
        ),
        "MISCONF" => (
            Kind::Refused,
            format!("Redis can't write its data to disk and takes nothing more; see to its disk ({detail})"),
        ),
        "NOREPLICAS" => (
            Kind::Refused,
            format!("Redis has fewer replicas than it is told to need (min-replicas-to-write): {detail}"),
        ),
        "WRONGTYPE" => (
            Kind::Refused,
            "a key of the queue holds something else; another program uses the prefix, choose one of your own".into(),
        ),
        _ => (Kind::Refused, format!("Redis refuses it: {code} {detail}")),
    }
}

fn out_of_memory() -> String {
    "Redis has reached maxmemory and takes no more tasks; consumers go on: give it more memory, or wait".into()
}

#[cfg(test)]
mod tests {
    use redis::make_extension_error;

    use super::*;

    #[test]
    fn refusals_say_what_to_do() {
        for (code, kind, says) in [
            ("OOM", Kind::OutOfMemory, "more memory"),
            ("WRONGPASS", Kind::Refused, "check user and password"),
            ("NOAUTH", Kind::Refused, "check user and password"),
            ("MISCONF", Kind::Refused, "disk"),
            ("WRONGTYPE", Kind::Refused, "choose one of your own"),
        ] {
            let failure = Failure::from(make_extension_error(code.to_owned(), Some("detail".to_owned())));
            assert_eq!(failure.kind, kind, "{code}");
            assert!(failure.sentence.contains(says), "{}", failure.sentence);
        }
    }
}
