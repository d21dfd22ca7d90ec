//! Operations on the shape of an object: zeroes, truncate, copy, delete, info.
//!
//! With O_DIRECT, sizes are multiples of the block, and what lies between a size that was asked for
//! and the next multiple is zeros.

use crate::core::{Core, Missing, TRIES, WHOLE};
use crate::fs::{Answer, Piece, errno};
use crate::layout::Place;
use crate::moving::{Dirs, Move, RootDirs};
use crate::object::Object;
use driver::{Buf, Detail, Errno, Name, Reply, Tag};
use std::os::fd::AsRawFd;
use std::rc::Rc;

/// What a copy moves at once, in bytes.
const COPY_PIECE: u64 = 1 << 20;

/// Zeroes are written, not punched, up to the next multiple of this: filesystems zero what is less
/// than one of their blocks through the page cache.
const HOLE_BLOCK: u64 = 4096;

impl Core {
    pub(crate) async fn info(self: Rc<Self>, name: Name) -> Answer<Reply> {
        let object = self.find_current(&name).await?;
        // As the original did: who has asked finds it at its new place afterwards.
        self.await_move(&name).await;
        Ok(Detail::Size(self.fs.size(&object).await?).into())
    }

    /// The object, open; not one that another node has removed since it was opened here.
    async fn find_current(self: &Rc<Self>, name: &Name) -> Answer<Rc<Object>> {
        let object = self.find(name).await?;
        if Core::links(&object) != 0 {
            return Ok(object);
        }
        let held = self.hold_name(name).await;
        self.cache.borrow_mut().remove(name);
        self.find_held(&held).await
    }

    pub(crate) async fn zeroes(
        self: Rc<Self>,
        name: Name,
        offset: u64,
        len: u64,
        (tag, durable): (Tag, bool),
    ) -> Answer<Reply> {
        let reply = Reply::bytes(len);
        let wide = offset / HOLE_BLOCK * HOLE_BLOCK..(offset + len).next_multiple_of(HOLE_BLOCK);
        let found = self.find_to_write(&name, Missing::Refuse, wide).await;
        let (object, _taken) = match found {
            Err(Errno::NOENT) => return Ok(reply),
            found => found?,
        };
        let end = (offset + len).min(self.fs.size(&object).await?);
        if offset < end {
            self.clear(&object, offset, end).await?;
        }
        let durable = self.must_be_durable(tag, durable);
        self.settle(&object, tag, durable, false).await?;
        Ok(reply)
    }

    /// Zeroes a range inside the file: a hole, and written zeros at its edges.
    async fn clear(&self, object: &Rc<Object>, offset: u64, end: u64) -> Answer<()> {
        let hole = offset.next_multiple_of(HOLE_BLOCK)..end / HOLE_BLOCK * HOLE_BLOCK;
        if hole.start >= hole.end {
            return self.write_zeros(object, offset, end).await;
        }
        self.write_zeros(object, offset, hole.start).await?;
        let punched = self.fs.punch(object, hole.start, hole.end - hole.start);
        match punched.await {
            Err(Errno::NOTSUP) => self.write_zeros(object, hole.start, hole.end).await?,
            punched => punched?,
        }
        self.write_zeros(object, hole.end, end).await
    }

    async fn write_zeros(&self, object: &Rc<Object>, mut at: u64, end: u64) -> Answer<()> {
        let mut zeros = Buf::empty();
        while at < end {
            let len = (end - at).min(COPY_PIECE) as usize;
            if zeros.len() != len {
                zeros = Buf::new(len);
            }
            let (answer, back) = self.write_to(object, at, zeros, false).await;
            answer?;
            zeros = back;
            at += len as u64;
        }
        Ok(())
    }

    pub(crate) async fn set_size(
        self: Rc<Self>,
        name: Name,
        size: u64,
        fresh: bool,
        (tag, durable): (Tag, bool),
    ) -> Answer<Reply> {
        let missing = if fresh {
            Missing::Create
        } else {
            Missing::Refuse
        };
        let (object, _taken) = self.find_to_write(&name, missing, WHOLE).await?;
        let mut old = self.fs.size(&object).await?;
        if fresh && old > 0 {
            self.fs.truncate(&object, 0).await?;
            self.fs.sync(&object).await?;
            old = 0;
        }
        self.cut(&object, size, old).await?;
        let durable = self.must_be_durable(tag, durable);
        self.settle(&object, tag, durable, false).await?;
        Ok(Reply::default())
    }

    /// Gives an object of size `old` the size `new`, rounded up to a block.
    async fn cut(&self, object: &Rc<Object>, new: u64, old: u64) -> Answer<()> {
        let padded = new.next_multiple_of(self.fs.block);
        if new < old {
            self.write_zeros(object, new, padded.min(old)).await?;
        }
        if padded != old {
            self.fs.truncate(object, padded).await?;
        }
        Ok(())
    }

    pub(crate) async fn copy(
        self: Rc<Self>,
        (src, dst): (Name, Name),
        max: u64,
        (tag, durable): (Tag, bool),
    ) -> Answer<Reply> {
        let source = self.find(&src).await?;
        let (target, _taken) = self.find_to_write(&dst, Missing::Create, WHOLE).await?;
        let size = self.fs.size(&source).await?;
        let len = size.min(max);
        if src == dst {
            self.cut(&target, len, size).await?;
        } else {
            self.empty(&target).await?;
            self.copy_into(&source, &target, len, len == size).await?;
        }
        let durable = self.must_be_durable(tag, durable);
        self.settle(&target, tag, durable, false).await?;
        Ok(Reply::bytes(len))
    }

