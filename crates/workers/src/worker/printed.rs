//! What a worker prints: taken at any time, so that it never waits for datamill.

use std::io::{self, PipeReader};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::keeper::{Excerpt, Reading, wait};

/// The two streams of a worker, which a thread of its own empties.
#[derive(Debug)]
pub(super) struct Printed(Arc<[Stream; 2]>);

#[derive(Debug)]
struct Stream {
    /// To wait on without the lock.
    waited: PipeReader,
    reading: Mutex<Reading<PipeReader>>,
}

impl Stream {
    fn new(from: PipeReader) -> io::Result<Self> {
        Ok(Self { waited: from.try_clone()?, reading: Mutex::new(Reading::new(from)?) })
    }

    /// Answers whether more may come.
    fn read(&self) -> bool {
        let mut reading = self.reading.lock();
        reading.read();
        reading.is_open
    }

    fn has_some(&self) -> bool {
        !self.reading.lock().is_empty()
    }

    fn excerpt(&self) -> Excerpt {
        self.reading.lock().excerpt()
    }
}

impl Printed {
    /// Takes what comes from now on. The thread ends when nobody has the other ends any more.
    pub(super) fn take(stdout: PipeReader, stderr: PipeReader) -> io::Result<Self> {
        let streams = Arc::new([Stream::new(stdout)?, Stream::new(stderr)?]);
        let taken = Arc::clone(&streams);
        std::thread::Builder::new().name("datamill-printed".to_owned()).spawn(move || {
            let mut are_open = [true; 2];
            while are_open != [false; 2] {
                let asked: [Option<&dyn AsFd>; 2] =
                    [0, 1].map(|n| are_open[n].then_some(&taken[n].waited as &dyn AsFd));
                let Ok(can_be_read) = wait(asked, None) else { return };
                for n in [0, 1] {
                    if can_be_read[n] {
                        are_open[n] = taken[n].read();
                    }
                }
            }
        })?;
        Ok(Self(streams))
    }

    /// What was printed since the last time: stdout and stderr. All that was printed before this is there.
    pub(super) fn excerpts(&self) -> [Excerpt; 2] {
        [self.0[0].excerpt(), self.0[1].excerpt()]
    }

    /// Whether something was printed since.
    pub(super) fn is_there(&self) -> bool {
        let [stdout, stderr] = &*self.0;
        let waits = wait([Some(&stdout.waited), Some(&stderr.waited)], Some(Duration::ZERO));
        waits.is_ok_and(|waits| waits != [false; 2]) || [stdout, stderr].iter().any(|stream| stream.has_some())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_was_printed_before_is_there_and_more_than_a_pipe_holds_blocks_nobody() {
        let ((stdout, mut to), (stderr, mut complain)) = (io::pipe().unwrap(), io::pipe().unwrap());
        let printed = Printed::take(stdout, stderr).unwrap();
        to.write_all(b"first\n").unwrap();
        assert_eq!(printed.excerpts()[0].last_lines(5, 100), ["first"]);
        // nobody asks meanwhile
        complain.write_all(&vec![b'x'; 1 << 20]).unwrap();
        complain.write_all(b"\nthe end\n").unwrap();
        let [stdout, stderr] = printed.excerpts();
        assert_eq!(stdout, Excerpt::default());
        assert_eq!(stderr.last_lines(1, 100), ["the end"]);
        assert!(stderr.omitted > 1_000_000);
    }
}
