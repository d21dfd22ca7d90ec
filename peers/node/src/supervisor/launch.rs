//! Which programs play the node's roles, and how one is started.
//!
//! A role alone is played by its own program, with the command line that the configuration
//! gives; roles that share a process by `archip-node --config FILE --process NAME`. Both say
//! `ready` on the descriptor that [`READY_FD`] names once all their roles serve.
//!
//! Packages keep programs with librados apart from those without ([`rados_programs`]); a process
//! with a `rados_blocker` takes the former.

use config::args::{Executable, Generic, command_line};
use config::paths::Places;
use config::{NodeConfig, Process, RoleKind};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::signal::SigSet;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The environment variable that names the descriptor for the word [`READY`].
pub const READY_FD: &str = "ARCHIPELAGO_READY_FD";
/// What a process says when it serves.
pub const READY: &[u8] = b"ready\n";
/// The program that plays several roles.
const NODE: &str = "archip-node";

/// How to start one process of the node.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The `process` key's value, or the name of the only role.
    pub name: String,
    /// Its roles, in the order of their start.
    pub roles: Vec<String>,
    /// The roles' pid files.
    pub pid_files: Vec<PathBuf>,
    /// The program's file name.
    pub program: &'static str,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Whether a role of it keeps its objects in RADOS.
    pub rados: bool,
}

/// A process that has just been started.
pub(super) struct Launched {
    pub(super) child: Child,
    pub(super) ready: File,
}

/// The node's processes, in the order of their start.
pub fn plans(config: &NodeConfig) -> Vec<Plan> {
    config
        .processes()
        .iter()
        .map(|process| plan(config, process))
        .collect()
}

fn plan(config: &NodeConfig, process: &Process<'_>) -> Plan {
    let (program, args) = match process.roles.as_slice() {
        [role] if role.process.is_none() => {
            let args = command_line(role, &Generic::of(config, false));
            (Executable::of(&role.kind).name(), args)
        }
        _ => (NODE, shared_args(&config.file, process.name)),
    };
    Plan {
        name: process.name.to_owned(),
        roles: process.roles.iter().map(|r| r.name.clone()).collect(),
        pid_files: process
            .roles
            .iter()
            .filter_map(|r| r.pidfile.clone())
            .collect(),
        program,
        args,
        rados: process.roles.iter().any(|role| is_rados(&role.kind)),
    }
}

/// Whether objects of such a role are in RADOS.
pub fn is_rados(kind: &RoleKind) -> bool {
    matches!(kind, RoleKind::RadosBlocker(_))
}

/// Where the package archipelago-rados keeps the programs with librados, seen from a program
/// without it: `PREFIX/lib/archipelago/rados` beside `PREFIX/bin`. `None`: there are none, or this
/// program has librados itself.
pub fn rados_programs() -> Option<PathBuf> {
    if cfg!(feature = "rados") {
        return None;
    }
    let own = std::env::current_exe().ok()?;
    let dir = own.parent()?;
    // Beside PREFIX/bin, or in PREFIX/lib/archipelago where this program is.
    let dirs = [
        dir.parent()?.join("lib/archipelago/rados"),
        dir.join("rados"),
    ];
    dirs.into_iter().find(|dir| dir.is_dir())
}

fn shared_args(file: &Path, name: &str) -> Vec<OsString> {
    let words: [OsString; 4] = [
        "--config".into(),
        file.into(),
        "--process".into(),
        name.into(),
    ];
    words.to_vec()
}

impl Plan {
    /// Its program; `first` is looked into before all other places.
    pub(super) fn find_program(&self, first: Option<&Path>) -> io::Result<PathBuf> {
        let apart = self.rados.then(rados_programs).flatten();
        config::paths::find_program(self.program, first.or(apart.as_deref()))
    }

    /// Starts the process; its standard error goes to `log`, or stays ours.
    pub(super) fn launch(
        &self,
        program: &Path,
        places: &Places,
        log: Option<File>,
    ) -> io::Result<Launched> {
        let (ready, theirs) = ready_pipe()?;
        let mut command = Command::new(program);
        // SAFETY: between fork and exec the closure only sets the signal mask, from a set made
        // before; pthread_sigmask is async-signal-safe (signal-safety(7)).
        unsafe {
            // What the supervisor reads through a descriptor is blocked in it, not in its children.
            let nothing = SigSet::empty();
            command.pre_exec(move || Ok(nothing.thread_set_mask()?));
        }
        let child = command
            .args(&self.args)
            .env(config::paths::RUN_DIR_VARIABLE, &places.run_dir)
            .env(config::paths::STATE_DIR_VARIABLE, &places.state_dir)
            .env(READY_FD, theirs.as_raw_fd().to_string())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.map_or_else(Stdio::inherit, Stdio::from))
            // So that a Ctrl-C meant for the supervisor does not reach its children as well.
            .process_group(0)
            .spawn()?;
        Ok(Launched { child, ready })
    }
}

/// A pipe whose second end a child inherits; only one child is started at a time, so no other
/// inherits it too.
fn ready_pipe() -> io::Result<(File, OwnedFd)> {
    let (ours, theirs) = nix::unistd::pipe2(OFlag::O_NONBLOCK)?;
    fcntl(&ours, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok((ours.into(), theirs))
}
