//! A volume to read and write.
//!
//! Long transfers go in pieces of [`PIECE`] bytes, [`DEPTH`] at a time. Each piece is copied once,
//! between the caller's memory and the segment; endpoints that want no copy use [`crate::Core`].

use crate::client::Client;
use crate::core::Done;
use crate::error::Error;
use crate::operations::Hint;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use xseg::protocol::{MapReply, Operation, flags, mapflags};
use xseg::{Name, Request};

/// Bytes of one request of a long transfer.
pub const PIECE: u64 = 1 << 20;
/// Requests of one long transfer under way.
pub const DEPTH: usize = 8;
/// Bytes of a volume that [`Volume::block_status`] asks about at first. The block size is not known
/// then, and a reply takes 280 bytes for each block.
const STATUS_FIRST: u64 = 16 << 20;
/// Once a reply has fewer blocks, twice as many bytes are asked about.
const STATUS_FEW: usize = 1024;

/// A stretch of a volume, and whether anything was ever written there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockStatus {
    /// Bytes from the start of the volume.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// Whether it takes no room and reads as zeros.
    pub hole: bool,
}

/// A handle on a volume; it holds no lock by itself ([`Client::open`] does).
#[derive(Clone)]
pub struct Volume {
    client: Client,
    name: Name,
    size: u64,
    hint: Hint,
}

type Transfer<'a> = Pin<Box<dyn Future<Output = (u64, Done)> + 'a>>;

impl Volume {
    /// A handle on an existing volume.
    pub fn open(client: &Client, name: Name, hint: Hint) -> Result<Volume, Error> {
        let size = client.info(name, hint)?;
        Ok(Volume {
            client: client.clone(),
            name,
            size,
            hint,
        })
    }

    /// Bytes, as they were when the handle was made.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Its name.
    pub fn name(&self) -> Name {
        self.name
    }

    fn error(&self, errno: i32, what: &str, offset: u64) -> Error {
        Error::new(
            errno,
            format!("{what} of volume \"{}\" at {offset}", self.name),
        )
    }

    /// Reads into `bytes` from `offset`; all of it, or an error.
    pub fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<(), Error> {
        self.client.block_on(self.read(bytes, offset))
    }

