//! Locks that fence (`docs/decisions/0010-locks-on-rados-fence.md`).
//!
//! A lock is the exclusive lock `RadosLock` with the cookie `foo` on the object `NAME_lock`, as the
//! original's. Its holder is a client instance, so it does not outlive one: a successor with the
//! same owner's text takes it over, after the dead instance was blocklisted.
//!
//! ```text
//!            +-- free, or ours ---------------------------------------> ours
//!   ACQUIRE -+-- a dead predecessor's: blocklist what it names, break, inherit -> ours
//!            +-- another's -> EBUSY; who waits is told when it is given back
//!
//!   RELEASE by force: blocklist every address that the lock names; wait until every OSD knows;
//!                     again, if it names others by now; only then break it
//! ```
//!
//! Taking over is two changes of the object, because the class `lock` cannot do both in one. Between
//! them the lock is nobody's, and we may die. So the first leaves the attribute `HEIR` on the object,
//! which names our node; the second, done by us or by our successor, only succeeds where it still
//! stands there, and whoever takes the lock removes it. A lock that somebody had in between is lost.
//! (Only the original does not remove it.)
//!
//! | file | what it holds |
//! |---|---|
//! | `wire` | the bytes of the object class `lock` |
//! | `description` | what stands in a lock |
//! | `registry` | how the clients of a node know each other |
//! | `members` | naming them all in every lock; who may not write before it is named |
//! | `fence` | blocklisting |
//! | `look` | a sync looks whether they are still ours |
//! | `wait` | hearing that a lock was given back |
//! | `fuzz` | what is read of a lock, for any bytes |

mod description;
mod fence;
pub mod fuzz;
mod look;
mod members;
mod registry;
mod wait;
mod wire;

pub(crate) use members::{Gate, Neighbours};
pub(crate) use registry::{Record, Registry};
pub(crate) use wait::Waits;

use crate::core::{Answer, Core, ObjectName};
use crate::sys::Steps;
use description::{Description, Found, hostname, now};
use driver::{Detail, Errno, LockHolder, LockReply, Name, Registration, Reply};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::os::unix::ffi::OsStrExt;
use wire::Renewal;

const CLASS: &CStr = c"lock";

/// The attribute of a lock's object that names the node that is taking the lock over.
const HEIR: &CStr = c"archipelago.heir";

/// What an OSD answers where that attribute is missing, or is another's.
const NO_ATTRIBUTE: Errno = Errno(libc::ENODATA);
const NOT_EQUAL: Errno = Errno(libc::ECANCELED);

/// How often what a holder has changed in its lock is read again before it is broken.
const BREAKS_MAX: u32 = 16;

/// How long a lock may be nobody's that is being taken over, in nanoseconds; generously.
const TAKEOVER_NS: u64 = 50_000_000;

/// Room for the answer about a lock, in bytes.
const INFO: usize = 64 << 10;

/// The locks of one driver.
pub(crate) struct Locks {
    pub(crate) owner: String,
    pub(crate) registration: Registration,
    pub(crate) registry: Registry,
    /// Those that are ours, and since when.
    held: RefCell<BTreeMap<Name, u64>>,
    /// Those that are being taken, and may name clients of an earlier moment when they are.
    taking: RefCell<BTreeSet<Name>>,
    /// Those that our predecessor held, and that nobody has looked at yet.
    pending: RefCell<BTreeSet<Name>>,
    pub(crate) gate: Gate,
    pub(crate) waits: Waits,
    /// All locks are being renewed, or taken again: so from the start, before which nothing is said
    /// about them.
    busy: Cell<bool>,
    /// Addresses of other nodes and boots that this driver has blocklisted.
    cut: RefCell<BTreeSet<String>>,
}

impl Locks {
    pub(crate) fn new(owner: &str, registration: Registration, registry: Registry) -> Locks {
        Locks {
            owner: owner.to_owned(),
            registration,
            registry,
            held: RefCell::default(),
            taking: RefCell::default(),
            pending: RefCell::default(),
            gate: Gate::default(),
            waits: Waits::default(),
            busy: Cell::new(true),
            cut: RefCell::default(),
        }
    }

    pub(crate) fn is_held(&self, volume: &Name) -> bool {
        self.held.borrow().contains_key(volume)
    }

