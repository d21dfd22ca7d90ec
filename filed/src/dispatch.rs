//! Which task does what: every operation that is not hot, and what is refused before it starts.

use crate::core::Core;
use crate::data::WriteHow;
use crate::fs::Answer;
use crate::layout::LEGACY_PREFIX;
use crate::locks::Locks;
use driver::{Buf, Errno, Name, Op, Reply};
use std::rc::Rc;

/// The longest read, write or hash, in bytes.
pub(crate) const MAX_IO: usize = 64 << 20;

impl Core {
    pub(crate) async fn execute(self: Rc<Self>, op: Op) -> (Answer<Reply>, Option<Buf>) {
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
            Op::Migrate { cursor, max, look } => self.migrate(cursor, max, look).await,
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
            cache.forget(|object| is_of(object, &name));
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

/// Whether an object is of a volume: its name begins with the volume's, behind the prefix of the old
/// layout or without it.
fn is_of(object: &Name, volume: &Name) -> bool {
    let rest = object.strip_prefix(LEGACY_PREFIX).unwrap_or(object);
    rest.starts_with(volume) || object.starts_with(volume)
}

/// No range passes the largest offset of a file.
pub(crate) fn check_range(op: &Op) -> Answer<()> {
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
