//! Connections on a unix stream socket, in one thread that never waits for a client.
//!
//! A client that does not read its answers, sends a code that is none, or fails, is hung up on:
//! its ports go back, as at any end of a connection.

use super::pool::{Holder, Pool, REQUEST_LEN, Request};
use config::PortRange;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Connections at a time; more wait to be accepted.
const CLIENTS_MAX: usize = 512;

struct Client {
    stream: UnixStream,
    /// The beginning of a request.
    heard: Vec<u8>,
}

/// A listening poold.
pub(super) struct Server {
    listener: UnixListener,
    path: PathBuf,
    stop: OwnedFd,
    pool: Pool,
    clients: BTreeMap<Holder, Client>,
    next: Holder,
}

/// What became readable.
struct Ready {
    stop: bool,
    listener: bool,
    clients: Vec<Holder>,
}

impl Server {
    /// Listens at `path`, in place of a socket that nobody listens at any more.
    pub(super) fn listen(
        path: &Path,
        umask: u32,
        ports: PortRange,
        stop: OwnedFd,
    ) -> io::Result<Server> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        match UnixStream::connect(path) {
            Ok(_) => return Err(ErrorKind::AddrInUse.into()),
            Err(e) if e.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        let mode = std::fs::Permissions::from_mode(0o660 & !umask);
        std::fs::set_permissions(path, mode)?;
        Ok(Server {
            listener,
            path: path.to_owned(),
            stop,
            pool: Pool::new(ports),
            clients: BTreeMap::new(),
            next: 0,
        })
    }

    /// Serves until it is told to stop.
    pub(super) fn run(mut self) -> io::Result<()> {
        loop {
            let ready = self.wait()?;
            if ready.stop {
                return Ok(());
            }
            for holder in ready.clients {
                if let Err(why) = self.hear(holder) {
                    self.part(holder, &why);
                }
            }
            if ready.listener {
                self.accept()?;
            }
        }
    }

    fn wait(&self) -> io::Result<Ready> {
        let full = self.clients.len() >= CLIENTS_MAX;
        let wanted = if full {
            PollFlags::empty()
        } else {
            PollFlags::POLLIN
        };
        let mut fds = vec![
            PollFd::new(self.stop.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), wanted),
        ];
        let clients = self.clients.values();
        fds.extend(clients.map(|c| PollFd::new(c.stream.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let mut any = fds.iter().map(|fd| fd.any().unwrap_or(false));
        Ok(Ready {
            stop: any.next().unwrap_or(false),
            listener: any.next().unwrap_or(false),
            clients: self
                .clients
                .keys()
                .copied()
                .zip(any)
                .filter(|(_, any)| *any)
                .map(|(h, _)| h)
                .collect(),
        })
    }

    fn accept(&mut self) -> io::Result<()> {
        match self.listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                let heard = Vec::with_capacity(REQUEST_LEN);
                self.clients.insert(self.next, Client { stream, heard });
                self.next += 1;
                Ok(())
            }
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::WouldBlock | ErrorKind::ConnectionAborted | ErrorKind::Interrupted
                ) =>
            {
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    /// Reads what a client sent, and answers every whole request of it.
    fn hear(&mut self, holder: Holder) -> io::Result<()> {
        let Some(client) = self.clients.get_mut(&holder) else {
            return Ok(());
        };
        let mut bytes = [0; 64 * REQUEST_LEN];
        let count = match client.stream.read(&mut bytes) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        client.heard.extend_from_slice(&bytes[..count]);
        while let Some((&request, rest)) = client.heard.split_first_chunk::<REQUEST_LEN>() {
            client.heard = rest.to_vec();
            let request = Request::decode(request)
                .ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "there is no such code"))?;
            let answer = self.pool.serve(holder, request);
            client.stream.write_all(&answer.to_ne_bytes())?;
        }
        Ok(())
    }

    fn part(&mut self, holder: Holder, why: &io::Error) {
        if why.kind() != ErrorKind::UnexpectedEof {
            tracing::warn!(holder, %why, "hung up on a client");
        }
        self.clients.remove(&holder);
        self.pool.give_all_back(holder);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.path);
    }
}
