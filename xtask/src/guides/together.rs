//! "Pithos integration when using Filed" of the guide to Archipelago v0.4: every node stops, under a
//! guest that writes, migration is switched on, and every node starts.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::host::{CONF, ONE_LINER};
use super::machine::Machine;
use super::objects::{Objects, content};
use super::old::DATA;
use super::worker::are_there;
use super::{check, step};
use crate::deb::failed;

const GUIDE: &str = "Archipelago v0.4, Pithos integration";
/// The guest's volume.
pub(super) const BUSY: &str = "busy01.ext.disk0";
/// Bytes that the guest writes at a time, and how many places it writes to in turn.
const CHUNK: usize = 64 << 10;
const PLACES: u64 = 256;

/// How far a guest is.
#[derive(Default)]
struct Progress {
    rounds: u64,
    /// It is to end.
    end: bool,
    /// It has.
    over: bool,
}

type Shared = Arc<(Mutex<Progress>, Condvar)>;

/// A guest: it writes to a device in rounds, each durably, until it is told to end.
pub(super) struct Guest {
    shared: Shared,
    thread: JoinHandle<io::Result<u64>>,
}

impl Guest {
    pub(super) fn boot(device: &Path) -> io::Result<Guest> {
        let device = File::options().read(true).write(true).open(device)?;
        let shared = Shared::default();
        let theirs = shared.clone();
        let thread = thread::spawn(move || {
            let outcome = write_rounds(&device, &theirs);
            lock(&theirs).over = true;
            theirs.1.notify_all();
            outcome
        });
        Ok(Guest { shared, thread })
    }

    /// How many rounds it has written.
    fn rounds(&self) -> u64 {
        lock(&self.shared).rounds
    }

    /// Returns when so many more rounds are done.
    pub(super) fn await_rounds(&self, more: u64) -> io::Result<()> {
        let until = self.rounds() + more;
        let goes_on = |progress: &mut Progress| progress.rounds < until && !progress.over;
        let progress = self.shared.1.wait_while(lock(&self.shared), goes_on);
        match progress.is_ok_and(|progress| progress.rounds >= until) {
            true => Ok(()),
            false => Err(failed("the guest has ended")),
        }
    }

