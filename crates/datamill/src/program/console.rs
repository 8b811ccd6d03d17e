//! The console and the signals of a running program.
//!
//! `c` or `check` prints the counts, `q` or `quit` stops in order. SIGINT stops in order and leaves
//! the group, SIGTERM keeps the place in the group for a restart; a second signal leaves at once.

use std::io::{self, BufRead, IsTerminal};
use std::sync::Arc;

use super::Exit;
use crate::engine::{Control, StopKind};

/// Lets the console and the signals steer the program from here on.
///
/// # Errors
/// Threads or signal handlers that cannot be made.
pub fn steer(control: &Arc<Control>) -> io::Result<()> {
    signals(Arc::clone(control))?;
    let control = Arc::clone(control);
    std::thread::Builder::new().name("datamill-console".to_owned()).spawn(move || {
        if may_read() {
            console(&control);
        }
    })?;
    Ok(())
}

/// A program in the background of a terminal would be stopped by the system if it read from it.
#[cfg(unix)]
fn may_read() -> bool {
    let stdin = io::stdin();
    !stdin.is_terminal()
        || rustix::termios::tcgetpgrp(&stdin).is_ok_and(|foreground| foreground == rustix::process::getpgrp())
}

#[cfg(not(unix))]
fn may_read() -> bool {
    true
}

fn console(control: &Control) {
    if io::stdin().is_terminal() {
        tracing::info!("type `c` for the counts, `q` to stop");
    }
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        match line.trim().to_ascii_lowercase().as_str() {
            "c" | "check" => control.check(),
            "q" | "quit" => control.stop(StopKind::Leave),
            "" => {}
            other => tracing::warn!(typed = other, "type `c` for the counts, `q` to stop"),
        }
    }
}

#[cfg(unix)]
fn signals(control: Arc<Control>) -> io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};

    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("datamill-signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if control.stopping().is_some() {
                leave_at_once();
            }
            control.stop(if signal == SIGTERM { StopKind::KeepPlace } else { StopKind::Leave });
        }
    })?;
    Ok(())
}

#[cfg(not(unix))]
fn signals(_: Arc<Control>) -> io::Result<()> {
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a second signal asks for just that; what is not committed is read again"
)]
fn leave_at_once() -> ! {
    std::process::exit(Exit::AtOnce.code().into())
}
