//! What holds for all headers, entries, layouts and names, not only for those in the tables.

use mapfile::name::reserved_form;
use mapfile::{
    BlockSize, Epoch, Geometry, Header, MapFlags, MapLayout, MapObject, Names, Version, VolumeName,
    decode, encode, fork,
};
use proptest::prelude::*;

fn block_size() -> impl Strategy<Value = BlockSize> {
    (8..=31u32).prop_map(|log2| BlockSize::new(1 << log2).unwrap())
}

fn geometry() -> impl Strategy<Value = Geometry> {
    (0..=i64::MAX as u64, 0..63u32, block_size())
        .prop_map(|(size, shift, block_size)| Geometry::new(size >> shift, block_size).unwrap())
}

fn object_name(index: u64) -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z]{1,89}".prop_map(move |base| format!("{base}_0000000000000002_{index:016x}")),
        1 => "[a-z]{1,8}_[0-9a-f]{16}_[0-9a-f]{16}",
        1 => "[0-9a-f]{64}",
        1 => "archip_[0-9a-f]{64}",
        1 => Just("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".to_owned()),
        1 => "[^/\0]{1,30}".prop_filter("dots", |name| name != "." && name != ".."),
    ]
}

/// Consecutive stored entries and the index of the first.
fn stored_entries() -> impl Strategy<Value = (u64, Vec<u8>)> {
    (0..u64::MAX - 100, 0..20u64).prop_flat_map(|(first, count)| {
        let entries: Vec<_> = (first..first + count)
            .map(|i| (0..16u8, object_name(i)))
            .collect();
        (
            Just(first),
            entries.prop_map(|entries| entries.iter().flat_map(stored).collect()),
        )
    })
}

fn stored((flags, name): &(u8, String)) -> [u8; 128] {
    let mut entry = [0; 128];
    entry[0] = *flags;
    entry[1..5].copy_from_slice(&(name.len() as u32).to_le_bytes());
    entry[5..5 + name.len()].copy_from_slice(name.as_bytes());
    entry
}

/// What `fork` must give: through entries and names.
fn fork_by_names(version: Version, bytes: &[u8], first: u64) -> Option<Vec<u8>> {
    let mut names = Names::new();
    let entries = decode(version, bytes, first, &mut names).ok()?;
    let forked: Vec<_> = entries.iter().map(|entry| entry.fork()).collect();
    let mut out = Vec::new();
    encode(&forked, first, &names, &mut out);
    Some(out)
}

/// 32 bytes that are the zero block's hash, blank, or any.
fn hash() -> impl Strategy<Value = [u8; 32]> {
    prop_oneof![
        1 => Just(mapfile::entry::ZERO_BLOCK),
        1 => Just([0; 32]),
        20 => any::<[u8; 32]>(),
    ]
}

