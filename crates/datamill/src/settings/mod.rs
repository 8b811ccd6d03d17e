//! The configuration file: INI text in, checked properties of librdkafka out.
//!
//! A file is found by path or by name, read with the meaning that Python's configparser gives it,
//! `$VARIABLES` are filled in from the environment, and what is datamill's own is told apart from what
//! librdkafka gets. Values may be secret: nothing here shows one unredacted.
//!
//! ```text
//! --config ──locate──▶ text ──ini──▶ sections ──config──▶ Properties, group id, first start
//!                                              └─redact─▶ what is in force, for people
//! ```

mod config;
mod error;
mod ini;
mod known;
mod locate;
mod pattern;
mod redact;
mod value;

pub use config::{Config, GroupId, LogTopicSettings};
pub use datamill_broker::is_secret;
pub use error::{Place, SettingsError};
pub use locate::CONFIG_DIR_VARIABLE;
pub use pattern::{Pattern, PatternError};
pub use redact::Redacted;
