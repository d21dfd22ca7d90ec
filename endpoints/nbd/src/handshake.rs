//! The handshake: fixed newstyle negotiation as a state machine over bytes, without I/O.
//!
//! ```text
//! client flags -> option -> option -> ... -> GO or EXPORT_NAME -> transmission
//!                    \-> ABORT -> hang up
//! ```
//! Always true: an option is looked at only when all its bytes are there, and only after the reply
//! to the one before has been sent, so a client can't make the server hold more than one option
//! and one reply. Lengths inside an option that disagree with its outer length are answered with
//! `ERR_INVALID`; an outer length above [`OPTION_DATA_MAX`] ends the connection.

use crate::export::BlockSizes;
use crate::extents::CONTEXT_ID;
use crate::wire::{
    Fields, GREETING_MAGIC, OPTION_MAGIC, OPTION_SIZE, STRING_SIZE_MAX, handshake_flag, info,
    option, option_reply, put_option_reply, transmission_flag,
};

/// Most bytes of data that an option may carry.
pub const OPTION_DATA_MAX: usize = 12 << 10;

const CONTEXT: &[u8] = b"base:allocation";

/// What the server tells about its export.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// Name; the empty name is this export too.
    pub name: &'a str,
    /// A line for people; empty for none.
    pub description: &'a str,
    /// Bytes.
    pub size: u64,
    /// Block sizes.
    pub blocks: BlockSizes,
    /// Writes are refused.
    pub read_only: bool,
}

/// What a connection has agreed on so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreed {
    /// No padding after `EXPORT_NAME`.
    pub no_zeroes: bool,
    /// Structured replies.
    pub structured: bool,
    /// `base:allocation` may be asked for.
    pub status: bool,
}

/// What happened with the bytes at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing was used; more bytes are needed.
    More,
    /// So many bytes were used and a reply may have been appended.
    Used(usize, Next),
    /// The client does not speak the protocol; the sentence is for the log.
    Broken(&'static str),
}

/// What follows a used option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another option.
    Option,
    /// The transmission phase.
    Transmission,
    /// The connection ends when the reply is out.
    HangUp,
}

/// The server's side of a handshake.
#[derive(Clone, Debug, Default)]
pub struct Handshake {
    flags_seen: bool,
    /// What was agreed on.
    pub agreed: Agreed,
}

/// The first bytes on every connection.
pub fn greeting() -> [u8; 18] {
    let flags = handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES;
    let mut bytes = [0; 18];
    bytes[0..8].copy_from_slice(&GREETING_MAGIC.to_be_bytes());
    bytes[8..16].copy_from_slice(&OPTION_MAGIC.to_be_bytes());
    bytes[16..18].copy_from_slice(&flags.to_be_bytes());
    bytes
}

impl Handshake {
    /// Looks at what the client sent. Replies are appended to `out`.
    pub fn step(&mut self, input: &[u8], about: &About<'_>, out: &mut Vec<u8>) -> Step {
        if !self.flags_seen {
            return self.client_flags(input);
        }
        let mut fields = Fields(input);
        let (Some(magic), Some(option), Some(len)) = (fields.u64(), fields.u32(), fields.u32())
        else {
            return Step::More;
        };
        let len = len as usize;
        if magic != OPTION_MAGIC {
            return Step::Broken("an option does not begin with its magic");
        }
        if len > OPTION_DATA_MAX {
            return Step::Broken("an option is longer than any the protocol has a use for");
        }
        let Some(data) = fields.bytes(len) else {
            return Step::More;
        };
        match self.option(option, data, about, out) {
            Some(next) => Step::Used(OPTION_SIZE + len, next),
            None => Step::Broken("the export that was asked for is not here"),
        }
    }

    fn client_flags(&mut self, input: &[u8]) -> Step {
        let Some(flags) = Fields(input).u32() else {
            return Step::More;
        };
        let known = u32::from(handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES);
        if flags & !known != 0 {
            return Step::Broken("the client set a handshake flag that was not offered");
        }
        self.agreed.no_zeroes = flags & u32::from(handshake_flag::NO_ZEROES) != 0;
        self.flags_seen = true;
        Step::Used(4, Next::Option)
    }

