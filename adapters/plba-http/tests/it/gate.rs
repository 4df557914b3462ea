//! Who is let through: tokens, host names, origins, and paths that try to pass for others.

use plba_http::ROUTES;

use crate::support::{TOKEN, serve, serve_with};

const JSON: &str = "Content-Type: application/json\r\n";
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];

#[tokio::test]
async fn every_route_and_method_without_a_known_token_is_401_except_the_probes() {
    let server = serve().await;
    let credentials = [
        "",
        "Authorization: Bearer wrong\r\n",
        "Authorization: Bearer\r\n",
        "Authorization: Bearer \r\n",
        "Authorization: Basic MDEyMzQ1Njc4OWFiY2RlZg==\r\n",
        "Authorization: 0123456789abcdef\r\n",
        "Authorization: Bearer 0123456789abcde\r\n",
        "Authorization: Bearer 0123456789abcdef0\r\n",
        "Authorization: Bearer 0123456789abcdef, Bearer x\r\n",
        "Authorization: Bearer 0123456789abcdef\r\nAuthorization: Bearer 0123456789abcdef\r\n",
        "Cookie: token=0123456789abcdef\r\n",
        "X-Forwarded-For: 127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\n",
    ];
    let mut paths: Vec<_> = ROUTES
        .iter()
        .map(|route| (route.path, route))
        .map(|(path, route)| (path, route.open))
        .collect();
    paths.extend([
        ("/api/v1/views/status", false),
        ("/", false),
        ("/nonsense", false),
        ("*", false),
    ]);
    assert_eq!(
        paths.iter().filter(|(_, open)| *open).count(),
        2,
        "only the two probes are open"
    );
    for (path, open) in paths {
        for method in METHODS {
            for credential in credentials {
                let answer = server
                    .anonymous(&format!("{method} {path}"), &format!("{credential}{JSON}"), "{}")
                    .await;
                let expected = if open && ["GET", "HEAD"].contains(&method) {
                    200
                } else {
                    401
                };
                assert_eq!(answer.status, expected, "{method} {path} {credential:?}");
                if expected == 401 {
                    assert!(
                        answer.head.contains("www-authenticate: bearer realm=\"plba\""),
                        "{answer:?}"
                    );
                    assert!(method == "HEAD" || answer.error() == "unauthenticated", "{answer:?}");
                }
            }
        }
    }
    assert!(server.surface.calls.lock().unwrap().is_empty(), "nothing was called");
}

#[tokio::test]
async fn every_route_answers_its_methods_to_a_known_token_and_405_to_others() {
    let server = serve().await;
    for route in ROUTES {
        let name = if route.path.contains("actions") {
            "change"
        } else {
            "echo"
        };
        let path = route.path.replace("{name}", name);
        for method in METHODS {
            let answer = server.ask(&format!("{method} {path}"), JSON, "{}").await;
            let expected = if route.methods.contains(&method) { 200 } else { 405 };
            assert_eq!(answer.status, expected, "{method} {path}: {answer:?}");
            if expected == 405 {
                assert!(
                    answer
                        .head
                        .contains(&format!("allow: {}", route.methods[0].to_lowercase())),
                    "{answer:?}"
                );
            }
            assert!(method != "HEAD" || answer.body.is_empty(), "{answer:?}");
            for header in [
                "x-content-type-options: nosniff",
                "cache-control: no-store",
                "content-security-policy: default-src 'none'",
            ] {
                assert!(answer.head.contains(header), "{method} {path}: {answer:?}");
            }
        }
    }
    let spelled = server
        .anonymous("GET /api/v1/status", &format!("authorization: bEARER {TOKEN}\r\n"), "")
        .await;
    assert_eq!(spelled.status, 200);
}

#[tokio::test]
async fn only_our_own_host_names_are_answered_anywhere() {
    let server = serve().await;
    let port = server.address.port();
    for path in ["/livez", "/api/v1/status", "/nonsense"] {
        for host in [
            "evil.example",
            "localhost.evil.example",
            "evil.localhost",
            "127.0.0.1.nip.io",
            "localhost:80@evil.example",
            "127.1",
            "2130706433",
            "192.168.0.1",
            "[::2]",
            "",
            "localhost, evil.example",
            "orders.example.evil",
        ] {
            let answer = server
                .ask(&format!("GET {path}"), &format!("Host: {host}\r\n"), "")
                .await;
            assert_eq!(answer.status, 403, "{host:?} {path}: {answer:?}");
        }
    }
    for host in [
        "localhost".into(),
        format!("LOCALHOST:{port}"),
        "127.0.0.1".into(),
        "[::1]:1".into(),
        "Orders.Example:443".into(),
    ] {
        let answer = server.anonymous("GET /livez", &format!("Host: {host}\r\n"), "").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"), "{host}");
    }
    let twice = server
        .anonymous("GET /livez", "Host: localhost\r\nHost: localhost\r\n", "")
        .await;
    assert_eq!(twice.status, 400);
    assert_eq!(
        server
            .raw("GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n")
            .await
            .status,
        400
    );
    let absolute = server.anonymous("GET http://evil.example/livez", "", "").await;
    assert_eq!(absolute.status, 403, "the host in the request line counts");
    assert_eq!(server.anonymous("GET http://127.0.0.1/livez", "", "").await.status, 200);
}

