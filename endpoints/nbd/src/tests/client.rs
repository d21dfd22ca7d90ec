//! A client as bytes: options and requests to send, replies to read. Written from `doc/proto.md`,
//! not from the server's encoders, so that the two check each other.

use crate::wire::{CHUNK_MAGIC, Fields, OPTION_MAGIC, OPTION_REPLY_MAGIC, SIMPLE_REPLY_MAGIC};

/// An option with its data.
pub(super) fn option(option: u32, data: &[u8]) -> Vec<u8> {
    [
        &OPTION_MAGIC.to_be_bytes()[..],
        &option.to_be_bytes(),
        &(data.len() as u32).to_be_bytes(),
        data,
    ]
    .concat()
}

/// The data of an `INFO` or `GO`.
pub(super) fn info_data(name: &str, wanted: &[u16]) -> Vec<u8> {
    let mut data = string(name);
    data.extend((wanted.len() as u16).to_be_bytes());
    wanted
        .iter()
        .for_each(|item| data.extend(item.to_be_bytes()));
    data
}

/// The data of a `LIST_META_CONTEXT` or `SET_META_CONTEXT`.
pub(super) fn context_data(name: &str, queries: &[&str]) -> Vec<u8> {
    let mut data = string(name);
    data.extend((queries.len() as u32).to_be_bytes());
    queries.iter().for_each(|query| data.extend(string(query)));
    data
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat()
}

/// The option replies in `bytes`: option, type, data. Panics when they are malformed.
pub(super) fn option_replies(bytes: &[u8]) -> Vec<(u32, u32, Vec<u8>)> {
    let mut fields = Fields(bytes);
    let mut replies = Vec::new();
    while !fields.is_empty() {
        assert_eq!(fields.u64(), Some(OPTION_REPLY_MAGIC));
        let (option, kind) = (fields.u32().unwrap(), fields.u32().unwrap());
        let len = fields.u32().unwrap() as usize;
        replies.push((option, kind, fields.bytes(len).unwrap().to_vec()));
    }
    replies
}

/// One reply of the transmission phase.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Cookie, error, and for a successful read the data.
    Simple(u64, u32, Vec<u8>),
    /// Cookie, type and payload.
    Chunk(u64, u16, Vec<u8>),
}

impl Reply {
    pub(super) fn cookie(&self) -> u64 {
        match self {
            Self::Simple(cookie, ..) | Self::Chunk(cookie, ..) => *cookie,
        }
    }

    /// The error, 0 for success.
    pub(super) fn error(&self) -> u32 {
        match self {
            Self::Simple(_, error, _) => *error,
            Self::Chunk(_, kind, payload) if kind & 0x8000 != 0 => Fields(payload).u32().unwrap(),
            Self::Chunk(..) => 0,
        }
    }

    /// What a successful read of `len` bytes brought.
    pub(super) fn data(&self, len: usize) -> Vec<u8> {
        match self {
            Self::Simple(_, 0, data) => data.clone(),
            Self::Chunk(_, 1, payload) => payload[8..].to_vec(),
            Self::Chunk(_, 2, payload) => {
                let zeros = u32::from_be_bytes(*payload.last_chunk().unwrap());
                assert_eq!(zeros as usize, len);
                vec![0; len]
            }
            other => panic!("no data in {other:?}"),
        }
    }
}

/// The replies in `bytes`. `read_len` tells how many bytes a successful simple reply to a cookie
/// carries. Panics when they are malformed.
pub(super) fn replies(bytes: &[u8], read_len: impl Fn(u64) -> usize) -> Vec<Reply> {
    let mut fields = Fields(bytes);
    let mut replies = Vec::new();
    while !fields.is_empty() {
        let magic = fields.u32().unwrap();
        if magic == SIMPLE_REPLY_MAGIC {
            let (error, cookie) = (fields.u32().unwrap(), fields.u64().unwrap());
            let len = if error == 0 { read_len(cookie) } else { 0 };
            let data = fields.bytes(len).unwrap().to_vec();
            replies.push(Reply::Simple(cookie, error, data));
        } else {
            assert_eq!(magic, CHUNK_MAGIC);
            assert_eq!(fields.u16(), Some(1), "every reply is one chunk");
            let (kind, cookie) = (fields.u16().unwrap(), fields.u64().unwrap());
            let len = fields.u32().unwrap() as usize;
            let payload = fields.bytes(len).unwrap().to_vec();
            replies.push(Reply::Chunk(cookie, kind, payload));
        }
    }
    replies
}
