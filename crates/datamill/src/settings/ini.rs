//! INI text as Python's `configparser.ConfigParser` reads it with its default arguments.
//!
//! Laboratories have such files, so their meaning is copied, not improved: keys without regard to
//! case, `=` or `:`, comment lines that start with `#` or `;` (none behind a value), values that go on
//! in deeper indented lines, `%(name)s` and `%%`, a `[DEFAULT]` section that all others inherit.
//! `testdata/configparser.json` holds what Python 3.11 makes of some hundred texts.
//!
//! ```text
//! text ──parse──▶ sections of (key, raw value, line) ──get──▶ value with its %(name)s filled in
//! ```

/// Depth to which a `%(name)s` may stand in the value of another.
const MAX_INTERPOLATION_DEPTH: usize = 10;

/// Name of the section that all others inherit from.
pub(super) const DEFAULT_SECTION: &str = "DEFAULT";

/// A text that was read.
#[derive(Default)]
pub(super) struct Ini {
    defaults: Section,
    sections: Vec<Section>,
}

#[derive(Default)]
struct Section {
    name: String,
    line: usize,
    entries: Vec<Entry>,
}

struct Entry {
    key: String,
    lines: Vec<String>,
    raw: String,
    line: usize,
}

/// A key of a section, own or inherited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key<'a> {
    /// The key in lower case.
    pub(super) name: &'a str,
    /// The line that it stands in, counted from 1.
    pub(super) line: usize,
    /// It comes from `[DEFAULT]`.
    pub(super) inherited: bool,
}

/// Why a text or a value cannot be read. No variant holds a value: values may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum IniError {
    /// A setting above the first section.
    #[error("{}", outside(*.open))]
    MissingSectionHeader {
        line: usize,
        /// It begins with `[` and has no `]`.
        open: bool,
    },
    /// A section twice.
    #[error("section `[{section}]` is there twice: join the two")]
    DuplicateSection { line: usize, section: String },
    /// A key twice in a section.
    #[error("key `{key}` is there twice in section `[{section}]`: remove one of them")]
    DuplicateKey { line: usize, section: String, key: String },
    /// Lines that are neither a section nor a setting.
    #[error("this line is neither `[section]`, `key = value` nor a comment{}", others(.lines))]
    Syntax { lines: Vec<usize> },
    /// A `%` that begins nothing.
    #[error("`%` must be followed by `%` or `(name)s`: write `%%` for a percent sign")]
    Percent { line: usize, section: String, key: String },
    /// A `%(name)s` of which there is no such key.
    #[error("`%({name})s` names a key that is neither in the section nor in `[DEFAULT]`")]
    UnknownReference { line: usize, section: String, key: String, name: String },
    /// A `%(name)s` that leads to itself, or through too many others.
    #[error("`%(name)s` references go deeper than {MAX_INTERPOLATION_DEPTH} levels: is there a circle")]
    TooDeep { line: usize, section: String, key: String },
}

impl IniError {
    /// The line, counted from 1.
    pub(super) fn line(&self) -> usize {
        match self {
            Self::MissingSectionHeader { line, .. }
            | Self::DuplicateSection { line, .. }
            | Self::DuplicateKey { line, .. }
            | Self::Percent { line, .. }
            | Self::UnknownReference { line, .. }
            | Self::TooDeep { line, .. } => *line,
            Self::Syntax { lines } => lines.first().copied().unwrap_or(0),
        }
    }
}

fn outside(open: bool) -> &'static str {
    match open {
        true => "a section is written `[name]`",
        false => "this line stands above the first section: put a line such as `[broker]` before it",
    }
}

fn others(lines: &[usize]) -> String {
    match lines.len() {
        0 | 1 => String::new(),
        _ => {
            let rest: Vec<String> = lines[1..].iter().map(|line| format!("{line}")).collect();
            format!(" (nor are lines {})", rest.join(", "))
        }
    }
}

/// A key up to its first blank.
pub(super) fn first_word(key: &str) -> &str {
    key.split(is_space).next().unwrap_or_default()
}

/// What Python's `str.isspace` says of one character.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// The lines of a text file: `\n`, `\r\n` and `\r` end one.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.filter(|text| !text.is_empty())?;
        match text.find(['\n', '\r']) {
            None => {
                rest = None;
                Some(text)
            }
            Some(end) => {
                let skip = if text[end..].starts_with("\r\n") { 2 } else { 1 };
                rest = Some(&text[end + skip..]);
                Some(&text[..end])
            }
        }
    })
}

/// The text between `[` and the last `]` of a line that starts a section.
fn section_header(value: &str) -> Option<&str> {
    let inside = value.strip_prefix('[')?;
    let end = inside.rfind(']')?;
    (end > 0).then(|| &inside[..end])
}

