//! The supervisor with peers that only pretend: scripts that write their pid file, say that they
//! are ready, and end on SIGTERM. Real peers under it are tested with the command-line tools.

use super::control::{Event, ProcessState, Request, ask, status};
use super::pids::{self, Pidfd, Presence};
use super::*;
use config::SampleParams;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use std::fs::{self, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

/// `tail --pid` ends with the script, however that ends.
const PRETENDER: &str = r#"#!/bin/sh
for word; do [ "$before" = --pidfile ] && file=$word; before=$word; done
[ -e "$file.broken" ] && { echo "the disk is on fire" >&2; exit 1; }
printf %s $$ > "$file"
trap 'rm -f "$file"; kill $!; exit 0' TERM
tail -f /dev/null --pid=$$ &
echo ready > /proc/$$/fd/$ARCHIPELAGO_READY_FD
while :; do wait $!; done
"#;

impl Request {
    fn stop(role: Option<String>) -> Request {
        Request::Stop { role, force: false }
    }
}

struct Node {
    dir: tempfile::TempDir,
    config: NodeConfig,
}

struct Running {
    events: Receiver<Event>,
    thread: Option<JoinHandle<Result<(), SupervisorError>>>,
    run_dir: PathBuf,
}

impl Node {
    fn new() -> Node {
        let dir = tempfile::tempdir().unwrap();
        let params = SampleParams {
            process: None,
            ..SampleParams::new(dir.path())
        };
        let config = NodeConfig::load(&params.write().unwrap()).unwrap();
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        for name in ["archip-filed", "archip-mapperd", "archip-vlmcd"] {
            fs::write(bin.join(name), PRETENDER).unwrap();
            fs::set_permissions(bin.join(name), Permissions::from_mode(0o755)).unwrap();
        }
        Node { dir, config }
    }

    fn pid_file(&self, role: &str) -> PathBuf {
        self.config.role(role).unwrap().pidfile.clone().unwrap()
    }

    fn start(&self) -> Running {
        let (tell, events) = channel();
        let (config, dir) = (self.config.clone(), self.dir.path().to_owned());
        let thread = std::thread::spawn(move || {
            let options = Options {
                only: None,
                progress: Box::new(move |event| tell.send(event.clone()).unwrap()),
                log: Some(open_log(&log_file(&dir)).unwrap()),
                programs: Some(dir.join("bin")),
            };
            Supervisor::new(&config, options)?.run()
        });
        Running {
            events,
            thread: Some(thread),
            run_dir: self.config.archipelago.run_dir.clone(),
        }
    }
}

impl Running {
    fn ask(&self, request: &Request) -> (Vec<Event>, Result<(), control::AskError>) {
        let mut events = Vec::new();
        let answer = ask(&control_socket(&self.run_dir), request, |e| events.push(e));
        (events, answer)
    }

    fn outcome(&mut self) -> Result<(), SupervisorError> {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only a test that failed comes here with a thread; what it started must not stay.
        if let Some(thread) = self.thread.take() {
            let _ = self.ask(&Request::stop(None));
            let _ = thread.join();
        }
    }
}

fn each(roles: &[&str], events: &[fn(Vec<String>) -> Event]) -> Vec<Event> {
    let of = |role: &&str| {
        events
            .iter()
            .map(|event| event(vec![role.to_string()]))
            .collect()
    };
    roles
        .iter()
        .flat_map(|role| -> Vec<Event> { of(role) })
        .collect()
}

fn started(roles: &[&str]) -> Vec<Event> {
    each(
        roles,
        &[
            |roles| Event::Starting { roles },
            |roles| Event::Started { roles },
        ],
    )
}

fn stopped(roles: &[&str]) -> Vec<Event> {
    each(
        roles,
        &[
            |roles| Event::Stopping { roles },
            |roles| Event::Stopped { roles },
        ],
    )
}

fn kill_and_wait(pid: i32) {
    let process = Pidfd::open(pid).unwrap();
    process.signal(Signal::SIGKILL).unwrap();
    let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::NONE).unwrap();
}

