//! The frames between datamill and a worker that stays.
//!
//! ```text
//! frame   { length: u32 big-endian, header: JSON of this length, payload: as many bytes as the header says in `bytes` }
//!
//! to the worker    { "type": "file", "id": …, … }
//! from the worker  { "type": "hello", "version": 1, … } once, then an answer for each file, in their order:
//!                  { "type": "result" | "nothing" | "failed" | "not_available" | "stop", "id": …, … }
//! ```
//!
//! A header has 1 MiB at most, a payload 2 GiB. Nothing is allocated from a claimed length.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use datamill::process::{Answer, ProcessingError, ReproducerMessage};
use serde::{Deserialize, Serialize};

use super::content::Place;

/// The version that this speaks.
pub(super) const VERSION: u32 = 1;

const LONGEST_HEADER: usize = 1 << 20;
/// No topic takes more.
const LONGEST_PAYLOAD: u64 = i32::MAX as u64;

/// A file for the worker.
#[derive(Debug, Serialize)]
pub(super) struct FileHeader<'a> {
    pub(super) r#type: &'static str,
    /// The answer repeats it.
    pub(super) id: u64,
    pub(super) relative_path: &'a str,
    pub(super) filename: &'a str,
    pub(super) subdirectory: &'a str,
    pub(super) sha512: String,
    pub(super) size: u64,
    /// Seconds since 1970, where the uploader said it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) modified: Option<f64>,
    pub(super) chunks: u32,
    pub(super) topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) partition: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offset: Option<i64>,
    pub(super) attempt: u32,
    pub(super) is_last_attempt: bool,
    #[serde(flatten)]
    pub(super) place: Place,
}

/// A frame with a file; its content where that is in the frame.
pub(super) fn file(header: &FileHeader<'_>, content: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, header)?;
    // names of files are some thousand bytes at most
    let length = u32::try_from(frame.len() - 4).unwrap_or(u32::MAX);
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(content);
    Ok(frame)
}

/// What a worker says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Hello {
    pub(super) version: u32,
    /// Its name, for the log.
    #[serde(default)]
    pub(super) program: String,
    /// How it wants the content.
    #[serde(default)]
    pub(super) content: Wanted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Wanted {
    /// Whatever costs least.
    #[default]
    Any,
    /// As a file with its own name.
    Path,
}

/// A header of a worker.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Said {
    Hello(Hello),
    Result {
        id: u64,
        #[serde(default)]
        bytes: u64,
        key: Option<Bytes>,
        #[serde(default)]
        headers: Vec<(String, Bytes)>,
        /// What the worker has to say of the result, for the log.
        warning: Option<String>,
    },
    Nothing {
        id: u64,
    },
    Failed {
        id: u64,
        reason: String,
    },
    NotAvailable {
        id: u64,
        reason: String,
    },
    Stop {
        id: u64,
        reason: String,
    },
}

/// Bytes in JSON, as `datamill read` prints them.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Bytes {
    Text(String),
    Binary { base64: String },
}

impl Bytes {
    fn decode(self) -> Result<Vec<u8>, String> {
        match self {
            Self::Text(text) => Ok(text.into_bytes()),
            Self::Binary { base64 } => STANDARD.decode(base64).map_err(|error| format!("no base64: {error}")),
        }
    }
}

/// An answer to a file.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) id: u64,
    pub(super) answer: Answer,
    pub(super) warning: Option<String>,
}

/// A frame of a worker.
#[derive(Debug)]
pub(super) enum Frame {
    Hello(Hello),
    Answer(Answered),
}

/// Takes frames of a worker.
#[derive(Debug, Default)]
pub(super) struct Frames {
    buffer: Vec<u8>,
    /// The header whose payload is not there yet.
    header: Option<Said>,
}

impl Frames {
    /// Where bytes are put that are read, with room for so many.
    pub(super) fn room(&mut self, bytes: usize) -> &mut Vec<u8> {
        self.buffer.reserve(bytes);
        &mut self.buffer
    }

    /// The next frame that is there as a whole.
    ///
    /// # Errors
    /// What the worker has written is no frame: why.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, String> {
        if self.header.is_none() {
            let Some((length, behind)) = self.buffer.split_first_chunk::<4>() else { return Ok(None) };
            let length = u32::from_be_bytes(*length) as usize;
            if length > LONGEST_HEADER {
                return Err(format!("a header of {length} bytes, and {LONGEST_HEADER} are the most"));
            }
            let Some(header) = behind.get(..length) else { return Ok(None) };
            let said: Said =
                serde_json::from_slice(header).map_err(|error| format!("a header that is none: {error}"))?;
            self.header = Some(said);
            self.buffer.drain(..4 + length);
        }
        let bytes = match &self.header {
            Some(Said::Result { bytes, .. }) => *bytes,
            _ => 0,
        };
        if bytes > LONGEST_PAYLOAD {
            return Err(format!("a result of {bytes} bytes, and {LONGEST_PAYLOAD} are the most"));
        }
        // on every system that this is for, an address has at least 32 bits
        let bytes = bytes as usize;
        let Some(said) = self.header.take_if(|_| self.buffer.len() >= bytes) else { return Ok(None) };
        let rest = self.buffer.split_off(bytes);
        let payload = std::mem::replace(&mut self.buffer, rest);
        said.with(payload).map(Some)
    }
}