/// The section that lines go to while a text is read.
#[derive(Clone, Copy)]
enum Target {
    Defaults,
    Section(usize),
}

impl Ini {
    /// Reads a text. Errors in the order in which Python raises them: what is twice or above the
    /// first section at once, lines without a meaning at the end and all together.
    pub(super) fn parse(text: &str) -> Result<Self, IniError> {
        let mut ini =
            Self { defaults: Section { name: DEFAULT_SECTION.into(), ..Section::default() }, sections: vec![] };
        let mut target = None;
        let mut entry: Option<usize> = None;
        let mut indent = 0;
        let mut bad_lines = Vec::new();

        for (number, line) in (1..).zip(lines(text)) {
            let value = line.trim_matches(is_space);
            if value.starts_with(['#', ';']) {
                continue;
            }
            if value.is_empty() {
                if let (Some(target), Some(entry)) = (target, entry) {
                    ini.section_mut(target).entries[entry].lines.push(String::new());
                }
                continue;
            }
            let line_indent = line.chars().take_while(|&c| is_space(c)).count();
            if let (Some(target), Some(entry)) = (target, entry)
                && line_indent > indent
            {
                ini.section_mut(target).entries[entry].lines.push(value.to_owned());
                continue;
            }
            indent = line_indent;
            if let Some(name) = section_header(value) {
                target = Some(ini.open_section(name, number)?);
                entry = None;
                continue;
            }
            let Some(target) = target else {
                return Err(IniError::MissingSectionHeader { line: number, open: value.starts_with('[') });
            };
            let Some(delimiter) = value.find(['=', ':']) else {
                bad_lines.push(number);
                continue;
            };
            let key = value[..delimiter].trim_end_matches(is_space).to_lowercase();
            let first = value[delimiter + 1..].trim_matches(is_space).to_owned();
            if key.is_empty() {
                bad_lines.push(number);
            }
            let section = ini.section_mut(target);
            if section.find(&key).is_some() {
                // What stands behind a blank may be a value, and secret.
                let key = first_word(&key).to_owned();
                return Err(IniError::DuplicateKey { line: number, section: section.name.clone(), key });
            }
            entry = (!key.is_empty()).then_some(section.entries.len());
            section.entries.push(Entry { key, lines: vec![first], raw: String::new(), line: number });
        }
        if !bad_lines.is_empty() {
            return Err(IniError::Syntax { lines: bad_lines });
        }
        for section in ini.sections.iter_mut().chain([&mut ini.defaults]) {
            for entry in &mut section.entries {
                entry.raw = entry.lines.join("\n").trim_end_matches(is_space).to_owned();
                entry.lines = Vec::new();
            }
        }
        Ok(ini)
    }

    fn open_section(&mut self, name: &str, line: usize) -> Result<Target, IniError> {
        if name == DEFAULT_SECTION {
            return Ok(Target::Defaults);
        }
        if self.sections.iter().any(|section| section.name == name) {
            return Err(IniError::DuplicateSection { line, section: name.to_owned() });
        }
        self.sections.push(Section { name: name.to_owned(), line, entries: vec![] });
        Ok(Target::Section(self.sections.len() - 1))
    }

    fn section_mut(&mut self, target: Target) -> &mut Section {
        match target {
            Target::Defaults => &mut self.defaults,
            Target::Section(index) => &mut self.sections[index],
        }
    }

    fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// Names of the sections without `[DEFAULT]`, in their order, and the lines that they begin in.
    pub(super) fn sections(&self) -> impl Iterator<Item = (&str, usize)> {
        self.sections.iter().map(|section| (section.name.as_str(), section.line))
    }

    /// Whether the section is there; `[DEFAULT]` is none.
    pub(super) fn has(&self, section: &str) -> bool {
        self.section(section).is_some()
    }

