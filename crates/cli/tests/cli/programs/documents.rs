//! The commands in docs/programs.md, with the programs of this machine, or with others of their names where it has none.

use std::collections::BTreeMap;
use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

use super::bench::Bench;

const PAGE: &str = include_str!("../../../../../docs/programs.md");

/// A picture that is a table as well: each line behind the first one has two numbers.
const SAMPLE: &str = "P2 2\n2 255\n10 20\n30 40\n";

/// The blocks of code by their language.
fn blocks(language: &str) -> Vec<&'static str> {
    let opened = format!("```{language}\n");
    PAGE.split(&opened).skip(1).map(|behind| behind.split("```").next().unwrap()).collect()
}

/// The files that the page shows, by the name in the first comment.
fn files() -> BTreeMap<&'static str, &'static str> {
    let all = ["sh", "python", "r"].into_iter().flat_map(blocks);
    let name = |text: &&'static str| text.lines().find_map(|line| line.strip_prefix("# "));
    all.filter_map(|text| Some((name(&text)?, text))).collect()
}

fn commands() -> Vec<Vec<&'static str>> {
    let lines = blocks("sh").into_iter().flat_map(str::lines).filter(|line| line.starts_with("datamill "));
    lines.map(|line| line.split(' ').skip(1).collect()).collect()
}

fn works(program: &str, words: &[&str], folder: &Path) -> bool {
    let mut command = Command::new(program);
    command.args(words).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|ended| ended.success())
}

#[test]
fn each_command_of_the_page_works() {
    let commands = commands();
    assert_eq!(commands.len(), 5);
    for words in commands {
        let bench = Bench::embedded();
        bench.place.write("data/sub/a.pgm", SAMPLE.as_bytes());
        bench.upload(&["b.csv"]);
        for (name, text) in files() {
            bench.place.write(name, text.as_bytes());
        }
        assert!(works("chmod", &["+x", "store.sh"], &bench.place.path("")));
        if words[0] == "try" {
            // as a shell does
            let words: Vec<&str> =
                words.iter().map(|word| if *word == "scans/*.csv" { "data/b.csv" } else { *word }).collect();
            let ended = bench.place.run(&words);
            assert_eq!((ended.code(), ended.stdout().contains("\"lines\": 0")), (0, true), "{}", ended.stderr());
            continue;
        }
        // others of their names, for a machine that does not have them
        bench.script("bin/convert", "for last; do :; done; cp \"$1\" \"$last\"");
        bench.script("bin/Rscript", "cp \"$2\" \"$3\"");
        let here = bench.place.path("");
        let has = |program| match program {
            "convert" => works("convert", &["data/sub/a.pgm", "-resize", "50%", "direct.png"], &here),
            "Rscript" => works("Rscript", &["summary.R", "data/sub/a.pgm", "direct.txt"], &here),
            _ => true,
        };
        let at = words.iter().position(|word| *word == "--").unwrap();
        let program = words[at + 1];
        let is_there = has(program);
        println!("{program}: {}", if is_there { "that of this machine" } else { "another of its name" });
        let topic = |name| words.iter().position(|word| *word == name).map(|at| words[at + 1]);
        let (files, results) = (&*bench.files, &*bench.results);
        let changed = |word: &&'static str| match *word {
            "files" => files.to_owned(),
            word if Some(word) == topic("--producer_topic_name") => results.to_owned(),
            word => word.to_owned(),
        };
        let words: Vec<String> = words.iter().map(changed).collect();
        let (before, command) = words.split_at(at);
        let options = ["--config", "test.config", "--exit-at-end", "--download_regex", ".*pgm"].map(str::to_owned);
        let words: Vec<&str> = before.iter().chain(&options).chain(command).map(String::as_str).collect();
        let mut datamill = bench.place.command(&words);
        if !is_there {
            let path = env::var("PATH").unwrap();
            datamill.env("PATH", format!("{}:{path}", bench.place.path("bin").display()));
        }
        let ended = bench.ended(datamill);
        assert_eq!(ended.code(), 0, "{words:?}: {}", ended.stderr());
        if before[0] == "process" {
            assert_eq!(std::fs::read(bench.place.path("store/sub/a.pgm")).unwrap(), SAMPLE.as_bytes());
        } else {
            assert!(!bench.results()["sub/a.pgm"].is_empty());
        }
    }
}
