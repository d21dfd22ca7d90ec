//! `cargo xtask deb`: Debian packages, and an apt repository of them.
//!
//! ```text
//!  cargo build, man pages, completions        packaging/debian
//!            |                                      |
//!            v                                      v
//!  target/deb/tree/stage (looks like a root)  target/deb/tree/debian
//!            '------------ dpkg-buildpackage, debhelper ------------'
//!                                    |
//!                        DIR/*.deb, DIR/Packages, DIR/Release; lintian
//! ```
//!
//! Which file goes into which package is said in `packaging/debian`, and what is in no package is
//! an error (dh_missing). `docs/decisions/0020-*` has the reasons.

mod licences;
mod stage;

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{self, Path, PathBuf};
use std::process::Command;

use crate::test::{has_librados, workspace};
use stage::Stage;

/// What `cargo xtask deb` may be told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Where the packages go; target/deb/release or target/deb/dev by default
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Of the programs that tests use: quickly made, large and slow
    #[arg(long)]
    dev: bool,
}

/// What makes packages, each with the Debian package that has it.
const NEEDED: [(&str, &str); 5] = [
    ("/usr/bin/dpkg-buildpackage", "dpkg-dev"),
    ("/usr/bin/dh", "debhelper"),
    ("/usr/bin/pybuild", "dh-python"),
    (
        "/usr/lib/python3/dist-packages/setuptools",
        "python3-setuptools",
    ),
    ("/usr/bin/apt-ftparchive", "apt-utils"),
];

/// The first Debian package that is needed and not here.
pub(crate) fn missing() -> Option<&'static str> {
    let absent = NEEDED.iter().find(|(file, _)| !Path::new(file).exists());
    absent.map(|(_, package)| *package)
}

/// Makes the packages and looks at them with lintian. Returns whether all of that went well.
pub(crate) fn run(options: &Options) -> io::Result<bool> {
    let out = match &options.out {
        // As the caller sees it, and not the workspace.
        Some(out) => path::absolute(out)?,
        None => default_out(options.dev),
    };
    make(&out, options.dev)?;
    println!("packages and repository: {}", out.display());
    lintian(&out)
}

/// Where packages go when nothing is said.
pub(crate) fn default_out(dev: bool) -> PathBuf {
    let name = if dev { "dev" } else { "release" };
    workspace().join("target/deb").join(name)
}

/// Builds everything and fills `out` with packages and their index.
pub(crate) fn make(out: &Path, dev: bool) -> io::Result<()> {
    if let Some(package) = missing() {
        return Err(failed(format!(
            "packages need the Debian package {package}: cargo xtask test --install installs it"
        )));
    }
    let rados = has_librados();
    if !rados {
        println!("skipped: archipelago-rados, for there is no librados-dev here");
    }
    let tree = empty(&workspace().join("target/deb/work"))?.join("tree");
    Stage::new(tree.join("stage"), dev).fill(rados)?;
    for part in ["packaging/debian", "python", "docs"] {
        let name = Path::new(part).file_name().unwrap_or_default();
        copy_folder(&workspace().join(part), &tree.join(name))?;
    }
    fs::write(tree.join("third-party"), licences::text(&stage::CRATES)?)?;
    build_packages(&tree, dev, rados)?;
    collect(&tree, empty(out)?)?;
    index(out)
}

/// The folder, made anew.
fn empty(dir: &Path) -> io::Result<&Path> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    fs::create_dir_all(dir)?;
    Ok(dir)
}

/// A copy as `cp` makes it, without what Python and setuptools leave behind.
fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (path, name) = entry.map(|e| (e.path(), e.file_name()))?;
        let left_behind = ["__pycache__", "build", "tests"].iter().any(|n| name == *n);
        if left_behind || name.as_encoded_bytes().ends_with(b".egg-info") {
            continue;
        }
        match path.is_dir() {
            true => copy_folder(&path, &to.join(name))?,
            false => fs::copy(&path, to.join(name)).map(drop)?,
        }
    }
    Ok(())
}

fn build_packages(tree: &Path, dev: bool, rados: bool) -> io::Result<()> {
    let mut command = Command::new("dpkg-buildpackage");
    command.args(["--build=binary", "--no-pre-clean", "--no-sign"]);
    command.current_dir(tree);
    command.env("DEB_BUILD_OPTIONS", build_options(dev));
    if !rados {
        command.env("DEB_BUILD_PROFILES", "pkg.archipelago.norados");
    }
    // It says hundreds of lines, which nobody wants unless it fails.
    let output = command.output()?;
    if !output.status.success() {
        print!("{}", String::from_utf8_lossy(&output.stdout));
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        return Err(failed(format!("dpkg-buildpackage: {}", output.status)));
    }
    Ok(())
}

/// Debug symbols of programs for tests are worth nobody's time.
fn build_options(dev: bool) -> &'static str {
    match dev {
        true => "nocheck noautodbgsym fast",
        false => "nocheck",
    }
}

/// What dpkg-buildpackage left beside the tree goes to `out`.
fn collect(tree: &Path, out: &Path) -> io::Result<()> {
    for entry in fs::read_dir(tree.join(".."))? {
        let path = entry?.path();
        let kinds = ["deb", "buildinfo", "changes"].map(OsStr::new);
        if path.extension().is_some_and(|kind| kinds.contains(&kind)) {
            fs::rename(&path, out.join(path.file_name().unwrap_or_default()))?;
        }
    }
    Ok(())
}

/// Makes an apt repository of the folder: `deb [trusted=yes] file:DIR ./`.
fn index(out: &Path) -> io::Result<()> {
    for (words, file) in [
        (["packages", "."], "Packages"),
        (["release", "."], "Release"),
    ] {
        let mut command = Command::new("apt-ftparchive");
        let output = command.args(words).current_dir(out).output()?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            return Err(failed(format!("apt-ftparchive: {}", why.trim())));
        }
        fs::write(out.join(file), output.stdout)?;
    }
    Ok(())
}

/// Whether lintian finds no error; warnings are shown.
pub(crate) fn lintian(out: &Path) -> io::Result<bool> {
    if !Path::new("/usr/bin/lintian").exists() {
        println!("skipped: lintian is not installed");
        return Ok(true);
    }
    let packages = fs::read_dir(out)?.map(|entry| entry.map(|e| e.path()));
    let packages: Vec<PathBuf> = packages.collect::<io::Result<_>>()?;
    let packages = packages.iter().filter(|path| {
        let name = path.to_string_lossy();
        name.ends_with(".deb") && !name.contains("-dbgsym_")
    });
    let mut command = Command::new("lintian");
    command.args(["--fail-on", "error", "--allow-root"]);
    let clean = command.args(packages).status()?.success();
    println!("lintian: {}", if clean { "no error" } else { "errors" });
    Ok(clean)
}

/// Runs a command, whose failure is an error that names it.
pub(crate) fn succeed(command: &mut Command) -> io::Result<()> {
    let status = command.status()?;
    match status.success() {
        true => Ok(()),
        false => Err(failed(format!("{command:?} failed: {status}"))),
    }
}

/// `cargo`, in the workspace.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    command
}

pub(crate) fn failed(what: impl Into<String>) -> io::Error {
    io::Error::other(what.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Debian's changelog and Cargo.toml each name the version; apt goes by the former.
    #[test]
    fn the_version_of_the_packages_is_the_programs() {
        let changelog = include_str!("../../packaging/debian/changelog");
        let head = format!("archipelago ({}) ", env!("CARGO_PKG_VERSION"));
        assert!(changelog.starts_with(&head), "{head}");
    }
}
