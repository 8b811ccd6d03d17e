//! What a failed request means for the program, in words without secrets.

use std::error::Error;

use bytes::Bytes;

use crate::process::ProcessingError;

/// Errors of S3 and its likes that are about the one object, not about the set-up.
const ABOUT_THE_OBJECT: [&str; 9] = [
    "KeyTooLongError",
    "MetadataTooLarge",
    "EntityTooLarge",
    "InvalidURI",
    "BadDigest",
    "InvalidDigest",
    "XAmzContentSHA256Mismatch",
    "XAmzContentChecksumMismatch",
    "InvalidObjectName",
];

/// Longest text of a store that is passed on, in characters.
const SHOWN_CHARACTERS: usize = 300;

/// What `object_store` writes before the status of an answer.
const STATUS: &str = "non-2xx status code: ";

/// What it writes before an error that came after a status of success.
const ERROR_AFTER_SUCCESS: &str = "Server returned error response: ";

/// What came of a request that did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Another object is there than was seen before, or the upload is gone: look again.
    Changed {
        /// What the store said.
        said: String,
    },
    /// The rest.
    Error(ProcessingError),
}

/// The answer of a store that refuses something, cut down to its code and its message: whole, it may
/// repeat what was sent, credentials included.
pub(super) fn cleaned(body: &[u8]) -> Bytes {
    let text = String::from_utf8_lossy(body);
    let element = |name: &str| {
        let start = text.find(&format!("<{name}>"))? + name.len() + 2;
        let end = text[start..].find("</")?;
        Some(text[start..start + end].chars().filter(|c| !c.is_control()).take(SHOWN_CHARACTERS).collect::<String>())
    };
    let (code, message) = (element("Code"), element("Message"));
    let parts: Vec<String> = [code, message].into_iter().flatten().filter(|part| !part.is_empty()).collect();
    Bytes::from(parts.join(": "))
}

/// What a store answered.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: Option<u16>,
    /// `Code: message`, where the store gave one.
    text: String,
}

impl Answer {
    fn of(error: &object_store::Error) -> Self {
        let mut whole = innermost(error);
        if let Some(body) = whole.strip_prefix(ERROR_AFTER_SUCCESS) {
            whole = String::from_utf8_lossy(&cleaned(body.as_bytes())).into_owned();
        }
        let Some((_, answer)) = whole.split_once(STATUS) else {
            return Self { status: None, text: whole };
        };
        let (status, text) = answer.split_once(": ").unwrap_or((answer, ""));
        Self { status: status.get(..3).and_then(|digits| digits.parse().ok()), text: text.trim().to_owned() }
    }

    fn code(&self) -> &str {
        self.text.split(':').next().unwrap_or_default()
    }
}

/// The text of the cause at the bottom.
pub(super) fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut bottom = error;
    while let Some(source) = bottom.source() {
        bottom = source;
    }
    bottom.to_string()
}

/// What a failed request means while a file is on its way to `key` at `store`.
pub(super) fn of(error: &object_store::Error, store: &str, key: &str) -> Failure {
    use object_store::Error as Store;
    let answer = Answer::of(error);
    let said = match answer.status {
        Some(status) if answer.text.is_empty() => format!("status {status}"),
        _ => answer.text.clone(),
    };
    Failure::Error(match error {
        Store::AlreadyExists { .. } | Store::Precondition { .. } | Store::NotModified { .. } => {
            return Failure::Changed { said };
        }
        Store::NotFound { .. } if answer.code() == "NoSuchUpload" => return Failure::Changed { said },
        Store::NotFound { .. } => {
            ProcessingError::stop(format_args!("`{store}` is not there ({said}): make it, or correct its name"))
        }
        Store::PermissionDenied { .. } | Store::Unauthenticated { .. } => refused(store, key, &said),
        Store::NotImplemented { .. } | Store::NotSupported { .. } => {
            ProcessingError::stop(format_args!("`{store}` cannot do what is asked of it: {said}"))
        }
        Store::InvalidPath { .. } => {
            ProcessingError::file_failed(format_args!("`{store}` takes no object of the name `{key}`: {said}"))
        }
        _ => match answer.status {
            Some(408 | 425 | 429 | 500 | 502..=599) => not_available(store, &said),
            Some(501) => ProcessingError::stop(format_args!(
                "`{store}` knows no conditional writes ({said}): say so with `conditional_put = disabled` in [s3], or \
                AWS_CONDITIONAL_PUT=disabled"
            )),
            Some(_) if ABOUT_THE_OBJECT.contains(&answer.code()) => {
                ProcessingError::file_failed(format_args!("`{store}` does not take `{key}`: {said}"))
            }
            Some(400) if answer.code() == "RequestTimeout" => not_available(store, &said),
            Some(_) => refused(store, key, &said),
            None => without_answer(error, store, key, &said),
        },
    })
}

