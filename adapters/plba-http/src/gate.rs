//! The one door: every request passes here before any route is looked at, and what is not let through on purpose is
//! refused. Our own names first (DNS rebinding), then the page it comes from (cross-site requests), then the token.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use plba_contracts::control::Caller;

use crate::failure::Refusal;
use crate::host::{AllowedHosts, Authority};
use crate::routes::{Api, is_open};

/// The address of ours that a connection came in at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalAddress(pub(crate) IpAddr);

/// On every answer: nothing here is a page, is to be guessed at, kept, or embedded elsewhere.
const HEADERS: [(&str, &str); 5] = [
    ("cache-control", "no-store"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
];

/// Lets a request through to the routes, or answers for them.
pub(crate) async fn pass(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut who = None;
    let mut response = match admit(&api, &request) {
        Ok(caller) => {
            if let Some(caller) = caller {
                who = Some(caller.name.clone());
                request.extensions_mut().insert(caller);
            }
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    };
    for (name, value) in HEADERS {
        let (name, value) = (HeaderName::from_static(name), HeaderValue::from_static(value));
        response.headers_mut().insert(name, value);
    }
    tracing::debug!(%method, ?path, caller = who, status = response.status().as_u16(), "answered");
    response
}

/// Who asks; `None` for anybody at an open route.
fn admit(api: &Api, request: &Request) -> Result<Option<Caller>, Refusal> {
    let host = check_host(&api.hosts, request)?;
    check_origin(request.method(), request.headers(), &host)?;
    if is_open(request.method(), request.uri().path()) {
        return Ok(None);
    }
    let token = bearer(request.headers()).ok_or_else(Refusal::unauthenticated)?;
    api.surface
        .authenticate(token)
        .map(Some)
        .ok_or_else(Refusal::unauthenticated)
}

fn check_host(hosts: &AllowedHosts, request: &Request) -> Result<Authority, Refusal> {
    let Some(host) = only(request.headers(), &HOST) else {
        return Err(Refusal::invalid("a request needs exactly one Host header"));
    };
    let foreign = || {
        let message = "this host name is not served here; add it to platform.control.hosts if it should be";
        Refusal::new(StatusCode::FORBIDDEN, "foreign_host", message)
    };
    let Some(LocalAddress(local)) = request.extensions().get::<LocalAddress>() else {
        return Err(foreign());
    };
    // A request line may name a host too, and then it overrides the header (RFC 9112 section 3.2.2): both must be ours.
    let line = request.uri().authority().map(|authority| authority.as_str());
    let mut named = None;
    for text in [Some(host), line].into_iter().flatten() {
        let authority = Authority::parse(text).filter(|authority| hosts.allow(&authority.host, *local));
        named = Some(authority.ok_or_else(foreign)?);
    }
    named.ok_or_else(foreign)
}

/// Refuses what a page of another origin makes a browser send. Programs send neither header.
fn check_origin(method: &Method, headers: &HeaderMap, host: &Authority) -> Result<(), Refusal> {
    let foreign = || {
        let message = "requests from pages of another origin are not answered";
        Refusal::new(StatusCode::FORBIDDEN, "foreign_origin", message)
    };
    if headers.contains_key(ORIGIN) {
        let origin = only(headers, &ORIGIN).and_then(|origin| {
            let authority = origin
                .strip_prefix("http://")
                .or_else(|| origin.strip_prefix("https://"));
            Authority::parse(authority?)
        });
        if origin.as_ref() != Some(host) {
            return Err(foreign());
        }
    }
    let fetch_site = HeaderName::from_static("sec-fetch-site");
    let safe = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    if !safe && headers.contains_key(&fetch_site) {
        let site = only(headers, &fetch_site);
        if !matches!(site, Some("same-origin" | "none")) {
            return Err(foreign());
        }
    }
    Ok(())
}

/// The token of `Authorization: Bearer TOKEN` (RFC 6750 section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = only(headers, &AUTHORIZATION)?.split_once(' ')?;
    let token = token.trim_matches(' ');
    let legal = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    (scheme.eq_ignore_ascii_case("bearer") && legal).then_some(token)
}

/// The value of a header that comes exactly once and is plain text.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}
