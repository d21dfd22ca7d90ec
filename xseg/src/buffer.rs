//! Data buffers: each has one word, taken by compare-and-swap from free to its holder.
//!
//! There is no free list: a process keeps hints of its own (the buffers that it freed last) and
//! searches from there. A run of neighbours in the largest class serves what is larger: its words
//! are taken one after the other and given back when one of them is not free, so a process that
//! dies in between leaves words that name it, and nothing else.

use crate::layout::{CLASS_COUNT, Class, Layout, SEATS};
use crate::sync::{AtomicU64, Ordering};
use crate::word::SeatNo;

/// Who holds a buffer: bit 0 taken, 8..24 the seat, 24..48 how many buffers the run has that
/// starts here (0 inside a run).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Held {
    seat: SeatNo,
    run: u32,
}

impl Held {
    fn encode(self) -> u64 {
        1 | u64::from(self.seat.0) << 8 | u64::from(self.run) << 24
    }

    fn decode(bits: u64) -> Option<Held> {
        (bits & 1 == 1).then_some(Held {
            seat: SeatNo((bits >> 8) as u16),
            run: (bits >> 24) as u32 & 0xff_ffff,
        })
    }
}

/// A buffer that was taken: which words, and what bytes of the region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken {
    /// Index of its first word.
    pub word: u32,
    /// Bytes from the start of the region.
    pub offset: u64,
    /// Bytes that it holds.
    pub capacity: u64,
}

/// Where a process begins its search, for each class.
#[derive(Debug, Default, Clone)]
pub struct Hints {
    freed: [Vec<u32>; CLASS_COUNT],
    next: [u32; CLASS_COUNT],
}

const HINTS_MAX: usize = 64;

impl Hints {
    fn remember(&mut self, class: usize, index: u32) {
        if self.freed[class].len() < HINTS_MAX {
            self.freed[class].push(index);
        }
    }
}

/// Takes a buffer of at least `len` bytes for `seat`; `None` when no fitting one is free.
pub fn take(
    layout: &Layout,
    words: &[AtomicU64],
    hints: &mut Hints,
    seat: SeatNo,
    len: u64,
) -> Option<Taken> {
    let first = layout.classes.iter().position(|c| c.size >= len);
    let Some(first) = first else {
        return take_run(&layout.classes[CLASS_COUNT - 1], words, seat, len);
    };
    (first..CLASS_COUNT).find_map(|class| take_one(&layout.classes, class, words, hints, seat))
}

