//! Names for people, of which there may be very many.

use std::fmt;

use super::text;

/// Names that are kept of each kind; the rest is counted.
pub(crate) const NAMES_KEPT: usize = 5;

/// Some names and how many there were in all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// How many.
    pub count: u64,
    /// The first few, as text for people.
    pub first: Vec<String>,
}

impl Named {
    pub(crate) fn add(&mut self, name: impl Into<String>) {
        self.count += 1;
        if self.first.len() < NAMES_KEPT {
            self.first.push(name.into());
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.first.iter().map(|name| format!("`{}`", text::printable(name))).collect();
        f.write_str(&names.join(", "))?;
        if self.count > self.first.len() as u64 { f.write_str(", …") } else { Ok(()) }
    }
}
