//! "Upgrade to Synnefo v0.16" on the Pithos node, as far as Archipelago is concerned.

use std::io;
use std::os::unix::fs::MetadataExt;

use super::host::{CONF, edit, mode, nothing_runs, runs_as, storage};
use super::machine::Machine;
use super::objects::{Objects, content, get, put};
use super::old::DATA;
use super::{check, step};
use crate::deb::failed;

const GUIDE: &str = "Synnefo v0.16";
/// The user of gunicorn, and of Archipelago with it.
pub(super) const SYNNEFO: u32 = 990;
/// What is stored after the upgrade: its name and its content's seed and size.
pub(super) const UPLOADS: [(&str, u64, usize); 3] = [
    ("snf_file_1", 100, 1000),
    ("snf_file_2", 101, 9 << 20),
    ("snf_file_3", 103, 4 << 20),
];

/// Steps 0 to 6.
pub(super) fn upgrade(worker: &Machine, objects: &Objects) -> io::Result<()> {
    step(
        GUIDE,
        "0. and 1. the other hosts, web services and databases: nothing of ours",
    );
    step(GUIDE, "2.1 Install the new versions of packages");
    worker.install("libxseg0 python-xseg python-archipelago archipelago")?;
    nothing_runs(worker)?;
    let line = "python3 -c 'import xseg.xseg_api, xseg.xprotocol, archipelago.common, \
                archipelago.vlmc, archipelago.archipelago'";
    worker.ok(line)?;
    step(
        GUIDE,
        "2.2 to 3. databases, vncauthproxy, quotas: nothing of ours",
    );
    configure(worker)?;
    services(worker, objects)
}

fn configure(worker: &Machine) -> io::Result<()> {
    step(
        GUIDE,
        "4. Tweak Archipelago and Gunicorn settings on Pithos node",
    );
    edit(worker, "BLKTAP_ENABLED", "False")?;
    edit(worker, "USER", "synnefo")?;
    edit(worker, "GROUP", "synnefo")?;
    edit(worker, "SEGMENT_SIZE", "512")?;
    storage(worker)?;
    let file = "/etc/gunicorn.d/synnefo";
    let class = "pithos.workers.gevent_archipelago.GeventArchipelagoWorker";
    worker.ok(&format!(
        "sed -i \"s|--worker-class=gevent'|--worker-class={class}'|; \
         s|^ 'args': (|&\\n   '--config=/etc/synnefo/pithos.conf.py',|\" {file}"
    ))?;
    let text = worker.read(file)?;
    let there = text.contains(class) && text.contains("'--config=/etc/synnefo/pithos.conf.py',");
    check(there, "gunicorn's worker class and configuration are set")
}

fn services(worker: &Machine, objects: &Objects) -> io::Result<()> {
    step(GUIDE, "5. Bring all services up");
    worker.ok("service archipelago start")?;
    worker.ok("service archipelago status")?;
    check(runs_as(worker, SYNNEFO)?, "the peers run as synnefo")?;
    belongs(worker, "/run/archipelago", 0o770)?;
    belongs(worker, "/run/archipelago/archipelago.sock", 0o660)?;
    belongs(worker, "/var/log/archipelago", 0o775)?;
    for line in [
        "vlmc map legacyv1a",
        "vlmc showmapped",
        "vlmc unmap legacyv1a",
    ] {
        worker.fails(line, 255, "Blktap module is disabled.")?;
    }
    worker.ok("service gunicorn start")?;
    objects.are_served(worker)?;
    uploads(worker)?;
    gunicorn_comes_and_goes(worker, objects)
}

/// A file or directory is the group's, which may do these things with it.
fn belongs(worker: &Machine, path: &str, bits: u32) -> io::Result<()> {
    let (group, mode) = (worker.path(path).metadata()?.gid(), mode(worker, path)?);
    check(
        group == SYNNEFO && mode & bits == bits && mode & 0o007 <= bits & 0o007,
        format!("{path} is of the group synnefo, with mode {mode:o}"),
    )
}

/// New objects are stored, read back, and are files of the group in its directories.
fn uploads(worker: &Machine) -> io::Result<()> {
    for (name, seed, size) in UPLOADS {
        put(worker, &format!("/{name}"), &content(seed, size))?;
    }
    are_there(worker)?;
    let line = format!(
        "find {DATA} -newer /etc/gunicorn.d/synnefo -type f -printf '%m %G %P\\n'; \
         find {DATA} -type d -printf '%m %G %P\\n'"
    );
    let files = worker.ok_quietly(&line)?;
    let right = |line: &&str| line.starts_with("660 990 ") || line.starts_with("2770 990 ");
    let wrong = files.lines().find(|line| !right(line));
    let what = format!("files of {DATA} are 0660 and directories 2770, of synnefo");
    check(
        wrong.is_none(),
        format!(
            "{what}{}",
            wrong.map_or(String::new(), |w| format!(": {w}"))
        ),
    )
}

/// What was uploaded is read back.
pub(super) fn are_there(worker: &Machine) -> io::Result<()> {
    for (name, seed, size) in UPLOADS {
        let same = get(worker, &format!("/{name}/{size}"))? == content(seed, size);
        check(
            same,
            format!("{name}, {size} bytes, is read as it was stored"),
        )?;
    }
    Ok(())
}

/// Ports of workers that were stopped, or killed, are used again.
fn gunicorn_comes_and_goes(worker: &Machine, objects: &Objects) -> io::Result<()> {
    let said = get(worker, "/pid")?;
    let said = String::from_utf8_lossy(&said).into_owned();
    let pid = said.split(' ').next().unwrap_or_default();
    check(
        said.split(' ').count() == 9,
        "a worker has its eight static ports",
    )?;
    worker.ok_quietly(&format!("kill -9 {pid}"))?;
    objects.are_served(worker)?;
    worker.ok("service gunicorn stop")?;
    worker.ok("service gunicorn start")?;
    are_there(worker)?;
    let ports = |said: &[u8]| -> Vec<u32> {
        let text = String::from_utf8_lossy(said).into_owned();
        text.split(' ')
            .skip(1)
            .filter_map(|port| port.parse().ok())
            .collect()
    };
    let again = ports(&get(worker, "/pid")?);
    let lowest = again
        .first()
        .copied()
        .ok_or_else(|| failed("a worker has no ports"))?;
    check(
        lowest < 30,
        format!("after a restart workers have the same ports: {again:?}"),
    )?;
    let key = worker.read(CONF)?.contains("\nBLKTAP_ENABLED = False\n");
    check(key, "all of it without devices")
}
