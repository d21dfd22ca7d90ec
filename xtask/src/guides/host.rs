//! "Upgrade to Archipelago v0.4" on a host of virtual machines, up to the start of its node.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::machine::Machine;
use super::objects::{Objects, volume_hash, volume_hash_of};
use super::old::DATA;
use super::{check, step};

const GUIDE: &str = "Archipelago v0.4";
pub(super) const CONF: &str = "/etc/archipelago/archipelago.conf";

/// The loop of the first step. With release 0.3 it was typed before the upgrade; it must not do
/// harm after it.
pub(super) const ONE_LINER: &str =
    "for i in $(vlmc showmapped|grep -v image|awk '{print $2}'); do vlmc open $i ; done ;";

/// Steps 1 to 7.
pub(super) fn upgrade(host: &Machine, objects: &Objects) -> io::Result<()> {
    step(
        GUIDE,
        "1. to 3. Prepare, evacuate, stop: the old release's and Ganeti's",
    );
    println!("   nothing of ours runs yet");
    install(host)?;
    configure(host)?;
    step(GUIDE, "6. Remove the old config file");
    let status = host.sh("service archipelago status")?.status;
    check(
        status == 3,
        "with the old configuration there, the init script works: it says 3",
    )?;
    host.ok("rm /etc/default/archipelago")?;
    start(host, objects)
}

fn install(host: &Machine) -> io::Result<()> {
    step(GUIDE, "4. Install the Archipelago v0.4 packages");
    host.install("archipelago archipelago-ganeti")?;
    host.install("archipelago-rados")?;
    host.install("xseg-tools")?;
    host.install("blktap-archipelago-utils blktap-dkms")?;
    nothing_runs(host)?;
    let linked = host.ok_quietly("ldd /usr/bin/archip-node /usr/bin/vlmc")?;
    check(
        !linked.contains("librados"),
        "a node over files needs no librados",
    )?;
    let linked = host.ok_quietly("ldd /usr/bin/archip-radosd /usr/lib/archipelago/rados/*")?;
    check(
        linked.contains("librados.so.2"),
        "one over RADOS has it from archipelago-rados",
    )?;
    for page in [
        "man1/vlmc.1.gz",
        "man8/archipelago.8.gz",
        "man8/archip-poold.8.gz",
    ] {
        check(
            host.exists(&format!("/usr/share/man/{page}")),
            format!("{page} is there"),
        )?;
    }
    // Without the quotes a shell that is asked to complete finds its own words.
    let words = host
        .ok_quietly("bash -c '. /usr/share/bash-completion/completions/vlmc; complete -p vlmc'")?;
    check(words.contains("_vlmc"), "bash completes vlmc")
}

/// What installing leaves: a user, directories, and no process.
pub(super) fn nothing_runs(machine: &Machine) -> io::Result<()> {
    check(
        machine.processes()?.is_empty(),
        "installing has started nothing",
    )?;
    check(
        !machine.exists("/run/archipelago"),
        "and made nothing in /run",
    )?;
    machine.ok_quietly("getent passwd archipelago && getent group archipelago")?;
    let owner = machine.ok_quietly("stat -c '%a %U %G' /var/log/archipelago")?;
    check(
        ["775 root archipelago", "2775 root archipelago"].contains(&owner.trim()),
        format!("/var/log/archipelago: {}", owner.trim()),
    )?;
    let links = machine.ok_quietly("ls /etc/rc2.d")?;
    check(
        links.contains("archipelago"),
        "it will be started at the next boot",
    )?;
    // Nothing is guessed: the directories of the shipped configuration are not made for anybody.
    machine.fails("archipelago start", 255, "no directory /srv/archip/blocks")
}

fn configure(host: &Machine) -> io::Result<()> {
    step(GUIDE, "5. Adjust the new config file");
    edit(host, "BLKTAP_ENABLED", "True")?;
    edit(host, "USER", "root")?;
    edit(host, "GROUP", "root")?;
    edit(host, "SEGMENT_SIZE", "256")?;
    storage(host)
}

