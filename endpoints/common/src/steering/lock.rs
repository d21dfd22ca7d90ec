//! One `map`, `unmap` or listing of devices at a time: a lock on `RUN_DIR/vlmc.lock`.
//!
//! The original created a file and left it behind after a crash; here the kernel lets go of the
//! lock with the process. The sentences and the 15 seconds are the original's.

use crate::error::{Error, ErrorKind};
use config::NodeConfig;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Gid, Uid, chown};
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(15);
const RETRY: Duration = Duration::from_millis(200);

/// The lock, held until it is dropped.
#[derive(Debug)]
pub struct ToolLock {
    _file: Option<Flock<File>>,
}

impl ToolLock {
    /// Takes the lock; waits at most 15 seconds for whoever has it. A node that was never
    /// started has no run directory, hence nothing mapped and nothing to lock.
    pub fn take(config: &NodeConfig) -> Result<ToolLock, Error> {
        let path = config.archipelago.run_dir.join("vlmc.lock");
        let shown = path.display().to_string();
        let until = Instant::now() + PATIENCE;
        let mut file = match shared_file(config, &path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Ok(ToolLock { _file: None });
            }
            other => other.map_err(Error::system(&*shown))?,
        };
        loop {
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(ToolLock { _file: Some(lock) }),
                Err((file, Errno::EWOULDBLOCK)) => file,
                Err((_, e)) => return Err(Error::system(shown)(e)),
            };
            if Instant::now() >= until {
                let why = format!("Could not acquire {shown}. Tried 15 seconds");
                return Err(Error::new(ErrorKind::Refused, why));
            }
            eprintln!("{shown} File exists\nRetrying...");
            std::thread::sleep(RETRY);
        }
    }
}

/// Opens a file of the node to append to. It belongs to the node's user and group, whoever makes
/// it.
pub fn shared_file(config: &NodeConfig, path: &Path) -> io::Result<File> {
    let file = File::options()
        .append(true)
        .create(true)
        .mode(0o660)
        .open(path)?;
    let node = &config.archipelago;
    let is_root = Uid::effective().is_root();
    let user = is_root.then_some(Uid::from_raw(node.user.uid));
    // Only root, or whoever has just made it, may give it away; nobody else need.
    let _ = chown(path, user, Some(Gid::from_raw(node.group.gid)));
    Ok(file)
}
