//! `datamill transfer` and `datamill s3-transfer`: every file of a topic to an object store.

use std::collections::BTreeMap;

use clap::Args;
use datamill::deliver::{OnExists, S3TransferStreamProcessor, TransferSettings};
use datamill::program::{EXIT_CODES, Exit, ProcessorArgs, Runnable, run_program};
use datamill::settings::Config;

/// Transfer every file of a topic to an object store
///
/// Each file becomes the object TOPIC/SUBFOLDER/FILENAME below the URL, once it is whole. S3 and its likes,
/// Azure, Google Cloud Storage, WebDAV servers and local folders are known. Credentials come from section
/// [s3] of the configuration (`access_key_id`, `secret_key_id`, `endpoint_url`, `region`; `$NAME` is an
/// environment variable), from the usual environment variables of the store, from the shared AWS profile, or
/// from the role of the machine. A store that does not answer is waited for; one that refuses stops the
/// program, and the files it has not taken are transferred at the next start.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct TransferArgs {
    /// The store and a prefix in it: s3://BUCKET/PREFIX, az://CONTAINER/PREFIX, gs://BUCKET/PREFIX,
    /// https://HOST/FOLDER (WebDAV) or file:///FOLDER
    #[arg(long, value_name = "URL")]
    to: String,
    #[command(flatten)]
    shared: SharedArgs,
}

/// Transfer every file of a topic to an S3 bucket, with the command line of OpenMSIStream's
/// S3TransferStreamProcessor
///
/// The same as `datamill transfer --to s3://BUCKET`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct S3TransferArgs {
    /// Name of the bucket
    #[arg(value_name = "BUCKET", value_parser = bucket)]
    bucket: String,
    #[command(flatten)]
    shared: SharedArgs,
}

#[derive(Debug, Args)]
struct SharedArgs {
    /// What happens to a file whose object has another version of it already
    #[arg(long = "on_exists", value_enum, value_name = "WHAT", default_value_t = OnExists::Newer)]
    on_exists: OnExists,
    #[command(flatten)]
    processor: ProcessorArgs,
}

pub(crate) fn run(args: &TransferArgs) -> anyhow::Result<Exit> {
    transfer(&args.to, &args.shared, "transfer")
}

pub(crate) fn run_s3(args: &S3TransferArgs) -> anyhow::Result<Exit> {
    transfer(&format!("s3://{}", args.bucket), &args.shared, "S3TransferStreamProcessor")
}

fn transfer(url: &str, args: &SharedArgs, program: &str) -> anyhow::Result<Exit> {
    let config = Config::load(args.processor.consumer.common.config.as_deref())?;
    let section: Option<BTreeMap<String, String>> = config.section("s3")?;
    let settings = TransferSettings { url: url.to_owned(), section, on_exists: args.on_exists };
    let code = S3TransferStreamProcessor::new(&settings)?;
    let mut processor = args.processor.clone();
    if processor.consumer.consumer_group_id.is_none() && config.group_id().is_none() {
        // Two targets of one topic must not share the files.
        let group = format!("{program}_{}_{}", words(url), processor.topic_name);
        processor.consumer.consumer_group_id = Some(group);
    }
    Ok(run_program(&processor, program, code.into_user_code()))
}

/// The letters and digits of a URL, with `-` for what is between them.
fn words(url: &str) -> String {
    let words: Vec<&str> = url.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    words.join("-")
}

fn bucket(text: &str) -> Result<String, &'static str> {
    let letters = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    if letters && !text.is_empty() { Ok(text.to_owned()) } else { Err("write the name of a bucket alone") }
}
