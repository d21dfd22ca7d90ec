//! Whole connections without a socket: a client's bytes go in, cut anywhere; the server's come out.

use proptest::prelude::*;

use super::client::{Reply, context_data, info_data, option, replies};
use crate::backends::MemoryExport;
use crate::export::Buffers;
use crate::play::{LIMITS, Play, SIZE};
use crate::session::Limits;
use crate::wire::{Request, command, option};

impl Play {
    /// Past the handshake, with an empty `out`.
    fn connected(limits: Limits, structured: bool) -> Self {
        let mut play = Self::new(limits);
        let mut bytes = 3u32.to_be_bytes().to_vec();
        if structured {
            bytes.extend(option(option::STRUCTURED_REPLY, b""));
            let contexts = context_data("vol", &["base:allocation"]);
            bytes.extend(option(option::SET_META_CONTEXT, &contexts));
        }
        bytes.extend(option(option::GO, &info_data("vol", &[])));
        assert!(play.feed(&bytes, usize::MAX).is_empty());
        assert!(play.session.is_transmitting());
        play.out.clear();
        play
    }
}

fn request(command: u16, cookie: u64, offset: u64, len: u32) -> Vec<u8> {
    Request {
        flags: 0,
        command,
        cookie,
        offset,
        len,
    }
    .encode()
    .to_vec()
}

fn write(cookie: u64, offset: u64, data: &[u8]) -> Vec<u8> {
    let mut bytes = request(command::WRITE, cookie, offset, data.len() as u32);
    bytes.extend(data);
    bytes
}

#[test]
fn what_was_written_is_read_back_with_either_kind_of_reply() {
    for structured in [false, true] {
        let mut play = Play::connected(LIMITS, structured);
        let data: Vec<u8> = (0..9000u32).map(|index| index as u8).collect();
        play.feed(&write(1, 100, &data), usize::MAX);
        play.feed(&request(command::READ, 2, 100, 9000), usize::MAX);
        play.feed(&request(command::READ, 3, 32768, 4096), usize::MAX);
        let got = replies(&play.out, |cookie| [0, 0, 9000, 4096][cookie as usize]);
        assert_eq!(got[0], Reply::Simple(1, 0, vec![]));
        assert_eq!(got[1].data(9000), data);
        assert_eq!(got[2].data(4096), vec![0; 4096]);
        assert_eq!(
            matches!(got[2], Reply::Chunk(3, 2, _)),
            structured,
            "a hole is told"
        );
        assert_eq!(play.export.buffers_taken(), 0);
    }
}

/// libnbd took an answer to a write that it was still sending for a fault of the server ("no
/// matching cookie found").
#[test]
fn a_refused_write_is_skipped_whatever_its_length_and_then_answered() {
    let mut play = Play::connected(LIMITS, true);
    let beyond = write(1, SIZE as u64, &vec![7; 100_000]);
    let (most, last) = beyond.split_at(beyond.len() - 1);
    assert!(play.feed(most, 3000).is_empty() && play.out.is_empty());
    assert!(play.feed(last, 3000).is_empty());
    play.feed(&request(command::READ, 2, 0, 512), usize::MAX);
    let got = replies(&play.out, |_| 512);
    assert_eq!((got[0].cookie(), got[0].error()), (1, 28));
    assert_eq!(got[1].data(512), vec![0; 512]);
    let Reply::Chunk(_, 0x8001, payload) = &got[0] else {
        panic!("no error chunk: {:?}", got[0]);
    };
    assert!(
        payload[6..].starts_with(b"The range reaches past"),
        "a sentence for people"
    );
}

#[test]
fn a_client_that_reads_no_replies_holds_a_bounded_amount() {
    let mut play = Play::connected(LIMITS, false);
    play.deaf = true;
    let many: Vec<u8> = (0..100_000)
        .flat_map(|cookie| request(command::READ, cookie, 0, 512))
        .collect();
    let rest = play.feed(&many, usize::MAX);
    let taken = many.len() - rest.len();
    assert!(taken <= LIMITS.read_ahead_bytes + 28 * usize::from(LIMITS.in_flight_max));
    assert!(play.session.is_stalled() && play.session.room(&mut play.export).is_none());
    assert_eq!(play.export.buffers_taken(), 4, "as many as the backend has");
    play.deaf = false;
    play.settle(usize::MAX);
    let rest = play.feed(rest, usize::MAX);
    assert!(rest.is_empty());
    assert_eq!(replies(&play.out, |_| 512).len(), 100_000);
}

