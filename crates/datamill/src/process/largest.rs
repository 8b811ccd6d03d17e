//! Which entry of a JSON text takes the most of it.

/// The largest entry of an object, as `metadata["scan"]["angles"]`, and its bytes. While one entry takes most of an
/// entry, it is named instead. Nothing for a text that is no object with entries.
pub fn largest_entry(text: &str) -> Option<(String, usize)> {
    let mut path = "metadata".to_owned();
    let mut found: Option<&str> = None;
    while let Some((key, value)) = largest(found.unwrap_or(text)) {
        if found.is_some_and(|around| value.len() < around.len() / 2) {
            break;
        }
        path = format!("{path}[{key}]");
        found = Some(value);
    }
    found.map(|value| (path, value.len()))
}

/// Key and value of an object's largest entry; the key is JSON, as it stands there.
fn largest(object: &str) -> Option<(&str, &str)> {
    let bytes = object.as_bytes();
    if bytes.first() != Some(&b'{') {
        return None;
    }
    let (mut depth, mut at, mut start) = (0_usize, 0, 1);
    let (mut key, mut best): (&str, Option<(&str, &str)>) = ("", None);
    while at < bytes.len() {
        let end_of_value = match bytes[at] {
            b'"' => {
                at = end_of_text(bytes, at);
                continue;
            }
            b'{' | b'[' => {
                depth += 1;
                false
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                depth == 0
            }
            b':' if depth == 1 => {
                key = object[start..at].trim();
                start = at + 1;
                false
            }
            b',' => depth == 1,
            _ => false,
        };
        if end_of_value && !key.is_empty() {
            let value = object[start..at].trim();
            if best.is_none_or(|(_, largest)| value.len() > largest.len()) {
                best = Some((key, value));
            }
            start = at + 1;
        }
        at += 1;
    }
    best
}

fn end_of_text(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_entry_is_named_as_deep_as_it_takes_most() {
        let text = r#"{"a": 1, "scan": {"step": 0.1, "angles": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], "x": "}\","}, "b": "…"}"#;
        assert_eq!(largest_entry(text), Some(("metadata[\"scan\"][\"angles\"]".to_owned(), 45)));
        assert_eq!(largest_entry(r#"{"a": "1", "b": "22"}"#), Some(("metadata[\"b\"]".to_owned(), 4)));
    }

    #[test]
    fn a_text_without_entries_has_none() {
        for text in ["{}", "[1, 2]", "7", "", "\"{}\"", "{\"a", "no JSON"] {
            assert_eq!(largest_entry(text), None, "{text}");
        }
    }
}
