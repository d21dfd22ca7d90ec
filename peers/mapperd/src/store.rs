//! What is asked of the blockers, one function for each kind of request.
//!
//! What always holds: an answer that serves less than was asked is EIO (B5); a request that found
//! no slot, no buffer or no server is sent again for a while, because a dead peer comes back; the
//! request names the client's request that it is part of, so that its own replay is recognised.

use crate::errno::{Errno, Result};
use crate::job::Job;
use crate::naming::wire;
use crate::volume::Volume;
use mapfile::ObjectName;
use runtime::Scratch;
use xseg::protocol::{NameRequest, Operation, flags};
use xseg::{Answer, Name, Request};

/// How long a shortage is waited for, and how often it is looked at.
const PATIENCE_NS: u64 = 10_000_000_000;
const PAUSE_NS: u64 = 1_000_000;

/// Which blocker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// blockerm: headers, chunks, locks.
    Maps,
    /// blockerb: data objects.
    Blocks,
}

/// Who holds a lock, as LOCKINFO's `serviced` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Holder {
    Nobody,
    Us,
    Another,
}

/// When a write has to be durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Durability {
    /// When it is answered.
    Now,
    /// After a later sync of the volume's tag.
    Later,
}

impl Durability {
    fn flags(self) -> u32 {
        match self {
            Durability::Now => 0,
            Durability::Later => flags::VOLATILE,
        }
    }
}

/// The bytes of LOCKINFO's answer, at most.
const LOCK_TEXT_LEN: u64 = 4096;
/// The bytes of one page of LIST.
const LIST_PAGE_LEN: u64 = 64 << 10;

fn is_shortage(errno: i32) -> bool {
    matches!(errno, libc::EAGAIN | libc::ENXIO)
}

impl Job {
    async fn pause(&self) {
        self.core
            .timers
            .sleep_until(self.core.now_ns() + PAUSE_NS)
            .await;
    }

    async fn scratch(&self, len: u64) -> Result<Scratch> {
        let deadline = self.core.now_ns() + PATIENCE_NS;
        loop {
            match self.core.desk.scratch(len) {
                Ok(scratch) => return Ok(scratch),
                Err(_) if self.core.now_ns() < deadline => self.pause().await,
                Err(errno) => return Err(Errno(errno)),
            }
        }
    }

    async fn filled(&self, bytes: &[u8]) -> Result<Scratch> {
        let scratch = self.scratch(bytes.len() as u64).await?;
        scratch.fill(bytes);
        Ok(scratch)
    }

    async fn ask(&self, side: Side, request: Request, data: Option<&Scratch>) -> Result<Answer> {
        let port = match side {
            Side::Maps => self.core.config.blockerm_port,
            Side::Blocks => self.core.config.blockerb_port,
        };
        let (address, datalen) = data.map_or_else(Default::default, |d| (d.address(), d.len()));
        let request = Request {
            data: address,
            datalen,
            root: self.request.root,
            ..request
        };
        let deadline = self.core.now_ns() + PATIENCE_NS;
        loop {
            let answer = self.core.desk.call(port, &request).await;
            match answer.result() {
                Ok(_) => return Ok(answer),
                Err(errno) if is_shortage(errno) && self.core.now_ns() < deadline => {
                    self.pause().await;
                }
                Err(errno) => return Err(Errno(errno)),
            }
        }
    }

    /// Asks blockerb to change a data object. A blocker that started after the lease was stamped
    /// refuses it; a newer stamp says the same.
    async fn ask_blocks(&self, request: Request, data: Option<&Scratch>) -> Result<Answer> {
        for _ in 0..3 {
            let request = Request {
                lease: self.core.stamp(),
                ..request
            };
            match self.ask(Side::Blocks, request, data).await {
                Err(Errno::STALE) => {}
                other => return other,
            }
        }
        Err(Errno::STALE)
    }

