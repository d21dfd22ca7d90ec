//! The driver: the hot path, and which task does everything else.
//!
//! Hot is a read or write of whole blocks, of an object whose descriptor is in the cache, that
//! nobody stands in the way of. It costs one lookup and one submission, allocates nothing, and its
//! state is a slot:
//!
//! ```text
//!   submit -> in flight -> completion -- all of it -> done
//!                ^             |
//!                +--- short ---+
//! ```
//!
//! Unsafe lives here: a slot owns the buffer and the open file of its submission, and is freed only
//! by the completion (or by `drop`, which waits for it).

use crate::cache::Cache;
use crate::config::{Config, OpenError};
use crate::core::Core;
use crate::data::WriteHow;
use crate::fs::{self, Answer, Fs, check, clamp, is_passing};
use crate::locks::Locks;
use crate::marker;
use crate::object::Object;
use crate::process::Registration;
use crate::tags::Tags;
use driver::{Buf, Capabilities, Done, Driver, Errno, Name, Op, OpId, Reply, Tag};
use reactor::{Handler, Reactor, opcode};
use std::cell::RefCell;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// The longest read, write or hash, in bytes.
const MAX_IO: usize = 64 << 20;

/// The driver over files.
pub struct Filed {
    core: Rc<Core>,
    handler: Handler,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    completions: Vec<(u64, i32, u32)>,
    in_flight: usize,
    id: String,
}

/// One hot operation in flight.
struct Slot {
    id: OpId,
    object: Rc<Object>,
    buf: Buf,
    offset: u64,
    done: usize,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Read,
    Write { tag: Tag, durable: bool },
}

impl Filed {
    /// Opens a directory, on the reactor of this thread.
    pub fn open(config: Config, reactor: &Reactor) -> Result<Filed, OpenError> {
        check_owner(&config.owner)?;
        let root = open_dir(&config.dir)?;
        if let Some(dir) = &config.lock_dir {
            open_dir(dir)?;
        }
        let entropy = &*reactor.env.entropy;
        let marker = marker::identify(&config.dir, config.expected_id.as_deref(), entropy)?;
        let block = block_size(&config, &root);
        let write_through = !syncs_whole(&root);
        let core = Core {
            cache: RefCell::new(Cache::new(config.fdcache)),
            tags: Tags::new(marker.is_new),
            locks: Arc::new(locks(&config, block)?),
            fs: Fs {
                ring: reactor.ring.clone(),
                offload: reactor.offload.clone(),
                root: Arc::new(root),
                block,
            },
            config,
            executor: reactor.executor.clone(),
            env: reactor.env.clone(),
            write_through,
            names: RefCell::default(),
            done: RefCell::default(),
        };
        Ok(Filed {
            core: Rc::new(core),
            handler: reactor.ring.handler(),
            slots: Vec::new(),
            free: Vec::new(),
            completions: Vec::new(),
            in_flight: 0,
            id: marker.id,
        })
    }

    /// The directory's id, to be given as [`Config::expected_id`] the next time.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Starts it hot if it can be, else gives it back.
    fn submit_hot(&mut self, id: OpId, op: Op) -> Option<Op> {
        let (name, offset, buf, kind) = match &op {
            Op::Read { name, offset, buf } => (name, *offset, buf, Kind::Read),
            Op::Write {
                name,
                offset,
                buf,
                tag,
                fresh: false,
                durable,
            } => {
                let durable = self.core.must_be_durable(*tag, *durable);
                (name, *offset, buf, Kind::Write { tag: *tag, durable })
            }
            _ => return Some(op),
        };
        if buf.is_empty() || !self.core.is_aligned(offset, buf) {
            return Some(op);
        }
        let Some(object) = self.core.cache.borrow().get(name).cloned() else {
            return Some(op);
        };
        if !self.may_be_hot(&object, offset, buf.len(), kind) {
            return Some(op);
        }
        let (Op::Read { buf, .. } | Op::Write { buf, .. }) = op else {
            unreachable!("matched above")
        };
        self.start(Slot {
            id,
            object,
            buf,
            offset,
            done: 0,
            kind,
        });
        None
    }

    /// Takes the range of a write.
    fn may_be_hot(&self, object: &Rc<Object>, offset: u64, len: usize, kind: Kind) -> bool {
        let Kind::Write { durable, .. } = kind else {
            return true;
        };
        let tags = &self.core.tags;
        let needs_more = durable && (!tags.has_baseline() || tags.has_new_entry(object.place));
        !needs_more && object.ranges.try_take(&(offset..offset + len as u64))
    }

    fn start(&mut self, slot: Slot) {
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[at] = Some(slot);
        self.push(at);
    }

