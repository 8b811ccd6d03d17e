//! Writes the manual pages and the shell completions of the command `datamill`, for packages.
//!
//! ```text
//! DIR/man/datamill.1, DIR/man/datamill-COMMAND.1, …   one page for each command, made from its `--help`
//! DIR/completions/datamill.bash, _datamill, datamill.fish
//! ```

use std::env;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use clap_complete::Shell;

fn main() -> anyhow::Result<()> {
    let words: Vec<_> = env::args_os().skip(1).collect();
    let [folder] = &words[..] else { bail!("usage: datamill-pages DIR") };
    write(Path::new(folder)).with_context(|| format!("cannot write to `{}`", Path::new(folder).display()))
}

fn write(folder: &Path) -> anyhow::Result<()> {
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    clap_mangen::generate_to(datamill_cli::command_line(), man)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut datamill_cli::command_line(), "datamill", &completions)?;
    }
    Ok(())
}
