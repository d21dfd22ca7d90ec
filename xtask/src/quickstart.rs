//! `cargo xtask quickstart`: the main job, shown on real data in a folder that is gone afterwards.
//!
//! Every command is printed before it runs, and what came back after it. As root the node runs as
//! `nobody`, because a node needs no root.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use rados_lab::Lab;

use crate::test::lacking_for_rados;

/// What `cargo xtask quickstart` may be told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Keep the node's folder, and print where it is
    #[arg(long)]
    keep: bool,
    /// The same on RADOS: a Ceph cluster of its own, started and removed with the node
    #[arg(long)]
    rados: bool,
}

const NOBODY: u32 = 65534;
const BINARIES: [&str; 6] = [
    "archipelago",
    "vlmc",
    "archip-node",
    "archip-filed",
    "archip-mapperd",
    "archip-vlmcd",
];

/// The node's folder; removed with everything in it, whatever happens.
struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.keep {
            println!("\nkept: {}", self.path.display());
        } else if let Err(why) = fs::remove_dir_all(&self.path) {
            eprintln!("{} could not be removed: {why}", self.path.display());
        }
    }
}

struct Show {
    // Ends before the folder goes, in which its disks are.
    cluster: Option<Lab>,
    folder: Folder,
    unprivileged: bool,
    steps: Vec<(String, f64)>,
}

/// Builds, and shows. Returns whether everything was as it should be.
pub(crate) fn run(options: &Options) -> io::Result<bool> {
    if let Some(package) = lacking(options) {
        return Err(failed(format!(
            "--rados needs the Debian package {package}: cargo xtask test --install installs it"
        )));
    }
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--release", "-p", "vlmc", "-p", "archip-node"]);
    if options.rados {
        build.args(["--features", "archip-node/rados"]);
    }
    if !build.arg("--bins").status()?.success() {
        return Ok(false);
    }
    let begin = Instant::now();
    let mut show = Show::prepare(options)?;
    let outcome = show.main_job();
    // Ends the node also when a step failed.
    let stopped = show
        .quiet("archipelago", &["stop", "-f"])
        .map(|o| o.status.success());
    show.summary();
    println!(
        "whole run after the build: {:.1} s",
        begin.elapsed().as_secs_f64()
    );
    outcome?;
    Ok(stopped.unwrap_or(false))
}

/// The package without which there is no RADOS here.
fn lacking(options: &Options) -> Option<&'static str> {
    options.rados.then(lacking_for_rados)?
}

fn failed(what: impl Into<String>) -> io::Error {
    io::Error::other(what.into())
}

impl Show {
    fn prepare(options: &Options) -> io::Result<Show> {
        let keep = options.keep;
        let path = std::env::temp_dir().join(format!("archipelago-{}", std::process::id()));
        fs::create_dir(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        let folder = Folder { path, keep };
        let unprivileged = geteuid().is_root();
        for dir in ["bin", "blocks", "maps", "locks", "run", "log", "out"] {
            let dir = folder.path.join(dir);
            fs::create_dir(&dir)?;
            if unprivileged {
                chown(&dir, Some(NOBODY), Some(NOBODY))?;
            }
        }
        for name in BINARIES {
            fs::copy(
                Path::new("target/release").join(name),
                folder.path.join("bin").join(name),
            )?;
        }
        let show = Show {
            cluster: options
                .rados
                .then(|| start_cluster(&folder.path))
                .transpose()?,
            folder,
            unprivileged,
            steps: Vec::new(),
        };
        fs::write(show.path("archipelago.conf"), show.configuration())?;
        Ok(show)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path.join(name)
    }

    fn configuration(&self) -> String {
        let mut text = "\
[ARCHIPELAGO]
BLKTAP_ENABLED = True
RUN_DIR = run
LOG_DIR = log

[XSEG]
SEGMENT_PORTS = 128
SEGMENT_DYNPORTS = 64
SEGMENT_SIZE = 256
VTOOL_START = 8
VTOOL_END = 9

[PEERS]
ROLES = blockerb blockerm mapperd vlmcd
"
        .to_owned();
        for (role, keys) in [
            (
                "blockerb",
                &*self.blocker(0, "archip_dir = blocks", "blocks"),
            ),
            (
                "blockerm",
                &self.blocker(2, "archip_dir = maps\nlock_dir = locks", "maps"),
            ),
            (
                "mapperd",
                "type = mapperd\nportno_start = 1\nportno_end = 1\nblockerb_port = 0\nblockerm_port = 2",
            ),
            (
                "vlmcd",
                "type = vlmcd\nportno_start = 3\nportno_end = 3\nblocker_port = 0\nmapper_port = 1",
            ),
        ] {
            text += &format!("\n[{role}]\n{keys}\nnr_ops = 64\nprocess = node\n");
        }
        text
    }

    /// The keys of a blocker, over files or over a pool.
    fn blocker(&self, port: u32, files: &str, pool: &str) -> String {
        let storage = match &self.cluster {
            None => format!("type = file_blocker\n{files}"),
            Some(cluster) => format!(
                "type = rados_blocker\npool = {pool}\ncephx_id = {}\nceph_conf = {}",
                rados_lab::USER,
                cluster.user_conf().display()
            ),
        };
        format!("{storage}\nportno_start = {port}\nportno_end = {port}")
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path("bin").join(program));
        command
            .arg("-c")
            .arg(self.path("archipelago.conf"))
            .args(arguments);
        command
            .current_dir(&self.folder.path)
            .env("PATH", self.path("bin"));
        if self.unprivileged {
            command.uid(NOBODY).gid(NOBODY).env_remove("HOME");
        }
        command
    }

