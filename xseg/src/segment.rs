//! A region of shared memory: a memfd that nobody can shrink or grow, mapped once.
//!
//! This file holds the crate's unsafe code for memory. What makes it sound:
//! 1. The file is sealed against shrinking and growing before anybody else gets it, and a foreign
//!    one is refused without the seals, so a mapping never faults.
//! 2. Offsets come from a [`Layout`] that was computed here from checked numbers, never from the
//!    region, so the tables lie inside the mapping and are aligned for their types.
//! 3. The tables consist of atomics, for which any bytes are a legal value.
//! 4. Buffers are reached by raw copies and raw pointers only: no reference to memory that
//!    another process may write is ever made.

use crate::buffer;
use crate::inbox::Member;
use crate::layout::{Layout, LayoutError, MAGIC, RegionSpec, VERSION};
use crate::slot::{Address, Slot};
use crate::sync::{AtomicU64, Ordering};
use crate::word::{SeatNo, SlotNo};
use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Why a region can't be made or joined.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The numbers make no region.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A system call failed.
    #[error("{what}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The file is no region.
    #[error("this is not an Archipelago segment: {0}")]
    Foreign(&'static str),
    /// Another build made it.
    #[error(
        "the segment was made by another version of Archipelago (layout {theirs}, ours is {ours}); \
         stop the node and start it again"
    )]
    OtherVersion {
        /// Layout version in the region.
        theirs: u32,
        /// Layout version of this build.
        ours: u32,
    },
}

fn system(what: &'static str) -> impl FnOnce(nix::Error) -> SegmentError {
    move |e| SegmentError::System {
        what,
        source: e.into(),
    }
}

/// The first bytes of a region.
#[repr(C)]
struct Header {
    magic: AtomicU64,
    version: AtomicU64,
    layout_hash: AtomicU64,
    generation: AtomicU64,
    spec: [AtomicU64; 5],
}

/// A mapped region. Clones share the mapping.
#[derive(Clone)]
pub struct Segment(Arc<Inner>);

struct Inner {
    map: MmapRaw,
    file: File,
    layout: Layout,
    generation: u64,
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segment")
            .field("spec", &self.0.layout.spec)
            .finish_non_exhaustive()
    }
}

const SEALS: [SealFlag; 2] = [SealFlag::F_SEAL_SHRINK, SealFlag::F_SEAL_GROW];

