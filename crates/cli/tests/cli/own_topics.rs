//! The files of the embedded log lie among the user's: they are never sent, and no file is put in their place.

#![cfg(unix)]

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use datamill_testkit::kafka::Kafka;

use crate::common::{Place, Running, record, wait_until};

/// What is in a topic, by path.
fn paths(place: &Place, topic: &str, config: &[&str]) -> Vec<String> {
    let ended = place.run(&[&["read", topic, "--exit-at-end"], config].concat());
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    let lines = ended.stdout();
    let keys = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mut paths: Vec<String> = keys.map(|line| line["key"].as_str().unwrap().to_owned()).collect();
    paths.sort();
    paths
}

fn key(path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or_default();
    let name = if folder.is_empty() { path } else { name };
    format!("{}_{name}_chunk_1_of_1", folder.replace('/', "_"))
}

#[test]
fn an_upload_of_the_folder_of_the_log_sends_the_data_alone() {
    let place = Place::new();
    place.write("a.csv", b"a");
    let upload = place.run(&["upload", ".", "--topic_name", "files"]);
    assert_eq!(upload.code(), 0, "{}", upload.stderr());
    assert!(upload.stderr().contains("sent 1 file"), "{}", upload.stderr());
    let named =
        "left out: 3 datamill's own, which hold the topics: `datamill.db`, `datamill.db-shm`, `datamill.db-wal`";
    assert!(upload.stderr().contains(named), "{}", upload.stderr());
    assert_eq!(paths(&place, "files", &[]), [key("a.csv")]);
}

#[test]
fn it_is_the_file_that_counts_whatever_leads_to_it() {
    let place = Place::new();
    place.write("data/a.csv", b"a");
    // of another name in a folder below, named by a relative path
    fs::create_dir_all(place.path("data/deep/er")).unwrap();
    place.write("data/c.config", b"[broker]\nbootstrap.servers = sqlite:deep/er/topics.dat\n");
    let config = ["--config", "data/c.config"];
    let send = |what: &[&str]| place.run(&[&["upload"], what, &["--topic_name", "t"], &config[..]].concat());
    assert_eq!(send(&["data/a.csv"]).code(), 0);
    // a group, whose lock file stays
    let download = place.run(&[&["download", "mirror", "--topic_name", "t", "--exit-at-end"], &config[..]].concat());
    assert_eq!(download.code(), 0, "{}", download.stderr());
    assert!(place.path("data/deep/er/topics.dat-group-1.lock").exists());
    symlink("deep/er/topics.dat", place.path("data/link.dat")).unwrap();
    fs::hard_link(place.path("data/deep/er/topics.dat"), place.path("data/hard.dat")).unwrap();
    let all = send(&["data"]);
    assert!(all.stderr().contains("sent 2 files"), "{}", all.stderr());
    assert!(all.stderr().contains("left out: 6 datamill's own, which hold the topics"), "{}", all.stderr());
    for named in ["data/deep/er/topics.dat", "data/link.dat", "data/hard.dat"] {
        // another file keeps the log open meanwhile, and shows that the rest is sent
        let ended = send(&["data/a.csv", named]);
        assert!(ended.stderr().contains("sent 1 file"), "{}", ended.stderr());
        assert!(ended.stderr().contains("datamill's own, which hold the topics"), "{}", ended.stderr());
    }
    let mut expected = vec![key("a.csv"), key("c.config")];
    expected.extend(std::iter::repeat_n(key("a.csv"), 4));
    expected.sort();
    assert_eq!(paths(&place, "t", &config), expected);
    // a copy of the log is the user's
    fs::copy(place.path("data/deep/er/topics.dat"), place.path("data/copy.dat")).unwrap();
    assert!(send(&["data/copy.dat"]).stderr().contains("sent 1 file"));
}

#[test]
fn a_watch_of_the_folder_of_the_log_does_not_feed_itself() {
    let place = Place::new();
    place.write("a.csv", b"a");
    let watch = ["watch", ".", "--topic_name", "files", "--upload_existing", "--watchdog_lag_time", "0.1"];
    let running = Running(place.start(&watch));
    wait_until("the file", || record(&place.path("")).contains("\"a.csv\""));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(running.end(), 0);
    assert_eq!(paths(&place, "files", &[]), [key("a.csv")]);
    let again = place.run(&[&watch[..], &["--exit-at-end"]].concat());
    assert_eq!(again.code(), 0, "{}", again.stderr());
    assert!(again.stderr().contains("sent 0 files"), "{}", again.stderr());
    assert!(again.stderr().contains("which hold the topics: `datamill.db`, "), "{}", again.stderr());
}

