//! A slow disk for chosen processes: the kernel delays what they submit (a control group with a
//! limit on I/O), so that a killed process's operations land long after it is gone.
//!
//! What always holds: only what a process submits after it was added is delayed; its successor,
//! which its supervisor starts outside of the group, is not. The group is gone when this is.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The group of the slowed processes.
pub struct SlowGroup {
    dir: PathBuf,
    parent: PathBuf,
}

impl SlowGroup {
    /// A group whose processes read and write at most `per_second` times a second on the disk
    /// that `path` is on. Err: a sentence that says why this machine can't.
    pub fn new(path: &Path, per_second: u32) -> Result<SlowGroup, String> {
        let disk = disk_of(path)?;
        let name = format!("archipelago-test-{}", std::process::id());
        let (parent, unified) = hierarchy().ok_or("no control groups with a limit on I/O")?;
        if unified {
            let file = parent.join("cgroup.subtree_control");
            fs::write(&file, "+io").map_err(|why| format!("{}: {why}", file.display()))?;
        }
        let dir = parent.join(name);
        fs::create_dir(&dir).map_err(|why| format!("{}: {why}", dir.display()))?;
        let group = SlowGroup { dir, parent };
        let limits = if unified {
            let both = format!("{disk} riops={per_second} wiops={per_second}");
            vec![("io.max", both)]
        } else {
            let limit = format!("{disk} {per_second}");
            vec![
                ("blkio.throttle.read_iops_device", limit.clone()),
                ("blkio.throttle.write_iops_device", limit),
            ]
        };
        for (file, limit) in limits {
            fs::write(group.dir.join(file), limit).map_err(|why| format!("{file}: {why}"))?;
        }
        Ok(group)
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
