//! What a configuration file says, checked, and what is in force where it says nothing.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use datamill_broker::{FirstStart, Properties, is_secret, may_hold_secret};

use super::error::{Place, SettingsError, shown};
use super::ini::{Ini, IniError, Key, first_word};
use super::value::{EMBEDDED, Environment, expand, log_file, odd_form, servers, variable, variable_or_credential};
use super::{known, locate};
use crate::report::LogLevel;
use crate::report::text::shell_word;

const SERVERS: &str = "bootstrap.servers";
const GROUP_ID: &str = "group.id";
const FIRST_START: &str = "auto.offset.reset";
const SEPARATE_PRODUCER: &str = "prefer.separate.producer";
const MAX_LOGS: &str = "max.logs.per.message";
const LOG_LEVEL: &str = "log.level";

/// The log of a program without a configuration.
const DEFAULT_SERVERS: &str = "sqlite:datamill.db";

/// Lines of one log message where `[log]` says nothing else; OpenMSIStream's number.
const DEFAULT_MAX_LOGS: usize = 65_536;

/// Sections that this program reads.
pub(super) const SECTIONS: [&str; 6] = ["broker", "producer", "consumer", "heartbeat", "log", "s3"];

/// Sections for clients of the log that every program has.
const CLIENTS: [&str; 3] = ["broker", "producer", "consumer"];

/// The consumer group that a configuration asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupId {
    /// A fresh one for each run (`create_new`).
    CreateNew,
    /// This one.
    Named(String),
}

/// What `[log]` says about log messages beside their broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogTopicSettings {
    /// Most lines that are kept for one message (`max.logs.per.message`).
    pub max_lines: usize,
    /// The least level that is sent (`log.level`); `None` leaves it to the program.
    pub level: Option<LogLevel>,
}

/// Where a value comes from.
#[derive(Clone, PartialEq, Eq)]
enum Origin {
    File,
    Variable(String),
    NotAVariable,
    Unset(String),
}

/// A key and its value, as the file gives it.
#[derive(Clone)]
struct Setting {
    key: String,
    value: String,
    line: usize,
    inherited: bool,
    origin: Origin,
}

/// The settings of a program: properties of librdkafka, and what is datamill's own.
///
/// The debug form shows keys only.
#[derive(Clone, Default)]
pub struct Config {
    file: Option<PathBuf>,
    sections: BTreeMap<String, Vec<Setting>>,
    properties: Properties,
    group_id: Option<GroupId>,
    first_start: Option<FirstStart>,
    default_log: bool,
    warnings: Vec<String>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("file", &self.file).field("properties", &self.properties).finish_non_exhaustive()
    }
}

impl Config {
    /// Reads the file that `arg` names: a path, or the name of a file (with or without `.config`) in
    /// the folder that the environment variable `OPENMSISTREAM_CONFIG_FILE_DIR` names. Without `arg`
    /// no file is read and the log is `sqlite:datamill.db` in the current folder. In a file, the relative path of
    /// `sqlite:PATH` begins at the folder of the file.
    ///
    /// `[broker]`, `[producer]` and `[consumer]` are checked here; what is wrong in the sections that
    /// only some programs need is said by [`Config::properties_of`], [`Config::log_topic`] and
    /// [`Config::section`].
    pub fn load(arg: Option<&str>) -> Result<Self, SettingsError> {
        Self::load_with(arg, &variable_or_credential)
    }

