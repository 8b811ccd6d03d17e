//! What is on a topic, file by file, and what became of each file. It only reads: no group is joined, and nothing is
//! written but temporary files.
//!
//! ```text
//!  topic ────────────────▶ pass.rs ──Upload──┐
//!  topic of results ─────▶ results.rs ───────┤
//!  positions and state ──▶ engine's Reached ─┼──▶ table.rs ──by path──▶ list.rs: paths and versions
//!  folder ───────────────▶ upload's Scanner ─┤    (SQLite, a          └▶ row.rs: one Row for each path
//!  mirror or store ──────▶ copies.rs ────────┘     temporary file)
//!
//!  topic ──▶ content.rs: chunks become whole files again, hashed ──▶ get, verify
//!
//!  positions and state, topic ──▶ group.rs ─────────┐     (failures.rs: whether what failed is seen;
//!                                                   │      positions.rs: what is wrong with a position)
//!  record of a watch, folder ───▶ watched.rs ───────┼──▶ status
//!  topic of heartbeats ─────────▶ heartbeats.rs ────┤
//!  status page of a program ────▶ program.rs ───────┘
//!
//!  settings, what the account may do ──▶ check.rs ──▶ check
//! ```
//!
//! What is read first is what changes last: the folder, then the group, then the topic, then the results. So a file that
//! the group is done with has its result among the results that are read later.

mod check;
mod content;
mod copies;
mod error;
mod failures;
mod group;
mod heartbeats;
mod list;
mod missing;
mod pass;
mod positions;
mod problem;
mod program;
mod readers;
mod reconcile;
mod results;
mod row;
mod table;
mod upload;
mod watched;

pub use check::{Finding, Verdict, check_log};
pub use content::{Checked, Output, get, verify};
pub use copies::Copies;
#[cfg(feature = "object-store")]
pub use copies::StoreCopies;
pub use error::{SurveyError, not_chunks};
pub use failures::{failures_in_folders, unseen_failures};
pub use group::{GroupLag, GroupStatus, InProgress, PartitionStatus, group_status};
pub use heartbeats::{Heartbeats, LastHeartbeat, last_heartbeats};
pub use list::{Listed, Listing, Totals, list};
pub use missing::upload_missing;
pub use pass::Passed;
pub use problem::{Problem, ProblemKind, Subject};
pub use program::{ProgramStatus, program_status};
pub use readers::readers;
pub use reconcile::{ReconcileSettings, Reconciled, Rows, reconcile};
pub use row::{Row, State};
pub use upload::Upload;
pub use watched::{WatchStatus, WatchedFolder, watch_status};