    /// Writes all of `bytes` at `offset`; durable after [`Volume::flush`].
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        self.client.block_on(self.write(bytes, offset, false))
    }

    /// Writes all of `bytes` at `offset`, durable when it returns.
    pub fn write_durable_at(&self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        self.client.block_on(self.write(bytes, offset, true))
    }

    /// Makes every write that has returned durable.
    pub fn flush(&self) -> Result<(), Error> {
        self.client
            .block_on(self.simple(Operation::Flush, 0, 0, "flush"))
    }

    /// Gives a range back to the storage; whole blocks read as zeros afterwards, where they are
    /// the volume's own.
    pub fn discard(&self, offset: u64, len: u64) -> Result<(), Error> {
        self.client
            .block_on(self.simple(Operation::Discard, offset, len, "discard"))
    }

    /// Makes a range read as zeros.
    pub fn write_zeroes(&self, offset: u64, len: u64) -> Result<(), Error> {
        self.client
            .block_on(self.simple(Operation::Zeroes, offset, len, "write of zeroes"))
    }

    /// Where data is and where holes are, from the map.
    pub fn block_status(&self, offset: u64, len: u64) -> Result<Vec<BlockStatus>, Error> {
        self.client.block_on(self.status(offset, len))
    }

    /// [`Volume::read_at`] as a future.
    pub async fn read(&self, bytes: &mut [u8], offset: u64) -> Result<(), Error> {
        let mut left = pieces(offset, bytes.len() as u64);
        let mut under_way: VecDeque<Transfer<'_>> = VecDeque::new();
        let mut failed = None;
        loop {
            while under_way.len() < DEPTH && failed.is_none() {
                let Some((at, len)) = left.next() else { break };
                under_way.push_back(Box::pin(self.piece(Operation::Read, at, len, None, 0)));
            }
            let Some((at, done)) = first_done(&mut under_way).await else {
                break;
            };
            match done.answer.result() {
                Ok(_) => {
                    let from = (at - offset) as usize;
                    if let Some(data) = &done.data {
                        let to = &mut bytes[from..from + data.len() as usize];
                        data.segment().copy_out(data.address().offset, to);
                    }
                }
                Err(errno) => failed = failed.or(Some(self.error(errno, "read", at))),
            }
            self.client.free(&done);
        }
        failed.map_or(Ok(()), Err)
    }

    /// [`Volume::write_at`] as a future; `fua`: durable when it returns.
    pub async fn write(&self, bytes: &[u8], offset: u64, fua: bool) -> Result<(), Error> {
        let flags = if fua { flags::FUA } else { 0 };
        let mut left = pieces(offset, bytes.len() as u64);
        let mut under_way: VecDeque<Transfer<'_>> = VecDeque::new();
        let mut failed = None;
        loop {
            while under_way.len() < DEPTH && failed.is_none() {
                let Some((at, len)) = left.next() else { break };
                let from = (at - offset) as usize;
                let part = &bytes[from..from + len as usize];
                under_way.push_back(Box::pin(self.piece(
                    Operation::Write,
                    at,
                    len,
                    Some(part),
                    flags,
                )));
            }
            let Some((at, done)) = first_done(&mut under_way).await else {
                break;
            };
            if let Err(errno) = done.answer.result() {
                failed = failed.or(Some(self.error(errno, "write", at)));
            }
            self.client.free(&done);
        }
        failed.map_or(Ok(()), Err)
    }

    async fn piece(
        &self,
        operation: Operation,
        offset: u64,
        len: u64,
        bytes: Option<&[u8]>,
        flags: u32,
    ) -> (u64, Done) {
        let data = match self.client.buffer(len).await {
            Ok(data) => data,
            Err(errno) => {
                let answer = xseg::Answer::failed(errno);
                return (
                    offset,
                    Done {
                        token: 0,
                        answer,
                        data: None,
                        larger: None,
                    },
                );
            }
        };
        if let Some(bytes) = bytes {
            data.fill(bytes);
        }
        let request = self.hint.apply(Request {
            offset,
            size: len,
            flags,
            ..Request::new(operation, self.name)
        });
        (
            offset,
            self.client
                .request(self.client.ports().vlmcd, request, Some(data))
                .await,
        )
    }

    async fn simple(
        &self,
        operation: Operation,
        offset: u64,
        len: u64,
        what: &str,
    ) -> Result<(), Error> {
        let request = self.hint.apply(Request {
            offset,
            size: len,
            ..Request::new(operation, self.name)
        });
        let done = self
            .client
            .request(self.client.ports().vlmcd, request, None)
            .await;
        done.answer
            .result()
            .map(drop)
            .map_err(|errno| self.error(errno, what, offset))
    }

    async fn status(&self, offset: u64, len: u64) -> Result<Vec<BlockStatus>, Error> {
        let mut found: Vec<BlockStatus> = Vec::new();
        let mut at = offset;
        let end = offset.saturating_add(len).min(self.size);
        let mut most = STATUS_FIRST;
        while at < end {
            let size = (end - at).min(most);
            let asked = self.map_part(at, size).await?;
            if asked.is_empty() {
                return Err(self.error(libc::EIO, "block status", at));
            }
            if asked.len() < STATUS_FEW {
                most *= 2;
            }
            for (len, hole) in asked {
                match found.last_mut() {
                    Some(last) if last.hole == hole => last.len += len,
                    _ => found.push(BlockStatus {
                        offset: at,
                        len,
                        hole,
                    }),
                }
                at += len;
            }
        }
        Ok(found)
    }

    async fn map_part(&self, offset: u64, size: u64) -> Result<Vec<(u64, bool)>, Error> {
        let request = self.hint.apply(Request {
            offset,
            size,
            flags: flags::PEEK,
            ..Request::new(Operation::MapRead, self.name)
        });
        let fail = |errno| self.error(errno, "block status", offset);
        let reply = self
            .client
            .call(self.client.ports().mapperd, request, &[], 1 << 16)
            .await
            .map_err(fail)?;
        let map = MapReply::decode(&reply.bytes).map_err(|_| fail(libc::EIO))?;
        Ok(map
            .segments
            .iter()
            .map(|s| (s.size, s.flags & mapflags::ZERO != 0))
            .collect())
    }
}

/// The pieces of a transfer: where each begins, and its bytes.
fn pieces(offset: u64, len: u64) -> impl Iterator<Item = (u64, u64)> {
    let count = len.div_ceil(PIECE).max(u64::from(len == 0));
    (0..count).map(move |i| (offset + i * PIECE, PIECE.min(len - i * PIECE)))
}

/// Polls all, takes the first that is done; `None` when there is none to poll.
async fn first_done(under_way: &mut VecDeque<Transfer<'_>>) -> Option<(u64, Done)> {
    std::future::poll_fn(|cx| {
        if under_way.is_empty() {
            return Poll::Ready(None);
        }
        for at in 0..under_way.len() {
            if let Poll::Ready(done) = under_way[at].as_mut().poll(cx) {
                drop(under_way.remove(at));
                return Poll::Ready(Some(done));
            }
        }
        Poll::Pending
    })
    .await
}
