//! A folder with an embedded log, a configuration, and a bucket that nobody else uses.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use datamill_testkit::s3::{ACCESS_KEY, Bucket, S3Server, SECRET_KEY};

use crate::common::{Ended, Place};

pub const TOPIC: &str = "files";

pub struct Bench {
    pub place: Place,
    pub bucket: Bucket,
}

impl Bench {
    pub fn new(server: &S3Server) -> Self {
        let bench = Self::without_bucket(server);
        let bucket = server.bucket(bench.bucket.name());
        Self { bucket, ..bench }
    }

    pub fn without_bucket(server: &S3Server) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Relaxed);
        let name = format!("b-{}-{}-{number}", datamill::report::clock::now_ms(), std::process::id());
        let bench = Self { place: Place::new(), bucket: server.bucket_unmade(&name) };
        bench.configure("lab.config", server.url(), ACCESS_KEY, SECRET_KEY);
        bench
    }

    pub fn configure(&self, name: &str, endpoint: &str, key: &str, secret: &str) {
        let text = format!(
            "[broker]\nbootstrap.servers = sqlite:{}\n\n[s3]\naccess_key_id = {key}\nsecret_key_id = {secret}\n\
            endpoint_url = {endpoint}\nregion = us-east-1\n",
            self.place.path("log.db").display()
        );
        self.place.write(name, text.as_bytes());
    }

    /// Puts files on the topic, one upload each, in this order.
    pub fn upload(&self, files: &[(&str, &[u8])]) {
        for (path, content) in files {
            self.place.write(&format!("source/{path}"), content);
        }
        let args = ["upload", "source", "--topic_name", TOPIC, "--config", "lab.config", "--chunk_size", "1048576"];
        let ended = self.place.run(&args);
        assert_eq!(ended.code(), 0, "{}", ended.stderr());
        std::fs::remove_dir_all(self.place.path("source")).unwrap();
    }

    pub fn url(&self) -> String {
        format!("s3://{}", self.bucket.name())
    }

    /// The arguments of a transfer up to the end of the topic.
    pub fn args(&self) -> Vec<String> {
        let args = ["transfer", "--to", &self.url(), "--topic_name", TOPIC, "--config", "lab.config", "--exit-at-end"];
        args.map(str::to_owned).to_vec()
    }

    pub fn transfer(&self, more: &[&str]) -> Ended {
        let mut args = self.args();
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        self.place.run(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// As a group that has done nothing yet, which gets all files again.
    pub fn transfer_again(&self, on_exists: &str) -> Ended {
        self.transfer(&["--consumer_group_id", "create_new", "--on_exists", on_exists])
    }

    /// The content of all objects by their keys, without the topic.
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let objects = self.bucket.objects().into_iter();
        objects.map(|(key, object)| (key.strip_prefix("files/").unwrap().to_owned(), object.content)).collect()
    }
}

/// Files that a program says it has sent.
pub fn transferred(ended: &Ended) -> usize {
    ended.stderr().lines().filter(|line| line.contains(" transferred ")).count()
}

pub fn done(ended: &Ended) -> usize {
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    transferred(ended)
}

/// Bytes that differ by seed.
pub fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = |_| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    };
    (0..len).map(next).collect()
}
