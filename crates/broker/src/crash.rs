//! Points between the steps of a commit, and of a delivery, at which a test can end the process.
//!
//! Without the feature `crash_points`, which only test programs switch on, nothing is left of them.

macro_rules! points {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Between which steps.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum CrashPoint {
            $($(#[$doc])* $name,)*
        }

        impl CrashPoint {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

points! {
    /// A batch is made, and the log knows nothing of it.
    Made,
    /// At least once: what is added to the state is in the output folder, and nothing else happened.
    StateSet,
    /// Exactly once after at least once: the state in the output folder has a number, and the log knows nothing of it.
    StateNumbered,
    /// The log has it, and the folder has it as well.
    StateInLog,
    /// At least once after exactly once: the output folder has the state, and the log has it as well.
    StateInFolder,
    /// The log has it no longer, and the folder does not know that yet.
    StateLeftLog,
    /// Kafka: the transaction has begun.
    KafkaBegun,
    /// Kafka: the records are delivered, not committed; at least once: acknowledged, and no position moved.
    KafkaSent,
    /// Kafka: the positions are sent, not committed.
    KafkaPositions,
    /// Kafka: the transaction is committed, and nobody was told; at least once: the positions moved.
    KafkaCommitted,
    /// Embedded: the transaction has begun.
    EmbeddedBegun,
    /// Embedded: the records are appended.
    EmbeddedAppended,
    /// Embedded: the positions are written.
    EmbeddedPositions,
    /// Embedded: the state is written, all that is left is SQLite's commit.
    EmbeddedState,
    /// Embedded: the transaction is committed, and nobody was told.
    EmbeddedCommitted,
    /// At least once: what was removed from the state is gone from the output folder.
    StateSettled,
    /// The engine has the answer, and has done nothing with it.
    Answered,
    /// The first file has its public name, and is in no registry file.
    Published,
    /// All files have their public names and their rows, and the reading thread was not told.
    Registered,
    /// Transfer: it is known what is at the store, and nothing was sent.
    TransferLooked,
    /// Transfer: a multipart upload has begun.
    TransferBegun,
    /// Transfer: a part of it has arrived.
    TransferPart,
    /// Transfer: all parts have arrived, and the upload is not complete.
    TransferParts,
    /// Transfer: the object is there, and nobody was told.
    TransferSent,
}

/// Names the point at which the process ends, as `Debug` prints it.
#[cfg(feature = "crash_points")]
pub const CRASH_AT: &str = "DATAMILL_CRASH_AT";

/// Ends the process as a crash does, if [`CRASH_AT`] names this point.
#[cfg(feature = "crash_points")]
pub fn crash_point(point: CrashPoint) {
    static CHOSEN: std::sync::LazyLock<Option<String>> = std::sync::LazyLock::new(|| std::env::var(CRASH_AT).ok());
    if CHOSEN.as_deref() == Some(&format!("{point:?}")) {
        eprintln!("crash point {point:?}");
        std::process::abort();
    }
}

/// Nothing, without the feature.
#[cfg(not(feature = "crash_points"))]
#[inline(always)]
pub fn crash_point(_: CrashPoint) {}
