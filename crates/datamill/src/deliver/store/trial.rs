//! Requests that are made and not sent. `object_store` takes whatever it is set up with, and panics at a request that it
//! cannot make of that, or sends one to no host: each file would fail, or wait for ever. So one is made at the start.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use async_trait::async_trait;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use object_store::path::Path;
use object_store::{ClientOptions, GetOptions, ObjectStore};
use tokio::runtime::Runtime;

use crate::panics::caught;

/// Makes clients that send nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct NoNetwork {
    /// Whether a request was for no host.
    hostless: Arc<AtomicBool>,
}

impl HttpConnector for NoNetwork {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for NoNetwork {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if request.uri().host().is_none_or(str::is_empty) {
            self.hostless.store(true, Relaxed);
        }
        // of a kind that is not tried again
        Err(HttpError::new(HttpErrorKind::Unknown, io::Error::other("the request is not sent")))
    }
}

/// A store as it is set up, in several ways, each without a network.
pub(super) struct Trial {
    network: NoNetwork,
    stores: Vec<Arc<dyn ObjectStore>>,
}

impl Trial {
    /// Of the stores that `set_up` makes with this connector.
    pub(super) fn new<E>(set_up: impl FnOnce(NoNetwork) -> Result<Vec<Arc<dyn ObjectStore>>, E>) -> Result<Self, E> {
        let network = NoNetwork::default();
        Ok(Self { stores: set_up(network.clone())?, network })
    }

    /// Whether each makes a request for this key, and for a host.
    pub(super) fn makes_requests(&self, key: &Path, runtime: &Runtime) -> bool {
        let makes_one = |store: &Arc<dyn ObjectStore>| {
            let look = GetOptions { head: true, ..GetOptions::default() };
            caught(|| drop(runtime.block_on(store.get_opts(key, look)))).is_ok()
        };
        self.stores.iter().all(makes_one) && !self.network.hostless.load(Relaxed)
    }
}
