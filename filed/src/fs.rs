//! Single system calls as futures. (Unsafe lives here.)
//!
//! The rule that makes it sound: whatever a submission points to (a path, a buffer, a statx record)
//! lies on the heap behind the keeper that is given to the ring with it, and so does the open file,
//! so that no descriptor is closed and used again under an operation.

use crate::object::Object;
use driver::{Buf, Errno};
use reactor::{Offload, Ring, opcode, squeue, types};
use std::ffi::{CStr, CString};
use std::future::poll_fn;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

/// New files are 0666 and new directories 0777, under the umask (`spec/protocol.md` section 2).
const FILE_MODE: u32 = 0o666;
pub(crate) const DIR_MODE: u32 = 0o777;

pub(crate) type Answer<T> = Result<T, Errno>;

/// A directory and the means to work in it.
pub(crate) struct Fs {
    pub(crate) ring: Ring,
    pub(crate) offload: Offload,
    pub(crate) root: Arc<OwnedFd>,
    /// What O_DIRECT transfers are multiples of; 1 for buffered I/O.
    pub(crate) block: u64,
}

/// A range of a file and of a buffer.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    /// Where in the file.
    pub(crate) offset: u64,
    /// Where in the buffer.
    pub(crate) at: usize,
    pub(crate) len: usize,
}

impl Fs {
    /// Opens a file with the flags that objects are opened with, and `flags`.
    pub(crate) async fn open(&self, path: CString, flags: i32) -> Answer<OwnedFd> {
        let direct = if self.block > 1 { libc::O_DIRECT } else { 0 };
        let flags = flags | direct | libc::O_RDWR | libc::O_NOFOLLOW;
        self.open_raw(path, flags).await
    }

