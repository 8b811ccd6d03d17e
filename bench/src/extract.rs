//! The reproducer that is measured. Its peer's twin is `extract` in `crates/testkit/peer/reproduce.py`.

use datamill::prelude::*;
use datamill::program::{Exit, ReproducerArgs, Runnable, run_program};

/// Options of the reproducer.
#[derive(Debug, clap::Args)]
pub(crate) struct ExtractArgs {
    #[command(flatten)]
    reproducer: ReproducerArgs,
}

struct Extract;

impl MetadataJsonReproducer for Extract {
    fn get_metadata_dict_for_file(&self, file: &DownloadDataFile, _: &Lock) -> Result<Metadata, ProcessingError> {
        let bytes = file.bytes()?;
        let mut metadata = Metadata::new();
        metadata.insert("size", bytes.len());
        metadata.insert("lines", memchr::memchr_iter(b'\n', bytes).count());
        Ok(metadata)
    }
}

pub(crate) fn run(args: &ExtractArgs) -> Exit {
    run_program(&args.reproducer, "bench", Extract.into_user_code())
}
