//! The reproducer that is measured. Its peer's twin is `extract` in `crates/testkit/peer/reproduce.py`.

use datamill::prelude::*;
use datamill::program::{Exit, ReproducerArgs, Runnable, run_program};

/// Options of the reproducer.
#[derive(Debug, clap::Args)]
pub(crate) struct ExtractArgs {
    #[command(flatten)]
    reproducer: ReproducerArgs,
    /// Answer with the SHA-512 of each file
    #[arg(long)]
    hash: bool,
}

struct Extract {
    hash: bool,
}

impl MetadataJsonReproducer for Extract {
    fn get_metadata_dict_for_file(&self, file: &DownloadDataFile, _: &Lock) -> Result<Metadata, ProcessingError> {
        let bytes = file.bytes()?;
        let mut metadata = Metadata::new();
        metadata.insert("size", bytes.len());
        if self.hash {
            metadata.insert("sha512", datamill::wire::hex(&datamill::wire::sha512(bytes)));
        } else {
            metadata.insert("lines", memchr::memchr_iter(b'\n', bytes).count());
        }
        Ok(metadata)
    }
}

pub(crate) fn run(args: &ExtractArgs) -> Exit {
    run_program(&args.reproducer, "bench", Extract { hash: args.hash }.into_user_code())
}
