//! A user's code as a program: command line, signals, console, exit code.
//!
//! [`Runnable`] makes a program of one struct and one line of `main`. Who wants another command line
//! flattens [`ReproducerArgs`] or [`ProcessorArgs`] into a parser of their own and calls [`run_program`];
//! [`Prepared`] is for who steers a program without a console and without handlers of signals.
//! [`accept_dashes`] lets its options be written with `-` for `_` as well.

mod args;
mod console;
mod exit;
mod identity;
mod prepared;
mod reporting;
mod runnable;
mod size;

pub use args::{CommonArgs, ConsumerArgs, ProcessorArgs, ProgramArgs, ReproducerArgs, accept_dashes, update_seconds};
pub use console::{AtOnce, heed_signals, steer};
pub use exit::{EXIT_CODES, Exit, SetUpError, of_upload, why};
pub use identity::{instance, instance_name};
pub use prepared::Prepared;
pub use reporting::{Reporting, check_log_here, open_existing};
pub use runnable::{MetadataKind, NoArguments, ProcessorKind, ReproducerKind, Runnable, command_line, run_program};
pub use size::ByteSize;
