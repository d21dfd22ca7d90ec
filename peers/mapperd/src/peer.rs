//! Requests in, answers out: every request becomes a task, and every task ends in [`serve`], which
//! answers it, whatever came of it (B2).

use crate::core::{Config, Core, count};
use crate::errno::{Errno, Result};
use crate::gate::Access;
use crate::job::{Job, Reply};
use crate::naming;
use reactor::{Env, Executor, Timers};
use runtime::{Desk, Peer};
use std::rc::Rc;
use xseg::protocol::Operation;
use xseg::seat::PRIVATE;
use xseg::{Answer, Incoming, Request};

/// The peer that owns the maps.
pub struct Mapperd {
    core: Rc<Core>,
}

impl Mapperd {
    /// A mapperd that answers through `desk` and runs its operations on `executor`, with the
    /// timers and the clock of the same reactor.
    pub fn new(
        config: Config,
        desk: Desk,
        executor: Executor,
        timers: Timers,
        env: Env,
    ) -> Mapperd {
        Mapperd {
            core: Core::new(config, desk, executor, timers, env),
        }
    }

    /// Combines hashes with `hash`, the algorithm with which blockerb hashes blocks; sha256 where
    /// nothing else is said.
    pub fn with_merkle(self, hash: fn(&[u8]) -> [u8; 32]) -> Mapperd {
        self.core.merkle.set(hash);
        self
    }
}

impl Peer for Mapperd {
    fn request(&mut self, incoming: Incoming, request: &Request) {
        let core = self.core.clone();
        core.under_way.set(core.under_way.get() + 1);
        count(&core.counters.requests);
        let data = core.desk.data(&incoming, request);
        let from_peer = incoming.id().region == PRIVATE;
        let job = Job::new(core.clone(), *request, from_peer, data);
        core.executor.spawn(serve(job, incoming));
    }

    fn reply(&mut self, token: u64, _answer: Answer) {
        // Everything here is asked with `call`, which has its answer from the desk.
        unreachable!("mapperd sent nothing under token {token}");
    }

    fn under_way(&self) -> usize {
        self.core.under_way.get()
    }

    fn give_up_waiting(&mut self) {
        self.core.stopping.set(true);
        self.core.waits.end(None);
    }

    fn finish(&mut self) -> bool {
        self.give_up_waiting();
        let core = &self.core;
        if core.waiting.get() > 0 {
            return false;
        }
        if core.table.held().is_empty() {
            return true;
        }
        core.under_way.set(core.under_way.get() + 1);
        core.executor.spawn(close_all(core.clone()));
        false
    }
}

/// Serves one request: the only place that answers.
async fn serve(job: Job, incoming: Incoming) {
    job.take_permit().await;
    let result = operate(&job).await;
    let core = job.core.clone();
    let result = result.and_then(|reply| {
        if !reply.bytes.is_empty() {
            core.desk
                .reply_bytes(&incoming, &job.request, &reply.bytes)
                .map_err(Errno)?;
        }
        Ok(reply.answer)
    });
    let answer = result.unwrap_or_else(|Errno(errno)| {
        count(&core.counters.failures);
        tracing::debug!(op = job.request.op, target = %job.target(), errno, "a request failed");
        // A failure is final: what comes under this mark later is another attempt.
        job.set_mark(0);
        Answer::failed(errno)
    });
    drop(job);
    core.under_way.set(core.under_way.get() - 1);
    core.desk.answer(incoming, answer);
}

async fn operate(job: &Job) -> Result<Reply> {
    let operation = job.request.operation();
    let creates = matches!(operation, Some(Operation::Create | Operation::Clone));
    if naming::is_old_name(&job.request.target) && !creates {
        job.refuse_shadowed().await?;
    }
    match operation {
        Some(Operation::Ping) => Ok(Reply::done()),
        Some(Operation::Info) => job.info().await,
        Some(Operation::MapRead) => job.map_read().await,
        Some(Operation::MapWrite) => job.map_write().await,
        Some(Operation::Open) => job.open_volume().await,
        Some(Operation::Close) => job.close_volume().await,
        Some(Operation::Flush) => job.flush().await,
        Some(Operation::Create) => job.create().await,
        Some(Operation::Clone) => job.clone_volume().await,
        Some(Operation::Snapshot) => job.snapshot().await,
        Some(Operation::Delete) => job.delete().await,
        Some(Operation::Rename) => job.rename().await,
        Some(Operation::Truncate) => job.truncate().await,
        Some(Operation::Update) => job.update().await,
        Some(Operation::Hash) => job.hash().await,
        Some(Operation::List) => job.list().await,
        Some(Operation::Status) => job.status().await,
        Some(Operation::LockInfo) => job.lock_info_of_volume().await,
        _ => Err(Errno::NOTSUP),
    }
}

/// The node stops: every volume is closed.
async fn close_all(core: Rc<Core>) {
    let job = Job::new(core.clone(), Request::default(), true, None);
    for name in core.table.held() {
        let entered = job.enter(&name, Access::Alone).await;
        if !entered.volume().is_held() {
            continue;
        }
        if let Err(Errno(errno)) = job.close_held(entered.volume()).await {
            tracing::error!(volume = %name, errno, "a volume was not closed cleanly");
        }
    }
    drop(job);
    core.under_way.set(core.under_way.get() - 1);
}
