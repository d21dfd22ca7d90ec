//! What Synnefo 0.15 and Archipelago 0.3 left on the two machines: users, storage in the old layout,
//! the old configuration, and Synnefo's own side, which stays: gunicorn and the worker's code.

use std::fs;
use std::io;
use std::process::Command;

use super::machine::Machine;
use super::objects::{Objects, SOCKET};
use super::{Run, check, step};
use crate::deb::succeed;
use crate::test::workspace;

/// The storage of the installation guide of Synnefo.
pub(super) const DATA: &str = "/srv/pithos/data";

/// The configuration of Archipelago 0.3. It is no shell script, although it lies where those lie.
const OLD_CONFIGURATION: &str = r#"# Configuration of archipelago 0.3
STORAGE = "files"
IMAGES = "/srv/pithos/data/blocks"
MAPS = '/srv/pithos/data/maps'
SEGMENT_SIZE = 1024 * 2
MAPPER_ROLES = ["blockerb", "blockerm"]
if [ "$STORAGE" = rados ]; then echo "this is no script" >&2; exit 7
"#;

/// As the installation guide of Synnefo 0.15 has it.
const GUNICORN: &str = "CONFIG = {
 'mode': 'django',
 'environment': {
   'DJANGO_SETTINGS_MODULE': 'synnefo.settings',
 },
 'working_dir': '/etc/synnefo',
 'user': 'synnefo',
 'group': 'synnefo',
 'args': (
   '--bind=unix:/run/gunicorn/synnefo.sock',
   '--workers=3',
   '--worker-class=gevent',
   '--log-level=debug',
 ),
}
";

/// What stands in for Synnefo: from, to.
const SYNNEFO: [(&str, &str); 5] = [
    ("xtask/guides/gunicorn", "/etc/init.d/gunicorn"),
    ("xtask/guides/pithos.conf.py", "/etc/synnefo/pithos.conf.py"),
    (
        "xtask/guides/pithos_app.py",
        "/usr/lib/python3/dist-packages/pithos_app.py",
    ),
    (
        "xtask/guides/gevent_archipelago.py",
        "/usr/lib/python3/dist-packages/pithos/workers/gevent_archipelago.py",
    ),
    (
        "python/tests/pithos_store.py",
        "/usr/lib/python3/dist-packages/pithos_store.py",
    ),
];

/// Puts everything there.
pub(super) fn lay(
    run: &Run,
    host: &Machine,
    worker: &Machine,
    objects: &Objects,
) -> io::Result<()> {
    step("before", "what Synnefo 0.15 and Archipelago 0.3 left");
    for machine in [host, worker] {
        machine.ok_quietly(
            "addgroup --quiet --system --gid 990 synnefo && \
             adduser --quiet --system --uid 990 --gid 990 --no-create-home --home /srv synnefo",
        )?;
    }
    host.write("/etc/default/archipelago", OLD_CONFIGURATION)?;
    host.install("logrotate")?;
    storage(run, host, objects)?;
    synnefo(worker)
}

/// Pithos' tree as its installation guide makes it: its user's, and its group's by setgid.
fn storage(run: &Run, host: &Machine, objects: &Objects) -> io::Result<()> {
    let data = run.dir.join("srv/pithos/data");
    fs::create_dir_all(&data)?;
    let mut copy = Command::new("cp");
    copy.args(["-a", "--sparse=always"]);
    succeed(copy.arg(objects.tree.join(".")).arg(&data))?;
    host.ok_quietly(&format!(
        "chown -R synnefo:synnefo /srv/pithos && \
         find /srv/pithos -type d -exec chmod 2770 {{}} + && \
         find {DATA} -type f -exec chmod 0660 {{}} +"
    ))?;
    let count = host.ok_quietly(&format!("find {DATA} -type f | wc -l"))?;
    check(
        host.exists(&format!("{DATA}/maps/le/ga/cy/archip_legacyv1b")),
        format!("{DATA} has {} files in the old layout", count.trim()),
    )
}

fn synnefo(worker: &Machine) -> io::Result<()> {
    worker.install("gunicorn python3-gevent")?;
    for (from, to) in SYNNEFO {
        worker.write(to, &fs::read_to_string(workspace().join(from))?)?;
    }
    worker.write("/etc/gunicorn.d/synnefo", GUNICORN)?;
    worker.ok_quietly("chmod +x /etc/init.d/gunicorn && mkdir -p /run/gunicorn")?;
    check(!worker.exists(SOCKET), "gunicorn does not run")
}
