//! What a client sends as plain functions of bytes, for proptest, a stored corpus and libFuzzer
//! alike. A target panics when a promise is broken, and returns otherwise.

use crate::check::{Action, Rules, check};
use crate::export::BlockSizes;
use crate::handshake::{About, Handshake, Next, Step};
use crate::play::{LIMITS, Play};
use crate::wire::{
    Fields, OPTION_REPLY_MAGIC, REQUEST_MAGIC, REQUEST_SIZE, Request, command, command_flag,
};

/// A fuzz target.
pub type Target = fn(&[u8]);

/// All targets by name; the corpus of each is in `corpus/NAME`.
pub const TARGETS: &[(&str, Target)] = &[
    ("handshake", handshake),
    ("request", request),
    ("session", session),
];

const ABOUT: About<'static> = About {
    name: "vol",
    description: "a volume",
    size: 1 << 20,
    blocks: BlockSizes::DEFAULT,
    read_only: false,
};

/// A whole negotiation: no step uses more than there is, and every reply is well formed.
pub fn handshake(data: &[u8]) {
    let (mut handshake, mut rest) = (Handshake::default(), data);
    loop {
        let mut out = Vec::new();
        let Step::Used(used, next) = handshake.step(rest, &ABOUT, &mut out) else {
            return;
        };
        assert!(used > 0, "it would go on for ever");
        rest = &rest[used..];
        if next != Next::Transmission {
            check_replies(&out);
        }
        if next != Next::Option {
            return;
        }
    }
}

fn check_replies(replies: &[u8]) {
    let mut fields = Fields(replies);
    while !fields.is_empty() {
        assert_eq!(fields.u64(), Some(OPTION_REPLY_MAGIC));
        let (_, _, len) = (fields.u32(), fields.u32(), fields.u32());
        let len = len.expect("a reply has a length");
        assert!(fields.bytes(len as usize).is_some());
    }
}

/// One request header; the first byte chooses what the export is like. What may go to a backend is
/// what [`mod@crate::check`] promises.
pub fn request(data: &[u8]) {
    let Some((choice, header)) = data.split_first() else {
        return;
    };
    let Some(header) = header.first_chunk::<REQUEST_SIZE>() else {
        return;
    };
    let has = |bit: u8| choice & bit != 0;
    let rules = Rules {
        size: if has(1) { 1 << 20 } else { u64::MAX },
        blocks: BlockSizes {
            minimum: if has(2) { 512 } else { 1 },
            ..BlockSizes::DEFAULT
        },
        read_only: has(4),
        structured: has(8),
        status: has(16),
    };
    let Some(request) = Request::decode(header) else {
        assert_ne!(header[..4], REQUEST_MAGIC.to_be_bytes());
        return;
    };
    assert_eq!(request.encode(), *header);
    if let Ok(action) = check(&request, &rules) {
        check_action(&request, action, &rules);
    }
}

fn check_action(request: &Request, action: Action, rules: &Rules) {
    let ranged = !matches!(request.command, command::DISC | command::FLUSH);
    let changes = matches!(
        request.command,
        command::WRITE | command::TRIM | command::WRITE_ZEROES
    );
    let end = request.offset.checked_add(request.len.into());
    assert!(!ranged || end.is_some_and(|end| end <= rules.size));
    assert!(!ranged || request.offset.is_multiple_of(rules.blocks.minimum.into()));
    assert!(!(changes && rules.read_only));
    if matches!(action, Action::Read | Action::Write) {
        assert!((1..=rules.blocks.maximum).contains(&request.len));
    }
    if request.flags & command_flag::DF != 0 {
        assert!(rules.structured && request.command == command::READ);
    }
}

/// A whole connection over a volume in memory. The first byte says in how small pieces the bytes
/// come, whether the client takes nothing for a while, and whether the server is frozen for a
/// while. At its end no buffer is out and no slot is taken.
pub fn session(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else {
        return;
    };
    let piece = match usize::from(choice & 63) {
        0 => usize::MAX,
        piece => piece,
    };
    let mut play = Play::new(LIMITS);
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let left = play.feed(first, piece).len();
    play.deaf = choice & 64 != 0;
    play.frozen = choice & 128 != 0;
    let left = match left {
        0 => play.feed(second, piece).len(),
        left => left,
    };
    play.deaf = false;
    play.frozen = false;
    play.advance();
    play.settle(piece);
    if left > 0 {
        play.session.kill("the rest of its bytes does not fit");
    }
    play.end();
    play.settle(usize::MAX);
    assert!(play.session.is_over(), "something is left to do");
    assert_eq!(play.export.buffers_taken(), 0);
    assert_eq!(play.session.at_backend(), 0);
}