fn refused(store: &str, key: &str, said: &str) -> ProcessingError {
    ProcessingError::stop(format_args!(
        "`{store}` refuses access to `{key}` ({said}): check the credentials, the region and what they may do there"
    ))
}

pub(super) fn not_available(store: &str, said: &str) -> ProcessingError {
    ProcessingError::not_available(format_args!("`{store}` is not available: {said}"))
}

/// A connection that failed, or a folder on this machine.
fn without_answer(error: &object_store::Error, store: &str, key: &str, said: &str) -> ProcessingError {
    use std::io::ErrorKind as Io;
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            match io.kind() {
                Io::InvalidFilename | Io::IsADirectory | Io::NotADirectory => {
                    return ProcessingError::file_failed(format_args!(
                        "`{store}` takes no object of the name `{key}`: {said}"
                    ));
                }
                Io::PermissionDenied | Io::ReadOnlyFilesystem => return refused(store, key, said),
                _ => {}
            }
        }
        cause = error.source();
    }
    not_available(store, said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::ErrorKind;

    fn kind_of(source: &str) -> ErrorKind {
        let error = object_store::Error::Generic { store: "S3", source: source.to_owned().into() };
        match of(&error, "s3://b", "k") {
            Failure::Error(error) => error.kind(),
            Failure::Changed { .. } => panic!("{source}"),
        }
    }

    #[test]
    fn answers_are_told_apart_by_what_helps() {
        for (answer, kind) in [
            ("503 Service Unavailable: SlowDown: reduce", ErrorKind::NotAvailable),
            ("429 Too Many Requests: ", ErrorKind::NotAvailable),
            ("500 Internal Server Error: InternalError: x", ErrorKind::NotAvailable),
            ("400 Bad Request: RequestTimeout: idle", ErrorKind::NotAvailable),
            ("400 Bad Request: ExpiredToken: old", ErrorKind::Stop),
            ("400 Bad Request: AuthorizationHeaderMalformed: region", ErrorKind::Stop),
            ("501 Not Implemented: NotImplemented: header", ErrorKind::Stop),
            ("400 Bad Request: KeyTooLongError: too long", ErrorKind::FileFailed),
            ("400 Bad Request: BadDigest: damaged", ErrorKind::FileFailed),
        ] {
            assert_eq!(kind_of(&format!("Server returned {STATUS}{answer}")), kind, "{answer}");
        }
        assert_eq!(kind_of("connection refused"), ErrorKind::NotAvailable);
    }

    #[test]
    fn a_refusal_is_passed_on_without_what_was_sent() {
        let body = b"<?xml version=\"1.0\"?><Error><Code>InvalidAccessKeyId</Code><Message>no such\nkey</Message>\
            <AWSAccessKeyId>AKIAMARKER</AWSAccessKeyId></Error>";
        assert_eq!(cleaned(body), "InvalidAccessKeyId: no suchkey");
        assert_eq!(cleaned(b"plain text with AKIAMARKER"), "");
        assert_eq!(cleaned(b"<Code>half"), "");
    }
}
