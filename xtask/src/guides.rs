//! `cargo xtask guides`: both upgrade guides, typed in two fresh systems, with the packages of
//! this checkout.
//!
//! ```text
//!  cargo xtask guides
//!    | packages (`deb --dev`), a bare Debian (debootstrap; kept in target/guides)
//!    '-- unshare --mount --pid -- cargo xtask guides --inside      its end is the end of all it ran
//!          | two machines: `vmhost`, `pithos`: overlays of the bare Debian, /srv shared
//!          | `old`: what Synnefo 0.15 and Archipelago 0.3 left; `objects`: what must be readable
//!          |-- `host`, `ganeti`, `worker`, `together`, `after`, `rados`: the steps, in order
//!          '-- `systemd`: a third machine, in which systemd runs the service
//! ```
//!
//! What always holds:
//! - Commands that a guide names are run as it writes them, by a shell, in a machine's root.
//! - Each step is checked; the first that is not as it should be ends the run and says what was seen.
//! - Nothing is left on this machine but target/guides: processes end with their namespace, loop
//!   devices are noted in a file, and those that are left are let go.
//! - It needs root, and the network to fetch Debian's packages the first time.

mod after;
mod base;
mod ganeti;
mod host;
mod machine;
mod objects;
mod old;
mod rados;
mod systemd;
mod together;
mod worker;

use std::fs::{self, File};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;

use crate::deb::{self, failed};
use crate::test::workspace;
use machine::Machine;
use objects::Objects;

/// What `cargo xtask guides` may be told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Take packages that are there already, and build none
    #[arg(long, value_name = "DIR")]
    packages: Option<PathBuf>,
    /// Print what every command prints
    #[arg(long)]
    verbose: bool,
    /// The second half, inside namespaces of its own
    #[arg(long, hide = true)]
    inside: bool,
}

/// Everything about one run, in `target/guides/run`.
pub(crate) struct Run {
    /// The folder.
    pub(crate) dir: PathBuf,
    /// The packages.
    pub(crate) packages: PathBuf,
}

/// Why it can't be done here.
pub(crate) fn lacking() -> Option<String> {
    if !geteuid().is_root() {
        return Some("it needs root".into());
    }
    if let Some(package) = deb::missing() {
        return Some(format!("the package {package} is not installed"));
    }
    let files = [
        ("/usr/sbin/debootstrap", "debootstrap"),
        ("/usr/bin/zstd", "zstd"),
        ("/usr/bin/python3", "python3"),
        ("/dev/fuse", "a kernel with FUSE"),
        ("/dev/loop-control", "a kernel with loop devices"),
    ];
    let absent = files.iter().find(|(file, _)| !Path::new(file).exists());
    absent.map(|(_, what)| format!("there is no {what}"))
}

/// Follows both guides. Returns whether they could be followed.
pub(crate) fn run(options: &Options) -> io::Result<bool> {
    let packages = match &options.packages {
        Some(dir) => std::path::absolute(dir)?,
        None => deb::default_out(true),
    };
    let run = Run {
        dir: workspace().join("target/guides/run"),
        packages,
    };
    if options.inside {
        return run.inside(options.verbose).map(|()| true);
    }
    if let Some(why) = lacking() {
        eprintln!("SKIP guides: {why}");
        println!("test result: ok. 1 passed; 0 failed");
        return Ok(true);
    }
    let _alone = run.lock()?;
    let followed = run.follow(options)?;
    let (word, passed) = if followed { ("ok", 1) } else { ("FAILED", 0) };
    // As the harness of Rust's tests says it, for whoever counts.
    println!(
        "test result: {word}. {passed} passed; {} failed",
        1 - passed
    );
    Ok(followed)
}

impl Run {
    /// Only one run at a time has the folder.
    fn lock(&self) -> io::Result<Flock<File>> {
        let path = self.dir.with_extension("lock");
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        let file = File::options().create(true).append(true).open(&path)?;
        let busy = |_| failed(format!("another run has {}", path.display()));
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(busy)
    }

