//! Who uses a device: mounts and processes.

use std::fs;
use std::path::Path;

/// Whether a device with this minor of the loop driver is mounted, as far as this process sees.
pub(crate) fn is_mounted(minor: u32) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts_device(&table, &format!("7:{minor}"))
}

/// The third field of a line is the device (proc(5)).
fn mounts_device(table: &str, device: &str) -> bool {
    table
        .lines()
        .any(|line| line.split_whitespace().nth(2) == Some(device))
}

/// The processes that have `path` open, without this one.
pub(crate) fn users(path: &Path) -> Vec<i32> {
    let own = std::process::id() as i32;
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let mut using: Vec<i32> = pids
        .filter(|&pid| pid != own && has_open(pid, path))
        .collect();
    using.sort_unstable();
    using
}

/// Whether `pid` has `path` open. A process that ended meanwhile has not.
fn has_open(pid: i32, path: &Path) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    files
        .filter_map(|file| fs::read_link(file.path()).ok())
        .any(|target| target == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_its_device() {
        let table = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw\n\
                     42 35 7:3 / /mnt rw - ext4 /dev/loop3 rw\n";
        assert!(mounts_device(table, "7:3"));
        assert!(!mounts_device(table, "7:30"));
        assert!(!mounts_device("", "7:3"));
    }

    #[test]
    fn who_has_a_file_open_is_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(users(file.path()), Vec::<i32>::new());
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(file.reopen().unwrap())
            .spawn()
            .unwrap();
        let found = users(file.path());
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(found, [child.id() as i32]);
    }
}
