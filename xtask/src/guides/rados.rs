//! "For RADOS installations the pool setting must be set to the RADOS pool that Pithos mapfiles
//! reside": a node of the packages over the pools of a real cluster, which old Pithos filled.

use std::fs;
use std::io;
use std::path::Path;

use rados_lab::Lab;

use super::host::CONF;
use super::machine::Machine;
use super::objects::{Objects, volume_hash_of};
use super::{check, step};
use crate::test::lacking_for_rados;

/// Every block and map of the tree becomes the object of its name, as Pithos over RADOS kept them.
const FILL: &str = r#"
import os, rados, sys
with rados.Rados(conffile=sys.argv[1]) as cluster:
    for pool in "blocks", "maps":
        with cluster.open_ioctx(pool) as io:
            for folder, _, names in os.walk(os.path.join(sys.argv[2], pool)):
                for name in names:
                    with open(os.path.join(folder, name), "rb") as opened:
                        io.write_full(name, opened.read())
"#;

/// The whole of it, if there is Ceph here. The machine's node must not run; its configuration
/// becomes the example.
pub(super) fn serve(host: &Machine, run_dir: &Path, objects: &Objects) -> io::Result<()> {
    step("Synnefo v0.16", "4. For RADOS installations");
    if let Some(package) = lacking_for_rados() {
        println!("skipped: the package {package} is not installed");
        return Ok(());
    }
    let dir = run_dir.join("ceph");
    fs::create_dir_all(&dir)?;
    let cluster = Lab::start(&dir, rados_lab::Options::with_osds(1))?;
    cluster.python(FILL, &[&objects.tree.display().to_string()], b"")?;
    // Its configuration names its keyring by a path of this machine.
    host.bind_as_it_is(&dir)?;
    let conf = cluster.user_conf();
    host.ok(&format!(
        "cp /etc/archipelago/archipelago.conf.rados_example {CONF}"
    ))?;
    host.ok(&format!(
        "sed -i 's|^#cephx_id = .*|cephx_id = archip|; s|^#ceph_conf = .*|ceph_conf = {}|; \
         s|^SEGMENT_SIZE = .*|SEGMENT_SIZE = 256|' {CONF}",
        conf.display()
    ))?;
    images(host, objects)
}

fn images(host: &Machine, objects: &Objects) -> io::Result<()> {
    host.ok("archipelago start")?;
    let program = host.ok_quietly("readlink /proc/$(cat /run/archipelago/blockerb.pid)/exe")?;
    let apart = program
        .trim_end()
        .ends_with("/usr/lib/archipelago/rados/archip-node");
    check(apart, "the program with librados serves")?;
    let image = &objects.pithos[0];
    let volume = "vm1.ext.disk0";
    host.ok(&format!(
        "vlmc create {volume} --snap {} -v0 --v0_size {}",
        image.name, image.size
    ))?;
    let hash = volume_hash_of(host, &format!("export {volume}"), image.size)?;
    check(
        hash == image.sha256,
        "a volume out of an old image has its bytes",
    )?;
    objects.volumes_are_readable(host)?;
    refuses_to_go(host)?;
    host.ok("archipelago stop")?;
    let listed = host.ok("vlmc list")?;
    check(
        listed.lines().any(|line| line == volume),
        "what is there is listed without a node too",
    )
}

/// Without its package a node could not replace a peer that dies.
fn refuses_to_go(host: &Machine) -> io::Result<()> {
    let device = host.ok("vlmc map vm1.ext.disk0")?.trim().to_owned();
    host.note_loop(&device)?;
    let said = host.sh("apt-get -qq -y remove archipelago-rados")?;
    check(
        said.status != 0,
        "its package is not removed while a volume is mapped",
    )?;
    host.ok("vlmc unmap vm1.ext.disk0").map(drop)
}
