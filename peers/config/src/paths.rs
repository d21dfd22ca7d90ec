//! Where things are when nothing says so.
//!
//! Root's node lives in `/run/archipelago`, and so does everybody whom it lets write there: its user
//! and its group, who are Pithos' workers on many hosts. Anybody else's is in a directory of their
//! own, so that nobody needs root to run one (`spec/choices.md`, "Peers on their own").

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, Uid, faccessat};

/// The file that the tools read when `-c` names no other.
pub const CONFIG_FILE: &str = "/etc/archipelago/archipelago.conf";
/// The environment variable that names another file for the scripts and hooks of Ganeti, whose
/// command lines have no room for one. Ganeti itself never sets it.
pub const CONFIG_FILE_VARIABLE: &str = "ARCHIPELAGO_CONF";
/// Where the hooks of Ganeti say what they did when `HOOKS_LOG` says nothing.
pub const HOOKS_LOG: &str = "/var/log/ganeti/hooks.log";
/// Where logs go when `LOG_DIR` and `logfile` say nothing.
pub const LOG_DIR: &str = "/var/log/archipelago";
/// The Ceph configuration that a `rados_blocker` reads when `ceph_conf` names no other.
pub const CEPH_CONF: &str = "/etc/ceph/ceph.conf";
/// The environment variable that overrides the run directory's default.
pub const RUN_DIR_VARIABLE: &str = "ARCHIPELAGO_RUN_DIR";

/// The environment variable that overrides the state directory's default.
pub const STATE_DIR_VARIABLE: &str = "ARCHIPELAGO_STATE_DIR";

/// The run directory of a host's node, and where it keeps what lasts.
const HOST_RUN_DIR: &str = "/run/archipelago";
const HOST_STATE_DIR: &str = "/var/lib/archipelago";

/// The two directories that a node keeps for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Pid files, sockets and locks; a reboot may empty it.
    pub run_dir: PathBuf,
    /// What the node must still know after a reboot.
    pub state_dir: PathBuf,
}

impl Places {
    /// Those of a program that no configuration tells.
    pub fn by_default() -> Places {
        let run_dir = default_run_dir();
        Places {
            state_dir: default_state_dir(&run_dir),
            run_dir,
        }
    }
}

/// The run directory where no configuration names one: the environment's, or the host's where the
/// caller may write to that, or the caller's own.
pub fn default_run_dir() -> PathBuf {
    run_dir_of(Uid::effective(), may_write(HOST_RUN_DIR), |name| {
        std::env::var_os(name)
    })
}

/// Whether the caller may make files in a directory that is there.
fn may_write(dir: &str) -> bool {
    let all = AccessFlags::W_OK | AccessFlags::X_OK;
    faccessat(AT_FDCWD, dir, all, AtFlags::AT_EACCESS).is_ok()
}

fn run_dir_of(uid: Uid, of_host: bool, environment: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let directory = |name| {
        environment(name)
            .map(PathBuf::from)
            .filter(|dir| dir.is_absolute())
    };
    if let Some(chosen) = directory(RUN_DIR_VARIABLE) {
        return chosen;
    }
    if uid.is_root() || of_host {
        return HOST_RUN_DIR.into();
    }
    match directory("XDG_RUNTIME_DIR") {
        Some(dir) => dir.join("archipelago"),
        None => format!("/tmp/archipelago-{uid}").into(),
    }
}

/// The state directory of a node that runs in `run_dir`, where no configuration names one: the
/// environment's; or `run_dir` itself where that lasts, so that a node in a folder stays in it; or
/// root's, or the caller's own (`docs/decisions/0011-*`).
pub fn default_state_dir(run_dir: &Path) -> PathBuf {
    state_dir_of(
        run_dir,
        Uid::effective(),
        may_write(HOST_STATE_DIR),
        |name| std::env::var_os(name),
    )
}

fn state_dir_of(
    run_dir: &Path,
    uid: Uid,
    of_host: bool,
    environment: impl Fn(&str) -> Option<OsString>,
) -> PathBuf {
    let directory = |name| {
        environment(name)
            .map(PathBuf::from)
            .filter(|dir| dir.is_absolute())
    };
    if let Some(chosen) = directory(STATE_DIR_VARIABLE) {
        return chosen;
    }
    let nobodys_choice = run_dir_of(uid, false, |_| None);
    let is_emptied = ["/run", "/var/run"]
        .iter()
        .any(|dir| run_dir.starts_with(dir));
    if !is_emptied && run_dir != nobodys_choice {
        return run_dir.into();
    }
    if uid.is_root() || of_host && run_dir == Path::new(HOST_RUN_DIR) {
        return HOST_STATE_DIR.into();
    }
    let home = || directory("HOME").map(|home| home.join(".local/state"));
    match directory("XDG_STATE_HOME").or_else(home) {
        Some(dir) => dir.join("archipelago"),
        None => run_dir.into(),
    }
}

