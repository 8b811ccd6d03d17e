//! One file to its object: look, send what is not there, look again.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use datamill_broker::{CrashPoint, crash_point};
use object_store::path::Path;
use object_store::{GetOptions, PutMode, PutOptions, PutPayload, UpdateVersion};
use tokio::runtime::Runtime;

use super::super::OnExists;
use super::super::on_exists::{Decision, Stand, version_name};
use super::connector::Condition;
use super::early::{Claim, EarlyUploads};
use super::failure::{self, Failure};
use super::key::key;
use super::origin::{Facts, There, attributes};
use super::parts::{PART, Upload, slices};
use super::target::{Conditions, Target, TargetError};
use crate::assemble::DownloadDataFile;
use crate::process::{Needs, ProcessingError, UserCode};
use crate::program::{ProcessorArgs, ProcessorKind, Runnable};

/// Threads for the network, whatever the number of files at once.
const NETWORK_THREADS: usize = 2;
/// How often a file is tried while others write its object.
const LOOKS: usize = 5;

/// What a transfer works with.
#[derive(Clone)]
pub struct TransferSettings {
    /// The store and a prefix in it, as `s3://bucket/prefix`.
    pub url: String,
    /// What `[s3]` of the configuration says.
    pub section: Option<BTreeMap<String, String>>,
    /// What happens where another version is there.
    pub on_exists: OnExists,
}

/// Without the section, which holds secrets.
impl fmt::Debug for TransferSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, on_exists, .. } = self;
        f.debug_struct("TransferSettings").field("url", url).field("on_exists", on_exists).finish_non_exhaustive()
    }
}

/// Transfers each whole file to an object store, as `{prefix}/{topic}/{subdir}/{filename}`.
pub struct S3TransferStreamProcessor {
    target: Arc<Target>,
    on_exists: OnExists,
    early: EarlyUploads,
    runtime: Runtime,
    said_unconfirmed: std::sync::Once,
}

/// A file on its way.
struct Delivery<'a> {
    file: &'a DownloadDataFile,
    key: Path,
    condition: Condition,
    /// What is replaced.
    version: Option<String>,
}

/// What is to be done with a file.
enum Next {
    /// Put it there, on this condition; the version is that of what it replaces.
    Send(Condition, Option<String>),
    /// Put it there under this name.
    Beside(String),
    Nothing,
}

