//! Names of the table files. Topics and groups are part of them, and a group may be called anything.

use datamill_wire::{hex, sha512};

/// Longest part of a name in bytes: two of them, the words around them and the marks of files that are
/// set aside stay below the 255 bytes that file systems allow.
const MAX_PART: usize = 95;

/// The text as a part of a file name: letters, digits, `.`, `_` and `-` stay, all else becomes `_`. A
/// text that does not stay as it is gets eight digits of its hash, so that different ones stay different.
pub(crate) fn file_name_part(text: &str) -> String {
    let legal = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.len() <= MAX_PART && text.chars().all(legal) {
        return text.to_owned();
    }
    let mut part: String = text.chars().map(|c| if legal(c) { c } else { '_' }).collect();
    part.truncate(part.floor_char_boundary(MAX_PART - 9));
    let hash = hex(&sha512(text.as_bytes()));
    format!("{part}_{}", &hash[..8])
}

/// Name of the table of failures of a group.
pub(crate) fn table_of_failures(topic: &str, group: &str) -> String {
    format!("failed_from_{}_by_{}.csv", file_name_part(topic), file_name_part(group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_names_stay_as_they_are() {
        for text in ["raw", "raw.data-2_x", "Gruppe-ä"] {
            assert_eq!(file_name_part(text), text);
        }
    }

    #[test]
    fn other_names_become_legal_and_stay_different() {
        let names = ["a/b", "a:b", "../../etc", "a b\n", "", &"x".repeat(300), &"x".repeat(301), &"ä".repeat(300)];
        let mut parts: Vec<String> = names.iter().map(|name| file_name_part(name)).collect();
        for part in &parts {
            assert!(part.len() <= MAX_PART && !part.contains(['/', '\\', ':', '\n', ' ']), "{part}");
        }
        parts.sort();
        parts.dedup();
        assert_eq!(parts.len(), names.len());
    }
}
