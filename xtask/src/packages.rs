//! The Debian packages that some tests need.
//!
//! They are listed in `packages.txt`, each with a program or file that shows it is there. A
//! program that is found is left alone, even when it came from elsewhere than its package. What
//! can't be installed without harm is unpacked into `target/beside`, with its libraries.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::Uid;

use crate::test::workspace;

const LIST: &str = include_str!("../packages.txt");

/// A package, and what shows that it is there.
#[derive(Debug, PartialEq, Eq)]
struct Package<'a> {
    name: &'a str,
    /// A program's name, or an absolute path, or the path of a program below [`TARGET`].
    proof: &'a str,
}

/// What a proof begins with where the package is unpacked.
const TARGET: &str = "target/";

impl Package<'_> {
    fn is_unpacked(&self) -> bool {
        self.proof.starts_with(TARGET)
    }
}

/// Installs what is missing when `install` asks for it and this is root on Debian; else names it
/// in one line. Returns whether everything that was asked for could be done.
pub(crate) fn ensure(install: bool) -> io::Result<bool> {
    let missing = missing(LIST, &env::var_os("PATH").unwrap_or_default(), &target());
    if missing.is_empty() {
        return Ok(true);
    }
    let can_install = Uid::effective().is_root() && Path::new("/usr/bin/apt-get").exists();
    if install && can_install {
        return apt_get(&["update"]).and_then(|updated| Ok(updated && install_all(&missing)?));
    }
    println!(
        "not installed, so the tests that need it will be skipped: {}",
        names(&missing).join(" ")
    );
    Ok(true)
}

/// The folder that cargo builds in.
fn target() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or(TARGET.into(), PathBuf::from);
    workspace().join(target)
}

/// The packages of `list` whose proof is found neither on `search_path` nor in `target`.
fn missing<'a>(list: &'a str, search_path: &OsStr, target: &Path) -> Vec<Package<'a>> {
    let absent = packages(list).filter(|package| !is_there(package.proof, search_path, target));
    absent.collect()
}

fn names<'a>(packages: &[Package<'a>]) -> Vec<&'a str> {
    packages.iter().map(|package| package.name).collect()
}

fn packages(list: &str) -> impl Iterator<Item = Package<'_>> {
    list.lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        Some(Package {
            name: words.next()?,
            proof: words.next()?,
        })
    })
}

/// Programs of `/sbin` count although an ordinary user's PATH lacks it.
fn is_there(proof: &str, search_path: &OsStr, target: &Path) -> bool {
    if proof.starts_with('/') {
        return Path::new(proof).exists();
    }
    let unpacked = proof.strip_prefix(TARGET).map(|path| target.join(path));
    if unpacked.is_some_and(|path| path.exists()) {
        return true;
    }
    let program = proof.rsplit('/').next().unwrap_or(proof);
    let system = ["/usr/sbin", "/sbin"].map(Into::into);
    env::split_paths(search_path)
        .chain(system)
        .any(|dir| dir.join(program).is_file())
}

fn install_all(packages: &[Package<'_>]) -> io::Result<bool> {
    let (unpacked, installed): (Vec<_>, Vec<_>) =
        packages.iter().partition(|package| package.is_unpacked());
    let names = |packages: &[&Package<'_>]| packages.iter().map(|p| p.name.to_owned()).collect();
    Ok(install(&[], names(&installed))? && unpack(names(&unpacked))?)
}

fn install(options: &[&str], names: Vec<String>) -> io::Result<bool> {
    if names.is_empty() {
        return Ok(true);
    }
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(options);
    arguments.extend(names.iter().map(String::as_str));
    apt_get(&arguments)
}

/// Unpacks packages, and whatever they need that is not installed, into `target/beside`.
fn unpack(names: Vec<String>) -> io::Result<bool> {
    let beside = target().join("beside");
    let archives = beside.join("archives");
    fs::create_dir_all(archives.join("partial"))?;
    let cache = format!("Dir::Cache::archives={}", archives.display());
    if !install(&["--download-only", "-o", &cache], names)? {
        return Ok(false);
    }
    for entry in fs::read_dir(&archives)? {
        let path = entry?.path();
        if path.extension() != Some(OsStr::new("deb")) {
            continue;
        }
        let mut command = Command::new("dpkg-deb");
        let unpacked = command.arg("--extract").arg(&path).arg(&beside).status()?;
        if !unpacked.success() {
            return Ok(false);
        }
    }
    fs::remove_dir_all(archives)?;
    Ok(true)
}

fn apt_get(arguments: &[&str]) -> io::Result<bool> {
    let mut command = Command::new("apt-get");
    command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive");
    Ok(command.status()?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_list_names_a_package_and_its_proof() {
        let lines = LIST.lines().filter(|line| !line.starts_with('#')).count();
        assert!(lines > 0);
        assert_eq!(packages(LIST).count(), lines);
    }

    #[test]
    fn only_what_is_nowhere_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("tool");
        std::fs::write(&program, "").unwrap();
        let list = format!(
            "# comment\npresent tool # why\nfile {}\nabsent no-such-program\nlost /no/such/file\n",
            program.display()
        );
        let found = missing(&list, folder.path().as_os_str(), Path::new("/nowhere"));
        assert_eq!(names(&found), ["absent", "lost"]);
    }

    #[test]
    fn what_is_unpacked_may_be_installed_as_well() {
        let list = "emulator target/beside/usr/bin/tool # why\n";
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = Path::new("/nowhere");
        let absent = missing(list, elsewhere.as_os_str(), folder.path());
        assert!(absent[0].is_unpacked());
        let bin = folder.path().join("beside/usr/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::write(bin.join("tool"), "").unwrap();
        assert_eq!(missing(list, elsewhere.as_os_str(), folder.path()), []);
        assert_eq!(missing(list, bin.as_os_str(), elsewhere), []);
    }
}
