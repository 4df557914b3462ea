//! What there is to ask for: the list of routes, from which both the router and the tests are made, and their answers.
//! Who may pass is decided before, in `gate`.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router, middleware};
use plba_contracts::control::{Caller, ControlError, ControlSurface, Parameters, Probe, Role};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinError};

use crate::body;
use crate::exposition;
use crate::failure::Refusal;
use crate::gate;
use crate::host::AllowedHosts;
use crate::limits::Limits;
use crate::parameters;

/// A path and what it takes.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// `GET` (and so `HEAD`) or `POST`.
    pub methods: &'static [&'static str],
    /// The path, where `{name}` stands for the name of a view or action.
    pub path: &'static str,
    /// Whether it is answered without a token.
    pub open: bool,
    answer: Answer,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Live,
    Ready,
    Metrics,
    View(&'static str),
    AnyView,
    AnyAction,
    Catalogue { changes: bool },
}

/// Every route there is.
pub const ROUTES: &[Route] = &[
    Route::open("/livez", Answer::Live),
    Route::open("/readyz", Answer::Ready),
    Route::get("/metrics", Answer::Metrics),
    Route::get("/api/v1/status", Answer::View("status")),
    Route::get("/api/v1/workers", Answer::View("workers")),
    Route::get("/api/v1/health", Answer::View("health")),
    Route::get("/api/v1/views", Answer::Catalogue { changes: false }),
    Route::get("/api/v1/views/{name}", Answer::AnyView),
    Route::get("/api/v1/actions", Answer::Catalogue { changes: true }),
    Route::post("/api/v1/actions/{name}", Answer::AnyAction),
];

/// What the routes need to answer.
pub(crate) struct Api {
    pub(crate) surface: Arc<dyn ControlSurface>,
    pub(crate) hosts: AllowedHosts,
    limits: Limits,
    actions: Arc<Semaphore>,
    epoch: u32,
    failures: AtomicU64,
}

impl Api {
    pub(crate) fn new(surface: Arc<dyn ControlSurface>, hosts: AllowedHosts, limits: Limits) -> Self {
        Self {
            surface,
            hosts,
            actions: Arc::new(Semaphore::new(limits.actions)),
            limits,
            // Ids are for finding a line in the log; a different start for each process keeps them apart.
            epoch: (RandomState::new().build_hasher().finish() & u64::from(u32::MAX)) as u32,
            failures: AtomicU64::new(0),
        }
    }
}

/// The router, with the gate around all of it: unknown paths and wrong methods too.
pub(crate) fn router(api: Arc<Api>) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        let allowed = if route.methods.contains(&"POST") {
            "POST"
        } else {
            "GET, HEAD"
        };
        let wrong_method = move || async move { Refusal::wrong_method(allowed) };
        router = router.route(route.path, route.answer.method_router().fallback(wrong_method));
    }
    router
        .fallback(|| async { Refusal::unknown("such path; see /api/v1/views and /api/v1/actions") })
        .layer(middleware::from_fn_with_state(Arc::clone(&api), gate::pass))
        .with_state(api)
}

/// Whether anybody may ask this. Decided on the undecoded path, exactly, so that no spelling of another path matches.
pub(crate) fn is_open(method: &Method, path: &str) -> bool {
    let route = ROUTES.iter().find(|route| route.open && route.path == path);
    route.is_some_and(|route| route.methods.contains(&method.as_str()))
}

impl Route {
    const fn get(path: &'static str, answer: Answer) -> Self {
        Self {
            methods: &["GET", "HEAD"],
            path,
            open: false,
            answer,
        }
    }

    const fn open(path: &'static str, answer: Answer) -> Self {
        Self {
            open: true,
            ..Self::get(path, answer)
        }
    }

    const fn post(path: &'static str, answer: Answer) -> Self {
        Self {
            methods: &["POST"],
            path,
            open: false,
            answer,
        }
    }
}

type Name = Result<Path<String>, PathRejection>;
/// What the surface answered, or how the task that asked it ended.
type Answered = Result<Result<Value, ControlError>, JoinError>;

