//! Tables and properties of the pure parts: wire, handshake, check, extents, errors.

use proptest::prelude::*;

use super::client::{context_data, info_data, option, option_replies};
use crate::check::{Action, Rules, check};
use crate::error::NbdError;
use crate::export::{BlockSizes, Extent};
use crate::extents;
use crate::handshake::{About, Agreed, Handshake, Next, OPTION_DATA_MAX, Step};
use crate::wire::{Fields, Request, command, command_flag, option, option_reply};

const ABOUT: About<'static> = About {
    name: "vol",
    description: "a volume",
    size: 1 << 20,
    blocks: BlockSizes::DEFAULT,
    read_only: false,
};

fn begun() -> Handshake {
    let mut handshake = Handshake::default();
    let step = handshake.step(&3u32.to_be_bytes(), &ABOUT, &mut Vec::new());
    assert_eq!(step, Step::Used(4, Next::Option));
    handshake
}

/// One option, and the types of its replies.
fn ask(handshake: &mut Handshake, number: u32, data: &[u8]) -> (Step, Vec<u32>) {
    let mut out = Vec::new();
    let step = handshake.step(&option(number, data), &ABOUT, &mut out);
    let replies = option_replies(&out);
    assert!(replies.iter().all(|reply| reply.0 == number));
    (step, replies.iter().map(|reply| reply.1).collect())
}

#[test]
fn options_are_answered_as_the_protocol_says() {
    use option_reply::{ACK, ERR_INVALID, ERR_UNKNOWN, ERR_UNSUP, INFO, META_CONTEXT, SERVER};
    let go = info_data("vol", &[]);
    let all = info_data("", &[1, 2, 3, 99]);
    let strange = info_data("other", &[]);
    let status = context_data("vol", &["base:allocation"]);
    let table: &[(u32, &[u8], &[u32])] = &[
        (option::LIST, b"", &[SERVER, ACK]),
        (option::LIST, b"x", &[ERR_INVALID]),
        (option::STARTTLS, b"", &[ERR_UNSUP]),
        (77, b"whatever", &[ERR_UNSUP]),
        (4, b"", &[ERR_UNSUP]),
        (option::INFO, &go, &[INFO, ACK]),
        (option::INFO, &all, &[INFO, INFO, INFO, INFO, ACK]),
        (option::INFO, &strange, &[ERR_UNKNOWN]),
        (option::INFO, &go[..go.len() - 1], &[ERR_INVALID]),
        (option::INFO, b"", &[ERR_INVALID]),
        (option::INFO, &[0xff; 20], &[ERR_INVALID]),
        (option::SET_META_CONTEXT, &status, &[ERR_INVALID]),
        (option::STRUCTURED_REPLY, b"x", &[ERR_INVALID]),
        (option::STRUCTURED_REPLY, b"", &[ACK]),
        (option::SET_META_CONTEXT, &status, &[META_CONTEXT, ACK]),
        (
            option::SET_META_CONTEXT,
            &status[..status.len() - 3],
            &[ERR_INVALID],
        ),
        (
            option::LIST_META_CONTEXT,
            &context_data("", &[]),
            &[META_CONTEXT, ACK],
        ),
        (
            option::LIST_META_CONTEXT,
            &context_data("", &["base:"]),
            &[META_CONTEXT, ACK],
        ),
        (
            option::LIST_META_CONTEXT,
            &context_data("", &["x-y:"]),
            &[ACK],
        ),
        (
            option::SET_META_CONTEXT,
            &context_data("", &["base:"]),
            &[ACK],
        ),
        (
            option::SET_META_CONTEXT,
            &context_data("other", &[]),
            &[ERR_UNKNOWN],
        ),
        (option::GO, &strange, &[ERR_UNKNOWN]),
    ];
    let mut handshake = begun();
    for (number, data, replies) in table {
        let (step, got) = ask(&mut handshake, *number, data);
        assert_eq!(
            step,
            Step::Used(16 + data.len(), Next::Option),
            "option {number}"
        );
        assert_eq!(got, *replies, "option {number} with {data:?}");
    }
    let (step, got) = ask(&mut handshake, option::GO, &go);
    assert_eq!(step, Step::Used(16 + go.len(), Next::Transmission));
    assert_eq!(got, [INFO, ACK]);
    assert_eq!(
        ask(&mut begun(), option::ABORT, b"").0,
        Step::Used(16, Next::HangUp)
    );
}

/// A context stays selected only if the last `SET` selected it, even when that one failed.
#[test]
fn a_failed_set_forgets_the_context() {
    let mut handshake = begun();
    ask(&mut handshake, option::STRUCTURED_REPLY, b"");
    let status = context_data("vol", &["x-a:b", "base:allocation"]);
    ask(&mut handshake, option::SET_META_CONTEXT, &status);
    let agreed = Agreed {
        no_zeroes: true,
        structured: true,
        status: true,
    };
    assert_eq!(handshake.agreed, agreed);
    ask(&mut handshake, option::SET_META_CONTEXT, b"rubbish");
    assert!(!handshake.agreed.status);
}

