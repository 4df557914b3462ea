//! The client, against the transport and against what is no transport.

use std::time::Duration;

use plba_contracts::control::{ControlClient, ControlError, Parameters, Role};
use plba_contracts::secret::Secret;
use plba_http::{ClientError, HttpClient};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{TOKEN, serve, soon};

fn token() -> Secret {
    Secret::from(TOKEN)
}

async fn view(address: &str, name: &str) -> Result<Value, ControlError> {
    soon(HttpClient::default().call(address, &token(), name, false, Parameters::new())).await
}

fn cause(error: ControlError) -> ClientError {
    let ControlError::Failed(cause) = error else {
        panic!("{error}")
    };
    *cause.downcast().expect("the client's own error")
}

#[tokio::test]
async fn a_call_arrives_as_it_was_made() {
    let server = serve().await;
    let parameters = json!({"a": "x & y=z+%", "words": ["only one"]});
    for (name, changes) in [("echo", false), ("change", true)] {
        let given = parameters.as_object().unwrap().clone();
        let answer = HttpClient::default()
            .call(&server.url, &token(), name, changes, given)
            .await
            .unwrap();
        assert_eq!(
            answer,
            json!({"name": name, "caller": "admin", "parameters": parameters})
        );
    }
}

#[tokio::test]
async fn the_surfaces_own_errors_come_back_as_they_were() {
    let server = serve().await;
    let unknown = view(&server.url, "nothing").await.unwrap_err();
    assert!(
        matches!(&unknown, ControlError::Unknown(what) if what == "view or action nothing"),
        "{unknown}"
    );
    let invalid = view(&server.url, "invalid").await.unwrap_err();
    assert!(
        matches!(&invalid, ControlError::Invalid(says) if says == "days: at most 30"),
        "{invalid}"
    );
    let forbidden = view(&server.url, "forbidden").await.unwrap_err();
    assert!(
        matches!(forbidden, ControlError::Forbidden { needed: Role::Operator }),
        "{forbidden}"
    );
    assert!(matches!(
        view(&server.url, "slow").await,
        Err(ControlError::TimedOut(7))
    ));
    let failed = view(&server.url, "fails").await.unwrap_err().to_string();
    assert!(failed.starts_with("the disk is full (log id "), "{failed}");
    for name in ["", "../status", "a/b", "a?b", "ä"] {
        assert!(
            matches!(view(&server.url, name).await, Err(ControlError::Unknown(_))),
            "{name:?}"
        );
    }
}

#[tokio::test]
async fn a_wrong_token_and_a_process_that_does_not_run_are_told_apart() {
    let server = serve().await;
    let wrong = Secret::from("wrong");
    let refused = HttpClient::default()
        .call(&server.url, &wrong, "status", false, Parameters::new())
        .await;
    let refused = cause(refused.unwrap_err());
    assert!(
        matches!(refused, ClientError::Token { .. }) && refused.to_string().contains("control.token"),
        "{refused}"
    );
    let damaged = Secret::from("line\nbreak");
    let damaged = HttpClient::default()
        .call(&server.url, &damaged, "status", false, Parameters::new())
        .await;
    assert!(matches!(damaged, Err(ControlError::Invalid(_))), "{damaged:?}");
    server.stop.stop(false);
    soon(server.serving).await.unwrap();
    let gone = cause(view(&server.url, "status").await.unwrap_err());
    assert!(
        matches!(gone, ClientError::NotRunning { .. }) && gone.to_string().contains(&server.url),
        "{gone}"
    );
    assert!(matches!(
        cause(view("ftp://x", "status").await.unwrap_err()),
        ClientError::Address(_)
    ));
}

#[tokio::test]
async fn a_large_answer_is_read_up_to_the_limit() {
    let server = serve().await;
    assert_eq!(
        view(&server.url, "large").await.unwrap().as_str().unwrap().len(),
        8 << 20
    );
    let small = HttpClient {
        answer_bytes: 1024,
        ..HttpClient::default()
    };
    let error = small
        .call(&server.url, &token(), "large", false, Parameters::new())
        .await
        .unwrap_err();
    assert!(matches!(cause(error), ClientError::TooLarge { limit: 1024 }));
}

#[tokio::test]
async fn what_is_no_control_plane_is_named_so() {
    let answers = [
        ("SSH-2.0-OpenSSH_9\r\n", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", true),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", false),
        ("", false),
    ];
    for (answer, foreign) in answers {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answering = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        let (asked, ()) = tokio::join!(view(&address, "status"), answering);
        let error = cause(asked.unwrap_err());
        let as_expected = match error {
            ClientError::Foreign { .. } => foreign,
            ClientError::Broken { .. } => !foreign,
            _ => false,
        };
        assert!(as_expected, "{answer:?}: {error:?}");
    }
}

#[tokio::test]
async fn an_answer_that_never_comes_ends_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let hasty = HttpClient {
        deadline: Duration::from_millis(50),
        ..HttpClient::default()
    };
    let asked = soon(hasty.call(&address, &token(), "status", false, Parameters::new())).await;
    assert!(matches!(asked, Err(ControlError::TimedOut(0))), "{asked:?}");
}
