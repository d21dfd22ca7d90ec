//! The NBD protocol as bytes: numbers, request headers, reply headers. No I/O and no state.
//!
//! Always true here: every integer on the wire is big-endian; a decoder takes exactly the bytes it
//! needs and never indexes by a number that the client sent. Source of all facts: `doc/proto.md` of
//! the NetworkBlockDevice project (public domain), sections "Values" and "Transmission".

/// First eight bytes of the server's greeting: `NBDMAGIC`.
pub const GREETING_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// Second eight bytes of the greeting and first eight of each option: `IHAVEOPT`.
pub const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// First eight bytes of each option reply.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// First four bytes of each request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// First four bytes of a simple reply.
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// First four bytes of a structured reply chunk.
pub const CHUNK_MAGIC: u32 = 0x668e_33ef;

/// Bytes of a request header.
pub const REQUEST_SIZE: usize = 28;
/// Bytes of an option header (magic, option, length).
pub const OPTION_SIZE: usize = 16;
/// Longest string the protocol allows, in bytes.
pub const STRING_SIZE_MAX: usize = 4096;

/// Handshake flags, in both directions.
pub mod handshake_flag {
    /// Options get structured replies.
    pub const FIXED_NEWSTYLE: u16 = 1;
    /// The 124 padding bytes after `EXPORT_NAME` are left out.
    pub const NO_ZEROES: u16 = 2;
}

/// Options of the handshake.
pub mod option {
    #![allow(missing_docs, reason = "the names are the protocol's own")]
    pub const EXPORT_NAME: u32 = 1;
    pub const ABORT: u32 = 2;
    pub const LIST: u32 = 3;
    pub const STARTTLS: u32 = 5;
    pub const INFO: u32 = 6;
    pub const GO: u32 = 7;
    pub const STRUCTURED_REPLY: u32 = 8;
    pub const LIST_META_CONTEXT: u32 = 9;
    pub const SET_META_CONTEXT: u32 = 10;
}

/// Types of option replies.
pub mod option_reply {
    #![allow(missing_docs, reason = "the names are the protocol's own")]
    pub const ACK: u32 = 1;
    pub const SERVER: u32 = 2;
    pub const INFO: u32 = 3;
    pub const META_CONTEXT: u32 = 4;
    pub const ERR_UNSUP: u32 = 0x8000_0001;
    pub const ERR_INVALID: u32 = 0x8000_0003;
    pub const ERR_UNKNOWN: u32 = 0x8000_0006;
}

/// Information items of `INFO` and `GO`.
pub mod info {
    #![allow(missing_docs, reason = "the names are the protocol's own")]
    pub const EXPORT: u16 = 0;
    pub const NAME: u16 = 1;
    pub const DESCRIPTION: u16 = 2;
    pub const BLOCK_SIZE: u16 = 3;
}

/// Transmission flags: what an export can do.
pub mod transmission_flag {
    #![allow(missing_docs, reason = "the names are the protocol's own")]
    pub const HAS_FLAGS: u16 = 1 << 0;
    pub const READ_ONLY: u16 = 1 << 1;
    pub const SEND_FLUSH: u16 = 1 << 2;
    pub const SEND_FUA: u16 = 1 << 3;
    pub const SEND_TRIM: u16 = 1 << 5;
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
    pub const SEND_DF: u16 = 1 << 7;
    pub const CAN_MULTI_CONN: u16 = 1 << 8;
    pub const SEND_FAST_ZERO: u16 = 1 << 11;
}

/// Flags of a command.
pub mod command_flag {
    #![allow(missing_docs, reason = "the names are the protocol's own")]
    pub const FUA: u16 = 1 << 0;
    pub const NO_HOLE: u16 = 1 << 1;
    pub const DF: u16 = 1 << 2;
    pub const REQ_ONE: u16 = 1 << 3;
    pub const FAST_ZERO: u16 = 1 << 4;
}

/// Commands of the transmission phase.
pub mod command {
    #![allow(missing_docs, reason = "the names are the protocol's own")]
    pub const READ: u16 = 0;
    pub const WRITE: u16 = 1;
    pub const DISC: u16 = 2;
    pub const FLUSH: u16 = 3;
    pub const TRIM: u16 = 4;
    pub const WRITE_ZEROES: u16 = 6;
    pub const BLOCK_STATUS: u16 = 7;
}

/// Types of structured reply chunks.
pub mod chunk {
    #![allow(missing_docs, reason = "the names are the protocol's own")]
    pub const NONE: u16 = 0;
    pub const OFFSET_DATA: u16 = 1;
    pub const OFFSET_HOLE: u16 = 2;
    pub const BLOCK_STATUS: u16 = 5;
    pub const ERROR: u16 = 0x8001;
    pub const ERROR_OFFSET: u16 = 0x8002;
    /// Flag of the last chunk of a reply. Every reply of this server is one chunk.
    pub const DONE: u16 = 1;
}