    /// As [`load`](Self::load), with values of variables from `environment`, which answers as [`std::env::var`] does: for who
    /// looks at what another program will find.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_with(
        arg: Option<&str>,
        environment: &dyn Fn(&str) -> Result<String, env::VarError>,
    ) -> Result<Self, SettingsError> {
        Self::load_from(arg, env::var_os(locate::CONFIG_DIR_VARIABLE), environment)
    }

    fn load_from(
        arg: Option<&str>,
        folder: Option<OsString>,
        environment: Environment<'_>,
    ) -> Result<Self, SettingsError> {
        let mut config = Self::default();
        if let Some(name) = arg {
            let file = locate::locate(name, folder)?;
            let text = locate::read(&file)?;
            config.read(&text, file, environment)?;
        }
        config.check()?;
        config.properties.options = arg.map(|name| format!("--config {}", shell_word(name))).unwrap_or_default();
        Ok(config)
    }

    fn read(&mut self, text: &str, file: PathBuf, environment: Environment<'_>) -> Result<(), SettingsError> {
        let ini = Ini::parse(text).map_err(|error| SettingsError::Syntax {
            file: file.clone(),
            line: error.line(),
            problem: error.to_string(),
        })?;
        if ini.has("kafkacrypto") {
            return Err(SettingsError::Encryption { file });
        }
        for (section, line) in ini.sections() {
            if !SECTIONS.contains(&section) {
                let nearest = datamill_broker::nearest(section, SECTIONS, 1).pop().map(str::to_owned);
                return Err(SettingsError::UnknownSection { file, line, section: section.to_owned(), nearest });
            }
            let mut settings = Vec::new();
            for key in ini.keys(section) {
                let value = ini.get(section, key.name).map_err(|error| reference_error(&file, section, key, &error))?;
                settings.push(setting(key, value.unwrap_or_default(), environment));
            }
            self.sections.insert(section.to_owned(), settings);
        }
        self.file = Some(file);
        Ok(())
    }

    /// Fills in what follows from the sections that every program has.
    fn check(&mut self) -> Result<(), SettingsError> {
        let mut all = Properties::default();
        for (section, properties) in CLIENTS.into_iter().zip([&mut all.broker, &mut all.producer, &mut all.consumer]) {
            *properties = self.client_properties(section, &[])?;
        }
        // What the library of the consumer looks at last counts: its own section.
        let (mut group_id, mut first_start) = (None, None);
        for section in ["broker", "consumer"] {
            for setting in self.settings(section) {
                match setting.key.as_str() {
                    GROUP_ID => group_id = Some(self.read_group_id(section, setting)?),
                    FIRST_START => first_start = self.read_first_start(section, setting)?,
                    _ => {}
                }
            }
        }
        (self.group_id, self.first_start) = (group_id, first_start);
        self.one_cluster(&mut all)?;
        match (all.broker.get(SERVERS).map(String::as_str), &self.file) {
            (None | Some(""), Some(file)) => return Err(SettingsError::NoServers { file: file.clone() }),
            (None, None) => {
                self.default_log = true;
                all.broker.insert(SERVERS.to_owned(), DEFAULT_SERVERS.to_owned());
            }
            (Some(_), _) => {}
        }
        self.properties = all;
        self.warnings = self.odd_values();
        Ok(())
    }

    /// Moves `bootstrap.servers` to where the log looks for it, and refuses two different ones.
    fn one_cluster(&self, all: &mut Properties) -> Result<(), SettingsError> {
        let mut named_in = all.broker.contains_key(SERVERS).then_some("broker");
        for (section, properties) in [("producer", &mut all.producer), ("consumer", &mut all.consumer)] {
            let Some(servers) = properties.remove(SERVERS) else {
                continue;
            };
            match (named_in, all.broker.get(SERVERS)) {
                (Some(other), Some(first)) if *first != servers => {
                    let line = self.settings(section).iter().find(|setting| canonical(&setting.key) == SERVERS);
                    return Err(SettingsError::TwoClusters {
                        place: self.place(section, SERVERS, line.map_or(0, |setting| setting.line)),
                        other: other.to_owned(),
                    });
                }
                _ => {
                    named_in = named_in.or(Some(section));
                    all.broker.insert(SERVERS.to_owned(), servers);
                }
            }
        }
        Ok(())
    }

    /// The file that was read.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// What is odd about the file without being wrong, one sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The properties for the log. `bootstrap.servers` is always there; `group.id` and
    /// `auto.offset.reset` never: see [`Config::group_id`] and [`Config::first_start`].
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// No log is configured: it is `sqlite:datamill.db` in the current folder, and the program should
    /// say so.
    pub fn is_default_log(&self) -> bool {
        self.default_log
    }

    /// The same, with the log in this folder where none is configured.
    #[must_use]
    pub(crate) fn with_default_log_in(mut self, folder: &Path) -> Self {
        if self.default_log {
            let file = folder.join("datamill.db");
            self.properties.broker.insert(SERVERS.to_owned(), format!("sqlite:{}", file.display()));
        }
        self
    }

    /// The consumer group that the file names.
    pub fn group_id(&self) -> Option<&GroupId> {
        self.group_id.as_ref()
    }

    /// Where a group starts that has committed nothing yet, if the file says so.
    pub fn first_start(&self) -> Option<FirstStart> {
        self.first_start
    }

    /// The properties of the log that takes heartbeats (`heartbeat`) or log messages (`log`). `None`
    /// where the program's own log and publisher serve: there is no such section, or it holds nothing
    /// for a producer and does not prefer a separate one. A section with `bootstrap.servers` is a whole
    /// other log; any other changes the program's properties for producers.
    pub fn properties_of(&self, section: &str) -> Result<Option<Properties>, SettingsError> {
        let own = own_keys(section);
        let given = self.client_properties(section, own)?;
        let separate = match self.value(section, SEPARATE_PRODUCER)? {
            Some(setting) => match setting.value.to_lowercase().as_str() {
                "1" | "yes" | "true" | "on" => true,
                "0" | "no" | "false" | "off" => false,
                _ => return Err(self.bad_value(section, setting, "`true` or `false`")),
            },
            None => false,
        };
        if given.contains_key(SERVERS) {
            // No command that is told with this log's file would be about that other one.
            let options = "--config FILE_WITH_THIS_BROKER".to_owned();
            return Ok(Some(Properties { broker: given, options, ..Properties::default() }));
        }
        if given.is_empty() && !separate {
            return Ok(None);
        }
        let mut properties = self.properties.clone();
        properties.producer.extend(given);
        Ok(Some(properties))
    }

    /// What `[log]` says beside the properties of its producer.
    pub fn log_topic(&self) -> Result<LogTopicSettings, SettingsError> {
        let mut settings = LogTopicSettings { max_lines: DEFAULT_MAX_LOGS, level: None };
        if let Some(setting) = self.value("log", MAX_LOGS)? {
            settings.max_lines = match known::whole_number(&setting.value).map(usize::try_from) {
                Some(Ok(number)) if number > 0 => number,
                _ => return Err(self.bad_value("log", setting, "a whole number above 0")),
            };
        }
        if let Some(setting) = self.value("log", LOG_LEVEL)? {
            let level = setting.value.parse();
            settings.level =
                Some(level.map_err(|_| self.bad_value("log", setting, &format!("a level: {}", LogLevel::NAMES)))?);
        }
        Ok(settings)
    }

    /// The values of a section that is no client's, such as `s3`; `None` where the file has none.
    pub fn section(&self, name: &str) -> Result<Option<BTreeMap<String, String>>, SettingsError> {
        if !self.sections.contains_key(name) {
            return Ok(None);
        }
        let mut values = BTreeMap::new();
        for setting in self.settings(name) {
            self.require_value(name, setting)?;
            self.check_form(name, setting)?;
            values.insert(setting.key.clone(), setting.value.clone());
        }
        Ok(Some(values))
    }

    fn settings(&self, section: &str) -> &[Setting] {
        self.sections.get(section).map_or(&[], Vec::as_slice)
    }

    /// A setting of a section whose value is there.
    fn value(&self, section: &str, key: &str) -> Result<Option<&Setting>, SettingsError> {
        match self.settings(section).iter().find(|setting| setting.key == key) {
            Some(setting) => self.require_value(section, setting).map(|()| Some(setting)),
            None => Ok(None),
        }
    }

    /// The properties of librdkafka in a section, as librdkafka wants them.
    fn client_properties(
        &self,
        section: &str,
        own: &[&'static str],
    ) -> Result<BTreeMap<String, String>, SettingsError> {
        let mut properties = BTreeMap::new();
        for setting in self.settings(section) {
            let key = setting.key.as_str();
            if is_skipped(key) || own.contains(&key) {
                continue;
            }
            self.require_value(section, setting)?;
            if let Some(accepted) = known::coder(key, &setting.value) {
                accepted.map_err(|expected| self.bad_value(section, setting, expected))?;
                continue;
            }
            if !known::is_known(key) && !self.uses_plugins() {
                // Names in [DEFAULT] may serve only to be referred to.
                if setting.inherited {
                    continue;
                }
                let word = first_word(key);
                let place = self.place(section, word, setting.line);
                if word != key && (known::is_known(word) || own.contains(&word)) {
                    return Err(SettingsError::NoDelimiter { place });
                }
                let nearest = known::nearest(word, own).map(str::to_owned);
                return Err(match nearest.is_some() || looks_like_a_key(word) {
                    true => SettingsError::UnknownKey { place, nearest },
                    false => SettingsError::NotAKey { file: place.file, line: place.line },
                });
            }
            self.check_form(section, setting)?;
            if canonical(key) == SERVERS {
                properties.insert(SERVERS.to_owned(), self.servers(section, setting)?);
                continue;
            }
            let value =
                known::convert(key, &setting.value).map_err(|expected| self.bad_value(section, setting, expected))?;
            if ![GROUP_ID, FIRST_START].contains(&key) {
                properties.insert(canonical(key).to_owned(), value);
            }
        }
        Ok(properties)
    }

    /// A plugin of librdkafka may bring properties of its own.
    fn uses_plugins(&self) -> bool {
        CLIENTS.iter().any(|section| self.settings(section).iter().any(|setting| setting.key == "plugin.library.paths"))
    }

    fn read_group_id(&self, section: &str, setting: &Setting) -> Result<GroupId, SettingsError> {
        match setting.value.as_str() {
            "create_new" => Ok(GroupId::CreateNew),
            "" => Err(self.bad_value(section, setting, "the name of a group, or `create_new`")),
            name => Ok(GroupId::Named(name.to_owned())),
        }
    }

    fn read_first_start(&self, section: &str, setting: &Setting) -> Result<Option<FirstStart>, SettingsError> {
        match setting.value.as_str() {
            "earliest" | "smallest" | "beginning" => Ok(Some(FirstStart::Earliest)),
            "latest" | "largest" | "end" => Ok(Some(FirstStart::Latest)),
            "error" => Ok(Some(FirstStart::Error)),
            "none" => Ok(None),
            _ => Err(self.bad_value(section, setting, "one of `earliest`, `latest`, `error` and `none`")),
        }
    }

    fn require_value(&self, section: &str, setting: &Setting) -> Result<(), SettingsError> {
        let place = || self.place(section, &setting.key, setting.line);
        match &setting.origin {
            Origin::File | Origin::Variable(_) => Ok(()),
            Origin::NotAVariable => Err(SettingsError::NotAVariable { place: place() }),
            // What stands behind a `$` may be a password that begins with it.
            Origin::Unset(variable) => {
                let variable = Some(variable.clone()).filter(|_| !may_hold_secret(&setting.key));
                Err(SettingsError::UnsetVariable { place: place(), variable })
            }
        }
    }

    /// The servers, with commas between them; the file of an embedded log as it is seen from the current folder.
    fn servers(&self, section: &str, setting: &Setting) -> Result<String, SettingsError> {
        let value = setting.value.trim();
        if let Some(path) = value.strip_prefix(EMBEDDED) {
            let path = self.file.as_deref().map_or_else(|| path.to_owned(), |file| log_file(file, path.trim()).0);
            return Ok(format!("{EMBEDDED}{path}"));
        }
        let expected = match value.contains('@') {
            true => {
                "an address, such as `kafka.example.org:9092`: a login belongs into `sasl.username` and `sasl.password`"
            }
            false => "an address, such as `kafka.example.org:9092`, or `sqlite:FILE`",
        };
        match servers(value) {
            Some(servers) => Ok(servers),
            None if value.contains('\n') => {
                let place = self.place(section, &setting.key, setting.line);
                Err(SettingsError::SeveralLines { place })
            }
            None => Err(self.bad_value(section, setting, expected)),
        }
    }

    fn bad_value(&self, section: &str, setting: &Setting, expected: &str) -> SettingsError {
        SettingsError::BadValue {
            place: self.place(section, &setting.key, setting.line),
            found: shown(&setting.key, &setting.value),
            expected: expected.to_owned(),
        }
    }

    fn place(&self, section: &str, key: &str, line: usize) -> Box<Place> {
        place(self.file.as_deref().unwrap_or(Path::new("")), section, key, line)
    }
}

