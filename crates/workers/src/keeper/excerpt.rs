//! The beginning and the end of what a command prints.

use datamill::report::text::bytes;
use serde::{Deserialize, Serialize};

/// Bytes of the beginning, and of the end, that are kept of each of a command's two streams: together 64 KiB for a file.
const HALF: usize = 16 << 10;

/// What a command has printed to one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Excerpt {
    /// All of it, where nothing is left out.
    pub(crate) begin: String,
    /// Bytes that are left out between the two.
    pub(crate) omitted: u64,
    pub(crate) end: String,
}

impl Excerpt {
    /// It goes to the log, line by line. The span around the call has the name of the file.
    pub(crate) fn tell(&self, stream: &'static str) {
        self.begin.lines().for_each(|line| tracing::info!(stream, "{line}"));
        if self.omitted > 0 {
            tracing::info!(stream, "… {} left out …", bytes(self.omitted));
        }
        self.end.lines().for_each(|line| tracing::info!(stream, "{line}"));
    }

    /// The last lines that are not empty, at most so many, and so many bytes of them. A line that is longer is there with
    /// its end.
    pub(crate) fn last_lines(&self, lines: usize, bytes: usize) -> Vec<&str> {
        let text = if self.omitted == 0 { &self.begin } else { &self.end };
        let (mut last, mut room) = (Vec::new(), bytes);
        for line in text.lines().rev().map(str::trim).filter(|line| !line.is_empty()).take(lines) {
            let from = line.ceil_char_boundary(line.len().saturating_sub(room));
            room -= line.len() - from;
            last.push(&line[from..]);
            if from > 0 || room == 0 {
                break;
            }
        }
        last.reverse();
        last
    }
}

/// Takes what a command prints, however much that is.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    begin: Vec<u8>,
    /// The last bytes behind the beginning, and some before them.
    end: Vec<u8>,
    /// Bytes that are in neither.
    omitted: u64,
}

impl Gathered {
    pub(super) fn take(&mut self, printed: &[u8]) {
        let (begin, behind) = printed.split_at(printed.len().min(HALF - self.begin.len()));
        self.begin.extend_from_slice(begin);
        self.end.extend_from_slice(behind);
        // what is moved is less than what was taken since the last time
        if self.end.len() > 8 * HALF {
            self.cut();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.begin.is_empty()
    }

    fn cut(&mut self) {
        let surplus = self.end.len().saturating_sub(HALF);
        self.end.drain(..surplus);
        self.omitted += surplus as u64;
    }

    pub(super) fn excerpt(mut self) -> Excerpt {
        self.cut();
        if self.omitted == 0 {
            self.begin.append(&mut self.end);
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Excerpt { begin: text(&self.begin), omitted: self.omitted, end: text(&self.end) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt(parts: &[&[u8]]) -> Excerpt {
        let mut gathered = Gathered::default();
        parts.iter().for_each(|part| gathered.take(part));
        gathered.excerpt()
    }

    #[test]
    fn what_fits_is_there_in_one_piece() {
        let (a, b) = (vec![b'a'; HALF - 1], vec![b'b'; HALF]);
        let kept = excerpt(&[&a, &b]);
        assert_eq!((kept.begin.len(), kept.omitted, kept.end.len()), (2 * HALF - 1, 0, 0));
    }

    #[test]
    fn of_more_the_beginning_and_the_end_are_there_and_the_rest_is_counted() {
        let block = vec![b'x'; 60_000];
        let parts: Vec<&[u8]> = [&b"first"[..]].into_iter().chain(vec![&block[..]; 50]).chain([&b"last"[..]]).collect();
        let kept = excerpt(&parts);
        assert!(kept.begin.starts_with("first") && kept.end.ends_with("last"));
        assert_eq!((kept.begin.len(), kept.end.len()), (HALF, HALF));
        assert_eq!(kept.omitted, 50 * 60_000 + 9 - 2 * HALF as u64);
    }

    #[test]
    fn the_last_lines_are_few_and_short() {
        let kept = excerpt(&[b"one\ntwo\n\n  three  \n"]);
        assert_eq!(kept.last_lines(2, 100), ["two", "three"]);
        assert_eq!(kept.last_lines(5, 7), ["wo", "three"]);
        assert_eq!(excerpt(&["ää".as_bytes()]).last_lines(1, 3), ["ä"]);
        assert_eq!(excerpt(&[b"\n"]).last_lines(3, 10), [] as [&str; 0]);
    }
}
