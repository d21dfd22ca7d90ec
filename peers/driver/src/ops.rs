//! The operations, and the trait that carries them.
//!
//! What holds for every driver:
//! - each submitted operation gets exactly one [`Done`], with its memory, in any order;
//! - operations that are in flight together and touch the same bytes happen in some order, as if
//!   one after the other; bytes that none of them names are never changed by them;
//! - nothing is answered, with success or error, while a part of it may still land;
//! - no operation waits for another's *completion by the caller*: a lock that is held is `EBUSY`;
//! - a failure, such as a full disk, fails its own operation only.
//!
//! **Durability.** An operation with `durable`, or with [`Tag::NONE`], survives the loss of power
//! once it is answered: data, size, and the directory entries that lead to it. Another is durable
//! after a successful `Sync` of its tag that was submitted after its answer.

use crate::{Buf, Done, HashAlgorithm, Name};

/// An operation's id, chosen by the caller; unique among those in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpId(
    /// Any number.
    pub u64,
);

/// Which volume an operation belongs to, so that a FLUSH can name what it makes durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(
    /// 0 is [`Tag::NONE`].
    pub u32,
);

impl Tag {
    /// A direct request, of no volume: durable when answered.
    pub const NONE: Tag = Tag(0);
}

/// One operation on one object. `EINVAL` where a range passes 2^63.
#[derive(Debug)]
pub enum Op {
    /// Fills `buf` from `offset`. A missing object is `ENOENT`; past its end there are zeros, and
    /// serviced is always the whole length. Length 0 asks whether the object exists.
    Read {
        /// The object.
        name: Name,
        /// Where to begin, in bytes.
        offset: u64,
        /// Where to put it; its length is how much.
        buf: Buf,
    },
    /// Writes all of `buf` at `offset`; creates the object when it is missing, also for length 0.
    Write {
        /// The object.
        name: Name,
        /// Where to begin, in bytes.
        offset: u64,
        /// What to write.
        buf: Buf,
        /// The volume.
        tag: Tag,
        /// The object is new: what a leftover of that name holds is emptied first.
        fresh: bool,
        /// Durable when answered.
        durable: bool,
    },
    /// Makes a range zero. Never makes the object longer; a missing object is success. Serviced is
    /// `len`.
    Zeroes {
        /// The object.
        name: Name,
        /// Where to begin, in bytes.
        offset: u64,
        /// How much, in bytes.
        len: u64,
        /// The volume.
        tag: Tag,
        /// Durable when answered.
        durable: bool,
    },
    /// Cuts the object or lets it grow by zeros. A missing object is `ENOENT`, unless `fresh`,
    /// which creates it, or empties what is there first; emptying is durable before the answer.
    Truncate {
        /// The object.
        name: Name,
        /// The size wanted, in bytes; a driver may round it up to `Capabilities::size_multiple`.
        size: u64,
        /// The volume.
        tag: Tag,
        /// The object is new.
        fresh: bool,
        /// Durable when answered.
        durable: bool,
    },
    /// Makes `dst` the first `max` bytes of `src`, wholly: what `dst` held is gone, and it is never
    /// longer than what was copied. A missing `src` is `ENOENT` and leaves `dst` untouched.
    /// Serviced is what was copied: the lesser of `max` and the size of `src`.
    Copy {
        /// The object to read.
        src: Box<Name>,
        /// The object to make.
        dst: Name,
        /// At most so many bytes.
        max: u64,
        /// The volume.
        tag: Tag,
        /// Durable when answered.
        durable: bool,
    },
    /// Removes the object; a missing one is `ENOENT`. Without `durable` it may come back after a
    /// loss of power, until a `Sync` of any tag.
    Delete {
        /// The object.
        name: Name,
        /// Durable when answered.
        durable: bool,
    },
    /// The object's size, as [`Detail::Size`](crate::Detail::Size); a missing one is `ENOENT`.
    Info {
        /// The object.
        name: Name,
    },
    /// Reads up to `size` bytes from `offset`, takes off trailing zeros, and hashes the rest
    /// ([`Detail::Hash`](crate::Detail::Hash)); stores it, durably, under the hash as its name,
    /// unless an object of that name exists; one that is shorter than its content is completed. A
    /// missing object is `ENOENT`. At most `Capabilities::max_io` bytes.
    Hash {
        /// The object.
        name: Name,
        /// Where to begin, in bytes.
        offset: u64,
        /// At most so many bytes.
        size: u64,
        /// How to hash.
        algorithm: HashAlgorithm,
    },
    /// A page of the names of all objects ([`Detail::List`](crate::Detail::List)). Objects that
    /// exist from the first page to the last are listed exactly once.
    List {
        /// 0 at first, then what the page before answered as `next`.
        cursor: u64,
        /// About so many names; a page may be longer by what a driver cannot divide.
        max: usize,
    },
    /// Moves objects from where an older release put them to where new ones are made, a page at a
    /// time, and removes the directories that it leaves empty ([`Detail::Moved`](crate::Detail)).
    /// Every object can be found at every moment, also by other drivers and after a loss of power.
    /// `EPERM` where this driver was not told to move anything.
    Migrate {
        /// 0 at first, then what the page before answered as `next`.
        cursor: u64,
        /// About so many objects and directories are looked at.
        max: usize,
        /// Only count: nothing is changed, and no permission needed.
        look: bool,
    },
    /// Takes the lock of a volume ([`Detail::Lock`](crate::Detail::Lock)); `EBUSY` at once when
    /// another holds it. Taking what is ours already is success.
    Acquire {
        /// The volume.
        name: Name,
    },
    /// Gives the lock back: `ENOENT` when nobody holds it, `EPERM` when another does, unless
    /// `force`, which breaks whatever is there.
    Release {
        /// The volume.
        name: Name,
        /// Break it.
        force: bool,
    },
    /// Who holds the lock; success also when nobody does.
    LockInfo {
        /// The volume.
        name: Name,
    },
    /// Makes durable every operation of `tag` that was answered before. Once it failed, it fails
    /// for this tag until `Forget`: what the kernel dropped cannot be synced by asking again.
    Sync {
        /// The volume.
        tag: Tag,
    },
    /// The volume is closed: forgets the tag, also that its sync failed.
    Forget {
        /// The volume.
        tag: Tag,
    },
}

