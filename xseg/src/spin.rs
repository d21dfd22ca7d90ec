//! How long to stay awake before going to sleep: one policy for everybody who waits at a seat.
//!
//! Spinning pays only when what is waited for comes within a few microseconds, so the length
//! adapts: a spin that was in vain halves it, one that was not doubles it, and what was there at the
//! first look says nothing. Every sixteenth time in vain the whole length is tried again, because
//! who only ever sleeps never learns that answers have become quick. It never exceeds 20 us.
//!
//! A spin may be capped by a number of looks as well ([`Spin::capped`], the key `threshold`): with 0
//! nobody stays awake at all. A hundred looks of a node take some 6 us, so the cap is met before
//! the clock's only where it is below a few hundred.
//!
//! A spinner may take the core from the very one that it waits for: who rings a bell on a busy
//! machine is often put aside for the one that it wakes. Its spins are in vain then, and soon short.
//! (To offer the core between looks instead is worse: whoever gives it up without sleeping has it
//! back only when another's slice is over, milliseconds later, however soon the answer comes.) And a
//! spinner sees by its own clock that there are too many for the cores: between two looks nothing
//! happens that takes long, so a long gap means that somebody else had the core; it looks once more
//! and sleeps, and the next spins are short. With a single core nobody spins.

use std::num::NonZero;
use std::thread::available_parallelism;

const LENGTH_NS_MAX: u64 = 20_000;
const LENGTH_NS_MIN: u64 = 500;

/// Spins in vain before the whole length is tried again.
const PROBE: u32 = 16;

/// Looks between two readings of the clock.
const LOOKS: u32 = 8;

/// Nobody looks for so long unless the core was taken away, ns.
const GAP_NS: u64 = 50_000;

/// What has been learnt about waiting in one place.
#[derive(Debug)]
pub struct Spin {
    length_ns: u64,
    in_vain: u32,
    looks_max: u32,
    alone: bool,
}

impl Default for Spin {
    fn default() -> Self {
        Spin {
            length_ns: LENGTH_NS_MAX,
            in_vain: 0,
            looks_max: u32::MAX,
            alone: available_parallelism().is_ok_and(|cores| cores == NonZero::<usize>::MIN),
        }
    }
}

impl Spin {
    /// A spin that ends after `looks_max` looks at the latest. 0: it looks once and never waits.
    pub fn capped(looks_max: u32) -> Spin {
        Spin {
            looks_max,
            ..Spin::default()
        }
    }

    /// Looks again and again until `look` says true, or fails, or it is time to sleep (false).
    /// `now_ns` is a clock that never goes back.
    pub fn until<E>(
        &mut self,
        now_ns: impl Fn() -> u64,
        mut look: impl FnMut() -> Result<bool, E>,
    ) -> Result<bool, E> {
        if look()? {
            return Ok(true);
        }
        if self.alone || self.looks_max <= 1 {
            return Ok(false);
        }
        let start = now_ns();
        let (mut before, mut crowded) = (start, false);
        let mut left = self.looks_max - 1;
        loop {
            let looks = LOOKS.min(left);
            left -= looks;
            for _ in 0..looks {
                if look()? {
                    self.length_ns = (self.length_ns * 2).min(LENGTH_NS_MAX);
                    self.in_vain = 0;
                    return Ok(true);
                }
                std::hint::spin_loop();
            }
            let now = now_ns();
            if crowded || left == 0 || now - start >= self.length_ns {
                self.was_in_vain(crowded);
                return Ok(false);
            }
            crowded = now - before > GAP_NS;
            before = now;
        }
    }

    fn was_in_vain(&mut self, crowded: bool) {
        self.in_vain = self.in_vain.wrapping_add(1);
        self.length_ns = match self.in_vain % PROBE {
            _ if crowded => LENGTH_NS_MIN,
            0 => LENGTH_NS_MAX,
            _ => (self.length_ns / 2).max(LENGTH_NS_MIN),
        };
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::convert::Infallible;

    fn never() -> Result<bool, Infallible> {
        Ok(false)
    }

    /// A clock that goes on by `step` ns with each reading.
    fn clock(at: &Cell<u64>, step: u64) -> impl Fn() -> u64 + '_ {
        move || at.replace(at.get() + step)
    }

