//! What rdkafka does not offer safely: a member's generation, header names and texts beside positions
//! of any bytes, the ids of topics. All `unsafe` of this backend is here and in `records.rs`.

use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::client::Client;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::message::BorrowedMessage;
use rdkafka::{ClientContext, TopicPartitionList};

/// Where a consumer stands in its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Membership {
    /// Generation (classic protocol) or member epoch (consumer protocol); negative when not a member.
    pub(super) generation: i32,
    /// The id that the group's coordinator knows the member by; empty when not a member.
    pub(super) member: String,
}

impl Membership {
    /// The coordinator checks a commit against the group only if it comes with both.
    pub(super) fn is_live(&self) -> bool {
        self.generation >= 0 && !self.member.is_empty()
    }

    /// Whether the group may know the member. One that leaves loses its id (classic protocol), or keeps the id that
    /// it has made itself and goes back to epoch 0 (consumer protocol).
    pub(super) fn is_known(&self) -> bool {
        self.generation != 0 && !self.member.is_empty()
    }
}

/// The membership at this moment; `None` where the client has no group or is being destroyed.
pub(super) fn membership<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<Membership> {
    // SAFETY: `native_ptr` is a live client for as long as `consumer` is borrowed. The returned object
    // is owned by us, checked for null, only read between its creation and its destruction, and its
    // member id is a NUL-terminated string that librdkafka never leaves null; it is copied before
    // the object goes.
    #[allow(unsafe_code)]
    unsafe {
        let metadata = rd::rd_kafka_consumer_group_metadata(consumer.client().native_ptr());
        if metadata.is_null() {
            return None;
        }
        let generation = rd::rd_kafka_consumer_group_metadata_generation_id(metadata);
        let member = rd::rd_kafka_consumer_group_metadata_member_id(metadata);
        let member =
            if member.is_null() { String::new() } else { CStr::from_ptr(member).to_string_lossy().into_owned() };
        rd::rd_kafka_consumer_group_metadata_destroy(metadata);
        Some(Membership { generation, member })
    }
}

/// The headers of a message. One whose name is not UTF-8 is left out: rdkafka's own access panics at
/// such a name, and a record must never stop a program.
pub(super) fn headers<'a>(message: &'a BorrowedMessage<'_>) -> Vec<(&'a str, &'a [u8])> {
    // SAFETY: `message.ptr()` is a live message for as long as `message` is borrowed.
    #[allow(unsafe_code)]
    unsafe {
        headers_of(&*message.ptr())
    }
}

/// As [`headers`], of a message of librdkafka's own.
pub(super) fn headers_of(message: &rd::rd_kafka_message_t) -> Vec<(&str, &[u8])> {
    let mut found = Vec::new();
    // SAFETY: `message` is live for as long as it is borrowed, and librdkafka only reads it here. Headers, their
    // names (NUL-terminated) and values (pointer and length, or null) belong to the message and stay
    // where they are until it is destroyed, so they live as long. All out-pointers are valid.
    #[allow(unsafe_code)]
    unsafe {
        let mut headers = ptr::null_mut();
        let none = rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
        if rd::rd_kafka_message_headers(message, &mut headers) != none {
            return found;
        }
        for index in 0.. {
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            let answer = rd::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut size);
            if answer != none {
                break;
            }
            let Ok(name) = CStr::from_ptr(name).to_str() else {
                continue;
            };
            let value = if value.is_null() || size == 0 {
                &[][..]
            } else {
                std::slice::from_raw_parts(value.cast::<u8>(), size)
            };
            found.push((name, value));
        }
    }
    found
}

/// The text beside the position of element `index`; `None` where it is not UTF-8 (rdkafka's own access
/// panics there). Zero bytes at its end do not count: confluent-kafka for Python puts one there when it copies
/// positions.
pub(super) fn committed_text(list: &TopicPartitionList, index: usize) -> Option<String> {
    if index >= list.count() {
        return None;
    }
    // SAFETY: `list.ptr()` is a live list for as long as `list` is borrowed, and `index` is below its
    // count. `metadata` is null or points to `metadata_size` bytes that belong to the element.
    #[allow(unsafe_code)]
    let bytes = unsafe {
        let element = &*(*list.ptr()).elems.add(index);
        if element.metadata.is_null() || element.metadata_size == 0 {
            &[][..]
        } else {
            std::slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size)
        }
    };
    std::str::from_utf8(bytes).ok().map(|text| text.trim_end_matches('\0').to_owned())
}

/// Something of librdkafka's that is ours, given back when this goes.
struct Owned<T> {
    at: *mut T,
    give_back: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// `None` for null.
    ///
    /// # Safety
    /// `at` must be null, or live and given back by nothing else.
    #[allow(unsafe_code)]
    unsafe fn new(at: *mut T, give_back: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        (!at.is_null()).then_some(Self { at, give_back })
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: `at` is live and ours, as `new` demands, and is not used after this.
        #[allow(unsafe_code)]
        unsafe {
            (self.give_back)(self.at);
        }
    }
}

