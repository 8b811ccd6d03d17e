//! The HTTP server: one thread with a runtime of its own.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::map_response;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::{Semaphore, oneshot};

use super::lag::{Lags, Look};
use super::lately::Lately;
use super::listening::Listening;
use super::metrics::{Format, Metrics};
use super::page::{self, Page};
use super::{Shown, StatusAddress};
use crate::report::clock;

/// Connections at a time. More wait: each takes one of the files that a process may have open, which the work needs too.
const CONNECTIONS: usize = 64;

/// How long a connection may be idle, or take to send a request.
const REQUEST_WITHIN: Duration = Duration::from_secs(30);

/// How often it is noted how much was done.
const STEP: Duration = Duration::from_secs(5);

/// How often a page that is open is written again.
const WRITE_AGAIN: Duration = Duration::from_secs(2);

/// A browser takes nothing from elsewhere, and shows the page in no other one.
const POLICY: &str = "default-src 'none'; base-uri 'none'; connect-src 'self'; form-action 'none'; frame-ancestors 'none'; \
    img-src data:; script-src 'self'; style-src 'self'";

/// After this, a process that could open no more files may have some again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// The running server. Dropping it ends it, whoever is connected.
#[must_use = "the server ends when this is dropped"]
pub struct Server {
    at: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _listening: Listening,
}

impl Server {
    /// Listens from here on, and answers on a thread of its own.
    ///
    /// # Errors
    /// The address cannot be listened on, or no thread can be started.
    pub fn start(address: StatusAddress, shown: Shown) -> io::Result<Self> {
        let listener = TcpListener::bind(address.0)?;
        listener.set_nonblocking(true)?;
        let at = listener.local_addr()?;
        let listening = Listening::at(at);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::new(Shared::of(shown));
        let router = router(Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("datamill-status".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, router) => {}
                    () = note_steps(shared) => {}
                    _ = stopped => {}
                }
            });
            // a look at a log that does not answer is not waited for
            runtime.shutdown_background();
        })?;
        say(at);
        Ok(Self { at, stop: Some(stop), thread: Some(thread), _listening: listening })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.at
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there was reported by the panic hook; the program ends all the same.
            let _ = thread.join();
        }
    }
}

fn say(at: SocketAddr) {
    tracing::info!(url = %format_args!("http://{at}/"), "the status is served");
    if !at.ip().is_loopback() {
        tracing::warn!(address = %at, "whoever reaches this address may look at the state of this program");
    }
}

/// Takes one connection after another, for ever.
async fn serve(listener: tokio::net::TcpListener, router: Router) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // the semaphore is never closed
        let Ok(place) = Arc::clone(&connections).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection for the status could not be taken");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(REQUEST_WITHIN);
            // what goes wrong on a connection is the other side's
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
            drop(place);
        });
    }
}

/// Notes every few seconds how much was done.
async fn note_steps(shared: Arc<Shared>) {
    loop {
        if let Some(lags) = &shared.lags {
            lags.step();
        }
        shared.lately.step(Instant::now(), shared.shown.counters.counts());
        tokio::time::sleep(STEP).await;
    }
}

struct Shared {
    shown: Shown,
    began_ms: i64,
    lags: Option<Lags>,
    lately: Lately,
}

impl Shared {
    fn of(shown: Shown) -> Self {
        let lags = shown.source.clone().map(|source| Lags::new(source, Arc::clone(&shown.counters)));
        Self { shown, began_ms: clock::now_ms(), lags, lately: Lately::new(Instant::now()) }
    }

    async fn look(&self, now: Instant) -> Look {
        match &self.lags {
            Some(lags) => lags.look(now).await,
            None => Look::default(),
        }
    }

    /// What a scraper gets.
    async fn metrics(&self, now: Instant, format: Format) -> Result<String, fmt::Error> {
        (Metrics { shown: self.shown.clone(), lag: self.look(now).await.lag }).text(format)
    }

    /// The page, or a part of it.
    async fn page<T>(&self, now: Instant, write: fn(&Page<'_>) -> T) -> T {
        let look = self.look(now).await;
        self.page_with(look, now, write)
    }

    /// The same with what is known of how far the group is behind.
    fn page_with<T>(&self, look: Look, now: Instant, write: fn(&Page<'_>) -> T) -> T {
        let (shown, began_ms, now_ms) = (&self.shown, self.began_ms, clock::now_ms());
        let (snapshot, happened) = (shown.snapshot(), shown.recent.happened());
        let lately = self.lately.until(now, &snapshot.counts);
        write(&Page { shown, now_ms, began_ms, snapshot, happened, look, lately })
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/livez", get(|| async { plain(StatusCode::OK, "alive\n".to_owned()) }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/", get(page))
        .route("/events", get(events))
        .route("/status.json", get(now))
        .route("/status.css", get(|| async { file("text/css; charset=utf-8", include_str!("assets/status.css")) }))
        .route("/status.js", get(|| async { file("text/javascript; charset=utf-8", include_str!("assets/status.js")) }))
        .layer(map_response(guarded))
        .with_state(shared)
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    // the log is not asked: it may be away
    match shared.page_with(Look::default(), Instant::now(), page::why_not_ready) {
        None => plain(StatusCode::OK, "ready\n".to_owned()),
        Some(why) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}

async fn metrics(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let accept = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = Format::accepted(&accept.collect::<Vec<_>>().join(","));
    match shared.metrics(Instant::now(), format).await {
        Ok(text) => ([(CONTENT_TYPE, format.content_type())], text).into_response(),
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics cannot be written: {error}\n")),
    }
}

async fn page(State(shared): State<Arc<Shared>>) -> Response {
    file("text/html; charset=utf-8", shared.page(Instant::now(), page::whole).await)
}

async fn now(State(shared): State<Arc<Shared>>) -> Response {
    file("application/json", shared.page(Instant::now(), page::now).await)
}

/// What changes on the page, each time that it has.
async fn events(State(shared): State<Arc<Shared>>) -> Response {
    let written = futures_util::stream::unfold((shared, String::new()), |(shared, before)| async move {
        loop {
            tokio::time::sleep(WRITE_AGAIN).await;
            let now = shared.page(Instant::now(), page::changing).await;
            if now != before {
                return Some((Ok::<_, Infallible>(Event::default().data(&now)), (shared, now)));
            }
        }
    });
    Sse::new(written).keep_alive(KeepAlive::default()).into_response()
}

fn file(content_type: &'static str, text: impl IntoResponse) -> Response {
    ([(CONTENT_TYPE, content_type)], text).into_response()
}

/// What holds for every answer.
async fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn plain(status: StatusCode, text: String) -> Response {
    (status, [(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}
