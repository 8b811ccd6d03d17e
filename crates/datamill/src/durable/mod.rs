//! Files that outlive a crash whole. Uploads and the engine write all of theirs through this room, so torn lines,
//! syncing and what cannot be read are treated alike.
//!
//! ```text
//! journal   lines of checked JSON; a restart relies on them; on the disk when `sync` returns
//! table     CSV for people
//!   append    rows are added; half a row at the end is removed when the file is opened
//!   replace   written aside and renamed, so that a reader sees the table before or after
//! slots     texts that are overwritten in place, never synced; for what only the end of the process makes interesting
//! ```
//!
//! A file that cannot be understood is never overwritten: a table is set aside, of a journal with damaged lines a
//! copy is kept, both as `{name}.damaged-{milliseconds since the epoch}`.

mod append;
mod aside;
mod home;
mod journal;
mod replace;
mod slots;
mod trouble;

pub(crate) use append::{AppendedTable, rows};
pub(crate) use aside::{put_unless_there, sync_folder};
pub(crate) use home::Home;
pub(crate) use journal::{Contents, Journal, Lines};
pub(crate) use replace::ReplacedTable;
pub(crate) use slots::Slots;
pub(crate) use trouble::is_full;