    fn held_or_being_taken(&self) -> Vec<Name> {
        let (held, taking) = (self.held.borrow(), self.taking.borrow());
        held.keys().chain(taking.iter()).copied().collect()
    }

    fn describe(&self, since: u64) -> String {
        let description = Description {
            owner: self.owner.clone(),
            host: hostname(),
            since,
            process: self.registration.0.to_text(),
            clients: self.registry.members(),
        };
        description.to_text()
    }

    /// What takes a lock, that is ours since then.
    fn steps(&self, since: u64, take: Take) -> Steps {
        let renewal = match take {
            Take::Ours => Renewal::Must,
            Take::FreeOrOurs | Take::Inherited => Renewal::May,
        };
        let argument = wire::lock(&self.describe(since), renewal);
        match take {
            Take::Ours => Steps::new().class(CLASS, c"lock", &argument),
            Take::FreeOrOurs => Steps::new().class(CLASS, c"lock", &argument).unset(HEIR),
            Take::Inherited => Steps::new()
                .assert_equal(HEIR, &self.heir())
                .class(CLASS, c"lock", &argument)
                .unset(HEIR),
        }
    }

    /// Our node, whichever process of it takes a lock over.
    fn heir(&self) -> Vec<u8> {
        let run_dir = self.registry.file().parent();
        let run_dir = run_dir.unwrap_or(self.registry.file()).as_os_str();
        let place = format!("{}\n{}\n", self.owner, hostname());
        [place.as_bytes(), run_dir.as_bytes()].concat()
    }

    fn forget(&self, volume: &Name) {
        self.pending.borrow_mut().remove(volume);
        self.held.borrow_mut().remove(volume);
        self.note(|record| record.gives_up(volume));
    }

    /// Changes our file; a node whose RUN_DIR cannot be written has other troubles, too.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Record)) {
        self.written(self.registry.change(change));
    }

    pub(crate) fn written(&self, outcome: std::io::Result<()>) {
        if let Err(why) = outcome {
            let file = self.registry.file().display();
            tracing::error!(%file, %why, "cannot be written");
        }
    }
}

/// Which lock may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Take {
    /// Nobody's, or ours.
    FreeOrOurs,
    /// Ours, to say anew whose clients it names. ENOENT, EBUSY: it is not.
    Ours,
    /// One that our node has broken to take it over, and that nobody had since. EBUSY: somebody had.
    Inherited,
}

fn object(volume: &Name) -> Answer<Name> {
    volume.with_suffix("_lock").map_err(|_| Errno::NAMETOOLONG)
}

fn reply(reply: LockReply) -> Reply {
    Detail::Lock(Box::new(reply)).into()
}

impl Core {
    /// ESTALE: it was ours, and was broken; only giving it back ends that. Else our guests, who ask
    /// at once, would have it again, and go on with a volume that is another's.
    pub(crate) async fn acquire(&self, volume: &Name) -> Answer<Reply> {
        let object = object(volume)?;
        let _turn = self.turns.take(&object).await;
        self.settle_predecessors(volume, &object).await?;
        if self.locks.registry.is_revoked(volume) {
            return Err(Errno::STALE);
        }
        let taken = self.acquire_in_turn(volume, &object).await;
        taken.map(|already_ours| self.taken(volume, already_ours))
    }

    /// Finds out what became of a lock that our predecessor held. A lock that is gone was broken, by
    /// somebody else or by the predecessor that was taking it over: nobody gives one back whose file
    /// still names it.
    async fn settle_predecessors(&self, volume: &Name, object: &Name) -> Answer<()> {
        if !self.locks.pending.borrow().contains(volume) {
            return Ok(());
        }
        let taken = match self.find(object).await? {
            Some(_) => self.acquire_in_turn(volume, object).await,
            None => self
                .take(volume, object, Take::Inherited)
                .await
                .map(|()| true),
        };
        match taken {
            Ok(_) => {}
            Err(Errno::NOENT | Errno::BUSY) => self.lose_lock(volume, object).await,
            Err(errno) => return Err(errno),
        }
        self.locks.pending.borrow_mut().remove(volume);
        Ok(())
    }

