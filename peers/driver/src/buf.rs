//! Memory that an operation owns until its completion hands it back. (Unsafe lives here.)
//!
//! Two kinds: a private allocation, aligned for O_DIRECT; or a piece of the shared segment, which
//! other processes can write at any moment. The rules that make it sound:
//!
//! 1. `ptr..ptr + len` is readable and writable as long as `keep` lives, and `Buf` owns `keep`.
//! 2. No `&[u8]` to shared memory is ever made: bytes are copied in or out, once, by raw pointer,
//!    and what was copied out is judged in private memory.
//! 3. A private allocation is reached by nobody but its `Buf` and the kernel operations that its
//!    owner started; whoever gives the pointer to the kernel keeps the `Buf` until completion, and
//!    makes no reference to it meanwhile.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::any::Any;
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// Memory of one operation: `len` bytes at `ptr`.
pub struct Buf {
    ptr: NonNull<u8>,
    len: usize,
    keep: Keep,
}

enum Keep {
    Nothing,
    Private(Layout),
    Shared {
        _segment: Arc<dyn Any + Send + Sync>,
    },
}

// SAFETY: rule 3 for private memory (one owner, so it may move to another thread); shared memory is
// only touched by raw copies (rule 2) and kept by an Arc that is Send and Sync itself.
unsafe impl Send for Buf {}

impl Buf {
    /// How private memory is aligned, in bytes: enough for O_DIRECT on any disk.
    pub const ALIGNMENT: usize = 4096;

    /// No memory at all.
    pub const fn empty() -> Buf {
        Buf {
            ptr: NonNull::dangling(),
            len: 0,
            keep: Keep::Nothing,
        }
    }

    /// Private zeroed memory of `len` bytes, aligned to [`Self::ALIGNMENT`].
    pub fn new(len: usize) -> Buf {
        if len == 0 {
            return Buf::empty();
        }
        let layout = Layout::from_size_align(len, Self::ALIGNMENT).expect("a length below 2^63");
        // SAFETY: the layout's size is not zero (checked above).
        let raw = unsafe { alloc_zeroed(layout) };
        let ptr = NonNull::new(raw).unwrap_or_else(|| handle_alloc_error(layout));
        Buf {
            ptr,
            len,
            keep: Keep::Private(layout),
        }
    }

    /// Private memory that holds a copy of `bytes`.
    pub fn from_bytes(bytes: &[u8]) -> Buf {
        let buf = Buf::new(bytes.len());
        buf.copy_in(0, bytes);
        buf
    }

    /// A piece of shared memory.
    ///
    /// # Safety
    /// `ptr..ptr + len` must stay readable and writable as long as `keep` (or a clone of it) lives,
    /// and nobody in this process may hold a reference to it.
    pub unsafe fn from_shared(
        ptr: NonNull<u8>,
        len: usize,
        keep: Arc<dyn Any + Send + Sync>,
    ) -> Buf {
        Buf {
            ptr,
            len,
            keep: Keep::Shared { _segment: keep },
        }
    }

