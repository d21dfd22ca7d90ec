//! One `map`, `unmap` or listing of devices at a time: a lock on `RUN_DIR/vlmc.lock`.
//!
//! The original created a file and left it behind after a crash; here the kernel lets go of the
//! lock with the process. The sentences and the 15 seconds are the original's.

use crate::failure::Failure;
use crate::settings::Settings;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(15);
const RETRY: Duration = Duration::from_millis(200);

/// The lock, held until it is dropped.
#[derive(Debug)]
pub(crate) struct ToolLock {
    _file: Option<Flock<File>>,
}

impl ToolLock {
    /// Takes the lock; waits at most 15 seconds for whoever has it. A node that was never
    /// started has no run directory, hence nothing mapped and nothing to lock.
    pub(crate) fn take(settings: &Settings) -> Result<ToolLock, Failure> {
        let path = settings.run_dir().join("vlmc.lock");
        let until = Instant::now() + PATIENCE;
        let mut file = match settings.shared_file(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Ok(ToolLock { _file: None });
            }
            Err(e) => return Err(Failure::unexpected(path.display(), e)),
            Ok(file) => file,
        };
        loop {
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(ToolLock { _file: Some(lock) }),
                Err((file, Errno::EWOULDBLOCK)) => file,
                Err((_, e)) => return Err(Failure::unexpected(path.display(), e)),
            };
            if Instant::now() >= until {
                let path = path.display();
                return Err(Failure::new(format!(
                    "Could not acquire {path}. Tried 15 seconds"
                )));
            }
            eprintln!("{} File exists\nRetrying...", path.display());
            std::thread::sleep(RETRY);
        }
    }
}
