//! The project's own commands: `cargo xtask test`, `cargo xtask bench`, `cargo xtask peers`, `cargo xtask planted`.

mod bench;
mod package;
mod peers;
mod planted;
mod process;
mod python;
mod steps;
mod tally;
mod test;
mod workspace;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test       everything that must hold: format, lints, docs, tests, examples, packages, interop with libzmq
  bench      wiremesh beside its rivals and the bare socket
  peers      wiremesh in conversation with other implementations, each pattern, either side binding
  planted    plants defects one at a time and expects the tests to find each

cargo xtask COMMAND --help says more.";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let rest: Vec<String> = words.collect();
    let outcome = match command.as_str() {
        "test" => test::run(&rest),
        "bench" => bench::run(&rest),
        "peers" => peers::run(&rest),
        "planted" => test::planted(&rest),
        "" | "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        unknown => Err(format!("there is no command `{unknown}`\n{USAGE}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