/// A topic as one broker describes it: its id, `None` where the broker has no ids, and its number of partitions.
pub(super) type Described = Result<(Option<String>, usize), Code>;

/// Asks one broker about topics. Answers each with its name. Creates none.
pub(super) fn describe_topics<C: ClientContext>(
    client: &Client<C>,
    names: &[&str],
    limit: Duration,
) -> Result<Vec<(String, Described)>, Code> {
    let names: Vec<CString> = names.iter().filter_map(|name| CString::new(*name).ok()).collect();
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let limit_ms = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    let mut described = Vec::with_capacity(names.len());
    // SAFETY: `native_ptr` is a live client for as long as `client` is borrowed. The queue, the options, the
    // collection and the event are ours, are checked for null and live until they are given back at the end of this
    // block, in the reverse order of their creation. The collection copies the names, which live until then anyway.
    // The request holds the queue itself if it ends later. The answer and all that is read from it belong to the
    // event: the array has `count` elements, names and ids are NUL-terminated or null, and everything is copied.
    // The text of an id is kept in the id, which nobody else can see.
    #[allow(unsafe_code)]
    unsafe {
        let no_memory = Code::Fail;
        let rk = client.native_ptr();
        let queue = Owned::new(rd::rd_kafka_queue_new(rk), rd::rd_kafka_queue_destroy).ok_or(no_memory)?;
        let kind = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = rd::rd_kafka_AdminOptions_new(rk, kind);
        let options = Owned::new(options, rd::rd_kafka_AdminOptions_destroy).ok_or(no_memory)?;
        let mut why = [0; 128];
        rd::rd_kafka_AdminOptions_set_request_timeout(options.at, limit_ms, why.as_mut_ptr(), why.len());
        let asked = rd::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let asked = Owned::new(asked, rd::rd_kafka_TopicCollection_destroy).ok_or(no_memory)?;
        rd::rd_kafka_DescribeTopics(rk, asked.at, options.at, queue.at);
        // The request ends by itself, with a timeout at the latest.
        let event = rd::rd_kafka_queue_poll(queue.at, limit_ms.saturating_add(2000));
        let event = Owned::new(event, rd::rd_kafka_event_destroy).ok_or(Code::OperationTimedOut)?;
        match Code::from(rd::rd_kafka_event_error(event.at)) {
            Code::NoError => {}
            code => return Err(code),
        }
        let answer = rd::rd_kafka_event_DescribeTopics_result(event.at);
        if answer.is_null() {
            return Err(Code::Fail);
        }
        let mut count = 0;
        let topics = rd::rd_kafka_DescribeTopics_result_topics(answer, &mut count);
        for index in 0..if topics.is_null() { 0 } else { count } {
            let topic = *topics.add(index);
            let name = CStr::from_ptr(rd::rd_kafka_TopicDescription_name(topic)).to_string_lossy().into_owned();
            let error = rd::rd_kafka_TopicDescription_error(topic);
            let code = if error.is_null() { Code::NoError } else { Code::from(rd::rd_kafka_error_code(error)) };
            if code != Code::NoError {
                described.push((name, Err(code)));
                continue;
            }
            let id = rd::rd_kafka_TopicDescription_topic_id(topic);
            let text = if id.is_null() { ptr::null() } else { rd::rd_kafka_Uuid_base64str(id) };
            let id = if text.is_null() { None } else { topic_id(&CStr::from_ptr(text).to_string_lossy()) };
            let mut partitions = 0;
            rd::rd_kafka_TopicDescription_partitions(topic, &mut partitions);
            described.push((name, Ok((id, partitions))));
        }
    }
    Ok(described)
}

/// An id as Kafka's own tools write it; `None` for the one of zeros, which stands for none.
fn topic_id(base64: &str) -> Option<String> {
    let text = base64.trim_end_matches('=');
    let url_safe = text.chars().map(|c| match c {
        '+' => '-',
        '/' => '_',
        other => other,
    });
    text.bytes().any(|byte| byte != b'A').then(|| url_safe.collect())
}

#[cfg(test)]
mod tests {
    use rdkafka::Offset;

    use super::*;

    #[test]
    fn a_text_beside_a_position_ends_before_zero_bytes() {
        let mut list = TopicPartitionList::new();
        for (partition, text) in ["text", "text\0", "\0", "te\0xt"].into_iter().enumerate() {
            list.add_partition_offset("topic", partition as i32, Offset::Offset(7)).unwrap();
            list.elements()[partition].set_metadata(text);
        }
        let texts: Vec<_> = (0..5).map(|index| committed_text(&list, index)).collect();
        let expected = [Some("text"), Some("text"), Some(""), Some("te\0xt"), None];
        assert_eq!(texts, expected.map(|text| text.map(str::to_owned)));
    }

    #[test]
    fn an_id_is_written_as_kafkas_tools_do_and_zeros_are_none() {
        assert_eq!(topic_id("a+/b=="), Some("a-_b".to_owned()));
        assert_eq!(topic_id("AAAAAAAAAAAAAAAAAAAAAA"), None);
    }
}
