//! `datamill transfer` and `datamill s3-transfer` to real S3 servers.

mod bench;
mod early;
mod exists;
mod objects;
mod outages;
mod refusals;
mod webdav;
