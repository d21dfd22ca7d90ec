//! One request being served: what was asked, by whom, and its step mark.
//!
//! The step mark survives mapperd's death (design section 4). It is set before the first durable
//! step that makes a result visible, and stays set after success: when the answer gets lost on its
//! way (vlmcd dies and asks again), the work is still recognised as done. A failure clears it. The
//! mark of a slot's next request starts at 0.

use crate::core::Core;
use crate::errno::Result;
use crate::gate::Access;
use crate::naming;
use crate::volume::{Inside, Volume};
use mapfile::{V0Hint, VolumeName};
use reactor::sync::Permit;
use std::cell::RefCell;
use std::rc::Rc;
use xseg::protocol::{V0_SIZE_UNKNOWN, flags};
use xseg::{Answer, Extent, Name, Request};

/// The checks passed and the work has begun.
pub(crate) const INTENT: u64 = 1;
/// The volume was not open before: its lock is given back at the end.
pub(crate) const TRANSIENT: u64 = 2;
/// Where an operation's own number begins.
pub(crate) const NUMBER_SHIFT: u32 = 8;

/// A request being served.
pub(crate) struct Job {
    pub(crate) core: Rc<Core>,
    pub(crate) request: Request,
    /// It came over the peers' own region.
    pub(crate) from_peer: bool,
    /// When it came, ns.
    came_ns: u64,
    data: Option<Extent>,
    inside: RefCell<Vec<VolumeName>>,
    permit: RefCell<Option<Permit>>,
}

/// What an operation answers.
#[derive(Default)]
pub(crate) struct Reply {
    pub(crate) answer: Answer,
    /// The reply's data; empty for none.
    pub(crate) bytes: Vec<u8>,
}

impl Reply {
    /// Success, with nothing to say.
    pub(crate) fn done() -> Reply {
        Reply::default()
    }

    /// Success, with data; serviced is its length.
    pub(crate) fn bytes(bytes: Vec<u8>) -> Reply {
        Reply {
            answer: Answer::served(bytes.len() as u64),
            bytes,
        }
    }
}

impl Job {
    pub(crate) fn new(
        core: Rc<Core>,
        request: Request,
        from_peer: bool,
        data: Option<Extent>,
    ) -> Job {
        let (inside, permit) = Default::default();
        Job {
            came_ns: core.now_ns(),
            core,
            request,
            from_peer,
            data,
            inside,
            permit,
        }
    }

    /// Waits until few enough requests are worked on.
    pub(crate) async fn take_permit(&self) {
        let permit = self.core.permits.acquire().await;
        self.permit.replace(Some(permit));
    }

    /// Lets another request be worked on while this one waits for long.
    pub(crate) fn give_up_permit(&self) {
        self.permit.replace(None);
    }

    /// The volume that the request is about.
    pub(crate) fn volume_name(&self) -> Result<VolumeName> {
        naming::volume_name(&self.request.target)
    }

    /// A private copy of the request's data.
    pub(crate) fn data(&self) -> Vec<u8> {
        self.data.as_ref().map(Extent::to_vec).unwrap_or_default()
    }

    /// What the request says about maps without a header (XF_ASSUMEV0).
    pub(crate) fn v0_hint(&self) -> Option<V0Hint> {
        let size = Some(self.request.v0_size).filter(|&size| size != V0_SIZE_UNKNOWN);
        self.request
            .has(flags::ASSUME_V0)
            .then_some(V0Hint { size })
    }

    /// Since when the lock must have been seen to be ours before a lease is given, ns. Half a lease
    /// will do; but who was refused under a lease asks anew because the blocker may know already
    /// that the lock was broken, and then it is looked at again.
    pub(crate) fn lock_seen_since_ns(&self) -> u64 {
        match self.request.lease {
            0 => {
                let half = self.core.config.lease_term.ns() / 2;
                self.core.now_ns().saturating_sub(half)
            }
            _refused => self.came_ns,
        }
    }

    /// Somebody asked before, and a server died over it.
    pub(crate) fn is_replay(&self) -> bool {
        self.request.attempt > 0
    }

    pub(crate) fn mark(&self) -> u64 {
        self.core
            .desk
            .with_seat(|seat| seat.mark(self.request.root))
    }

    pub(crate) fn set_mark(&self, bits: u64) {
        self.core
            .desk
            .with_seat(|seat| seat.set_mark(self.request.root, bits));
    }

    pub(crate) fn add_mark(&self, bits: u64) {
        self.set_mark(self.mark() | bits);
    }

    /// Waits for leave to use a volume.
    pub(crate) async fn enter(&self, name: &VolumeName, access: Access) -> Entered<'_> {
        let inside = self.core.table.enter(name, access).await;
        self.inside.borrow_mut().push(name.clone());
        Entered { job: self, inside }
    }

    /// Waits for leave to use two volumes, in the order of their names.
    pub(crate) async fn enter_two(
        &self,
        one: (&VolumeName, Access),
        two: (&VolumeName, Access),
    ) -> (Entered<'_>, Entered<'_>) {
        if one.0 <= two.0 {
            let first = self.enter(one.0, one.1).await;
            let second = self.enter(two.0, two.1).await;
            (first, second)
        } else {
            let second = self.enter(two.0, two.1).await;
            let first = self.enter(one.0, one.1).await;
            (first, second)
        }
    }

    /// Leave to use a further volume, out of order: only if nobody is in the way. `None` inside:
    /// this request is in there already.
    pub(crate) fn enter_also(&self, name: &VolumeName) -> Option<Option<Inside>> {
        if self.inside.borrow().contains(name) {
            return Some(None);
        }
        self.core.table.try_enter(name, Access::Alone).map(Some)
    }

    /// The log's name for the request's target.
    pub(crate) fn target(&self) -> Name {
        self.request.target
    }
}

/// This request is inside a volume's gate.
pub(crate) struct Entered<'a> {
    job: &'a Job,
    inside: Inside,
}

impl Entered<'_> {
    pub(crate) fn volume(&self) -> &Rc<Volume> {
        &self.inside.volume
    }

    /// Lets others share what was entered alone.
    pub(crate) fn share(&self) {
        self.inside.pass.share();
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut inside = self.job.inside.borrow_mut();
        if let Some(at) = inside
            .iter()
            .position(|name| name == self.inside.volume.name())
        {
            inside.swap_remove(at);
        }
    }
}
