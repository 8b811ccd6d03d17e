//! Whole files out of a topic: chunks become files again as in a program, and each is hashed.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use datamill_broker::{Log, Topic};

use super::error::{SurveyError, of_folder, temporary_folder};
use super::list::{Listed, list_path};
use super::pass::{Passed, all_of, assemble, unfinished, upload_of};
use super::upload::Upload;
use crate::assemble::{
    Added, Assembler, Budget, Complete, DownloadDataFile, Filter, HashAhead, InstanceIds, NotVerified, SourceTopic,
    SpillFolder,
};
use crate::control::Control;
use crate::read::Span;
use crate::report::chain;
use crate::report::text::printable;

/// Bytes of files that fill up in memory. Larger files are on disk from their first chunk on.
const IN_MEMORY: usize = 96 << 20;

/// What a look at one upload has found.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// The upload.
    pub upload: Upload,
    /// What is wrong with a whole one; empty where its content is the one that its uploader has hashed.
    pub damage: String,
}

/// A whole upload, with its content where that is what its uploader has hashed, or with what is wrong.
type Rebuilt<'a> = dyn FnMut(Upload, Result<DownloadDataFile, String>) -> Result<bool, SurveyError> + 'a;

/// Rebuilds each file of these parts of a topic whose path is wanted by `filter`. `sink` answers whether to go on. What lacks
/// chunks at the end is answered.
fn rebuild(
    log: &Arc<dyn Log>,
    topic: &Topic,
    spans: &[Span],
    filter: Filter,
    control: &Control,
    sink: &mut Rebuilt<'_>,
) -> Result<(Passed, Vec<Upload>), SurveyError> {
    let temporary = temporary_folder()?;
    let spill = SpillFolder::prepare(temporary.path().join("filling")).map_err(SurveyError::Temporary)?;
    let (budget, ahead) = (Arc::new(Budget::default()), HashAhead::start().map_err(SurveyError::Temporary)?);
    let mut assembler =
        Assembler::new(filter, Arc::clone(&budget)).hashing_ahead(&ahead).on_disk(IN_MEMORY / 2..=usize::MAX, &spill);
    let name: Arc<str> = topic.name.as_str().into();
    let source = Arc::new(SourceTopic { id: Arc::clone(&name), name, by_name: None, own_files: log.own_files() });
    let (passed, gaps) = assemble(log, topic, spans, &mut assembler, control, &mut |assembler, added, written| {
        written.map_err(SurveyError::Temporary)?;
        if budget.filling() > IN_MEMORY {
            assembler.spill_down_to(IN_MEMORY / 2, &spill).map_err(SurveyError::Temporary)?;
        }
        let Added::Whole(Complete::Here(whole)) = added else { return Ok(true) };
        assembler.finish(&InstanceIds::from_iter([whole.info.id]));
        let upload = upload_of(&whole.info, whole.info.version.total, String::new());
        match DownloadDataFile::verify(&source, whole) {
            Ok(file) => sink(upload, Ok(file)),
            Err(NotVerified::Read(error, _)) => Err(SurveyError::Temporary(error)),
            Err(error) => sink(upload, Err(chain(&error))),
        }
    })?;
    Ok((passed, unfinished(&assembler, &gaps).collect()))
}

/// Rebuilds and hashes each upload of files whose path is `wanted`, and hands out what was found: whole ones in the
/// order in which they became whole, then those that lack chunks. Answers how many messages were read.
///
/// # Errors
/// Those of the log, of temporary files and of `sink`.
pub fn verify(
    log: &Arc<dyn Log>,
    topic: &str,
    wanted: impl Fn(&str) -> bool + Send + 'static,
    control: &Control,
    sink: &mut dyn FnMut(Checked) -> Result<(), SurveyError>,
) -> Result<Passed, SurveyError> {
    let topic = log.topic(topic)?;
    let spans = all_of(log.as_ref(), &topic)?;
    let (passed, unfinished) = rebuild(log, &topic, &spans, Box::new(wanted), control, &mut |upload, verified| {
        sink(Checked { upload, damage: verified.err().unwrap_or_default() })?;
        Ok(true)
    })?;
    unfinished.into_iter().try_for_each(|upload| sink(Checked { upload, damage: String::new() }))?;
    Ok(passed)
}

