//! HASH: the name of a content, and that there is an object of it (`store`).
//!
//! What costs time is hashing, on as many threads as there are processors; everything else is made
//! so that they have always something to hash: memory is used again, and nothing is copied.

use crate::core::Core;
use crate::fs::{Answer, Piece};
use crate::object::Object;
use driver::{Buf, Detail, HashAlgorithm, Name, Reply, strip_zeros};
use reactor::{Executor, Offload, Ring};
use std::cell::RefCell;
use std::io;
use std::rc::Rc;

/// Threads that do nothing but hash, and memory for what they hash.
pub(crate) struct Hashers {
    threads: Offload,
    /// Idle buffers, of a block each.
    buffers: RefCell<Vec<Buf>>,
    buffers_max: usize,
}

/// Buffers that are kept at least, once so many were needed.
const BUFFERS_MIN: usize = 8;
/// Bytes of the buffers that are kept: a block of the usual size.
const BUFFER: usize = 4 << 20;

impl Hashers {
    /// A thread for each processor, none of which runs yet. They are not those that wait for disks,
    /// so that nobody who needs one of those waits for hashes.
    pub(crate) fn new(ring: &Ring, executor: &Executor) -> io::Result<Hashers> {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Hashers {
            threads: Offload::new(count, ring, executor)?,
            buffers: RefCell::default(),
            // While some are hashed others are read and stored: as many as mapperd asks for.
            buffers_max: BUFFERS_MIN.max(2 * count),
        })
    }

    /// Memory for `len` bytes or more, aligned; what is in it means nothing.
    fn buffer(&self, len: usize) -> Buf {
        match len <= BUFFER {
            true => self
                .buffers
                .borrow_mut()
                .pop()
                .unwrap_or_else(|| Buf::new(BUFFER)),
            false => Buf::new(len.next_multiple_of(Buf::ALIGNMENT)),
        }
    }

    fn give_back(&self, buf: Buf) {
        let mut buffers = self.buffers.borrow_mut();
        if buf.len() == BUFFER && buffers.len() < self.buffers_max {
            buffers.push(buf);
        }
    }
}

impl Core {
    pub(crate) async fn hash(
        self: Rc<Self>,
        name: Name,
        (offset, size): (u64, u64),
        algorithm: HashAlgorithm,
    ) -> Answer<Reply> {
        let object = self.find(&name).await?;
        let (buf, len) = self.content_of(&object, offset, size as usize).await?;
        let job = move || {
            let mut buf = buf;
            let bytes = buf.private_bytes().expect("made here");
            let content = strip_zeros(&bytes[..len]);
            (algorithm.digest(content), content.len(), buf)
        };
        let (digest, len, buf) = self.hashers.threads.run(job).await;
        let (stored, buf) = self.store(&digest, buf, len).await;
        self.hashers.give_back(buf);
        stored?;
        Ok(Reply {
            serviced: size,
            detail: Detail::Hash(digest),
        })
    }

    /// The object's bytes from `offset` on, at most `size`, at the start of a buffer; how many.
    async fn content_of(
        &self,
        object: &Rc<Object>,
        offset: u64,
        size: usize,
    ) -> Answer<(Buf, usize)> {
        if !offset.is_multiple_of(self.fs.block) {
            let (read, buf) = self.read_from(object, offset, Buf::new(size)).await;
            return read.map(|()| (buf, size));
        }
        let len = size.next_multiple_of(self.fs.block as usize);
        let piece = Piece { offset, at: 0, len };
        let (read, buf) = self.fs.read(object, self.hashers.buffer(len), piece).await;
        Ok((buf, read?.min(size)))
    }
}
