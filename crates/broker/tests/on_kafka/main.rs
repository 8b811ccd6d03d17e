//! The log on Apache Kafka passes the conformance suite, and does what only a log there does.

mod asking;
mod faults;
mod members;
mod membership;
mod outages;
mod readers;
mod refusals;
mod topics;

use datamill_broker::conformance::{Backend, Capabilities};
use datamill_testkit::kafka::Kafka;

fn backend_on(address: String) -> Backend {
    let can = Capabilities {
        makes_topics: false,
        refuses_a_second_owner: false,
        exact_largest_record: false,
        always_atomic: false,
    };
    Backend::new(datamill_broker::open, address, can, None)
}

fn backend_at(kafka: &Kafka) -> Backend {
    backend_on(kafka.address().to_owned())
}

fn backend() -> Backend {
    backend_at(&Kafka::from_env())
}

datamill_broker::every_check!(backend());
