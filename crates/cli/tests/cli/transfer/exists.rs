//! What happens where another version is there.

use std::collections::BTreeMap;

use datamill_testkit::s3::S3Server;

use super::bench::{Bench, content, done, transferred};

/// Two versions of a small and of a large file, the second ones newer in the topic.
fn versions() -> [(&'static str, [Vec<u8>; 2]); 2] {
    [
        ("run/scan.csv", [b"first".to_vec(), b"2nd".to_vec()]),
        ("run/large.raw", [content(1, 9 << 20), content(2, 10 << 20)]),
    ]
}

fn upload(bench: &Bench, which: usize) {
    let versions = versions();
    bench.upload(&versions.each_ref().map(|(path, all)| (*path, all[which].as_slice())));
}

fn is(bench: &Bench, which: usize) {
    let wanted: BTreeMap<String, Vec<u8>> =
        versions().into_iter().map(|(path, all)| (path.to_owned(), all[which].clone())).collect();
    assert!(bench.contents() == wanted, "{:?}", bench.bucket.keys());
}

fn the_newer_version_stays(server: &S3Server) {
    let bench = Bench::new(server);
    upload(&bench, 0);
    assert_eq!(done(&bench.transfer(&[])), 2);
    upload(&bench, 1);
    assert_eq!(done(&bench.transfer(&[])), 2);
    is(&bench, 1);
    // the first versions come again, and are older than what is there
    assert_eq!(done(&bench.transfer_again("newer")), 0);
    is(&bench, 1);
}

#[test]
fn the_newer_version_stays_on_versitygw() {
    the_newer_version_stays(&S3Server::from_env());
}

#[test]
fn the_newer_version_stays_on_s3proxy() {
    the_newer_version_stays(&S3Server::proxy_from_env());
}

#[test]
fn skip_leaves_and_fail_says_so_and_version_keeps_both() {
    let bench = Bench::new(&S3Server::from_env());
    upload(&bench, 0);
    assert_eq!(done(&bench.transfer(&[])), 2);
    upload(&bench, 1);
    assert_eq!(done(&bench.transfer_again("skip")), 0);
    is(&bench, 0);
    let failed = bench.transfer_again("fail");
    assert_eq!((failed.code(), transferred(&failed)), (1, 0), "{}", failed.stderr());
    assert!(failed.stderr().contains("has another version of `files/run/scan.csv`"), "{}", failed.stderr());
    is(&bench, 0);
    assert_eq!(done(&bench.transfer_again("version")), 2);
    assert_eq!(done(&bench.transfer_again("version")), 0, "what was kept beside is found");
    let contents = bench.contents();
    assert_eq!(contents.len(), 4, "{:?}", bench.bucket.keys());
    for (_, all) in versions() {
        assert!(all.iter().all(|version| contents.values().any(|content| content == version)));
    }
    assert!(contents.keys().any(|key| key.starts_with("run/scan.") && key.len() > "run/scan.csv".len()));
}

#[test]
fn an_object_of_somebody_else_is_kept_beside_unless_it_shall_be_replaced() {
    let bench = Bench::new(&S3Server::from_env());
    bench.bucket.put("files/scan.csv", b"theirs");
    bench.upload(&[("scan.csv", b"ours")]);
    assert_eq!(done(&bench.transfer(&[])), 1);
    let contents = bench.contents();
    assert_eq!((contents.len(), contents["scan.csv"].as_slice()), (2, &b"theirs"[..]));
    assert_eq!(done(&bench.transfer_again("replace")), 1);
    assert_eq!(bench.contents()["scan.csv"], b"ours");
}
