//! Connections: who asks, and what was asked.

use super::control::{Event, REQUEST_MAX, Request};
use super::job::{Audience, Job};
use super::launch::Plan;
use super::watch::Supervisor;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;

/// Connections for commands at a time.
const GUESTS_MAX: usize = 64;

/// A connection for one request.
pub(super) struct Guest {
    pub(super) stream: UnixStream,
    heard: Vec<u8>,
    asked: bool,
}

impl Supervisor {
    pub(super) fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.guests.len() >= GUESTS_MAX || stream.set_nonblocking(true).is_err() {
                continue;
            }
            let guest = Guest {
                stream,
                heard: Vec::new(),
                asked: false,
            };
            self.guests.insert(self.next_guest, guest);
            self.next_guest += 1;
        }
    }

    pub(super) fn hear(&mut self, id: u64) {
        let Some(guest) = self.guests.get_mut(&id) else {
            return;
        };
        let mut bytes = [0; 1024];
        match guest.stream.read(&mut bytes) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
            Ok(count) if count > 0 && guest.heard.len() < REQUEST_MAX => {
                guest.heard.extend_from_slice(&bytes[..count]);
            }
            _ => {
                self.guests.remove(&id);
                return;
            }
        }
        let Some(end) = guest.heard.iter().position(|&b| b == b'\n') else {
            return;
        };
        if std::mem::replace(&mut guest.asked, true) {
            return;
        }
        let request = serde_json::from_slice(&guest.heard[..end]);
        match request {
            Ok(request) => self.obey(id, &request),
            Err(e) => {
                let text = format!("this is no request: {e}");
                self.dismiss(Audience::Guest(id), &Event::Error { text });
            }
        }
    }

    fn obey(&mut self, id: u64, request: &Request) {
        if *request == Request::Status {
            self.tell(Audience::Guest(id), &Event::Status(self.status()));
            return self.dismiss(Audience::Guest(id), &Event::Done);
        }
        let plans: Vec<&Plan> = self.children.iter().map(|c| &c.plan).collect();
        match Job::of(request, &plans, id) {
            Ok(job) => self.jobs.push_back(job),
            Err(text) => self.dismiss(Audience::Guest(id), &Event::Error { text }),
        }
    }
}
