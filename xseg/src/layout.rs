//! Where everything lies in a region, computed from a handful of numbers.
//!
//! A region is one memfd. Both sides of a mapping compute the layout from the same numbers and
//! compare; nothing is found by following an offset that is stored in the region.
//!
//! ```text
//!  0        4096      members        ports         slots        marks      buffer words   heap
//!  | Header | seats x 128 B | ports x 8 B | slots x 512 B | n x 8 B | n x 8 B | 4 MiB aligned ...
//! ```
//! The heap is split into classes of equal buffers, smallest first; the last class (4 MiB) takes
//! half of it, and runs of its neighbours serve larger requests.

use crate::slot::Slot;

/// First eight bytes of a region.
pub const MAGIC: u64 = u64::from_le_bytes(*b"ARCHXSEG");
/// Raised with every change of the layout or of the meaning of a field.
pub const VERSION: u32 = 1;
/// Seats of a region: at most so many processes (or contexts of one) at a time.
pub const SEATS: u32 = 240;

const PAGE: u64 = 4096;
const LARGEST: u64 = 4 << 20;
/// (buffer size, sixteenths of the heap)
const CLASSES: [(u64, u64); 6] = [
    (4 << 10, 1),
    (16 << 10, 1),
    (64 << 10, 2),
    (256 << 10, 2),
    (1 << 20, 2),
    (LARGEST, 8),
];
/// Classes of buffers.
pub const CLASS_COUNT: usize = CLASSES.len();

/// The numbers that a region is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct RegionSpec {
    /// Ports, 1 to 65536.
    pub ports: u32,
    /// First dynamic port; static ones are below.
    pub dynports: u32,
    /// Request slots, 1 to 1,048,576.
    pub slots: u32,
    /// Step marks (the private region keeps one for each slot of the public region).
    pub marks: u32,
    /// Bytes for buffers; rounded down to a multiple of 64 MiB (at least one).
    pub heap: u64,
}

impl RegionSpec {
    /// What clients and peers share, for a node with `heap_mib` MiB of buffers.
    pub fn public(ports: u32, dynports: u32, heap_mib: u64) -> RegionSpec {
        let slots = (heap_mib * 8).clamp(1024, 65536) as u32;
        RegionSpec {
            ports,
            dynports,
            slots,
            marks: 0,
            heap: heap_mib << 20,
        }
    }

    /// What the peers keep to themselves: their requests to each other, their map buffers, and
    /// the step marks of what clients asked for.
    pub fn private(public: &RegionSpec) -> RegionSpec {
        RegionSpec {
            slots: 16384,
            marks: public.slots,
            heap: 256 << 20,
            ..*public
        }
    }
}

/// Numbers that make no region.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A number out of its range.
    #[error("a segment can't have {value} {what} (allowed: {min} to {max})")]
    Range {
        /// Which number.
        what: &'static str,
        /// Its value.
        value: u64,
        /// Smallest allowed.
        min: u64,
        /// Largest allowed.
        max: u64,
    },
}

/// One class of buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// Bytes of each buffer.
    pub size: u64,
    /// How many there are.
    pub count: u32,
    /// Index of its first buffer word.
    pub first_word: u32,
    /// Offset of its first buffer in the region.
    pub offset: u64,
}

/// Offsets (bytes from the start of the region) and counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What it was computed from.
    pub spec: RegionSpec,
    /// The seats' records.
    pub members: u64,
    /// The table that says which seat serves a port.
    pub ports: u64,
    /// The request slots.
    pub slots: u64,
    /// The step marks.
    pub marks: u64,
    /// The buffers' words.
    pub words: u64,
    /// How many buffer words there are.
    pub word_count: u32,
    /// The buffers.
    pub heap: u64,
    /// Bytes of all buffers.
    pub heap_len: u64,
    /// The classes of buffers, smallest first.
    pub classes: [Class; CLASS_COUNT],
    /// Bytes of the region.
    pub total: u64,
}