proptest! {
    #[test]
    fn forks_are_those_of_the_entries((first, bytes) in stored_entries()) {
        let mut out = Vec::new();
        let forked = fork(Version::V2, &bytes, first, &mut out);
        prop_assert_eq!(forked.ok().map(|()| out), fork_by_names(Version::V2, &bytes, first));
    }

    #[test]
    fn forks_of_old_maps_are_those_of_the_entries(
        hashes in proptest::collection::vec((0..4u8, hash()), 0..20),
    ) {
        let v0: Vec<u8> = hashes.iter().flat_map(|(_, hash)| *hash).collect();
        let v1: Vec<u8> = hashes
            .iter()
            .flat_map(|(flag, hash)| [&[flag / 2][..], hash].concat())
            .collect();
        for (version, bytes) in [(Version::V0, v0), (Version::V1, v1)] {
            let mut out = Vec::new();
            let forked = fork(version, &bytes, 7, &mut out);
            prop_assert_eq!(forked.ok().map(|()| out), fork_by_names(version, &bytes, 7));
        }
    }

    #[test]
    fn damaged_entries_are_refused_alike(
        (first, mut bytes) in stored_entries(),
        at: prop::sample::Index,
        byte: u8,
    ) {
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut out = Vec::new();
        let forked = fork(Version::V2, &bytes, first, &mut out);
        prop_assert_eq!(forked.ok().map(|()| out), fork_by_names(Version::V2, &bytes, first));
    }

    #[test]
    fn headers_come_back(geometry in geometry(), readonly: bool, deleted: bool, epoch: u64) {
        let flags = MapFlags { readonly, deleted };
        let header = Header { geometry, flags, epoch: Epoch(epoch) };
        prop_assert_eq!(Header::parse(&header.encode()), Ok(header));
    }

    /// Two maps share one `Names` here, as nothing forbids: neither disturbs the other.
    #[test]
    fn entries_come_back((first, bytes) in stored_entries(), (other_first, other) in stored_entries()) {
        let mut names = Names::new();
        let entries = decode(Version::V2, &bytes, first, &mut names).unwrap();
        let others = decode(Version::V2, &other, other_first, &mut names).unwrap();
        let (mut again, mut other_again) = (Vec::new(), Vec::new());
        encode(&entries, first, &names, &mut again);
        encode(&others, other_first, &names, &mut other_again);
        prop_assert_eq!((again, other_again), (bytes, other));
    }

    #[test]
    fn a_fork_is_read_the_same_and_never_written((first, bytes) in stored_entries()) {
        let mut names = Names::new();
        let owner = names.owner(&VolumeName::new(b"volume").unwrap().header(), Epoch(2)).unwrap();
        for (index, entry) in (first..).zip(decode(Version::V2, &bytes, first, &mut names).unwrap()) {
            let fork = entry.fork();
            prop_assert_eq!(fork.name(&names, index), entry.name(&names, index));
            prop_assert_eq!((fork.is_zero(), fork.is_archip()), (entry.is_zero(), entry.is_archip()));
            prop_assert!(!fork.is_writable(&names, owner) && !fork.is_deleted());
        }
    }

    /// Each entry follows its neighbour, or begins the next chunk; so no two overlap.
    #[test]
    fn places_do_not_overlap(geometry in geometry(), version in 0..3usize, index: prop::sample::Index) {
        let version = [Version::V0, Version::V1, Version::V2][version];
        let layout = MapLayout::new(version, geometry);
        prop_assume!(geometry.block_count() > 1);
        let index = index.index(usize::try_from(geometry.block_count() - 1).unwrap()) as u64;
        let (here, next) = (layout.place(index), layout.place(index + 1));
        match (here.object, next.object) {
            (a, b) if a == b => prop_assert_eq!(here.offset + here.len, next.offset),
            (MapObject::Chunk(a), MapObject::Chunk(b)) => {
                let end = u64::from(geometry.block_size().bytes());
                prop_assert_eq!((b, here.offset + here.len, next.offset), (a + 1, end, 0));
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    /// The pieces of a range lie in its blocks, one each, and leave out no byte. Ranges
    /// are short, because a long one may have 2^55 pieces.
    #[test]
    fn pieces_cover_their_range(geometry in geometry(), at: prop::sample::Index, len in 0..10_000u64) {
        let block = u64::from(geometry.block_size().bytes());
        let offset = at.index(usize::try_from(geometry.size()).unwrap() + 1) as u64;
        let len = len.min(geometry.size() - offset);
        let mut next = offset;
        for piece in geometry.pieces(offset, len).unwrap() {
            prop_assert_eq!(geometry.locate(next), (piece.block, piece.offset));
            prop_assert!(piece.len > 0 && piece.offset + piece.len <= geometry.block_size().bytes());
            next += u64::from(piece.len);
            prop_assert!(next == offset + len || next.is_multiple_of(block));
        }
        prop_assert_eq!(next, offset + len);
    }

    #[test]
    fn reserved_forms_are_found_wherever_they_are(name in "(archip_|[a-z_]{0,9})(_?[0-9a-f]{15,17})?[g-z]{0,9}(_lock)?") {
        let hex_run = name.match_indices('_').any(|(at, _)| {
            name.len() >= at + 17 && name[at + 1..at + 17].chars().all(|c| "0123456789abcdef".contains(c))
        });
        let reserved = hex_run || name.starts_with("archip_") || name.ends_with("_lock");
        prop_assert_eq!(reserved_form(name.as_bytes()).is_some(), reserved);
        let fits = (6..=82).contains(&name.len());
        prop_assert_eq!(VolumeName::new(name.as_bytes()).is_ok(), fits);
        prop_assert_eq!(VolumeName::for_creation(name.as_bytes()).is_ok(), fits && !reserved);
    }
}