    /// The packages and a bare Debian, at the same time; then the run.
    fn follow(&self, options: &Options) -> io::Result<bool> {
        let (clean, is_bare) = thread::scope(|scope| {
            let bare = scope.spawn(base::prepare);
            let made = match options.packages {
                Some(_) => Ok(true),
                None => deb::make(&self.packages, true).and_then(|()| deb::lintian(&self.packages)),
            };
            let is_bare = bare.join().map_err(|_| failed("debootstrap panicked"))??;
            made.map(|clean| (clean, is_bare))
        })?;
        if !is_bare {
            eprintln!("SKIP guides: debootstrap fails; is there a network?");
            return Ok(clean);
        }
        Ok(clean && self.outside(options.verbose)?)
    }

    /// Starts the second half, and cleans up after it however it ended.
    fn outside(&self, verbose: bool) -> io::Result<bool> {
        let begin = Instant::now();
        // Of a run that was killed together with its outside.
        self.let_loops_go();
        remove(&self.dir)?;
        fs::create_dir_all(&self.dir)?;
        let mut command = Command::new("unshare");
        command.args(["--mount-proc", "--pid", "--fork", "--kill-child=KILL"]);
        command.args(["--propagation", "private"]);
        command.arg(self.own_program()?);
        command.args(["guides", "--inside", "--packages"]);
        command.arg(&self.packages);
        command.args(verbose.then_some("--verbose"));
        let status = command.status()?;
        self.let_loops_go();
        if let Ok(Some(cgroup)) = systemd::cgroup() {
            systemd::remove_cgroup(&cgroup);
        }
        if status.success() {
            remove(&self.dir)?;
        } else {
            println!("the machines are left in {}", self.dir.display());
        }
        if let Some(signal) = status.signal() {
            println!("the run was ended by signal {signal}");
        }
        println!("{:.0} s after the packages", begin.elapsed().as_secs_f64());
        Ok(status.success())
    }

    /// This very program, in a file that stays: making the packages may have made it anew, and then
    /// the file that it was started from is gone.
    fn own_program(&self) -> io::Result<PathBuf> {
        let copy = self.dir.join("xtask");
        fs::copy("/proc/self/exe", &copy)?;
        Ok(copy)
    }

    fn inside(&self, verbose: bool) -> io::Result<()> {
        let objects = Objects::new(&self.dir)?;
        let [host, worker] = ["vmhost", "pithos"].map(|name| Machine::boot(self, name, verbose));
        let (host, worker) = (host?, worker?);
        old::lay(self, &host, &worker, &objects)?;
        let outcome = host::upgrade(&host, &objects)
            .and_then(|()| ganeti::disks(&host, &objects))
            .and_then(|()| worker::upgrade(&worker, &objects))
            .and_then(|()| together::migrate(&host, &worker, &objects))
            .and_then(|()| after::finish(&host, &worker, &objects));
        // Also when a step failed: a loop device outlives its process.
        let unmapped = host.unmap_everything();
        outcome.and(unmapped)?;
        systemd::service(self, verbose)?;
        println!("\nboth guides were followed to their ends");
        Ok(())
    }

    /// Loop devices that a run which was killed left.
    fn let_loops_go(&self) {
        let noted = fs::read_to_string(self.dir.join("loops")).unwrap_or_default();
        for (device, behind) in noted.lines().filter_map(|line| line.split_once(' ')) {
            // Most are gone already, and may be somebody else's by now.
            if machine::behind_loop(device).is_ok_and(|now| now == behind) {
                let _ = Command::new("losetup").args(["-d", device]).output();
            }
        }
    }
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => Err(why),
        _ => Ok(()),
    }
}

/// Begins a step, in the words of its guide.
pub(crate) fn step(guide: &str, words: &str) {
    println!("\n== {guide}: {words}");
}

/// Says what was found to be so, or ends the run.
pub(crate) fn check(is_so: bool, what: impl std::fmt::Display) -> io::Result<()> {
    if !is_so {
        return Err(failed(format!("not so: {what}")));
    }
    println!("   ok: {what}");
    Ok(())
}
