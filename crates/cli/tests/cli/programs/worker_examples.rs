//! The workers in examples/workers, and the one in docs/workers.md.

use std::process::Command;

use super::bench::Bench;

const PAGE: &str = include_str!("../../../../../docs/workers.md");
const PYTHON: &str = include_str!("../../../../../examples/workers/lines.py");
const GO: &str = include_str!("../../../../../examples/workers/lines.go");

/// Content of each size that comes in another way.
fn run(bench: &Bench, command: &[&str]) {
    let many = "x\n".repeat(100_000);
    bench.place.write("data/sub/many.txt", many.as_bytes());
    bench.upload(&["one line", "none"]);
    bench.place.write("data/none", b"");
    let ended = bench.reproduced(&["--worker"], command);
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    for (path, name, lines) in [("sub/many.txt", "many.txt", 100_000), ("one line", "one line", 0), ("none", "none", 0)]
    {
        let result: serde_json::Value = serde_json::from_slice(&bench.results()[path]).unwrap();
        assert_eq!(result, serde_json::json!({ "file": name, "lines": lines }));
    }
}

#[test]
fn the_worker_in_python_works_and_is_the_one_of_the_page() {
    let (_, code) = PYTHON.split_once("\"\"\"\n\nimport json").unwrap();
    assert!(PAGE.contains(&format!("import json{code}")));
    let bench = Bench::embedded();
    bench.place.write("lines.py", PYTHON.as_bytes());
    run(&bench, &["python3", "lines.py"]);
}

#[test]
fn the_worker_in_go_works() {
    let bench = Bench::embedded();
    bench.place.write("lines.go", GO.as_bytes());
    let mut build = Command::new("go");
    build.args(["build", "lines.go"]).current_dir(bench.place.path("")).env("GOFLAGS", "-mod=mod");
    if std::env::var_os("HOME").is_none() {
        build.env("GOCACHE", bench.place.path("cache"));
    }
    let built = build.output().expect("go is needed for this test: dev/test installs it");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    run(&bench, &["./lines"]);
}