/// Where a file goes.
pub enum Output<'a> {
    /// To a file, in one step: what is there is replaced. It gets the time that it had where it was uploaded.
    File(&'a Path),
    /// Into a stream.
    Stream(&'a mut dyn Write),
}

/// Rebuilds the newest whole upload of a path, or of a version of it, and writes its content.
///
/// # Errors
/// [`SurveyError::NotThere`], [`SurveyError::Damaged`], [`SurveyError::Write`], and those of the log and of temporary
/// files.
pub fn get(
    log: &Arc<dyn Log>,
    topic: &str,
    path: &str,
    version: Option<usize>,
    output: &mut Output<'_>,
    control: &Control,
) -> Result<Listed, SurveyError> {
    let (listed, near) = list_path(log, topic, path, control)?;
    if listed.is_empty() {
        let list = log.command(&format!("ls {topic}"));
        let near: Vec<String> = near.iter().map(|path| format!("`{}`", printable(path))).collect();
        let hint = if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(" or ")) };
        let path = printable(path);
        return Err(SurveyError::NotThere(format!(
            "file `{path}` is not on topic `{topic}`: {list} lists its files{hint}"
        )));
    }
    let chosen = choose(topic, path, version, listed)?;
    let spans = chosen.upload.spans.iter().map(|span| Span {
        partition: span.partition,
        first: span.first,
        end: span.last + 1,
    });
    let (found, spans, name) = (log.topic(topic)?, spans.collect::<Vec<_>>(), path.to_owned());
    let (mut damage, mut is_written) = (None, false);
    rebuild(log, &found, &spans, Box::new(move |other| other == name), control, &mut |upload, verified| {
        if upload.sha512 != chosen.upload.sha512 {
            return Ok(true);
        }
        match verified {
            Ok(file) => {
                match output {
                    Output::File(to) => put(&file, to)?,
                    Output::Stream(to) => pour(&file, &mut **to)?,
                }
                is_written = true;
                Ok(false)
            }
            Err(reason) => {
                damage = Some((upload.offsets(), reason));
                Ok(true)
            }
        }
    })?;
    match damage {
        _ if is_written => Ok(chosen),
        Some((offsets, reason)) => {
            Err(SurveyError::Damaged { topic: topic.to_owned(), path: path.to_owned(), offsets, reason })
        }
        None => Err(SurveyError::NotThere(format!(
            "the chunks of file `{path}` were removed from topic `{topic}` while it was read"
        ))),
    }
}

fn pour(file: &DownloadDataFile, to: &mut dyn Write) -> Result<(), SurveyError> {
    let mut reader = file.reader().map_err(SurveyError::Temporary)?;
    io::copy(&mut reader, to).and_then(|_| to.flush()).map_err(SurveyError::Output)
}

/// The upload that is meant, among those of its path.
fn choose(topic: &str, path: &str, version: Option<usize>, listed: Vec<Listed>) -> Result<Listed, SurveyError> {
    let name = printable(path);
    let versions = listed.iter().map(|listed| listed.version).max().unwrap_or(0);
    if let Some(number) = version.filter(|number| !(1..=versions).contains(number)) {
        return Err(SurveyError::NotThere(format!(
            "file `{name}` has no version {number} on topic `{topic}`: it has {versions}, counted from 1"
        )));
    }
    let wanted = |listed: &Listed| version.is_none_or(|number| listed.version == number);
    let fault = listed.iter().rev().find(|listed| wanted(listed)).map(|listed| listed.upload.fault.clone());
    let newest = listed.into_iter().rfind(|listed| wanted(listed) && listed.upload.is_whole());
    newest.ok_or_else(|| {
        let fault = fault.unwrap_or_default();
        SurveyError::NotThere(format!("file `{name}` is not whole on topic `{topic}`: {fault}. Upload it again"))
    })
}

/// Puts a file under a name: aside first, then in one step.
fn put(file: &DownloadDataFile, to: &Path) -> Result<(), SurveyError> {
    let failed = |source| SurveyError::Write { path: to.to_owned(), source };
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if file.own_files().would_hold(&std::path::absolute(to).map_err(failed)?) {
        return Err(failed(io::Error::new(io::ErrorKind::AlreadyExists, "it is a file of the embedded log")));
    }
    let mut aside = tempfile::Builder::new();
    // what the user's umask leaves of this
    #[cfg(unix)]
    aside.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut aside =
        aside.prefix(".datamill-").tempfile_in(folder).map_err(|error| failed(of_folder(folder, &error)))?;
    io::copy(&mut file.reader().map_err(SurveyError::Temporary)?, aside.as_file_mut()).map_err(failed)?;
    aside.flush().map_err(failed)?;
    if let Some(time) = file.modified() {
        // a file system that keeps no times still holds the file
        let _ = aside.as_file().set_modified(time);
    }
    if fs::metadata(to).is_ok_and(|there| there.is_dir()) {
        return Err(failed(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    aside.persist(to).map_err(|error| failed(error.error))?;
    Ok(())
}
