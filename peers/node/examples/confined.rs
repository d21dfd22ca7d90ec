//! Confines itself as a peer over files does, tries what is named on its command line, and prints
//! one line for each attempt: its name, and `ok` or the errno. For `tests/sandbox.rs`.
//!
//! `confined DIR ATTEMPT...`; DIR holds `blocks`, `run`, `log` and `ceph`. With the attempt
//! `over-rados` it is confined as a peer over RADOS.

use config::args::{self, Executable};
use config::paths::Places;
use io_uring::{IoUring, opcode, types};
use node::process::Plan;
use node::sandbox::Sandbox;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

fn main() -> io::Result<()> {
    let mut words = std::env::args().skip(1);
    let dir = PathBuf::from(words.next().expect("DIR"));
    let attempts: Vec<String> = words.collect();
    let mut ring = IoUring::new(4)?;
    if attempts.iter().any(|attempt| attempt == "second-thread") {
        std::thread::spawn(std::thread::park);
    }
    if attempts.iter().any(|attempt| attempt == "without-landlock") {
        forget_landlock();
    }
    let over_rados = attempts.iter().any(|attempt| attempt == "over-rados");
    let sandbox = Sandbox::of(&plan(&dir, over_rados));
    // Each kind of peer is confined at one of the two moments.
    let confined = sandbox.before_roles()?;
    match confined.map_or_else(|| sandbox.before_serving(), |found| Ok(Some(found)))? {
        Some(confined) if confined.missing.is_empty() => println!("confined"),
        other => println!("missing: {other:?}"),
    }
    for attempt in attempts {
        let outcome = attempt_at(&attempt, &dir, &mut ring);
        let errno = outcome.map_err(|why| why.raw_os_error());
        match errno {
            Ok(()) => println!("{attempt} ok"),
            Err(errno) => println!("{attempt} {}", errno.unwrap_or(-1)),
        }
    }
    Ok(())
}

/// From here on the kernel answers as one without Landlock.
fn forget_landlock() {
    let rules = [(libc::SYS_landlock_create_ruleset, Vec::new())].into();
    let refuse = SeccompAction::Errno(libc::ENOSYS as u32);
    let here = std::env::consts::ARCH
        .try_into()
        .expect("a known processor");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, here).expect("a filter");
    let program: BpfProgram = filter.try_into().expect("a program");
    seccompiler::apply_filter(&program).expect("seccomp");
}

fn plan(dir: &Path, over_rados: bool) -> Plan {
    let dir_text = dir.display();
    let (executable, storage) = match over_rados {
        false => (Executable::Filed, format!("--archip {dir_text}/blocks")),
        true => (
            Executable::Radosd,
            format!("--pool blocks --ceph-conf {dir_text}/ceph/ceph.conf"),
        ),
    };
    let line = format!(
        "archip-peer -g posix:archipelago: -p 1 -r blockerb -l {dir_text}/log/blockerb.log {storage}"
    );
    let line = line.split_whitespace().map(Into::into);
    let command = args::parse(executable, line).expect("a peer's command line");
    Plan {
        socket: dir.join("run/archipelago.sock"),
        places: Places {
            run_dir: dir.join("run"),
            state_dir: dir.join("run"),
        },
        roles: vec![command.role],
        uid: None,
        gid: None,
        sandbox: true,
    }
}

fn attempt_at(attempt: &str, dir: &Path, ring: &mut IoUring) -> io::Result<()> {
    let blocks = dir.join("blocks");
    match attempt {
        "read-passwd" => File::open("/etc/passwd").map(drop),
        "write-passwd" => OpenOptions::new()
            .append(true)
            .open("/etc/passwd")
            .map(drop),
        "read-conf" => File::open(dir.join("ceph/ceph.conf")).map(drop),
        "write-conf" => fs::write(dir.join("ceph/ceph.conf"), "x"),
        "read-beside" => File::open(dir.join("beside")).map(drop),
        "ring-reads-passwd" => ring_open(ring, Path::new("/etc/passwd")),
        "ring-makes-block" => ring_open(ring, &blocks.join("by-ring")),
        "make-block" => {
            fs::create_dir_all(blocks.join("00/11"))?;
            fs::write(blocks.join("new"), "x")
        }
        "move-block" => {
            fs::hard_link(blocks.join("new"), blocks.join("00/11/linked"))?;
            fs::rename(blocks.join("new"), blocks.join("00/11/moved"))?;
            fs::remove_file(blocks.join("00/11/linked"))
        }
        "make-log" => fs::write(dir.join("log/another.log"), "x"),
        "read-log" => File::open(dir.join("log/old.log")).map(drop),
        "make-pid" => fs::write(dir.join("run/other.pid"), "1"),
        "remove-pid" => fs::remove_file(dir.join("run/blockerb.pid")),
        "run-program" => std::process::Command::new("/bin/true").status().map(drop),
        "thread-reads-passwd" => std::thread::spawn(|| File::open("/etc/passwd").map(drop))
            .join()
            .expect("it does not panic"),
        "internet" => std::net::TcpListener::bind("127.0.0.1:0").map(drop),
        "executable-memory" => map_executable(),
        "trace" => answer(
            // SAFETY: PTRACE_TRACEME names no memory.
            unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) },
        ),
        "panic" => {
            let caught = std::panic::catch_unwind(|| panic!("of the example"));
            assert!(caught.is_err());
            Ok(())
        }
        "second-thread" | "without-landlock" | "over-rados" => Ok(()),
        other => panic!("no attempt is called {other}"),
    }
}

fn answer(answer: libc::c_long) -> io::Result<()> {
    match answer {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn map_executable() -> io::Result<()> {
    let protection = libc::PROT_READ | libc::PROT_EXEC;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing of ours.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
    match at {
        libc::MAP_FAILED => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn ring_open(ring: &mut IoUring, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes()).expect("no NUL");
    let flags = if path.as_bytes().ends_with(b"passwd") {
        libc::O_RDONLY
    } else {
        libc::O_RDWR | libc::O_CREAT
    };
    let open = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr())
        .flags(flags)
        .mode(0o600)
        .build();
    // SAFETY: the path lives until the completion, which is awaited below.
    unsafe { ring.submission().push(&open) }.expect("the ring is empty");
    ring.submit_and_wait(1)?;
    let result = ring
        .completion()
        .next()
        .expect("it was waited for")
        .result();
    match result {
        0.. => Ok(()),
        errno => Err(io::Error::from_raw_os_error(-errno)),
    }
}
