//! The name that was probably meant: for settings, sections and topics that are not there.

/// The names that look most like `word`, the nearest first, at most `most` of them. Case does not count, and
/// neither does which of `.`, `_` and `-` stands between two words.
pub fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>, most: usize) -> Vec<&'a str> {
    let word = plain(word);
    let allowed = 1 + word.len() / 5;
    let mut near: Vec<(usize, &str)> = names
        .into_iter()
        .map(|name| (distance(&word, &plain(name)), name))
        .filter(|(distance, _)| *distance <= allowed && *distance < word.len())
        .collect();
    near.sort();
    near.into_iter().take(most).map(|(_, name)| name).collect()
}

fn plain(name: &str) -> Vec<char> {
    name.trim().to_lowercase().chars().map(|c| if matches!(c, '_' | '-') { '.' } else { c }).collect()
}

/// Number of characters to insert, remove or replace to make one text of the other.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_names_come_first_and_far_ones_not_at_all() {
        let names = ["files", "files-2", "metadata", "t"];
        assert_eq!(nearest("fils", names, 3), ["files"]);
        assert_eq!(nearest("Files_2", names, 3), ["files-2", "files"]);
        assert_eq!(nearest("Files_2", names, 1), ["files-2"]);
        assert_eq!(nearest("u", names, 3), [] as [&str; 0]);
        assert_eq!(nearest("results", names, 3), [] as [&str; 0]);
    }
}
