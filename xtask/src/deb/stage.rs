//! What is packaged, laid out as on a system: `stage/usr/bin/vlmc`, `stage/etc/archipelago`, ...
//!
//! Programs that speak RADOS are the same programs, built once more with librados. They go to
//! `usr/lib/archipelago/rados`, where those without it find them (`node::supervisor::launch::rados_programs`).

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{cargo, failed, succeed};
use crate::test::workspace;

/// Whose programs and library are packaged.
pub(super) const CRATES: [&str; 7] = [
    "archip-fuse",
    "archip-ganeti",
    "archip-manual",
    "archip-nbd",
    "archip-node",
    "libxseg",
    "vlmc",
];
/// What brings librados into them.
pub(super) const RADOS: &str = "archip-node/rados";
/// Into `usr/bin`.
const PROGRAMS: [&str; 12] = [
    "archip-bench",
    "archip-filed",
    "archip-fuse",
    "archip-ganeti",
    "archip-mapperd",
    "archip-nbd",
    "archip-node",
    "archip-poold",
    "archip-vlmcd",
    "archipelago",
    "vlmc",
    "xseg",
];
/// Once more, with librados.
const RADOS_PROGRAMS: [(&str, &str); 3] = [
    ("archip-node", "archip-node"),
    (FINALIZER.0, FINALIZER.1),
    ("vlmc", "vlmc"),
];
/// What the guide calls "the provided script": as it is built, and as it is called.
const FINALIZER: (&str, &str) = ("finalize_upgrade", "finalize_upgrade_0.4");
/// Files that are installed as they are in the repository: from, to, whether they are run.
const FILES: [(&str, &str, bool); 6] = [
    (
        "packaging/archipelago.conf",
        "etc/archipelago/archipelago.conf",
        false,
    ),
    (
        "packaging/archipelago.conf.rados_example",
        "etc/archipelago/archipelago.conf.rados_example",
        false,
    ),
    (
        "ganeti/parameters.list",
        "usr/share/ganeti/extstorage/archipelago/parameters.list",
        false,
    ),
    (
        "packaging/reopen-logs",
        "usr/lib/archipelago/reopen-logs",
        true,
    ),
    (
        "xseg/capi/include/xseg/xseg.h",
        "usr/include/xseg/xseg.h",
        false,
    ),
    (
        "xseg/capi/include/xseg/protocol.h",
        "usr/include/xseg/protocol.h",
        false,
    ),
];

/// A root that fills.
pub(super) struct Stage {
    root: PathBuf,
    dev: bool,
}

impl Stage {
    pub(super) fn new(root: PathBuf, dev: bool) -> Stage {
        Stage { root, dev }
    }

    /// Builds everything and lays it out. What has RADOS is built last, so that a folder of
    /// programs for tests ends as the tests want it.
    pub(super) fn fill(&self, rados: bool) -> io::Result<()> {
        self.build(&CRATES, &[])?;
        for name in PROGRAMS {
            self.install(&self.built(name), &format!("usr/bin/{name}"), true)?;
        }
        let to = format!("usr/lib/archipelago/{}", FINALIZER.1);
        self.install(&self.built(FINALIZER.0), &to, true)?;
        self.library()?;
        self.manual()?;
        for (from, to, run) in FILES {
            self.install(&workspace().join(from), to, run)?;
        }
        if rados {
            self.build(&["archip-node", "vlmc"], &[RADOS])?;
            for (built, called) in RADOS_PROGRAMS {
                let to = format!("usr/lib/archipelago/rados/{called}");
                self.install(&self.built(built), &to, true)?;
            }
            self.install(&self.built("archip-radosd"), "usr/bin/archip-radosd", true)?;
        }
        Ok(())
    }

