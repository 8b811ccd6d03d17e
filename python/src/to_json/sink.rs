//! The text that grows, and how JSON writes numbers and texts. Knows nothing of Python, so that it can work while
//! other threads hold the interpreter.

use std::fmt::Write as _;

use super::failure::{self, Failure, Written};
use super::{Dumped, Nan, Options};

/// No topic takes more: librdkafka's `message.max.bytes` ends there. In bytes.
pub(super) const LARGEST_TEXT: usize = 1_000_000_000;

/// The text so far, and what was left out of it.
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) out: String,
    pub(super) nan: Nan,
    pub(super) nans: u64,
    /// What allows NaN where it is refused.
    allows_nan: &'static str,
}

impl Sink {
    pub(super) fn new(options: &Options) -> Self {
        let allows_nan = if options.of_program { "`--nan null`" } else { "`nan=\"null\"`" };
        Self { out: String::with_capacity(256), nan: options.nan, nans: 0, allows_nan }
    }

    pub(super) fn finish(self) -> Dumped {
        Dumped { text: self.out, nans: self.nans }
    }

    /// Asked before each element, so that an endless sequence ends as an error and not with all memory taken.
    pub(super) fn room(&self) -> Written {
        if self.out.len() > LARGEST_TEXT { Err(failure::too_large()) } else { Ok(()) }
    }

    /// A text, in ASCII: what is beyond is escaped, as `json.dumps` does.
    pub(super) fn text(&mut self, text: &str) {
        self.out.push('"');
        let mut rest = text;
        while let Some(at) = rest.bytes().position(|b| b < 0x20 || b == b'"' || b == b'\\' || b >= 0x7f) {
            let (plain, special) = rest.split_at(at);
            self.out.push_str(plain);
            let mut chars = special.chars();
            if let Some(c) = chars.next() {
                self.escaped(c);
            }
            rest = chars.as_str();
        }
        self.out.push_str(rest);
        self.out.push('"');
    }

    fn escaped(&mut self, c: char) {
        match c {
            '"' => self.out.push_str("\\\""),
            '\\' => self.out.push_str("\\\\"),
            '\n' => self.out.push_str("\\n"),
            '\r' => self.out.push_str("\\r"),
            '\t' => self.out.push_str("\\t"),
            '\u{8}' => self.out.push_str("\\b"),
            '\u{c}' => self.out.push_str("\\f"),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    self.display(format_args!("\\u{unit:04x}"));
                }
            }
        }
    }

    pub(super) fn display(&mut self, value: impl std::fmt::Display) {
        let _ = write!(self.out, "{value}");
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.out.push_str(if value { "true" } else { "false" });
    }

    /// A number with the shortest digits that give it back, laid out as Python does.
    pub(super) fn float(&mut self, value: f64) -> Written {
        if value.is_finite() {
            push_float(&mut self.out, value);
            return Ok(());
        }
        self.no_number(match value {
            v if v.is_nan() => "NaN",
            v if v > 0.0 => "Infinity",
            _ => "-Infinity",
        })
    }

    /// A value that is none; `word` is Python's for it.
    pub(super) fn no_number(&mut self, word: &'static str) -> Written {
        self.nans += 1;
        match self.nan {
            Nan::Error => return Err(failure::not_finite(word, self.allows_nan)),
            Nan::Python if word != NO_TIME && word != NO_VALUE => self.out.push_str(word),
            Nan::Null | Nan::Python => self.out.push_str("null"),
        }
        Ok(())
    }

    /// Seconds that are given as a count of the 10⁻ⁿ-th part of a second, exactly.
    pub(super) fn seconds(&mut self, count: i128, n: u32) {
        if count < 0 {
            self.out.push('-');
        }
        let (count, unit) = (count.unsigned_abs(), 10_u128.pow(n));
        let (whole, part) = (count / unit, count % unit);
        if part == 0 {
            self.display(format_args!("{whole}.0"));
        } else {
            let digits = format!("{part:0width$}", width = n as usize);
            self.display(format_args!("{whole}.{}", digits.trim_end_matches('0')));
        }
    }

    /// The integer whose bytes these are, the lowest first.
    pub(super) fn large_integer(&mut self, negative: bool, bytes: &[u8]) {
        const DIGITS: u64 = 1_000_000_000;
        let mut limbs: Vec<u32> =
            bytes.chunks(4).map(|four| four.iter().rev().fold(0, |limb, b| limb << 8 | u32::from(*b))).collect();
        let mut groups = Vec::new();
        while !limbs.is_empty() {
            let mut rest = 0;
            for limb in limbs.iter_mut().rev() {
                let value = rest << 32 | u64::from(*limb);
                // the rest is below the divisor, so this fits
                *limb = (value / DIGITS) as u32;
                rest = value % DIGITS;
            }
            groups.push(rest);
            while limbs.last() == Some(&0) {
                limbs.pop();
            }
        }
        if negative {
            self.out.push('-');
        }
        self.display(groups.pop().unwrap_or(0));
        for group in groups.iter().rev() {
            self.display(format_args!("{group:09}"));
        }
    }
}