    fn quiet(&self, program: &str, arguments: &[&str]) -> io::Result<Output> {
        self.command(program, arguments)
            .stdin(Stdio::null())
            .output()
    }

    /// Prints a command, runs it, prints what came back. Err: it failed.
    fn step(&mut self, program: &str, arguments: &[&str]) -> io::Result<()> {
        let shown = format!("{program} {}", arguments.join(" "));
        println!("\n$ {shown}");
        io::stdout().flush()?;
        let begin = Instant::now();
        let output = self.quiet(program, arguments)?;
        let seconds = begin.elapsed().as_secs_f64();
        print!("{}", String::from_utf8_lossy(&output.stdout));
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        println!("  [{} in {seconds:.2} s]", output.status);
        self.steps.push((shown.clone(), seconds));
        match output.status.success() {
            true => Ok(()),
            false => Err(failed(format!("'{shown}' failed"))),
        }
    }

    /// The sha256 of a volume's first `len` bytes, read through `vlmc export`.
    fn checksum(&self, volume: &str, len: u64) -> io::Result<String> {
        let copy = self.path("out").join(volume);
        let exported = self.quiet("vlmc", &["export", volume, &text(&copy)])?;
        if !exported.status.success() {
            let why = String::from_utf8_lossy(&exported.stderr).into_owned();
            return Err(failed(format!("export of {volume} failed: {why}")));
        }
        let sum = sha256sum(&mut io::Read::take(fs::File::open(&copy)?, len))?;
        fs::remove_file(&copy)?;
        Ok(sum)
    }

    fn main_job(&mut self) -> io::Result<()> {
        let (original, changed) = self.data()?;
        let size = fs::metadata(&original)?.len();
        let patch = fs::metadata(&changed)?.len();
        let (original_arg, changed_arg) = (text(&original), text(&changed));
        self.step("archipelago", &["start"])?;
        self.step("archipelago", &["status"])?;
        self.step("vlmc", &["create", "quickvol", "-s", "10240"])?;
        self.step("vlmc", &["import", "--existing", &original_arg, "quickvol"])?;
        self.step("vlmc", &["snapshot", "quickvol", "quicksnap"])?;
        self.step("vlmc", &["clone", "quicksnap", "quickcopy"])?;
        self.step("vlmc", &["import", "--existing", &changed_arg, "quickcopy"])?;
        self.kill_a_peer(&original)?;
        self.step("archipelago", &["restart"])?;
        let whole = sha256sum(&mut fs::File::open(&original)?)?;
        let part = sha256sum(&mut fs::File::open(&changed)?)?;
        self.verify("quickvol", size, &whole)?;
        self.verify("quicksnap", size, &whole)?;
        self.verify("quickcopy", patch, &part)?;
        self.step("vlmc", &["list"])?;
        self.step("vlmc", &["status", "quickvol"])?;
        self.sizes()?;
        self.step("archipelago", &["stop"])
    }

