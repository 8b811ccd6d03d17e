//! Any program as user code: a command for each file, or a worker that stays.

mod bench;
mod documents;
mod ends;
mod isolation;
mod limits;
mod trial;
mod words;
mod worker_examples;
mod workers;
