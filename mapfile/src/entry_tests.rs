//! What may be written, shared and deleted.

use super::*;
use crate::name::VolumeName;

const OWN_1_0: &[u8] = b"goldvol1_0000000000000001_0000000000000000";
const OWN_1_5: &[u8] = b"goldvol1_0000000000000001_0000000000000005";

fn owner(names: &mut Names, volume: &[u8], epoch: u64) -> Owner {
    let header = VolumeName::new(volume).unwrap().header();
    names.owner(&header, Epoch(epoch)).unwrap()
}

fn writable(names: &mut Names, name: &[u8]) -> Entry {
    Entry::given(names, name, 0, true).unwrap()
}

#[test]
fn a_fresh_entry_names_the_owners_next_object() {
    let mut names = Names::new();
    let owner = owner(&mut names, b"goldvol1", 2);
    let entry = Entry::fresh(owner);
    let name = entry.name(&names, 7);
    assert_eq!(
        name.as_bytes(),
        b"goldvol1_0000000000000002_0000000000000007"
    );
    assert_eq!(entry.flags().bits(), 3);
    assert!(entry.is_writable(&names, owner) && entry.is_owned(&names, owner));
}

/// A snapshot stores the raised epoch first and clears WRITABLE after it. Dying in between leaves
/// writable entries whose objects the snapshot may share.
#[test]
fn an_own_object_of_another_epoch_is_not_writable() {
    let mut names = Names::new();
    let (now, later) = (
        owner(&mut names, b"goldvol1", 1),
        owner(&mut names, b"goldvol1", 2),
    );
    for name in [OWN_1_0, OWN_1_5] {
        let entry = writable(&mut names, name);
        assert!(entry.is_writable(&names, now));
        assert!(!entry.is_writable(&names, later));
        assert!(!entry.is_owned(&names, later));
    }
}

#[test]
fn anothers_object_stays_writable_after_a_rename() {
    let mut names = Names::new();
    let renamed = owner(&mut names, b"goldren02", 7);
    for name in [
        OWN_1_0,
        OWN_1_5,
        b"archip_f2ad7efba65c8c9c1bfe689243ad631e2686725c2782ad85fd860034fab229dd",
        b"anything",
    ] {
        assert!(writable(&mut names, name).is_writable(&names, renamed));
    }
}

#[test]
fn zero_and_deleted_entries_are_never_writable() {
    let mut names = Names::new();
    let owner = owner(&mut names, b"goldvol1", 1);
    assert!(!Entry::ZERO.is_writable(&names, owner));
    let gone = Entry::fresh(owner).gone();
    assert_eq!(gone.flags().bits(), 0x0f);
    assert!(gone.is_deleted() && !gone.is_writable(&names, owner) && !gone.is_owned(&names, owner));
}

#[test]
fn the_zero_blocks_name_always_makes_a_zero_entry() {
    let mut names = Names::new();
    let zero = Entry::ZERO.name(&names, 3);
    assert_eq!(
        zero.to_string(),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    assert_eq!(
        Entry::given(&mut names, zero.as_bytes(), 3, true),
        Ok(Entry::ZERO)
    );
    assert_eq!(names.count(), 0);
}

#[test]
fn a_fork_shares_the_object() {
    let mut names = Names::new();
    let owner = owner(&mut names, b"goldvol1", 1);
    let entry = Entry::fresh(owner);
    let fork = entry.fork();
    assert_eq!(fork.flags(), EntryFlags::ARCHIP);
    assert_eq!(fork.name(&names, 9), entry.name(&names, 9));
    assert!(!fork.is_writable(&names, owner));
    assert!(fork.is_own_already(owner), "no snapshot raised the epoch");
    assert_eq!(Entry::ZERO.fork(), Entry::ZERO);
}

#[test]
fn names_are_kept_once_and_own_ones_as_a_series() {
    let mut names = Names::new();
    for index in 0..1000u64 {
        let name = format!("goldvol1_0000000000000001_{index:016x}");
        let entry = Entry::given(&mut names, name.as_bytes(), index, true).unwrap();
        assert_eq!(entry.name(&names, index).as_bytes(), name.as_bytes());
    }
    assert_eq!(names.count(), 1);
}

#[test]
fn a_bad_name_is_refused_with_the_block_it_is_for() {
    let mut names = Names::new();
    let error = Entry::given(&mut names, b"../../etc", 4, false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "entry 4 is unusable: its name is refused, because a name may not contain '/'"
    );
}
