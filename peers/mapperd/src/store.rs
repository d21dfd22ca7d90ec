//! Objects at the blockers: one function for each thing that is done with them.
//!
//! What always holds: an answer that serves less than was asked is EIO (B5); what is written to a
//! map is refused once the volume's lock is broken.

use crate::ask::Side;
use crate::errno::{Errno, Result};
use crate::job::Job;
use crate::naming::wire;
use crate::volume::Volume;
use mapfile::{HeaderName, ObjectName};
use runtime::volume_tag;
use xseg::protocol::{NameRequest, Operation, flags};
use xseg::{Answer, Name, Request};

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
        self.ask(Side::Blocks, request, None).await.map(|_| ())
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
        self.ask(Side::Blocks, request, Some(&source))
            .await
            .map(|_| ())
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
        self.ask(Side::Blocks, request, None).await.map(|_| ())
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
        missing_is_gone(self.ask(Side::Blocks, request, None).await)
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

fn missing_is_gone(asked: Result<Answer>) -> Result<()> {
    match asked {
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}
