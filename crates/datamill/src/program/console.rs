//! The console and the signals of a running program.
//!
//! `c` or `check` prints the counts, `q` or `quit` stops in order. SIGINT stops in order and leaves
//! the group, SIGTERM and SIGHUP keep the place in the group for a restart; a second signal leaves at once.
//! On Windows the events of the console stand in the place of signals.

#[cfg(windows)]
mod events;

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
pub fn steer(control: &Arc<Control>, ends_by_itself: bool, at_once: AtOnce) -> io::Result<()> {
    heed_signals(control, at_once)?;
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
pub fn heed_signals(control: &Arc<Control>, at_once: AtOnce) -> io::Result<()> {
    signals(Arc::clone(control), at_once)
}

/// What is said where a second signal ends the program at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtOnce {
    /// The next start goes on with what was not finished.
    GoesOn,
    /// What was not sent is sent by whoever asks for it.
    SendsMissing,
    /// Nothing was changed.
    LookedOnly,
}

impl AtOnce {
    fn text(self) -> &'static str {
        match self {
            Self::GoesOn => "left at once; what was not finished is done again at the next start",
            Self::SendsMissing => {
                "left at once; some files may be missing on the topic: the same command with --only-missing sends them"
            }
            Self::LookedOnly => "left at once",
        }
    }
}

#[cfg(unix)]
fn signals(control: Arc<Control>, at_once: AtOnce) -> io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    if heeds_hang_up() {
        signals.add_signal(SIGHUP)?;
    }
    std::thread::Builder::new().name("datamill-signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            match (signal, control.stopping()) {
                // a terminal that goes away may say so twice, by its shell and by the system
                (SIGHUP, Some(_)) => {}
                (_, Some(_)) => leave_at_once(at_once),
                (SIGINT, None) => control.stop(StopKind::Leave),
                (_, None) => control.stop(StopKind::KeepPlace),
            }
        }
    })?;
    Ok(())
}

#[cfg(windows)]
fn signals(control: Arc<Control>, at_once: AtOnce) -> io::Result<()> {
    events::heed(control, at_once)
}

/// Whether SIGHUP stops the program: not where whoever started it has it ignored, as `nohup` does. Only Linux tells that
/// without a change of the handler; elsewhere the signal keeps its meaning.
#[cfg(unix)]
fn heeds_hang_up() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| !ignores_hang_up(&status))
}

/// Whether a process with this status ignores SIGHUP, the signal with number 1.
#[cfg(unix)]
fn ignores_hang_up(status: &str) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.is_none_or(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & 1 == 1))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a second signal asks for just that; what is not committed is read again"
)]
fn leave_at_once(at_once: AtOnce) -> ! {
    say(at_once.text());
    std::process::exit(Exit::AtOnce.code().into())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_hang_up_that_is_ignored_stays_so() {
        let of = |mask: &str| ignores_hang_up(&format!("Name:\tx\nSigBlk:\t0\nSigIgn:\t{mask}\nSigCgt:\t1\n"));
        assert!(of("0000000000000001") && of("0000000000001001"));
        assert!(!of("0000000000001000") && !of("0000000000000000"));
    }
}
