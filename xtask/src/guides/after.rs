//! "Finalizing upgrade", everything read once more, and the packages purged.

use std::io;

use super::host::{ONE_LINER, edit, runs_as};
use super::machine::Machine;
use super::objects::{Objects, volume_hash};
use super::old::DATA;
use super::together::BUSY;
use super::worker::{SYNNEFO, are_there};
use super::{check, rados, step};

const GUIDE: &str = "Archipelago v0.4";

/// From the finalising tool to the end.
pub(super) fn finish(host: &Machine, worker: &Machine, objects: &Objects) -> io::Result<()> {
    finalize(host)?;
    at_once(host)?;
    rotate(host)?;
    everything(host, worker, objects)?;
    other_users(worker)?;
    host.ok("archipelago stop")?;
    rados::serve(host, host.run_dir(), objects)?;
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
    let upgraded = host.read("/root/upgrade/upgraded.log")?;
    check(
        upgraded == "legacyv1b\n",
        "upgraded.log names the volume that nobody had opened",
    )?;
    let left = host.ok_quietly(&format!("find {DATA}/maps -name 'archip_*'"))?;
    check(left.is_empty(), "no map of release 0.3 is left")
}

fn at_once(host: &Machine) -> io::Result<()> {
    step(
        "at once",
        "vlmc migrate --all, for those who do not wait for lazy migration",
    );
    let before = at_old_places(host)?;
    check(before > 20, format!("{before} files are at old places"))?;
    host.ok("vlmc migrate --all")?;
    let left = at_old_places(host)?;
    check(left == 0, format!("{left} files are"))
}

/// How many files lie where Pithos and release 0.3 kept them: one of 64 hex digits where its own
/// first digits say, one of release 0.3 where those after its prefix say.
fn at_old_places(host: &Machine) -> io::Result<usize> {
    let line = format!(
        "find {DATA} -type f -printf '%P\\n' | sed 's|^[a-z]*/||' | \
         awk -F/ '{{ n = $4; sub(/^archip_/, \"\", n); \
         if (NF == 4 && $1 $2 $3 == substr(n, 1, 6)) print }}'"
    );
    Ok(host.ok_quietly(&line)?.lines().count())
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

/// Rotated away, the logs are written to anew: the supervisor's, the peers' and the device's.
fn rotate(host: &Machine) -> io::Result<()> {
    step("in between", "log rotation");
    host.ok("logrotate --force /etc/logrotate.d/archipelago")?;
    let mapped = host.ok_quietly("basename /var/log/archipelago/mapped-*.log")?;
    for log in ["supervisor.log", "blockerb.log", mapped.trim()] {
        let path = format!("/var/log/archipelago/{log}");
        // They hear of it by a signal; a log that nobody opens anew ends the run by its patience.
        let seen = format!("readlink /proc/*/fd/* 2>/dev/null | grep -q '^{path}$'");
        host.ok_quietly(&format!("until {seen}; do sleep 0.1; done"))?;
        check(true, format!("{log} is open under its name again"))?;
        let old = host.ok_quietly(&format!("ls {path}.1"))?;
        check(!old.is_empty(), "and the old one is beside it")?;
    }
    Ok(())
}

/// The configuration as it is shipped, with the package's user: what README.Debian says.
const SHIPPED: &str = "/etc/shipped.conf";

/// A node that is another user's than it was, and one of the package's own user.
fn other_users(worker: &Machine) -> io::Result<()> {
    step(
        "after",
        "USER and GROUP: root, and back; the package's user",
    );
    worker.ok("service gunicorn stop")?;
    for user in ["root", "synnefo"] {
        worker.ok("archipelago stop")?;
        edit(worker, "USER", user)?;
        edit(worker, "GROUP", user)?;
        worker.ok("archipelago start")?;
        let uid = if user == "root" { 0 } else { SYNNEFO };
        check(runs_as(worker, uid)?, format!("the peers run as {user}"))?;
    }
    worker.ok("archipelago stop")?;
    worker.ok(
        "install -d -o archipelago -g archipelago -m 2770 /srv/archip/blocks /srv/archip/maps",
    )?;
    worker.ok_quietly(&format!(
        "dpkg-deb --fsys-tarfile /opt/packages/archipelago_[0-9]*.deb | \
         tar -xO ./etc/archipelago/archipelago.conf | \
         sed 's/^\\(USER\\|GROUP\\) = root/\\1 = archipelago/' >{SHIPPED}"
    ))?;
    worker.ok(&format!("archipelago -c {SHIPPED} start"))?;
    worker.ok(&format!("vlmc -c {SHIPPED} create volume -s 8"))?;
    let owner = worker.ok_quietly("find /srv/archip -type f -printf '%u %g %m\\n' | sort -u")?;
    check(
        owner == "archipelago archipelago 660\n",
        "its files are the package's user's",
    )?;
    worker
        .ok(&format!("archipelago -c {SHIPPED} stop"))
        .map(drop)
}

fn remove(host: &Machine, worker: &Machine) -> io::Result<()> {
    step("after", "the packages are purged");
    let sum = |machine: &Machine| {
        machine.ok_quietly(&format!(
            "find {DATA} -type f | sort | xargs sha256sum | sha256sum"
        ))
    };
    let before = sum(host)?;
    for (machine, data) in [(worker, true), (host, false)] {
        if !data {
            host.ok("rm -r /srv/archip")?;
        }
        let ours =
            "dpkg-query -W -f '${Package} ${Source}\\n' | awk '/archipelago|xseg/ {print $1}'";
        machine.ok(&format!("apt-get -qq -y purge $({ours})"))?;
        let left = machine.ok_quietly(
            "find / -xdev \\( -iname '*archip*' -o -name '*xseg*' -o -name vlmc \\) \
             -not -path '/var/lib/apt/*' -not -path '/etc/apt/*' -not -path '/var/cache/*' \
             -not -path '/root/*' -not -path '/usr/lib/python3/dist-packages/pithos*'; \
             ls -d /run/archipelago 2>/dev/null; true",
        )?;
        check(left.is_empty(), format!("nothing of ours is left{left}"))?;
        let user = machine.quietly("getent passwd archipelago || getent group archipelago")?;
        let what = if data {
            "stays with its data"
        } else {
            "is gone"
        };
        check(
            (user.status == 0) == data,
            format!("the user archipelago {what}"),
        )?;
        check(machine.remaining(|_| false)?.is_empty(), "and nothing runs")?;
    }
    check(sum(host)? == before, "and all data is")
}
