//! `datamill upload`: files and folders, once.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use datamill::facts::{Fact, Facts, Listener};
use datamill::program::{CommonArgs, EXIT_CODES, Exit};
use datamill::report::logging::lines_above;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::sending::{Sending, SendingArgs};

/// Send files and folders to a topic
///
/// Files keep their paths relative to the folder that was named; a file that is named itself is sent
/// under its name alone, whatever the usual rules say of it. A file that changes while it is read is
/// sent as its new version. Exit code 1 if something that was wanted cannot be sent or if there was no
/// file to send, 2 if the account may not write to the topic, 3 if it was stopped before everything was sent: the same
/// command with --only-missing sends the rest.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct UploadArgs {
    /// Files, and folders with all that is in them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Only files that are not on the topic already, whole and as they are. Reads the whole topic first, and leaves out
    /// what is there by path, size and time, or by the SHA-512 where these do not decide
    #[arg(long = "only-missing")]
    only_missing: bool,
    #[command(flatten)]
    sending: SendingArgs,
    #[command(flatten)]
    common: CommonArgs,
}

impl UploadArgs {
    /// What these options ask for.
    ///
    /// # Errors
    /// A value that cannot be used.
    pub fn into_sending(self) -> anyhow::Result<Sending> {
        Sending::upload(self.paths, self.only_missing, &self.sending, self.common)
    }
}

pub(crate) fn run(args: UploadArgs) -> anyhow::Result<Exit> {
    let sending = args.into_sending()?;
    let bar = Arc::new(Bar::new());
    let sent = sending.run_as_program("datamill_upload", &Facts::default().heard_by(bar.clone()));
    bar.end();
    Ok(sending.end(&sent?))
}

/// A progress bar on a terminal, and nothing elsewhere.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let bars = MultiProgress::new();
        let bar = bars.add(ProgressBar::new(0));
        let template = "{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left  {wide_msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        lines_above(Some(bars));
        Self(bar)
    }

    fn end(&self) {
        self.0.finish_and_clear();
        lines_above(None);
    }
}

impl Listener for Bar {
    fn hear(&self, fact: &Fact<'_>) {
        match *fact {
            Fact::Planned { bytes, .. } => self.0.set_length(bytes),
            Fact::Acknowledged { bytes, .. } => {
                // Messages are somewhat longer than the file content in them.
                let position = self.0.position() + bytes;
                self.0.set_position(position.min(self.0.length().unwrap_or(position)));
            }
            Fact::Delivered { file, .. } => self.0.set_message(file.to_owned()),
            _ => {}
        }
    }
}
