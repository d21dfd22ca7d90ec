//! The service under systemd: a third machine, whose first process is systemd itself.
//!
//! It runs in a PID, mount and cgroup namespace of its own, with a cgroup2 mounted. Where the kernel
//! has none this is skipped, with a line.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::host::edit;
use super::machine::Machine;
use super::together::Guest;
use super::{Run, check, step};
use crate::deb::failed;

const VOLUME: &str = "volume01";
/// What it is started as: without a console, and in a container as far as it knows.
const INIT: &str = "mount -t proc proc \"$1/proc\" && mount -t cgroup2 cgroup2 \"$1/sys/fs/cgroup\" && \
    exec chroot \"$1\" env -i container=guides PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --log-target=null --show-status=0 --unit=multi-user.target";

/// A started machine, and the cgroup that holds it; both end with this.
struct Started {
    machine: Machine,
    outer: Child,
    cgroup: PathBuf,
}

impl Drop for Started {
    fn drop(&mut self) {
        // Its namespace ends with it, and everything that ran there.
        let _ = self.outer.kill();
        let _ = self.outer.wait();
        remove_cgroup(&self.cgroup);
    }
}

/// Groups go when they are empty, the innermost first. What is left of one is no harm.
pub(super) fn remove_cgroup(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(dir);
}

/// The group of a run.
pub(super) fn cgroup() -> io::Result<Option<PathBuf>> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let mut words = mounts.lines().map(|line| line.split(' '));
    let found = words.find_map(|mut words| {
        let dir = words.nth(1)?;
        (words.next() == Some("cgroup2")).then_some(dir)
    });
    Ok(found.map(|dir| Path::new(dir).join("archipelago-guides")))
}

/// Everything about the service.
pub(super) fn service(run: &Run, verbose: bool) -> io::Result<()> {
    step("under systemd", "installed, configured, started at boot");
    let Some(cgroup) = cgroup()? else {
        println!("skipped: there is no cgroup2");
        return Ok(());
    };
    let machine = Machine::boot(run, "sysd", verbose)?;
    machine.install("systemd systemd-sysv dbus")?;
    machine.install("archipelago")?;
    let enabled = machine.ok("systemctl is-enabled archipelago")?;
    check(
        enabled == "enabled\n",
        "the service is enabled, and was not started",
    )?;
    // Not below /srv, which is the others'.
    for (role, dir) in [("blockerb", "blocks"), ("blockerm", "maps")] {
        machine.ok_quietly(&format!(
            "mkdir -p /data/{dir} && sed -i \
             '/^\\[{role}\\]/,/^\\[/s|^archip_dir = .*|archip_dir = /data/{dir}|' \
             /etc/archipelago/archipelago.conf"
        ))?;
    }
    edit(&machine, "SEGMENT_SIZE", "256")?;
    let started = start(machine, cgroup)?;
    let outcome = life(&started.machine);
    // Also when a step failed: a loop device outlives its process.
    let unmapped = started.machine.unmap_everything();
    outcome.and(unmapped)?;
    by_hand(&started.machine)
}

fn start(mut machine: Machine, cgroup: PathBuf) -> io::Result<Started> {
    fs::create_dir_all(&cgroup)?;
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "echo $$ >\"$1/cgroup.procs\" && shift && exec \"$@\"",
        "sh",
    ]);
    command
        .arg(&cgroup)
        .args(["unshare", "--cgroup", "--pid", "--mount", "--uts", "--fork"]);
    command.args(["--kill-child=KILL", "sh", "-c", INIT, "sh"]);
    command
        .arg(machine.root())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let outer = command.spawn()?;
    let init = init_of(&outer)?;
    machine.was_started(init);
    let started = Started {
        machine,
        outer,
        cgroup,
    };
    // Degraded, as units that mean nothing in a container make it, is as good.
    started.machine.quietly(
        "until [ -S /run/systemd/private ]; do sleep 0.1; done; \
         systemctl is-system-running --wait",
    )?;
    Ok(started)
}

/// The child of `unshare --fork`, once it is systemd.
fn init_of(outer: &Child) -> io::Result<u32> {
    let pid = outer.id();
    let children = format!("/proc/{pid}/task/{pid}/children");
    loop {
        let text = fs::read_to_string(&children).map_err(|_| failed("systemd has ended"))?;
        let child = text
            .split_whitespace()
            .next()
            .and_then(|word| word.parse().ok());
        let name = child.map(|pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")));
        match (child, name) {
            (Some(child), Some(Ok(name))) if name == "systemd\n" => return Ok(child),
            _ => std::thread::yield_now(),
        }
    }
}

/// The service is restarted, its process killed, stopped and started, under a guest that writes.
fn life(machine: &Machine) -> io::Result<()> {
    let said = machine.ok("systemctl is-active archipelago")?;
    check(said == "active\n", "it has started at boot")?;
    machine.ok(&format!("vlmc create {VOLUME} -s 64"))?;
    let device = machine.ok(&format!("vlmc map {VOLUME}"))?.trim().to_owned();
    machine.note_loop(&device)?;
    let guest = Guest::boot(&machine.path(&device))?;
    machine.ok("service archipelago restart")?;
    guest.await_rounds(5)?;
    let peer = || machine.ok_quietly("cat /run/archipelago/blockerb.pid");
    let before = peer()?;
    machine.ok("kill -9 $(systemctl show --property MainPID --value archipelago)")?;
    let active = "[ \"$(systemctl is-active archipelago)\" = active ]";
    machine.ok_quietly(&format!("until {active}; do sleep 0.1; done"))?;
    guest.await_rounds(5)?;
    check(
        peer()? == before,
        "after its death the supervisor's successor has the same peers",
    )?;
    machine.ok("service archipelago stop")?;
    machine.fails("archipelago status", 3, "")?;
    machine.ok("service archipelago start")?;
    guest.await_rounds(5)?;
    let rounds = guest.shut_down()?;
    check(
        true,
        format!("the guest wrote {rounds} times and saw no error"),
    )?;
    machine.fails(
        "archipelago stop",
        255,
        "Cannot stop archipelago. Mapped volumes exist",
    )?;
    machine.ok(&format!("vlmc unmap {VOLUME}")).map(drop)
}

/// The guide types `archipelago stop` and `start`, whoever started the node. systemd, which sees its
/// service end, must not stop what was started by hand meanwhile.
fn by_hand(machine: &Machine) -> io::Result<()> {
    machine.ok("service archipelago start")?;
    // What systemd runs says so in the journal.
    let stops = || {
        machine.ok_quietly(
            "journalctl --sync; journalctl -u archipelago -o cat | grep -c '^Stoping'; true",
        )
    };
    let before = stops()?;
    machine.ok("archipelago stop && archipelago start")?;
    // systemd has done all that it does about a service that has ended.
    let over = "systemctl show --property SubState --value archipelago";
    machine.ok_quietly(&format!(
        "until [ \"$({over})\" = dead ]; do sleep 0.1; done"
    ))?;
    check(stops()? == before, "systemd has stopped nothing")?;
    machine.ok("archipelago status")?;
    machine.ok("archipelago stop")?;
    machine.ok("service archipelago start")?;
    machine.ok("apt-get -qq -y purge archipelago")?;
    check(
        machine.remaining(|_| false)?.is_empty(),
        "purged, nothing runs",
    )
}
