//! A WebDAV server as far as a transfer needs one, which may ask for patience first.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use datamill_testkit::s3::S3Server;

use super::bench::{Bench, content, done};

#[derive(Default)]
struct Dav {
    files: BTreeMap<String, Vec<u8>>,
    /// Requests that are answered with 503 first.
    busy: usize,
    logins: Vec<String>,
}

fn serve(dav: &Arc<Mutex<Dav>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let dav = Arc::clone(dav);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let dav = Arc::clone(&dav);
            std::thread::spawn(move || while answer(stream.as_ref().unwrap(), &dav).is_some() {});
        }
    });
    format!("http://{address}/dav")
}

/// One request; `None` at the end of the connection.
fn answer(stream: &TcpStream, dav: &Mutex<Dav>) -> Option<()> {
    // a reader of its own for each request would lose what it has read ahead: byte by byte until the body
    let mut head = Vec::new();
    let mut reader = stream;
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        reader.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let lines: Vec<String> = BufReader::new(head.as_slice()).lines().map(Result::unwrap).collect();
    let header = |name: &str| {
        let found =
            lines.iter().filter_map(|line| line.split_once(": ")).find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_owned())
    };
    let mut body = vec![0; header("content-length").map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    let (method, rest) = lines[0].split_once(' ')?;
    let path = rest.split(' ').next()?.to_owned();
    let mut dav = dav.lock().unwrap();
    dav.logins.extend(header("authorization"));
    let (status, length) = if dav.busy > 0 {
        dav.busy -= 1;
        ("503 Service Unavailable", 0)
    } else if method == "PUT" {
        dav.files.insert(path, body);
        ("201 Created", 0)
    } else {
        match dav.files.get(&path) {
            Some(file) => ("200 OK", file.len()),
            None => ("404 Not Found", 0),
        }
    };
    let modified = "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT";
    write!(reader, "HTTP/1.1 {status}\r\n{modified}\r\nContent-Length: {length}\r\n\r\n").ok()
}

#[test]
fn a_webdav_server_gets_the_files_and_is_waited_for_while_it_is_busy() {
    let dav = Arc::new(Mutex::new(Dav { busy: 7, ..Dav::default() }));
    let url = serve(&dav);
    let bench = Bench::without_bucket(&S3Server::from_env());
    let large = content(4, 20 << 20);
    bench.upload(&[("run 1/scan.csv", b"old"), ("large.raw", &large)]);
    bench.upload(&[("run 1/scan.csv", b"new")]);
    let args = ["transfer", "--to", &url, "--topic_name", "files", "--config", "lab.config", "--exit-at-end"];
    let mut command = bench.place.command(&[&args[..], &["--n_threads", "1"]].concat());
    command.env("DATAMILL_HTTP_USER", "lab").env("DATAMILL_HTTP_PASSWORD", "pass");
    let ended = crate::common::Ended::from(command.output().unwrap());
    assert_eq!(done(&ended), 3);
    assert!(
        ended.stderr().contains("not available; holding") && !ended.stderr().contains("pass"),
        "{}",
        ended.stderr()
    );
    let dav = dav.lock().unwrap();
    let wanted = BTreeMap::from([
        ("/dav/files/large.raw".to_owned(), large),
        ("/dav/files/run%201/scan.csv".to_owned(), b"new".to_vec()),
    ]);
    assert!(dav.files == wanted, "{:?}", dav.files.keys());
    // `lab:pass`
    assert!(!dav.logins.is_empty() && dav.logins.iter().all(|login| login == "Basic bGFiOnBhc3M="), "{:?}", dav.logins);
}
