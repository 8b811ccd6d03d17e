//! What a command does not get from datamill.

use std::process::{Command, Stdio};

use super::bench::Bench;

/// The descriptors that the command has open, without opening one.
const DESCRIPTORS: &str = "for n in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 30 40 50 60; do
    [ -e /proc/$$/fd/$n ] && echo $n
done; true";

#[test]
fn a_command_has_three_descriptors_and_no_terminal_whatever_datamill_was_started_with() {
    for bench in Bench::both() {
        bench.upload(&["a.csv"]);
        // descriptors that datamill gets from its own parent are in it as well, and it does not know of them
        let program = bench.reproduce(&["--exit-at-end", "--stdout"], &["sh", "-c", DESCRIPTORS]);
        let mut outer = Command::new("sh");
        outer.args(["-c", "exec 7< . 8> kept; exec \"$@\"", "sh"]).arg(program.get_program()).args(program.get_args());
        outer.current_dir(bench.place.path("")).stdin(Stdio::null());
        let ended = bench.ended(outer);
        assert_eq!(ended.code(), 0, "{}", ended.stderr());
        assert_eq!(String::from_utf8(bench.results().remove("a.csv").unwrap()).unwrap(), "0\n1\n2\n");
    }
}

#[test]
fn a_command_has_the_default_signals_and_a_group_of_its_own() {
    let bench = Bench::embedded();
    bench.upload(&["a.csv"]);
    let says = "grep -E '^Sig(Blk|Ign)' /proc/self/status; read -r _ _ _ parent group session _ < /proc/$$/stat; \
                [ $group = $$ ] && [ $session = $parent ] && echo apart";
    // what ignores signals, as `nohup` does, hands that on
    let program = bench.reproduce(&["--exit-at-end", "--stdout"], &["sh", "-c", says]);
    let mut outer = Command::new("sh");
    outer.args(["-c", "trap '' HUP QUIT USR1; exec \"$@\"", "sh"]).arg(program.get_program()).args(program.get_args());
    outer.current_dir(bench.place.path("")).stdin(Stdio::null());
    assert_eq!(bench.ended(outer).code(), 0);
    let said = String::from_utf8(bench.results().remove("a.csv").unwrap()).unwrap();
    assert!(said.ends_with("\napart\n"), "{said}");
    let signals = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        // those above belong to the C library
        u64::from_str_radix(line.trim(), 16).unwrap() & 0x7fff_ffff
    };
    assert_eq!((signals("SigBlk:"), signals("SigIgn:")), (0, 0), "{said}");
}
