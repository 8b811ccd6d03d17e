//! How a file that has all its chunks leaves the assembler.

use std::sync::Arc;

use super::{DroppedFile, WholeFile};
use crate::assemble::instance::{FileInfo, Instance, InstanceId};

/// A file that has all its chunks. It leaves the assembler, which keeps its place until [`Assembler::finish`].
#[derive(Debug)]
pub(crate) enum Complete {
    Here(WholeFile),
    /// Its content was dropped while it filled up, or never kept.
    Dropped(DroppedFile),
    /// Bytes of it wait to be written to its spill file: [`Assembler::settle`] hands it out.
    Unwritten(Arc<FileInfo>),
}

impl Complete {
    pub(crate) fn info(&self) -> &Arc<FileInfo> {
        match self {
            Self::Here(file) => &file.info,
            Self::Dropped(file) => &file.info,
            Self::Unwritten(info) => info,
        }
    }
}

impl Instance {
    /// The file goes out, which has all its chunks.
    pub(super) fn complete(&mut self, id: InstanceId) -> Complete {
        let info = Arc::new(self.info(id));
        let Some(buffer) = self.buffer.take_if(|buffer| !buffer.is_unsettled()) else {
            return match self.buffer {
                Some(_) => Complete::Unwritten(info),
                None => Complete::Dropped(DroppedFile {
                    info,
                    size: self.extents.whole(),
                    proofs: std::mem::take(&mut self.proofs),
                }),
            };
        };
        let mut buffer = buffer;
        let (follower, taken) = (buffer.take_follower(), buffer.taken());
        let (content, reservation) = buffer.finish();
        let (size, proofs) = (self.extents.whole(), std::mem::take(&mut self.proofs));
        Complete::Here(WholeFile { info, size, content, reservation, proofs, follower, taken, failed_before: false })
    }
}