/// What a driver can do, and how it likes to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// What it drives: `files`, `rados`, `memory`.
    pub kind: &'static str,
    /// Offsets, lengths and addresses that are multiples of this are served without copying.
    pub alignment: usize,
    /// Sizes of objects are multiples of this (512 with O_DIRECT, else 1).
    pub size_multiple: u64,
    /// The longest read, write or hash, in bytes.
    pub max_io: usize,
    /// Every write is durable when answered, whatever it asks for.
    pub write_through: bool,
    /// The storage itself refuses writes of a holder whose lock was broken.
    pub fences: bool,
    /// It hears when another gives a lock back ([`Driver::await_lock`]).
    pub hears: bool,
}

/// Storage for objects. Belongs to one thread, which submits, and polls until all is done.
pub trait Driver {
    /// Starts `op`. Never blocks; the answer comes through [`poll`](Self::poll), maybe at once: poll
    /// before waiting for anything.
    fn submit(&mut self, id: OpId, op: Op);

    /// Adds what was done since the last call.
    fn poll(&mut self, done: &mut Vec<Done>);

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// How many operations were submitted and not yet handed out by `poll`.
    fn in_flight(&self) -> usize;

    /// Whether the lock of `volume`, which this driver acquired, still is ours: cheap, and asked
    /// before a FLUSH is acknowledged and a map entry is committed.
    fn lock_is_held(&mut self, volume: &Name) -> bool;

    /// Somebody waits for the lock of `volume`, which was `EBUSY`. A driver that can hear of its
    /// end listens for a while, and says so through [`freed_locks`](Self::freed_locks).
    fn await_lock(&mut self, _volume: &Name) {}

    /// Adds the volumes whose lock may be free now, among those that were waited for.
    fn freed_locks(&mut self, _volumes: &mut Vec<Name>) {}

    /// How many objects are still to be moved in the background, by a driver that does that: a peer
    /// that is told to stop lets them end. To ask is to hurry them.
    fn moving(&self) -> usize {
        0
    }

    /// Why the storage refuses this instance for good, as a sentence. Nothing that is in flight is
    /// answered then: the process has to end, and its successor does it again.
    fn lost(&self) -> Option<String> {
        None
    }
}
