//! Frames on a pipe: a length in four bytes, little-endian, then that many bytes of JSON.

use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::cmsg_space;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Descriptors that a frame takes along, at most.
const MOST_PASSED: usize = 8;

/// No command line is as long, and nothing else is longer.
const LONGEST: usize = 16 << 20;

/// Takes frames from a pipe.
#[derive(Debug)]
pub(super) struct Frames<F> {
    from: F,
    buffer: Vec<u8>,
}

impl<F: AsFd> Frames<F> {
    pub(super) fn new(from: F) -> Self {
        Self { from, buffer: Vec::new() }
    }

    pub(super) fn pipe(&self) -> &F {
        &self.from
    }

    /// Reads what is there, or waits for it. `false` where the pipe has been closed.
    pub(super) fn read(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 64 << 10];
        loop {
            match rustix::io::read(&self.from, &mut bytes) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.buffer.extend_from_slice(&bytes[..count]);
                    return Ok(true);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// As [`read`](Self::read), from a socket. The descriptors that come along are put behind those in `passed`.
    pub(super) fn receive(&mut self, passed: &mut Vec<OwnedFd>) -> io::Result<bool> {
        let mut bytes = [0; 64 << 10];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_PASSED))];
        loop {
            let mut along = RecvAncillaryBuffer::new(&mut space);
            let into = &mut [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.from, into, &mut along, RecvFlags::CMSG_CLOEXEC) {
                Ok(got) if got.bytes == 0 => return Ok(false),
                Ok(got) => {
                    for message in along.drain() {
                        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                            passed.extend(descriptors);
                        }
                    }
                    self.buffer.extend_from_slice(&bytes[..got.bytes]);
                    return Ok(true);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The next frame that was read as a whole.
    pub(super) fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some((length, behind)) = self.buffer.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > LONGEST {
            return Err(io::Error::other(format!("a frame of {length} bytes is not one of a keeper")));
        }
        let Some(frame) = behind.get(..length) else { return Ok(None) };
        let frame = serde_json::from_slice(frame)?;
        self.buffer.drain(..4 + length);
        Ok(Some(frame))
    }
}

/// Writes a frame.
pub(super) fn send(to: &mut impl Write, frame: &impl Serialize) -> io::Result<()> {
    to.write_all(&bytes(frame)?)?;
    to.flush()
}

/// Writes a frame with descriptors, which are there before its last byte is.
pub(super) fn send_with(to: &mut UnixStream, frame: &impl Serialize, passed: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = bytes(frame)?;
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_PASSED))];
    let mut along = SendAncillaryBuffer::new(&mut space);
    if !along.push(SendAncillaryMessage::ScmRights(passed)) {
        return Err(io::Error::other("too many descriptors for a frame"));
    }
    let sent = loop {
        match sendmsg(&*to, &[IoSlice::new(&bytes)], &mut along, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            sent => break sent?,
        }
    };
    to.write_all(&bytes[sent..])
}

fn bytes(frame: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, frame)?;
    let length = u32::try_from(bytes.len() - 4).map_err(io::Error::other)?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// Waits until one of them can be read or has been closed, or the time is over. Answers which can.
pub(crate) fn wait<const N: usize>(pipes: [Option<&dyn AsFd>; N], time: Option<Duration>) -> io::Result<[bool; N]> {
    let until = time.map(|time| Instant::now() + time);
    let mut asked: Vec<PollFd<'_>> =
        pipes.iter().flatten().map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)).collect();
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.map(|left| left.try_into().map_err(io::Error::other)).transpose()?;
        match poll(&mut asked, left.as_ref()) {
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut asked = asked.iter();
    Ok(pipes.map(|pipe| pipe.and_then(|_| asked.next()).is_some_and(|asked| !asked.revents().is_empty())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn frames_come_whole_and_in_order_however_they_are_cut() {
        let (mut to, from) = UnixStream::pair().unwrap();
        let mut frames = Frames::new(from);
        let mut bytes = Vec::new();
        let long = "x".repeat(5000);
        send(&mut bytes, &"first").unwrap();
        send(&mut bytes, &long).unwrap();
        let mut got: Vec<String> = Vec::new();
        for part in bytes.chunks(700) {
            to.write_all(part).unwrap();
            assert!(frames.read().unwrap());
            while let Some(frame) = frames.next().unwrap() {
                got.push(frame);
            }
        }
        assert_eq!(got, ["first", &long]);
        drop(to);
        assert!(!frames.read().unwrap());
    }

    #[test]
    fn descriptors_come_with_their_frame() {
        let (mut to, from) = UnixStream::pair().unwrap();
        let (mut frames, mut passed) = (Frames::new(from), Vec::new());
        let (mut reader, writer) = std::io::pipe().unwrap();
        send_with(&mut to, &"take these", &[writer.as_fd(), writer.as_fd()]).unwrap();
        drop(writer);
        assert!(frames.receive(&mut passed).unwrap());
        assert_eq!((frames.next::<String>().unwrap().unwrap().as_str(), passed.len()), ("take these", 2));
        for descriptor in passed.drain(..) {
            assert_eq!(rustix::io::write(&descriptor, b"x"), Ok(1));
        }
        let mut written = String::new();
        std::io::Read::read_to_string(&mut reader, &mut written).unwrap();
        assert_eq!(written, "xx");
        drop(to);
        assert!(!frames.receive(&mut passed).unwrap());
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let (mut to, from) = UnixStream::pair().unwrap();
        let mut frames = Frames::new(from);
        to.write_all(b"hello world").unwrap();
        frames.read().unwrap();
        assert!(frames.next::<String>().unwrap_err().to_string().contains("is not one of a keeper"));
    }

    #[test]
    fn what_can_be_read_is_told_from_what_cannot() {
        let ((mut to, from), (_open, silent)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let pipes: [Option<&dyn AsFd>; 3] = [None, Some(&silent), Some(&from)];
        assert_eq!(wait(pipes, Some(Duration::from_millis(1))).unwrap(), [false; 3]);
        to.write_all(b"x").unwrap();
        assert_eq!(wait(pipes, None).unwrap(), [false, false, true]);
    }
}
