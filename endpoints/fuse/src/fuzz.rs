//! What `/dev/fuse` says as a plain function of bytes, for proptest, a stored corpus and libFuzzer
//! alike. A target panics when a promise is broken, and returns otherwise.

use crate::abi::{self, Header, OUT_HEADER, Reply};

/// A fuzz target.
pub type Target = fn(&[u8]);

/// All targets by name; the corpus of each is in `corpus/NAME`.
pub const TARGETS: &[(&str, Target)] = &[("request", request)];

/// One request. Whatever it is, it is read as every operation, and what is answered to an INIT is
/// as long as it says.
pub fn request(data: &[u8]) {
    let Some(header) = Header::decode(data) else {
        return;
    };
    let (range, fallocate) = (abi::range(data), abi::fallocate(data));
    assert!(
        fallocate.is_none() || range.is_some(),
        "the longer holds the shorter"
    );
    if let Some(name) = abi::name(data) {
        assert!(!name.contains(&0));
    }
    if let Some(reply) = Reply::init(header.unique, data) {
        let (len, _) = reply.bytes().split_first_chunk::<4>().expect("a header");
        assert_eq!(u32::from_le_bytes(*len) as usize, reply.bytes().len());
        assert!(reply.bytes().len() > OUT_HEADER);
    }
}
