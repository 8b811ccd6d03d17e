//! Uploads of large files that begin while the chunks of the file still come, at stores that speak S3.
//!
//! ```text
//!  file on disk ──end──▶ driver: nothing there? ─▶ begin ─▶ parts, as far as the file is there ──┐
//!                          │                                                                     │
//!                          └─ anything else: not early        file is whole and verified: claim ─▶ transfer.rs
//!                                                             file is given up: abort
//! ```
//! Nothing is seen of the parts until `transfer.rs` completes the upload, after the SHA-512 of the file was right and
//! after it has looked at the store itself. What has arrived leaves the disk, so a file of any size takes little of
//! it. Whatever goes wrong before the end ends in the upload being aborted and the file being sent like any other,
//! read again from the topic where a part of it is on disk no longer. At most one upload of a key is early, and none beside a delivery.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Attributes, GetOptions};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::connector::Condition;
use super::key::key;
use super::origin::{Facts, attributes};
use super::parts::{ABORTING, PART, Upload};
use super::target::Target;
use crate::assemble::{Begun, DownloadDataFile, Follower, Followers, Growth, InstanceId};

/// Files that are expected to be larger begin early.
const FROM: u64 = 4 * PART;
/// Files that begin early at a time.
const AT_ONCE: usize = 4;

/// The keys that are being written.
#[derive(Debug, Clone)]
pub(super) struct EarlyUploads(Arc<Shared>);

struct Shared {
    target: Arc<Target>,
    runtime: Handle,
    keys: Mutex<HashMap<Path, Holder>>,
    /// What is being given up.
    ending: Mutex<JoinSet<()>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("store", &self.target.shown).field("keys", &self.keys).finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum Holder {
    /// A file that is not whole.
    Early(Early),
    /// One that is.
    Delivery,
}

/// How far a file is.
#[derive(Debug, Default)]
struct Grown {
    end: u64,
    /// The driver has to end.
    over: bool,
}

#[derive(Debug)]
struct Early {
    id: InstanceId,
    /// Partition and offset of the first chunk, as the metadata says.
    first: (i32, i64),
    grown: Arc<watch::Sender<Grown>>,
    driver: JoinHandle<Option<Upload>>,
}

impl Early {
    /// Ends the driver: what it has begun.
    async fn stop(self) -> Option<Upload> {
        self.grown.send_modify(|grown| grown.over = true);
        self.driver.await.ok().flatten()
    }

    /// Whether it is that of this file, and its metadata says where the file comes from.
    fn is_of(&self, file: &DownloadDataFile) -> bool {
        let only = |span: &crate::assemble::Span| (span.partition, span.first) == self.first;
        self.id == file.id() && matches!(file.spans(), [span] if only(span))
    }
}

impl EarlyUploads {
    pub(super) fn new(target: Arc<Target>, runtime: Handle) -> Self {
        Self(Arc::new(Shared { target, runtime, keys: Mutex::default(), ending: Mutex::default() }))
    }

    /// Takes a key for the delivery of a whole file, and the upload of this file if it has begun early. One of
    /// another version is given up, which is sent later like any other.
    pub(super) async fn claim(&self, key: &Path, file: &DownloadDataFile) -> Claim<'_> {
        let before = self.0.keys.lock().insert(key.clone(), Holder::Delivery);
        let mut claim = Claim { shared: &self.0, key: key.clone(), begun: None };
        if let Some(Holder::Early(early)) = before {
            let is_of = early.is_of(file);
            claim.begun = early.stop().await;
            if !is_of {
                claim.give_up().await;
            }
        }
        claim
    }

    /// Waits until what was given up is aborted, as far as the store answers.
    pub(super) async fn end(&self) {
        let mut ending = std::mem::take(&mut *self.0.ending.lock());
        let _ = tokio::time::timeout(2 * ABORTING, async { while ending.join_next().await.is_some() {} }).await;
    }
}

/// A key that is being delivered to.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    shared: &'a Shared,
    pub(super) key: Path,
    /// The upload of this file that has begun early.
    pub(super) begun: Option<Upload>,
}

impl Claim<'_> {
    /// Gives up what has begun early.
    pub(super) async fn give_up(&mut self) {
        if let Some(begun) = self.begun.take() {
            begun.give_up().await;
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.shared.keys.lock().remove(&self.key);
        if let Some(begun) = self.begun.take() {
            self.shared.end(begun.give_up());
        }
    }
}

impl Shared {
    fn end(&self, ending: impl Future<Output = ()> + Send + 'static) {
        let mut all = self.ending.lock();
        while all.try_join_next().is_some() {}
        all.spawn_on(ending, &self.runtime);
    }
}

