//! What a program that runs says of itself, where its `--status_listen` is.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::Value;

use super::error::SurveyError;
use super::problem::{Problem, ProblemKind, Subject};

/// How long a program may take to answer.
const WITHIN: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read at most.
const MOST: u64 = 1 << 20;

/// What a program says.
#[derive(Debug, Clone, PartialEq)]
pub struct ProgramStatus {
    /// Where it was asked.
    pub address: String,
    /// Its name.
    pub program: String,
    /// What it does, in a few words.
    pub now: String,
    /// What more there is to say.
    pub more: String,
    /// It does its work: nothing holds it for long, and it has joined its group.
    pub is_ready: bool,
    /// Its output folder is gone.
    pub is_folder_gone: bool,
    /// The whole answer.
    pub answer: Value,
}

/// Asks the program at an address: a port of this machine, or a host with a port.
///
/// # Errors
/// Nothing answers there, or something else.
pub fn program_status(address: &str) -> Result<ProgramStatus, SurveyError> {
    let failed = |source| SurveyError::Program { address: address.to_owned(), source };
    let answer = ask(address).map_err(failed)?;
    let text = |key: &str| answer.get(key).and_then(Value::as_str).map(str::to_owned);
    let (Some(program), Some(now), Some(is_ready)) =
        (text("program"), text("now"), answer.get("ready").and_then(Value::as_bool))
    else {
        return Err(failed(not_ours()));
    };
    let more = text("more").unwrap_or_default();
    let is_folder_gone = answer.get("output_folder_gone").and_then(Value::as_bool).unwrap_or(false);
    Ok(ProgramStatus { address: address.to_owned(), program, now, more, is_ready, is_folder_gone, answer })
}

impl ProgramStatus {
    /// What it says, in a sentence without its end.
    pub fn sentence(&self) -> String {
        let Self { address, program, now, more, .. } = self;
        let blank = if more.is_empty() { "" } else { ". " };
        format!("program `{program}` at `{address}` says that it is {now}{blank}{}", more.trim_end_matches('.'))
    }

    /// What needs a person who asks about this topic and group, and perhaps about a watched folder.
    pub fn problem(&self, topic: &str, group: Option<&str>, has_folder: bool) -> Option<Problem> {
        let Self { address, program, is_ready, is_folder_gone, .. } = self;
        let of = |key: &str| self.answer.get(key).and_then(Value::as_str);
        let (of_topic, of_group) = (of("topic"), of("group"));
        let is_other = match (of_group, group) {
            (Some(theirs), Some(ours)) => theirs != ours || of_topic != Some(topic),
            // an upload has no group, and does not say its topic
            (None, _) => !has_folder,
            (Some(_), None) => true,
        };
        if is_other {
            let what = match (of_group, of_topic) {
                (Some(group), Some(topic)) => format!("is of group `{group}` on topic `{topic}`"),
                _ => "sends files, and is in no group".to_owned(),
            };
            let asked = group.map_or_else(String::new, |group| format!(" of group `{group}`"));
            let text = format!(
                "program `{program}` at `{address}` {what}: it says nothing{asked} on topic `{topic}`. Check --status_address"
            );
            return Some(Problem::new(ProblemKind::OtherProgram, Subject::Program(program.clone()), text));
        }
        let subject = || Subject::Program(program.clone());
        (!is_ready || *is_folder_gone).then(|| Problem::new(ProblemKind::Holding, subject(), self.sentence()))
    }
}

fn ask(address: &str) -> io::Result<Value> {
    let place = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
    let place = if place.parse::<u16>().is_ok() { format!("127.0.0.1:{place}") } else { place.to_owned() };
    let mut failed = ErrorKind::NotFound.into();
    for at in place.to_socket_addrs()? {
        match TcpStream::connect_timeout(&at, WITHIN) {
            Ok(stream) => return get(stream, &place),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn get(mut stream: TcpStream, host: &str) -> io::Result<Value> {
    stream.set_read_timeout(Some(WITHIN))?;
    stream.set_write_timeout(Some(WITHIN))?;
    // in one piece: what answers before it has read all of it breaks the connection, and its answer may be lost
    stream.write_all(format!("GET /status.json HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(not_ours)?;
    let is_taken = head.starts_with("HTTP/1.1 200 ");
    serde_json::from_str(body).ok().filter(|_| is_taken).ok_or_else(not_ours)
}

fn not_ours() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "what listens there is no program of this version of datamill")
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Asks something that gives this answer.
    fn asked(answer: &'static str) -> Result<ProgramStatus, SurveyError> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            let request: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            assert_eq!(request[0], "GET /status.json HTTP/1.1");
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let found = program_status(&port.to_string());
        thread.join().unwrap();
        found
    }

    #[test]
    fn a_program_that_is_not_ready_needs_a_person() {
        let found = asked(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n\
            {\"program\":\"xrd\",\"topic\":\"t\",\"group\":\"g\",\"now\":\"holding: no room\",\"more\":\"Since 10:00.\",\
            \"ready\":false}\n",
        );
        let found = found.unwrap();
        let problem = found.problem("t", Some("g"), false).unwrap();
        let said = format!("program `xrd` at `{}` says that it is holding: no room. Since 10:00", found.address);
        assert_eq!((problem.kind, problem.text), (ProblemKind::Holding, said));
        let ready = ProgramStatus { is_ready: true, ..found };
        assert_eq!(ready.problem("t", Some("g"), false), None);
        for (topic, group) in [("t", Some("other")), ("other", Some("g")), ("t", None)] {
            let problem = ready.problem(topic, group, true).unwrap();
            assert_eq!(problem.kind, ProblemKind::OtherProgram);
            assert!(problem.text.contains("is of group `g` on topic `t`: it says nothing"), "{}", problem.text);
        }
        let is_gone = ProgramStatus { is_folder_gone: true, ..ready.clone() };
        assert_eq!(is_gone.problem("t", Some("g"), false).unwrap().kind, ProblemKind::Holding);
        let upload = ProgramStatus { answer: Value::Null, ..ready };
        assert_eq!(upload.problem("t", Some("g"), true), None);
        assert_eq!(upload.problem("t", Some("g"), false).unwrap().kind, ProblemKind::OtherProgram);
    }

    #[test]
    fn what_is_no_program_is_told_with_its_address() {
        for answer in ["HTTP/1.1 404 Not Found\r\n\r\n{}", "HTTP/1.1 200 OK\r\n\r\n{}", "SSH-2.0\r\n"] {
            let error = asked(answer).unwrap_err();
            let said = crate::report::chain(&error);
            assert!(said.contains("how it stands: check the address") && said.contains("is no program of"), "{said}");
        }
    }
}