    /// Submits what is left of a slot's operation.
    fn push(&mut self, at: usize) {
        let slot = self.slots[at].as_ref().expect("a slot in flight");
        let len = clamp(slot.buf.len() - slot.done);
        // SAFETY: `done` is at most the buffer's length, so the pointer stays inside it.
        let pointer = unsafe { slot.buf.ptr().add(slot.done) };
        let offset = slot.offset + slot.done as u64;
        let entry = match slot.kind {
            Kind::Read => opcode::Read::new(slot.object.fd(), pointer, len)
                .offset(offset)
                .build(),
            Kind::Write { durable, .. } => fs::write_entry(&slot.object, pointer, len, durable)
                .offset(offset)
                .build(),
        };
        // SAFETY: the slot owns the buffer and the open file, and stays until the completion.
        unsafe { self.handler.push(entry, at as u64) };
    }

    fn complete(&mut self, at: usize, result: i32) -> Option<Done> {
        let slot = self.slots[at].as_mut().expect("a completion has its slot");
        let answer = match check(result) {
            Err(errno) if is_passing(errno) => {
                self.push(at);
                return None;
            }
            Err(errno) => Err(errno),
            Ok(0) if matches!(slot.kind, Kind::Read) => Ok(()),
            Ok(0) => Err(Errno::IO),
            Ok(more) => {
                slot.done += more as usize;
                let ended = slot.done == slot.buf.len() || slot.is_at_end(self.core.fs.block);
                if !ended {
                    self.push(at);
                    return None;
                }
                Ok(())
            }
        };
        let slot = self.slots[at].take().expect("it was there");
        self.free.push(at);
        Some(self.finish(slot, answer))
    }

    fn finish(&mut self, slot: Slot, answer: Answer<()>) -> Done {
        let len = slot.buf.len();
        match slot.kind {
            Kind::Read => slot.buf.zero(slot.done..len),
            Kind::Write { tag, durable } => {
                let range = slot.range();
                slot.object.ranges.give_back(&range);
                match answer {
                    Ok(()) if !durable => self.core.tags.dirty(tag, &slot.object),
                    Err(errno) => self.core.write_failed(errno, durable),
                    Ok(()) => {}
                }
            }
        }
        Done {
            id: slot.id,
            result: answer.map(|()| Reply::bytes(len as u64)),
            buf: Some(slot.buf),
        }
    }

    fn spawn(&self, id: OpId, op: Op) {
        let core = self.core.clone();
        self.core.executor.spawn(async move {
            let (result, buf) = core.clone().execute(op).await;
            core.done.borrow_mut().push(Done { id, result, buf });
        });
    }
}

impl Slot {
    fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.buf.len() as u64
    }

    /// With O_DIRECT a read ends inside a block only at the end of the file.
    fn is_at_end(&self, block: u64) -> bool {
        matches!(self.kind, Kind::Read) && !(self.done as u64).is_multiple_of(block)
    }
}

impl Driver for Filed {
    fn submit(&mut self, id: OpId, op: Op) {
        self.in_flight += 1;
        if let Err(errno) = check_range(&op) {
            let buf = match op {
                Op::Read { buf, .. } | Op::Write { buf, .. } => Some(buf),
                _ => None,
            };
            let result = Err(errno);
            self.core.done.borrow_mut().push(Done { id, result, buf });
        } else if let Some(op) = self.submit_hot(id, op) {
            self.spawn(id, op);
        }
    }

    fn poll(&mut self, done: &mut Vec<Done>) {
        let before = done.len();
        let mut completions = std::mem::take(&mut self.completions);
        self.handler.take(&mut completions);
        for (at, result, _) in completions.drain(..) {
            done.extend(self.complete(at as usize, result));
        }
        self.completions = completions;
        done.append(&mut self.core.done.borrow_mut());
        self.in_flight -= done.len() - before;
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: "files",
            alignment: self.core.fs.block as usize,
            size_multiple: self.core.fs.block,
            max_io: MAX_IO,
            write_through: self.core.write_through,
            fences: false,
        }
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn lock_is_held(&mut self, volume: &Name) -> bool {
        self.core.locks.is_held(volume)
    }
}

impl Drop for Filed {
    /// The kernel still writes to the buffers of what is in flight.
    fn drop(&mut self) {
        let mut done = Vec::new();
        while self.slots.iter().any(Option::is_some) {
            self.poll(&mut done);
            if let Err(error) = self.handler.ring().wait(None) {
                panic!("io_uring cannot be waited for: {error}");
            }
        }
    }
}

impl Core {
    async fn execute(self: Rc<Self>, op: Op) -> (Answer<Reply>, Option<Buf>) {
        let with_buf = |(answer, buf)| (answer, Some(buf));
        let answer = match op {
            Op::Read { name, offset, buf } => {
                return with_buf(self.read(name, offset, buf).await);
            }
            Op::Write {
                name,
                offset,
                buf,
                tag,
                fresh,
                durable,
            } => {
                let how = WriteHow {
                    tag,
                    fresh,
                    durable,
                };
                return with_buf(self.write(name, offset, buf, how).await);
            }
            Op::Zeroes {
                name,
                offset,
                len,
                tag,
                durable,
            } => self.zeroes(name, offset, len, (tag, durable)).await,
            Op::Truncate {
                name,
                size,
                tag,
                fresh,
                durable,
            } => self.set_size(name, size, fresh, (tag, durable)).await,
            Op::Copy {
                src,
                dst,
                max,
                tag,
                durable,
            } => self.copy((*src, dst), max, (tag, durable)).await,
            Op::Delete { name, durable } => self.delete(name, durable).await,
            Op::Info { name } => self.info(name).await,
            Op::Hash {
                name,
                offset,
                size,
                algorithm,
            } => self.hash(name, (offset, size), algorithm).await,
            Op::List { cursor, max } => self.list(cursor, max).await,
            Op::Acquire { name } => self.acquire(name).await,
            Op::Release { name, force } => {
                self.with_lock(name, move |locks| locks.release(&name, force))
                    .await
            }
            Op::LockInfo { name } => self.with_lock(name, move |locks| locks.info(&name)).await,
            Op::Sync { tag } => self.sync_tag(tag).await.map(|()| Reply::default()),
            Op::Forget { tag } => {
                self.tags.forget(tag);
                Ok(Reply::default())
            }
        };
        (answer, None)
    }

