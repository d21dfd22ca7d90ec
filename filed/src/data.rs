//! Reads and writes that are not hot: the first of an object, unaligned ones, fresh ones.
//!
//! With O_DIRECT whole blocks are moved: an unaligned write reads the blocks at its edges, changes
//! them and writes all of them back, while it holds these blocks against every other writer of
//! the object. Files become multiples of the block, padded with zeros, as the original's do.

use crate::core::{Core, Missing, WHOLE};
use crate::fs::{Answer, Piece};
use crate::object::Object;
use driver::{Buf, Errno, Name, Reply, Tag};
use std::rc::Rc;

/// A write, without its memory.
#[derive(Clone, Copy)]
pub(crate) struct WriteHow {
    pub(crate) tag: Tag,
    pub(crate) fresh: bool,
    pub(crate) durable: bool,
}

impl Core {
    pub(crate) async fn read(
        self: Rc<Self>,
        name: Name,
        offset: u64,
        buf: Buf,
    ) -> (Answer<Reply>, Buf) {
        let object = match self.find(&name).await {
            Ok(object) => object,
            Err(errno) => return (Err(errno), buf),
        };
        let (answer, buf) = self.read_from(&object, offset, buf).await;
        let reply = answer.map(|()| Reply::bytes(buf.len() as u64));
        (reply, buf)
    }

    /// Fills `buf`; past the end of the file with zeros.
    pub(crate) async fn read_from(
        &self,
        object: &Rc<Object>,
        offset: u64,
        buf: Buf,
    ) -> (Answer<()>, Buf) {
        let len = buf.len();
        if self.is_aligned(offset, &buf) {
            let piece = Piece { offset, at: 0, len };
            let (answer, buf) = self.fs.read(object, buf, piece).await;
            let zeros = answer.map(|got| buf.zero(got..len));
            return (zeros, buf);
        }
        let blocks = self.blocks(offset..offset + len as u64);
        let bounce = Buf::new((blocks.end - blocks.start) as usize);
        let piece = Piece {
            offset: blocks.start,
            at: 0,
            len: bounce.len(),
        };
        // The bounce buffer is new, so what the read leaves out is zeros.
        let (answer, bounce) = self.fs.read(object, bounce, piece).await;
        bounce.copy_to((offset - blocks.start) as usize, &buf, 0, len);
        (answer.map(drop), buf)
    }

    pub(crate) async fn write(
        self: Rc<Self>,
        name: Name,
        offset: u64,
        buf: Buf,
        how: WriteHow,
    ) -> (Answer<Reply>, Buf) {
        let len = buf.len() as u64;
        let durable = self.must_be_durable(how.tag, how.durable);
        let range = if how.fresh {
            WHOLE
        } else {
            self.blocks(offset..offset + len)
        };
        let (object, taken) = match self.find_to_write(&name, Missing::Create, range).await {
            Ok(found) => found,
            Err(errno) => return (Err(errno), buf),
        };
        if how.fresh
            && let Err(errno) = self.empty(&object).await
        {
            return (Err(errno), buf);
        }
        let (answer, buf) = self.write_to(&object, offset, buf, durable).await;
        drop(taken);
        let settled = match answer {
            Ok(()) => self.settle(&object, how.tag, durable, len > 0).await,
            Err(errno) => {
                self.write_failed(errno, durable);
                Err(errno)
            }
        };
        (settled.map(|()| Reply::bytes(len)), buf)
    }

    /// Writes `buf`; the caller holds its blocks.
    pub(crate) async fn write_to(
        &self,
        object: &Rc<Object>,
        offset: u64,
        buf: Buf,
        durable: bool,
    ) -> (Answer<()>, Buf) {
        let len = buf.len();
        if self.is_aligned(offset, &buf) {
            let piece = Piece { offset, at: 0, len };
            return self.fs.write(object, buf, piece, durable).await;
        }
        let (edges, bounce) = self.bounce(object, offset, &buf).await;
        if let Err(errno) = edges {
            return (Err(errno), buf);
        }
        let piece = Piece {
            offset: self.blocks(offset..offset + 1).start,
            at: 0,
            len: bounce.len(),
        };
        let (answer, _) = self.fs.write(object, bounce, piece, durable).await;
        (answer, buf)
    }

    /// The blocks that a write touches, as they will be.
    async fn bounce(&self, object: &Rc<Object>, offset: u64, buf: &Buf) -> (Answer<()>, Buf) {
        let (block, len) = (self.fs.block as usize, buf.len() as u64);
        let blocks = self.blocks(offset..offset + len);
        let mut bounce = Buf::new((blocks.end - blocks.start) as usize);
        let last = bounce.len() - block;
        let mut edges = Vec::new();
        if offset != blocks.start || offset + len < blocks.start + block as u64 {
            edges.push(0);
        }
        if offset + len != blocks.end && last > 0 {
            edges.push(last);
        }
        for at in edges {
            let piece = Piece {
                offset: blocks.start + at as u64,
                at,
                len: block,
            };
            let (answer, back) = self.fs.read(object, bounce, piece).await;
            bounce = back;
            if let Err(errno) = answer {
                return (Err(errno), bounce);
            }
        }
        buf.copy_to(0, &bounce, (offset - blocks.start) as usize, buf.len());
        (Ok(()), bounce)
    }

    /// A leftover of a new object's name holds nothing any more.
    pub(crate) async fn empty(&self, object: &Rc<Object>) -> Answer<()> {
        if self.fs.size(object).await? > 0 {
            self.fs.truncate(object, 0).await?;
        }
        Ok(())
    }

    /// After a change that succeeded: makes it durable, or remembers that it is not. `synced` says
    /// that content and size are durable already if they have to be.
    pub(crate) async fn settle(
        &self,
        object: &Rc<Object>,
        tag: Tag,
        durable: bool,
        synced: bool,
    ) -> Answer<()> {
        if !durable {
            self.tags.dirty(tag, object);
            return Ok(());
        }
        self.sync_baseline().await?;
        if !synced {
            self.fs.sync(object).await?;
        }
        self.sync_entry(object.place.get()).await
    }

    pub(crate) fn write_failed(&self, errno: Errno, durable: bool) {
        if durable && errno == Errno::IO {
            self.tags.fail_unsynced(errno);
        }
    }

    /// Whether the kernel can move it without a copy of ours.
    pub(crate) fn is_aligned(&self, offset: u64, buf: &Buf) -> bool {
        let block = self.fs.block;
        (offset | buf.len() as u64 | buf.ptr() as u64).is_multiple_of(block) || buf.is_empty()
    }
}
