//! Uploads of large files that begin while the chunks of the file still come, at stores that speak S3.
//!
//! ```text
//!  first chunk ──▶ driver: nothing there? ─▶ begin ─▶ parts, hashed and sent as they come ──┐
//!                    │                                                                      │
//!                    └─ anything else: not early     file is whole and verified: claim ─▶ transfer.rs
//!                                                    file is given up: abort
//! ```
//! Nothing is seen of the parts until `transfer.rs` completes the upload, after the SHA-512 of the file was right and
//! after it has looked at the store itself. A part is in memory until it has arrived; while many wait, the topic is
//! not read. Whatever goes wrong before the end ends in the upload being aborted and the file being read again from the
//! topic and sent like any other. At most one upload of a key is early, and none beside a delivery.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use datamill_wire::Sha512Hasher;
use object_store::path::Path;
use object_store::{Attributes, GetOptions};
use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use super::connector::Condition;
use super::key::key;
use super::origin::{Facts, attributes};
use super::parts::{ABORTING, PART, Upload, part_size, slices};
use super::target::Target;
use crate::assemble::{Begun, DownloadDataFile, Follower, Followers, InstanceId, Part, Taking};

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

#[derive(Debug)]
struct Early {
    id: InstanceId,
    /// Partition and offset of the first chunk, as the metadata says.
    first: (i32, i64),
    /// The driver has to end.
    stop: oneshot::Sender<()>,
    driver: JoinHandle<Option<EarlyUpload>>,
}

/// An upload that has begun early, and what of it has not gone out.
#[derive(Debug)]
pub(super) struct EarlyUpload {
    upload: Upload,
    waiting: VecDeque<Bytes>,
}

impl EarlyUpload {
    /// Sends what comes behind the parts that were taken, and makes the object of all.
    pub(super) async fn finish(self, rest: &Bytes) -> object_store::Result<()> {
        let rest = slices(rest, self.upload.part());
        self.upload.finish(self.waiting.into_iter().chain(rest)).await
    }
}

