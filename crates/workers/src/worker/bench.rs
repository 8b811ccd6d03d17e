//! The port without an engine, to measure it: content in memory goes to a worker, and its answer comes back.

use std::time::Duration;

use super::content::{IN_FRAME, Place, Shared, shared_path};
use super::frames::{self, FileHeader, Frame};
use super::port::Stays;
use super::process::Process;
use crate::{CommandError, CommandSettings};

/// How long a worker may be silent.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// A worker that stays, with nothing around it.
#[derive(Debug)]
pub struct PortAlone {
    process: Process,
    content: Shared,
    files: u64,
}

impl PortAlone {
    /// Starts the worker, and waits for its hello.
    ///
    /// # Errors
    /// A program that is not there, or is no worker.
    pub fn start(settings: CommandSettings) -> Result<Self, CommandError> {
        let program = settings.words.first().map(std::path::PathBuf::from).unwrap_or_default();
        let stays = Stays::new(settings)?;
        let missing = || CommandError::Missing(program.clone());
        let content = Shared::make().map_err(|_| missing())?;
        let process = stays.0.begin(None, &content).map_err(|_| missing())?;
        let mut port = Self { process, content, files: 0 };
        port.frame().ok_or(CommandError::Missing(program))?;
        Ok(port)
    }

    /// Hands it content as the engine does, and waits for the answer. `false` where it has none.
    pub fn run(&mut self, content: &[u8]) -> bool {
        let is_shared = content.len() as u64 > IN_FRAME;
        if is_shared && self.content.put(content).is_err() {
            return false;
        }
        self.files += 1;
        let size = content.len() as u64;
        let header = FileHeader {
            r#type: "file",
            id: self.files,
            relative_path: "a.dat",
            filename: "a.dat",
            subdirectory: "",
            sha512: "0".repeat(128),
            size,
            modified: None,
            chunks: 1,
            topic: "files",
            partition: Some(0),
            offset: Some(0),
            attempt: 1,
            is_last_attempt: false,
            place: if is_shared { Place::Path(shared_path()) } else { Place::Bytes(size) },
        };
        let Ok(frame) = frames::file(&header, if is_shared { &[] } else { content }) else { return false };
        self.process.send(&frame);
        matches!(self.frame(), Some(Frame::Answer(answered)) if answered.id == self.files && answered.answer.is_ok())
    }

    fn frame(&mut self) -> Option<Frame> {
        self.process.step(ANSWERS_WITHIN).ok().flatten()
    }
}
