//! The end of the process where Python may not come to it: a thread of Rust needs neither the interpreter nor its locks.

use std::io::Write;
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;

/// How long a line about the end may take: stderr may be what nobody reads.
const SAID_WITHIN: Duration = Duration::from_secs(1);

/// Ends the process after so many seconds with this text on stderr, unless it has ended before.
#[pyfunction]
pub fn leave_within(seconds: f64, code: u8, text: String) -> PyResult<()> {
    let time = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO);
    thread::Builder::new().name("datamill-end".to_owned()).spawn(move || end_after(time, code, text))?;
    Ok(())
}

/// Ends the process after this time with this text on stderr.
#[allow(unsafe_code)]
pub fn end_after(time: Duration, code: u8, text: String) -> ! {
    thread::sleep(time);
    // nobody can be told that stderr is gone, or that there is no thread
    let write = move || drop(std::io::stderr().lock().write_all(text.as_bytes()));
    if thread::Builder::new().spawn(write).is_ok() {
        thread::sleep(SAID_WITHIN);
    }
    // SAFETY: it takes a number, does not return, and runs nothing of this process.
    unsafe { libc::_exit(code.into()) }
}
