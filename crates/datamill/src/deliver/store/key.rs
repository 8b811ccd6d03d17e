//! The key of an object: `{prefix}/{topic}/{subdir}/{filename}`, letter for letter where a store takes it.
//!
//! ```text
//! escape   "%" and two hex digits in capitals, for one byte
//! of       a control character (00 to 1F, 7F); a part that is "." or "..", each dot as "%2E";
//!          a "%" that would read as one of these escapes, as "%25";
//!          in a local folder also the "#" of a name that ends in "#" and digits, as "%23"
//! ```
//! No two names have one key, and names without such characters are as they were.

use object_store::path::{Error, Path};

use super::super::on_exists::LONGEST_NAME;

/// What a store takes as a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    Any,
    /// A local folder: `object_store` keeps `name#1` and the like for files that are being written.
    Local,
}

impl Names {
    /// Bytes that the last part of a key may have, as far as the kind of store says.
    pub(super) fn longest(self) -> usize {
        match self {
            Self::Any => usize::MAX,
            // `#1` is added while the file is written
            Self::Local => LONGEST_NAME - 2,
        }
    }
}

/// The key of a file.
///
/// # Errors
/// A name that no key can be made of, whatever is escaped.
pub(super) fn key(prefix: &Path, names: Names, topic: &str, subdir: &str, filename: &str) -> Result<Path, Error> {
    let mut key = String::new();
    for part in prefix.as_ref().split('/').filter(|part| !part.is_empty()) {
        key.push_str(part);
        key.push('/');
    }
    for part in std::iter::once(topic).chain(subdir.split('/')).filter(|part| !part.is_empty()) {
        escape(part, &mut key);
        key.push('/');
    }
    match (names, staged(filename)) {
        (Names::Local, Some((name, digits))) => {
            escape(name, &mut key);
            key.push_str("%23");
            key.push_str(digits);
        }
        _ => escape(filename, &mut key),
    }
    Path::parse(key)
}

/// What the keys of all files of a topic begin with.
pub(super) fn folder(prefix: &Path, topic: &str) -> Result<Path, Error> {
    let parts = prefix.as_ref().split('/').chain([topic]).filter(|part| !part.is_empty());
    Path::parse(parts.collect::<Vec<_>>().join("/"))
}

/// The path of the file whose key ends with this, behind the topic: what [`key`] escapes is as it was.
pub(super) fn path_of(escaped: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(escaped.len()), escaped);
    while let Some(at) = rest.find('%') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let is_one = is_escape(&rest[at..]);
        match u8::from_str_radix(rest.get(at + 1..at + 3).unwrap_or_default(), 16) {
            Ok(byte) if is_one => {
                bytes.push(byte);
                rest = &rest[at + 3..];
            }
            _ => {
                bytes.push(b'%');
                rest = &rest[at + 1..];
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The parts of a name that `object_store` takes for a file that is being written.
fn staged(filename: &str) -> Option<(&str, &str)> {
    let (name, digits) = filename.split_once('#')?;
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some((name, digits))
}

fn escape(part: &str, key: &mut String) {
    if matches!(part, "." | "..") {
        key.push_str(&part.replace('.', "%2E"));
        return;
    }
    for (at, character) in part.char_indices() {
        if character.is_ascii_control() || (character == '%' && is_escape(&part[at..])) {
            key.push_str(&format!("%{:02X}", character as u32));
        } else {
            key.push(character);
        }
    }
}

/// Whether a text begins like something that [`escape`] writes.
fn is_escape(text: &str) -> bool {
    let Some(digits) = text.as_bytes().get(1..3) else { return false };
    matches!(digits, [b'0' | b'1', b'0'..=b'9' | b'A'..=b'F'] | b"7F" | b"2E" | b"25" | b"23")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn of(subdir: &str, filename: &str) -> String {
        key(&Path::default(), Names::Any, "t", subdir, filename).unwrap().to_string()
    }

    #[test]
    fn names_stay_as_they_are() {
        for (subdir, filename, wanted) in [
            ("", "scan.csv", "t/scan.csv"),
            ("run 1/Öl", " a#1?*&+~.csv ", "t/run 1/Öl/ a#1?*&+~.csv "),
            ("100%", "50%20.x", "t/100%/50%20.x"),
            ("a\\b", "[x]{y}|^`\"<>", "t/a\\b/[x]{y}|^`\"<>"),
        ] {
            assert_eq!(of(subdir, filename), wanted);
        }
        let prefix = Path::parse("lab/x").unwrap();
        assert_eq!(key(&prefix, Names::Any, "t", "s", "f").unwrap().as_ref(), "lab/x/t/s/f");
    }

    #[test]
    fn what_a_key_cannot_hold_is_escaped_and_stays_apart_from_what_looks_like_it() {
        assert_eq!(of("a\nb", "x\u{7f}"), "t/a%0Ab/x%7F");
        assert_eq!(of("a%0Ab", "x%250A"), "t/a%250Ab/x%25250A");
        let local = |name| key(&Path::default(), Names::Local, "t", "", name).unwrap().to_string();
        assert_eq!([local("a#12"), local("a%2312"), local("a#x1")], ["t/a%2312", "t/a%252312", "t/a#x1"]);
    }

    proptest! {
        #[test]
        fn no_two_names_have_one_key(names in prop::collection::vec("[a%0-3AEF#.\n\t\u{7f}ä]{1,7}", 2..40)) {
            for which in [Names::Any, Names::Local] {
                let mut seen = BTreeMap::new();
                for name in &names {
                    let key = key(&Path::default(), which, "t", "", name).unwrap().to_string();
                    if let Some(other) = seen.insert(key.clone(), name) {
                        prop_assert_eq!(other, name);
                    }
                    prop_assert_eq!(path_of(key.strip_prefix("t/").unwrap()), name.as_str());
                }
            }
        }
    }
}
