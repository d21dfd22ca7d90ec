//! `SANDBOX = True`: what a peer process may still do once it serves.
//!
//! ```text
//!  files:  started -> roles made, descriptors open, rings there -> | Landlock, seccomp | -> serves
//!  RADOS:  started -> | Landlock | -> roles made (librados starts threads) ---------------> serves
//! ```
//! What always holds of a confined process:
//! - It opens files only below its own directories ([`Sandbox::of`]); operations of its ring are
//!   held to that too.
//! - It makes only the system calls of `calls`, unless librados is in it; any other is answered with
//!   EPERM, and said in the log once.
//! - So are all its threads: both take effect on the calling thread and on what it starts from then
//!   on, so a process with a second thread is not confined but refused.
//! - A kernel without the one or the other is no reason not to serve, but for one warning.
//!
//! Why it is so, and what it costs: `docs/decisions/0013`.

mod calls;
mod refused;

use crate::process::Plan;
use config::{Role, RoleKind};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus,
};
use std::io;
use std::path::{Path, PathBuf};

/// Without this much (Linux 5.19) nothing could be linked from one directory to another.
const LEAST: ABI = ABI::V2;
/// What is asked of newer kernels.
const MOST: ABI = ABI::V5;

/// What librados reads of the system: its configuration, its plugins, name resolution, processors.
const RADOS_READS: [&str; 7] = [
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/sys",
    "/dev/urandom",
    "/dev/random",
];
/// Where librados may have its log and its socket.
const RADOS_OWNS: [&str; 2] = ["/var/log/ceph", "/run/ceph"];

/// What may be done below a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reach {
    /// Everything but running programs and making devices.
    Own,
    /// A log is opened anew: a file is made, and written to.
    Log,
    /// Its pid file goes last.
    Remove,
    /// Reading.
    Look,
    /// Reading and writing what is there.
    Use,
}

impl Reach {
    fn access(self) -> BitFlags<AccessFs> {
        let write = AccessFs::WriteFile | AccessFs::Truncate;
        let look = AccessFs::ReadFile | AccessFs::ReadDir;
        match self {
            Reach::Own => {
                let make = AccessFs::MakeReg | AccessFs::MakeDir | AccessFs::MakeSock;
                let remove = AccessFs::RemoveFile | AccessFs::RemoveDir;
                look | write | make | remove | AccessFs::Refer
            }
            Reach::Log => AccessFs::WriteFile | AccessFs::MakeReg,
            Reach::Remove => AccessFs::RemoveFile.into(),
            Reach::Look => look,
            Reach::Use => AccessFs::ReadFile | AccessFs::WriteFile,
        }
    }
}

/// How a process is confined.
#[derive(Clone, Debug)]
pub struct Sandbox {
    paths: Vec<(PathBuf, Reach)>,
    /// librados is in the process: it is confined before its roles are made, because librados
    /// starts threads then, and its system calls and its connections are its own affair.
    rados: bool,
}

/// Which layers took effect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Confined {
    /// Landlock.
    pub files: bool,
    /// seccomp.
    pub calls: bool,
    /// What is missing, and why: the words of a warning. Empty if nothing is.
    pub missing: Vec<String>,
}

impl Sandbox {
    /// The directories that the roles of `plan` need while they serve.
    pub fn of(plan: &Plan) -> Sandbox {
        let places = &plan.places;
        let mut paths: Vec<(PathBuf, Reach)> = vec![
            // Who lives (locks of the dead), and one's own memory map when a panic is told.
            ("/proc".into(), Reach::Look),
            ("/dev/null".into(), Reach::Use),
            (places.run_dir.clone(), Reach::Remove),
        ];
        paths.extend(std::env::current_exe().ok().map(|exe| (exe, Reach::Look)));
        let rados = plan.roles.iter().any(is_rados);
        if rados {
            paths.extend([&places.run_dir, &places.state_dir].map(|dir| (dir.clone(), Reach::Own)));
            paths.extend(RADOS_READS.map(|dir| (dir.into(), Reach::Look)));
            paths.extend(RADOS_OWNS.map(|dir| (dir.into(), Reach::Own)));
        }
        paths.extend(plan.roles.iter().flat_map(role_paths));
        Sandbox { paths, rados }
    }

    /// Before the roles are made.
    pub fn before_roles(&self) -> io::Result<Option<Confined>> {
        self.rados.then(|| self.confine()).transpose()
    }

