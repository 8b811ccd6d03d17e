//! The reproducer of the tests: the metadata that `crates/testkit/peer/reproduce.py` computes too. A file
//! whose content begins with `fail` fails.

use datamill::prelude::*;
use datamill::wire::{hex, sha512};

struct Describe;

impl MetadataJsonReproducer for Describe {
    fn get_metadata_dict_for_file(&self, file: &DownloadDataFile, _: &Lock) -> Result<Metadata, ProcessingError> {
        let content = file.bytes()?;
        if content.starts_with(b"fail") {
            return Err(ProcessingError::file_failed("the content begins with `fail`"));
        }
        let start = &content[..content.len().min(200)];
        let mut metadata = Metadata::new();
        metadata.insert("name", file.filename());
        metadata.insert("size", content.len());
        metadata.insert("half", content.len() as f64 / 2.0);
        metadata.insert("lines", content.iter().filter(|&&byte| byte == b'\n').count());
        metadata.insert("sha512", hex(&sha512(content)));
        metadata.insert("parts", start.split(|&byte| byte == b' ').map(<[u8]>::len).collect::<Vec<_>>());
        metadata.insert("nothing", ());
        metadata.insert("empty", content.is_empty());
        Ok(metadata)
    }
}

fn main() -> ExitCode {
    Describe.run_from_command_line()
}
