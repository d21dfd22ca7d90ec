//! A node in a folder of its own, and the tools to work on it. Dropping it ends the node and
//! whatever is left of it.

use config::{NodeConfig, SampleParams};
use nix::sys::signal::Signal;
use node::supervisor::control::{Request, ask};
use node::supervisor::pids::{self, Pidfd};
use node::supervisor::{control_socket, pid_file, segment_socket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

pub(crate) struct Lab {
    dir: TempDir,
    pub(crate) config: NodeConfig,
}

/// What a tool said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        Said {
            status: output.status.code().expect("the tool was killed"),
            out: String::from_utf8(output.stdout).expect("its output is text"),
            err: String::from_utf8(output.stderr).expect("its errors are text"),
        }
    }
}

impl Said {
    /// Status, standard output, standard error.
    #[track_caller]
    pub(crate) fn is(&self, status: i32, out: &str, err: &str) {
        assert_eq!(
            (self.status, self.out.as_str(), self.err.as_str()),
            (status, out, err)
        );
    }

    /// Success, and this on standard output.
    #[track_caller]
    pub(crate) fn says(&self, out: &str) {
        self.is(0, out, "");
    }

    /// Failure as an "archipelago Error", with a message that begins so.
    #[track_caller]
    pub(crate) fn fails(&self, message: &str) {
        assert_eq!((self.status, self.out.as_str()), (255, ""), "{self:?}");
        assert!(self.err.starts_with(message), "{self:?}");
    }
}

/// Where the tools are; the peers' programs are beside them.
fn tool(name: &str) -> PathBuf {
    let vlmc = Path::new(env!("CARGO_BIN_EXE_vlmc"));
    let path = vlmc.with_file_name(name);
    assert!(
        path.exists(),
        "{} is missing: build the peers first, with `cargo build -p archip-node --bins`",
        path.display()
    );
    path
}

impl Lab {
    /// All roles in one process, or each in its own.
    pub(crate) fn new(shared: bool) -> Lab {
        Lab::make(shared, config::Endpoint::Auto)
    }

    /// A started node that presents volumes so.
    pub(crate) fn with_endpoint(endpoint: config::Endpoint) -> Lab {
        let lab = Lab::make(true, endpoint);
        assert_eq!(lab.archipelago("start").status, 0);
        lab
    }

    /// Whether a program that not every build has is beside the tools.
    pub(crate) fn has(&self, program: &str) -> bool {
        Path::new(env!("CARGO_BIN_EXE_vlmc"))
            .with_file_name(program)
            .exists()
    }

    fn make(shared: bool, endpoint: config::Endpoint) -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let params = SampleParams {
            process: shared.then(|| "node".into()),
            // Temporary folders may lie on a filesystem without O_DIRECT.
            direct: false,
            endpoint,
            ..SampleParams::new(dir.path())
        };
        let config = NodeConfig::load(&params.write().unwrap()).unwrap();
        tool("archip-node");
        tool("archip-filed");
        Lab { dir, config }
    }

    /// Another node of this host over the storage of `first`, which has been made already.
    pub(crate) fn beside(first: &Lab) -> Lab {
        let lab = Lab::new(true);
        for storage in ["blocks", "maps", "locks"] {
            std::fs::remove_dir(lab.path(storage)).unwrap();
            std::os::unix::fs::symlink(first.path(storage), lab.path(storage)).unwrap();
        }
        assert_eq!(lab.archipelago("start").status, 0);
        lab
    }

    /// A node whose configuration has these lines more: `[section]` and what is to stand in it.
    pub(crate) fn with_lines(lines: &[(&str, &str)]) -> Lab {
        let mut lab = Lab::new(true);
        let mut text = std::fs::read_to_string(&lab.config.file).unwrap();
        for (section, line) in lines {
            let head = format!("[{section}]\n");
            assert!(text.contains(&head), "{section}");
            text = text.replace(&head, &format!("{head}{line}\n"));
        }
        std::fs::write(&lab.config.file, text).unwrap();
        lab.config = NodeConfig::load(&lab.config.file).unwrap();
        assert_eq!(lab.archipelago("start").status, 0);
        lab
    }

    /// The same, and started.
    pub(crate) fn started(shared: bool) -> Lab {
        let lab = Lab::new(shared);
        assert_eq!(lab.archipelago("start").status, 0);
        lab
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.config.archipelago.run_dir.clone()
    }

    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(tool(name));
        command
            .env("ARCHIPELAGO_RUN_DIR", self.run_dir())
            .env_remove("NO_COLOR")
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    /// Words are separated by one space.
    pub(crate) fn run(&self, name: &str, words: &str) -> Said {
        let mut command = self.command(name);
        command
            .arg("-c")
            .arg(&self.config.file)
            .args(words.split(' '));
        command.output().unwrap().into()
    }

    pub(crate) fn archipelago(&self, words: &str) -> Said {
        self.run("archipelago", words)
    }

    pub(crate) fn vlmc(&self, words: &str) -> Said {
        self.run("vlmc", words)
    }

    pub(crate) fn xseg(&self, words: &str) -> Said {
        self.command("xseg")
            .args(words.split(' '))
            .output()
            .unwrap()
            .into()
    }

    /// A client of the node.
    pub(crate) fn client(&self) -> client::Client {
        let ports = node::embedded::ports(&self.config.roles).unwrap();
        client::Client::connect(&segment_socket(&self.config), ports, "test").unwrap()
    }

    /// The living process of a role.
    pub(crate) fn pid(&self, role: &str) -> i32 {
        let file = self.config.role(role).unwrap().pidfile.clone().unwrap();
        pids::look(&file)
            .pid()
            .unwrap_or_else(|| panic!("{role} does not run"))
    }

    /// Kills a role's process, and returns when its successor serves.
    pub(crate) fn kill_and_await_successor(&self, role: &str) {
        kill(self.pid(role));
        let start = Request::Start {
            role: Some(role.into()),
        };
        ask(&control_socket(&self.run_dir()), &start, drop).unwrap();
    }

    pub(crate) fn kill_supervisor(&self) {
        kill(
            pids::look(&pid_file(&self.run_dir()))
                .pid()
                .expect("no supervisor"),
        );
    }
}

/// Kills a process, and returns when it is dead.
pub(crate) fn kill(pid: i32) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let process = Pidfd::open(pid).unwrap();
    process.signal(Signal::SIGKILL).unwrap();
    poll(
        &mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)],
        PollTimeout::NONE,
    )
    .unwrap();
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A test that failed may leave anything: first politely, then by pid.
        let _ = self.archipelago("stop --unmap");
        for role in &self.config.roles {
            if let Some(pid) = role.pidfile.as_deref().and_then(|f| pids::look(f).pid()) {
                kill(pid);
            }
        }
        if let Some(pid) = pids::look(&pid_file(&self.run_dir())).pid() {
            kill(pid);
        }
    }
}