#[test]
fn export_name_pads_unless_told_not_to_and_hangs_up_on_strangers() {
    for (flags, len) in [(1u32, 134), (3, 10)] {
        let mut handshake = Handshake::default();
        handshake.step(&flags.to_be_bytes(), &ABOUT, &mut Vec::new());
        let mut out = Vec::new();
        let step = handshake.step(&option(option::EXPORT_NAME, b"vol"), &ABOUT, &mut out);
        assert_eq!(step, Step::Used(19, Next::Transmission));
        assert_eq!(out.len(), len);
        assert_eq!(Fields(&out).u64(), Some(ABOUT.size));
    }
    let strange = option(option::EXPORT_NAME, b"other");
    let step = begun().step(&strange, &ABOUT, &mut Vec::new());
    assert!(matches!(step, Step::Broken(_)));
}

#[test]
fn nonsense_ends_the_handshake() {
    let step =
        |handshake: &mut Handshake, bytes: &[u8]| handshake.step(bytes, &ABOUT, &mut Vec::new());
    assert!(matches!(
        step(&mut Handshake::default(), &[0, 0, 0, 4]),
        Step::Broken(_)
    ));
    assert!(matches!(step(&mut begun(), &[0; 16]), Step::Broken(_)));
    let mut long = option(option::INFO, b"");
    long[12..].copy_from_slice(&(OPTION_DATA_MAX as u32 + 1).to_be_bytes());
    assert!(matches!(step(&mut begun(), &long), Step::Broken(_)));
}

const RULES: Rules = Rules {
    size: 1 << 20,
    blocks: BlockSizes {
        minimum: 512,
        preferred: 4096,
        maximum: 65536,
    },
    read_only: false,
    structured: true,
    status: true,
};

#[test]
fn requests_are_judged_as_the_protocol_says() {
    use NbdError::{Inval, NoSpace, Perm};
    use command::{BLOCK_STATUS, DISC, FLUSH, READ, TRIM, WRITE, WRITE_ZEROES};
    use command_flag::{DF, FAST_ZERO, FUA, NO_HOLE, REQ_ONE};
    let end = RULES.size;
    let plain = Rules {
        structured: false,
        status: false,
        ..RULES
    };
    let fixed = Rules {
        read_only: true,
        ..RULES
    };
    let table = [
        (RULES, READ, 0, 0, 512, Ok(Action::Read)),
        (RULES, READ, DF | FUA, end - 512, 512, Ok(Action::Read)),
        (plain, READ, DF, 0, 512, Err(Inval)),
        (RULES, READ, NO_HOLE, 0, 512, Err(Inval)),
        (RULES, READ, 1 << 15, 0, 512, Err(Inval)),
        (RULES, READ, 0, end, 512, Err(Inval)),
        (RULES, READ, 0, u64::MAX - 511, 512, Err(Inval)),
        (RULES, READ, 0, 1, 512, Err(Inval)),
        (RULES, READ, 0, 512, 1, Err(Inval)),
        (RULES, READ, 0, 0, 65536 + 512, Err(Inval)),
        (RULES, READ, 0, 0, 0, Ok(Action::Nothing)),
        (RULES, READ, 0, end + 512, 0, Err(Inval)),
        (RULES, WRITE, FUA, 512, 1024, Ok(Action::Write)),
        (RULES, WRITE, 0, end - 512, 1024, Err(NoSpace)),
        (RULES, WRITE, 0, u64::MAX, u32::MAX, Err(NoSpace)),
        (RULES, WRITE, 0, 0, 1 << 19, Err(Inval)),
        (fixed, WRITE, 0, 0, 512, Err(Perm)),
        (fixed, TRIM, 0, 0, 512, Err(Perm)),
        (fixed, WRITE_ZEROES, 0, 0, 512, Err(Perm)),
        (fixed, READ, 0, 0, 512, Ok(Action::Read)),
        (fixed, FLUSH, 0, 0, 0, Ok(Action::Plain)),
        (
            RULES,
            WRITE_ZEROES,
            FUA | NO_HOLE | FAST_ZERO,
            0,
            1 << 20,
            Ok(Action::Plain),
        ),
        (RULES, WRITE_ZEROES, 0, 512, 1 << 20, Err(NoSpace)),
        (RULES, TRIM, FUA, 0, 1 << 20, Ok(Action::Plain)),
        (RULES, TRIM, 0, end, 512, Err(Inval)),
        (RULES, BLOCK_STATUS, REQ_ONE, 0, 1 << 20, Ok(Action::Plain)),
        (RULES, BLOCK_STATUS, 0, 0, 0, Err(Inval)),
        (RULES, BLOCK_STATUS, 0, end, 512, Err(Inval)),
        (plain, BLOCK_STATUS, 0, 0, 512, Err(Inval)),
        (RULES, FLUSH, FUA, 0, 0, Ok(Action::Plain)),
        (RULES, FLUSH, 0, 0, 512, Err(Inval)),
        (RULES, DISC, 0, 0, 0, Ok(Action::Disconnect)),
        (RULES, 5, 0, 0, 512, Err(Inval)),
        (RULES, 200, 0, 0, 0, Err(Inval)),
    ];
    for (rules, command, flags, offset, len, want) in table {
        let request = Request {
            flags,
            command,
            cookie: 1,
            offset,
            len,
        };
        let got = check(&request, &rules).map_err(|refusal| refusal.error);
        assert_eq!(got, want, "{request:?}");
    }
}