/// What numpy and pandas call a date or a duration that is none.
pub(super) const NO_TIME: &str = "NaT";
/// What pandas calls a value that is missing.
pub(super) const NO_VALUE: &str = "NA";

fn push_float(out: &mut String, value: f64) {
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value);
    let size = value.abs();
    if value == 0.0 || (1e-3..1e15).contains(&size) {
        // there both lay a number out in the same way
        return out.push_str(text);
    }
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let part = part.trim_end_matches('0');
    let digits = format!("{whole}{part}");
    let zeros = digits.len() - digits.trim_start_matches('0').len();
    let digits = digits.trim_start_matches('0');
    // the exponent of the first digit
    let exponent = exponent.parse::<i64>().unwrap_or(0) + whole.len() as i64 - 1 - zeros as i64;
    let _ = match exponent {
        -4..0 => write!(out, "{sign}0.{digits:0>0$}", digits.len() + (-exponent) as usize - 1),
        0..16 if digits.len() as i64 <= exponent + 1 => write!(out, "{sign}{digits:0<0$}.0", exponent as usize + 1),
        0..16 => {
            let (whole, part) = digits.split_at(exponent as usize + 1);
            write!(out, "{sign}{whole}.{part}")
        }
        _ => {
            let digits = digits.trim_end_matches('0');
            let (first, rest) = digits.split_at(1);
            let point = if rest.is_empty() { "" } else { "." };
            let direction = if exponent < 0 { '-' } else { '+' };
            write!(out, "{sign}{first}{point}{rest}e{direction}{:02}", exponent.abs())
        }
    };
}

/// How the elements of an array lie in its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    pub(super) kind: Number,
    /// Bytes of an element, of a complex one's half.
    pub(super) size: usize,
    pub(super) big_endian: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    Bool,
    Signed,
    Unsigned,
    Float,
    Complex,
}

impl Numbers {
    /// Writes the element with this index.
    pub(super) fn write(self, sink: &mut Sink, bytes: &[u8], index: usize) -> Written {
        match self.kind {
            Number::Bool => sink.bool(self.raw(bytes, index) != 0),
            Number::Unsigned => sink.display(self.raw(bytes, index)),
            Number::Signed => sink.display(self.signed(bytes, index)),
            Number::Float => return sink.float(self.float(bytes, index)),
            Number::Complex => {
                sink.out.push('[');
                sink.float(self.float(bytes, 2 * index)).map_err(|failure: Failure| failure.at(0))?;
                sink.out.push_str(", ");
                sink.float(self.float(bytes, 2 * index + 1)).map_err(|failure: Failure| failure.at(1))?;
                sink.out.push(']');
            }
        }
        Ok(())
    }

    pub(super) fn signed(self, bytes: &[u8], index: usize) -> i64 {
        let unused = 64 - 8 * self.size;
        (self.raw(bytes, index) << unused).cast_signed() >> unused
    }

    fn raw(self, bytes: &[u8], index: usize) -> u64 {
        let element = &bytes[index * self.size..(index + 1) * self.size];
        let join = |value, byte: &u8| value << 8 | u64::from(*byte);
        if self.big_endian { element.iter().fold(0, join) } else { element.iter().rev().fold(0, join) }
    }

    fn float(self, bytes: &[u8], index: usize) -> f64 {
        let raw = self.raw(bytes, index);
        match self.size {
            2 => half(raw),
            4 => f64::from(f32::from_bits(raw as u32)),
            _ => f64::from_bits(raw),
        }
    }
}

/// IEEE 754 binary16: 1 bit sign, 5 bits exponent, 10 bits fraction.
fn half(raw: u64) -> f64 {
    let (exponent, fraction) = ((raw >> 10 & 31) as i32, (raw & 1023) as f64);
    let size = match exponent {
        0 => fraction * 2_f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2_f64.powi(exponent - 25),
    };
    if raw >> 15 == 1 { -size } else { size }
}
