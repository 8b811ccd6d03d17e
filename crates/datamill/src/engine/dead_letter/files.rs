//! Records that hold no chunk of a file, kept as files where there is no topic for their dead letters.
//!
//! ```text
//! LOGS/dead_letters/{topic}_{partition}_{offset}.value   the record's value as it is; none if it has none
//!                   {topic}_{partition}_{offset}.json    topic, partition, offset, group, program, reason,
//!                                                        value_bytes, key, headers [[name, value], …]
//! ```
//!
//! A key or a header's value is a text, or `{"base64": "…"}` where it is no UTF-8. Both files are on the
//! disk before the position passes the record. No more than 1,000 records and 256 MiB are kept in a folder,
//! counted at each start; what is beyond is named in the log alone.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::Unusable;
use crate::engine::folder::Output;
use crate::engine::origin::CommitSettings;
use crate::ledger::file_name_part;
use crate::mark::LOGS;

const MAX_RECORDS: usize = 1000;
const MAX_BYTES: u64 = 256 << 20;

/// The folder of an output folder's kept records.
#[derive(Debug)]
pub(in crate::engine) struct KeptRecords {
    folder: PathBuf,
    /// Records and bytes that are there; counted when the first one is to be kept.
    there: Cell<Option<(usize, u64)>>,
    said_full: Cell<bool>,
}

impl KeptRecords {
    pub(in crate::engine) fn new(output_dir: &Path) -> Self {
        let folder = output_dir.join(LOGS).join("dead_letters");
        Self { folder, there: Cell::new(None), said_full: Cell::new(false) }
    }

    /// Keeps the records. The names are made from their offsets, so that a repetition keeps none twice.
    ///
    /// # Errors
    /// The text names the folder.
    pub(in crate::engine) fn keep(
        &self,
        settings: &CommitSettings,
        output: &Output,
        records: &[Unusable],
    ) -> io::Result<()> {
        for record in records {
            self.keep_one(settings, output, record).map_err(|error| {
                let text = format!(
                    "a message that is no chunk of a file cannot be kept in `{}`: {error}",
                    self.folder.display()
                );
                io::Error::new(error.kind(), text)
            })?;
        }
        Ok(())
    }

    fn keep_one(&self, settings: &CommitSettings, output: &Output, record: &Unusable) -> io::Result<()> {
        output.require()?;
        self.make_folder()?;
        let (records, bytes) = match self.there.get() {
            Some(there) => there,
            None => self.count()?,
        };
        let name = format!("{}_{}_{}", file_name_part(&settings.source.name), record.partition, record.offset);
        let about = self.folder.join(format!("{name}.json"));
        let size = record.value.as_ref().map_or(0, |value| value.len() as u64);
        if about.exists() {
            return Ok(());
        }
        if records >= MAX_RECORDS || bytes + size > MAX_BYTES {
            if !self.said_full.replace(true) {
                tracing::warn!(folder = %self.folder.display(), records, bytes,
                    "messages that are no chunk of a file are kept here no longer, only named in the log: the folder \
                    has its most; move its files away, or keep them all with --dead_letter_topic");
            }
            return Ok(());
        }
        if let Some(value) = &record.value {
            write(&self.folder.join(format!("{name}.value")), value)?;
        }
        write(&about, format!("{:#}\n", description(settings, record)).as_bytes())?;
        self.there.set(Some((records + 1, bytes + size)));
        Ok(())
    }

    /// Not the output folder itself: that one may be on a share that is not mounted.
    fn make_folder(&self) -> io::Result<()> {
        for folder in self.folder.parent().into_iter().chain([&*self.folder]) {
            match std::fs::create_dir(folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn count(&self) -> io::Result<(usize, u64)> {
        let (mut records, mut bytes) = (0, 0);
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            records += usize::from(entry.path().extension().is_some_and(|suffix| suffix == "json"));
            bytes += entry.metadata()?.len();
        }
        self.there.set(Some((records, bytes)));
        Ok((records, bytes))
    }
}

/// Writes aside and renames: a file under its name is whole.
fn write(to: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = to.with_extension("part");
    let mut file = File::create(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(aside, to)
}

fn description(settings: &CommitSettings, record: &Unusable) -> Value {
    let headers: Vec<Value> = record.headers.iter().map(|(name, value)| json!([name, text(value)])).collect();
    json!({
        "topic": &*settings.source.name,
        "partition": record.partition,
        "offset": record.offset,
        "group": settings.group,
        "program": settings.program,
        "reason": record.reason,
        "value_bytes": record.value.as_ref().map(Vec::len),
        "key": record.key.as_deref().map(text),
        "headers": headers,
    })
}

fn text(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": BASE64_STANDARD.encode(bytes) }),
    }
}
