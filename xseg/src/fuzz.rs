//! Every decoder of this crate as a plain function of bytes, for proptest, a stored corpus and
//! libFuzzer alike. A target panics when a promise of this crate is broken, and returns otherwise.
//!
//! The promise of most: what decodes says the same after it was encoded again, and a count or a
//! length that lies makes nothing larger than its own bytes.

use crate::join::wire::{ANSWER_MAX, Answer, BadMessage, Hello};
use crate::layout::Layout;
use crate::protocol::{BadStructure, CloneRequest, CreateRequest, ListPage, MapReply, NameRequest};
use crate::slot::{Request, Slot};
use crate::word::Word;

/// A fuzz target.
pub type Target = fn(&[u8]);

/// All targets by name; the corpus of each is in `corpus/NAME`.
pub const TARGETS: &[(&str, Target)] = &[
    ("clone_request", clone_request),
    ("name_request", name_request),
    ("create_request", create_request),
    ("map_reply", map_reply),
    ("list_page", list_page),
    ("hello", hello),
    ("answer", answer),
    ("slot", slot),
];

/// The structure of CLONE.
pub fn clone_request(data: &[u8]) {
    if let Ok(request) = CloneRequest::decode(data) {
        assert_eq!(CloneRequest::decode(&request.encode()), Ok(request));
    }
}

/// The structure of COPY, SNAPSHOT and RENAME.
pub fn name_request(data: &[u8]) {
    if let Ok(request) = NameRequest::decode(data) {
        assert_eq!(NameRequest::decode(&request.encode()), Ok(request));
    }
}

/// The structure of CREATE.
pub fn create_request(data: &[u8]) {
    if let Ok(request) = CreateRequest::decode(data) {
        let bytes = request.encode();
        assert!(bytes.len() <= data.len());
        assert_eq!(CreateRequest::decode(&bytes), Ok(request));
    }
}

/// The reply of MAPR and MAPW.
pub fn map_reply(data: &[u8]) {
    if let Ok(reply) = MapReply::decode(data) {
        let bytes = reply.encode();
        assert!(bytes.len() <= data.len());
        assert_eq!(MapReply::decode(&bytes), Ok(reply));
    }
}

/// The reply of LIST. It leaves no freedom: what was read is what is written again.
pub fn list_page(data: &[u8]) {
    match ListPage::decode(data) {
        Ok(page) => {
            let bytes = page.encode();
            assert_eq!(bytes, data[..bytes.len()]);
        }
        Err(BadStructure::Short | BadStructure::NameLength) => {}
    }
}

/// What a joiner says first. The holder prints its name, on one line.
pub fn hello(data: &[u8]) {
    match Hello::decode(data) {
        Ok(hello) => {
            assert!(!hello.display_name().chars().any(char::is_control));
            assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
        }
        Err(BadMessage::Foreign | BadMessage::Version(_)) => {}
    }
}

/// What a holder says, and whether its numbers make a region: a layout that is accepted lies in
/// order and ends where it says.
pub fn answer(data: &[u8]) {
    let Ok(answer) = Answer::decode(data) else {
        return;
    };
    let bytes = answer.encode();
    assert!(bytes.len() <= ANSWER_MAX);
    let again = Answer::decode(&bytes).expect("it was just written");
    // A sentence may be cut on the way.
    assert_eq!(
        Answer {
            text: again.text.clone(),
            ..answer.clone()
        },
        again
    );
    if let Some(Ok(layout)) = answer.region.map(Layout::new) {
        check_layout(&layout);
    }
}

fn check_layout(layout: &Layout) {
    let starts = [
        layout.members,
        layout.ports,
        layout.slots,
        layout.marks,
        layout.words,
        layout.heap,
    ];
    assert!(starts.is_sorted(), "{layout:?}");
    assert_eq!(layout.heap + layout.heap_len, layout.total);
    let mut classes = layout.classes;
    classes.sort_unstable_by_key(|class| class.offset);
    let mut end = layout.heap;
    for class in classes {
        assert!(class.offset >= end, "{layout:?}");
        end = class.offset + class.size * u64::from(class.count);
    }
    assert!(end <= layout.total, "{layout:?}");
}

/// A slot that somebody scribbled over: a state word, then the record.
pub fn slot(data: &[u8]) {
    let words = data.as_chunks::<8>().0;
    let mut words = words.iter().map(|bytes| u64::from_le_bytes(*bytes));
    if let Some(word) = words.next().and_then(Word::decode_checked) {
        assert_eq!(Word::decode(word.encode()), Some(word));
    }
    let slot = Slot::detached();
    slot.scribble(&mut words);
    let mut request = Request::default();
    if slot.read_request(&mut request) {
        assert!(request.target.as_bytes().len() <= 256);
        assert!(request.operation().is_none_or(|op| op as u32 == request.op));
        assert!(request.data.offset < 1 << 56);
    }
    match slot.read_answer().result() {
        Ok(_) => {}
        Err(errno) => assert!(errno > 0),
    }
}
