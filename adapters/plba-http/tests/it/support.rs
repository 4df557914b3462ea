//! What the tests share: a surface from memory, a transport on a random port, and requests written by hand.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use plba_contracts::control::{
    Caller, CatalogueEntry, ControlError, ControlSurface, ControlTransport, Parameter, ParameterKind, Parameters,
    Probe, Role, TransportSettings,
};
use plba_contracts::stop::StopHandle;
use plba_http::{HttpTransport, Limits};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(crate) const TOKEN: &str = "0123456789abcdef";
pub(crate) const VIEWER: &str = "viewer-token";

/// Far longer than anything here takes, so that a defect ends a test instead of hanging it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Knows the views and actions that the tests call, and remembers the calls.
#[derive(Default)]
pub(crate) struct Surface {
    pub(crate) ready: AtomicBool,
    pub(crate) calls: Mutex<Vec<(String, bool, Value)>>,
    /// Lets the calls to `gated` go on.
    pub(crate) gate: Notify,
    /// Told when a call to `gated` has begun.
    pub(crate) begun: Notify,
    pub(crate) ended: AtomicBool,
    /// Told when a call to `gated` is over, answered or dropped.
    pub(crate) left: Notify,
}

struct Leaving<'a>(&'a Notify);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[async_trait]
impl ControlSurface for Surface {
    fn live(&self) -> Probe {
        Probe {
            passed: true,
            word: "ok",
        }
    }

    fn ready(&self) -> Probe {
        let passed = self.ready.load(Ordering::SeqCst);
        let word = if passed { "ok" } else { "starting" };
        Probe { passed, word }
    }

    fn authenticate(&self, token: &str) -> Option<Caller> {
        let caller = |name: &str, role| {
            Some(Caller {
                name: name.into(),
                role,
            })
        };
        match token {
            TOKEN => caller("admin", Role::Admin),
            VIEWER => caller("viewer", Role::Viewer),
            _ => None,
        }
    }

    fn catalogue(&self) -> Vec<CatalogueEntry> {
        let entry = |name: &str, changes| CatalogueEntry {
            name: name.into(),
            summary: "for the tests".into(),
            changes,
            role: Role::Viewer,
            parameters: vec![Parameter {
                name: "words",
                help: "what to echo",
                kind: ParameterKind::Words,
            }],
            answer: json!({}),
        };
        vec![entry("status", false), entry("echo", false), entry("change", true)]
    }

    async fn call(
        &self,
        caller: &Caller,
        name: &str,
        changes: bool,
        parameters: Parameters,
    ) -> Result<Value, ControlError> {
        let call = (name.to_owned(), changes, Value::Object(parameters.clone()));
        self.calls.lock().unwrap().push(call);
        match name {
            "status" | "workers" | "health" | "echo" | "change" => {
                Ok(json!({"name": name, "caller": caller.name, "parameters": parameters}))
            }
            "gated" => {
                let _leaving = Leaving(&self.left);
                self.begun.notify_one();
                self.gate.notified().await;
                self.ended.store(true, Ordering::SeqCst);
                Ok(json!("through"))
            }
            "large" => Ok(json!("x".repeat(8 << 20))),
            "forbidden" => Err(ControlError::Forbidden { needed: Role::Operator }),
            "invalid" => Err(ControlError::Invalid("days: at most 30".into())),
            "slow" => Err(ControlError::TimedOut(7)),
            "fails" => Err(ControlError::Failed("the disk is full".into())),
            "panics" => panic!("a defect in a view"),
            _ => Err(ControlError::Unknown(format!("view or action {name}"))),
        }
    }
}

/// A transport that listens, and what it takes to end it.
pub(crate) struct Server {
    pub(crate) surface: Arc<Surface>,
    pub(crate) address: SocketAddr,
    pub(crate) url: String,
    pub(crate) stop: StopHandle,
    pub(crate) serving: JoinHandle<()>,
}

pub(crate) async fn serve() -> Server {
    serve_with("127.0.0.1:0", Limits::default()).await
}

pub(crate) async fn serve_with(listen: &str, limits: Limits) -> Server {
    let (surface, stop) = (Arc::new(Surface::default()), StopHandle::new());
    surface.ready.store(true, Ordering::SeqCst);
    let settings = TransportSettings {
        listen: listen.into(),
        hosts: vec!["orders.example".into()],
    };
    let behind: Arc<dyn ControlSurface> = Arc::clone(&surface) as _;
    let opened = HttpTransport::with_limits(limits)
        .open(settings, behind, stop.signal())
        .await
        .unwrap();
    let address = opened.address.strip_prefix("http://").unwrap().parse().unwrap();
    Server {
        surface,
        address,
        url: opened.address,
        stop,
        serving: tokio::spawn(opened.serve),
    }
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    /// 0 if the connection ended without an answer.
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or(0);
        Self {
            status,
            head: head.to_ascii_lowercase(),
            body: body.into(),
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

impl Server {
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends these bytes and reads to the end of the connection.
    pub(crate) async fn raw(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut stream = self.connect().await;
        // The server may answer and close before it has read all of a refused request.
        let _ = stream.write_all(request.as_ref()).await;
        Answer::read(&rest(&mut stream).await)
    }

    /// A request by the admin, with more header lines.
    pub(crate) async fn ask(&self, line: &str, headers: &str, body: &str) -> Answer {
        let authorization = format!("Authorization: Bearer {TOKEN}\r\n{headers}");
        self.anonymous(line, &authorization, body).await
    }

    pub(crate) async fn anonymous(&self, line: &str, headers: &str, body: &str) -> Answer {
        let host = if headers.contains("Host:") {
            ""
        } else {
            "Host: localhost\r\n"
        };
        let length = body.len();
        let head = format!("{line} HTTP/1.1\r\n{host}Connection: close\r\nContent-Length: {length}\r\n{headers}\r\n");
        self.raw(head + body).await
    }
}

/// What still comes until the other side closes.
pub(crate) async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let reading = stream.read_to_end(&mut bytes);
    let ended = timeout(PATIENCE, reading)
        .await
        .expect("the server neither answers nor closes");
    // A reset after the answer is a close too.
    drop(ended);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits for something that must happen soon.
pub(crate) async fn soon<T>(happening: impl Future<Output = T>) -> T {
    timeout(PATIENCE, happening).await.expect("it did not happen")
}

/// Sends these bytes on a kept-alive connection and reads one answer of known length.
pub(crate) async fn exchange(stream: &mut TcpStream, request: &str) -> Answer {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let reading = async {
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let answer = Answer::read(&text);
            let length = answer
                .head
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.lines().next()?.parse().ok());
            if text.contains("\r\n\r\n") && Some(answer.body.len()) >= length {
                return answer;
            }
            assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "closed: {text}");
        }
    };
    soon(reading).await
}
