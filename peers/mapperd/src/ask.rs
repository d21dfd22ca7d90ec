//! How the blockers are asked.
//!
//! What always holds: a request that found no slot, no buffer or no server is sent again for a
//! while, because a dead peer comes back; it names the client's request that it is part of, so
//! that what belongs to a marked request is served first after a death.

use crate::errno::{Errno, Result};
use crate::job::Job;
use runtime::Scratch;
use xseg::{Answer, Request};

/// How long a shortage is waited for, and how often it is looked at.
const PATIENCE_NS: u64 = 10_000_000_000;
const PAUSE_NS: u64 = 1_000_000;

/// Which blocker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// blockerm: headers, chunks, locks.
    Maps,
    /// blockerb: data objects.
    Blocks,
}

impl Job {
    async fn pause(&self) {
        self.core
            .timers
            .sleep_until(self.core.now_ns() + PAUSE_NS)
            .await;
    }

    pub(crate) async fn scratch(&self, len: u64) -> Result<Scratch> {
        let deadline = self.core.now_ns() + PATIENCE_NS;
        loop {
            match self.core.desk.scratch(len) {
                Ok(scratch) => return Ok(scratch),
                Err(_) if self.core.now_ns() < deadline => self.pause().await,
                Err(errno) => return Err(Errno(errno)),
            }
        }
    }

    pub(crate) async fn filled(&self, bytes: &[u8]) -> Result<Scratch> {
        let scratch = self.scratch(bytes.len() as u64).await?;
        scratch.fill(bytes);
        Ok(scratch)
    }

    pub(crate) async fn ask(
        &self,
        side: Side,
        request: Request,
        data: Option<&Scratch>,
    ) -> Result<Answer> {
        let port = match side {
            Side::Maps => self.core.config.blockerm_port,
            Side::Blocks => self.core.config.blockerb_port,
        };
        let (address, datalen) = data.map_or_else(Default::default, |d| (d.address(), d.len()));
        let request = Request {
            data: address,
            datalen,
            root: self.request.root,
            ..request
        };
        let deadline = self.core.now_ns() + PATIENCE_NS;
        loop {
            let answer = self.core.desk.call(port, &request).await;
            match answer.result() {
                Ok(_) => return Ok(answer),
                Err(errno) if Errno(errno).is_shortage() && self.core.now_ns() < deadline => {
                    self.pause().await;
                }
                Err(errno) => return Err(Errno(errno)),
            }
        }
    }
}
