//! The embedded log: topics in one SQLite file.