/// A request header as the client sent it. Nothing in it has been checked except the magic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Command flags.
    pub flags: u16,
    /// Command.
    pub command: u16,
    /// The client's name for this request, repeated in the reply.
    pub cookie: u64,
    /// First byte of the range.
    pub offset: u64,
    /// Bytes of the range.
    pub len: u32,
}

impl Request {
    /// Decodes a header; `None` when the magic is wrong, after which the stream makes no sense.
    pub fn decode(bytes: &[u8; REQUEST_SIZE]) -> Option<Self> {
        let mut fields = Fields(bytes);
        (fields.u32()? == REQUEST_MAGIC).then_some(())?;
        Some(Self {
            flags: fields.u16()?,
            command: fields.u16()?,
            cookie: fields.u64()?,
            offset: fields.u64()?,
            len: fields.u32()?,
        })
    }

    /// The header as bytes, as a client would send it.
    pub fn encode(&self) -> [u8; REQUEST_SIZE] {
        let mut bytes = [0; REQUEST_SIZE];
        bytes[0..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
        bytes[4..6].copy_from_slice(&self.flags.to_be_bytes());
        bytes[6..8].copy_from_slice(&self.command.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.cookie.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.offset.to_be_bytes());
        bytes[24..28].copy_from_slice(&self.len.to_be_bytes());
        bytes
    }
}

/// A cursor over foreign bytes. Each getter takes its field off the front, or is `None` when the
/// bytes do not suffice; a length that lies therefore ends in `None`, never in a panic.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// The next `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }

    /// The next 16 bits.
    pub fn u16(&mut self) -> Option<u16> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(u16::from_be_bytes(*head))
    }

    /// The next 32 bits.
    pub fn u32(&mut self) -> Option<u32> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(u32::from_be_bytes(*head))
    }

    /// The next 64 bits.
    pub fn u64(&mut self) -> Option<u64> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(u64::from_be_bytes(*head))
    }

    /// A string with its length (32 bits) in front; `None` also when it is longer than
    /// [`STRING_SIZE_MAX`].
    pub fn string(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()? as usize;
        (len <= STRING_SIZE_MAX).then_some(())?;
        self.bytes(len)
    }

    /// Whether every byte was taken.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Appends a simple reply; `error` is 0 for success.
pub fn put_simple(out: &mut Vec<u8>, error: u32, cookie: u64) {
    out.extend_from_slice(&SIMPLE_REPLY_MAGIC.to_be_bytes());
    out.extend_from_slice(&error.to_be_bytes());
    out.extend_from_slice(&cookie.to_be_bytes());
}

/// Appends the header of the one and last chunk of a reply, whose payload takes `len` bytes.
pub fn put_chunk(out: &mut Vec<u8>, kind: u16, cookie: u64, len: u32) {
    out.extend_from_slice(&CHUNK_MAGIC.to_be_bytes());
    out.extend_from_slice(&chunk::DONE.to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&cookie.to_be_bytes());
    out.extend_from_slice(&len.to_be_bytes());
}

/// Appends what precedes the data of a read: the chunk header and the offset.
pub fn put_data(out: &mut Vec<u8>, cookie: u64, offset: u64, len: u32) {
    put_chunk(out, chunk::OFFSET_DATA, cookie, len + 8);
    out.extend_from_slice(&offset.to_be_bytes());
}

/// Appends a reply that says "this whole range reads as zeros".
pub fn put_hole(out: &mut Vec<u8>, cookie: u64, offset: u64, len: u32) {
    put_chunk(out, chunk::OFFSET_HOLE, cookie, 12);
    out.extend_from_slice(&offset.to_be_bytes());
    out.extend_from_slice(&len.to_be_bytes());
}

/// Appends an error chunk with a sentence, and with the offset of the error if it is known.
pub fn put_error(out: &mut Vec<u8>, cookie: u64, error: u32, sentence: &str, offset: Option<u64>) {
    let sentence = &sentence.as_bytes()[..sentence.len().min(STRING_SIZE_MAX)];
    let (kind, tail) = match offset {
        Some(_) => (chunk::ERROR_OFFSET, 8),
        None => (chunk::ERROR, 0),
    };
    put_chunk(out, kind, cookie, (6 + sentence.len() + tail) as u32);
    out.extend_from_slice(&error.to_be_bytes());
    out.extend_from_slice(&(sentence.len() as u16).to_be_bytes());
    out.extend_from_slice(sentence);
    if let Some(offset) = offset {
        out.extend_from_slice(&offset.to_be_bytes());
    }
}

/// Appends one reply to an option.
pub fn put_option_reply(out: &mut Vec<u8>, option: u32, kind: u32, data: &[&[u8]]) {
    let len: usize = data.iter().map(|part| part.len()).sum();
    out.extend_from_slice(&OPTION_REPLY_MAGIC.to_be_bytes());
    out.extend_from_slice(&option.to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&(len as u32).to_be_bytes());
    data.iter().for_each(|part| out.extend_from_slice(part));
}
