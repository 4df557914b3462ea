//! What a call carries in and out: parameters, answers, errors.

use std::sync::atomic::Ordering;

use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::support::{Answer, TOKEN, VIEWER, serve, soon};

const JSON: &str = "Content-Type: application/json; charset=utf-8\r\n";

#[tokio::test]
async fn the_probes_say_one_word() {
    let server = serve().await;
    server.surface.ready.store(false, Ordering::SeqCst);
    let ready = server.anonymous("GET /readyz", "", "").await;
    assert_eq!((ready.status, ready.body.as_str()), (503, "starting"));
    server.surface.ready.store(true, Ordering::SeqCst);
    let ready = server.anonymous("GET /readyz", "", "").await;
    assert_eq!((ready.status, ready.body.as_str()), (200, "ok"));
    assert!(ready.head.contains("content-type: text/plain"), "{ready:?}");
}

#[tokio::test]
async fn views_take_a_query_and_actions_a_json_object() {
    let server = serve().await;
    let view = server
        .ask("GET /api/v1/views/echo?a=1&b=x%20y&b=z&words=one", "", "")
        .await;
    let parameters = json!({"a": "1", "b": ["x y", "z"], "words": ["one"]});
    assert_eq!(
        view.json(),
        json!({"name": "echo", "caller": "admin", "parameters": parameters})
    );
    let action = server
        .ask("POST /api/v1/actions/change", JSON, "{\"n\": 5, \"words\": [\"x\"]}")
        .await;
    let parameters = json!({"n": 5, "words": ["x"]});
    assert_eq!(
        action.json(),
        json!({"name": "change", "caller": "admin", "parameters": parameters})
    );
    let nothing = server.ask("POST /api/v1/actions/change", JSON, "").await;
    assert_eq!(nothing.json()["parameters"], json!({}));
    let calls: Vec<_> = server
        .surface
        .calls
        .lock()
        .unwrap()
        .iter()
        .map(|call| (call.0.clone(), call.1))
        .collect();
    assert_eq!(
        calls,
        [("echo".into(), false), ("change".into(), true), ("change".into(), true)]
    );
}

#[tokio::test]
async fn the_catalogue_is_told_in_two_halves() {
    let server = serve().await;
    let names = |answer: Answer| -> Vec<String> {
        let entries = answer.json();
        entries
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["name"].as_str().unwrap().into())
            .collect()
    };
    assert_eq!(names(server.ask("GET /api/v1/views", "", "").await), ["status", "echo"]);
    assert_eq!(names(server.ask("GET /api/v1/actions", "", "").await), ["change"]);
}

#[tokio::test]
async fn malformed_input_gets_one_clear_error() {
    let server = serve().await;
    let deep = format!("{{\"a\":{}", "[".repeat(20_000));
    for body in ["[]", "5", "{", "{\"a\":1,\"a\":2}", "{\"a\":NaN}", "{\"a\":1} x", &deep] {
        let answer = server.ask("POST /api/v1/actions/change", JSON, body).await;
        assert_eq!((answer.status, answer.error().as_str()), (400, "invalid"), "{answer:?}");
    }
    let no_text = server.ask("GET /api/v1/views/echo?a=%ff", "", "").await;
    assert_eq!((no_text.status, no_text.error().as_str()), (400, "invalid"));
    let many = server
        .ask(&format!("GET /api/v1/views/echo?{}", "a&".repeat(1000)), "", "")
        .await;
    assert_eq!(many.status, 400);
    assert!(server.surface.calls.lock().unwrap().is_empty(), "nothing was called");
    for garbage in [
        "\x16\x03\x01\x02",
        "GET / HTTP/9.9\r\n\r\n",
        "GET\r\n\r\n",
        "G\0T / HTTP/1.1\r\n\r\n",
        "\r\n\r\n\r\n x",
    ] {
        let answer = server.raw(garbage.to_owned() + "\r\n\r\n").await;
        assert!([0, 400].contains(&answer.status), "{garbage:?}: {answer:?}");
    }
    assert_eq!(server.anonymous("GET /livez", "", "").await.status, 200, "still there");
}

#[tokio::test]
async fn what_the_surface_refuses_has_a_status_of_its_own() {
    let server = serve().await;
    let cases = [
        ("nothing", 404, "unknown"),
        ("invalid", 400, "invalid"),
        ("forbidden", 403, "forbidden"),
        ("slow", 504, "timed_out"),
        ("fails", 500, "failed"),
    ];
    for (name, status, error) in cases {
        let view = server.ask(&format!("GET /api/v1/views/{name}"), "", "").await;
        assert_eq!((view.status, view.error().as_str()), (status, error), "{view:?}");
        let action = server.ask(&format!("POST /api/v1/actions/{name}"), JSON, "{}").await;
        assert_eq!((action.status, action.error().as_str()), (status, error), "{action:?}");
    }
}

#[tokio::test]
async fn details_of_a_failure_are_for_operators_and_the_id_for_all() {
    let server = serve().await;
    let known = server.ask("GET /api/v1/views/fails", "", "").await.json();
    assert_eq!(known["message"], "the disk is full");
    let viewer = format!("Authorization: Bearer {VIEWER}\r\n");
    let generic = server.anonymous("GET /api/v1/views/fails", &viewer, "").await.json();
    assert!(!generic["message"].as_str().unwrap().contains("disk"), "{generic}");
    assert!(
        generic["id"].is_string() && known["id"] != generic["id"],
        "{known} {generic}"
    );
}

#[tokio::test]
async fn a_call_that_panics_costs_nobody_else_an_answer() {
    let server = serve().await;
    assert_eq!(server.ask("POST /api/v1/actions/panics", JSON, "{}").await.status, 500);
    assert_eq!(server.ask("GET /api/v1/views/panics", "", "").await.status, 500);
    assert_eq!(server.ask("GET /api/v1/status", "", "").await.status, 200);
}

#[tokio::test]
async fn an_action_goes_on_when_its_caller_hangs_up() {
    let server = serve().await;
    let mut stream = server.connect().await;
    let request = format!(
        "POST /api/v1/actions/gated HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n{JSON}Content-Length: 2\r\n\r\n{{}}",
        TOKEN
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    soon(server.surface.begun.notified()).await;
    drop(stream);
    // A whole request after it: by then the server has seen the end of the other connection.
    assert_eq!(server.ask("GET /api/v1/status", "", "").await.status, 200);
    server.surface.gate.notify_one();
    soon(server.surface.left.notified()).await;
    assert!(server.surface.ended.load(Ordering::SeqCst), "it was dropped on the way");
}

#[tokio::test]
async fn a_view_ends_when_its_caller_hangs_up() {
    let server = serve().await;
    let mut stream = server.connect().await;
    let request =
        format!("GET /api/v1/views/gated HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    soon(server.surface.begun.notified()).await;
    drop(stream);
    soon(server.surface.left.notified()).await;
    assert!(!server.surface.ended.load(Ordering::SeqCst));
}
