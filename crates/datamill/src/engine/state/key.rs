//! The keys of a group's state. Here alone is how a key is written and read; the values are those of the module that
//! the table names. `docs/formats.md` has the same keys, with the releases that know them.
//!
//! ```text
//! key                                                         value                                           module
//! failed/{topic}/{partition}:{first offset}/{path}            JSON: a file that has no result, and why        entry
//! retry/{topic}/{number}/{partition}:{first offset}/{path}    empty: somebody asks for another try            failed
//! rerun/{topic}/{number}/{partition}:{first offset}/{path}    JSON: the result that is to be made again       rerun
//! started/{topic}/{partition}                                 id of the topic, or empty                       start
//! begun/{topic}/{partition}                                   offset and time of a start, id of the topic     tails
//! adopted/{topic}/{partition}                                 id of the topic of what has none                source
//! purpose/{topic}/{hash}                                      JSON: what the group is for                     purpose
//! in_hand/{topic}/{run}/{partition}:{first offset}            JSON: an end of the process during a call       in_hand
//! in_folder/{topic}/{id of the output folder's mark}          JSON: the folder that has failed files          delivery
//! taking/{topic}                                              number of the state on its way to the log       delivery
//! in_log/{key}                                                empty: the log has this key as well             delivery
//! progress/{topic}/{partition}/{hash of the text}             a text that does not fit beside its offset      progress
//! ```
//! A key that is not understood is another program's: it is passed over and stays.

use std::fmt;

use datamill_wire::{hex, sha512};

const FAILED: &str = "failed";
const RETRY: &str = "retry";
const RERUN: &str = "rerun";
const STARTED: &str = "started";
const BEGUN: &str = "begun";
const ADOPTED: &str = "adopted";
const PURPOSE: &str = "purpose";
const IN_HAND: &str = "in_hand";
const IN_FOLDER: &str = "in_folder";
const TAKING: &str = "taking";
const IN_LOG: &str = "in_log";
const PROGRESS: &str = "progress";

/// A key about one topic. See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Key<'a> {
    Failed(FileAt<'a>),
    /// A request has a number that no other one has.
    Retry {
        number: &'a str,
        file: FileAt<'a>,
    },
    Rerun {
        number: &'a str,
        file: FileAt<'a>,
    },
    Started {
        partition: i32,
    },
    Begun {
        partition: i32,
    },
    Adopted {
        partition: i32,
    },
    Purpose {
        id: &'a str,
    },
    InHand {
        run: &'a str,
        partition: i32,
        first: i64,
    },
    InFolder {
        mark: &'a str,
    },
    Taking,
    /// About another key, whatever its topic is.
    InLog {
        key: &'a str,
    },
    Progress {
        partition: i32,
        hash: &'a str,
    },
}

/// A file, and where its first chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) struct FileAt<'a> {
    pub(in crate::engine) partition: i32,
    pub(in crate::engine) first: i64,
    pub(in crate::engine) path: &'a str,
}

impl<'a> FileAt<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (at, path) = text.split_once('/')?;
        let (partition, first) = offset(at)?;
        Some(Self { partition, first, path })
    }
}

impl fmt::Display for FileAt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, first, path } = self;
        write!(f, "{partition}:{first}/{path}")
    }
}

/// Partition and offset.
fn offset(text: &str) -> Option<(i32, i64)> {
    let (partition, first) = text.split_once(':')?;
    Some((partition.parse().ok()?, first.parse().ok()?))
}

impl<'a> Key<'a> {
    /// `None` for keys of other topics, and for what something else wrote.
    pub(in crate::engine) fn parse(topic: &str, key: &'a str) -> Option<Self> {
        let (kind, rest) = key.split_once('/')?;
        if kind == IN_LOG {
            return Some(Self::InLog { key: rest });
        }
        let of_topic = rest.strip_prefix(topic)?;
        if kind == TAKING {
            return of_topic.is_empty().then_some(Self::Taking);
        }
        let rest = of_topic.strip_prefix('/')?;
        let partition = || rest.parse().ok();
        let request = || {
            let (number, file) = rest.split_once('/')?;
            Some((number, FileAt::parse(file)?))
        };
        Some(match kind {
            FAILED => Self::Failed(FileAt::parse(rest)?),
            RETRY => request().map(|(number, file)| Self::Retry { number, file })?,
            RERUN => request().map(|(number, file)| Self::Rerun { number, file })?,
            STARTED => Self::Started { partition: partition()? },
            BEGUN => Self::Begun { partition: partition()? },
            ADOPTED => Self::Adopted { partition: partition()? },
            PURPOSE => Self::Purpose { id: rest },
            IN_HAND => {
                let (run, at) = rest.split_once('/')?;
                let (partition, first) = offset(at)?;
                Self::InHand { run, partition, first }
            }
            IN_FOLDER => Self::InFolder { mark: rest },
            PROGRESS => {
                let (partition, hash) = rest.split_once('/')?;
                Self::Progress { partition: partition.parse().ok()?, hash }
            }
            _ => return None,
        })
    }

