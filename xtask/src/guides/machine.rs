//! One of the two machines: a root of its own over the bare Debian, a host name of its own, `/srv`
//! and the loop devices shared with the other, as two hosts share an NFS server.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};

use super::{Run, base};
use crate::deb::failed;

/// Longer than anything takes; a command that hangs is a failure, and not a run without an end.
const PATIENCE_S: &str = "180";

/// What a command said.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) status: i32,
    pub(super) out: String,
    pub(super) err: String,
}

/// A machine.
pub(super) struct Machine {
    name: &'static str,
    root: PathBuf,
    run: PathBuf,
    verbose: bool,
    /// systemd, if the machine was started and is not only a root.
    init: Option<u32>,
}

impl Machine {
    /// Mounts its root.
    pub(super) fn boot(run: &Run, name: &'static str, verbose: bool) -> io::Result<Machine> {
        let dir = run.dir.join(name);
        let [upper, work, root] = ["upper", "work", "root"].map(|part| dir.join(part));
        let shared = run.dir.join("srv");
        for dir in [&upper, &work, &root, &shared] {
            fs::create_dir_all(dir)?;
        }
        let layers = format!(
            "lowerdir={},upperdir={},workdir={}",
            base::dir().display(),
            upper.display(),
            work.display()
        );
        mounted("overlay", &root, "overlay", &layers)?;
        mounted("proc", &root.join("proc"), "proc", "")?;
        mounted("sysfs", &root.join("sys"), "sysfs", "")?;
        mounted("tmpfs", &root.join("run"), "tmpfs", "mode=0755")?;
        mounted("tmpfs", &root.join("tmp"), "tmpfs", "mode=1777")?;
        let machine = Machine {
            name,
            root,
            run: run.dir.clone(),
            verbose,
            init: None,
        };
        machine.bind(Path::new("/dev"), "dev")?;
        machine.bind(&shared, "srv")?;
        fs::create_dir_all(machine.path("/opt/packages"))?;
        machine.bind(&run.packages, "opt/packages")?;
        machine.write(
            "/etc/apt/sources.list.d/archipelago.list",
            "deb [trusted=yes] file:/opt/packages ./\n",
        )?;
        Ok(machine)
    }

    fn bind(&self, from: &Path, to: &str) -> io::Result<()> {
        let (to, nothing) = (self.root.join(to), None::<&str>);
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        Ok(mount(Some(from), &to, nothing, flags, nothing)?)
    }

    /// Shows the machine a folder of this one, at the same path.
    pub(super) fn bind_as_it_is(&self, dir: &Path) -> io::Result<()> {
        let to = dir.strip_prefix("/").unwrap_or(dir);
        fs::create_dir_all(self.root.join(to))?;
        self.bind(dir, &to.to_string_lossy())
    }

