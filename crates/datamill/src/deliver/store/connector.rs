//! The way of every request to a store, for what `object_store` leaves out.
//!
//! ```text
//!  object_store ──request──▶ precondition of a multipart upload ──▶ time limit by size ──▶ network
//!               ◀─response── cleaned text of a refusal ◀── SHA-256 that the store confirms ◀──┘
//! ```
//!
//! A precondition of a multipart upload counts when it is completed. It comes with the request that begins
//! the upload (as an extension), and is added to the one that completes it; signatures of S3 leave the
//! header free.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use http::header::{CONTENT_LENGTH, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderValue, Method};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use parking_lot::Mutex;

use super::failure;

/// What a request may take beside the time for its bytes.
const TIME: Duration = Duration::from_secs(60);

/// Slower than this, a connection counts as dead.
const BYTES_PER_SECOND: u64 = 50_000;

/// In the request that completes a multipart upload, bytes that name a part, at least.
const BYTES_PER_PART: u64 = 100;

/// What a store may take for each part while it makes an object of them.
const TIME_PER_PART: Duration = Duration::from_secs(1);

const SHA256: &str = "x-amz-checksum-sha256";

/// Under which condition an object is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    /// Whatever is there.
    Always,
    /// Nothing is there.
    Absent,
    /// The object with this entity tag is there.
    Same(String),
}

/// Makes clients that work as the module says.
#[derive(Debug, Clone, Default)]
pub(super) struct Connector {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Conditions of the multipart uploads under way, by the path of their key in the URL.
    conditions: Mutex<HashMap<String, Condition>>,
    /// A store took a checksum and did not say so.
    unconfirmed: AtomicBool,
}

impl Connector {
    /// Whether the store has taken bytes without confirming their checksum, since this was asked last.
    pub(super) fn take_unconfirmed(&self) -> bool {
        self.shared.unconfirmed.swap(false, Relaxed)
    }

    /// A client for requests of our own.
    pub(super) fn client(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        self.connect(options)
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let network = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Service { network, shared: Arc::clone(&self.shared) }))
    }
}

#[derive(Debug)]
struct Service {
    network: HttpClient,
    shared: Arc<Shared>,
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.add_condition(&mut request)?;
        let sent = (request.method() == Method::PUT).then(|| request.headers().get(SHA256).cloned()).flatten();
        let limit = limit(&request);
        let answer = async {
            let (parts, body) = self.network.execute(request).await?.into_parts();
            // No object is ever read: all bodies are short.
            Ok::<_, HttpError>((parts, body.bytes().await?))
        };
        let (mut parts, mut body) = tokio::time::timeout(limit, answer).await.map_err(|_| {
            HttpError::new(HttpErrorKind::Timeout, std::io::Error::from(std::io::ErrorKind::TimedOut))
        })??;
        if parts.status.is_client_error() || parts.status.is_server_error() {
            body = failure::cleaned(&body);
            parts.headers.remove(CONTENT_LENGTH);
        } else if let Some(sent) = sent {
            match parts.headers.get(SHA256) {
                Some(confirmed) if *confirmed == sent => {}
                Some(_) => {
                    let error = std::io::Error::other("the store has other bytes than were sent (SHA-256)");
                    return Err(HttpError::new(HttpErrorKind::Decode, error));
                }
                None => self.shared.unconfirmed.store(true, Relaxed),
            }
        }
        Ok(HttpResponse::from_parts(parts, body.into()))
    }
}

impl Service {
    fn add_condition(&self, request: &mut HttpRequest) -> Result<(), HttpError> {
        if request.method() != Method::POST {
            return Ok(());
        }
        let path = request.uri().path().to_owned();
        if let Some(condition) = request.extensions().get::<Condition>() {
            self.shared.conditions.lock().insert(path, condition.clone());
            return Ok(());
        }
        if !completes(request) {
            return Ok(());
        }
        let condition = self.shared.conditions.lock().get(&path).cloned();
        let condition = condition.ok_or_else(|| {
            HttpError::new(HttpErrorKind::Unknown, std::io::Error::other("a multipart upload without a condition"))
        })?;
        let headers = request.headers_mut();
        match condition {
            Condition::Always => {}
            Condition::Absent => {
                headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
            }
            Condition::Same(tag) => {
                let tag = HeaderValue::from_str(&tag).map_err(|e| HttpError::new(HttpErrorKind::Unknown, e))?;
                headers.insert(IF_MATCH, tag);
            }
        }
        Ok(())
    }
}

/// Whether it makes an object of the parts of a multipart upload.
fn completes(request: &HttpRequest) -> bool {
    request.method() == Method::POST && request.uri().query().is_some_and(|query| query.starts_with("uploadId="))
}

/// What the request may take. A store that copies the parts together answers when it is done.
fn limit(request: &HttpRequest) -> Duration {
    let bytes = request.body().content_length() as u64;
    TIME + if completes(request) {
        TIME_PER_PART * u32::try_from(bytes / BYTES_PER_PART).unwrap_or(u32::MAX)
    } else {
        Duration::from_secs(bytes / BYTES_PER_SECOND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_grows_with_what_is_sent_and_with_what_is_put_together() {
        let request = |method: Method, uri: &str, bytes: usize| {
            http::Request::builder().method(method).uri(uri).body(vec![b'x'; bytes].into()).unwrap()
        };
        let seconds = |request: HttpRequest| limit(&request).as_secs();
        assert_eq!(seconds(request(Method::HEAD, "http://s3/bucket/key", 0)), 60);
        assert_eq!(seconds(request(Method::PUT, "http://s3/bucket/key?partNumber=1&uploadId=a", 8 << 20)), 60 + 167);
        assert_eq!(seconds(request(Method::POST, "http://s3/bucket/key?uploads=", 100)), 60);
        // 20 GiB in 2,560 parts
        assert_eq!(seconds(request(Method::POST, "http://s3/bucket/key?uploadId=a", 2_560 * 100)), 60 + 2_560);
    }
}
