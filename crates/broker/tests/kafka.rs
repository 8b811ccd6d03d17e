//! The log on Apache Kafka passes the conformance suite.

mod common;

use common::{Backend, Capabilities};
use datamill_testkit::kafka::Kafka;

fn backend() -> Backend {
    let can = Capabilities {
        makes_topics: false,
        refuses_a_second_owner: false,
        exact_largest_record: false,
        always_atomic: false,
    };
    Backend::new(Kafka::from_env().address().to_owned(), can, None)
}

every_check!(backend());