/// What the driver of a file has done.
#[derive(Debug, Default)]
struct State {
    done: Mutex<Done>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Done {
    /// Bytes of a part; 0 before the upload has begun.
    part: usize,
    /// The upload has failed, or never began.
    over: bool,
    /// Parts that were handed over, and those of them that are hashed.
    taken: u64,
    hashed: u64,
    hasher: Sha512Hasher,
}

impl State {
    fn change(&self, change: impl FnOnce(&mut Done)) {
        change(&mut self.done.lock());
        self.changed.notify_all();
    }
}

impl Early {
    /// Ends the driver: what it has begun.
    async fn stop(self) -> Option<EarlyUpload> {
        // one that is over is there no longer
        let _ = self.stop.send(());
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
    pub(super) begun: Option<EarlyUpload>,
}

impl Claim<'_> {
    /// Gives up what has begun early.
    pub(super) async fn give_up(&mut self) {
        if let Some(begun) = self.begun.take() {
            begun.upload.give_up().await;
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.shared.keys.lock().remove(&self.key);
        if let Some(begun) = self.begun.take() {
            self.shared.end(begun.upload.give_up());
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
    fn begin(&self, begun: &Begun<'_>) -> Option<Box<dyn Follower>> {
        let Shared { target, runtime, keys, .. } = &*self.0;
        if target.orphans.is_none() || begun.bytes <= FROM {
            return None;
        }
        let version = begun.version;
        let key = key(&target.prefix, target.names, &begun.topic.name, version.subdir(), version.filename()).ok()?;
        let mut keys = keys.lock();
        let early = 1 + keys.values().filter(|holder| matches!(holder, Holder::Early(_))).count();
        let held = u64::try_from(early).unwrap_or(u64::MAX).saturating_mul(part_size(begun.bytes));
        if early > AT_ONCE || held > begun.room as u64 || keys.contains_key(&key) {
            return None;
        }
        let state = Arc::new(State::default());
        let driver = Driver {
            target: Arc::clone(target),
            key: key.clone(),
            attributes: attributes(&Facts::of_begun(begun), target.separator),
            bytes: begun.bytes,
            state: Arc::clone(&state),
        };
        let (parts, queue) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        let early = Early {
            id: begun.id,
            first: (begun.span.partition, begun.span.first),
            stop,
            driver: runtime.spawn(driver.run(queue, stopped)),
        };
        keys.insert(key.clone(), Holder::Early(early));
        Some(Box::new(Following { shared: Arc::clone(&self.0), key, id: begun.id, state, parts }))
    }
}

/// Hands the parts of one file to its driver.
#[derive(Debug)]
struct Following {
    shared: Arc<Shared>,
    key: Path,
    id: InstanceId,
    state: Arc<State>,
    parts: mpsc::UnboundedSender<Part>,
}

impl Follower for Following {
    fn taking(&self) -> Taking {
        let done = self.state.done.lock();
        match done.part {
            _ if done.over => Taking::Over,
            0 => Taking::NotYet,
            part => Taking::Parts(part),
        }
    }

    fn take(&self, part: Part) {
        self.state.done.lock().taken += 1;
        // a driver that is over has said so
        let _ = self.parts.send(part);
    }

    fn hashed(&self) -> Option<Sha512Hasher> {
        let mut done = self.state.done.lock();
        while !done.over && done.hashed < done.taken {
            self.state.changed.wait(&mut done);
        }
        (done.hashed == done.taken).then(|| done.hasher.clone())
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
                begun.upload.give_up().await;
            }
        });
    }
}

/// Hashes and sends the parts of one file as they come.
struct Driver {
    target: Arc<Target>,
    key: Path,
    attributes: Attributes,
    bytes: u64,
    state: Arc<State>,
}

/// Nobody waits for what a driver has not done.
impl Drop for Driver {
    fn drop(&mut self) {
        self.state.change(|done| done.over = true);
    }
}

impl Driver {
    /// Answers an upload that all is well with.
    async fn run(
        mut self,
        mut parts: mpsc::UnboundedReceiver<Part>,
        stopped: oneshot::Receiver<()>,
    ) -> Option<EarlyUpload> {
        let upload = self.begin().await?;
        tracing::debug!(key = %self.key, "the upload begins while the file's chunks still come");
        self.state.change(|done| done.part = usize::try_from(upload.part()).unwrap_or(usize::MAX));
        let mut early = EarlyUpload { upload, waiting: VecDeque::new() };
        match self.send(&mut early, &mut parts, stopped).await {
            Ok(()) => Some(early),
            Err(error) => {
                tracing::debug!(key = %self.key, error, "the upload that began early is given up");
                early.upload.abort().await;
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

    /// Ends well when it is told to; all parts that were handed over are hashed then.
    async fn send(
        &self,
        early: &mut EarlyUpload,
        parts: &mut mpsc::UnboundedReceiver<Part>,
        mut stopped: oneshot::Receiver<()>,
    ) -> Result<(), String> {
        let EarlyUpload { upload, waiting } = early;
        loop {
            while upload.is_ready()
                && let Some(part) = waiting.pop_front()
            {
                if !upload.has_room() {
                    return Err("the file has more parts than a store takes".to_owned());
                }
                upload.send(part).await.map_err(|error| crate::report::chain(&error))?;
            }
            tokio::select! {
                _ = &mut stopped => break,
                Some(part) = parts.recv() => waiting.push_back(self.hash(part)),
                arrived = upload.arrives() => arrived.map_err(|error| crate::report::chain(&error))?,
            }
        }
        while let Ok(part) = parts.try_recv() {
            waiting.push_back(self.hash(part));
        }
        Ok(())
    }

    fn hash(&self, part: Part) -> Bytes {
        let part = Bytes::from_owner(part);
        tokio::task::block_in_place(|| {
            // nobody else changes it: it is not locked while it is busy
            let mut hasher = std::mem::take(&mut self.state.done.lock().hasher);
            hasher.update(&part);
            self.state.change(|done| {
                done.hasher = hasher;
                done.hashed += 1;
            });
        });
        part
    }
}
