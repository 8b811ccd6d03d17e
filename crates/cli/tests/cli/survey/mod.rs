//! `datamill ls`, `get`, `verify`, `reconcile`, `status`, `check` and `upload --only-missing`: what a topic has, and what became of each
//! file.

mod bench;
mod check;
mod compacted;
mod group;
mod reconcile;
mod topic;
