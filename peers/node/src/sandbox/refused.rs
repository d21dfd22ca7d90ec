//! What becomes of a system call that is not on the list: EPERM for the caller, and for people one
//! line in the log for each call.
//!
//! seccomp's own EPERM says nothing to anybody, so the call is trapped: the kernel sends SIGSYS to
//! the thread, and its handler does what the kernel would have done, after a word. (Where a thread
//! blocks all signals, as the C library does while it makes another, the process ends instead.)
//!
//! Unsafe lives here because a signal handler is C's. Rule: the handler touches its own arguments,
//! atomics and its stack, and makes one `write`: nothing in it allocates, locks or panics
//! (signal-safety(7)).

use seccompiler::SeccompAction;
use std::io;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) use trap::install;

/// What the filter does.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) const ACTION: SeccompAction = SeccompAction::Trap;
/// What the filter does: where no handler is written, the call fails without a word.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) const ACTION: SeccompAction = SeccompAction::Errno(libc::EPERM as u32);

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn install() -> io::Result<()> {
    Ok(())
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod trap {
    use super::io;
    use libc::{c_int, c_void, siginfo_t, ucontext_t};
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    /// Calls that were told of already, a bit for each number.
    static TOLD: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];

    /// Answers trapped calls from here on.
    pub(in super::super) fn install() -> io::Result<()> {
        // SAFETY: zeros are a valid sigaction; the handler has the signature that SA_SIGINFO
        // asks for and keeps to the module's rule.
        let done = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = refuse as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
            libc::sigaction(libc::SIGSYS, &action, std::ptr::null_mut())
        };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    extern "C" fn refuse(_signal: c_int, _info: *mut siginfo_t, context: *mut c_void) {
        // SAFETY: the kernel passes a ucontext_t of the interrupted thread, which is this one, so
        // nobody else touches it.
        let context = unsafe { &mut *context.cast::<ucontext_t>() };
        let number = *register(context);
        *answer(context) = -Register::from(libc::EPERM);
        tell(number.cast_unsigned());
    }

    type Register = i64;

    /// Where the number of the trapped call is: the kernel has put it back there.
    #[cfg(target_arch = "x86_64")]
    fn register(context: &mut ucontext_t) -> &mut Register {
        &mut context.uc_mcontext.gregs[libc::REG_RAX as usize]
    }

    /// Where its answer goes.
    #[cfg(target_arch = "x86_64")]
    fn answer(context: &mut ucontext_t) -> &mut Register {
        register(context)
    }

    #[cfg(target_arch = "aarch64")]
    fn register(context: &mut ucontext_t) -> &mut Register {
        as_signed(&mut context.uc_mcontext.regs[8])
    }

    #[cfg(target_arch = "aarch64")]
    fn answer(context: &mut ucontext_t) -> &mut Register {
        as_signed(&mut context.uc_mcontext.regs[0])
    }

    #[cfg(target_arch = "aarch64")]
    fn as_signed(register: &mut u64) -> &mut Register {
        // SAFETY: the two types have one size and alignment, and every bit pattern is valid.
        unsafe { &mut *(register as *mut u64).cast() }
    }

    /// One line for each number, written as it is: the log's own machinery may lock.
    fn tell(number: u64) {
        let bit = 1 << (number % 64);
        let word = &TOLD[(number / 64 % 8) as usize];
        if word.fetch_or(bit, Relaxed) & bit != 0 {
            return;
        }
        let mut line = [0; 96];
        let mut len = 0;
        for part in [
            &b"SANDBOX: system call "[..],
            &decimal(number),
            b" was refused (EPERM); see docs/decisions/0013\n",
        ] {
            for &byte in part.iter().filter(|byte| **byte != 0) {
                line[len] = byte;
                len += 1;
            }
        }
        // SAFETY: the line is ours and `len` long; errno is the thread's own and is put back, for
        // the caller's code looks at it after its call.
        unsafe {
            let errno = *libc::__errno_location();
            libc::write(crate::log::descriptor(), line.as_ptr().cast(), len);
            *libc::__errno_location() = errno;
        }
    }

    /// Decimal digits, right-aligned behind zero bytes.
    fn decimal(mut number: u64) -> [u8; 20] {
        let mut digits = [0; 20];
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        digits
    }
}
