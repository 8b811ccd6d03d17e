//! Any program as user code: a command for each file.

mod bench;
mod documents;
mod ends;
mod isolation;
mod limits;
mod words;
