//! Objects at the blockers: one function for each thing that is done with them.
//!
//! What always holds: an answer that serves less than was asked is EIO (B5); what is written to a
//! map is refused once the volume's lock is broken, and what changes its data as soon as a blocker
//! was killed for it.

use crate::ask::Side;
use crate::errno::{Errno, Result};
use crate::job::Job;
use crate::naming::wire;
use crate::volume::Volume;
use mapfile::{HeaderName, ObjectName};
use runtime::{Scratch, volume_tag};
use xseg::protocol::{NameRequest, Operation, flags};
use xseg::{Name, Request};

/// How often a change is sent that blockerb refuses although the lock is ours.
const REFUSALS_MAX: u32 = 64;

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

impl Job {
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

    /// Writes to an object of `volume`'s map, under its lock.
    pub(crate) async fn write_map(
        &self,
        volume: &Volume,
        (object, offset): (&ObjectName, u64),
        bytes: &[u8],
        durability: Durability,
    ) -> Result<()> {
        let request = Request {
            offset,
            flags: durability.flags(),
            tag: volume.tag(),
            ..Request::new(Operation::Write, wire(object.as_bytes()))
        };
        let written = self.write_under_lock(request, bytes).await;
        if durability == Durability::Later {
            // Also after a failure: part of it may be there.
            volume.count_write();
        }
        match written {
            Ok(()) => Ok(()),
            Err(errno) => Err(self.judge(volume, errno).await),
        }
    }

    /// Makes `bytes` the whole of an object of the map that begins in `header`, or the beginning
    /// of the header itself, durably and under that header's lock.
    pub(crate) async fn write_whole(
        &self,
        header: &HeaderName,
        object: &ObjectName,
        bytes: &[u8],
    ) -> Result<()> {
        let is_header = object.as_bytes() == header.as_bytes();
        let request = Request {
            flags: if is_header { 0 } else { flags::FRESH },
            tag: volume_tag(&wire(header.as_bytes())),
            ..Request::new(Operation::Write, wire(object.as_bytes()))
        };
        self.write_under_lock(request, bytes).await
    }

    async fn write_under_lock(&self, request: Request, bytes: &[u8]) -> Result<()> {
        let size = bytes.len() as u64;
        let request = Request {
            size,
            flags: request.flags | flags::UNDER_LOCK,
            ..request
        };
        let scratch = self.filled(bytes).await?;
        match self
            .ask(Side::Maps, request, Some(&scratch))
            .await?
            .serviced
        {
            serviced if serviced == size => Ok(()),
            _ => Err(Errno::IO),
        }
    }

    /// Changes data objects of `volume`, whose lock is held. Like a write of vlmcd it carries a lease:
    /// a blocker that was started since refuses it, for its predecessor may have been killed because
    /// the lock was broken (`vlmc unlock -f`), and the new owner may be writing already. So the lock
    /// is looked at before it is sent again.
    async fn change_blocks(
        &self,
        volume: &Volume,
        request: Request,
        data: Option<&Scratch>,
    ) -> Result<()> {
        for _ in 0..REFUSALS_MAX {
            let request = Request {
                tag: volume.tag(),
                lease: self.core.stamp(),
                ..request
            };
            match self.ask(Side::Blocks, request, data).await {
                Err(Errno::STALE) if volume.is_lost() => return Err(Errno::STALE),
                Err(Errno::STALE) => self.sync_maps(volume).await?,
                asked => return asked.map(drop),
            }
        }
        Err(Errno::STALE)
    }

    /// Makes a data object empty, whether there was one or not.
    pub(crate) async fn make_fresh(
        &self,
        volume: &Volume,
        object: &ObjectName,
        durability: Durability,
    ) -> Result<()> {
        let request = Request {
            offset: 0,
            flags: flags::FRESH | durability.flags(),
            ..Request::new(Operation::Truncate, wire(object.as_bytes()))
        };
        self.change_blocks(volume, request, None).await
    }

    /// Makes the data object `to` the first `max` bytes of `from`, durable when it returns.
    pub(crate) async fn copy_object(
        &self,
        volume: &Volume,
        (from, to): (&ObjectName, &ObjectName),
        max: u64,
    ) -> Result<()> {
        let source = self
            .filled(&NameRequest(wire(from.as_bytes())).encode())
            .await?;
        let request = Request {
            size: max,
            ..Request::new(Operation::Copy, wire(to.as_bytes()))
        };
        self.change_blocks(volume, request, Some(&source)).await
    }

    /// Makes part of a data object zero, durable when it returns.
    pub(crate) async fn zero_object(
        &self,
        volume: &Volume,
        object: &ObjectName,
        (offset, len): (u64, u64),
    ) -> Result<()> {
        let request = Request {
            offset,
            size: len,
            ..Request::new(Operation::Zeroes, wire(object.as_bytes()))
        };
        self.change_blocks(volume, request, None).await
    }

    /// Removes an object of a map, durably, and under the lock of the header `locked`; that there
    /// is none is success.
    pub(crate) async fn delete_map_object(
        &self,
        object: &ObjectName,
        locked: Option<&HeaderName>,
    ) -> Result<()> {
        let request = Request {
            flags: locked.map_or(0, |_| flags::UNDER_LOCK),
            tag: locked.map_or(0, |header| volume_tag(&wire(header.as_bytes()))),
            ..Request::new(Operation::Delete, wire(object.as_bytes()))
        };
        missing_is_gone(self.ask(Side::Maps, request, None).await.map(drop))
    }

    /// Removes a data object; that there is none is success (B1). Durable after a sync of the
    /// volume's tag.
    pub(crate) async fn delete_block(&self, volume: &Volume, object: &ObjectName) -> Result<()> {
        let request = Request {
            flags: flags::VOLATILE,
            ..Request::new(Operation::Delete, wire(object.as_bytes()))
        };
        missing_is_gone(self.change_blocks(volume, request, None).await)
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
}

fn missing_is_gone(asked: Result<()>) -> Result<()> {
    match asked {
        Err(Errno::NOENT) => Ok(()),
        asked => asked,
    }
}
