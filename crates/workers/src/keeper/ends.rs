//! The descriptors of a worker that stays: how they get to the keeper, and to their numbers in the worker.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::{DupFlags, dup2, dup3};

/// What a worker has open beside its stdin, which is empty.
#[derive(Debug)]
pub(crate) struct WorkerEnds {
    /// It reads files here, as [`INPUT`].
    pub(crate) input: OwnedFd,
    /// It writes its answers here, as [`OUTPUT`].
    pub(crate) output: OwnedFd,
    /// What is large is here, as [`CONTENT`].
    pub(crate) content: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// The numbers in the worker.
pub(crate) const INPUT: i32 = 3;
pub(crate) const OUTPUT: i32 = 4;
pub(crate) const CONTENT: i32 = 5;

impl WorkerEnds {
    pub(super) fn passed(&self) -> [BorrowedFd<'_>; 5] {
        [&self.input, &self.output, &self.content, &self.stdout, &self.stderr].map(AsFd::as_fd)
    }

    pub(super) fn taken(passed: &mut Vec<OwnedFd>) -> io::Result<Self> {
        match <[OwnedFd; 5]>::try_from(std::mem::take(passed)) {
            Ok([input, output, content, stdout, stderr]) => Ok(Self { input, output, content, stdout, stderr }),
            Err(_) => Err(io::Error::other("a request came without the descriptors of a worker")),
        }
    }
}

/// The numbers that a worker finds its descriptors at, kept free in the keeper: what is there closes in each command.
#[derive(Debug)]
pub(super) struct Numbers {
    nothing: File,
    kept: [OwnedFd; 3],
}

impl Numbers {
    /// Takes the numbers. Nothing but stdin, stdout and stderr is open yet.
    pub(super) fn keep() -> io::Result<Self> {
        let nothing = || File::open("/dev/null");
        let kept: [OwnedFd; 3] = [nothing()?.into(), nothing()?.into(), nothing()?.into()];
        if kept.each_ref().map(AsRawFd::as_raw_fd) != [INPUT, OUTPUT, CONTENT] {
            return Err(io::Error::other("the descriptors of workers are taken"));
        }
        Ok(Self { nothing: nothing()?, kept })
    }

    /// Puts these there while `start` starts a process, which has them open then.
    pub(super) fn lend<T>(&mut self, lent: [OwnedFd; 3], start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let [input, output, content] = &mut self.kept;
        let placed = (|| {
            dup2(&lent[0], input)?;
            dup2(&lent[1], output)?;
            dup2(&lent[2], content)
        })();
        drop(lent);
        let started = placed.map_err(io::Error::from).and_then(|()| start());
        for number in &mut self.kept {
            dup3(&self.nothing, number, DupFlags::CLOEXEC)?;
        }
        started
    }
}