impl Segment {
    /// Makes an empty region. `generation` tells one life of the node from the next.
    pub fn create(spec: RegionSpec, generation: u64) -> Result<Segment, SegmentError> {
        let layout = Layout::new(spec)?;
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let fd = memfd_create(c"archipelago", flags).map_err(system("can't make a memfd"))?;
        let file = File::from(fd);
        file.set_len(layout.total)
            .map_err(|source| SegmentError::System {
                what: "can't size the segment",
                source,
            })?;
        let seals = SEALS
            .into_iter()
            .fold(SealFlag::F_SEAL_SEAL, |all, seal| all | seal);
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).map_err(system("can't seal the segment"))?;
        let segment = Segment::map(file, layout, generation)?;
        segment.write_header();
        Ok(segment)
    }

    /// Joins a region received from its holder: everything about it is checked first.
    pub fn from_descriptor(fd: OwnedFd) -> Result<Segment, SegmentError> {
        let file = File::from(fd);
        check_seals(file.as_fd())?;
        let (spec, generation) = read_header(&file)?;
        Segment::map_checked(file, spec, generation)
    }

    /// Joins a region whose numbers its holder says, whatever stands in the region itself (a
    /// client may have scribbled there). Seals and size are checked all the same.
    pub fn from_parts(
        fd: OwnedFd,
        spec: RegionSpec,
        generation: u64,
    ) -> Result<Segment, SegmentError> {
        let file = File::from(fd);
        check_seals(file.as_fd())?;
        Segment::map_checked(file, spec, generation)
    }

    fn map_checked(file: File, spec: RegionSpec, generation: u64) -> Result<Segment, SegmentError> {
        let layout = Layout::new(spec)?;
        let len = file
            .metadata()
            .map_err(|source| SegmentError::System {
                what: "can't stat the segment",
                source,
            })?
            .len();
        if len != layout.total {
            return Err(SegmentError::Foreign(
                "its size is not the one that its numbers make",
            ));
        }
        Segment::map(file, layout, generation)
    }

    fn map(file: File, layout: Layout, generation: u64) -> Result<Segment, SegmentError> {
        let len = usize::try_from(layout.total)
            .map_err(|_| SegmentError::Foreign("it is larger than the address space"))?;
        let map = MmapOptions::new()
            .len(len)
            .map_raw(&file)
            .map_err(|source| SegmentError::System {
                what: "can't map the segment",
                source,
            })?;
        Ok(Segment(Arc::new(Inner {
            map,
            file,
            layout,
            generation,
        })))
    }

    fn header(&self) -> &Header {
        // SAFETY: rules 2 and 3; the header is at offset 0 of a page-aligned mapping.
        unsafe { &*self.0.map.as_ptr().cast::<Header>() }
    }

    fn write_header(&self) {
        let header = self.header();
        let spec = self.0.layout.spec;
        let numbers = [
            spec.ports.into(),
            spec.dynports.into(),
            spec.slots.into(),
            spec.marks.into(),
            spec.heap,
        ];
        for (cell, number) in header.spec.iter().zip(numbers) {
            cell.store(number, Ordering::Relaxed);
        }
        header.version.store(VERSION.into(), Ordering::Relaxed);
        header.layout_hash.store(Layout::hash(), Ordering::Relaxed);
        header
            .generation
            .store(self.0.generation, Ordering::Relaxed);
        header.magic.store(MAGIC, Ordering::Release);
    }

    /// The layout, from numbers that were checked once and are private since.
    pub fn layout(&self) -> &Layout {
        &self.0.layout
    }

    /// Which life of the node this region belongs to.
    pub fn generation(&self) -> u64 {
        self.0.generation
    }

    /// The memfd, to hand it to a joiner.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.file.as_fd()
    }

    fn table<T>(&self, offset: u64, count: u32) -> &[T] {
        let start = self
            .0
            .map
            .as_ptr()
            .wrapping_add(offset as usize)
            .cast::<T>();
        // SAFETY: rules 1 to 3: the callers below pass offsets and counts of the layout and
        // types made of atomics; the mapping lives as long as self.
        unsafe { std::slice::from_raw_parts(start, count as usize) }
    }

    /// The seats' records.
    pub fn members(&self) -> &[Member] {
        self.table(self.0.layout.members, crate::layout::SEATS)
    }

    /// The seats' record, if there is such a seat.
    pub fn member(&self, seat: SeatNo) -> Option<&Member> {
        self.members().get(usize::from(seat.0))
    }

    /// For each port the seat that serves it (index + 1), 0 for none.
    pub fn ports(&self) -> &[AtomicU64] {
        self.table(self.0.layout.ports, self.0.layout.spec.ports)
    }

    /// The request slots.
    pub fn slots(&self) -> &[Slot] {
        self.table(self.0.layout.slots, self.0.layout.spec.slots)
    }

    /// The slot, if there is such a one.
    pub fn slot(&self, slot: SlotNo) -> Option<&Slot> {
        self.slots().get(slot.0 as usize)
    }

    /// The step marks of the public region's slots (private region only).
    pub fn marks(&self) -> &[AtomicU64] {
        self.table(self.0.layout.marks, self.0.layout.spec.marks)
    }

    pub(crate) fn words(&self) -> &[AtomicU64] {
        self.table(self.0.layout.words, self.0.layout.word_count)
    }

    /// Which seat serves `port`.
    pub fn seat_of_port(&self, port: u32) -> Option<SeatNo> {
        let bound = self.ports().get(port as usize)?.load(Ordering::Acquire);
        let seat = bound.checked_sub(1)?;
        u16::try_from(seat)
            .ok()
            .filter(|&s| u32::from(s) < crate::layout::SEATS)
            .map(SeatNo)
    }

    /// The first byte of `len` bytes of buffers at `offset`; `None` when any of them lies outside
    /// the heap. The memory may change at any time: copy from it, never refer to it.
    pub fn pointer(&self, offset: u64, len: u64) -> Option<*mut u8> {
        let layout = &self.0.layout;
        let end = offset.checked_add(len)?;
        let inside = offset >= layout.heap && end <= layout.heap + layout.heap_len;
        inside.then(|| self.0.map.as_mut_ptr().wrapping_add(offset as usize))
    }

    /// Copies `bytes` into buffers at `offset`. False: out of the heap, nothing was copied.
    pub fn copy_in(&self, offset: u64, bytes: &[u8]) -> bool {
        let Some(to) = self.pointer(offset, bytes.len() as u64) else {
            return false;
        };
        // SAFETY: `pointer` checked the range, which is writable for as long as self lives;
        // `bytes` is private memory, so the two do not overlap (rule 4).
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        true
    }

    /// Copies from buffers at `offset`. False: out of the heap, nothing was copied.
    pub fn copy_out(&self, offset: u64, bytes: &mut [u8]) -> bool {
        let Some(from) = self.pointer(offset, bytes.len() as u64) else {
            return false;
        };
        // SAFETY: as in `copy_in`, the other way round.
        unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len()) };
        true
    }

    /// Zeroes `len` bytes of buffers at `offset`. False: out of the heap.
    pub fn zero(&self, offset: u64, len: u64) -> bool {
        let Some(at) = self.pointer(offset, len) else {
            return false;
        };
        // SAFETY: as in `copy_in`.
        unsafe { std::ptr::write_bytes(at, 0, len as usize) };
        true
    }

    /// Takes a buffer for `seat`.
    pub fn take_buffer(
        &self,
        hints: &mut buffer::Hints,
        seat: SeatNo,
        len: u64,
    ) -> Option<buffer::Taken> {
        buffer::take(self.layout(), self.words(), hints, seat, len)
    }

    /// Gives a buffer of `seat` back; false when it holds none there.
    pub fn give_buffer_back(&self, hints: &mut buffer::Hints, seat: SeatNo, offset: u64) -> bool {
        buffer::give_back(self.layout(), self.words(), hints, seat, offset)
    }
}

