//! A stream that a command prints to, and what of it is kept.

use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;

use super::excerpt::{Excerpt, Gathered};

/// Reads of a pipe before the others have their turn. Together they take all that a pipe holds.
const READS: usize = 16;

/// The end that is read.
#[derive(Debug)]
pub(crate) struct Reading<P> {
    pub(crate) from: P,
    gathered: Gathered,
    pub(crate) is_open: bool,
}

impl<P: AsFd> Reading<P> {
    pub(crate) fn new(from: P) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&from, true)?;
        Ok(Self { from, gathered: Gathered::default(), is_open: true })
    }

    /// Takes what is there, for a while.
    pub(crate) fn read(&mut self) {
        let mut bytes = [0; 64 << 10];
        for _ in 0..READS {
            match rustix::io::read(&self.from, &mut bytes) {
                Ok(0) => self.is_open = false,
                Ok(count) => {
                    self.gathered.take(&bytes[..count]);
                    continue;
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {}
                Err(_) => self.is_open = false,
            }
            return;
        }
    }

    /// Whether nothing was taken since the last time.
    pub(crate) fn is_empty(&self) -> bool {
        self.gathered.is_empty()
    }

    /// What was printed since the last time, with what is there now.
    pub(crate) fn excerpt(&mut self) -> Excerpt {
        self.read();
        std::mem::take(&mut self.gathered).excerpt()
    }
}
