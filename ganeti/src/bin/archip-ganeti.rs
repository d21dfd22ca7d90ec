//! `archip-ganeti`: every script of Ganeti's ExtStorage provider, and both hooks.

use std::process::ExitCode;

fn main() -> ExitCode {
    ganeti::main(std::env::args_os())
}