    /// Another node may have replaced a volume's objects while it held the lock.
    async fn acquire(self: &Rc<Self>, name: Name) -> Answer<Reply> {
        let held_before = self.locks.is_held(&name);
        let answer = self
            .with_lock(name, move |locks| locks.acquire(&name))
            .await;
        if answer.is_ok() && !held_before {
            let mut cache = self.cache.borrow_mut();
            cache.forget(|object| object.starts_with(&name));
        }
        answer
    }

    /// Operations on one lock come one after the other; none of them waits for a holder (B13).
    async fn with_lock(
        self: &Rc<Self>,
        name: Name,
        job: impl FnOnce(&Locks) -> Answer<Reply> + Send + 'static,
    ) -> Answer<Reply> {
        let file = name.with_suffix("_lock").map_err(|_| Errno::NAMETOOLONG)?;
        let _turn = self.hold_name(&file).await;
        let locks = self.locks.clone();
        self.fs.offload.run(move || job(&locks)).await
    }
}

/// No range passes the largest offset of a file.
fn check_range(op: &Op) -> Answer<()> {
    let (offset, len) = match op {
        Op::Read { offset, buf, .. } | Op::Write { offset, buf, .. } => (*offset, buf.len() as u64),
        Op::Zeroes { offset, len, .. } => (*offset, *len),
        Op::Truncate { size, .. } => (*size, 0),
        Op::Hash { offset, size, .. } if *size > MAX_IO as u64 || *offset > i64::MAX as u64 => {
            return Err(Errno::INVAL);
        }
        _ => return Ok(()),
    };
    // Room for rounding up to a block.
    let end = offset
        .checked_add(len)
        .filter(|end| *end <= i64::MAX as u64 - (1 << 20));
    end.map(drop).ok_or(Errno::INVAL)
}

fn check_owner(owner: &str) -> Result<(), OpenError> {
    let fits = (1..=100).contains(&owner.len()) && !owner.contains(['/', '\0']);
    fits.then_some(()).ok_or(OpenError::Owner)
}

fn open_dir(dir: &Path) -> Result<OwnedFd, OpenError> {
    let opened = std::fs::File::open(dir).and_then(|file| {
        if !file.metadata()?.is_dir() {
            return Err(std::io::ErrorKind::NotADirectory.into());
        }
        Ok(OwnedFd::from(file))
    });
    let dir = dir.to_owned();
    opened.map_err(|source| OpenError::Dir { dir, source })
}

fn block_size(config: &Config, root: &OwnedFd) -> u64 {
    if !config.direct {
        return 1;
    }
    fs::direct_block(root).unwrap_or_else(|| {
        let dir = config.dir.display();
        tracing::warn!(%dir, "this filesystem has no O_DIRECT; going through the page cache");
        1
    })
}

fn locks(config: &Config, block: u64) -> Result<Locks, OpenError> {
    let dir = config.lock_dir.as_ref().unwrap_or(&config.dir).clone();
    let registration = Registration::new().map_err(|source| {
        let dir = "/proc".into();
        OpenError::Dir { dir, source }
    })?;
    Ok(Locks {
        dir,
        flat: config.lock_dir.is_some(),
        owner: config.owner.as_bytes().to_vec(),
        padded: block > 1,
        registration,
        held: Default::default(),
    })
}

/// Filesystems whose `syncfs` makes everything durable; a FUSE mount's, for one, does not.
fn syncs_whole(root: &OwnedFd) -> bool {
    const BCACHEFS: i64 = 0xca45_1a4e;
    const ZFS: i64 = 0x2fc1_2fc1;
    let known = [
        libc::EXT4_SUPER_MAGIC,
        libc::XFS_SUPER_MAGIC,
        libc::BTRFS_SUPER_MAGIC,
        libc::TMPFS_MAGIC,
        libc::F2FS_SUPER_MAGIC,
        libc::NFS_SUPER_MAGIC,
        libc::OVERLAYFS_SUPER_MAGIC,
        BCACHEFS,
        ZFS,
    ];
    nix::sys::statfs::fstatfs(root).is_ok_and(|stat| known.contains(&stat.filesystem_type().0))
}
