//! A real node: the programs themselves, started by `archipelago` in a folder of their own.

use client::{Client, Ports};
use config::{NodeConfig, SampleParams, SampleRados};
use rados_lab::Lab;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use xseg::join::observe;
use xseg::report::Report;
use xseg::seat::{PRIVATE, PUBLIC};

/// A program of ours, beside the tests' own folder.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a test knows where it is");
    let dir = own
        .ancestors()
        .nth(2)
        .expect("tests lie in target/PROFILE/deps");
    let path = dir.join(name);
    assert!(
        path.exists(),
        "{} is missing: cargo build --workspace --bins",
        path.display()
    );
    path
}

/// The state letter of a process (`Z`: dead and not buried yet); `None` when there is none.
pub fn state_of(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Where a node over this cluster has its objects.
pub fn on(lab: &Lab) -> SampleRados {
    on_pools(lab, "blocks", "maps")
}

/// The same in other pools.
pub fn on_pools(lab: &Lab, blocks: &str, maps: &str) -> SampleRados {
    SampleRados {
        ceph_conf: lab.user_conf(),
        cephx_id: rados_lab::USER.into(),
        blocks: blocks.into(),
        maps: maps.into(),
    }
}

/// A node; ended when dropped, whatever happens.
pub struct RealNode {
    dir: TempDir,
    /// Its configuration file.
    pub file: PathBuf,
    /// Its configuration.
    pub config: NodeConfig,
    supervisor: Child,
}

impl RealNode {
    /// Starts a node in a fresh folder below `parent` and waits until it serves.
    pub fn start(parent: &Path, vary: impl FnOnce(&mut SampleParams)) -> io::Result<RealNode> {
        RealNode::start_varied(parent, vary, |text| text)
    }

    /// The same, with a last word about the configuration file's text.
    pub fn start_varied(
        parent: &Path,
        vary: impl FnOnce(&mut SampleParams),
        edit: impl FnOnce(String) -> String,
    ) -> io::Result<RealNode> {
        let dir = tempfile::tempdir_in(parent)?;
        let mut params = SampleParams::new(dir.path());
        vary(&mut params);
        let file = params.write()?;
        let text = edit(std::fs::read_to_string(&file)?);
        std::fs::write(&file, text)?;
        let config = NodeConfig::load(&file).map_err(io::Error::other)?;
        let supervisor = start_supervisor(&file, dir.path())?;
        Ok(RealNode {
            dir,
            file,
            config,
            supervisor,
        })
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where its segment is handed out.
    pub fn socket(&self) -> PathBuf {
        let name = &self.config.xseg.segment.name;
        self.config.archipelago.run_dir.join(format!("{name}.sock"))
    }

    /// Where its peers serve.
    pub fn ports(&self) -> Ports {
        node::embedded::ports(&self.config.roles).expect("a sample has the four roles")
    }

    /// A client for the calling thread.
    pub fn client(&self) -> Client {
        Client::connect(&self.socket(), self.ports(), "test").expect("a running node")
    }

    /// The process of a role, as its pid file says; `None` while it is being replaced.
    pub fn pid_of(&self, role: &str) -> Option<i32> {
        let file = self.config.archipelago.run_dir.join(format!("{role}.pid"));
        std::fs::read_to_string(file).ok()?.trim().parse().ok()
    }

    /// The supervisor's process.
    pub fn supervisor_pid(&self) -> i32 {
        self.supervisor.id() as i32
    }

    /// Runs one of the tools on this node.
    pub fn run(&self, tool: &str, arguments: &[&str]) -> io::Result<std::process::Output> {
        Command::new(program(tool))
            .arg("-c")
            .arg(&self.file)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
    }

    /// Unmaps a device, as soon as nobody uses it: a client that has ended is noticed a moment later.
    /// What was said about it, nothing if all is well.
    pub fn unmap(&self, device: &str) -> io::Result<String> {
        let patience = Instant::now() + Duration::from_secs(10);
        loop {
            let said = self.run("vlmc", &["unmap", device])?;
            let said = String::from_utf8_lossy(&said.stderr).into_owned();
            if !said.contains("Device is busy") || Instant::now() > patience {
                return Ok(said);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What is taken of the segment: slots and buffers of the public region, then of the private.
    pub fn in_use(&self) -> [(u32, u32); 2] {
        let observed = observe(&self.socket()).expect("the supervisor lives");
        let alive = |seat| observed.alive.contains(seat);
        let report = Report::new(&observed.public, observed.private.as_ref(), &alive);
        [PUBLIC, PRIVATE].map(|r| (report.slots_in_use(r), report.buffers_in_use(r)))
    }

    /// Waits until no slot and no buffer is taken.
    ///
    /// # Panics
    /// After a minute.
    pub fn await_empty_segment(&self) {
        let patience = Instant::now() + Duration::from_secs(60);
        while self.in_use() != [(0, 0); 2] {
            assert!(
                Instant::now() < patience,
                "the segment did not become empty; slots and buffers taken: {:?}",
                self.in_use()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Stops the node in good order and starts it again.
    pub fn restart(&mut self) -> io::Result<()> {
        let status = self.end()?;
        if !status.success() {
            return Err(io::Error::other(format!("the node stopped with {status}")));
        }
        std::fs::remove_file(self.dir().join("notify"))?;
        self.supervisor = start_supervisor(&self.file, self.dir.path())?;
        Ok(())
    }

    /// Stops the node in good order.
    pub fn stop(mut self) -> io::Result<std::process::ExitStatus> {
        self.end()
    }

    /// The same, and hands out its folder, to look at what it left.
    pub fn stop_and_keep(mut self) -> io::Result<TempDir> {
        let status = self.end()?;
        if !status.success() {
            return Err(io::Error::other(format!("the node stopped with {status}")));
        }
        let elsewhere = tempfile::tempdir()?;
        Ok(std::mem::replace(&mut self.dir, elsewhere))
    }

    fn end(&mut self) -> io::Result<std::process::ExitStatus> {
        let pid = nix::unistd::Pid::from_raw(self.supervisor_pid());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        self.supervisor.wait()
    }
}

impl Drop for RealNode {
    fn drop(&mut self) {
        if matches!(self.supervisor.try_wait(), Ok(None)) {
            let peers = self.peers();
            // It ends its children; without it nobody would.
            let pid = nix::unistd::Pid::from_raw(self.supervisor_pid());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
            let _ = self.supervisor.wait();
            // Where a test has failed storage may hang, and who waits for it does not end.
            peers.iter().for_each(|pid| self.kill_peer(*pid));
        }
    }
}

impl RealNode {
    fn peers(&self) -> Vec<i32> {
        let roles = self.config.roles.iter();
        roles.filter_map(|role| self.pid_of(&role.name)).collect()
    }

    /// Kills a process if its command line names this node's folder.
    fn kill_peer(&self, pid: i32) {
        let said = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let dir = self.dir().as_os_str().as_encoded_bytes();
        if said.windows(dir.len()).any(|part| part == dir) {
            let pid = nix::unistd::Pid::from_raw(pid);
            // It may have ended just now.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// `archipelago start --foreground`, and its word to systemd that it is ready.
fn start_supervisor(file: &Path, dir: &Path) -> io::Result<Child> {
    let notify = dir.join("notify");
    let socket = UnixDatagram::bind(&notify)?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let log = std::fs::File::create(dir.join("supervisor.out"))?;
    let mut child = Command::new(program("archipelago"))
        .arg("-c")
        .arg(file)
        .args(["start", "--foreground"])
        .env("NOTIFY_SOCKET", &notify)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let patience = Instant::now() + Duration::from_secs(60);
    let mut word = [0; 256];
    loop {
        let heard = socket.recv(&mut word).unwrap_or(0);
        if String::from_utf8_lossy(&word[..heard]).contains("READY=1") {
            return Ok(child);
        }
        let ended = child.try_wait()?;
        if ended.is_some() || Instant::now() > patience {
            // It may have ended by itself already.
            let _ = child.kill();
            let _ = child.wait();
            let said = std::fs::read_to_string(dir.join("supervisor.out")).unwrap_or_default();
            return Err(io::Error::other(format!(
                "the node did not start ({ended:?}): {said}"
            )));
        }
    }
}
