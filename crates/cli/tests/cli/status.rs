//! `--status_listen`: what a program answers over HTTP while it works.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;

use datamill_testkit::http::{Answer, ask, get};

use crate::common::{Place, Running, wait_until};

/// A program that serves its status, and where.
struct Served {
    running: Running,
    at: SocketAddr,
}

/// Starts a program with a free port.
fn start(place: &Place, args: &[&str]) -> Served {
    let mut command = place.command(&[args, &["--status_listen", "0"]].concat());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let running = Running(child);
    let mut said = Vec::new();
    let at = loop {
        let line = lines.next().unwrap_or_else(|| panic!("it ended: {said:?}")).unwrap();
        if let Some((_, url)) = line.split_once("url=http://") {
            break url.strip_suffix("/").unwrap().parse().unwrap();
        }
        said.push(line);
    };
    std::thread::spawn(move || lines.for_each(drop));
    Served { running, at }
}

impl Served {
    fn get(&self, path: &str) -> (u16, String) {
        let answer = get(self.at, path);
        (answer.status, answer.body)
    }

    /// The value of a series.
    fn metric(&self, series: &str) -> Option<f64> {
        get(self.at, "/metrics").series(series)
    }

    fn wait_for(&self, series: &str, value: f64) {
        wait_until(series, || self.metric(series) == Some(value));
    }
}

#[test]
fn a_program_that_reads_is_ready_once_it_has_joined_and_counts_its_files() {
    let place = Place::new();
    for name in ["a", "b", "c \"quoted\""] {
        place.write(&format!("in/{name}"), name.as_bytes());
    }
    assert_eq!(place.run(&["upload", "in", "--topic_name", "t"]).code(), 0);
    let served = start(&place, &["download", "mirror", "--topic_name", "t"]);
    assert_eq!(served.get("/livez"), (200, "alive\n".to_owned()));
    wait_until("it is ready", || served.get("/readyz") == (200, "ready\n".to_owned()));
    served.wait_for("datamill_files_total{outcome=\"done\"}", 3.0);
    served.wait_for("datamill_files_waiting", 0.0);
    assert_eq!(served.metric("datamill_partitions"), Some(1.0));
    assert_eq!(served.metric("datamill_group_member"), Some(1.0));
    assert_eq!(served.metric("datamill_held{reason=\"commits\"}"), Some(0.0));
    assert_eq!(served.metric("datamill_messages_total{what=\"processed\"}"), Some(3.0));
    wait_until("no lag", || get(served.at, "/metrics").sum("datamill_lag_files{topic=\"t\"") == Some(0.0));

    let open = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    let Answer { head, body, .. } = ask(served.at, "GET", "/metrics", open);
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
    assert!(body.contains("\n# TYPE datamill_files counter\n") && body.ends_with("\n# EOF\n"), "{body}");
    let Answer { head, body, .. } = ask(served.at, "GET", "/metrics", "text/plain");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(body.contains("\n# TYPE datamill_files_total counter\n") && !body.contains("# EOF"), "{body}");
    assert!(!body.contains("quoted"), "a name of a file is in the metrics: {body}");

    assert_eq!(served.get("/nothing").0, 404);
    assert_eq!(ask(served.at, "POST", "/metrics", "*/*").status, 405);
    assert_eq!(served.running.end(), 0);
    TcpListener::bind(served.at).unwrap();
}

#[test]
fn a_watch_counts_what_it_sends_and_says_what_holds_it() {
    let place = Place::new();
    place.write("in/first", b"1");
    let watch = ["watch", "in", "--topic_name", "t", "--upload_existing", "--watchdog_lag_time", "0.1"];
    let served = start(&place, &watch);
    served.wait_for("datamill_files_total{outcome=\"delivered\"}", 1.0);
    assert_eq!(served.get("/readyz").0, 200);
    assert_eq!(served.metric("datamill_group_member"), None, "it has no group");
    std::fs::rename(place.path("in"), place.path("elsewhere")).unwrap();
    served.wait_for("datamill_held{reason=\"watched_folder\"}", 1.0);
    std::fs::rename(place.path("elsewhere"), place.path("in")).unwrap();
    served.wait_for("datamill_held{reason=\"watched_folder\"}", 0.0);
    assert!(served.metric("datamill_held_seconds_total{reason=\"watched_folder\"}").unwrap() > 0.0);
    assert_eq!(served.running.end(), 0);
}

