//! Which of two versions of a path is the newer one, and what happens to the one that is there.

use std::cmp::Ordering;
use std::time::SystemTime;

use datamill_wire::hex;

use crate::assemble::DownloadDataFile;

/// What happens when another version of a file is there already. The same version is left as it is in
/// each case: that is what a repetition after a crash finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum OnExists {
    /// The newer version stays or comes: the one whose upload began later in the partition. Where that
    /// cannot be told (versions of different partitions or topics, or a file that somebody else put
    /// there), the later modification time decides; where that does not either, both are kept
    #[default]
    Newer,
    /// What is there stays
    Skip,
    /// What comes replaces what is there, also where it is older
    Replace,
    /// Both are kept: what comes gets a name with the start of its SHA-512 in it
    Version,
    /// What is there stays, and the file that comes has failed
    Fail,
}

/// What [`OnExists`] comes to for two versions that differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Nothing is written; the file counts as delivered.
    Leave,
    /// What comes takes the name.
    Replace,
    /// What comes is stored under its [`version_name`].
    KeepBoth,
    /// The file has failed.
    Fail,
}

impl OnExists {
    /// What to do with a version that stands in this order to the one that is there.
    pub(crate) fn decide(self, order: Order) -> Decision {
        match (self, order) {
            (Self::Replace, _) | (Self::Newer, Order::Newer) => Decision::Replace,
            (Self::Skip, _) | (Self::Newer, Order::Older) => Decision::Leave,
            (Self::Version, _) | (Self::Newer, Order::Unknown) => Decision::KeepBoth,
            (Self::Fail, _) => Decision::Fail,
        }
    }
}

/// Where in a log an upload begins.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// What identifies the topic.
    pub(crate) topic: String,
    /// What may be kept as its `topic` of an upload that came while the log told no id of the topic: such a one is
    /// taken for one of this topic.
    pub(crate) by_name: Option<String>,
    pub(crate) partition: i32,
    /// Offset of its first chunk there.
    pub(crate) offset: i64,
    /// Time of its first chunk, milliseconds since the epoch.
    pub(crate) time_ms: i64,
}

/// By what is kept of a place.
impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        let kept = |place: &Self| (place.partition, place.offset, place.time_ms);
        self.topic == other.topic && kept(self) == kept(other)
    }
}

impl Eq for Place {}

impl Place {
    /// That of a file. A file that is spread over partitions counts as one of the lowest of them.
    pub(crate) fn of(file: &DownloadDataFile) -> Option<Self> {
        let span = file.spans().iter().min_by_key(|span| span.partition)?;
        Some(Self {
            topic: file.topic_id().to_owned(),
            by_name: file.topic_by_name().map(str::to_owned),
            partition: span.partition,
            offset: span.first,
            time_ms: file.first_record_ms(),
        })
    }

    /// Equal where the places say nothing. A lower offset at a later time is what a topic gives that was
    /// deleted and made again under its name.
    fn against(&self, there: &Self) -> Ordering {
        let is_same = self.topic == there.topic || self.by_name.as_ref() == Some(&there.topic);
        if !is_same || self.partition != there.partition {
            return Ordering::Equal;
        }
        match self.offset.cmp(&there.offset) {
            Ordering::Less if self.time_ms > there.time_ms => Ordering::Equal,
            order => order,
        }
    }
}

/// What tells which of two versions is the newer one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Stand {
    /// `None` for what somebody else put there.
    pub(crate) place: Option<Place>,
    /// When it was last changed at its source.
    pub(crate) modified: Option<SystemTime>,
}

/// How a version that comes stands to the one that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Newer,
    Older,
    Unknown,
}

impl Stand {
    pub(crate) fn of(file: &DownloadDataFile) -> Self {
        Self { place: Place::of(file), modified: file.modified() }
    }

    /// How this version, which comes, stands to another one, which is there. Both being one upload is no
    /// question of order: look at the places or the hashes first.
    pub(crate) fn against(&self, there: &Self) -> Order {
        let by_place = match (&self.place, &there.place) {
            (Some(a), Some(b)) => a.against(b),
            _ => Ordering::Equal,
        };
        let by_time = || match (self.modified, there.modified) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => Ordering::Equal,
        };
        match by_place.then_with(by_time) {
            Ordering::Greater => Order::Newer,
            Ordering::Less => Order::Older,
            Ordering::Equal => Order::Unknown,
        }
    }
}

/// Digits of the SHA-512 in the name of a version.
const DIGITS: usize = 12;

/// Digits of the SHA-512 of a name that was too long, in its shortened form.
const NAME_DIGITS: usize = 8;

/// Bytes that a name may have on the usual file systems.
pub(crate) const LONGEST_NAME: usize = 255;

