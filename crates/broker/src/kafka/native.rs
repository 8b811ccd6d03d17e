//! What rdkafka does not offer safely: a member's generation, header names and texts beside positions
//! of any bytes. All `unsafe` of this backend is here.

use std::ffi::CStr;
use std::ptr;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as rd;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::message::BorrowedMessage;

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
}
