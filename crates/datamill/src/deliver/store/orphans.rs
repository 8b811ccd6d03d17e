//! Multipart uploads that a program left behind when it was ended, at stores that speak S3.
//!
//! `object_store` cannot list them. They are asked for by a signed URL, so the rights and the credentials are
//! the store's own, on whatever host the upload was begun.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use object_store::aws::AmazonS3;
use object_store::client::{HttpClient, HttpError, HttpRequestBody};
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};
use parking_lot::Mutex;
use serde::Deserialize;

/// How long a signed URL holds.
const HOLDS: Duration = Duration::from_secs(300);

/// Uploads of one page of the list.
const PAGE: &str = "1000";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Uploads {
    #[serde(default)]
    is_truncated: bool,
    next_key_marker: Option<String>,
    next_upload_id_marker: Option<String>,
    #[serde(default)]
    upload: Vec<Upload>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Upload {
    key: String,
    upload_id: String,
}

/// Why uploads cannot be listed or aborted.
#[derive(Debug, thiserror::Error)]
pub(super) enum OrphanError {
    #[error("no request can be signed")]
    Sign(#[source] object_store::Error),
    #[error("no answer")]
    Network(#[source] HttpError),
    #[error("status {status}: {said}")]
    Refused { status: u16, said: String },
    #[error("an answer that is no list of uploads")]
    Answer(#[source] quick_xml::DeError),
}

impl OrphanError {
    /// The store answers, and does not let us.
    fn is_refusal(&self) -> bool {
        match self {
            Self::Refused { status, .. } => *status < 500 && *status != 429,
            Self::Answer(_) => true,
            Self::Sign(_) | Self::Network(_) => false,
        }
    }
}

/// Finds and aborts the uploads of single keys.
#[derive(Debug)]
pub(super) struct Orphans {
    store: Arc<AmazonS3>,
    client: HttpClient,
    /// That they cannot be listed was said.
    said: Mutex<bool>,
}

impl Orphans {
    pub(super) fn new(store: Arc<AmazonS3>, client: HttpClient) -> Self {
        Self { store, client, said: Mutex::new(false) }
    }

    /// Asks for the uploads of a key that has none: what a store says that is not there or lets nobody in.
    pub(super) async fn ask(&self) -> Result<(), OrphanError> {
        self.list(&Path::from("datamill")).await.map(drop)
    }

    /// Aborts all uploads of this key. Where the store does not let us, that is said once: what is left over
    /// costs room there, and nothing else.
    ///
    /// # Errors
    /// A store that does not answer.
    pub(super) async fn abort(&self, key: &Path) -> Result<(), OrphanError> {
        match self.find_and_abort(key).await {
            Ok(0) => Ok(()),
            Ok(count) => {
                tracing::info!(key = %key, count, "aborted unfinished uploads of this key");
                Ok(())
            }
            Err(error) if error.is_refusal() => {
                let said = std::mem::replace(&mut *self.said.lock(), true);
                if !said {
                    tracing::warn!(key = %key, error = %crate::report::chain(&error),
                        "cannot look for unfinished uploads; let a lifecycle rule of the bucket remove them");
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn find_and_abort(&self, key: &Path) -> Result<usize, OrphanError> {
        let ids = self.list(key).await?;
        for id in &ids {
            match self.request(Method::DELETE, key, &[("uploadId", id)]).await {
                Err(OrphanError::Refused { status: 404, .. }) => {}
                aborted => drop(aborted?),
            }
        }
        Ok(ids.len())
    }

    async fn list(&self, key: &Path) -> Result<Vec<String>, OrphanError> {
        let mut ids = Vec::new();
        let mut from: Option<(String, String)> = None;
        loop {
            let mut query = vec![("uploads", ""), ("prefix", key.as_ref()), ("max-uploads", PAGE)];
            if let Some((key, id)) = &from {
                query.extend([("key-marker", key.as_str()), ("upload-id-marker", id.as_str())]);
            }
            let body = self.request(Method::GET, &Path::default(), &query).await?;
            let page: Uploads = quick_xml::de::from_reader(body.as_ref()).map_err(OrphanError::Answer)?;
            ids.extend(page.upload.into_iter().filter(|upload| upload.key == key.as_ref()).map(|u| u.upload_id));
            from = match (page.is_truncated, page.next_key_marker, page.next_upload_id_marker) {
                (true, Some(key), Some(id)) => Some((key, id)),
                _ => return Ok(ids),
            };
        }
    }

    async fn request(&self, method: Method, key: &Path, query: &[(&str, &str)]) -> Result<bytes::Bytes, OrphanError> {
        let options = SignedUrlOptions::new().with_query(query.iter().copied());
        let url = self.store.signed_url_opts(method.clone(), key, HOLDS, &options).await.map_err(OrphanError::Sign)?;
        let request = http::Request::builder().method(method).uri(url.as_str()).body(HttpRequestBody::empty());
        let request = request.map_err(|error| {
            OrphanError::Network(HttpError::new(object_store::client::HttpErrorKind::Unknown, error))
        })?;
        let answer = self.client.execute(request).await.map_err(OrphanError::Network)?;
        let (parts, body) = answer.into_parts();
        let body = body.bytes().await.map_err(OrphanError::Network)?;
        if parts.status.is_success() {
            return Ok(body);
        }
        Err(OrphanError::Refused { status: parts.status.as_u16(), said: String::from_utf8_lossy(&body).into_owned() })
    }
}
