//! The words of a command with their placeholders, and the environment that says the same.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use datamill::broker::nearest;

/// What a placeholder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    Path,
    Result,
    RelativePath,
    Filename,
    Subdirectory,
    Sha512,
    Size,
    Topic,
    Partition,
    Offset,
    Attempt,
}

const ALL: [(Name, &str); 11] = [
    (Name::Path, "path"),
    (Name::Result, "result"),
    (Name::RelativePath, "relative_path"),
    (Name::Filename, "filename"),
    (Name::Subdirectory, "subdirectory"),
    (Name::Sha512, "sha512"),
    (Name::Size, "size"),
    (Name::Topic, "topic"),
    (Name::Partition, "partition"),
    (Name::Offset, "offset"),
    (Name::Attempt, "attempt"),
];

impl Name {
    fn known(text: &[u8]) -> Option<Self> {
        ALL.iter().find(|(_, name)| name.as_bytes() == text).map(|(name, _)| *name)
    }

    fn text(self) -> &'static str {
        ALL.iter().find(|(name, _)| *name == self).map_or("", |(_, text)| text)
    }

    /// The environment variable with the same value.
    pub(crate) fn variable(self) -> String {
        format!("DATAMILL_{}", self.text().to_uppercase())
    }

    /// How it is written.
    pub(crate) fn placeholder(self) -> String {
        format!("{{{}}}", self.text())
    }

    /// Whether an uploader chooses the value.
    pub(crate) fn is_chosen_by_uploaders(self) -> bool {
        matches!(self, Self::Path | Self::RelativePath | Self::Filename | Self::Subdirectory)
    }
}

/// The values for one run. What is missing (the result of a processor) has no placeholder and no variable.
pub(crate) type Values = Vec<(Name, OsString)>;

/// The environment of a run.
pub(crate) fn environment(values: &Values) -> Vec<(String, OsString)> {
    values.iter().map(|(name, value)| (name.variable(), value.clone())).collect()
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Value(Name),
}

/// A word with its placeholders. Other braces are text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word(Vec<Part>);

impl Word {
    pub(crate) fn parse(word: &OsStr) -> Self {
        let (mut parts, mut text, mut rest) = (Vec::new(), Vec::new(), word.as_bytes());
        while let Some((first, behind)) = rest.split_first() {
            let inside = (*first == b'{').then(|| behind.split(|byte| *byte == b'}').next()).flatten();
            let name = inside.filter(|inside| inside.len() < behind.len()).and_then(Name::known);
            match (name, inside) {
                (Some(name), Some(inside)) => {
                    if !text.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut text)));
                    }
                    parts.push(Part::Value(name));
                    rest = &behind[inside.len() + 1..];
                }
                _ => {
                    text.push(*first);
                    rest = behind;
                }
            }
        }
        if !text.is_empty() || parts.is_empty() {
            parts.push(Part::Text(text));
        }
        Self(parts)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = Name> {
        self.0.iter().filter_map(|part| match part {
            Part::Value(name) => Some(*name),
            Part::Text(_) => None,
        })
    }

    pub(crate) fn filled(&self, values: &Values) -> OsString {
        let mut word = Vec::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => word.extend_from_slice(text),
                Part::Value(name) => {
                    let value = values.iter().find(|(known, _)| known == name);
                    word.extend_from_slice(value.map_or(&[][..], |(_, value)| value.as_bytes()));
                }
            }
        }
        OsString::from_vec(word)
    }
}

/// How other programs call some of them.
const OTHERS: [(&str, &str); 6] = [
    ("file", "path"),
    ("file_path", "path"),
    ("input", "path"),
    ("output", "result"),
    ("name", "filename"),
    ("relpath", "relative_path"),
];

/// What stands in braces and was probably meant as a placeholder: as it was written, and the right one.
pub(crate) fn mistaken(words: &[OsString]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for word in words {
        let word = word.to_string_lossy();
        for behind in word.split('{').skip(1) {
            let Some((inside, _)) = behind.split_once('}') else { continue };
            let is_name = inside.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ' '));
            if !is_name || Name::known(inside.as_bytes()).is_some() {
                continue;
            }
            let names = ALL.iter().map(|(_, name)| *name);
            let other = OTHERS.iter().find(|(other, _)| inside.eq_ignore_ascii_case(other)).map(|(_, name)| *name);
            if let Some(near) = other.or(nearest(inside.trim(), names, 1).first().copied()) {
                found.push((format!("{{{inside}}}"), format!("{{{near}}}")));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(word: &str) -> String {
        let values = vec![(Name::Path, "/w/a b.csv".into()), (Name::Size, "3".into())];
        Word::parse(OsStr::new(word)).filled(&values).into_string().unwrap()
    }

    #[test]
    fn placeholders_are_replaced_inside_of_words_and_other_braces_stay() {
        for (word, wanted) in [
            ("{path}", "/w/a b.csv"),
            ("--in={path}:{size}", "--in=/w/a b.csv:3"),
            ("{print $1}", "{print $1}"),
            ("{", "{"),
            ("{path", "{path"),
            ("{{path}}", "{/w/a b.csv}"),
            ("{}", "{}"),
            ("{Path}", "{Path}"),
            ("", ""),
        ] {
            assert_eq!(filled(word), wanted, "{word}");
        }
    }

    #[test]
    fn words_that_are_not_utf8_stay_as_they_are() {
        let word = OsString::from_vec(b"\xff{size}".to_vec());
        assert_eq!(Word::parse(&word).filled(&vec![(Name::Size, "3".into())]).as_bytes(), b"\xff3");
    }

    #[test]
    fn what_was_probably_meant_is_named() {
        let words =
            ["{Path}", "{relative-path}", "{print $1}", "{sha512}", "{resul}", "{x}", "{file}"].map(OsString::from);
        let found = mistaken(&words);
        let wanted = [
            ("{Path}", "{path}"),
            ("{relative-path}", "{relative_path}"),
            ("{resul}", "{result}"),
            ("{file}", "{path}"),
        ];
        assert_eq!(found, wanted.map(|(written, meant)| (written.to_owned(), meant.to_owned())));
    }

    #[test]
    fn each_value_has_an_environment_variable() {
        let values = vec![(Name::RelativePath, "a/b".into())];
        assert_eq!(environment(&values), [("DATAMILL_RELATIVE_PATH".to_owned(), OsString::from("a/b"))]);
    }
}
