//! A session with its socket, and what the ring holds for it.
//!
//! Always true: `receiving` and `sending` are set exactly while the ring holds a receive or a send
//! of this socket, so at most one of each; the connection may be dropped only when neither is.

use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{getsockopt, sockopt};

use crate::control::Client;
use crate::export::Export;
use crate::ring::Ring;
use crate::session::{Limits, Session};

pub(crate) struct Connection {
    socket: UnixStream,
    pub(crate) session: Session,
    pub(crate) receiving: bool,
    pub(crate) sending: bool,
    /// The other side has been told, so that operations in the ring complete.
    shut: Option<Shutdown>,
    pub(crate) attached: bool,
}

impl Connection {
    pub(crate) fn new(socket: UnixStream, index: u32, limits: Limits) -> Self {
        Self {
            socket,
            session: Session::new(index, limits),
            receiving: false,
            sending: false,
            shut: None,
            attached: false,
        }
    }

    /// Who is on the other side.
    pub(crate) fn client(&self) -> Client {
        credentials(&self.socket)
    }

    /// `true`: the connection is over and nothing is in the ring.
    pub(crate) fn arm<E: Export>(&mut self, index: u32, ring: &mut Ring, export: &mut E) -> bool {
        let socket: RawFd = self.socket.as_raw_fd();
        if !self.sending
            && let Some(message) = self.session.message(export)
        {
            self.sending = true;
            ring.send(socket, message, index);
        }
        if !self.receiving
            && let Some(room) = self.session.room(export)
        {
            self.receiving = true;
            ring.recv(socket, room, index);
        }
        if !self.session.is_ending() {
            return false;
        }
        if self.session.is_dead() {
            self.shut(Shutdown::Both);
        } else if self.receiving {
            self.shut(Shutdown::Read);
        }
        self.session.bury(self.receiving, self.sending, export);
        self.session.is_over() && !self.receiving && !self.sending
    }

    /// Makes operations in the ring complete. An error means that the client is gone already.
    pub(crate) fn shut(&mut self, how: Shutdown) {
        if self.shut != Some(Shutdown::Both) && self.shut != Some(how) {
            self.shut = Some(how);
            let _ = self.socket.shutdown(how);
        }
    }
}

fn credentials(socket: &UnixStream) -> Client {
    let found = getsockopt(&socket.as_fd(), sockopt::PeerCredentials);
    found.map_or(
        Client {
            pid: 0,
            uid: u32::MAX,
            gid: u32::MAX,
            attached: false,
        },
        |found| Client {
            pid: found.pid(),
            uid: found.uid(),
            gid: found.gid(),
            attached: false,
        },
    )
}