#[test]
fn only_the_protocols_errors_leave_the_server() {
    for (errno, fast, want) in [
        (libc::EROFS, false, NbdError::Perm),
        (libc::EFBIG, false, NbdError::NoSpace),
        (libc::EDQUOT, false, NbdError::NoSpace),
        (libc::EOPNOTSUPP, false, NbdError::Inval),
        (libc::EOPNOTSUPP, true, NbdError::NotSup),
        (libc::ESTALE, false, NbdError::Io),
        (0, false, NbdError::Io),
    ] {
        assert_eq!(NbdError::from_errno(errno, fast), want);
    }
}

/// A slot's reply may be sent while the next request is parsed, so a descriptor too many or an
/// empty one would make the client disconnect: libnbd and qemu both check.
fn is_proper(payload: &[u8], len: u32, one: bool) -> Result<(), TestCaseError> {
    let mut fields = Fields(payload);
    prop_assert_eq!(fields.u32(), Some(extents::CONTEXT_ID));
    let (mut sum, mut count, mut before) = (0u64, 0, None);
    while !fields.is_empty() {
        let (part, state) = (fields.u32().unwrap(), fields.u32());
        prop_assert!(part > 0 && state != before);
        sum += u64::from(part);
        before = state;
        count += 1;
    }
    prop_assert!(sum > 0 && sum <= u64::from(len));
    let count_max = if one { 1 } else { extents::DESCRIPTORS_MAX };
    prop_assert!(count <= count_max);
    Ok(())
}

fn an_extent() -> impl Strategy<Value = Extent> {
    let len = prop_oneof![Just(0), 1u64..10_000, Just(u64::MAX)];
    (len, any::<bool>(), any::<bool>()).prop_map(|(len, hole, zero)| Extent { len, hole, zero })
}

proptest! {
    #[test]
    fn any_extents_become_a_proper_answer(
        list in prop::collection::vec(an_extent(), 0..5000),
        len in 1..=u32::MAX,
        one: bool,
    ) {
        is_proper(&extents::payload(&list, len, one), len, one)?;
    }

    #[test]
    fn a_request_survives_encoding(
        flags: u16, command: u16, cookie: u64, offset: u64, len: u32,
    ) {
        let request = Request { flags, command, cookie, offset, len };
        prop_assert_eq!(Request::decode(&request.encode()), Some(request));
    }

    #[test]
    fn what_the_check_lets_through_is_in_range(
        flags in 0u16..64, command in 0u16..9, offset: u64, len: u32, size: u64,
    ) {
        let rules = Rules { size, ..RULES };
        let request = Request { flags, command, cookie: 0, offset, len };
        if let Ok(Action::Read | Action::Write) = check(&request, &rules) {
            prop_assert!(len > 0 && len <= rules.blocks.maximum);
            prop_assert!(u128::from(offset) + u128::from(len) <= u128::from(size));
        }
    }

    /// Whatever comes, a step uses no more than it got, and its replies are well-formed.
    #[test]
    fn a_handshake_copes_with_any_option(
        number in prop_oneof![0u32..12, any::<u32>()],
        data in prop::collection::vec(any::<u8>(), 0..64),
        lie in prop::option::of(any::<u32>()),
        structured: bool,
    ) {
        let mut handshake = begun();
        handshake.agreed.structured = structured;
        let mut bytes = option(number, &data);
        if let Some(lie) = lie {
            bytes[12..16].copy_from_slice(&lie.to_be_bytes());
        }
        let mut out = Vec::new();
        match handshake.step(&bytes, &ABOUT, &mut out) {
            Step::Used(count, _) => prop_assert!(count <= bytes.len()),
            Step::More | Step::Broken(_) => prop_assert!(out.is_empty()),
        }
        if number != option::EXPORT_NAME {
            option_replies(&out);
        }
    }
}
