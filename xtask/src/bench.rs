//! `cargo xtask bench`: builds everything that is measured, and measures it.
//!
//! The table goes to standard output; `report.json`, `report.txt` and a plot for each case go to
//! `target/bench`, or wherever `--out` says.

use std::env;
use std::io;
use std::path::PathBuf;
use std::process::Command;

/// What `cargo xtask bench` may be told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Everything in less than three minutes
    #[arg(long)]
    quick: bool,
    /// Only cases whose name contains this; `--only NAME/` is a suite
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Where the report goes
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    out: PathBuf,
    /// More for `archip-benches`, after `--`
    #[arg(last = true)]
    more: Vec<String>,
}

/// Whose programs are measured.
const PACKAGES: [&str; 4] = ["benches", "archip-node", "archip-nbd", "vlmc"];

/// Builds and measures. Returns whether both went well; goals that are missed do not count.
pub(crate) fn run(options: &Options) -> io::Result<bool> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--release"]);
    PACKAGES.iter().for_each(|package| {
        build.args(["--package", package]);
    });
    if !build.status()?.success() {
        return Ok(false);
    }
    Ok(Command::new(program())
        .args(arguments(options))
        .status()?
        .success())
}

/// What cargo has just built.
fn program() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    target.join("release/archip-benches")
}

fn arguments(options: &Options) -> Vec<String> {
    let mut arguments = vec!["--out".into(), options.out.display().to_string()];
    arguments.extend(options.quick.then(|| "--quick".into()));
    if let Some(only) = &options.only {
        arguments.extend(["--only".into(), only.clone()]);
    }
    arguments.extend(options.more.iter().cloned());
    arguments
}
