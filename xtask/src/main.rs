//! The project's own commands: `cargo xtask COMMAND`.

mod bench;
mod deb;
mod fuzz;
mod guides;
mod manual;
mod packages;
mod quickstart;
mod stream;
mod tally;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own commands")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check everything: format, lints, tests, models
    Test(test::Options),
    /// Show the main job: a node, a volume, a snapshot, a clone, a killed peer, all verified
    Quickstart(quickstart::Options),
    /// Measure, beside others on this machine
    Bench(bench::Options),
    /// Look for bytes that break a decoder, with libFuzzer
    Fuzz(fuzz::Options),
    /// Make Debian packages, and an apt repository of them
    Deb(deb::Options),
    /// Follow both upgrade guides in fresh systems, with the packages of this checkout
    Guides(guides::Options),
    /// Write the man pages of every program
    Man(manual::Options),
    /// Write the completions of every program for bash, zsh and fish
    Completions(manual::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Test(options) => test::run(&options),
        Command::Quickstart(options) => quickstart::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Deb(options) => deb::run(&options),
        Command::Guides(options) => guides::run(&options),
        Command::Man(options) => manual::run("man", &options),
        Command::Completions(options) => manual::run("completions", &options),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cargo xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