    /// Fills an empty file: by a reference to the same blocks, else inside the kernel, else by
    /// reading and writing. The kernel's own copy goes through the page cache, so it is no way for
    /// O_DIRECT.
    pub(crate) async fn copy_into(
        &self,
        source: &Rc<Object>,
        target: &Rc<Object>,
        len: u64,
        whole: bool,
    ) -> Answer<()> {
        if whole && self.reflink(source, target).await? {
            return Ok(());
        }
        if self.fs.block == 1 && self.copy_in_kernel(source, target, len).await? {
            return Ok(());
        }
        self.copy_by_hand(source, target, len).await
    }

    /// False where the filesystem cannot.
    async fn reflink(&self, source: &Rc<Object>, target: &Rc<Object>) -> Answer<bool> {
        let (from, to) = (source.file.try_clone()?, target.file.try_clone()?);
        let clone = move || {
            // SAFETY: FICLONE takes a descriptor as its argument, no pointer.
            let answer = unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE, from.as_raw_fd()) };
            nix::errno::Errno::result(answer)
        };
        match self.fs.offload.run(clone).await {
            Ok(_) => Ok(true),
            Err(error) => cannot(errno(error)),
        }
    }

    async fn copy_in_kernel(
        &self,
        source: &Rc<Object>,
        target: &Rc<Object>,
        len: u64,
    ) -> Answer<bool> {
        let (from, to) = (source.file.try_clone()?, target.file.try_clone()?);
        let copy = move || {
            let (mut at_from, mut at_to) = (0, 0);
            while (at_from as u64) < len {
                let left = (len - at_from as u64) as usize;
                let (from_at, to_at) = (Some(&mut at_from), Some(&mut at_to));
                if nix::fcntl::copy_file_range(&from, from_at, &to, to_at, left)? == 0 {
                    // The source has been cut meanwhile: what is not there any more is zeros.
                    break;
                }
            }
            nix::unistd::ftruncate(&to, len as i64)
        };
        match self.fs.offload.run(copy).await {
            Ok(()) => Ok(true),
            Err(error) => cannot(errno(error)),
        }
    }

    /// Pieces of nothing but zeros stay holes.
    pub(crate) async fn copy_by_hand(
        &self,
        source: &Rc<Object>,
        target: &Rc<Object>,
        len: u64,
    ) -> Answer<()> {
        let padded = len.next_multiple_of(self.fs.block);
        let mut buf = Buf::new(padded.min(COPY_PIECE) as usize);
        let mut offset = 0;
        while offset < padded {
            let want = (padded - offset).min(COPY_PIECE) as usize;
            let piece = Piece {
                offset,
                at: 0,
                len: want,
            };
            let (got, back) = self.fs.read(source, buf, piece).await;
            let got = (got? as u64).min(len - offset) as usize;
            buf = back;
            buf.zero(got..want);
            if buf.to_vec()[..want].iter().any(|byte| *byte != 0) {
                let (answer, back) = self.fs.write(target, buf, piece, false).await;
                answer?;
                buf = back;
            }
            offset += want as u64;
        }
        self.fs.truncate(target, padded).await
    }

    pub(crate) async fn delete(self: Rc<Self>, name: Name, durable: bool) -> Answer<Reply> {
        let held = self.hold_name(&name).await;
        for _ in 0..TRIES {
            let object = self.find_held(&held).await?;
            let _taken = object.take(WHOLE).await;
            let removed = self.remove_names(&object).await?;
            object.gone.set(true);
            self.cache.borrow_mut().remove(&name);
            // Another node has moved or replaced it since it was opened: then look again.
            if !removed.is_empty() {
                self.settle_removal(&removed, durable).await?;
                return Ok(Reply::default());
            }
        }
        Err(Errno::BUSY)
    }

    /// Removes every name of an object; the places that it had one in. The old place first: once
    /// that name is gone no node's move can make another (`moving`).
    async fn remove_names(&self, object: &Object) -> Answer<Vec<Place>> {
        let name = object.name;
        let Some(Move { from, to, .. }) = Move::of(&name) else {
            self.fs.unlink(object.place.get().path(&name)).await?;
            return Ok(vec![object.place.get()]);
        };
        let mut removed = Vec::new();
        for place in [from, to] {
            if self.leads_to(place, object).await? {
                match self.fs.unlink(place.path(&name)).await {
                    Ok(()) => removed.push(place),
                    Err(Errno::NOENT) => {}
                    Err(errno) => return Err(errno),
                }
            }
        }
        Ok(removed)
    }

    /// Whether the object's name in a place leads to this very file.
    async fn leads_to(&self, place: Place, object: &Object) -> Answer<bool> {
        let (path, dirs) = (place.path(&object.name), RootDirs(self.fs.root.clone()));
        let found = self.fs.offload.run(move || dirs.look(&path)).await?;
        let ours = nix::sys::stat::fstat(&object.file).map_err(errno)?;
        Ok(found.is_some_and(|at| (at.device, at.inode) == (ours.st_dev, ours.st_ino)))
    }

    async fn settle_removal(&self, removed: &[Place], durable: bool) -> Answer<()> {
        if !durable && !self.write_through {
            removed
                .iter()
                .for_each(|place| self.tags.removed_from(*place));
            return Ok(());
        }
        self.sync_baseline().await?;
        for place in removed {
            self.sync_place(*place).await?;
        }
        Ok(())
    }
}

/// Whether an error says that a way of copying does not exist here.
fn cannot(errno: Errno) -> Answer<bool> {
    match errno.0 {
        libc::EOPNOTSUPP
        | libc::EINVAL
        | libc::EXDEV
        | libc::ENOTTY
        | libc::ENOSYS
        | libc::EBADF
        | libc::ETXTBSY
        | libc::EPERM => Ok(false),
        _ => Err(errno),
    }
}
