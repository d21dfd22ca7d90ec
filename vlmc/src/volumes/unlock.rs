//! `vlmc unlock`, and above all `unlock -f`: breaks a lock, and sees to it that its holder writes
//! no more before somebody else does.
//!
//! ```text
//!   storage that fences (RADOS)   breaking the lock cuts the holder off: nothing is left to do
//!   this node holds it            break it; our mapperd looks, finds the volume lost, fences it
//!   another node of this host     break it; that node's mapperd does the same. No answer: mapperd
//!                                 and its blockers are killed, and their successors asked
//!   a dead process of this host   break it; wait until nothing of it is under way any more
//!   another host                  with fence_command: that cuts it off, then the lock is broken;
//!                                 without: break it, and wait until the leases there have ended
//! ```
//! What always holds: when this returns with success, no write of the old holder can land any
//! more, or a sentence has said which one still might. Nothing that a lock file says is believed
//! further than that the processes which it leads to are ours (their names say so).

use super::cli::Unlock;
use super::names::existing;
use crate::failure::{Failure, say};
use crate::settings::Settings;
use client::{Client, Name, Ports};
use indicatif::{ProgressBar, ProgressStyle};
use nix::sys::signal::Signal;
use node::supervisor::pids::{self, Pidfd};
use serde::Deserialize;
use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

const SENTENCE: &str = "vlmc unlock failed";

/// How long a living node may take to give a volume up.
const ANSWER: Duration = Duration::from_secs(3);
/// How long operations of a dead process may stay under way.
const DRAIN: Duration = Duration::from_secs(60);
/// Between two looks at what is under way.
const LOOK: Duration = Duration::from_millis(20);

/// Who holds a lock, as the node says it.
#[derive(Debug, Default, Deserialize)]
struct Holder {
    owner: Option<String>,
    host: Option<String>,
    run_dir: Option<PathBuf>,
    alive: Option<bool>,
    #[serde(default)]
    ours: bool,
    /// Where its writes come from: the storage refuses them once the lock is broken.
    #[serde(default)]
    addresses: Vec<String>,
}

pub(super) fn unlock(settings: &Settings, args: &Unlock) -> Result<(), Failure> {
    let name = existing(&args.name)?;
    match args.force {
        true => break_lock(settings, name)?,
        false => give_back(settings, name, false)?,
    }
    say("Volume unlocked")
}

fn give_back(settings: &Settings, name: Name, force: bool) -> Result<(), Failure> {
    let given = settings.client()?.unlock(name, force);
    given.map_err(Failure::because(SENTENCE))
}

fn break_lock(settings: &Settings, name: Name) -> Result<(), Failure> {
    let report = settings.client()?.lock_info(name);
    let report = report.map_err(Failure::because(SENTENCE))?;
    let holder: Holder = serde_json::from_slice(&report)
        .map_err(|e| Failure::unexpected("the node's answer makes no sense", e))?;
    if holder.ours {
        give_back(settings, name, true)?;
        return fenced(settings.client()?.check_lock(name)).map_err(refused);
    }
    if holder.owner.is_none() || !holder.addresses.is_empty() {
        return give_back(settings, name, true);
    }
    match (holder.alive, &holder.run_dir) {
        (Some(alive), Some(run_dir)) => {
            give_back(settings, name, true)?;
            end_on_this_host(run_dir, alive, name)
        }
        _ => break_elsewhere(settings, name, &holder),
    }
}

fn refused(why: String) -> Failure {
    Failure::new(format!("{SENTENCE}: {why}"))
}

// ---- this host ----

