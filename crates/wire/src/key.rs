//! Keys of chunk and result messages. They are the peer's, for people and for compacted topics; paths
//! that differ only in `/` and `_` share a key, so a key never identifies a file.

use crate::name;

/// The key of a chunk message: `{subdir with "/" as "_"}_{filename}_chunk_{index}_of_{total}`.
/// At the root the key starts with `_`.
pub fn chunk_key(subdir: &str, filename: &str, index: u32, total: u32) -> String {
    format!("{}_{filename}_chunk_{index}_of_{total}", flat(subdir))
}

/// The key of the result of a file: `{subdir with "/" as "_"}_{rebuilt filename}_chunk_processing_result`.
/// At the root the key starts with `_`.
pub fn result_key(subdir: &str, rebuilt_filename: &str) -> String {
    format!("{}_{rebuilt_filename}_chunk_processing_result", flat(subdir))
}

fn flat(subdir: &str) -> String {
    if name::is_root(subdir) {
        return String::new();
    }
    subdir.replace('/', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_at_the_root_starts_with_an_underscore() {
        assert_eq!(chunk_key("", "a.csv", 1, 2), "_a.csv_chunk_1_of_2");
        assert_eq!(chunk_key(".", "a.csv", 1, 2), "_a.csv_chunk_1_of_2");
        assert_eq!(result_key("", "a.csv"), "_a.csv_chunk_processing_result");
    }

    #[test]
    fn keys_of_different_paths_can_be_the_same() {
        assert_eq!(result_key("a/b", "c"), result_key("a", "b_c"));
    }
}
