//! One multipart upload: parts go out a few at a time, and nothing of them is seen before it is complete.

use std::time::Duration;

use bytes::Bytes;
use datamill_broker::{CrashPoint, crash_point};
use object_store::path::Path;
use object_store::{Attributes, MultipartUpload, PutMultipartOptions};
use tokio::task::{JoinError, JoinSet};

use super::connector::Condition;
use super::target::{Conditions, Target};

/// Files up to this size go by one request; larger ones in parts of this size.
pub(super) const PART: u64 = 8 << 20;
/// Parts of one file that are on their way at once.
const PARTS_AT_ONCE: usize = 6;
/// Amazon takes 10,000 parts.
const MOST_PARTS: u64 = 9_000;
/// How long the end of an upload that failed may take.
pub(super) const ABORTING: Duration = Duration::from_secs(5);

/// What became of a part.
type Sent = Result<object_store::Result<()>, JoinError>;

/// An upload that has begun. It MUST be completed or aborted.
#[derive(Debug)]
pub(super) struct Upload {
    upload: Box<dyn MultipartUpload>,
    on_the_way: JoinSet<object_store::Result<()>>,
    part: u64,
    parts: u64,
}

impl Upload {
    /// Begins one for a file of about this size, which is seen under the condition only.
    pub(super) async fn begin(
        target: &Target,
        key: &Path,
        attributes: Attributes,
        condition: &Condition,
        size: u64,
    ) -> object_store::Result<Self> {
        let mut options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
        options.extensions.insert(match target.abilities.conditions {
            Conditions::All => condition.clone(),
            _ => Condition::Always,
        });
        let upload = target.store.put_multipart_opts(key, options).await?;
        crash_point(CrashPoint::TransferBegun);
        Ok(Self { upload, on_the_way: JoinSet::new(), part: part_size(size), parts: 0 })
    }

    /// Bytes of each part but the last.
    pub(super) fn part(&self) -> u64 {
        self.part
    }

    /// Whether there may be one more part beside the last ones.
    pub(super) fn has_room(&self) -> bool {
        self.parts < MOST_PARTS
    }

    /// Whether a part that is sent goes out at once.
    pub(super) fn is_ready(&self) -> bool {
        self.on_the_way.len() < PARTS_AT_ONCE
    }

    /// Waits for one of the parts on the way; for ever if there is none.
    pub(super) async fn arrives(&mut self) -> object_store::Result<()> {
        match self.on_the_way.join_next().await {
            Some(sent) => note(sent),
            None => std::future::pending().await,
        }
    }

    /// Takes the next part up once there is room on the way.
    pub(super) async fn send(&mut self, part: Bytes) -> object_store::Result<()> {
        while let Some(sent) = self.on_the_way.try_join_next() {
            note(sent)?;
        }
        while !self.is_ready() {
            self.arrives().await?;
        }
        self.parts += 1;
        let sent = self.upload.put_part(part.into());
        self.on_the_way.spawn(sent);
        Ok(())
    }

    /// Sends what is left, and makes the object of all parts.
    pub(super) async fn finish(mut self, rest: impl Iterator<Item = Bytes>) -> object_store::Result<()> {
        let sent = async {
            for part in rest {
                self.send(part).await?;
            }
            while let Some(sent) = self.on_the_way.join_next().await {
                note(sent)?;
            }
            crash_point(CrashPoint::TransferParts);
            self.upload.complete().await.map(drop)
        };
        let sent = sent.await;
        if sent.is_err() {
            self.abort().await;
        }
        sent
    }

    /// Gives up one that all is well with. What is on the way arrives first, if it does so soon: a store may keep a
    /// part that comes in beside the abortion.
    pub(super) async fn give_up(mut self) {
        let arrives = async { while self.on_the_way.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(ABORTING, arrives).await;
        self.abort().await;
    }

    /// Gives up one that has failed. Where this fails as well, the next upload of the key finds it and aborts it.
    pub(super) async fn abort(mut self) {
        self.on_the_way.shutdown().await;
        let _ = tokio::time::timeout(ABORTING, self.upload.abort()).await;
    }
}

/// What became of a part that is on the way no longer.
fn note(sent: Sent) -> object_store::Result<()> {
    sent.map_err(|source| object_store::Error::JoinError { source })??;
    crash_point(CrashPoint::TransferPart);
    Ok(())
}

/// The content in pieces of this size.
pub(super) fn slices(content: &Bytes, size: u64) -> impl Iterator<Item = Bytes> {
    let (content, size) = (content.clone(), usize::try_from(size).unwrap_or(usize::MAX));
    (0..content.len()).step_by(size).map(move |start| content.slice(start..content.len().min(start + size)))
}

/// Whole mebibytes, so that no file has too many parts.
pub(super) fn part_size(size: u64) -> u64 {
    size.div_ceil(MOST_PARTS).next_multiple_of(1 << 20).max(PART)
}
