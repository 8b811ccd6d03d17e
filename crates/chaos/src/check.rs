//! The count: exactly one outcome for each upload of a file version.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::files::FAILS;

/// A version of a file: its path and its SHA-512 in hexadecimal.
pub type Version = (String, String);

/// How often each version is in the topic whole.
pub type Uploads = BTreeMap<Version, usize>;

/// A result that readers see.
#[derive(Debug, Clone)]
pub struct Seen {
    pub version: Version,
    /// What the function answered.
    pub value: String,
    /// Which upload it belongs to: the offsets of its chunks.
    pub offsets: String,
    /// When it was sent, milliseconds since the epoch.
    pub at_ms: i64,
}

/// An entry of the group's state for a file that failed.
#[derive(Debug, Clone)]
pub struct Failed {
    pub version: Version,
    /// Which upload it belongs to.
    pub spans: String,
}

/// What the count found.
#[derive(Debug, Default)]
pub struct Verdict {
    pub uploads: usize,
    pub versions: usize,
    pub results: usize,
    pub failures: usize,
    pub lost: usize,
    pub doubled: usize,
    pub wrong: usize,
    /// Rows of the registry files, where they are compared.
    pub registered: Option<usize>,
    /// What else must not happen: a program that crashed or hung.
    pub faults: Vec<String>,
    /// The first few of what is wrong.
    pub examples: Vec<String>,
}

impl Verdict {
    pub fn is_good(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.wrong == 0 && self.faults.is_empty() && self.uploads > 0
    }

    pub fn example(&mut self, text: String) {
        if self.examples.len() < 20 {
            self.examples.push(text);
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "uploads of files   {} ({} versions)", self.uploads, self.versions)?;
        writeln!(f, "outcomes           {} results, {} failures", self.results, self.failures)?;
        if let Some(rows) = self.registered {
            writeln!(f, "files in the folder {}, rows in the registry files {rows}", self.results)?;
        }
        writeln!(f, "lost               {}", self.lost)?;
        writeln!(f, "doubled            {}", self.doubled)?;
        writeln!(f, "wrong              {}", self.wrong)?;
        for text in self.examples.iter().chain(&self.faults) {
            writeln!(f, "  {text}")?;
        }
        f.write_str(if self.is_good() { "EXACTLY ONCE" } else { "NOT EXACTLY ONCE" })
    }
}

/// Counts. A version that is whole `n` times must have `n` outcomes of different offsets: results for
/// a good file, failures for a bad one.
pub fn check(uploads: &Uploads, results: &[Seen], failures: &[Failed]) -> Verdict {
    let mut verdict = Verdict {
        uploads: uploads.values().sum(),
        versions: uploads.len(),
        results: results.len(),
        failures: failures.len(),
        ..Verdict::default()
    };
    let mut found: BTreeMap<&Version, (Vec<&str>, Vec<&str>)> = BTreeMap::new();
    for seen in results {
        found.entry(&seen.version).or_default().0.push(&seen.offsets);
        if seen.value != seen.version.1 {
            verdict.wrong += 1;
            verdict.example(format!("the result of `{}` is not its hash: `{}`", seen.version.0, seen.value));
        }
    }
    for failed in failures {
        found.entry(&failed.version).or_default().1.push(&failed.spans);
    }
    for version in found.keys() {
        if !uploads.contains_key(version) {
            verdict.wrong += 1;
            verdict.example(format!("an outcome for `{}`, which was never sent whole", version.0));
        }
    }
    for (version, &times) in uploads {
        let (results, failures) = found.remove(version).unwrap_or_default();
        let (wanted, other) = if version.0.ends_with(FAILS) { (failures, results) } else { (results, failures) };
        let distinct: BTreeSet<&str> = wanted.iter().copied().collect();
        let lost = times.saturating_sub(distinct.len());
        let doubled = (wanted.len() - distinct.len()) + distinct.len().saturating_sub(times);
        verdict.lost += lost;
        verdict.doubled += doubled;
        verdict.wrong += other.len();
        if lost + doubled + other.len() > 0 {
            verdict.example(format!(
                "`{}` {}: sent {times} times, outcomes {wanted:?}, of the other kind {other:?}",
                version.0,
                &version.1[..version.1.len().min(12)]
            ));
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(path: &str) -> Version {
        (path.to_owned(), format!("hash of {path}"))
    }

    fn seen(path: &str, offsets: &str) -> Seen {
        let version = version(path);
        Seen { value: version.1.clone(), version, offsets: offsets.to_owned(), at_ms: 0 }
    }

    fn failed(path: &str, spans: &str) -> Failed {
        Failed { version: version(path), spans: spans.to_owned() }
    }

    fn uploads() -> Uploads {
        BTreeMap::from([(version("a"), 1), (version("b"), 2), (version("c.bad"), 1)])
    }

    /// What a faultless run leaves.
    fn good() -> (Vec<Seen>, Vec<Failed>) {
        (vec![seen("a", "0:0-1"), seen("b", "0:2-3"), seen("b", "0:4-5")], vec![failed("c.bad", "1:0-0")])
    }

    fn counts(results: &[Seen], failures: &[Failed]) -> (usize, usize, usize) {
        let verdict = check(&uploads(), results, failures);
        assert_eq!(verdict.is_good(), (verdict.lost, verdict.doubled, verdict.wrong) == (0, 0, 0));
        (verdict.lost, verdict.doubled, verdict.wrong)
    }

    #[test]
    fn one_outcome_for_each_upload_is_good() {
        let (results, failures) = good();
        assert_eq!(counts(&results, &failures), (0, 0, 0));
    }

    #[test]
    fn a_missing_result_and_a_missing_failure_are_lost() {
        let (results, failures) = good();
        assert_eq!(counts(&results[1..], &failures), (1, 0, 0));
        assert_eq!(counts(&results[..2], &failures), (1, 0, 0));
        assert_eq!(counts(&results, &[]), (1, 0, 0));
    }

    #[test]
    fn a_second_result_is_doubled_whatever_its_offsets() {
        let (mut results, failures) = good();
        results.push(seen("a", "0:0-1"));
        assert_eq!(counts(&results, &failures), (0, 1, 0));
        results.pop();
        results.push(seen("a", "0:8-9"));
        assert_eq!(counts(&results, &failures), (0, 1, 0));
    }

    #[test]
    fn a_doubled_result_does_not_hide_a_lost_one() {
        let (mut results, failures) = good();
        results[2] = results[1].clone();
        assert_eq!(counts(&results, &failures), (1, 1, 0));
    }

    #[test]
    fn a_result_of_a_file_that_failed_and_a_wrong_value_are_wrong() {
        let (mut results, failures) = good();
        results.push(seen("c.bad", "1:0-0"));
        results[0].value = "0".to_owned();
        assert_eq!(counts(&results, &failures), (0, 0, 2));
    }

    #[test]
    fn an_outcome_of_nothing_is_wrong() {
        let (mut results, failures) = good();
        results.push(seen("x", "1:3-3"));
        assert_eq!(counts(&results, &failures), (0, 0, 1));
    }

    #[test]
    fn a_run_without_files_or_with_a_fault_is_not_good() {
        assert!(!check(&BTreeMap::new(), &[], &[]).is_good());
        let (results, failures) = good();
        let mut verdict = check(&uploads(), &results, &failures);
        verdict.faults.push("a worker crashed".to_owned());
        assert!(!verdict.is_good());
    }
}
