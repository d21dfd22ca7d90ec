//! A server in a thread over a memory volume that can be told to misbehave.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use archip_nbd::backends::MemoryExport;
use archip_nbd::{
    BlockSizes, BufferId, Buffers, Done, Export, Failure, Handle, Op, Options, Server, Summary,
    Token, Transfer, Turn, listen,
};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tempfile::TempDir;

/// Longest that a test waits for an event before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What the test sees and steers of the backend.
#[derive(Default)]
pub(crate) struct Knobs {
    /// Completions are kept back.
    pub(crate) hold: bool,
    /// Completions come in reverse order.
    pub(crate) reverse: bool,
    /// Operations that touch this byte fail with this errno, at this byte.
    pub(crate) bad: Option<(u64, i32)>,
    /// Everything submitted.
    pub(crate) ops: Vec<Op>,
    pub(crate) buffers_taken: usize,
    pub(crate) turn: Turn,
}

pub(crate) struct Shared {
    knobs: Mutex<Knobs>,
    changed: Condvar,
    wake: EventFd,
}

impl Shared {
    pub(crate) fn knobs(&self) -> MutexGuard<'_, Knobs> {
        self.knobs.lock().unwrap()
    }

    /// Changes knobs and lets the server notice.
    pub(crate) fn set(&self, change: impl FnOnce(&mut Knobs)) {
        change(&mut self.knobs());
        self.wake.write(1).unwrap();
    }

    /// Waits until the backend is in a state.
    pub(crate) fn wait(&self, what: &str, done: impl Fn(&Knobs) -> bool) {
        let (_knobs, late) = self
            .changed
            .wait_timeout_while(self.knobs(), PATIENCE, |knobs| !done(knobs))
            .unwrap();
        assert!(!late.timed_out(), "the backend never saw {what}");
    }
}

struct LabExport {
    memory: MemoryExport,
    shared: Arc<Shared>,
    done: Vec<Done>,
}

impl LabExport {
    fn changed(&self, change: impl FnOnce(&mut Knobs)) {
        change(&mut self.shared.knobs());
        self.shared.changed.notify_all();
    }
}

// SAFETY: every call is passed on to an implementation that keeps the contract.
unsafe impl Buffers for LabExport {
    fn alloc(&mut self, len: usize, transfer: Transfer) -> Option<BufferId> {
        let buffer = self.memory.alloc(len, transfer);
        self.changed(|knobs| knobs.buffers_taken = self.memory.buffers_taken());
        buffer
    }

    fn buffer(&mut self, id: BufferId) -> (*mut u8, usize) {
        self.memory.buffer(id)
    }

    fn release(&mut self, id: BufferId) {
        self.memory.release(id);
        self.changed(|knobs| knobs.buffers_taken = self.memory.buffers_taken());
    }
}

impl Export for LabExport {
    fn size(&self) -> u64 {
        self.memory.size()
    }

    fn block_sizes(&self) -> BlockSizes {
        self.memory.block_sizes()
    }

    fn read_only(&self) -> bool {
        self.memory.read_only()
    }

    fn name(&self) -> &str {
        self.memory.name()
    }

    fn submit(&mut self, token: Token, op: Op) {
        self.changed(|knobs| knobs.ops.push(op));
        match self.shared.knobs().bad {
            Some((byte, errno)) if touches(op, byte) => {
                let offset = Some(byte);
                let result = Err(Failure { errno, offset });
                self.done.push(Done { token, result });
            }
            _ => self.memory.submit(token, op),
        }
    }

    fn poll(&mut self, done: &mut Vec<Done>) {
        self.memory.poll(&mut self.done);
        let knobs = self.shared.knobs();
        if knobs.hold {
            return;
        }
        if knobs.reverse {
            self.done.reverse();
        }
        done.append(&mut self.done);
    }

    fn event_fd(&self) -> Option<RawFd> {
        Some(self.shared.wake.as_fd().as_raw_fd())
    }

    fn turn(&mut self) -> Turn {
        self.shared.knobs().turn
    }
}

fn touches(op: Op, byte: u64) -> bool {
    match op {
        Op::Read { offset, len, .. } | Op::Write { offset, len, .. } => {
            (offset..offset + u64::from(len)).contains(&byte)
        }
        Op::Flush => false,
        Op::Trim { offset, len, .. }
        | Op::WriteZeroes { offset, len, .. }
        | Op::BlockStatus { offset, len, .. } => (offset..offset + u64::from(len)).contains(&byte),
    }
}

/// A running server; it is stopped, and its files removed, when this is dropped.
pub(crate) struct Lab {
    pub(crate) dir: TempDir,
    pub(crate) backend: Arc<Shared>,
    pub(crate) handle: Handle,
    thread: Option<JoinHandle<Summary>>,
}

impl Lab {
    pub(crate) fn new(size: usize) -> Self {
        Self::with(MemoryExport::new("vol", size), Options::default())
    }

    pub(crate) fn with(memory: MemoryExport, options: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let backend = Arc::new(Shared {
            knobs: Mutex::default(),
            changed: Condvar::new(),
            wake: EventFd::from_flags(EfdFlags::EFD_CLOEXEC).unwrap(),
        });
        let export = LabExport {
            memory,
            shared: Arc::clone(&backend),
            done: Vec::new(),
        };
        let listener = listen(&dir.path().join("nbd.sock"), 0o600).unwrap();
        let server = Server::new(listener, export, options).unwrap();
        let handle = server.handle();
        let thread = Some(std::thread::spawn(move || server.run().unwrap()));
        Self {
            dir,
            backend,
            handle,
            thread,
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("nbd.sock")
    }

    pub(crate) fn uri(&self) -> String {
        format!("nbd+unix:///vol?socket={}", self.socket().display())
    }

    /// Waits for the end of the server after a stop.
    pub(crate) fn join(&mut self) -> Summary {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.backend.set(|knobs| knobs.hold = false);
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "the server panicked"
            );
        }
    }
}