/// Where programs are looked for when nothing else says so: a clean environment has no PATH.
const PROGRAM_DIRS: [&str; 2] = ["/usr/local/bin", "/usr/bin"];

/// The peer that packages keep apart, because it needs librados.
const RADOSD: &str = "archip-radosd";

/// The program of that name in `first`, or beside this very one, or in PATH, or where programs
/// are installed.
pub fn find_program(name: &str, first: Option<&Path>) -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let given = first.into_iter().chain(own.parent()).map(PathBuf::from);
    // An empty PATH would mean the working directory.
    let in_path = std::env::split_paths(&path).filter(|dir| dir.is_absolute());
    let dirs = given.chain(in_path).chain(PROGRAM_DIRS.map(PathBuf::from));
    dirs.map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .ok_or_else(|| {
            let own = own.display();
            let mut text = format!("the program {name} is neither beside {own} nor in PATH");
            if name == RADOSD {
                text += "; it is in the package archipelago-rados";
            }
            io::Error::new(io::ErrorKind::NotFound, text)
        })
}

/// `path` made absolute: relative to `base`, the directory of the file that names it. `.` and
/// `..` stay as they are, because a symbolic link may stand before them.
pub fn resolve(base: &Path, path: &Path) -> PathBuf {
    base.join(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_directory_is_the_environments_then_roots_then_the_callers() {
        let user = Uid::from_raw(1000);
        let both = |name: &str| match name {
            RUN_DIR_VARIABLE => Some("/chosen".into()),
            "XDG_RUNTIME_DIR" => Some("/run/user/1000".into()),
            _ => None,
        };
        let only_xdg = |name: &str| both(name).filter(|_| name == "XDG_RUNTIME_DIR");
        let relative = |name: &str| (name == RUN_DIR_VARIABLE).then(|| "here".into());
        let root = Uid::from_raw(0);
        assert_eq!(run_dir_of(user, true, both), Path::new("/chosen"));
        assert_eq!(run_dir_of(root, false, only_xdg), Path::new(HOST_RUN_DIR));
        assert_eq!(
            run_dir_of(user, false, only_xdg),
            Path::new("/run/user/1000/archipelago")
        );
        let own = Path::new("/tmp/archipelago-1000");
        assert_eq!(run_dir_of(user, false, |_| None), own);
        assert_eq!(run_dir_of(user, false, relative), own);
    }

    /// A worker of Pithos, whose user is the node's and not root, looked for the host's node in
    /// `/tmp/archipelago-UID`, and found none.
    #[test]
    fn whom_the_hosts_node_lets_in_finds_it() {
        let user = Uid::from_raw(990);
        assert_eq!(run_dir_of(user, true, |_| None), Path::new(HOST_RUN_DIR));
        let state = |run_dir, of_host| state_dir_of(Path::new(run_dir), user, of_host, |_| None);
        assert_eq!(state(HOST_RUN_DIR, true), Path::new(HOST_STATE_DIR));
        assert_eq!(state(HOST_RUN_DIR, false), Path::new(HOST_RUN_DIR));
        assert_eq!(state("/srv/node/run", true), Path::new("/srv/node/run"));
    }

    type Variables = &'static [(&'static str, &'static str)];

    #[test]
    fn the_state_directory_lasts_where_it_can() {
        let (root, user) = (Uid::from_raw(0), Uid::from_raw(1000));
        let variables = |set: Variables| {
            move |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into())
        };
        let home: Variables = &[("HOME", "/home/u")];
        let xdg: Variables = &[("HOME", "/home/u"), ("XDG_STATE_HOME", "/state")];
        let chosen: Variables = &[(STATE_DIR_VARIABLE, "/chosen"), ("HOME", "/home/u")];
        let table: [(&str, Uid, Variables, &str); 9] = [
            ("/run/archipelago", root, &[], "/var/lib/archipelago"),
            ("/var/run/archipelago", root, &[], "/var/lib/archipelago"),
            ("/run/archipelago", root, chosen, "/chosen"),
            ("/srv/node/run", root, &[], "/srv/node/run"),
            ("/running/node", root, &[], "/running/node"),
            (
                "/run/user/1000/archipelago",
                user,
                home,
                "/home/u/.local/state/archipelago",
            ),
            ("/tmp/archipelago-1000", user, xdg, "/state/archipelago"),
            ("/tmp/archipelago-1000", user, &[], "/tmp/archipelago-1000"),
            ("/home/u/node/run", user, home, "/home/u/node/run"),
        ];
        for (run_dir, uid, environment, expected) in table {
            let found = state_dir_of(Path::new(run_dir), uid, false, variables(environment));
            assert_eq!(found, Path::new(expected), "{run_dir} of {uid}");
        }
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let base = Path::new("/srv/node");
        assert_eq!(
            resolve(base, Path::new("maps")),
            Path::new("/srv/node/maps")
        );
        assert_eq!(resolve(base, Path::new("/maps")), Path::new("/maps"));
    }
}
