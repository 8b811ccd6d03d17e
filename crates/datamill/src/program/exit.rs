//! How a program ends.

use std::error::Error;
use std::process::ExitCode;

use crate::broker::ErrorKind;
use crate::engine::{self, EngineError};
use crate::report::chain;
use crate::upload::Summary;

/// The exit codes in words, for the help of programs.
pub const EXIT_CODES: &str = "Exit codes: 0 done, or stopped in order where the program runs until it is stopped, 1 some \
    files failed, are incomplete or cannot be sent, or there was none to send, 2 the command line or the set-up is wrong or a \
    permission is missing, 3 the broker did not answer, or the program was stopped before everything was done (start it again, \
    an upload with --only-missing), 4 another process has taken this one's place, 5 a function did not end in its time (start it again), 130 \
    left at once at a second signal.";

/// The exit codes of all programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: everything was done; or a program that runs until it is stopped was stopped, and its next start goes on.
    Done,
    /// 1: the program did its work, but some files failed, are incomplete or cannot be sent.
    SomeFailed,
    /// 2: the command line, the configuration, the log or a folder is not as it must be, or a permission is missing.
    SetUp,
    /// 3: the broker was away when the program started, it had to stop while it worked, or it was stopped before the end
    /// that it was to reach; nothing is lost, start it again.
    Stopped,
    /// 4: another process has taken this one's place; do not start both.
    Replaced,
    /// 5: too many functions did not end, and their files have failed; or one that cannot be given up alone, which
    /// counts as an attempt. Nothing is lost, start it again.
    Hanging,
    /// 130: left at once, at a second signal.
    AtOnce,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::SomeFailed => 1,
            Self::SetUp => 2,
            Self::Stopped => 3,
            Self::Replaced => 4,
            Self::Hanging => 5,
            Self::AtOnce => 130,
        }
    }

    /// That of a run which ended as it should; of one which was told to stop before it began there is no summary.
    pub fn of_summary(summary: Option<&engine::Summary>) -> Self {
        match summary {
            None => Self::Stopped,
            Some(summary) if summary.is_cut_short => Self::Stopped,
            Some(summary) if summary.is_clean() => Self::Done,
            Some(_) => Self::SomeFailed,
        }
    }

    /// That of a program that something keeps from its start, or from going on without an engine: where nothing but the log
    /// did, and that passes by itself, the same start gets further later on.
    pub fn of_refusal(error: &(dyn Error + 'static)) -> Self {
        if passes(error) { Self::Stopped } else { Self::SetUp }
    }

    /// That of an engine which could not go on.
    pub fn of_error(error: &EngineError) -> Self {
        match error {
            EngineError::Output { .. }
            | EngineError::OutputInUse(_)
            | EngineError::LogInside(_)
            | EngineError::Progress { .. }
            | EngineError::LostGround { .. }
            | EngineError::LostPosition { .. }
            | EngineError::TopicReplaced { .. }
            | EngineError::NoSuchStart { .. }
            | EngineError::OtherPurpose { .. }
            | EngineError::UnmarkedFolder { .. }
            | EngineError::Folder { .. }
            | EngineError::GroupInUse { .. }
            | EngineError::MixedPositions { .. }
            | EngineError::NoFolder(_)
            | EngineError::NoTable { .. }
            | EngineError::Table { .. }
            | EngineError::NotStarted(_)
            | EngineError::Rights(_) => Self::SetUp,
            EngineError::Hanging { .. } | EngineError::Overdue { .. } => Self::Hanging,
            EngineError::Log(error) | EngineError::Session(error) => of_kind(error.kind()),
            _ => Self::Stopped,
        }
    }
}