    /// The text of the key.
    pub(in crate::engine) fn of(&self, topic: &str) -> String {
        match self {
            Self::Failed(file) => format!("{FAILED}/{topic}/{file}"),
            Self::Retry { number, file } => format!("{RETRY}/{topic}/{number}/{file}"),
            Self::Rerun { number, file } => format!("{RERUN}/{topic}/{number}/{file}"),
            Self::Started { partition } => format!("{STARTED}/{topic}/{partition}"),
            Self::Begun { partition } => format!("{BEGUN}/{topic}/{partition}"),
            Self::Adopted { partition } => format!("{ADOPTED}/{topic}/{partition}"),
            Self::Purpose { id } => format!("{PURPOSE}/{topic}/{id}"),
            Self::InHand { run, partition, first } => format!("{IN_HAND}/{topic}/{run}/{partition}:{first}"),
            Self::InFolder { mark } => format!("{IN_FOLDER}/{topic}/{mark}"),
            Self::Taking => format!("{TAKING}/{topic}"),
            Self::InLog { key } => format!("{IN_LOG}/{key}"),
            Self::Progress { partition, hash } => format!("{PROGRESS}/{topic}/{partition}/{hash}"),
        }
    }
}

/// What all keys of failed files of a partition begin with.
pub(in crate::engine) fn failures_of(topic: &str, partition: i32) -> String {
    format!("{FAILED}/{topic}/{partition}:")
}

/// Whether a key of any topic says that the group has committed a position of a partition.
pub(in crate::engine) fn is_started(key: &str) -> bool {
    key.split_once('/').is_some_and(|(kind, _)| kind == STARTED)
}

/// The key of a text of progress. Each text has a key of its own: what is committed names a text that is there until the
/// next one is.
pub(in crate::engine) fn of_progress(topic: &str, partition: i32, text: &str) -> String {
    let hash = hex(&sha512(text.as_bytes())[..8]);
    Key::Progress { partition, hash: &hash }.of(topic)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    const FILE: FileAt<'static> = FileAt { partition: 3, first: 17, path: "a/b: c.dat" };

    const ALL: [(Key<'static>, &str); 12] = [
        (Key::Failed(FILE), "failed/t/3:17/a/b: c.dat"),
        (Key::Retry { number: "9-4", file: FILE }, "retry/t/9-4/3:17/a/b: c.dat"),
        (Key::Rerun { number: "9-4", file: FILE }, "rerun/t/9-4/3:17/a/b: c.dat"),
        (Key::Started { partition: 3 }, "started/t/3"),
        (Key::Begun { partition: 3 }, "begun/t/3"),
        (Key::Adopted { partition: 3 }, "adopted/t/3"),
        (Key::Purpose { id: "0123" }, "purpose/t/0123"),
        (Key::InHand { run: "9-4", partition: 3, first: 17 }, "in_hand/t/9-4/3:17"),
        (Key::InFolder { mark: "id" }, "in_folder/t/id"),
        (Key::Taking, "taking/t"),
        (Key::InLog { key: "failed/t/3:17/a" }, "in_log/failed/t/3:17/a"),
        (Key::Progress { partition: 3, hash: "89ab" }, "progress/t/3/89ab"),
    ];

    #[test]
    fn a_key_is_read_as_it_was_written_and_only_for_its_topic() {
        for (key, text) in ALL {
            assert_eq!(key.of("t"), text);
            assert_eq!(Key::parse("t", text), Some(key));
            let is_of_any = matches!(key, Key::InLog { .. });
            assert_eq!(Key::parse("other", text).is_some(), is_of_any, "{text}");
            assert_eq!(is_started(text), matches!(key, Key::Started { .. }), "{text}");
        }
        assert!(ALL[0].1.starts_with(&failures_of("t", 3)));
    }

    #[test]
    fn what_something_else_wrote_is_no_key() {
        let others = ["", "k", "failed/t", "failed/t/3:17", "failed/t/x:17/a", "failed/t/3/a/b", "failed/tt/3:17/a"];
        let more = ["retry/t/3:17/a", "retry/t/9-4/3:17", "started/t/u/3", "started/t/", "in_hand/t/3:17"];
        let last = ["in_hand/t/9-4/3:x", "taking/tt", "taking/t/", "progress/t/3", "progress/t/x/89ab", "later/t/3"];
        for text in others.into_iter().chain(more).chain(last) {
            assert_eq!(Key::parse("t", text), None, "{text}");
        }
    }

    /// The keys that a text has in the first column of a table.
    fn named<'t>(text: &'t str, begins: &str, ends: &str) -> BTreeSet<&'t str> {
        let first = |line: &'t str| line.strip_prefix(begins)?.split_once(ends).map(|(key, _)| key);
        let is_key = |key: &&str| {
            ALL.iter().any(|(_, text)| key.split_once('/').map(|k| k.0) == text.split_once('/').map(|k| k.0))
        };
        text.lines().filter_map(first).filter(is_key).collect()
    }

    #[test]
    fn the_page_of_formats_and_the_table_here_name_the_same_keys() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/formats.md");
        let page = std::fs::read_to_string(page).unwrap();
        let (here, there) = (named(include_str!("key.rs"), "//! ", "  "), named(&page, "| `", "`"));
        assert_eq!(here.len(), ALL.len());
        assert_eq!(here, there);
    }

    fn sources(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
    }

    #[test]
    fn no_key_is_written_or_read_elsewhere() {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let is_checked = |path: &PathBuf| {
            !path.ends_with("engine/state/key.rs") && !path.iter().any(|part| part == "tests" || part == "tests.rs")
        };
        let kinds = ALL.map(|(_, text)| format!("\"{}/", text.split_once('/').unwrap().0));
        for path in sources(&src).into_iter().filter(is_checked) {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            let is_code = |line: &&str| !line.trim_start().starts_with("//");
            for line in code.lines().filter(is_code) {
                assert!(!kinds.iter().any(|kind| line.contains(kind)), "{}: {line}", path.display());
            }
        }
    }
}
