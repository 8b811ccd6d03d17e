//! Prints what a crate offers to others, an item a line: `public_surface FILE`, where FILE is the JSON that rustdoc wrote of it.
//!
//! `dev/surface` runs it and compares the lines with those that are checked in.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let json: PathBuf = std::env::args_os().nth(1).context("usage: public_surface FILE")?.into();
    let surface = public_api::Builder::from_rustdoc_json(&json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .with_context(|| format!("read `{}`", json.display()))?;
    write!(std::io::stdout().lock(), "{surface}")?;
    Ok(())
}
