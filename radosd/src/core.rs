//! What the driver and its tasks share: single calls of librados as futures.

use crate::client::Client;
use crate::config::Config;
use crate::locks::Locks;
use crate::sys::{Completion, Pool, Steps};
use crate::table::Table;
use crate::turns::Turns;
use driver::{Buf, Done, Errno, Name};
use reactor::sync::Semaphore;
use reactor::{Env, Executor, Offload, Timers};
use std::cell::RefCell;
use std::ffi::CStr;
use std::rc::Rc;
use std::sync::Arc;

pub(crate) type Answer<T> = Result<T, Errno>;

/// What a client gets that was cut off (Ceph calls it EBLOCKLISTED).
pub(crate) const CUT_OFF: Errno = Errno(libc::ESHUTDOWN);

/// How many operations may hold memory of their own at once: copies and hashes, of at most
/// [`PIECE`](crate::shape::PIECE) or `max_io` each.
const COPIES: usize = 16;

pub(crate) struct Core {
    pub(crate) pool: Arc<Pool>,
    pub(crate) client: Arc<Client>,
    pub(crate) pool_name: String,
    /// The tag of a volume.
    pub(crate) tag_of: fn(&[u8]) -> u32,
    pub(crate) table: Table,
    pub(crate) executor: Executor,
    pub(crate) offload: Offload,
    pub(crate) timers: Timers,
    pub(crate) env: Env,
    pub(crate) locks: Locks,
    /// Objects that are changed in several steps.
    pub(crate) turns: Turns,
    pub(crate) copies: Rc<Semaphore>,
    /// What tasks have done.
    pub(crate) done: RefCell<Vec<Done>>,
    /// When this driver was made, in nanoseconds: nothing of a predecessor is sent since.
    pub(crate) born_ns: u64,
    /// Why this client serves no more.
    pub(crate) lost: RefCell<Option<String>>,
}

impl Core {
    pub(crate) fn new(
        pool: Arc<Pool>,
        client: Arc<Client>,
        config: &Config,
        locks: Locks,
        reactor: &reactor::Reactor,
    ) -> Core {
        Core {
            pool,
            client,
            pool_name: config.pool.clone(),
            tag_of: config.tag_of,
            table: Table::default(),
            executor: reactor.executor.clone(),
            offload: reactor.offload.clone(),
            timers: reactor.timers.clone(),
            env: reactor.env.clone(),
            locks,
            turns: Turns::default(),
            copies: Semaphore::new(COPIES),
            done: RefCell::default(),
            born_ns: reactor.env.clock.now_ns(),
            lost: RefCell::default(),
        }
    }

    /// The client was cut off: by itself, if it has noted why, else by somebody who has broken its
    /// locks.
    pub(crate) fn cut_off(&self) {
        let addresses = self.client.addresses.join(" ");
        self.lose(match self.locks.registry.failing_now() {
            Some(key) => format!(
                "the pool {} did not answer within rados_osd_op_timeout ({key}): this client \
                 ({addresses}) was cut off, so that nothing of it lands late",
                self.pool_name
            ),
            None => format!(
                "the cluster has blocklisted this client ({addresses}): its locks were broken, so \
                 it serves no more"
            ),
        });
    }

    /// Nothing is answered any more, because whoever comes in our place will do it again.
    fn lose(&self, sentence: String) {
        let mut lost = self.lost.borrow_mut();
        if lost.is_none() {
            tracing::error!("{sentence}");
            *lost = Some(sentence);
        }
    }

    pub(crate) async fn run<K: 'static>(
        &self,
        keep: K,
        call: impl FnOnce(u64) -> Answer<Completion>,
    ) -> (Answer<u32>, K) {
        let (result, keep) = self.table.start(keep, call).await;
        let answer = check(result);
        if answer == Err(CUT_OFF) {
            self.cut_off();
        }
        (answer, keep)
    }

    /// The size of an object.
    pub(crate) async fn stat(&self, name: &Name) -> Answer<u64> {
        let mut size = Box::new(0u64);
        let pointer: *mut u64 = &mut *size;
        let name = ObjectName::new(name);
        // SAFETY: the table keeps the box until the call back.
        let call = |token| unsafe { self.pool.stat(name.as_c_str(), pointer, token) };
        let (answer, size) = self.run(size, call).await;
        answer.map(|_| *size)
    }

    /// Reads into `buf` from its beginning, at most `len` bytes; how many there were.
    pub(crate) async fn read_into(
        &self,
        name: &Name,
        buf: Buf,
        len: usize,
        offset: u64,
    ) -> (Answer<usize>, Buf) {
        assert!(0 < len && len <= buf.len(), "{len} of {}", buf.len());
        let memory = (buf.ptr(), len);
        let name = ObjectName::new(name);
        // SAFETY: the table keeps the buffer until the call back, and it is that long.
        let call = |token| unsafe { self.pool.read(name.as_c_str(), memory, offset, token) };
        let (answer, buf) = self.run(buf, call).await;
        (answer.map(|count| count as usize), buf)
    }

    /// Does all of `steps` or none.
    pub(crate) async fn apply(&self, name: &Name, steps: Steps) -> Answer<()> {
        let name = ObjectName::new(name);
        let call = |token| self.pool.apply(name.as_c_str(), &steps, token);
        self.run((), call).await.0.map(drop)
    }

    pub(crate) async fn remove(&self, name: &Name) -> Answer<()> {
        let name = ObjectName::new(name);
        let call = |token| self.pool.remove(name.as_c_str(), token);
        self.run((), call).await.0.map(drop)
    }
}

/// A call's result: an error, or a count.
pub(crate) fn check(result: i32) -> Answer<u32> {
    u32::try_from(result).map_err(|_| Errno::from_result(result))
}

/// A name with a NUL behind it.
pub(crate) struct ObjectName([u8; driver::MAX_NAME + 1], usize);

impl ObjectName {
    pub(crate) fn new(name: &Name) -> ObjectName {
        let mut bytes = [0; driver::MAX_NAME + 1];
        bytes[..name.len()].copy_from_slice(name);
        ObjectName(bytes, name.len())
    }

    pub(crate) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_with_nul(&self.0[..=self.1]).expect("a name holds no NUL")
    }
}
