//! Orders to the process of a mapped volume: one line of JSON asks, one answers.

use super::presented::{Presented, read};
use crate::control::Verb;
use crate::error::{Error, ErrorKind};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How long a killed process may take to be followed by another, and how often we look.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

impl Presented {
    /// Gives an order and waits until it is carried out.
    pub fn order(&self, verb: Verb) -> Result<(), Error> {
        let reply = self.patient_exchange(verb, None);
        self.outcome(reply.map_err(|e| self.silent(&e))?)
    }

    /// Has it frozen. False: it is not within `patience`, because the node does not answer what it
    /// has of it; it will be as soon as that node is gone.
    pub fn freeze(&self, patience: Duration) -> Result<bool, Error> {
        match self.patient_exchange(Verb::Freeze, Some(patience)) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(e) => Err(self.silent(&e)),
            Ok(reply) => self.outcome(reply).map(|()| true),
        }
    }

    /// Whether it was not frozen within the patience of [`Presented::freeze`], and will be. It is asked
    /// itself: the registry says so only when it is frozen.
    pub fn is_freezing(&self) -> bool {
        let reply = self.patient_exchange(Verb::Status, Some(PATIENCE));
        reply.is_ok_and(|info| info["state"] == "freezing")
    }

    fn silent(&self, why: &io::Error) -> Error {
        let why = format!("{}: its process does not answer: {why}", self.device);
        Error::new(ErrorKind::Refused, why)
    }

    fn outcome(&self, reply: Value) -> Result<(), Error> {
        let device = &self.device;
        let Some(error) = reply.get("error").and_then(Value::as_str) else {
            return Ok(());
        };
        let pids = reply.get("pids").and_then(Value::as_array);
        let pids: Vec<i32> = pids
            .into_iter()
            .flatten()
            .filter_map(|pid| pid.as_i64()?.try_into().ok())
            .collect();
        Err(match pids.is_empty() {
            true => Error::new(ErrorKind::Refused, format!("{device}: {error}")),
            false => busy(device, pids),
        })
    }

    /// A process that is killed is followed by another in a moment, which may be asked as well.
    fn patient_exchange(&self, verb: Verb, limit: Option<Duration>) -> io::Result<Value> {
        let patience = Instant::now() + PATIENCE;
        loop {
            let now = read(self.dir.clone()).unwrap_or_else(|| self.clone());
            match now.exchange(verb, limit) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(e),
                Err(_) if self.is_kept() && Instant::now() < patience => {
                    std::thread::sleep(PAUSE);
                }
                other => return other,
            }
        }
    }

    /// WouldBlock: the order is given, and not carried out within `limit`.
    fn exchange(&self, verb: Verb, limit: Option<Duration>) -> io::Result<Value> {
        let process = self.process()?;
        let stream = UnixStream::connect(self.dir.join("control"))?;
        let mut line = serde_json::to_vec(&serde_json::json!({ "do": verb }))?;
        line.push(b'\n');
        (&stream).write_all(&line)?;
        stream.set_read_timeout(limit)?;
        let mut reply = String::new();
        BufReader::new(&stream).read_line(&mut reply)?;
        let reply: Value = serde_json::from_str(&reply)?;
        if verb == Verb::Unmap && reply.get("error").is_none() {
            // The device is free for others once its process is gone.
            let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::from(10_000u16))?;
        }
        Ok(reply)
    }

    /// The process, by a descriptor that stays its own when the number is used again.
    fn process(&self) -> io::Result<OwnedFd> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::NotFound)?;
        Ok(pidfd_open(pid, PidfdFlags::empty())?)
    }
}

fn busy(device: &str, pids: Vec<i32>) -> Error {
    let list: Vec<String> = pids.iter().map(i32::to_string).collect();
    let sentence = format!("{device}: Device is busy (PID: {})", list.join(" "));
    Error {
        sentence,
        ..Error::busy(pids)
    }
}
