//! Sizes on the command line.

use std::str::FromStr;

/// A number of bytes, written as `1048576`, `512K`, `256M`, `256MiB` or `2G` (powers of 1024).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(pub usize);

/// A text that is no size.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("write a number of bytes such as `512K`, `256M` or `2G`")]
pub struct NotASize;

impl FromStr for ByteSize {
    type Err = NotASize;

    fn from_str(text: &str) -> Result<Self, NotASize> {
        let text = text.trim();
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let power = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 1,
            "m" | "mb" | "mib" => 2,
            "g" | "gb" | "gib" => 3,
            _ => return Err(NotASize),
        };
        let number: usize = digits.parse().map_err(|_| NotASize)?;
        number.checked_mul(1 << (10 * power)).map(ByteSize).ok_or(NotASize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_a_unit() {
        for (text, bytes) in [("0", 0), ("17", 17), ("512K", 512 << 10), ("256MiB", 256 << 20), ("2 gb", 2 << 30)] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "M", "12X", "-1", "1.5G", "99999999999999999999", "9999999999999999G"] {
            assert_eq!(text.parse::<ByteSize>(), Err(NotASize), "{text}");
        }
    }
}
