//! A volume of the node as an export: operations go to the node with the very buffers that the
//! socket was read into.
//!
//! What always holds: a buffer is in the table from `alloc` to `release`, so its memory stays
//! mapped and where it is, whatever becomes of the node meanwhile ([`endpoint::backend`]).
//!
//! Zeroes may leave a hole also where the client asked for none: every volume is thin.

use std::os::fd::{AsRawFd, RawFd};

use endpoint::{Backend, Buffer, Completion, Outcome, State};

use crate::export::{
    BufferId, Buffers, Done, Export, Extent, Extra, Failure, Op, Token, Transfer, Turn,
};

/// What a completion is the end of.
#[derive(Clone, Copy)]
enum Step {
    /// The operation.
    Last,
    /// A discard that must be durable: a flush follows.
    ThenFlush,
}

/// A volume.
pub struct VolumeExport {
    backend: Backend,
    name: String,
    readonly: bool,
    buffers: Vec<Option<Buffer>>,
    free: Vec<usize>,
    /// What is under way, by its token at the backend.
    steps: Vec<Option<(Token, Step)>>,
    free_steps: Vec<usize>,
    completions: Vec<Completion>,
}

impl VolumeExport {
    /// Presents the volume of `backend`.
    pub fn new(backend: Backend, readonly: bool) -> Self {
        Self {
            name: String::from_utf8_lossy(backend.name().as_bytes()).into_owned(),
            backend,
            readonly,
            buffers: Vec::new(),
            free: Vec::new(),
            steps: Vec::new(),
            free_steps: Vec::new(),
            completions: Vec::with_capacity(256),
        }
    }

    fn start(&mut self, token: Token, step: Step, op: endpoint::Op, buffer: Option<BufferId>) {
        let place = self.free_steps.pop().unwrap_or_else(|| {
            self.steps.push(None);
            self.steps.len() - 1
        });
        self.steps[place] = Some((token, step));
        let buffer = buffer.and_then(|id| self.buffers[id.0 as usize].as_ref());
        self.backend.submit(place as u64, op, buffer);
    }

    fn end(&mut self, completion: Completion, done: &mut Vec<Done>) {
        let place = completion.token as usize;
        let (token, step) = self.steps[place].take().expect("a token is completed once");
        self.free_steps.push(place);
        match (completion.result, step) {
            (Ok(_), Step::ThenFlush) => self.start(token, Step::Last, endpoint::Op::Flush, None),
            (result, _) => done.push(Done {
                token,
                result: result.map(extra).map_err(Failure::from),
            }),
        }
    }
}

fn extra(outcome: Outcome) -> Extra {
    match outcome {
        Outcome::Done => Extra::None,
        Outcome::Map(stretches) => {
            let extent = |s: &endpoint::Stretch| Extent {
                len: s.len,
                hole: s.hole,
                zero: s.hole,
            };
            Extra::Extents(stretches.iter().map(extent).collect())
        }
    }
}

// SAFETY: a buffer is part of a segment that stays mapped, at the same address, for as long as the
// `Buffer` in the table lives, and is at least as long as was asked for; it is only ever handled
// as a raw pointer, because other processes share it.
unsafe impl Buffers for VolumeExport {
    fn alloc(&mut self, len: usize, _transfer: Transfer) -> Option<BufferId> {
        let buffer = self.backend.take(len as u64)?;
        let place = self.free.pop().unwrap_or_else(|| {
            self.buffers.push(None);
            self.buffers.len() - 1
        });
        self.buffers[place] = Some(buffer);
        Some(BufferId(place as u64))
    }

    fn buffer(&mut self, id: BufferId) -> (*mut u8, usize) {
        let buffer = self.buffers[id.0 as usize]
            .as_ref()
            .expect("the buffer is out");
        (buffer.as_ptr(), buffer.len() as usize)
    }

    fn release(&mut self, id: BufferId) {
        let buffer = self.buffers[id.0 as usize]
            .take()
            .expect("a buffer is released once");
        self.free.push(id.0 as usize);
        self.backend.give_back(buffer);
    }
}

impl Export for VolumeExport {
    fn size(&self) -> u64 {
        self.backend.size()
    }

    fn read_only(&self) -> bool {
        self.readonly
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn submit(&mut self, token: Token, op: Op) {
        let (step, op, buffer) = match op {
            Op::Read { offset, len, buf } => (
                Step::Last,
                endpoint::Op::Read {
                    offset,
                    len: len.into(),
                },
                Some(buf),
            ),
            Op::Write {
                offset,
                len,
                buf,
                fua,
            } => (
                Step::Last,
                endpoint::Op::Write {
                    offset,
                    len: len.into(),
                    fua,
                },
                Some(buf),
            ),
            Op::Flush => (Step::Last, endpoint::Op::Flush, None),
            Op::Trim { offset, len, fua } => {
                let step = if fua { Step::ThenFlush } else { Step::Last };
                (
                    step,
                    endpoint::Op::Discard {
                        offset,
                        len: len.into(),
                    },
                    None,
                )
            }
            Op::WriteZeroes {
                offset, len, fua, ..
            } => (
                Step::Last,
                endpoint::Op::Zeroes {
                    offset,
                    len: len.into(),
                    fua,
                },
                None,
            ),
            Op::BlockStatus { offset, len, .. } => (
                Step::Last,
                endpoint::Op::Map {
                    offset,
                    len: len.into(),
                },
                None,
            ),
        };
        self.start(token, step, op, buffer);
    }

    fn poll(&mut self, done: &mut Vec<Done>) {
        let mut completions = std::mem::take(&mut self.completions);
        self.backend.poll(&mut completions);
        for completion in completions.drain(..) {
            self.end(completion, done);
        }
        self.completions = completions;
    }

    fn prepare_sleep(&mut self) -> bool {
        self.backend.doze()
    }

    fn event_fd(&self) -> Option<RawFd> {
        Some(self.backend.descriptor().as_raw_fd())
    }

    fn woken(&mut self) {
        self.backend.woken();
    }

    fn turn(&mut self) -> Turn {
        match self.backend.state() {
            State::Over => Turn::Stop,
            _ => Turn::Run,
        }
    }
}
