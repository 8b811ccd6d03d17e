//! The queue that a member's records come to, apart from the events of its group.
//!
//! ```text
//!   partition queues of librdkafka ──redirect──▶ one queue (bounded: `queued.max.messages.kbytes`) ──▶ poll
//! ```
//! Whoever does not poll it holds the reading: what was fetched stays, no more is fetched once the queue
//! is full, and the consumer itself is polled for the group all the while. Pausing the partitions would
//! throw the fetched records away, and librdkafka waits up to a second before it fetches again.

use std::ffi::{CStr, CString};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::types::RDKafkaRespErr;

use super::native;
use crate::contract::Record;

/// What comes from the queue.
pub(super) enum Polled<'a> {
    Record(Record<'a>),
    /// Everything below `offset` has come.
    End {
        topic: &'a str,
        partition: i32,
        offset: i64,
    },
    /// The partition cannot be read, with librdkafka's words for it.
    Failed(Code, String),
}

/// See the module.
pub(super) struct Records<C: ConsumerContext + 'static> {
    queue: Queue,
    /// The client outlives its queue.
    _client: Arc<BaseConsumer<C>>,
}

/// Names the queue of a [`Records`], for [`redirect`].
#[derive(Clone, Copy)]
pub(super) struct Queue(NonNull<rd::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues may be used from any thread.
#[allow(unsafe_code)]
unsafe impl Send for Queue {}

impl<C: ConsumerContext> Records<C> {
    pub(super) fn new(consumer: &Arc<BaseConsumer<C>>) -> Option<Self> {
        // SAFETY: `native_ptr` is a live client while `consumer` is borrowed. The queue is ours until it
        // is destroyed in `drop`, and the client lives as long since `Records` holds it.
        #[allow(unsafe_code)]
        let queue = unsafe { rd::rd_kafka_queue_new(consumer.client().native_ptr()) };
        Some(Self { queue: Queue(NonNull::new(queue)?), _client: consumer.clone() })
    }

    pub(super) fn queue(&self) -> Queue {
        self.queue
    }

    /// Waits at most `timeout` and hands out one. Answers whether there was one.
    pub(super) fn poll(&mut self, timeout: Duration, sink: impl FnOnce(Polled<'_>)) -> bool {
        let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is live; the answer is null or a message that is ours. (The call that takes many
        // at a time moves librdkafka's position behind the end of a partition when it reports that end.)
        #[allow(unsafe_code)]
        let message = unsafe { rd::rd_kafka_consume_queue(self.queue.0.as_ptr(), timeout) };
        let message = NonNull::new(message).map(Message);
        let polled = message.as_ref().map(Message::polled);
        polled.map(sink).is_some()
    }
}

impl<C: ConsumerContext> Drop for Records<C> {
    fn drop(&mut self) {
        // SAFETY: the queue is ours and is not used after this; partitions that still lead to it hold it
        // themselves.
        #[allow(unsafe_code)]
        unsafe {
            rd::rd_kafka_queue_destroy(self.queue.0.as_ptr());
        }
    }
}

/// Lets the records of a partition come to a queue; to be called before the partition is assigned. The
/// queue MUST be that of a [`Records`] which is alive and belongs to this consumer.
pub(super) fn redirect<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str, partition: i32, to: Queue) {
    let Ok(topic) = CString::new(topic) else { return };
    // SAFETY: the client and `to` are live, as the caller promises; the partition's queue is checked for
    // null and given back after use.
    #[allow(unsafe_code)]
    unsafe {
        let from = rd::rd_kafka_queue_get_partition(consumer.client().native_ptr(), topic.as_ptr(), partition);
        if !from.is_null() {
            rd::rd_kafka_queue_forward(from, to.0.as_ptr());
            rd::rd_kafka_queue_destroy(from);
        }
    }
}

/// A message that is ours.
struct Message(NonNull<rd::rd_kafka_message_t>);

impl Message {
    fn polled(&self) -> Polled<'_> {
        // SAFETY: the message is live until it is dropped, and everything borrowed from it lives as long
        // as `self` is borrowed: the topic's name (NUL-terminated), the key and the payload (pointer and
        // length, or null), and the headers. In an error the payload is a text of `len` bytes.
        #[allow(unsafe_code)]
        unsafe {
            let message = self.0.as_ref();
            let bytes = |at: *mut std::ffi::c_void, length: usize| {
                (!at.is_null()).then(|| std::slice::from_raw_parts(at.cast::<u8>().cast_const(), length))
            };
            let topic = if message.rkt.is_null() {
                ""
            } else {
                CStr::from_ptr(rd::rd_kafka_topic_name(message.rkt)).to_str().unwrap_or_default()
            };
            let (partition, offset, payload) = (message.partition, message.offset, bytes(message.payload, message.len));
            match message.err {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {
                    let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
                    let time = rd::rd_kafka_message_timestamp(message, &mut kind);
                    Polled::Record(Record {
                        topic,
                        partition,
                        offset,
                        timestamp_ms: (time >= 0).then_some(time),
                        key: bytes(message.key, message.key_len),
                        value: payload,
                        headers: native::headers_of(message),
                    })
                }
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => Polled::End { topic, partition, offset },
                other => {
                    Polled::Failed(other.into(), String::from_utf8_lossy(payload.unwrap_or_default()).into_owned())
                }
            }
        }
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: the message is ours, and nothing borrows from it any more.
        #[allow(unsafe_code)]
        unsafe {
            rd::rd_kafka_message_destroy(self.0.as_ptr());
        }
    }
}