fn check(what: &'static str, value: u64, min: u64, max: u64) -> Result<(), LayoutError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(LayoutError::Range {
        what,
        value,
        min,
        max,
    })
}

fn up(value: u64, to: u64) -> u64 {
    value.div_ceil(to) * to
}

impl Layout {
    /// Computes the layout; numbers out of range are refused before any arithmetic on them.
    pub fn new(spec: RegionSpec) -> Result<Layout, LayoutError> {
        check("ports", spec.ports.into(), 1, 1 << 16)?;
        check("static ports", spec.dynports.into(), 0, spec.ports.into())?;
        check("request slots", spec.slots.into(), 1, 1 << 20)?;
        check("step marks", spec.marks.into(), 0, 1 << 20)?;
        check("bytes of buffers", spec.heap, 64 << 20, 1 << 40)?;
        let heap_len = spec.heap / (64 << 20) * (64 << 20);
        let members = PAGE;
        let ports = members + u64::from(SEATS) * size_of::<crate::inbox::Member>() as u64;
        let slots = up(ports + u64::from(spec.ports) * 8, PAGE);
        let marks = slots + u64::from(spec.slots) * size_of::<Slot>() as u64;
        let words = up(marks + u64::from(spec.marks) * 8, PAGE);
        let (mut classes, word_count) = classes(heap_len);
        let heap = up(words + u64::from(word_count) * 8, LARGEST);
        for class in &mut classes {
            class.offset += heap;
        }
        let total = heap + heap_len;
        Ok(Layout {
            spec,
            members,
            ports,
            slots,
            marks,
            words,
            word_count,
            heap,
            heap_len,
            classes,
            total,
        })
    }

    /// One number that differs whenever two builds would read a region differently.
    pub fn hash() -> u64 {
        let parts = [
            u64::from(VERSION),
            u64::from(SEATS),
            size_of::<Slot>() as u64,
            size_of::<crate::inbox::Member>() as u64,
            crate::slot::FIELDS_HASH,
            CLASS_COUNT as u64,
        ];
        parts.iter().fold(0xcbf2_9ce4_8422_2325, |h, p| {
            (h ^ p).wrapping_mul(0x100_0000_01b3)
        })
    }
}

fn classes(heap_len: u64) -> ([Class; CLASS_COUNT], u32) {
    let mut first_word = 0;
    let mut offset = 0;
    let classes = CLASSES.map(|(size, sixteenths)| {
        let bytes = heap_len / 16 * sixteenths;
        let class = Class {
            size,
            count: (bytes / size) as u32,
            first_word,
            offset,
        };
        first_word += class.count;
        offset += bytes;
        class
    });
    (classes, first_word)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_default_segment_holds_128_mib_in_one_piece() {
        let layout = Layout::new(RegionSpec::public(2048, 1024, 256)).unwrap();
        let largest = layout.classes[CLASS_COUNT - 1];
        assert!(largest.size * u64::from(largest.count) >= 128 << 20);
        assert_eq!(layout.heap % LARGEST, 0);
        assert!(
            layout
                .classes
                .iter()
                .all(|c| c.offset % c.size.min(LARGEST) == 0)
        );
    }

    #[test]
    fn the_classes_fill_the_heap() {
        let layout = Layout::new(RegionSpec::public(16, 8, 2048)).unwrap();
        let sum: u64 = layout
            .classes
            .iter()
            .map(|c| c.size * u64::from(c.count))
            .sum();
        assert_eq!(sum, layout.heap_len);
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let spec = RegionSpec::public(2048, 1024, 256);
        for bad in [
            RegionSpec { ports: 0, ..spec },
            RegionSpec {
                ports: 70000,
                ..spec
            },
            RegionSpec {
                dynports: 4000,
                ..spec
            },
            RegionSpec { slots: 0, ..spec },
            RegionSpec { heap: 1, ..spec },
            RegionSpec {
                heap: u64::MAX,
                ..spec
            },
        ] {
            assert!(Layout::new(bad).is_err(), "{bad:?}");
        }
    }
}