impl Answer {
    fn method_router(self) -> MethodRouter<Arc<Api>> {
        match self {
            Self::Live => get(|State(api): State<Arc<Api>>| async move { probe(&api.surface.live()) }),
            Self::Ready => get(|State(api): State<Arc<Api>>| async move { probe(&api.surface.ready()) }),
            Self::Metrics => get(|State(api): State<Arc<Api>>| async move {
                let text = exposition::text(&api.surface.metrics());
                ([(CONTENT_TYPE, exposition::CONTENT_TYPE)], text)
            }),
            Self::View(name) => get(
                move |State(api): State<Arc<Api>>, Extension(caller): Extension<Caller>, uri: Uri| async move {
                    api.view(&caller, name, &uri).await
                },
            ),
            Self::AnyView => get(
                |State(api): State<Arc<Api>>, Extension(caller): Extension<Caller>, name: Name, uri: Uri| async move {
                    api.view(&caller, &checked(name, "view")?, &uri).await
                },
            ),
            Self::AnyAction => post(
                |State(api): State<Arc<Api>>, Extension(caller): Extension<Caller>, name: Name, request: Request| async move {
                    let name = checked(name, "action")?;
                    api.action(caller, name, request).await
                },
            ),
            Self::Catalogue { changes } => get(move |State(api): State<Arc<Api>>| async move {
                let mut entries = api.surface.catalogue();
                entries.retain(|entry| entry.changes == changes);
                Json(entries)
            }),
        }
    }
}

impl Api {
    async fn view(&self, caller: &Caller, name: &str, uri: &Uri) -> Result<Response, Refusal> {
        let parameters = match uri.query() {
            None | Some("") => Parameters::new(),
            Some(_) => {
                let catalogue = self.surface.catalogue();
                let entry = catalogue.iter().find(|entry| !entry.changes && entry.name == name);
                parameters::from_query(uri, entry).map_err(Refusal::invalid)?
            }
        };
        // Ends with the request: nobody needs the answer to a question that nobody asks any more.
        let asking = tokio::spawn(self.call(caller, name, false, parameters));
        let _ends_with_the_request = AbortOnDrop(asking.abort_handle());
        self.answer(caller, name, asking.await)
    }

    async fn action(&self, caller: Caller, name: String, request: Request) -> Result<Response, Refusal> {
        check_json(&request)?;
        let body = body::read(request, self.limits.body_bytes, self.limits.body).await?;
        let parameters = parameters::from_json(&body).map_err(Refusal::invalid)?;
        let permit = Arc::clone(&self.actions)
            .try_acquire_owned()
            .map_err(|_| Refusal::busy())?;
        // Goes on when the request ends: a caller who hangs up must not leave an action half done or its audit unwritten.
        let acting = self.call(&caller, &name, true, parameters);
        let acting = tokio::spawn(async move {
            let _permit = permit;
            acting.await
        });
        self.answer(&caller, &name, acting.await)
    }

    /// The call on its own, to be run in a task, so that a panic in it is an answer too.
    fn call(
        &self,
        caller: &Caller,
        name: &str,
        changes: bool,
        parameters: Parameters,
    ) -> impl Future<Output = Result<Value, ControlError>> + Send + 'static {
        let (surface, caller, name) = (Arc::clone(&self.surface), caller.clone(), name.to_owned());
        async move { surface.call(&caller, &name, changes, parameters).await }
    }

    fn answer(&self, caller: &Caller, name: &str, answer: Answered) -> Result<Response, Refusal> {
        let error = match answer {
            Ok(Ok(value)) => return Ok(Json(value).into_response()),
            Ok(Err(error)) => error,
            Err(ended) => ControlError::Failed(ended.into()),
        };
        let id = format!(
            "{:08x}-{}",
            self.epoch,
            self.failures.fetch_add(1, Ordering::Relaxed) + 1
        );
        if matches!(error, ControlError::Failed(_)) {
            tracing::error!(id, name, caller = caller.name, %error, "a call of the control plane failed");
        }
        Err(Refusal::from_control(&error, id, caller.role >= Role::Operator))
    }
}

fn probe(probe: &Probe) -> Response {
    let status = if probe.passed {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, probe.word).into_response()
}

/// Ends a task together with what waits for it.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The name in a path: dotted, lower-case words. Nothing else is ever looked up.
fn checked(name: Name, kind: &str) -> Result<String, Refusal> {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    let word = |word: &str| !word.is_empty() && word.bytes().all(letter);
    let legal = |name: &String| name.len() <= 128 && name.split('.').all(word);
    let name = name.ok().map(|Path(name)| name).filter(legal);
    name.ok_or_else(|| Refusal::unknown(&format!("{kind} of such a name; see /api/v1/{kind}s")))
}

/// A form of another site's page can send text or form data without asking first, but no JSON.
fn check_json(request: &Request) -> Result<(), Refusal> {
    let value = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next()).map(str::trim);
    if essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
        return Ok(());
    }
    let message = "an action takes a JSON object; send it with `Content-Type: application/json`";
    Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", message).closing())
}
