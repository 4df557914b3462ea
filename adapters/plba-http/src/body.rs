//! Reading the body of a request within a size and a time. What it has to be is decided by whoever asked for it.

use std::time::Duration;

use axum::extract::Request;
use axum::http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes};
use tokio::time::timeout;

use crate::failure::Refusal;

/// The whole body, of at most so many bytes and within so much time.
pub(crate) async fn read(request: Request, most: usize, within: Duration) -> Result<Bytes, Refusal> {
    let too_large = || {
        let message = format!("the body is larger than {most} bytes");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message).closing()
    };
    let body = request.into_body();
    // A declared length is believed only so far as to refuse it.
    if body.size_hint().lower() > most as u64 {
        return Err(too_large());
    }
    match timeout(within, Limited::new(body, most).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Refusal::invalid("the body ended before its announced end or is wrongly framed").closing()),
        Err(_) => {
            let message = format!("the body did not arrive within {within:?}");
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "too_slow", message).closing())
        }
    }
}