    /// The keys of a section, first its own, then those that it inherits; none of an unknown section.
    pub(super) fn keys(&self, section: &str) -> Vec<Key<'_>> {
        let Some(section) = self.section(section) else {
            return Vec::new();
        };
        let own = section.entries.iter().map(|entry| Key { name: &entry.key, line: entry.line, inherited: false });
        let inherited = self
            .defaults
            .entries
            .iter()
            .filter(|entry| section.find(&entry.key).is_none())
            .map(|entry| Key { name: &entry.key, line: entry.line, inherited: true });
        own.chain(inherited).collect()
    }

    /// The value of a key with its references filled in; `None` where there is no such key.
    pub(super) fn get(&self, section: &str, key: &str) -> Result<Option<String>, IniError> {
        let Some(section) = self.section(section) else {
            return Ok(None);
        };
        let Some(entry) = self.lookup(section, key) else {
            return Ok(None);
        };
        let mut value = String::new();
        self.interpolate(section, entry, &entry.raw, 1, &mut value)?;
        Ok(Some(value))
    }

    fn lookup<'a>(&'a self, section: &'a Section, key: &str) -> Option<&'a Entry> {
        section.find(key).or_else(|| self.defaults.find(key))
    }

    fn interpolate(
        &self,
        section: &Section,
        entry: &Entry,
        text: &str,
        depth: usize,
        into: &mut String,
    ) -> Result<(), IniError> {
        let (line, section_name, key) = (entry.line, || section.name.clone(), || entry.key.clone());
        if depth > MAX_INTERPOLATION_DEPTH {
            return Err(IniError::TooDeep { line, section: section_name(), key: key() });
        }
        let mut rest = text;
        while let Some(percent) = rest.find('%') {
            into.push_str(&rest[..percent]);
            rest = &rest[percent + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                into.push('%');
                rest = after;
                continue;
            }
            let reference = rest.strip_prefix('(').and_then(|inside| {
                let end = inside.find(')').filter(|&end| end > 0)?;
                Some((inside[..end].to_lowercase(), inside[end + 1..].strip_prefix('s')?))
            });
            let Some((name, after)) = reference else {
                return Err(IniError::Percent { line, section: section_name(), key: key() });
            };
            let Some(target) = self.lookup(section, &name) else {
                return Err(IniError::UnknownReference { line, section: section_name(), key: key(), name });
            };
            self.interpolate(section, entry, &target.raw, depth + usize::from(target.raw.contains('%')), into)?;
            rest = after;
        }
        into.push_str(rest);
        Ok(())
    }
}

impl Section {
    fn find(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// The outcome in the form of `testdata/expected.py`.
    fn outcome(text: &str) -> Value {
        let ini = match Ini::parse(text) {
            Ok(ini) => ini,
            Err(error) => return json!({"error": name(&error), "lines": error_lines(&error)}),
        };
        let mut sections = serde_json::Map::new();
        for (section, _) in ini.sections() {
            let values = ini.keys(section).into_iter().map(|key| {
                let value = match ini.get(section, key.name) {
                    Ok(value) => json!(value),
                    Err(error) => json!({ "error": name(&error) }),
                };
                (key.name.to_owned(), value)
            });
            sections.insert(section.to_owned(), Value::Object(values.collect()));
        }
        json!({ "sections": sections })
    }

    fn name(error: &IniError) -> &'static str {
        match error {
            IniError::MissingSectionHeader { .. } => "MissingSectionHeaderError",
            IniError::DuplicateSection { .. } => "DuplicateSectionError",
            IniError::DuplicateKey { .. } => "DuplicateOptionError",
            IniError::Syntax { .. } => "ParsingError",
            IniError::Percent { .. } => "InterpolationSyntaxError",
            IniError::UnknownReference { .. } => "InterpolationMissingOptionError",
            IniError::TooDeep { .. } => "InterpolationDepthError",
        }
    }

    fn error_lines(error: &IniError) -> Vec<usize> {
        match error {
            IniError::Syntax { lines } => lines.clone(),
            other => vec![other.line()],
        }
    }

    #[test]
    fn texts_mean_what_python_makes_of_them() {
        let cases: Value = serde_json::from_str(include_str!("testdata/configparser.json")).unwrap();
        let cases = cases.as_array().unwrap();
        assert!(cases.len() > 300, "only {} cases", cases.len());
        for case in cases {
            let text = case["text"].as_str().unwrap();
            assert_eq!(outcome(text), case["python"], "of {text:?}");
        }
    }

    proptest! {
        #[test]
        fn plain_settings_come_back_as_they_were_written(
            settings in proptest::collection::btree_map("[a-z][a-z.]{0,12}", "[^%$\\s][^%\\r\\n]{0,30}", 0..8),
        ) {
            let mut text = String::from("[broker]\n");
            for (key, value) in &settings {
                text.push_str(&format!("{key} = {value}\n"));
            }
            let ini = Ini::parse(&text).unwrap();
            for (key, value) in &settings {
                let read = ini.get("broker", key).unwrap().unwrap();
                prop_assert_eq!(read.as_str(), value.trim_matches(is_space));
            }
            prop_assert_eq!(ini.keys("broker").len(), settings.len());
        }

        #[test]
        fn no_text_makes_it_panic(text in "(?s).{0,200}") {
            if let Ok(ini) = Ini::parse(&text) {
                for (section, _) in ini.sections() {
                    for key in ini.keys(section) {
                        let _ = ini.get(section, key.name);
                    }
                }
            }
        }
    }
}
