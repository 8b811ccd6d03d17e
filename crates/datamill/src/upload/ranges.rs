//! Numbers of chunks as runs: chunks of one file are acknowledged nearly in order, so the numbers of
//! the largest file stay a few runs.

use std::fmt;

/// A set of numbers, kept as runs in ascending order that do not touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    /// Adds a number.
    pub fn insert(&mut self, number: u32) {
        let at = self.0.partition_point(|&(first, _)| first <= number);
        if at > 0 && self.0[at - 1].1 >= number {
            return;
        }
        let joins_before = at > 0 && self.0[at - 1].1 + 1 == number;
        let joins_after = at < self.0.len() && number + 1 == self.0[at].0;
        match (joins_before, joins_after) {
            (true, true) => {
                self.0[at - 1].1 = self.0[at].1;
                self.0.remove(at);
            }
            (true, false) => self.0[at - 1].1 = number,
            (false, true) => self.0[at].0 = number,
            (false, false) => self.0.insert(at, (number, number)),
        }
    }

    /// How many numbers there are.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// The numbers from 1 to `total` that are missing.
    pub fn missing(&self, total: u32) -> Self {
        let mut missing = Vec::new();
        let mut next = 1;
        for &(first, last) in &self.0 {
            if next < first {
                missing.push((next, first - 1));
            }
            next = last + 1;
        }
        if next <= total {
            missing.push((next, total));
        }
        Self(missing)
    }
}

/// `1-4 7 9-12`
impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (first, last)) in self.0.iter().enumerate() {
            let gap = if number > 0 { " " } else { "" };
            if first == last {
                write!(f, "{gap}{first}")?;
            } else {
                write!(f, "{gap}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_join_whatever_the_order() {
        let mut ranges = Ranges::default();
        for number in [5, 1, 3, 2, 9, 8, 9, 4] {
            ranges.insert(number);
        }
        assert_eq!(ranges.to_string(), "1-5 8-9");
        assert_eq!(ranges.count(), 7);
        assert_eq!(ranges.missing(10).to_string(), "6-7 10");
        assert_eq!(Ranges::default().missing(2).to_string(), "1-2");
        ranges.insert(6);
        ranges.insert(7);
        assert_eq!(ranges.to_string(), "1-9");
        assert_eq!(ranges.missing(9), Ranges::default());
    }
}