/// The name that a version has beside another one of its path: `scan.csv` becomes `scan.1f40fc92da24.csv`.
/// It is the same for the same content, so that a repetition finds it. Where it would have more than
/// `longest` bytes, the stem is shortened, and digits of the whole name keep it apart from names that begin alike:
/// `sca.1f40fc92da24-9c1185a5.csv`.
pub(crate) fn version_name(filename: &str, sha512: &[u8; 64], longest: usize) -> String {
    let digits = &hex(sha512)[..DIGITS];
    let (stem, suffix) = match filename.rfind('.') {
        Some(at) if at > 0 => filename.split_at(at),
        _ => (filename, ""),
    };
    let name = format!("{stem}.{digits}{suffix}");
    if name.len() <= longest {
        return name;
    }
    let of_name = &hex(&datamill_wire::sha512(filename.as_bytes()))[..NAME_DIGITS];
    let added = format!(".{digits}-{of_name}");
    // a suffix that takes all the room is no suffix
    let (stem, suffix) = if added.len() + suffix.len() < longest { (stem, suffix) } else { (filename, "") };
    let room = longest - added.len() - suffix.len();
    format!("{}{added}{suffix}", &stem[..stem.floor_char_boundary(room)])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn stand(place: Option<(&str, i32, i64)>, seconds: Option<u64>) -> Stand {
        let place = place.map(|(topic, partition, offset)| Place {
            topic: topic.to_owned(),
            by_name: None,
            partition,
            offset,
            time_ms: 1000,
        });
        Stand { place, modified: seconds.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)) }
    }

    #[test]
    fn the_partition_decides_and_the_time_where_it_cannot() {
        let old = stand(Some(("t", 1, 7)), Some(100));
        for (incoming, order) in [
            (stand(Some(("t", 1, 8)), Some(50)), Order::Newer),
            (stand(Some(("t", 1, 6)), Some(500)), Order::Older),
            (stand(Some(("t", 0, 1)), Some(101)), Order::Newer),
            (stand(Some(("u", 1, 99)), Some(99)), Order::Older),
            (stand(None, Some(101)), Order::Newer),
            (stand(Some(("t", 0, 9)), Some(100)), Order::Unknown),
            (stand(Some(("t", 0, 9)), None), Order::Unknown),
        ] {
            assert_eq!(incoming.against(&old), order, "{incoming:?}");
        }
    }

    #[test]
    fn a_topic_that_was_made_again_does_not_make_a_version_older() {
        let old = stand(Some(("t", 1, 700)), Some(100));
        let mut again = stand(Some(("t", 1, 3)), Some(101));
        assert_eq!(again.against(&old), Order::Older);
        again.place.as_mut().unwrap().time_ms = 2000;
        assert_eq!(again.against(&old), Order::Newer, "the modification time decides");
        again.modified = None;
        assert_eq!(again.against(&old), Order::Unknown);
    }

    #[test]
    fn an_upload_that_was_kept_by_the_name_of_its_topic_stands_in_the_order_of_the_topic() {
        let old = stand(Some(("log/t", 1, 700)), Some(100));
        let mut comes = stand(Some(("log/id", 1, 701)), Some(50));
        assert_eq!(comes.against(&old), Order::Older, "another topic: the time decides");
        comes.place.as_mut().unwrap().by_name = Some("log/t".to_owned());
        assert_eq!(comes.against(&old), Order::Newer);
        comes.place.as_mut().unwrap().offset = 3;
        assert_eq!(comes.against(&old), Order::Older);
        let again = stand(Some(("log/another id", 1, 9000)), Some(101));
        assert_eq!(comes.against(&again), Order::Older, "the time decides between a topic and the one before it");
    }

    #[test]
    fn by_default_neither_of_two_versions_is_lost_when_their_order_is_unknown() {
        let all = [Order::Newer, Order::Older, Order::Unknown];
        let decisions = all.map(|order| OnExists::default().decide(order));
        assert_eq!(decisions, [Decision::Replace, Decision::Leave, Decision::KeepBoth]);
    }

    #[test]
    fn a_version_has_a_name_of_its_own_with_the_same_suffix() {
        let hash = [0x1f; 64];
        for (name, version) in [
            ("scan.csv", "scan.1f1f1f1f1f1f.csv"),
            ("a.tar.gz", "a.tar.1f1f1f1f1f1f.gz"),
            ("README", "README.1f1f1f1f1f1f"),
            (".hidden", ".hidden.1f1f1f1f1f1f"),
        ] {
            assert_eq!(version_name(name, &hash, LONGEST_NAME), version);
        }
    }
    #[test]
    fn the_name_of_a_version_is_never_too_long_and_stays_one_of_its_own() {
        let hash = [0x1f; 64];
        let at_the_limit = format!("{}.csv", "x".repeat(255 - 4 - 13));
        assert_eq!(version_name(&at_the_limit, &hash, LONGEST_NAME), format!("{}.1f1f1f1f1f1f.csv", "x".repeat(238)));
        let long = ["x".repeat(255), format!("x.{}", "y".repeat(253)), format!(".{}", "y".repeat(254))];
        let with_suffix = ["a", "b"].map(|last| format!("{}{last}.csv", "x".repeat(250)));
        let of_wide_letters = ["ä", "€", "𝄞"].map(|letter| format!("{}.csv", letter.repeat(251 / letter.len())));
        let names: Vec<String> = long.into_iter().chain(with_suffix).chain(of_wide_letters).collect();
        let versions: Vec<String> = names.iter().map(|name| version_name(name, &hash, LONGEST_NAME)).collect();
        for (i, (name, version)) in names.iter().zip(&versions).enumerate() {
            assert!(version.len() <= 255 && version.len() > 240, "{version}");
            assert!(version.contains(".1f1f1f1f1f1f-") && !versions[..i].contains(version), "{version}");
            assert_eq!(version.ends_with(".csv"), name.ends_with(".csv"), "{version}");
            assert_eq!(version_name(name, &hash, usize::MAX).len(), name.len() + 13);
            assert_ne!(*version, version_name(name, &[0x2f; 64], LONGEST_NAME));
        }
    }
}
