//! How a refusal or failure crosses the wire: status code, a word for programs, a sentence for people; and back again
//! into a [`ControlError`] on the asking side.

use axum::Json;
use axum::http::header::{ALLOW, CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use plba_contracts::BoxError;
use plba_contracts::control::{ControlError, Role};
use serde::{Deserialize, Serialize};

/// The body of every answer that is not a success.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) error: String,
    pub(crate) message: String,
    /// Under which the log has the details.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    /// With `forbidden`: the role that would do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) needed: Option<Role>,
    /// With `timed_out`: how long was waited, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) waited: Option<u64>,
}

/// A refusal on its way to the client.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Box<Failure>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, error: &str, message: impl Into<String>) -> Self {
        let body = Failure {
            error: error.into(),
            message: message.into(),
            id: None,
            needed: None,
            waited: None,
        };
        Self {
            status,
            headers: Vec::new(),
            body: Box::new(body),
        }
    }

    pub(crate) fn unauthenticated() -> Self {
        let message = "this needs the header `Authorization: Bearer TOKEN` with a token that is known here";
        let challenge = HeaderValue::from_static("Bearer realm=\"plba\"");
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", message).with(WWW_AUTHENTICATE, challenge)
    }

    pub(crate) fn unknown(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown", format!("{UNKNOWN}{what}"))
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", message)
    }

    pub(crate) fn wrong_method(allowed: &'static str) -> Self {
        let message = format!("this path takes {allowed} only");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", message)
            .with(ALLOW, HeaderValue::from_static(allowed))
    }

    pub(crate) fn busy() -> Self {
        Self::later("too many actions are being carried out; try again in a second", 1)
    }

    /// It can't be done now, but perhaps after so many seconds.
    pub(crate) fn later(message: impl Into<String>, seconds: u32) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message).with(RETRY_AFTER, seconds.into())
    }

    /// After a body that was not read to its end, when the connection can't be used again.
    pub(crate) fn closing(self) -> Self {
        self.with(CONNECTION, HeaderValue::from_static("close"))
    }

    /// What the surface answered. `id` is where the log has the details; `detailed` tells them to the client as well.
    pub(crate) fn from_control(error: &ControlError, id: String, detailed: bool) -> Self {
        let message = error.to_string();
        match error {
            ControlError::Unknown(what) => Self::unknown(what),
            ControlError::Invalid(_) => Self::invalid(message),
            ControlError::Forbidden { needed } => {
                let mut refusal = Self::new(StatusCode::FORBIDDEN, "forbidden", message);
                refusal.body.needed = Some(*needed);
                refusal
            }
            ControlError::TimedOut(seconds) => {
                let mut refusal = Self::new(StatusCode::GATEWAY_TIMEOUT, "timed_out", message);
                refusal.body.waited = Some(*seconds);
                refusal
            }
            ControlError::Failed(_) => {
                let message = if detailed {
                    message
                } else {
                    "it failed; the log has the details under this id".into()
                };
                let mut refusal = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", message);
                refusal.body.id = Some(id);
                refusal
            }
        }
    }

    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn message(&self) -> &str {
        &self.body.message
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        response.headers_mut().extend(self.headers);
        response
    }
}

const UNKNOWN: &str = "there is no ";

impl Failure {
    /// The error that the surface on the other side answered with; `Err` gives back what no surface says.
    pub(crate) fn into_control(self) -> Result<ControlError, Self> {
        Ok(match self.error.as_str() {
            "unknown" => {
                let what = self.message.strip_prefix(UNKNOWN);
                ControlError::Unknown(what.map(str::to_owned).unwrap_or(self.message))
            }
            "invalid" => ControlError::Invalid(self.message),
            "forbidden" if self.needed.is_some() => ControlError::Forbidden {
                needed: self.needed.unwrap_or(Role::Admin),
            },
            "timed_out" if self.waited.is_some() => ControlError::TimedOut(self.waited.unwrap_or_default()),
            "failed" => {
                let id = self.id.map(|id| format!(" (log id {id})")).unwrap_or_default();
                ControlError::Failed(BoxError::from(self.message + &id))
            }
            _ => return Err(self),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_control_error_survives_the_wire() {
        let errors = [
            (ControlError::Unknown("view `x`".into()), 404, "there is no view `x`"),
            (
                ControlError::Invalid("days: at most 30".into()),
                400,
                "days: at most 30",
            ),
            (
                ControlError::Forbidden { needed: Role::Operator },
                403,
                "this needs the role Operator",
            ),
            (
                ControlError::TimedOut(7),
                504,
                "no answer within 7 s; the workers' executor may be busy, see the workers view",
            ),
            (ControlError::Failed("disk full".into()), 500, "disk full (log id 3-1)"),
        ];
        for (error, status, says) in errors {
            let refusal = Refusal::from_control(&error, "3-1".into(), true);
            assert_eq!(refusal.status.as_u16(), status);
            let wire = serde_json::to_vec(&refusal.body).unwrap();
            let read: Failure = serde_json::from_slice(&wire).unwrap();
            assert_eq!(read.into_control().unwrap().to_string(), says);
        }
    }

    #[test]
    fn a_viewer_is_not_told_what_failed_inside() {
        let error = ControlError::Failed("password of db.internal is wrong".into());
        let refusal = Refusal::from_control(&error, "3-1".into(), false);
        assert!(!refusal.body.message.contains("db.internal"));
        assert_eq!(refusal.body.id.as_deref(), Some("3-1"));
    }
}
