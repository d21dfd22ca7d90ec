//! "Finalizing upgrade", everything read once more, and the packages purged.

use std::io;

use super::host::ONE_LINER;
use super::machine::Machine;
use super::objects::{Objects, volume_hash};
use super::old::DATA;
use super::together::BUSY;
use super::worker::are_there;
use super::{check, step};

const GUIDE: &str = "Archipelago v0.4";

/// From the finalising tool to the end.
pub(super) fn finish(host: &Machine, worker: &Machine, objects: &Objects) -> io::Result<()> {
    finalize(host)?;
    at_once(host)?;
    everything(host, worker, objects)?;
    rotate(host)?;
    remove(host, worker)
}

fn finalize(host: &Machine) -> io::Result<()> {
    step(GUIDE, "Finalizing upgrade");
    host.ok("mkdir /root/upgrade")?;
    let tool = "/usr/share/archipelago/tools/finalize_upgrade_0.4";
    let said = host.ok(&format!("{tool} -l /root/upgrade"))?;
    check(said.ends_with("OK\n"), "it says OK")?;
    for log in ["invalid.log", "failed.log"] {
        let text = host.read(&format!("/root/upgrade/{log}"))?;
        check(text.is_empty(), format!("{log} is empty"))?;
    }
    let left = host.ok_quietly(&format!("find {DATA}/maps -name 'archip_*'"))?;
    check(left.is_empty(), "no map of release 0.3 is left")
}

fn at_once(host: &Machine) -> io::Result<()> {
    step(
        "at once",
        "vlmc migrate --all, for those who do not wait for lazy migration",
    );
    host.ok("vlmc migrate --all")?;
    // At its old place a file of 64 hex digits lies where its own first digits say, and one of
    // release 0.3 where those after its prefix say.
    let line = format!(
        "find {DATA} -type f -printf '%P\\n' | sed 's|^[a-z]*/||' | \
         awk -F/ '{{ n = $4; sub(/^archip_/, \"\", n); \
         if (NF == 4 && $1 $2 $3 == substr(n, 1, 6)) print }}'"
    );
    let left = host.ok_quietly(&line)?;
    check(
        left.is_empty(),
        format!("nothing is left at an old place{left}"),
    )
}

fn everything(host: &Machine, worker: &Machine, objects: &Objects) -> io::Result<()> {
    step("after", "everything once more");
    objects.are_served(worker)?;
    are_there(worker)?;
    objects.volumes_are_readable(host)?;
    host.ok(ONE_LINER)?;
    host.ok(&format!("vlmc unmap {BUSY}"))?;
    let said = host.ok("vlmc check")?;
    check(!said.is_empty(), "vlmc check finds nothing wrong")?;
    let before = volume_hash(host, BUSY)?;
    host.ok("archipelago restart")?;
    check(
        volume_hash(host, BUSY)? == before,
        "the guest's volume is the same after a restart",
    )
}

/// Rotated away, the logs are written to anew.
fn rotate(host: &Machine) -> io::Result<()> {
    step("after", "log rotation");
    host.ok("logrotate --force /etc/logrotate.d/archipelago")?;
    for log in ["supervisor.log", "blockerb.log"] {
        let path = format!("/var/log/archipelago/{log}");
        let line = format!("readlink /proc/*/fd/* 2>/dev/null | grep -c '^{path}$'");
        let open = host.ok_quietly(&line)?;
        check(
            open.trim() != "0",
            format!("{log} is open under its name again"),
        )?;
    }
    Ok(())
}

fn remove(host: &Machine, worker: &Machine) -> io::Result<()> {
    step("after", "the packages are purged");
    let sum = |machine: &Machine| {
        machine.ok_quietly(&format!(
            "find {DATA} -type f | sort | xargs sha256sum | sha256sum"
        ))
    };
    worker.ok("service gunicorn stop")?;
    worker.ok("archipelago stop")?;
    host.ok("archipelago stop")?;
    let before = sum(host)?;
    for machine in [worker, host] {
        let ours =
            "dpkg-query -W -f '${Package} ${Source}\\n' | awk '/archipelago|xseg/ {print $1}'";
        machine.ok(&format!("apt-get -qq -y purge $({ours})"))?;
        let left = machine.ok_quietly(
            "find / -xdev \\( -iname '*archip*' -o -name '*xseg*' -o -name vlmc \\) \
             -not -path '/var/lib/apt/*' -not -path '/etc/apt/*' -not -path '/var/cache/*' \
             -not -path '/usr/lib/python3/dist-packages/pithos*'; getent passwd archipelago; \
             getent group archipelago; ls -d /run/archipelago 2>/dev/null; true",
        )?;
        check(left.is_empty(), format!("nothing of ours is left{left}"))?;
        check(machine.processes()?.is_empty(), "and nothing runs")?;
    }
    check(sum(host)? == before, "and all data is")
}
