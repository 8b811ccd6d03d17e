//! Keeps a checksum file for each file of a topic, as `sha512sum --check` reads it: a processor, which acts
//! on whole files and sends nothing.
//!
//! ```text
//! checksums --topic_name T --folder SUMS --config C --consumer_group_id G --output_dir O
//! ```

use std::path::PathBuf;

use datamill::prelude::*;
use datamill::wire::hex;

/// Options of this program.
#[derive(Debug, clap::Args)]
struct Options {
    /// Folder of the checksum files
    #[arg(long, value_name = "FOLDER")]
    folder: PathBuf,
}

struct Checksums {
    folder: PathBuf,
}

impl DataFileStreamProcessor for Checksums {
    /// Writes aside and renames: running again for the same file leaves the same checksum file.
    fn process_downloaded_data_file(&self, file: &DownloadDataFile, _: &Lock) -> Result<(), ProcessingError> {
        let place = self.folder.join(format!("{}.sha512", file.relative_path()));
        let folder = place.parent().ok_or("the file has no folder")?;
        std::fs::create_dir_all(folder)?;
        let aside = tempfile::NamedTempFile::new_in(folder)?;
        std::fs::write(aside.path(), format!("{}  {}\n", hex(file.sha512()), file.filename()))?;
        aside.persist(&place).map_err(|error| error.error)?;
        Ok(())
    }
}

fn main() -> ExitCode {
    Checksums::run_with_arguments(|options: Options| Ok(Checksums { folder: options.folder }))
}
