//! A bare Debian that both machines begin as: what debootstrap makes of the release that this
//! machine runs, and in its cache every package that the guides install beside ours.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::remove;
use crate::deb::{failed, succeed};
use crate::test::workspace;

/// What our packages need of Debian, what runs in the machines beside them, and what looks at them.
/// They are fetched here and installed there, so that a run needs no network.
const FETCHED: &str =
    "adduser dbus gunicorn logrotate librados2 python3 python3-gevent systemd systemd-sysv";

/// Where it is kept.
pub(super) fn dir() -> PathBuf {
    workspace().join("target/guides/base")
}

/// Makes it unless it is there. The stamp says what was fetched, and is written last. False: a
/// Debian is not to be had here, for want of a network as a rule.
pub(super) fn prepare() -> io::Result<bool> {
    let (dir, stamp) = (dir(), dir().with_extension("stamp"));
    let wanted = format!("{} {FETCHED}", release()?);
    if fs::read_to_string(&stamp).is_ok_and(|had| had == wanted) {
        return Ok(true);
    }
    println!("== a bare Debian, once: {}", dir.display());
    remove(&dir)?;
    fs::create_dir_all(&dir)?;
    let mut command = Command::new("debootstrap");
    command.args(["--variant=minbase", &release()?]).arg(&dir);
    if !command.stdout(Stdio::null()).status()?.success() {
        return Ok(false);
    }
    fetch()?;
    fs::write(stamp, wanted).map(|()| true)
}

/// The name of the Debian that this machine runs.
fn release() -> io::Result<String> {
    let text = fs::read_to_string("/etc/os-release")?;
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    name.map(str::to_owned)
        .ok_or_else(|| failed("/etc/os-release names no VERSION_CODENAME"))
}

/// Fills the cache of the bare Debian's apt.
fn fetch() -> io::Result<()> {
    let dir = dir();
    fs::copy("/etc/resolv.conf", dir.join("etc/resolv.conf"))?;
    let script = format!(
        "apt-get -qq update && \
         apt-get -qq install --download-only -y --no-install-recommends {FETCHED}"
    );
    succeed(Command::new("chroot").arg(&dir).args(["sh", "-c", &script]))
}