    /// True: it was ours, or a predecessor's.
    async fn acquire_in_turn(&self, volume: &Name, object: &Name) -> Answer<bool> {
        if self.locks.is_held(volume) {
            match self.take(volume, object, Take::Ours).await {
                Ok(()) => return Ok(true),
                // Broken by somebody who blocklists nobody: the original.
                Err(Errno::NOENT | Errno::BUSY) => {
                    self.lose_lock(volume, object).await;
                    return Err(Errno::STALE);
                }
                Err(errno) => return Err(errno),
            }
        }
        match self.take(volume, object, Take::FreeOrOurs).await {
            Ok(()) => Ok(false),
            Err(Errno::BUSY) => self.take_over(volume, object).await.map(|()| true),
            Err(errno) => Err(errno),
        }
    }

    /// The lock was ours, and is not any more.
    pub(super) async fn lose_lock(&self, volume: &Name, object: &Name) {
        self.locks.held.borrow_mut().remove(volume);
        self.locks.note(|record| record.loses(volume, now()));
        let holder = match self.find(object).await {
            Ok(Some(found)) => format!("{} holds it now", found.in_words()),
            Ok(None) => "nobody holds it now".into(),
            Err(_) => "it cannot be told who holds it".into(),
        };
        tracing::error!(
            "the lock of volume {volume} was ours and was broken, and {holder}: nothing of this \
             volume is changed here until it is closed and opened again"
        );
    }

    /// Takes the lock, or says anew whose clients it names.
    async fn take(&self, volume: &Name, object: &Name, take: Take) -> Answer<()> {
        let since = self.locks.held.borrow().get(volume).copied();
        let since = since.unwrap_or_else(now);
        // Both before the clients are read: see `registry`.
        self.locks.taking.borrow_mut().insert(*volume);
        self.locks.note(|record| record.locks = true);
        let answer = self.apply(object, self.locks.steps(since, take)).await;
        let answer = match (take, answer) {
            (Take::Inherited, Err(Errno::NOENT | NO_ATTRIBUTE | NOT_EQUAL)) => Err(Errno::BUSY),
            (_, answer) => answer,
        };
        self.locks.taking.borrow_mut().remove(volume);
        if answer.is_ok() {
            self.locks.held.borrow_mut().insert(*volume, since);
            self.locks.note(|record| record.holds(volume));
        }
        answer
    }

    /// A predecessor's, which is dead: its clients are cut off, and the lock is ours.
    async fn take_over(&self, volume: &Name, object: &Name) -> Answer<()> {
        let Some(found) = self.find(object).await? else {
            return Err(Errno::BUSY);
        };
        if !self.is_predecessor(&found) {
            return Err(Errno::BUSY);
        }
        self.cut_off_dead(&found).await?;
        let heir = self.locks.heir();
        match self.break_lock(object, &found, Some(&heir)).await? {
            true => self.take(volume, object, Take::Inherited).await,
            // Whoever was quicker than us has broken it for good.
            false => Err(Errno::BUSY),
        }
    }

    fn is_predecessor(&self, found: &Found) -> bool {
        let us = &self.locks.registration.0;
        if self.locks.registry.is_settled(&found.locker.address) {
            return true;
        }
        let same = |said: &Description| said.owner == self.locks.owner;
        found.said.as_ref().is_some_and(same) && found.holder(us, false).alive != Some(true)
    }

    fn taken(&self, volume: &Name, already_ours: bool) -> Reply {
        let locks = &self.locks;
        let members = locks.registry.members();
        let holder = LockHolder {
            owner: locks.owner.as_bytes().to_vec(),
            process: Some(locks.registration.0.process.clone()),
            run_dir: locks.registration.0.run_dir.clone(),
            ours: true,
            foreign: false,
            alive: Some(true),
            host: Some(hostname()),
            addresses: members.into_iter().map(|member| member.address).collect(),
            since_s: locks.held.borrow().get(volume).copied(),
        };
        reply(LockReply {
            holder: Some(holder),
            already_ours,
            ended: None,
        })
    }

    pub(crate) async fn release(&self, volume: &Name, force: bool) -> Answer<Reply> {
        let object = object(volume)?;
        let _turn = self.turns.take(&object).await;
        let Some(found) = self.find_to_release(&object, force).await? else {
            self.locks.forget(volume);
            return Err(Errno::NOENT);
        };
        let ours = self.is_ours(&found);
        if !ours {
            self.locks.forget(volume);
        }
        if ours {
            self.unlock(volume, &object).await?;
        } else if force {
            self.break_by_force(volume, &object, &found).await?;
        } else if self.is_predecessor(&found) {
            self.cut_off_dead(&found).await?;
            self.break_lock(&object, &found, None).await?;
        } else {
            return Err(Errno::PERM);
        }
        self.tell_waiters(&object);
        let us = &self.locks.registration.0;
        Ok(reply(LockReply {
            ended: (!ours).then(|| found.holder(us, false)),
            ..LockReply::default()
        }))
    }

