//! A request between `xseg_get_request` and `xseg_put_request`.

use client::{Core, Done};
use xseg::protocol::{Operation, PortNo, V0_SIZE_UNKNOWN};
use xseg::{Extent, Name, Request};

use crate::abi::{self, TARGET_MAX, xseg_request};
use crate::shared::Shared;

/// Whose turn it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// The program's.
    Program,
    /// The peer's.
    Peer,
    /// It is answered, and the program has not received it.
    Landed,
}

/// A request that a program holds.
pub(crate) struct Held {
    pub(crate) record: Shared<xseg_request>,
    target: Shared<[u8; TARGET_MAX]>,
    buffer: Option<Extent>,
    pub(crate) turn: Turn,
    /// The port that it was got for, whose seat holds its buffer.
    pub(crate) port: PortNo,
    /// `xseg_set_req_data`, an address of the program's.
    pub(crate) user: Option<usize>,
}

impl Held {
    pub(crate) fn new(src: PortNo, dst: PortNo) -> Held {
        let target = Shared::new([0; TARGET_MAX]);
        let record = Shared::new(xseg_request {
            v0_size: V0_SIZE_UNKNOWN,
            target: target.address() as u64,
            src_portno: src,
            transit_portno: src,
            dst_portno: dst,
            effective_dst_portno: dst,
            ..xseg_request::default()
        });
        Held {
            record,
            target,
            buffer: None,
            turn: Turn::Program,
            port: src,
            user: None,
        }
    }

    /// Makes room for a target and data. What was there is lost.
    pub(crate) fn prepare(
        &mut self,
        core: &mut Core,
        targetlen: u32,
        datalen: u64,
    ) -> Result<(), String> {
        if targetlen as usize > TARGET_MAX {
            return Err(format!(
                "a target of {targetlen} bytes: at most {TARGET_MAX}"
            ));
        }
        self.free(core);
        if datalen > 0 {
            let buffer = core.take_buffer(datalen);
            self.buffer =
                Some(buffer.ok_or_else(|| {
                    format!("the segment has no buffer of {datalen} bytes free now")
                })?);
        }
        self.target.write([0; TARGET_MAX]);
        self.record.change(|r| r.targetlen = targetlen);
        self.show_buffer(datalen);
        Ok(())
    }

    /// Like [`Held::prepare`], but keeps target and data when the buffer is large enough.
    pub(crate) fn resize(
        &mut self,
        core: &mut Core,
        targetlen: u32,
        datalen: u64,
    ) -> Result<(), String> {
        if targetlen as usize > TARGET_MAX || datalen > self.room() {
            return self.prepare(core, targetlen, datalen);
        }
        self.record.change(|r| {
            r.targetlen = targetlen;
            r.datalen = datalen;
        });
        Ok(())
    }

    fn room(&self) -> u64 {
        self.buffer.as_ref().map_or(0, Extent::len)
    }

    /// Where the data is, for C.
    pub(crate) fn data(&self) -> *mut u8 {
        let none = std::ptr::null_mut();
        self.buffer.as_ref().map_or(none, Extent::as_ptr)
    }

    /// Where the target is, for C.
    pub(crate) fn target(&self) -> *mut u8 {
        self.target.as_ptr().cast()
    }

    fn show_buffer(&self, datalen: u64) {
        let address = self.data() as u64;
        let room = self.room();
        self.record.change(|r| {
            (r.data, r.buffer) = (address, address);
            (r.datalen, r.bufferlen) = (datalen, room);
        });
    }

    /// Sends it under its address as token.
    pub(crate) fn submit(&mut self, core: &mut Core) -> Result<PortNo, String> {
        let record = self.record.read();
        let request = self.request(&record)?;
        let data = self.data_to_send(record.datalen)?;
        let to = record.effective_dst_portno;
        self.record.change(|r| {
            r.state &= !(abi::state::SERVED | abi::state::FAILED);
            (r.serviced, r.error) = (0, 0);
            r.transit_portno = self.port;
        });
        let token = self.record.address() as u64;
        match core.submit(to, &request, data, token) {
            Ok(()) => {
                self.turn = Turn::Peer;
                Ok(to)
            }
            Err((libc::EAGAIN, _)) => Err("the segment has no request free now".into()),
            Err((libc::ENXIO, _)) => Err(format!("nobody serves port {to}")),
            Err((errno, _)) => Err(nix::errno::Errno::from_raw(errno).desc().into()),
        }
    }

    fn request(&self, record: &xseg_request) -> Result<Request, String> {
        let target = self.target.read();
        let name = target
            .get(..record.targetlen as usize)
            .and_then(Name::new)
            .ok_or("the request's targetlen is larger than what was prepared")?;
        Ok(Request {
            op: record.op,
            flags: record.flags,
            target: name,
            offset: record.offset,
            size: record.size,
            v0_size: record.v0_size,
            ..Request::default()
        })
    }

    fn data_to_send(&self, datalen: u64) -> Result<Option<Extent>, String> {
        let data = match (&self.buffer, datalen) {
            (_, 0) => return Ok(None),
            (Some(buffer), len) => buffer.slice(0, len),
            (None, _) => None,
        };
        let larger = "the request's datalen is larger than what was prepared";
        data.map(Some).ok_or_else(|| larger.into())
    }

    /// Takes its answer in.
    pub(crate) fn land(&mut self, core: &mut Core, done: Done) {
        self.turn = Turn::Landed;
        if let Some(larger) = done.larger {
            self.free(core);
            let len = larger.len();
            self.buffer = Some(larger);
            self.show_buffer(len);
        }
        let errno = done.answer.errno;
        let state = match errno {
            0 => abi::state::SERVED,
            _ => abi::state::FAILED,
        };
        self.record.change(|r| {
            r.state |= state;
            (r.serviced, r.error) = (done.answer.serviced, errno);
        });
        if errno != 0 {
            self.clear_failed_info();
        }
    }

    /// QEMU's driver takes the size from the data without a look at the state.
    fn clear_failed_info(&self) {
        let info = self.record.read().op == Operation::Info as u32;
        if let Some(buffer) = self.buffer.as_ref().filter(|_| info) {
            buffer.fill(&[0; 8]);
        }
    }

    /// Gives the buffer back; never while a peer has the request.
    pub(crate) fn free(&mut self, core: &mut Core) {
        if let Some(buffer) = self.buffer.take() {
            core.give_buffer_back(&buffer);
        }
    }
}
