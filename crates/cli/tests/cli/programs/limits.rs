//! Limits of memory and address space.

use super::bench::Bench;

#[test]
fn the_memory_of_all_that_a_command_starts_counts_together() {
    let bench = Bench::embedded();
    let ten =
        "for n in 1 2 3 4 5 6 7 8 9 10; do (head -c 20M /dev/zero; sleep 600) | tail -c 20M > /dev/null & done; wait";
    bench.script("ten.sh", ten);
    bench.upload(&["a.csv"]);
    assert_eq!(bench.reproduced(&["--worker_memory", "100M", "--max_attempts", "1"], &["./ten.sh"]).code(), 1);
    let failures = bench.failures();
    let reason = &failures["a.csv"];
    assert!(
        reason.contains("in memory with all that it had started, more than --worker_memory (100.0 MiB)"),
        "{reason}"
    );
    let peak: f64 = reason.split_once("had ").unwrap().1.split_once(" MiB").unwrap().0.parse().unwrap();
    assert!((104.9..320.0).contains(&peak), "{peak}");
}

#[test]
fn pages_that_processes_share_count_once() {
    let bench = Bench::embedded();
    // one program of 60 MB in four processes
    let shares = "import os, time\ncontent = bytearray(b'x') * (60 << 20)\n\
                  children = [os.fork() for _ in range(2)]\ntime.sleep(2)\n\
                  if all(children): print(len(content))\n";
    bench.place.write("shares.py", shares.as_bytes());
    bench.upload(&["a.csv"]);
    let ended = bench.reproduced(&["--worker_memory", "150M", "--stdout"], &["python3", "shares.py"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
}

#[test]
fn java_starts_within_what_it_uses_and_not_what_it_reserves() {
    let bench = Bench::embedded();
    bench.upload(&["a.csv"]);
    let java = ["sh", "-c", "java -version 2> \"$DATAMILL_RESULT\""];
    let ended = bench.reproduced(&["--worker_memory", "1G"], &java);
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    assert!(String::from_utf8_lossy(&bench.results()["a.csv"]).contains("version"));
}

#[test]
fn the_address_space_of_a_command_is_limited_and_its_words_stay() {
    let bench = Bench::embedded();
    bench.upload(&["a b.csv"]);
    let options = ["--worker_address_space", "512M", "--stdout"];
    let ended =
        bench.reproduced(&options, &["sh", "-c", "ulimit -v; printf '%s\\n' \"$@\"", "sh", "{filename}", "$HOME"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    assert_eq!(String::from_utf8_lossy(&bench.results()["a b.csv"]), "524288\na b.csv\n$HOME\n");
}
