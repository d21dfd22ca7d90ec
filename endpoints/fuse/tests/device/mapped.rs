//! One mapped volume of a test; taken down whatever happens.

use crate::lab::Lab;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_archip-fuse");

/// A running node, or (without what a loop device needs) a line that says what is missing.
pub(crate) fn lab(test: &str) -> Option<Lab> {
    let missing = if !nix::unistd::geteuid().is_root() {
        Some("needs root")
    } else if OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .is_err()
    {
        Some("needs /dev/fuse")
    } else if OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/loop-control")
        .is_err()
    {
        Some("needs loop devices")
    } else {
        None
    };
    if let Some(reason) = missing {
        let _ = writeln!(std::io::stderr(), "SKIP {test}: {reason}");
        return None;
    }
    Some(Lab::start())
}

/// Whether `program` is there, asked with a harmless option; a line says so if not.
pub(crate) fn has(test: &str, program: &str, option: &str) -> bool {
    let found = Command::new(program).arg(option).output().is_ok();
    if !found {
        let _ = writeln!(std::io::stderr(), "SKIP {test}: needs {program}");
    }
    found
}

/// Runs a program that must succeed, and returns what it printed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {said}{complained}"
    );
    said
}

/// A mapped volume, by itself: killed and detached when it is dropped before it was unmapped.
pub(crate) struct Held {
    pub(crate) device: String,
    pub(crate) id: String,
    place: PathBuf,
}

/// A mapped volume of a node.
pub(crate) struct Mapped<'a> {
    lab: &'a Lab,
    held: Held,
}

impl std::ops::Deref for Mapped<'_> {
    type Target = Held;
    fn deref(&self) -> &Held {
        &self.held
    }
}

impl<'a> Mapped<'a> {
    /// Makes a volume and maps it.
    pub(crate) fn new(lab: &'a Lab, volume: &str, size: u64, more: &[&str]) -> Mapped<'a> {
        lab.create(volume, size);
        Mapped::existing(lab, volume, more)
    }

    /// Maps a volume.
    pub(crate) fn existing(lab: &'a Lab, volume: &str, more: &[&str]) -> Mapped<'a> {
        let output = lab.map(PROGRAM, volume, more);
        let said = String::from_utf8(output.stdout).unwrap();
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}{complained}{}", lab.logs());
        let device = said.strip_suffix('\n').unwrap().to_owned();
        let id = device.strip_prefix("/dev/loop").unwrap().to_owned();
        let place = lab.place(&id);
        Mapped {
            lab,
            held: Held { device, id, place },
        }
    }

    /// The same without the lab, for a test that changes it; see [`Mapped::of`].
    pub(crate) fn alone(self) -> Held {
        self.held
    }

    /// With the lab again.
    pub(crate) fn of(lab: &'a Lab, held: Held) -> Mapped<'a> {
        Mapped { lab, held }
    }

    /// The endpoint process.
    pub(crate) fn pid(&self) -> i32 {
        self.lab.info(&self.id)["pid"].as_i64().unwrap() as i32
    }

    /// The process that keeps what must outlive it.
    pub(crate) fn keeper(&self) -> i32 {
        self.lab.info(&self.id)["keeper"].as_i64().unwrap() as i32
    }

    /// Sends the endpoint process a signal.
    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Writes through the device's cache, to the volume.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) {
        let device = OpenOptions::new().write(true).open(&self.device).unwrap();
        device.write_all_at(bytes, offset).unwrap();
        device.sync_all().unwrap();
    }

    pub(crate) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let device = OpenOptions::new().read(true).open(&self.device).unwrap();
        let mut bytes = vec![0; len];
        device.read_exact_at(&mut bytes, offset).unwrap();
        bytes
    }

    /// Makes the next read ask the volume.
    pub(crate) fn drop_cache(&self) {
        run("blockdev", &["--flushbufs", &self.device]);
    }

    /// Requests that the device has ended, of all kinds (Documentation/block/stat.rst).
    pub(crate) fn served(&self) -> u64 {
        let name = self.device.trim_start_matches("/dev/");
        let text = std::fs::read_to_string(format!("/sys/block/{name}/stat")).unwrap();
        let numbers: Vec<u64> = text
            .split_whitespace()
            .map(|n| n.parse().unwrap())
            .collect();
        numbers[0] + numbers[4] + numbers[11] + numbers[15]
    }

    /// Bytes of the device.
    pub(crate) fn size(&self) -> u64 {
        run("blockdev", &["--getsize64", &self.device])
            .trim()
            .parse()
            .unwrap()
    }

    pub(crate) fn ask(&self, verb: &str) -> serde_json::Value {
        self.lab.ask(&self.id, verb)
    }

    /// Takes the device down; nothing of it is left.
    pub(crate) fn unmap(self) {
        let process = pidfd(self.pid());
        let ours = attachment(&self.device);
        assert!(ours.is_some(), "a mapped device is attached");
        let reply = self.ask("unmap");
        assert_eq!(
            reply,
            serde_json::json!({"ok": true}),
            "{}",
            self.lab.logs()
        );
        assert!(!self.lab.place(&self.id).exists());
        wait_end(&process);
        // Another test may have been given the same device by now.
        assert_ne!(attachment(&self.device), ours);
    }
}

/// Which attachment of a loop device this is, by the number that the kernel gives each; `None`
/// while nothing is attached.
fn attachment(device: &str) -> Option<String> {
    let name = device.trim_start_matches("/dev/");
    let block = std::path::PathBuf::from(format!("/sys/block/{name}"));
    block.join("loop").exists().then(|| {
        std::fs::read_to_string(block.join("diskseq")).expect("Linux 5.14 numbers its disks")
    })
}

/// A descriptor that is readable when the process has ended.
pub(crate) fn pidfd(pid: i32) -> std::os::fd::OwnedFd {
    // SAFETY: takes numbers, returns a new descriptor or -1 (pidfd_open(2)).
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as i32;
    assert!(fd >= 0, "pidfd_open: {}", std::io::Error::last_os_error());
    // SAFETY: the call returned it, and nobody else has it.
    unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) }
}

/// Waits for the end of a process.
pub(crate) fn wait_end(process: &std::os::fd::OwnedFd) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    assert_eq!(
        poll(&mut fds, PollTimeout::try_from(20_000).unwrap()),
        Ok(1),
        "it goes on"
    );
}

impl Drop for Held {
    fn drop(&mut self) {
        let Ok(text) = std::fs::read(self.place.join("info.json")) else {
            return;
        };
        let info: serde_json::Value = serde_json::from_slice(&text).unwrap();
        // With its keeper, at once: each would replace the other.
        let pid = nix::unistd::Pid::from_raw(info["pid"].as_i64().unwrap() as i32);
        if let Ok(group) = nix::unistd::getpgid(Some(pid)) {
            let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        }
        let _ = Command::new("losetup").args(["-d", &self.device]).output();
    }
}
