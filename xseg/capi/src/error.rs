//! Why the last call of this thread failed, as a sentence, and the guard around every function.

use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Notes why a call fails.
pub(crate) fn note(why: impl std::fmt::Display) {
    let bytes: Vec<u8> = why.to_string().into_bytes();
    let text = bytes.into_iter().filter(|&b| b != 0).collect::<Vec<u8>>();
    LAST.with(|last| *last.borrow_mut() = CString::new(text).unwrap_or_default());
}

/// The sentence; it stays where it is until this thread's next failure.
pub(crate) fn last() -> *const c_char {
    LAST.with(|last| last.borrow().as_ptr())
}

/// Runs the body of a function that C calls: a failure is noted and becomes `failed`, and so does
/// a panic.
pub(crate) fn guard<T>(failed: T, body: impl FnOnce() -> Result<T, String>) -> T {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => value,
        Ok(Err(why)) => {
            note(why);
            failed
        }
        Err(_) => {
            note("libxseg has a defect: it panicked");
            failed
        }
    }
}