#[test]
fn frozen_requests_wait_and_go_on_in_order() {
    let mut play = Play::connected(LIMITS, false);
    play.frozen = true;
    play.feed(&write(1, 0, &[9; 512]), usize::MAX);
    play.feed(&request(command::FLUSH, 2, 0, 0), usize::MAX);
    play.feed(&request(command::READ, 3, 0, 512), usize::MAX);
    assert!(play.out.is_empty() && play.session.at_backend() == 0);
    assert_eq!(
        play.export.buffers_taken(),
        0,
        "no buffer is taken while frozen"
    );
    play.frozen = false;
    play.advance();
    play.settle(usize::MAX);
    let got = replies(&play.out, |cookie| if cookie == 3 { 512 } else { 0 });
    assert_eq!(got.iter().map(Reply::cookie).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(got[2].data(512), vec![9; 512]);
}

#[test]
fn the_end_of_the_stream_answers_what_came_whole_and_drops_the_rest() {
    let mut play = Play::connected(LIMITS, false);
    play.deaf = true;
    play.feed(&request(command::READ, 1, 0, 512), usize::MAX);
    play.feed(&request(command::READ, 2, 0, 512)[..20], usize::MAX);
    play.deaf = false;
    play.end();
    assert_eq!(replies(&play.out, |_| 512).len(), 1);
    assert!(play.session.is_over());
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_write_leaves_no_buffer() {
    let mut play = Play::connected(LIMITS, false);
    play.feed(&write(1, 0, &vec![1; 40_000])[..30_000], usize::MAX);
    assert_eq!(play.export.buffers_taken(), 1);
    play.end();
    assert!(play.session.is_dead() && play.session.is_over());
    assert_eq!(play.export.buffers_taken(), 0);
}

#[test]
fn after_a_disconnect_nothing_more_is_taken() {
    let mut play = Play::connected(LIMITS, false);
    let mut bytes = request(command::FLUSH, 1, 0, 0);
    bytes.extend(request(command::DISC, 2, 0, 0));
    bytes.extend(request(command::FLUSH, 3, 0, 0));
    play.feed(&bytes, usize::MAX);
    assert_eq!(replies(&play.out, |_| 0), [Reply::Simple(1, 0, vec![])]);
    assert!(play.session.is_over());
}

#[derive(Clone, Debug)]
struct Ask {
    command: u16,
    flags: u16,
    offset: u64,
    len: u32,
    fill: u8,
}

/// Mostly in range; the commands and flags of the protocol and some that are not.
fn an_ask() -> impl Strategy<Value = Ask> {
    let command = prop_oneof![
        8 => prop::sample::select(vec![
            command::READ, command::WRITE, command::FLUSH, command::TRIM,
            command::WRITE_ZEROES, command::BLOCK_STATUS,
        ]),
        1 => 8u16..,
    ];
    let flags = prop_oneof![8 => Just(0u16), 4 => Just(1), 2 => Just(2), 1 => any::<u16>()];
    let offset = prop_oneof![9 => 0..SIZE as u64, 1 => any::<u64>()];
    let len = prop_oneof![4 => 0u32..20_000, 1 => 0u32..200_000];
    (command, flags, offset, len, any::<u8>()).prop_map(|(command, flags, offset, len, fill)| Ask {
        command,
        flags,
        offset,
        len,
        fill,
    })
}

/// What the volume must hold after a successful request.
fn apply(model: &mut [u8], ask: &Ask) {
    let range = ask.offset as usize..ask.offset as usize + ask.len as usize;
    match ask.command {
        command::WRITE => model[range].fill(ask.fill),
        command::TRIM | command::WRITE_ZEROES => model[range].fill(0),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// However the bytes are cut on the way in and out, every request gets one reply, and reads
    /// bring what the model holds.
    #[test]
    fn requests_cut_anywhere_do_what_the_model_does(
        asks in prop::collection::vec(an_ask(), 1..40),
        piece in prop_oneof![1usize..64, 64usize..40_000],
        structured: bool,
    ) {
        let mut play = Play::connected(LIMITS, structured);
        let mut bytes = Vec::new();
        for (cookie, ask) in asks.iter().enumerate() {
            let Ask { command, flags, offset, len, fill } = *ask;
            bytes.extend(Request { flags, command, cookie: cookie as u64, offset, len }.encode());
            if command == command::WRITE {
                bytes.resize(bytes.len() + len as usize, fill);
            }
        }
        prop_assert!(play.feed(&bytes, piece).is_empty());
        let read_len = |cookie: u64| match asks[cookie as usize].command {
            command::READ => asks[cookie as usize].len as usize,
            _ => 0,
        };
        let mut got = replies(&play.out, read_len);
        prop_assert_eq!(got.len(), asks.len());
        got.sort_by_key(Reply::cookie);
        let mut model = vec![0; SIZE];
        for (ask, reply) in asks.iter().zip(&got) {
            if reply.error() != 0 {
                continue;
            }
            apply(&mut model, ask);
            if ask.command == command::READ && ask.len > 0 {
                let range = ask.offset as usize..ask.offset as usize + ask.len as usize;
                prop_assert_eq!(reply.data(range.len()), &model[range]);
            }
        }
        prop_assert_eq!(play.export.buffers_taken(), 0);
    }

    /// Rubbish never panics, and leaves no buffer behind.
    #[test]
    fn any_bytes_are_survived(
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
        piece in 1usize..500,
        shaken: bool,
        headers in prop::collection::vec((0u16..9, any::<u64>(), any::<u32>()), 0..10),
    ) {
        let mut play = if shaken { Play::connected(LIMITS, true) } else { Play::new(LIMITS) };
        for (command, offset, len) in headers {
            play.feed(&request(command, 1, offset % (2 * SIZE as u64), len % 70_000), piece);
        }
        play.feed(&bytes, piece);
        play.end();
        prop_assert!(play.session.is_over());
        prop_assert_eq!(play.export.buffers_taken(), 0);
    }
}

/// A buffer that is too short would let the socket write past it.
#[test]
fn memory_buffers_are_as_long_as_asked_for() {
    let mut export = MemoryExport::new("vol", SIZE);
    for len in [1, 4096, 4097, 1 << 20] {
        let id = export.alloc(len, crate::Transfer::ToClient).unwrap();
        assert!(export.buffer(id).1 >= len);
        export.release(id);
    }
}
