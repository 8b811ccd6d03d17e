//! Rebuild whole data files from a topic, run your code on each, re-produce the results exactly once.
//!
//! A laboratory puts data files on a topic as chunk messages (`upload`); here every file is rebuilt
//! (`assemble`), handed to user code (`process`), and what that code computes goes to another topic
//! together with the progress of the reading (`engine`, `progress`). A user's program is one struct,
//! one function and one line of `main`:
//!
//! ```no_run
//! use datamill::prelude::*;
//!
//! struct Sizes;
//!
//! impl MetadataJsonReproducer for Sizes {
//!     fn get_metadata_dict_for_file(&self, file: &DownloadDataFile, _: &Lock) -> Result<Metadata, ProcessingError> {
//!         let mut metadata = Metadata::new();
//!         metadata.insert("file", file.relative_path());
//!         metadata.insert("bytes", file.size());
//!         Ok(metadata)
//!     }
//! }
//!
//! fn main() -> ExitCode {
//!     Sizes.run_from_command_line()
//! }
//! ```

#![warn(unreachable_pub)]

pub mod assemble;
pub mod control;
pub mod deliver;
mod durable;
pub mod engine;
pub mod facts;
pub mod ledger;
pub mod process;
pub mod program;
pub mod progress;
pub mod read;
pub mod rekey;
pub mod report;
pub mod settings;
pub mod status;
pub mod survey;
pub mod upload;

#[cfg(all(target_os = "linux", feature = "jemalloc"))]
mod allocator;

mod mark;
mod panics;

pub use datamill_broker as broker;
pub use datamill_wire as wire;

/// Compiles the program in README.md.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// Compiles the processor in docs/delivering-files.md.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/delivering-files.md")]
struct DeliveringFiles;

/// What a user's program needs.
pub mod prelude {
    pub use std::process::ExitCode;

    pub use crate::assemble::DownloadDataFile;
    pub use crate::process::{
        DataFileStreamProcessor, DataFileStreamReproducer, Lock, Metadata, MetadataJsonReproducer, ProcessingError,
        ReproducerMessage,
    };
    pub use crate::program::{NoArguments, Runnable};
}
