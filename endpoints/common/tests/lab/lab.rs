//! A real node for the tests of endpoints: a holder and all peers, in a process that can be killed.
//!
//! The process is the test program itself, started again for [`node_process`] alone. It dies with
//! the thread of the test that started it.

#![allow(dead_code, reason = "not every test program uses all of it")]

use client::{Client, Ports};
use config::{NodeConfig, SampleParams};
use node::process::{self, Plan, READY_FD};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};
use xseg::RegionSpec;
use xseg::join::{Holder, HolderSpec};

/// Names the configuration to the process that is to be a node.
const NODE: &str = "ARCHIPELAGO_TEST_NODE";
/// What says to the process that it is only the holder, or only the peers.
const PART: &str = "ARCHIPELAGO_TEST_PART";
/// The descriptor on which a node says that it serves.
const READY: RawFd = 9;
/// MiB of its segment.
const SEGMENT_MIB: u64 = 128;

/// A node in a folder of its own.
pub(crate) struct Lab {
    dir: tempfile::TempDir,
    /// Its configuration.
    pub(crate) config: PathBuf,
    holder: Option<Child>,
    peers: Option<Child>,
}

/// To be called by a test named `node_process` in every test program that uses a [`Lab`].
pub(crate) fn node_process() {
    let Some(file) = std::env::var_os(NODE) else {
        return;
    };
    let config = NodeConfig::load(Path::new(&file)).unwrap();
    match std::env::var(PART).as_deref() {
        Ok("holder") => hold(&config),
        _ => serve(&config),
    }
}

fn hold(config: &NodeConfig) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut holder = Holder::new(HolderSpec {
        region: RegionSpec::public(128, 64, SEGMENT_MIB),
        socket: socket(config),
        umask: 0o007,
        group: None,
        generation: now.as_nanos() as u64,
        adopt_within: None,
    })
    .unwrap();
    ready();
    loop {
        holder.run_once(None).unwrap();
    }
}

fn ready() {
    // SAFETY: the starter passed this descriptor for us alone, and it is used once.
    let mut ready = unsafe { <UnixStream as std::os::fd::FromRawFd>::from_raw_fd(READY) };
    ready.write_all(b"ready\n").unwrap();
}

fn serve(config: &NodeConfig) {
    let plan = Plan {
        socket: socket(config),
        places: config.archipelago.places(),
        roles: config.roles.clone(),
        uid: None,
        gid: None,
        sandbox: false,
    };
    process::run(&plan, || Ok(())).unwrap();
}

fn socket(config: &NodeConfig) -> PathBuf {
    let name = &config.xseg.segment.name;
    config.archipelago.run_dir.join(format!("{name}.sock"))
}

impl Lab {
    /// A running node.
    pub(crate) fn start() -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let config = SampleParams::new(dir.path()).write().unwrap();
        let mut lab = Lab {
            dir,
            config,
            holder: None,
            peers: None,
        };
        lab.bring_up();
        lab
    }

    /// Its folder.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts the holder and the peers.
    pub(crate) fn bring_up(&mut self) {
        self.holder = self.part("holder");
        assert!(self.holder.is_some(), "the node's holder did not come up");
        self.bring_up_peers();
    }

    /// Starts the peers.
    pub(crate) fn bring_up_peers(&mut self) {
        self.peers = self.part("peers");
        assert!(self.peers.is_some(), "the node's peers did not come up");
    }

    /// `None`: it ended before it served.
    fn part(&self, part: &str) -> Option<Child> {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let fd = theirs.as_raw_fd();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["node_process", "--exact", "--nocapture"])
            .env(NODE, &self.config)
            .env(PART, part)
            .env(READY_FD, READY.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        // SAFETY: both calls are async-signal-safe and take numbers only.
        unsafe {
            command.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong);
                // To itself, dup2 would leave it to be closed by exec.
                let passed = match fd {
                    READY => libc::fcntl(fd, libc::F_SETFD, 0),
                    _ => libc::dup2(fd, READY),
                };
                match passed {
                    0.. => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        let mut child = command.spawn().unwrap();
        drop(theirs);
        let mut said = String::new();
        ours.read_to_string(&mut said).unwrap();
        if said
            == "ready
"
        {
            return Some(child);
        }
        child.wait().unwrap();
        None
    }

    /// Kills the peers, as SIGKILL does.
    pub(crate) fn kill_peers(&mut self) {
        end(&mut self.peers);
        self.remove_pid_files();
    }

    /// What a dead peer leaves, and the tools remove.
    fn remove_pid_files(&self) {
        let run = self.dir().join("run");
        let files = std::fs::read_dir(run)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        for path in files.filter(|path| path.extension().is_some_and(|e| e == "pid")) {
            std::fs::remove_file(path).unwrap();
        }
    }

    /// Kills the whole node.
    pub(crate) fn kill(&mut self) {
        end(&mut self.holder);
        self.kill_peers();
    }

    /// A client of the node.
    pub(crate) fn client(&self) -> Client {
        let config = NodeConfig::load(&self.config).unwrap();
        let port = |name| config.role(name).unwrap().ports.start().0;
        let ports = Ports {
            vlmcd: port("vlmcd"),
            mapperd: port("mapperd"),
            blockerm: port("blockerm"),
            blockerb: port("blockerb"),
        };
        Client::connect(&socket(&config), ports, "test").unwrap()
    }

    /// Makes a blank volume.
    pub(crate) fn create(&self, name: &str, size: u64) {
        let name = client::Name::new(name.as_bytes()).unwrap();
        self.client().create(name, size).unwrap();
    }

    /// Maps a volume with the endpoint `program`: its output.
    pub(crate) fn map(&self, program: &str, volume: &str, more: &[&str]) -> Output {
        let mut command = Command::new(program);
        command
            .arg("--config")
            .arg(&self.config)
            .args(["--volume", volume])
            .args(more);
        command.output().unwrap()
    }

    /// Where the endpoint with that number keeps its files.
    pub(crate) fn place(&self, id: &str) -> PathBuf {
        self.dir().join("run/mapped").join(id)
    }

    /// Asks an endpoint, and returns what it says.
    pub(crate) fn ask(&self, id: &str, verb: &str) -> serde_json::Value {
        let mut control = UnixStream::connect(self.place(id).join("control")).unwrap();
        writeln!(control, "{{\"do\":\"{verb}\"}}").unwrap();
        let mut said = String::new();
        control.read_to_string(&mut said).unwrap();
        serde_json::from_str(&said).unwrap_or_else(|_| panic!("{verb}: {said:?}"))
    }

    /// What the registry says of an endpoint.
    pub(crate) fn info(&self, id: &str) -> serde_json::Value {
        let text = std::fs::read(self.place(id).join("info.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// The logs of endpoints, for a test that fails.
    pub(crate) fn logs(&self) -> String {
        let logs = std::fs::read_dir(self.dir().join("log"))
            .into_iter()
            .flatten()
            .flatten();
        logs.filter_map(|log| std::fs::read_to_string(log.path()).ok())
            .collect()
    }
}

fn end(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        end(&mut self.holder);
        end(&mut self.peers);
    }
}
