//! Stores that refuse: the program stops with a sentence, gives no secret away, and has not advanced.

use datamill_testkit::s3::{ACCESS_KEY, S3Server, SECRET_KEY};

use super::bench::{Bench, done, transferred};
use crate::common::Ended;

/// Everything that a program printed and wrote.
fn all_texts(bench: &Bench, printed: &str) -> String {
    let mut texts = printed.to_owned();
    let mut folders = vec![bench.place.path("transfer_output")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => texts.push_str(&String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap())),
            }
        }
    }
    texts
}

#[test]
fn wrong_credentials_stop_the_program_and_are_printed_nowhere() {
    for server in [S3Server::from_env(), S3Server::proxy_from_env()] {
        let bench = Bench::new(&server);
        bench.upload(&[("a", b"1"), ("large", &vec![7; 9 << 20])]);
        for (key, secret) in [("AKIAMARKERONE", "MARKERTWOsecret"), (ACCESS_KEY, "MARKERTHREEsecret")] {
            bench.configure("wrong.config", server.url(), key, secret);
            let levels = ["--logger_stream_level", "debug", "--logger_file_level", "debug"];
            let ended = bench.transfer(&[&["--config", "wrong.config"][..], &levels].concat());
            assert!(matches!(ended.code(), 2 | 3), "{}: {}", ended.code(), ended.stderr());
            assert!(ended.stderr().contains("error: "), "{}", ended.stderr());
            let texts = all_texts(&bench, &(ended.stderr() + &ended.stdout()));
            assert!(!texts.contains("MARKER") && !texts.contains("Authorization"), "{texts}");
        }
        assert!(bench.bucket.keys().is_empty());
        let ended = bench.transfer(&["--logger_stream_level", "debug"]);
        assert_eq!(done(&ended), 2, "nothing was passed over");
        assert!(!ended.stderr().contains(SECRET_KEY), "{}", ended.stderr());
    }
}

#[test]
fn a_bucket_that_is_not_there_is_a_mistake_in_the_set_up() {
    let bench = Bench::without_bucket(&S3Server::from_env());
    bench.upload(&[("a", b"1")]);
    let ended = bench.transfer(&[]);
    assert_eq!(ended.code(), 2, "{}", ended.stderr());
    assert!(ended.stderr().contains("NoSuchBucket") && ended.stderr().contains(&bench.url()), "{}", ended.stderr());
}

#[test]
fn a_server_without_tls_is_not_taken_for_one_that_is_away() {
    let server = S3Server::from_env();
    let bench = Bench::new(&server);
    bench.upload(&[("a", b"1")]);
    // https is assumed where no scheme is written
    bench.configure("tls.config", server.url().trim_start_matches("http://"), ACCESS_KEY, SECRET_KEY);
    let ended = bench.transfer(&["--config", "tls.config"]);
    assert_eq!(ended.code(), 3, "{}", ended.stderr());
    assert!(
        ended.stderr().contains("no safe connection") && ended.stderr().contains("write http://"),
        "{}",
        ended.stderr()
    );
    assert_eq!(done(&bench.transfer(&[])), 1, "it was not passed over");
}

#[test]
fn a_file_that_the_store_cannot_hold_fails_and_the_others_arrive() {
    let bench = Bench::new(&S3Server::from_env());
    // this server keeps objects as files, so that `n` and `n/m` exclude each other
    bench.upload(&[("n", b"1")]);
    bench.upload(&[("n/m", b"3")]);
    bench.upload(&[("z", b"4")]);
    let ended = bench.transfer(&["--max_attempts", "1", "--n_threads", "1"]);
    assert_eq!((ended.code(), transferred(&ended)), (1, 2), "{}", ended.stderr());
    assert!(ended.stderr().contains("does not take `files/n/m` beside what is there"), "{}", ended.stderr());
    assert!(bench.contents().into_keys().eq(["n", "z"]));
}

