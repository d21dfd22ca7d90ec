//! The machine and the tree, as they were when the run began.

use nix::sys::statfs::statfs;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// What figures depend on.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    /// Release and version of the kernel.
    pub kernel: String,
    /// Model of the processors.
    pub processor: String,
    /// Processors that we may use.
    pub cpus: usize,
    /// Load averages of 1, 5 and 15 minutes before the run.
    pub load_before: String,
    /// Memory of the machine in MiB.
    pub memory_mib: u64,
    /// Revision of the tree; "+" when it has changes.
    pub revision: String,
    /// What one reading of the clock takes, ns. Every latency contains one.
    pub clock_ns: f64,
    /// Filesystem types of the directories in use.
    pub filesystems: BTreeMap<String, String>,
    /// Versions of the other programs that compete; "missing" where there is none.
    pub programs: BTreeMap<String, String>,
    /// Of the order of turns and of the offsets.
    pub seed: u64,
}

impl Facts {
    /// Looks around. `dirs` are the directories in use.
    pub fn gather(seed: u64, dirs: &[&Path]) -> Facts {
        let programs = ["fio", "nbdkit", "qemu-nbd", "rados"];
        Facts {
            kernel: read("/proc/sys/kernel/osrelease") + " " + &read("/proc/sys/kernel/version"),
            processor: field("/proc/cpuinfo", "model name").unwrap_or_default(),
            cpus: std::thread::available_parallelism().map_or(1, |n| n.get()),
            load_before: read("/proc/loadavg"),
            memory_mib: memory_mib(),
            revision: revision(),
            clock_ns: clock_ns(),
            filesystems: dirs
                .iter()
                .map(|d| (d.display().to_string(), filesystem(d)))
                .collect(),
            programs: programs.map(|p| (p.to_owned(), version(p))).into(),
            seed,
        }
    }
}

fn read(path: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.trim().to_owned()
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory_mib() -> u64 {
    let kib = field("/proc/meminfo", "MemTotal");
    kib.and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
        .unwrap_or(0)
        / 1024
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    output
        .status
        .success()
        .then(|| text.lines().next().unwrap_or("").trim().to_owned())
}

fn revision() -> String {
    let revision = output("git", &["rev-parse", "--short", "HEAD"]);
    let changed = output("git", &["status", "--porcelain", "--untracked-files=no"]);
    let plus = if changed.is_some_and(|text| !text.is_empty()) {
        "+"
    } else {
        ""
    };
    revision.map_or("unknown".into(), |revision| revision + plus)
}

/// The version that a program tells; "missing" when it can't be started.
pub fn version(program: &str) -> String {
    output(program, &["--version"]).unwrap_or("missing".into())
}

fn clock_ns() -> f64 {
    const READINGS: u32 = 100_000;
    let start = Instant::now();
    for _ in 0..READINGS {
        std::hint::black_box(Instant::now());
    }
    start.elapsed().as_nanos() as f64 / f64::from(READINGS)
}

/// The type of the filesystem that `dir` is on.
pub fn filesystem(dir: &Path) -> String {
    let Ok(stat) = statfs(dir) else {
        return "unknown".into();
    };
    let magic = stat.filesystem_type().0;
    let name = match magic as u32 {
        0xef53 => "ext4",
        0x0102_1994 => "tmpfs",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x794c_7630 => "overlayfs",
        0x6969 => "nfs",
        _ => return format!("{magic:#x}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_of_this_machine_are_there() {
        let facts = Facts::gather(1, &[Path::new("/proc")]);
        assert!(!facts.kernel.trim().is_empty() && facts.cpus > 0 && facts.memory_mib > 0);
        assert!(facts.clock_ns > 0.0);
        assert_eq!(facts.filesystems["/proc"], "0x9fa0");
        assert_eq!(version("no-such-program-anywhere"), "missing");
    }
}
