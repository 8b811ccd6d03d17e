//! What the engine prints: kept until a thread of Python writes it to `sys.stderr`, whatever that is then.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use datamill::report::logging::{CRITICAL, Printer, print_with};
use parking_lot::{Condvar, Mutex};
use pyo3::prelude::*;

/// Lines that are kept. Who reads them may be stuck; the log file has them all.
const MOST: usize = 10_000;

struct Kept {
    /// Each with whether the user's code says it.
    lines: VecDeque<(String, bool)>,
    /// Lines that there was no room for.
    dropped: usize,
    /// Threads of Python that print.
    printing: usize,
}

static KEPT: Mutex<Kept> = Mutex::new(Kept { lines: VecDeque::new(), dropped: 0, printing: 0 });
static CHANGED: Condvar = Condvar::new();

/// Something happened that a thread in [`wait_until`] may wait for.
pub fn wake() {
    // with the lock, or who has just looked would sleep
    let _kept = KEPT.lock();
    CHANGED.notify_all();
}

/// Waits until there are lines to print, or `is_so`, or the time is over.
pub fn wait_until(is_so: impl Fn() -> bool, time: Duration) {
    let mut kept = KEPT.lock();
    if kept.lines.is_empty() && !is_so() {
        CHANGED.wait_for(&mut kept, time);
    }
}

fn keep(text: &str) {
    let mut kept = KEPT.lock();
    if kept.printing == 0 {
        drop(kept);
        // nobody can be told that stderr is gone
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
        return;
    }
    if kept.lines.len() < MOST {
        kept.lines.push_back((text.to_owned(), SAYS.get()));
    } else {
        kept.dropped += 1;
    }
    CHANGED.notify_all();
}

/// A thread of Python prints from here on, or ends to do so.
#[pyfunction]
pub fn printing(begins: bool, colours: bool) {
    let mut kept = KEPT.lock();
    if begins {
        kept.printing += 1;
        drop(kept);
        print_with(Printer { colours, print: Box::new(keep) });
    } else {
        kept.printing = kept.printing.saturating_sub(1);
    }
}

/// The lines that are to be printed, each with whether the user's code says it.
#[pyfunction]
pub fn take_lines() -> Vec<(String, bool)> {
    let mut kept = KEPT.lock();
    let mut lines: Vec<(String, bool)> = kept.lines.drain(..).collect();
    let dropped = std::mem::take(&mut kept.dropped);
    if dropped > 0 {
        let text = format!("{dropped} lines were not printed, since they came too fast; the log file has them\n");
        lines.push((text, false));
    }
    lines
}

/// Prints a text of the user's code in its turn among the lines.
#[pyfunction]
pub fn print_text(text: &str) {
    says(|| keep(text));
}

/// What is printed meanwhile is the user's.
fn says(print: impl FnOnce()) {
    SAYS.set(true);
    print();
    SAYS.set(false);
}

thread_local! {
    /// The file that this thread works on.
    static FILE: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
    /// Whether the user's code says what this thread prints.
    static SAYS: Cell<bool> = const { Cell::new(false) };
}

/// This thread works on this file from here on.
pub fn works_on(file: Option<Arc<str>>) {
    FILE.set(file);
}

/// A line of Python code: to stderr, to the log file, and to the log topic, as the options say.
#[pyfunction]
pub fn log(py: Python<'_>, level: i32, text: &str) {
    let file = FILE.with_borrow(Clone::clone);
    let file = file.as_deref();
    let log = || {
        for text in text.lines() {
            match level {
                50.. => tracing::error!(target: CRITICAL, file, "{text}"),
                40.. => tracing::error!(file, "{text}"),
                30.. => tracing::warn!(file, "{text}"),
                20.. => tracing::info!(file, "{text}"),
                _ => tracing::debug!(file, "{text}"),
            }
        }
    };
    py.detach(|| says(log));
}
