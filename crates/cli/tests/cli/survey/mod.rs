//! `datamill ls`, `get`, `verify`, `reconcile` and `upload --only-missing`: what a topic has, and what became of each file.

mod bench;
mod reconcile;
mod topic;
