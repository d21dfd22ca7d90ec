//! `archip-manual man DIR`, `archip-manual completions DIR`: for packages. `cargo xtask` runs it.

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

/// Write the man pages or the completions of every program.
#[derive(Parser)]
#[command(name = "archip-manual", version)]
enum Cli {
    /// Man pages
    Man {
        /// Where they go; it is made if it is missing
        dir: PathBuf,
    },
    /// Completions for bash, zsh and fish
    Completions {
        /// Where they go; it is made if it is missing
        dir: PathBuf,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (dir, outcome) = match &cli {
        Cli::Man { dir } => (dir, manual::man_pages(dir)),
        Cli::Completions { dir } => (dir, manual::completions(dir)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("archip-manual: can't write to {}: {why}", dir.display());
            ExitCode::FAILURE
        }
    }
}
