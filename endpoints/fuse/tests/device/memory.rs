//! Writeback through a mapped volume while memory is short on both sides of it.

use crate::filesystem::Mounted;
use crate::mapped::{self, Mapped, has, run};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the writer and the endpoint may have together; the file is several times as large.
const LIMIT: u64 = 32 << 20;
const FILE_MIB: u64 = 160;

/// A memory group; its processes go back to the root group at the end.
struct Group(PathBuf);

impl Group {
    fn new(test: &str) -> Option<Group> {
        let v1 = Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes");
        let (root, limit) = if v1.exists() {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            ("/sys/fs/cgroup", "memory.max")
        };
        let dir = Path::new(root).join(format!("archipelago-test-{}", std::process::id()));
        let made = std::fs::create_dir(&dir)
            .and_then(|()| std::fs::write(dir.join(limit), LIMIT.to_string()));
        if let Err(why) = made {
            let _ = std::fs::remove_dir(&dir);
            let _ = writeln!(
                std::io::stderr(),
                "SKIP {test}: needs a memory cgroup: {why}"
            );
            return None;
        }
        Some(Group(dir))
    }

    fn add(&self, pid: i32) {
        std::fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let root = self.0.parent().unwrap().join("cgroup.procs");
        let pids = std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        for pid in pids.lines() {
            let _ = std::fs::write(&root, pid);
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn writeback_does_not_wait_for_itself() {
    let test = "writeback_does_not_wait_for_itself";
    let Some(lab) = mapped::lab(test) else { return };
    if !has(test, "mkfs.ext4", "-V") {
        return;
    }
    let mapped = Mapped::new(&lab, "volume", 256 << 20, &[]);
    run("mkfs.ext4", &["-q", &mapped.device]);
    let mounted = Mounted::new(&mapped.device, &lab.dir().join("mnt"));
    let Some(group) = Group::new(test) else {
        return;
    };
    group.add(mapped.pid());
    let file = mounted.0.join("large");
    let script = format!(
        "echo $$ > {}/cgroup.procs && exec dd if=/dev/urandom of={} bs=1M count={FILE_MIB} \
         conv=fsync status=none",
        group.0.display(),
        file.display()
    );
    let output = Command::new("timeout")
        .args(["60", "sh", "-c", &script])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(std::fs::metadata(&file).unwrap().len(), FILE_MIB << 20);
    drop(group);
    mounted.unmount();
    run("e2fsck", &["-fn", &mapped.device]);
    mapped.unmap();
}
