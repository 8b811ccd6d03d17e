//! The value of a setting: variables of the environment in it, the servers, and what a beginner writes around it.

use std::env::{self, VarError};
use std::fs;
use std::path::Path;

/// Begins the servers of an embedded log.
pub(super) const EMBEDDED: &str = "sqlite:";

/// What may stand before `://` in a server.
const PROTOCOLS: [&str; 4] = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];

/// Looks an environment variable up.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Result<String, VarError>;

/// What does not belong to a value, though it counts as a part of it.
pub(super) enum OddForm {
    Quoted,
    Comment,
}

pub(super) fn odd_form(value: &str) -> Option<OddForm> {
    let is_quoted = |quote| value.len() > 1 && value.starts_with(quote) && value.ends_with(quote);
    if is_quoted('"') || is_quoted('\'') {
        return Some(OddForm::Quoted);
    }
    let mut before = value.chars();
    let is_comment = value.chars().skip(1).any(|c| before.next().is_some_and(char::is_whitespace) && "#;".contains(c));
    is_comment.then_some(OddForm::Comment)
}

/// The file of an embedded log that a configuration file names, and what is odd about it. A relative path begins at
/// the folder of the configuration, so that the two can be moved together; where there is no log and one in the current
/// folder, which such a path meant in the first release, that one is used.
pub(super) fn log_file(config: &Path, path: &str) -> (String, Option<String>) {
    let is_file = !path.is_empty() && path != ":memory:" && !path.starts_with("file:");
    let folder = config.parent().filter(|folder| is_file && !folder.as_os_str().is_empty());
    let Some(beside) = folder.map(|folder| folder.join(path)).filter(|beside| beside != Path::new(path)) else {
        return (path.to_owned(), None);
    };
    let text = beside.to_string_lossy().into_owned();
    let config = config.display();
    match (beside.canonicalize(), Path::new(path).canonicalize()) {
        (Err(_), Ok(_)) => {
            let warning = format!(
                "the log of `{config}` is `{path}` in the current folder, as there is no `{text}`: write its whole path \
                into the configuration"
            );
            (path.to_owned(), Some(warning))
        }
        (Ok(used), Ok(other)) if used != other => {
            let warning = format!("the log of `{config}` is `{text}`, not `{path}` in the current folder");
            (text, Some(warning))
        }
        _ => (text, None),
    }
}

/// The servers of Kafka with commas between them; `None` where one is no address.
pub(super) fn servers(value: &str) -> Option<String> {
    let servers: Vec<&str> =
        value.split(|c: char| c == ',' || c.is_whitespace()).filter(|server| !server.is_empty()).collect();
    let is_address = |server: &&str| match server.split_once("://") {
        _ if server.contains('@') => false,
        Some((protocol, _)) => PROTOCOLS.iter().any(|known| protocol.eq_ignore_ascii_case(known)),
        None => !server.contains('=') && !server.to_lowercase().starts_with(EMBEDDED),
    };
    servers.iter().all(is_address).then(|| servers.join(","))
}

/// The folder with the secrets that a service manager hands to a program, a file for each (systemd, `LoadCredential=`).
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// The value of an environment variable, or the content of a credential of this name where no variable has it.
pub(super) fn variable_or_credential(name: &str) -> Result<String, VarError> {
    env::var(name).or_else(|error| {
        let folder = env::var_os(CREDENTIALS_DIRECTORY).ok_or(error.clone())?;
        credential(Path::new(&folder), name).ok_or(error)
    })
}

/// The content of a credential, without the line break that editors and `echo` write at its end.
fn credential(folder: &Path, name: &str) -> Option<String> {
    let content = fs::read_to_string(folder.join(name)).ok()?;
    let line = content.strip_suffix('\n').unwrap_or(&content);
    Some(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

/// The name of the environment variable that a text begins with, as `$NAME` or `${NAME}`, and what follows.
pub(super) fn variable(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix('$')?;
    let braced = text.strip_prefix('{').and_then(|text| text.split_once('}'));
    let (name, rest) = braced.unwrap_or_else(|| {
        let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
        text.split_at(end)
    });
    let legal = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    legal.then_some((name, rest))
}

/// Fills in the variables in a text; what names no variable that is set stays, as with Python's
/// `os.path.expandvars`.
pub(super) fn expand(mut text: &str, environment: Environment<'_>) -> String {
    let mut expanded = String::new();
    while let Some(at) = text.find('$') {
        expanded.push_str(&text[..at]);
        let value = variable(&text[at..]).and_then(|(name, rest)| Some((environment(name).ok()?, rest)));
        let (value, rest) = value.unwrap_or_else(|| ("$".to_owned(), &text[at + 1..]));
        expanded.push_str(&value);
        text = rest;
    }
    expanded + text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_its_file_without_the_line_break_at_its_end() {
        let folder = tempfile::tempdir().unwrap();
        for (content, value) in
            [("secret", "secret"), ("secret\n", "secret"), ("secret\r\n", "secret"), (" a\n\n", " a\n")]
        {
            fs::write(folder.path().join("NAME"), content).unwrap();
            assert_eq!(credential(folder.path(), "NAME").as_deref(), Some(value));
        }
        assert_eq!(credential(folder.path(), "OTHER"), None);
    }
}
