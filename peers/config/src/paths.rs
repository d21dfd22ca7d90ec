//! Where things are when nothing says so.
//!
//! Root's node lives in `/run/archipelago`; anybody else's in a directory of their own, so that
//! nobody needs root to run one (`spec/choices.md`, "Peers on their own").

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use nix::unistd::Uid;

/// The file that the tools read when `-c` names no other.
pub const CONFIG_FILE: &str = "/etc/archipelago/archipelago.conf";
/// Where logs go when `LOG_DIR` and `logfile` say nothing.
pub const LOG_DIR: &str = "/var/log/archipelago";
/// The Ceph configuration that a `rados_blocker` reads when `ceph_conf` names no other.
pub const CEPH_CONF: &str = "/etc/ceph/ceph.conf";
/// The environment variable that overrides the run directory's default.
pub const RUN_DIR_VARIABLE: &str = "ARCHIPELAGO_RUN_DIR";

/// The run directory where no configuration names one: the environment's, or root's, or the
/// caller's own.
pub fn default_run_dir() -> PathBuf {
    run_dir_of(Uid::effective(), |name| std::env::var_os(name))
}

fn run_dir_of(uid: Uid, environment: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let directory = |name| {
        environment(name)
            .map(PathBuf::from)
            .filter(|dir| dir.is_absolute())
    };
    if let Some(chosen) = directory(RUN_DIR_VARIABLE) {
        return chosen;
    }
    if uid.is_root() {
        return "/run/archipelago".into();
    }
    match directory("XDG_RUNTIME_DIR") {
        Some(dir) => dir.join("archipelago"),
        None => format!("/tmp/archipelago-{uid}").into(),
    }
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
        assert_eq!(run_dir_of(user, both), Path::new("/chosen"));
        assert_eq!(
            run_dir_of(Uid::from_raw(0), only_xdg),
            Path::new("/run/archipelago")
        );
        assert_eq!(
            run_dir_of(user, only_xdg),
            Path::new("/run/user/1000/archipelago")
        );
        assert_eq!(
            run_dir_of(user, |_| None),
            Path::new("/tmp/archipelago-1000")
        );
        assert_eq!(
            run_dir_of(user, relative),
            Path::new("/tmp/archipelago-1000")
        );
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
