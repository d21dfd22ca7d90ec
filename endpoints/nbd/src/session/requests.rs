//! The requests of a connection: from a header to an operation, from a completion to a reply.
//!
//! Always true: a header is used up only together with taking a slot and, for data, a buffer; while
//! either is missing, or the server is frozen, it stays where it is and is looked at again. Nothing
//! is submitted while frozen, not even a write whose payload was under way when the freeze began.

use std::ops::ControlFlow;

use super::slots::Outcome;
use super::{Payload, STREAM_BYTES, Scene, Session, Unwanted};
use crate::check::{Action, Rules, check};
use crate::export::{BufferId, Export, Extra, Failure, Op, Token, Transfer};
use crate::extents;
use crate::wire::{REQUEST_SIZE, Request, command, command_flag};

impl Session {
    pub(super) fn next_request<E: Export>(
        &mut self,
        export: &mut E,
        scene: &Scene<'_>,
    ) -> ControlFlow<()> {
        let Some(header) = self.input.header() else {
            return ControlFlow::Break(());
        };
        let Some(request) = Request::decode(header) else {
            self.kill("a request does not begin with its magic");
            return ControlFlow::Break(());
        };
        if self.slots.is_full() {
            self.stalled = true;
            return ControlFlow::Break(());
        }
        self.stream = request.command == command::WRITE && request.len >= STREAM_BYTES;
        let rules = Rules {
            size: export.size(),
            blocks: export.block_sizes(),
            read_only: export.read_only(),
            structured: self.agreed.structured,
            status: self.agreed.status,
        };
        let begun = match check(&request, &rules) {
            Err(refusal) => self.answer(request, Outcome::Refused(refusal)),
            Ok(Action::Nothing) => self.answer(request, Outcome::Success),
            Ok(Action::Disconnect) => {
                self.finish();
                true
            }
            Ok(_) if scene.frozen => false,
            Ok(Action::Plain) => self.begin_plain(request, export),
            Ok(Action::Read) => self.begin_read(request, export),
            Ok(Action::Write) => self.begin_write(request, export),
        };
        self.stalled = !begun;
        match begun {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    }

    /// Answers without the backend.
    fn answer(&mut self, request: Request, outcome: Outcome) -> bool {
        self.input.consume(REQUEST_SIZE);
        let slot = self.slots.take(request, None);
        self.slots.get(slot).outcome = outcome;
        match request.command {
            command::WRITE => {
                let left = request.len as usize;
                self.unwanted = Some(Unwanted { slot, left });
            }
            _ => self.outbox.push(slot),
        }
        true
    }

    fn begin_plain<E: Export>(&mut self, request: Request, export: &mut E) -> bool {
        self.input.consume(REQUEST_SIZE);
        let slot = self.slots.take(request, None);
        self.submit(slot, export);
        true
    }

    /// `false`: no buffer is to be had now.
    fn begin_read<E: Export>(&mut self, request: Request, export: &mut E) -> bool {
        let Some(buffer) = self.take_buffer(request.len, Transfer::ToClient, export) else {
            return false;
        };
        self.input.consume(REQUEST_SIZE);
        let slot = self.slots.take(request, Some(buffer));
        self.submit(slot, export);
        true
    }

    /// `false`: no buffer is to be had now.
    fn begin_write<E: Export>(&mut self, request: Request, export: &mut E) -> bool {
        let Some(buffer) = self.take_buffer(request.len, Transfer::FromClient, export) else {
            return false;
        };
        self.input.consume(REQUEST_SIZE);
        let slot = self.slots.take(request, Some(buffer));
        let len = request.len as usize;
        self.payload = Some(Payload { slot, at: 0, len });
        self.fill_payload(export);
        true
    }

    /// Moves what the read-ahead buffer has of the payload, if one is awaited.
    pub(super) fn fill_payload<E: Export>(&mut self, export: &mut E) {
        let Some(payload) = &mut self.payload else {
            return;
        };
        let slot = self.slots.get(payload.slot);
        let (start, size) = export.buffer(slot.buffer.expect("a write has one"));
        assert!(
            size >= payload.len,
            "the backend gave a buffer that is too short"
        );
        let source = self.input.unused();
        let count = source.len().min(payload.len - payload.at);
        // SAFETY: the source is `count` received bytes of the read-ahead buffer; the target lies
        // in the `len` bytes of a buffer that is the server's alone until submit (contract of
        // Buffers); the two are different allocations.
        unsafe {
            start
                .add(payload.at)
                .copy_from_nonoverlapping(source.as_ptr(), count)
        };
        self.input.consume(count);
        payload.at += count;
    }

    /// Submits the awaited write when it is whole; not while frozen.
    pub(super) fn end_payload<E: Export>(
        &mut self,
        export: &mut E,
        scene: &Scene<'_>,
    ) -> ControlFlow<()> {
        let whole = self.payload.as_ref().is_some_and(Payload::is_whole);
        self.stalled = whole && scene.frozen;
        if !whole || scene.frozen {
            return ControlFlow::Break(());
        }
        if let Some(payload) = self.payload.take() {
            self.submit(payload.slot, export);
        }
        ControlFlow::Continue(())
    }

    fn take_buffer<E: Export>(
        &mut self,
        len: u32,
        transfer: Transfer,
        export: &mut E,
    ) -> Option<BufferId> {
        let len = len as usize;
        let fits = self.buffer_bytes + len <= self.limits.in_flight_bytes_max;
        if !fits && self.buffer_bytes > 0 {
            return None;
        }
        let buffer = export.alloc(len, transfer)?;
        self.buffer_bytes += len;
        Some(buffer)
    }

    pub(super) fn release_buffer<E: Export>(&mut self, slot: u16, export: &mut E) {
        let slot = self.slots.get(slot);
        if let Some(buffer) = slot.buffer.take() {
            self.buffer_bytes -= slot.request.len as usize;
            export.release(buffer);
        }
    }

    fn submit<E: Export>(&mut self, index: u16, export: &mut E) {
        let token = Token(u64::from(self.index) << 16 | u64::from(index));
        let slot = self.slots.get(index);
        slot.at_backend = true;
        self.at_backend += 1;
        export.submit(token, operation(&slot.request, slot.buffer));
    }

    /// The backend finished an operation of this session.
    pub(crate) fn completed<E: Export>(
        &mut self,
        index: u16,
        result: Result<Extra, Failure>,
        export: &mut E,
    ) {
        let structured = self.agreed.structured;
        let slot = self.slots.get(index);
        assert!(slot.at_backend, "the backend completed a token twice");
        slot.at_backend = false;
        self.at_backend -= 1;
        let is_read = slot.request.command == command::READ;
        slot.outcome = outcome(&slot.request, result);
        if matches!(slot.outcome, Outcome::Zeroes) && !structured {
            let (start, _) = export.buffer(slot.buffer.expect("a read has one"));
            // SAFETY: a read's buffer has at least the request's length (asserted by its owner's
            // contract) and is the server's alone again after the completion.
            unsafe { start.write_bytes(0, slot.request.len as usize) };
            slot.outcome = Outcome::Success;
        }
        let keep = is_read && matches!(slot.outcome, Outcome::Success);
        if !keep || self.is_dead() {
            self.release_buffer(index, export);
        }
        match self.is_dead() {
            true => self.slots.free(index),
            false => self.outbox.push(index),
        }
    }
}

fn operation(request: &Request, buffer: Option<BufferId>) -> Op {
    let (offset, len) = (request.offset, request.len);
    let has = |flag| request.flags & flag != 0;
    let fua = has(command_flag::FUA);
    match (request.command, buffer) {
        (command::READ, Some(buf)) => Op::Read { offset, len, buf },
        (command::WRITE, Some(buf)) => Op::Write {
            offset,
            len,
            buf,
            fua,
        },
        (command::FLUSH, _) => Op::Flush,
        (command::TRIM, _) => Op::Trim { offset, len, fua },
        (command::WRITE_ZEROES, _) => Op::WriteZeroes {
            offset,
            len,
            fua,
            no_hole: has(command_flag::NO_HOLE),
            fast: has(command_flag::FAST_ZERO),
        },
        (command::BLOCK_STATUS, _) => Op::BlockStatus {
            offset,
            len,
            one: has(command_flag::REQ_ONE),
        },
        _ => unreachable!("the check lets only these through, reads and writes with a buffer"),
    }
}

fn outcome(request: &Request, result: Result<Extra, Failure>) -> Outcome {
    match (result, request.command) {
        (Err(failure), _) => Outcome::Failed(failure),
        (Ok(extra), command::BLOCK_STATUS) => {
            let extents = match &extra {
                Extra::Extents(extents) => extents.as_slice(),
                _ => &[],
            };
            let one = request.flags & command_flag::REQ_ONE != 0;
            Outcome::Status(extents::payload(extents, request.len, one))
        }
        (Ok(Extra::Zeroes), command::READ) => Outcome::Zeroes,
        (Ok(_), _) => Outcome::Success,
    }
}
