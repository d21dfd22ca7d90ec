//! Disks of instances on the upgraded host, through the provider as Ganeti calls it: no arguments,
//! its folder as working directory, and an environment of the contract's variables alone.

use std::io;

use super::check;
use super::machine::{Machine, Said};
use super::objects::{Objects, volume_hash_of};
use super::step;

const PROVIDER: &str = "/usr/share/ganeti/extstorage/archipelago";
/// The full name of the host, which hooks compare with.
const FQDN: &str = "vmhost.example.org";

/// Calls a script of the provider.
fn call(host: &Machine, script: &str, variables: &str) -> io::Result<Said> {
    host.sh(&format!("cd {PROVIDER} && env -i {variables} ./{script}"))
}

fn succeeds(host: &Machine, script: &str, variables: &str) -> io::Result<String> {
    let said = call(host, script, variables)?;
    check(
        said.status == 0,
        format!("{script} exits with 0 {}", said.err.trim()),
    )?;
    Ok(said.out)
}

/// A disk out of an old image; a disk of before whose name Synnefo changes; and the hooks.
pub(super) fn disks(host: &Machine, objects: &Objects) -> io::Result<()> {
    step("in between", "Ganeti's provider on the upgraded host");
    host.write(
        "/etc/hosts",
        &format!("127.0.0.1 localhost\n127.0.1.1 {FQDN} vmhost\n"),
    )?;
    let list = host.ok(&format!("ls {PROVIDER}"))?;
    check(
        list.contains("parameters.list"),
        "it is where Ganeti looks for it",
    )?;
    host.ok("ls /usr/share/ganeti/extstorage/vlmc/attach /var/log/ganeti/extstorage")?;
    from_an_image(host, objects)?;
    renamed(host)?;
    hooks(host)
}

fn from_an_image(host: &Machine, objects: &Objects) -> io::Result<()> {
    let image = &objects.pithos[1];
    let disk = "VOL_NAME=11-22.ext.disk0 VOL_CNAME=synnefo-7 VOL_UUID=11-22";
    let more = format!(
        "{disk} VOL_SIZE=64 EXTP_ORIGIN={} EXTP_ORIGIN_SIZE={}",
        image.name, image.size
    );
    succeeds(host, "create", &more)?;
    let hash = volume_hash_of(host, "export synnefo-7", image.size)?;
    check(
        hash == image.sha256,
        "the disk begins with the image's bytes",
    )?;
    let out = succeeds(host, "attach", disk)?;
    let device = out.lines().next().unwrap_or_default().to_owned();
    host.note_loop(&device)?;
    check(
        out == format!("{device}\nkvm:{device}"),
        format!("line 1 is {device}, line 2 KVM's"),
    )?;
    check(
        succeeds(host, "attach", disk)? == out,
        "attached again, it says the same",
    )?;
    succeeds(host, "detach", disk)?;
    succeeds(host, "detach", disk)?;
    succeeds(host, "remove", disk).map(drop)
}

/// "Add unique names to disks": the volume of a disk that had no name is still found by its id.
fn renamed(host: &Machine) -> io::Result<()> {
    succeeds(host, "create", "VOL_NAME=33-44.ext.disk0 VOL_SIZE=64")?;
    step(
        "Synnefo v0.16",
        "6. Add unique names to disks of all Ganeti instances",
    );
    let named = "VOL_NAME=33-44.ext.disk0 VOL_CNAME=synnefo-8";
    let out = succeeds(host, "attach", named)?;
    let device = out.lines().next().unwrap_or_default().to_owned();
    host.note_loop(&device)?;
    let shown = host.ok("vlmc showmapped")?;
    check(
        shown.contains("\t33-44.ext.disk0\t"),
        "a disk that was given a name is the volume of before",
    )?;
    succeeds(
        host,
        "grow",
        &format!("{named} VOL_SIZE=64 VOL_NEW_SIZE=96"),
    )?;
    let said = host.ok("vlmc info 33-44.ext.disk0")?;
    check(said.contains(": 100663296\n"), "it grows")?;
    let snapshot = "VOL_NAME=33-44.ext.disk0 VOL_SNAPSHOT_NAME=snf-snap-8-1 VOL_SNAPSHOT_SIZE=96";
    succeeds(host, "snapshot", snapshot)?;
    host.ok("vlmc info snf-snap-8-1").map(drop)
}

fn hooks(host: &Machine) -> io::Result<()> {
    let instance = format!(
        "GANETI_INSTANCE_PRIMARY={FQDN} GANETI_INSTANCE_DISK_TEMPLATE=ext \
         GANETI_INSTANCE_DISK_COUNT=1 GANETI_INSTANCE_DISK0_PROVIDER=archipelago \
         GANETI_INSTANCE_DISK0_TEMPLATE_NAME=ext GANETI_INSTANCE_DISK0_ID=33-44.ext.disk0 \
         GANETI_INSTANCE_DISK0_NAME=synnefo-8"
    );
    for hook in [
        "instance-start-pre.d/archip-lockvolumes",
        "instance-migrate-pre.d/archip-openvolumes",
    ] {
        host.ok(&format!("env -i {instance} /etc/ganeti/hooks/{hook}"))?;
    }
    let said = host.ok("vlmc lock --show 33-44.ext.disk0")?;
    check(
        said.contains("this node"),
        "the hooks take the volume for this host",
    )?;
    host.ok("vlmc unmap 33-44.ext.disk0")?;
    for name in ["snf-snap-8-1", "33-44.ext.disk0"] {
        host.ok(&format!("vlmc remove {name}"))?;
    }
    Ok(())
}
