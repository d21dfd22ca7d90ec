//! The functions that C calls. What each does is told in `include/xseg/xseg.h`.
//!
//! Each looks up what it was given (rule 1 of the crate), works under [`crate::error::guard`], and
//! says failure as its C contract does: NULL, -1 or `NoPort`, with the sentence in
//! `xseg_last_error`.

mod ports;
mod requests;
mod transfers;

pub use ports::*;
pub use requests::*;
pub use transfers::*;

use std::ffi::{CStr, c_char};

/// A string that C handed in.
///
/// # Safety
/// `text` is null or points to a string that ends with a NUL and does not change meanwhile.
unsafe fn text<'a>(text: *const c_char, what: &str) -> Result<&'a str, String> {
    if text.is_null() {
        return Err(format!("{what} is NULL"));
    }
    // SAFETY: not null, and the caller promises the rest.
    let bytes = unsafe { CStr::from_ptr(text) };
    bytes.to_str().map_err(|_| format!("{what} is not UTF-8"))
}

/// 0 for C.
fn ok(result: Result<(), String>) -> Result<i32, String> {
    result.map(|()| 0)
}
