//! Metadata of X-ray diffraction files: the header block of each text export as a dictionary, with the
//! time of the extraction.
//!
//! ```text
//! xrd_metadata --config C --consumer_topic_name T --producer_topic_name R --consumer_group_id G --output_dir O
//! ```

use std::io::{BufRead, BufReader};

use datamill::prelude::*;
use datamill::report::clock::{iso8601_utc, now_ms};

/// Reads the `[Measurement conditions]` block: a line `key,value` for each condition, an empty line,
/// then `[Scan points]`.
pub struct XrdMetadata;

impl MetadataJsonReproducer for XrdMetadata {
    fn get_metadata_dict_for_file(&self, file: &DownloadDataFile, _: &Lock) -> Result<Metadata, ProcessingError> {
        let mut lines = BufReader::new(file.reader()?).lines().zip(1..);
        let mut metadata = Metadata::new();
        let first = lines.next().ok_or_else(|| ProcessingError::file_failed("the file is empty"))?.0?;
        if first.trim_end() != "[Measurement conditions]" {
            return Err(ProcessingError::file_failed("the file does not begin with `[Measurement conditions]`"));
        }
        for (line, number) in lines {
            let line = line?;
            match (line.trim(), line.split_once(',')) {
                ("", _) => {}
                ("[Scan points]", _) => {
                    metadata.insert("metadata extracted at", iso8601_utc(now_ms()));
                    return Ok(metadata);
                }
                (_, Some((key, value))) => metadata.insert(key.trim(), value.trim()),
                (text, None) => {
                    let problem = format!("line {number} is no `key,value` pair: `{text}`");
                    return Err(ProcessingError::file_failed(problem));
                }
            }
        }
        Err(ProcessingError::file_failed("the file ends before `[Scan points]`"))
    }
}

#[cfg_attr(test, expect(dead_code, reason = "the demonstration uses the struct without the program"))]
fn main() -> ExitCode {
    XrdMetadata.run_from_command_line()
}
