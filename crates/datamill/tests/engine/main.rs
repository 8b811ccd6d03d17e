//! The engine, its programs and its deliveries, over the embedded log and over Apache Kafka.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../common/mod.rs"]
mod common;

mod at_least_once;
mod delivery;
#[cfg(unix)]
mod download;
mod facts;
mod failures;
mod group;
mod half_uploads;
mod hanging;
#[cfg(unix)]
mod in_hand;
mod limits;
mod many_failures;
#[cfg(unix)]
mod output_folder;
mod paths;
mod port;
mod processor;
#[cfg(unix)]
mod program;
mod purposes;
mod refusals;
mod reproducer;
mod reruns;
mod retries;
mod secured;
mod several;
mod starts;
mod status;
#[cfg(unix)]
mod stops;
mod topic_again;
mod uploads;
mod versions;
