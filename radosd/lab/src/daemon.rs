//! One daemon of the cluster: started, stopped in good order, or killed.
//!
//! Its pid stands in `run/NAME.pid` while it runs, for the keeper.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub(crate) struct Daemon {
    dir: PathBuf,
    /// `mon.a`, `osd.0`.
    name: String,
    child: Option<Child>,
}

impl Daemon {
    pub(crate) fn new(dir: &Path, name: &str) -> Daemon {
        Daemon {
            dir: dir.to_owned(),
            name: name.to_owned(),
            child: None,
        }
    }

    /// Starts it, unless it runs. In a process group of its own, so that Ctrl-C in a terminal
    /// reaches us alone.
    pub(crate) fn start(&mut self) -> io::Result<()> {
        if self.pid().is_some() {
            return Ok(());
        }
        let (kind, id) = self.name.split_once('.').expect("a daemon is KIND.ID");
        let log = File::options().create(true).append(true).open(self.log())?;
        let child = Command::new(format!("ceph-{kind}"))
            .arg("-c")
            .arg(self.dir.join("ceph.conf"))
            .args(["-i", id, "-f"])
            .env_remove("CEPH_ARGS")
            .env_remove("CEPH_CONF")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        std::fs::write(self.pid_file(), child.id().to_string())?;
        self.child = Some(child);
        Ok(())
    }

    /// SIGKILL; returns when it is dead.
    pub(crate) fn kill(&mut self) {
        self.end(Signal::SIGKILL);
    }

    /// SIGTERM; returns when it is dead.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        self.end(Signal::SIGTERM);
        Ok(())
    }

    fn end(&mut self, signal: Signal) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; waiting is right in any case.
            let _ = kill(Pid::from_raw(child.id() as i32), signal);
            let _ = child.wait();
            let _ = std::fs::remove_file(self.pid_file());
        }
    }

    pub(crate) fn pid(&self) -> Option<i32> {
        self.child.as_ref().map(|child| child.id() as i32)
    }

    fn pid_file(&self) -> PathBuf {
        self.dir.join(format!("run/{}.pid", self.name))
    }

    fn log(&self) -> PathBuf {
        self.dir.join(format!("log/{}.out", self.name))
    }

    pub(crate) fn last_words(&self) -> String {
        let said = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = said.lines().rev().take(10).collect();
        lines
            .iter()
            .rev()
            .map(|line| format!("\n  {}: {line}", self.name))
            .collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}
