//! The operations on whole volumes, one call each. Each waits for the node's answer.

use crate::client::{Client, Reply};
use crate::error::Error;
use std::fmt;
use xseg::protocol::{
    CloneRequest, CreateRequest, NameRequest, Operation, PortNo, V0_SIZE_UNKNOWN, flags,
};
use xseg::{Name, Request};

/// What a caller knows of an old map without a header (XF_ASSUMEV0).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hint {
    /// A map without a header is v0.
    pub assume_v0: bool,
    /// Bytes of such a volume, where they are known.
    pub v0_size: Option<u64>,
}

impl Hint {
    /// The request, with what is known.
    pub fn apply(self, request: Request) -> Request {
        if !self.assume_v0 {
            return request;
        }
        Request {
            flags: request.flags | flags::ASSUME_V0,
            v0_size: self.v0_size.unwrap_or(V0_SIZE_UNKNOWN),
            ..request
        }
    }
}

impl Client {
    fn ask(
        &self,
        port: PortNo,
        request: Request,
        bytes: &[u8],
        room: usize,
        what: &str,
    ) -> Result<Reply, Error> {
        let target = request.target;
        let what = format_args!("{what} of {target:?}");
        self.ask_about(port, request, bytes, room, what)
    }

    /// `what` is the whole attempt, with every name and number that may be at fault.
    fn ask_about(
        &self,
        port: PortNo,
        request: Request,
        bytes: &[u8],
        room: usize,
        what: fmt::Arguments<'_>,
    ) -> Result<Reply, Error> {
        self.block_on(self.call(port, request, bytes, room))
            .map_err(|errno| Error::new(errno, what.to_string()))
    }

    /// Makes a blank volume of `size` bytes.
    pub fn create(&self, name: Name, size: u64) -> Result<(), Error> {
        self.clone_volume(Name::EMPTY, name, size, Hint::default())
    }

    /// Makes volume `name` from snapshot `parent`, `size` bytes long (0: as long as the parent).
    pub fn clone_volume(
        &self,
        parent: Name,
        name: Name,
        size: u64,
        hint: Hint,
    ) -> Result<(), Error> {
        let request = hint.apply(Request::new(Operation::Clone, name));
        let bytes = CloneRequest { parent, size }.encode();
        let mapperd = self.ports().mapperd;
        let from = match parent.is_empty() {
            true => String::new(),
            false => format!(" from {parent:?}"),
        };
        let of_size = match size {
            0 if !parent.is_empty() => String::new(),
            _ => format!(" with {size} bytes"),
        };
        let what = format_args!("creation of {name:?}{from}{of_size}");
        self.ask_about(mapperd, request, &bytes, 0, what).map(drop)
    }

    /// Makes a map of given objects.
    pub fn create_map(&self, name: Name, size: u64, objects: &CreateRequest) -> Result<(), Error> {
        let request = Request {
            size,
            ..Request::new(Operation::Create, name)
        };
        self.ask(
            self.ports().mapperd,
            request,
            &objects.encode(),
            0,
            "creation",
        )
        .map(drop)
    }

    /// Makes the read-only snapshot `snapshot` of a volume.
    pub fn snapshot(&self, volume: Name, snapshot: Name, hint: Hint) -> Result<(), Error> {
        let request = hint.apply(Request::new(Operation::Snapshot, volume));
        let bytes = NameRequest(snapshot).encode();
        let what = format_args!("snapshot of {volume:?} as {snapshot:?}");
        self.ask_about(self.ports().vlmcd, request, &bytes, 0, what)
            .map(drop)
    }

    /// Removes a volume or snapshot.
    pub fn remove(&self, volume: Name, hint: Hint) -> Result<(), Error> {
        let request = hint.apply(Request::new(Operation::Delete, volume));
        self.ask(self.ports().vlmcd, request, &[], 0, "removal")
            .map(drop)
    }

    /// Renames a volume.
    pub fn rename(&self, volume: Name, name: Name, hint: Hint) -> Result<(), Error> {
        let request = hint.apply(Request::new(Operation::Rename, volume));
        let bytes = NameRequest(name).encode();
        let what = format_args!("renaming of {volume:?} to {name:?}");
        self.ask_about(self.ports().vlmcd, request, &bytes, 0, what)
            .map(drop)
    }

    /// Changes the size of a volume; `shrink` allows to lose its end.
    pub fn resize(&self, volume: Name, size: u64, shrink: bool) -> Result<(), Error> {
        let flags = if shrink { flags::SHRINK } else { 0 };
        let request = Request {
            offset: size,
            flags,
            ..Request::new(Operation::Truncate, volume)
        };
        let what = format_args!("resizing of {volume:?} to {size} bytes");
        self.ask_about(self.ports().vlmcd, request, &[], 0, what)
            .map(drop)
    }

