use std::fs;

use super::*;

/// The owner of numbered lines: the last number about a name counts.
struct Numbers {
    path: PathBuf,
    map: std::collections::BTreeMap<String, u64>,
    journal: Journal,
    kept: Option<PathBuf>,
}

type Line = (String, u64);

impl Numbers {
    fn open(path: &Path) -> Self {
        let mut map = std::collections::BTreeMap::new();
        let contents = Contents::load(path, |(name, number): Line| {
            map.insert(name, number);
        })
        .unwrap();
        let (journal, kept) =
            Journal::open(path, &contents, map.len(), &|lines| map.iter().try_for_each(|line| lines.push(&line)))
                .unwrap();
        Self { path: path.to_owned(), map, journal, kept }
    }

    fn set(&mut self, name: &str, number: u64) -> io::Result<()> {
        self.map.insert(name.to_owned(), number);
        self.journal.push(&(name, number));
        self.write()
    }

    fn write(&mut self) -> io::Result<()> {
        self.journal.write(self.map.len(), &|lines| self.map.iter().try_for_each(|line| lines.push(&line)))
    }

    fn reopened(&self) -> Vec<(String, u64)> {
        Self::open(&self.path).map.into_iter().collect()
    }
}

fn numbers() -> (tempfile::TempDir, Numbers) {
    let folder = tempfile::tempdir().unwrap();
    let numbers = Numbers::open(&folder.path().join("n.jsonl"));
    (folder, numbers)
}

fn pairs(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
}

#[test]
fn a_line_that_was_cut_off_anywhere_is_dropped_and_nothing_else() {
    let (_folder, mut numbers) = numbers();
    numbers.set("a", 1).unwrap();
    let before = fs::metadata(&numbers.path).unwrap().len() as usize;
    numbers.set("b\n\"ü", 2).unwrap();
    let whole = fs::read(&numbers.path).unwrap();
    for length in before..whole.len() {
        fs::write(&numbers.path, &whole[..length]).unwrap();
        let mut again = Numbers::open(&numbers.path);
        assert_eq!(again.kept, None);
        again.set("c", 3).unwrap();
        assert_eq!(again.reopened(), pairs(&[("a", 1), ("c", 3)]), "cut at {length}");
    }
    fs::write(&numbers.path, &whole).unwrap();
    assert_eq!(numbers.reopened(), pairs(&[("a", 1), ("b\n\"ü", 2)]));
}

#[test]
fn a_damaged_line_is_left_out_and_the_file_that_had_it_is_kept() {
    let (_folder, mut numbers) = numbers();
    for (number, name) in (1..).zip(["a", "b", "c"]) {
        numbers.set(name, number).unwrap();
    }
    let text = fs::read_to_string(&numbers.path).unwrap().replace("\"b\"", "\"x\"");
    fs::write(&numbers.path, &text).unwrap();
    let again = Numbers::open(&numbers.path);
    assert_eq!(again.map.into_iter().collect::<Vec<_>>(), pairs(&[("a", 1), ("c", 3)]));
    assert_eq!(fs::read_to_string(again.kept.unwrap()).unwrap(), text);
    let once_more = Numbers::open(&numbers.path);
    assert_eq!((once_more.map.len(), once_more.kept), (2, None));
}

#[test]
fn many_lines_about_few_names_are_put_together_while_it_runs_and_when_it_is_opened() {
    let (_folder, mut numbers) = numbers();
    let mut longest = 0;
    for number in 0..5_000 {
        numbers.set("a", number).unwrap();
        numbers.journal.sync().unwrap();
        longest = longest.max(fs::metadata(&numbers.path).unwrap().len());
    }
    assert!(longest < 40_000, "{longest}");
    let line = "00000000 [\"a\",1]\n".replace("00000000", &check_of(b"[\"a\",1]"));
    fs::write(&numbers.path, line.repeat(5_000)).unwrap();
    assert_eq!(numbers.reopened(), pairs(&[("a", 1)]));
    assert_eq!(fs::read_to_string(&numbers.path).unwrap(), line);
}

#[test]
fn a_write_that_failed_is_made_up_for_and_no_line_is_damaged_or_lost() {
    let (_folder, mut numbers) = numbers();
    numbers.set("a", 1).unwrap();
    numbers.journal.sync().unwrap();
    numbers.set("b", 2).unwrap();
    numbers.journal.lose_the_file();
    assert!(numbers.set("c", 3).is_err());
    assert!(numbers.set("d", 4).is_err());
    // What follows the synced bytes is not known any more.
    OpenOptions::new().append(true).open(&numbers.path).unwrap().write_all(b"0123abcd [\"x").unwrap();
    numbers.journal.broken = true;
    numbers.write().unwrap();
    numbers.journal.sync().unwrap();
    assert_eq!(numbers.reopened(), pairs(&[("a", 1), ("b", 2), ("c", 3), ("d", 4)]));
}

#[test]
fn a_file_that_was_cut_under_the_journal_is_written_anew_from_memory() {
    let (_folder, mut numbers) = numbers();
    for name in ["a", "b"] {
        numbers.set(name, 1).unwrap();
    }
    numbers.journal.sync().unwrap();
    OpenOptions::new().write(true).open(&numbers.path).unwrap().set_len(20).unwrap();
    numbers.journal.broken = true;
    numbers.set("c", 2).unwrap();
    assert_eq!(numbers.reopened(), pairs(&[("a", 1), ("b", 1), ("c", 2)]));
}

#[test]
fn lines_that_were_taken_back_are_not_in_the_file() {
    let (_folder, mut numbers) = numbers();
    numbers.set("a", 1).unwrap();
    numbers.journal.sync().unwrap();
    numbers.set("b", 2).unwrap();
    numbers.journal.take_back();
    numbers.map.remove("b");
    numbers.set("c", 3).unwrap();
    assert_eq!(numbers.reopened(), pairs(&[("a", 1), ("c", 3)]));
}