fn check_seals(fd: BorrowedFd<'_>) -> Result<(), SegmentError> {
    let seals = fcntl(fd, FcntlArg::F_GET_SEALS)
        .map_err(|_| SegmentError::Foreign("it is not a sealed memfd"))?;
    let seals = SealFlag::from_bits_truncate(seals);
    match SEALS.iter().all(|&seal| seals.contains(seal)) {
        true => Ok(()),
        false => Err(SegmentError::Foreign("it is not sealed against truncation")),
    }
}

fn read_header(file: &File) -> Result<(RegionSpec, u64), SegmentError> {
    use std::os::unix::fs::FileExt;
    let mut bytes = [0; size_of::<Header>()];
    file.read_exact_at(&mut bytes, 0)
        .map_err(|_| SegmentError::Foreign("it is too short for a header"))?;
    let mut words = bytes
        .chunks_exact(8)
        .map(|c| u64::from_ne_bytes(c.try_into().expect("8")));
    let mut next = || words.next().expect("the header has nine words");
    if next() != MAGIC {
        return Err(SegmentError::Foreign("its first bytes are others"));
    }
    let version = next();
    if version != u64::from(VERSION) || next() != Layout::hash() {
        let theirs = u32::try_from(version).unwrap_or(u32::MAX);
        return Err(SegmentError::OtherVersion {
            theirs,
            ours: VERSION,
        });
    }
    let generation = next();
    let mut number =
        || u32::try_from(next()).map_err(|_| SegmentError::Foreign("a count is absurd"));
    let (ports, dynports, slots, marks) = (number()?, number()?, number()?, number()?);
    Ok((
        RegionSpec {
            ports,
            dynports,
            slots,
            marks,
            heap: next(),
        },
        generation,
    ))
}