    /// Where a file of the machine is to be found from here.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    pub(super) fn read(&self, path: &str) -> io::Result<String> {
        let named = |why| failed(format!("{}:{path}: {why}", self.name));
        fs::read_to_string(self.path(path)).map_err(named)
    }

    pub(super) fn write(&self, path: &str, text: &str) -> io::Result<()> {
        let to = self.path(path);
        fs::create_dir_all(to.parent().unwrap_or(&to))?;
        fs::write(to, text)
    }

    /// Runs a line as root types it.
    pub(super) fn sh(&self, line: &str) -> io::Result<Said> {
        println!("{}# {line}", self.name);
        self.quietly(line)
    }

    /// The same, and the line is not shown: it is ours, and in no guide.
    pub(super) fn quietly(&self, line: &str) -> io::Result<Said> {
        let mut command = self.door();
        command.args(["sh", "-c"]);
        command.arg("hostname \"$1\" && exec chroot \"$2\" timeout -k 5 \"$3\" sh -c \"$4\"");
        command.args(["sh", self.name]).arg(&self.root);
        command.args([PATIENCE_S, line]);
        command
            .env_clear()
            .env("HOME", "/root")
            .env("LC_ALL", "C.UTF-8");
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        let output = command.stdin(Stdio::null()).output()?;
        let said = Said {
            status: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        if self.verbose {
            print!("{}{}", said.out, said.err);
        }
        Ok(said)
    }

    /// The command through which another runs in this machine.
    fn door(&self) -> Command {
        match self.init {
            None => {
                let mut command = Command::new("unshare");
                command.arg("--uts");
                command
            }
            Some(pid) => {
                let mut command = Command::new("nsenter");
                command.args(["-t", &pid.to_string(), "-m", "-p", "-u", "-C"]);
                command
            }
        }
    }

    /// From now on commands run beside this process, the first of the machine.
    pub(super) fn was_started(&mut self, init: u32) {
        self.init = Some(init);
    }

    /// Its root.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// A line that must succeed; what it printed.
    pub(super) fn ok(&self, line: &str) -> io::Result<String> {
        let said = self.sh(line)?;
        self.must_succeed(line, said)
    }

    /// The same without showing it.
    pub(super) fn ok_quietly(&self, line: &str) -> io::Result<String> {
        let said = self.quietly(line)?;
        self.must_succeed(line, said)
    }

    fn must_succeed(&self, line: &str, said: Said) -> io::Result<String> {
        match said.status {
            0 => Ok(said.out),
            status => Err(failed(format!(
                "{}: `{line}` exits with {status}\n{}{}",
                self.name, said.out, said.err
            ))),
        }
    }

    /// A line that must fail with this status, and with these words on its standard error.
    pub(super) fn fails(&self, line: &str, status: i32, words: &str) -> io::Result<()> {
        let said = self.sh(line)?;
        if said.status != status || !said.err.contains(words) {
            return Err(failed(format!("not {status} and `{words}`: {said:?}")));
        }
        println!("   ok: it exits with {status}: {words}");
        Ok(())
    }

    /// Installs packages as a guide says, without the network.
    pub(super) fn install(&self, packages: &str) -> io::Result<()> {
        let only_ours = "-o Dir::Etc::sourcelist=sources.list.d/archipelago.list \
             -o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0";
        self.ok_quietly(&format!("apt-get -qq update {only_ours}"))?;
        println!("{}# apt-get install {packages}", self.name);
        // What only our package may recommend is fetched with the rest; nothing else is.
        self.ok_quietly(&format!(
            "apt-get -qq -y install --no-install-recommends {packages} </dev/null"
        ))
        .map(drop)
    }

    /// The processes of a node that run in this machine: process id and name.
    pub(super) fn processes(&self) -> io::Result<Vec<(i32, String)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let entry = entry?;
            let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
                continue;
            };
            // It may end while it is looked at.
            let root = fs::read_link(entry.path().join("root"));
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            if root.is_ok_and(|root| root == self.root) && name.starts_with("archip") {
                found.push((pid, name.trim().to_owned()));
            }
        }
        Ok(found)
    }

    /// The folder of the run.
    pub(super) fn run_dir(&self) -> &Path {
        &self.run
    }

    /// Waits until those that do not live on are over: a process that has let everything go is
    /// still there for a moment. Returns the names of the others.
    pub(super) fn remaining(&self, lives_on: impl Fn(&str) -> bool) -> io::Result<Vec<String>> {
        for (pid, _) in self.processes()?.iter().filter(|(_, name)| !lives_on(name)) {
            let mut tail = Command::new("timeout");
            tail.args([PATIENCE_S, "tail", "-s", "0.1", "-f", "/dev/null"]);
            tail.arg(format!("--pid={pid}")).status()?;
        }
        Ok(self
            .processes()?
            .into_iter()
            .map(|(_, name)| name)
            .collect())
    }

    /// Notes a loop device, and the file behind it, so that it is let go whatever happens.
    pub(super) fn note_loop(&self, device: &str) -> io::Result<()> {
        use std::io::Write;
        let behind = behind_loop(device)?;
        let file = self.run.join("loops");
        let mut file = fs::File::options().create(true).append(true).open(file)?;
        writeln!(file, "{device} {behind}")
    }

    /// Takes every device away that is still there, and lets guests have no say.
    pub(super) fn unmap_everything(&self) -> io::Result<()> {
        if !self.exists("/usr/bin/vlmc") {
            return Ok(());
        }
        let line = "archipelago start >/dev/null 2>&1; archipelago stop --unmap";
        let said = self.quietly(line)?;
        self.must_succeed(line, said).map(drop)
    }
}

fn mounted(what: &str, to: &Path, kind: &str, options: &str) -> io::Result<()> {
    let options = Some(options).filter(|options| !options.is_empty());
    Ok(mount(
        Some(what),
        to,
        Some(kind),
        MsFlags::empty(),
        options,
    )?)
}

/// Which file is behind a loop device: its filesystem's number and its own. Empty: none.
pub(super) fn behind_loop(device: &str) -> io::Result<String> {
    let columns = ["--noheadings", "--output", "BACK-MAJ:MIN,BACK-INO"];
    let output = Command::new("losetup").args(columns).arg(device).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}
