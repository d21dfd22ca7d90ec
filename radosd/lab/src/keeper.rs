//! What outlives us: a shell that waits for our end, and then ends what we have started.
//!
//! Its standard input is a pipe that only we hold. It closes when we drop it, and when this process
//! dies in whatever way. A parent-death signal would come too early: it is sent at the end of the
//! *thread* that started a daemon.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Kills by pid, and only a process whose command line names the cluster's folder.
const SCRIPT: &str = r#"
read -r nothing
for file in "$1"/run/*.pid; do
    pid=$(cat "$file" 2>/dev/null) || continue
    if tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "$1/"; then
        kill -KILL "$pid" 2>/dev/null
    fi
done
for try in 1 2 3 4 5 6 7 8 9; do
    rm -rf "$1" 2>/dev/null
    [ -e "$1" ] || exit 0
    sleep 0.1
done
"#;

pub(crate) struct Keeper(Child);

impl Keeper {
    pub(crate) fn start(dir: &Path) -> io::Result<Keeper> {
        let child = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "archipelago-rados-keeper"])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Keeper(child))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Waiting closes the pipe first.
        let _ = self.0.wait();
    }
}
