//! What a program prints for people: lines on stderr, above its progress bars, or on what takes the place of stderr.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use indicatif::MultiProgress;
use parking_lot::{Mutex, RwLock};

/// The progress bars that lines must not tear apart.
static BARS: Mutex<Option<MultiProgress>> = Mutex::new(None);

/// Lines on stderr stand above these progress bars from here on; `None` ends it.
pub fn lines_above(bars: Option<MultiProgress>) {
    *BARS.lock() = bars;
}

/// What prints in place of stderr.
pub struct Printer {
    /// Whether the lines may have colours.
    pub colours: bool,
    /// Prints a text, which ends with its line. It is called from any thread, and MUST NOT log.
    pub print: Box<dyn Fn(&str) + Send + Sync>,
}

static PRINTER: RwLock<Option<Printer>> = RwLock::new(None);

/// Lines and what [`say`] says are printed by this from here on: for a process whose stderr is another thing than the
/// system's, as an interpreter's.
pub fn print_with(printer: Printer) {
    *PRINTER.write() = Some(printer);
}

/// Prints a text with a line end on stderr, above progress bars. That nobody reads it is no error.
pub fn say(text: impl fmt::Display) {
    to_stderr(&format!("{text}\n"));
}

pub(super) fn to_stderr(text: &str) {
    if let Some(printer) = &*PRINTER.read() {
        return (printer.print)(text);
    }
    // Nobody can be told that stderr is gone.
    let write = || drop(io::stderr().lock().write_all(text.as_bytes()));
    let bars = BARS.lock().clone();
    match bars {
        Some(bars) => bars.suspend(write),
        None => write(),
    }
}

/// Whether what is printed may have colours, as far as the place goes where it is printed.
pub(super) fn may_have_colours() -> bool {
    PRINTER.read().as_ref().map_or_else(|| io::stderr().is_terminal(), |printer| printer.colours)
}
