//! A slow disk for chosen processes: the kernel delays what they submit (a control group with a
//! limit on I/O), so that a killed process's operations land long after it is gone.
//!
//! What always holds: only what a process submits after it was added is delayed; its successor,
//! which its supervisor starts outside of the group, is not. The group is gone when this is. Each
//! kill has a group of its own: one whose limit was lifted and set again owes the kernel what it did
//! in between, and then does nothing at all for half a minute.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The group of the slowed processes.
pub struct SlowGroup {
    dir: PathBuf,
    parent: PathBuf,
    unified: bool,
    disk: String,
}

/// Tells the groups of this process apart.
static COUNT: AtomicU64 = AtomicU64::new(0);

impl SlowGroup {
    /// A group whose processes read and write at most `per_second` times a second on the disk
    /// that `folder` is on. Err: a sentence that says why this machine can't.
    pub fn new(folder: &Path, per_second: u32) -> Result<SlowGroup, String> {
        let disk = disk_of(folder)?;
        let (pid, count) = (std::process::id(), COUNT.fetch_add(1, Relaxed));
        let name = format!("archipelago-test-{pid}-{count}");
        let (parent, unified) = hierarchy().ok_or("no control groups with a limit on I/O")?;
        if unified {
            let file = parent.join("cgroup.subtree_control");
            fs::write(&file, "+io").map_err(|why| format!("{}: {why}", file.display()))?;
        }
        let dir = parent.join(name);
        fs::create_dir(&dir).map_err(|why| format!("{}: {why}", dir.display()))?;
        let group = SlowGroup {
            dir,
            parent,
            unified,
            disk,
        };
        group
            .limit(Some(per_second))
            .map_err(|why| why.to_string())?;
        Ok(group)
    }

    fn limit(&self, per_second: Option<u32>) -> io::Result<()> {
        let disk = &self.disk;
        if self.unified {
            let most = per_second.map_or("max".into(), |n| n.to_string());
            let both = format!("{disk} riops={most} wiops={most}");
            return fs::write(self.dir.join("io.max"), both);
        }
        // There 0 is no limit.
        let limit = format!("{disk} {}", per_second.unwrap_or(0));
        for way in ["read", "write"] {
            let file = format!("blkio.throttle.{way}_iops_device");
            fs::write(self.dir.join(file), &limit)?;
        }
        Ok(())
    }

    /// Lets everything that is delayed go on at once.
    pub fn hurry(&self) -> io::Result<()> {
        self.limit(None)
    }

    /// From now on what the process submits is delayed.
    pub fn add(&self, pid: i32) -> io::Result<()> {
        fs::write(self.dir.join("cgroup.procs"), pid.to_string())
    }
}

impl Drop for SlowGroup {
    fn drop(&mut self) {
        let left = fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default();
        for pid in left.lines() {
            // It may have ended meanwhile.
            let _ = fs::write(self.parent.join("cgroup.procs"), pid);
        }
        if let Err(why) = fs::remove_dir(&self.dir) {
            eprintln!("{} is left behind: {why}", self.dir.display());
        }
    }
}

/// The disk below a path, as `major:minor`; limits go to whole disks.
fn disk_of(path: &Path) -> Result<String, String> {
    let dev = fs::metadata(path).map_err(|why| why.to_string())?.dev();
    let name = format!("{}:{}", libc::major(dev), libc::minor(dev));
    let device = Path::new("/sys/dev/block").join(&name);
    if !device.exists() {
        return Err(format!("{} is on no single disk", path.display()));
    }
    if !device.join("partition").exists() {
        return Ok(name);
    }
    let real = device.canonicalize().map_err(|why| why.to_string())?;
    let whole = real.parent().expect("a partition is part of a disk");
    let number = fs::read_to_string(whole.join("dev")).map_err(|why| why.to_string())?;
    Ok(number.trim().to_owned())
}

/// Where groups that limit I/O are made, and whether that is the unified hierarchy.
fn hierarchy() -> Option<(PathBuf, bool)> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let found = |kind: &str, fits: &dyn Fn(&str, &str) -> bool| {
        mounts.lines().find_map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let [_, at, filesystem, options, ..] = words[..] else {
                return None;
            };
            (filesystem == kind && fits(at, options)).then(|| PathBuf::from(at))
        })
    };
    let legacy = found("cgroup", &|_, options| {
        options.split(',').any(|option| option == "blkio")
    });
    let has_io = |at: &str| {
        let file = Path::new(at).join("cgroup.controllers");
        let controllers = fs::read_to_string(file).unwrap_or_default();
        controllers.split_whitespace().any(|word| word == "io")
    };
    legacy
        .map(|at| (at, false))
        .or_else(|| found("cgroup2", &|at, _| has_io(at)).map(|at| (at, true)))
}
