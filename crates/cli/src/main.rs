//! The program `datamill`: the command line of the library, in a process of its own. It is also the keeper of commands.

use std::env;
use std::process::ExitCode;

use datamill::report::text::shell_word;
use datamill_cli::{Called, Next, parse};
use datamill_workers::{KEEPER, KeeperStart, keep};

fn main() -> ExitCode {
    let mut words = env::args_os();
    let program = words.next().unwrap_or_else(|| "datamill".into());
    if words.len() == 1 && env::args_os().nth(1).is_some_and(|word| word == KEEPER) {
        return keep().into();
    }
    let program = shell_word(&program.to_string_lossy()).into_owned();
    // where it is not known, the word that called it may still be found
    let again = vec![env::current_exe().map_or_else(|_| program.clone().into(), Into::into)];
    let called = Called { program, edition: "Rust program".to_owned(), again, keeper: KeeperStart::this_program() };
    let exit = match parse(words, &called) {
        Next::Exit(exit) => exit,
        Next::Run(task) => task.run(),
        Next::Function(call) => call.run_elsewhere(),
    };
    exit.into()
}
