//! The console and the signals of a running program.
//!
//! `c` or `check` prints the counts, `q` or `quit` stops in order. SIGINT stops in order and leaves
//! the group, SIGTERM keeps the place in the group for a restart; a second signal leaves at once.

use std::io::{self, BufRead, IsTerminal};
use std::sync::Arc;
#[cfg(unix)]
use std::time::Duration;

use super::Exit;
use crate::engine::{Control, StopKind};
use crate::report::logging::say;

/// How often a program in the background of a terminal looks whether it is in front of it.
#[cfg(unix)]
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Lets the console and the signals steer the program from here on.
///
/// One that ends by itself hears a terminal alone: what else its stdin is may belong to the loop of a shell that runs it
/// for each line of a list.
///
/// # Errors
/// Threads or signal handlers that cannot be made.
pub fn steer(control: &Arc<Control>, ends_by_itself: bool) -> io::Result<()> {
    heed_signals(control)?;
    if ends_by_itself && !io::stdin().is_terminal() {
        return Ok(());
    }
    let control = Arc::clone(control);
    std::thread::Builder::new().name("datamill-console".to_owned()).spawn(move || console(&control))?;
    Ok(())
}

#[cfg(unix)]
fn console(control: &Control) {
    if io::stdin().is_terminal() { terminal(control) } else { lines(control) }
}

#[cfg(not(unix))]
fn console(control: &Control) {
    lines(control);
}

fn lines(control: &Control) {
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        obey(&line, control);
    }
}

/// Reads only what is there, and only in the foreground: the system stops a program that reads from its
/// terminal in the background.
#[cfg(unix)]
fn terminal(control: &Control) {
    use rustix::event::{PollFd, PollFlags, poll};

    let stdin = io::stdin();
    let look_every = LOOK_EVERY.try_into().ok();
    let mut typed = Vec::new();
    let mut told = false;
    loop {
        if !is_in_front(&stdin) {
            std::thread::sleep(LOOK_EVERY);
            continue;
        }
        if !std::mem::replace(&mut told, true) {
            tracing::info!("{HELP}");
        }
        let mut wait = [PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut wait, look_every.as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) if is_in_front(&stdin) => {}
            Ok(_) => continue,
            Err(_) => return,
        }
        let mut buffer = [0; 256];
        match rustix::io::read(&stdin, &mut buffer) {
            Ok(0) => return,
            Ok(count) => typed.extend_from_slice(&buffer[..count]),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
        while let Some(end) = typed.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = typed.drain(..=end).collect();
            obey(&String::from_utf8_lossy(&line), control);
        }
    }
}

#[cfg(unix)]
fn is_in_front(terminal: &io::Stdin) -> bool {
    rustix::termios::tcgetpgrp(terminal).is_ok_and(|foreground| foreground == rustix::process::getpgrp())
}

/// What can be typed.
const HELP: &str = "type `c` for the counts, `q` to stop";

fn obey(line: &str, control: &Control) {
    match line.trim().to_ascii_lowercase().as_str() {
        "c" | "check" => control.check(),
        "q" | "quit" => control.stop(StopKind::Leave),
        "" => {}
        other => tracing::warn!("`{}` means nothing here: {HELP}", other),
    }
}

/// Lets the signals alone steer the program: for one whose standard input is not its own to read.
///
/// # Errors
/// Threads or signal handlers that cannot be made.
pub fn heed_signals(control: &Arc<Control>) -> io::Result<()> {
    signals(Arc::clone(control))
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
    say("left at once; what was not finished is done again at the next start");
    std::process::exit(Exit::AtOnce.code().into())
}
