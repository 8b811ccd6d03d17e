//! `datamill rekey`: a topic whose files are spread over its partitions, copied so that they are not.

use clap::Args;
use datamill::broker::ErrorKind;
use datamill::program::{CommonArgs, EXIT_CODES, Exit, instance_name, why};
use datamill::rekey::{RekeyError, RekeySettings, rekey};
use datamill::report::logging::{say, say_error};

use super::sending;

/// Copy a topic so that all chunks of a file lie in one partition
///
/// OpenMSIStream spreads the chunks of each file over all partitions of its topic, and only one process
/// can read such a topic. The copy can be read by many. Each message is copied once, whatever ends the
/// program: start it again, and it goes on. Messages that are no chunks of files are left out, and the
/// log names them. Several processes share the work when they have the same group. On Kafka, make
/// DST first: `datamill topic create DST --partitions N`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct RekeyArgs {
    /// Topic to read
    #[arg(value_name = "SRC")]
    source: String,
    /// Topic to write
    #[arg(value_name = "DST")]
    destination: String,
    /// Consumer group that remembers how far the copy is [default: datamill-rekey-SRC-DST]
    #[arg(long = "consumer_group_id", value_name = "GROUP")]
    consumer_group_id: Option<String>,
    /// Name of this process's place in its group, the same after a restart [default: made from the host
    /// and the group; give each of several processes on one host its own]
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    /// Stop when everything that was in the topic at the start has been copied, instead of waiting for
    /// more
    #[arg(long = "exit-at-end")]
    exit_at_end: bool,
    #[command(flatten)]
    common: CommonArgs,
}

pub(crate) fn run(args: &RekeyArgs) -> anyhow::Result<Exit> {
    let group = args.consumer_group_id.clone();
    let group = group.unwrap_or_else(|| RekeySettings::usual_group(&args.source, &args.destination));
    let settings = RekeySettings {
        instance: args.instance.clone().unwrap_or_else(|| instance_name(&group)),
        source: args.source.clone(),
        destination: args.destination.clone(),
        group,
        exit_at_end: args.exit_at_end,
    };
    if let Err(error) = settings.check() {
        say_error(why(&error));
        return Ok(Exit::of_refusal(&error));
    }
    let topics = [(&*args.source, "the files"), (&*args.destination, "their copies")];
    let started = sending::start(&args.common, "datamill_rekey", &topics, args.exit_at_end)?;
    match rekey(&started.log, &settings, &started.control, &started.facts) {
        Ok(summary) => {
            say(&summary);
            Ok(if summary.left_out == 0 { Exit::Done } else { Exit::SomeFailed })
        }
        Err(error) => {
            say_error(why(&error));
            Ok(match &error {
                RekeyError::Log(error) if error.kind() == ErrorKind::Fenced => Exit::Replaced,
                _ => Exit::of_refusal(&error),
            })
        }
    }
}
