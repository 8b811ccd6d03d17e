//! Versions of programs, as people write them: numbers with points between.

use std::cmp::Ordering;

/// A part of a version. A word makes a version an earlier one: `2.0rc1` comes before `2.0`.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part<'a> {
    Word(&'a str),
    /// Number of its digits without leading zeros, and these: numbers may be dates, and longer.
    Number(usize, &'a str),
}

const ZERO: Part<'static> = Part::Number(0, "");

fn parts(version: &str) -> Vec<Part<'_>> {
    let version = version.trim().trim_start_matches(['v', 'V']);
    let mut parts = Vec::new();
    for piece in version.split(|c: char| !c.is_alphanumeric()) {
        let mut rest = piece;
        while let Some(first) = rest.chars().next() {
            let is_digit = first.is_ascii_digit();
            let end = rest.find(|c: char| c.is_ascii_digit() != is_digit).unwrap_or(rest.len());
            let (part, left) = rest.split_at(end);
            let digits = part.trim_start_matches('0');
            parts.push(if is_digit { Part::Number(digits.len(), digits) } else { Part::Word(part) });
            rest = left;
        }
    }
    parts
}

/// Compares two versions number by number: `1.10` comes after `1.9`, `1.0` and `1.0.0` are the same, and a word comes
/// before any number, as in `2.0rc1` and `2.0`.
pub(crate) fn compare_versions(a: &str, b: &str) -> Ordering {
    let (a, b) = (parts(a), parts(b));
    let all = 0..a.len().max(b.len());
    all.map(|i| a.get(i).unwrap_or(&ZERO).cmp(b.get(i).unwrap_or(&ZERO)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// Whether a version is one by which others can be chosen: it begins with a number, has no characters of patterns, and no
/// word alone between two points, as in `2.x`.
pub fn is_comparable_version(version: &str) -> bool {
    let version = version.trim();
    let has_digit = |piece: &str| piece.contains(|c: char| c.is_ascii_digit());
    version.chars().all(|c| c.is_alphanumeric() || ".-+_".contains(c))
        && matches!(parts(version).first(), Some(Part::Number(..)))
        && version.split('.').all(has_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_number_by_number() {
        let ascending =
            ["", "0.9", "1.0.dev3", "1.0rc1", "1.0rc2", "1.0", "1.0.1", "1.9", "v1.10", "2", "2026.9.1", "2026.11.1"];
        for (i, a) in ascending.iter().enumerate().skip(1) {
            for (j, b) in ascending.iter().enumerate().skip(1) {
                assert_eq!(compare_versions(a, b), i.cmp(&j), "{a} and {b}");
            }
        }
        for (a, b) in [("1", "1.0.0"), ("1.02", "1.2"), ("v3", "3"), (" 1.0", "1-0")] {
            assert_eq!(compare_versions(a, b), Ordering::Equal, "{a} and {b}");
        }
        for version in ["2", "2.0", "v1.10", "1.0rc1", "1.0.dev3", "1.0-beta.2", "2026.11.1", " 1.0"] {
            assert!(is_comparable_version(version), "{version}");
        }
        for version in ["", "2.x", "2.*", "x", "latest", "2.", "v", "a3f9", "2.0 or so", "1..2"] {
            assert!(!is_comparable_version(version), "{version}");
        }
        let long = "99999999999999999999999999";
        assert_eq!(compare_versions(long, "1"), Ordering::Greater);
    }
}