    fn spin() -> Spin {
        Spin {
            alone: false,
            ..Spin::default()
        }
    }

    /// How often a spin in vain looks, with a clock that hardly goes on.
    fn looks(spin: &mut Spin) -> u32 {
        let (at, looks) = (Cell::new(0), Cell::new(0));
        let look = || {
            looks.set(looks.get() + 1);
            never()
        };
        let Ok(seen) = spin.until(clock(&at, 1), look);
        assert!(!seen);
        looks.get()
    }

    /// `threshold` was read and had no effect.
    #[test]
    fn a_cap_is_kept_to_the_look() {
        for cap in [1, 7, 8, 9, 100, 1000] {
            let mut spin = Spin {
                alone: false,
                ..Spin::capped(cap)
            };
            assert_eq!(looks(&mut spin), cap);
        }
        let mut never_awake = Spin {
            alone: false,
            ..Spin::capped(0)
        };
        assert_eq!(looks(&mut never_awake), 1, "one look, as before any sleep");
        assert!(looks(&mut spin()) > 1000, "without a cap the clock decides");
    }

    #[test]
    fn in_vain_it_becomes_short_and_now_and_then_long_again() {
        let (mut spin, at) = (spin(), Cell::new(0));
        let lengths: Vec<u64> = (0..32)
            .map(|_| {
                let begin = at.get();
                let Ok(seen) = spin.until(clock(&at, 100), never);
                assert!(!seen);
                at.get() - begin
            })
            .collect();
        assert!(lengths[0] >= LENGTH_NS_MAX && lengths[1] <= LENGTH_NS_MAX / 2 + 200);
        assert!(lengths[7] <= LENGTH_NS_MIN + 200, "{lengths:?}");
        assert!(lengths[16] >= LENGTH_NS_MAX, "{lengths:?}");
    }

    /// Looks that say true for the first time after `before`.
    fn after(before: u32) -> impl FnMut() -> Result<bool, Infallible> {
        let mut count = 0;
        move || {
            count += 1;
            Ok(count > before)
        }
    }

    #[test]
    fn success_doubles_the_length_and_what_was_there_says_nothing() {
        let (mut spin, at) = (spin(), Cell::new(0));
        for _ in 0..8 {
            let Ok(_) = spin.until(clock(&at, 100), never);
        }
        assert_eq!(spin.length_ns, LENGTH_NS_MIN);
        let Ok(seen) = spin.until(clock(&at, 100), after(0));
        assert!(seen);
        assert_eq!(spin.length_ns, LENGTH_NS_MIN);
        for _ in 0..10 {
            let Ok(seen) = spin.until(clock(&at, 100), after(5));
            assert!(seen);
        }
        assert_eq!(spin.length_ns, LENGTH_NS_MAX);
    }

    #[test]
    fn who_loses_its_core_stops() {
        let (mut spin, at) = (spin(), Cell::new(0));
        spin.length_ns = 10 * GAP_NS;
        let Ok(_) = spin.until(clock(&at, GAP_NS + 1), never);
        assert_eq!(
            at.get(),
            3 * (GAP_NS + 1),
            "the gap is seen, and after one more look it is over"
        );
        assert_eq!(spin.length_ns, LENGTH_NS_MIN);
    }

    #[test]
    fn with_one_core_nobody_spins() {
        let mut spin = Spin {
            alone: true,
            ..spin()
        };
        let looks = Cell::new(0);
        let look = || {
            looks.set(looks.get() + 1);
            never()
        };
        let Ok(_) = spin.until(|| 0, look);
        assert_eq!(looks.get(), 1);
    }
}