    /// Bytes of a volume.
    pub fn info(&self, volume: Name, hint: Hint) -> Result<u64, Error> {
        let request = hint.apply(Request::new(Operation::Info, volume));
        let reply = self.ask(self.ports().mapperd, request, &[], 8, "info")?;
        let bytes = reply.bytes.get(..8).and_then(|b| b.try_into().ok());
        bytes
            .map(u64::from_le_bytes)
            .ok_or_else(|| Error::new(libc::EIO, "info"))
    }

    /// Takes the volume for this node.
    pub fn open(&self, volume: Name, hint: Hint) -> Result<(), Error> {
        let request = hint.apply(Request::new(Operation::Open, volume));
        self.ask(self.ports().vlmcd, request, &[], 0, "opening")
            .map(drop)
    }

    /// Gives the volume back.
    pub fn close(&self, volume: Name, hint: Hint) -> Result<(), Error> {
        let request = hint.apply(Request::new(Operation::Close, volume));
        self.ask(self.ports().vlmcd, request, &[], 0, "closing")
            .map(drop)
    }

    /// Brings an old map to the current version.
    pub fn update(&self, volume: Name, hint: Hint) -> Result<(), Error> {
        let request = hint.apply(Request::new(Operation::Update, volume));
        self.ask(self.ports().mapperd, request, &[], 0, "upgrade")
            .map(drop)
    }

    /// Turns a snapshot into a map of hashes, and returns its name.
    pub fn hash(&self, snapshot: Name, hint: Hint) -> Result<Name, Error> {
        let request = hint.apply(Request::new(Operation::Hash, snapshot));
        let reply = self.ask(
            self.ports().mapperd,
            request,
            &[],
            NameRequest::LEN,
            "hashing",
        )?;
        NameRequest::decode(&reply.bytes)
            .map(|NameRequest(name)| name)
            .map_err(|_| Error::new(libc::EIO, "hashing"))
    }

    /// Takes the lock of a volume, straight from the blocker, without waiting.
    pub fn lock(&self, volume: Name) -> Result<(), Error> {
        let request = Request {
            flags: flags::NOSYNC,
            ..Request::new(Operation::Acquire, volume)
        };
        self.ask(self.ports().blockerm, request, &[], 0, "locking")
            .map(drop)
    }

    /// Gives the lock of a volume back; `force` breaks whoever holds it.
    pub fn unlock(&self, volume: Name, force: bool) -> Result<(), Error> {
        let flags = if force { flags::FORCE } else { 0 };
        let request = Request {
            flags,
            ..Request::new(Operation::Release, volume)
        };
        self.ask(self.ports().blockerm, request, &[], 0, "unlocking")
            .map(drop)
    }

    /// Has mapperd make sure that a volume which it has open still is this node's. One whose lock
    /// was broken is fenced: when this returns, nothing written under it can land any more. ESTALE:
    /// it was broken.
    pub fn check_lock(&self, volume: Name) -> Result<(), Error> {
        let request = Request::new(Operation::Flush, volume);
        self.ask(self.ports().mapperd, request, &[], 0, "checking the lock")
            .map(drop)
    }

    /// Who holds the lock of a volume, as JSON.
    pub fn lock_info(&self, volume: Name) -> Result<Vec<u8>, Error> {
        let request = Request::new(Operation::LockInfo, volume);
        let reply = self.ask(
            self.ports().blockerm,
            request,
            &[],
            4096,
            "lock information",
        )?;
        let len = reply.serviced as usize;
        Ok(reply.bytes[..reply.bytes.len().min(len)].to_vec())
    }

    /// What is known about a volume, or (empty name) about the peer at `port`, as JSON.
    pub fn status(&self, port: PortNo, volume: Name, hint: Hint) -> Result<Vec<u8>, Error> {
        let request = hint.apply(Request::new(Operation::Status, volume));
        let reply = self.ask(port, request, &[], 64 << 10, "status")?;
        Ok(reply.bytes[..reply.bytes.len().min(reply.serviced as usize)].to_vec())
    }

    /// Has the blocker at `port` move a page of objects out of the places of older layouts, about
    /// `max` of them from `cursor` on, or, with `look`, only count them. JSON (`MoveReport` of the
    /// blocker). EPERM: it was started without `pithos_migrate`.
    pub fn migrate(
        &self,
        port: PortNo,
        cursor: u64,
        max: u64,
        look: bool,
    ) -> Result<Vec<u8>, Error> {
        let request = Request {
            offset: cursor,
            size: max,
            flags: if look { flags::PEEK } else { 0 },
            ..Request::new(Operation::Migrate, Name::EMPTY)
        };
        let what = format_args!("migration");
        let reply = self.ask_about(port, request, &[], 64 << 10, what)?;
        Ok(reply.bytes[..reply.bytes.len().min(reply.serviced as usize)].to_vec())
    }

    /// Asks the peer at `port` whether it is there.
    pub fn ping(&self, port: PortNo) -> Result<(), Error> {
        self.ask(
            port,
            Request::new(Operation::Ping, Name::EMPTY),
            &[],
            0,
            "ping",
        )
        .map(drop)
    }
}
