//! The Debian packages that some tests need.
//!
//! They are listed in `packages.txt`, each with a program or file that shows it is there. A
//! program that is found is left alone, even when it came from elsewhere than its package.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::Command;

use nix::unistd::Uid;

const LIST: &str = include_str!("../packages.txt");

/// A package, and what shows that it is there.
#[derive(Debug, PartialEq, Eq)]
struct Package<'a> {
    name: &'a str,
    /// A program's name, or an absolute path.
    proof: &'a str,
}

/// Installs what is missing when `install` asks for it and this is root on Debian; else names it
/// in one line. Returns whether everything that was asked for could be done.
pub(crate) fn ensure(install: bool) -> io::Result<bool> {
    let missing = missing(LIST, &env::var_os("PATH").unwrap_or_default());
    if missing.is_empty() {
        return Ok(true);
    }
    let can_install = Uid::effective().is_root() && Path::new("/usr/bin/apt-get").exists();
    if install && can_install {
        return apt_get(&["update"]).and_then(|updated| Ok(updated && install_all(&missing)?));
    }
    println!(
        "not installed, so the tests that need it will be skipped: {}",
        missing.join(" ")
    );
    Ok(true)
}

/// The packages of `list` whose proof is found nowhere on `search_path`.
fn missing<'a>(list: &'a str, search_path: &OsStr) -> Vec<&'a str> {
    let absent = packages(list).filter(|package| !is_there(package.proof, search_path));
    absent.map(|package| package.name).collect()
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
fn is_there(proof: &str, search_path: &OsStr) -> bool {
    if proof.starts_with('/') {
        return Path::new(proof).exists();
    }
    let system = ["/usr/sbin", "/sbin"].map(Into::into);
    env::split_paths(search_path)
        .chain(system)
        .any(|dir| dir.join(proof).is_file())
}

fn install_all(names: &[&str]) -> io::Result<bool> {
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(names);
    apt_get(&arguments)
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
        assert_eq!(
            missing(&list, folder.path().as_os_str()),
            ["absent", "lost"]
        );
    }
}
