//! Keeping an endpoint alive and quick when memory is short.
//!
//! The kernel writes dirty pages of a filesystem through a mapped device, and so through this
//! process, exactly when it needs their memory. So this process must never wait for that very
//! writing: its own allocations do no I/O (`PR_SET_IO_FLUSHER`), its pages are not taken away,
//! and it is not what the kernel kills. The segment is larger than what is used of it, so its
//! pages are locked when they are first touched, not all at once.

use std::io;

/// `linux/prctl.h`; the libc crate lacks it.
const PR_SET_IO_FLUSHER: libc::c_int = 57;

/// Asks the kernel for all that this process may have; what it may not is logged. To be called
/// before any thread is made (they inherit it) and before the segment is mapped.
pub fn protect() {
    let asked = [
        ("PR_SET_IO_FLUSHER", flush_io()),
        ("mlockall", lock()),
        (
            "oom_score_adj",
            std::fs::write("/proc/self/oom_score_adj", "-1000"),
        ),
    ];
    for (what, outcome) in asked {
        match outcome {
            Ok(()) => tracing::debug!(what, "set"),
            Err(why) => tracing::info!(what, %why, "the system does not allow it"),
        }
    }
}

fn check(outcome: libc::c_int) -> io::Result<()> {
    match outcome {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn flush_io() -> io::Result<()> {
    // SAFETY: the option takes a number and three zeros, no pointers (prctl(2)).
    check(unsafe { libc::prctl(PR_SET_IO_FLUSHER, 1_u64, 0_u64, 0_u64, 0_u64) })
}

/// Everything mapped now, at once; everything mapped later, when it is touched.
fn lock() -> io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        // Within a user's limit, later mappings would fail instead of being unlocked.
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    for flags in [libc::MCL_CURRENT, libc::MCL_FUTURE | libc::MCL_ONFAULT] {
        // SAFETY: takes flags only (mlockall(2)).
        check(unsafe { libc::mlockall(flags) })?;
    }
    Ok(())
}

/// Bytes of stack that a thread of the I/O path may use.
const STACK: usize = 128 << 10;

/// Touches the stack of the calling thread, so that it need not grow later.
#[inline(never)]
pub fn touch_stack() {
    std::hint::black_box([0_u8; STACK]);
}