    /// Before anything is served.
    pub fn before_serving(&self) -> io::Result<Option<Confined>> {
        (!self.rados).then(|| self.confine()).transpose()
    }

    /// Confines the calling thread, which must be the only one of its process.
    fn confine(&self) -> io::Result<Confined> {
        let threads = threads()?;
        if threads > 1 {
            let text = format!("the process has {threads} threads already and can't be confined");
            return Err(io::Error::other(text));
        }
        let mut missing = Vec::new();
        let files = self.restrict_files()?;
        missing.extend(files.as_ref().err().cloned());
        let calls = match self.rados {
            true => Err(None),
            false => calls::restrict().map_err(|why| Some(format!("seccomp ({why})"))),
        };
        missing.extend(calls.as_ref().err().cloned().flatten());
        Ok(Confined {
            files: files.is_ok(),
            calls: calls.is_ok(),
            missing,
        })
    }

    /// The inner error is what the kernel lacks; the outer one is a fault.
    fn restrict_files(&self) -> io::Result<Result<(), String>> {
        let mut ruleset = match self.ruleset() {
            Ok(ruleset) => ruleset,
            Err(why) => return Ok(Err(format!("Landlock ({why})"))),
        };
        for (path, reach) in &self.paths {
            ruleset = match rule(path, *reach)? {
                Some(rule) => ruleset.add_rule(rule).map_err(io::Error::other)?,
                None => ruleset,
            };
        }
        let status = ruleset.restrict_self().map_err(io::Error::other)?;
        Ok(match status.ruleset {
            RulesetStatus::NotEnforced => Err("Landlock".into()),
            _ => Ok(()),
        })
    }

    fn ruleset(&self) -> Result<RulesetCreated, RulesetError> {
        let ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(LEAST))?
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(MOST))?;
        let ruleset = match self.rados {
            true => ruleset,
            // Nothing is connected to over a network.
            false => ruleset.handle_access(AccessNet::from_all(MOST))?,
        };
        ruleset.create()
    }
}

impl Confined {
    /// Says in the log what came of it: one line.
    pub fn tell(&self) {
        match self.missing.as_slice() {
            [] => tracing::info!(self.files, self.calls, "confined"),
            missing => tracing::warn!(
                "SANDBOX: this kernel lacks {}; serving without",
                missing.join(" and ")
            ),
        }
    }
}

fn is_rados(role: &Role) -> bool {
    matches!(role.kind, RoleKind::RadosBlocker(_))
}

fn role_paths(role: &Role) -> Vec<(PathBuf, Reach)> {
    let parent = |path: &PathBuf, reach| path.parent().map(|dir| (dir.to_owned(), reach));
    let log = role
        .logfile
        .as_ref()
        .and_then(|file| parent(file, Reach::Log));
    let pid = role
        .pidfile
        .as_ref()
        .and_then(|file| parent(file, Reach::Remove));
    let storage = match &role.kind {
        RoleKind::FileBlocker(files) => [Some(&files.archip_dir), files.lock_dir.as_ref()]
            .into_iter()
            .flatten()
            .map(|dir| (dir.clone(), Reach::Own))
            .collect(),
        RoleKind::RadosBlocker(rados) => Vec::from_iter(parent(&rados.ceph_conf, Reach::Look)),
        _ => Vec::new(),
    };
    storage.into_iter().chain(log).chain(pid).collect()
}

/// What may be done below `path`, or to it if it is a file; `None`: there is no such thing.
fn rule(path: &Path, reach: Reach) -> io::Result<Option<PathBeneath<PathFd>>> {
    let is_dir = match std::fs::metadata(path) {
        Ok(found) => found.is_dir(),
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(at(path, why)),
    };
    let access = match is_dir {
        true => reach.access(),
        false => reach.access() & AccessFs::from_file(MOST),
    };
    let fd = PathFd::new(path).map_err(|why| at(path, io::Error::other(why)))?;
    Ok(Some(PathBeneath::new(fd, access)))
}

fn at(path: &Path, why: io::Error) -> io::Error {
    io::Error::new(why.kind(), format!("{}: {why}", path.display()))
}

/// The threads of this process but for the kernel's own, which work for its ring: they make no
/// system calls, and open with the rights of who asked.
fn threads() -> io::Result<usize> {
    let mut count = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let name = std::fs::read_to_string(task?.path().join("comm"));
        // One that has just ended has no name.
        count += usize::from(name.is_ok_and(|name| !name.starts_with("iou-")));
    }
    Ok(count)
}