    /// `None` ends the connection without a reply.
    fn option(
        &mut self,
        option: u32,
        data: &[u8],
        about: &About<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Next> {
        match option {
            option::EXPORT_NAME => return self.export_name(data, about, out),
            option::ABORT => {
                put_option_reply(out, option, option_reply::ACK, &[]);
                return Some(Next::HangUp);
            }
            option::INFO | option::GO => return Some(self.info(option, data, about, out)),
            option::LIST if data.is_empty() => list(about, out),
            option::STRUCTURED_REPLY if data.is_empty() => {
                self.agreed.structured = true;
                put_option_reply(out, option, option_reply::ACK, &[]);
            }
            option::LIST | option::STRUCTURED_REPLY => {
                refuse(
                    out,
                    option,
                    option_reply::ERR_INVALID,
                    "No data belongs to this option.",
                );
            }
            option::LIST_META_CONTEXT | option::SET_META_CONTEXT => {
                self.meta_context(option, data, about, out);
            }
            option::STARTTLS => {
                refuse(
                    out,
                    option,
                    option_reply::ERR_UNSUP,
                    "This server has no TLS.",
                );
            }
            _ => refuse(
                out,
                option,
                option_reply::ERR_UNSUP,
                "This option is not known.",
            ),
        }
        Some(Next::Option)
    }

    fn export_name(&self, name: &[u8], about: &About<'_>, out: &mut Vec<u8>) -> Option<Next> {
        about.is_named(name).then_some(())?;
        out.extend_from_slice(&about.size.to_be_bytes());
        out.extend_from_slice(&about.flags(self.agreed.structured).to_be_bytes());
        if !self.agreed.no_zeroes {
            out.extend_from_slice(&[0; 124]);
        }
        Some(Next::Transmission)
    }

    fn info(&self, option: u32, data: &[u8], about: &About<'_>, out: &mut Vec<u8>) -> Next {
        let Some((name, wanted)) = parse_info(data) else {
            let why = "The lengths in the request do not add up.";
            refuse(out, option, option_reply::ERR_INVALID, why);
            return Next::Option;
        };
        if !about.is_named(name) {
            refuse(
                out,
                option,
                option_reply::ERR_UNKNOWN,
                "There is no export of that name.",
            );
            return Next::Option;
        }
        about.put_info(option, self.agreed.structured, wanted, out);
        put_option_reply(out, option, option_reply::ACK, &[]);
        match option {
            option::GO => Next::Transmission,
            _ => Next::Option,
        }
    }

    /// A `SET` replaces what was set before, also when it fails.
    fn meta_context(&mut self, option: u32, data: &[u8], about: &About<'_>, out: &mut Vec<u8>) {
        let set = option == option::SET_META_CONTEXT;
        self.agreed.status &= !set;
        if !self.agreed.structured {
            let why = "Negotiate structured replies first.";
            return refuse(out, option, option_reply::ERR_INVALID, why);
        }
        let Some(asked) = parse_contexts(data, set) else {
            let why = "The lengths in the request do not add up.";
            return refuse(out, option, option_reply::ERR_INVALID, why);
        };
        if !about.is_named(asked.export) {
            let why = "There is no export of that name.";
            return refuse(out, option, option_reply::ERR_UNKNOWN, why);
        }
        if asked.allocation {
            let id = if set { CONTEXT_ID } else { 0 };
            let data: [&[u8]; 2] = [&id.to_be_bytes(), CONTEXT];
            put_option_reply(out, option, option_reply::META_CONTEXT, &data);
            self.agreed.status |= set;
        }
        put_option_reply(out, option, option_reply::ACK, &[]);
    }
}

impl About<'_> {
    fn is_named(&self, name: &[u8]) -> bool {
        name.is_empty() || name == self.name.as_bytes()
    }

    /// The transmission flags of this export.
    pub fn flags(&self, structured: bool) -> u16 {
        use transmission_flag as flag;
        let common = flag::HAS_FLAGS | flag::SEND_FLUSH | flag::SEND_FUA | flag::CAN_MULTI_CONN;
        let writes = match self.read_only {
            true => flag::READ_ONLY,
            false => flag::SEND_TRIM | flag::SEND_WRITE_ZEROES | flag::SEND_FAST_ZERO,
        };
        let df = if structured { flag::SEND_DF } else { 0 };
        common | writes | df
    }

    fn put_info(&self, option: u32, structured: bool, wanted: Fields<'_>, out: &mut Vec<u8>) {
        let mut put = |kind: u16, data: &[&[u8]]| {
            let kind = kind.to_be_bytes();
            let data = [&[&kind[..]], data].concat();
            put_option_reply(out, option, option_reply::INFO, &data);
        };
        let flags = self.flags(structured).to_be_bytes();
        put(info::EXPORT, &[&self.size.to_be_bytes(), &flags]);
        let wants = |kind| {
            let mut wanted = wanted;
            std::iter::from_fn(|| wanted.u16()).any(|item| item == kind)
        };
        if wants(info::NAME) {
            put(info::NAME, &[self.name.as_bytes()]);
        }
        if wants(info::DESCRIPTION) && !self.description.is_empty() {
            put(info::DESCRIPTION, &[self.description.as_bytes()]);
        }
        if wants(info::BLOCK_SIZE) {
            let sizes = [
                self.blocks.minimum.to_be_bytes(),
                self.blocks.preferred.to_be_bytes(),
                self.blocks.maximum.to_be_bytes(),
            ];
            put(info::BLOCK_SIZE, &[sizes.as_flattened()]);
        }
    }
}

fn list(about: &About<'_>, out: &mut Vec<u8>) {
    let len = (about.name.len() as u32).to_be_bytes();
    let data: [&[u8]; 3] = [&len, about.name.as_bytes(), about.description.as_bytes()];
    put_option_reply(out, option::LIST, option_reply::SERVER, &data);
    put_option_reply(out, option::LIST, option_reply::ACK, &[]);
}

fn refuse(out: &mut Vec<u8>, option: u32, kind: u32, why: &str) {
    put_option_reply(out, option, kind, &[why.as_bytes()]);
}

/// Name and list of wanted items of an `INFO` or `GO`.
fn parse_info(data: &[u8]) -> Option<(&[u8], Fields<'_>)> {
    let mut fields = Fields(data);
    let name = fields.string()?;
    let count = usize::from(fields.u16()?);
    let wanted = Fields(fields.bytes(count * 2)?);
    fields.is_empty().then_some((name, wanted))
}

struct Contexts<'a> {
    export: &'a [u8],
    /// Whether a query leads to `base:allocation`.
    allocation: bool,
}

/// In a `LIST`, no query at all and the query `base:` mean everything; in a `SET`, nothing.
fn parse_contexts(data: &[u8], set: bool) -> Option<Contexts<'_>> {
    let mut fields = Fields(data);
    let export = fields.string()?;
    let count = fields.u32()?;
    let mut allocation = !set && count == 0;
    for _ in 0..count {
        let query = fields.string()?;
        allocation |= query == CONTEXT || (!set && query == b"base:");
    }
    fields.is_empty().then_some(Contexts { export, allocation })
}

const _: () = assert!(OPTION_DATA_MAX > 2 * STRING_SIZE_MAX);
