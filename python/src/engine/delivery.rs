//! Programs that only bring files somewhere, for `DataFileDownloadDirectory` and `S3TransferStreamProcessor`: what they do
//! with a file is the engine's own code.

use std::path::PathBuf;

use datamill::assemble::Mode;
use datamill::deliver::{DownloadDirectory, OnExists, S3TransferStreamProcessor, TransferSettings};
use datamill::process::UserCode;
use datamill::program::{Exit, Runnable, SetUpError, instance};

use super::ended::BrokenOff;
use crate::command_line::Options;

/// Where files go.
pub enum Delivery {
    /// To a folder.
    Download(PathBuf),
    /// To an object store.
    Transfer(String),
}

impl Delivery {
    /// What a kind of programs delivers to; `None` for those that call a function of Python.
    pub fn of(kind: &str, target: Option<String>) -> Option<Self> {
        match kind {
            "download" => target.map(|folder| Self::Download(folder.into())),
            "transfer" => target.map(Self::Transfer),
            _ => None,
        }
    }

    /// Sets what follows from the target: a group for each, since two targets of one topic do not share the files.
    pub fn complete(&self, name: &str, options: &mut Options) {
        let Options::Processor(args, _) = options else { return };
        let target = match self {
            Self::Download(folder) => instance(folder),
            Self::Transfer(url) => words(url),
        };
        // the content goes to its place from memory or from where it was spilled to
        args.consumer.mode = Mode::Memory;
        args.consumer.default_group = Some(format!("{name}_{}_{target}", args.topic_name));
    }

    /// The code that delivers.
    pub fn code(&self, options: &Options) -> Result<UserCode, BrokenOff> {
        let consumer = options.consumer();
        match self {
            Self::Download(folder) => {
                let output_dir = consumer.output_dir.as_ref().unwrap_or(folder);
                let opened = DownloadDirectory::open(folder, output_dir, OnExists::default());
                let failed = |source| SetUpError::OutputDir { folder: folder.clone(), source };
                Ok(opened.map_err(failed).map_err(BrokenOff::set_up)?.into_user_code())
            }
            Self::Transfer(url) => {
                let config = consumer.common.load_config().map_err(BrokenOff::set_up)?;
                let section = config.section("s3").map_err(SetUpError::from).map_err(BrokenOff::set_up)?;
                let settings = TransferSettings { url: url.clone(), section, on_exists: OnExists::Newer };
                let refused = |error| BrokenOff { error: Box::new(error), exit: Exit::SetUp };
                Ok(S3TransferStreamProcessor::new(&settings).map_err(refused)?.into_user_code())
            }
        }
    }
}

/// The letters and digits of a URL, with `-` for what is between them.
fn words(url: &str) -> String {
    let words: Vec<&str> = url.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    words.join("-")
}
