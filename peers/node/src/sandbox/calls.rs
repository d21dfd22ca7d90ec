//! The system calls of a peer that serves, by what needs them.
//!
//! A call that is not here is trapped and answered with EPERM (`super::refused`), so a list that
//! lacks one costs that one call and a line in the log, not the process.
//!
//! What is not here on purpose: running programs, other processes (only threads), sockets that
//! are not local, new rings, mounts, tracing, keys, BPF, memory that may be executed.

use super::refused;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule,
};
use std::collections::BTreeMap;
use std::io;

/// Whatever their arguments are.
#[rustfmt::skip]
const ALLOWED: &[libc::c_long] = &[
    // The ring.
    libc::SYS_io_uring_enter, libc::SYS_io_uring_register,
    // Data.
    libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev, libc::SYS_pread64,
    libc::SYS_pwrite64, libc::SYS_preadv, libc::SYS_pwritev, libc::SYS_preadv2,
    libc::SYS_pwritev2, libc::SYS_lseek, libc::SYS_copy_file_range, libc::SYS_fallocate,
    libc::SYS_ftruncate, libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_syncfs,
    libc::SYS_sync_file_range, libc::SYS_fadvise64,
    // Names and descriptors; Landlock says which.
    libc::SYS_openat, libc::SYS_close, libc::SYS_unlinkat, libc::SYS_renameat,
    libc::SYS_renameat2, libc::SYS_linkat, libc::SYS_mkdirat, libc::SYS_getdents64,
    libc::SYS_newfstatat, libc::SYS_fstat, libc::SYS_statx, libc::SYS_statfs, libc::SYS_fstatfs,
    libc::SYS_readlinkat, libc::SYS_faccessat, libc::SYS_faccessat2, libc::SYS_getcwd,
    libc::SYS_dup, libc::SYS_dup3, libc::SYS_fcntl, libc::SYS_flock,
    // Marks beside locks.
    libc::SYS_fgetxattr, libc::SYS_fsetxattr,
    // Bells, and the next supervisor.
    libc::SYS_eventfd2, libc::SYS_connect, libc::SYS_sendmsg, libc::SYS_recvmsg,
    libc::SYS_sendto, libc::SYS_recvfrom, libc::SYS_getsockopt, libc::SYS_setsockopt,
    libc::SYS_shutdown, libc::SYS_ppoll,
    // Memory.
    libc::SYS_munmap, libc::SYS_mremap, libc::SYS_madvise, libc::SYS_brk,
    // Threads, their start and their end.
    libc::SYS_futex, libc::SYS_set_robust_list, libc::SYS_rseq, libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity, libc::SYS_gettid, libc::SYS_getpid, libc::SYS_exit,
    libc::SYS_exit_group, libc::SYS_restart_syscall, libc::SYS_membarrier,
    // Time, chance, and whether a copy slept.
    libc::SYS_clock_gettime, libc::SYS_clock_nanosleep, libc::SYS_nanosleep,
    libc::SYS_gettimeofday, libc::SYS_getrandom, libc::SYS_getrusage,
    // Signals.
    libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
];

/// The same under names that only this architecture has.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const ALLOWED_HERE: &[libc::c_long] = &[
    libc::SYS_open, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_unlink,
    libc::SYS_rmdir, libc::SYS_mkdir, libc::SYS_rename, libc::SYS_link, libc::SYS_readlink,
    libc::SYS_dup2, libc::SYS_poll, libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[libc::c_long] = &[];

/// Refuses everything else from here on, in this thread and those that it will start.
pub(super) fn restrict() -> io::Result<()> {
    let programs = [no_clone3(), program()];
    refused::install()?;
    for program in programs {
        let program = program.map_err(io::Error::other)?;
        seccompiler::apply_filter(&program).map_err(io::Error::other)?;
    }
    Ok(())
}

/// `clone3` is answered with ENOSYS, whereupon the C library makes its threads by `clone`: what
/// clone3 is to make is written in memory, where no filter can look. A filter of its own, because
/// its answer must not be a trap: the C library blocks every signal meanwhile.
fn no_clone3() -> Result<BpfProgram, seccompiler::BackendError> {
    let here = std::env::consts::ARCH.try_into()?;
    let rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let refuse = SeccompAction::Errno(libc::ENOSYS as u32);
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, here)?.try_into()
}

fn program() -> Result<BpfProgram, seccompiler::BackendError> {
    let here = std::env::consts::ARCH.try_into()?;
    let plain = ALLOWED.iter().chain(ALLOWED_HERE);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        plain.map(|&call| (call, Vec::new())).collect();
    rules.extend(conditional()?);
    SeccompFilter::new(rules, refused::ACTION, SeccompAction::Allow, here)?.try_into()
}

/// Those that are allowed with some arguments only.
fn conditional() -> Result<Vec<(i64, Vec<SeccompRule>)>, seccompiler::BackendError> {
    let no_code = || masked(2, libc::PROT_EXEC, 0);
    let mut rules = vec![
        (libc::SYS_mmap, vec![no_code()?]),
        (libc::SYS_mprotect, vec![no_code()?]),
        (libc::SYS_socket, vec![equal(0, libc::AF_UNIX)?]),
        // A thread, not a process.
        (
            libc::SYS_clone,
            vec![masked(0, libc::CLONE_THREAD, libc::CLONE_THREAD)?],
        ),
        // Its name.
        (libc::SYS_prctl, vec![equal(0, libc::PR_SET_NAME)?]),
        // A panic that aborts.
        (
            libc::SYS_tgkill,
            vec![equal(0, std::process::id().cast_signed())?],
        ),
        // Limits are asked for, not set.
        (libc::SYS_prlimit64, vec![equal_wide(2, 0)?]),
    ];
    // Sharing blocks; and whether a log is a terminal.
    let requests = [libc::FICLONE, libc::FICLONERANGE, libc::TCGETS];
    let requests = requests.map(|request| rule(1, Len::Dword, Op::Eq, request));
    rules.push((
        libc::SYS_ioctl,
        requests.into_iter().collect::<Result<_, _>>()?,
    ));
    // The other filter has the word on it.
    rules.push((libc::SYS_clone3, Vec::new()));
    Ok(rules)
}

fn equal(argument: u8, value: i32) -> Result<SeccompRule, seccompiler::BackendError> {
    rule(
        argument,
        Len::Dword,
        Op::Eq,
        u64::from(value.cast_unsigned()),
    )
}

fn equal_wide(argument: u8, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    rule(argument, Len::Qword, Op::Eq, value)
}

fn masked(argument: u8, mask: i32, value: i32) -> Result<SeccompRule, seccompiler::BackendError> {
    let (mask, value) = (mask.cast_unsigned(), value.cast_unsigned());
    rule(
        argument,
        Len::Dword,
        Op::MaskedEq(mask.into()),
        value.into(),
    )
}

fn rule(
    argument: u8,
    len: Len,
    op: Op,
    value: u64,
) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, len, op, value)?])
}
