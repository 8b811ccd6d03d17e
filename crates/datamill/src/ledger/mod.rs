//! What happened to which file, as tables for people: CSV files in `LOGS` of the output folder.
//!
//! The tables are a view. What decides is committed in the log; a table that cannot be written is
//! said once and tried again, and never stops the program.
//!
//! ```text
//! completed ──append──▶ results_produced_to_{topic}.csv          (programs that re-produce)
//!                       processed_from_{topic}_by_{group}.csv    (all others)
//! failed ─┬──append───▶ failed_from_{topic}_by_{group}.csv
//!         └─┐
//! filling ──┴─replace─▶ consuming_from_{topic}_in_progress_by_{group}.csv, at most every 5 s
//! ```
//!
//! Fields are separated by `;` and quoted where they hold `;`, `"` or a line end. Each file begins
//! with a header line. Times are local: `YYYY-MM-DD HH:MM:SS`. Lines that are appended are in the file
//! within a second; a replaced file is written aside and renamed, so that a reader sees the table
//! before or after, never a part.

mod names;
mod registry;

pub use crate::facts::{FailureStatus, FileRow};
pub(crate) use names::{file_name_part, table_of_failures};
pub(crate) use registry::{FailedBefore, FailureKey, MissingRows};
pub use registry::{Ledger, LedgerKind, LedgerOptions};
