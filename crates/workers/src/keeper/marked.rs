//! What a keeper has left that was killed itself: found by a variable in the environment of its commands.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::below::processes;

/// The variable. What a command starts has it as well, unless it makes an environment anew.
pub(super) const MARK: &str = "DATAMILL_KEEPER";

/// How long what was killed is looked for.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// Kills all processes with this mark, until there is none. Answers whether that is so.
pub(super) fn end_marked(mark: &str) -> bool {
    let variable = format!("{MARK}={mark}");
    let since = Instant::now();
    loop {
        let marked: Vec<Pid> = processes().filter(|process| has(*process, variable.as_bytes())).collect();
        if marked.is_empty() {
            return true;
        }
        for process in marked {
            // it may have ended by itself
            let _ = kill_process(process, Signal::KILL);
        }
        if since.elapsed() > ENDS_WITHIN {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A process of another user, or one that has ended, has none that can be read.
fn has(process: Pid, variable: &[u8]) -> bool {
    let environment = fs::read(format!("/proc/{}/environ", process.as_raw_pid())).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|known| known == variable)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_has_the_mark_is_ended_and_nothing_else() {
        let start = |mark: &str| Command::new("sh").args(["-c", "sleep 600; :"]).env(MARK, mark).spawn().unwrap();
        let (mark, other_mark) = (uuid::Uuid::new_v4().to_string(), uuid::Uuid::new_v4().to_string());
        let (mut marked, mut other) = (start(&mark), start(&other_mark));
        assert!(end_marked(&mark));
        assert!(!marked.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none());
        assert!(end_marked(&other_mark));
        other.wait().unwrap();
    }
}