#[tokio::test]
async fn a_probe_by_our_address_passes_where_we_listen_on_all_addresses() {
    let server = serve_with("0.0.0.0:0", plba_http::Limits::default()).await;
    // All of 127.0.0.0/8 is this machine: an address that is in no list, as a pod's own would be.
    let target = std::net::SocketAddr::new([127, 7, 7, 7].into(), server.address.port());
    let mut stream = tokio::net::TcpStream::connect(target).await.unwrap();
    let answer = crate::support::exchange(&mut stream, "GET /livez HTTP/1.1\r\nHost: 127.7.7.7\r\n\r\n").await;
    assert_eq!(answer.status, 200);
    let answer = crate::support::exchange(&mut stream, "GET /livez HTTP/1.1\r\nHost: 127.7.7.8\r\n\r\n").await;
    assert_eq!(answer.status, 403);
}

#[tokio::test]
async fn requests_from_pages_of_another_origin_are_refused() {
    let server = serve().await;
    let cases = [
        ("POST", "Sec-Fetch-Site: cross-site\r\n", 403),
        ("POST", "Sec-Fetch-Site: same-site\r\n", 403),
        ("POST", "Sec-Fetch-Site: nonsense\r\n", 403),
        ("POST", "Sec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site\r\n", 403),
        ("POST", "Origin: http://evil.example\r\n", 403),
        ("POST", "Origin: null\r\n", 403),
        ("POST", "Origin: http://localhost:1\r\n", 403),
        (
            "POST",
            "Sec-Fetch-Site: same-origin\r\nOrigin: http://evil.example\r\n",
            403,
        ),
        ("POST", "Sec-Fetch-Site: same-origin\r\n", 200),
        ("POST", "Sec-Fetch-Site: none\r\n", 200),
        ("POST", "Origin: http://localhost\r\n", 200),
        ("POST", "", 200),
        ("GET", "Origin: http://evil.example\r\n", 403),
        ("GET", "Sec-Fetch-Site: cross-site\r\n", 200),
    ];
    for (method, headers, status) in cases {
        let path = if method == "POST" {
            "/api/v1/actions/change"
        } else {
            "/api/v1/status"
        };
        let answer = server
            .ask(&format!("{method} {path}"), &format!("{JSON}{headers}"), "{}")
            .await;
        assert_eq!(answer.status, status, "{method} {headers:?}: {answer:?}");
    }
    let form = server
        .ask("POST /api/v1/actions/change", "Content-Type: text/plain\r\n", "{}")
        .await;
    assert_eq!((form.status, form.error().as_str()), (415, "not_json"));
    assert_eq!(server.ask("POST /api/v1/actions/change", "", "{}").await.status, 415);
}

#[tokio::test]
async fn no_spelling_of_a_path_gets_around_the_token_or_to_another_view() {
    let server = serve().await;
    let spellings = [
        "/livez/",
        "//livez",
        "/livez/../api/v1/status",
        "/livez/%2e%2e/api/v1/status",
        "/livez;/api/v1/status",
        "/livez%2f..%2fapi/v1/status",
        "/%6civez",
        "/LIVEZ",
        "/livez%00",
        "/api/v1/views/{name}",
        "/api/v1/views/:name",
        "/api/v1/views/%7Bname%7D",
        "/api/v1/views/%2e%2e",
        "/api/v1/views/..",
        "/api/v1/views/status%2F..",
        "/api/v1/views/status;x=1",
        "/api/v1/views/STATUS",
        "/api/v1/views/%ff",
        "/api/v1/views/status%00",
        "/api/v1//status",
        "//api/v1/status",
        "/api/v1/status/",
        "/./api/v1/status",
    ];
    for path in spellings {
        let line = format!("GET {path}");
        let anonymous = server.anonymous(&line, "", "").await;
        assert_eq!(anonymous.status, 401, "{path}");
        let known = server.ask(&line, "", "").await;
        assert_eq!((known.status, known.error().as_str()), (404, "unknown"), "{path}");
    }
    assert!(server.surface.calls.lock().unwrap().is_empty(), "nothing was called");
    let query = server.anonymous("GET /livez?x=/api/v1/status", "", "").await;
    assert_eq!((query.status, query.body.as_str()), (200, "ok"));
}
