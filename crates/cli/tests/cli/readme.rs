//! The README's first steps in Rust, as they are written there.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::common::{Ended, Place};

/// Where the README is.
fn top() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The first commands below a heading of the README.
fn commands(heading: &str) -> String {
    let readme = include_str!("../../../../README.md");
    let below = readme.split_once(heading).expect("the heading is there").1;
    let block = below.split_once("```sh\n").and_then(|(_, rest)| rest.split_once("```"));
    block.expect("there are commands below it").0.to_owned()
}

#[cfg(unix)]
#[test]
fn the_first_result_of_the_readme_comes_as_it_says() {
    let place = Place::new();
    let release = Path::new(env!("CARGO_BIN_EXE_datamill")).parent().unwrap();
    assert!(release.join("examples/xrd_metadata").exists(), "run `cargo build --release --examples --bins`");
    std::os::unix::fs::symlink(top().join("examples"), place.path("examples")).unwrap();
    std::fs::create_dir(place.path("target")).unwrap();
    std::os::unix::fs::symlink(release, place.path("target/release")).unwrap();
    // what is built is the tests' matter
    let script = format!("cargo() {{ :; }}\n{}", commands("## Your own function in Rust"));
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).current_dir(place.path("")).env_remove("OPENMSISTREAM_CONFIG_FILE_DIR");
    let ended = Ended::from(shell.output().unwrap());
    let results: Vec<Value> = ended.stdout().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let metadata = |result: &Value| serde_json::from_str::<Value>(result["value"].as_str()?).ok();
    assert!(results.len() == 9 && results.iter().all(|result| metadata(result).is_some()), "{}", ended.stdout());
    assert!(ended.stderr().contains("al2o3_broken_transfer.csv"), "{}", ended.stderr());
    let logs = std::fs::read_dir(place.path("try/XrdMetadata_output/LOGS")).unwrap();
    let mut paths = logs.map(|entry| entry.unwrap().path());
    let failed = paths.find(|path| path.file_name().unwrap().to_string_lossy().starts_with("failed_from_")).unwrap();
    assert!(std::fs::read_to_string(failed).unwrap().contains("al2o3_broken_transfer.csv"));
}

/// Cargo builds the default members alone where no package is named.
#[test]
fn what_the_readme_lets_run_is_built_by_its_first_line() {
    assert!(commands("## Your own function in Rust").starts_with("cargo build --release --examples --bins\n"));
    let mut cargo = Command::new(env!("CARGO"));
    let asked = cargo.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(top()).output().unwrap();
    let metadata: Value = serde_json::from_slice(&asked.stdout).unwrap();
    let built = metadata["workspace_default_members"].as_array().unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter().filter(|package| built.contains(&package["id"]));
    let targets: Vec<&Value> = packages.flat_map(|package| package["targets"].as_array().unwrap()).collect();
    for (kind, name) in [("bin", "datamill"), ("example", "xrd_metadata")] {
        let is_built = targets.iter().any(|target| target["kind"][0] == kind && target["name"] == name);
        assert!(is_built, "the {kind} {name} is not among {targets:?}");
    }
}