    /// Bytes of the object; `None`: there is none.
    pub(crate) async fn object_size(&self, side: Side, object: &Name) -> Result<Option<u64>> {
        let scratch = self.scratch(8).await?;
        let asked = self
            .ask(side, Request::new(Operation::Info, *object), Some(&scratch))
            .await;
        match asked {
            Ok(_) => {
                let bytes = scratch.to_vec();
                Ok(bytes.first_chunk().map(|size| u64::from_le_bytes(*size)))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// `len` bytes of an object of a map, zeros past its end; `None`: there is no such object.
    pub(crate) async fn read_map(
        &self,
        object: &Name,
        offset: u64,
        len: u64,
    ) -> Result<Option<Vec<u8>>> {
        let scratch = self.scratch(len).await?;
        let request = Request {
            offset,
            size: len,
            ..Request::new(Operation::Read, *object)
        };
        match self.ask(Side::Maps, request, Some(&scratch)).await {
            Ok(answer) if answer.serviced == len => {
                let mut bytes = scratch.to_vec();
                bytes.truncate(len as usize);
                Ok(Some(bytes))
            }
            Ok(_) => Err(Errno::IO),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Writes to an object of `volume`'s map, under its lock. `fresh` empties the object first.
    pub(crate) async fn write_map(
        &self,
        volume: &Volume,
        (object, offset): (&ObjectName, u64),
        bytes: &[u8],
        fresh: bool,
        durability: Durability,
    ) -> Result<()> {
        let fresh = if fresh { flags::FRESH } else { 0 };
        let request = Request {
            offset,
            size: bytes.len() as u64,
            flags: flags::UNDER_LOCK | fresh | durability.flags(),
            tag: volume.tag(),
            ..Request::new(Operation::Write, wire(object.as_bytes()))
        };
        let scratch = self.filled(bytes).await?;
        let asked = self.ask(Side::Maps, request, Some(&scratch)).await;
        if durability == Durability::Later {
            // Also after a failure: part of it may be there.
            volume.count_write();
        }
        match asked {
            Ok(answer) if answer.serviced == bytes.len() as u64 => Ok(()),
            Ok(_) => Err(Errno::IO),
            Err(errno) => Err(self.judge(volume, errno).await),
        }
    }

    /// Makes a data object empty, whether there was one or not.
    pub(crate) async fn make_fresh(
        &self,
        object: &ObjectName,
        tag: u32,
        durability: Durability,
    ) -> Result<()> {
        let request = Request {
            offset: 0,
            flags: flags::FRESH | durability.flags(),
            tag,
            ..Request::new(Operation::Truncate, wire(object.as_bytes()))
        };
        self.ask_blocks(request, None).await.map(|_| ())
    }

    /// Makes the data object `to` the first `max` bytes of `from`, durable when it returns.
    pub(crate) async fn copy_object(
        &self,
        from: &ObjectName,
        to: &ObjectName,
        max: u64,
        tag: u32,
    ) -> Result<()> {
        let source = self
            .filled(&NameRequest(wire(from.as_bytes())).encode())
            .await?;
        let request = Request {
            size: max,
            tag,
            ..Request::new(Operation::Copy, wire(to.as_bytes()))
        };
        self.ask_blocks(request, Some(&source)).await.map(|_| ())
    }

    /// Makes part of a data object zero, durable when it returns.
    pub(crate) async fn zero_object(
        &self,
        object: &ObjectName,
        offset: u64,
        len: u64,
        tag: u32,
    ) -> Result<()> {
        let target = wire(object.as_bytes());
        let request = Request {
            offset,
            size: len,
            tag,
            ..Request::new(Operation::Zeroes, target)
        };
        self.ask_blocks(request, None).await.map(|_| ())
    }

    /// Removes an object of a map, durably; that there is none is success.
    pub(crate) async fn delete_map_object(&self, object: &ObjectName) -> Result<()> {
        let request = Request::new(Operation::Delete, wire(object.as_bytes()));
        missing_is_gone(self.ask(Side::Maps, request, None).await)
    }

    /// Removes a data object; that there is none is success (B1). Durable after a sync of `tag`.
    pub(crate) async fn delete_block(&self, object: &ObjectName, tag: u32) -> Result<()> {
        let target = wire(object.as_bytes());
        let request = Request {
            flags: flags::VOLATILE,
            tag,
            ..Request::new(Operation::Delete, target)
        };
        missing_is_gone(self.ask_blocks(request, None).await)
    }

    /// Makes durable what was written under `tag`.
    pub(crate) async fn sync_blocks(&self, tag: u32) -> Result<()> {
        let request = Request {
            tag,
            ..Request::new(Operation::SyncTag, Name::EMPTY)
        };
        self.ask(Side::Blocks, request, None).await.map(|_| ())
    }

    /// Makes `volume`'s map durable, if the lock still is ours.
    pub(crate) async fn sync_maps(&self, volume: &Volume) -> Result<()> {
        let request = Request {
            flags: flags::UNDER_LOCK,
            tag: volume.tag(),
            ..Request::new(Operation::SyncTag, volume.target())
        };
        match self.ask(Side::Maps, request, None).await {
            Ok(_) => Ok(()),
            Err(errno) => Err(self.judge(volume, errno).await),
        }
    }

    /// Refuses data writes of `tag` under leases older than `stamp`; returns when those in flight
    /// have ended.
    pub(crate) async fn fence(&self, tag: u32, stamp: u64) -> Result<()> {
        let request = Request {
            tag,
            lease: stamp,
            ..Request::new(Operation::Fence, Name::EMPTY)
        };
        self.ask(Side::Blocks, request, None).await.map(|_| ())
    }

    /// Takes a lock without waiting. True: it was ours before.
    pub(crate) async fn acquire(&self, volume: &Name) -> Result<bool> {
        let request = Request {
            flags: flags::NOSYNC,
            ..Request::new(Operation::Acquire, *volume)
        };
        self.ask(Side::Maps, request, None)
            .await
            .map(|answer| answer.serviced == 1)
    }

    /// Gives a lock back. ESTALE: it was not ours any more.
    pub(crate) async fn release(&self, volume: &Name) -> Result<()> {
        let request = Request::new(Operation::Release, *volume);
        match self.ask(Side::Maps, request, None).await {
            Ok(_) => Ok(()),
            Err(Errno::NOENT | Errno::PERM) => Err(Errno::STALE),
            Err(errno) => Err(errno),
        }
    }

    /// Who holds a lock, and what blockerm says about it.
    pub(crate) async fn lock_info(&self, volume: &Name) -> Result<(Holder, Vec<u8>)> {
        let scratch = self.scratch(LOCK_TEXT_LEN).await?;
        scratch.zero();
        let request = Request::new(Operation::LockInfo, *volume);
        let answer = self.ask(Side::Maps, request, Some(&scratch)).await?;
        let holder = match answer.serviced & 0xff {
            0 => Holder::Nobody,
            1 => Holder::Us,
            _ => Holder::Another,
        };
        let mut text = scratch.to_vec();
        text.truncate((answer.serviced >> 8) as usize);
        Ok((holder, text))
    }

    /// The content hash of a data object's first `size` bytes, as 64 digits.
    pub(crate) async fn hash_object(&self, object: &ObjectName, size: u64) -> Result<Name> {
        let scratch = self.scratch(NameRequest::LEN as u64).await?;
        let target = wire(object.as_bytes());
        let request = Request {
            size,
            ..Request::new(Operation::Hash, target)
        };
        self.ask(Side::Blocks, request, Some(&scratch)).await?;
        Ok(NameRequest::decode(&scratch.to_vec())?.0)
    }

    /// One page of the names in the map storage, and the cursor of the next (0: that was the last).
    ///
    /// ```text
    ///  | next cursor u64 | name length u16 | name | name length u16 | name | ... | 0 u16 |
    /// ```
    pub(crate) async fn list_page(&self, cursor: u64) -> Result<(Vec<Name>, u64)> {
        let scratch = self.scratch(LIST_PAGE_LEN).await?;
        scratch.zero();
        let request = Request {
            offset: cursor,
            ..Request::new(Operation::List, Name::EMPTY)
        };
        self.ask(Side::Maps, request, Some(&scratch)).await?;
        parse_page(&scratch.to_vec()).ok_or(Errno::IO)
    }
}

fn missing_is_gone(asked: Result<Answer>) -> Result<()> {
    match asked {
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn parse_page(bytes: &[u8]) -> Option<(Vec<Name>, u64)> {
    let (next, mut rest) = bytes.split_first_chunk::<8>()?;
    let mut names = Vec::new();
    while let Some((len, tail)) = rest.split_first_chunk::<2>() {
        let len = usize::from(u16::from_le_bytes(*len));
        if len == 0 {
            break;
        }
        let (name, tail) = tail.split_at_checked(len)?;
        names.push(Name::new(name)?);
        rest = tail;
    }
    Some((names, u64::from_le_bytes(*next)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_names_is_read_as_far_as_it_goes() {
        let mut page = 7u64.to_le_bytes().to_vec();
        for name in ["one", "three"] {
            page.extend_from_slice(&(name.len() as u16).to_le_bytes());
            page.extend_from_slice(name.as_bytes());
        }
        let cut = page[..page.len() - 1].to_vec();
        page.extend_from_slice(&[0; 10]);
        let (names, next) = parse_page(&page).unwrap();
        assert_eq!((names.len(), &*names[1], next), (2, &b"three"[..], 7));
        assert!(parse_page(&cut).is_none());
    }
}