    /// Where it begins; for the kernel, or for raw copies.
    pub fn ptr(&self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no memory.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies `from` to `at`. Panics when it does not fit.
    pub fn copy_in(&self, at: usize, from: &[u8]) {
        self.check(at, from.len());
        // SAFETY: in bounds (checked), writable (rule 1); `from` is a reference, so it is no part
        // of this memory, to which no reference exists (rules 2 and 3).
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), self.ptr().add(at), from.len()) }
    }

    /// Copies what is at `at` to `to`. Panics when there is less.
    pub fn copy_out(&self, at: usize, to: &mut [u8]) {
        self.check(at, to.len());
        // SAFETY: in bounds (checked), readable (rule 1); `to` is a unique reference, so it is no
        // part of this memory (rules 2 and 3).
        unsafe { ptr::copy_nonoverlapping(self.ptr().add(at), to.as_mut_ptr(), to.len()) }
    }

    /// Copies `len` bytes at `at` to `to_at` of `to`. Panics when either is too short.
    pub fn copy_to(&self, at: usize, to: &Buf, to_at: usize, len: usize) {
        self.check(at, len);
        to.check(to_at, len);
        // SAFETY: both in bounds (checked) and valid (rule 1); `copy` allows the two to overlap,
        // as two pieces of one segment may.
        unsafe { ptr::copy(self.ptr().add(at), to.ptr().add(to_at), len) }
    }

    /// Makes `range` zero. Panics when it does not fit.
    pub fn zero(&self, range: std::ops::Range<usize>) {
        let len = range.end.saturating_sub(range.start);
        self.check(range.start, len);
        // SAFETY: in bounds (checked) and writable (rule 1).
        unsafe { ptr::write_bytes(self.ptr().add(range.start), 0, len) }
    }

    /// A private copy of everything.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut copy = vec![0; self.len];
        self.copy_out(0, &mut copy);
        copy
    }

    /// The bytes of private memory, without a copy; `None` for shared memory (rule 2).
    pub fn private_bytes(&mut self) -> Option<&[u8]> {
        match self.keep {
            Keep::Shared { .. } => None,
            Keep::Nothing | Keep::Private(_) => {
                // SAFETY: all of it is readable (rule 1) and initialised (it was allocated zeroed);
                // with `self` borrowed for writing nobody copies into it, and no kernel operation
                // has it (rule 3). Without memory the pointer dangles, which an empty slice may.
                Some(unsafe { std::slice::from_raw_parts(self.ptr(), self.len) })
            }
        }
    }

    fn check(&self, at: usize, len: usize) {
        let end = at.checked_add(len);
        assert!(
            end.is_some_and(|end| end <= self.len),
            "{len} bytes at {at} of {}",
            self.len
        );
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        if let Keep::Private(layout) = self.keep {
            // SAFETY: `new` allocated it with this layout, and rule 3 says nobody else has it.
            unsafe { dealloc(self.ptr(), layout) }
        }
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.keep {
            Keep::Nothing => "empty",
            Keep::Private(_) => "private",
            Keep::Shared { .. } => "shared",
        };
        write!(f, "Buf({kind}, {} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_memory_is_zeroed_and_aligned() {
        let buf = Buf::new(5000);
        assert_eq!(buf.ptr() as usize % Buf::ALIGNMENT, 0);
        assert!(buf.to_vec().iter().all(|b| *b == 0));
        buf.copy_in(4998, b"ab");
        buf.zero(4999..5000);
        assert_eq!(&buf.to_vec()[4998..], b"a\0");
        let mut buf = buf;
        assert_eq!(&buf.private_bytes().unwrap()[4998..], b"a\0");
        assert_eq!(Buf::empty().private_bytes(), Some(&[][..]));
    }

    #[test]
    #[should_panic(expected = "2 bytes at 9 of 10")]
    fn nothing_is_copied_past_the_end() {
        Buf::new(10).copy_in(9, b"ab");
    }

    #[test]
    fn shared_memory_lives_as_long_as_its_keeper() {
        let backing: Arc<dyn Any + Send + Sync> = Arc::new(Buf::new(64).to_vec());
        let probe = Arc::downgrade(&backing);
        let memory = Buf::new(64);
        let ptr = NonNull::new(memory.ptr()).unwrap();
        // SAFETY: `memory` outlives the buffer made here, and nobody refers to its bytes.
        let mut shared = unsafe { Buf::from_shared(ptr, 64, backing) };
        assert!(shared.private_bytes().is_none(), "others may write to it");
        shared.copy_in(0, b"x");
        assert!(probe.upgrade().is_some());
        drop(shared);
        assert!(probe.upgrade().is_none());
        assert_eq!(memory.to_vec()[0], b'x');
    }
}
