//! The log on Apache Kafka, through librdkafka.
