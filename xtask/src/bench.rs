//! `cargo xtask bench`: builds everything that is measured, and measures it.
//!
//! The table goes to standard output; `report.json`, `report.txt` and a plot for each case go to
//! `target/bench`, or wherever `--out` says.

use std::env;
use std::io;
use std::path::{self, PathBuf};
use std::process::Command;

use crate::test::{lacking_for_rados, workspace};

/// What `cargo xtask bench` may be told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Everything in less than three minutes
    #[arg(long)]
    quick: bool,
    /// Volumes over RADOS instead, on a Ceph cluster made for it, beside rados bench and rbd
    #[arg(long)]
    rados: bool,
    /// Only cases whose name contains this; `--only NAME/` is a suite
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Where the report goes; target/bench by default
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// More for `archip-benches`, after `--`
    #[arg(last = true)]
    more: Vec<String>,
}

/// Whose programs are measured.
const PACKAGES: [&str; 6] = [
    "benches",
    "archip-node",
    "archip-nbd",
    "vlmc",
    "archip-ganeti",
    "libxseg",
];

/// Builds and measures. Returns whether both went well; goals that are missed do not count.
pub(crate) fn run(options: &Options) -> io::Result<bool> {
    if let Some(package) = lacking(options) {
        println!(
            "skipped: rados: the Debian package {package} is not installed (cargo xtask test \
             --install installs it)"
        );
        return Ok(true);
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    let workspace = workspace();
    build.args(["build", "--release"]).current_dir(&workspace);
    PACKAGES.iter().for_each(|package| {
        build.args(["--package", package]);
    });
    if options.rados {
        build.args(["--features", "archip-node/rados"]);
    }
    if !build.status()?.success() {
        return Ok(false);
    }
    Ok(Command::new(workspace.join(program()))
        .args(arguments(options)?)
        .current_dir(&workspace)
        .status()?
        .success())
}

/// The package without which there is no RADOS here, if it is wanted.
fn lacking(options: &Options) -> Option<&'static str> {
    options.rados.then(lacking_for_rados)?
}

/// What cargo has just built, from the root of the workspace.
fn program() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    target.join("release/archip-benches")
}

fn arguments(options: &Options) -> io::Result<Vec<String>> {
    let out = match &options.out {
        // As the caller sees it, and not the workspace.
        Some(out) => path::absolute(out)?,
        None => "target/bench".into(),
    };
    let mut arguments = vec!["--out".into(), out.display().to_string()];
    arguments.extend(options.quick.then(|| "--quick".into()));
    arguments.extend(options.rados.then(|| "--rados".into()));
    if let Some(only) = &options.only {
        arguments.extend(["--only".into(), only.clone()]);
    }
    arguments.extend(options.more.iter().cloned());
    Ok(arguments)
}