    fn build(&self, crates: &[&str], features: &[&str]) -> io::Result<()> {
        let mut command = cargo();
        command.arg("build");
        command.args((!self.dev).then_some("--release"));
        crates.iter().for_each(|name| {
            command.args(["--package", name]);
        });
        if !features.is_empty() {
            command.args(["--features", &features.join(",")]);
        }
        succeed(&mut command)
    }

    fn built(&self, name: &str) -> PathBuf {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
        let profile = if self.dev { "debug" } else { "release" };
        workspace().join(target).join(profile).join(name)
    }

    fn install(&self, from: &Path, to: &str, run: bool) -> io::Result<()> {
        let to = self.path(to)?;
        fs::copy(from, &to).map_err(|why| failed(format!("{}: {why}", from.display())))?;
        let mode = if run { 0o755 } else { 0o644 };
        fs::set_permissions(&to, fs::Permissions::from_mode(mode))
    }

    /// A place below the root, whose folder exists.
    fn path(&self, to: &str) -> io::Result<PathBuf> {
        let to = self.root.join(to);
        fs::create_dir_all(to.parent().unwrap_or(&self.root))?;
        Ok(to)
    }

    /// The library under its soname, and what compilers need to find it.
    fn library(&self) -> io::Result<()> {
        let triplet = multiarch()?;
        let lib = format!("usr/lib/{triplet}");
        let to = format!("{lib}/libxseg.so.0");
        self.install(&self.built("libxseg_c.so"), &to, false)?;
        symlink("libxseg.so.0", self.path(&format!("{lib}/libxseg.so"))?)?;
        let version = env!("CARGO_PKG_VERSION");
        let text = format!(
            "Name: libxseg\nDescription: Archipelago's segment\nVersion: {version}\n\
             Libs: -L/{lib} -lxseg\nCflags: -I/usr/include\n"
        );
        fs::write(self.path(&format!("{lib}/pkgconfig/libxseg.pc"))?, text)
    }

    /// Man pages and completions, each where its reader looks for it.
    fn manual(&self) -> io::Result<()> {
        let made = tempfile::tempdir()?;
        for what in ["man", "completions"] {
            let dir = made.path().join(what);
            let mut command = Command::new(self.built("archip-manual"));
            succeed(command.arg(what).arg(&dir))?;
            for entry in fs::read_dir(dir)? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                self.install(&entry.path(), &place_of_page(&name), false)?;
            }
        }
        Ok(())
    }
}

/// Where a man page (`vlmc.1`) or a shell's completions are looked for.
fn place_of_page(name: &str) -> String {
    if let Some(program) = name.strip_suffix(".bash") {
        return format!("usr/share/bash-completion/completions/{program}");
    }
    if name.ends_with(".fish") {
        return format!("usr/share/fish/vendor_completions.d/{name}");
    }
    if name.starts_with('_') {
        return format!("usr/share/zsh/vendor-completions/{name}");
    }
    let section = name.rsplit('.').next().unwrap_or_default();
    format!("usr/share/man/man{section}/{name}")
}

/// The folder of libraries of this machine: `x86_64-linux-gnu`.
fn multiarch() -> io::Result<String> {
    let mut command = Command::new("dpkg-architecture");
    let output = command.args(["-q", "DEB_HOST_MULTIARCH"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match output.status.success() && !text.is_empty() {
        true => Ok(text),
        false => Err(failed("dpkg-architecture knows no DEB_HOST_MULTIARCH")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_go_where_their_readers_look() {
        let table = [
            ("vlmc.1", "usr/share/man/man1/vlmc.1"),
            (
                "archipelago-start.8",
                "usr/share/man/man8/archipelago-start.8",
            ),
            ("vlmc.bash", "usr/share/bash-completion/completions/vlmc"),
            ("_vlmc", "usr/share/zsh/vendor-completions/_vlmc"),
            ("vlmc.fish", "usr/share/fish/vendor_completions.d/vlmc.fish"),
        ];
        for (name, place) in table {
            assert_eq!(place_of_page(name), place);
        }
    }
}
