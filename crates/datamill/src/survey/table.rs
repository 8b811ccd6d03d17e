//! What was found, put down in a temporary SQLite file and read again path by path: a million files take tens of
//! megabytes of memory, however long their names are.
//!
//! The file has no name from the moment it is open (on Unix), so nothing is left of it, however the program ends.

use std::collections::BTreeSet;

use rusqlite::{Connection, Row, Rows, Statement, params};

use super::error::{SurveyError, temporary_folder};
use super::upload::{Upload, spans_of};
use crate::engine::FailedFile;

/// KiB of memory that SQLite keeps of the file, and for each list that it sorts.
const CACHE_KIB: i64 = 8 << 10;

const SCHEMA: &str = "
    CREATE TABLE upload (path TEXT, first_ms INT, sha512 BLOB, size INT, chunks INT, n_chunks INT, modified REAL,
        last_ms INT, offsets TEXT, fault TEXT);
    CREATE TABLE result (path TEXT, sha512 BLOB, source TEXT, made_by TEXT, answers INT, place TEXT);
    CREATE TABLE keyed (key TEXT, place TEXT);
    CREATE TABLE failed (key TEXT PRIMARY KEY, path TEXT, sha512 TEXT, offsets TEXT, status TEXT, reason TEXT,
        rerun_of TEXT) WITHOUT ROWID;
    CREATE TABLE file (path TEXT, at TEXT, size INT, mtime_ns INT, refused TEXT);
    CREATE TABLE copy (path TEXT, size INT, mtime_ns INT);
    CREATE TABLE claim (key TEXT, path TEXT);
";

/// See the module.
pub(super) struct Table {
    connection: Connection,
}

/// A message on the topic of results that names its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResultOf {
    pub(super) path: String,
    /// Of the file that it was made from; `None` where it does not say so.
    pub(super) sha512: Option<Vec<u8>>,
    /// Which upload it was made from, and by whom.
    pub(super) source: String,
    /// The group that made it, where it names one.
    pub(super) group: Option<String>,
    /// It answers something: a failure, or a request to run again.
    pub(super) answers: bool,
    /// Where it is: `partition:offset`.
    pub(super) place: String,
}

/// A failure in the group's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) sha512: String,
    pub(super) offsets: String,
    pub(super) status: String,
    pub(super) reason: String,
    /// The result that there is, where it failed when it was run again.
    pub(super) rerun_of: Option<String>,
}

/// A file of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InFolder {
    /// Where it is read.
    pub(super) at: String,
    pub(super) size: u64,
    pub(super) mtime_ns: Option<i64>,
    /// Why it cannot be sent; empty where it can.
    pub(super) refused: String,
}

/// A copy in the mirror or store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CopyOf {
    pub(super) size: u64,
    /// Where the place keeps the time of the file.
    pub(super) mtime_ns: Option<i64>,
}

/// All that is known of one path.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Known {
    pub(super) uploads: Vec<Upload>,
    pub(super) results: Vec<ResultOf>,
    pub(super) failures: Vec<Failure>,
    pub(super) file: Option<InFolder>,
    pub(super) copy: Option<CopyOf>,
}

impl Table {
    pub(super) fn new() -> Result<Self, SurveyError> {
        let folder = temporary_folder()?;
        let connection = Connection::open(folder.path().join("table.db"))?;
        // nothing of it is needed after a crash
        connection.execute_batch(&format!(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE; \
             PRAGMA temp_store = FILE; PRAGMA cache_size = -{CACHE_KIB}; BEGIN; {SCHEMA}"
        ))?;
        // where a file that is open keeps its name, the system's clean-up has to remove it
        drop(folder);
        Ok(Self { connection })
    }

    /// Bytes of the file.
    pub(super) fn bytes(&self) -> Result<u64, SurveyError> {
        let number = |pragma| self.connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
        Ok(number("PRAGMA page_count")?.unsigned_abs() * number("PRAGMA page_size")?.unsigned_abs())
    }

