//! Flushes, and what is forwarded to mapperd.

use crate::op::{Stage, Token};
use crate::peer::{Kind, Vlmcd, kind_of};
use xseg::protocol::Operation;
use xseg::{Answer, Request};

/// Bytes of the reply of INFO.
const INFO_LEN: u64 = 8;

impl Vlmcd {
    /// Makes durable what was answered before: the data, then the map.
    pub(crate) fn flush(&mut self, index: u32) {
        let (op, volume) = self.op_and_volume(index);
        if !volume.dirty_data && volume.data_syncs == 0 {
            return self.sync_map(index);
        }
        // What is answered from here on is for the next flush.
        volume.dirty_data = false;
        volume.data_syncs += 1;
        op.stage = Stage::SyncData;
        let request = Request {
            tag: volume.tag,
            root: op.request.root,
            ..Request::new(Operation::SyncTag, op.request.target)
        };
        match self.send(self.settings.blocker_port, &request, Token::of(index)) {
            Ok(true) => {}
            Ok(false) => self.data_sync_ended(index, false),
            Err(errno) => {
                self.data_sync_ended(index, false);
                self.fail(index, errno);
            }
        }
    }

    fn data_sync_ended(&mut self, index: u32, clean: bool) {
        let (_, volume) = self.op_and_volume(index);
        volume.data_syncs -= 1;
        volume.dirty_data |= !clean;
        // Mapperd looks at the lock even when the map has nothing to sync: a flush is never
        // acknowledged by a node that lost its volume.
        volume.dirty_map = true;
    }

    fn map_sync_ended(&mut self, index: u32, clean: bool) {
        let (_, volume) = self.op_and_volume(index);
        volume.map_syncs -= 1;
        volume.dirty_map |= !clean;
    }

    /// The data's sync was answered.
    pub(crate) fn data_synced(&mut self, index: u32, answer: Answer) {
        self.data_sync_ended(index, answer.errno == 0);
        match answer.errno {
            0 => self.sync_map(index),
            errno => self.fail(index, errno as i32),
        }
    }

    /// Makes the map's entries durable, or goes on when there is nothing to do.
    pub(crate) fn sync_map(&mut self, index: u32) {
        let (op, volume) = self.op_and_volume(index);
        if !volume.dirty_map && volume.map_syncs == 0 {
            return self.synced(index);
        }
        volume.dirty_map = false;
        volume.map_syncs += 1;
        op.stage = Stage::SyncMap;
        let request = Request {
            tag: volume.tag,
            // With a lease mapperd answers ESTALE when the lock is not ours any more.
            lease: volume.lease,
            attempt: op.request.attempt,
            root: op.request.root,
            ..Request::new(Operation::Flush, op.request.target)
        };
        match self.send(self.settings.mapper_port, &request, Token::of(index)) {
            Ok(true) => {}
            Ok(false) => self.map_sync_ended(index, false),
            Err(errno) => {
                self.map_sync_ended(index, false);
                self.fail(index, errno);
            }
        }
    }

    /// The map's sync was answered.
    pub(crate) fn map_synced(&mut self, index: u32, answer: Answer) {
        self.map_sync_ended(index, answer.errno == 0);
        match answer.errno {
            0 => self.synced(index),
            errno => self.fail(index, errno as i32),
        }
    }

    /// Everything is durable: a flush serves 0 bytes, a durable write its size.
    fn synced(&mut self, index: u32) {
        let flush = kind_of(&self.op(index).request) == Some(Kind::Flush);
        self.counters.flushes += u64::from(flush);
        let size = if flush {
            0
        } else {
            self.op(index).request.size
        };
        self.finish(index, Answer::served(size));
    }

    /// Sends a request on to mapperd, with the client's own data.
    pub(crate) fn forward(&mut self, index: u32) {
        let desk = self.desk.clone();
        let (op, volume) = self.op_and_volume(index);
        let (mut data, mut datalen) = (op.request.data, op.request.datalen);
        if op.request.operation() == Some(Operation::Info) && datalen < INFO_LEN {
            let Ok(scratch) = desk.scratch(INFO_LEN) else {
                return self.fail(index, libc::ENOBUFS);
            };
            (data, datalen) = (scratch.address(), INFO_LEN);
            op.scratch = Some(scratch);
        }
        op.stage = Stage::Forwarded;
        let request = Request {
            data,
            datalen,
            tag: volume.tag,
            lease: 0,
            ..op.request
        };
        match self.send(self.settings.mapper_port, &request, Token::of(index)) {
            Ok(_) => {}
            Err(errno) => self.fail(index, errno),
        }
    }

    /// Mapperd answered what was forwarded.
    pub(crate) fn forwarded(&mut self, index: u32, answer: Answer) {
        let desk = self.desk.clone();
        let (op, volume) = self.op_and_volume(index);
        if answer.errno == 0 && kind_of(&op.request) == Some(Kind::Freezer) {
            // Mapperd began with a flush of both.
            volume.dirty_data = false;
            volume.dirty_map = false;
        }
        if let Some(scratch) = op.scratch.take()
            && answer.errno == 0
            && let Some(incoming) = &op.incoming
            && let Err(errno) = desk.reply_bytes(incoming, &op.request, &scratch.to_vec())
        {
            return self.fail(index, errno);
        }
        self.finish(
            index,
            Answer {
                tag: 0,
                lease: 0,
                ..answer
            },
        );
    }
}
