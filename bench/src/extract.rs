//! The reproducer that is measured. Its peer's twin is in `peer/reproduce.py`.

use std::sync::Once;

use datamill::prelude::*;
use datamill::program::{Exit, ReproducerArgs, Runnable, run_reproducer};

use crate::child::now_us;

/// Options of the reproducer.
#[derive(Debug, clap::Args)]
pub(crate) struct ExtractArgs {
    #[command(flatten)]
    reproducer: ReproducerArgs,
}

struct Extract {
    first: Once,
}

impl MetadataJsonReproducer for Extract {
    fn get_metadata_dict_for_file(&self, file: &DownloadDataFile, _: &Lock) -> Result<Metadata, ProcessingError> {
        self.first.call_once(|| println!("first {}", now_us()));
        let bytes = file.bytes()?;
        let mut metadata = Metadata::new();
        metadata.insert("size", bytes.len());
        metadata.insert("lines", memchr::memchr_iter(b'\n', bytes).count());
        Ok(metadata)
    }
}

pub(crate) fn run(args: &ExtractArgs) -> Exit {
    run_reproducer(&args.reproducer, "bench", Extract { first: Once::new() }.into_reproducer())
}