#[test]
fn a_download_puts_nothing_in_the_place_of_the_log_whatever_on_exists_says() {
    let place = Place::new();
    let names = ["datamill.db", "datamill.db-wal", "datamill.db-journal", "datamill.db-group-99.lock"];
    for name in names {
        place.write(&format!("src/{name}"), b"x");
        let later = fs::File::options().write(true).open(place.path(&format!("src/{name}"))).unwrap();
        later.set_modified(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000)).unwrap();
    }
    place.write("src/datamill.db-shm/below.csv", b"x");
    place.write("src/good.csv", b"good");
    assert_eq!(place.run(&["upload", "src", "--topic_name", "files"]).code(), 0);
    symlink(".", place.path("way")).unwrap();
    for on_exists in ["newer", "skip", "replace", "version", "fail"] {
        for folder in [".", "way"] {
            let group = format!("{on_exists}-{}", folder.len());
            let options =
                ["--exit-at-end", "--max_attempts", "1", "--on_exists", on_exists, "--consumer_group_id", &group];
            let ended = place.run(&[&["download", folder, "--topic_name", "files"], &options[..]].concat());
            assert_eq!(ended.code(), 1, "{on_exists}: {}", ended.stderr());
            assert!(ended.stderr().contains("1 file of topic `files` processed"), "{on_exists}: {}", ended.stderr());
            assert!(
                ended.stderr().contains("is a file of the embedded log, which holds the topics"),
                "{}",
                ended.stderr()
            );
        }
        assert_eq!(paths(&place, "files", &[]).len(), 6, "the log and all that is in it are there");
        assert_eq!(fs::read(place.path("good.csv")).unwrap(), b"good");
        for name in ["datamill.db-journal", "datamill.db-group-99.lock"] {
            assert!(!place.path(name).exists(), "{name}");
        }
    }
    // what failed stays in the topic, and arrives in another folder
    let ended = place.run(&["download", "elsewhere", "--topic_name", "files", "--exit-at-end"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    names.iter().for_each(|name| assert!(place.path("elsewhere").join(name).exists(), "{name}"));
}

#[test]
fn a_transfer_to_the_folder_of_the_log_puts_nothing_in_its_place() {
    let place = Place::new();
    fs::create_dir_all(place.path("store/files")).unwrap();
    place.write("c.config", b"[broker]\nbootstrap.servers = sqlite:store/files/log.db\n");
    place.write("src/log.db", b"x");
    place.write("src/good.csv", b"good");
    let config = ["--config", "c.config"];
    assert_eq!(place.run(&[&["upload", "src", "--topic_name", "files"], &config[..]].concat()).code(), 0);
    let url = format!("file://{}", place.path("store").display());
    for on_exists in ["newer", "replace", "version"] {
        let group =
            ["--consumer_group_id", on_exists, "--on_exists", on_exists, "--max_attempts", "1", "--exit-at-end"];
        let args = [&["transfer", "--to", &url, "--topic_name", "files"], &config[..], &group[..]].concat();
        let ended = place.run(&args);
        assert_eq!(ended.code(), 1, "{on_exists}: {}", ended.stderr());
        assert!(ended.stderr().contains("is a file of the embedded log"), "{}", ended.stderr());
        assert_eq!(paths(&place, "files", &config).len(), 2, "{on_exists}");
        assert_eq!(fs::read(place.path("store/files/good.csv")).unwrap(), b"good");
    }
}

#[test]
fn nothing_else_is_written_into_the_log_or_removed_with_it() {
    let place = Place::new();
    place.write("a.csv", b"a");
    let upload = ["upload", "a.csv", "--topic_name", "files"];
    assert_eq!(place.run(&upload).code(), 0);
    for log_file in ["datamill.db", "./datamill.db-wal", "datamill.db-group-1.lock"] {
        let ended = place.run(&[&upload[..], &["--logger_file_path", log_file]].concat());
        assert_eq!(ended.code(), 2, "{log_file}: {}", ended.stderr());
        assert!(ended.stderr().contains("it is a file of the embedded log"), "{}", ended.stderr());
    }
    assert_eq!(paths(&place, "files", &[]).len(), 1);
    // a log where the program removes things at a start
    fs::create_dir_all(place.path("mirror/.datamill/filling")).unwrap();
    place.write("c.config", b"[broker]\nbootstrap.servers = sqlite:mirror/.datamill/filling/log.db\n");
    let config = ["--config", "c.config"];
    assert_eq!(place.run(&[&upload[..], &config[..]].concat()).code(), 0);
    let download = ["download", "mirror", "--topic_name", "files", "--exit-at-end"];
    let ended = place.run(&[&download[..], &config[..]].concat());
    assert_eq!(ended.code(), 2, "{}", ended.stderr());
    assert!(ended.stderr().contains("move the log to another folder"), "{}", ended.stderr());
    assert_eq!(paths(&place, "files", &config).len(), 1);
}

#[test]
fn on_kafka_a_file_of_that_name_is_data() {
    let place = Place::new();
    let kafka = Kafka::from_env();
    place.write("c.config", format!("[broker]\nbootstrap.servers = {}\n", kafka.address()).as_bytes());
    let config = ["--config", "c.config"];
    let folder = place.path("").file_name().unwrap().to_string_lossy().replace('.', "");
    let topic = format!("own-{folder}");
    assert_eq!(place.run(&[&["topic", "create", &topic], &config[..]].concat()).code(), 0);
    place.write("src/datamill.db", b"not a log");
    let sent = place.run(&[&["upload", "src", "--topic_name", &topic], &config[..]].concat());
    assert!(sent.stderr().contains("sent 1 file"), "{}", sent.stderr());
    let ended = place.run(&[&["download", "mirror", "--topic_name", &topic, "--exit-at-end"], &config[..]].concat());
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    assert_eq!(fs::read(place.path("mirror/datamill.db")).unwrap(), b"not a log");
}
