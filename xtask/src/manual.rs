//! `cargo xtask man [DIR]`, `cargo xtask completions [DIR]`: for packages, made of the very
//! definitions that parse the command lines (`packaging/manual`).

use std::env;
use std::io;
use std::path::{self, PathBuf};
use std::process::Command;

use crate::test::workspace;

/// Where they go.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A folder; target/man or target/completions by default
    dir: Option<PathBuf>,
}

/// Builds what makes them, and makes them. `what` is `man` or `completions`.
pub(crate) fn run(what: &str, options: &Options) -> io::Result<bool> {
    let root = workspace();
    let dir = match &options.dir {
        // As the caller sees it, and not the workspace.
        Some(dir) => path::absolute(dir)?,
        None => root.join("target").join(what),
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "--package", "archip-manual", "--", what]);
    let made = command.arg(&dir).current_dir(root).status()?.success();
    if made {
        println!("written to {}", dir.display());
    }
    Ok(made)
}