/// The lock of a node of this host is broken: returns when nothing of it can land any more.
fn end_on_this_host(run_dir: &Path, alive: bool, name: Name) -> Result<(), Failure> {
    if alive && tell_soon(run_dir, name).is_ok() {
        return Ok(());
    }
    let killed = if alive { kill_peers(run_dir) } else { 0 };
    if killed > 0 {
        let place = run_dir.display();
        eprintln!("the node in {place} does not answer: its blockers were killed");
    }
    let patience = Instant::now() + DRAIN;
    loop {
        // A successor serves only after its predecessor's operations have ended.
        if is_drained(run_dir) || tell_soon(run_dir, name).is_ok() {
            return Ok(());
        }
        if Instant::now() > patience {
            let place = run_dir.display();
            return Err(refused(format!(
                "the lock is broken, but writes of the node in {place} are still under way"
            )));
        }
        thread::sleep(LOOK);
    }
}

/// What mapperd's look at a lock means.
fn fenced(looked: Result<(), client::Error>) -> Result<(), String> {
    match looked {
        // It had the volume open, and has lost it; or the volume is gone.
        Err(why) if [libc::ESTALE, libc::ENOENT].contains(&why.errno) => Ok(()),
        looked => looked.map_err(|why| why.to_string()),
    }
}

/// Has the node of `run_dir` look at the volume's lock. One that does not answer soon is no better
/// than one that is gone.
fn tell_soon(run_dir: &Path, name: Name) -> Result<(), String> {
    let (sender, answer) = mpsc::channel();
    let run_dir = run_dir.to_owned();
    thread::spawn(move || {
        // Nobody waits any more when it took too long.
        let _ = sender.send(join(&run_dir).and_then(|client| fenced(client.check_lock(name))));
    });
    let late = || Err("it does not answer".into());
    answer.recv_timeout(ANSWER).unwrap_or_else(|_| late())
}

/// A place at the node of `run_dir`, to ask its mapperd only.
fn join(run_dir: &Path) -> Result<Client, String> {
    let mut why = format!("no node is in {}", run_dir.display());
    for socket in files(run_dir, "sock") {
        match join_at(&socket) {
            Ok(client) => return Ok(client),
            Err(error) => why = error,
        }
    }
    Err(why)
}

fn join_at(socket: &Path) -> Result<Client, String> {
    let mapperd = mapperd_of(socket)?;
    let ports = Ports {
        vlmcd: mapperd,
        mapperd,
        blockerm: mapperd,
        blockerb: mapperd,
    };
    Client::connect(socket, ports, "unlock").map_err(|e| e.to_string())
}

/// Where the mapperd of the segment at `socket` serves.
fn mapperd_of(socket: &Path) -> Result<u32, String> {
    let observed = xseg::join::observe(socket).map_err(|e| e.to_string())?;
    let living = (0..).zip(observed.public.members());
    let mut living = living.filter(|(no, _)| observed.alive.contains(xseg::SeatNo(*no)));
    let mapperd = living.find(|(_, member)| member.display_name() == "mapperd");
    mapperd
        .map(|(_, member)| member.port.load(xseg::sync::Ordering::Relaxed))
        .ok_or_else(|| "its mapperd does not run".into())
}

/// Files of a directory with that ending.
fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths
        .filter(|path| path.extension() == Some(OsStr::new(ending)))
        .collect()
}

/// Kills mapperd and every process of `run_dir` that drives storage; how many of these there were.
/// Mapperd is dead before the others are, so that no mapping is younger than their successors, who
/// refuse what is older.
fn kill_peers(run_dir: &Path) -> usize {
    let process = |pid_file: PathBuf| Pidfd::open(pids::look(&pid_file).pid()?).ok();
    let mapperd = process(run_dir.join("mapperd.pid"));
    let locks = files(run_dir, "drain").into_iter();
    // All of them now: soon their pid files are their successors'.
    let blockers: Vec<Pidfd> = locks
        .filter_map(|lock| process(lock.with_extension("pid")))
        .collect();
    if let Some(mapperd) = mapperd.filter(kill) {
        let patience = Instant::now() + ANSWER;
        while !mapperd.is_over() && Instant::now() < patience {
            thread::sleep(LOOK);
        }
    }
    blockers.iter().filter(|blocker| kill(blocker)).count()
}

fn kill(process: &Pidfd) -> bool {
    process.signal(Signal::SIGKILL).is_ok()
}