    pub(super) fn add_upload(&self, upload: &Upload) -> Result<(), SurveyError> {
        let mut insert =
            self.connection.prepare_cached("INSERT INTO upload VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?;
        insert.execute(params![
            upload.path,
            upload.first_ms,
            &upload.sha512[..],
            signed(upload.size),
            upload.chunks,
            upload.n_chunks,
            upload.modified,
            upload.last_ms,
            upload.offsets(),
            upload.fault,
        ])?;
        Ok(())
    }

    pub(super) fn add_result(&self, result: &ResultOf) -> Result<(), SurveyError> {
        let mut insert = self.connection.prepare_cached("INSERT INTO result VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        let ResultOf { path, sha512, source, group, answers, place } = result;
        insert.execute(params![path, sha512, source, group, answers, place])?;
        Ok(())
    }

    /// The groups that the results name, each with the number of its results; those that name none come first.
    pub(super) fn groups_of_results(&self) -> Result<Vec<(Option<String>, u64)>, SurveyError> {
        let mut select =
            self.connection.prepare("SELECT made_by, count(*) FROM result GROUP BY made_by ORDER BY made_by")?;
        let found: rusqlite::Result<Vec<_>> =
            select.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?.collect();
        Ok(found?)
    }

    /// A result that has nothing but its key.
    pub(super) fn add_keyed(&self, key: &str, place: &str) -> Result<(), SurveyError> {
        self.connection.prepare_cached("INSERT INTO keyed VALUES (?1, ?2)")?.execute([key, place])?;
        Ok(())
    }

    /// A failure of the group is so from here on, or gone.
    pub(super) fn set_failure(&self, key: &str, failure: Option<&FailedFile>) -> Result<(), SurveyError> {
        match failure {
            Some(file) => {
                let mut insert = self
                    .connection
                    .prepare_cached("INSERT OR REPLACE INTO failed VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
                let FailedFile { path, sha512, offsets, status, reason, rerun_of, .. } = file;
                insert.execute(params![key, path, sha512, offsets, status, reason, rerun_of])?;
            }
            None => drop(self.connection.prepare_cached("DELETE FROM failed WHERE key = ?1")?.execute([key])?),
        }
        Ok(())
    }

    pub(super) fn add_file(&self, path: &str, file: &InFolder) -> Result<(), SurveyError> {
        let mut insert = self.connection.prepare_cached("INSERT INTO file VALUES (?1, ?2, ?3, ?4, ?5)")?;
        insert.execute(params![path, file.at, signed(file.size), file.mtime_ns, file.refused])?;
        Ok(())
    }

    pub(super) fn add_copy(&self, path: &str, copy: CopyOf) -> Result<(), SurveyError> {
        let mut insert = self.connection.prepare_cached("INSERT INTO copy VALUES (?1, ?2, ?3)")?;
        insert.execute(params![path, signed(copy.size), copy.mtime_ns])?;
        Ok(())
    }

    /// Uploads can be asked for by their path from here on.
    pub(super) fn index_uploads(&self) -> Result<(), SurveyError> {
        Ok(self.connection.execute_batch("CREATE INDEX upload_path ON upload (path)")?)
    }

    /// The uploads of a path, the oldest first.
    pub(super) fn uploads_of(&self, path: &str) -> Result<Vec<Upload>, SurveyError> {
        let mut select =
            self.connection.prepare_cached("SELECT * FROM upload WHERE path = ?1 ORDER BY first_ms, rowid")?;
        let found: rusqlite::Result<Vec<Upload>> = select.query_map([path], upload)?.collect();
        Ok(found?)
    }

    /// Length of the longest path in characters, for a table of paths.
    pub(super) fn longest_path(&self) -> Result<usize, SurveyError> {
        let length = self.connection.query_row(
            "SELECT max(n) FROM (SELECT max(length(path)) AS n FROM upload UNION ALL SELECT max(length(path)) FROM file \
             UNION ALL SELECT max(length(path)) FROM result UNION ALL SELECT max(length(path)) FROM failed \
             UNION ALL SELECT max(length(path)) FROM copy)",
            [],
            |row| row.get::<_, Option<i64>>(0),
        )?;
        Ok(length.and_then(|length| usize::try_from(length).ok()).unwrap_or(0))
    }

    /// Hands out what is known of each path, in the order of the paths.
    pub(super) fn each_path(
        &self,
        sink: &mut dyn FnMut(&str, Known) -> Result<(), SurveyError>,
    ) -> Result<(), SurveyError> {
        let prepare =
            |what: &str, then: &str| self.connection.prepare(&format!("SELECT * FROM {what} ORDER BY path{then}"));
        let mut statements = (
            prepare("upload", ", first_ms, rowid")?,
            prepare("result", ", rowid")?,
            prepare("failed", ", key")?,
            prepare("file", "")?,
            prepare("copy", "")?,
        );
        let mut uploads = ByPath::new(&mut statements.0, upload)?;
        let mut results = ByPath::new(&mut statements.1, result)?;
        let mut failures = ByPath::new(&mut statements.2, failure)?;
        let mut files = ByPath::new(&mut statements.3, file)?;
        let mut copies = ByPath::new(&mut statements.4, copy)?;
        loop {
            let paths = [uploads.path(), results.path(), failures.path(), files.path(), copies.path()];
            let Some(path) = paths.into_iter().flatten().min().map(str::to_owned) else { return Ok(()) };
            let known = Known {
                uploads: uploads.take(&path)?,
                results: results.take(&path)?,
                failures: failures.take(&path)?,
                file: files.take(&path)?.pop(),
                copy: copies.take(&path)?.pop(),
            };
            sink(&path, known)?;
        }
    }

    pub(super) fn has_keyed(&self) -> Result<bool, SurveyError> {
        Ok(self.connection.query_row("SELECT EXISTS (SELECT 1 FROM keyed)", [], |row| row.get(0))?)
    }

    /// Notes which paths have which key, so that results can be asked for by their keys.
    pub(super) fn claim_keys(&self, key_of: impl Fn(&str) -> String) -> Result<(), SurveyError> {
        let paths = "SELECT path FROM upload UNION SELECT path FROM file";
        let mut select = self.connection.prepare(paths)?;
        let mut rows = select.query([])?;
        let mut insert = self.connection.prepare("INSERT INTO claim VALUES (?1, ?2)")?;
        while let Some(row) = rows.next()? {
            let path: String = row.get(0)?;
            insert.execute([&key_of(&path), &path])?;
        }
        let index = "CREATE INDEX claim_key ON claim (key); CREATE INDEX keyed_key ON keyed (key)";
        Ok(self.connection.execute_batch(index)?)
    }

    /// Places of the results with this key, and the number of paths that have it.
    pub(super) fn keyed(&self, key: &str) -> Result<(Vec<String>, u64), SurveyError> {
        let mut select = self.connection.prepare_cached("SELECT place FROM keyed WHERE key = ?1 ORDER BY rowid")?;
        let places: rusqlite::Result<Vec<String>> = select.query_map([key], |row| row.get(0))?.collect();
        let mut count = self.connection.prepare_cached("SELECT count(*) FROM claim WHERE key = ?1")?;
        let paths: i64 = count.query_row([key], |row| row.get(0))?;
        Ok((places?, paths.unsigned_abs()))
    }

    /// Hands out the keys of results that no path has, with their places.
    pub(super) fn each_unclaimed(
        &self,
        sink: &mut dyn FnMut(&str, &str) -> Result<(), SurveyError>,
    ) -> Result<(), SurveyError> {
        let mut select = self.connection.prepare(
            "SELECT key, min(place) FROM keyed WHERE NOT EXISTS (SELECT 1 FROM claim WHERE claim.key = keyed.key) \
             GROUP BY key ORDER BY key",
        )?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let (key, place): (String, String) = (row.get(0)?, row.get(1)?);
            sink(&key, &place)?;
        }
        Ok(())
    }
}

/// The rows of a list that is sorted by path, as many at a time as have one path.
struct ByPath<'s, T> {
    rows: Rows<'s>,
    next: Option<(String, T)>,
    of: fn(&Row<'_>) -> rusqlite::Result<T>,
}

impl<'s, T> ByPath<'s, T> {
    fn new(statement: &'s mut Statement<'_>, of: fn(&Row<'_>) -> rusqlite::Result<T>) -> rusqlite::Result<Self> {
        let mut by_path = Self { rows: statement.query([])?, next: None, of };
        by_path.go_on()?;
        Ok(by_path)
    }

    fn path(&self) -> Option<&str> {
        self.next.as_ref().map(|(path, _)| path.as_str())
    }

    fn take(&mut self, path: &str) -> rusqlite::Result<Vec<T>> {
        let mut taken = Vec::new();
        while let Some((_, row)) = self.next.take_if(|(next, _)| next == path) {
            taken.push(row);
            self.go_on()?;
        }
        Ok(taken)
    }

    fn go_on(&mut self) -> rusqlite::Result<()> {
        self.next = match self.rows.next()? {
            Some(row) => Some((row.get("path")?, (self.of)(row)?)),
            None => None,
        };
        Ok(())
    }
}

fn upload(row: &Row<'_>) -> rusqlite::Result<Upload> {
    let offsets: String = row.get("offsets")?;
    Ok(Upload {
        path: row.get("path")?,
        sha512: row.get("sha512")?,
        size: row.get::<_, i64>("size")?.unsigned_abs(),
        chunks: row.get("chunks")?,
        n_chunks: row.get("n_chunks")?,
        modified: row.get("modified")?,
        first_ms: row.get("first_ms")?,
        last_ms: row.get("last_ms")?,
        spans: spans_of(&offsets),
        fault: row.get("fault")?,
    })
}

fn result(row: &Row<'_>) -> rusqlite::Result<ResultOf> {
    Ok(ResultOf {
        path: row.get("path")?,
        sha512: row.get("sha512")?,
        source: row.get("source")?,
        group: row.get("made_by")?,
        answers: row.get("answers")?,
        place: row.get("place")?,
    })
}

fn failure(row: &Row<'_>) -> rusqlite::Result<Failure> {
    Ok(Failure {
        sha512: row.get("sha512")?,
        offsets: row.get("offsets")?,
        status: row.get("status")?,
        reason: row.get("reason")?,
        rerun_of: row.get("rerun_of")?,
    })
}

fn file(row: &Row<'_>) -> rusqlite::Result<InFolder> {
    Ok(InFolder {
        at: row.get("at")?,
        size: row.get::<_, i64>("size")?.unsigned_abs(),
        mtime_ns: row.get("mtime_ns")?,
        refused: row.get("refused")?,
    })
}

fn copy(row: &Row<'_>) -> rusqlite::Result<CopyOf> {
    Ok(CopyOf { size: row.get::<_, i64>("size")?.unsigned_abs(), mtime_ns: row.get("mtime_ns")? })
}

/// A size as SQLite keeps it: no file is as large as what it cannot keep.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Numbers of the versions of uploads that are in the order in which they came: the same content has the same number.
pub(super) fn versions(uploads: &[Upload]) -> Vec<usize> {
    let mut known: Vec<&[u8; 64]> = Vec::new();
    let mut numbers = Vec::with_capacity(uploads.len());
    for upload in uploads {
        let at = known.iter().position(|sha512| **sha512 == upload.sha512);
        numbers.push(at.unwrap_or_else(|| {
            known.push(&upload.sha512);
            known.len() - 1
        }));
    }
    numbers.into_iter().map(|at| at + 1).collect()
}

/// The different hashes among some.
pub(super) fn distinct<'u>(uploads: impl Iterator<Item = &'u Upload>) -> BTreeSet<&'u [u8; 64]> {
    uploads.map(|upload| &upload.sha512).collect()
}
