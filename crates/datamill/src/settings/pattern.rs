//! Regular expressions as Python's `re.match` reads them: from the start of the text, with look-ahead
//! and look-behind, `$` before a last line break too, `\Z` at the very end.
//!
//! A pattern is translated piece by piece into the dialect of `fancy-regex` and then compiled:
//!
//! ```text
//! Python              means                                here
//! \Z                  the end                              \z
//! $                   the end, or before a last "\n"       (?=\n?\z)   (unless the m flag is set)
//! {,n}                0 to n times                         {0,n}
//! \< \>               the characters < and >               < >
//! [ [ & ~ inside []   themselves                           \[ \& \~
//! (?a) (?L) (?u)      kinds of text                        dropped: text is Unicode
//! ```

use std::fmt;

/// A pattern in Python's dialect that was wrong or is of no use here.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is no regular expression as Python's `re` takes it: {reason}")]
pub struct PatternError {
    text: String,
    reason: String,
}

/// A compiled regular expression with the meaning that it has for Python's `re.match`.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    regex: fancy_regex::Regex,
}

impl Pattern {
    /// Compiles `text`.
    ///
    /// # Errors
    /// Where it is not a regular expression, or uses what only Python knows.
    pub fn from_python(text: &str) -> Result<Self, PatternError> {
        let translated = format!(r"\A(?:{})", translate(text));
        match fancy_regex::Regex::new(&translated) {
            Ok(regex) => Ok(Self { text: text.to_owned(), regex }),
            Err(error) => Err(PatternError { text: text.to_owned(), reason: reason(&error) }),
        }
    }

    /// Whether the pattern matches at the start of `text`. A pattern that needs too many steps for
    /// this text does not match it.
    pub fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text).unwrap_or(false)
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", self.text)
    }
}

/// Why a pattern was refused; without the place, which is one in the translated text.
fn reason(error: &fancy_regex::Error) -> String {
    let reason = match error {
        fancy_regex::Error::ParseError(_, why) => why.to_string(),
        other => other.to_string(),
    };
    let mut letters = reason.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

fn translate(python: &str) -> String {
    let mut out = String::with_capacity(python.len() + 16);
    let mut rest = python.chars().peekable();
    let mut in_class = false;
    // A `]` directly behind the opening of a class belongs to the class.
    let mut class_just_opened = false;
    let multiline = has_flag(python, 'm');
    while let Some(c) = rest.next() {
        let at_class_start = std::mem::take(&mut class_just_opened);
        match c {
            '\\' => match rest.next() {
                Some('Z') if !in_class => out.push_str(r"\z"),
                Some(plain @ ('<' | '>')) => out.push(plain),
                Some(other) => {
                    out.push('\\');
                    out.push(other);
                }
                None => out.push('\\'),
            },
            '[' if !in_class => {
                in_class = true;
                class_just_opened = true;
                out.push('[');
                if rest.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
            }
            ']' if in_class && at_class_start => out.push_str(r"\]"),
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '[' | '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
            }
            '$' if !in_class && !multiline => out.push_str(r"(?=\n?\z)"),
            '{' if !in_class && rest.peek() == Some(&',') => out.push_str("{0"),
            '(' if !in_class => out.push_str(&group_start(&mut rest)),
            _ => out.push(c),
        }
    }
    out
}

/// What stands for a `(`: itself, or a group of flags without those that mean nothing here.
fn group_start(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> String {
    let mut ahead = rest.clone();
    if ahead.next() != Some('?') {
        return "(".to_owned();
    }
    let mut flags = String::new();
    while let Some(flag) = ahead.next_if(|c| c.is_ascii_alphabetic() || *c == '-') {
        flags.push(flag);
    }
    let known = !flags.is_empty() && flags.chars().all(|c| "aLuimsx-".contains(c));
    let end = ahead.next();
    if !known || !matches!(end, Some(')' | ':')) {
        return "(".to_owned();
    }
    let kept: String = flags.chars().filter(|c| !"aLu".contains(*c)).collect();
    *rest = ahead;
    match end {
        Some(')') if kept.is_empty() => String::new(),
        Some(')') => format!("(?{kept})"),
        _ => format!("(?{kept}:"),
    }
}

/// Whether a group of flags somewhere in the pattern turns `flag` on.
fn has_flag(python: &str, flag: char) -> bool {
    python.split("(?").skip(1).any(|group| {
        let on: String = group.chars().take_while(char::is_ascii_alphabetic).collect();
        on.contains(flag) && group[on.len()..].starts_with([')', ':', '-']) && on.chars().all(|c| "aLuimsx".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::from_python(pattern).unwrap().matches(text)
    }

    #[test]
    fn it_matches_from_the_start_and_not_to_the_end() {
        assert!(matches("abc", "abcdef"));
        assert!(!matches("bcd", "abcdef"));
        assert!(matches("a|b", "bx"));
        assert!(!matches("a|b", "xb"));
    }

    #[test]
    fn look_ahead_of_the_usual_upload_pattern_works() {
        let usual = r"^((?!(\.|.*.log))).*$";
        assert!(matches(usual, "a.csv"));
        assert!(matches(usual, "sub/a.csv"));
        assert!(!matches(usual, ".hidden"));
        assert!(!matches(usual, "run.log"));
        assert!(!matches(usual, "sub/run.log"));
    }

    #[test]
    fn the_two_ends_differ_in_a_last_line_break() {
        assert!(matches(r"a$", "a"));
        assert!(matches(r"a$", "a\n"));
        assert!(!matches(r"a$", "a\n\n"));
        assert!(!matches(r"a$", "ab"));
        assert!(matches(r"a\Z", "a"));
        assert!(!matches(r"a\Z", "a\n"));
        assert!(matches(r"(?m)a$", "a\nb"));
    }

    #[test]
    fn named_groups_and_flags_are_taken() {
        assert!(matches(r"(?P<x>ab)(?P=x)\Z", "abab"));
        assert!(matches(r"(?i)ABC", "abc"));
        assert!(matches(r"(?ai:ABC)d", "abcd"));
        assert!(matches(r"(?u)é", "é"));
        assert!(matches(r".*\.(?:csv|txt)$", "a b/ü.csv"));
        assert!(matches(r"(?<!x)a", "a"));
    }

    #[test]
    fn classes_and_counts_mean_what_they_mean_in_python() {
        assert!(matches(r"[[a]+\Z", "[a"));
        assert!(matches(r"[]a]+\Z", "]a"));
        assert!(matches(r"[^]a]+\Z", "xyz"));
        assert!(!matches(r"[^]a]+\Z", "x]"));
        assert!(matches(r"[a&&b]+\Z", "&ab"));
        assert!(matches(r"[~~a$]+\Z", "~a$"));
        assert!(matches(r"a{,2}\Z", "aa"));
        assert!(!matches(r"a{,2}\Z", "aaa"));
        assert!(matches(r"\<a\>\Z", "<a>"));
        assert!(matches(r"a\$b", "a$b"));
    }

    #[test]
    fn a_broken_pattern_is_named() {
        let error = Pattern::from_python("(a").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`(a` is no regular expression as Python's `re` takes it: opening parenthesis without closing parenthesis"
        );
    }
}