    /// How many rounds it wrote, all of them without an error.
    pub(super) fn shut_down(self) -> io::Result<u64> {
        lock(&self.shared).end = true;
        self.thread
            .join()
            .map_err(|_| failed("the guest panicked"))?
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, Progress> {
    shared.0.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_rounds(device: &File, shared: &Shared) -> io::Result<u64> {
    loop {
        let round = lock(shared).rounds;
        if lock(shared).end {
            return Ok(round);
        }
        let at = round % PLACES * CHUNK as u64;
        device.write_all_at(&content(round, CHUNK), at)?;
        device.sync_data()?;
        lock(shared).rounds = round + 1;
        shared.1.notify_all();
    }
}

/// Steps 1 to 3, and that lazy migration moves what is read.
pub(super) fn migrate(host: &Machine, worker: &Machine, objects: &Objects) -> io::Result<()> {
    let device = present(host)?;
    let guest = Guest::boot(&host.path(&device))?;
    guest.await_rounds(20)?;
    upgrade_in_place(host, &guest)?;
    stop(host, worker)?;
    let held = guest.rounds();
    enable(host)?;
    enable(worker)?;
    // At most the round that was under way when the volume froze.
    let went_on = guest.rounds() - held;
    check(
        went_on <= 1,
        format!("the guest stood still while the node was down ({went_on} rounds)"),
    )?;
    start(host, worker)?;
    guest.await_rounds(20)?;
    let rounds = guest.shut_down()?;
    check(
        true,
        format!("the guest wrote {rounds} times and saw no error"),
    )?;
    contents(host, &device, rounds)?;
    lazily(worker, objects)
}

fn present(host: &Machine) -> io::Result<String> {
    step("in between", "a guest on the upgraded host");
    host.ok(&format!("vlmc create {BUSY} -s 64"))?;
    let device = host.ok(&format!("vlmc map {BUSY}"))?.trim().to_owned();
    host.note_loop(&device)?;
    check(
        device.starts_with("/dev/loop"),
        format!("it is presented as {device}"),
    )?;
    let shown = host.ok("vlmc showmapped")?;
    let line = format!("\t{BUSY}\t{device}\n");
    check(
        shown.starts_with("id\timage\t\tdevice\n") && shown.contains(&line),
        "and shown",
    )?;
    let said = host.ok(ONE_LINER)?;
    check(
        said == "Volume opened\n",
        "the loop over mapped volumes opens it",
    )?;
    let said = host.ok(ONE_LINER)?;
    check(said == "Volume opened\n", "and a second time")?;
    Ok(device)
}

/// The packages are installed again under the running node.
fn upgrade_in_place(host: &Machine, guest: &Guest) -> io::Result<()> {
    step("in between", "an upgrade in place under a running node");
    let before = host.processes()?;
    host.install("--reinstall archipelago")?;
    check(host.processes()? == before, "the very same processes run")?;
    guest.await_rounds(5)?;
    let said = host.sh("apt-get -qq -y remove archipelago")?;
    check(said.status != 0, "a node in use is not removed")?;
    // apt hands everything on to its standard output.
    let refused = [said.out, said.err].concat();
    let refused = refused.contains("Cannot stop archipelago. Mapped volumes exist");
    check(refused, "because volumes are mapped")?;
    check(host.processes()? == before, "and goes on")?;
    guest.await_rounds(5)?;
    // Those that depend on it were removed before dpkg came to it.
    host.install("archipelago-ganeti archipelago-rados blktap-archipelago-utils")
}

fn stop(host: &Machine, worker: &Machine) -> io::Result<()> {
    step(GUIDE, "1. Stop all Archipelago instances");
    worker.ok("service gunicorn stop")?;
    worker.ok("archipelago stop")?;
    worker.fails("archipelago status", 3, "")?;
    host.fails(
        "archipelago stop",
        255,
        "Cannot stop archipelago. Mapped volumes exist",
    )?;
    host.ok("archipelago status")?;
    host.ok("archipelago stop -f")?;
    let shown = host.ok("vlmc showmapped")?;
    check(shown.contains(BUSY), "the volume is still mapped")?;
    let is_device = |name: &str| name.starts_with("archip-fuse");
    let names = host.remaining(is_device)?;
    let only = names.iter().all(|name| is_device(name));
    check(
        only,
        format!("only the device's processes are left: {names:?}"),
    )?;
    let locks = host.ok_quietly(&format!("find {DATA} -name '*_lock'"))?;
    check(locks.is_empty(), "and no lock")
}

/// "Add the following line `pithos_migrate=True` on the blockerm and blockerb section".
fn enable(machine: &Machine) -> io::Result<()> {
    step(GUIDE, "2. Enable Pithos object migration");
    for role in ["blockerm", "blockerb"] {
        machine.ok(&format!(
            "sed -i '/^\\[{role}\\]/a pithos_migrate=True' {CONF}"
        ))?;
    }
    let text = machine.read(CONF)?;
    check(
        text.matches("]\npithos_migrate=True\n").count() == 2,
        "in both sections",
    )
}

fn start(host: &Machine, worker: &Machine) -> io::Result<()> {
    step(GUIDE, "3. Start all Archipelago instances");
    host.ok("archipelago start")?;
    worker.ok("archipelago start")?;
    worker.ok("service gunicorn start")?;
    host.ok("archipelago status")?;
    worker.ok("archipelago status").map(drop)
}

/// The last round of each place is what is there: through the device, and through the tools.
fn contents(host: &Machine, device: &str, rounds: u64) -> io::Result<()> {
    let file = File::open(host.path(device))?;
    let mut bytes = vec![0; CHUNK];
    for round in rounds.saturating_sub(PLACES)..rounds {
        file.read_exact_at(&mut bytes, round % PLACES * CHUNK as u64)?;
        if bytes != content(round, CHUNK) {
            return Err(failed(format!("round {round} is not what is there")));
        }
    }
    check(true, "every round is read back")
}

/// What is read has moved; objects of 64 hex digits that nobody read have not.
fn lazily(worker: &Machine, objects: &Objects) -> io::Result<()> {
    step("in between", "lazy migration");
    let first = &objects.pithos[0];
    let old = |name: &str| {
        format!(
            "{DATA}/maps/{}/{}/{}/{name}",
            &name[..2],
            &name[2..4],
            &name[4..6]
        )
    };
    check(
        worker.exists(&old(&first.name)),
        "a map that nobody has read since is at its old place",
    )?;
    super::objects::get(worker, &format!("/{}/{}", first.name, first.size))?;
    check(!worker.exists(&old(&first.name)), "read once, it is not")?;
    let unread = objects
        .pithos
        .iter()
        .skip(1)
        .filter(|o| worker.exists(&old(&o.name)));
    check(unread.count() > 0, "others wait for their turn")?;
    are_there(worker)
}
