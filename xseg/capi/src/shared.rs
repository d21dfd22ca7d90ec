//! Memory that the calling program sees and may write.
//!
//! What makes it sound: the memory is allocated here, holds plain numbers (any bytes are a legal
//! value), is freed only here, and is read and written by whole copies through a raw pointer, so
//! that no reference to it ever exists. That the program does not write while the library reads
//! is its side of the contract (`xseg.h`); a torn number would be checked like any other.

use std::ptr::NonNull;

/// A `T` at an address that a C program knows.
#[derive(Debug)]
pub(crate) struct Shared<T: Copy>(NonNull<T>);

// SAFETY: it owns its allocation, as a Box does, and T is plain numbers.
unsafe impl<T: Copy + Send> Send for Shared<T> {}

impl<T: Copy> Shared<T> {
    pub(crate) fn new(value: T) -> Shared<T> {
        Shared(NonNull::from(Box::leak(Box::new(value))))
    }

    pub(crate) fn as_ptr(&self) -> *mut T {
        self.0.as_ptr()
    }

    /// The key under which it is found again.
    pub(crate) fn address(&self) -> usize {
        self.0.as_ptr() as usize
    }

    pub(crate) fn read(&self) -> T {
        // SAFETY: allocated by `new` and freed by `drop` only.
        unsafe { self.0.read() }
    }

    pub(crate) fn write(&self, value: T) {
        // SAFETY: as in `read`.
        unsafe { self.0.write(value) };
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut T)) {
        let mut value = self.read();
        change(&mut value);
        self.write(value);
    }
}

impl<T: Copy> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from a Box in `new`, and nothing uses it after this.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}
