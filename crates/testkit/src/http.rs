//! Asks a small HTTP server of this machine.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The number that says how it went.
    pub status: u16,
    /// The line with that number and the headers, in small letters.
    pub head: String,
    /// What follows.
    pub body: String,
}

impl Answer {
    /// The value of a metric's series, which is written as it stands in the text.
    pub fn series(&self, series: &str) -> Option<f64> {
        let found = self.body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        found.and_then(|value| value.parse().ok())
    }

    /// All series that begin so, added up. `None` where there is none.
    pub fn sum(&self, begins: &str) -> Option<f64> {
        let lines = self.body.lines().filter(|line| line.starts_with(begins));
        let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
    }
}

/// Asks with this method.
///
/// # Panics
/// There is no answer, or none of HTTP.
pub fn ask(at: SocketAddr, method: &str, path: &str, accept: &str) -> Answer {
    let asked = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(at)?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: {at}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = asked().unwrap_or_else(|error| panic!("{method} {path} at {at}: {error}"));
    let parts = answer.split_once("\r\n\r\n");
    let status = answer.split(' ').nth(1).and_then(|number| number.parse().ok());
    match (parts, status) {
        (Some((head, body)), Some(status)) => Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() },
        _ => panic!("{method} {path} at {at}: this is no answer: {answer}"),
    }
}

/// Asks for what is at a path.
///
/// # Panics
/// As [`ask`].
pub fn get(at: SocketAddr, path: &str) -> Answer {
    ask(at, "GET", path, "*/*")
}