    /// While a successor takes a lock over nobody has it for a moment.
    async fn find_to_release(&self, object: &Name, force: bool) -> Answer<Option<Found>> {
        match self.find(object).await? {
            None if force => {
                let until = self.env.clock.now_ns() + TAKEOVER_NS;
                self.timers.sleep_until(until).await;
                self.find(object).await
            }
            found => Ok(found),
        }
    }

    /// Gives a lock of ours back.
    async fn unlock(&self, volume: &Name, object: &Name) -> Answer<()> {
        // First: what the file names and nobody holds would count as broken.
        self.locks.forget(volume);
        let steps = Steps::new().class(CLASS, c"unlock", &wire::unlock());
        self.apply(object, steps).await
    }

    pub(crate) async fn lock_info(&self, volume: &Name) -> Answer<Reply> {
        let found = self.find(&object(volume)?).await?;
        let us = &self.locks.registration.0;
        let holder = found.map(|found| found.holder(us, self.is_ours(&found)));
        Ok(reply(LockReply {
            holder,
            ..LockReply::default()
        }))
    }

    fn is_ours(&self, found: &Found) -> bool {
        found.locker.instance == self.client.cluster.instance()
    }

    /// Who holds a lock; an object that is missing is a lock that nobody holds.
    pub(crate) async fn find(&self, object: &Name) -> Answer<Option<Found>> {
        let name = ObjectName::new(object);
        let mut out = vec![0u8; INFO];
        let memory = (out.as_mut_ptr(), out.len());
        let method = (CLASS, c"get_info");
        let argument = wire::get_info();
        // SAFETY: the table keeps the vector, whose heap does not move, until the call back.
        let call = |token| unsafe {
            self.pool
                .ask_class(name.as_c_str(), method, &argument, memory, token)
        };
        let (answer, out) = self.run(out, call).await;
        let len = match answer {
            Err(Errno::NOENT) => return Ok(None),
            answer => answer? as usize,
        };
        let lockers = wire::lockers(&out[..len.min(INFO)]).ok_or(Errno::IO)?;
        Ok(lockers.into_iter().next().map(Found::new))
    }

    /// Ends the tenure of the node that holds a lock. Until it was cut off it could name further
    /// clients in its lock and let them write, and a successor of its blocker could take the lock
    /// over; so what the lock says is read again afterwards, until it says nothing new. Somebody else
    /// who has it by then took it after it was broken, and keeps it.
    async fn break_by_force(&self, volume: &Name, object: &Name, holder: &Found) -> Answer<()> {
        let mut found = holder.clone();
        for _ in 0..BREAKS_MAX {
            self.cut_off_holder(&found).await?;
            match self.find(object).await? {
                Some(now) if !now.is_of_the_node_of(holder) => return Ok(()),
                Some(now) => {
                    if now == found && self.break_lock(object, &now, None).await? {
                        return Ok(());
                    }
                    found = now;
                }
                // Given back; or a successor is just taking it over, and comes too late now.
                None => match self.take(volume, object, Take::FreeOrOurs).await {
                    Ok(()) => return self.unlock(volume, object).await,
                    Err(Errno::BUSY) => {}
                    Err(errno) => return Err(errno),
                },
            }
        }
        tracing::error!(lock = %object, "its holder comes again and again, so the lock stays");
        Err(Errno::BUSY)
    }

    /// Breaks the lock that was found, and leaves it to the `heir`. False: somebody has given it
    /// back, or broken it, meanwhile.
    async fn break_lock(&self, object: &Name, found: &Found, heir: Option<&[u8]>) -> Answer<bool> {
        let argument = wire::break_lock(&found.locker);
        let mut steps = Steps::new().class(CLASS, c"break_lock", &argument);
        if let Some(heir) = heir {
            steps = steps.set(HEIR, heir);
        }
        match self.apply(object, steps).await {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}
