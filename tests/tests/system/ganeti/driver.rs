//! Ganeti's side of the contract, after its `lib/storage/extstorage.py`: how scripts are found and
//! called, and what of their output counts.

use endpoint::control::Verb;
use endpoint::steering::{self, Presented};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::cell::Cell;
use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use system_tests::real::{RealNode, program};

/// What a provider must have, and what it may have.
const REQUIRED: [&str; 7] = [
    "create", "attach", "detach", "remove", "grow", "setinfo", "verify",
];
const OPTIONAL: [&str; 3] = ["snapshot", "open", "close"];

/// How many lines of a failed script's output Ganeti shows.
const SHOWN: usize = 20;

/// A variable and its value.
pub(super) type Variable<'a> = (&'a str, &'a str);

/// Ganeti on one node. What it leaves mapped ends with it.
pub(super) struct Ganeti {
    pub(super) config: PathBuf,
    pub(super) run_dir: PathBuf,
    provider: PathBuf,
    logs: PathBuf,
    calls: Cell<u32>,
}

/// What came of a script.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) status: i32,
    /// Standard output, of `attach` alone: Ganeti reads it.
    pub(super) out: String,
    /// The log of the other scripts, where both their outputs go; `attach`'s standard error.
    pub(super) log: String,
}

impl Said {
    /// It succeeded and said this.
    #[track_caller]
    pub(super) fn says(&self, log: &str) {
        assert_eq!((self.status, self.log.as_str()), (0, log), "{self:?}");
    }

    /// It failed, and Ganeti shows this.
    #[track_caller]
    pub(super) fn fails(&self, log: &str) {
        let shown = self.log.lines().count();
        assert_eq!((self.status, self.out.as_str()), (1, ""), "{self:?}");
        assert_eq!(self.log, log);
        assert!(shown <= SHOWN, "Ganeti shows {SHOWN} lines of {shown}");
    }
}

/// What Ganeti makes of the output of `attach`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Attached {
    pub(super) device: Option<PathBuf>,
    uris: Vec<String>,
}

impl Attached {
    fn of(out: &str) -> Attached {
        let mut lines = out.split('\n');
        let device = lines.next().filter(|first| !first.is_empty());
        let attached = Attached {
            device: device.map(PathBuf::from),
            uris: lines.map(str::to_owned).collect(),
        };
        // An empty one comes of a line feed at the end.
        let whole = |uri: &String| uri.strip_prefix("kvm:").is_some_and(|uri| !uri.is_empty());
        assert!(attached.uris.iter().all(whole), "{out:?}");
        match &attached.device {
            None => assert!(
                !attached.uris.is_empty(),
                "neither a device nor a URI: {out:?}"
            ),
            Some(path) => {
                let kind = fs::metadata(path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
                assert!(kind.file_type().is_block_device(), "{path:?}");
            }
        }
        attached
    }

    /// What KVM is given to access the disk from user space.
    pub(super) fn kvm(&self) -> &str {
        let uri = self.uris.iter().find_map(|uri| uri.strip_prefix("kvm:"));
        uri.unwrap_or_else(|| panic!("no URI for KVM: {self:?}"))
    }
}

impl Ganeti {
    /// Installs the provider under a name of the administrator's own.
    pub(super) fn on(node: &RealNode) -> Ganeti {
        let provider = node.dir().join("extstorage/archipelago_cached");
        let logs = node.dir().join("extstorage-log");
        fs::create_dir_all(&provider).unwrap();
        fs::create_dir_all(&logs).unwrap();
        for script in REQUIRED.iter().chain(&OPTIONAL) {
            symlink(program("archip-ganeti"), provider.join(script)).unwrap();
        }
        let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ganeti/parameters.list");
        fs::copy(list, provider.join("parameters.list")).unwrap();
        let ganeti = Ganeti {
            config: node.file.clone(),
            run_dir: node.config.archipelago.run_dir.clone(),
            provider,
            logs,
            calls: Cell::new(0),
        };
        ganeti.check_files();
        ganeti
    }

    /// What Ganeti asks of a provider before it calls anything.
    fn check_files(&self) {
        for script in REQUIRED.iter().chain(&OPTIONAL) {
            let file = fs::metadata(self.provider.join(script)).unwrap();
            assert!(file.is_file() && file.permissions().mode() & 0o100 != 0);
        }
        let list = fs::read_to_string(self.provider.join("parameters.list")).unwrap();
        let parameters: Vec<(&str, &str)> = list
            .lines()
            .map(|line| line.split_once(char::is_whitespace).expect("a description"))
            .collect();
        let names: Vec<&str> = parameters.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["origin", "origin_size", "reuse_data"]);
    }

    /// A script, as Ganeti starts it: no argument, nothing in the environment but its variables
    /// (and where the test's node is), and the provider's directory as the working one.
    pub(super) fn command(&self, script: &str, variables: &[Variable<'_>]) -> Command {
        let mut command = Command::new(self.provider.join(script));
        command
            .env_clear()
            .env("ARCHIPELAGO_CONF", &self.config)
            .envs(variables.iter().copied())
            .current_dir(&self.provider)
            .stdin(Stdio::null());
        command
    }

    /// Calls a script; its output goes where Ganeti has it go.
    pub(super) fn call(&self, script: &str, variables: &[Variable<'_>]) -> Said {
        let mut command = self.command(script, variables);
        if script == "attach" {
            let output = command.output().unwrap();
            return Said {
                status: output.status.code().expect("the script was killed"),
                out: String::from_utf8(output.stdout).unwrap(),
                log: String::from_utf8(output.stderr).unwrap(),
            };
        }
        self.calls.set(self.calls.get() + 1);
        let path = self.logs.join(format!("{script}-{}.log", self.calls.get()));
        let log = File::create(&path).unwrap();
        let again = log.try_clone().unwrap();
        let status = command.stdout(log).stderr(again).status().unwrap();
        Said {
            status: status.code().expect("the script was killed"),
            out: String::new(),
            log: fs::read_to_string(path).unwrap(),
        }
    }

    /// `attach`, which must succeed.
    pub(super) fn attach(&self, variables: &[Variable<'_>]) -> Attached {
        let said = self.call("attach", variables);
        assert_eq!(said.status, 0, "{said:?}");
        Attached::of(&said.out)
    }

    /// Where a volume is mapped here.
    pub(super) fn mapped(&self, volume: &str) -> Option<Presented> {
        steering::of_volume(&self.run_dir, volume).unwrap()
    }
}

impl Drop for Ganeti {
    fn drop(&mut self) {
        for left in steering::all(&self.run_dir).unwrap_or_default() {
            if left.order(Verb::Unmap).is_ok() {
                continue;
            }
            // Each of the two would start the other again: both stand still before they end.
            for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
                for pid in [left.keeper, left.pid].into_iter().filter(|pid| *pid > 0) {
                    // It may have ended in between.
                    let _ = kill(Pid::from_raw(pid as i32), signal);
                }
            }
        }
    }
}