#[test]
fn peers_start_in_order_are_restarted_when_killed_and_stop_in_reverse() {
    let node = Node::new();
    let mut running = node.start();
    let up: Vec<Event> = running
        .events
        .iter()
        .take_while(|e| *e != Event::Done)
        .collect();
    assert_eq!(up, started(&["blockerb", "blockerm", "mapperd", "vlmcd"]));

    let Presence::Running(first) = pids::look(&node.pid_file("mapperd")) else {
        panic!("mapperd has no pid file");
    };
    kill_and_wait(first);
    let (_, answer) = running.ask(&Request::Start {
        role: Some("mapperd".into()),
    });
    answer.unwrap();
    let second = pids::look(&node.pid_file("mapperd")).pid().unwrap();
    assert_ne!(first, second);
    let all = status(&control_socket(&running.run_dir)).unwrap().processes;
    let restarts: Vec<u32> = all.iter().map(|p| p.restarts).collect();
    assert_eq!(restarts, [0, 0, 1, 0]);
    assert!(all.iter().all(|p| p.state == ProcessState::Running));

    let (events, answer) = running.ask(&Request::stop(None));
    answer.unwrap();
    assert_eq!(
        events,
        stopped(&["vlmcd", "mapperd", "blockerm", "blockerb"])
    );
    running.outcome().unwrap();
    let left: Vec<_> = fs::read_dir(&running.run_dir).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_role_can_be_stopped_and_started_alone() {
    let node = Node::new();
    let mut running = node.start();
    assert!(running.events.iter().any(|e| e == Event::Done));
    let vlmcd = || Some("vlmcd".to_owned());
    let (events, answer) = running.ask(&Request::stop(vlmcd()));
    answer.unwrap();
    assert_eq!(events, stopped(&["vlmcd"]));
    assert_eq!(pids::look(&node.pid_file("vlmcd")), Presence::Absent);
    let (events, answer) = running.ask(&Request::Restart { role: vlmcd() });
    answer.unwrap();
    let mut expected = vec![Event::NotRunning {
        roles: vec!["vlmcd".into()],
    }];
    expected.extend(started(&["vlmcd"]));
    assert_eq!(events, expected);
    let (_, answer) = running.ask(&Request::stop(Some("nobody".into())));
    let text = answer.unwrap_err().to_string();
    assert_eq!(text, "there is no role nobody in this configuration");
    running.ask(&Request::stop(None)).1.unwrap();
    running.outcome().unwrap();
}

#[test]
fn a_peer_that_does_not_come_up_says_why_and_everything_is_stopped() {
    let node = Node::new();
    let broken = node.pid_file("mapperd").with_extension("pid.broken");
    fs::write(&broken, "").unwrap();
    let mut running = node.start();
    let events: Vec<Event> = running.events.iter().collect();
    let reason = "it ended with status 1: the disk is on fire";
    let mut expected = started(&["blockerb", "blockerm"]);
    expected.push(Event::Starting {
        roles: vec!["mapperd".into()],
    });
    expected.push(Event::Failed {
        roles: vec!["mapperd".into()],
        reason: reason.into(),
    });
    expected.extend(["vlmcd", "mapperd"].map(|role| Event::NotRunning {
        roles: vec![role.into()],
    }));
    expected.extend(stopped(&["blockerm", "blockerb"]));
    expected.push(Event::Error {
        text: format!("mapperd: {reason}"),
    });
    assert_eq!(events, expected);
    assert!(matches!(running.outcome(), Err(SupervisorError::Failed)));
}

/// A peer whose storage does not answer does not end, and so lived on after a `stop -f`.
#[test]
fn what_does_not_end_is_killed_by_force_only() {
    let node = Node::new();
    let deaf = PRETENDER.replace("trap '", "trap '' TERM; : '");
    fs::write(node.dir.path().join("bin/archip-mapperd"), deaf).unwrap();
    let mut running = node.start();
    assert!(running.events.iter().any(|e| e == Event::Done));
    let pid = pids::look(&node.pid_file("mapperd")).pid().unwrap();
    let roles = || vec!["mapperd".to_owned()];
    let (events, answer) = running.ask(&Request::stop(Some("mapperd".into())));
    let failed = Event::Failed {
        roles: roles(),
        reason: "it does not end".into(),
    };
    assert_eq!(events, [Event::Stopping { roles: roles() }, failed]);
    answer.unwrap_err();
    assert_eq!(
        pids::look(&node.pid_file("mapperd")),
        Presence::Running(pid)
    );
    let (events, answer) = running.ask(&Request::Stop {
        role: None,
        force: true,
    });
    answer.unwrap();
    let mut expected = stopped(&["vlmcd"]);
    expected.push(Event::Stopping { roles: roles() });
    expected.push(Event::Killed { roles: roles() });
    expected.extend(stopped(&["blockerm", "blockerb"]));
    assert_eq!(events, expected);
    running.outcome().unwrap();
    assert_eq!(pids::look(&node.pid_file("mapperd")), Presence::Absent);
}

#[test]
fn there_is_one_supervisor_of_a_node() {
    let node = Node::new();
    let mut running = node.start();
    assert!(running.events.iter().any(|e| e == Event::Done));
    let second = node.start().outcome();
    assert!(
        matches!(second, Err(SupervisorError::Running(_))),
        "{second:?}"
    );
    running.ask(&Request::stop(None)).1.unwrap();
    running.outcome().unwrap();
}

#[test]
fn pid_files_are_believed_only_of_our_own_living_programs() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("role.pid");
    assert_eq!(pids::look(&file), Presence::Absent);
    for (text, presence) in [
        ("1", Presence::Stale(Some(1))),
        ("", Presence::Stale(None)),
        ("-5", Presence::Stale(None)),
        ("999999999", Presence::Stale(Some(999_999_999))),
    ] {
        fs::write(&file, text).unwrap();
        assert_eq!(pids::look(&file), presence);
        assert!(pids::remove_stale(&file, None).unwrap());
    }
    assert!(!pids::remove_stale(&file, None).unwrap());
}
