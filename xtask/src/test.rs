//! `cargo xtask test`: the one command that checks everything, and that CI runs.
//!
//! Every step runs, also after one has failed, so that one run tells everything. The last line is
//! `N passed, N failed, N skipped`; a step that fails without a failed test counts as one.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tally::Tally;
use crate::{packages, stream};

/// What `cargo xtask test` may be told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Install the Debian packages that tests need (as root; `CI=true` means the same)
    #[arg(long)]
    install: bool,
}

/// One command of the check: its arguments to cargo, and its environment.
struct Step {
    arguments: &'static str,
    environment: &'static [(&'static str, &'static str)],
}

/// What RADOS needs to build; where it is, everything is built and tested with it.
const LIBRADOS: &str = "/usr/include/rados/librados.h";
const RADOS: &str = "archip-node/rados,system-tests/rados,vlmc/rados";

/// Whether what RADOS needs to build is here.
pub(crate) fn has_librados() -> bool {
    Path::new(LIBRADOS).exists()
}

/// The first package that a program on a cluster of its own needs and that is not here.
pub(crate) fn lacking_for_rados() -> Option<&'static str> {
    let library = (!has_librados()).then_some("librados-dev");
    library.or_else(rados_lab::missing)
}

/// The features that this machine can build: `--features ...`, or nothing.
pub(crate) fn features() -> Vec<&'static str> {
    match has_librados() {
        true => vec!["--features", RADOS],
        false => Vec::new(),
    }
}

/// In the order of what they cost. The models have a folder of their own, because their
/// `RUSTFLAGS` would make cargo build everything again, twice for each run.
const STEPS: [Step; 6] = [
    Step {
        arguments: "fmt --all --check",
        environment: &[],
    },
    Step {
        arguments: "clippy --workspace --all-targets -- -D warnings",
        environment: &[],
    },
    // Tests that run the real programs look for them beside their own.
    Step {
        arguments: "build --workspace --bins",
        environment: &[],
    },
    Step {
        arguments: "test --workspace --no-fail-fast",
        environment: &[],
    },
    Step {
        arguments: "test -p xseg --release --lib loom",
        environment: &[
            ("RUSTFLAGS", "--cfg loom"),
            ("CARGO_TARGET_DIR", "target/loom"),
        ],
    },
    // It says why where it can't be done. By cargo, because this very program may have been made
    // anew by now.
    Step {
        arguments: "xtask guides",
        environment: &[],
    },
];

/// Runs every step. Returns whether all of them succeeded.
pub(crate) fn run(options: &Options) -> io::Result<bool> {
    let mut total = Tally::default();
    let mut failures = Vec::new();
    let install = options.install || env::var_os("CI").is_some_and(|ci| ci == "true");
    if !packages::ensure(install)? {
        total += failed_step();
        failures.push("installing Debian packages".to_owned());
    }
    for step in &STEPS {
        println!("\n== cargo {}", step.arguments);
        let (mut tally, success) = stream::run(&mut step.command())?;
        if !success {
            tally.step_failed();
            failures.push(format!("cargo {}", step.arguments));
        }
        total += tally;
    }
    println!();
    failures
        .iter()
        .for_each(|failure| println!("failed: {failure}"));
    println!("{total}");
    Ok(!total.any_failed())
}

fn failed_step() -> Tally {
    let mut tally = Tally::default();
    tally.step_failed();
    tally
}

impl Step {
    fn command(&self) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        let mut words = self.arguments.split(' ');
        command.args(words.next());
        if self.arguments.contains("--workspace") {
            command.args(features());
        }
        command.args(words).envs(self.environment.iter().copied());
        command.current_dir(workspace());
        command
    }
}

/// The root of the workspace: cargo tells where this package is, one folder below.
pub(crate) fn workspace() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    package
        .and_then(|dir| dir.parent().map(PathBuf::from))
        .unwrap_or_else(|| ".".into())
}