impl S3TransferStreamProcessor {
    /// Prepares the way to the store. A store that can be asked without writing and that refuses is an
    /// error; one that does not answer is none, files wait for it.
    ///
    /// # Errors
    /// A URL, settings or credentials that cannot be right.
    pub fn new(settings: &TransferSettings) -> Result<Self, TargetError> {
        // One that is there already is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let target = Target::open(&settings.url, settings.section.as_ref())?;
        let replaces = matches!(settings.on_exists, OnExists::Newer | OnExists::Replace);
        if !target.tells_versions() && !replaces {
            return Err(TargetError::OnExists(target.shown));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(NETWORK_THREADS)
            .thread_name("datamill-network")
            .enable_all()
            .build()?;
        target.check_settings(&runtime)?;
        runtime.block_on(target.check())?;
        let target = Arc::new(target);
        let early = EarlyUploads::new(Arc::clone(&target), runtime.handle().clone());
        let said_unconfirmed = std::sync::Once::new();
        Ok(Self { target, on_exists: settings.on_exists, early, runtime, said_unconfirmed })
    }

    async fn deliver(&self, file: &DownloadDataFile) -> Result<(), ProcessingError> {
        let mut filename = file.filename().to_owned();
        // What the store said where nothing is there and nothing can be put there either.
        let mut conflict = None;
        let mut claimed: Option<Claim<'_>> = None;
        for _ in 0..LOOKS {
            let key = self.key_of(file, &filename)?;
            if let Some(reason) = self.target.refusal(&key, file) {
                return Err(ProcessingError::file_failed(reason));
            }
            let claim = match claimed.take().filter(|claim| claim.key == key) {
                Some(claim) => claimed.insert(claim),
                None => claimed.insert(self.early.claim(&key, file).await),
            };
            if file.size() > PART && claim.begun.is_none() {
                self.abort_unfinished(&key).await?;
            }
            let there = self.look(&key).await?;
            crash_point(CrashPoint::TransferLooked);
            let (condition, version) = match self.next(file, there, &key, &filename)? {
                Next::Send(condition, version) => (condition, version),
                Next::Beside(version) => {
                    filename = version;
                    continue;
                }
                Next::Nothing => return Ok(()),
            };
            let delivery = Delivery { file, key, condition, version };
            match self.send(&delivery, claim).await {
                Ok(()) => {}
                Err(Failure::Changed { said }) => {
                    conflict = (delivery.condition == Condition::Absent).then_some((delivery.key, said));
                    continue;
                }
                Err(Failure::Error(error)) => return Err(error),
            }
            crash_point(CrashPoint::TransferSent);
            if let Some(there) = self.look(&delivery.key).await?
                && there.is(file).unwrap_or(!self.target.abilities.metadata)
            {
                self.note_unconfirmed();
                tracing::info!(file = file.relative_path(), key = %delivery.key, bytes = file.size(), "transferred");
                return Ok(());
            }
            tracing::warn!(file = file.relative_path(), key = %delivery.key,
                "another object is there than was sent; looking again");
        }
        if let Some((key, said)) = conflict {
            // As servers do that keep objects as files, when the key is a folder there or a part of it is a file.
            return Err(ProcessingError::file_failed(format_args!(
                "`{}` does not take `{key}` beside what is there: {said}",
                self.target.shown
            )));
        }
        Err(ProcessingError::not_available(format_args!(
            "others keep writing the object of this file at `{}`",
            self.target.shown
        )))
    }

    fn key_of(&self, file: &DownloadDataFile, filename: &str) -> Result<Path, ProcessingError> {
        let Target { prefix, names, .. } = &*self.target;
        key(prefix, *names, file.topic(), file.subdirectory(), filename)
            .map_err(|error| ProcessingError::file_failed(format_args!("no key can be made of the name: {error}")))
    }

    /// An upload of parts that was not finished may lie there.
    async fn abort_unfinished(&self, key: &Path) -> Result<(), ProcessingError> {
        let Some(orphans) = &self.target.orphans else { return Ok(()) };
        let aborted = orphans.abort(key).await;
        aborted.map_err(|error| failure::not_available(&self.target.shown, &failure::said(&error))).map(drop)
    }

    /// What is to be done where this is there under the key that the file has by this name.
    fn next(
        &self,
        file: &DownloadDataFile,
        there: Option<There>,
        key: &Path,
        filename: &str,
    ) -> Result<Next, ProcessingError> {
        let Some(there) = there else { return Ok(Next::Send(Condition::Absent, None)) };
        if self.is_there(&there, file)? {
            tracing::debug!(file = file.relative_path(), key = %key, "this version is there already");
            return Ok(Next::Nothing);
        }
        Ok(match self.decide(file, &there) {
            Decision::Replace => match there.meta.e_tag {
                Some(tag) => Next::Send(Condition::Same(tag), there.meta.version),
                None => Next::Send(Condition::Always, None),
            },
            Decision::Leave => {
                tracing::info!(file = file.relative_path(), key = %key, "left what is there, as --on_exists says");
                Next::Nothing
            }
            Decision::KeepBoth => {
                let version = version_name(file.filename(), file.sha512(), self.target.names.longest());
                if version == filename {
                    // what is there under this name is half a file: this version's hash is in the name
                    Next::Send(Condition::Always, None)
                } else {
                    Next::Beside(version)
                }
            }
            Decision::Fail => {
                return Err(ProcessingError::file_failed(format_args!(
                    "`{}` has another version of `{key}`, and --on_exists says fail",
                    self.target.shown
                )));
            }
        })
    }

    async fn look(&self, key: &Path) -> Result<Option<There>, ProcessingError> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        match self.target.store.get_opts(key, options).await {
            Ok(found) => Ok(Some(There::new(found.meta, &found.attributes, self.target.separator))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(match failure::of(&error, &self.target.shown, key.as_ref()) {
                Failure::Error(error) => error,
                Failure::Changed { said } => failure::not_available(&self.target.shown, &said),
            }),
        }
    }

    /// Whether this version is there, whole.
    fn is_there(&self, there: &There, file: &DownloadDataFile) -> Result<bool, ProcessingError> {
        Ok(match there.is(file) {
            Some(is) => is,
            None => self.target.has_content(&there.meta.location, file)?,
        })
    }

    fn decide(&self, file: &DownloadDataFile, there: &There) -> Decision {
        if self.on_exists == OnExists::Newer && !self.target.abilities.metadata {
            // Files of one path come in the order of the log.
            return Decision::Replace;
        }
        self.on_exists.decide(Stand::of(file).against(&there.stand))
    }

    async fn send(&self, delivery: &Delivery<'_>, claim: &mut Claim<'_>) -> Result<(), Failure> {
        if delivery.condition != Condition::Absent {
            claim.give_up().await;
        }
        if claim.begun.is_none() && delivery.file.is_cut() {
            delivery.file.ask_again();
            return Err(Failure::Error(ProcessingError::file_failed("all of its content is needed")));
        }
        let unreadable = |error| {
            Failure::Error(ProcessingError::not_available(format_args!("the rebuilt file cannot be read: {error}")))
        };
        let content = Bytes::from_owner(delivery.file.shared().map_err(unreadable)?);
        let sent = if delivery.file.size() <= PART || !self.target.abilities.multipart {
            self.put(delivery, content).await
        } else {
            self.put_in_parts(delivery, content, claim).await
        };
        sent.map_err(|error| failure::of(&error, &self.target.shown, delivery.key.as_ref()))
    }

    async fn put(&self, delivery: &Delivery<'_>, content: Bytes) -> object_store::Result<()> {
        let conditions = self.target.abilities.conditions;
        let mode = match &delivery.condition {
            Condition::Absent if conditions != Conditions::None => PutMode::Create,
            Condition::Same(tag) if matches!(conditions, Conditions::Put | Conditions::All) => {
                PutMode::Update(UpdateVersion { e_tag: Some(tag.clone()), version: delivery.version.clone() })
            }
            _ => PutMode::Overwrite,
        };
        let options = PutOptions { mode, attributes: self.attributes(delivery.file), ..PutOptions::default() };
        // in slices, so that a large body is not one frame
        let payload: PutPayload = slices(&content, PART).collect();
        self.target.store.put_opts(&delivery.key, payload, options).await.map(drop)
    }

    async fn put_in_parts(
        &self,
        delivery: &Delivery<'_>,
        content: Bytes,
        claim: &mut Claim<'_>,
    ) -> object_store::Result<()> {
        let Delivery { file, key, condition, .. } = delivery;
        match claim.begun.take() {
            Some(begun) => begun.finish(&content).await,
            None => {
                let upload = Upload::begin(&self.target, key, self.attributes(file), condition, file.size()).await?;
                let parts = slices(&content, upload.part());
                upload.finish(parts).await
            }
        }
    }

    fn attributes(&self, file: &DownloadDataFile) -> object_store::Attributes {
        if self.target.abilities.metadata {
            attributes(&Facts::of(file), self.target.separator)
        } else {
            object_store::Attributes::new()
        }
    }

    fn note_unconfirmed(&self) {
        if self.target.connector.take_unconfirmed() {
            self.said_unconfirmed.call_once(|| {
                tracing::warn!(store = %self.target.shown,
                    "the store does not confirm SHA-256 checksums; what arrived is checked by its size");
            });
        }
    }
}

/// Large files are on their way before they are whole: what delivers them can only run with what takes their beginnings,
/// so it is no [`DataFileStreamProcessor`](crate::process::DataFileStreamProcessor).
impl Runnable<ProcessorKind> for S3TransferStreamProcessor {
    type Options = ProcessorArgs;

    fn into_user_code(self) -> UserCode {
        let needs = Needs::default().followed_by(Arc::new(self.early.clone()));
        let (place, is_kept) = (self.target.place(), self.target.is_kept());
        let code = UserCode::function(needs, move |file, _| {
            self.target.check_folder()?;
            let delivered = self.runtime.block_on(self.deliver(file));
            // what went to another folder does not count
            self.target.check_folder()?;
            delivered.map(|()| None)
        });
        code.delivering_to(place, is_kept)
    }
}

impl Drop for S3TransferStreamProcessor {
    fn drop(&mut self) {
        self.runtime.block_on(self.early.end());
    }
}