/// A checked piece of a region's buffers: whoever has one may copy from and to it.
#[derive(Clone, Debug)]
pub struct Extent {
    segment: Segment,
    address: Address,
    len: u64,
}

impl Extent {
    /// `None` when the range is not wholly inside the buffers of `segment`.
    pub fn new(segment: &Segment, address: Address, len: u64) -> Option<Extent> {
        segment.pointer(address.offset, len)?;
        Some(Extent {
            segment: segment.clone(),
            address,
            len,
        })
    }

    /// Where it lies.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it holds no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its first byte; the memory may change at any time and stays mapped while self lives.
    pub fn as_ptr(&self) -> *mut u8 {
        self.segment
            .pointer(self.address.offset, self.len)
            .expect("checked by `new`")
    }

    /// The region, which keeps the memory mapped.
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Part of it; `None` when that is not wholly inside.
    pub fn slice(&self, at: u64, len: u64) -> Option<Extent> {
        if at.checked_add(len)? > self.len {
            return None;
        }
        let address = Address {
            offset: self.address.offset + at,
            ..self.address
        };
        Some(Extent {
            segment: self.segment.clone(),
            address,
            len,
        })
    }

    /// A private copy of the whole.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        self.segment.copy_out(self.address.offset, &mut bytes);
        bytes
    }

    /// Copies as much of `bytes` as fits to its start, and returns how much.
    pub fn fill(&self, bytes: &[u8]) -> usize {
        let len = bytes.len().min(self.len as usize);
        self.segment.copy_in(self.address.offset, &bytes[..len]);
        len
    }

    /// Zeroes the whole.
    pub fn zero(&self) {
        self.segment.zero(self.address.offset, self.len);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn small() -> Segment {
        Segment::create(RegionSpec::public(16, 8, 64), 7).unwrap()
    }

    #[test]
    fn a_region_is_joined_with_the_numbers_it_was_made_of() {
        let made = small();
        let joined =
            Segment::from_descriptor(made.descriptor().try_clone_to_owned().unwrap()).unwrap();
        assert_eq!(joined.layout(), made.layout());
        assert_eq!(joined.generation(), 7);
        let at = made.layout().heap;
        assert!(made.copy_in(at, b"hello"));
        let mut seen = [0; 5];
        assert!(joined.copy_out(at, &mut seen));
        assert_eq!(&seen, b"hello");
    }

    #[test]
    fn nobody_can_shrink_a_region() {
        let made = small();
        let fd = made.descriptor().try_clone_to_owned().unwrap();
        assert!(File::from(fd).set_len(0).is_err());
    }

    #[test]
    fn a_foreign_file_is_refused() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        let refused = Segment::from_descriptor(file.into()).unwrap_err();
        assert!(matches!(refused, SegmentError::Foreign(_)), "{refused}");
    }

    #[test]
    fn another_layout_version_is_refused_with_its_number() {
        let made = small();
        made.header().version.store(99, Ordering::Relaxed);
        let refused =
            Segment::from_descriptor(made.descriptor().try_clone_to_owned().unwrap()).unwrap_err();
        assert!(
            matches!(refused, SegmentError::OtherVersion { theirs: 99, .. }),
            "{refused}"
        );
    }

    #[test]
    fn copies_outside_the_buffers_do_nothing() {
        let made = small();
        let end = made.layout().heap + made.layout().heap_len;
        assert!(!made.copy_in(0, b"x"));
        assert!(!made.copy_in(end - 1, b"xy"));
        assert!(!made.copy_in(u64::MAX, b"x"));
        assert!(made.copy_in(end - 1, b"x"));
    }
}
