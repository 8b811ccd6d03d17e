//! The embedded log passes the conformance suite.

mod common;

use common::{Backend, Capabilities};

fn backend() -> Backend {
    let folder = tempfile::tempdir().expect("a folder");
    let address = format!("sqlite:{}", folder.path().join("log.db").display());
    let can = Capabilities {
        makes_topics: true,
        refuses_a_second_owner: true,
        exact_largest_record: true,
        always_atomic: true,
    };
    Backend::new(address, can, Some(folder))
}

every_check!(backend());
