//! What is in the bucket afterwards.

use std::collections::BTreeMap;

use datamill::wire::{hex, sha512};
use datamill_testkit::s3::S3Server;

use super::bench::{Bench, TOPIC, content, done, transferred};

/// Names that stores and URLs make difficult, an empty file, and one in parts.
fn files() -> BTreeMap<&'static str, Vec<u8>> {
    let mut files: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for (i, name) in
        ["scan.csv", "run 1/Öl α.dat", "run 1/100%#1?&+.txt", "a/b/c/ x ", "%2F/%0A.x"].into_iter().enumerate()
    {
        files.insert(name, content(i as u64, 1000 * (i + 1)));
    }
    files.insert("empty", Vec::new());
    files.insert("large.raw", content(99, (20 << 20) + 7));
    files
}

fn objects_are_the_files(server: &S3Server) {
    let bench = Bench::new(server);
    let files = files();
    bench.upload(&files.iter().map(|(path, content)| (*path, content.as_slice())).collect::<Vec<_>>());
    assert_eq!(done(&bench.transfer(&[])), files.len());

    let objects = bench.bucket.objects();
    let keys: BTreeMap<String, &[u8]> = files
        .iter()
        .map(|(path, content)| (format!("files/{}", path.replace("%0A", "%250A")), content.as_slice()))
        .collect();
    assert!(objects.keys().eq(keys.keys()), "{:?}", objects.keys());
    for (key, object) in &objects {
        assert!(object.content == keys[key], "`{key}` has other bytes");
        assert_eq!(object.metadata["datamill-sha512"], hex(&sha512(keys[key])), "{key}");
        assert_eq!(object.metadata["datamill-topic"], "files", "{key}");
        assert!(object.metadata["datamill-offsets"].starts_with("0:"), "{:?}", object.metadata);
        assert!(object.metadata["datamill-modified"].parse::<f64>().unwrap() > 1.7e9, "{:?}", object.metadata);
    }
    assert_eq!(objects["files/run 1/Öl α.dat"].metadata["datamill-path"], "run%201/%C3%96l%20%CE%B1.dat");
    assert!(bench.bucket.unfinished_uploads().is_empty());

    // each file of the folder is found there by its path
    for (path, content) in &files {
        bench.place.write(&format!("source/{path}"), content);
    }
    let args =
        ["reconcile", "source", "--topic_name", TOPIC, "--store", &bench.url(), "--json", "--config", "lab.config"];
    let compared = bench.place.run(&args);
    assert_eq!(compared.code(), 0, "{}{}", compared.stderr(), compared.stdout());
    assert_eq!(compared.stdout().lines().filter(|row| row.contains(r#""copy":true"#)).count(), files.len());

    // a group of its own gets all files again, and finds all of them there
    assert_eq!(done(&bench.transfer_again("newer")), 0);
    assert_eq!(bench.bucket.objects(), objects);
}

#[test]
fn objects_are_the_files_on_versitygw() {
    objects_are_the_files(&S3Server::from_env());
}

#[test]
fn objects_are_the_files_on_s3proxy() {
    objects_are_the_files(&S3Server::proxy_from_env());
}

#[test]
fn the_unfinished_upload_of_a_key_is_aborted_and_others_are_left_alone() {
    let bench = Bench::new(&S3Server::from_env());
    let large = content(1, 9 << 20);
    bench.upload(&[("large.raw", &large)]);
    for key in ["files/large.raw", "files/large.raw", "files/large.raw2", "other"] {
        bench.bucket.leave_upload(key);
    }
    assert_eq!(done(&bench.transfer(&[])), 1);
    let mut left = bench.bucket.unfinished_uploads();
    left.sort_unstable();
    assert_eq!(left, ["files/large.raw2", "other"]);
    assert_eq!(bench.contents(), BTreeMap::from([("large.raw".to_owned(), large)]));
}

#[test]
fn the_command_line_of_openmsistream_works() {
    let server = S3Server::from_env();
    let bench = Bench::new(&server);
    bench.upload(&[("run/scan.csv", b"10,20\n")]);
    let text = format!(
        "[broker]\nbootstrap.servers = sqlite:log.db\n\n[consumer]\ngroup.id = create_new\n\
        auto.offset.reset = earliest\nenable.auto.commit = False\nkey.deserializer = StringDeserializer\n\
        value.deserializer = DataFileChunkDeserializer\n\n[s3]\naccess_key_id = $LAB_KEY\nsecret_key_id = $LAB_SECRET\n\
        endpoint_url = {}\nregion = us-east-1\n",
        server.url()
    );
    bench.place.write("peer.config", text.as_bytes());
    let bucket = bench.bucket.name();
    let args = ["s3-transfer", bucket, "--config", "peer.config", "--topic_name", "files", "--n_threads", "3"];
    let mut command = bench.place.command(&[&args[..], &["--exit-at-end", "--output_dir", "out"]].concat());
    command.env("LAB_KEY", datamill_testkit::s3::ACCESS_KEY).env("LAB_SECRET", datamill_testkit::s3::SECRET_KEY);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(bench.bucket.object("files/run/scan.csv").unwrap().content, b"10,20\n");
    assert!(bench.place.path("out/LOGS").is_dir());
}

#[test]
fn the_environment_and_the_shared_profile_are_credentials_as_well() {
    let server = S3Server::from_env();
    let (key, secret) = (datamill_testkit::s3::ACCESS_KEY, datamill_testkit::s3::SECRET_KEY);
    let bench = Bench::new(&server);
    bench.upload(&[("a", b"1")]);
    bench.place.write("no.config", b"[broker]\nbootstrap.servers = sqlite:log.db\n");
    let profile = format!("[lab]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n");
    bench.place.write("aws/credentials", profile.as_bytes());
    bench.place.write("aws/config", format!("[profile lab]\nendpoint_url = {}\n", server.url()).as_bytes());
    let start = |prefix: &str, variables: &[(&str, &str)]| {
        let url = format!("{}/{prefix}/x", bench.url());
        let args = ["transfer", "--to", &url, "--topic_name", "files", "--config", "no.config", "--exit-at-end"];
        let output = bench.place.command(&args).envs(variables.iter().copied()).output().unwrap();
        assert!(output.status.success(), "{prefix}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(bench.bucket.object(&format!("{prefix}/x/files/a")).unwrap().content, b"1", "{prefix}");
    };
    let endpoint = ("AWS_ENDPOINT_URL", server.url());
    start("environment", &[("AWS_ACCESS_KEY_ID", key), ("AWS_SECRET_ACCESS_KEY", secret), endpoint]);
    let files = [
        ("AWS_SHARED_CREDENTIALS_FILE", bench.place.path("aws/credentials")),
        ("AWS_CONFIG_FILE", bench.place.path("aws/config")),
    ];
    let files = files.each_ref().map(|(name, path)| (*name, path.to_str().unwrap()));
    start("profile", &[files[0], files[1], ("AWS_PROFILE", "lab")]);
}

#[test]
fn a_local_folder_is_a_store_too() {
    let bench = Bench::without_bucket(&S3Server::from_env());
    let large = content(3, 9 << 20);
    let files: [(&str, &[u8]); 4] = [("run 1/Öl%.x", b"oil"), ("a#12", b"hash"), ("empty", b""), ("large", &large)];
    bench.upload(&files);
    let url = format!("file://{}", bench.place.path("arch%20ive").display());
    let args = ["transfer", "--to", &url, "--topic_name", "files", "--config", "lab.config", "--exit-at-end"];
    let again = [&args[..], &["--consumer_group_id", "create_new", "--on_exists", "fail"]].concat();
    assert_eq!(done(&bench.place.run(&args)), 4);
    for (path, content) in files {
        let path = bench.place.path("arch ive/files").join(path.replace('#', "%23"));
        assert!(std::fs::read(&path).unwrap() == content, "{}", path.display());
    }
    assert_eq!(done(&bench.place.run(&again)), 0, "all versions are found there");
    bench.upload(&[("empty", b"not any more")]);
    let ended = bench.place.run(&again);
    assert_eq!((ended.code(), transferred(&ended)), (1, 0), "{}", ended.stderr());
}