impl Followers for EarlyUploads {
    fn begin(&self, begun: &Begun<'_>, content: &dyn Fn() -> io::Result<Growth>) -> Option<Box<dyn Follower>> {
        let Shared { target, runtime, keys, .. } = &*self.0;
        if target.orphans.is_none() || begun.bytes <= FROM {
            return None;
        }
        let version = begun.version;
        let key = key(&target.prefix, target.names, &begun.topic.name, &version.subdir, &version.filename).ok()?;
        let mut keys = keys.lock();
        let early = keys.values().filter(|holder| matches!(holder, Holder::Early(_))).count();
        if early >= AT_ONCE || keys.contains_key(&key) {
            return None;
        }
        let driver = Driver {
            target: Arc::clone(target),
            key: key.clone(),
            attributes: attributes(&Facts::of_begun(begun), target.separator),
            bytes: begun.bytes,
            content: content().ok()?,
        };
        let (sender, receiver) = watch::channel(Grown::default());
        let grown = Arc::new(sender);
        let early = Early {
            id: begun.id,
            first: (begun.span.partition, begun.span.first),
            grown: Arc::clone(&grown),
            driver: runtime.spawn(driver.run(receiver)),
        };
        keys.insert(key.clone(), Holder::Early(early));
        Some(Box::new(Following { shared: Arc::clone(&self.0), key, id: begun.id, grown }))
    }
}

/// Tells the driver how far the file is.
#[derive(Debug)]
struct Following {
    shared: Arc<Shared>,
    key: Path,
    id: InstanceId,
    grown: Arc<watch::Sender<Grown>>,
}

impl Follower for Following {
    fn grown(&self, end: u64) {
        self.grown.send_modify(|grown| grown.end = end);
    }
}

/// The file is given up, unless it was delivered.
impl Drop for Following {
    fn drop(&mut self) {
        let mut keys = self.shared.keys.lock();
        if !matches!(keys.get(&self.key), Some(Holder::Early(early)) if early.id == self.id) {
            return;
        }
        let Some(Holder::Early(early)) = keys.remove(&self.key) else { return };
        drop(keys);
        self.shared.end(async {
            if let Some(begun) = early.stop().await {
                begun.give_up().await;
            }
        });
    }
}

/// Sends the parts of one file as far as they are there.
struct Driver {
    target: Arc<Target>,
    key: Path,
    attributes: Attributes,
    bytes: u64,
    content: Growth,
}

impl Driver {
    /// Answers an upload that all is well with.
    async fn run(mut self, mut grown: watch::Receiver<Grown>) -> Option<Upload> {
        let mut upload = self.begin().await?;
        tracing::debug!(key = %self.key, "the upload begins while the file's chunks still come");
        match self.send(&mut upload, &mut grown).await {
            Ok(()) => Some(upload),
            Err(error) => {
                tracing::debug!(key = %self.key, error, "the upload that began early is given up");
                upload.abort().await;
                None
            }
        }
    }

    /// `None` where something is there, or the store says anything else: that is told when the file is whole.
    async fn begin(&mut self) -> Option<Upload> {
        let Self { target, key, .. } = self;
        let looked = target.store.get_opts(key, GetOptions { head: true, ..GetOptions::default() }).await;
        let Err(object_store::Error::NotFound { .. }) = looked else { return None };
        target.orphans.as_ref()?.abort(key).await.ok()?;
        let attributes = std::mem::take(&mut self.attributes);
        Upload::begin(target, key, attributes, &Condition::Absent, self.bytes).await.ok()
    }

    /// Ends well when it is told to.
    async fn send(&self, upload: &mut Upload, grown: &mut watch::Receiver<Grown>) -> Result<(), String> {
        loop {
            let (end, over) = {
                let grown = grown.borrow_and_update();
                (grown.end, grown.over)
            };
            if over {
                return Ok(());
            }
            if upload.has_room() && upload.next() + upload.part() <= end {
                let len = usize::try_from(upload.part()).unwrap_or(usize::MAX);
                let part = self.content.part(upload.next(), len).map_err(|error| error.to_string())?;
                upload.send(Bytes::from_owner(part)).await.map_err(|error| crate::report::chain(&error))?;
            } else {
                tokio::select! {
                    changed = grown.changed() => if changed.is_err() { return Ok(()) },
                    arrived = upload.arrives() => arrived.map_err(|error| crate::report::chain(&error))?,
                }
            }
            self.content.taken(upload.arrived());
        }
    }
}
