//! Every decoder as a plain function of bytes, for proptest, a stored corpus and libFuzzer alike.
//! A target panics when a promise of this crate is broken, and returns otherwise.

use crate::codec::ENTRY_LEN;
use crate::name::{Name, reserved_form, split_object};
use crate::{
    Entry, FormatError, Header, Names, ObjectName, PageNo, Recognised, V0Hint, Version, VolumeName,
    classify, decode, encode, merkle_root, recognise,
};

/// A fuzz target.
pub type Target = fn(&[u8]);

/// All targets by name; the corpus of each is in `corpus/NAME`.
pub const TARGETS: &[(&str, Target)] = &[
    ("header", header),
    ("recognise", recognise_any),
    ("entries", entries),
    ("names", names),
    ("list", list),
    ("merkle", merkle),
];

/// What parses as a header is encoded to the same 32 bytes.
pub fn header(data: &[u8]) {
    if let Ok(header) = Header::parse(data) {
        assert_eq!(header.encode(), data[..32]);
    }
}

/// Recognition agrees with the length of the object, and every page of what it found can be
/// placed. The first byte chooses the hint.
pub fn recognise_any(data: &[u8]) {
    let Some((&choice, map)) = data.split_first() else {
        return;
    };
    let size = (choice > 1).then(|| u64::from(choice) * 3_000_000);
    let hint = (choice > 0).then_some(V0Hint { size });
    let head = &map[..map.len().min(512)];
    let Ok(found) = recognise(head, map.len() as u64, hint) else {
        return;
    };
    let found = match found {
        Recognised::V0Tail(tail) => {
            let range = tail.range();
            match tail.settle(&map[range.start as usize..range.end as usize]) {
                Ok(geometry) => Recognised::V0(geometry),
                Err(_) => return,
            }
        }
        settled => settled,
    };
    check_pages(found, map);
}

fn check_pages(found: Recognised, map: &[u8]) {
    let layout = found.layout().expect("a settled map has a layout");
    let pages = layout.page_count();
    for page in [0, pages.saturating_sub(1)]
        .into_iter()
        .filter(|&page| page < pages)
    {
        let place = layout.page_place(PageNo(page));
        let (start, end) = (place.offset as usize, (place.offset + place.len) as usize);
        if layout.version() != Version::V2 {
            let first = layout.page_blocks(PageNo(page)).start;
            let decoded = decode(layout.version(), &map[start..end], first, &mut Names::new());
            assert!(!matches!(decoded, Err(FormatError::Truncated { .. })));
        }
    }
}

/// Whatever decodes has a valid name, and v2 comes back byte for byte. The first byte chooses the
/// version, the second the index of the first block.
pub fn entries(data: &[u8]) {
    let [choice, first, bytes @ ..] = data else {
        return;
    };
    let version = [Version::V0, Version::V1, Version::V2][usize::from(choice % 3)];
    let mut names = Names::new();
    let Ok(decoded) = decode(version, bytes, (*first).into(), &mut names) else {
        return;
    };
    let mut again = Vec::new();
    encode(&decoded, (*first).into(), &names, &mut again);
    assert_eq!(again.len(), decoded.len() * ENTRY_LEN);
    match version {
        Version::V2 => assert_eq!(again, bytes),
        _ => check_upgraded(&decoded, &again, *first),
    }
}

/// An old map, upgraded, says the same as before.
fn check_upgraded(old: &[Entry], stored: &[u8], first: u8) {
    let mut names = Names::new();
    let new = decode(Version::V2, stored, first.into(), &mut names).expect("it was just written");
    let flags = |entries: &[Entry]| {
        entries
            .iter()
            .map(|entry| entry.flags())
            .collect::<Vec<_>>()
    };
    assert_eq!(flags(old), flags(&new));
}

/// Names that are accepted keep their bytes, stay within their directory and print on one line.
pub fn names(data: &[u8]) {
    if let Ok(volume) = VolumeName::for_creation(data) {
        assert_eq!(reserved_form(data), None);
        let header = volume.header();
        for object in [header.chunk(u64::MAX), header.lock(), header.as_object()] {
            check_name(&object);
        }
    }
    if let Ok(object) = ObjectName::new(data) {
        assert_eq!(object.as_bytes(), data);
        check_name(&object);
    }
    if let Some((base, epoch, index)) = split_object(data) {
        assert_eq!(
            format!("_{:016x}_{index:016x}", epoch.0).as_bytes(),
            &data[base.len()..]
        );
    }
}

fn check_name<const MIN: usize, const MAX: usize>(name: &Name<MIN, MAX>) {
    assert!(!name.as_bytes().iter().any(|byte| matches!(byte, 0 | b'/')));
    assert!(!name.to_string().chars().any(char::is_control));
}

/// A scan never fails, and shows only what is at least as long as a version.
pub fn list(data: &[u8]) {
    let (name, head) = data.split_at(data.len().min(64));
    if classify(name, head).is_some() {
        assert!(head.len() >= 4);
    }
}

/// The root exists for every number of hashes, and is found in a bounded number of steps.
pub fn merkle(data: &[u8]) {
    let hashes = data.as_chunks::<32>().0;
    let mut steps = 0;
    merkle_root(hashes, |pair| {
        steps += 1;
        pair.first_chunk().copied().unwrap_or_default()
    });
    assert!(steps <= 2 * hashes.len() + 64);
}
