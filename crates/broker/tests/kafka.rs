//! The log on Apache Kafka passes the conformance suite.

mod common;

use common::{Backend, Capabilities};

fn backend() -> Backend {
    let address = std::env::var("DATAMILL_TEST_KAFKA")
        .unwrap_or_else(|_| panic!("no Kafka: run dev/test, or set DATAMILL_TEST_KAFKA to a broker's host:port"));
    let can = Capabilities { makes_topics: false, refuses_a_second_owner: false, exact_largest_record: false };
    Backend::new(address, can, None)
}

every_check!(backend());
