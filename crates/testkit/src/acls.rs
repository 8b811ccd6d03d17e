//! Access control lists of a broker, changed over its own protocol: `kafka-acls.sh` takes seconds for each change.
//!
//! ```text
//! request   length i32, API key i16, version i16, number i32, client "datamill-testkit", body
//! answer    length i32, number i32, time that it was throttled i32, body
//! ```
//! Texts have their length before them, an i16, and lists an i32.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const DESCRIBE: i16 = 29;
const CREATE: i16 = 30;
const DELETE: i16 = 31;
const VERSION: i16 = 1;

/// In filters, of whatever kind.
const ANY: u8 = 1;
const ALLOW: u8 = 3;

/// One operation on one resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acl {
    /// In the words of `kafka-acls.sh`, such as `Read`.
    pub operation: String,
    /// Its option for the kind of resource, such as `--topic`.
    pub kind: String,
    /// Name of the resource, or what the names of resources begin with.
    pub name: String,
    /// It is about all names that begin so.
    pub is_prefixed: bool,
}

impl Acl {
    /// Those that `kafka-acls.sh` makes of these words: each operation on each resource.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Vec<Self> {
        let (mut operations, mut resources, mut is_prefixed) = (Vec::new(), Vec::new(), false);
        let mut words = words.into_iter();
        while let Some(option) = words.next() {
            if option == "--cluster" {
                resources.push((option, "kafka-cluster"));
                continue;
            }
            let value = words.next().unwrap_or_else(|| panic!("{option} has a value"));
            match option {
                "--operation" => operations.push(value),
                "--resource-pattern-type" => is_prefixed = value == "prefixed",
                _ => resources.push((option, value)),
            }
        }
        let all = operations.iter().flat_map(|operation| resources.iter().map(move |resource| (operation, resource)));
        let acl = |(operation, (kind, name)): (&&str, &(&str, &str))| Self {
            operation: (*operation).to_owned(),
            kind: (*kind).to_owned(),
            name: (*name).to_owned(),
            is_prefixed,
        };
        all.map(acl).collect()
    }

    /// The numbers that Kafka has for kind, pattern and operation.
    fn numbers(&self) -> (u8, u8, u8) {
        let kind = match self.kind.as_str() {
            "--topic" => 2,
            "--group" => 3,
            "--cluster" => 4,
            "--transactional-id" => 5,
            other => panic!("no kind of resource: {other}"),
        };
        let known = [
            ("All", 2),
            ("Read", 3),
            ("Write", 4),
            ("Create", 5),
            ("Delete", 6),
            ("Describe", 8),
            ("DescribeConfigs", 10),
        ];
        let operation = known.iter().find(|(name, _)| *name == self.operation);
        let (_, operation) = operation.unwrap_or_else(|| panic!("no operation: {}", self.operation));
        (kind, if self.is_prefixed { 4 } else { 3 }, *operation)
    }
}

/// Gives an account these, and waits until the broker acts by them.
pub(crate) fn allow(address: &str, principal: &str, acls: &[Acl]) {
    let mut body = list(acls.len());
    for acl in acls {
        let (kind, pattern, operation) = acl.numbers();
        body.push(kind);
        body.extend(text(&acl.name));
        body.push(pattern);
        body.extend(text(principal));
        body.extend(text("*"));
        body.extend([operation, ALLOW]);
    }
    ask(address, CREATE, &body);
    wait_until(|| acls.iter().all(|acl| is_there(address, principal, acl)));
}

/// Takes these away from an account, and waits until the broker acts by that.
pub(crate) fn take_away(address: &str, principal: &str, acls: &[Acl]) {
    let mut body = list(acls.len());
    acls.iter().for_each(|acl| body.extend(filter(principal, acl)));
    ask(address, DELETE, &body);
    wait_until(|| acls.iter().all(|acl| !is_there(address, principal, acl)));
}

fn is_there(address: &str, principal: &str, acl: &Acl) -> bool {
    let answer = ask(address, DESCRIBE, &filter(principal, acl));
    // an error code, its text, and the list of resources
    let (code, count) = (&answer[..2], &answer[answer.len().min(4)..]);
    assert_eq!(code, [0, 0], "ACLs can be described");
    count.get(..4).is_some_and(|count| count != [0; 4])
}

fn filter(principal: &str, acl: &Acl) -> Vec<u8> {
    let (kind, pattern, operation) = acl.numbers();
    let mut filter = vec![kind];
    filter.extend(text(&acl.name));
    filter.push(pattern);
    filter.extend(text(principal));
    filter.extend(text("*"));
    filter.extend([operation, ANY]);
    filter
}

fn text(text: &str) -> Vec<u8> {
    let length = i16::try_from(text.len()).expect("a short text");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

fn list(count: usize) -> Vec<u8> {
    i32::try_from(count).expect("a short list").to_be_bytes().to_vec()
}

/// One question; the answer from behind the time of throttling on.
fn ask(address: &str, key: i16, body: &[u8]) -> Vec<u8> {
    let mut request = [key.to_be_bytes(), VERSION.to_be_bytes()].concat();
    request.extend(1_i32.to_be_bytes());
    request.extend(text("datamill-testkit"));
    request.extend(body);
    let mut stream = TcpStream::connect(address).expect("the broker listens");
    stream.write_all(&list(request.len())).expect("a request can be sent");
    stream.write_all(&request).expect("a request can be sent");
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("the broker answers");
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).expect("the broker answers");
    answer.split_off(8)
}

fn wait_until(mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "the broker does not take the change of its ACLs");
        std::thread::sleep(Duration::from_millis(5));
    }
}