    /// Real data: our own programs, one after the other; and the first half of it turned round.
    fn data(&self) -> io::Result<(PathBuf, PathBuf)> {
        let mut bytes = Vec::new();
        for name in BINARIES {
            bytes.extend(fs::read(self.path("bin").join(name))?);
        }
        let (original, changed) = (self.path("original"), self.path("changed"));
        fs::write(&original, &bytes)?;
        bytes.truncate(bytes.len() / 2);
        bytes.reverse();
        fs::write(&changed, &bytes)?;
        Ok((original, changed))
    }

    /// Kills the node's process while a volume is read, and checks that the reader saw nothing of
    /// it but a pause.
    fn kill_a_peer(&mut self, original: &Path) -> io::Result<()> {
        let pid_file = self.path("run/vlmcd.pid");
        let pid: i32 = fs::read_to_string(&pid_file)?
            .trim()
            .parse()
            .map_err(|_| failed("the pid file holds no number"))?;
        println!("\n$ kill -9 {pid}      # all four peers, in the middle of a read");
        let size = fs::metadata(original)?.len();
        let expected = sha256sum(&mut fs::File::open(original)?)?;
        let begin = Instant::now();
        let seen = thread::scope(|scope| {
            let reader = scope.spawn(|| self.checksum("quickvol", size));
            kill(Pid::from_raw(pid), Signal::SIGKILL).map_err(io::Error::from)?;
            reader.join().map_err(|_| failed("the reader panicked"))?
        })?;
        self.steps.push((
            "read with a kill in the middle".into(),
            begin.elapsed().as_secs_f64(),
        ));
        match seen == expected {
            true => println!("  the reader saw every byte: sha256 {}", &seen[..16]),
            false => return Err(failed("the reader saw other bytes")),
        }
        Ok(())
    }

    fn verify(&mut self, volume: &str, len: u64, expected: &str) -> io::Result<()> {
        println!("\n$ vlmc export {volume} out/{volume}; head -c {len} out/{volume} | sha256sum");
        let begin = Instant::now();
        let seen = self.checksum(volume, len)?;
        self.steps
            .push((format!("verify {volume}"), begin.elapsed().as_secs_f64()));
        println!("{seen}  as expected: {}", seen == expected);
        match seen == expected {
            true => Ok(()),
            false => Err(failed(format!("{volume} holds other bytes"))),
        }
    }

    fn sizes(&self) -> io::Result<()> {
        println!("\nsizes of what is stored (three volumes of 10 GiB):");
        if let Some(cluster) = &self.cluster {
            let script = include_str!("pools.py");
            print!("{}", cluster.python(script, &["blocks", "maps"], b"")?);
            return Ok(());
        }
        for dir in ["blocks", "maps"] {
            println!(
                "  {dir:<8} {:>8.1} MiB",
                allocated(&self.path(dir))? as f64 / f64::from(1 << 20)
            );
        }
        Ok(())
    }

    fn summary(&self) {
        println!("\ntimes:");
        for (what, seconds) in &self.steps {
            println!("  {seconds:>6.2} s  {what}");
        }
    }
}

/// A monitor and three OSDs below `folder`.
fn start_cluster(folder: &Path) -> io::Result<Lab> {
    let begin = Instant::now();
    let cluster = Lab::start(folder, rados_lab::Options::with_osds(3))?;
    println!(
        "\na Ceph cluster of one monitor and three OSDs (size 3, min_size 2) in {:.2} s: {}",
        begin.elapsed().as_secs_f64(),
        cluster.user_conf().display()
    );
    Ok(cluster)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// The sha256 of a stream, by coreutils.
fn sha256sum(from: &mut dyn io::Read) -> io::Result<String> {
    let mut sum = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut pipe = sum.stdin.take().ok_or_else(|| failed("no pipe"))?;
    io::copy(from, &mut pipe)?;
    drop(pipe);
    let output = sum.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.split_whitespace()
        .next()
        .map(str::to_owned)
        .ok_or_else(|| failed("sha256sum said nothing"))
}

/// Bytes that a folder takes on disk.
fn allocated(dir: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        sum += if meta.is_dir() {
            allocated(&entry.path())?
        } else {
            meta.blocks() * 512
        };
    }
    Ok(sum)
}