    async fn open_raw(&self, path: CString, flags: i32) -> Answer<OwnedFd> {
        let open = |root: types::Fd, path: *const libc::c_char| {
            opcode::OpenAt::new(root, path)
                .flags(flags | libc::O_CLOEXEC)
                .mode(FILE_MODE)
                .build()
        };
        let fd = self.on_path(path, open).await?;
        // SAFETY: the kernel answered this open with a new descriptor, which nobody else knows.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Makes a directory; false when it is there already.
    pub(crate) async fn make_dir(&self, path: CString) -> Answer<bool> {
        let make = |root, path| opcode::MkDirAt::new(root, path).mode(DIR_MODE).build();
        match self.on_path(path, make).await {
            Ok(_) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    pub(crate) async fn unlink(&self, path: CString) -> Answer<()> {
        let unlink = |root, path| opcode::UnlinkAt::new(root, path).build();
        self.on_path(path, unlink).await.map(drop)
    }

    pub(crate) async fn link(&self, old: CString, new: CString) -> Answer<()> {
        let root = types::Fd(self.root.as_raw_fd());
        let link = opcode::LinkAt::new(root, old.as_ptr(), root, new.as_ptr()).build();
        let keep = (self.root.clone(), old, new);
        // SAFETY: both paths are on the heap of the CStrings in `keep`.
        let (result, _) = unsafe { self.ring.op(link, keep) }.await;
        check(result).map(drop)
    }

    /// Gives a nameless file a name.
    pub(crate) async fn name(&self, object: &Rc<Object>, path: CString) -> Answer<()> {
        let root = types::Fd(self.root.as_raw_fd());
        let own = format!("/proc/self/fd/{}", object.file.as_raw_fd());
        let own = CString::new(own).expect("no NUL in a number");
        let link = opcode::LinkAt::new(root, own.as_ptr(), root, path.as_ptr())
            .flags(libc::AT_SYMLINK_FOLLOW)
            .build();
        let keep = (self.root.clone(), own, path, object.clone());
        // SAFETY: both paths are on the heap of the CStrings in `keep`.
        let (result, _) = unsafe { self.ring.op(link, keep) }.await;
        check(result).map(drop)
    }

    /// A file without a name, gone with the process; `None` where the filesystem has none.
    pub(crate) async fn nameless(&self) -> Answer<Option<OwnedFd>> {
        match self.open(c".".to_owned(), libc::O_TMPFILE).await {
            Ok(file) => Ok(Some(file)),
            // The last is said by kernels that know no such files.
            Err(Errno(libc::EOPNOTSUPP | libc::EINVAL | libc::EISDIR)) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Makes a directory's entries durable.
    pub(crate) async fn sync_dir(&self, path: CString) -> Answer<()> {
        let dir = self
            .open_raw(path, libc::O_RDONLY | libc::O_DIRECTORY)
            .await?;
        let fd = types::Fd(dir.as_raw_fd());
        let sync = opcode::Fsync::new(fd).build();
        // SAFETY: no memory but the descriptor, which `keep` holds.
        let (result, _) = unsafe { self.ring.op(sync, dir) }.await;
        check(result).map(drop)
    }

    /// Starts making an object's content and size durable; await the future for the end.
    pub(crate) fn sync(&self, object: &Rc<Object>) -> impl Future<Output = Answer<()>> + use<> {
        let sync = opcode::Fsync::new(object.fd()).build();
        // SAFETY: no memory but the descriptor, which the object in `keep` holds.
        let started = unsafe { self.ring.op(sync, object.clone()) };
        async move { check(started.await.0).map(drop) }
    }

    /// Everything of this filesystem.
    pub(crate) async fn sync_all(&self) -> Answer<()> {
        let root = self.root.clone();
        let sync = move || nix::unistd::syncfs(&*root);
        self.offload.run(sync).await.map_err(errno)
    }

    pub(crate) async fn size(&self, object: &Rc<Object>) -> Answer<u64> {
        let mut record: Box<libc::statx> =
            // SAFETY: statx is plain numbers, for which zero bytes are a value.
            Box::new(unsafe { std::mem::zeroed() });
        let out = (&raw mut *record).cast::<types::statx>();
        let statx = opcode::Statx::new(object.fd(), c"".as_ptr(), out)
            .flags(libc::AT_EMPTY_PATH)
            .mask(libc::STATX_SIZE)
            .build();
        let keep = (record, object.clone());
        // SAFETY: the record is the box in `keep`; the empty path is static.
        let (result, (record, _)) = unsafe { self.ring.op(statx, keep) }.await;
        check(result).map(|_| record.stx_size)
    }

    pub(crate) async fn truncate(&self, object: &Rc<Object>, size: u64) -> Answer<()> {
        let file = object.file.try_clone()?;
        let size = i64::try_from(size).map_err(|_| Errno::FBIG)?;
        let truncate = move || nix::unistd::ftruncate(&file, size);
        self.offload.run(truncate).await.map_err(errno)
    }

    /// Gives the storage of a range back; it reads as zeros, and the size stays.
    pub(crate) async fn punch(&self, object: &Rc<Object>, offset: u64, len: u64) -> Answer<()> {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let punch = opcode::Fallocate::new(object.fd(), len)
            .offset(offset)
            .mode(mode)
            .build();
        // SAFETY: no memory but the descriptor, which the object in `keep` holds.
        let (result, _) = unsafe { self.ring.op(punch, object.clone()) }.await;
        check(result).map(drop)
    }

    /// Reads a piece, going on after short reads; less than all of it only at the end of the file.
    pub(crate) async fn read(
        &self,
        object: &Rc<Object>,
        mut buf: Buf,
        piece: Piece,
    ) -> (Answer<usize>, Buf) {
        let mut done = 0;
        while done < piece.len {
            let (at, left) = (piece.at + done, piece.len - done);
            assert!(at + left <= buf.len(), "a piece lies in its buffer");
            // SAFETY: `at` is within the buffer (asserted), so the pointer stays inside it.
            let pointer = unsafe { buf.ptr().add(at) };
            let read = opcode::Read::new(object.fd(), pointer, clamp(left))
                .offset(piece.offset + done as u64)
                .build();
            // SAFETY: the memory is the buffer's, which is in `keep` with the open file.
            let (result, (back, _)) = unsafe { self.ring.op(read, (buf, object.clone())) }.await;
            buf = back;
            match check(result) {
                Err(errno) if is_passing(errno) => {}
                Err(errno) => return (Err(errno), buf),
                Ok(0) => break,
                Ok(more) => done += more as usize,
            }
            // With O_DIRECT a read ends inside a block only at the end of the file.
            if !(done as u64).is_multiple_of(self.block) {
                break;
            }
        }
        (Ok(done), buf)
    }

    /// Writes a piece, going on after short writes.
    pub(crate) async fn write(
        &self,
        object: &Rc<Object>,
        mut buf: Buf,
        piece: Piece,
        durable: bool,
    ) -> (Answer<()>, Buf) {
        let mut done = 0;
        while done < piece.len {
            let (at, left) = (piece.at + done, piece.len - done);
            assert!(at + left <= buf.len(), "a piece lies in its buffer");
            // SAFETY: `at` is within the buffer (asserted), so the pointer stays inside it.
            let pointer = unsafe { buf.ptr().add(at) };
            let write = write_entry(object, pointer, clamp(left), durable)
                .offset(piece.offset + done as u64)
                .build();
            // SAFETY: the memory is the buffer's, which is in `keep` with the open file.
            let (result, (back, _)) = unsafe { self.ring.op(write, (buf, object.clone())) }.await;
            buf = back;
            match check(result) {
                Err(errno) if is_passing(errno) => {}
                Err(errno) => return (Err(errno), buf),
                Ok(0) => return (Err(Errno::IO), buf),
                Ok(more) => done += more as usize,
            }
        }
        (Ok(()), buf)
    }

    async fn on_path(
        &self,
        path: CString,
        make: impl Fn(types::Fd, *const libc::c_char) -> squeue::Entry,
    ) -> Answer<i32> {
        let mut keep = (self.root.clone(), path);
        loop {
            let entry = make(types::Fd(keep.0.as_raw_fd()), keep.1.as_ptr());
            // SAFETY: the path is on the heap of the CString in `keep`, beside the open root.
            let (result, back) = unsafe { self.ring.op(entry, keep) }.await;
            match check(result) {
                Err(errno) if is_passing(errno) => keep = back,
                answer => return answer,
            }
        }
    }
}

/// Awaits all of them, which go on together; results in their order.
pub(crate) async fn all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(|one| Some(Box::pin(one))).collect();
    let mut results: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (slot, result) in running.iter_mut().zip(&mut results) {
            if let Some(future) = slot
                && let Poll::Ready(output) = future.as_mut().poll(context)
            {
                *result = Some(output);
                *slot = None;
            }
        }
        match running.iter().all(Option::is_none) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    results.into_iter().flatten().collect()
}

/// A write, still without its offset.
pub(crate) fn write_entry(
    object: &Object,
    pointer: *const u8,
    len: u32,
    durable: bool,
) -> opcode::Write {
    let flags = if durable { libc::RWF_DSYNC } else { 0 };
    opcode::Write::new(object.fd(), pointer, len).rw_flags(flags)
}

/// One system call moves at most this, rounded down to what O_DIRECT can go on from.
pub(crate) fn clamp(len: usize) -> u32 {
    len.min(1 << 30) as u32
}

pub(crate) fn check(result: i32) -> Answer<i32> {
    if result < 0 {
        return Err(Errno::from_result(result));
    }
    Ok(result)
}

/// Whether doing the same again is all there is to do.
pub(crate) fn is_passing(errno: Errno) -> bool {
    [libc::EINTR, libc::EAGAIN].contains(&errno.0)
}

pub(crate) fn errno(error: nix::Error) -> Errno {
    Errno(error as i32)
}

/// A file without a name in `dir`, gone when it is closed; `None` where there is none.
fn nameless(dir: &OwnedFd, flags: i32) -> Option<OwnedFd> {
    let path: &CStr = c".";
    let flags = flags | libc::O_TMPFILE | libc::O_RDWR | libc::O_CLOEXEC;
    // SAFETY: the path is a static C string.
    let fd = unsafe { libc::openat(dir.as_raw_fd(), path.as_ptr(), flags, FILE_MODE) };
    // SAFETY: the kernel just made this descriptor for us.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A nameless file with a byte in its page cache.
pub(crate) fn write_probe(dir: &OwnedFd) -> Option<OwnedFd> {
    let probe = nameless(dir, 0)?;
    nix::unistd::write(&probe, &[0]).ok().map(|_| probe)
}

/// What O_DIRECT transfers in `dir` must be multiples of, in bytes; `None` where there is none.
pub(crate) fn direct_block(dir: &OwnedFd) -> Option<u64> {
    let probe = nameless(dir, libc::O_DIRECT)?;
    // SAFETY: statx is plain numbers, for which zero bytes are a value.
    let mut record: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the path is a static C string and the record lives until after the call.
    let answer = unsafe {
        libc::statx(
            probe.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_DIOALIGN,
            &raw mut record,
        )
    };
    let known = answer == 0 && record.stx_mask & libc::STATX_DIOALIGN != 0;
    let aligned = if known {
        record.stx_dio_offset_align
    } else {
        0
    };
    Some(u64::from(aligned.max(512)))
}