impl Said {
    fn with(self, payload: Vec<u8>) -> Result<Frame, String> {
        let (id, answer, warning) = match self {
            Self::Hello(hello) => return Ok(Frame::Hello(hello)),
            Self::Result { id, key, headers, warning, .. } => {
                let mut message = ReproducerMessage::new(payload);
                if let Some(key) = key {
                    message = message.with_key(key.decode()?);
                }
                for (name, value) in headers {
                    message = message.with_header(name, value.decode()?);
                }
                (id, Ok(Some(message)), warning)
            }
            Self::Nothing { id } => (id, Ok(None), None),
            Self::Failed { id, reason } => (id, Err(ProcessingError::file_failed(reason)), None),
            Self::NotAvailable { id, reason } => (id, Err(ProcessingError::not_available(reason)), None),
            Self::Stop { id, reason } => (id, Err(ProcessingError::stop(reason)), None),
        };
        Ok(Frame::Answer(Answered { id, answer, warning }))
    }
}

#[cfg(test)]
mod tests {
    use datamill::process::ErrorKind;

    use super::*;

    fn frame(header: &str, payload: &[u8]) -> Vec<u8> {
        [&(header.len() as u32).to_be_bytes()[..], header.as_bytes(), payload].concat()
    }

    fn all(bytes: &[u8], cut: usize) -> Result<Vec<Frame>, String> {
        let (mut frames, mut got) = (Frames::default(), Vec::new());
        for part in bytes.chunks(cut) {
            frames.room(part.len()).extend_from_slice(part);
            while let Some(frame) = frames.next()? {
                got.push(frame);
            }
        }
        Ok(got)
    }

    #[test]
    fn frames_come_whole_and_in_order_however_they_are_cut() {
        let bytes = [
            frame(r#"{"type":"hello","version":1,"program":"a","content":"path","more":[1]}"#, b""),
            frame(r#"{"type":"result","id":1,"bytes":5,"key":"k","headers":[["a",{"base64":"/w=="}]]}"#, b"value"),
            frame(r#"{"type":"result","id":2,"warning":"odd"}"#, b""),
            frame(r#"{"type":"failed","id":3,"reason":"no header"}"#, b""),
            frame(r#"{"type":"not_available","id":4,"reason":"away"}"#, b""),
            frame(r#"{"type":"stop","id":5,"reason":"no licence"}"#, b""),
            frame(r#"{"type":"nothing","id":6}"#, b""),
        ]
        .concat();
        for cut in [1, 7, bytes.len()] {
            let mut got = all(&bytes, cut).unwrap().into_iter();
            let hello = Hello { version: 1, program: "a".to_owned(), content: Wanted::Path };
            assert!(matches!(got.next(), Some(Frame::Hello(found)) if found == hello));
            let answers = got.map(|frame| match frame {
                Frame::Answer(answered) => answered,
                Frame::Hello(hello) => panic!("{hello:?}"),
            });
            let mut kinds = Vec::new();
            for (number, Answered { id, answer, warning }) in (1..).zip(answers) {
                assert_eq!((id, warning.is_some()), (number, number == 2));
                kinds.push(answer.map_err(|error| (error.kind(), error.to_string())));
            }
            let first = ReproducerMessage::new("value").with_key("k").with_header("a", vec![0xff]);
            let failed = |kind, reason: &str| Err((kind, reason.to_owned()));
            let wanted = [
                Ok(Some(first)),
                Ok(Some(ReproducerMessage::new(""))),
                failed(ErrorKind::FileFailed, "no header"),
                failed(ErrorKind::NotAvailable, "away"),
                failed(ErrorKind::Stop, "no licence"),
                Ok(None),
            ];
            assert_eq!(kinds, wanted);
        }
    }

    #[test]
    fn what_is_no_frame_is_refused_before_anything_is_made_from_its_lengths() {
        for (bytes, said) in [
            (b"hello world".to_vec(), "a header of 1751477356 bytes"),
            (frame("{}", b""), "a header that is none"),
            (frame(r#"{"type":"done","id":1}"#, b""), "unknown variant `done`"),
            (frame(r#"{"type":"result","id":1,"bytes":2147483648}"#, b""), "a result of 2147483648 bytes"),
            (frame(r#"{"type":"result","id":1,"key":{"base64":"?"}}"#, b""), "no base64"),
            (frame("\u{0}", b""), "a header that is none"),
        ] {
            let error = all(&bytes, 3).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
