//! The floor of a download: librdkafka's consumer, one SHA-512 over the values, each chunk written to its
//! place, and one fsync for each file, on one thread.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;

use anyhow::Result;
use datamill_wire::Chunk;

use crate::{ReadArgs, drain};

/// The floor of a download.
#[derive(Debug, clap::Args)]
pub struct FloorArgs {
    #[command(flatten)]
    read: ReadArgs,
    folder: PathBuf,
}

/// Reads, hashes and writes the files of a topic.
///
/// # Errors
/// The topic cannot be read, or a file not written.
pub fn floor(args: &FloorArgs) -> Result<()> {
    let mut open: HashMap<String, (File, u32)> = HashMap::new();
    drain(&args.read, |value| {
        let chunk = Chunk::decode(value)?;
        let path = chunk.rebuilt_path();
        if !open.contains_key(&path) {
            let place = args.folder.join(&path);
            if let Some(folder) = place.parent() {
                std::fs::create_dir_all(folder)?;
            }
            open.insert(path.clone(), (File::create(place)?, 0));
        }
        if let Some((file, chunks)) = open.get_mut(&path) {
            file.seek(SeekFrom::Start(chunk.offset))?;
            file.write_all(chunk.data)?;
            *chunks += 1;
            if *chunks == chunk.total {
                file.sync_all()?;
                open.remove(&path);
            }
        }
        Ok(())
    })
}