/// Whether what went wrong passes by itself, as a broker that is away.
fn passes(error: &(dyn Error + 'static)) -> bool {
    let mut errors = std::iter::successors(Some(error), |&error| error.source());
    errors
        .find_map(|error| error.downcast_ref::<crate::broker::Error>())
        .is_some_and(|error| error.kind() == ErrorKind::Retry)
}

/// Why a program ends, in words: an error with its causes, and that the program can be started again where nothing else
/// is to be done.
pub fn why(error: &(dyn Error + 'static)) -> String {
    let text = chain(error);
    if passes(error) { format!("{text}. {START_AGAIN}") } else { text }
}

/// What is to be done where a program ends because of something that passes by itself.
const START_AGAIN: &str = "Nothing is lost: start it again, as a supervisor does after exit code 3";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The exit code for an upload or a watch.
pub fn of_upload(summary: &Summary) -> Exit {
    match (summary.refusal, &summary.broken_off) {
        (Some(kind), _) => of_kind(kind),
        (None, Some(_)) => Exit::Stopped,
        (None, None) if summary.cut_short.is_some() => Exit::Stopped,
        (None, None) if summary.has_failures() => Exit::SomeFailed,
        // what a watch that was stopped had begun is sent at its next start
        (None, None) => Exit::Done,
    }
}

/// That for a log that refused to go on.
fn of_kind(kind: ErrorKind) -> Exit {
    match kind {
        ErrorKind::Fenced => Exit::Replaced,
        ErrorKind::UnknownTopic
        | ErrorKind::TopicDeleted
        | ErrorKind::LogReplaced
        | ErrorKind::InUse
        | ErrorKind::Denied
        | ErrorKind::DeniedExactlyOnce
        | ErrorKind::Settings => Exit::SetUp,
        // the group's state: until the clock or the topic is mended, no start gets further
        kind if kind.refuses_record() => Exit::SetUp,
        _ => Exit::Stopped,
    }
}

/// What keeps a program from starting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetUpError {
    /// A topic is not named.
    #[error("no {0} topic is named: give it with --{0}_topic_name")]
    NoTopic(&'static str),
    /// Results would go to the topic they are computed from.
    #[error(
        "results cannot go to topic `{0}`, from which the files are read: name another one with --producer_topic_name"
    )]
    SameTopic(String),
    /// Dead letters would go to the topic of the files or of the results.
    #[error(
        "dead letters cannot go to topic `{0}`, which holds files or results: name another one with `--dead_letter_topic`"
    )]
    DeadLetterTopic(String),
    /// Heartbeats or log messages would go to a topic with something else.
    #[error("{messages} cannot go to topic `{topic}`, which is for {other}: name another one with `{option}`")]
    TakenTopic {
        /// What would go there.
        messages: &'static str,
        /// The topic.
        topic: String,
        /// What the topic is for.
        other: &'static str,
        /// The option that names it.
        option: &'static str,
    },
    /// The filter is no regular expression.
    #[error("the value of --download_regex cannot be used")]
    Regex(#[from] crate::settings::PatternError),
    /// The output folder cannot be used.
    #[error("cannot use the output folder `{}`, choose another one with --output_dir", folder.display())]
    OutputDir {
        /// The folder.
        folder: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The log file cannot be written.
    #[error(transparent)]
    LogFile(#[from] crate::report::logging::LogFileError),
    /// Heartbeats or log messages have nowhere to go.
    #[error("cannot send {section} messages to topic `{topic}`")]
    Messages {
        /// `heartbeat` or `log`.
        section: &'static str,
        /// The topic.
        topic: String,
        /// Why.
        #[source]
        source: crate::broker::Error,
    },
    /// The status cannot be served.
    #[error("cannot serve the status at `{address}`: choose another address or port with --status_listen")]
    StatusListen {
        /// Where.
        address: crate::status::StatusAddress,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Threads or signal handlers cannot be set up.
    #[error("cannot set up threads and signals")]
    System(#[from] std::io::Error),
    /// The embedded log of this folder is not there.
    #[error(
        "there is no log `datamill.db` in the folder `{}`, and no configuration is named: go to the folder where the other \
        programs run, or name the configuration with --config. The first upload or watch in a folder makes a log", .0.display()
    )]
    NoLogHere(std::path::PathBuf),
    /// The embedded log that the configuration names is not there.
    #[error("there is no log `{}`: no program has used it yet", .0.display())]
    NoLog(std::path::PathBuf),
    /// The configuration.
    #[error(transparent)]
    Settings(#[from] crate::settings::SettingsError),
    /// The log.
    #[error("{0}")]
    Log(#[from] crate::broker::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::RerunError;
    use crate::rekey::RekeyError;
    use crate::survey::SurveyError;
    use crate::upload::UploadError;

    fn of_log(kind: ErrorKind) -> crate::broker::Error {
        crate::broker::Error::with_source(kind, "broker `b:9092` does not answer", "Connection refused")
    }

    #[test]
    fn whatever_holds_the_error_of_a_broker_that_is_away_the_program_can_be_started_again() {
        let holders: [fn(crate::broker::Error) -> Box<dyn Error>; 10] = [
            |error| Box::new(error),
            |error| Box::new(SetUpError::from(error)),
            |source| Box::new(SetUpError::Messages { section: "log", topic: "t".to_owned(), source }),
            |error| Box::new(EngineError::Log(error)),
            |error| Box::new(EngineError::Session(error)),
            |error| Box::new(UploadError::from(error)),
            |error| Box::new(UploadError::from(Box::new(SurveyError::from(error)))),
            |error| Box::new(SurveyError::from(UploadError::from(error))),
            |error| Box::new(RekeyError::from(error)),
            |error| Box::new(RerunError::from(error)),
        ];
        for holder in holders {
            let away = holder(of_log(ErrorKind::Retry));
            assert_eq!(Exit::of_refusal(away.as_ref()), Exit::Stopped, "{away:?}");
            let text = why(away.as_ref());
            let (said, then) = text.split_once(". ").expect(&text);
            assert!(said.ends_with("broker `b:9092` does not answer: Connection refused"), "{text}");
            assert_eq!(text.matches("does not answer").count(), 1, "{text}");
            assert_eq!(then, START_AGAIN);
            for kind in [ErrorKind::Denied, ErrorKind::Settings, ErrorKind::UnknownTopic] {
                let refused = holder(of_log(kind));
                assert_eq!(Exit::of_refusal(refused.as_ref()), Exit::SetUp, "{refused:?}");
                assert!(!why(refused.as_ref()).contains("again"), "{refused:?}");
            }
        }
        assert_eq!(Exit::of_refusal(&SetUpError::NoTopic("consumer")), Exit::SetUp);
    }
}