#[test]
fn a_page_that_is_open_is_written_again_while_files_are_sent() {
    let place = Place::new();
    place.write("in/first.dat", b"1");
    place.write("in/run.log", b"2");
    let watch = ["watch", "in", "--topic_name", "t", "--upload_existing", "--watchdog_lag_time", "0.1"];
    let served = start(&place, &watch);
    wait_until("the first file on the page", || served.get("/").1.contains("first.dat</bdi>"));
    let page = served.get("/").1;
    assert!(page.contains("run.log</bdi></td><td class=\"why\">log file"), "{page}");
    for (path, begins) in [("/status.css", ":root"), ("/status.js", "// ")] {
        let (status, body) = served.get(path);
        assert!(status == 200 && body.starts_with(begins) && page.contains(&path[1..]), "{path}: {body}");
    }
    for outside in ["http://", "https://", "//"] {
        let named = page.split("src=\"").chain(page.split("href=\"")).skip(1);
        assert!(named.clone().all(|address| !address.starts_with(outside)), "a resource from elsewhere: {page}");
    }
    let head = get(served.at, "/").head;
    assert!(head.contains("content-security-policy: default-src 'none';"), "{head}");

    let mut stream = TcpStream::connect(served.at).unwrap();
    write!(stream, "GET /events HTTP/1.1\r\nHost: {}\r\n\r\n", served.at).unwrap();
    place.write("in/second.dat", b"3");
    let mut lines = BufReader::new(stream).lines().map(|line| line.unwrap());
    assert!(
        lines.any(|line| line.starts_with("data: ") && line.contains("second.dat</bdi>")),
        "the page is not written again"
    );
    assert_eq!(served.running.end(), 0);
}

#[test]
fn the_page_of_a_watch_names_the_files_that_wait_and_says_what_was_there_before() {
    let place = Place::new();
    place.write("in/before.dat", b"1");
    let served = start(&place, &["watch", "in", "--topic_name", "t", "--watchdog_lag_time", "3600"]);
    wait_until("that it is watched", || served.get("/").1.contains("from <b><bdi class=\"name\">in</bdi></b>"));
    wait_until("the file that was there", || {
        served.get("/").1.contains("<data value=\"1\">1</data> there at the first start")
    });
    place.write("in/new <b>.dat", b"2");
    wait_until("the file that waits", || {
        let page = served.get("/").1;
        page.contains("waiting until 1 file no longer changes")
            && page.contains("new &lt;b&gt;.dat</bdi></td><td class=\"why\">is sent once it no longer changes")
    });
    assert_eq!(served.running.end(), 0);
}

#[test]
fn connections_that_only_wait_keep_nothing_from_its_work() {
    let place = Place::new();
    place.write("in/a", b"1");
    assert_eq!(place.run(&["upload", "in", "--topic_name", "t"]).code(), 0);
    let served = start(&place, &["download", "mirror", "--topic_name", "t"]);
    served.wait_for("datamill_files_total{outcome=\"done\"}", 1.0);
    let idle: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(served.at).unwrap()).collect();
    place.write("more/b", b"2");
    assert_eq!(place.run(&["upload", "more", "--topic_name", "t"]).code(), 0);
    wait_until("the second file", || place.path("mirror/b").exists());
    drop(idle);
    served.wait_for("datamill_files_total{outcome=\"done\"}", 2.0);
    let idle: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(served.at).unwrap()).collect();
    assert_eq!(served.running.end(), 0);
    drop(idle);
}

#[test]
fn an_address_that_is_taken_or_is_none_is_told_at_the_start() {
    let place = Place::new();
    place.write("in/a", b"1");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (value, said) in [(&*address, "choose another address or port with --status_listen"), (":9400", "write a port")]
    {
        let ended = place.run(&["upload", "in", "--topic_name", "t", "--status_listen", value]);
        assert_eq!(ended.code(), 2, "{}", ended.stderr());
        assert!(ended.stderr().contains(said), "{}", ended.stderr());
    }
}