/// A place to name. What stands behind a blank in a key may be a value, and secret.
fn place(file: &Path, section: &str, key: &str, line: usize) -> Box<Place> {
    Box::new(Place { file: file.to_owned(), line, section: section.to_owned(), key: first_word(key).to_owned() })
}

/// Keys of the section that are datamill's own.
fn own_keys(section: &str) -> &'static [&'static str] {
    match section {
        "heartbeat" => &[SEPARATE_PRODUCER],
        "log" => &[SEPARATE_PRODUCER, MAX_LOGS, LOG_LEVEL],
        _ => &[],
    }
}

/// The key belongs to the encryption of OpenMSIStream and has no meaning without it.
fn is_skipped(key: &str) -> bool {
    key == "node_id"
}

/// Words with dots between them, as properties have them, rather than a piece of a secret that was broken into lines.
fn looks_like_a_key(word: &str) -> bool {
    word.len() < 80
        && word.split(['.', '_', '-']).all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase()))
}

/// librdkafka's other name of the servers becomes the one that the log looks for.
fn canonical(key: &str) -> &str {
    if key == "metadata.broker.list" { SERVERS } else { key }
}

fn setting(key: Key<'_>, value: String, environment: Environment<'_>) -> Setting {
    let (value, origin) = match variable(&value) {
        None if value.starts_with('$') => (String::new(), Origin::NotAVariable),
        None => (value, Origin::File),
        Some((name, rest)) => match environment(name) {
            Ok(first) => (first + &expand(rest, environment), Origin::Variable(name.to_owned())),
            Err(_) if rest.is_empty() => (String::new(), Origin::Unset(name.to_owned())),
            // It may be a secret that happens to begin with `$`: no part of it is named.
            Err(_) => (String::new(), Origin::NotAVariable),
        },
    };
    Setting { key: key.name.to_owned(), value, line: key.line, inherited: key.inherited, origin }
}

fn reference_error(file: &Path, section: &str, key: Key<'_>, error: &IniError) -> SettingsError {
    let place = place(file, section, key.name, key.line);
    let problem = match error {
        // A secret with a `%( )` in it is not a reference: its text stays out of sight.
        IniError::UnknownReference { .. } if may_hold_secret(key.name) => {
            "`%(` refers to a key that is not there: write `%%` for a percent sign".to_owned()
        }
        error => error.to_string(),
    };
    SettingsError::Reference { place, problem }
}

mod slips;
#[cfg(test)]
mod tests;
