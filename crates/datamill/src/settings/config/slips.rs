//! What a beginner writes around a value, what an environment variable brings with it, and a file that everybody can
//! read. What cannot be meant is refused; what may be meant is a warning.

use super::{Config, EMBEDDED, Origin, SECTIONS, SERVERS, Setting, canonical, is_secret, known, log_file, odd_form};
use crate::settings::error::{SettingsError, shown};
use crate::settings::value::OddForm;

/// What a login has beside secrets, and cannot do without.
const USER: &str = "sasl.username";

impl Config {
    /// Refuses what does not belong to a value, where the value cannot hold it.
    pub(super) fn check_form(&self, section: &str, setting: &Setting) -> Result<(), SettingsError> {
        let Setting { key, value, line, origin, .. } = setting;
        let place = || self.place(section, key, *line);
        if value.is_empty() && self.must_have_value(section, key) {
            let variable = matches!(origin, Origin::Variable(_));
            return Err(SettingsError::Empty { place: place(), variable });
        }
        if canonical(key) != SERVERS && value.contains(['\n', '\r']) {
            let at_end = !value.trim_end_matches(['\n', '\r']).contains(['\n', '\r']);
            match origin {
                Origin::Variable(_) if !key.ends_with("pem") && (at_end || !known::has_lines(key)) => {
                    return Err(SettingsError::LineBreak { place: place(), at_end });
                }
                _ if !known::has_lines(key) => return Err(SettingsError::SeveralLines { place: place() }),
                _ => {}
            }
        }
        match odd_form(value) {
            Some(_) if known::is_free_text(key) => Ok(()),
            Some(OddForm::Quoted) => Err(SettingsError::Quoted { place: place(), found: shown(key, value) }),
            Some(OddForm::Comment) => Err(SettingsError::CommentBehind { place: place(), found: shown(key, value) }),
            None => Ok(()),
        }
    }

    /// Whether nothing can be meant by an empty value: the login of a section that logs in, the keys of a store.
    fn must_have_value(&self, section: &str, key: &str) -> bool {
        let in_login = key.starts_with("sasl.") && (is_secret(key) || key == USER) && self.logs_in(section);
        in_login || (section == "s3" && is_secret(key))
    }

    fn logs_in(&self, section: &str) -> bool {
        let protocol = |name: &str| self.settings(name).iter().find(|setting| setting.key == "security.protocol");
        let protocol = protocol(section).or_else(|| protocol("broker"));
        protocol.is_some_and(|setting| setting.value.to_lowercase().starts_with("sasl"))
    }

    /// What is odd about values without being wrong, as warnings.
    pub(super) fn odd_values(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for section in SECTIONS {
            let known = |setting: &&Setting| section == "s3" || known::is_known(&setting.key);
            for setting in self.settings(section).iter().filter(known) {
                let place = || self.place(section, &setting.key, setting.line);
                warnings.extend(odd_value(setting).map(|what| format!("{}: {what}", place())));
                let path = setting.value.trim().strip_prefix(EMBEDDED).filter(|_| canonical(&setting.key) == SERVERS);
                if let (Some(file), Some(path)) = (self.file.as_deref(), path) {
                    warnings.extend(log_file(file, path.trim()).1);
                }
            }
        }
        warnings.extend(self.open_to_all());
        warnings
    }

    /// The warning about a file with a password in it that every user of this machine can read.
    fn open_to_all(&self) -> Option<String> {
        let file = self.file.as_deref()?;
        let is_written = |setting: &&Setting| setting.origin == Origin::File && !setting.value.is_empty();
        let mut settings = SECTIONS.into_iter().flat_map(|section| self.settings(section));
        let secret = settings.find(|setting| is_written(setting) && is_password(&setting.key))?;
        everybody_reads(file).then(|| {
            format!(
                "every user of this machine can read `{file}`, which holds a secret (line {line}): take the permission away \
                with `chmod o-r {file}`, or put the secret into an environment variable and write `$NAME` for it",
                file = file.display(),
                line = secret.line,
            )
        })
    }
}

/// Whether the key holds a password or something as good as one, rather than a name or a way to get one.
fn is_password(key: &str) -> bool {
    const PARTS: [&str; 6] = ["password", "passphrase", "secret", "jaas", "key.pem", "private.key.pem"];
    is_secret(key) && PARTS.iter().any(|part| key.contains(part))
}

/// Whether the file can be read, and reached, by every user of this machine.
#[cfg(unix)]
fn everybody_reads(file: &std::path::Path) -> bool {
    use std::os::unix::fs::PermissionsExt;

    let allows = |path: &std::path::Path, bit| path.metadata().is_ok_and(|data| data.permissions().mode() & bit != 0);
    let Ok(file) = file.canonicalize() else { return false };
    allows(&file, 0o004) && file.ancestors().skip(1).all(|folder| allows(folder, 0o001))
}

#[cfg(not(unix))]
fn everybody_reads(_: &std::path::Path) -> bool {
    false
}

/// What is odd about a value that may be meant, and what to do. Nothing of the value is told.
fn odd_value(setting: &Setting) -> Option<&'static str> {
    let Setting { key, value, origin, .. } = setting;
    let is_variable = matches!(origin, Origin::Variable(_));
    match odd_form(value) {
        Some(OddForm::Quoted) => {
            return Some(
                "the quotation marks around the value count as a part of it: remove them if they are not meant",
            );
        }
        Some(OddForm::Comment) => {
            return Some(
                "what looks like a comment behind the value counts as a part of it: put a comment into a line of its own",
            );
        }
        None => {}
    }
    if is_variable && !key.ends_with("pem") && value.trim() != value {
        return Some("the environment variable begins or ends with a blank, which counts as a part of the value");
    }
    (is_variable && value.is_empty() && is_secret(key)).then_some("the environment variable is set, but empty")
}