/// `KEY = VALUE` in the shipped file, as an administrator's editor would.
pub(super) fn edit(machine: &Machine, key: &str, value: &str) -> io::Result<()> {
    machine.ok(&format!("sed -i 's|^{key} = .*|{key} = {value}|' {CONF}"))?;
    let text = machine.read(CONF)?;
    let lines = text
        .lines()
        .filter(|line| *line == format!("{key} = {value}"));
    check(lines.count() == 1, format!("{key} = {value}"))
}

/// Both directories at Pithos'.
pub(super) fn storage(machine: &Machine) -> io::Result<()> {
    for (role, dir) in [("blockerm", "maps"), ("blockerb", "blocks")] {
        let line = format!(
            "sed -i '/^\\[{role}\\]/,/^\\[/s|^archip_dir = .*|archip_dir = {DATA}/{dir}|' {CONF}"
        );
        machine.ok(&line)?;
    }
    let text = machine.read(CONF)?;
    let count = text.matches(&format!("\narchip_dir = {DATA}/")).count();
    check(
        count == 2,
        "archip_dir of both blockers is Pithos' directory",
    )
}

fn start(host: &Machine, objects: &Objects) -> io::Result<()> {
    step(GUIDE, "7. Start Archipelago");
    let said = host.ok("archipelago start")?;
    check(said.matches(" OK").count() == 4, "four roles are started")?;
    host.ok("archipelago status")?;
    host.ok("service archipelago status")?;
    host.fails("archipelago start", 255, "Cannot start. Try stopping first")?;
    check(runs_as(host, 0)?, "the peers run as root")?;
    let listed = host.ok("vlmc list")?;
    for volume in &objects.volumes {
        let name = &volume.name;
        check(
            listed.lines().any(|line| line == name),
            format!("{name} is listed"),
        )?;
        let said = host.ok(&format!("vlmc info {name}"))?;
        let size = format!("Volume {name}: size: {}\n", volume.size);
        check(said == size, format!("{name} has {} bytes", volume.size))?;
    }
    host.ok(ONE_LINER)?;
    // The others are left for the finalising tool.
    let first = &objects.volumes[0];
    let hash = volume_hash(host, &first.name)?;
    check(hash == first.sha256, format!("{} has its hash", first.name))?;
    image(host, objects)
}

/// A virtual machine's volume out of an old image of Pithos, with its size, as Ganeti's provider
/// asks for it.
fn image(host: &Machine, objects: &Objects) -> io::Result<()> {
    let image = &objects.pithos[0];
    let line = format!(
        "vlmc create vm1.ext.disk0 -s 64 --snap {} -v0 --v0_size {}",
        image.name, image.size
    );
    host.ok(&line)?;
    let hash = volume_hash_of(host, "export vm1.ext.disk0", image.size)?;
    check(
        hash == image.sha256,
        "a volume out of an old image has its bytes",
    )?;
    host.fails(
        &format!(
            "vlmc create vm2.ext.disk0 --snap {} -v0 --v0_size 1",
            image.name
        ),
        255,
        "vlmc creation failed",
    )
}

/// Whether every process of the node is this user's.
pub(super) fn runs_as(machine: &Machine, uid: u32) -> io::Result<bool> {
    let processes = machine.processes()?;
    let mut owners = processes.iter().map(|(pid, _)| {
        std::fs::metadata(format!("/proc/{pid}")).map_or(u32::MAX, |meta| meta.uid())
    });
    Ok(!processes.is_empty() && owners.all(|owner| owner == uid))
}

/// The permission bits of a file of the machine.
pub(super) fn mode(machine: &Machine, path: &str) -> io::Result<u32> {
    let meta = machine.path(path).metadata()?;
    Ok(meta.permissions().mode() & 0o7777)
}