/// Whether no process drives storage for the node of `run_dir`, nor did until a moment ago: the
/// kernel frees these locks when the last operation has ended.
fn is_drained(run_dir: &Path) -> bool {
    files(run_dir, "drain").iter().all(|path| {
        let file = File::open(path);
        file.is_ok_and(|file| !matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    })
}

// ---- another host ----

fn break_elsewhere(settings: &Settings, name: Name, holder: &Holder) -> Result<(), Failure> {
    let host = host_of(holder);
    if let Some(command) = &settings.config.archipelago.fence_command {
        fence(command, &host)?;
        return give_back(settings, name, true);
    }
    give_back(settings, name, true)?;
    wait_out_leases(settings, &host);
    eprintln!(
        "a write that {host} had begun and that hangs there may still land; only a fence_command \
         rules that out"
    );
    Ok(())
}

/// The holder's host: as the storage remembers it, or the owner's text without its port.
fn host_of(holder: &Holder) -> String {
    let owner = holder.owner.as_deref().unwrap_or_default();
    let of_owner = owner.rsplit_once('_').map_or(owner, |(host, _)| host);
    holder.host.clone().unwrap_or_else(|| of_owner.to_owned())
}

fn fence(command: &str, host: &str) -> Result<(), Failure> {
    // The host is an argument of its own: whatever a lock file says, no shell reads it.
    let ran = Command::new("/bin/sh")
        .args(["-c", &format!("{command} \"$1\""), "fence_command", host])
        .status();
    match ran {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(refused(format!(
            "fence_command did not cut {host} off ({status}); the lock is as it was"
        ))),
        Err(why) => Err(refused(format!("fence_command cannot be run: {why}"))),
    }
}

/// A node gives no new lease when nobody has looked at the lock for half a lease: after one and a
/// half nobody there has one any more.
fn wait_out_leases(settings: &Settings, host: &str) {
    let roles = &settings.config.roles;
    let terms = roles.iter().filter_map(|role| role.kind.lock_ttl_s());
    let term = Duration::from_secs(terms.max().unwrap_or(0).into());
    let (begin, whole) = (Instant::now(), term + term / 2);
    let bar = ProgressBar::new(whole.as_millis() as u64);
    let style = ProgressStyle::with_template("{msg} {wide_bar} {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(format!("the leases of {host} end"));
    if bar.is_hidden() {
        let seconds = whole.as_secs_f64();
        eprintln!("waiting {seconds} s until the leases of {host} have ended");
    }
    while begin.elapsed() < whole {
        bar.set_position(begin.elapsed().as_millis() as u64);
        thread::sleep(LOOK.min(whole - begin.elapsed().min(whole)));
    }
    bar.finish_and_clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(json: &str) -> Holder {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_host_of_a_holder() {
        let of = |json| host_of(&holder(json));
        assert_eq!(of(r#"{"owner": "node-7.example_1002"}"#), "node-7.example");
        assert_eq!(of(r#"{"owner": "somebody"}"#), "somebody");
        assert_eq!(of(r#"{"owner": "x_1", "host": "node-8"}"#), "node-8");
    }

    #[test]
    fn fence_command_gets_the_host_as_one_word() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("said");
        let command = format!("printf '%s|' > {}", out.display());
        fence(&command, "a host; $(touch it)").unwrap();
        assert_eq!(fs::read_to_string(&out).unwrap(), "a host; $(touch it)|");
        let failed = fence("exit 3;", "node-7").unwrap_err().to_string();
        assert!(failed.contains("did not cut node-7 off"), "{failed}");
        assert!(failed.ends_with("the lock is as it was"), "{failed}");
    }

    #[test]
    fn what_is_locked_is_not_drained() {
        let dir = tempfile::tempdir().unwrap();
        assert!(is_drained(dir.path()), "nobody was there");
        let file = File::create(dir.path().join("blockerb.drain")).unwrap();
        file.lock().unwrap();
        assert!(!is_drained(dir.path()));
        drop(file);
        assert!(is_drained(dir.path()));
    }
}
