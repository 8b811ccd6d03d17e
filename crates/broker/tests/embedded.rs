//! The embedded log passes the conformance suite.

use datamill_broker::conformance::{Backend, Capabilities};

fn backend() -> Backend {
    let folder = tempfile::tempdir().expect("a folder");
    let address = format!("sqlite:{}", folder.path().join("log.db").display());
    let can = Capabilities {
        makes_topics: true,
        refuses_a_second_owner: true,
        exact_largest_record: true,
        always_atomic: true,
    };
    Backend::new(datamill_broker::open, address, can, Some(folder))
}

datamill_broker::every_check!(backend());
