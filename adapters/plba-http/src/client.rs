//! The asking side: one call, one connection, within a deadline and a size. Where the token comes from is the command
//! line's business.

use std::io;
use std::pin::pin;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use plba_contracts::control::{ControlClient, ControlError, Parameters};
use plba_contracts::secret::Secret;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::host::{Authority, Host};
use crate::parameters::to_query;

/// Why a call did not reach the surface of a running process. Inside [`ControlError::Failed`], for those who want to
/// tell the cases apart.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address can't be used.
    #[error("\"{0}\" is no address of a control plane; write http://host:port")]
    Address(String),
    /// Nobody listens there.
    #[error(
        "nothing answers at {address} ({source}); is the program running, and is platform.control.listen the same for \
         both?"
    )]
    NotRunning {
        /// Where.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The token is not the one of the process.
    #[error(
        "the process at {address} refuses the token; was it started with another state directory? its token is in the \
         file control.token there"
    )]
    Token {
        /// Where.
        address: String,
    },
    /// The process refuses the request before it looks at the call.
    #[error("the process at {address} refuses the request: {message}")]
    Refused {
        /// Where.
        address: String,
        /// What it says.
        message: String,
    },
    /// Something listens there, but no control plane.
    #[error("what answers at {address} is no control plane of plba ({what}); another program may hold the port")]
    Foreign {
        /// Where.
        address: String,
        /// What came instead.
        what: String,
    },
    /// The connection broke before the answer was complete.
    #[error(
        "the connection to {address} broke before the answer was complete; the call may or may not have had effect"
    )]
    Broken {
        /// Where.
        address: String,
        /// How.
        source: hyper::Error,
    },
    /// The answer is longer than the limit.
    #[error("the answer is larger than {limit} bytes; ask for less")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
}

/// Asks a process that serves its control plane with [`HttpTransport`](crate::HttpTransport).
#[derive(Clone, Debug)]
pub struct HttpClient {
    /// For the whole call. Default 30 s.
    pub deadline: Duration,
    /// The longest answer, in bytes. Default 16 MiB.
    pub answer_bytes: usize,
}

impl Default for HttpClient {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            answer_bytes: 16 * 1024 * 1024,
        }
    }
}

#[async_trait]
impl ControlClient for HttpClient {
    async fn call(
        &self,
        address: &str,
        token: &Secret,
        name: &str,
        changes: bool,
        parameters: Parameters,
    ) -> Result<Value, ControlError> {
        let asking = async {
            let target = Target::parse(address)?;
            let request = target.request(token, name, changes, &parameters)?;
            let answer = self.ask(&target, request).await?;
            target.understand(answer)
        };
        let in_time = timeout(self.deadline, asking).await;
        in_time.unwrap_or_else(|_| Err(ControlError::TimedOut(self.deadline.as_secs())))
    }
}

impl From<ClientError> for ControlError {
    fn from(error: ClientError) -> Self {
        Self::Failed(Box::new(error))
    }
}

/// Whom to ask.
struct Target {
    /// For messages.
    address: String,
    /// `host:port` to connect to.
    connect: String,
}

struct Answer {
    status: StatusCode,
    body: Bytes,
}

impl Target {
    /// Reads `http://host:port` or `host:port`. An unspecified host (`0.0.0.0`, `[::]`), where a server listens on all of
    /// its addresses, is asked on loopback.
    fn parse(address: &str) -> Result<Self, ClientError> {
        let unfit = || ClientError::Address(address.into());
        let bare = address.strip_prefix("http://").unwrap_or(address);
        let authority = Authority::parse(bare.strip_suffix('/').unwrap_or(bare)).ok_or_else(unfit)?;
        let port = authority.port.ok_or_else(unfit)?;
        let connect = match authority.host {
            Host::Name(name) => format!("{name}:{port}"),
            Host::Address(address) if address.is_unspecified() && address.is_ipv4() => format!("127.0.0.1:{port}"),
            Host::Address(address) if address.is_unspecified() => format!("[::1]:{port}"),
            Host::Address(address) => std::net::SocketAddr::new(address, port).to_string(),
        };
        Ok(Self {
            address: format!("http://{connect}"),
            connect,
        })
    }