#[test]
fn what_cannot_be_right_is_said_before_anything_is_read() {
    let bench = Bench::without_bucket(&S3Server::from_env());
    bench.place.write("typo.config", b"[broker]\nbootstrap.servers = sqlite:datamill.db\n[s3]\nacces_key_id = x\n");
    for (name, endpoint) in [("empty", ""), ("slashes", "http:///x"), ("ftp", "ftp://host"), ("words", "two words")] {
        let section = format!(
            "[broker]\nbootstrap.servers = sqlite:datamill.db\n\
             [s3]\naccess_key_id = x\nsecret_key_id = y\nendpoint_url = {endpoint}\n"
        );
        bench.place.write(&format!("{name}.config"), section.as_bytes());
    }
    let http = "http://127.0.0.1:1/dav";
    for (args, said) in [
        (&["--to", "bucket"][..], "`bucket` is no URL of an object store: write s3://BUCKET"),
        (&["--to", "https://me:pw@host/x"], "the URL holds a password"),
        (&["--to", "s3://b", "--config", "typo.config"], "has the key `acces_key_id`, which is not known"),
        (&["--to", http, "--on_exists", "skip"], "keeps nothing beside the content"),
        (&["--to", "memory:///"], "is no URL of an object store"),
        (&["--to", ""], "`` is no URL of an object store"),
        (&["--to", "file:"], "`file:` is no URL of an object store"),
        (&["--to", "s3://b", "--config", "empty.config"], "the address of `s3://b` is empty: give `endpoint_url`"),
        (&["--to", "s3://b", "--config", "slashes.config"], "the address of `s3://b` names no host"),
        (&["--to", "s3://b", "--config", "ftp.config"], "the address of `s3://b` begins with `ftp://`"),
        (&["--to", "s3://b", "--config", "words.config"], "the address of `s3://b` is no URL"),
    ] {
        let ended = bench.place.run(&[&["transfer", "--topic_name", "t"], args].concat());
        assert_eq!(ended.code(), 2, "{args:?}: {}", ended.stderr());
        assert!(ended.stderr().contains(said), "{args:?}: {}", ended.stderr());
    }
    for setting in ["region = eu central 1", "endpoint_url = http://löcher.example", "endpoint_url = http://h/a b"] {
        let section = format!("[s3]\naccess_key_id = x\nsecret_key_id = y\n{setting}\n");
        bench
            .place
            .write("wrong.config", format!("[broker]\nbootstrap.servers = sqlite:datamill.db\n{section}").as_bytes());
        let ended = bench.place.run(&["transfer", "--topic_name", "t", "--to", "s3://b", "--config", "wrong.config"]);
        assert_eq!(ended.code(), 2, "{setting}: {}", ended.stderr());
        let said = "`s3://b` cannot be used: no request can be made of its settings";
        assert!(ended.stderr().contains(said) && !ended.stderr().contains("panicked"), "{setting}: {}", ended.stderr());
    }
    for (url, variables) in [
        ("gs://b", &[("GOOGLE_BASE_URL", ""), ("GOOGLE_SKIP_SIGNATURE", "true")][..]),
        ("gs://b", &[("GOOGLE_BASE_URL", "two words"), ("GOOGLE_SKIP_SIGNATURE", "true")]),
        (
            "az://c",
            &[("AZURE_STORAGE_ENDPOINT", ""), ("AZURE_STORAGE_ACCOUNT_NAME", "a"), ("AZURE_SKIP_SIGNATURE", "true")],
        ),
    ] {
        let mut command = bench.place.command(&["transfer", "--topic_name", "t", "--to", url]);
        let ended = Ended::from(command.envs(variables.iter().copied()).output().unwrap());
        assert_eq!(ended.code(), 2, "{variables:?}: {}", ended.stderr());
        assert!(ended.stderr().contains(&format!("`{url}` cannot be used")), "{variables:?}: {}", ended.stderr());
    }
    let mut command = bench.place.command(&["transfer", "--topic_name", "t", "--to", "s3://b"]);
    let ended = Ended::from(command.env("AWS_ENDPOINT_URL", "").output().unwrap());
    assert_eq!(ended.code(), 2, "{}", ended.stderr());
    assert!(ended.stderr().contains("AWS_ENDPOINT_URL"), "{}", ended.stderr());
    let ended = bench.place.run(&["s3-transfer", "s3://b", "--topic_name", "t"]);
    assert!(ended.code() == 2 && ended.stderr().contains("write the name of a bucket alone"), "{}", ended.stderr());
}
