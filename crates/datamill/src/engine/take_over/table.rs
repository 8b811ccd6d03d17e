//! OpenMSIStream's table of the files that a consumer has not finished. Its texts are literals of Python, in
//! quotes and with escapes; a path is escaped once more each time that the program reads its own table.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::engine::EngineError;

/// The column of the paths.
const PATH: &str = "rel_filepath";
/// How often a path may have been escaped.
const ESCAPED: usize = 8;

/// The files of a table.
#[derive(Debug)]
pub(super) struct Table {
    /// The file.
    pub(super) file: PathBuf,
    paths: Vec<String>,
    /// Row by everything that the path in it may stand for.
    rows: HashMap<String, usize>,
}

impl Table {
    /// Reads the table of the topic and group in an output folder, or in its folder `LOGS`.
    pub(super) fn read(folder: &Path, topic: &str, group: &str) -> Result<Self, EngineError> {
        let name = format!("consuming_from_{topic}_in_progress_by_{group}.csv");
        let places = [folder.join("LOGS").join(&name), folder.join(&name)];
        let Some(file) = places.into_iter().find(|file| file.is_file()) else {
            return Err(EngineError::NoTable { folder: folder.to_owned(), name });
        };
        let unreadable = |problem: String| EngineError::Table { file: file.clone(), problem };
        let text = fs::read_to_string(&file).map_err(|error| unreadable(error.to_string()))?;
        // On Windows a line for spreadsheets stands above the header.
        let text = text.strip_prefix("sep=;").unwrap_or(&text).trim_start();
        let mut reader = csv::ReaderBuilder::new().delimiter(b';').flexible(true).from_reader(text.as_bytes());
        let header = reader.headers().map_err(|error| unreadable(error.to_string()))?;
        let column = header.iter().position(|name| name == PATH);
        let column = column.ok_or_else(|| unreadable(format!("it has no column `{PATH}`")))?;
        let mut table = Self { paths: Vec::new(), rows: HashMap::new(), file: file.clone() };
        for row in reader.records() {
            let row = row.map_err(|error| unreadable(error.to_string()))?;
            let path = row.get(column).ok_or_else(|| unreadable(format!("a row has no `{PATH}`")))?;
            table.add(path);
        }
        Ok(table)
    }

    fn add(&mut self, literal: &str) {
        let row = self.paths.len();
        // On Windows the peer writes `\` between folders.
        let mut path = unescape(unquote(literal));
        self.paths.push(path.clone());
        for _ in 0..ESCAPED {
            self.rows.entry(path.clone()).or_insert(row);
            self.rows.entry(path.replace('\\', "/")).or_insert(row);
            let next = unescape(&path);
            if next == path {
                break;
            }
            path = next;
        }
    }

    /// The row of a file.
    pub(super) fn row_of(&self, path: &str) -> Option<usize> {
        self.rows.get(path).copied()
    }

    /// The paths, as they are told to people.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(String::as_str)
    }

    /// Number of files.
    pub(super) fn len(&self) -> usize {
        self.paths.len()
    }
}

fn unquote(literal: &str) -> &str {
    let inside = |quote: char| literal.strip_prefix(quote)?.strip_suffix(quote);
    inside('\'').or_else(|| inside('"')).unwrap_or(literal)
}

/// The text that a literal of Python stands for; what is no escape stays as it is.
fn unescape(literal: &str) -> String {
    let mut text = String::new();
    let mut rest = literal;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(kind) = rest.chars().next() else {
            text.push('\\');
            break;
        };
        let digits = match kind {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        let plain = match kind {
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            '\\' | '\'' | '"' => Some(kind),
            _ => None,
        };
        let code = rest.get(1..=digits).filter(|_| digits > 0);
        let code = code.and_then(|code| char::from_u32(u32::from_str_radix(code, 16).ok()?));
        match plain.or(code) {
            Some(c) => {
                text.push(c);
                rest = &rest[kind.len_utf8() + digits..];
            }
            None => text.push('\\'),
        }
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_of_python_become_texts() {
        for (literal, text) in [
            ("'run/läuft.dat'", "run/läuft.dat"),
            ("\"it's\"", "it's"),
            (r#"'it\'s "so"'"#, "it's \"so\""),
            (r"'a\nb\tc\\d\x07\u00ad\U000e0001'", "a\nb\tc\\d\u{7}\u{ad}\u{e0001}"),
            (r"'C:\q \x1 \'", r"C:\q \x1 \"),
            ("plain", "plain"),
            ("'", "'"),
        ] {
            assert_eq!(unescape(unquote(literal)), text, "{literal}");
        }
    }

    #[test]
    fn the_table_of_a_group_is_found_in_the_output_folder_and_in_its_logs() {
        let folder = tempfile::tempdir().unwrap();
        let logs = folder.path().join("LOGS");
        fs::create_dir(&logs).unwrap();
        let name = "consuming_from_t_in_progress_by_g.csv";
        let header = "filename;rel_filepath;status;n_chunks;first_message;most_recent_message";
        let missing = Table::read(folder.path(), "t", "g").unwrap_err().to_string();
        assert!(missing.contains(name) && missing.contains(&folder.path().display().to_string()), "{missing}");
        fs::write(
            logs.join(name),
            format!(
                "sep=;\n{header}\n'a';'x\\\\y\\\\\\\\a';'failed';2;'';''\n\"'b;c'\";\"'b;c'\";'in_progress';1;'';''"
            ),
        )
        .unwrap();
        for place in [folder.path(), &logs] {
            let table = Table::read(place, "t", "g").unwrap();
            assert_eq!(table.paths().collect::<Vec<_>>(), ["x\\y\\\\a", "b;c"]);
            assert_eq!(
                (table.row_of("x\\y\\a"), table.row_of("x/y/a"), table.row_of("b;c")),
                (Some(0), Some(0), Some(1))
            );
            assert_eq!(table.row_of("a"), None);
        }
        fs::write(logs.join(name), "a;b\n1;2\n").unwrap();
        assert!(Table::read(&logs, "t", "g").unwrap_err().to_string().contains("rel_filepath"));
        fs::write(logs.join(name), header).unwrap();
        assert_eq!(Table::read(&logs, "t", "g").unwrap().len(), 0);
    }
}