    fn request(
        &self,
        token: &Secret,
        name: &str,
        changes: bool,
        parameters: &Parameters,
    ) -> Result<Request<Full<Bytes>>, ControlError> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || !name.bytes().all(legal) {
            return Err(ControlError::Unknown(format!("view or action \"{name}\"")));
        }
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(|_| {
            ControlError::Invalid("the token holds a character that no token has; is the token file damaged?".into())
        })?;
        bearer.set_sensitive(true);
        let (method, path, body) = if changes {
            let body = serde_json::to_vec(parameters).map_err(|error| ControlError::Invalid(error.to_string()))?;
            (Method::POST, format!("/api/v1/actions/{name}"), Bytes::from(body))
        } else {
            let query = to_query(parameters).map_err(ControlError::Invalid)?;
            let separator = if query.is_empty() { "" } else { "?" };
            (
                Method::GET,
                format!("/api/v1/views/{name}{separator}{query}"),
                Bytes::new(),
            )
        };
        Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.connect)
            .header(AUTHORIZATION, bearer)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| ControlError::Invalid(format!("the parameters can't be sent: {error}")))
    }

    fn understand(&self, answer: Answer) -> Result<Value, ControlError> {
        let address = self.address.clone();
        if answer.status == StatusCode::OK {
            return serde_json::from_slice(&answer.body).map_err(|error| {
                let what = format!("its answer is no JSON: {error}");
                ClientError::Foreign { address, what }.into()
            });
        }
        let Ok(failure) = serde_json::from_slice::<Failure>(&answer.body) else {
            let what = format!("it answered {}", answer.status);
            return Err(ClientError::Foreign { address, what }.into());
        };
        if answer.status == StatusCode::UNAUTHORIZED {
            return Err(ClientError::Token { address }.into());
        }
        Err(failure.into_control().unwrap_or_else(|failure| {
            let message = failure.message;
            ClientError::Refused { address, message }.into()
        }))
    }

    fn broken(&self, source: hyper::Error) -> ClientError {
        let address = self.address.clone();
        if source.is_parse() {
            let what = "its answer is no HTTP".into();
            return ClientError::Foreign { address, what };
        }
        ClientError::Broken { address, source }
    }
}

impl HttpClient {
    async fn ask(&self, target: &Target, request: Request<Full<Bytes>>) -> Result<Answer, ClientError> {
        let stream = TcpStream::connect(&target.connect)
            .await
            .map_err(|source| ClientError::NotRunning {
                address: target.address.clone(),
                source,
            })?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| target.broken(error))?;
        let mut asking = pin!(async {
            let response = sender
                .send_request(request)
                .await
                .map_err(|error| target.broken(error))?;
            self.receive(target, response).await
        });
        let mut connection = pin!(connection);
        tokio::select! {
            biased;
            answer = asking.as_mut() => return answer,
            // How it ended is said by the request too, and there with the answer if that was complete.
            _ = connection.as_mut() => {}
        }
        asking.await
    }

    async fn receive(&self, target: &Target, response: Response<Incoming>) -> Result<Answer, ClientError> {
        let (status, limit) = (response.status(), self.answer_bytes);
        if response.body().size_hint().lower() > limit as u64 {
            return Err(ClientError::TooLarge { limit });
        }
        match Limited::new(response.into_body(), limit).collect().await {
            Ok(collected) => Ok(Answer {
                status,
                body: collected.to_bytes(),
            }),
            Err(error) if error.is::<LengthLimitError>() => Err(ClientError::TooLarge { limit }),
            Err(error) => Err(match error.downcast::<hyper::Error>() {
                Ok(source) => target.broken(*source),
                Err(error) => ClientError::Foreign {
                    address: target.address.clone(),
                    what: error.to_string(),
                },
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_transport_writes_them() {
        let cases = [
            ("http://127.0.0.1:8080", Some("127.0.0.1:8080")),
            ("http://[::1]:8080/", Some("[::1]:8080")),
            ("0.0.0.0:8080", Some("127.0.0.1:8080")),
            ("[::]:8080", Some("[::1]:8080")),
            ("localhost:1", Some("localhost:1")),
            ("http://localhost", None),
            ("https://localhost:1", None),
            ("http://user@localhost:1", None),
            ("http://localhost:1/path", None),
            ("", None),
        ];
        for (address, connect) in cases {
            let target = Target::parse(address).ok().map(|target| target.connect);
            assert_eq!(target.as_deref(), connect, "{address}");
        }
    }
}
