//! A topic that is deleted and created again, as the programs meet it, on both logs.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use datamill_testkit::kafka::Kafka;
use rustix::process::{Pid, Signal, kill_process};

use crate::common::{Ended, Place, Running, wait_until};

struct Bench {
    place: Place,
    topic: String,
}

impl Bench {
    fn on_both(check: impl Fn(&Self)) {
        for kafka in [false, true] {
            let place = Place::new();
            let servers = match kafka {
                false => format!("sqlite:{}", place.path("log.db").display()),
                true => Kafka::from_env().address().to_owned(),
            };
            println!("{servers}");
            place.write("test.config", format!("[broker]\nbootstrap.servers = {servers}\n").as_bytes());
            let unique = format!("{}-{:?}", datamill::report::clock::now_ms(), std::thread::current().id());
            let bench = Self { place, topic: format!("again-{}", unique.replace(['(', ')'], "")) };
            assert_eq!(bench.run(&["topic", "create", &bench.topic, "--partitions", "1"]).code(), 0);
            check(&bench);
        }
    }

    fn run(&self, args: &[&str]) -> Ended {
        self.place.run(&[args, &["--config", "test.config"]].concat())
    }

    fn create_again(&self) {
        let ended = self.run(&["topic", "delete", &self.topic, "--yes"]);
        assert_eq!(ended.code(), 0, "{}", ended.stderr());
        // a broker may be about to delete the files of the old one
        wait_until("the topic to be created again", || {
            self.run(&["topic", "create", &self.topic, "--partitions", "1"]).code() == 0
        });
    }

    fn watch(&self, options: &[&str]) -> Ended {
        let watch = ["watch", "data", "--topic_name", &self.topic, "--exit-at-end", "--watchdog_lag_time", "0.1"];
        self.run(&[&watch[..], options].concat())
    }
}

/// Whether the text holds all of these.
fn holds(ended: &Ended, parts: &[&str]) {
    let text = ended.stderr();
    assert!(parts.iter().all(|part| text.contains(part)), "{parts:?} in: {text}");
}

#[test]
fn the_record_of_a_watch_counts_as_none_for_a_topic_that_was_created_again() {
    Bench::on_both(|bench| {
        for name in ["one", "two"] {
            bench.place.write(&format!("data/{name}"), name.as_bytes());
        }
        holds(&bench.watch(&["--upload_existing"]), &["sent 2 files"]);
        bench.create_again();
        bench.place.write("data/three", b"three");
        let again = bench.watch(&[]);
        holds(&again, &["the topic was deleted and created again", "--upload_existing", "sent 1 file"]);
        assert_eq!(again.code(), 0);
        bench.create_again();
        let all = bench.watch(&["--upload_existing"]);
        holds(&all, &["the topic was deleted and created again", "sent 3 files"]);
        assert_eq!(all.code(), 0);
        let nothing = bench.watch(&["--upload_existing"]);
        holds(&nothing, &["sent 0 files"]);
        assert!(!nothing.stderr().contains("created again"), "{}", nothing.stderr());
        assert_eq!(bench.place.whole_files(&bench.topic).len(), 3);
    });
}

fn files(folder: &Path, begin: &str) -> usize {
    let names = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with(begin)).count()
}

/// Files of the table of those that are processed.
fn rows(output: &Path) -> usize {
    let tables = fs::read_dir(output.join("LOGS")).into_iter().flatten().map(|entry| entry.unwrap().path());
    let table = tables.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("processed_from_"));
    table.map(|path| fs::read_to_string(path).unwrap().lines().count().saturating_sub(1)).sum()
}

#[test]
fn a_download_that_was_halted_while_its_topic_was_created_again_stops_and_loses_nothing() {
    Bench::on_both(|bench| {
        let place = &bench.place;
        (0..20).for_each(|number| place.write(&format!("old/old-{number}"), &[number; 100]));
        (0..40).for_each(|number| place.write(&format!("new/new-{number}"), &[number; 200]));
        assert_eq!(bench.run(&["upload", "old", "--topic_name", &bench.topic]).code(), 0);
        let args = ["download", "mirror", "--topic_name", &bench.topic, "--config", "test.config"];
        let said = || fs::read_to_string(place.path("said")).unwrap();
        let mut command = place.command(&args);
        command.stdout(Stdio::null()).stderr(File::create(place.path("said")).unwrap());
        let mut running = Running(command.spawn().unwrap());
        let mirror = place.path("mirror");
        wait_until("the old files, committed", || rows(&mirror) == 20);
        let process = Pid::from_child(&running.0);
        kill_process(process, Signal::STOP).unwrap();
        bench.create_again();
        assert_eq!(bench.run(&["upload", "new", "--topic_name", &bench.topic]).code(), 0);
        std::thread::sleep(Duration::from_secs(3));
        kill_process(process, Signal::CONT).unwrap();
        let code = running.0.wait().unwrap().code();
        assert_eq!(code, Some(2), "{}", said());
        assert!(said().contains("deleted"), "{}", said());

        let refused = bench.run(&["download", "mirror", "--topic_name", &bench.topic, "--exit-at-end"]);
        holds(&refused, &[&bench.topic, "was deleted and created again", "--start_from"]);
        assert_eq!(refused.code(), 2);
        let start = ["download", "mirror", "--topic_name", &bench.topic, "--exit-at-end", "--start_from", "earliest"];
        let all = bench.run(&start);
        assert_eq!((all.code(), files(&mirror, "old-"), files(&mirror, "new-")), (0, 20, 40), "{}", all.stderr());
        let again = bench.run(&["download", "mirror", "--topic_name", &bench.topic, "--exit-at-end"]);
        holds(&again, &["0 files of topic", "went on where it had stopped"]);
    });
}

#[test]
fn a_description_names_the_id_of_the_topic() {
    Bench::on_both(|bench| {
        let describe = || bench.run(&["topic", "describe", &bench.topic]).stdout();
        let before = describe();
        let id = before.lines().find(|line| line.starts_with("id ")).unwrap();
        assert!(!id.contains("unknown"), "{id}");
        bench.create_again();
        assert_ne!(describe(), before);
    });
}

/// The mark of a folder that is gone would be missed by its group.
#[test]
fn a_folder_that_a_group_knows_stays_whatever_ends_its_first_start() {
    Bench::on_both(|bench| {
        let url = format!("file://{}", bench.place.path("store").display());
        let deliveries: [(&[&str], _); 2] = [
            (&["download", "mirror", "--output_dir", "own"], "mirror".to_owned()),
            (&["transfer", "--to", &url, "--output_dir", "other"], format!("store/{}", bench.topic)),
        ];
        for (delivery, folder) in deliveries {
            let delivery = [delivery, &["--topic_name", &bench.topic, "--config", "test.config"]].concat();
            let said = bench.place.path("said.txt");
            let mut command = bench.place.command(&delivery);
            let mut first = command.stderr(File::create(&said).unwrap()).stdout(Stdio::null()).spawn().unwrap();
            wait_until("the start", || fs::read_to_string(&said).unwrap().contains("partitions assigned"));
            bench.create_again();
            assert_eq!(first.wait().unwrap().code(), Some(2), "{}", fs::read_to_string(&said).unwrap());
            bench.place.write("data/a", b"a");
            assert_eq!(bench.run(&["upload", "data/a", "--topic_name", &bench.topic]).code(), 0);
            let again = bench.place.run(&[&delivery[..], &["--exit-at-end", "--start_from", "earliest"]].concat());
            assert_eq!(again.code(), 0, "{}", again.stderr());
            assert!(bench.place.path(&folder).join("a").exists());
        }
    });
}
