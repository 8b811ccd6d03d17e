//! What rdkafka does not offer safely: a member's generation, header names and texts beside positions
//! of any bytes, ids of topics, groups and their members, what an account may do. All `unsafe` of this backend is here and in `records.rs`.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::client::Client;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::message::BorrowedMessage;
use rdkafka::{ClientContext, TopicPartitionList};

use super::throttle;

use crate::examined::{Member, Operation};

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

/// Lets `throttle::heard` hear for how long a broker makes this client wait. Answers the number under which it does. MUST
/// come before the client sends or reads.
pub(super) fn on_throttle<C: ClientContext>(client: &Client<C>) -> usize {
    extern "C" fn heard(client: *mut rd::rd_kafka_t, _: *const c_char, _: i32, ms: c_int, _: *mut c_void) {
        throttle::heard(client as usize, u64::try_from(ms).unwrap_or(0));
    }
    // SAFETY: `native_ptr` is a live client, and its configuration a part of it, which librdkafka hands out as constant only
    // so that nobody changes what it has read already. The setter asks for a name that is known, and stores one aligned
    // pointer. librdkafka reads that each time when an answer says how long to wait: where it is null, nobody is told.
    // A thread of the client that has such an answer at this moment reads the one or the other. The function lives for
    // ever, may be called on any thread, and does not panic.
    #[allow(unsafe_code)]
    unsafe {
        let client = client.native_ptr();
        rd::rd_kafka_conf_set_throttle_cb(rd::rd_kafka_conf(client).cast_mut(), Some(heard));
        client as usize
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

/// What an account may do, as one broker tells it; `None` where it does not say so.
pub(super) type Operations = Option<Vec<Operation>>;

/// A topic as one broker describes it.
#[derive(Debug)]
pub(super) struct DescribedTopic {
    /// `None` where the broker has no ids.
    pub(super) id: Option<String>,
    pub(super) partitions: usize,
    /// Least number of copies that a partition has.
    pub(super) copies: Option<usize>,
    pub(super) operations: Operations,
}

/// What a broker says of a topic.
pub(super) type Described = Result<DescribedTopic, Code>;

/// An answer of a broker to an administrating question, and the queue through which it came.
struct Answer {
    // dropped first
    event: Owned<rd::rd_kafka_event_t>,
    _queue: Owned<rd::rd_kafka_queue_t>,
}

/// Asks one broker an administrating question, which `start` sends, and waits for the answer.
///
/// # Safety
/// `start` gets a live client, options and a queue, and must hand all three to the function of librdkafka that `kind` is
/// about, and keep none of them.
#[allow(unsafe_code)]
unsafe fn ask<C: ClientContext>(
    client: &Client<C>,
    kind: rd::rd_kafka_admin_op_t,
    with_operations: bool,
    limit: Duration,
    start: impl FnOnce(*mut rd::rd_kafka_t, *const rd::rd_kafka_AdminOptions_t, *mut rd::rd_kafka_queue_t),
) -> Result<Answer, Code> {
    let limit_ms = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: `native_ptr` is a live client for as long as `client` is borrowed. The queue, the options, a possible error
    // and the event are ours, are checked for null, and are given back once, in the reverse order of their creation. The
    // request holds the queue itself if it ends later.
    unsafe {
        let no_memory = Code::Fail;
        let rk = client.native_ptr();
        let queue = Owned::new(rd::rd_kafka_queue_new(rk), rd::rd_kafka_queue_destroy).ok_or(no_memory)?;
        let options = rd::rd_kafka_AdminOptions_new(rk, kind);
        let options = Owned::new(options, rd::rd_kafka_AdminOptions_destroy).ok_or(no_memory)?;
        let mut why = [0; 128];
        rd::rd_kafka_AdminOptions_set_request_timeout(options.at, limit_ms, why.as_mut_ptr(), why.len());
        if with_operations {
            let refused = rd::rd_kafka_AdminOptions_set_include_authorized_operations(options.at, 1);
            drop(Owned::new(refused, rd::rd_kafka_error_destroy));
        }
        start(rk, options.at, queue.at);
        // The request ends by itself, with a timeout at the latest.
        let event = rd::rd_kafka_queue_poll(queue.at, limit_ms.saturating_add(200));
        let event = Owned::new(event, rd::rd_kafka_event_destroy).ok_or(Code::OperationTimedOut)?;
        match Code::from(rd::rd_kafka_event_error(event.at)) {
            Code::NoError => Ok(Answer { event, _queue: queue }),
            code => Err(code),
        }
    }
}

/// The code of an error that belongs to an answer.
///
/// # Safety
/// `error` must be null or live.
#[allow(unsafe_code)]
unsafe fn code_of(error: *const rd::rd_kafka_error_t) -> Code {
    // SAFETY: as demanded
    if error.is_null() { Code::NoError } else { Code::from(unsafe { rd::rd_kafka_error_code(error) }) }
}

/// A text that belongs to an answer; empty for null.
///
/// # Safety
/// `text` must be null or NUL-terminated and live.
#[allow(unsafe_code)]
unsafe fn text_of(text: *const c_char) -> String {
    // SAFETY: as demanded
    if text.is_null() { String::new() } else { unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned() }
}

/// The operations in an answer.
///
/// # Safety
/// `operations` must be null, or `count` live elements.
#[allow(unsafe_code)]
unsafe fn operations_of(operations: *const rd::rd_kafka_AclOperation_t, count: usize) -> Operations {
    // as numbers: a newer broker may have some that the enumeration lacks
    let numbers = operations.cast::<u32>();
    // SAFETY: as demanded, and the enumeration has the size of a `u32`
    let all = (!numbers.is_null()).then(|| unsafe { std::slice::from_raw_parts(numbers, count) })?;
    Some(all.iter().filter_map(|number| operation(*number)).collect())
}

fn operation(number: u32) -> Option<Operation> {
    use rd::rd_kafka_AclOperation_t as Of;

    let known = [
        (Of::RD_KAFKA_ACL_OPERATION_READ, Operation::Read),
        (Of::RD_KAFKA_ACL_OPERATION_WRITE, Operation::Write),
        (Of::RD_KAFKA_ACL_OPERATION_CREATE, Operation::Create),
        (Of::RD_KAFKA_ACL_OPERATION_DELETE, Operation::Delete),
        (Of::RD_KAFKA_ACL_OPERATION_DESCRIBE, Operation::Describe),
        (Of::RD_KAFKA_ACL_OPERATION_DESCRIBE_CONFIGS, Operation::DescribeConfigs),
    ];
    known.into_iter().find(|(of, _)| *of as u32 == number).map(|(_, operation)| operation)
}

/// Asks one broker about topics. Answers each with its name. Creates none.
pub(super) fn describe_topics<C: ClientContext>(
    client: &Client<C>,
    names: &[&str],
    with_operations: bool,
    limit: Duration,
) -> Result<Vec<(String, Described)>, Code> {
    let names: Vec<CString> = names.iter().filter_map(|name| CString::new(*name).ok()).collect();
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let mut described = Vec::with_capacity(names.len());
    // SAFETY: the collection is ours, is checked for null and given back at the end of this block. It copies the names,
    // which live until then anyway, and the request copies the collection. The answer and all that is read from it belong
    // to the event: the arrays have as many elements as is said, names and ids are NUL-terminated or null, and everything
    // is copied. The text of an id is kept in the id, which nobody else can see.
    #[allow(unsafe_code)]
    unsafe {
        let asked = rd::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let asked = Owned::new(asked, rd::rd_kafka_TopicCollection_destroy).ok_or(Code::Fail)?;
        let kind = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let answer = ask(client, kind, with_operations, limit, |rk, options, queue| {
            rd::rd_kafka_DescribeTopics(rk, asked.at, options, queue);
        })?;
        let result = rd::rd_kafka_event_DescribeTopics_result(answer.event.at);
        if result.is_null() {
            return Err(Code::Fail);
        }
        let mut count = 0;
        let topics = rd::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        for index in 0..if topics.is_null() { 0 } else { count } {
            let topic = *topics.add(index);
            let name = text_of(rd::rd_kafka_TopicDescription_name(topic));
            let code = code_of(rd::rd_kafka_TopicDescription_error(topic));
            if code != Code::NoError {
                described.push((name, Err(code)));
                continue;
            }
            let id = rd::rd_kafka_TopicDescription_topic_id(topic);
            let id = if id.is_null() { ptr::null() } else { rd::rd_kafka_Uuid_base64str(id) };
            let id = topic_id(&text_of(id));
            let mut partitions = 0;
            let parts = rd::rd_kafka_TopicDescription_partitions(topic, &mut partitions);
            let copies = (0..if parts.is_null() { 0 } else { partitions }).map(|index| {
                let mut copies = 0;
                rd::rd_kafka_TopicPartitionInfo_replicas(*parts.add(index), &mut copies);
                copies
            });
            let copies = copies.min();
            let mut allowed = 0;
            let operations = rd::rd_kafka_TopicDescription_authorized_operations(topic, &mut allowed);
            let operations = operations_of(operations, allowed);
            described.push((name, Ok(DescribedTopic { id, partitions, copies, operations })));
        }
    }
    Ok(described)
}

/// The partitions that a member of a group owns.
///
/// # Safety
/// `member` must be live.
#[allow(unsafe_code)]
unsafe fn owned_by(member: *const rd::rd_kafka_MemberDescription_t) -> Vec<(String, i32)> {
    // SAFETY: `member` is live as demanded, and so is what belongs to it: the list has `cnt` elements, whose names are
    // NUL-terminated. Everything is copied.
    unsafe {
        let assignment = rd::rd_kafka_MemberDescription_assignment(member);
        let list =
            if assignment.is_null() { ptr::null() } else { rd::rd_kafka_MemberAssignment_partitions(assignment) };
        if list.is_null() || (*list).elems.is_null() {
            return Vec::new();
        }
        let count = usize::try_from((*list).cnt).unwrap_or(0);
        (0..count)
            .map(|index| {
                let place = (*list).elems.add(index);
                (text_of((*place).topic), (*place).partition)
            })
            .collect()
    }
}

/// The members of a group, of whichever protocol, and what the account may do with the group. A group that is not there
/// has no members.
pub(super) fn describe_group<C: ClientContext>(
    client: &Client<C>,
    group: &str,
    limit: Duration,
) -> Result<(Vec<Member>, Operations), Code> {
    let name = CString::new(group).map_err(|_| Code::InvalidGroupId)?;
    let mut names = [name.as_ptr()];
    // SAFETY: the request copies the name, which lives until the end of this function. The answer and all that is read
    // from it belong to the event: the array has `count` elements, texts are NUL-terminated or null, members are live for
    // each index below their number, and everything is copied.
    #[allow(unsafe_code)]
    unsafe {
        let kind = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
        let answer = ask(client, kind, true, limit, |rk, options, queue| {
            rd::rd_kafka_DescribeConsumerGroups(rk, names.as_mut_ptr(), names.len(), options, queue);
        })?;
        let result = rd::rd_kafka_event_DescribeConsumerGroups_result(answer.event.at);
        if result.is_null() {
            return Err(Code::Fail);
        }
        let mut count = 0;
        let groups = rd::rd_kafka_DescribeConsumerGroups_result_groups(result, &mut count);
        if groups.is_null() || count == 0 {
            return Err(Code::Fail);
        }
        let found = *groups;
        match code_of(rd::rd_kafka_ConsumerGroupDescription_error(found)) {
            Code::NoError => {}
            Code::GroupIdNotFound => return Ok((Vec::new(), None)),
            code => return Err(code),
        }
        let members = (0..rd::rd_kafka_ConsumerGroupDescription_member_count(found)).map(|index| {
            let member = rd::rd_kafka_ConsumerGroupDescription_member(found, index);
            let instance = text_of(rd::rd_kafka_MemberDescription_group_instance_id(member));
            Member {
                id: text_of(rd::rd_kafka_MemberDescription_consumer_id(member)),
                instance: Some(instance).filter(|instance| !instance.is_empty()),
                client_id: text_of(rd::rd_kafka_MemberDescription_client_id(member)),
                host: text_of(rd::rd_kafka_MemberDescription_host(member)).trim_start_matches('/').to_owned(),
                owned: owned_by(member),
            }
        });
        let members = members.collect();
        let mut allowed = 0;
        let operations = rd::rd_kafka_ConsumerGroupDescription_authorized_operations(found, &mut allowed);
        Ok((members, operations_of(operations, allowed)))
    }
}

/// Names of the consumer groups that the account sees.
pub(super) fn list_groups<C: ClientContext>(client: &Client<C>, limit: Duration) -> Result<Vec<String>, Code> {
    // SAFETY: the answer and all that is read from it belong to the event: both arrays have as many elements as is said,
    // names are NUL-terminated or null, and everything is copied.
    #[allow(unsafe_code)]
    unsafe {
        let kind = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPS;
        let answer = ask(client, kind, false, limit, |rk, options, queue| {
            rd::rd_kafka_ListConsumerGroups(rk, options, queue);
        })?;
        let result = rd::rd_kafka_event_ListConsumerGroups_result(answer.event.at);
        if result.is_null() {
            return Err(Code::Fail);
        }
        let mut count = 0;
        // each broker answers for the groups that it coordinates
        let errors = rd::rd_kafka_ListConsumerGroups_result_errors(result, &mut count);
        if !errors.is_null() && count > 0 {
            return Err(code_of(*errors));
        }
        let groups = rd::rd_kafka_ListConsumerGroups_result_valid(result, &mut count);
        let groups = (0..if groups.is_null() { 0 } else { count }).map(|index| *groups.add(index));
        Ok(groups.map(|group| text_of(rd::rd_kafka_ConsumerGroupListing_group_id(group))).collect())
    }
}

/// Whether a group has a position in one of these partitions.
pub(super) fn has_position<C: ClientContext>(
    client: &Client<C>,
    group: &str,
    partitions: &TopicPartitionList,
    limit: Duration,
) -> Result<bool, Code> {
    let name = CString::new(group).map_err(|_| Code::InvalidGroupId)?;
    // SAFETY: `partitions.ptr()` is a live list for as long as `partitions` is borrowed. The question copies it and the name,
    // is ours, is checked for null and given back at the end of this block; the request copies the question. The answer and
    // all that is read from it belong to the event: the array has `count` elements, and the list is null or has `cnt` live
    // elements.
    #[allow(unsafe_code)]
    unsafe {
        let question = rd::rd_kafka_ListConsumerGroupOffsets_new(name.as_ptr(), partitions.ptr());
        let question = Owned::new(question, rd::rd_kafka_ListConsumerGroupOffsets_destroy).ok_or(Code::Fail)?;
        let mut questions = [question.at];
        let kind = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS;
        let answer = ask(client, kind, false, limit, |rk, options, queue| {
            rd::rd_kafka_ListConsumerGroupOffsets(rk, questions.as_mut_ptr(), questions.len(), options, queue);
        });
        let answer = match answer {
            // it went meanwhile
            Err(Code::GroupIdNotFound) => return Ok(false),
            answer => answer?,
        };
        let result = rd::rd_kafka_event_ListConsumerGroupOffsets_result(answer.event.at);
        if result.is_null() {
            return Err(Code::Fail);
        }
        let mut count = 0;
        let groups = rd::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &mut count);
        if groups.is_null() || count == 0 {
            return Err(Code::Fail);
        }
        match code_of(rd::rd_kafka_group_result_error(*groups)) {
            Code::NoError => {}
            code => return Err(code),
        }
        let Some(found) = rd::rd_kafka_group_result_partitions(*groups).as_ref() else { return Ok(false) };
        let mut elements = (0..usize::try_from(found.cnt).unwrap_or(0)).map(|index| &*found.elems.add(index));
        // other than a position, all that stands for none is negative
        Ok(elements.any(|element| element.offset >= 0))
    }
}

/// What the account may do with the cluster.
pub(super) fn describe_cluster<C: ClientContext>(client: &Client<C>, limit: Duration) -> Result<Operations, Code> {
    // SAFETY: the answer and the operations in it belong to the event, and are copied.
    #[allow(unsafe_code)]
    unsafe {
        let kind = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECLUSTER;
        let answer = ask(client, kind, true, limit, |rk, options, queue| {
            rd::rd_kafka_DescribeCluster(rk, options, queue);
        })?;
        let result = rd::rd_kafka_event_DescribeCluster_result(answer.event.at);
        if result.is_null() {
            return Err(Code::Fail);
        }
        let mut allowed = 0;
        let operations = rd::rd_kafka_DescribeCluster_result_authorized_operations(result, &mut allowed);
        Ok(operations_of(operations, allowed))
    }
}

/// An id as Kafka's own tools write it; `None` for no text, and for the one of zeros, which stands for none.
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