fn try_word(words: &[AtomicU64], index: u32, to: u64) -> bool {
    words.get(index as usize).is_some_and(|word| {
        word.load(Ordering::Relaxed) == 0
            // Acquire: pairs with the release in `give_back`; the last holder is done with it.
            && word.compare_exchange(0, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    })
}

fn take_one(
    classes: &[Class; CLASS_COUNT],
    number: usize,
    words: &[AtomicU64],
    hints: &mut Hints,
    seat: SeatNo,
) -> Option<Taken> {
    let class = &classes[number];
    let held = Held { seat, run: 1 }.encode();
    while let Some(index) = hints.freed[number].pop() {
        if try_word(words, class.first_word + index, held) {
            return Some(taken(class, index, 1));
        }
    }
    let start = hints.next[number];
    let index = (0..class.count)
        .map(|i| (start + i) % class.count)
        .find(|&index| try_word(words, class.first_word + index, held))?;
    hints.next[number] = (index + 1) % class.count;
    Some(taken(class, index, 1))
}

fn taken(class: &Class, index: u32, run: u32) -> Taken {
    Taken {
        word: class.first_word + index,
        offset: class.offset + u64::from(index) * class.size,
        capacity: class.size * u64::from(run),
    }
}

fn take_run(class: &Class, words: &[AtomicU64], seat: SeatNo, len: u64) -> Option<Taken> {
    let run = u32::try_from(len.div_ceil(class.size))
        .ok()
        .filter(|&run| run <= class.count)?;
    let mut start = 0;
    while start + run <= class.count {
        match take_words(class, words, seat, start, run) {
            Ok(()) => return Some(taken(class, start, run)),
            Err(busy) => start = busy + 1,
        }
    }
    None
}

fn take_words(
    class: &Class,
    words: &[AtomicU64],
    seat: SeatNo,
    start: u32,
    run: u32,
) -> Result<(), u32> {
    for i in 0..run {
        let held = Held {
            seat,
            run: if i == 0 { run } else { 0 },
        }
        .encode();
        if !try_word(words, class.first_word + start + i, held) {
            for j in 0..i {
                words[(class.first_word + start + j) as usize].store(0, Ordering::Release);
            }
            return Err(start + i);
        }
    }
    Ok(())
}

/// Which word and class a region offset belongs to; `None` when no buffer starts there.
fn find(layout: &Layout, offset: u64) -> Option<(usize, u32)> {
    let number = layout
        .classes
        .iter()
        .position(|c| (c.offset..c.offset + c.size * u64::from(c.count)).contains(&offset))?;
    let class = &layout.classes[number];
    let within = offset - class.offset;
    within
        .is_multiple_of(class.size)
        .then_some((number, (within / class.size) as u32))
}

/// Gives back the buffer (or run) that starts at `offset` if `seat` holds it. False: it does not.
pub fn give_back(
    layout: &Layout,
    words: &[AtomicU64],
    hints: &mut Hints,
    seat: SeatNo,
    offset: u64,
) -> bool {
    let Some((number, index)) = find(layout, offset) else {
        return false;
    };
    let class = &layout.classes[number];
    let first = (class.first_word + index) as usize;
    let Some(held) = Held::decode(words[first].load(Ordering::Acquire)) else {
        return false;
    };
    if held.seat != seat || held.run == 0 || held.run > class.count - index {
        return false;
    }
    // The first word goes last: until then nobody starts a run here. Words of the run that name
    // another holder were scribbled on, and are left.
    let inner = Held { seat, run: 0 }.encode();
    for word in words[first + 1..first + held.run as usize].iter().rev() {
        let _ = word.compare_exchange(inner, 0, Ordering::AcqRel, Ordering::Relaxed);
    }
    words[first].store(0, Ordering::Release);
    hints.remember(number, index);
    true
}

/// Frees every buffer that `seat` holds, and returns how many: only when nothing can land in
/// them any more.
pub fn give_back_all(words: &[AtomicU64], seat: SeatNo) -> u32 {
    let mut count = 0;
    for word in words {
        let bits = word.load(Ordering::Acquire);
        if Held::decode(bits).is_some_and(|h| h.seat == seat) {
            count += u32::from(
                word.compare_exchange(bits, 0, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok(),
            );
        }
    }
    count
}

/// Whether a word names nobody and is not free either: somebody scribbled on it.
fn is_strange(bits: u64) -> bool {
    let exists = |held: Held| u32::from(held.seat.0) < SEATS;
    !Held::decode(bits).map_or(bits == 0, exists)
}

/// How many words say nothing sensible.
pub fn count_strange(words: &[AtomicU64]) -> u32 {
    let strange = words
        .iter()
        .filter(|word| is_strange(word.load(Ordering::Relaxed)));
    strange.count() as u32
}

/// Frees the words that say nothing sensible, and returns how many.
pub fn wipe_strange(words: &[AtomicU64]) -> u32 {
    let strange = words.iter().filter(|word| {
        let bits = word.load(Ordering::Acquire);
        is_strange(bits)
            && word
                .compare_exchange(bits, 0, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    });
    strange.count() as u32
}

/// Calls `each` with the seat and the class of every buffer that is taken.
pub fn holders(layout: &Layout, words: &[AtomicU64], mut each: impl FnMut(SeatNo, usize)) {
    for (number, class) in layout.classes.iter().enumerate() {
        let first = class.first_word as usize;
        for word in &words[first..first + class.count as usize] {
            if let Some(held) = Held::decode(word.load(Ordering::Relaxed)) {
                each(held.seat, number);
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::layout::RegionSpec;

    fn heap() -> (Layout, Vec<AtomicU64>) {
        let layout = Layout::new(RegionSpec::public(8, 4, 256)).unwrap();
        let words = (0..layout.word_count).map(|_| AtomicU64::new(0)).collect();
        (layout, words)
    }

    #[test]
    fn a_buffer_fits_and_overlaps_no_other() {
        let (layout, words) = heap();
        let mut hints = Hints::default();
        let mut all = Vec::new();
        for len in [
            1,
            4096,
            5000,
            65536,
            100_000,
            1 << 20,
            4 << 20,
            9 << 20,
            100 << 20,
        ] {
            let t = take(&layout, &words, &mut hints, SeatNo(1), len).unwrap();
            assert!(t.capacity >= len);
            all.push((t.offset, t.offset + t.capacity));
        }
        all.sort();
        assert!(all.windows(2).all(|w| w[0].1 <= w[1].0));
    }

    #[test]
    fn a_run_of_128_mib_is_there_and_comes_back() {
        let (layout, words) = heap();
        let mut hints = Hints::default();
        for _ in 0..3 {
            let t = take(&layout, &words, &mut hints, SeatNo(1), 128 << 20).unwrap();
            assert!(take(&layout, &words, &mut hints, SeatNo(1), 4 << 20).is_none());
            assert!(give_back(&layout, &words, &mut hints, SeatNo(1), t.offset));
        }
    }

    #[test]
    fn only_the_holder_gives_back_and_only_once() {
        let (layout, words) = heap();
        let mut hints = Hints::default();
        let t = take(&layout, &words, &mut hints, SeatNo(1), 4096).unwrap();
        assert!(!give_back(&layout, &words, &mut hints, SeatNo(2), t.offset));
        assert!(!give_back(
            &layout,
            &words,
            &mut hints,
            SeatNo(1),
            t.offset + 512
        ));
        assert!(give_back(&layout, &words, &mut hints, SeatNo(1), t.offset));
        assert!(!give_back(&layout, &words, &mut hints, SeatNo(1), t.offset));
    }

    #[test]
    fn a_full_class_borrows_from_the_next() {
        let (layout, words) = heap();
        let mut hints = Hints::default();
        let first = layout.classes[0];
        for _ in 0..first.count {
            take(&layout, &words, &mut hints, SeatNo(1), 4096).unwrap();
        }
        let t = take(&layout, &words, &mut hints, SeatNo(1), 4096).unwrap();
        assert_eq!(t.capacity, layout.classes[1].size);
        assert_eq!(give_back_all(&words, SeatNo(1)), first.count + 1);
    }
}
