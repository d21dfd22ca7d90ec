//! What a driver answers: one [`Done`] for every [`Op`](crate::Op).

use crate::{Buf, Digest, Errno, Name, OpId};
use std::fmt;
use std::path::PathBuf;

/// The end of one operation.
#[derive(Debug)]
pub struct Done {
    /// The id that it was submitted with.
    pub id: OpId,
    /// How it went.
    pub result: Result<Reply, Errno>,
    /// The operation's memory, handed back (reads and writes), also when it failed.
    pub buf: Option<Buf>,
}

/// The answer of an operation that succeeded.
#[derive(Debug, Default)]
pub struct Reply {
    /// Bytes served: the length of a read or write, the bytes copied, zeroed or hashed; else 0.
    pub serviced: u64,
    /// What else there is to say.
    pub detail: Detail,
}

impl Reply {
    /// `serviced` bytes and nothing else.
    pub fn bytes(serviced: u64) -> Reply {
        Reply {
            serviced,
            detail: Detail::None,
        }
    }
}

impl From<Detail> for Reply {
    fn from(detail: Detail) -> Reply {
        Reply {
            serviced: 0,
            detail,
        }
    }
}

/// What an operation answers besides bytes.
#[derive(Debug, Default)]
pub enum Detail {
    /// Nothing.
    #[default]
    None,
    /// INFO: the object's size in bytes.
    Size(u64),
    /// HASH: the name of the content.
    Hash(Digest),
    /// LIST: a page of names.
    List {
        /// Objects, lock files included; no order is promised.
        names: Vec<Name>,
        /// Where the next page begins; `None` after the last.
        next: Option<u64>,
    },
    /// ACQUIRE, RELEASE, LOCKINFO.
    Lock(Box<LockReply>),
    /// MIGRATE: what became of a page.
    Moved(Box<MoveReply>),
}

/// The answer of MIGRATE.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MoveReply {
    /// Objects that were moved; of a look, those that would be tried.
    pub moved: u64,
    /// Empty directories that were removed; a look counts none.
    pub directories: u64,
    /// What stays where it is.
    pub left: Vec<Unmoved>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<u64>,
    /// How much of the storage lies before `next`, in thousandths.
    pub permille: u32,
}

/// An object, or a directory of objects, that was not moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmoved {
    /// Where it lies, relative to the storage's root; escaped.
    pub path: String,
    /// Why, as words that follow a colon.
    pub reason: String,
}

/// The answer of ACQUIRE, RELEASE and LOCKINFO.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockReply {
    /// Who holds it now: after ACQUIRE we do, after RELEASE nobody, LOCKINFO whoever does.
    pub holder: Option<LockHolder>,
    /// ACQUIRE: it was ours before, held by this driver or left by its dead predecessor.
    pub already_ours: bool,
    /// Whose lock ended by this operation though it was not released: a dead process's that
    /// ACQUIRE took over, or the holder that a forced RELEASE broke.
    pub ended: Option<LockHolder>,
}

/// Who holds a lock.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct LockHolder {
    /// The owner's text (`unique_str`, by default HOSTNAME_PORT).
    pub owner: Vec<u8>,
    /// The process, where the storage remembers it.
    pub process: Option<ProcessMark>,
    /// `RUN_DIR` of its node, where the storage remembers it: means something on its host only.
    pub run_dir: Option<PathBuf>,
    /// Whether it is this very driver.
    pub ours: bool,
    /// Whether it certainly is neither this driver nor a predecessor of it.
    pub foreign: bool,
    /// Whether the process lives; `None` when it is not of this host or not known.
    pub alive: Option<bool>,
    /// The host that it took the lock on, where the storage remembers it.
    pub host: Option<String>,
    /// The network addresses that may write on its behalf, where storage is reached by network.
    pub addresses: Vec<String>,
    /// When it took the lock, in seconds since 1970, where the storage remembers it.
    pub since_s: Option<u64>,
}

impl fmt::Debug for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockHolder")
            .field("owner", &format_args!("{}", self.owner.escape_ascii()))
            .field("process", &self.process)
            .field("run_dir", &self.run_dir)
            .field("ours", &self.ours)
            .field("foreign", &self.foreign)
            .field("alive", &self.alive)
            .field("host", &self.host)
            .field("addresses", &self.addresses)
            .field("since_s", &self.since_s)
            .finish()
    }
}

/// One process of one boot of one host: never equal for two processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessMark {
    /// Process id.
    pub pid: u32,
    /// When it started, in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub start: u64,
    /// Where that pid means something: the host's `/proc/sys/kernel/random/boot_id`, a colon, and
    /// the number of the pid namespace (two containers of one host have the same boot id).
    pub boot: String,
}
