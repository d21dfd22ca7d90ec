//! Before the loop: directories, sockets, and who to become.

use super::{SupervisorError, control_socket};
use config::NodeConfig;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, User, chown, initgroups, setgid, setuid};
use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// What our directories are called where nobody says otherwise. Only a directory of this name is
/// handed to another group: any other may be somebody else's (`LOG_DIR = /var/log`).
const OWN_NAME: &str = "archipelago";

/// Makes the run, state and log directories, which belong to the node's user and group. Those that
/// a package has made, or a node whose configuration named another user, are handed over.
pub fn directories(config: &NodeConfig) -> Result<(), SupervisorError> {
    let node = &config.archipelago;
    directory(config, &node.run_dir, 0o770)?;
    directory(config, &node.state_dir, 0o770)?;
    directory(config, &node.log_dir, 0o775)?;
    for role in &config.roles {
        if let Some(dir) = role.pidfile.as_deref().and_then(Path::parent) {
            directory(config, dir, 0o770)?;
        }
    }
    Ok(())
}

fn directory(config: &NodeConfig, path: &Path, mode: u32) -> Result<(), SupervisorError> {
    if path.is_dir() {
        return hand_over(config, path, mode).map_err(SupervisorError::file("hand over", path));
    }
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .and_then(|()| give(config, path));
    made.map_err(SupervisorError::file("make the directory", path))
}

/// Hands a directory that is there already to the node's group, and what earlier nodes left in it
/// to the node's user. Without it a node whose USER was changed could not write to its own logs.
fn hand_over(config: &NodeConfig, dir: &Path, mode: u32) -> io::Result<()> {
    if !Uid::effective().is_root() || dir.file_name().is_none_or(|name| name != OWN_NAME) {
        return Ok(());
    }
    let (meta, gid) = (fs::metadata(dir)?, config.archipelago.group.gid);
    if meta.gid() != gid {
        std::os::unix::fs::chown(dir, None, Some(gid))?;
    }
    if meta.mode() & mode != mode {
        fs::set_permissions(dir, Permissions::from_mode(meta.mode() & 0o7777 | mode))?;
    }
    hand_over_contents(config, dir)
}

fn hand_over_contents(config: &NodeConfig, dir: &Path) -> io::Result<()> {
    let node = &config.archipelago;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        // Through a descriptor that no link leads to: root must not be led to another's file.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let Ok(file) = File::options().read(true).custom_flags(flags).open(&path) else {
            continue;
        };
        let meta = file.metadata()?;
        // Mapped volumes are their processes' own, which may be root's and alive.
        if path.ends_with("mapped") {
            continue;
        }
        if meta.uid() != node.user.uid && is_only_ours(&meta) {
            fchown(&file, Some(node.user.uid), Some(node.group.gid))?;
        }
        if meta.is_dir() {
            hand_over_contents(config, &path)?;
        }
    }
    Ok(())
}

/// A directory, or a file that has no second name elsewhere.
fn is_only_ours(meta: &Metadata) -> bool {
    meta.is_dir() || meta.is_file() && meta.nlink() == 1
}

/// Gives a file to the node's user and group, as far as the caller may: root may.
pub fn give(config: &NodeConfig, path: &Path) -> io::Result<()> {
    let user = Uid::effective()
        .is_root()
        .then_some(Uid::from_raw(config.archipelago.user.uid));
    let group = Gid::from_raw(config.archipelago.group.gid);
    Ok(chown(path, user, Some(group))?)
}

/// Listens for commands, for the node's user and group. Only whoever holds the segment comes
/// here, so a socket that is there already is a leftover.
pub(super) fn listen(config: &NodeConfig) -> Result<UnixListener, SupervisorError> {
    let path = control_socket(&config.archipelago.run_dir);
    let listener = replace_socket(&path, 0o660 & !config.archipelago.umask)
        .and_then(|listener| give(config, &path).map(|()| listener));
    listener.map_err(SupervisorError::file("listen at", &path))
}

fn replace_socket(path: &Path, mode: u32) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let before = umask(Mode::from_bits_truncate(0o777 & !mode));
    let listener = UnixListener::bind(path);
    umask(before);
    let listener = listener?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Becomes the node's user for good, if that is not who we are.
pub fn become_user(config: &NodeConfig) -> Result<(), SupervisorError> {
    let uid = Uid::from_raw(config.archipelago.user.uid);
    let gid = Gid::from_raw(config.archipelago.group.gid);
    if !Uid::effective().is_root() || uid.is_root() {
        return Ok(());
    }
    let change = || -> nix::Result<()> {
        if let Some(user) = User::from_uid(uid)? {
            let name = std::ffi::CString::new(user.name).unwrap_or_default();
            initgroups(&name, gid)?;
        }
        setgid(gid)?;
        setuid(uid)
    };
    change().map_err(SupervisorError::system("become the user of the node"))
}
