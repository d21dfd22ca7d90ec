//! Objects that are moved because somebody met them (`pithos_migrate`), in the background: nobody
//! who reads waits for the syncs of a move.
//!
//! What always holds: an object is served from wherever it lies, before, during and after its move,
//! so a move that fails or never comes costs nothing but the old name. A driver that stops lets the
//! moves end that were asked for; one that is killed leaves at most a second name of the same file,
//! which whoever opens the object next removes.

use crate::core::Core;
use crate::moving::{Move, Outcome, RootDirs, move_all};
use crate::object::Object;
use driver::Name;
use reactor::sync::Notify;
use std::cell::{Cell, RefCell};
use std::collections::{HashSet, VecDeque};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

/// Moves that share their syncs.
const BATCH: usize = 64;
/// How long the first of them waits for others, ns: some cold reads of a block take that long.
const GATHER_NS: u64 = 50_000_000;
/// Moves that may wait; an object that is met when there are more is moved when it is met again.
const WAITING_MAX: usize = 4096;

/// The moves that were asked for.
#[derive(Default)]
pub(crate) struct Moves {
    waiting: RefCell<VecDeque<Move>>,
    /// Those that wait and those under way.
    unfinished: RefCell<HashSet<Name>>,
    /// Whether the task that moves them runs.
    running: Cell<bool>,
    /// Somebody waits for one: no more are waited for.
    hurried: Cell<bool>,
    hurry: Notify,
    ended: Notify,
}

impl Moves {
    /// How many have not ended.
    pub(crate) fn count(&self) -> usize {
        self.unfinished.borrow().len()
    }

    /// Somebody waits until they have ended.
    pub(crate) fn hurry(&self) {
        self.hurried.set(true);
        self.hurry.notify_all();
    }

    fn next(&self) -> Vec<Move> {
        let mut waiting = self.waiting.borrow_mut();
        let count = waiting.len().min(BATCH);
        waiting.drain(..count).collect()
    }
}

impl Core {
    /// Has an object moved that was met at its old place, or under both names.
    pub(crate) fn want_move(self: &Rc<Self>, one: Move) {
        let moves = &self.moves;
        if moves.count() >= WAITING_MAX || !moves.unfinished.borrow_mut().insert(one.name) {
            return;
        }
        moves.waiting.borrow_mut().push_back(one);
        if !moves.running.replace(true) {
            let core = self.clone();
            self.executor
                .spawn(async move { core.move_waiting().await });
        }
    }

    /// Waits until a move of `name`, if one was asked for, has ended.
    pub(crate) async fn await_move(&self, name: &Name) {
        while self.moves.unfinished.borrow().contains(name) {
            self.moves.hurry();
            self.moves.ended.notified().await;
        }
    }

    /// Lets more of them come together, which then share their syncs, unless somebody waits.
    async fn gather_moves(&self) {
        let until = self.env.clock.now_ns() + GATHER_NS;
        let (mut enough, mut hurry) = (
            self.timers.sleep_until(until),
            pin!(self.moves.hurry.notified()),
        );
        poll_fn(|context| {
            let ended = self.moves.hurried.get()
                || Pin::new(&mut enough).poll(context).is_ready()
                || hurry.as_mut().poll(context).is_ready();
            match ended {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    async fn move_waiting(self: Rc<Self>) {
        loop {
            self.gather_moves().await;
            let batch = self.moves.next();
            if batch.is_empty() {
                self.moves.running.set(false);
                self.moves.hurried.set(false);
                return;
            }
            for (one, outcome) in batch.iter().zip(self.move_now(batch.clone()).await) {
                if let Outcome::Left(why) = outcome {
                    tracing::warn!(object = %one.name, %why, "it stays at its old place");
                }
                self.moves.unfinished.borrow_mut().remove(&one.name);
            }
            self.moves.ended.notify_all();
        }
    }

    /// Moves all of them; outcomes in their order.
    pub(crate) async fn move_now(&self, moves: Vec<Move>) -> Vec<Outcome> {
        let dirs = RootDirs(self.fs.root.clone());
        let job = move || (move_all(&dirs, &moves), moves);
        let (outcomes, moves) = self.fs.offload.run(job).await;
        for (one, outcome) in moves.iter().zip(&outcomes) {
            if matches!(outcome, Outcome::Moved | Outcome::Gone)
                && let Some(object) = self.cache.borrow().get(&one.name)
            {
                object.place.set(one.to);
            }
        }
        outcomes
    }

    /// How many names lead to an object; one where nobody can tell.
    pub(crate) fn links(object: &Object) -> u64 {
        nix::sys::stat::fstat(&object.file).map_or(1, |stat| stat.st_nlink)
    }
}
