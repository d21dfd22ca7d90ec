//! A node in a folder of its own, over files there or over pools of a cluster, and the tools to work
//! on it. Dropping it ends the node and whatever is left of it.

use config::{NodeConfig, SampleParams, SampleRados};
use nix::sys::signal::Signal;
use node::supervisor::control::{Request, ask};
use node::supervisor::pids::{self, Pidfd};
use node::supervisor::{control_socket, pid_file, segment_socket};
use rados_lab::Pools;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use tempfile::TempDir;

pub(crate) struct Lab {
    dir: TempDir,
    pub(crate) config: NodeConfig,
    storage: Storage,
}

/// Where the objects of nodes are. Files are in each node's own folder; pools are those of all nodes
/// that are made of one storage.
#[derive(Clone)]
pub(crate) struct Storage(Option<Arc<Pools>>);

impl Storage {
    pub(crate) fn over_files() -> Storage {
        Storage(None)
    }

    /// `None`, with a line that says so, without a cluster's packages.
    #[cfg(feature = "rados")]
    pub(crate) fn over_rados(test: &str) -> Option<Storage> {
        rados_lab::borrow(test).map(|pools| Storage(Some(Arc::new(pools))))
    }

    pub(crate) fn is_rados(&self) -> bool {
        self.0.is_some()
    }

    /// Nodes that are made from now on find nothing; none serves.
    pub(crate) fn empty(&self) {
        if let Some(pools) = &self.0 {
            pools.empty().unwrap();
        }
    }

    /// The pools, for what only they have.
    #[cfg(feature = "rados")]
    pub(crate) fn pools(&self) -> &Pools {
        self.0.as_ref().expect("a storage of pools")
    }

    /// A node that is not started: all roles in one process, or each in its own.
    pub(crate) fn lab(&self, shared: bool) -> Lab {
        Lab::make(self, shared, config::Endpoint::Auto)
    }

    /// The same, and started.
    pub(crate) fn started(&self, shared: bool) -> Lab {
        let lab = self.lab(shared);
        assert_eq!(lab.archipelago("start").status, 0);
        lab
    }

    /// Another started node of this host, over the objects of `first`.
    pub(crate) fn beside(&self, first: &Lab) -> Lab {
        match &self.0 {
            Some(_) => self.started(true),
            None => Lab::beside(first),
        }
    }

    /// A started node that presents volumes so.
    pub(crate) fn with_endpoint(&self, endpoint: config::Endpoint) -> Lab {
        let lab = Lab::make(self, true, endpoint);
        assert_eq!(lab.archipelago("start").status, 0);
        lab
    }
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
    /// Over files; all roles in one process, or each in its own.
    pub(crate) fn new(shared: bool) -> Lab {
        Storage::over_files().lab(shared)
    }

    /// Whether a program that not every build has is beside the tools.
    pub(crate) fn has(&self, program: &str) -> bool {
        Path::new(env!("CARGO_BIN_EXE_vlmc"))
            .with_file_name(program)
            .exists()
    }

    fn make(storage: &Storage, shared: bool, endpoint: config::Endpoint) -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let params = SampleParams {
            process: shared.then(|| "node".into()),
            // Temporary folders may lie on a filesystem without O_DIRECT.
            direct: false,
            endpoint,
            rados: storage.0.as_deref().map(sample),
            ..SampleParams::new(dir.path())
        };
        let config = NodeConfig::load(&params.write().unwrap()).unwrap();
        tool("archip-node");
        tool("archip-filed");
        let storage = storage.clone();
        Lab {
            dir,
            config,
            storage,
        }
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
        lab.add_lines(lines);
        assert_eq!(lab.archipelago("start").status, 0);
        lab
    }

    /// Adds such lines to the configuration; a node that runs does not know of them.
    pub(crate) fn add_lines(&mut self, lines: &[(&str, &str)]) {
        let mut text = std::fs::read_to_string(&self.config.file).unwrap();
        for (section, line) in lines {
            let head = format!("[{section}]\n");
            assert!(text.contains(&head), "{section}");
            text = text.replace(&head, &format!("{head}{line}\n"));
        }
        self.configure(&text);
    }

    fn configure(&mut self, text: &str) {
        std::fs::write(&self.config.file, text).unwrap();
        self.config = NodeConfig::load(&self.config.file).unwrap();
    }

    /// Gives the node, which does not run yet, and its folders to another user.
    pub(crate) fn run_as(&mut self, user: &str) {
        let account = nix::unistd::User::from_name(user).unwrap().unwrap();
        let group = nix::unistd::Group::from_gid(account.gid).unwrap().unwrap();
        let text = std::fs::read_to_string(&self.config.file).unwrap();
        let ours = |key: &str| {
            let line = text.lines().find(|line| line.starts_with(key));
            line.unwrap().to_owned()
        };
        let text = text
            .replace(&ours("USER = "), &format!("USER = {user}"))
            .replace(&ours("GROUP = "), &format!("GROUP = {}", group.name));
        self.configure(&text);
        let all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(self.dir.path(), all).unwrap();
        for dir in ["blocks", "maps", "locks", "run", "log"] {
            let path = self.path(dir);
            nix::unistd::chown(&path, Some(account.uid), Some(account.gid)).unwrap();
        }
    }

    /// The same, and started.
    pub(crate) fn started(shared: bool) -> Lab {
        Storage::over_files().started(shared)
    }

    /// Makes `bytes` the content of an object behind the node's back; `part` is `blocks` or `maps`.
    /// Pithos kept those that are named by a hash below the first six digits of it.
    pub(crate) fn put_pithos(&self, part: &str, object: &str, bytes: &[u8]) {
        if let Some(pools) = &self.storage.0 {
            let pool = pools.of(part);
            return pools.outsider().put(pool, object, bytes).unwrap();
        }
        let dirs = [&object[..2], &object[2..4], &object[4..6]];
        let dir = dirs
            .iter()
            .fold(self.path(part), |path, dir| path.join(dir));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(object), bytes).unwrap();
    }

    /// Removes the one object of data whose name begins so, behind the node's back; its name.
    pub(crate) fn lose_block(&self, start: &str) -> String {
        if let Some(pools) = &self.storage.0 {
            let facts = pools.outsider().facts(&pools.blocks).unwrap();
            let mut names = facts.into_keys();
            let name = names
                .find(|name| name.starts_with(start))
                .expect("an object");
            pools.outsider().remove(&pools.blocks, &name).unwrap();
            return name;
        }
        let object = find(&self.path("blocks"), start);
        std::fs::remove_file(&object).unwrap();
        object.file_name().unwrap().to_str().unwrap().to_owned()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What all roles have logged.
    pub(crate) fn logs(&self) -> String {
        let files = std::fs::read_dir(self.path("log")).unwrap();
        files
            .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
            .collect()
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

fn sample(pools: &Pools) -> SampleRados {
    SampleRados {
        ceph_conf: pools.lab().user_conf(),
        cephx_id: rados_lab::USER.into(),
        blocks: pools.blocks.clone(),
        maps: pools.maps.clone(),
    }
}

fn find(dir: &Path, start: &str) -> PathBuf {
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                dirs.push(entry.path());
            } else if entry.file_name().to_str().unwrap().starts_with(start) {
                return entry.path();
            }
        }
    }
    panic!("no file begins with {start}");
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
